from types import SimpleNamespace

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.evaluation import cost
from medsam.evaluation.cost import Bill, MeteredEncoder
from medsam.inference.image_predictor import Crop
from medsam.inference.predictor import Predictor


@pytest.fixture
def watch(monkeypatch):
    """A clock that goes on only where a test says so."""
    watch = SimpleNamespace(now=0)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: watch.now))
    return watch


class SlowSam(ThresholdSam):
    """Takes eight seconds an image."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def encode_image(self, images):
        self.watch.now += 8 * len(images)
        return super().encode_image(images)


def metered(sam):
    scan, _ = block((3, 20, 30), (4, 6, 0, 14, 12, 3))
    scan.array[:, 0, 0] = np.arange(3)  # no two slices alike
    return MeteredEncoder(Predictor(sam, device="cpu").encoder_for(scan))


def test_whoever_takes_a_look_pays_for_it_also_the_second_time(watch):
    scan_encoder = metered(SlowSam(watch))
    first, second = Bill(), Bill()
    with scan_encoder.charge(first):
        scan_encoder.encode(0)
    with scan_encoder.charge(second):
        scan_encoder.encode(0)
        scan_encoder.encode(0)
    assert scan_encoder.image_predictor.sam.encoded == 1
    assert first.encoder_calls == second.encoder_calls == 1
    assert first.seconds == 8
    assert second.crops == first.crops
    assert second.rest == 0


def test_what_is_not_looking_is_the_rest(watch):
    scan_encoder = metered(SlowSam(watch))
    bill = Bill()
    with scan_encoder.charge(bill):
        watch.now += 3
        scan_encoder.encode_many([Crop(0), Crop(1, (0, 0, 10, 10))])
    assert bill.rest == 3
    assert bill.encoder_calls == 2
    assert bill.seconds == 3 + 2 * 8


def test_the_scans_own_window_named_or_not_is_one_look():
    scan_encoder = metered(ThresholdSam())
    bill = Bill()
    with scan_encoder.charge(bill):
        scan_encoder.encode(2)
        scan_encoder.encode(2, window=scan_encoder.window)
    assert bill.encoder_calls == scan_encoder.image_predictor.sam.encoded == 1


def test_a_bill_can_go_on_later():
    scan_encoder = metered(ThresholdSam())
    one, other = Bill(), Bill()
    with scan_encoder.charge(one):
        scan_encoder.encode(0)
    with scan_encoder.charge(other):
        scan_encoder.encode(1)
    with scan_encoder.charge(one):
        scan_encoder.encode(2)
    assert [scan_encoder.index for scan_encoder in one.crops] == [0, 2]
    assert other.encoder_calls == 1
