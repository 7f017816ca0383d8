"""`save_labels(labels, path)`: a label map on the grid of its source, in the format the name asks for."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.io import itk, nifti, picture
from medsam.volume import LabelVolume

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".png")


def suffix_of(path: Path) -> str:
    """The writable suffix of `path`; InputError when a label map cannot be written under that name."""
    for suffix in WRITABLE:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise InputError(f"A mask cannot be written as {path.name}. Name it *{', *'.join(WRITABLE)}.")


def save_labels(labels: LabelVolume, path: str | Path, source: Path | None = None) -> Path:
    """Write `labels` and, beside it, `NAME.json` with the label names. Returns the path written.

    source: the file the scan came from; its orientation is copied exactly where the format is the same.
    Both files are written under temporary names and renamed, so an interrupted write leaves nothing behind.
    Raises InputError when the name has no known suffix or the folder does not exist.
    """
    path = Path(path)
    check_writable(path, labels.array.shape[0])
    suffix = suffix_of(path)
    compact = LabelVolume(_smallest(labels.array), labels.geometry, labels.names)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".medsam-") as folder:
        # the writers choose by suffix, so the temporary name keeps it
        mask, names = Path(folder) / f"mask{suffix}", Path(folder) / "names.json"
        if suffix in (".nii", ".nii.gz"):
            nifti.write_nifti(compact, mask, source)
        elif suffix == ".nrrd":
            itk.write_nrrd(compact, mask, source)
        elif suffix == ".mha":
            itk.write_meta(compact, mask, source)
        else:
            picture.write_picture(compact, mask)
        names.write_text(
            json.dumps({"labels": {str(n): name for n, name in sorted(labels.names.items())}}, indent=2) + "\n"
        )
        os.replace(mask, path)
        os.replace(names, sidecar(path))
    return path


def check_writable(path: Path, slices: int) -> None:
    """Raise InputError now for what `save_labels` would refuse later, so that no work is lost.

    slices: K of the label map; a picture holds one.
    """
    if suffix_of(path) == ".png" and slices != 1:
        raise InputError(f"{path.name} can hold one slice, the scan has {slices}. Write .nii.gz, .nrrd or .mha.")
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} does not exist. Make it first, or name another --out.")
    names = sidecar(path)
    if names.exists():
        # NAME.json beside NAME.nii.gz may well be somebody's prompts file
        try:
            ours = "labels" in json.loads(names.read_text())
        except (ValueError, OSError, TypeError):
            ours = False
        if not ours:
            raise InputError(
                f"The label names of {path.name} go to {names.name}, and a file of that name is there that does not "
                "hold label names. Name another --out, or move that file."
            )


def sidecar(path: Path) -> Path:
    """Where the label names of a mask file live: its name with .json for the suffix."""
    return path.with_name(path.name[: -len(suffix_of(path))] + ".json")


def _smallest(array: np.ndarray) -> np.ndarray:
    """The same labels as uint8 when they fit, else uint16."""
    top = int(array.max(initial=0))
    if top > np.iinfo(np.uint16).max:
        raise InputError(f"A label map holds labels up to 65535, not {top}.")
    return np.ascontiguousarray(array, dtype=np.uint8 if top < 256 else np.uint16)
