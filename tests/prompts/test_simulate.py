import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medsam.errors import PromptError
from medsam.prompts.simulate import (
    error_regions,
    human_click,
    inscribed_ellipse,
    jittered,
    next_click,
    rough_mask,
    tight_box,
)


def test_the_tight_box_is_half_open_and_spans_all_components():
    mask = np.zeros((10, 12), bool)
    mask[2:4, 3:8] = True
    mask[7, 10] = True
    assert tight_box(mask) == (3, 2, 11, 8)


def test_a_sliver_of_nine_pixels_gets_no_box_and_ten_do():
    mask = np.zeros((5, 20), bool)
    mask[0, :9] = True
    assert tight_box(mask) is None
    mask[0, 9] = True
    assert tight_box(mask) == (0, 0, 10, 1)
    assert tight_box(np.zeros((5, 5), bool), min_pixels=0) is None


@given(st.integers(3, 40), st.integers(3, 40))
def test_the_ellipse_fills_its_box_from_side_to_side_and_covers_about_pi_quarters(width, height):
    ellipse = inscribed_ellipse((2, 3, 2 + width, 3 + height), (50, 50))
    x0, y0, x1, y1 = tight_box(ellipse, 1)
    # between an even number of columns no pixel centre lies on the axis, so the tip may end a pixel short
    assert x0 in (2, 3)
    assert y0 in (3, 4)
    assert x1 in (1 + width, 2 + width)
    assert y1 in (2 + height, 3 + height)
    # whole pixels miss the outline by up to about half a pixel along it
    assert ellipse.sum() == pytest.approx(np.pi / 4 * width * height, abs=(width + height) / 2)


@given(
    most=st.integers(0, 30),
    seed=st.integers(0, 1000),
    x=st.integers(0, 20),
    y=st.integers(0, 20),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
)
def test_jitter_only_grows_a_box_by_whole_pixels_inside_the_slice(most, seed, x, y, width, height):
    box = (x, y, x + width, y + height)
    moved = jittered(box, most, (42, 44), np.random.default_rng(seed))
    assert all(isinstance(edge, int) for edge in moved)
    assert all(0 <= before - after <= most for before, after in zip(box[:2], moved[:2], strict=True))
    assert all(0 <= after - before <= most for before, after in zip(box[2:], moved[2:], strict=True))
    assert min(moved) >= 0
    assert moved[2] <= 44
    assert moved[3] <= 42
    assert moved == jittered(box, most, (42, 44), np.random.default_rng(seed))


def filled(shape, *boxes):
    """A bool mask of half-open boxes (x0, y0, x1, y1)."""
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def masks(shape):
    return arrays(bool, shape, elements=st.booleans())


pairs = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(lambda shape: st.tuples(masks(shape), masks(shape)))


def test_the_first_click_is_the_centre_of_the_object():
    assert next_click(filled((20, 30), (10, 5, 17, 12))) == (13, 8, 1)


def test_the_next_click_mends_the_deeper_error_and_says_which_kind():
    truth = filled((20, 40), (5, 5, 20, 14))
    # a strip of 3 columns is missed on the right, a strip of 5 added on the left
    assert next_click(truth, filled((20, 40), (0, 5, 17, 14))) == (2, 7, 0)
    # 5 missed, 3 added
    assert next_click(truth, filled((20, 40), (2, 5, 15, 14))) == (17, 7, 1)
    assert next_click(truth, truth) is None
    assert next_click(np.zeros((4, 4), bool)) is None


def test_missed_and_false_regions_that_touch_are_two():
    """Together they would be deepest on the seam, where a click says least."""
    truth, answer = filled((9, 20), (0, 0, 10, 9)), filled((9, 20), (10, 0, 20, 9))
    assert next_click(truth, answer) == (4, 4, 1)


def test_the_border_of_the_image_is_a_boundary():
    assert next_click(np.ones((7, 9), bool)) == (3, 3, 1)


def test_between_equals_the_lowest_row_then_the_lowest_column_is_clicked():
    truth = filled((20, 20), (10, 2, 13, 5), (2, 2, 5, 5), (2, 10, 5, 13))
    assert next_click(truth) == (3, 3, 1)
    # the same whether the equal one is missed or false
    assert next_click(filled((20, 20), (10, 2, 13, 5)), filled((20, 20), (2, 2, 5, 5))) == (3, 3, 0)


def depth_by_hand(region, x, y):
    rows, columns = region.shape
    outside = [(r, c) for r in range(-1, rows + 1) for c in range(-1, columns + 1)]
    outside = [(r, c) for r, c in outside if not (0 <= r < rows and 0 <= c < columns and region[r, c])]
    return min((r - y) ** 2 + (c - x) ** 2 for r, c in outside)


@given(pairs)
def test_the_click_is_the_first_deepest_pixel_of_either_error(pair):
    truth, answer = pair
    click = next_click(truth, answer)
    ranked = [
        (-depth_by_hand(region, x, y), y, x, inside)
        for inside, region in ((1, truth & ~answer), (0, answer & ~truth))
        for y, x in np.argwhere(region).tolist()
    ]
    if not ranked:
        assert click is None
        return
    _, y, x, inside = min(ranked)
    assert click == (x, y, inside)
    assert all(type(number) is int for number in click)


