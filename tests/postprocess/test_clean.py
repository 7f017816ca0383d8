import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medsam.errors import InputError, PromptError
from medsam.postprocess.clean import Cleanup, KeepComponents, clean, remove_small_regions

SQUARE = (1.0, 1.0)


def drawn(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


def shown(mask: np.ndarray) -> str:
    return " ".join("".join("#" if p else "." for p in row) for row in mask)


SPECK = "##... ##... ..... ....#"


def disc_mm(pixels: float) -> float:
    """Diameter of the disc with the area of so many pixels of 1 mm²."""
    return math.sqrt(4 * pixels / math.pi)


def test_nothing_asked_changes_nothing():
    mask = drawn(SPECK)
    answer = clean(mask, SQUARE)
    assert shown(answer) == SPECK
    assert answer is not mask


@pytest.mark.parametrize(("least", "left"), [(0.9, SPECK), (1.1, "##... ##... ..... .....")])
def test_an_island_goes_by_its_area(least, left):
    assert shown(clean(drawn(SPECK), SQUARE, min_island_mm=disc_mm(least))) == left


def test_size_is_physical_not_a_number_of_pixels():
    # the speck is 1 pixel: 0.5 mm² on the fine grid, 6 mm² on the coarse one
    assert shown(clean(drawn(SPECK), (0.5, 1), min_island_mm=disc_mm(1))) != SPECK
    assert shown(clean(drawn(SPECK), (3, 2), min_island_mm=disc_mm(5))) == SPECK
    assert shown(clean(drawn(SPECK), (3, 2), min_island_mm=disc_mm(7))) != SPECK


def test_a_ball_has_a_volume():
    mask = np.zeros((4, 6, 6), bool)
    mask[0, 0, 0] = True
    mask[2:, 2:, 2:] = True
    # a voxel of 5 x 1 x 1 mm is the ball of 2.12 mm
    ball = (6 * 5 / math.pi) ** (1 / 3)
    assert clean(mask, (5, 1, 1), min_island_mm=ball * 0.99)[0, 0, 0]
    assert not clean(mask, (5, 1, 1), min_island_mm=ball * 1.01)[0, 0, 0]


def test_pieces_hang_together_by_corners():
    staircase = "#.. .#. ..#"
    assert shown(clean(drawn(staircase), SQUARE, min_island_mm=disc_mm(2))) == staircase


def test_the_largest_stays_when_all_are_small():
    assert shown(clean(drawn(SPECK), SQUARE, min_island_mm=100)) == "##... ##... ..... ....."
    assert not clean(
        np.zeros((3, 3), bool), SQUARE, min_island_mm=5, fill_mm=5, smooth_mm=5, keep=KeepComponents()
    ).any()


RING = "##### #...# #..## #####"


@pytest.mark.parametrize(("least", "filled"), [(4.9, False), (5.1, True), (math.inf, True)])
def test_a_hole_is_filled_by_its_area(least, filled):
    mask = drawn(RING)  # a hole of 5 pixels
    answer = clean(mask, SQUARE, fill_mm=disc_mm(least) if least < math.inf else least)
    assert answer.all() == filled
    if not filled:
        assert np.array_equal(answer, mask)


def test_what_opens_to_the_border_is_no_hole():
    bay = "##.## #...# #####"
    assert shown(clean(drawn(bay), SQUARE, fill_mm=math.inf)) == bay
    # nor is what the border of the array cuts off, also where the object fills it from side to side
    cut = "#.# #.# ###"
    assert shown(clean(drawn(cut), SQUARE, fill_mm=math.inf)) == cut


def test_a_diagonal_gap_closes_a_hole():
    assert shown(clean(drawn(".#. #.# .#."), SQUARE, fill_mm=math.inf)) == ".#. ### .#."


def test_a_tunnel_through_a_volume_is_no_hole_but_a_cavity_is():
    solid = np.ones((3, 3, 3), bool)
    tunnel, cavity = solid.copy(), solid.copy()
    tunnel[:, 1, 1] = False
    cavity[1, 1, 1] = False
    assert np.array_equal(clean(tunnel, (1, 1, 1), fill_mm=math.inf), tunnel)
    assert clean(cavity, (1, 1, 1), fill_mm=math.inf).all()


THREE = "##..# ##..# ..... #...."


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (KeepComponents(), "##... ##... ..... ....."),
        (KeepComponents(points=np.array([[4, 1]])), "....# ....# ..... ....."),
        (KeepComponents(points=np.array([[4, 1], [0, 3]])), "....# ....# ..... #...."),
        (KeepComponents(points=np.array([[4.4, 0.6]])), "....# ....# ..... ....."),
        (KeepComponents(points=np.array([[4, 3]])), "....# ....# ..... ....."),  # the nearest
        (KeepComponents(points=np.array([[-9, 3]])), "..... ..... ..... #...."),
        (KeepComponents(points=np.array([[0, 3]]), box=(3, 0, 5, 2)), "..... ..... ..... #...."),
        (KeepComponents(points=np.zeros((0, 2))), "##... ##... ..... ....."),
        (KeepComponents(box=(3, 0, 5, 2)), "....# ....# ..... ....."),
        (KeepComponents(box=(1, 0, 5, 2)), "##..# ##..# ..... ....."),  # two pixels of either
        (KeepComponents(box=(0, 3, 2, 4)), "..... ..... ..... #...."),
        (KeepComponents(box=(2, 2, 4, 4)), "##... ##... ..... ....."),  # none in it
    ],
)
def test_the_piece_that_was_asked_for(keep, left):
    assert shown(clean(drawn(THREE), SQUARE, keep=keep, min_island_mm=50)) == left


