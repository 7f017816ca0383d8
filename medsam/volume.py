"""A scan, or a label map, in memory: voxels plus the geometry that places them in the patient."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from medsam.errors import InputError
from medsam.geometry import SlicePlane, VolumeGeometry, alike

# where a scan whose voxels nobody changes keeps their digest
_DIGEST = "_voxel_digest"


@dataclass(frozen=True, repr=False)
class Volume:
    """A scan.

    array: (K, J, I) grey, or (K, J, I, 3) colour; the stored index order of the file, reversed
        (see `geometry`). Any real dtype and memory layout, shared and not copied (bool is seen as 0 and 1); non-finite
        voxels are allowed and handled when windowed.
    geometry: of the same (K, J, I).
    modality: DICOM code ("CT", "MR", "US", "DX", "PT", ...) or None when the file does not say.
    source: the file or folder it came from; None when made in memory.
    window: (level, width) the file recommends (DICOM VOI), or None.
    uids: identifiers needed to write DICOM that refers back to this scan, e.g. {"series": ...}.
        Never a patient's name or number.
    units: what the values are measured in, where the file says so: "HU", "BQML", ...; "US", as in DICOM, when it says
        that this is not known; None when its format has no word for it.
    no_signal: voxels without information about the patient (padding, what lies behind a shutter or a collimator): bool
        (K, J, I), kept as bits, see `without_signal`; None when there are none. They shape no window.
    notes: what a reader should know about how the file was read.
    images: of each slice, in the order of k, the image it is: its (0008,0018) SOP Instance UID and, of a multi-frame
        file, the number of the frame, from 1. Contours name the slices they were drawn on so. Empty without DICOM.

    Two are equal when what they show is: voxels, grid, modality; not where they came from. `from_array` makes one of an
    array alone; `np.asarray(volume)` is its array.
    Raises InputError for an array that is not of real numbers, or does not fit the geometry.
    """

    array: np.ndarray
    geometry: VolumeGeometry
    modality: str | None = None
    source: Path | None = None
    window: tuple[float, float] | None = None
    uids: Mapping[str, str] = field(default_factory=dict)
    units: str | None = None
    no_signal: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    images: tuple[tuple[str, int | None], ...] = ()

    def __post_init__(self) -> None:
        array = _voxels(self.array)
        object.__setattr__(self, "array", array)
        _check_grid(self.geometry)
        if array.ndim not in (3, 4) or array.shape[:3] != self.geometry.shape:
            raise InputError(f"An array of shape {array.shape} does not fit a grid of {self.geometry.shape} (K, J, I).")
        if array.ndim == 4 and array.shape[3] != 3:
            raise InputError(f"A colour scan has 3 channels, this one has {array.shape[3]}.")
        if self.no_signal is not None:
            # an eighth of the memory of a mask; with numpy's bits, a row of voxels starts at a whole byte
            bits = self.no_signal if self.no_signal.dtype == np.uint8 else np.packbits(self.no_signal, axis=-1)
            slices, rows, columns = self.geometry.shape
            if bits.shape != (slices, rows, -(-columns // 8)):
                raise InputError(f"The mask of voxels without signal does not fit the grid {self.geometry.shape}.")
            object.__setattr__(self, "no_signal", bits)

    @classmethod
    def from_array(
        cls,
        array: Any,
        spacing_mm: Sequence[float] | None = None,
        *,
        affine: np.ndarray | None = None,
        modality: str | None = None,
    ) -> Volume:
        """A scan from an array alone: numbers as lists, numpy or a torch tensor.

        array: (K, J, I) = (slice, row, column), or (K, J, I, 3) in colour; or one picture, (rows, columns) or
            (rows, columns, 3).
        spacing_mm: pitch along those axes in that order: (slice, row, column), or (row, column) of a picture. Slices
            then run to the head, rows to the back, columns to the left, as an axial scan is shown.
        affine: (4, 4), voxel (i, j, k, 1) = (column, row, slice, 1) -> LPS mm, in place of a spacing. nibabel has RAS
            and (I, J, K): `from_array(data.transpose(2, 1, 0), affine=np.diag([-1, -1, 1, 1]) @ image.affine)`.
        With neither, the scan has pixels and no millimetres.
        modality: DICOM code; "CT" means that the values are Hounsfield units.
        Raises InputError, also for (rows, columns, 3) without a spacing, which may be a colour picture or a volume.
        """
        if modality is not None and not isinstance(modality, str):
            raise InputError(f"A modality is a DICOM code such as 'CT', not {modality!r}.")
        voxels = _voxels(array)
        if affine is not None and spacing_mm is not None:
            raise InputError("Give either a spacing or an affine, which holds one.")
        voxels, pitch = _as_slices(voxels, None if spacing_mm is None else _pitch(spacing_mm), affine is not None)
        k, j, i = voxels.shape[:3]
        if affine is not None:
            geometry = VolumeGeometry((k, j, i), affine)
        elif pitch is None:
            geometry = VolumeGeometry.uncalibrated((k, j, i))
        else:
            if len(pitch) != 3:
                raise InputError(f"The spacing of {voxels.shape[:3]} voxels is three numbers in mm, not {pitch}.")
            geometry = VolumeGeometry((k, j, i), np.diag([*pitch[::-1], 1.0]))
        return cls(voxels, geometry, None if modality is None else modality.strip().upper())

    def __eq__(self, other: object) -> bool:
        return alike(self, other, "source", "uids", "notes", "images") if isinstance(other, Volume) else NotImplemented

    def __hash__(self) -> int:
        # voxels may change under us, and reading them all would take longer than it saves
        return hash((self.geometry, self.modality))

    def __repr__(self) -> str:
        # no source and no uids: file names hold patients
        modality = "None" if self.modality is None else self.modality
        colour = ", colour" if self.is_colour else ""
        return (
            f"Volume(shape={self.shape}{colour}, dtype={self.array.dtype}, {self.geometry.brief}, modality={modality})"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, J, I) = slices, rows, columns; also in colour."""
        return self.geometry.shape

    @property
    def affine(self) -> np.ndarray:
        """(4, 4), voxel (i, j, k, 1) -> LPS mm, to voxel centres; read-only."""
        return self.geometry.affine

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Pitch along (K, J, I) = (slice, row, column); None where the file states no physical size."""
        return self.geometry.spacing_mm if self.geometry.calibrated else None

    @property
    def is_colour(self) -> bool:
        """Whether a last axis holds red, green and blue."""
        return self.array.ndim == 4

    def voxel_digest(self) -> str:
        """sha256 of the voxels with their type and shape, however they lie in memory; 64 hexadecimal digits.

        Kept where nobody can change them.
        """
        known: str | None = vars(self).get(_DIGEST)
        if known is not None:
            return known
        dtype = self.array.dtype.newbyteorder("<")
        digest = hashlib.sha256(repr((dtype.str, self.array.shape)).encode())
        for part in self.array:
            # a slice at a time: none of a memory-mapped file need stay
            digest.update(np.ascontiguousarray(part, dtype=dtype).data)
        found = digest.hexdigest()
        if not self.array.flags.writeable:
            object.__setattr__(self, _DIGEST, found)
        return found

    def without_signal(self, plane: SlicePlane, index: int) -> np.ndarray | None:
        """Which pixels of a slice carry no information about the patient: bool (rows, columns), or None where none is.

        Padding, what lies behind a shutter or a collimator, by the file's own word; True there.
        """
        if self.no_signal is None:
            return None
        if plane.axis == "i":
            byte, bit = divmod(index, 8)
            found = (self.no_signal[:, :, byte] >> (7 - bit) & 1).astype(bool)
        else:
            found = np.unpackbits(plane.take(self.no_signal, index), axis=-1, count=self.shape[2]).view(bool)
        return found if found.any() else None

    def lack_signal(self, voxels: np.ndarray) -> np.ndarray:
        """Which of these voxels carry no information about the patient: bool (N,).

        voxels: (N,), their numbers in the order of a C-contiguous (K, J, I).
        """
        if self.no_signal is None:
            return np.zeros(len(voxels), dtype=bool)
        row, column = np.divmod(voxels, self.shape[2])
        hidden: np.ndarray = self.no_signal.reshape(-1, self.no_signal.shape[2])[row, column >> 3] >> (7 - (column & 7))
        return (hidden & 1).astype(bool)


@dataclass(frozen=True, repr=False)
class LabelVolume:
    """A label map on the grid of a scan.

    array: integers (K, J, I); 0 is background.
    names: label id -> name.
    """

    array: np.ndarray
    geometry: VolumeGeometry
    names: Mapping[int, str]

    def __post_init__(self) -> None:
        array = _voxels(self.array)
        object.__setattr__(self, "array", array)
        _check_grid(self.geometry)
        if array.shape != self.geometry.shape:
            raise InputError(
                f"A label map of shape {array.shape} does not fit a grid of {self.geometry.shape} (K, J, I)."
            )
        for number, name in self.names.items():
            if not isinstance(number, Integral) or not isinstance(name, str):
                raise InputError(
                    f"The names of a label map are label id -> name, such as {{1: 'liver'}}, not "
                    f"{type(number).__name__} -> {type(name).__name__}.",
                    parameter="names",
                )

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, LabelVolume) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.geometry, frozenset(self.names.items())))

    def __repr__(self) -> str:
        shown = ", ".join(f"{number}: {name!r}" for number, name in [*self.names.items()][:6])
        more = f", ... ({len(self.names)} in all)" if len(self.names) > 6 else ""
        return f"LabelVolume(shape={self.geometry.shape}, {self.geometry.brief}, names={{{shown}{more}}})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)


def _check_grid(geometry: object) -> None:
    if not isinstance(geometry, VolumeGeometry):
        raise InputError(
            f"The grid of a scan is a VolumeGeometry, not {type(geometry).__name__}. "
            "Volume.from_array(array, spacing_mm=...) makes one, or takes an affine."
        )


def _pitch(spacing_mm: Sequence[float]) -> tuple[float, ...]:
    try:
        pitch = tuple(float(step) for step in spacing_mm)
    except (TypeError, ValueError):
        pitch = ()
    if len(pitch) not in (2, 3) or not all(0 < step < np.inf for step in pitch):
        raise InputError(
            f"The spacing is (slice, row, column) or, of a picture, (row, column): positive numbers in mm, not "
            f"{str(spacing_mm)[:60]}."
        )
    return pitch


def _as_slices(
    voxels: np.ndarray, pitch: tuple[float, ...] | None, oriented: bool
) -> tuple[np.ndarray, tuple[float, ...] | None]:
    """A volume or a picture as (K, J, I), in colour with a last axis of 3; and its pitch, with one across slices.

    oriented: an affine is given, so that three axes are a volume.
    """
    flat = voxels.ndim == 2
    if voxels.ndim == 3 and voxels.shape[2] == 3 and not oriented:
        if pitch is None:
            raise InputError(
                f"An array of shape {voxels.shape} is either a colour picture or a volume of 3 columns. Give the "
                "picture as array[None], or the volume with its spacing_mm."
            )
        flat = len(pitch) == 2
    if flat:
        voxels = voxels[None]
        # one slice, across which nothing is finer than in it: it is the acquired one
        pitch = None if pitch is None else (max(pitch), *pitch) if len(pitch) == 2 else pitch
    if voxels.ndim not in (3, 4):
        raise InputError(
            f"An array of shape {voxels.shape} is no scan: it is (slices, rows, columns), with a last axis of 3 in "
            "colour, or one picture."
        )
    return voxels, pitch


def _voxels(given: Any) -> np.ndarray:
    """Real numbers that torch and numpy compute with, sharing memory where they can. InputError for anything else."""
    try:
        array = np.asarray(given)
    except Exception as error:  # whatever a foreign `__array__` raises: a ragged list, a tensor on a GPU
        raise InputError(f"The voxels are no array of numbers: {str(error)[:120]}.") from error
    if array.dtype.kind == "c":
        raise InputError("The voxels are complex numbers. Take their magnitude, np.abs(array), or one of their parts.")
    if array.dtype.kind not in "biuf":
        what = type(given).__name__ if not array.ndim else f"an array of {array.dtype}"
        raise InputError(f"The voxels of a scan are an array of real numbers, not {what}.")
    if np.ma.is_masked(given):
        array = np.ma.filled(np.ma.asarray(given).astype(np.float64), np.nan)
    if array.dtype == bool:
        return array.view(np.uint8)
    # wider than what torch has
    return array.astype(np.float64) if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array
