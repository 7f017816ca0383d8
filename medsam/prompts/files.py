"""Prompts from any file that holds some: prompts files, measurements of a PACS, and masks of every format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import Axis
from medsam.io.files import is_folder
from medsam.io.formats import format_of
from medsam.io.labels import read_mask
from medsam.prompts.masks import load_masks, mask_prompts
from medsam.prompts.measurements import UNNAMED, measured_prompts
from medsam.prompts.parse import read_prompts
from medsam.prompts.prompt import Prompt
from medsam.volume import Volume


@dataclass(frozen=True, eq=False)
class PromptFile:
    """What a file asks for. prompts: of a prompts file or of measurements; () of a file of masks.

    axis: that they lie across, None when the file leaves it open. masks: the structures of a file of masks, name ->
    bool (K, J, I), else None. read: every file that was read. notes: what the user should know of the reading.
    """

    path: Path
    prompts: tuple[Prompt, ...] = ()
    axis: Axis | None = None
    masks: Mapping[str, np.ndarray] | None = None
    read: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def as_prompts(self) -> tuple[list[Prompt], list[str]]:
        """Its prompts, each structure of masks as a rough mask; and notes. PromptError where all are empty."""
        notes = list(self.notes)
        found = list(self.prompts) if self.masks is None else mask_prompts(self.masks, self.path.name, notes)
        return found, notes


def load_prompts(path: str | Path, scan: Volume, axis: Axis | None = None) -> tuple[list[Prompt], Axis | None]:
    """The prompts in a file, for `scan`: a prompts file (JSON), a DICOM presentation state or structured report whose
    measurements become boxes and clicks, or a file of masks (SEG, RTSTRUCT, NIfTI, NRRD, MHA, ...) whose structures
    become rough masks by their names.

    axis: the slice axis on which they shall lie; default: the file's. Returns them and that axis, to be handed on to
    `Predictor.segment`, or None where any will do. Raises PromptError and InputError.
    """
    found = read_prompt_file(Path(path), scan, axis)
    if axis is not None and found.axis is not None and found.axis != axis:
        raise PromptError(f"The prompts of {Path(path).name} lie across axis {found.axis}, not {axis}.")
    return found.as_prompts()[0], axis or found.axis


def read_prompt_file(path: Path, scan: Volume, axis: Axis | None = None, before: Sequence[Prompt] = ()) -> PromptFile:
    """A file of any of the kinds of `load_prompts`, by its name or, of DICOM, its content.

    axis: the only one that measurements may lie across. before: prompts of other files, whose labels are taken.
    Raises PromptError and InputError.
    """
    if not path.name.lower().endswith(".json") and not is_folder(path):
        if format_of(path) is not None:
            return _masks(path, scan)
        kind = _dicom_kind(path)
        if kind in ("seg", "rtstruct", "image"):
            return _masks(path, scan)
        if kind == "other":
            return _measurements(path, scan, axis, before)
    read, notes = [path], list[str]()

    def one(file: Path) -> np.ndarray:
        read.append(file)
        frame_of_reference = scan.uids.get("frame_of_reference")
        return read_mask(file, scan.geometry, frame_of_reference=frame_of_reference, images=scan.images, notes=notes)

    def every(file: Path) -> Mapping[str, np.ndarray]:
        read.append(file)
        return load_masks(file, scan, notes)

    prompts, stated = read_prompts(path, one, every, shape=scan.geometry.shape)
    return PromptFile(path, tuple(prompts), stated, read=tuple(dict.fromkeys(read)), notes=tuple(dict.fromkeys(notes)))


def _dicom_kind(path: Path) -> str | None:
    from medsam.io.dicom.tree import dicom_kind

    return dicom_kind(path) if path.is_file() else None


def _masks(path: Path, scan: Volume) -> PromptFile:
    notes: list[str] = []
    masks = load_masks(path, scan, notes)
    return PromptFile(path, masks=masks, read=(path,), notes=tuple(notes))


def _measurements(path: Path, scan: Volume, axis: Axis | None, before: Sequence[Prompt]) -> PromptFile:
    from medsam.io.dicom.measurements.read import read_measurements

    found = read_measurements(path)
    notes: list[str] = []
    prompts, across = measured_prompts(
        found,
        scan.geometry,
        {image: k for k, image in enumerate(scan.images)} or None,
        frame_of_reference=scan.uids.get("frame_of_reference"),
        axis=axis,
        taken=len({one.label for one in before if re.fullmatch(rf"{UNNAMED}( \d+)?", one.label)}),
        file=path.name,
        notes=notes,
    )
    return PromptFile(path, tuple(prompts), across, read=(path,), notes=tuple(notes))
