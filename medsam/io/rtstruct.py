"""RT Structure Set (RTSTRUCT) contours -> one mask per region on a given grid.

A contour is a polygon in LPS mm in the plane of a slice. It is matched to a slice by its position alone: the
instances it refers to are often of another export of the same scan. Contours outside the grid are skipped, and
nothing is interpolated between contours.

All loops of a plane combine by the even-odd rule, so a loop inside a loop is a hole, and a hole reached through
a "keyhole" (one loop that runs in, round and back along its own way) comes out right, too. The centre of a
voxel decides: it is in when it lies inside the outline. A centre on the outline (to 1/1000 voxel) is in on the
sides of lower index and out on the sides of higher index, so that two regions sharing an edge share no voxel
and leave no gap.

When contours lie closer together than slices, the plane nearest to a slice speaks for it.

Why not a library: PIL and OpenCV round vertices to whole pixels and paint the outline; matplotlib's point
test leaves centres on an outline undefined and asks every pixel about every edge.

Source: DICOM PS3.3 A.19 (RT Structure Set IOD), C.8.8.5 and C.8.8.6 (Structure Set and ROI Contour modules).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.dicom_file import quiet
from medsam.io.dicom_seg import check_frame_of_reference, open_dicom, unique_names

if TYPE_CHECKING:
    from pydicom import Dataset

RTSTRUCT_CLASSES = {"1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set Storage"}

# (3006,0042) Contour Geometric Type; points and open lines enclose nothing
_FILLED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}

_SNAP = 1e-3
# Loops this near to each other, in slices, are drawn on one plane.
_SAME_PLANE = 0.05
# A contour may stray this far, in slices, from end to end and still lie in a slice.
_FLAT = 0.5


def read_rtstruct(
    path: Path, geometry: VolumeGeometry, *, frame_of_reference: str | None = None
) -> dict[str, np.ndarray]:
    """Masks of all regions of an RTSTRUCT, on the grid of `geometry`.

    frame_of_reference: (0020,0052) Frame of Reference UID of the scan; when given, a region in another one is
        refused, because its millimetres mean other places.
    Returns (3006,0026) ROI Name -> bool (K, J, I), in the order of the structure set; a name used again gets
    " (2)". A region with no closed contour on the grid is all False.
    Raises InputError when the file is not an RTSTRUCT, is damaged, has no regions or no contours, when the
    contours of a region lie in no family of slices of the grid, or when no contour at all meets the grid.
    """
    dataset = open_dicom(path, RTSTRUCT_CLASSES, "an RTSTRUCT")
    try:
        with quiet():
            regions = _contours(path, dataset, frame_of_reference)
    except InputError:
        raise
    except Exception as error:  # pydicom parses nested elements late and raises what it likes on damaged ones
        reason = str(error) if isinstance(error, AttributeError) else type(error).__name__
        raise InputError(
            f"{path}: not a readable RTSTRUCT ({reason}). It may be cut off or lack required attributes; "
            "export it again."
        ) from error
    if not any(contours for _, contours in regions):
        raise InputError(f"{path}: no region has any (3006,0050) Contour Data: nothing was drawn in this RTSTRUCT.")

    names = unique_names(name for name, _ in regions)
    masks, met, closed = {}, False, False
    for name, (_, contours) in zip(names, regions, strict=True):
        # a polygon takes three points; the types that enclose nothing come as None
        polygons = [points for points in contours if points is not None and len(points) >= 3]
        mask = np.zeros(geometry.shape, dtype=bool)
        if polygons:
            closed = True
            met |= _draw([geometry.to_voxel(points) for points in polygons], mask, f"{path}: ROI {name!r}")
        masks[name] = mask
    if closed and not met:
        raise InputError(
            f"{path}: no contour ((3006,0050) Contour Data) meets the scan's grid: the RTSTRUCT was drawn on "
            "another scan, or on another part of it."
        )
    return masks


def fill(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside closed polygons combined by the even-odd rule.

    loops: each (N, 2), N >= 3, as (column, row), pixel centres at integers; may reach beyond the picture.
    shape: (rows, columns). Returns bool of that shape. Centres on an outline: see the module.
    """
    rows, columns = shape
    # Coordinates went through decimal strings and an affine; without snapping, an outline drawn through pixel
    # centres would fall to either side at random.
    snapped = [np.round(loop / _SNAP) * _SNAP for loop in loops]
    begin = np.concatenate(snapped)
    end = np.concatenate([np.roll(loop, -1, axis=0) for loop in snapped])
    swap = begin[:, 1] > end[:, 1]
    begin[swap], end[swap] = end[swap], begin[swap]
    # an edge crosses the centre lines of rows first .. last - 1
    first = np.clip(np.ceil(begin[:, 1] - _SNAP / 2), 0, rows).astype(int)
    last = np.clip(np.ceil(end[:, 1] - _SNAP / 2), 0, rows).astype(int)
    count = last - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    rise = (end - begin)[edge]
    x = begin[edge, 0] + (row - begin[edge, 1]) * rise[:, 0] / rise[:, 1]
    column = np.clip(np.ceil(x - _SNAP / 2), 0, columns).astype(int)
    # every crossing turns all pixels to its right over
    crossings = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1))
    inside = np.cumsum(crossings.reshape(rows, columns + 1)[:, :columns], axis=1) & 1
    return inside.astype(bool)


