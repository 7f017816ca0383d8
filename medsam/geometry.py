"""Where voxels are: one geometry type and every axis conversion.

Letters: an array is (K, J, I) = (slice, row, column); a voxel is named (i, j, k), the index order in which
its file stores it (NIfTI, NRRD, MHA) or (column, row, slice) for DICOM. So `array[k, j, i]` is voxel (i, j, k)
of the file: nothing is reoriented on the way in, and nothing has to be undone on the way out.

World coordinates are LPS in mm: x grows to the patient's left, y to the back, z to the head (DICOM, ITK).
NIfTI's RAS differs by the sign of x and y; the sign flip is exact in floating point, so an affine survives
the round trip to the bit.

Two conventions for positions inside a slice, both in stored pixels:
  index       0-based pixel number; the pixel's centre
  edge        continuous, pixel n covers [n, n + 1); half-open boxes are edges
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from medsam.errors import InputError

Axis = Literal["i", "j", "k"]
AXES: tuple[Axis, ...] = get_args(Axis)

# voxels of electron microscopes are some nanometres, those of anything scanned far below a kilometre; beyond, sums of
# squares and volumes lose all digits or overflow
_SMALLEST_MM, _LARGEST_MM, _FARTHEST_MM = 1e-7, 1e6, 1e9
# of a grid in a document, which stands for an array that has to be made
_MOST_VOXELS = 2**31

# RAS <-> LPS; its own inverse.
_FLIP_XY = np.diag([-1.0, -1.0, 1.0, 1.0])


def alike(one: Any, other: Any, *leave_out: str) -> bool:
    """Whether two dataclass instances agree field by field, arrays element by element (nan is like nan).

    The `==` that a dataclass generates cannot compare arrays. leave_out: fields that do not count.
    """
    if one is other:
        return True
    pairs = ((getattr(one, item.name), getattr(other, item.name)) for item in fields(one) if item.name not in leave_out)
    return all(
        isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b, equal_nan=True)
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray)
        else a is b or a == b
        for a, b in pairs
    )


@dataclass(frozen=True)
class View:
    """How a stored slice is turned to stand upright: transposed first, then flipped.

    Upright is what a radiologist sees: axial with the front up and the patient's left on the right, coronal
    and sagittal with the head up. A model trained on upright slices should never meet them upside down
    because a file happens to be stored that way.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def shape(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the view of a stored slice of (rows, columns)."""
        return (stored[1], stored[0]) if self.transpose else stored

    def spacing(self, stored: tuple[float, float]) -> tuple[float, float]:
        """Row and column pitch of the view of a slice with pitch (row, column)."""
        return (stored[1], stored[0]) if self.transpose else stored

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w, ...) stored -> (h', w', ...) upright; a view of the same memory."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def undo(self, pixels: np.ndarray) -> np.ndarray:
        """Inverse of `apply`."""
        pixels = pixels[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return pixels.swapaxes(0, 1) if self.transpose else pixels

    def edges(self, xy: np.ndarray, stored: tuple[int, int]) -> np.ndarray:
        """Edge positions (..., 2) as (x, y), stored -> upright. `stored` is (rows, columns)."""
        xy = np.asarray(xy, dtype=np.float64)
        if self.transpose:
            xy = xy[..., ::-1]
        rows, columns = self.shape(stored)
        x = columns - xy[..., 0] if self.flip_columns else xy[..., 0]
        y = rows - xy[..., 1] if self.flip_rows else xy[..., 1]
        return np.stack([x, y], axis=-1)

    def boxes(self, xyxy: np.ndarray, stored: tuple[int, int]) -> np.ndarray:
        """Boxes of edges (..., 4) as (x0, y0, x1, y1), stored -> upright, the lower corner first again."""
        xyxy = np.asarray(xyxy, dtype=np.float64)
        corners = self.edges(xyxy.reshape(*xyxy.shape[:-1], 2, 2), stored)
        return np.concatenate([corners.min(axis=-2), corners.max(axis=-2)], axis=-1)

    @property
    def inverse(self) -> View:
        """The view that takes upright positions back to stored ones: flips first, which swap under a transpose."""
        return View(True, self.flip_columns, self.flip_rows) if self.transpose else self


@dataclass(frozen=True)
class SlicePlane:
    """The family of parallel slices across one stored axis of a volume.

    A slice has rows along the later and columns along the earlier of the two remaining stored axes, so on
    axis k a position (x, y) is (i, j), on axis j it is (i, k), on axis i it is (j, k).

    shape: (rows, columns) of a stored slice. spacing_mm: (row, column) pitch. count: how many slices.
    """

    axis: Axis
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    count: int
    view: View

    @property
    def array_axis(self) -> int:
        """The position of the slice axis in a (K, J, I) array."""
        return 2 - AXES.index(self.axis)

    @property
    def upright_spacing_mm(self) -> tuple[float, float]:
        """(row, column) pitch as seen in `view`."""
        return self.view.spacing(self.spacing_mm)

    @property
    def longest_mm(self) -> float:
        """The longer side of a slice."""
        return max(length * pitch for length, pitch in zip(self.shape, self.spacing_mm, strict=True))

    def take(self, array: np.ndarray, index: int) -> np.ndarray:
        """Slice `index` of (K, J, I[, C]) as (rows, columns[, C]); a view of the same memory."""
        return array[(slice(None),) * self.array_axis + (index,)]

    def touched(self, mask: np.ndarray) -> list[int]:
        """The slices on which there is any of a mask (K, J, I), ascending."""
        others = tuple(number for number in range(3) if number != self.array_axis)
        found: list[int] = np.flatnonzero(mask.any(axis=others)).tolist()
        return found


@dataclass(frozen=True, repr=False)
class VolumeGeometry:
    """The grid of a volume. Exists without voxels. Equal when shape, affine and calibration are, exactly.

    shape: (K, J, I). affine: (4, 4) float64, voxel (i, j, k, 1) -> LPS mm, to voxel centres.
    calibrated: False when the file states no physical size (a PNG); millimetres then mean pixels.
    Raises InputError when the affine is not finite, cannot be inverted, or is of no size that a scan can have.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    calibrated: bool = True

    def __post_init__(self) -> None:
        try:
            affine = np.array(self.affine, dtype=np.float64)
        except (TypeError, ValueError):
            affine = np.empty(0)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("The scan's affine (position and direction of its voxels) is not a finite 4 x 4 matrix.")
        try:
            k, j, i = (operator.index(length) for length in self.shape)
        except (TypeError, ValueError):
            raise InputError(f"The shape of a scan is three whole numbers (K, J, I), not {self.shape}.") from None
        object.__setattr__(self, "shape", (k, j, i))
        if min(self.shape) < 1:
            raise InputError(f"The scan has no voxels: its shape is {self.shape} (K, J, I).")
        with np.errstate(over="ignore"):
            pitch = np.hypot(np.hypot(affine[0, :3], affine[1, :3]), affine[2, :3])
        if (pitch <= 0).any() or abs(np.linalg.det(affine[:3, :3] / np.where(pitch > 0, pitch, 1))) < 1e-3:
            raise InputError(
                "The scan's affine has an axis of zero length or two parallel axes, so its voxels have no place in "
                f"space (spacing i, j, k: {', '.join(f'{p:g}' for p in pitch)} mm). Fix the header, or convert "
                "the scan again from its DICOM files."
            )
        off = np.abs(affine[:3, 3]).max()
        if not (pitch.min() >= _SMALLEST_MM and pitch.max() <= _LARGEST_MM and off <= _FARTHEST_MM):
            raise InputError(
                f"The scan's voxels are {', '.join(f'{p:g}' for p in pitch)} mm (i, j, k) and its first lies up to "
                f"{off:g} mm from the origin, which no scan's do. Fix the header, or convert the scan again."
            )
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, VolumeGeometry) else NotImplemented

    def __hash__(self) -> int:
        # numbers, not bytes: -0.0 equals 0.0
        return hash((self.shape, tuple(self.affine.ravel().tolist()), self.calibrated))

    def __reduce__(self) -> tuple[Any, ...]:
        # made anew: numpy unpickles arrays as writable
        return VolumeGeometry, (self.shape, self.affine, self.calibrated)

    def __repr__(self) -> str:
        return f"VolumeGeometry(shape={self.shape}, {self.brief})"

    @property
    def brief(self) -> str:
        """Spacing and orientation in a few words, for a `repr`."""
        pitch = ", ".join(f"{step:g}" for step in self.spacing_mm)
        return f"spacing_mm=({pitch}), axes={self.axcodes}" if self.calibrated else "spacing_mm=None"

    # -- made from what files say ---------------------------------------------------------------------------

    @classmethod
    def from_ras(cls, shape: tuple[int, int, int], affine: np.ndarray, calibrated: bool = True) -> VolumeGeometry:
        """From a RAS affine (NIfTI, MONAI). `shape` is (K, J, I)."""
        return cls(shape, _FLIP_XY @ np.asarray(affine, dtype=np.float64), calibrated)

    @classmethod
    def from_itk(
        cls,
        shape: tuple[int, int, int],
        origin: tuple[float, ...],
        spacing: tuple[float, ...],
        direction: tuple[float, ...],
    ) -> VolumeGeometry:
        """From ITK's LPS origin, spacing (i, j, k) and 3 x 3 direction given row by row."""
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
        affine[:3, 3] = origin
        return cls(shape, affine)

    @classmethod
    def uncalibrated(cls, shape: tuple[int, int, int]) -> VolumeGeometry:
        """A picture: pixels, no millimetres. Columns run left, rows run back, as on a screen."""
        return cls(shape, np.eye(4), calibrated=False)

    def to_dict(self) -> dict[str, Any]:
        """{"shape": [K, J, I], "affine": 4 x 4 numbers, "calibrated"}, ready for JSON; exact."""
        return {"shape": list(self.shape), "affine": self.affine.tolist(), "calibrated": self.calibrated}

    @classmethod
    def from_dict(cls, document: Any) -> VolumeGeometry:
        """The other way. Raises InputError when it is no grid."""
        try:
            k, j, i = (int(length) for length in document["shape"])
            if k * j * i > _MOST_VOXELS:
                raise ValueError("more voxels than any scan has")
            return cls((k, j, i), document["affine"], bool(document["calibrated"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError('A grid is an object with "shape", "affine" and "calibrated".') from error

    # -- what the grid is -----------------------------------------------------------------------------------

    @property
    def ras_affine(self) -> np.ndarray:
        """(4, 4), voxel (i, j, k, 1) -> RAS mm."""
        return _FLIP_XY @ self.affine

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel pitch along (K, J, I), the order of the array's axes."""
        di, dj, dk = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(dk), float(dj), float(di)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres, also for sheared grids."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @cached_property
    def _world_axes(self) -> np.ndarray:
        """(3, 2): for i, j, k the nearest LPS axis (0, 1, 2; each once) and the sign along it."""
        # late: nibabel loads pydicom, which a client of a server has no use for
        from nibabel.orientations import io_orientation

        return io_orientation(self.affine).astype(int)

    @property
    def axcodes(self) -> str:
        """Where i, j and k grow, e.g. "LPS" or "PIR"."""
        return "".join(("LPS" if sign > 0 else "RAI")[axis] for axis, sign in self._world_axes)

    @property
    def acquired_axis(self) -> Axis:
        """The axis a scanner most likely stacked slices along: the largest spacing, k when equal."""
        di, dj, dk = self.spacing_mm[::-1]
        # spacings from rounded headers differ in the last digits; that is not an anisotropy
        if dk >= max(di, dj) * (1 - 1e-3):
            return "k"
        return "i" if di > dj else "j"

    def plane(self, axis: Axis | None = None) -> SlicePlane:
        """The slices across `axis` (default: `acquired_axis`)."""
        axis = axis or self.acquired_axis
        if axis not in AXES:
            raise InputError(f"There is no axis {axis!r}; use i, j or k.")
        number = AXES.index(axis)
        column, row = (n for n in range(3) if n != number)
        pitch, sizes = self.spacing_mm[::-1], self.shape[::-1]
        # upright: columns run left (axial, coronal) or back (sagittal); rows run back (axial) or down
        world = self._world_axes
        across = world[number, 0]
        transpose = bool(world[column, 0] > world[row, 0])
        right, down = (row, column) if transpose else (column, row)
        view = View(
            transpose=transpose,
            flip_rows=bool(world[down, 1] < 0 if across == 2 else world[down, 1] > 0),
            flip_columns=bool(world[right, 1] < 0),
        )
        return SlicePlane(axis, (sizes[row], sizes[column]), (pitch[row], pitch[column]), sizes[number], view)

    def slice_places(self, axis: Axis | None = None) -> np.ndarray:
        """Where the slices of `plane` lie in the volume, (count,): the middle of each between 0 and 1, from the
        patient's right to left, front to back, or feet to head, whichever is across, however the file stores them."""
        plane = self.plane(axis)
        places = (np.arange(plane.count) + 0.5) / plane.count
        return places if self._world_axes[AXES.index(plane.axis), 1] > 0 else 1 - places

    def across(self, axis: Axis | None = None) -> int:
        """What the slices of `plane` are: 0 sagittal, 1 coronal, 2 axial, or nearest to it."""
        return int(self._world_axes[AXES.index(self.plane(axis).axis), 0])

    def to_mm(self, ijk: np.ndarray) -> np.ndarray:
        """Voxel indices (..., 3) as (i, j, k), centres at integers -> LPS mm (..., 3)."""
        return np.asarray(ijk, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, xyz_mm: np.ndarray) -> np.ndarray:
        """LPS mm (..., 3) -> continuous voxel indices (i, j, k)."""
        offset = np.asarray(xyz_mm, dtype=np.float64) - self.affine[:3, 3]
        return offset @ np.linalg.inv(self.affine[:3, :3]).T

    def same_grid(self, other: VolumeGeometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids put every voxel at the same place, to `tolerance_mm` at the corners."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape[::-1]])).reshape(3, -1).T
        return bool(np.abs(self.to_mm(corners) - other.to_mm(corners)).max() <= tolerance_mm)
