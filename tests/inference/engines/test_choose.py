import logging
import sys

import pytest
import torch

from medsam.errors import InputError
from medsam.inference.engines import choose, openvino
from medsam.inference.engines.choose import choose_engine
from medsam.inference.engines.torch import TorchEngine
from medsam.inference.image_predictor import ImagePredictor
from medsam.models import runtime
from medsam.models.checkpoint import save_checkpoint

CPU = torch.device("cpu")


def test_small_networks_and_networks_in_training_stay_in_torch(tiny_sam, tmp_path):
    save_checkpoint(tiny_sam, tmp_path / "small.safetensors")
    assert ImagePredictor(tmp_path / "small.safetensors", "cpu").engine.name == "torch"
    assert ImagePredictor(tiny_sam, "cpu").engine.name == "torch"


def test_without_openvino_torch_answers_and_says_so(tiny_sam, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    # not the one this process has already
    monkeypatch.setattr(runtime, "_core", runtime._core.__wrapped__)
    monkeypatch.setattr(choose, "_WORTH_EXPORTING", 0)
    with caplog.at_level(logging.WARNING):
        assert choose_engine(tiny_sam, CPU).name == "torch"
    assert "OpenVINO is missing" in caplog.text
    with pytest.raises(ImportError):
        choose_engine(tiny_sam, CPU, engine="openvino")


def test_what_is_not_there_is_named(tiny_sam):
    with pytest.raises(InputError, match="no precision 'int4'; use auto, float32"):
        choose_engine(tiny_sam, CPU, "int4")
    with pytest.raises(InputError, match="no engine 'tvm'; use auto, torch, openvino"):
        choose_engine(tiny_sam, CPU, engine="tvm")
    with pytest.raises(InputError, match="runs on the CPU, not on cuda"):
        choose_engine(tiny_sam, torch.device("cuda"), engine="openvino")


def test_lower_precision_is_near(tiny_sam):
    engine = choose_engine(tiny_sam, CPU, "bfloat16", "torch")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    exact = TorchEngine(tiny_sam, CPU).encode(image)
    assert engine.precision == "bfloat16"
    assert 0 < (engine.encode(image) - exact).norm() / exact.norm() < 0.1


def test_graphs_run_in_no_precision_that_the_processor_lacks(tiny_sam):
    can = runtime.openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, capability in (("bfloat16", "BF16"), ("float16", "FP16")):
        if capability in can:
            assert choose_engine(tiny_sam, CPU, precision, "openvino").precision == precision
        else:
            with pytest.raises(InputError, match=f"does not compute in {precision}"):
                choose_engine(tiny_sam, CPU, precision, "openvino")


@pytest.mark.weights
def test_known_weights_run_as_graphs_that_need_no_exporter(litemedsam, tmp_path, monkeypatch):
    engine = choose_engine(litemedsam, CPU)
    assert engine.name == "openvino"
    engine._engine._folder = tmp_path

    def never(*arguments):
        raise AssertionError("a structure of the package is outdated: run scripts/structures.py")

    monkeypatch.setattr(openvino, "export_graph", never)
    engine.warm_up()  # compares each graph with torch
    assert engine.name == "openvino"
