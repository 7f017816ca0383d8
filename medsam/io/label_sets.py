"""Several label files of one scan as one set of structures, and such a set as a label map.

Structures of one name, in one file or in several, are one. A mask without a name is called after its file, as those
are that write a file for each organ.

Letters: K, J, I of the scan's grid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medsam.errors import InputError, counted, listed
from medsam.geometry import VolumeGeometry
from medsam.io.formats import PICTURE, suffix_of
from medsam.io.label_map import read_map
from medsam.io.labels import label_kind, load_labels, notes_on
from medsam.io.load import load_volume
from medsam.io.seg_nrrd import read_segments
from medsam.io.sidecar import names_beside
from medsam.io.structure_names import plain_name
from medsam.masks import LabelMasks, PackedMasks
from medsam.volume import LabelVolume, Volume

# who keeps a voxel that several structures hold
Overlap = Literal["error", "first", "last"]
_MOST_LABELS = 65535


def masks_in(
    path: Path, scan: Volume, names: Mapping[str, int] | None = None, *, frame: int | None = None
) -> tuple[Mapping[str, np.ndarray], list[str]]:
    """The structures of a label file of a scan, bool (K, J, I) by name, and what to know of how it was read.

    Arguments and errors as of `load_labels`; `names` are those of the values of a label map. A label map of one value
    that nothing names is called as its file is: `liver.nii.gz` is "liver".
    """
    named = label_kind(path) != "map"
    masks = load_labels(
        path,
        scan.geometry,
        None if named else names,
        frame_of_reference=scan.uids.get("frame_of_reference"),
        images=scan.images,
        frame=frame,
    )
    notes = list(notes_on(masks))
    if not named and names is None and len(masks) == 1 and not names_beside(path):
        ((value, mask),) = masks.items()
        number = masks.numbers[value] if isinstance(masks, LabelMasks) else 1
        stem = path.name[: len(path.name) - len(suffix_of(path))]
        array = np.zeros(mask.shape, np.min_scalar_type(number))
        array[mask] = number
        masks = LabelMasks(array, {stem: number}, {stem: int(np.count_nonzero(mask))})
    return masks, notes


def own_grid(path: Path, frame: int | None = None) -> VolumeGeometry:
    """The grid of a label map or a .seg.nrrd. Raises InputError for DICOM, which lies on the grid of its scan."""
    kind = label_kind(path)
    if kind in ("seg", "rtstruct"):
        raise InputError(
            f"{path.name} is a DICOM {'SEG' if kind == 'seg' else 'RTSTRUCT'}, and is placed in the patient: name the "
            "scan that it was drawn on, whose grid its labels get, with `source`.",
            parameter="source",
        )
    if kind == "segments" and frame is None:
        return next(iter(read_segments(path).volumes())).geometry
    if PICTURE.names(path):
        return load_volume(path).geometry
    return read_map(path, frame).geometry


@dataclass(frozen=True, eq=False)
class LabelSet:
    """masks: the structures, which may overlap. numbers: name -> its number, where the files gave each one of its own.

    notes: what the user should know of how they were read.
    """

    masks: PackedMasks
    numbers: Mapping[str, int]
    notes: tuple[str, ...]


def united(
    paths: Sequence[Path],
    scan: Volume,
    names: Mapping[str, int] | None = None,
    wanted: Collection[str] | None = None,
    *,
    frame: int | None = None,
) -> LabelSet:
    """The structures of all files on the grid of the scan, in order. wanted: only these, in any spelling.

    Raises InputError naming the file, or what is wanted and in none of them.
    """
    masks, notes = PackedMasks(scan.shape), list[str]()
    numbers: dict[str, int] = {}
    spelling = {plain_name(name): name for name in wanted or ()}
    for path in paths:
        found, remarks = masks_in(path, scan, names, frame=frame)
        notes += [f"{path.name}: {remark}" if len(paths) > 1 else remark for remark in remarks]
        for name in found:
            if wanted is not None and plain_name(name) not in spelling:
                continue
            structure = spelling.setdefault(plain_name(name), name)
            if structure in masks:
                notes.append(f"{structure!r} is joined from several files.")
            masks.add(structure, found[name])
            # of two files that number theirs apart, the first one's numbers stay
            numbers.setdefault(structure, found.numbers[name] if isinstance(found, LabelMasks) else len(masks))
    if missing := [name for name in spelling.values() if name not in masks]:
        one = len(paths) == 1
        raise InputError(f"{paths[0].name if one else 'The labels'} hold{'s' * one} no {listed(map(repr, missing))}.")
    return LabelSet(masks, numbers if _told_apart(numbers) else {}, tuple(dict.fromkeys(notes)))


def _told_apart(numbers: Mapping[str, int]) -> bool:
    """Whether each structure has a number of its own that a label map can hold."""
    return len(set(numbers.values())) == len(numbers) and all(0 < n <= _MOST_LABELS for n in numbers.values())


def painted(
    masks: PackedMasks,
    order: Iterable[str],
    numbers: Mapping[str, int],
    geometry: VolumeGeometry,
    overlap: Overlap = "last",
) -> tuple[np.ndarray, dict[str, int]]:
    """One number a voxel, uint8 or uint16 (K, J, I), and how many voxels two structures share, by their names.

    order: of the structures; a voxel of several goes to the first of them, or else to the last.
    """
    array = np.zeros(geometry.shape, dtype=np.uint8 if max(numbers.values(), default=0) < 256 else np.uint16)
    shared: dict[str, int] = {}
    names = {number: name for name, number in numbers.items()}
    for name in order:
        compact = masks.compact(name)
        part, crop = array[compact.part], compact.crop
        taken = crop & (part > 0)
        for number in np.unique(part[taken]).tolist():
            shared[f"{names[number]!r} and {name!r}"] = int(np.count_nonzero(taken & (part == number)))
        part[crop & ~taken if overlap == "first" else crop] = numbers[name]
    return array, shared


def as_label_map(
    labels: LabelSet, geometry: VolumeGeometry, overlap: Overlap = "error"
) -> tuple[LabelVolume, list[str]]:
    """A set as one number a voxel, and notes on what it could not hold.

    Numbers are those of the files where each structure has one of its own, else 1, 2, ...
    overlap: "first" or "last" gives a voxel of several structures to that one, in their order.
    Raises InputError where structures overlap and it is "error".
    """
    numbers = labels.numbers or {name: n for n, name in enumerate(labels.masks, start=1)}
    names = {number: name for name, number in numbers.items()}
    array, shared = painted(labels.masks, labels.masks, numbers, geometry, overlap)
    if shared and overlap == "error":
        pair, voxels = next(iter(shared.items()))
        more = f", and {counted(len(shared) - 1, 'more pair')}" if len(shared) > 1 else ""
        raise InputError(
            f"{pair} overlap in {counted(voxels, 'voxel')}{more}, and a label map has one number a voxel. Say which "
            "keeps them, the first or the last, with `overlap`; or write a .dcm, which holds both.",
            parameter="overlap",
        )
    kept = "the first" if overlap == "first" else "the last"
    notes = [f"{pair} overlap in {counted(voxels, 'voxel')}, which {kept} keeps." for pair, voxels in shared.items()]
    return LabelVolume(array, geometry, names), notes
