"""What our Lightning loops share: quiet, and Ctrl-C that stays Ctrl-C."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar

# Lightning's talk of products and hardware, and of workers where a loader needs none
_NOISE = (
    (".*does not have many workers.*", UserWarning),
    (".*LightningCLI's args parameter.*", UserWarning),
    (".*Checkpoint directory .* exists and is not empty.*", UserWarning),
    # the best checkpoint waits for the first validation, the last one does not
    (".*could not find the monitored key.*", UserWarning),
    # who goes on in another folder starts a new list of the best there
    (".*dirpath has changed.*", UserWarning),
    # scoring needs none of what kept the checkpoint
    (".*callbacks used to create the checkpoint.*", UserWarning),
    # batch norms rest on purpose
    (".*in eval mode at the start of training.*", UserWarning),
    # an epoch may be short: what is logged counts steps, not epochs
    (".*smaller than the logging interval.*", UserWarning),
    # Lightning 2.6 asks torch 2.13 for a class by its old name
    (".*LeafSpec.*", FutureWarning),
    # and jsonargparse for methods by theirs
    (r"\s*By default only one JsonargparseDeprecationWarning", DeprecationWarning),
    (r"(?s).*was deprecated in v4\.", DeprecationWarning),
)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning tells of errors only."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message, category in _NOISE:
                warnings.filterwarnings("ignore", message=message, category=category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interruptible(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C ends what runs inside with KeyboardInterrupt; Lightning would make exit status 1 of it."""
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def progress_bar() -> RichProgressBar:
    """On stderr: stdout belongs to the answer."""
    return RichProgressBar(console_kwargs={"stderr": True})
