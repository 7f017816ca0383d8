"""RT Structure Set (RTSTRUCT) contours -> one mask per region on a given grid.

A contour is a polygon in LPS mm in the plane of a slice. Its millimetres say which: the slice whose plane is nearest,
less than half a slice away. The image that a contour names ((3006,0016) Contour Image Sequence) decides between two
slices that are equally near. It is not asked otherwise: often it is of another export of the same scan, and there are
writers that name the first image throughout, or count slices from the other end. A contour that names one image of the
scan and lies on another is taken where it lies, and that is said.

Contours outside the grid are skipped, and nothing is interpolated between contours. When contours lie closer together
than slices, the plane nearest to a slice counts for it. Points and open lines enclose nothing. What the contours of one
region and plane mean together: see `contours`.

Source: DICOM PS3.3 A.19 (RT Structure Set IOD), C.8.8.5 and C.8.8.6 (Structure Set and ROI Contour modules).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import RawDataElement

from medsam.errors import InputError, counted
from medsam.geometry import AXES, VolumeGeometry
from medsam.io.contours import enclosed
from medsam.io.dicom.read import check_frame_of_reference, open_dicom, quiet
from medsam.io.dicom.tags import number, sequence_items, text, whole_number
from medsam.io.structure_names import structure_of_each, united
from medsam.masks import PackedMasks

RTSTRUCT_CLASSES = {"1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set Storage"}

# (3006,0042) Contour Geometric Type; points and open lines enclose nothing
_EXCLUSIVE = "CLOSEDPLANAR_XOR"
_FILLED = {"CLOSED_PLANAR", _EXCLUSIVE}
# what became of contours that are not simply filled, as one and as several of them
_NOTES = {
    "repeated": (
        "contour repeats another one of its plane and counts once",
        "contours repeat another one of their plane and count once",
    ),
    "overlapping": (
        "contour partly overlaps another one of its plane and is united with it",
        "contours partly overlap another one of their plane and are united with it",
    ),
    "outside": (
        "contour lies on a plane outside the scan and is left out",
        "contours lie on planes outside the scan and are left out",
    ),
    "between": (
        "contour lies between slices and is left out; another plane is nearer to the slice",
        "contours lie between slices and are left out; another plane is nearer to the slice",
    ),
    "elsewhere": (
        "contour names another image of the scan than the one it lies on, where it is taken to be",
        "contours name other images of the scan than those they lie on, where they are taken to be",
    ),
    "open": (
        "contour is a point or an open line, which encloses nothing",
        "contours are points or open lines, which enclose nothing",
    ),
}
# farther than this from the origin lies no patient
_FAR_MM = 1e6

# how far from midway between two slices, in slices, still counts as midway; and where the contour names one of the two
_MIDWAY = 1e-3
_MIDWAY_NAMED = 0.05
# Loops this near to each other, in slices, are drawn on one plane.
_SAME_PLANE = 0.05
# A contour may stray this far, in slices, from end to end and still lie in a slice.
_FLAT = 0.5


def read_rtstruct(
    path: Path,
    geometry: VolumeGeometry,
    *,
    frame_of_reference: str | None = None,
    images: Sequence[tuple[str, int | None]] = (),
) -> PackedMasks:
    """Masks of all structures of an RTSTRUCT, on the grid of `geometry`.

    frame_of_reference: (0020,0052) Frame of Reference UID of the scan; when given, a region in another one is
        refused, because its millimetres mean other places.
    images: `Volume.images` of the scan, by which contours name slices.
    Returns (3006,0026) ROI Name -> bool (K, J, I), in the order of the structure set; regions of one name are one
    structure (see `structure_names`). A region with no closed contour on the grid is all False.
    Raises InputError when the file is not an RTSTRUCT, is damaged, has no regions or no contours, when the
    contours of a region lie in no family of slices of the grid, or when no contour at all meets the grid.
    """
    dataset = open_dicom(path, RTSTRUCT_CLASSES, "an RTSTRUCT")
    drawn, closed, met = False, False, False
    masks = PackedMasks(geometry.shape)
    # one without a UID, or that shares it with another, is named by nobody
    seen = Counter(images)
    slices = {image: k for k, image in enumerate(images) if image[0] and seen[image] == 1}
    try:
        with quiet():
            regions = regions_of(dataset, str(path))
            notes = united((name for _, name in regions), "regions")
            contours = _contours_by_region(path, dataset)
            for (at, name), roi in zip(regions, dataset.StructureSetROISequence, strict=True):
                where = f": ROI {name!r}"
                check_frame_of_reference(path, text(roi, "ReferencedFrameOfReferenceUID"), frame_of_reference, where)
                region = _Region(f"{path}{where}", name, slices)
                for contour in contours.get(at, []):
                    drawn |= region.take(contour)
                closed |= bool(region.polygons)
                mask, first = region.draw(geometry)
                met |= region.met
                masks.add(name, mask, [*notes.pop(name, ()), *region.notes()], start=(first, 0, 0))
    except InputError:
        raise
    except Exception as error:  # pydicom parses nested elements late and raises what it likes on damaged ones
        reason = str(error) if isinstance(error, AttributeError) else type(error).__name__
        raise InputError(
            f"{path}: not a readable RTSTRUCT ({reason}). It may be cut off or lack required attributes; "
            "export it again."
        ) from error
    if not drawn:
        raise InputError(f"{path}: no region has any (3006,0050) Contour Data: nothing was drawn in this RTSTRUCT.")
    if closed and not met:
        raise InputError(
            f"{path}: no contour ((3006,0050) Contour Data) meets the scan's grid: the RTSTRUCT was drawn on "
            "another scan, or on another part of it."
        )
    return masks


def regions_of(dataset: Dataset, name: str) -> list[tuple[int, str]]:
    """Number and structure of every region; `name` is the file's, for messages.

    Raises InputError when there are none, one has no number, or two of different names share one.
    """
    items = sequence_items(dataset, "StructureSetROISequence", name)
    if not items:
        raise InputError(
            f"{name}: (3006,0020) Structure Set ROI Sequence is missing or empty: the RTSTRUCT has no regions."
        )
    structures = structure_of_each(text(item, "ROIName") or "" for item in items)
    regions: list[tuple[int, str]] = []
    by_number: dict[int, str] = {}
    for item, structure in zip(items, structures, strict=True):
        at = number(item, "ROINumber", name)
        if at is None:
            raise InputError(f"{name}: a region has no (3006,0022) ROI Number. Export the RTSTRUCT again.")
        other = by_number.setdefault(int(at), structure)
        if other != structure:
            raise InputError(
                f"{name}: {other!r} and {structure!r} have the same (3006,0022) ROI Number {at:g}, so it is not known "
                "whose contours are whose. Export the RTSTRUCT again."
            )
        regions.append((int(at), structure))
    return regions


def _contours_by_region(path: Path, dataset: Dataset) -> dict[int, list[Dataset]]:
    contours: dict[int, list[Dataset]] = {}
    for item in sequence_items(dataset, "ROIContourSequence", str(path)):
        at = number(item, "ReferencedROINumber", str(path))
        if at is None:
            raise InputError(f"{path}: contours have no (3006,0084) Referenced ROI Number. Export the RTSTRUCT again.")
        contours.setdefault(int(at), []).extend(sequence_items(item, "ContourSequence", str(path)))
    return contours


class _Region:
    """The contours of one region, and what became of them.

    polygons: (N, 3) LPS mm. named: for each the slices k that it names. who: for messages. slices: image -> k. met:
    whether any of them met the grid. sparse: what to say when they leave slices out.
    """

    def __init__(self, who: str, name: str, slices: Mapping[tuple[str, int | None], int]) -> None:
        self.who, self.name, self.slices = who, name, slices
        self.polygons: list[np.ndarray] = []
        self.named: list[list[int]] = []
        self.exclusive = False
        self.met = False
        self.sparse = ""
        self.counts: Counter[str] = Counter()

    def take(self, contour: Dataset) -> bool:
        """Keep a contour that encloses something; whether it has any points."""
        points = contour_points(contour, self.who)
        if not len(points):
            return False
        kind = text(contour, "ContourGeometricType") or "CLOSED_PLANAR"
        # a polygon takes three points
        if kind in _FILLED and len(points) >= 3:
            self.polygons.append(points)
            self.named.append(self._named(contour))
            self.exclusive |= kind == _EXCLUSIVE
        else:
            self.counts["open"] += 1
        return True

    def draw(self, geometry: VolumeGeometry) -> tuple[np.ndarray | None, int]:
        """bool (n, J, I) of the slices k it may touch, and the first of them; None without polygons."""
        if not self.polygons:
            return None, 0
        polygons = [geometry.to_voxel(points) for points in self.polygons]
        axis = self._axis(polygons)
        heights = np.concatenate([polygon[:, 2] for polygon in polygons])
        first, last = (int(v) for v in np.clip([heights.min() - 1, heights.max() + 2], 0, geometry.shape[0]))
        mask = np.zeros((last - first, *geometry.shape[1:]), dtype=bool)
        for polygon in polygons:
            polygon[:, 2] -= first
        named = [[k - first for k in ks] if axis == 2 else [] for ks in self.named]
        column, row = (n for n in range(3) if n != axis)
        slices = np.moveaxis(mask, 2 - axis, 0)
        size = np.array([mask.shape[2 - column], mask.shape[2 - row]])
        by_slice = dict(self._by_slice(polygons, named, axis, len(slices)))
        self._say_sparse(sorted(by_slice), axis)
        for at, loops in by_slice.items():
            flat = [loop[:, [column, row]] for loop in loops]
            self.met |= any(
                bool((loop.max(axis=0) > -0.5).all() and (loop.min(axis=0) < size - 0.5).all()) for loop in flat
            )
            try:
                found = enclosed(flat, (slices.shape[1], slices.shape[2]), exclusive=self.exclusive)
            except InputError as error:
                raise InputError(f"{self.who}: {error} The file is damaged; export it again.") from error
            slices[at] = found.pixels
            self.counts["repeated"] += found.repeated
            self.counts["overlapping"] += found.overlapping
        return mask, first

    def _axis(self, polygons: list[np.ndarray]) -> int:
        """The axis (0, 1, 2 for i, j, k) across the planes of the polygons, (N, 3) in voxels."""
        strays = np.max([np.ptp(polygon, axis=0) for polygon in polygons], axis=0)
        axis = int(np.argmin(strays))
        if strays[axis] > _FLAT:
            raise InputError(
                f"{self.who}: its contours ((3006,0050) Contour Data) lie in no family of slices of the scan: along "
                f"i, j, k they stray {', '.join(f'{s:.1f}' for s in strays)} voxels from a flat plane. They were "
                "drawn on a scan of another orientation; read them on that one."
            )
        return axis

    def _named(self, contour: Dataset) -> list[int]:
        """The slices that a contour says it was drawn on; none where it names images of another scan."""
        if not self.slices:
            return []
        images = [
            (text(image, "ReferencedSOPInstanceUID") or "", whole_number(image, "ReferencedFrameNumber"))
            for image in sequence_items(contour, "ContourImageSequence", self.who)
        ]
        return [self.slices[image] for image in images if image in self.slices]

    def _slice_of(self, height: float, named: list[int]) -> int:
        """The slice of a contour at that height. named: those it says it was drawn on."""
        # midway between two slices belongs to the lower one, whatever the rounding errors
        nearest = int(np.floor(height + 0.5 - _MIDWAY))
        if not named or nearest in named:
            return nearest
        stated = min(named, key=lambda k: abs(k - height))
        if abs(stated - height) <= 0.5 + _MIDWAY_NAMED:
            return stated
        self.counts["elsewhere"] += 1
        return nearest

    def _by_slice(
        self, polygons: list[np.ndarray], named: list[list[int]], axis: int, count: int
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The polygons that are drawn on each slice: those of the plane nearest to it."""
        by_slice: dict[int, list[tuple[float, np.ndarray]]] = {}
        for polygon, ks in zip(polygons, named, strict=True):
            height = float(polygon[:, axis].mean())
            at = self._slice_of(height, ks)
            if 0 <= at < count:
                by_slice.setdefault(at, []).append((height, polygon))
            else:
                self.counts["outside"] += 1
        for at, loops in by_slice.items():
            nearest = min((height for height, _ in loops), key=lambda height: (round(abs(height - at), 3), height))
            chosen = [loop for height, loop in loops if abs(height - nearest) <= _SAME_PLANE]
            self.counts["between"] += len(loops) - len(chosen)
            yield at, chosen

    def _say_sparse(self, drawn: list[int], axis: int) -> None:
        """Note when most slices between the contours have none: drawn on every other one, or on another series."""
        steps = np.diff(drawn)
        if len(steps) > 1 and (step := int(np.median(steps))) > 1:
            self.sparse = (
                f"ROI {self.name!r}: its contours lie {step} slices apart"
                f"{'' if axis == 2 else f', across axis {AXES[axis]}'}; those between are left empty."
            )

    def notes(self) -> list[str]:
        counts = [
            f"ROI {self.name!r}: {counted(self.counts[key], *words)}."
            for key, words in _NOTES.items()
            if self.counts[key]
        ]
        return [*counts, self.sparse] if self.sparse else counts


def contour_points(contour: Dataset, who: str) -> np.ndarray:
    """(3006,0050) Contour Data as (N, 3) LPS mm."""
    try:
        element = contour.get_item("ContourData")
        value = None if element is None else element.value
        if isinstance(element, RawDataElement) and element.VR in ("DS", "UN", None) and isinstance(value, bytes):
            # a text of numbers, parsed here: pydicom makes an object of each
            parts = value.strip(b" \0")
            points = np.array([float(part) for part in parts.split(b"\\")] if parts else [], dtype=np.float64)
        else:
            points = np.array(contour.get("ContourData") or [], dtype=np.float64).reshape(-1)
    except Exception:  # whatever is there, it is no list of numbers
        points = np.array([np.nan])
    # false for NaN, too
    if len(points) % 3 or not (np.abs(points) < _FAR_MM).all():
        raise InputError(
            f"{who}: a (3006,0050) Contour Data is not a list of x, y, z triplets within a kilometre. The file is "
            "damaged; export it again."
        )
    return points.reshape(-1, 3)
