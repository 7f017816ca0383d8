"""The load of `scripts/speed/serve_load.py` for a few seconds, and what it would find."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from medsam.client.client import Client
from medsam.io.load import load_volume

SPEED = Path(__file__).parents[2] / "scripts" / "speed"


@pytest.fixture(scope="module")
def load():
    """The script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPEED))
        import serve_load

        yield serve_load
    for name in ("serve_load", "served"):
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def work(load, live):
    """A scan that every reader sees, and tasks on it with what they give."""
    scan, balls = load.made_ct(3, 8, 48)
    load.write_nifti(live.data / "load.nii.gz", scan)
    scan = load_volume(live.data / "load.nii.gz")
    tasks = load.tasks_of(0, balls[:1], 8, 4.0)
    plan = {task: load.expected_of(live.predictor, scan, task) for task in tasks}
    with Client(live.url, live.tokens["ada"]) as client:
        return load.found_case(client, "load").id, plan


def drive(load, live, case, plan):
    clients = [Client(live.url, live.tokens[name]) for name in ("ada", "ben", "grace")]
    try:
        return load.drive(
            clients, [case], plan, seconds=1.0, pause_s=0.02, watch=lambda: {"server": 100.0}, every_s=0.3
        )
    finally:
        for client in clients:
            client.close()


def test_readers_beside_each_other_get_the_masks_they_would_get_alone(load, live, work):
    seen, watched = drive(load, live, *work)
    assert seen.wrong == []
    assert seen.counts["tasks"] >= 3
    assert seen.counts["masks compared"] > 20
    assert {"box", "click", "refined", "undo or redo"} <= seen.seconds.keys()
    assert len(watched) >= 2


def test_a_mask_that_is_another_one_is_found(load, live, work):
    case, plan = work
    task = next(iter(plan))
    masks = [np.roll(mask, 1, axis=0) for mask in plan[task].masks]
    seen, _ = drive(load, live, case, {task: load.Expected(masks, plan[task].propagated)})
    assert any("pixels differ" in text for text in seen.wrong)


def test_growth_is_the_slope_over_the_last_two_thirds(load):
    watched = [{"s": 60.0 * n, "server": 500.0 if n < 3 else 100.0 + n} for n in range(9)]
    assert load.growth_percent(watched) == pytest.approx(100 / 105.5)
