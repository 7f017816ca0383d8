"""What is said of a checkpoint that is not loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsam.errors import CheckpointError
from medsam.models.checkpoint import load_checkpoint
from medsam.models.specs import ModelSpec


def error_of(path: Path, spec: ModelSpec | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec)
    return str(caught.value)