def test_the_nearest_piece_is_nearest_in_millimetres():
    mask = drawn("#.... ..... ..... ...#.")
    click = KeepComponents(points=np.array([[0, 3]]))
    assert shown(clean(mask, (1, 1), keep=click)) == "#.... ..... ..... ...#."  # three each
    assert shown(clean(mask, (2, 1), keep=click)) == "..... ..... ..... ...#."
    assert shown(clean(mask, (1, 2), keep=click)) == "#.... ..... ..... ....."


def test_positions_in_a_volume_are_ijk():
    mask = np.zeros((3, 4, 5), bool)
    mask[0, 1, 4] = mask[2, 3, 0] = True
    assert np.argwhere(clean(mask, (1, 1, 1), keep=KeepComponents(points=np.array([[0, 3, 2]])))).tolist() == [
        [2, 3, 0]
    ]
    assert np.argwhere(clean(mask, (1, 1, 1), keep=KeepComponents(box=(4, 1, 0, 5, 2, 1)))).tolist() == [[0, 1, 4]]


def test_smoothing_rounds_a_square_and_keeps_its_area():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    soft = clean(mask, SQUARE, smooth_mm=3)
    assert not soft[10, 10]
    assert soft[9, 20]
    assert abs(int(soft.sum()) - 400) <= 12  # to ties
    assert np.array_equal(soft, soft[::-1])
    assert np.array_equal(soft, soft[:, ::-1])


def test_smoothing_is_in_millimetres():
    mask = np.zeros((41, 41), bool)
    mask[20, 5:36] = True
    mask[19, 20] = True
    # sigma is 0.05 rows and 0.5 columns: the bump cannot spread to other rows
    assert np.array_equal(clean(mask, (20, 2), smooth_mm=1)[:19], mask[:19])


def test_smoothing_loses_no_piece():
    mask = drawn("######.... ######.... ######.... .......... .........# ..........")
    soft = clean(mask, SQUARE, smooth_mm=4)
    assert soft[3:, 8:].any()
    assert soft[:3, :6].any()


def test_a_mask_that_fills_the_array_stays():
    assert clean(np.ones((5, 6), bool), SQUARE, smooth_mm=3, fill_mm=3, min_island_mm=3).all()


