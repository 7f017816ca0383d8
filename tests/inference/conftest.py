"""A small network, and its graphs: written once a session, checked and compiled once a session."""

import shutil

import pytest
import torch

from medsam.inference.engines.openvino import OpenVinoEngine
from medsam.inference.engines.torch import TorchEngine


@pytest.fixture(scope="session")
def tiny_sam(exported_sam):
    return exported_sam


@pytest.fixture(scope="session")
def graph_folder(export, tmp_path_factory):
    """The engine's own folder, with the graphs that it would write: torch's exporter takes half a minute for them."""
    folder = tmp_path_factory.mktemp("graphs")
    for graph in export.folder.glob("*.onnx"):
        shutil.copy(graph, folder)
    return folder


@pytest.fixture(scope="session")
def exported(tiny_sam, graph_folder):
    return OpenVinoEngine(tiny_sam, "float32", graph_folder)


@pytest.fixture(scope="session")
def features(tiny_sam):
    torch.manual_seed(5)
    return TorchEngine(tiny_sam, torch.device("cpu")).encode(torch.rand(1, 3, 64, 64))
