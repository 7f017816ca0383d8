"""Label files as prompts: each structure of a mask, a SEG or an RTSTRUCT is a rough mask by its own name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsam.errors import PromptError, listed
from medsam.geometry import Axis
from medsam.io.label_sets import masks_in
from medsam.io.structure_names import plain_name
from medsam.masks import PackedMasks
from medsam.prompts.prompt import Prompt
from medsam.prompts.standing import Labels, Standing
from medsam.volume import Volume

# of all rough masks of a file together, a byte a voxel: a whole-body scan with a hundred organs has twice as many
_MOST_VOXELS = 2**32


def load_masks(path: Path, scan: Volume, notes: list[str]) -> Mapping[str, np.ndarray]:
    """Every structure of a label file on the grid of `scan`, bool (K, J, I) by name, see `masks_in`.

    notes: receives what the user should know of how it was read. Raises InputError.
    """
    masks, remarks = masks_in(path, scan)
    notes += remarks
    return masks


def chosen(masks: Mapping[str, np.ndarray], wanted: Collection[str], file: str) -> dict[str, str]:
    """Name in the file -> as it is wanted, in the order of `wanted`; names match but for case, spaces, "-" and "_".

    Raises PromptError naming what the file, `file` in messages, does not hold.
    """
    theirs = {plain_name(name): name for name in masks}
    if missing := [name for name in wanted if plain_name(name) not in theirs]:
        raise PromptError(f"{file} holds no {listed(map(repr, missing))}; it holds {listed(masks) or 'nothing'}.")
    return {theirs[plain_name(name)]: name for name in wanted}


def mask_prompts(masks: Mapping[str, np.ndarray], file: str, notes: list[str]) -> list[Prompt]:
    """A prompt of each structure that is not empty; notes: receives the names of those that are.

    Raises PromptError where all are empty. file: for messages.
    """
    empty = [name for name in masks if not voxels_of(masks, name)]
    drawn = [name for name in masks if name not in empty]
    size = len(drawn) * masks[drawn[0]].size if len(drawn) > 1 else 0
    if size > _MOST_VOXELS:
        raise PromptError(
            f"{file} holds {len(drawn)} structures, whose rough masks would take {size / 2**30:.0f} GiB. Say which to "
            'refine, in a prompts file: {"mask": "' + file + '", "structures": [...]}.'
        )
    prompts = [Prompt(name, mask=masks[name]) for name in drawn]
    if not prompts:
        raise PromptError(f"{file} marks nothing on the scan: each of its structures ({listed(masks)}) is empty.")
    if empty:
        notes.append(f"{file}: nothing of {listed(empty)} lies on the scan.")
    return prompts


def voxels_of(masks: Mapping[str, np.ndarray], name: str) -> int:
    """How many voxels a structure has, without making its mask where that is known."""
    counts = getattr(masks, "voxels", None)
    return int(counts[name]) if counts is not None else int(np.count_nonzero(masks[name]))


def standing_of(start: str | Path | Labels, scan: Volume, axis: Axis | None = None) -> Standing:
    """Labels to correct: of a file, see `load_masks`, or at hand. Raises InputError, and PromptError for empty ones."""
    if not isinstance(start, str | Path):
        return Standing.of(start, scan.geometry, axis)
    notes: list[str] = []
    masks = load_masks(Path(start), scan, notes)
    return replace(Standing.of(masks, scan.geometry, axis), notes=tuple(notes))


def joined(files: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The structures of several files of one scan; those of one name are one."""
    if len(files) == 1:
        return files[0]
    masks: PackedMasks | None = None
    first: dict[str, str] = {}
    for file in files:
        for name, mask in file.items():
            masks = PackedMasks((mask.shape[0], mask.shape[1], mask.shape[2])) if masks is None else masks
            masks.add(first.setdefault(plain_name(name), name), mask)
    return {} if masks is None else masks