@pytest.mark.parametrize(
    ("mask", "spacing", "extra", "message"),
    [
        (np.ones((2, 2)), SQUARE, {}, "A mask is bool"),
        (np.ones(3, bool), (1,), {}, "2 or 3 axes"),
        (np.ones((2, 2), bool), (1, 1, 1), {}, "2 positive numbers"),
        (np.ones((2, 2), bool), (1, 0), {}, "2 positive numbers"),
        (np.ones((2, 2), bool), SQUARE, {"fill_mm": -1}, "fill_mm"),
        (np.ones((2, 2), bool), SQUARE, {"smooth_mm": math.inf}, "smooth_mm"),
        (np.ones((2, 2), bool), SQUARE, {"min_island_mm": math.nan}, "min_island_mm"),
        (np.ones((2, 2), bool), SQUARE, {"keep": KeepComponents(points=np.array([[1, 1, 1]]))}, r"\(N, 2\)"),
        (np.ones((2, 2), bool), SQUARE, {"keep": KeepComponents(box=(1, 1, 2))}, "4 finite numbers"),
    ],
)
def test_what_does_not_fit_is_said(mask, spacing, extra, message):
    with pytest.raises(InputError, match=message):
        clean(mask, spacing, **extra)


masks = st.integers(2, 3).flatmap(
    lambda ndim: arrays.arrays(bool, arrays.array_shapes(min_dims=ndim, max_dims=ndim, max_side=7))
)
lengths = st.sampled_from([0.0, 0.8, 1.5, 2.5, 4.0, math.inf])


@given(mask=masks, island=lengths, fill=lengths, data=st.data())
def test_it_does_not_matter_how_the_array_is_stored(mask, island, fill, data):
    pitch = tuple(data.draw(st.sampled_from([0.5, 1.0, 3.0])) for _ in range(mask.ndim))
    axes = data.draw(st.permutations(range(mask.ndim)))
    flip = tuple(data.draw(st.lists(st.sampled_from(range(mask.ndim)), unique=True)))
    click = np.array([data.draw(st.integers(0, side - 1)) for side in mask.shape])
    pointed = data.draw(st.booleans())

    def turned(array):
        return np.flip(array.transpose(axes), flip)

    marker = np.zeros(mask.shape, bool)
    marker[tuple(click)] = True
    moved = np.argwhere(turned(marker))[0]
    keep, keep_moved = (KeepComponents(points=at[None, ::-1]) if pointed else None for at in (click, moved))

    straight = clean(mask, pitch, min_island_mm=island, fill_mm=fill, keep=keep)
    turned_pitch = [pitch[n] for n in axes]
    other = clean(turned(mask).copy(), turned_pitch, min_island_mm=island, fill_mm=fill, keep=keep_moved)
    assert np.array_equal(turned(straight), other)


@given(mask=masks, island=lengths, fill=lengths)
def test_cleaning_twice_is_cleaning_once_and_empties_nothing(mask, island, fill):
    once = clean(mask, (1.0,) * mask.ndim, min_island_mm=island, fill_mm=fill)
    assert np.array_equal(clean(once, (1.0,) * mask.ndim, min_island_mm=island, fill_mm=fill), once)
    assert once.any() == mask.any()


@given(mask=masks, sigma=st.sampled_from([0.3, 0.7, 1.5, 3.0]))
def test_smoothing_empties_nothing_and_commutes_with_flips(mask, sigma):
    assume(mask.any())
    soft = clean(mask, (1.0,) * mask.ndim, smooth_mm=sigma)
    assert soft.any()
    for axis in range(mask.ndim):
        flipped = clean(np.flip(mask, axis).copy(), (1.0,) * mask.ndim, smooth_mm=sigma)
        assert np.array_equal(np.flip(soft, axis), flipped)


@pytest.mark.parametrize(
    ("before", "least", "after", "changed"),
    [
        ("##### #...# ##### ..... #....", 4, "##### ##### ##### ..... .....", True),
        ("##### #...# ##### ..... #....", 3, "##### #...# ##### ..... .....", True),
        ("##### #...# ##### .....", 2, "##### #...# ##### .....", False),
        # a corner of background is a hole too, and holes are filled before islands are counted
        ("####. ####. ##### #####", 3, "##### ##### ##### #####", True),
        ("###.. ##... ..... ....#", 99, "##### ##### ##### #####", True),
        ("####... ####... ....... ......#", 5, "####... ####... ....... .......", True),
        # joined by a corner
        ("####... ####... ....#.. .......", 5, "####... ####... ....#.. .......", False),
    ],
)
def test_small_regions_as_published(before, least, after, changed):
    mask, was_changed = remove_small_regions(drawn(before), least)
    assert (shown(mask), was_changed) == (after, changed)


