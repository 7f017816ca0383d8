"""Reference masks from any label format, on the grid of the scan they belong to.

A label file is one of two kinds. A **label map** (NIfTI, NRRD, MHA, `.npz` with `gts`, PNG) holds numbers, and
`names` says what they mean. A **named** file (DICOM SEG, RTSTRUCT, 3D Slicer's .seg.nrrd) brings its own names;
several objects of one name are one structure (see `structure_names`).

Nothing is resampled. A label map must put its voxels where the scan puts its own, to a tenth of a voxel; one
stored along other axes or the other way is turned, which moves no voxel. Where either side has no millimetres (a
PNG), rows and columns must be equal and that is all that can be checked.

Every problem is an error that names the file: a number nobody named is as likely to be a forgotten organ as a
slip of the pen, so it is never dropped silently.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from medsam.errors import InputError, counted
from medsam.geometry import VolumeGeometry
from medsam.io import itk, nifti, picture, seg_nrrd
from medsam.io.files import check_regular, is_folder
from medsam.io.label_picture import LabelPicture, read_label_picture
from medsam.io.load import load_volume
from medsam.io.npz import npz_names, read_npz_arrays
from medsam.io.structure_names import plain_name
from medsam.masks import LabelMasks, PackedMasks
from medsam.volume import Volume

Ignore = Literal["others"] | Collection[int]

# files that hold label maps; an NRRD may hold named segments, and pictures are a kind of their own
_MAPS = (*nifti.SUFFIXES, *itk.NRRD_SUFFIXES, *itk.META_SUFFIXES, ".npz")
# how far, in voxels of the scan, a label may lie beside it: far above the rounding of headers, and a mask moved
# by less than half a voxel still names the same voxels
_TOLERANCE_VOXELS = 0.1
# how far a label stored as a fraction may lie from a whole number: headers scale by 0.9999, interpolation does not
_ROUNDED = 1e-3


class LabelGridMismatch(InputError):
    """A label whose voxels do not lie where the scan's do."""


class UnknownLabel(InputError):
    """Values, or names, in a label file that the label map does not know."""


def load_labels(
    path: str | Path,
    geometry: VolumeGeometry,
    names: Mapping[str, int] | None = None,
    *,
    frame_of_reference: str | None = None,
    threshold: float | None = None,
    ignore: Ignore = (),
    aliases: Mapping[str, str] | None = None,
    frame: int | None = None,
) -> Mapping[str, np.ndarray]:
    """Structures of a label file as bool (K, J, I) on the grid of `geometry`.

    names: structure -> value in a label map; 0 is background whatever it is called. Each of them is in the answer,
        all False where the file does not hold it. None: every value becomes a structure named by its number, and
        a picture with no small numbers in it (a mask of 0 and 255, or a JPEG) becomes "mask".
    frame_of_reference: of the scan; refuses a SEG or RTSTRUCT in another one.
    threshold: the file is a mask of the one structure in `names`: voxels (of a picture, the brightest channel)
        above it are inside. For masks in colour or JPEG.
    ignore: values that mean no structure, or "others" for all that `names` does not hold.
    aliases: name in a named file -> structure; several names may mean one. Without one, names match when they are
        equal but for case, spaces, "-" and "_". Segments and regions in neither are ignored, unless none matches.
    frame: which volume of a 4D label map, or which layer of a .seg.nrrd, 0-based; the layer is then a label map.
    What the user should know of how it was read (objects united, values rounded) is in `notes_on` the answer.
    Raises LabelGridMismatch with both grids, UnknownLabel with the values, InputError for files it cannot read.
    """
    path = Path(path)
    wanted = None if names is None else {name: int(value) for name, value in names.items() if int(value) != 0}
    if wanted is not None and not wanted:
        raise InputError(f"{path.name}: its label map names no structure but background.")
    kind = label_kind(path)
    if threshold is not None and kind not in ("seg", "rtstruct"):
        return {_only(path, wanted): read_mask(path, geometry, threshold=threshold, frame=frame)}
    if kind == "segments" and frame is None:
        segments = seg_nrrd.read_segments(path)
        if wanted is None or segments.layers > 1 or _any_match(segments.names, wanted, aliases or {}):
            return _segments(path, segments, geometry, wanted, aliases or {}, ignore)
    elif kind in ("seg", "rtstruct"):
        found = _read_named(path, kind, geometry, frame_of_reference)
        return found if wanted is None else _match(path, found, list(wanted), aliases or {}, geometry.shape)
    if frame is None and _is_picture(path):
        drawn = read_label_picture(path)
        if wanted is None and drawn.threshold is not None:
            return {"mask": on_grid(_flat(drawn.shown, path), geometry, path).array > drawn.threshold}
        volume, hint = _picture_numbers(drawn, path), drawn.threshold
    else:
        volume, hint = _read_map(path, frame), None
    array, notes = _ids(path, on_grid(volume, geometry, path))
    return _label_map(path, array, wanted, ignore, hint, notes)


