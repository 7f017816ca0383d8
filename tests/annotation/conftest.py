from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import tiny_model

from medsam.inference.predictor import Predictor


@pytest.fixture(scope="session")
def boxes_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="session")
def predictor(boxes_model: Path) -> Predictor:
    return Predictor(boxes_model, "cpu", engine="torch")


@pytest.fixture(scope="session")
def other_predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Other weights."""
    path = tiny_model(tmp_path_factory.mktemp("other") / "tiny.safetensors", seed=1)
    return Predictor(path, "cpu", engine="torch")
