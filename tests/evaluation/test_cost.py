from types import SimpleNamespace

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.evaluation import cost
from medsam.evaluation.cost import Bill, MeteredLooker
from medsam.inference.network import Look
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
    return MeteredLooker(Predictor(sam, device="cpu").looker(scan))


def test_whoever_takes_a_look_pays_for_it_also_the_second_time(watch):
    look = metered(SlowSam(watch))
    first, second = Bill(), Bill()
    with look.charge(first):
        look(0)
    with look.charge(second):
        look(0)
        look(0)
    assert look.network.encoded == 1
    assert first.encoder_calls == second.encoder_calls == 1
    assert first.seconds == 8
    assert second.looks == first.looks
    assert second.rest == 0


def test_what_is_not_looking_is_the_rest(watch):
    look = metered(SlowSam(watch))
    bill = Bill()
    with look.charge(bill):
        watch.now += 3
        look.many([Look(0), Look(1, (0, 0, 10, 10))])
    assert bill.rest == 3
    assert bill.encoder_calls == 2
    assert bill.seconds == 3 + 2 * 8


def test_the_scans_own_window_named_or_not_is_one_look():
    look = metered(ThresholdSam())
    bill = Bill()
    with look.charge(bill):
        look(2)
        look(2, window=look.window)
    assert bill.encoder_calls == look.network.encoded == 1


def test_a_bill_can_go_on_later():
    look = metered(ThresholdSam())
    one, other = Bill(), Bill()
    with look.charge(one):
        look(0)
    with look.charge(other):
        look(1)
    with look.charge(one):
        look(2)
    assert [look.index for look in one.looks] == [0, 2]
    assert other.encoder_calls == 1
