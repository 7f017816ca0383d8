"""Exported graphs beside the model they were made from, in ONNX Runtime. Each graph is written once a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from medsam.errors import CheckpointError
from medsam.models import export
from medsam.models.build import build_model, load_model
from medsam.models.export import GRAPHS, OPSET, export_graph
from medsam.models.mask_decoder import ImageTokens
from medsam.models.prompt_encoder import as_tokens
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec

pytestmark = pytest.mark.slow

SIDE, SIZE, CELLS = 16, 64, 256


class Graphs:
    """The graphs of one model, opened, and written if need be, when first used."""

    def __init__(self, sam: Sam, folder: Path) -> None:
        self.sam, self.folder = sam, folder
        self.sessions: dict[str, onnxruntime.InferenceSession] = {}

    def path(self, name: str) -> Path:
        path = self.folder / f"{name}.onnx"
        if not path.exists():
            export_graph(self.sam, name, path)
        return path

    def run(self, name: str, *inputs: Tensor) -> list[Tensor]:
        if name not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self.sessions[name] = onnxruntime.InferenceSession(
                str(self.path(name)), options, providers=["CPUExecutionProvider"]
            )
        given = {key: tensor.numpy() for key, tensor in zip(GRAPHS[name].inputs, inputs, strict=True)}
        return [torch.from_numpy(values) for values in self.sessions[name].run(None, given)]


@pytest.fixture(scope="module")
def tiny_vit(export) -> Graphs:
    """The graphs that the command wrote."""
    return Graphs(load_model(export.model).eval(), export.folder)


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> Graphs:
    torch.manual_seed(1)
    return Graphs(build_model(tiny_spec("vit")).eval(), tmp_path_factory.mktemp("vit"))


@pytest.fixture
def embedding(tiny_vit) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(1, tiny_vit.sam.spec.decoder.width, SIDE, SIDE)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def boxes(prompts: int) -> Tensor:
    ends = torch.rand(1, prompts, 2, 2) * SIZE
    return torch.cat([ends.amin(2), ends.amax(2)], dim=-1)


def points(prompts: int, count: int) -> tuple[Tensor, Tensor]:
    return torch.rand(1, prompts, count, 2) * SIZE, torch.randint(2, (1, prompts, count))


def padded() -> tuple[Tensor, Tensor]:
    """Three prompts of one, two and four points."""
    places, labels = points(3, 4)
    for row, length in enumerate((1, 2, 4)):
        labels[0, row, length:] = -1
    return places, labels


PROMPTS = {
    "one box": lambda: {"boxes": boxes(1)},
    "many boxes": lambda: {"boxes": boxes(33)},
    "one point": lambda: dict(zip(("points", "point_labels"), points(1, 1), strict=True)),
    "nine points": lambda: dict(zip(("points", "point_labels"), points(2, 9), strict=True)),
    "box and points": lambda: {"boxes": boxes(2)} | dict(zip(("points", "point_labels"), points(2, 3), strict=True)),
    "padded points": lambda: dict(zip(("points", "point_labels"), padded(), strict=True)),
}


def laid_out(given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    found = as_tokens(given.get("boxes"), given.get("points"), given.get("point_labels"))
    assert found is not None
    return found


def assert_same(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert wanted.std() > 1e-2, "an answer without contrast proves nothing"
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def as_map(cells: Tensor) -> Tensor:
    """Logits of every cell in order (1, P, 4, n, 4, 4) -> maps (1, P, 4, 4h, 4w)."""
    return cells.unflatten(3, (SIDE, SIDE)).transpose(4, 5).flatten(3, 4).flatten(4, 5)


def every_cell(prompts: int) -> Tensor:
    return torch.arange(CELLS).expand(1, prompts, -1).contiguous()


@pytest.mark.parametrize("family", ["vit", "tiny_vit"])
def test_the_encoder_encodes_as_the_model_does(family, request):
    graphs = request.getfixturevalue(family)
    image = torch.rand(1, 3, SIZE, SIZE)
    assert_same(graphs.run("encoder", image)[0], graphs.sam.encode_image(image))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_decoder_answers_as_the_model_does(tiny_vit, embedding, prompt):
    given = PROMPTS[prompt]()
    logits, predicted_iou = tiny_vit.run("decoder", embedding, *laid_out(given))
    wanted_logits, wanted_quality = tiny_vit.sam.decode(embedding, **given, multimask=None)
    assert_same(logits, wanted_logits)
    assert_same(predicted_iou, wanted_quality)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_decoder_in_two_parts_answers_as_in_one(tiny_vit, embedding, prompt):
    coordinates, token_types = laid_out(PROMPTS[prompt]())
    part = tiny_vit.run("precompute", embedding)
    logits, predicted_iou = tiny_vit.run(
        "decode_tokens", *part, coordinates, token_types, every_cell(coordinates.shape[1])
    )
    wanted_logits, wanted_quality = tiny_vit.run("decoder", embedding, coordinates, token_types)
    assert_same(as_map(logits), wanted_logits)
    assert_same(predicted_iou, wanted_quality)


@pytest.mark.parametrize("cells", [1, 5, CELLS])
def test_an_answer_holds_the_cells_that_were_asked_for_in_that_order(tiny_vit, embedding, cells):
    coordinates, token_types = laid_out({"boxes": boxes(2)})
    part = tiny_vit.run("precompute", embedding)
    asked = torch.stack([torch.randperm(CELLS)[:cells] for _ in range(2)])[None]
    logits, _ = tiny_vit.run("decode_tokens", *part, coordinates, token_types, asked)
    everything, _ = tiny_vit.run("decode_tokens", *part, coordinates, token_types, every_cell(2))
    chosen = torch.stack([everything[0, row, :, asked[0, row]] for row in range(2)])[None]
    torch.testing.assert_close(logits, chosen, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prompts", [1, 4])
def test_an_answer_takes_an_earlier_one_as_the_model_does(tiny_vit, embedding, prompts):
    given = {"boxes": boxes(prompts)} | dict(zip(("points", "point_labels"), points(prompts, 2), strict=True))
    masks = 4 * torch.randn(1, prompts, 4 * SIDE, 4 * SIDE)
    logits, predicted_iou = tiny_vit.run(
        "decode_tokens_with_mask", embedding, masks, *laid_out(given), every_cell(prompts)
    )
    wanted_logits, wanted_quality = tiny_vit.sam.decode(embedding, **given, masks=masks, multimask=None)
    assert_same(as_map(logits), wanted_logits)
    assert_same(predicted_iou, wanted_quality)


def test_a_mask_alone_is_a_prompt_without_positions(tiny_vit, embedding):
    masks = 4 * torch.randn(1, 2, 4 * SIDE, 4 * SIDE)
    nowhere = torch.zeros(1, 2, 0, 2), torch.zeros(1, 2, 0, dtype=torch.int64)
    logits, _ = tiny_vit.run("decode_tokens_with_mask", embedding, masks, *nowhere, every_cell(2))
    assert_same(as_map(logits), tiny_vit.sam.decode(embedding, masks=masks, multimask=None)[0])


def test_prompts_answered_together_are_answered_as_alone(tiny_vit, embedding):
    coordinates, token_types = laid_out({"boxes": boxes(5)})
    together, _ = tiny_vit.run("decoder", embedding, coordinates, token_types)
    for number in range(5):
        one = slice(number, number + 1)
        alone, _ = tiny_vit.run("decoder", embedding, coordinates[:, one], token_types[:, one])
        torch.testing.assert_close(together[:, one], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_says_its_operator_set_and_what_is_free(tiny_vit, name):
    model = onnx.load(tiny_vit.path(name))
    onnx.checker.check_model(model)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert [value.name for value in model.graph.input] == list(GRAPHS[name].inputs)
    assert [value.name for value in model.graph.output] == list(GRAPHS[name].outputs)
    for value in model.graph.input:
        free = {n: length.dim_param for n, length in enumerate(value.type.tensor_type.shape.dim) if length.dim_param}
        assert free == GRAPHS[name].inputs[value.name]


def test_only_the_batch_and_the_model_are_fixed(tiny_vit):
    model = onnx.load(tiny_vit.path("decode_tokens"))
    shapes = {
        value.name: [length.dim_param or length.dim_value for length in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes["coordinates"] == [1, "prompts", "positions", 2]
    assert shapes["token_types"] == [1, "prompts", "positions"]
    assert shapes["cells"] == [1, "prompts", "cells"]
    assert shapes["logits"] == [1, "prompts", 4, "cells", 4, 4]
    assert shapes["predicted_iou"] == [1, "prompts", 4]
    assert {name: shapes[name] for name in ImageTokens._fields} == {
        "keys": [1, 1, CELLS, 32],
        "key": [1, 1, CELLS, 16],
        "value": [1, 1, CELLS, 16],
        "query": [1, 1, CELLS, 16],
    }


# -- files ------------------------------------------------------------------------------------------------------


def test_a_graph_replaces_an_older_file_and_leaves_nothing_else(tiny_vit, tmp_path):
    target = tmp_path / "new" / "precompute.onnx"
    target.parent.mkdir()
    target.write_text("old")
    export_graph(tiny_vit.sam, "precompute", target)
    assert [path.name for path in target.parent.iterdir()] == ["precompute.onnx"]
    onnx.checker.check_model(onnx.load(target))


def test_large_weights_go_into_a_file_beside_the_graph(tiny_vit, embedding, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_OWN_WEIGHTS", 1000)
    target = tmp_path / "precompute.onnx"
    export_graph(tiny_vit.sam, "precompute", target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precompute.onnx", "precompute.onnx.data"]
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    found = session.run(None, {"embedding": embedding.numpy()})
    np.testing.assert_allclose(found[1], tiny_vit.sam.precompute(embedding).key.numpy(), rtol=1e-4, atol=1e-4)


def test_only_the_weights_of_the_graph_count_as_large(tiny_vit, tmp_path, monkeypatch):
    whole = sum(weight.nbytes for weight in tiny_vit.sam.state_dict().values())
    monkeypatch.setattr(export, "_OWN_WEIGHTS", whole // 2)
    export_graph(tiny_vit.sam, "precompute", tmp_path / "precompute.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["precompute.onnx"]


def test_a_failing_exporter_leaves_no_file_and_an_older_one_alone(tiny_vit, tmp_path, monkeypatch):
    target = tmp_path / "decoder.onnx"
    target.write_text("old")

    def fails(*given, **more):
        raise ValueError("no such operator\nand a page of details")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(
        CheckpointError, match=r"decoder of tiny-tinyvit cannot be written as ONNX: ValueError: no such op"
    ):
        export_graph(tiny_vit.sam, "decoder", target)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.onnx"]
    assert target.read_text() == "old"


def test_a_write_that_breaks_off_leaves_no_file_and_an_older_one_alone(tiny_vit, tmp_path, monkeypatch):
    target = tmp_path / "precompute.onnx"
    target.write_text("old")

    def breaks_off(self, path, **more):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", breaks_off)
    with pytest.raises(OSError, match="No space left"):
        export_graph(tiny_vit.sam, "precompute", target)
    assert [path.name for path in tmp_path.iterdir()] == ["precompute.onnx"]
    assert target.read_text() == "old"


def test_there_is_no_other_graph(tiny_vit, tmp_path):
    with pytest.raises(KeyError):
        export_graph(tiny_vit.sam, "prompt_encoder", tmp_path / "prompt_encoder.onnx")


@pytest.mark.slow
def test_nothing_is_printed_and_loggers_and_filters_stay(tmp_path):
    """In a process of its own: the exporter makes its loggers when it first runs."""
    code = """
import logging, sys, warnings
from pathlib import Path
from medsam.models.build import build_model
from medsam.models.export import export_graph
from medsam.models.specs import tiny_spec

logging.basicConfig(format="%(name)s: %(message)s")
sam, path = build_model(tiny_spec()).eval(), Path(sys.argv[1])
levels = lambda: [logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")]
before = list(warnings.filters), levels()
export_graph(sam, "precompute", path)
# what is imported meanwhile may add filters
assert ([one for one in warnings.filters if one in before[0]], levels()) == before
logging.getLogger("onnx_ir").warning("heard")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "precompute.onnx")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("", "onnx_ir: heard\n")
