"""Which model weights belong to: known, unknown, told apart by the file's name, with parts missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_errors import error_of

from medsam.models.build import build_model
from medsam.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
)
from medsam.models.infer_spec import infer_spec
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, tiny_spec


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.clicks is None])
def test_sizes_are_worked_out_from_names_and_shapes(name):
    with torch.device("meta"):
        state = Sam.from_spec(SPECS[name]).state_dict()
    spec = infer_spec(state, f"{name}.pth")
    assert spec == SPECS[name]


def test_sizes_that_no_known_model_has(tmp_path):
    model = build_model(tiny_spec())
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    spec = load_checkpoint(tmp_path / "mine.pth").spec
    assert spec.encoder == model.spec.encoder
    assert spec.preprocess == replace(SPECS["sam-vit-b"].preprocess, size=64)
    assert "preprocessing of sam-vit-b at 64 px assumed" in spec.note


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sam_vit_b_01ec64.pth", "sam-vit-b"),
        ("MedSAM_vit_b.pth", "medsam-vit-b"),
        ("medsam-vit-base/model.safetensors", "medsam-vit-b"),
        ("medsam/weights/sam_b.pth", "sam-vit-b"),
    ],
)
def test_sam_and_medsam_are_told_apart_by_the_file_name_and_the_spec_says_so(name, expected):
    with torch.device("meta"):
        state = Sam.from_spec(SPECS["sam-vit-b"]).state_dict()
    spec = infer_spec(state, Checkpoint(path=Path(name), state=state).label)
    assert spec == SPECS[expected]
    assert spec.note.startswith(f"{expected} assumed because the name")


def test_a_known_model_with_a_hole_where_its_sizes_are_written(tmp_path):
    torch.manual_seed(0)
    state = build_model("litemedsam").state_dict()
    del state["image_encoder.layers.2.blocks.0.attn.attention_biases"]
    torch.save(state, tmp_path / "holed.pth")
    message = error_of(tmp_path / "holed.pth")
    assert "does not fit litemedsam" in message
    assert "1 missing:\n  image_encoder.layers.2.blocks.0: attn.attention_biases" in message


def test_weights_of_no_size_at_all(vit, tmp_path):
    torch.save({name: torch.tensor(1.0) for name in vit.state_dict()}, tmp_path / "weights.pth")
    assert "weights.pth" in error_of(tmp_path / "weights.pth")


def test_a_vit_without_relative_positions_of_no_known_size(vit, tmp_path):
    state = {name: tensor for name, tensor in vit.state_dict().items() if "rel_pos" not in name}
    torch.save(state, tmp_path / "weights.pth")
    assert "is a ViT without relative positions" in error_of(tmp_path / "weights.pth")


def test_a_published_vit_without_relative_positions_has_tables_of_zeros(vit, tmp_path, monkeypatch):
    monkeypatch.setitem(SPECS, "tiny-vit", vit.spec)
    state = {name: tensor for name, tensor in vit.state_dict().items() if "rel_pos" not in name}
    torch.save(state, tmp_path / "weights.pth")
    loaded = load_checkpoint(tmp_path / "weights.pth")
    tables = [tensor for name, tensor in loaded.state_dict().items() if "rel_pos" in name]
    assert len(tables) == 4
    assert not any(table.any() for table in tables)
    assert "no relative positions in the weights" in loaded.spec.note
