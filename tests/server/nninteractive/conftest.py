"""A server for nnInteractive's own client, over a real port."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nninteractive_viewer import Viewer
from over_a_port import serving
from phantoms import ThresholdSam, block

from medsam.inference.predictor import Predictor
from medsam.inference.worker import Worker
from medsam.server.app import create_app
from medsam.server.settings import NNInteractive, ServerSettings

# its threads would be as many as the machine has cores, for arrays of some KB
os.environ.setdefault("BLOSC_NTHREADS", "1")


@pytest.fixture(scope="module")
def predictor() -> Iterator[Predictor]:
    """Answers with what is bright."""
    with Worker() as worker:
        yield Predictor(ThresholdSam(64), "cpu", worker=worker)  # type: ignore[arg-type]


Serve = Callable[..., str]


@contextmanager
def _servers(folder: Path, predictor: Predictor) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(answers: Predictor | None = None, **settings: Any) -> str:
            told = ServerSettings(store=folder / "store", nninteractive=NNInteractive(**settings))
            return stack.enter_context(serving(create_app(told, answers or predictor))) + "/nninteractive"

        yield start


@pytest.fixture
def serve(tmp_path: Path, predictor: Predictor) -> Iterator[Serve]:
    """`serve(sessions=2, ...)`: the address of a server, until the test's end. answers: in place of `predictor`."""
    with _servers(tmp_path, predictor) as start:
        yield start


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, predictor: Predictor) -> Iterator[str]:
    """The address of one for all tests of a file."""
    with _servers(tmp_path_factory.mktemp("server"), predictor) as start:
        yield start()


@pytest.fixture
def claim() -> Iterator[Callable[..., Any]]:
    """`claim(address)`: nnInteractive's own client with a session, which ends with the test."""
    remote = pytest.importorskip("nnInteractive.inference.remote", reason="the client of nnInteractive")
    with ExitStack() as stack:
        yield lambda url, key=None, **more: stack.enter_context(
            remote.nnInteractiveRemoteInferenceSession(url, key, **more)
        )


@pytest.fixture(scope="session")
def bright() -> tuple[np.ndarray, np.ndarray]:
    """A bright block on slices 1 ... 4 of six, float32 (K, J, I), and where it is."""
    _, inside = block((6, 24, 32), (6, 8, 1, 18, 18, 5))
    noise = np.random.default_rng(0).uniform(0, 10, inside.shape).astype(np.float32)
    return np.where(inside, 200, 20 + noise).astype(np.float32), inside


@pytest.fixture
def viewer(url: str, claim: Callable[..., Any], bright: tuple[np.ndarray, np.ndarray]) -> Viewer:
    """On the bright block."""
    return Viewer(claim(url), bright[0])
