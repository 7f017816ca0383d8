"""Graphs without weights, and the released ones that come with the package."""

from __future__ import annotations

from dataclasses import replace

import onnx
import onnxruntime
import pytest
import torch

from medsam.errors import CheckpointError
from medsam.models.build import build_model
from medsam.models.export import GRAPHS, example_inputs, graph_module
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, DecoderSizes, tiny_spec
from medsam.models.structures import (
    fill_structure,
    filled_structure,
    find_structure,
    make_structure,
    structure_name,
)


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(1)
    return build_model(tiny_spec("vit")).eval()


@pytest.fixture(scope="module")
def structure(sam) -> bytes:
    return make_structure(sam, "precompute")


def test_a_structure_with_weights_answers_as_the_network_they_are_of(structure, sam, tmp_path):
    """Also weights it was not made from."""
    torch.manual_seed(2)
    for number, model in enumerate((sam, build_model(sam.spec).eval())):
        path = tmp_path / f"{number}.onnx"
        fill_structure(structure, model, "precompute", path)
        (embedding,) = example_inputs(model, "precompute")
        found = onnxruntime.InferenceSession(str(path)).run(None, {"embedding": embedding.numpy()})
        with torch.no_grad():
            wanted = graph_module(model, "precompute")(embedding)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, atol=1e-5, rtol=1e-4)


def test_a_structure_holds_no_weights(structure):
    graph = onnx.load_from_string(structure).graph
    assert len(graph.initializer) > 5
    assert not any(tensor.raw_data for tensor in graph.initializer)
    assert len(structure) < 50_000


def test_what_does_not_fit_is_refused_and_leaves_no_file(sam, structure, tmp_path):
    wider = build_model(replace(sam.spec, decoder=DecoderSizes(width=64, mlp_width=64, quality_width=32)))
    for wrong, model in ((b"no graph at all", sam), (structure, wider)):
        with pytest.raises(CheckpointError, match="The structure of the precompute"):
            fill_structure(wrong, model, "precompute", tmp_path / "precompute.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(SPECS.keys() - {"sam-vit-h"}))
def test_released_models_come_with_their_structures(name):
    spec = SPECS[name]
    with torch.device("meta"):
        sam = Sam.from_spec(spec)
    for graph in GRAPHS:
        found = find_structure(spec, graph)
        assert found is not None, f"make {structure_name(spec, graph)} with scripts/structures.py"
        shapes = {name: list(tensor.shape) for name, tensor in graph_module(sam, graph).state_dict().items()}
        for tensor in onnx.load_from_string(found).graph.initializer:
            assert shapes[tensor.name] == list(tensor.dims)


def test_the_decoder_that_a_page_gets_answers_as_torch():
    """LiteMedSAM's sizes, weights at random: a box and a click, three positions and two."""
    torch.manual_seed(4)
    sam = build_model(SPECS["litemedsam"]).eval()
    structure = find_structure(sam.spec, "decoder")
    assert structure is not None
    session = onnxruntime.InferenceSession(filled_structure(structure, sam, "decoder"))
    for positions in (2, 3):
        inputs = example_inputs(sam, "decoder", prompts=1, positions=positions)
        names = ("embedding", "point_coords", "point_labels")
        found = session.run(None, dict(zip(names, (one.numpy() for one in inputs), strict=True)))
        with torch.no_grad():
            wanted = graph_module(sam, "decoder")(*inputs)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(torch.from_numpy(one), other, atol=1e-4, rtol=1e-3)


def test_other_sizes_are_other_structures():
    lite, large, huge = SPECS["litemedsam"], SPECS["sam-vit-l"], SPECS["sam-vit-h"]
    assert structure_name(large, "encoder") != structure_name(huge, "encoder")
    assert (
        structure_name(large, "decode_tokens")
        == structure_name(huge, "decode_tokens")
        != structure_name(lite, "decode_tokens")
    )
    assert find_structure(tiny_spec("vit"), "decode_tokens") is None
