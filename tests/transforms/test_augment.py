import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from medsam.geometry import SlicePlane, View
from medsam.transforms.augment import AugmentSettings, Change, RandAugmentd

ALWAYS = AugmentSettings(probability=1)
STILL = AugmentSettings(1, rotate_deg=0, scale=0, shift=0, window=0, gamma=0, noise=0, blur_px=0)


def sample(pixels, masks=None, spacing_mm=(1.0, 1.0)):
    """What lies between ScaleWindowd and ToModelInputd, and its masks."""
    pixels = torch.as_tensor(pixels, dtype=torch.float32)
    plane = SlicePlane("k", tuple(pixels.shape[1:]), spacing_mm, 7, View())
    masks = torch.zeros(0, *pixels.shape[1:], dtype=torch.bool) if masks is None else masks
    return {"image": MetaTensor(pixels, meta={"plane": plane, "slice": 3}), "masks": masks, "case": "one"}


def noise_image(seed=0, shape=(1, 24, 31)):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32))


def augment(settings, seed, data):
    return RandAugmentd(settings=settings).set_random_state(seed=seed)(data)


def offsets_mm(shape, spacing_mm):
    """(down, right) from the middle of the slice, each (h, w)."""
    down, right = ((np.arange(n) - (n - 1) / 2) * pitch for n, pitch in zip(shape, spacing_mm, strict=True))
    return np.meshgrid(down, right, indexing="ij")


def blob(shape, spacing_mm, centre_mm, sigma_mm):
    """(1, h, w): a round hill of height 1, so wide that bilinear interpolation hardly lowers it."""
    down, right = offsets_mm(shape, spacing_mm)
    away = (down - centre_mm[0]) ** 2 + (right - centre_mm[1]) ** 2
    return torch.from_numpy(np.exp(-away / (2 * sigma_mm**2)).astype(np.float32))[None]


# -- nothing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [STILL, dataclasses.replace(ALWAYS, probability=0)])
def test_no_amount_or_no_chance_leaves_every_bit(settings):
    data = sample(noise_image(), noise_image(1, (2, 24, 31)) > 128)
    for seed in range(5):
        changed = augment(settings, seed, data)
        assert changed["image"].numpy().tobytes() == data["image"].numpy().tobytes()
        assert torch.equal(changed["masks"], data["masks"])


def test_the_input_is_not_changed_and_the_rest_goes_along():
    data = sample(noise_image(), noise_image(1, (2, 24, 31)) > 128)
    pixels, masks, meta = data["image"].as_tensor().clone(), data["masks"].clone(), dict(data["image"].meta)
    changed = augment(dataclasses.replace(ALWAYS, flip_rows=True), 0, data)
    assert torch.equal(data["image"].as_tensor(), pixels)
    assert torch.equal(data["masks"], masks)
    assert data["image"].meta.keys() == meta.keys()
    assert not torch.equal(changed["image"].as_tensor(), pixels)
    assert type(changed["image"]) is MetaTensor
    assert type(changed["masks"]) is torch.Tensor
    assert changed["image"].meta["plane"] == meta["plane"]
    assert (changed["image"].meta["slice"], changed["case"]) == (3, "one")


# -- where things go ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spacing_mm", "shape"), [((2, 1), (60, 121)), ((1, 2), (121, 60)), ((1, 1), (121, 120))])
@pytest.mark.parametrize("degrees", [90, 30, -30])
def test_a_round_blob_turns_in_millimetres_and_stays_round(spacing_mm, shape, degrees):
    angle = np.deg2rad(degrees)
    start = blob(shape, spacing_mm, (0, 30), 7)  # 30 mm to the right
    turned = Change(rotate_deg=degrees).move(start, spacing_mm)
    expected = blob(shape, spacing_mm, (30 * np.sin(angle), 30 * np.cos(angle)), 7)
    torch.testing.assert_close(turned, expected, rtol=0, atol=0.02)


def test_a_quarter_turn_of_square_pixels_is_exact():
    pixels = noise_image(shape=(2, 9, 9))
    turned = Change(rotate_deg=90).move(pixels, (1.5, 1.5))
    torch.testing.assert_close(turned, torch.rot90(pixels, -1, (1, 2)), rtol=0, atol=1e-2)


def test_scale_and_shift_are_about_the_middle_and_shares_of_the_sides():
    shape, spacing_mm = (100, 160), (2.0, 1.0)
    start = blob(shape, spacing_mm, (20, -30), 8)
    moved = Change(scale=1.25, shift=(0.1, -0.05)).move(start, spacing_mm)
    expected = blob(shape, spacing_mm, (1.25 * 20 + 0.1 * 200, 1.25 * -30 - 0.05 * 160), 1.25 * 8)
    torch.testing.assert_close(moved, expected, rtol=0, atol=0.02)


