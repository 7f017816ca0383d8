"""Fixtures every room shares: the folder of real scans, and the LiteMedSAM weights."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# A shell that starts the tests in the background has SIGINT ignored, and so would every process that a test starts and
# interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Files whose tests share what takes ten seconds and more to make: the graphs of one network (`export`), and a server
# with its cases (`house`).
_TOGETHER = {
    "cli/test_export.py": "graphs",
    "models/test_export.py": "graphs",
    "inference/engines/test_base.py": "graphs",
    "inference/engines/test_openvino.py": "graphs",
    "inference/test_image_predictor.py": "graphs",
    "page/test_people.py": "house",
    "page/test_reading.py": "house",
}


def _group(nodeid: str) -> str:
    """A test's file, or what its file has in common with others."""
    file = nodeid.split("::")[0].removeprefix("tests/")
    return _TOGETHER.get(file, file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups with slow tests come first: what is left at the end is short, and no process waits long for another."""
    slow = Counter(_group(item.nodeid) for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[_group(item.nodeid)], _group(item.nodeid)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: a collection of garbage that goes through it takes half a second each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a group run in one process, since they share what is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    # not by how many tests a group has
    config.option.loadscopereorder = False
    return Groups(config, log)


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


class Export(NamedTuple):
    """What `medsam export` made of a small network. model: its checkpoint. folder: the graphs. printed: to stdout."""

    model: Path
    folder: Path
    printed: str


@pytest.fixture(scope="session")
def exported_sam():
    """A tiny TinyViT with weights of a size that lets every part of the network show in the answer; eval mode."""
    import torch

    from medsam.models.build import build_model
    from medsam.models.specs import tiny_spec

    torch.manual_seed(1)
    sam = build_model(tiny_spec("tiny_vit")).eval()
    with torch.no_grad():
        for name, weight in sam.named_parameters():
            if weight.ndim > 1 and not name.startswith("image_encoder"):
                weight.normal_(0, weight[0].numel() ** -0.5)
    return sam


@pytest.fixture(scope="session")
def export(exported_sam, tmp_path_factory) -> Export:
    """Every graph of `exported_sam`, as `medsam export` writes them."""
    from medsam.cli.main import main
    from medsam.models.checkpoint import save_checkpoint

    folder = tmp_path_factory.mktemp("export")
    model = folder / "tuned.safetensors"
    # as `medsam fit` leaves it
    save_checkpoint(exported_sam, model, training={"epochs": 2})
    with redirect_stdout(StringIO()) as printed:
        assert main(["export", "--model", str(model), "--out", str(folder / "graphs"), "--json"]) == 0
    return Export(model, folder / "graphs", printed.getvalue())
