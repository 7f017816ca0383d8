import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medsam.errors import InputError
from medsam.geometry import View, VolumeGeometry

ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(("LR", "PA", "SI")) for codes in itertools.product(*axes)
]


def stored_as(codes: str, shape=(4, 5, 6), spacing=(3.0, 1.0, 1.0)) -> VolumeGeometry:
    """A grid whose i, j, k grow towards `codes`; shape and spacing are (K, J, I)."""
    affine = np.zeros((4, 4))
    for column, code in enumerate(codes):
        axis = next(n for n, pair in enumerate(("LR", "PA", "SI")) if code in pair)
        affine[axis, column] = spacing[2 - column] * (1 if code in "LPS" else -1)
    affine[3, 3] = 1
    return VolumeGeometry(shape, affine)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_axcodes_name_the_direction_each_index_grows(codes):
    assert stored_as(codes).axcodes == codes


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_axial_slices_are_shown_with_the_front_up_and_the_left_on_the_right(codes):
    geometry = stored_as(codes)
    axis = "ijk"[next(n for n, code in enumerate(codes) if code in "SI")]
    plane = geometry.plane(axis)
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij")[::-1], axis=-1)
    seen = plane.view.apply(plane.take(geometry.to_mm(voxels), 0))
    assert (np.diff(seen[..., 0], axis=1) > 0).all(), "columns run to the patient's left"
    assert (np.diff(seen[..., 1], axis=0) > 0).all(), "rows run to the back"


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_coronal_and_sagittal_slices_are_shown_with_the_head_up(codes):
    geometry = stored_as(codes)
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij")[::-1], axis=-1)
    for across, right in (("PA", 0), ("LR", 1)):
        plane = geometry.plane("ijk"[next(n for n, code in enumerate(codes) if code in across)])
        seen = plane.view.apply(plane.take(geometry.to_mm(voxels), 0))
        assert (np.diff(seen[..., right], axis=1) > 0).all()
        assert (np.diff(seen[..., 2], axis=0) < 0).all(), "rows run to the feet"


def test_a_slice_has_rows_along_the_later_axis():
    array = np.arange(24).reshape(2, 3, 4)  # (K, J, I)
    geometry = VolumeGeometry((2, 3, 4), np.diag([1, 2, 3, 1.0]))
    assert geometry.plane("k").shape == (3, 4)
    assert geometry.plane("j").shape == (2, 4)
    assert geometry.plane("i").shape == (2, 3)
    assert geometry.plane("i").spacing_mm == (3.0, 2.0)
    np.testing.assert_array_equal(geometry.plane("j").take(array, 1), array[:, 1, :])
    np.testing.assert_array_equal(geometry.plane("i").take(array, 3), array[:, :, 3])


@pytest.mark.parametrize(
    ("spacing_kji", "axis"),
    [((5, 1, 1), "k"), ((1, 1, 5), "i"), ((1, 5, 1), "j"), ((1, 1, 1), "k"), ((1, 1.0001, 1), "k"), ((1, 5, 5), "j")],
)
def test_slices_are_taken_across_the_largest_spacing_and_k_when_equal(spacing_kji, axis):
    assert VolumeGeometry((2, 2, 2), np.diag([*spacing_kji[::-1], 1.0])).acquired_axis == axis


def test_a_voxel_of_two_by_three_by_five_millimetres_is_thirty_microlitres():
    assert VolumeGeometry((1, 1, 1), np.diag([2, 3, 5, 1.0])).voxel_ml == pytest.approx(0.030)


@given(
    seed=st.integers(0, 2**31),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_millimetres_and_voxels_are_each_others_inverse(seed, spacing, origin):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * spacing
    affine[:3, 3] = origin
    geometry = VolumeGeometry((3, 4, 5), affine)
    ijk = np.random.default_rng(seed).uniform(-10, 10, (7, 3))
    np.testing.assert_allclose(geometry.to_voxel(geometry.to_mm(ijk)), ijk, atol=1e-6)
    np.testing.assert_allclose(geometry.spacing_mm, spacing[::-1], rtol=1e-9)
    assert np.array_equal(VolumeGeometry.from_ras((3, 4, 5), geometry.ras_affine).affine, geometry.affine)
    assert geometry.axcodes == "".join(nib.aff2axcodes(geometry.ras_affine))


@given(
    view=st.builds(View, st.booleans(), st.booleans(), st.booleans()),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    data=st.data(),
)
def test_a_view_moves_positions_as_it_moves_pixels(view, rows, columns, data):
    y, x = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    pixels = np.zeros((rows, columns))
    pixels[y, x] = 1
    upright = view.apply(pixels)
    assert upright.shape == view.shape((rows, columns))
    centre = view.edges(np.array([x + 0.5, y + 0.5]), (rows, columns))
    assert upright[int(centre[1]), int(centre[0])] == 1
    np.testing.assert_array_equal(view.undo(upright), pixels)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.diag([1, 0, 1, 1.0]), "zero length"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "parallel"),
        (np.diag([1, np.nan, 1, 1.0]), "not a finite"),
    ],
)
def test_an_affine_that_places_no_voxels_is_refused(affine, message):
    with pytest.raises(InputError, match=message):
        VolumeGeometry((2, 2, 2), affine)


def test_same_grid_means_the_same_place_for_every_voxel():
    grid = stored_as("LPS")
    assert grid.same_grid(stored_as("LPS"))
    assert not grid.same_grid(stored_as("RPS"))
    assert not grid.same_grid(stored_as("LPS", shape=(4, 5, 7)))
    shifted = np.array(grid.affine)
    shifted[0, 3] += 0.5
    assert not grid.same_grid(VolumeGeometry(grid.shape, shifted))


@given(
    st.booleans(), st.booleans(), st.booleans(), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False)
)
def test_boxes_stand_up_and_come_back(transpose, flip_rows, flip_columns, rows, columns, random):
    view, stored = View(transpose, flip_rows, flip_columns), (rows, columns)
    x0, y0 = random.randrange(columns), random.randrange(rows)
    box = np.array([x0, y0, random.randrange(x0, columns) + 1, random.randrange(y0, rows) + 1], dtype=float)
    mask = np.zeros(stored, bool)
    mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
    upright = view.boxes(box, stored)
    expected = np.zeros(view.shape(stored), bool)
    expected[int(upright[1]) : int(upright[3]), int(upright[0]) : int(upright[2])] = True
    np.testing.assert_array_equal(view.apply(mask), expected)
    np.testing.assert_array_equal(view.inverse.boxes(upright, view.shape(stored)), box)


@pytest.mark.parametrize(
    ("spacing", "origin"),
    [((1, 1, 1e30), (0, 0, 0)), ((1e-30, 1, 1), (0, 0, 0)), ((1, 1, 1), (0, 1e30, 0)), ((1e300, 1, 1), (0, 0, 0))],
)
def test_sizes_and_places_that_no_scan_has_are_refused(spacing, origin):
    with pytest.raises(InputError, match=r"no scan's do|zero length"):
        VolumeGeometry.from_itk((2, 3, 4), origin, spacing, tuple(np.eye(3).ravel()))
    VolumeGeometry.from_itk((2, 3, 4), (0, 0, 1e5), (4e-6, 4e-6, 5e-5), tuple(np.eye(3).ravel()))
