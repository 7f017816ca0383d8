"""`save_labels(labels, path)`: labels on the grid of their scan, in the format the name asks for."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medsam.errors import InputError
from medsam.files import write_whole
from medsam.geometry import VolumeGeometry
from medsam.io.algorithm import DicomFormat, DicomOptions
from medsam.io.files import read_json
from medsam.io.formats import ENCODERS
from medsam.io.save_dicom import (
    check_mask,
    compact_masks,
    encode_dicom,
    images_for,
    naming_notes,
)
from medsam.volume import LabelVolume, Volume

if TYPE_CHECKING:
    from medsam.io.dicom.derive import DicomSource

WRITABLE = (*ENCODERS, ".dcm")
# structures by number, or by name as bool (K, J, I), which may overlap
Labels = LabelVolume | Mapping[str, np.ndarray]


def writable_suffix(path: Path) -> str:
    """The suffix of `path`; InputError when labels cannot be written under that name."""
    for suffix in WRITABLE:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise InputError(f"A mask cannot be written as {path.name}. Name it *{', *'.join(WRITABLE)}.")


def save_labels(
    labels: Labels,
    path: str | Path,
    source: DicomSource | None = None,
    *,
    geometry: VolumeGeometry | None = None,
    format: DicomFormat | None = None,  # noqa: A002 - what everybody calls it
    options: DicomOptions | None = None,
) -> Path:
    """Write labels and, beside a label map, its `sidecar` with their names. Returns the path written.

    labels: a label map; or masks by name, such as `load_labels` gives, which only .dcm can hold where they overlap.
    source: the scan, or the file or folder it came from. A .dcm refers to its images, so it must be DICOM; where the
        format is the same, its orientation is copied exactly. geometry: the grid of masks, where the source is no
        `Volume`.
    format: of a .dcm: "seg" (default), "seg-labelmap", or "rtstruct". options: what else a .dcm says.
    Files are written whole (`files.write_whole`), the mask last: an interrupted write leaves nothing behind.
    Raises InputError when the name has no known suffix, the place cannot be written, it is the source itself, the
    labels are not whole numbers from 0 to 65535 on the grid of the source, or a .dcm has no DICOM source.
    """
    _check_labels(labels)
    path = Path(path)
    check_writable(path, _geometry(labels, source, geometry).shape[0], _paths_of(source), format=format)
    try:
        content = encode_labels(
            labels, writable_suffix(path), source, geometry=geometry, format=format, options=options
        )
        with write_whole(path) as mask:
            mask.write_bytes(content)
            if (names := sidecar(mask)) is not None:
                numbers = labels.names if isinstance(labels, LabelVolume) else dict(enumerate(labels, start=1))
                document = {"labels": {str(n): name for n, name in sorted(numbers.items())}}
                names.write_text(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def encode_labels(
    labels: Labels,
    suffix: str,
    source: DicomSource | None = None,
    *,
    geometry: VolumeGeometry | None = None,
    format: DicomFormat | None = None,  # noqa: A002
    options: DicomOptions | None = None,
) -> bytes:
    """What `save_labels` writes to a file of that suffix: without the names of a label map, with those of a .dcm.

    suffix: .nii.gz, .nii, .nrrd, .mha, .dcm, or .png for one slice. All else, and errors, as of `save_labels`.
    """
    _check_labels(labels)
    if suffix not in WRITABLE:
        raise InputError(f"Labels cannot be written as {suffix!r}; they can be as: {', '.join(WRITABLE)}.")
    _check_format(suffix, format)
    grid = _geometry(labels, source, geometry)
    if isinstance(labels, LabelVolume):
        labels = LabelVolume(_smallest(labels.array), grid, labels.names)
    if suffix == ".dcm":
        kind, options = format or "seg", options or DicomOptions()
        return encode_dicom(compact_masks(labels, grid.shape), images_for(source, grid, kind, options), kind, options)
    if suffix == ".png":
        _check_flat(grid.shape[0], "A .png")
    return ENCODERS[suffix](labels if isinstance(labels, LabelVolume) else _label_map(labels, grid), _file_of(source))


def check_writable(
    path: Path,
    slices: int,
    inputs: Collection[Path] = (),
    *,
    format: DicomFormat | None = None,  # noqa: A002
) -> None:
    """Raise InputError now for what `save_labels` would refuse later, so that no work is lost.

    slices: K of the label map; a picture holds one. inputs: files that must not be written over. Whether a .dcm can be
    derived from its source: `check_derivable`.
    """
    suffix = writable_suffix(path)
    _check_format(suffix, format)
    if suffix == ".png":
        _check_flat(slices, path.name)
    for target in written_to(path):
        check_target(target, inputs)
    names = sidecar(path)
    if names is not None and names.exists() and not _is_sidecar(names):
        # NAME.json beside NAME.nii.gz may well be a prompts file or a data set's description
        raise InputError(
            f"The label names of {path.name} go to {names.name}, and a file of that name is there that holds "
            "something else. Name another mask, or move that file."
        )


def check_derivable(
    source: DicomSource | None,
    geometry: VolumeGeometry,
    names: Iterable[str] = (),
    *,
    format: DicomFormat | None = None,  # noqa: A002
    options: DicomOptions | None = None,
) -> tuple[str, ...]:
    """What to know of a .dcm before it is made: what its source lacks, whose name has to be changed.

    names: of the structures. Raises InputError for what `save_labels` would refuse about its source and its options.
    """
    kind, options = format or "seg", options or DicomOptions()
    return naming_notes(names, images_for(source, geometry, kind, options), kind, options)


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
        # closed before it is removed: what a share cannot remove while it is open it keeps under another name
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".medsam-"):
            pass
    except OSError as error:
        raise InputError(f"Nothing can be written to {path.parent}: {error.strerror or error}.") from error


def check_folder(path: Path) -> None:
    """Raise InputError when `path`, a folder that may be made, is a file, or lies where nothing can be written."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file. Name a folder.")
    there = next((one for one in (path, *path.absolute().parents) if one.exists()), path)
    if not os.access(there, os.W_OK):
        raise InputError(f"{there} cannot be written to. Name another folder.")


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


