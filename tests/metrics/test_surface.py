from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medsam.errors import InputError
from medsam.metrics import surface
from medsam.metrics.surface import surface_distances


def block(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def area(mask, spacing):
    return surface_distances(mask, mask, spacing).reference_area.sum()


# -- how large a surface is ---------------------------------------------------------------------------------------


def test_a_lone_voxel_is_an_octahedron():
    # 8 corners, each cut off by a triangle: eight times half of |(bc, ac, ab)| / 4
    a, b, c = 3.0, 1.0, 0.5
    expected = 8 * math.hypot(b * c, a * c, a * b) / 8
    assert area(block((3, 3, 3), (1, 2), (1, 2), (1, 2)), (a, b, c)) == pytest.approx(expected, rel=1e-12)


def test_a_block_is_its_faces_with_chamfered_edges_and_corners():
    # 4 x 5 x 6 voxels: (n - 1) x (m - 1) corners in a face, (n - 1) in an edge, 8 corners
    a, b, c = 2.0, 1.0, 0.5
    faces = 2 * (4 * 5 * b * c + 3 * 5 * a * c + 3 * 4 * a * b)
    # an edge along one axis: the pitch times half the diagonal across
    edges = 4 * (3 * a * math.hypot(b, c) + 4 * b * math.hypot(a, c) + 5 * c * math.hypot(a, b)) / 2
    corners = math.hypot(b * c, a * c, a * b)
    expected = faces + edges + corners
    assert area(block((6, 7, 8), (1, 5), (1, 6), (1, 7)), (a, b, c)) == pytest.approx(expected, rel=1e-12)


def test_a_square_is_its_sides_with_cut_corners():
    # 3 x 4 pixels of 2 x 0.5 mm
    expected = 2 * 2 * 2.0 + 2 * 3 * 0.5 + 4 * math.hypot(2, 0.5) / 2
    assert area(block((5, 6), (1, 4), (1, 5)), (2.0, 0.5)) == pytest.approx(expected, rel=1e-12)


def test_the_border_of_the_scan_is_a_surface():
    inside, touching = block((6, 6, 6), (2, 4), (2, 4), (2, 4)), block((2, 2, 2), (0, 2), (0, 2), (0, 2))
    assert area(touching, (1, 2, 3)) == area(inside, (1, 2, 3)) > 0


def test_every_neighbourhood_but_empty_and_full_carries_surface():
    table = surface._area_of_code((1.0, 2.0, 3.0))
    assert table[0] == table[255] == 0
    assert (table[1:255] > 0).all()
    np.testing.assert_array_equal(table, table[::-1])


# -- how far it is ------------------------------------------------------------------------------------------------


def test_a_block_one_thick_slice_on():
    # 4 x 4 x 4 voxels of 3 x 1 x 1 mm, shifted by one slice of 3 mm along the first axis.
    # Corners at K = 1 of the reference are 3 mm away; those of the rest lie on the other surface's walls, except the
    # inner ones of its last face, K = 5: on the shifted block's inside, 1 or 2 mm from its walls, 3 mm from its end.
    reference = block((9, 8, 8), (2, 6), (2, 6), (2, 6))
    prediction = block((9, 8, 8), (3, 7), (2, 6), (2, 6))
    distances = surface_distances(reference, prediction, (3, 1, 1))
    assert distances.hd95() == 3
    assert distances.hd(100) == 3

    # the end face: 3 x 3 plain corners of 1 mm², 4 x 3 edge corners, 4 corners of the block
    edge, corner = math.hypot(1, 3) / 2, math.hypot(1, 3, 3) / 8
    first = 9 * 1 + 12 * edge + 4 * corner
    # 3 rows of 16 wall corners; 4 of the 16 are edges along K
    walls = 3 * (12 * 3 * 1 + 4 * 3 * math.hypot(1, 1) / 2)
    total = 2 * first + walls
    # of the far end only the nine inner corners are off: eight by 1 mm, the middle one by 2 mm
    assert distances.reference_area.sum() == pytest.approx(total, rel=1e-12)
    assert distances.assd() == pytest.approx((3 * first + 8 * 1 + 2) / total, rel=1e-12)
    assert distances.nsd(2.99) == pytest.approx(1 - first / total, rel=1e-12)
    assert distances.nsd(1.5) == pytest.approx(1 - (first + 1) / total, rel=1e-12)
    assert distances.nsd(0) == pytest.approx(1 - (first + 9) / total, rel=1e-12)
    assert distances.nsd(3) == 1


def test_two_voxels_apart():
    reference = block((1, 1, 9), (0, 1), (0, 1), (0, 1))
    prediction = block((1, 1, 9), (0, 1), (0, 1), (6, 7))
    # the near corners are 5 voxels from the other's near corners, the far ones 6; half of the area each
    distances = surface_distances(reference, prediction, (1, 1, 0.5))
    assert distances.hd95() == 3.0
    assert distances.hd(50) == 2.5
    assert distances.assd() == pytest.approx(2.75, rel=1e-12)
    assert distances.nsd(2.5) == 0.5
    assert distances.nsd(2.4) == 0


def test_a_contour_in_a_slice():
    # 3 x 3 pixels of 2 x 1 mm, one row lower: 4 corners of the first row at 2 mm, 2 inner ones of the last at 1 mm
    distances = surface_distances(block((7, 5), (1, 4), (1, 4)), block((7, 5), (2, 5), (1, 4)), (2.0, 1.0))
    corner = math.hypot(2, 1) / 2
    first = 2 * 1 + 2 * corner
    total = 2 * first + 4 * 2
    assert distances.reference_area.sum() == pytest.approx(total, rel=1e-12)
    assert distances.assd() == pytest.approx((2 * first + 2 * 1) / total, rel=1e-12)
    assert distances.nsd(1) == pytest.approx(1 - first / total, rel=1e-12)
    assert distances.hd95() == 2


@pytest.mark.parametrize("pitch", [0.1, 0.4, 0.7, 1.1, float(np.float32(0.4)), float(np.float32(1.1))])
@pytest.mark.parametrize("steps", [3, 5, 7])
def test_exactly_the_tolerance_is_within_whatever_the_last_digit(pitch, steps):
    """3 x 1.1 is 3.3000000000000003, and a header's 0.4 is 0.4000000059604645."""
    reference = block((1, 30), (0, 1), (0, 9))
    prediction = block((1, 30), (0, 1), (0, 9 + steps))
    distances = surface_distances(reference, prediction, (50.0, pitch))
    assert distances.nsd(steps * round(pitch, 2)) == 1
    assert distances.nsd(steps * round(pitch, 2) * 0.999) < 1


def test_a_percentile_reached_exactly_is_reached():
    # 19 pieces on the other surface, one 7 mm off, all of one size: 95 % are at 0 however the sum is rounded
    for unit in (0.1, 1 / 3, 0.7, 1.0):
        distance, size = np.array([0.0] * 19 + [7.0]), np.full(20, unit)
        assert surface._percentile(distance, size, 95) == 0
        assert surface._percentile(distance, size, 96) == 7


def test_the_larger_direction_counts():
    # a far speck in the prediction: the reference never notices
    reference = block((40, 40), (2, 12), (2, 12))
    prediction = reference.copy()
    prediction[30:34, 2:6] = True
    distances = surface_distances(reference, prediction, (1, 1))
    assert not distances.reference_mm.any()
    assert distances.hd95() == surface_distances(prediction, reference, (1, 1)).hd95() > 18


# -- nothing there ------------------------------------------------------------------------------------------------


def test_nothing_to_find_is_no_score():
    nothing = np.zeros((4, 4, 4), bool)
    distances = surface_distances(nothing, nothing, (1, 1, 1))
    assert all(math.isnan(value) for value in (distances.nsd(), distances.hd95(), distances.assd()))


@pytest.mark.parametrize("missed", [True, False])
def test_one_empty_mask_is_a_miss(missed):
    nothing, cube = np.zeros((4, 4, 4), bool), block((4, 4, 4), (1, 3), (1, 3), (1, 3))
    distances = surface_distances(*((cube, nothing) if missed else (nothing, cube)), (1, 1, 1))
    assert distances.nsd(1000) == 0
    assert distances.hd95() == distances.assd() == math.inf


def test_bad_questions_are_refused():
    cube = block((4, 4, 4), (1, 3), (1, 3), (1, 3))
    distances = surface_distances(cube, cube, (1, 1, 1))
    for tolerance in (-1, math.nan, math.inf):
        with pytest.raises(InputError, match="tolerance"):
            distances.nsd(tolerance)
    for percentile in (0, 101):
        with pytest.raises(InputError, match="percentile"):
            distances.hd(percentile)
    with pytest.raises(InputError, match="same grid"):
        surface_distances(cube, cube[1:], (1, 1, 1))
    with pytest.raises(InputError, match="positive"):
        surface_distances(cube, cube, (1, 1))


# -- what must not matter -----------------------------------------------------------------------------------------

PITCH = st.sampled_from([0.3, 0.5, 0.7, 1.0, 2.5])


@st.composite
def pairs(draw):
    """Two random masks, 2D or 3D, and a spacing."""
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=3))
    masks = [draw(arrays(bool, tuple(shape))) for _ in range(2)]
    return *masks, tuple(draw(st.lists(PITCH, min_size=len(shape), max_size=len(shape))))


