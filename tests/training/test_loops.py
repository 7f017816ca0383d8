"""What a log is told of Lightning's loops, and what they keep."""

import sys
from contextlib import contextmanager

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from medsam.training import loops as our_loops
from medsam.training.loops import WholeCheckpoints, progress_bar, quiet


@pytest.fixture
def told(monkeypatch) -> list:
    """(name, done, in all) of every step, and ("end", name) where it is said that one is done."""
    found: list = []

    @contextmanager
    def lines(name):
        yield (lambda done, total: found.append((name, done, total)),)
        found.append(("end", name))

    monkeypatch.setattr(our_loops, "progress_lines", lines)
    monkeypatch.setattr(our_loops, "on_terminal", lambda: False)
    return found


def loops(**settings) -> Trainer:
    off = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(**off, callbacks=[progress_bar("Cases")], num_sanity_val_steps=0, **settings)


def test_training_counts_steps_and_a_test_its_batches(told):
    with quiet():
        loops(max_steps=3, limit_val_batches=2).fit(BoringModel())
        assert told == [("Steps", 1, 3), ("Steps", 2, 3), ("Steps", 3, 3), ("end", "Steps")]
        told.clear()
        loops(limit_test_batches=2).test(BoringModel(), verbose=False)
        assert told == [("Cases", 1, 2), ("Cases", 2, 2), ("end", "Cases")]
        told.clear()
        loops(limit_val_batches=2).validate(BoringModel(), verbose=False)
        assert told == [("Cases", 1, 2), ("Cases", 2, 2), ("end", "Cases")]


def test_a_loop_that_fails_does_not_say_it_is_done(told):
    class Failing(BoringModel):
        def test_step(self, batch, index):
            if index == 1:
                raise ZeroDivisionError

    with quiet(), pytest.raises(ZeroDivisionError):
        loops(limit_test_batches=3).test(Failing(), verbose=False)
    assert told == [("Cases", 1, 3)]


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_checkpoint_for_which_there_is_no_room_leaves_the_last_one_as_it_was(tmp_path):
    import resource

    path, kept = tmp_path / "checkpoints" / "last.ckpt", WholeCheckpoints()
    kept.save_checkpoint({"weights": torch.arange(3.0)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match=r"disk may be full|File too large"):
            kept.save_checkpoint({"weights": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(3.0))