@pytest.mark.parametrize("draw", [next_click, human_click])
@given(pairs, st.integers(0, 99))
def test_a_drawn_click_never_says_the_wrong_thing(draw, pair, seed):
    truth, answer = pair
    click = draw(truth, answer, np.random.default_rng(seed))
    if (truth == answer).all():
        assert click is None
        return
    x, y, inside = click
    assert truth[y, x] == bool(inside)
    # a person slips, and may hit what is right already
    assert draw is human_click or answer[y, x] != truth[y, x]
    assert click == draw(truth, answer, np.random.default_rng(seed))


def test_drawn_clicks_are_uniform_over_all_errors():
    truth, answer = filled((6, 6), (0, 0, 2, 2)), filled((6, 6), (4, 4, 6, 5))
    rng = np.random.default_rng(0)
    drawn = [next_click(truth, answer, rng) for _ in range(3000)]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts == pytest.approx(np.full(6, 500), abs=100)


def test_clicking_every_error_right_ends():
    rng = np.random.default_rng(3)
    truth, answer = rng.random((8, 8)) < 0.5, rng.random((8, 8)) < 0.5
    wrong = np.count_nonzero(truth ^ answer)
    for _ in range(wrong):
        x, y, inside = next_click(truth, answer)
        answer[y, x] = inside
    assert next_click(truth, answer) is None


def test_masks_of_two_slices_make_no_click():
    with pytest.raises(PromptError, match=r"\(4, 4\) and \(4, 5\)"):
        next_click(np.ones((4, 4), bool), np.ones((4, 5), bool))
    with pytest.raises(PromptError, match="one slice"):
        next_click(np.ones((2, 4, 4), bool))


@given(array_shapes(min_dims=2, max_dims=2, max_side=15).flatmap(masks), st.integers(0, 99))
def test_a_rough_mask_is_never_empty_and_repeats_with_its_seed(truth, seed):
    if not truth.any():
        with pytest.raises(PromptError, match="empty mask"):
            rough_mask(truth, np.random.default_rng(seed))
        return
    rough = rough_mask(truth, np.random.default_rng(seed))
    assert rough.any()
    assert rough.shape == truth.shape
    assert rough.dtype == bool
    np.testing.assert_array_equal(rough, rough_mask(truth, np.random.default_rng(seed)))


@pytest.mark.parametrize("radius", [10, 40])
def test_a_rough_disc_has_nine_or_eleven_tenths_of_the_radius_and_lies_a_twentieth_off(radius):
    y, x = np.ogrid[:128, :128]
    disc = (x - 64) ** 2 + (y - 64) ** 2 <= radius**2
    kinds = set()
    for seed in range(20):
        rough = rough_mask(disc, np.random.default_rng(seed))
        kinds.add(rough.sum() > disc.sum())
        ratio = np.sqrt(rough.sum() / disc.sum())
        assert min(abs(ratio - 0.9), abs(ratio - 1.1)) < 0.5 / radius  # half a pixel
        centre = np.argwhere(rough).mean(axis=0) - 64
        assert np.hypot(*centre) == pytest.approx(0.05 * radius, abs=0.25)
        dice = 2 * (rough & disc).sum() / (rough.sum() + disc.sum())
        assert 0.87 < dice < 0.91
    assert kinds == {False, True}


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_thin_structure_stays_where_it_is_when_drawn_roughly(width):
    thin = filled((60, 420), (10, 30, 410, 30 + width))
    for seed in range(20):
        rough = rough_mask(thin, np.random.default_rng(seed))
        assert (rough & thin).sum() >= 0.4 * thin.sum()


def test_noise_makes_the_outline_of_a_rough_mask_shaky():
    y, x = np.ogrid[:128, :128]
    disc = (x - 64) ** 2 + (y - 64) ** 2 <= 40**2

    def dice(noise):
        rough = [rough_mask(disc, np.random.default_rng(seed), noise) for seed in range(10)]
        return np.mean([2 * (one & disc).sum() / (one.sum() + disc.sum()) for one in rough])

    assert 0.7 < dice("noisy") < 0.87 < dice("clean")
    thin = filled((60, 420), (10, 30, 410, 33))
    for seed in range(5):
        rough = rough_mask(thin, np.random.default_rng(seed), "noisy")
        assert (rough & thin).sum() >= 0.4 * thin.sum()
        assert rough.sum() < 12 * thin.sum()


def test_a_person_clicks_round_the_middle_and_now_and_then_on_the_second_error():
    truth = filled((60, 100), (10, 10, 51, 51), (70, 20, 91, 41))
    clicks = np.array([human_click(truth, None, np.random.default_rng(seed)) for seed in range(150)])
    first = clicks[clicks[:, 0] < 60]
    assert 0.7 < len(first) / len(clicks) < 0.9
    assert first[:, :2].mean(axis=0) == pytest.approx([30, 30], abs=1.5)
    # where the depth is largest, yet spread out
    assert 4 < first[:, :2].std() < 11


def test_errors_are_numbered_apart_by_what_they_are():
    truth, answer = filled((9, 20), (0, 0, 10, 9), (15, 0, 17, 2)), filled((9, 20), (10, 0, 14, 9))
    regions = error_regions(truth, answer)
    assert sorted(np.unique(regions)) == [0, 1, 2, 3]
    assert len({regions[4, 5], regions[4, 12], regions[0, 16]}) == 3
    np.testing.assert_array_equal(regions > 0, truth ^ answer)
