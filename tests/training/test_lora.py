"""LoRA: nothing at first, the same answer melted in as beside, and files that anybody can read."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from medsam.errors import CheckpointError, InputError
from medsam.models.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec
from medsam.training.lora import LoraSettings, add_lora, merge_lora


@pytest.fixture(params=["vit", "tiny_vit"])
def sam(request) -> Sam:
    torch.manual_seed(0)
    return Sam.from_spec(tiny_spec(request.param)).eval()


def answer(sam: Sam) -> torch.Tensor:
    """Embedding and logits of a fixed image and box, in a line."""
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = sam.encode_image(images)
        logits, predicted_iou = sam.decode(features, boxes=torch.tensor([[[8.0, 8, 40, 50]]]))
    return torch.cat([part.flatten() for part in (features, logits, predicted_iou)])


def learn(sam: Sam, amount: float = 0.3) -> None:
    """As training would: products that are no longer zero."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in sam.named_parameters():
        if name.endswith(".up"):
            parameter.data = amount * torch.randn(parameter.shape, generator=generator)


def test_at_first_nothing_changes(sam):
    before = answer(sam)
    add_lora(sam, LoraSettings(rank=3))
    assert torch.equal(answer(sam), before)


def test_the_matrices_of_the_encoders_attention_and_no_others(sam):
    plain = {name: parameter.shape for name, parameter in sam.named_parameters()}
    count = add_lora(sam, LoraSettings(rank=3))
    now = dict(sam.named_parameters())
    changed = sorted(set(plain) - set(now))
    where = "blocks.{}" if sam.spec.family == "vit" else "layers.{}.blocks.0"
    blocks = (0, 1) if sam.spec.family == "vit" else (1, 2, 3)
    expected = [f"image_encoder.{where.format(n)}.attn.{part}.weight" for n in blocks for part in ("proj", "qkv")]
    assert (changed, count) == (expected, len(expected))
    added = {name: parameter for name, parameter in now.items() if name not in plain}
    assert len(added) == 3 * count
    for name in changed:
        module = name.removesuffix(".weight") + ".parametrizations.weight"
        outputs, inputs = plain[name]
        assert not added[f"{module}.original"].requires_grad
        assert added[f"{module}.0.up"].requires_grad
        assert added[f"{module}.0.down"].requires_grad
        assert added[f"{module}.0.up"].shape == (outputs, 3)
        assert added[f"{module}.0.down"].shape == (3, inputs)
        assert not added[f"{module}.0.up"].any()
        assert added[f"{module}.0.down"].any()
    assert all(now[name].requires_grad for name in plain if name in now), "what else learns is others' to say"


def test_only_the_thin_matrices_get_a_gradient(sam):
    sam.requires_grad_(False)
    add_lora(sam, LoraSettings(rank=2))
    learn(sam)
    sam.encode_image(torch.ones(1, 3, 64, 64)).square().sum().backward()
    moved = {name for name, parameter in sam.named_parameters() if parameter.grad is not None}
    assert moved == {name for name, _ in sam.named_parameters() if name.endswith((".up", ".down"))}


def test_alpha_over_rank_scales_the_product(sam):
    add_lora(sam, LoraSettings(rank=2, alpha=6))
    learn(sam)
    module = next(module for name, module in sam.named_modules() if name.endswith("attn.qkv"))
    original = module.parametrizations.weight.original
    low = module.parametrizations.weight[0]
    torch.testing.assert_close(module.weight, original + 3 * low.up @ low.down)


def test_melted_in_it_answers_as_beside(sam):
    names = set(sam.state_dict())
    before = answer(sam)
    add_lora(sam, LoraSettings())
    learn(sam)
    trained = answer(sam)
    assert not torch.allclose(trained, before, atol=1e-3)
    merge_lora(sam)
    torch.testing.assert_close(answer(sam), trained, rtol=0, atol=1e-5)
    assert set(sam.state_dict()) == names
    merge_lora(sam)  # nothing left to melt
    torch.testing.assert_close(answer(sam), trained, rtol=0, atol=1e-5)


def test_a_rank_below_one():
    with pytest.raises(InputError, match=r"model\.lora\.rank is a whole number from 1, not 0"):
        LoraSettings(rank=0)


# -- files --------------------------------------------------------------------------------------------------------


def trained(sam: Sam) -> dict[str, torch.Tensor]:
    add_lora(sam, LoraSettings(rank=2))
    learn(sam)
    return sam.state_dict()


def test_a_training_checkpoint_loads_as_plain_weights(sam, tmp_path):
    state = {f"sam.{name}": tensor for name, tensor in trained(sam).items()}
    torch.save({"state_dict": state, "global_step": 3}, tmp_path / "last.ckpt")
    checkpoint = read_checkpoint(tmp_path / "last.ckpt")
    assert not any("parametrizations" in name for name in checkpoint.state)
    loaded = load_checkpoint(tmp_path / "last.ckpt", sam.spec).eval()
    expected = answer(sam)
    torch.testing.assert_close(answer(loaded), expected, rtol=0, atol=1e-5)
    merge_lora(sam)
    assert loaded.state_dict().keys() == sam.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, sam.state_dict()[name], rtol=0, atol=1e-6)


def test_safetensors_of_a_model_that_still_learns(sam, tmp_path):
    trained(sam)
    save_checkpoint(sam, tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors").eval()
    torch.testing.assert_close(answer(loaded), answer(sam), rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["original", "0.up", "0.down", "0.scale"])
def test_a_part_that_is_missing(sam, tmp_path, part):
    state = trained(sam)
    lost = next(name for name in state if name.endswith(f"attn.qkv.parametrizations.weight.{part}"))
    del state[lost]
    torch.save({"state_dict": {f"sam.{name}": tensor for name, tensor in state.items()}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "last.ckpt", sam.spec)
    module = lost.partition(".parametrizations")[0]
    if part == "original":
        block, _, layer = module.rpartition(".")
        assert f"1 missing:\n  sam.{block}: {layer}.weight" in str(caught.value)
    else:
        assert f"{module}.weight was trained with LoRA, but parts of it are missing" in str(caught.value)


@pytest.mark.parametrize("part", ["up", "down"])
def test_parts_that_do_not_fit(sam, tmp_path, part):
    state = {name: tensor.clone() for name, tensor in trained(sam).items()}
    name = next(name for name in state if name.endswith(f"attn.proj.parametrizations.weight.0.{part}"))
    state[name] = state[name][:1]
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=r"attn\.proj\.weight was trained with LoRA, but its parts do not fit"):
        load_checkpoint(tmp_path / "odd.safetensors", sam.spec)
