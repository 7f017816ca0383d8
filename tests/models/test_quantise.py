"""int8 encoders: as exact as eight bits allow, smaller, whole or not there at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from models.conftest import randomised
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from medsam.errors import CheckpointError, InputError
from medsam.models.build import build_model
from medsam.models.export import OPSET, export_graph
from medsam.models.quantise import _LARGEST, _clipped_range, quantise_encoder
from medsam.models.runtime import openvino_core
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec

SIDE = 64
# of the embedding, by norm: seven bits of weights leave 0.009 (TinyViT) and 0.018 (ViT), ranges 4 times too small 0.2
TOLERANCE = 0.03


@pytest.fixture(scope="module", params=["vit", "tiny_vit"])
def tiny(request) -> Sam:
    """A tiny model of each family, every weight random; nothing here changes it."""
    return randomised(build_model(tiny_spec(request.param))).eval()


@pytest.fixture(scope="module")
def encoder(tiny, tmp_path_factory) -> Path:
    """The graph of its encoder, in float32."""
    path = tmp_path_factory.mktemp("graph") / "encoder.onnx"
    export_graph(tiny, "encoder", path)
    return path


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "made" / "encoder-int8.onnx"


def looks(count: int, seed: int = 0) -> list[np.ndarray]:
    """Prepared looks: a bright blob each, somewhere on a noisy ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = []
    for _ in range(count):
        middle, radius = rng.uniform(16, 48, 2), rng.uniform(5, 20)
        blob = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / radius**2)
        grey = np.clip(blob + rng.normal(0.2, 0.1, (SIDE, SIDE)), 0, 1)
        images.append(np.broadcast_to(grey, (3, SIDE, SIDE)).astype(np.float32))
    return images


def embeddings(path: Path, images: list[np.ndarray]) -> np.ndarray:
    compiled = openvino_core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.stack([compiled({0: image[None]})[0][0].copy() for image in images])


def error(path: Path, float_path: Path) -> float:
    """Relative error of the embeddings of looks that no calibration has seen."""
    unseen = looks(3, seed=99)
    expected = embeddings(float_path, unseen)
    return float(np.linalg.norm(embeddings(path, unseen) - expected) / np.linalg.norm(expected))


def test_embeddings_stay_what_they_were(encoder, target):
    quantise_encoder(encoder, looks(8), target)
    assert 0 < error(target, encoder) < TOLERANCE


def test_calibration_decides(encoder, target, monkeypatch):
    # ranges a quarter of what the images ask for
    monkeypatch.setattr(
        "medsam.models.quantise._clipped_range", lambda values: tuple(edge / 4 for edge in _clipped_range(values))
    )
    quantise_encoder(encoder, looks(8), target)
    assert error(target, encoder) > 2 * TOLERANCE


def test_every_linear_layer_holds_int8_with_a_scale_an_output(tiny, encoder, target):
    quantise_encoder(encoder, looks(2), target)
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    found = []
    for node in model.graph.node:
        if node.op_type != "MatMul" or made[node.input[1]].op_type != "DequantizeLinear":
            continue
        activation, back = made[node.input[0]], made[node.input[1]]
        assert activation.op_type == "DequantizeLinear"
        assert stored[activation.input[2]].dtype == np.uint8
        whole, scales = stored[back.input[0]], stored[back.input[1]]
        assert whole.dtype == np.int8
        assert scales.shape == whole.shape[1:]
        assert next(helper.get_attribute_value(a) for a in back.attribute if a.name == "axis") == 1
        # symmetric, and every column uses its whole range
        assert (np.abs(whole.astype(int)).max(axis=0) == _LARGEST).all()
        found.append((whole * scales).T)
    linear = [layer.weight.detach().numpy() for layer in tiny.image_encoder.modules() if isinstance(layer, nn.Linear)]
    assert len(found) == len(linear)
    for weight in linear:
        step = np.abs(weight).max(axis=1, keepdims=True) / _LARGEST
        assert any(other.shape == weight.shape and (np.abs(other - weight) <= 0.501 * step).all() for other in found)


