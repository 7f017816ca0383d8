"""Where the frames of a DICOM SEG lie, and the voxels of another grid that lie in them.

Letters: K, J, I the target grid (see `geometry`); P planes of the SEG, R rows, C columns of its frames.

A frame is placed by what it says about itself ((0020,0032) Image Position (Patient), (0020,0037) Image
Orientation (Patient), (0028,0030) Pixel Spacing), never by the instance it was derived from: references to
source images are often missing or point to a copy of the series. So frames may come in any order, frames a
writer left out because they were empty stay empty, and the target grid may run along other axes or the other
way. Where both grids coincide this is exact. Where they do not, every target voxel takes the SEG voxel its
centre lies in; a centre on the border of two (a grid shifted by half a pixel) takes the one of lower index.

A SEG states its planes but seldom how thick they are. The pitch is, in this order: (0018,0088) Spacing Between
Slices if the planes lie at multiples of it; the target's slice spacing if each plane lies on a target slice;
the least distance between two planes; (0018,0050) Slice Thickness; the target's slice spacing.

Source: DICOM PS3.3 C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pydicom import Dataset

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.tags import sequence_items

_IDENTITY = "SegmentIdentificationSequence"
# How near a border, in SEG voxels, counts as on it: far above the error of decimal strings in headers, far
# below anything visible.
_BORDER = 1e-3
# Frames nearer than this lie on one plane: in mm, or as a share of the pitch that a SEG states, but for rounding.
_SAME_PLANE_MM, _SAME_PLANE, _ROUNDING_MM = 1e-2, 0.1, 1e-4
# How far, in voxels, a grid may drift over its whole extent and still count as parallel.
_DRIFT = 1e-2


@dataclass(frozen=True)
class FrameStack:
    """Where the frames of a SEG lie.

    basis: (3, 3), columns are the steps in LPS mm along C, along R, and 1 mm along the normal.
    origins: (P, 3), the first pixel of each plane in that basis (C, R, mm), normal coordinate ascending.
    plane, segment: (F,), which plane and which segment number each frame is of (0: not stated).
    between, thickness: what the header says of the planes' pitch in mm, or None.
    """

    basis: np.ndarray
    origins: np.ndarray
    plane: np.ndarray
    segment: np.ndarray
    between: float | None
    thickness: float | None

    @classmethod
    def of(cls, path: Path, dataset: Dataset) -> FrameStack:
        position, orientation, spacing, segment, measures = _frame_places(path, dataset)
        sane = np.abs(position).max() < 1e6 and np.abs(orientation).max() < 2  # false for NaN, too
        if sane and spacing.min() > 1e-6 and spacing.max() < 1e4:
            along, down = orientation[0, :3], orientation[0, 3:]
            normal = np.cross(along, down)
            basis = np.stack([along * spacing[0, 1], down * spacing[0, 0], normal], axis=1)
        else:
            basis = np.zeros((3, 3))
        if abs(np.linalg.det(basis)) < 1e-9:
            raise InputError(
                f"{path}: (0020,0037) Image Orientation (Patient) or (0028,0030) Pixel Spacing describes no plane."
            )
        basis[:, 2] /= np.linalg.norm(normal)
        if np.ptp(orientation, axis=0).max() > 1e-4 or np.ptp(spacing, axis=0).max() > 1e-4:
            raise InputError(
                f"{path}: its frames differ in (0020,0037) Image Orientation (Patient) or (0028,0030) Pixel "
                "Spacing; only parallel frames of one pixel size can be put on one grid."
            )

        starts = position @ np.linalg.inv(basis).T
        order = np.argsort(starts[:, 2], kind="stable")
        new_plane = np.diff(starts[order, 2], prepend=-np.inf) > _same_plane_mm(measures, spacing)
        plane_of = np.empty(len(order), dtype=int)
        plane_of[order] = np.cumsum(new_plane) - 1
        origins = starts[order[new_plane]]
        if np.abs(starts - origins[plane_of])[:, :2].max() > _DRIFT:
            raise InputError(
                f"{path}: frames of one plane start at different places ((0020,0032) Image Position (Patient)); "
                "tiled SEGs are not supported."
            )
        return cls(basis, origins, plane_of, segment, *measures)

    def corners_mm(self, frame: tuple[int, ...]) -> np.ndarray:
        rows, columns = frame
        corners = [
            start + np.array([c, r, 0.0])
            for start in self.origins[[0, -1]]
            for c in (0, columns - 1)
            for r in (0, rows - 1)
        ]
        return np.array(corners) @ self.basis.T


def _same_plane_mm(pitches: tuple[float | None, float | None], spacing: np.ndarray) -> float:
    """How near to each other frames of one plane lie: headers are rounded, and the slices of micro-CT are thin."""
    pitch = next(filter(None, pitches), float(spacing.min()))
    return min(max(_SAME_PLANE * pitch, _ROUNDING_MM), _SAME_PLANE_MM)


def _frame_places(
    path: Path, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[float | None, float | None]]:
    """What each frame says of its place: position (F, 3), orientation (F, 6), spacing (F, 2) and segment (F,).

    Last, the spacing between slices and the slice thickness in mm, where they are stated.
    """
    from pydicom import Dataset

    items = sequence_items(dataset, "PerFrameFunctionalGroupsSequence", str(path))
    shared = (sequence_items(dataset, "SharedFunctionalGroupsSequence", str(path)) or [Dataset()])[0]
    if not items:
        raise InputError(
            f"{path}: (5200,9230) Per-frame Functional Groups Sequence is missing or empty: the SEG has no frames."
        )

    def macro(item: Dataset, keyword: str, tag: str, name: str) -> Dataset:
        found = sequence_items(item, keyword, str(path)) or sequence_items(shared, keyword, str(path))
        if not found:
            raise InputError(
                f"{path}: {tag} {name} is missing, so the frames have no place in the patient. "
                "A SEG of slides or of plain pictures cannot be put on a scan."
            )
        return found[0]

    positions, orientations, spacings, segments = [], [], [], []
    measures = None
    try:
        for item in items:
            plane = macro(item, "PlanePositionSequence", "(0020,9113)", "Plane Position Sequence")
            facing = macro(item, "PlaneOrientationSequence", "(0020,9116)", "Plane Orientation Sequence")
            measures = macro(item, "PixelMeasuresSequence", "(0028,9110)", "Pixel Measures Sequence")
            identity = sequence_items(item, _IDENTITY, str(path)) or sequence_items(shared, _IDENTITY, str(path))
            positions.append([float(v) for v in plane.ImagePositionPatient])
            orientations.append([float(v) for v in facing.ImageOrientationPatient])
            spacings.append([float(v) for v in measures.PixelSpacing])
            segments.append(int(identity[0].ReferencedSegmentNumber) if identity else 0)
        position = np.reshape(positions, (len(items), 3))
        orientation, spacing = np.reshape(orientations, (len(items), 6)), np.reshape(spacings, (len(items), 2))
        between, thickness = (
            _positive(measures.get(keyword)) if measures is not None else None
            for keyword in ("SpacingBetweenSlices", "SliceThickness")
        )
        return position, orientation, spacing, np.array(segments), (between, thickness)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: (5200,9230) Per-frame Functional Groups Sequence: a frame's (0020,0032) Image Position "
            "(Patient), (0020,0037) Image Orientation (Patient) or (0028,0030) Pixel Spacing is missing or "
            "not a number. Export the SEG again."
        ) from error


@dataclass(frozen=True)
class PlanesPart:
    """What a structure fills: bool (p, r, c), and the plane, row and column at which that begins; empty elsewhere."""

    filled: np.ndarray
    first: tuple[int, int, int]

    @property
    def past(self) -> tuple[int, ...]:
        """The plane, row and column behind it."""
        return tuple(begin + count for begin, count in zip(self.first, self.filled.shape, strict=True))


@dataclass(frozen=True)
class GridPlacement:
    """From target voxels to SEG voxels.

    step: (3, 3) and start: (3,), target voxel (i, j, k) -> (C, R, mm along the normal).
    lower, upper: (P,) the stretch of the normal each plane stands for.
    axes: the target axes (0, 1, 2 for i, j, k) that run along C, R and the normal, or None when oblique.
    """

    stack: FrameStack
    frame: tuple[int, ...]
    shape: tuple[int, int, int]
    step: np.ndarray
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    axes: tuple[int, int, int] | None
    # slice across -> the row and the column of each of its voxels, and whether the frame has them; made when asked for
    _made: dict[int, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, stack: FrameStack, frame: tuple[int, ...], geometry: VolumeGeometry) -> GridPlacement:
        inverse = np.linalg.inv(stack.basis)
        step = inverse @ geometry.affine[:3, :3]
        start = inverse @ geometry.affine[:3, 3]
        axes = _parallel_axes(step, geometry.shape[::-1])

        heights = stack.origins[:, 2]
        gaps = np.diff(heights)
        slice_pitch = float(np.abs(step[2]).max())
        on_slices = axes is not None and _whole((heights - start[2]) / step[2, axes[2]])
        if stack.between and _whole(gaps / stack.between):
            pitch = stack.between
        elif on_slices:
            pitch = slice_pitch
        elif len(gaps):
            pitch = float(gaps.min())
        else:
            pitch = stack.thickness or slice_pitch
        # half-open towards the lower side, so that a centre midway belongs to the lower plane
        middle = heights[:-1] + gaps / 2
        lower = np.maximum(heights - pitch / 2, np.append(-np.inf, middle)) + _BORDER * pitch
        upper = np.minimum(heights + pitch / 2, np.append(middle, np.inf)) + _BORDER * pitch
        return cls(stack, frame, geometry.shape, step, start, lower, upper, axes)

    def any_overlap(self) -> bool:
        """Whether any target voxel lies in any frame."""
        if self.axes is None:
            whole = ((0, 0, 0), (len(self.lower), *self.frame))
            return any(bool(inside.any()) for *_, inside in self._oblique_slices(*whole))
        slices = np.flatnonzero(self._plane_of_slice() >= 0)
        return any(all(bool(there.any()) for _, there in self._picks(int(at))) for at in slices)

    def resample(self, part: PlanesPart) -> tuple[np.ndarray, tuple[int, int, int]] | None:
        """A structure by nearest neighbour: bool (k, j, i), and where in (K, J, I) that begins; None outside of it."""
        return self._oblique(part) if self.axes is None else self._parallel(part, self.axes)

    def _plane_at(self, height: np.ndarray) -> np.ndarray:
        """Index of the plane that stands for each position along the normal; -1 for none."""
        found = np.searchsorted(self.lower, height, side="left") - 1
        return np.where((found >= 0) & (height <= self.upper[found]), found, -1)

    def _plane_of_slice(self) -> np.ndarray:
        """The plane that stands for each target slice across, where grids are parallel; -1 for none."""
        across = self.axes[2] if self.axes else 0
        return self._plane_at(self.step[2, across] * np.arange(self.shape[2 - across]) + self.start[2])

    def _picks(self, at: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The SEG row of each target row on slice `at`, the column of each column, and whether there is one."""
        if at not in self._made and self.axes:
            columns, rows, across = self.axes
            plane = self._plane_of_slice()[at]
            for n, axis in ((1, rows), (0, columns)):
                # the slice axis comes in for sheared grids, whose planes are shifted against each other
                first = self.step[n, across] * at + self.start[n] - self.stack.origins[plane, n]
                line = first + self.step[n, axis] * np.arange(self.shape[2 - axis])
                self._made.setdefault(at, []).append(_nearest(line, self.frame[1 - n]))
        return self._made[at]

    def _parallel(self, part: PlanesPart, axes: tuple[int, int, int]) -> tuple[np.ndarray, tuple[int, int, int]] | None:
        planes = self._plane_of_slice()
        filled = []
        for at in np.flatnonzero((planes >= part.first[0]) & (planes < part.past[0])):
            lines = [
                _stretch(*pick, part.first[n], part.past[n]) for n, pick in enumerate(self._picks(int(at)), start=1)
            ]
            if all(len(index) for _, index in lines):
                filled.append((int(at), planes[at] - part.first[0], *lines))
        if not filled:
            return None
        begin = [min(entry[n][0] for entry in filled) for n in (2, 3)]
        end = [max(entry[n][0] + len(entry[n][1]) for entry in filled) for n in (2, 3)]
        low, high = filled[0][0], filled[-1][0] + 1
        out = np.zeros((high - low, end[0] - begin[0], end[1] - begin[1]), dtype=bool)
        for at, plane, (row, rows), (column, columns) in filled:
            home = out[at - low, row - begin[0] :, column - begin[1] :]
            home[: len(rows), : len(columns)] = part.filled[plane][np.ix_(rows, columns)]
        # from (across, rows, columns) to (k, j, i)
        order = np.argsort([2 - axes[2], 2 - axes[1], 2 - axes[0]])
        first = np.array([low, *begin])[order]
        return out.transpose(order), (int(first[0]), int(first[1]), int(first[2]))

    def _oblique(self, part: PlanesPart) -> tuple[np.ndarray, tuple[int, int, int]] | None:
        out: np.ndarray | None = None
        begin = (0, 0, 0)
        for low, size, k, plane, r, c, inside in self._oblique_slices(part.first, part.past):
            if out is None:
                out, begin = np.zeros(size, dtype=bool), low
            here = (plane[inside], r[inside], c[inside])
            out[k - low[0]][inside] = part.filled[tuple(n - f for n, f in zip(here, part.first, strict=True))]
        return None if out is None else (out, begin)

    def _oblique_slices(self, first: tuple[int, ...], past: tuple[int, ...]) -> Iterator[_ObliqueSlice]:
        """The target slices k near planes, rows and columns from `first` to before `past`."""
        window = self._window(first, past)
        if window is None:
            return
        low, high = window
        size = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
        j, i = np.meshgrid(np.arange(low[1], high[1]), np.arange(low[2], high[2]), indexing="ij")
        flat = [self.step[n, 0] * i + self.step[n, 1] * j + self.start[n] for n in range(3)]
        for k in range(low[0], high[0]):
            plane = self._plane_at(flat[2] + self.step[2, 2] * k)
            c, c_in = _nearest(flat[0] + self.step[0, 2] * k - self.stack.origins[plane, 0], self.frame[1])
            r, r_in = _nearest(flat[1] + self.step[1, 2] * k - self.stack.origins[plane, 1], self.frame[0])
            inside = (plane >= 0) & c_in & r_in
            for index, begin, end in zip((plane, r, c), first, past, strict=True):
                inside &= (index >= begin) & (index < end)
            yield low, size, k, plane, r, c, inside

    def _window(
        self, first: tuple[int, ...], past: tuple[int, ...]
    ) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
        """Where in (K, J, I) planes, rows and columns from `first` to before `past` can be, with a voxel to spare."""
        origins = self.stack.origins[first[0] : past[0]]
        ends = [
            (origins[:, 0].min() + first[2] - 1, origins[:, 0].max() + past[2]),
            (origins[:, 1].min() + first[1] - 1, origins[:, 1].max() + past[1]),
            (self.lower[first[0]], self.upper[past[0] - 1]),
        ]
        corners = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3) - self.start
        voxels = (corners @ np.linalg.inv(self.step).T)[:, ::-1]
        low = np.maximum(np.floor(voxels.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(voxels.max(axis=0)).astype(int) + 2, self.shape)
        if (high <= low).any():
            return None
        (k, j, i), (k_past, j_past, i_past) = low.tolist(), high.tolist()
        return (k, j, i), (k_past, j_past, i_past)


# where the window begins, its size, k, then (j, i): plane, row, column, and whether they are among those asked for
_ObliqueSlice: TypeAlias = tuple[
    tuple[int, int, int], tuple[int, int, int], int, np.ndarray, np.ndarray, np.ndarray, np.ndarray
]


def _stretch(index: np.ndarray, there: np.ndarray, begin: int, end: int) -> tuple[int, np.ndarray]:
    """The voxels of a line that take pixels from `begin` to before `end`: the first, and the pixel of each."""
    found = np.flatnonzero(there & (index >= begin) & (index < end))
    # pixels come in the order of the line, so these voxels are neighbours
    return (int(found[0]), index[found] - begin) if len(found) else (0, found)


def _nearest(position: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the pixel a continuous index lies in (the lower one on a border), and whether it exists."""
    index = np.floor(position + (0.5 - _BORDER)).astype(int)
    return index, (index >= 0) & (index < count)


def _whole(multiples: np.ndarray) -> bool:
    return bool((np.abs(multiples - np.round(multiples)) < 0.05).all())


def _parallel_axes(step: np.ndarray, sizes: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The target axes along C, R and the normal, when the grids are parallel up to a permutation."""
    drift = np.abs(step) * (np.asarray(sizes) - 1)
    # a single slice drifts nowhere: the step itself decides which axis is which
    across = int(np.argmax(np.abs(step[2])))
    columns, rows = (n for n in range(3) if n != across)
    if abs(step[0, columns]) + abs(step[1, rows]) < abs(step[0, rows]) + abs(step[1, columns]):
        columns, rows = rows, columns
    strays = drift[2, columns], drift[2, rows], drift[0, rows], drift[1, columns]
    return (columns, rows, across) if max(strays) < _DRIFT else None


def _positive(value: object) -> float | None:
    number = float(value) if isinstance(value, (int, float)) else 0.0
    return number if 1e-6 < number < 1e4 else None


def corners_mm(geometry: VolumeGeometry) -> np.ndarray:
    ends = [(0, n - 1) for n in geometry.shape[::-1]]
    return geometry.to_mm(np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3))


def extent(corners: np.ndarray) -> str:
    return ", ".join(
        f"{axis} {low:.1f} to {high:.1f}"
        for axis, low, high in zip("xyz", corners.min(axis=0), corners.max(axis=0), strict=True)
    )
