"""Names of Hugging Face's SamModel, both ways."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from medsam.errors import CheckpointError
from medsam.models.build import build_model
from medsam.models.checkpoint import (
    load_checkpoint,
)
from medsam.models.hugging_face import from_hugging_face, to_hugging_face
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec


def same_weights(ours: Sam, theirs: Sam, **tolerance) -> None:
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("place", ["file", "folder"])
def test_hugging_face(tmp_path, place):
    model = build_model(tiny_spec())
    state = {name: tensor.clone() for name, tensor in to_hugging_face(model.state_dict()).items()}
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path if place == "folder" else tmp_path / "model.safetensors")
    same_weights(loaded, model)


def test_hugging_face_keeps_one_of_two_tied_weights(tmp_path):
    model = build_model(tiny_spec())
    for dropped in ("shared_image_embedding.", "prompt_encoder.shared_embedding."):
        state = {n: t.clone() for n, t in to_hugging_face(model.state_dict()).items() if not n.startswith(dropped)}
        save_file(state, tmp_path / "model.safetensors")
        same_weights(load_checkpoint(tmp_path), model)


def test_hugging_face_tied_weights_that_differ():
    state = to_hugging_face(build_model(tiny_spec()).state_dict())
    state["prompt_encoder.shared_embedding.positional_embedding"] = torch.zeros(2, 16)
    with pytest.raises(CheckpointError, match="should be one weight but differ"):
        from_hugging_face(state)


def test_hugging_face_has_no_tinyvit():
    with pytest.raises(CheckpointError, match="ViT image encoder only"):
        to_hugging_face(build_model(tiny_spec("tiny_vit")).state_dict())
