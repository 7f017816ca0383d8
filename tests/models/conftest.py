"""Untrained models small enough to build in every test, and one peer to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from medsam.models.build import build_model
from medsam.models.checkpoint import load_checkpoint
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec


@pytest.fixture(params=["vit", "tiny_vit"])
def tiny(request) -> Sam:
    """A tiny model of each family with every weight random, evaluation mode."""
    return randomised(build_model(tiny_spec(request.param))).eval()


@pytest.fixture(scope="module")
def vit() -> Sam:
    """A tiny ViT that no test changes."""
    return build_model(tiny_spec())


def randomised(model: Sam) -> Sam:
    """Weights that leave nothing at zero or one, so that a forgotten or swapped weight shows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
                scale = fan_in**-0.5 if tensor.ndim > 1 else 0.2
                tensor.copy_((noise * scale).exp() if name.endswith("running_var") else noise * scale)
                if name.endswith(("norm1.weight", "norm2.weight", "bn.weight", "neck.1.weight", "neck.3.weight")):
                    tensor.add_(1)
    return model


@dataclass
class Peer:
    """The same random weights in ours and in Hugging Face's SAM, through a file."""

    ours: Sam
    theirs: torch.nn.Module
    theirs_state: dict[str, Tensor]


@pytest.fixture(scope="session")
def peer(tmp_path_factory) -> Peer:
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 48,
            "output_channels": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "mlp_dim": 96,
            "image_size": 128,
            "patch_size": 16,
            # does not divide the 8 x 8 grid: windows are padded
            "window_size": 3,
            "global_attn_indexes": [1],
            "num_pos_feats": 32,
        },
        prompt_encoder_config={
            "hidden_size": 64,
            "image_size": 128,
            "patch_size": 16,
            "mask_input_channels": 8,
        },
        # transformers' default, 1e-6, is not that of the published code
        mask_decoder_config={
            "hidden_size": 64,
            "mlp_dim": 96,
            "iou_head_hidden_dim": 40,
            "layer_norm_eps": 1e-5,
        },
    )
    torch.manual_seed(3)
    theirs = SamModel(config).eval()
    with torch.no_grad():
        for name, tensor in theirs.named_parameters():
            # their initialisation leaves positions, biases and relative positions at zero
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 25
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            tensor.normal_(centre, 1.0 if "pos" in name else fan_in**-0.5)
    folder = tmp_path_factory.mktemp("hugging_face")
    theirs.save_pretrained(folder)
    return Peer(load_checkpoint(folder).eval(), theirs, theirs.state_dict())
