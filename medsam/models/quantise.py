"""int8 encoders: a graph that `export` wrote in float32, with 8-bit whole numbers in its matrix products.

Static: the range of every product's input is found beforehand, on prepared slices of real scans. The graph gets pairs
of QuantizeLinear and DequantizeLinear (ONNX), which OpenVINO and ONNX Runtime turn into int8 kernels.

What becomes int8: products with a matrix of weights (query, key and value, projections, MLPs); nearly all of a ViT, and
two thirds of the multiplications in LiteMedSAM's TinyViT. Weights are symmetric, of seven bits, with a scale a column;
their inputs are unsigned with a zero point, since what GELU leaves (from -0.17 to several) would waste half of a
symmetric range.

What stays in float32, with the relative error of LiteMedSAM's embedding when one of its kind alone is quantised,
from the smallest to the largest value seen:
  convolutions at full resolution           0.06 to 0.73; 8 bits of the picture itself already cost 0.06, as
                                            much as all of bfloat16, and every later layer builds on them
  convolutions that merge patches           0.04 to 0.45
  other convolutions                        0.01 to 0.12, for a tenth of the multiplications
  norms, softmax, GELU, q k', (q k') v      without weights; 7 % of the multiplications
All products together cost 0.10, clipped 0.08; rounding the weights alone costs 0.06: measured with weights of eight
bits on a processor with VNNI. What that gains and what it does to masks: docs/results/README.md, "Precision".

Source: Jacob et al. 2018 (arXiv 1712.05877) for the scheme; Banner et al. 2019 (1810.05723) for clipping where the
squared error is least, here with the measured distribution in place of an assumed one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsam.errors import CheckpointError, InputError
from medsam.files import write_whole
from medsam.models.runtime import openvino_core

# Values of a tensor sampled in each image, and bins they are counted in. LiteMedSAM's error is 0.082 with these, and
# 0.081 with a third of all values and twice the bins.
_SAMPLE, _BINS = 2**16, 2048
# Weights go from minus to plus this: processors without VNNI add two products in 16 bits and clip what does not fit;
# 2 * 255 * 63 fits. With 127, embeddings of tiny models were 0.07 and 0.30 off there; with 63, 0.01 and 0.02 anywhere.
_LARGEST = 63
# How much of the seen range may be kept on either side.
_KEPT = np.geomspace(0.1, 1.0, 30)


def quantise_encoder(source: Path, images: Iterable[np.ndarray], target: Path) -> None:
    """Write the encoder graph `source` (.onnx, float32) to `target` with int8 products, whole or not at all.

    images: prepared slices (3, S, S) float32, as the encoder will get them; some thirty, of all kinds of
    scans. They are gone through once; the same images give the same file.
    Raises InputError for no images, or one that is not (3, S, S) or not finite, and CheckpointError for a graph that
    cannot be read or has no products to quantise.
    """
    import onnx

    model = _read_graph(source)
    graph = model.graph
    matrices = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in matrices]
    if not products:
        raise CheckpointError(f"{source} has no products with a matrix of weights; there is nothing to quantise.")
    inputs = list(dict.fromkeys(node.input[0] for node in products))
    weights = dict.fromkeys(node.input[1] for node in products)
    ranges = _ranges(source, inputs, images)

    before: dict[str, list[Any]] = {}
    for product in products:
        name = product.input[0]
        if name in ranges:
            before[product.name] = _round_trip(graph, name, *ranges.pop(name))
        product.input[0], product.input[1] = f"{name}.dequantised", f"{product.input[1]}.dequantised"
    nodes = [_column_scales(graph, onnx.numpy_helper.to_array(matrices[name]), name) for name in weights]
    for node in graph.node:
        nodes += [*before.get(node.name, ()), node]
    _replace_nodes(graph, nodes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(target) as part:
        onnx.save(model, part, format="protobuf")


def _read_graph(source: Path) -> Any:
    import onnx

    try:
        return onnx.load(source)
    except Exception as error:  # protobuf's own errors have no public base
        raise CheckpointError(f"{source} cannot be read as an ONNX graph ({type(error).__name__}: {error}).") from error


def _replace_nodes(graph: Any, nodes: Sequence[Any]) -> None:
    """Give a graph these nodes, and leave out the tensors that none of them reads."""
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _round_trip(graph: Any, name: str, low: float, high: float) -> list[Any]:
    """The nodes that take tensor `name` to uint8 and back; their constants go into the graph."""
    from onnx import helper, numpy_helper

    scale = (high - low) / 255
    constants = [f"{name}.scale", f"{name}.zero"]
    graph.initializer.append(numpy_helper.from_array(np.array(scale, dtype=np.float32), constants[0]))
    graph.initializer.append(numpy_helper.from_array(np.array(round(-low / scale), dtype=np.uint8), constants[1]))
    return [
        helper.make_node("QuantizeLinear", [name, *constants], [f"{name}.uint8"], f"{name}.quantise"),
        helper.make_node("DequantizeLinear", [f"{name}.uint8", *constants], [f"{name}.dequantised"], f"{name}.back"),
    ]


def _column_scales(graph: Any, weights: np.ndarray, name: str) -> Any:
    """The node that makes float of weights (inputs, outputs), kept as int8 with a scale an output."""
    from onnx import helper, numpy_helper

    largest = np.abs(weights).max(axis=0)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    whole = np.clip(np.rint(weights / scales), -_LARGEST, _LARGEST).astype(np.int8)
    constants = [f"{name}.int8", f"{name}.scales", f"{name}.zeros"]
    graph.initializer.extend(
        numpy_helper.from_array(values, constant)
        for values, constant in zip((whole, scales, np.zeros(len(scales), dtype=np.int8)), constants, strict=True)
    )
    return helper.make_node("DequantizeLinear", constants, [f"{name}.dequantised"], f"{name}.back", axis=1)


def _ranges(source: Path, names: Sequence[str], images: Iterable[np.ndarray]) -> dict[str, tuple[float, float]]:
    """Tensor -> the range that 8 bits of it should cover, from what it holds while the encoder sees the images."""
    core = openvino_core()
    model = core.read_model(str(source))
    model.add_outputs(list(names))
    # in less than float32 the ranges would depend on the processor
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    expected = tuple(model.inputs[0].shape)[1:]
    rng = np.random.default_rng(0)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number, image in enumerate(images):
        if image.shape != expected or not np.isfinite(image).all():
            raise InputError(
                f"Calibration image {number} has shape {image.shape}; finite numbers of shape {expected} are needed. "
                "Run scans through the model's preprocessing first."
            )
        request.infer({0: np.ascontiguousarray(image[None], dtype=np.float32)})
        for name in names:
            values = request.get_tensor(name).data.reshape(-1)
            # drawn, not every n-th: a stride that meets the number of channels would see only some of them
            chosen = values[rng.integers(0, values.size, _SAMPLE)] if values.size > _SAMPLE else values.copy()
            seen[name].append(chosen)
    if not seen[names[0]]:
        raise InputError("No calibration images: int8 needs some prepared slices to find its ranges. Give about 30.")
    return {name: _clipped_range(np.concatenate(values)) for name, values in seen.items()}


def _clipped_range(values: np.ndarray) -> tuple[float, float]:
    """The range around 0 whose 256 steps leave the least squared error, over-run values included."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if low == high:
        return 0.0, 1.0
    counts, edges = np.histogram(values, _BINS, (low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    best, least = (low, high), np.inf
    for bottom in low * _KEPT if low < 0 else [0.0]:
        for top in high * _KEPT if high > 0 else [0.0]:
            scale = (top - bottom) / 255
            zero = round(-bottom / scale)
            error = centres - (np.clip(np.rint(centres / scale) + zero, 0, 255) - zero) * scale
            if (loss := float(counts @ error**2)) < least:
                best, least = (float(bottom), float(top)), loss
    return best
