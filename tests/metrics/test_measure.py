from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from medsam.errors import InputError
from medsam.metrics.measure import DEFINITIONS, measure


def block(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


CUBE = block((9, 9, 9), (2, 6), (2, 6), (2, 6))
SHIFTED = block((9, 9, 9), (3, 7), (2, 6), (2, 6))


def test_every_metric_has_a_definition_and_the_other_way_round():
    assert measure(CUBE, SHIFTED, (3, 1, 1)).keys() == DEFINITIONS.keys()


def test_a_cube_one_slice_on():
    found = measure(CUBE, SHIFTED, (3, 1, 1), tolerance_mm=3)
    assert found["dice"] == 96 / 128
    assert found["iou"] == 48 / 80
    assert found["nsd"] == 1
    assert measure(CUBE, SHIFTED, (3, 1, 1))["nsd"] < 1
    assert found["hd95_mm"] == 3
    assert found["volume_ml"] == found["volume_ref_ml"] == pytest.approx(0.192)
    assert found["volume_error_ml"] == found["volume_error_percent"] == 0


def test_a_perfect_answer():
    found = measure(CUBE, CUBE, (3, 1, 1), tolerance_mm=0)
    assert found["dice"] == found["iou"] == found["nsd"] == 1
    assert found["hd95_mm"] == found["assd_mm"] == 0


def test_nothing_anywhere():
    nothing = np.zeros_like(CUBE)
    found = measure(nothing, nothing, (1, 1, 1))
    assert found.pop("volume_ml") == found.pop("volume_ref_ml") == 0
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("missed", [True, False])
def test_something_in_one_mask_only(missed):
    nothing = np.zeros_like(CUBE)
    found = measure(*((CUBE, nothing) if missed else (nothing, CUBE)), (1, 1, 1))
    assert found["dice"] == found["iou"] == found["nsd"] == 0
    assert found["hd95_mm"] == found["assd_mm"] == math.inf
    assert found["volume_error_ml"] == (-0.064 if missed else 0.064)
    assert found["volume_error_percent"] == (-100 if missed else math.inf)


def test_a_slice():
    found = measure(CUBE[3], np.roll(CUBE[3], 1, 1), (1.0, 0.5), tolerance_mm=0.5)
    assert found["dice"] == 24 / 32
    assert found["nsd"] == 1
    assert found["hd95_mm"] == 0.5
    assert math.isnan(found["volume_ml"])
    assert found["volume_error_percent"] == 0


def test_bad_input_is_refused_even_when_the_masks_are_empty():
    nothing = np.zeros_like(CUBE)
    with pytest.raises(InputError, match="positive"):
        measure(nothing, nothing, (1, 1))
    with pytest.raises(InputError, match="tolerance"):
        measure(nothing, nothing, (1, 1, 1), tolerance_mm=-1)
    with pytest.raises(InputError, match="same grid"):
        measure(CUBE, CUBE[1:], (1, 1, 1))


def test_no_network_library_is_loaded():
    code = (
        "import sys, medsam.metrics.measure, medsam.labels; "
        "sys.exit(bool({'torch', 'monai', 'nibabel'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
