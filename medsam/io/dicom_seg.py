"""DICOM Segmentation (SEG) -> one mask per segment on a given grid.

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

Source: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (Segmentation modules), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.dicom_file import is_dicom, named, number, quiet, read_dataset, sequence_items, text
from medsam.io.files import check_growth
from medsam.io.structure_names import plain_name, structure_of_each, united
from medsam.masks import PackedMasks

if TYPE_CHECKING:
    from pydicom import Dataset

SEG_CLASSES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}

# of Background, PS3.16 annex D
_BACKGROUND = "DCM 125040"
_IDENTITY = "SegmentIdentificationSequence"
# How near a border, in SEG voxels, counts as on it: far above the error of decimal strings in headers, far
# below anything visible.
_TIE = 1e-3
# How far, in voxels, a grid may drift over its whole extent and still count as parallel.
_DRIFT = 1e-2


def read_seg(path: Path, geometry: VolumeGeometry, *, frame_of_reference: str | None = None) -> PackedMasks:
    """Masks of all structures of a DICOM SEG, on the grid of `geometry`.

    frame_of_reference: (0020,0052) Frame of Reference UID of the scan; when given, a SEG in another one is
        refused, because its millimetres mean other places.
    Returns (0062,0005) Segment Label -> bool (K, J, I), in the order of the segment sequence; segments of one name
    are one structure (see `masks`), background is none (see `segments_of`). BINARY and LABELMAP as stored;
    FRACTIONAL, whether probability or occupancy, from half of (0062,000E) Maximum Fractional Value on.
    Raises InputError when the file is not a SEG, is damaged, has no segments or frames, has frames without a
    place in the patient or of different orientations, or covers nothing of the grid.
    """
    dataset = open_dicom(path, SEG_CLASSES, "a DICOM SEG")
    try:
        with quiet():
            check_frame_of_reference(path, dataset.get("FrameOfReferenceUID"), frame_of_reference)
            segments = segments_of(dataset, str(path))
            kind = text(dataset, "SegmentationType")
            if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
                raise InputError(
                    f"{path}: (0062,0001) Segmentation Type is missing or unknown; BINARY, FRACTIONAL or LABELMAP is "
                    "needed. Export the SEG again."
                )
            stack = _Stack.of(path, dataset)
            frames, most = _frames(path, dataset, len(stack.plane))
            described = {int(item.SegmentNumber) for item in dataset.SegmentSequence}
    except InputError:
        raise
    except Exception as error:  # pydicom and the pixel decoders raise what they like on damaged files
        # only an AttributeError is sure to speak of the standard's attributes and not of their values
        reason = str(error) if isinstance(error, AttributeError) else type(error).__name__
        raise InputError(
            f"{path}: not a readable DICOM SEG ({reason}). It may be cut off or lack required attributes; "
            "export it again."
        ) from error
    if kind != "LABELMAP" and set(stack.segment.tolist()) - described:
        raise InputError(
            f"{path}: a frame's (0062,000B) Referenced Segment Number is missing or names a segment that "
            "(0062,0002) Segment Sequence does not describe. Export the SEG again."
        )

    place = _Placement.of(stack, frames.shape[1:], geometry)
    if not place.any_overlap():
        raise InputError(
            f"{path}: no frame of the SEG touches the scan: it covers {_extent(stack.corners_mm(frames.shape[1:]))}, "
            f"the scan {_extent(_corners_mm(geometry))} (LPS mm). It belongs to another scan."
        )
    parts: dict[str, list[int]] = {}
    for segment in segments:
        parts.setdefault(segment.structure, []).append(segment.number)
    notes = _united(segments)
    masks = PackedMasks(geometry.shape)
    # a LABELMAP has no maximum: its pixels are numbers of segments
    for name, planes in _planes(stack, frames, parts, None if kind == "LABELMAP" else most):
        masks.add(name, None if planes is None else place.resample(planes), notes.get(name, ()))
    return masks


def _planes(
    stack: _Stack, frames: np.ndarray, parts: Mapping[str, Sequence[int]], most: int | None
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Each structure on the planes of the SEG, bool (P, R, C), or None where no frame has it.

    parts: structure -> numbers of its segments. most: the value that is the whole of a pixel; None: a LABELMAP.
    """
    drawn = set(np.unique(frames).tolist()) if most is None else set(stack.segment.tolist())
    for name, numbers in parts.items():
        here = [number for number in numbers if number in drawn]
        planes = np.zeros((len(stack.origins), *frames.shape[1:]), dtype=bool) if here else None
        if planes is not None and most is None:
            for frame, plane in zip(frames, stack.plane, strict=True):
                planes[plane] |= np.isin(frame, here)
        elif planes is not None:
            for at in np.flatnonzero(np.isin(stack.segment, here)):
                # "from half on", for odd maxima, too
                planes[stack.plane[at]] |= frames[at].astype(np.uint32) * 2 >= most
        yield name, planes