def test_a_shift_of_whole_pixels_moves_them_and_repeats_the_edge():
    pixels = torch.arange(50.0).reshape(1, 5, 10)
    moved = Change(shift=(0.2, 0.2)).move(pixels, (3, 1))
    expected = torch.nn.functional.pad(pixels, (2, 0, 1, 0), mode="replicate")[:, :5, :10]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-3)


def test_a_bright_scan_gets_no_black_corners():
    data = sample(torch.full((1, 40, 40), 200.0))
    still = dataclasses.replace(ALWAYS, rotate_deg=45, window=0, gamma=0, noise=0)
    for seed in range(10):
        torch.testing.assert_close(augment(still, seed, data)["image"].as_tensor(), data["image"].as_tensor())


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (2.5, 0.7)])
def test_image_and_masks_stay_in_register(spacing_mm):
    masks = torch.zeros(2, 64, 81, dtype=torch.bool)
    masks[0, 10:40, 12:36] = True
    masks[1, 30:62, 45:81] = True  # cut by the edge of the slice
    moved = 0
    for seed in range(20):
        changed = augment(
            AugmentSettings(probability=0.8), seed, sample(20 + 200.0 * masks.any(0)[None], masks, spacing_mm)
        )
        bright, both = changed["image"].as_tensor()[0] > 120, changed["masks"].any(0)
        assert (bright & both).sum() / (bright | both).sum() > 0.9
        moved += not torch.equal(changed["masks"], masks)
    assert moved > 15


# -- chance -------------------------------------------------------------------------------------------------


def test_a_seed_decides_everything():
    data = sample(noise_image(), noise_image(1, (2, 24, 31)) > 128)
    transform = RandAugmentd(settings=ALWAYS).set_random_state(seed=5)
    first, second = transform(data), transform(data)
    np.random.seed(1)
    torch.manual_seed(1)
    again = augment(ALWAYS, 5, data)
    other = RandAugmentd(settings=ALWAYS).set_random_state(state=np.random.RandomState(5))(data)
    for key in ("image", "masks"):
        assert torch.equal(first[key], again[key])
        assert torch.equal(first[key], other[key])
        assert not torch.equal(first[key], second[key])
        assert not torch.equal(first[key], augment(ALWAYS, 6, data)[key])


def drawn(settings, count=400):
    transform = RandAugmentd(settings=settings).set_random_state(seed=0)
    changes = []
    for _ in range(count):
        transform.randomize()
        changes.append(transform.change)
    return changes


def test_amounts_fill_their_ranges_and_no_more():
    changes = drawn(ALWAYS)
    for values, low, high in [
        ([c.rotate_deg for c in changes], -10, 10),
        ([c.scale for c in changes], 1 / 1.1, 1.1),
        ([share for c in changes for share in c.shift], -0.05, 0.05),
        ([share for c in changes for share in c.window], -0.1, 0.1),
        ([c.gamma for c in changes], 1 / 1.2, 1.2),
        ([c.noise for c in changes], 0, 0.03),
        ([c.blur_px for c in changes], 0, 1),
    ]:
        margin = 0.03 * (high - low)
        assert low <= min(values) <= low + margin
        assert high - margin <= max(values) <= high


def test_each_kind_is_drawn_for_itself():
    changes = drawn(AugmentSettings(probability=0.3, flip_rows=True, flip_columns=True), 1000)
    happens = np.array([[getattr(c, f.name) != f.default for f in dataclasses.fields(Change)] for c in changes])
    np.testing.assert_allclose(happens.mean(0), 0.3, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(happens.T), np.eye(happens.shape[1]), atol=0.12)


def test_one_kind_does_not_disturb_the_others():
    without = drawn(dataclasses.replace(ALWAYS, shift=0, gamma=0), 20)
    assert [dataclasses.replace(c, shift=(0.0, 0.0), gamma=1.0) for c in drawn(ALWAYS, 20)] == without


def test_organs_keep_their_sides():
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 8:13, 8:13] = True  # above and left of everything else
    masks[1, 25:32, 25:32] = True
    transform = RandAugmentd(settings=AugmentSettings()).set_random_state(seed=0)
    for _ in range(200):
        near, far = (
            mask.nonzero().float().mean(0) for mask in transform(sample(torch.zeros(1, 40, 40), masks))["masks"]
        )
        assert (near < far).all()


@pytest.mark.parametrize(("name", "dim"), [("flip_rows", 1), ("flip_columns", 2)])
def test_flips_when_asked(name, dim):
    data = sample(noise_image(), noise_image(1, (2, 24, 31)) > 128)
    asked = dataclasses.replace(STILL, **{name: True})
    changed = augment(asked, 0, data)
    assert torch.equal(changed["image"].as_tensor(), data["image"].as_tensor().flip(dim))
    assert torch.equal(changed["masks"], data["masks"].flip(dim))
    half = drawn(dataclasses.replace(asked, probability=0.5))
    assert 150 < sum(getattr(c, name) for c in half) < 250


