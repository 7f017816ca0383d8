"""An engine that stands in for another where that one cannot get ready."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from medsam.errors import CheckpointError
from medsam.inference.engines import openvino
from medsam.inference.engines.base import EngineError, FallbackEngine
from medsam.inference.engines.choose import choose_engine
from medsam.inference.engines.openvino import OpenVinoEngine
from medsam.inference.engines.torch import TorchEngine

CPU = torch.device("cpu")
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
BOX = {"boxes": torch.tensor([[4.0, 4, 20, 20]])}


@pytest.fixture
def broken(tiny_sam, tmp_path, monkeypatch):
    """An engine whose graphs cannot be written."""

    def failing(*arguments):
        raise CheckpointError("The encoder cannot be written as ONNX.")

    monkeypatch.setattr(openvino, "export_graph", failing)
    return OpenVinoEngine(tiny_sam, "float32", tmp_path)


def test_where_a_graph_fails_torch_answers_and_says_so_once(tiny_sam, broken, caplog):
    torch_engine = TorchEngine(tiny_sam, CPU)
    engine = FallbackEngine(broken, torch_engine)
    assert engine.name == "openvino"
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: engine.encode(IMAGE), range(4)))
    assert caplog.text.count("Torch answers instead") == 1
    assert engine.name == "torch"
    for one in found:
        torch.testing.assert_close(one, torch_engine.encode(IMAGE))


@pytest.mark.parametrize("wanted", [("auto", "openvino"), ("int8", "auto")])
def test_what_was_asked_for_is_not_replaced(tiny_sam, monkeypatch, wanted):
    monkeypatch.setattr("medsam.inference.engines.choose._WORTH_EXPORTING", 0)
    assert isinstance(choose_engine(tiny_sam, CPU, *wanted), OpenVinoEngine)
    assert isinstance(choose_engine(tiny_sam, CPU, "auto", "auto"), FallbackEngine)


def test_one_engine_gives_all_answers(tiny_sam, exported, monkeypatch):
    """What fails once it is known who answers is raised, and answered by nobody else."""
    engine = FallbackEngine(exported, TorchEngine(tiny_sam, CPU))
    features = engine.encode(IMAGE)

    def failing(*arguments, **options):
        raise EngineError("OpenVINO cannot run answer.")

    monkeypatch.setattr(exported, "decode", failing)
    with pytest.raises(EngineError, match="cannot run answer"):
        engine.decode(features, BOX, multimask=False)
    assert engine.name == "openvino"


def test_what_stands_in_passes_everything_on(tiny_sam, exported, features):
    engine = FallbackEngine(exported, TorchEngine(tiny_sam, CPU))
    assert (engine.name, engine.device, engine.precision) == ("openvino", CPU, "float32")
    roi = BOX["boxes"]
    found = engine.decode(features, BOX, multimask=True, image=engine.precompute(features), roi=roi, extend_roi=True)
    expected = exported.decode(features, BOX, multimask=True, roi=roi, extend_roi=True)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
