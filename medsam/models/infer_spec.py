"""Which model weights belong to, worked out from their names and shapes.

What names and shapes cannot say is assumed, and stated in `ModelSpec.note`; `checkpoint` lists it.
Weights here are by their public names; they are read, never changed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from medsam.models.sam import Sam
from medsam.models.specs import SPECS, DecoderSizes, ModelSpec, TinyVitSizes, VitSizes


def infer_spec(state: Mapping[str, Tensor], file_name: str) -> ModelSpec | None:
    """The model of weights, or None where a weight that tells a size is missing or has another rank.

    file_name: of the checkpoint, which alone tells SAM from MedSAM.
    """
    try:
        decoder = _decoder_sizes(state)
        encoder = _tiny_vit_sizes(state) if part_count(state, "image_encoder.layers") else _vit_sizes(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, StopIteration, TypeError):
        return None

    medsam = "medsam" in file_name.lower()
    # of one with a second decoder beside it the first file is another's
    published = [spec for spec in SPECS.values() if spec.clicks is None]
    matches = {spec.name: spec for spec in published if (spec.encoder, spec.decoder) == (encoder, decoder)}
    if not matches:
        return _unpublished(encoder, decoder, medsam)
    if len(matches) > 1:
        spec = matches["medsam-vit-b" if medsam else "sam-vit-b"]
        note = (
            f"{spec.name} assumed because the name {file_name!r} "
            f"{'contains' if medsam else 'does not contain'} 'medsam'; "
            f"{' and '.join(matches)} differ only in preprocessing, which weights cannot tell"
        )
        return replace(spec, note=note)
    (spec,) = matches.values()
    if isinstance(encoder, TinyVitSizes):
        spec = replace(spec, note=f"{encoder.image_size} px assumed; TinyViT weights do not tell their input size")
    return spec


def _unpublished(encoder: VitSizes | TinyVitSizes, decoder: DecoderSizes, medsam: bool) -> ModelSpec:
    """A known network in sizes that no published model has."""
    if isinstance(encoder, VitSizes):
        like = SPECS["medsam-vit-b" if medsam else "sam-vit-b"]
        name = f"vit-{encoder.width}x{encoder.depth}"
    else:
        like = SPECS["litemedsam"]
        name = f"tinyvit-{encoder.widths[-1]}x{sum(encoder.depths)}"
    return ModelSpec(
        name=name,
        encoder=encoder,
        preprocess=replace(like.preprocess, size=encoder.image_size),
        decoder=decoder,
        note=f"sizes read from the weights; preprocessing of {like.name} at {encoder.image_size} px assumed",
    )


def nearest_spec(state: Mapping[str, Tensor]) -> ModelSpec | None:
    """The known model whose weights these mostly are, None where they are of something else."""
    best, share = None, 0.0
    for spec in SPECS.values():
        with torch.device("meta"):
            expected = Sam.from_spec(spec).state_dict()
        fitting = sum(name in state and state[name].shape == tensor.shape for name, tensor in expected.items())
        if fitting / len(expected) > share:
            best, share = spec, fitting / len(expected)
    # the decoder alone, which other models share, is less than half of any of ours
    return best if share > 0.5 else None


def lacks_relative_positions(state: Mapping[str, Tensor]) -> bool:
    """Whether these are a ViT's weights without relative positions."""
    return part_count(state, "image_encoder.blocks") > 0 and not any(
        name.endswith((".rel_pos_h", ".rel_pos_w")) for name in state
    )


