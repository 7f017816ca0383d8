"""The published facts about every known model, and the card that travels with weights."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from medsam.errors import CheckpointError
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, ModelSpec, tiny_spec


# parameters of the public checkpoints, in full
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("litemedsam", 9_791_300),
        ("sam-vit-b", 93_735_472),
        ("medsam-vit-b", 93_735_472),
        ("sam-vit-l", 312_342_832),
        ("sam-vit-h", 641_090_608),
    ],
)
def test_number_of_weights(name, weights):
    with torch.device("meta"):
        model = Sam.from_spec(SPECS[name])
    assert sum(weight.numel() for weight in model.parameters()) == weights


def test_every_known_model_embeds_to_64_by_64():
    assert {spec.embed_side for spec in SPECS.values()} == {64}


def test_preprocessing_of_the_three_recipes():
    lite, sam, medsam = (SPECS[name].preprocess for name in ("litemedsam", "sam-vit-h", "medsam-vit-b"))
    assert (lite.size, lite.fit, lite.scale, lite.interpolation) == (256, "pad", "minmax", "bilinear")
    assert (sam.size, sam.fit, sam.scale, sam.interpolation) == (1024, "pad", "standardise", "bilinear")
    assert sam.mean == (123.675, 116.28, 103.53)
    assert sam.std == (58.395, 57.12, 57.375)
    assert (medsam.size, medsam.fit, medsam.scale, medsam.interpolation) == (1024, "stretch", "minmax", "bicubic")


def test_encoder_and_preprocessing_must_agree():
    spec = SPECS["litemedsam"]
    with pytest.raises(ValueError, match="takes 256 px, the preprocessing makes 512 px"):
        replace(spec, preprocess=replace(spec.preprocess, size=512))


@pytest.mark.parametrize("spec", [*SPECS.values(), tiny_spec("vit"), tiny_spec("tiny_vit")], ids=lambda s: s.name)
def test_a_card_survives_json(spec):
    again = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec


@pytest.mark.parametrize("card", [{}, {"family": "swin"}, {**tiny_spec().to_dict(), "encoder": {"image_size": 64}}])
def test_a_card_that_is_not_ours(card):
    with pytest.raises(CheckpointError, match="model card cannot be read"):
        ModelSpec.from_dict(card)


def test_a_card_says_whether_priors_count_by_the_name_it_always_had():
    loose = replace(tiny_spec(), use_priors=False)
    card = json.loads(json.dumps(loose.to_dict()))
    assert card["evidence"] is False
    assert "use_priors" not in card
    assert ModelSpec.from_dict(card) == loose
    del card["evidence"]  # as in cards written before there was a choice
    assert ModelSpec.from_dict(card) == tiny_spec()


def test_a_card_of_before_there_was_a_choice_has_the_mask_threshold_of_sam():
    card = tiny_spec().to_dict()
    assert card.pop("mask_threshold") == 0
    assert ModelSpec.from_dict(card).mask_threshold == 0
    assert ModelSpec.from_dict(card | {"mask_threshold": -1.5}) == replace(tiny_spec(), mask_threshold=-1.5)