@dataclass(frozen=True)
class Segment:
    """One segment of a SEG. structure: what it is a part of. codes: of its category and type, to be compared."""

    number: int
    structure: str
    codes: tuple[str, ...]


def segments_of(dataset: Dataset, name: str) -> list[Segment]:
    """The segments of a SEG, without its background; `name` is the file's, for messages.

    Background is no structure: in a LABELMAP the number 0 and (0028,0120) Pixel Padding Value, anywhere what is
    coded as background (DCM 125040) or called so.
    Raises InputError when there are no segments, one has no number, or two of different names share one.
    """
    items = sequence_items(dataset, "SegmentSequence", name)
    if not items:
        raise InputError(f"{name}: (0062,0002) Segment Sequence is missing or empty: the SEG has no segments.")
    numbers, labels, codes = [], [], []
    for item in items:
        at = number(item, "SegmentNumber", name)
        if at is None or at != int(at):
            raise InputError(f"{name}: a segment has no (0062,0004) Segment Number. Export the SEG again.")
        numbers.append(int(at))
        labels.append(text(item, "SegmentLabel") or "")
        codes.append(_codes(item, name))
    empty = set()
    if text(dataset, "SegmentationType") == "LABELMAP":
        empty = {0, int(number(dataset, "PixelPaddingValue", name) or 0)}
    found = [
        Segment(at, structure, code)
        for at, structure, code in zip(numbers, structure_of_each(labels), codes, strict=True)
        if at not in empty and _BACKGROUND not in code and plain_name(structure) != "background"
    ]
    if not found:
        raise InputError(f"{name}: (0062,0002) Segment Sequence describes nothing but background.")
    by_number: dict[int, str] = {}
    for segment in found:
        other = by_number.setdefault(segment.number, segment.structure)
        if other != segment.structure:
            raise InputError(
                f"{name}: {other!r} and {segment.structure!r} have the same (0062,0004) Segment Number "
                f"{segment.number}, so it is not known whose frames are whose. Export the SEG again."
            )
    return found


def _codes(item: Dataset, name: str) -> tuple[str, ...]:
    codes = []
    for keyword in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        for code in sequence_items(item, keyword, name)[:1]:
            modifiers = sequence_items(code, "SegmentedPropertyTypeModifierCodeSequence", name)
            codes += [f"{text(c, 'CodingSchemeDesignator')} {text(c, 'CodeValue')}" for c in (code, *modifiers)]
    return tuple(codes)


def _united(segments: Sequence[Segment]) -> dict[str, list[str]]:
    notes = united((segment.structure for segment in segments), "segments")
    for name, sentences in notes.items():
        if len({segment.codes for segment in segments if segment.structure == name}) > 1:
            sentences.append(f"The segments named {name!r} differ in their property codes (e.g. left and right).")
    return notes


