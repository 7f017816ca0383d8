from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.transforms.intensity import CT_WINDOWS, IntensityWindow, looks_like_ct, resolve_window, window_notes
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


@pytest.mark.parametrize("choice", ["auto", "percentiles", "none"])
@pytest.mark.parametrize("padding", [65535, -30000])
def test_voxels_without_signal_shape_no_window(choice, padding):
    signal = np.arange(200, 500, dtype=np.int32).reshape(3, 10, 10)
    padded = np.pad(signal, ((0, 0), (3, 4), (5, 6)), constant_values=padding)
    clean = resolve_window(scan(signal, "MR"), choice)
    assert resolve_window(replace(scan(padded, "MR"), no_signal=padded == padding), choice) == clean
    assert resolve_window(scan(padded, "MR"), choice) != clean


def test_the_signal_of_a_large_scan_is_sampled_like_any_other():
    array = np.full((9, 1000, 1001), 7, np.int16)
    array[:, :, :700] = -2000
    array[:, 0, 999] = 9
    window = resolve_window(replace(scan(array, "MR"), no_signal=array == -2000), "none")
    assert (window.low, window.high) == (0, 9)
    assert resolve_window(replace(scan(array, "MR"), no_signal=array == -2000)).low == 7


def test_padding_does_not_make_a_scan_look_like_ct():
    array = np.arange(3000, dtype=np.int16).reshape(3, 10, 100)
    array[:, :, :10] = -2000
    assert looks_like_ct(scan(array))
    assert not looks_like_ct(replace(scan(array), no_signal=array == -2000))


def test_a_scan_of_padding_alone_still_has_a_window():
    array = np.full((2, 3, 4), -2000, np.int16)
    window = resolve_window(replace(scan(array, "MR"), no_signal=array < 0))
    assert window.apply(torch.tensor([-2000.0, 0.0])).isfinite().all()


@pytest.mark.parametrize(("units", "name"), [(None, "soft-tissue"), ("HU", "soft-tissue"), ("US", ""), ("MGML", "")])
def test_ct_is_windowed_as_hounsfield_units_unless_its_file_says_otherwise(units, name):
    ct = replace(scan(np.linspace(0, 20, 2001), "CT"), units=units)
    window = resolve_window(ct)
    assert window.name == (name or "percentiles 0.5-99.5")
    notes = window_notes(ct, window)
    assert bool(notes) == (not name)
    if not name:
        assert ("does not say" if units == "US" else "MGML") in notes[0]
        lung = resolve_window(ct, "lung")
        assert lung.name == "lung"
        assert "may not fit" in window_notes(ct, lung, "lung")[0]
        assert window_notes(ct, resolve_window(ct, "10,20"), "10,20") == ()


def test_who_says_ct_is_believed_and_told():
    ct = replace(scan(np.linspace(0, 20, 2001), "CT"), units="US")
    window = resolve_window(ct, modality="CT")
    assert window.name == "soft-tissue"
    assert "may not fit" in window_notes(ct, window, modality="CT")[0]


def test_a_modality_that_cannot_help_is_told_where_a_window_was_named_and_not_where_it_was_resolved_by_it():
    volume = scan(np.zeros(2001))
    assert "changes nothing" in window_notes(volume, resolve_window(volume, "lung"), "lung", "CT")[-1]
    resolved = resolve_window(volume, "auto", "CT")
    assert window_notes(volume, resolved, resolved, "CT") == ()