def test_convolutions_stay_in_float(encoder, target):
    quantise_encoder(encoder, looks(2), target)

    def convolved(path: Path) -> list[tuple[str, ...]]:
        graph = onnx.load(path).graph
        return [tuple(node.input) for node in graph.node if node.op_type == "Conv"]

    assert convolved(target) == convolved(encoder)


def test_weights_take_a_quarter(tmp_path, target):
    source, rng = tmp_path / "linear.onnx", np.random.default_rng(0)
    save_layer("MatMul", rng.normal(size=(256, 512)), source, width=256)
    quantise_encoder(source, [rng.normal(size=(3, 8, 256)).astype(np.float32)], target)
    assert target.stat().st_size < 0.27 * source.stat().st_size


def test_the_same_images_give_the_same_file(encoder, target, tmp_path):
    quantise_encoder(encoder, looks(2), target)
    quantise_encoder(encoder, iter(looks(2)), tmp_path / "again.onnx")
    assert target.read_bytes() == (tmp_path / "again.onnx").read_bytes()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "No calibration images"),
        ([np.zeros((3, 32, 32), np.float32)], r"image 0 has shape \(3, 32, 32\).*\(3, 64, 64\)"),
        ([np.zeros((3, SIDE, SIDE), np.float32), np.full((3, SIDE, SIDE), np.nan, np.float32)], "image 1 .*finite"),
    ],
)
def test_images_that_do_not_fit_leave_no_file(encoder, target, images, message):
    with pytest.raises(InputError, match=message):
        quantise_encoder(encoder, images, target)
    assert not list(target.parent.glob("*"))


def test_a_failure_while_writing_leaves_the_old_file(encoder, target, monkeypatch):
    target.parent.mkdir()
    target.write_bytes(b"before")

    def full_disk(model: onnx.ModelProto, path: Path, **_: object) -> None:
        path.write_bytes(model.SerializeToString()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        quantise_encoder(encoder, looks(1), target)
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


def test_what_is_no_graph_is_refused(tmp_path, target):
    (tmp_path / "notes.onnx").write_bytes(b"\xffnot a graph")
    with pytest.raises(CheckpointError, match=r"notes\.onnx cannot be read"):
        quantise_encoder(tmp_path / "notes.onnx", looks(1), target)
    with pytest.raises(CheckpointError, match=r"nowhere\.onnx cannot be read"):
        quantise_encoder(tmp_path / "nowhere.onnx", looks(1), target)


def test_a_graph_without_products_is_refused(tmp_path, target):
    source = tmp_path / "conv.onnx"
    save_layer("Conv", np.ones((4, 3, 3, 3)), source)
    with pytest.raises(CheckpointError, match="nothing to quantise"):
        quantise_encoder(source, [np.zeros((3, 8, 8), np.float32)], target)


def test_a_range_lets_rare_outliers_go():
    rng = np.random.default_rng(0)
    values = rng.normal(size=100_000)
    low, high = _clipped_range(np.append(values, 100.0))
    assert -6 < low < -3
    # the outlier weighs as much as a hundred thousand values that share its coarse steps
    assert 3 < high < 100


def test_a_range_of_evenly_spread_values_is_all_of_it():
    assert _clipped_range(np.linspace(-1, 3, 10_001)) == pytest.approx((-1, 3))
    assert _clipped_range(np.linspace(2, 3, 101)) == pytest.approx((0, 3))
    assert _clipped_range(np.zeros(5)) == (0, 1)


def save_layer(op: str, weight: np.ndarray, path: Path, width: int = 8) -> None:
    """A graph of one layer on an image (1, 3, 8, width)."""
    node = helper.make_node(op, ["image", "weight"], ["embedding"])
    image, embedding = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", (1, 3, 8, width)), ("embedding", None))
    )
    stored = [numpy_helper.from_array(weight.astype(np.float32), "weight")]
    graph = helper.make_graph([node], op, [image], [embedding], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), path)
