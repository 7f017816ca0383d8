"""Rates by depth, decay for matrices alone, and schedules with values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from medsam.errors import InputError
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, tiny_spec
from medsam.training.lora import LoraSettings, add_lora
from medsam.training.optimise import (
    OptimiserSettings,
    build_optimiser,
    is_decayed,
    layer_numbers,
    schedule,
)


@pytest.fixture(params=["vit", "tiny_vit"])
def sam(request) -> Sam:
    return Sam.from_spec(tiny_spec(request.param))


def by_name(sam: Sam, settings: OptimiserSettings) -> dict[str, tuple[float, float]]:
    """Weight -> (rate, decay)."""
    names = {id(parameter): name for name, parameter in sam.named_parameters()}
    found = {}
    for group in build_optimiser(sam, settings).param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in found, "in two groups"
            found[name] = group["lr"], group["weight_decay"]
    return found


def test_every_trained_weight_is_in_one_group(sam):
    sam.image_encoder.neck.requires_grad_(False)
    sam.mask_decoder.iou_token.requires_grad_(False)
    found = by_name(sam, OptimiserSettings(layer_decay=0.8))
    assert set(found) == {name for name, parameter in sam.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("image_encoder.neck.", "mask_decoder.iou_token.")) for name in found)
    assert "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix" not in found


EMBEDDINGS = {
    "prompt_encoder.point_embeddings.0.weight",
    "prompt_encoder.point_embeddings.1.weight",
    "prompt_encoder.point_embeddings.2.weight",
    "prompt_encoder.point_embeddings.3.weight",
    "prompt_encoder.not_a_point_embed.weight",
    "prompt_encoder.no_mask_embed.weight",
    "mask_decoder.iou_token.weight",
    "mask_decoder.mask_tokens.weight",
}
POSITIONS = {
    "vit": {
        "image_encoder.pos_embed",
        *(f"image_encoder.blocks.{n}.attn.rel_pos_{way}" for n in range(2) for way in "hw"),
    },
    "tiny_vit": {f"image_encoder.layers.{n}.blocks.0.attn.attention_biases" for n in (1, 2, 3)},
}


def test_matrices_and_kernels_decay_and_nothing_else(sam):
    found = by_name(sam, OptimiserSettings(weight_decay=0.1))
    spared = {name for name, (_, decay) in found.items() if decay == 0}
    assert {decay for _, decay in found.values()} == {0, 0.1}
    of_rank_one = {name for name, parameter in sam.named_parameters() if parameter.ndim == 1}
    assert spared == of_rank_one | EMBEDDINGS | POSITIONS[sam.spec.family]
    assert all(name.endswith((".weight", ".bias")) for name in of_rank_one)


def test_names_that_only_sound_like_embeddings(sam):
    weights = dict(sam.named_parameters())
    patches = "patch_embed.proj.weight" if sam.spec.family == "vit" else "patch_embed.seq.0.c.weight"
    for name in (
        f"image_encoder.{patches}",
        "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight",
        "mask_decoder.transformer.final_attn_token_to_image.out_proj.weight",
        "prompt_encoder.mask_downscaling.0.weight",
        "mask_decoder.output_upscaling.0.weight",
    ):
        assert is_decayed(name, weights[name]), name


def test_what_lora_learns_decays(sam):
    sam.image_encoder.requires_grad_(False)
    count = add_lora(sam, LoraSettings(rank=2))
    found = by_name(sam, OptimiserSettings(weight_decay=0.1, layer_decay=0.5))
    low_rank = {name: values for name, values in found.items() if ".parametrizations." in name}
    assert len(low_rank) == 2 * count
    assert {decay for _, decay in low_rank.values()} == {0.1}
    # and by the block it lies in
    layers = layer_numbers(sam)
    depth = max(layers.values())
    for name, (lr, _) in low_rank.items():
        assert lr == pytest.approx(1e-4 * 0.5 ** (depth - layers[name]))
    assert len({lr for lr, _ in low_rank.values()}) == count / 2


def test_rates_fall_with_depth_in_a_vit():
    found = by_name(Sam.from_spec(tiny_spec("vit")), OptimiserSettings(lr=1e-3, layer_decay=0.5))
    expected = {
        "image_encoder.patch_embed.": 1 / 8,
        "image_encoder.pos_embed": 1 / 8,
        "image_encoder.blocks.0.": 1 / 4,
        "image_encoder.blocks.1.": 1 / 2,
        "image_encoder.neck.": 1,
        "prompt_encoder.": 1,
        "mask_decoder.": 1,
    }
    for name, (lr, _) in found.items():
        (share,) = (share for start, share in expected.items() if name.startswith(start))
        assert lr == pytest.approx(1e-3 * share), name


def test_rates_fall_with_depth_in_a_tinyvit():
    """Four stages of one block; what leads to the next stage goes with the block before it."""
    found = by_name(Sam.from_spec(tiny_spec("tiny_vit")), OptimiserSettings(lr=1e-3, layer_decay=0.5))
    expected = {"image_encoder.patch_embed.": 1 / 32, "image_encoder.neck.": 1, "prompt_": 1, "mask_decoder.": 1}
    expected |= {f"image_encoder.layers.{stage}.": 2.0 ** (stage - 4) for stage in range(4)}
    for name, (lr, _) in found.items():
        (share,) = (share for start, share in expected.items() if name.startswith(start))
        assert lr == pytest.approx(1e-3 * share), name


@pytest.mark.parametrize(("model", "depth"), [("litemedsam", 13), ("sam-vit-b", 13), ("sam-vit-h", 33)])
def test_layers_of_real_models_follow_the_order_of_computation(model, depth):
    with torch.device("meta"):
        sam = Sam.from_spec(SPECS[model])
    numbers = layer_numbers(sam)
    assert max(numbers.values()) == depth
    layers = [number for name, number in numbers.items() if name.startswith("image_encoder.")]
    assert sorted(set(layers)) == list(range(depth + 1))
    if model == "litemedsam":
        # its parameters are listed in the order in which they are computed with
        assert layers == sorted(layers)
        assert numbers["image_encoder.layers.1.downsample.conv1.c.weight"] == 4
        assert numbers["image_encoder.layers.2.blocks.0.attn.qkv.weight"] == 5


def test_without_layer_decay_there_is_one_rate(sam):
    assert {lr for lr, _ in by_name(sam, OptimiserSettings(lr=2e-4)).values()} == {2e-4}
    optimiser = build_optimiser(sam, OptimiserSettings(betas=(0.8, 0.95)))
    assert isinstance(optimiser, torch.optim.AdamW)
    assert {group["betas"] for group in optimiser.param_groups} == {(0.8, 0.95)}


def test_nothing_to_train(sam):
    sam.requires_grad_(False)
    with pytest.raises(InputError, match=r"Every part of the model is frozen.*model\.train"):
        build_optimiser(sam, OptimiserSettings())


# -- schedules ----------------------------------------------------------------------------------------------------


def test_warm_up_grows_in_a_line_to_the_whole_rate():
    factor = schedule(OptimiserSettings(warmup_steps=4, schedule="constant"), 100)
    assert [factor(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert factor(99) == 1


def test_a_cosine_from_the_whole_rate_to_the_final_share():
    factor = schedule(OptimiserSettings(warmup_steps=0, final=0.1), 100)
    assert [factor(step) for step in (0, 25, 50, 100)] == pytest.approx(
        [1, 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2, 0.55, 0.1]
    )
    assert factor(1000) == pytest.approx(0.1), "a run made longer does not climb again"
    after = schedule(OptimiserSettings(warmup_steps=20, final=0.0), 100)
    assert (after(20), after(60), after(100)) == pytest.approx((1, 0.5, 0))
    falling = [after(step) for step in range(20, 101)]
    assert falling == sorted(falling, reverse=True)


def test_a_tenth_at_two_thirds_and_again_at_95_per_cent():
    factor = schedule(OptimiserSettings(warmup_steps=0, schedule="steps"), 300)
    assert [factor(step) for step in (0, 199, 200, 284, 285, 299)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("kind", ["cosine", "steps", "constant"])
@pytest.mark.parametrize("steps", [0, 1, 2, 10])
def test_runs_shorter_than_the_warm_up(kind, steps):
    factor = schedule(OptimiserSettings(warmup_steps=50, schedule=kind), steps)
    shares = [factor(step) for step in range(steps + 1)]
    assert all(0 < share <= 1 for share in shares)
    if steps > 1:
        assert shares[: steps - 1] == sorted(shares[: steps - 1]), "all of it but the last step is warm-up"


def test_torch_takes_the_schedule(sam):
    settings = OptimiserSettings(lr=1e-3, layer_decay=0.5, warmup_steps=1, schedule="constant")
    optimiser = build_optimiser(sam, settings)
    highest = [group["lr"] for group in optimiser.param_groups]
    stepping = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule(settings, 10))
    assert stepping.get_last_lr() == pytest.approx([lr / 2 for lr in highest])
    optimiser.step()
    stepping.step()
    assert stepping.get_last_lr() == pytest.approx(highest)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0},
        {"lr": -1e-4},
        {"lr": 2},
        {"lr": math.nan},
        {"layer_decay": 0},
        {"layer_decay": 1.1},
        {"final": -0.1},
        {"final": 1.1},
        {"weight_decay": -1},
        {"weight_decay": math.nan},
        {"warmup_steps": -1},
        {"betas": (0.9, 1.0)},
        {"betas": (-0.1, 0.9)},
        {"schedule": "cosinus"},
    ],
)
def test_settings_that_make_no_sense(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=rf"model\.optimiser\..*{name}"):
        OptimiserSettings(**wrong)


def test_settings_at_their_ends():
    OptimiserSettings(lr=1, layer_decay=1, final=0, weight_decay=0, warmup_steps=0)
    OptimiserSettings(final=1)
