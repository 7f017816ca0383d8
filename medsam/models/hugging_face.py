"""Names of weights in Hugging Face's `SamModel`, and the public ones: both ways.

The networks are the same and so are the values, except that `SamModel` holds the positional encoding twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from medsam.errors import CheckpointError

_HF_POSITIONS = "shared_image_embedding.positional_embedding"
_HF_TIED_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"

# (Hugging Face, public); # is a number; the first row that fits the beginning of a name decides.
_NAMES = (
    (_HF_POSITIONS, "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
    ("vision_encoder.layers.#.layer_norm#.", "image_encoder.blocks.#.norm#."),
    ("vision_encoder.layers.#.", "image_encoder.blocks.#."),
    ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
    ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
    ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
    ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
    ("vision_encoder.", "image_encoder."),
    ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
    ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
    ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
    ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
    ("prompt_encoder.point_embed.#.", "prompt_encoder.point_embeddings.#."),
    ("mask_decoder.transformer.layers.#.layer_norm#.", "mask_decoder.transformer.layers.#.norm#."),
    ("mask_decoder.transformer.layer_norm_final_attn.", "mask_decoder.transformer.norm_final_attn."),
    ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
    ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
    ("mask_decoder.output_hypernetworks_mlps.#.proj_in.", "mask_decoder.output_hypernetworks_mlps.#.layers.0."),
    ("mask_decoder.output_hypernetworks_mlps.#.layers.0.", "mask_decoder.output_hypernetworks_mlps.#.layers.1."),
    ("mask_decoder.output_hypernetworks_mlps.#.proj_out.", "mask_decoder.output_hypernetworks_mlps.#.layers.2."),
    ("mask_decoder.iou_prediction_head.proj_in.", "mask_decoder.iou_prediction_head.layers.0."),
    ("mask_decoder.iou_prediction_head.layers.0.", "mask_decoder.iou_prediction_head.layers.1."),
    ("mask_decoder.iou_prediction_head.proj_out.", "mask_decoder.iou_prediction_head.layers.2."),
)


def _rules(pairs: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for source, target in pairs:
        numbers = iter(range(1, 10))
        rules.append(
            (
                re.compile(re.escape(source).replace(r"\#", r"(\d+)")),
                re.sub("#", lambda _, numbers=numbers: rf"\g<{next(numbers)}>", target),  # type: ignore[misc]
            )
        )
    return rules


_TO_PUBLIC = _rules(_NAMES)
_FROM_PUBLIC = _rules((public, theirs) for theirs, public in _NAMES)


def public_name(name: str) -> str:
    """A name of `SamModel` as the public weights spell it."""
    return _rename(name, _TO_PUBLIC)


def hugging_face_name(name: str) -> str:
    """A public name as `SamModel` spells it."""
    return _rename(name, _FROM_PUBLIC)


def _rename(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, target in rules:
        if match := pattern.match(name):
            return match.expand(target) + name[match.end() :]
    return name


def from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a Hugging Face `SamModel` under the public SAM names.

    Its two copies of the positional encoding are one weight here; CheckpointError when they differ.
    """
    state = dict(state)
    tied = state.pop(_HF_TIED_POSITIONS, None)
    other = tied if tied is None else state.setdefault(_HF_POSITIONS, tied)
    if tied is not None and (other is None or other.dtype != tied.dtype or not torch.equal(other, tied)):
        raise CheckpointError(
            f"{_HF_POSITIONS} and {_HF_TIED_POSITIONS} should be one weight but differ: the checkpoint is damaged."
        )
    return {public_name(name): tensor for name, tensor in state.items()}


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a `Sam` with a ViT under the names of a Hugging Face `SamModel`; inverse of `from_hugging_face`.

    Raises CheckpointError for TinyViT weights, which `SamModel` has no place for.
    """
    if any(name.startswith("image_encoder.layers.") for name in state):
        raise CheckpointError(
            "Hugging Face's SamModel has a ViT image encoder only, and these weights are a TinyViT's."
        )
    renamed = {hugging_face_name(name): tensor for name, tensor in state.items()}
    if _HF_POSITIONS in renamed:
        renamed[_HF_TIED_POSITIONS] = renamed[_HF_POSITIONS]
    return renamed
