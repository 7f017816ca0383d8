"""What our Lightning loops share: quiet, Ctrl-C that stays Ctrl-C, and checkpoints that are whole or not there."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, RichProgressBar

from medsam.files import write_whole
from medsam.progress import ProgressCallback, on_terminal, progress_lines
from medsam.silence import Rule, silence

# Lightning's talk of products and hardware, and of workers where a loader needs none
_NOISE = (
    Rule(message=".*does not have many workers.*", category=UserWarning),
    Rule(message=".*LightningCLI's args parameter.*", category=UserWarning),
    Rule(message=".*Checkpoint directory .* exists and is not empty.*", category=UserWarning),
    # the best checkpoint waits for the first validation, the last one does not
    Rule(message=".*could not find the monitored key.*", category=UserWarning),
    # who goes on in another folder starts a new list of the best there
    Rule(message=".*dirpath has changed.*", category=UserWarning),
    # scoring needs none of what kept the checkpoint
    Rule(message=".*callbacks used to create the checkpoint.*", category=UserWarning),
    # nor the averages of the steps, whose weights were kept
    Rule(message=".*WeightAveraging callback, but loading a checkpoint outside.*", category=UserWarning),
    # batch norms are in eval mode on purpose
    Rule(message=".*in eval mode at the start of training.*", category=UserWarning),
    # an epoch may be short: what is logged counts steps, not epochs
    Rule(message=".*smaller than the logging interval.*", category=UserWarning),
    # Lightning 2.6 asks torch 2.13 for a class by its old name
    Rule(message=".*LeafSpec.*", category=FutureWarning),
    # and jsonargparse for methods by theirs
    Rule(message=r"\s*By default only one JsonargparseDeprecationWarning", category=DeprecationWarning),
    Rule(message=r"(?s).*was deprecated in v4\.", category=DeprecationWarning),
)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning logs errors only."""
    with silence(*_NOISE, loggers=("lightning.pytorch", "lightning.fabric"), below=logging.ERROR):
        yield


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C ends what runs inside with KeyboardInterrupt; Lightning would make exit status 1 of it."""
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def progress_bar(batches: str = "Batches") -> ProgressBar:
    """On stderr: stdout belongs to the answer. batches: what they are, of validation and test."""
    return RichProgressBar(console_kwargs={"stderr": True}) if on_terminal() else _ProgressLines(batches)


class _ProgressLines(ProgressBar):
    """Progress of a loop in a log, see `medsam.progress`."""

    def __init__(self, batches: str) -> None:
        super().__init__()
        self._batches, self._enabled = batches, True
        self._open = ExitStack()
        self._progress: ProgressCallback | None = None
        self._done = 0

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, *_: Any) -> None:
        self._start("Steps")

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._count(trainer.global_step, trainer.estimated_stepping_batches)

    def on_train_end(self, *_: Any) -> None:
        self._end()

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        # within a training it is part of a step
        if trainer.state.fn == "validate":
            self._start(self._batches)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.state.fn == "validate":
            self._count(self._done + 1, _sum(trainer.num_val_batches))

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.state.fn == "validate":
            self._end()

    def on_test_start(self, *_: Any) -> None:
        self._start(self._batches)

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._count(self._done + 1, _sum(trainer.num_test_batches))

    def on_test_end(self, *_: Any) -> None:
        self._end()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._progress = None
        # that says nothing of an end
        self._open.__exit__(type(exception), exception, exception.__traceback__)

    def _start(self, name: str) -> None:
        self._done = 0
        if self._enabled:
            (self._progress,) = self._open.enter_context(progress_lines(name))

    def _count(self, done: int, total: float) -> None:
        self._done = done
        if self._progress is not None:
            # a loop may continue until it is stopped
            self._progress(done, int(total) if 0 < total < math.inf else None)

    def _end(self) -> None:
        self._progress = None
        self._open.close()


def _sum(batches: float | Sequence[float]) -> float:
    return sum(batches) if isinstance(batches, Sequence) else batches


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints under their name complete or not at all.

    Lightning writes them among the system's temporary files and moves them, which copies from one disk to another: a
    full disk, or an end in between, leaves half of one in place of the last that was whole. Raises OSError when it
    cannot be written.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """path: on a disk; where it is an address of another store, Lightning does as it always does."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as part:
            try:
                torch.save(checkpoint, part)
            except RuntimeError as error:
                # torch says so of a disk that takes no more, without the system's number
                if "write" not in str(error) and "pos" not in str(error):
                    raise
                raise OSError(errno.ENOSPC, "it cannot be written, the disk may be full", str(path)) from error


class LastCheckpoint(ModelCheckpoint):
    """What to go on from, `last.ckpt`, every `steps` steps.

    Lightning keeps a step before the validation that follows it, and a run that goes on from there never makes up for
    that validation: another step would be the best one. So a step that is validated is kept once that is over.
    """

    def __init__(self, steps: int, **keep: Any) -> None:
        super().__init__(filename="last", every_n_train_steps=steps, **keep)
        self._waits = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._waits = trainer.is_last_batch or (batch_idx + 1) % (trainer.val_check_batch or math.inf) == 0
        if not self._waits:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._keep(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._keep(trainer, pl_module)

    def _keep(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._waits:
            self._waits = False
            super().on_train_batch_end(trainer, pl_module, None, None, 0)
