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
    with pytest.raises(CheckpointError, match=r"no model 'sam2'.*litemedsam-plus, sam-vit-b"):
        build_model("sam2")
    with pytest.raises(
        CheckpointError, match=r"No checkpoint at sam2, and it is not the name of a model.*medsam-vit-b"
    ):
        load_model("sam2")


@pytest.mark.weights
def test_a_known_name_is_fetched(litemedsam):
    assert litemedsam.spec == SPECS["litemedsam"]
    assert not litemedsam.training


@pytest.mark.weights
def test_a_second_decoder_comes_with_the_weights(litemedsam):
    """Boxes are answered by the same weights; the decoder of ours knows clicks, on the same embedding."""
    plus = load_model("litemedsam-plus")
    assert plus.spec == SPECS["litemedsam-plus"]
    assert litemedsam.proposer is None
    proposer = plus.proposer
    assert proposer is not None
    ours, published = plus.state_dict(), litemedsam.state_dict()
    assert ours.keys() == published.keys()
    assert all(torch.equal(tensor, published[name]) for name, tensor in ours.items())
    assert proposer.spec.prompts == ("points",)
    assert proposer.image_encoder is plus.image_encoder
    # a bright disc on noise, clicked off its middle
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    disc = (columns - 120) ** 2 + (rows - 90) ** 2 <= 30**2
    noise = 0.05 * torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    image = (0.2 + 0.6 * disc + noise).clamp(0, 1).expand(1, 3, -1, -1)
    click = {"points": torch.tensor([[[[110.0, 100.0]]]]), "point_labels": torch.tensor([[[1]]])}
    with torch.inference_mode():
        embedding = plus.encode_image(image)
        dice = []
        for model in (proposer, plus):
            logits, predicted_iou = model.decode(embedding, **click, multimask=True)
            mask = logits[0, 0, int(predicted_iou[0, 0].argmax())] > 0
            dice.append(2 * (mask & disc).sum() / (mask.sum() + disc.sum()))
    assert dice[0] > 0.9
    assert dice[1] < 0.5
