import math
import time

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import pdist

from medsam.geometry import VolumeGeometry
from medsam.masks import CompactMask
from medsam.metrics.structure import diameter, measures
from medsam.volume import Volume


def by_slice(mask: np.ndarray, scan: Volume, axis="k") -> dict[int, CompactMask]:
    plane = scan.geometry.plane(axis)
    return {index: CompactMask.of(plane.take(mask, index)) for index in range(plane.count)}


def scan_of(array: np.ndarray, spacing=(2.0, 0.5, 1.0)) -> Volume:
    return Volume.from_array(array, spacing_mm=spacing)


def drawn(text: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in text.split()])


def test_a_block_has_known_measures():
    array = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)
    mask = np.zeros(array.shape, bool)
    mask[1:3, 2:5, 1:5] = True
    scan = scan_of(array)
    found = measures(scan, scan.geometry.plane("k"), by_slice(mask, scan))
    inside = array[mask]
    assert (found.voxels, found.volume_ml) == (24, pytest.approx(24 * 2 * 0.5 / 1000))
    # three rows of 0.5 mm and four columns of 1 mm, from outer edge to outer edge
    assert found.diameter.mm == pytest.approx(math.hypot(1.5, 4))
    assert (found.diameter.slice, sorted(found.diameter.ends)) == (1, [(1.0, 2.0), (5.0, 5.0)])
    values = found.values
    assert (values.minimum, values.maximum) == (inside.min(), inside.max())
    assert (values.mean, values.std) == (pytest.approx(inside.mean()), pytest.approx(inside.std()))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("#", math.hypot(0.5, 1)),
        ("####", math.hypot(0.5, 4)),
        # of two pieces the longer one counts, and not the way between them
        ("##..#", math.hypot(0.5, 2)),
        # one piece, held together by a corner
        ("#. .#", math.hypot(1, 2)),
        # bent: the ends may lie across what is outside
        ("#...# #...# #####", math.hypot(1.5, 5)),
    ],
)
def test_the_diameter_is_from_outer_edge_to_outer_edge_of_a_piece(mask, expected):
    flat = drawn(mask)
    plane = scan_of(np.zeros((3, *flat.shape))).geometry.plane("k")
    found = diameter(plane, {2: CompactMask.of(flat)})
    assert (found.mm, found.slice) == (pytest.approx(expected), 2)


def test_it_is_the_longest_of_all_corners_of_pixels_on_all_slices():
    rng = np.random.default_rng(3)
    for _ in range(20):
        solid = rng.random((5, 12, 15)) > rng.uniform(0.3, 0.9)
        scan = scan_of(solid.astype(np.uint8))
        plane = scan.geometry.plane("k")
        longest = 0.0
        for flat in solid:
            pieces, count = ndimage.label(flat, np.ones((3, 3)))
            for number in range(1, count + 1):
                rows, columns = np.nonzero(pieces == number)
                corners = np.concatenate([np.stack([rows + a, columns + b], 1) for a in (0, 1) for b in (0, 1)])
                longest = max(longest, pdist(corners * plane.spacing_mm).max())
        found = diameter(plane, by_slice(solid, scan))
        assert found.mm == pytest.approx(longest)
        ends = np.array(found.ends)[:, ::-1] * plane.spacing_mm
        assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(longest)


def test_an_empty_object_a_picture_and_colour():
    scan = scan_of(np.zeros((3, 4, 5)))
    plane = scan.geometry.plane("k")
    empty = measures(scan, plane, {1: CompactMask.empty((4, 5))})
    assert (empty.voxels, empty.volume_ml, empty.diameter, empty.values) == (0, 0.0, None, None)
    picture = Volume.from_array(np.full((1, 4, 5, 3), 7, np.uint8))
    square = CompactMask.of(drawn("..... .##.. .##.. ....."))
    found = measures(picture, picture.geometry.plane(), {0: square})
    assert (found.voxels, found.volume_ml, found.diameter.mm, found.diameter.slice) == (4, None, None, 0)
    assert found.values is None
    holed = Volume(np.array([[[1.0, np.nan], [3.0, np.inf]]], np.float32), VolumeGeometry.uncalibrated((1, 2, 2)))
    values = measures(holed, holed.geometry.plane("k"), {0: CompactMask.of(np.ones((2, 2), bool))}).values
    assert (values.mean, values.std, values.minimum, values.maximum) == (2.0, 1.0, 1.0, 3.0)


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_slices_are_those_of_the_plane(axis):
    array = np.zeros((6, 7, 8), np.int16)
    mask = np.zeros(array.shape, bool)
    mask[2, 3, 4] = True
    scan = scan_of(array)
    found = measures(scan, scan.geometry.plane(axis), by_slice(mask, scan, axis))
    at = {"k": (2, (4, 3)), "j": (3, (4, 2)), "i": (4, (3, 2))}[axis]
    assert (found.diameter.slice, min(found.diameter.ends)) == at


def test_an_organ_of_a_large_scan_takes_no_time():
    grid = np.ogrid[:200, :512, :512]
    ball = sum(
        ((axis - centre) / radius) ** 2
        for axis, centre, radius in zip(grid, (100, 256, 200), (60, 90, 110), strict=True)
    )
    solid = ball < 1
    scan = scan_of(np.zeros(solid.shape, np.int16))
    masks, plane = by_slice(solid, scan), scan.geometry.plane("k")
    begun = time.process_time()
    found = measures(scan, plane, masks)
    assert time.process_time() - begun < 1.0
    assert found.voxels == np.count_nonzero(solid)
