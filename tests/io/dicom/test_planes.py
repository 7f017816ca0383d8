"""Whether a label was drawn on the slices of a scan."""

from __future__ import annotations

import numpy as np
import pytest
from hospital import scan, segments, structures
from hypothesis import given
from hypothesis import strategies as st

from medsam.geometry import VolumeGeometry
from medsam.io.dicom.planes import drawn_planes, lies_on, series_geometry

GRID = VolumeGeometry.from_itk((5, 20, 30), (-10.0, 5.0, 100.0), (0.8, 0.9, 2.5), tuple(np.eye(3).ravel()))


def contour(height: float, axis: int = 2) -> np.ndarray:
    """A square of 4 voxels at a height in voxels along i, j or k, as LPS mm."""
    flat = [(3, 3), (7, 3), (7, 7), (3, 7)]
    return GRID.to_mm(np.insert(np.array(flat, dtype=float), axis, height, axis=1))


def corners(start, columns: int, rows: int, size: float = 1.0) -> np.ndarray:
    """The points that `drawn_planes` gives of a frame, in voxels of GRID."""
    steps = np.array([(0, 0, 0), (columns - 1, 0, 0), (0, rows - 1, 0), (columns - 1, rows - 1, 0), (1, 1, 0)]) * size
    return GRID.to_mm(np.asarray(start, dtype=float) + steps)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("heights", "fits"), [((0, 1, 4), True), ((1, 2.5), False), ((2.05,), True), ((-3,), False)])
def test_contours_lie_on_slices_along_any_axis(axis, heights, fits):
    assert lies_on([contour(height, axis) for height in heights], GRID, pixels=False) == fits


def test_contours_out_of_reach_do_not_matter():
    assert lies_on([contour(1), contour(17.4)], GRID, pixels=False)


def test_a_sliver_is_flat_along_the_axis_of_the_others():
    sliver = GRID.to_mm(np.array([(4.5, 3, 2), (4.5, 3.2, 2), (4.5, 3.4, 2)]))
    assert lies_on([contour(2), sliver], GRID, pixels=False)


@pytest.mark.parametrize(
    ("frame", "fits"),
    [
        (corners((0, 0, 2), 30, 20), True),
        (corners((4, 3, 2), 6, 5), True),  # a part of it
        (corners((-4, -3, 0), 60, 50), True),  # more of it
        (corners((0.5, 0, 2), 30, 20), False),
        (corners((0, 0, 2), 15, 10, size=2.0), False),
        (corners((0, 0, 2.5), 30, 20), False),
        (corners((0, 0, 40), 30, 20), False),  # another part of the body
    ],
)
def test_frames_lie_on_pixels_too(frame, fits):
    assert lies_on([frame], GRID, pixels=True) == fits


def test_nothing_drawn_lies_nowhere():
    assert not lies_on([], GRID, pixels=False)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.floats(0.15, 0.45))
def test_a_shift_of_less_than_half_a_slice_is_noticed(heights, shift):
    assert lies_on([contour(height) for height in heights], GRID, pixels=False)
    assert not lies_on([contour(height + shift) for height in heights], GRID, pixels=False)


def test_files_are_placed_by_their_own_millimetres(tmp_path):
    folder = scan(tmp_path / "ct", "1.2.3")
    geometry = series_geometry(sorted(folder.iterdir()))
    for draw, pixels in ((structures, False), (segments, True)):
        on, off = draw(tmp_path / "on.dcm", "1.9.1", z=(2.0, 4.0)), draw(tmp_path / "off.dcm", "1.9.2", z=(2.0, 5.0))
        assert lies_on(drawn_planes(on), geometry, pixels=pixels)
        assert not lies_on(drawn_planes(off), geometry, pixels=pixels)
    assert drawn_planes(folder / "0.dcm") in (None, [])
    assert series_geometry([folder / "0.dcm", tmp_path / "none.dcm"]) is None
