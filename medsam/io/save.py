"""`save_labels(labels, path)`: a label map on the grid of its source, in the format the name asks for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.files import write_whole
from medsam.io.files import read_json
from medsam.io.formats import ENCODERS
from medsam.volume import LabelVolume


def writable_suffix(path: Path) -> str:
    """The suffix of `path`; InputError when a label map cannot be written under that name."""
    for suffix in ENCODERS:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise InputError(f"A mask cannot be written as {path.name}. Name it *{', *'.join(ENCODERS)}.")


def save_labels(labels: LabelVolume, path: str | Path, source: str | Path | None = None) -> Path:
    """Write `labels` and, beside it, its `sidecar` with the label names. Returns the path written.

    source: the file the scan came from; its orientation is copied exactly where the format is the same.
    Both files are written whole (`files.write_whole`), the mask last: an interrupted write leaves nothing behind.
    Raises InputError when the name has no known suffix, the place cannot be written, it is the source itself, or the
    labels are not whole numbers from 0 to 65535 on the grid of the source.
    """
    if not isinstance(labels, LabelVolume):
        raise InputError(
            f"What is saved is a LabelVolume, such as the labels of a Segmentation, not {type(labels).__name__}. "
            "LabelVolume(array, scan.geometry, {1: 'liver'}) makes one of an array."
        )
    path, source = Path(path), None if source is None else Path(source)
    check_writable(path, labels.array.shape[0], inputs=() if source is None else (source,))
    try:
        content = encode_labels(labels, writable_suffix(path), source)
        with write_whole(path) as mask:
            mask.write_bytes(content)
            sidecar(mask).write_text(
                json.dumps({"labels": {str(n): name for n, name in sorted(labels.names.items())}}, indent=2) + "\n"
            )
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def encode_labels(labels: LabelVolume, suffix: str, source: Path | None = None) -> bytes:
    """What `save_labels` writes to a file of that suffix: the label map, without the names of its labels.

    suffix: .nii.gz, .nii, .nrrd, .mha, or .png for one slice. source: as of `save_labels`.
    Raises InputError for another suffix, for a .png of several slices, and when the labels are not whole numbers from 0
    to 65535 on the grid of the source.
    """
    if suffix not in ENCODERS:
        raise InputError(f"A label map cannot be written as {suffix!r}; these can be: {', '.join(ENCODERS)}.")
    if suffix == ".png":
        _check_flat(labels.array.shape[0], "A .png")
    return ENCODERS[suffix](LabelVolume(_smallest(labels.array), labels.geometry, labels.names), source)


def check_writable(path: Path, slices: int, inputs: Collection[Path] = ()) -> None:
    """Raise InputError now for what `save_labels` would refuse later, so that no work is lost.

    slices: K of the label map; a picture holds one. inputs: files that must not be written over.
    """
    if writable_suffix(path) == ".png":
        _check_flat(slices, path.name)
    names = sidecar(path)
    for target in (path, names):
        check_target(target, inputs)
    if names.exists() and not _is_sidecar(names):
        # NAME.json beside NAME.nii.gz may well be a prompts file or a data set's description
        raise InputError(
            f"The label names of {path.name} go to {names.name}, and a file of that name is there that holds "
            "something else. Name another mask, or move that file."
        )


def check_target(path: Path, inputs: Collection[Path] = ()) -> None:
    """Raise InputError unless a file can be written at `path` without harm to `inputs`.

    inputs: files, and folders of DICOM files, of which none may be written over.
    """
    try:
        if not path.parent.is_dir():
            raise InputError(f"The folder {path.parent} does not exist. Make it first, or name another place.")
        if path.is_dir():
            raise InputError(f"{path} is a folder. Name a file.")
        if any(_is_same(path, other) or _is_slice_of(path, other) for other in inputs):
            raise InputError(f"{path.name} is also an input, or another output; it would be overwritten. Name another.")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"Nothing can be written to {path.parent}: {error.strerror or error}.") from error


def check_folder(path: Path) -> None:
    """Raise InputError when `path`, a folder that may be made, is a file."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file. Name a folder.")


def _is_same(path: Path, other: Path) -> bool:
    """Whether two names lead to one file: by a link, a detour, or on a disk that ignores case."""
    if path.exists() or other.exists():
        return path.exists() and other.exists() and path.samefile(other)
    return str(path.resolve()).casefold() == str(other.resolve()).casefold()


def _is_slice_of(path: Path, folder: Path) -> bool:
    if not (folder.is_dir() and path.is_file() and path.resolve().is_relative_to(folder.resolve())):
        return False
    from medsam.io.dicom.read import is_dicom

    return is_dicom(path)


def check_preview(path: Path, inputs: Collection[Path] = ()) -> None:
    """Raise InputError unless a picture of a result can be written at `path` without harm to `inputs`."""
    if path.suffix.lower() != ".png":
        raise InputError(f"The preview is a PNG; name it {path.stem}.png, not {path.name}.")
    check_target(path, inputs)


def _is_sidecar(path: Path) -> bool:
    """Whether a file holds label names and nothing else, so that a second run may replace it."""
    try:
        document = read_json(path)
    except InputError:
        return False
    if not isinstance(document, dict) or list(document) != ["labels"] or not isinstance(document["labels"], dict):
        return False
    return all(key.isdigit() and isinstance(name, str) for key, name in document["labels"].items())


def sidecar(path: Path) -> Path:
    """Where the label names of a mask file live: NAME.json beside NAME.nii.gz, NAME.mha.json beside NAME.mha.

    The former is what other programs look for beside NIfTI (BIDS); the full name keeps masks of one name apart.
    """
    suffix = writable_suffix(path)
    return path.with_name((path.name[: -len(suffix)] if suffix in (".nii", ".nii.gz") else path.name) + ".json")


def _check_flat(slices: int, name: str) -> None:
    if slices != 1:
        raise InputError(f"{name} can hold one slice, the scan has {slices}. Write .nii.gz, .nrrd or .mha.")


def _smallest(array: np.ndarray) -> np.ndarray:
    """The same labels as uint8 when they fit, else uint16."""
    if array.dtype.kind not in "bui":
        raise InputError(f"A label map holds whole numbers, not {array.dtype}.")
    if array.size and array.min() < 0:
        raise InputError(f"A label map holds labels from 0, not {array.min()}.")
    top = int(array.max(initial=0))
    if top > np.iinfo(np.uint16).max:
        raise InputError(f"A label map holds labels up to 65535, not {top}.")
    return np.ascontiguousarray(array, dtype=np.uint8 if top < 256 else np.uint16)
