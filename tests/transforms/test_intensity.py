from pathlib import Path

import numpy as np
import pytest
import torch

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.transforms.intensity import CT_WINDOWS, IntensityWindow, looks_like_ct, resolve_window
from medsam.volume import Volume


def scan(array, modality=None, calibrated=True, source=None):
    array = np.asarray(array)
    array = array.reshape(1, 1, -1) if array.ndim == 1 else array
    return Volume(array, VolumeGeometry(array.shape[:3], np.eye(4), calibrated), modality, source)


@pytest.mark.parametrize(
    ("choice", "low", "high"),
    [
        ("soft-tissue", -160, 240),
        ("Soft Tissue", -160, 240),
        ("lung", -1350, 150),
        ("brain", 0, 80),
        ("bone", -500, 1300),
        ("40,400", -160, 240),
        ("-600, 1500", -1350, 150),
    ],
)
def test_windows_by_name_and_by_level_and_width(choice, low, high):
    window = resolve_window(scan([0, 1]), choice)
    assert (window.low, window.high) == (low, high)


@pytest.mark.parametrize("choice", ["bones", "40", "40,0", "40,-5", "nan,400", "40,400,3", "a,b"])
def test_an_unknown_window_is_refused(choice):
    with pytest.raises(PromptError, match="window"):
        resolve_window(scan([0, 1]), choice)


def test_an_unknown_window_lists_the_presets():
    with pytest.raises(PromptError, match="soft-tissue.*lung"):
        resolve_window(scan([0, 1]), "bones")


def test_ct_is_soft_tissue_and_others_are_percentiles():
    values = np.linspace(-1000, 1000, 2001)
    assert resolve_window(scan(values, "CT")).name == "soft-tissue"
    assert resolve_window(scan(values, "MR")).name == "percentiles 0.5-99.5"
    assert resolve_window(scan(values, "MR"), modality="CT").name == "soft-tissue"
    assert resolve_window(scan(values, "CT"), modality="MR").name == "percentiles 0.5-99.5"


def test_percentiles_ignore_the_black_surround():
    values = np.concatenate([np.zeros(9000), np.arange(1, 1001)])
    window = resolve_window(scan(values, "MR"))
    assert (window.low, window.high) == pytest.approx((6, 995), abs=0.1)


def test_hounsfield_units_are_recognised_without_a_modality():
    rng = np.random.default_rng(0)
    body = np.concatenate([rng.normal(40, 20, 5000), np.full(2000, -100), np.full(3000, -1000)]).astype(np.int16)
    assert looks_like_ct(scan(body))
    assert not looks_like_ct(scan(np.abs(body)))
    assert not looks_like_ct(scan(body.astype(np.uint16)))
    assert not looks_like_ct(scan(body, calibrated=False))
    assert not looks_like_ct(scan(np.where(np.arange(10000) % 300 == 0, -50, body.clip(0)).astype(np.int16)))


def test_pixels_that_are_windowed_already_are_left_alone():
    colour = scan(np.zeros((1, 2, 2, 3), np.uint8), calibrated=False)
    assert resolve_window(colour) == IntensityWindow(0, 255, "full range")
    npz = scan(np.arange(256, dtype=np.uint8), source=Path("a.npz"))
    assert resolve_window(npz) == IntensityWindow(0, 255, "full range")


def test_outliers_and_non_finite_voxels_do_not_move_the_window():
    values = torch.tensor([60000.0, -60000, float("nan"), float("inf"), -float("inf"), 40])
    window = resolve_window(scan(values.numpy(), "CT"))
    assert window.apply(values).tolist() == [255, 0, 0, 255, 0, 127.5]


@pytest.mark.parametrize("value", [0, 7, -3, np.nan, np.inf])
def test_a_constant_scan_has_no_contrast_and_no_error(value):
    window = resolve_window(scan(np.full(100, value, np.float32), "MR"))
    assert torch.isfinite(window.apply(torch.full((4,), float(value)))).all()


def test_a_window_keeps_half_way_half_way():
    for level, width in CT_WINDOWS.values():
        window = resolve_window(scan([0, 1]), f"{level},{width}")
        assert window.apply(torch.tensor([level, level - width, level + width])).tolist() == [127.5, 0, 255]


def test_the_full_range_is_exact_on_large_scans():
    array = np.zeros((9, 1000, 1000), np.int16)
    array[4, 333, 501], array[8, 999, 998] = -1000, 3000
    window = resolve_window(scan(array), "none")
    assert (window.low, window.high) == (-1000, 3000)


def test_a_stated_modality_is_checked_and_wins_over_the_format():
    assert resolve_window(scan([0, 1]), modality="ct").name == "soft-tissue"
    with pytest.raises(PromptError, match="no modality 'BANANA'"):
        resolve_window(scan([0, 1]), modality="banana")
    npz = scan(np.arange(-1000, 1000, dtype=np.int16), source=Path("a.npz"))
    assert resolve_window(npz).name == "full range"
    assert resolve_window(npz, modality="CT").name == "soft-tissue"


def test_a_range_beyond_single_precision_stays_finite():
    values = torch.tensor([-3e38, 0, 3e38])
    assert IntensityWindow(-3e38, 3e38, "huge").apply(values).tolist() == [0, 127.5, 255]