def _frames(path: Path, dataset: Dataset, count: int) -> tuple[np.ndarray, int]:
    """Decoded frames (F, R, C), and the value that is the whole of a pixel. count: of frames described."""
    from pydicom.pixels.utils import pixel_array

    _check_pixels(path, dataset, count)
    # padding at the end of a bit-packed SEG can be long enough to pass for another frame
    frames = pixel_array(dataset, allow_excess_frames=False)
    if frames.size != count * dataset.Rows * dataset.Columns:
        raise InputError(
            f"{path}: (7FE0,0010) Pixel Data holds {frames.size} values, {count} frames of {dataset.Columns} x "
            f"{dataset.Rows} pixels need {count * dataset.Rows * dataset.Columns}. Export the SEG again."
        )
    frames = frames.reshape(count, dataset.Rows, dataset.Columns)
    if text(dataset, "SegmentationType") != "FRACTIONAL":
        return frames, 1
    most, highest = number(dataset, "MaximumFractionalValue", str(path)) or 0, int(frames.max(initial=0))
    if most < 1 or highest > most:
        raise InputError(
            f"{path}: (0062,000E) Maximum Fractional Value is {most:g}, the highest value of a pixel {highest}: it is "
            "not known what the whole of a pixel is. Export the SEG again."
        )
    return frames, int(most)