def answers(reference, prediction, spacing):
    found = surface_distances(reference, prediction, spacing)
    return [found.nsd(0.5), found.nsd(1.0), found.hd95(), found.hd(50), found.assd()]


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(pairs(), st.data())
def test_order_direction_and_margin_do_not_matter(pair, data):
    reference, prediction, spacing = pair
    expected = answers(reference, prediction, spacing)
    same(answers(prediction, reference, spacing), expected)

    axes = data.draw(st.permutations(range(reference.ndim)))
    flips = tuple(slice(None, None, data.draw(st.sampled_from([1, -1]))) for _ in axes)
    turned = [mask.transpose(axes)[flips] for mask in (reference, prediction)]
    same(answers(*turned, [spacing[axis] for axis in axes]), expected)

    margin = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in axes]
    same(answers(np.pad(reference, margin), np.pad(prediction, margin), spacing), expected)

    doubled = [2 * value for value in spacing]
    twice = surface_distances(reference, prediction, doubled)
    same([twice.nsd(1.0), twice.nsd(2.0), twice.hd95() / 2, twice.hd(50) / 2, twice.assd() / 2], expected)


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_tree_and_map_find_what_brute_force_finds(pair):
    """Whichever search `_nearest` chooses, the distance is the smallest over all pairs of corners."""
    reference, prediction, spacing = pair
    codes = [surface._codes(mask) for mask in (reference, prediction)]
    start, goal = ((code != 0) & (code != (1 << (1 << code.ndim)) - 1) for code in codes)
    found = surface._nearest(start, goal, spacing)
    ways = (np.argwhere(start)[:, None] - np.argwhere(goal)[None]) * spacing
    np.testing.assert_allclose(found, np.linalg.norm(ways, axis=-1).min(axis=1, initial=np.inf), atol=1e-12)