def _contours(
    path: Path, dataset: Dataset, frame_of_reference: str | None
) -> list[tuple[str, list[np.ndarray | None]]]:
    """Name and contours of every region: (N, 3) LPS mm, or None for a contour that encloses nothing."""
    rois = dataset.get("StructureSetROISequence")
    if not rois:
        raise InputError(
            f"{path}: (3006,0020) Structure Set ROI Sequence is missing or empty: the RTSTRUCT has no regions."
        )
    drawn: dict[int, list[Dataset]] = {}
    for item in dataset.get("ROIContourSequence") or []:
        drawn.setdefault(int(item.ReferencedROINumber), []).extend(item.get("ContourSequence") or [])
    regions = []
    for roi in rois:
        name = str(roi.get("ROIName") or "")
        where = f": ROI {name!r}"
        check_frame_of_reference(path, roi.get("ReferencedFrameOfReferenceUID"), frame_of_reference, where)
        contours: list[np.ndarray | None] = []
        for contour in drawn.get(int(roi.ROINumber), []):
            try:
                numbers = np.array(contour.get("ContourData") or [], dtype=np.float64).reshape(-1)
            except (TypeError, ValueError):
                numbers = np.array([np.nan])
            if len(numbers) % 3 or not np.isfinite(numbers).all():
                raise InputError(
                    f"{path}{where}: a (3006,0050) Contour Data is not a list of x, y, z triplets. The file is "
                    "damaged; export it again."
                )
            if len(numbers):
                closed = str(contour.get("ContourGeometricType") or "CLOSED_PLANAR") in _FILLED
                contours.append(numbers.reshape(-1, 3) if closed else None)
        regions.append((name, contours))
    return regions


def _draw(polygons: list[np.ndarray], mask: np.ndarray, who: str) -> bool:
    """Fill polygons (N, 3) in voxels (i, j, k) into a mask (K, J, I); whether any of them met the grid."""
    strays = np.max([np.ptp(polygon, axis=0) for polygon in polygons], axis=0)
    axis = int(np.argmin(strays))
    if strays[axis] > _FLAT:
        raise InputError(
            f"{who}: its contours ((3006,0050) Contour Data) lie in no family of slices of the scan: along i, j, k "
            f"they stray {', '.join(f'{s:.1f}' for s in strays)} voxels from a flat plane. They were drawn on a scan "
            "of another orientation; read them on that one."
        )
    column, row = (n for n in range(3) if n != axis)
    slices = np.moveaxis(mask, 2 - axis, 0)
    by_slice: dict[int, list[tuple[float, np.ndarray]]] = {}
    for polygon in polygons:
        height = float(polygon[:, axis].mean())
        # midway between two slices belongs to the lower one, whatever the rounding errors
        at = int(np.floor(height + 0.5 - _SNAP))
        if 0 <= at < len(slices):
            by_slice.setdefault(at, []).append((height, polygon[:, [column, row]]))

    met = False
    size = np.array([mask.shape[2 - column], mask.shape[2 - row]])
    for at, loops in by_slice.items():
        nearest = min((height for height, _ in loops), key=lambda height: (round(abs(height - at), 3), height))
        chosen = [loop for height, loop in loops if abs(height - nearest) <= _SAME_PLANE]
        met |= any(bool((loop.max(axis=0) > -0.5).all() and (loop.min(axis=0) < size - 0.5).all()) for loop in chosen)
        slices[at] = fill(chosen, (slices.shape[1], slices.shape[2]))
    return met
