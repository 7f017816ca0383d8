"""Models by name, by spec and from a path."""

from __future__ import annotations

import pytest
import torch

from medsam.errors import CheckpointError
from medsam.models.build import build_model, load_model
from medsam.models.checkpoint import save_checkpoint
from medsam.models.specs import SPECS, tiny_spec


def test_the_seed_decides_the_weights():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_model(tiny_spec()).state_dict())
    key = "image_encoder.blocks.0.attn.qkv.weight"
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])


def test_loads_from_a_path_ready_to_predict(tiny, tmp_path):
    save_checkpoint(tiny, tmp_path / "weights.safetensors")
    model = load_model(str(tmp_path / "weights.safetensors"))
    assert not model.training
    assert model.spec == tiny.spec
    assert all(weight.requires_grad and not weight.is_meta for weight in model.parameters())


def test_unknown_names_list_the_known_ones():
    with pytest.raises(CheckpointError, match=r"no model 'sam2'.*litemedsam, sam-vit-b"):
        build_model("sam2")
    with pytest.raises(
        CheckpointError, match=r"No checkpoint at sam2, and it is not the name of a model.*medsam-vit-b"
    ):
        load_model("sam2")


@pytest.mark.weights
def test_a_known_name_is_fetched(litemedsam):
    assert litemedsam.spec == SPECS["litemedsam"]
    assert not litemedsam.training