@pytest.mark.parametrize("radius", [0.15, 0.5, 0.95])
def test_near_far_and_mixed_searches_agree_with_the_distance_map(radius):
    """Large enough for the tree, for the tree of the leftovers, and for the map after the tree."""
    from scipy.ndimage import distance_transform_edt

    spacing = (2.0, 0.8, 0.9)
    grid = np.ogrid[-1:1:40j, -1:1:60j, -1:1:60j]
    outer = sum(x**2 for x in grid) <= 0.9
    inner = sum((x - shift) ** 2 for x, shift in zip(grid, (0, 0.02, 0), strict=True)) <= 0.9 * radius**2
    start, goal = ((code != 0) & (code != 255) for code in map(surface._codes, (outer, inner)))
    for a, b in ((start, goal), (goal, start)):
        expected = distance_transform_edt(~b, sampling=spacing)[a]
        np.testing.assert_allclose(surface._nearest(a, b, spacing), expected, atol=1e-9)


# -- against the public implementations ---------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", [(1.0, 2.0, 3.0), (0.7, 3.0, 0.7), (0.9, 1.4)])
def test_pieces_of_surface_are_those_of_monai(spacing):
    """Every neighbourhood there is; MONAI holds a copy of the published table, with the bits the other way round."""
    from monai.metrics.utils import get_code_to_measure_table

    ours = surface._area_of_code(spacing)
    theirs = np.asarray(get_code_to_measure_table(spacing)[0])
    bits = 2 ** len(spacing)
    other = [int(f"{code:0{bits}b}"[::-1], 2) for code in range(2**bits)]
    np.testing.assert_allclose(ours, theirs[other], rtol=1e-6)