def zero_relative_positions(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ModelSpec] | None:
    """Tables of zeros, which add nothing, for a ViT without relative positions; and the model they are shaped for.

    Heads and windows are not in the weights then, so all else has to have the sizes of a published model; None where
    it has not.
    """
    position, mlp = state.get("image_encoder.pos_embed"), state.get("image_encoder.blocks.0.mlp.lin1.weight")
    if position is None or position.ndim != 4 or mlp is None:
        return None
    depth = part_count(state, "image_encoder.blocks")
    found = (depth, position.shape[-1], mlp.shape[0] if mlp.ndim else 0)
    for spec in SPECS.values():
        sizes = spec.encoder
        if isinstance(sizes, VitSizes) and (sizes.depth, sizes.width, sizes.mlp_width) == found:
            tables = {
                f"image_encoder.blocks.{index}.attn.rel_pos_{way}": torch.zeros(
                    2 * (position.shape[1] if index in sizes.global_blocks else sizes.window) - 1,
                    sizes.width // sizes.heads,
                )
                for index in range(depth)
                for way in "hw"
            }
            return tables, spec
    return None


def _vit_sizes(state: Mapping[str, Tensor]) -> VitSizes:
    _, side, columns, width = state["image_encoder.pos_embed"].shape
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    depth = part_count(state, "image_encoder.blocks")
    tables = {
        index: state[name]
        for index in range(depth)
        if (name := f"image_encoder.blocks.{index}.attn.rel_pos_h") in state
    }
    reach = {index: (len(table) + 1) // 2 for index, table in tables.items()}
    windows = Counter(value for value in reach.values() if value != side)
    if side != columns:
        raise ValueError("the grid is not square")
    mlp = next(t for name, t in state.items() if re.match(r"image_encoder\.blocks\.\d+\.mlp\.lin1\.weight", name))
    return VitSizes(
        image_size=side * patch,
        width=width,
        depth=depth,
        heads=width // next(iter(tables.values())).shape[1],
        global_blocks=tuple(index for index, value in reach.items() if value == side),
        mlp_width=mlp.shape[0],
        patch=patch,
        window=windows.most_common(1)[0][0] if windows else VitSizes.window,
    )


def _tiny_vit_sizes(state: Mapping[str, Tensor]) -> TinyVitSizes:
    root = "image_encoder.layers"
    published = TinyVitSizes()
    stages = range(part_count(state, root))
    biases = [state[f"{root}.{stage}.blocks.0.attn.attention_biases"].shape for stage in stages[1:]]
    first = state[f"{root}.0.blocks.0.conv1.c.weight"].shape
    norms = [state[f"{root}.{stage}.blocks.0.attn.norm.weight"].shape[0] for stage in stages[1:]]
    mlp = state[f"{root}.1.blocks.0.mlp.fc1.weight"].shape
    if len(stages) != len(published.widths):
        raise ValueError("the strides of this many stages are not known")
    return TinyVitSizes(
        widths=(first[1], *norms),
        depths=tuple(part_count(state, f"{root}.{stage}.blocks") for stage in stages),
        heads=(published.heads[0], *(shape[0] for shape in biases)),
        windows=(published.windows[0], *(math.isqrt(shape[1]) for shape in biases)),
        expand_ratio=first[0] / first[1],
        mlp_ratio=mlp[0] / mlp[1],
    )


def _decoder_sizes(state: Mapping[str, Tensor]) -> DecoderSizes:
    """Published sizes stand in for weights that are missing; the comparison that follows names them."""
    published = DecoderSizes()

    def length(name: str, default: int, axis: int = 0) -> int:
        return state[name].shape[axis] if name in state else default

    return DecoderSizes(
        width=length("mask_decoder.iou_token.weight", published.width, axis=1),
        layers=part_count(state, "mask_decoder.transformer.layers") or published.layers,
        mlp_width=length("mask_decoder.transformer.layers.0.mlp.lin1.weight", published.mlp_width),
        quality_width=length("mask_decoder.iou_prediction_head.layers.0.weight", published.quality_width),
        mask_width=length("prompt_encoder.mask_downscaling.3.weight", published.mask_width),
        mask_tokens=length("mask_decoder.mask_tokens.weight", published.mask_tokens),
    )


def part_count(state: Mapping[str, Tensor], root: str) -> int:
    """One more than the largest number that follows `root`."""
    pattern = re.compile(re.escape(root) + r"\.(\d+)\.")
    return max((int(match[1]) + 1 for name in state if (match := pattern.match(name))), default=0)
