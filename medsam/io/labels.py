"""Reference masks from any label format, on the grid of the scan they belong to.

A label file is one of two kinds. A **label map** (NIfTI, NRRD, MHA, `.npz` with `gts`, PNG) holds numbers, and
`names` says what they mean (see `label_map`). A **named** file (DICOM SEG, RTSTRUCT, 3D Slicer's .seg.nrrd) brings its
own names (see `named_labels`); several objects of one name are one structure (see `structure_names`).

Nothing is resampled (see `label_grid`). Every problem is an error that names the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from medsam.errors import InputError, listed
from medsam.geometry import VolumeGeometry
from medsam.io import seg_nrrd
from medsam.io.files import check_regular, is_folder
from medsam.io.formats import PICTURE, format_of
from medsam.io.label_grid import on_grid
from medsam.io.label_map import (
    Ignore,
    UnknownLabel,
    flat,
    label_masks,
    only_structure,
    picture_numbers,
    read_map,
    value_counts,
    whole_numbers,
)
from medsam.io.label_picture import read_label_picture
from medsam.io.named_labels import names_match, names_of, read_named, segment_masks, select
from medsam.io.sidecar import names_beside
from medsam.masks import LabelMasks, PackedMasks
from medsam.volume import Volume

# what is placed by millimetres alone, and has neither thresholds nor frames
_DICOM = ("seg", "rtstruct")


def load_labels(
    path: str | Path,
    geometry: VolumeGeometry,
    names: Mapping[str, int] | None = None,
    *,
    frame_of_reference: str | None = None,
    images: Sequence[tuple[str, int | None]] = (),
    threshold: float | None = None,
    ignore: Ignore = (),
    aliases: Mapping[str, str] | None = None,
    frame: int | None = None,
) -> Mapping[str, np.ndarray]:
    """Structures of a label file as bool (K, J, I) on the grid of `geometry`.

    names: structure -> value in a label map; 0 is background whatever it is called. Each of them is in the answer,
        all False where the file does not hold it. None: every value becomes a structure, named as the file beside it
        says (see `sidecar`), else by its number, and a picture with no small numbers in it (a mask of 0 and 255, or
        a JPEG) becomes "mask".
    frame_of_reference: of the scan; refuses a SEG or RTSTRUCT in another one. images: `Volume.images` of the scan,
        which the contours of an RTSTRUCT name.
    threshold: the file is a mask of the one structure in `names`: voxels (of a picture, the brightest channel)
        above it are inside. For masks in colour or JPEG.
    ignore: values that mean no structure, or "others" for all that `names` does not hold.
    aliases: name in a named file -> structure; several names may mean one. Without one, names match when they are
        equal but for case, spaces, "-" and "_". Segments and regions in neither are ignored, unless none matches.
    frame: which volume of a 4D label map, or which layer of a .seg.nrrd, 0-based; the layer is then a label map.
    What the user should know of how it was read (objects united, values rounded) is in `notes_on` the answer.
    Raises LabelGridMismatch with both grids, UnknownLabel with the values, InputError for files it cannot read.
    """
    path, aliases = Path(path), aliases or {}
    wanted = None if names is None else {name: int(value) for name, value in names.items() if int(value) != 0}
    if wanted is not None and not wanted:
        raise InputError(f"{path.name}: its label map names no structure but background.")
    kind = label_kind(path)
    if threshold is not None and kind not in _DICOM:
        return {only_structure(path, wanted): read_mask(path, geometry, threshold=threshold, frame=frame)}
    if kind in _DICOM:
        found = read_named(path, kind, geometry, frame_of_reference, images)
        return found if wanted is None else select(path, found, list(wanted), aliases, geometry.shape)
    if kind == "segments" and frame is None:
        segments = seg_nrrd.read_segments(path)
        if names_match(segments, wanted, aliases):
            return segment_masks(path, segments, geometry, wanted, aliases, ignore)
    voxels = _voxels(path, frame, None, guess=wanted is None)
    volume = on_grid(voxels.volume, geometry, path)
    if voxels.threshold is not None:
        return {"mask": volume.array > voxels.threshold}
    array, notes = whole_numbers(path, volume)
    return label_masks(path, array, wanted, ignore, voxels.guessed, notes)


def notes_on(masks: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What the user should know of how `masks` were read, in sentences."""
    return masks.notes if isinstance(masks, LabelMasks | PackedMasks) else ()


