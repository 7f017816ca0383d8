"""ONNX graphs of a model: what other engines run in place of torch.

    encoder        image (1, 3, S, S)                              -> embedding (1, C, h, w)
    decoder        embedding, point_coords, point_labels           -> logits (1, P, 4, 4h, 4w), predicted_iou (1, P, 4)
    precompute     embedding                                       -> keys, key, value, query: the image's tokens
    decode_tokens  these four, coordinates, token_types, cells     -> logits (1, P, 4, n, 4, 4), predicted_iou (1, P, 4)
    decode_tokens_with_mask  embedding, masks, coordinates, token_types, cells  -> the same

`encoder` and `decoder` are for others: SAM's two halves, prompts as in SAM's own ONNX export (Kirillov et al. 2023,
the public repository): positions in pixels of the model input and labels 1 inside, 0 outside, 2 and 3 a box's corners,
-1 padding, which points without a box end with. The rest is `decoder` cut where work can be saved: `precompute` runs
once an embedding, `decode_tokens` up-samples the cells it is asked for (see `Sam.decode_tokens`).
P prompts, their T positions and n cells are free; the batch is one image. The predicted IoU is not clamped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsam.errors import CheckpointError
from medsam.files import write_whole
from medsam.models.mask_decoder import ImageTokens
from medsam.models.sam import Sam
from medsam.silence import Rule, silence

# ONNX operator set of every graph: the first with GELU as one operator
OPSET = 20
# A protocol buffer ends at 2 GiB; larger graphs keep their weights in a file beside them.
_OWN_WEIGHTS = 1_800_000_000

# the exporter's own messages: what fails is raised
_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")

_P, _T, _N = "prompts", "positions", "cells"


@dataclass(frozen=True)
class _Graph:
    """inputs: name -> which of its axes are free, and their names. part: the weights it holds."""

    run: Callable[..., Any]
    inputs: dict[str, dict[int, str]]
    outputs: tuple[str, ...]


def _decode_tokens(
    sam: Sam,
    keys: Tensor,
    key: Tensor,
    value: Tensor,
    query: Tensor,
    coordinates: Tensor,
    token_types: Tensor,
    cells: Tensor,
) -> tuple[Tensor, Tensor]:
    return sam.decode_tokens(ImageTokens(keys, key, value, query), coordinates, token_types, cells)


def _decode_tokens_with_mask(
    sam: Sam, embedding: Tensor, masks: Tensor, coordinates: Tensor, token_types: Tensor, cells: Tensor
) -> tuple[Tensor, Tensor]:
    return sam.decode_tokens(sam.precompute(embedding, masks), coordinates, token_types, cells)


def _decoder(sam: Sam, embedding: Tensor, point_coords: Tensor, point_labels: Tensor) -> tuple[Tensor, Tensor]:
    return sam.decode_tokens(sam.precompute(embedding), point_coords, point_labels)


_PLACES = {1: _P, 2: _T}
_CELLS = {1: _P, 2: _N}
GRAPHS = {
    "encoder": _Graph(lambda sam, image: sam.image_encoder(image), {"image": {}}, ("embedding",)),
    "decoder": _Graph(
        _decoder,
        {"embedding": {}, "point_coords": _PLACES, "point_labels": _PLACES},
        ("logits", "predicted_iou"),
    ),
    "precompute": _Graph(lambda sam, embedding: sam.precompute(embedding), {"embedding": {}}, ImageTokens._fields),
    "decode_tokens": _Graph(
        _decode_tokens,
        {name: {} for name in ImageTokens._fields} | {"coordinates": _PLACES, "token_types": _PLACES, "cells": _CELLS},
        ("logits", "predicted_iou"),
    ),
    "decode_tokens_with_mask": _Graph(
        _decode_tokens_with_mask,
        {"embedding": {}, "masks": {1: _P}, "coordinates": _PLACES, "token_types": _PLACES, "cells": _CELLS},
        ("logits", "predicted_iou"),
    ),
}


def example_inputs(sam: Sam, name: str, prompts: int = 3, positions: int = 4, cells: int = 9) -> tuple[Tensor, ...]:
    """Inputs of a graph, drawn from torch's global generator: boxes somewhere in a picture of noise."""
    spec, side = sam.spec, sam.spec.embed_side
    corners = torch.rand(1, prompts, positions, 2) * spec.image_size
    token_types = torch.arange(positions).flip(0).expand(1, prompts, -1) % 4
    drawn: dict[str, Tensor] = {
        "image": torch.rand(1, 3, spec.image_size, spec.image_size),
        "embedding": torch.randn(1, spec.decoder.width, side, side) / 4,
        "masks": torch.randn(1, prompts, 4 * side, 4 * side),
        "coordinates": corners,
        "point_coords": corners,
        "token_types": token_types.contiguous(),
        "point_labels": token_types.contiguous(),
        "cells": torch.stack([torch.randperm(side * side)[:cells] for _ in range(prompts)])[None],
    }
    wanted = GRAPHS[name].inputs
    if "keys" in wanted:
        drawn |= sam.precompute(drawn["embedding"])._asdict()
    return tuple(drawn[each] for each in wanted)


def graph_module(sam: Sam, name: str) -> nn.Module:
    """The part of the model that a graph is made of, with the graph's inputs and outputs. KeyError: no such graph."""
    return _Part(sam, GRAPHS[name].run)


def export_graph(sam: Sam, name: str, target: Path) -> None:
    """Write graph `name` of a model on the CPU to `target` (.onnx), whole or not at all.

    Weights of 2 GB and more go to `target`.data beside it. Raises CheckpointError when the model cannot be exported.
    """
    program = export_program(sam, name)
    weights = (value.const_value for value in program.model.graph.initializers.values())
    size = sum(weight.nbytes for weight in weights if weight is not None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(target) as path:
        program.save(path, external_data=size > _OWN_WEIGHTS)


def export_program(sam: Sam, name: str, optimize: bool = True) -> Any:
    """Graph `name` as torch's exporter makes it (`torch.onnx.ONNXProgram`).

    optimize: fold what depends on weights alone. Raises CheckpointError when the model cannot be exported.
    """
    import onnxscript  # noqa: F401  a missing package is not a failure of the exporter

    graph = GRAPHS[name]
    with torch.no_grad(), silence(Rule(), loggers=_LOGGERS, below=logging.ERROR), _resting(sam):
        free = {axis: torch.export.Dim(axis) for axis in (_P, _T, _N)}
        try:
            program = torch.onnx.export(
                graph_module(sam, name).eval(),
                example_inputs(sam, name),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=(tuple({n: free[axis] for n, axis in axes.items()} for axes in graph.inputs.values()),),
                optimize=optimize,
                verbose=False,
            )
        except Exception as error:  # the exporter raises whatever its stages raise
            raise CheckpointError(
                f"The {name} of {sam.spec.name} cannot be written as ONNX: {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}"
            ) from error
    if program is None:
        raise CheckpointError(f"The {name} of {sam.spec.name} cannot be written as ONNX.")
    return program


class _Part(nn.Module):
    def __init__(self, sam: Sam, run: Callable[..., Any]) -> None:
        super().__init__()
        self.sam = sam
        self.run = run

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self.sam, *inputs)


@contextmanager
def _resting(sam: Sam) -> Iterator[None]:
    """In evaluation mode, and afterwards as before: a model in training may be exported in between."""
    training = [module for module in sam.modules() if module.training]
    sam.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