def test_the_largest_island_stays_as_published():
    mask, changed = remove_small_regions(np.pad(drawn("##.. .... ...#"), 10), 5)
    assert changed
    assert mask.sum() == 2


# -- what users get ---------------------------------------------------------------------------------------------


def two_pieces_and_a_hole():
    mask = np.zeros((30, 40), bool)
    mask[5:20, 5:20] = True
    mask[10, 10] = False
    mask[25, 30] = True
    return mask


def test_tidy_removes_by_size_and_keeps_what_was_clicked():
    mask = two_pieces_and_a_hole()
    plain = Cleanup()(mask, (1, 1))
    assert plain[10, 10]
    assert not plain[25, 30]
    np.testing.assert_array_equal(Cleanup(keep_islands=True)(mask, (1, 1)), mask)
    clicked = Cleanup()(mask, (1, 1), points=[(30, 25, 1), (10, 10, 0)])
    np.testing.assert_array_equal(clicked, mask)
    solid = np.stack([mask, np.zeros_like(mask)])
    np.testing.assert_array_equal(Cleanup()(solid, (1, 1, 1), points=[(30, 25, 0, 1), (10, 10, 0, 0)]), solid)


@pytest.mark.parametrize("zoom", [1, 4])
def test_without_millimetres_sizes_are_shares_of_the_mask(zoom):
    # a square of 400 pixels with a hole of 4, and islands of 4 (under 1 %) and of 5 pixels
    mask = np.zeros((40, 40), bool)
    mask[5:25, 5:25] = True
    mask[10:12, 10:12] = False
    mask[30:32, 5:7] = True
    mask[30, 20:25] = True
    wanted = mask.copy()
    wanted[10:12, 10:12] = True
    wanted[30:32, 5:7] = False
    # a picture taken at four times the size is cleaned alike
    large, cleaner = (np.kron(one, np.ones((zoom, zoom), bool)) for one in (mask, wanted))
    np.testing.assert_array_equal(Cleanup()(large, (1, 1), calibrated=False), cleaner)
    np.testing.assert_array_equal(Cleanup(keep_islands=True)(large, (1, 1), calibrated=False), large)
    solid = np.stack([large] * 3)
    np.testing.assert_array_equal(Cleanup()(solid, (1, 1, 1), calibrated=False)[1][30 * zoom :], cleaner[30 * zoom :])


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_is_from_nought_to_one(share):
    with pytest.raises(InputError, match="share from 0 to 1"):
        clean(drawn(SPECK), SQUARE, min_island_share=share)


def test_millimetres_on_a_picture_without_any_are_refused():
    with pytest.raises(PromptError, match="smooth_mm.* no physical size"):
        Cleanup(smooth_mm=1)(two_pieces_and_a_hole(), (1, 1), calibrated=False)


@given(
    mask=arrays.arrays(bool, (12, 14)),
    corner=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    size=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    smooth_mm=st.floats(0.3, 6),
)
def test_smoothing_stays_within_what_it_is_given_and_empties_nothing(mask, corner, size, smooth_mm):
    within = np.zeros_like(mask)
    within[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]] = True
    mask &= within
    assume(mask.any())
    smooth = clean(mask, (1, 1.5), smooth_mm=smooth_mm, within=within)
    assert not (smooth & ~within).any()
    assert smooth.any()


def test_tidy_keeps_one_piece_and_smooths_on_demand():
    mask = two_pieces_and_a_hole()
    mask[22:29, 25:35] = True
    assert Cleanup()(mask, (1, 1))[25, 30]
    one = Cleanup(one_piece=True)
    assert not one(mask, (1, 1), box=(4, 4, 21, 21))[25, 30]
    assert one(mask, (1, 1), box=(4, 4, 21, 21))[6, 6]
    assert not one(mask, (1, 1), points=[(30, 25, 1)])[6, 6]
    smooth = Cleanup(smooth_mm=2)(mask, (1, 1))
    assert not smooth[5, 5]
    assert abs(int(smooth.sum()) - int(mask.sum())) <= 12  # to ties
