"""Graphs without weights: what of an exported graph depends on a model's sizes alone.

To write one graph takes torch's exporter five to twenty seconds, all of them spent on its structure. Structures of the
released architectures therefore come with the package (`structures/`, made by scripts/structures.py), and a model's
weights, published or fine-tuned, are put in by name. What such a graph answers is still compared with torch before it
is trusted (`inference.engines.openvino`), so a structure that the code has outgrown costs time, never a wrong mask.
Nothing is folded together beforehand as in `export.export_graph`: OpenVINO does that itself, and is as fast.
"""

from __future__ import annotations

import gzip
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from medsam.errors import CheckpointError
from medsam.files import write_whole
from medsam.models.export import OPSET, export_program, graph_module
from medsam.models.sam import Sam
from medsam.models.specs import ModelSpec

# Part of a structure's name, and of the folder of graphs made from it: raise it when the network's code computes
# something else, and make all anew.
STRUCTURES = 1


def structure_name(spec: ModelSpec, graph: str) -> str:
    """The file a structure is kept in; the same for all models whose graphs differ by nothing but weights."""
    sizes = spec.encoder if graph == "encoder" else (spec.decoder, spec.image_size, spec.embed_side)
    digest = hashlib.sha256(repr((STRUCTURES, OPSET, sizes)).encode()).hexdigest()
    return f"{graph}-{digest[:12]}.onnx.gz"


def find_structure(spec: ModelSpec, graph: str) -> bytes | None:
    """A structure that came with the package; None for an architecture that did not."""
    file = resources.files("medsam.models") / "structures" / structure_name(spec, graph)
    try:
        return gzip.decompress(file.read_bytes())
    except FileNotFoundError:
        return None


def make_structure(sam: Sam, graph: str) -> bytes:
    """The structure of a graph, exported from a model on the CPU whatever its weights are.

    Raises CheckpointError when it cannot be exported, or holds numbers that are none of the model's weights.
    """
    import onnx_ir

    proto: Any = onnx_ir.to_proto(export_program(sam, graph, optimize=False).model)
    weights = graph_module(sam, graph).state_dict()
    for tensor in proto.graph.initializer:
        _fitting(tensor, weights, graph)
        tensor.ClearField("raw_data")
        del tensor.metadata_props[:]
    # where in the code a node comes from: twenty times the rest
    for node in proto.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    return bytes(proto.SerializeToString(deterministic=True))


def fill_structure(structure: bytes, sam: Sam, graph: str, target: Path) -> None:
    """Write graph `graph` of a model on the CPU to `target` (.onnx), whole or not at all: a structure with weights.

    Raises CheckpointError when the structure does not fit the model.
    """
    import onnx

    proto = _filled(structure, sam, graph)
    target.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(target) as path:
        onnx.save_model(proto, str(path))


def filled_structure(structure: bytes, sam: Sam, graph: str) -> bytes:
    """What `fill_structure` writes, of a graph below 2 GB and a model on any device."""
    return bytes(_filled(structure, sam, graph).SerializeToString())


def _filled(structure: bytes, sam: Sam, graph: str) -> Any:
    import onnx

    try:
        proto: Any = onnx.load_from_string(structure)
    except Exception as error:  # protobuf's own errors have no public base
        raise CheckpointError(f"The structure of the {graph} cannot be read ({type(error).__name__}).") from error
    weights = graph_module(sam, graph).state_dict()
    for tensor in proto.graph.initializer:
        tensor.raw_data = _fitting(tensor, weights, graph).tobytes()
    return proto


def _fitting(tensor: Any, weights: dict[str, Any], graph: str) -> Any:
    """The weight (numpy) that an initializer of a structure stands for."""
    import onnx

    weight = weights.get(tensor.name)
    values = None if weight is None else weight.detach().cpu().contiguous().numpy()
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if values is None or list(values.shape) != list(tensor.dims) or values.dtype != kind:
        raise CheckpointError(
            f"The structure of the {graph} asks for {tensor.name}, which the model lacks in that shape and type."
        )
    return values
