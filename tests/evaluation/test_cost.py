from types import SimpleNamespace

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.evaluation.cost import Cost
from medsam.inference import image_predictor
from medsam.inference.image_predictor import Crop, ImagePredictor
from medsam.inference.usage import Usage


@pytest.fixture
def watch(monkeypatch):
    """A clock that goes on only where a test says so."""
    watch = SimpleNamespace(now=0)
    monkeypatch.setattr(image_predictor, "time", SimpleNamespace(perf_counter=lambda: watch.now))
    return watch


class SlowSam(ThresholdSam):
    """Takes eight seconds an image."""

    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def encode_image(self, images):
        self.watch.now += 8 * len(images)
        return super().encode_image(images)


@pytest.fixture
def sam(watch):
    return SlowSam(watch)


@pytest.fixture
def scan_encoder(sam):
    scan, _ = block((3, 20, 30), (4, 6, 0, 14, 12, 3))
    scan.array[:, 0, 0] = np.arange(3)  # no two slices alike
    return ImagePredictor(sam, device="cpu").encoder_for(scan)


def charge(cost, watch, scan_encoder, crops, more=0):
    """Look at crops, and spend so many seconds more."""
    started = watch.now
    found = [scan_encoder.encode_many([crop])[0] for crop in crops]
    watch.now += more
    cost.add((one.usage for one in found), watch.now - started)


def test_a_crop_counts_for_everybody_who_looks_at_it_and_once(watch, sam, scan_encoder):
    first, second = Cost(), Cost()
    charge(first, watch, scan_encoder, [Crop(0)])
    charge(second, watch, scan_encoder, [Crop(0), Crop(0)])
    assert sam.encoded == 1
    assert first.encoder_calls == second.encoder_calls == 1
    assert first.seconds == second.seconds == 8
    assert (first.usage.encoded, second.usage.encoded) == (1, 0)


def test_what_is_not_encoding_counts_too(watch, scan_encoder):
    cost = Cost()
    charge(cost, watch, scan_encoder, [Crop(0), Crop(1, (0, 0, 10, 10))], more=3)
    assert cost.encoder_calls == 2
    assert cost.seconds == 3 + 2 * 8
    assert cost.shared(2) == (9.5, 1)


def test_crops_that_are_encoded_together_share_the_time(watch, scan_encoder):
    cost = Cost()
    found = scan_encoder.encode_many([Crop(0), Crop(1, (0, 0, 10, 10)), Crop(0)])
    cost.add((one.usage for one in found), 16)
    assert list(found[1].usage.crops.values()) == [8]
    assert cost.seconds == 16


def test_the_scans_own_window_named_or_not_is_one_crop(watch, sam, scan_encoder):
    cost = Cost()
    charge(cost, watch, scan_encoder, [Crop(2), Crop(2, None, scan_encoder.window)])
    assert cost.encoder_calls == sam.encoded == 1


def test_a_total_can_go_on_later(watch, scan_encoder):
    one, other = Cost(), Cost()
    charge(one, watch, scan_encoder, [Crop(0)])
    charge(other, watch, scan_encoder, [Crop(1)])
    charge(one, watch, scan_encoder, [Crop(2)])
    assert sorted(crop.index for crop in one.usage.crops) == [0, 2]
    assert other.encoder_calls == 1
    assert Cost().usage == Usage()