def sidecar(path: Path) -> Path | None:
    """Where the label names of a mask file live: NAME.json beside NAME.nii.gz, NAME.mha.json beside NAME.mha.

    None for a .dcm, which holds them itself.

    The former is what other programs look for beside NIfTI (BIDS); the full name keeps masks of one name apart.
    """
    suffix = writable_suffix(path)
    if suffix == ".dcm":
        return None
    return path.with_name((path.name[: -len(suffix)] if suffix in (".nii", ".nii.gz") else path.name) + ".json")


def written_to(path: Path) -> list[Path]:
    """The files that `save_labels` makes for a name."""
    names = sidecar(path)
    return [path] if names is None else [path, names]


def _check_labels(labels: Labels) -> None:
    if not isinstance(labels, LabelVolume | Mapping):
        raise InputError(
            f"What is saved is a LabelVolume, such as the labels of a Segmentation, or masks by name, not "
            f"{type(labels).__name__}. LabelVolume(array, scan.geometry, {{1: 'liver'}}) makes one of an array."
        )
    for name in labels if isinstance(labels, Mapping) else ():
        if not isinstance(name, str):
            raise InputError(f"Masks are named by text, such as {{'liver': mask}}, not by {type(name).__name__}.")


def _check_format(suffix: str, format: DicomFormat | None) -> None:  # noqa: A002
    if format is not None and suffix != ".dcm":
        raise InputError(f"`format` {format} is of a .dcm, not of a {suffix}.", parameter=("out", "format"))


def _geometry(labels: Labels, source: DicomSource | None, geometry: VolumeGeometry | None) -> VolumeGeometry:
    """The grid of the labels. Raises InputError where masks by name come without one."""
    if isinstance(labels, LabelVolume):
        return labels.geometry
    grid = source.geometry if geometry is None and isinstance(source, Volume) else geometry
    if grid is None:
        raise InputError("Masks by name need the grid they lie on: `geometry`.", parameter="geometry")
    return grid


def _paths_of(source: DicomSource | None) -> list[Path]:
    """Where a scan came from, if it was one path."""
    path = source.source if isinstance(source, Volume) else source
    return [Path(path)] if isinstance(path, str | PathLike) else []


def _file_of(source: DicomSource | None) -> Path | None:
    """The one file that a scan came from."""
    return next((path for path in _paths_of(source) if path.is_file()), None)


def _label_map(masks: Mapping[str, np.ndarray], geometry: VolumeGeometry) -> LabelVolume:
    """Masks as numbers from 1, in their order. Raises InputError where two overlap."""
    array = np.zeros(geometry.shape, dtype=np.uint8 if len(masks) < 256 else np.uint16)
    for number, (name, mask) in enumerate(masks.items(), start=1):
        check_mask(name, mask, geometry.shape)
        if (taken := array[mask]).any():
            other = [*masks][int(taken[taken > 0][0]) - 1]
            raise InputError(
                f"{other!r} and {name!r} overlap, and a label map has one number a voxel. Write a .dcm, or one of them."
            )
        array[mask] = number
    return LabelVolume(array, geometry, dict(enumerate(masks, start=1)))


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