def notes_on(masks: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """What the user should know of how `masks` were read, in sentences."""
    return masks.notes if isinstance(masks, LabelMasks | PackedMasks) else ()


def read_mask(
    path: str | Path,
    geometry: VolumeGeometry,
    *,
    structure: str | None = None,
    frame_of_reference: str | None = None,
    threshold: float | None = None,
    aliases: Mapping[str, str] | None = None,
    frame: int | None = None,
    notes: list[str] | None = None,
    opened: dict[Path, PackedMasks] | None = None,
) -> np.ndarray:
    """The one structure a binary file holds, as bool (K, J, I) on the grid of `geometry`.

    structure: which structure to take from a named file that holds several.
    threshold: above it is inside. Without one: the only value beside 0, whatever it is; in a picture of many
        values (JPEG, colour) a brightest channel above 127.
    notes: receives what the user should know of how it was read.
    opened: named files read before, by path; keeps those read now, so that many structures cost one reading.
    Raises LabelGridMismatch, UnknownLabel (several values, or none of the names), InputError.
    """
    path = Path(path)
    notes = [] if notes is None else notes
    kind = label_kind(path)
    if kind in ("seg", "rtstruct") or (kind == "segments" and frame is None and threshold is None):
        opened = {} if opened is None else opened
        if path not in opened and kind == "segments":
            opened[path] = _segments(path, seg_nrrd.read_segments(path), geometry, None, {}, ())
        elif path not in opened:
            opened[path] = _read_named(path, kind, geometry, frame_of_reference)
        found = opened[path]
        if len(found) > 1:
            if structure is None:
                raise UnknownLabel(f"{path.name} holds {len(found)} structures ({_some(found)}); one is needed here.")
            found = _match(path, found, [structure], aliases or {}, geometry.shape)
        notes += found.notes
        return next(iter(found.values()))
    if kind == "segments" and frame is None:
        segments = seg_nrrd.read_segments(path)
        return np.any([on_grid(layer, geometry, path).array > threshold for layer in segments.volumes()], axis=0)
    if frame is None and _is_picture(path):
        drawn = read_label_picture(path)
        if threshold is None:
            threshold = drawn.threshold
        volume = _flat(drawn.shown, path) if threshold is not None else _picture_numbers(drawn, path)
    else:
        volume = _read_map(path, frame)
    volume = on_grid(volume, geometry, path)
    if threshold is not None:
        return volume.array > threshold
    array, rounded = _ids(path, volume)
    notes += rounded
    values = np.unique(array)
    if len(values[values != 0]) > 1:
        raise UnknownLabel(
            f"{path.name} is used as the mask of one structure, but holds the values {_some(values[values != 0])}. "
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

    Names and `threshold` as in `load_labels`; values nobody named are passed over.
    """
    path = Path(path)
    kind = label_kind(path)
    listed: Collection[str] | None = None
    if kind in ("seg", "rtstruct"):
        from medsam.io.dicom.tree import structure_names

        listed = structure_names(path)
    elif kind == "segments" and frame is None:
        segments = seg_nrrd.read_segments(path)
        if threshold is not None:
            return {_only(path, names)} if (segments.array > threshold).any() else set()
        if names is None or segments.layers > 1 or _any_match(segments.names, names, aliases or {}):
            listed = segments.names
    if listed is not None:
        if names is None:
            return set(listed)
        lookup = _lookup(path, names, aliases or {})
        return {lookup[plain_name(name)] for name in listed if plain_name(name) in lookup}
    if frame is None and _is_picture(path):
        drawn = read_label_picture(path)
        if threshold is None and names is None:
            threshold = drawn.threshold
        volume = _flat(drawn.shown, path) if threshold is not None else _picture_numbers(drawn, path)
    else:
        volume = _read_map(path, frame)
    if threshold is not None:
        present = bool((volume.array > threshold).any())
        return {_only(path, names)} if present else set()
    counts = value_counts(_ids(path, volume)[0])
    if names is None:
        return {str(value) for value in counts if value != 0}
    return {name for name, value in names.items() if value != 0 and counts.get(value)}


def label_kind(path: Path) -> Literal["map", "segments", "seg", "rtstruct"]:
    """What kind of label file `path` is; "segments": an NRRD with Slicer's description of them.

    Raises InputError when it is not there, empty, or a DICOM scan.
    """
    if is_folder(path):
        raise InputError(f"The label {path} is a folder. Name the file in it, or one file for each structure.")
    check_regular(path)
    if path.name.lower().endswith(_MAPS):
        return "segments" if seg_nrrd.describes_segments(path) else "map"
    if _is_picture(path):
        return "map"
    from medsam.io.dicom.tree import dicom_kind

    kind = dicom_kind(path)
    if kind in ("seg", "rtstruct"):
        return kind
    what = "a DICOM image" if kind == "image" else "another DICOM object" if kind else "not a label file"
    raise InputError(
        f"{path.name} is {what}. Labels are read from NIfTI, NRRD, MHA, .npz with `gts`, PNG and other pictures, "
        "DICOM SEG and RTSTRUCT."
    )


def value_counts(array: np.ndarray) -> dict[int, int]:
    """How often each value occurs in an integer array, by value."""
    if array.dtype.kind == "b" or (array.dtype.kind == "u" and array.dtype.itemsize <= 2):
        counts = np.zeros(256 if array.dtype.itemsize == 1 else 65536, dtype=np.int64)
        for part in array:  # slice by slice: bincount copies to 64 bits
            counts += np.bincount(part.ravel(), minlength=len(counts))
        present = np.flatnonzero(counts)
        return dict(zip(present.tolist(), counts[present].tolist(), strict=True))
    values, numbers = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


# -- grids --------------------------------------------------------------------------------------------------


def on_grid(volume: Volume, geometry: VolumeGeometry, path: Path) -> Volume:
    """`volume` with its axes in the order and direction of `geometry`; voxels keep their values and their places.

    Raises LabelGridMismatch when that takes more than swapping and flipping axes.
    """
    theirs = volume.geometry
    if not (theirs.calibrated and geometry.calibrated):
        if theirs.shape != geometry.shape:
            raise LabelGridMismatch(f"{path.name} {_sizes(theirs)}, the scan {_sizes(geometry)}.")
        return volume
    # label voxel -> scan voxel; a grid of the same voxels is a signed permutation
    step = np.linalg.inv(geometry.affine) @ theirs.affine
    nearest = np.rint(step[:3, :3])
    turned = bool((np.abs(nearest).sum(axis=0) == 1).all() and (np.abs(nearest).sum(axis=1) == 1).all())
    axes = np.abs(nearest).argmax(axis=1) if turned else np.arange(3)  # axes[n]: label axis along scan axis n
    flips = [bool(turned and nearest[n, axes[n]] < 0) for n in range(3)]
    sizes = np.array(theirs.shape[::-1])
    if tuple(sizes[axes]) != geometry.shape[::-1]:
        raise LabelGridMismatch(f"{path.name} {_sizes(theirs)}, the scan {_sizes(geometry)}.")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in geometry.shape[::-1]])).reshape(3, -1).T
    back = np.zeros_like(corners)
    for n in range(3):
        back[:, axes[n]] = geometry.shape[::-1][n] - 1 - corners[:, n] if flips[n] else corners[:, n]
    off_mm = theirs.to_mm(back) - geometry.to_mm(corners)
    off = np.abs(off_mm @ np.linalg.inv(geometry.affine[:3, :3]).T).max()
    if off > _TOLERANCE_VOXELS:
        far = float(np.linalg.norm(off_mm, axis=1).max())
        raise LabelGridMismatch(
            f"{path.name} {_sizes(theirs)}, the scan {_sizes(geometry)}; the label's voxels lie up to {far:.3g} mm "
            f"({off:.3g} voxels) from the scan's. Resample the label onto the scan, or mend the header that is wrong."
        )
    # in the array the axes come in the order k, j, i
    order = tuple(2 - axes[2 - n] for n in range(3))
    array = volume.array.transpose(*order, *range(3, volume.array.ndim))
    array = array[tuple(slice(None, None, -1 if flips[2 - n] else 1) for n in range(3))]
    return Volume(array, geometry, source=path)


def _sizes(geometry: VolumeGeometry) -> str:
    size = " x ".join(str(n) for n in geometry.shape[::-1])
    if not geometry.calibrated:
        return f"has {size} voxels (i, j, k) and no millimetres"
    spacing = " x ".join(f"{pitch:.4g}" for pitch in geometry.spacing_mm[::-1])
    return f"has {size} voxels (i, j, k) of {spacing} mm, axes {geometry.axcodes}"


# -- label maps ---------------------------------------------------------------------------------------------


def _is_picture(path: Path) -> bool:
    return path.name.lower().endswith(picture.SUFFIXES)


def _read_map(path: Path, frame: int | None = None) -> Volume:
    if path.name.lower().endswith(".npz"):
        return _read_gts(path)
    return load_volume(path, frame=frame, exact=True)


def _flat(array: np.ndarray, path: Path) -> Volume:
    """The pixels of a picture, which has no millimetres."""
    return Volume(array, VolumeGeometry.uncalibrated(array.shape[:3]), source=path)


def _picture_numbers(drawn: LabelPicture, path: Path) -> Volume:
    """Label numbers of a picture. Raises UnknownLabel for one that holds none."""
    if drawn.numbers is None or drawn.unreadable:
        what = drawn.unreadable or "is a picture in colour, and colours are no label numbers"
        level = drawn.would_be_threshold if drawn.threshold is None else drawn.threshold
        raise UnknownLabel(
            f"{path.name} {what}. For a mask of one structure state "
            f'"threshold": {level:g} in the manifest; otherwise save it as a grey or palette PNG of numbers.'
        )
    return _flat(drawn.numbers, path)


def _read_gts(path: Path) -> Volume:
    """`gts` of an .npz; `spacing`, `origin` and `direction` place it as they place `imgs`."""
    arrays = read_npz_arrays(path, ("gts", "spacing", "origin", "direction"))
    if "gts" not in arrays:
        raise InputError(f"{path.name} has no array `gts`, only {', '.join(npz_names(path))[:200] or 'nothing'}.")
    data = arrays.pop("gts")
    data = data[None] if data.ndim == 2 else data
    if data.ndim != 3 or data.dtype.kind not in "biuf":
        raise InputError(f"`gts` in {path.name} is {data.dtype} of shape {data.shape}; expected integers (K, J, I).")
    if len(arrays) == 3:
        spacing, origin, direction = (
            picture.place_numbers(path, key, arrays[key]) for key in ("spacing", "origin", "direction")
        )
        return Volume(data, VolumeGeometry.from_itk(data.shape, tuple(origin), tuple(spacing), tuple(direction)))
    return Volume(data, VolumeGeometry.uncalibrated(data.shape))


def _ids(path: Path, volume: Volume) -> tuple[np.ndarray, list[str]]:
    """Label numbers (K, J, I), integers, and notes. Raises InputError for fractions."""
    array = volume.array
    if array.dtype.kind != "f":
        return array, []
    with np.errstate(invalid="ignore"):
        off = np.abs(array - np.rint(array))  # NaN for what is not finite
        whole = off <= _ROUNDED
    if not whole.all():
        example = array[~whole].flat[0]
        why = (
            "it looks like a probability map or a label resampled with interpolation. Save it again with "
            'nearest-neighbour interpolation, or state a "threshold" if it is a mask of one structure.'
            if np.isfinite(example)
            else "such voxels mean no label, and not background either. Save it again with 0 there."
        )
        raise UnknownLabel(
            f"{path.name} holds values that are no whole numbers ({np.count_nonzero(~whole)} voxels, e.g. "
            f"{example:g}): {why}"
        )
    highest, told_apart = float(np.abs(array).max(initial=0)), 2.0 ** (np.finfo(array.dtype).nmant + 1)
    if highest > told_apart:
        raise UnknownLabel(
            f"{path.name} holds values up to {highest:.9g} as floating-point numbers, which tell whole numbers apart "
            f"only up to {told_apart:.0f}. Save it again with integers."
        )
    notes = [f"Label values within {_ROUNDED:g} of whole numbers were rounded to them."] if off.any() else []
    kind = np.int32 if highest < 2**31 else np.int64
    return np.rint(array).astype(kind), notes


def _label_map(
    path: Path,
    array: np.ndarray,
    names: Mapping[str, int] | None,
    ignore: Ignore,
    threshold: float | None,
    notes: Sequence[str],
) -> LabelMasks:
    """threshold: of a picture that looks like a mask of one structure."""
    counts = value_counts(array)
    if names is None:
        names = {str(value): value for value in counts if value != 0}
    known = {0, *names.values()}
    unknown = [] if isinstance(ignore, str) else [value for value in counts if value not in known | set(ignore)]
    if unknown:
        voxels = sum(counts[value] for value in unknown)
        # 0 and 255 under one name is the most common slip of all
        hint = (
            f'It looks like a binary mask: state "threshold": {threshold:g}.'
            if threshold is not None and len([value for value in names.values() if value != 0]) == 1
            else 'Name them in "labels", or list those that do not matter in "ignore".'
        )
        raise UnknownLabel(
            f"{path.name} holds unknown label values {_some(unknown)} ({counted(voxels, 'voxel')}); known are "
            f"{_some(f'{value} {name}' for name, value in names.items())}. {hint}"
        )
    return LabelMasks(array, names, {name: counts.get(value, 0) for name, value in names.items()}, notes)


def _only(path: Path, names: Mapping[str, int] | None) -> str:
    structures = [] if names is None else [name for name, value in names.items() if value != 0]
    if names is not None and len(structures) != 1:
        raise InputError(
            f"{path.name}: a threshold makes the mask of one structure, but the case's labels name "
            f"{len(structures)} ({_some(structures)}). Give the case its own `labels`, or one file a structure."
        )
    return structures[0] if structures else "mask"


# -- named files --------------------------------------------------------------------------------------------


def _read_named(path: Path, kind: str, geometry: VolumeGeometry, frame_of_reference: str | None) -> PackedMasks:
    if not geometry.calibrated:
        raise LabelGridMismatch(
            f"{path.name} is placed in millimetres, but the scan has none (or `spacing_mm` overrides them), so it "
            "cannot be put on the scan. Convert it to a label map of the scan's rows, columns and slices."
        )
    from medsam.io.dicom.rtstruct import read_rtstruct
    from medsam.io.dicom.seg import read_seg

    read = read_seg if kind == "seg" else read_rtstruct
    return read(path, geometry, frame_of_reference=frame_of_reference)


def _segments(
    path: Path,
    segments: seg_nrrd.Segments,
    geometry: VolumeGeometry,
    wanted: Mapping[str, int] | None,
    aliases: Mapping[str, str],
    ignore: Ignore,
) -> PackedMasks:
    """The structures of a .seg.nrrd; of all of them where nothing is wanted by name."""
    masks = PackedMasks(geometry.shape)
    for layer, volume in enumerate(segments.volumes()):
        array = on_grid(volume, geometry, path).array
        for structure, value in segments.on_layer(layer):
            masks.add(structure, array == value, segments.notes.get(structure, ()))
    lookup = {} if wanted is None else _lookup(path, wanted, aliases)
    strangers = {
        name: value
        for name, value in segments.undescribed.items()
        if plain_name(name) not in lookup and not isinstance(ignore, str) and value not in set(ignore)
    }
    if wanted is not None and strangers:
        raise UnknownLabel(
            f"{path.name} holds values that none of its segments ({_some(segments.structures)}) describes, here "
            f"called {_some(strangers)} ({sum(masks.voxels[name] for name in strangers)} voxels). Name them so in "
            '"labels" or "aliases", list the values in "ignore", or read one layer as a label map: "label_frame".'
        )
    return masks if wanted is None else _match(path, masks, list(wanted), aliases, geometry.shape)


def _lookup(path: Path, names: Collection[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Plain name in a file -> structure. Raises InputError when two of the names are one."""
    ours: dict[str, str] = {}
    for name in names:
        other = ours.setdefault(plain_name(name), name)
        if other != name:
            raise InputError(
                f"{path.name}: {other!r} and {name!r} in `labels` are one name (case, spaces, - and _ aside), so it is "
                "not known which of them a structure of the file is. Rename one, and map to it with `aliases`."
            )
    return ours | {plain_name(theirs): name for theirs, name in aliases.items() if name in names}


def _any_match(found: Collection[str], names: Collection[str], aliases: Mapping[str, str]) -> bool:
    known = {plain_name(name) for name in (*names, *aliases)}
    return any(plain_name(name) in known for name in found)


def _match(
    path: Path,
    found: PackedMasks,
    names: Sequence[str],
    aliases: Mapping[str, str],
    shape: tuple[int, int, int],
) -> PackedMasks:
    lookup = _lookup(path, names, aliases)
    theirs_by_ours: dict[str, list[str]] = {name: [] for name in names}
    for theirs in found:
        if plain_name(theirs) in lookup:
            theirs_by_ours[lookup[plain_name(theirs)]].append(theirs)
    if not any(theirs_by_ours.values()):
        raise UnknownLabel(
            f"{path.name} holds none of {_some(names)}; it holds {_some(found)}. Name the structures as the file "
            'does, or map its names in "aliases".'
        )
    masks = PackedMasks(shape)
    for ours, parts in theirs_by_ours.items():
        masks.add(ours, None)
        for theirs in parts:
            masks.add(ours, found[theirs], found.notes_of(theirs))
        if len(parts) > 1:
            masks.add(ours, None, [f"{', '.join(map(repr, parts))} are read as one structure, {ours!r}."])
    return masks


def _some(items: object, most: int = 12) -> str:
    listed = [str(item) for item in items]  # type: ignore[attr-defined]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
