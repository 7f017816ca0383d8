"""A small network, and its graphs: written, checked and compiled once a session."""

import pytest
import torch

from medsam.inference.engines.openvino import OpenVinoEngine
from medsam.inference.engines.torch import TorchEngine
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec


@pytest.fixture(scope="session")
def tiny_sam():
    torch.manual_seed(3)
    return build_model(tiny_spec("tiny_vit")).eval()


@pytest.fixture(scope="session")
def graph_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def exported(tiny_sam, graph_folder):
    return OpenVinoEngine(tiny_sam, "float32", graph_folder)


@pytest.fixture(scope="session")
def features(tiny_sam):
    torch.manual_seed(5)
    return TorchEngine(tiny_sam, torch.device("cpu")).encode(torch.rand(1, 3, 64, 64))