@pytest.fixture(scope="module")
def organs(data):
    """(name, reference, prediction, spacing): real organs, and each spoilt in some way."""
    import nibabel as nib
    from scipy.ndimage import binary_dilation

    image = nib.load(data / "totalseg_abdomen_ct" / "labels" / "ct_full.nii.gz")
    labels = np.asarray(image.dataobj)
    spacing = tuple(float(value) for value in image.header.get_zooms())
    # the scan is 3 mm all round: uneven spacings are the same masks in another body
    spacings = (spacing, (0.7, 1.1, 3.0))
    cases = []
    for index, label in enumerate((1, 4, 7, 19, 52)):
        organ = labels == label
        spoilt = {
            "shifted": np.roll(organ, (1, 2), (0, 1)),
            "grown": binary_dilation(organ, iterations=2),
            "leaking": organ | (labels == 63),
        }
        cases += [(f"{label} {name}", organ, mask, spacings[index % 2]) for name, mask in spoilt.items()]
    # and in 2D, as contours
    k = int((labels == 5).sum(axis=(0, 1)).argmax())
    cases.append(("liver slice", labels[..., k] == 5, np.roll(labels[..., k] == 5, 2, 0), (0.7, 3.0)))
    return cases


def test_agrees_with_surface_distance_on_real_masks(organs):
    metrics = pytest.importorskip("surface_distance.metrics", reason="pip install surface-distance")
    for name, reference, prediction, spacing in organs:
        ours = surface_distances(reference, prediction, spacing)
        with warnings.catch_warnings():
            # it calls scipy by names that scipy has moved
            warnings.filterwarnings("ignore", message="Please", category=DeprecationWarning)
            theirs = metrics.compute_surface_distances(reference, prediction, spacing)
        for tolerance in (0.5, 1.0, 2.0, 5.0):
            expected = metrics.compute_surface_dice_at_tolerance(theirs, tolerance)
            assert ours.nsd(tolerance) == pytest.approx(expected, abs=1e-9), name
        assert ours.hd95() == pytest.approx(metrics.compute_robust_hausdorff(theirs, 95), abs=1e-9), name
        there, back = metrics.compute_average_surface_distance(theirs)
        sizes = theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()
        assert ours.assd() == pytest.approx(np.average([there, back], weights=sizes), abs=1e-9), name


def test_agrees_with_monai_on_real_masks(organs):
    import torch
    from monai.metrics.surface_dice import compute_surface_dice
    from monai.metrics.utils import get_edge_surface_distance

    for name, reference, prediction, spacing in organs:
        ours = surface_distances(reference, prediction, spacing)
        pair = [torch.from_numpy(mask) for mask in (prediction, reference)]
        batch = [mask[None, None].float() for mask in pair]
        with warnings.catch_warnings():
            # it calls itself with an argument it deprecates
            warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
            shares = [
                compute_surface_dice(*batch, [mm], include_background=True, spacing=spacing, use_subvoxels=True)
                for mm in (1.0, 2.0)
            ]
            edges, ways, areas = get_edge_surface_distance(*pair, spacing=spacing, use_subvoxels=True, symmetric=True)
        assert [ours.nsd(1.0), ours.nsd(2.0)] == pytest.approx([share.item() for share in shares], abs=1e-5), name
        weights = [size[edge].numpy() for size, edge in zip(areas, edges, strict=True)]
        expected = np.average(np.concatenate([w.numpy() for w in ways]), weights=np.concatenate(weights))
        assert ours.assd() == pytest.approx(expected, abs=1e-4), name