def read_mask(
    path: str | Path,
    geometry: VolumeGeometry,
    *,
    structure: str | None = None,
    frame_of_reference: str | None = None,
    images: Sequence[tuple[str, int | None]] = (),
    threshold: float | None = None,
    aliases: Mapping[str, str] | None = None,
    frame: int | None = None,
    notes: list[str] | None = None,
    opened: dict[Path, PackedMasks] | None = None,
) -> np.ndarray:
    """The one structure a binary file holds, as bool (K, J, I) on the grid of `geometry`.

    structure: which structure to take from a named file that holds several. frame_of_reference, images: as of
        `load_labels`.
    threshold: above it is inside. Without one: the only value beside 0, whatever it is; in a picture of many
        values (JPEG, colour) a brightest channel above 127.
    notes: receives what the user should know of how it was read.
    opened: named files read before, by path; keeps those read now, so that many structures cost one reading.
    Raises LabelGridMismatch, UnknownLabel (several values, or none of the names), InputError.
    """
    path = Path(path)
    notes = [] if notes is None else notes
    kind = label_kind(path)
    if kind in _DICOM or (kind == "segments" and frame is None and threshold is None):
        opened = {} if opened is None else opened
        if path not in opened:
            opened[path] = _all_named(path, kind, geometry, frame_of_reference, images)
        found = opened[path]
        if len(found) > 1:
            if structure is None:
                raise UnknownLabel(f"{path.name} holds {len(found)} structures ({listed(found)}); one is needed here.")
            found = select(path, found, [structure], aliases or {}, geometry.shape)
        notes += found.notes
        return next(iter(found.values()))
    if kind == "segments" and frame is None:
        segments = seg_nrrd.read_segments(path)
        return np.any([on_grid(layer, geometry, path).array > threshold for layer in segments.volumes()], axis=0)
    voxels = _voxels(path, frame, threshold, guess=True)
    volume = on_grid(voxels.volume, geometry, path)
    if voxels.threshold is not None:
        return volume.array > voxels.threshold
    array, rounded = whole_numbers(path, volume)
    notes += rounded
    values = np.unique(array)
    if len(values[values != 0]) > 1:
        raise UnknownLabel(
            f"{path.name} is used as the mask of one structure, but holds the values {listed(values[values != 0])}. "
            "Give it as the case's `label`, with `labels` naming its values, or state a `threshold`."
        )
    return array != 0


def structures_in(
    path: str | Path,
    names: Mapping[str, int] | None = None,
    *,
    threshold: float | None = None,
    aliases: Mapping[str, str] | None = None,
    frame: int | None = None,
) -> set[str]:
    """Which structures a label file holds, without its scan; of a named file, those it lists.

    Names and `threshold` as in `load_labels`; values without a name are ignored.
    """
    path = Path(path)
    kind = label_kind(path)
    if kind in _DICOM:
        from medsam.io.dicom.tree import structure_names

        return names_of(path, structure_names(path), names, aliases or {})
    if kind == "segments" and frame is None:
        segments = seg_nrrd.read_segments(path)
        if threshold is not None:
            return _above(path, segments.array, threshold, names)
        if names_match(segments, names, aliases or {}):
            return names_of(path, segments.names, names, aliases or {})
    voxels = _voxels(path, frame, threshold, guess=names is None)
    if voxels.threshold is not None:
        return _above(path, voxels.volume.array, voxels.threshold, names)
    counts = value_counts(whole_numbers(path, voxels.volume)[0])
    if names is None:
        beside = names_beside(path)
        return {beside.get(value, str(value)) for value in counts if value != 0}
    return {name for name, value in names.items() if value != 0 and counts.get(value)}


def values_in(path: str | Path) -> set[int]:
    """The values of a label map but 0, whatever they are called. Raises InputError for other files."""
    path = Path(path)
    return value_counts(whole_numbers(path, read_map(path))[0]).keys() - {0}


def label_kind(path: Path) -> Literal["map", "segments", "seg", "rtstruct"]:
    """What kind of label file `path` is; "segments": an NRRD with Slicer's description of them.

    Raises InputError when it is not there, empty, or a DICOM scan.
    """
    if is_folder(path):
        raise InputError(f"The label {path} is a folder. Name the file in it, or one file for each structure.")
    check_regular(path)
    if format_of(path) is not None:
        return "segments" if seg_nrrd.describes_segments(path) else "map"
    from medsam.io.dicom.tree import dicom_kind

    kind = dicom_kind(path)
    if kind in ("seg", "rtstruct"):
        return kind
    what = "a DICOM image" if kind == "image" else "another DICOM object" if kind else "not a label file"
    raise InputError(
        f"{path.name} is {what}. Labels are read from NIfTI, NRRD, MHA, .npz with `gts`, PNG and other pictures, "
        "DICOM SEG and RTSTRUCT."
    )


class _Voxels(NamedTuple):
    """The voxels of a label map.

    threshold: they are a mask of what is above it. guessed: what would be, of a picture that looks like such a mask.
    """

    volume: Volume
    threshold: float | None
    guessed: float | None


def _voxels(path: Path, frame: int | None, threshold: float | None, *, guess: bool) -> _Voxels:
    """Read a label map. guess: a picture that looks like a mask of one structure is one."""
    if frame is not None or not PICTURE.names(path):
        return _Voxels(read_map(path, frame), threshold, None)
    drawn = read_label_picture(path)
    if threshold is None and guess:
        threshold = drawn.threshold
    volume = picture_numbers(drawn, path) if threshold is None else flat(drawn.shown, path)
    return _Voxels(volume, threshold, drawn.threshold)


def _all_named(
    path: Path,
    kind: str,
    geometry: VolumeGeometry,
    frame_of_reference: str | None,
    images: Sequence[tuple[str, int | None]],
) -> PackedMasks:
    """Every structure of a named file."""
    if kind == "segments":
        return segment_masks(path, seg_nrrd.read_segments(path), geometry, None, {}, ())
    return read_named(path, kind, geometry, frame_of_reference, images)


def _above(path: Path, array: np.ndarray, threshold: float, names: Mapping[str, int] | None) -> set[str]:
    """The one structure of a mask, where any voxel is above the threshold."""
    return {only_structure(path, names)} if (array > threshold).any() else set()
