"""Label maps: the numbers in a file, and which structures they mean.

A number without a name is as likely to be a forgotten organ as a typing error, so it is never dropped silently.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from medsam.errors import InputError, counted, listed
from medsam.geometry import VolumeGeometry
from medsam.io import picture
from medsam.io.label_picture import LabelPicture
from medsam.io.load import load_volume
from medsam.io.npz import npz_names, read_npz_arrays
from medsam.io.sidecar import names_beside
from medsam.io.structure_names import structure_of_each, united
from medsam.masks import LabelMasks
from medsam.volume import Volume

# values that mean no structure, or all that the names do not hold
Ignore = Literal["others"] | Collection[int]

# how far a label stored as a fraction may lie from a whole number: headers scale by 0.9999, interpolation does not
_ROUNDED = 1e-3


class UnknownLabel(InputError):
    """Values, or names, in a label file that the label map does not know."""


def read_map(path: Path, frame: int | None = None) -> Volume:
    """The numbers of a file that is no picture, as stored. frame: of a file of several volumes."""
    if path.name.lower().endswith(".npz"):
        return _read_gts(path)
    return load_volume(path, frame=frame, exact=True)


def flat(array: np.ndarray, path: Path) -> Volume:
    """The pixels of a picture, which has no millimetres."""
    return Volume(array, VolumeGeometry.uncalibrated(array.shape[:3]), source=path)


def picture_numbers(drawn: LabelPicture, path: Path) -> Volume:
    """Label numbers of a picture. Raises UnknownLabel for one that holds none."""
    if drawn.numbers is None or drawn.unreadable:
        what = drawn.unreadable or "is a picture in colour, and colours are no label numbers"
        level = drawn.would_be_threshold if drawn.threshold is None else drawn.threshold
        raise UnknownLabel(
            f"{path.name} {what}. For a mask of one structure state "
            f'"threshold": {level:g} in the manifest; otherwise save it as a grey or palette PNG of numbers.'
        )
    return flat(drawn.numbers, path)


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


def whole_numbers(path: Path, volume: Volume) -> tuple[np.ndarray, list[str]]:
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


def label_masks(
    path: Path,
    array: np.ndarray,
    names: Mapping[str, int] | None,
    ignore: Ignore,
    threshold: float | None,
    notes: Sequence[str],
) -> LabelMasks:
    """The structures of a label map. names: None takes those that lie beside it, and numbers without.

    threshold: of a picture that looks like a mask of one structure.
    Raises UnknownLabel for values that are neither named nor to be ignored.
    """
    if names is None:
        return _named_masks(array, names_beside(path), notes)
    counts = value_counts(array)
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
            f"{path.name} holds unknown label values {listed(unknown)} ({counted(voxels, 'voxel')}); known are "
            f"{listed(f'{value} {name}' for name, value in names.items())}. {hint}"
        )
    return LabelMasks(array, names, {name: counts.get(value, 0) for name, value in names.items()}, notes)


def _named_masks(array: np.ndarray, beside: Mapping[int, str], notes: Sequence[str]) -> LabelMasks:
    """The structures of a label map under the names that lie beside it; a value without one is named by its number.

    Values of one name are one structure (see `structure_names`). Each of the names is in the answer.
    """
    counts = value_counts(array)
    called = {**beside, **{value: str(value) for value in counts if value != 0 and value not in beside}}
    structures = dict(zip(called, structure_of_each(called.values()), strict=True))
    names: dict[str, int] = {}
    voxels: dict[str, int] = {}
    for value, structure in structures.items():
        first = names.setdefault(structure, value)
        voxels[structure] = voxels.get(structure, 0) + counts.get(value, 0)
        if first != value and counts.get(value):
            array = np.where(array == value, array.dtype.type(first), array)
    united_notes = [note for some in united(structures.values(), "labels").values() for note in some]
    return LabelMasks(array, names, voxels, [*notes, *united_notes])


def only_structure(path: Path, names: Mapping[str, int] | None) -> str:
    """What the mask of a threshold shows: the one structure in `names`, or "mask". Raises InputError for several."""
    structures = [] if names is None else [name for name, value in names.items() if value != 0]
    if names is not None and len(structures) != 1:
        raise InputError(
            f"{path.name}: a threshold makes the mask of one structure, but the case's labels name "
            f"{len(structures)} ({listed(structures)}). Give the case its own `labels`, or one file a structure."
        )
    return structures[0] if structures else "mask"


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