# -- what becomes of pixels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # 25.5 becomes black and 229.5 white
        (Change(window=(0.1, -0.1)), [0, 0, 127.5, 255, 255]),
        # -25.5 becomes black and 280.5 white: a range 1.2 times as wide
        (Change(window=(-0.1, 0.1)), [21.25, 42.5, 127.5, 212.5, 233.75]),
        (Change(gamma=2.0), [0, 2.55, 63.75, 206.55, 255]),
        (Change(window=(0.1, 0), gamma=0.5), [0, 0, 170, 240.416, 255]),
    ],
)
def test_the_curve_is_of_the_range_and_not_of_the_image(change, expected):
    pixels = torch.tensor([0, 25.5, 127.5, 229.5, 255])
    whole = change.shade(pixels[None, None], np.random.RandomState(0))
    np.testing.assert_allclose(whole.flatten(), expected, atol=1e-3)
    for one, wanted in zip(pixels, expected, strict=True):  # a constant image takes the same curve
        constant = change.shade(one.expand(1, 3, 4), np.random.RandomState(0))
        np.testing.assert_allclose(constant, np.full((1, 3, 4), wanted), atol=1e-3)


def test_blur_spreads_a_point_by_its_sigma_and_leaves_the_edges_bright():
    pixels = torch.zeros(1, 41, 41)
    pixels[0, 20, 20] = 255
    blurred = Change(blur_px=2.0).shade(pixels, np.random.RandomState(0))[0].double().numpy()
    assert blurred.sum() == pytest.approx(255, rel=1e-4)
    down, right = offsets_mm((41, 41), (1, 1))
    # the kernel is a Gaussian integrated over pixels, which adds their variance of 1 / 12
    assert (blurred * down**2).sum() / 255 == pytest.approx(4 + 1 / 12, rel=0.01)
    assert (blurred * right**2).sum() / 255 == pytest.approx(4 + 1 / 12, rel=0.01)
    flat = torch.full((1, 3, 5), 180.0)  # narrower than the kernel
    torch.testing.assert_close(Change(blur_px=2.0).shade(flat, np.random.RandomState(0)), flat)


def test_noise_has_the_deviation_it_states():
    flat = torch.full((1, 100, 100), 128.0)
    noisy = Change(noise=0.03).shade(flat, np.random.RandomState(0))
    assert float(noisy.std()) == pytest.approx(0.03 * 255, rel=0.03)
    assert float(noisy.mean()) == pytest.approx(128, abs=0.3)


def test_colour_channels_move_alike_and_grey_stays_grey():
    colours = noise_image(shape=(3, 24, 31))
    grey = colours[:1].expand(3, -1, -1)
    for seed in range(5):
        changed = augment(ALWAYS, seed, sample(colours))["image"].as_tensor()
        assert changed.shape == colours.shape
        for channel in range(3):
            alone = augment(ALWAYS, seed, sample(colours[channel : channel + 1]))["image"].as_tensor()
            torch.testing.assert_close(changed[channel : channel + 1], alone)
        first, *others = augment(ALWAYS, seed, sample(grey))["image"].as_tensor()
        for other in others:
            torch.testing.assert_close(first, other)


@given(
    shape=st.tuples(st.sampled_from([1, 3]), st.integers(1, 23), st.integers(1, 23)),
    count=st.integers(0, 3),
    spacing_mm=st.tuples(st.floats(0.2, 8), st.floats(0.2, 8)),
    amount=st.floats(0, 1),
    flips=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_shapes_dtypes_and_range_whatever_comes(shape, count, spacing_mm, amount, flips, seed):
    strong = AugmentSettings(
        0.7, 180 * amount, amount, amount / 2, 0.4 * amount, 4 * amount, amount, 3 * amount, flips, flips
    )
    data = sample(noise_image(seed, shape), noise_image(seed + 1, (count, *shape[1:])) > 128, spacing_mm)
    changed = augment(strong, seed, data)
    assert (changed["image"].shape, changed["image"].dtype) == (shape, torch.float32)
    assert (changed["masks"].shape, changed["masks"].dtype) == ((count, *shape[1:]), torch.bool)
    assert torch.isfinite(changed["image"]).all()
    assert changed["image"].min() >= 0
    assert changed["image"].max() <= 255


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("probability", 1.5),
        ("probability", -0.1),
        ("rotate_deg", -10),
        ("scale", -0.1),
        ("shift", 0.6),
        ("window", 0.5),
        ("gamma", float("inf")),
        ("noise", 3),
        ("noise", float("nan")),
        ("blur_px", -1.0),
    ],
)
def test_a_setting_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"augmentation's {name} must lie in 0 .* it is {value:g}"):
        AugmentSettings(**{name: value})
