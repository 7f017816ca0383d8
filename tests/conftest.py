"""Fixtures every room shares: the folder of real scans, and the LiteMedSAM weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# A shell that starts the tests in the background has SIGINT ignored, and so would every process that a test starts and
# interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data() -> Path:
    """Real scans for development; not part of the repository."""
    folder = Path(os.environ.get("MEDSAM_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real scans: set MEDSAM_DATA to their folder, or put it at ../shared/data")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _silent_however_slow_the_machine_is():
    """Lines of progress come after seconds of work, which a busy machine takes for anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medsam.progress._FIRST", 3600.0)
        yield


@pytest.fixture(scope="session")
def litemedsam():
    """The real LiteMedSAM, eval mode, CPU. Fetched once into the cache."""
    from medsam.models.build import load_model

    return load_model("litemedsam")