def _check_pixels(path: Path, dataset: Dataset, count: int) -> None:
    """Raise InputError unless the pixels that the header announces can be there."""
    stated = number(dataset, "NumberOfFrames", str(path))
    if stated is None or stated != count:
        raise InputError(
            f"{path}: {named('NumberOfFrames')} is {stated if stated is None else f'{stated:g}'}, (5200,9230) "
            f"Per-frame Functional Groups Sequence describes {count}. Export the SEG again."
        )
    rows, columns, bits = (
        int(number(dataset, keyword, str(path)) or 0) for keyword in ("Rows", "Columns", "BitsAllocated")
    )
    held = len(dataset.PixelData) * 8
    frame = rows * columns * bits
    if frame < 1:
        raise InputError(
            f"{path}: (0028,0010) Rows, (0028,0011) Columns or (0028,0100) Bits Allocated is missing or 0."
        )
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        check_growth(path, -(-count * frame // 8), held // 8)
    elif held - count * frame >= max(frame, 16):
        raise InputError(
            f"{path}: (7FE0,0010) Pixel Data has {held // 8} bytes, {count} frames of {columns} x {rows} pixels need "
            f"{-(-count * frame // 8)}. Rows, columns or the number of frames is wrong; export the SEG again."
        )


# -- shared with rtstruct.py --------------------------------------------------------------------------------


def open_dicom(path: Path, classes: Mapping[str, str], what: str) -> Dataset:
    """Read a whole DICOM file and make sure of its SOP class.

    classes: UID -> name of what is accepted. what: for messages, e.g. "a DICOM SEG".
    Raises InputError when the file cannot be opened, is not DICOM, is cut off, or is of another class.
    """
    from pydicom.uid import UID

    if path.is_file() and not is_dicom(path):
        raise InputError(f"{path}: not a DICOM file, so not {what}.")
    dataset = read_dataset(path, str(path))
    uid = UID(text(dataset, "SOPClassUID") or "")
    if uid not in classes:
        # an unknown UID is free text, and free text is never quoted
        name = uid.name if uid.name != uid else "unknown" if uid else "missing"
        raise InputError(
            f"{path}: (0008,0016) SOP Class UID is {name}; {what} ({' or '.join(classes.values())}) is needed here."
        )
    return dataset


def check_frame_of_reference(path: Path, found: object, wanted: str | None, where: str = "") -> None:
    """Raise InputError when both frames of reference are known and differ."""
    if wanted and found and str(found) != wanted:
        raise InputError(
            f"{path}{where}: (0020,0052) Frame of Reference UID is not the scan's, so its coordinates do not apply "
            "to the scan. Register the two first, or pick the scan it was drawn on."
        )


# -- planes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stack:
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
    def of(cls, path: Path, dataset: Dataset) -> _Stack:
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
        new_plane = np.diff(starts[order, 2], prepend=-np.inf) > 1e-2
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
class _Placement:
    """From target voxels to SEG voxels.

    step: (3, 3) and start: (3,), target voxel (i, j, k) -> (C, R, mm along the normal).
    lower, upper: (P,) the stretch of the normal each plane stands for.
    axes: the target axes (0, 1, 2 for i, j, k) that run along C, R and the normal, or None when oblique.
    """

    stack: _Stack
    frame: tuple[int, ...]
    shape: tuple[int, int, int]
    step: np.ndarray
    start: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    axes: tuple[int, int, int] | None

    @classmethod
    def of(cls, stack: _Stack, frame: tuple[int, ...], geometry: VolumeGeometry) -> _Placement:
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
        lower = np.maximum(heights - pitch / 2, np.append(-np.inf, middle)) + _TIE * pitch
        upper = np.minimum(heights + pitch / 2, np.append(middle, np.inf)) + _TIE * pitch
        return cls(stack, frame, geometry.shape, step, start, lower, upper, axes)

    def any_overlap(self) -> bool:
        """Whether any target voxel lies in any frame."""
        return bool(self.resample(np.ones((len(self.lower), *self.frame), dtype=bool)).any())

    def resample(self, planes: np.ndarray) -> np.ndarray:
        """bool (P, R, C) -> bool (K, J, I) by nearest neighbour."""
        out = np.zeros(self.shape, dtype=bool)
        if self.axes is None:
            self._oblique(planes, out)
        else:
            self._parallel(planes, out, self.axes)
        return out

    def _plane_at(self, height: np.ndarray) -> np.ndarray:
        """Index of the plane that stands for each position along the normal; -1 for none."""
        found = np.searchsorted(self.lower, height, side="left") - 1
        return np.where((found >= 0) & (height <= self.upper[found]), found, -1)

    def _parallel(self, planes: np.ndarray, out: np.ndarray, axes: tuple[int, int, int]) -> None:
        columns, rows, across = axes
        target = out.transpose(2 - across, 2 - rows, 2 - columns)
        index = np.arange(target.shape[0])
        found = self._plane_at(self.step[2, across] * index + self.start[2])
        for at in index[found >= 0]:
            plane = found[at]
            picks = []
            for n, axis, count in ((1, rows, target.shape[1]), (0, columns, target.shape[2])):
                # the slice axis comes in for sheared grids, whose planes are shifted against each other
                first = self.step[n, across] * at + self.start[n] - self.stack.origins[plane, n]
                picks.append(_nearest(first + self.step[n, axis] * np.arange(count), planes.shape[2 - n]))
            (r, r_in), (c, c_in) = picks
            target[at][np.ix_(r_in, c_in)] = planes[plane][np.ix_(r[r_in], c[c_in])]

    def _oblique(self, planes: np.ndarray, out: np.ndarray) -> None:
        j, i = np.meshgrid(np.arange(self.shape[1]), np.arange(self.shape[2]), indexing="ij")
        flat = [self.step[n, 0] * i + self.step[n, 1] * j + self.start[n] for n in range(3)]
        for k in range(self.shape[0]):
            plane = self._plane_at(flat[2] + self.step[2, 2] * k)
            c, c_in = _nearest(flat[0] + self.step[0, 2] * k - self.stack.origins[plane, 0], planes.shape[2])
            r, r_in = _nearest(flat[1] + self.step[1, 2] * k - self.stack.origins[plane, 1], planes.shape[1])
            inside = (plane >= 0) & c_in & r_in
            out[k][inside] = planes[plane[inside], r[inside], c[inside]]


def _nearest(position: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the pixel a continuous index lies in (the lower one on a border), and whether it exists."""
    index = np.floor(position + (0.5 - _TIE)).astype(int)
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


def _corners_mm(geometry: VolumeGeometry) -> np.ndarray:
    ends = [(0, n - 1) for n in geometry.shape[::-1]]
    return geometry.to_mm(np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3))


def _extent(corners: np.ndarray) -> str:
    return ", ".join(
        f"{axis} {low:.1f} to {high:.1f}"
        for axis, low, high in zip("xyz", corners.min(axis=0), corners.max(axis=0), strict=True)
    )
