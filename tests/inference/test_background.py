"""What of a slice shows nothing, on drawings of an ultrasound fan, a CT and a photograph."""

from __future__ import annotations

import numpy as np
import pytest

from medsam.geometry import VolumeGeometry
from medsam.inference.background import background
from medsam.inference.predictor import Predictor
from medsam.volume import Volume
from tests.phantoms import ThresholdSam, random_affine

ROWS, COLUMNS = 120, 160


def encoder_for(pixels, modality=None, affine=None, **how):
    shape = (1, *pixels.shape[:2])
    grid = VolumeGeometry.uncalibrated(shape) if affine is None else VolumeGeometry(shape, affine)
    return Predictor(ThresholdSam(64), "cpu").encoder_for(Volume(pixels[None], grid, modality), **how)


def fan() -> np.ndarray:
    """Bool: a sector from the top edge to the bottom one."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return (np.abs(x - 80) < 12 + 0.55 * y) & ((x - 80) ** 2 + y**2 < 125**2)


def disc(x, y, radius):
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def alike(found: np.ndarray, truth: np.ndarray) -> float:
    return np.count_nonzero(found & truth) / np.count_nonzero(found | truth)


@pytest.mark.parametrize(("black", "noise"), [(0, 0), (0, 4), (37, 0)])
def test_the_surround_of_a_fan_is_background_and_a_cyst_in_it_is_not(black, noise):
    rng = np.random.default_rng(0)
    inside = fan()
    pixels = np.where(inside, rng.integers(60, 220, inside.shape), black + rng.integers(0, noise + 1, inside.shape))
    cyst, text = disc(80, 60, 14), np.s_[4:10, 4:30]
    pixels[cyst] = black
    pixels[text] = 255  # what a machine writes beside the fan is something
    found = background(encoder_for(pixels.astype(np.uint8)), 0)
    assert alike(found, ~inside) > 0.93
    assert not found[cyst].any()
    assert not found[5:9, 6:28].any()


def test_air_round_a_ct_is_background_and_lung_that_meets_the_border_is_not():
    rng = np.random.default_rng(0)
    body, lung = disc(80, 110, 75), disc(80, 100, 40) & ~disc(80, 60, 20)
    hounsfield = np.where(body, 40.0, -1000.0)
    hounsfield[lung] = -850  # ends at the lower border
    hounsfield += rng.normal(scale=25, size=body.shape)
    scan = hounsfield.astype(np.int16)
    for window in ("auto", "lung", "soft-tissue"):
        found = background(encoder_for(scan, "CT", np.eye(4), window=window), 0)
        assert alike(found, ~body) > 0.95
        assert found[lung].mean() < 0.01
    # what the user says of the modality counts for more than the values
    shape = (1, ROWS, COLUMNS)
    for grid, given, is_ct in (
        (VolumeGeometry.uncalibrated(shape), None, False),
        (VolumeGeometry.uncalibrated(shape), "CT", True),
        (VolumeGeometry(shape, np.eye(4)), None, True),
        (VolumeGeometry(shape, np.eye(4)), "MR", False),
    ):
        scan_encoder = Predictor(ThresholdSam(64), "cpu").encoder_for(Volume(scan[None], grid), modality=given)
        assert scan_encoder.is_ct is is_ct
        if given == "CT":
            assert background(scan_encoder, 0)[lung].mean() < 0.01
    padded = np.where(disc(80, 60, 58), scan, -2000).astype(np.int16)  # outside the reconstruction
    assert background(encoder_for(padded, "CT", np.eye(4)), 0)[~body].mean() > 0.95


def test_a_gap_is_no_way_in_and_a_bay_is_part_of_the_outside():
    inside = disc(80, 60, 50)
    pixels = np.where(inside, 150, 0).astype(np.uint8)
    cavity, bay = disc(80, 60, 12), np.s_[55:66, 110:160]
    pixels[cavity] = 0
    pixels[59:61, :80] = 0  # two pixels wide, from the border to the cavity
    pixels[bay] = 0
    found = background(encoder_for(pixels), 0)
    assert not found[cavity].any()
    assert found[58:63, 115:160].all()


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_what_fills_the_picture_or_only_touches_its_border_is_no_background(grey):
    rng = np.random.default_rng(0)
    pixels = rng.integers(30, 220, (ROWS, COLUMNS)).astype(np.uint8)
    assert not background(encoder_for(pixels), 0).any()
    pixels[:, :25] = 90 if grey == 90 else 250
    if grey != 90:  # an object on the border beside a surround that is much longer
        pixels[:30] = pixels[90:] = grey
        pixels[30:90, 135:] = grey
        found = background(encoder_for(pixels), 0)
        assert found[:28].all()
        assert not found[32:88, :20].any()


def test_colour_is_black_in_every_channel_and_storage_does_not_matter():
    rng = np.random.default_rng(0)
    inside = disc(80, 60, 55)
    colour = np.where(inside[..., None], rng.integers(60, 220, (ROWS, COLUMNS, 3)), [0, 0, 3]).astype(np.uint8)
    found = background(encoder_for(colour), 0)
    assert alike(found, ~inside) > 0.95
    red = colour.copy()
    red[..., 0] = 200
    red[~inside] = [200, 10, 10]
    assert alike(background(encoder_for(red), 0), ~inside) > 0.95  # constant, though not black
    affine = random_affine(rng, (1, 1, 1), oblique=False)
    turned = np.ascontiguousarray(np.where(inside, 150, 0).astype(np.uint8).T[::-1])
    np.testing.assert_array_equal(
        background(encoder_for(turned, affine=affine), 0)[::-1].T,
        background(encoder_for(np.where(inside, 150, 0).astype(np.uint8)), 0),
    )


def test_what_the_file_says_is_no_signal_is_background_where_it_meets_the_border():
    rng = np.random.default_rng(0)
    pixels = rng.integers(30, 220, (1, ROWS, COLUMNS)).astype(np.uint8)
    shuttered = ~disc(80, 60, 50)[None]
    scan = Volume(pixels, VolumeGeometry.uncalibrated(pixels.shape), no_signal=shuttered)
    found = background(Predictor(ThresholdSam(64), "cpu").encoder_for(scan), 0)
    assert alike(found, shuttered[0]) > 0.97
