"""The weights that are shipped: what is left of a training checkpoint, and which cases are kept from training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medsam.errors import InputError
from medsam.models.build import build_model
from medsam.models.checkpoint import load_decoder, read_checkpoint, save_checkpoint
from medsam.models.specs import tiny_spec
from scripts import train_weights


def test_a_checkpoint_becomes_a_small_file_with_its_card(tmp_path, capsys):
    sam = build_model(tiny_spec("tiny_vit"))
    card = {"data": ["drawings"], "steps": 5, "metrics": {"val/dice": 0.1}, "metrics_before": {"val/dice": 0.8}}
    save_checkpoint(sam, tmp_path / "last.safetensors", card)
    path = tmp_path / "small.safetensors"
    train_weights.write_decoder(tmp_path / "last.safetensors", path)
    assert "sha256" in capsys.readouterr().out
    read = read_checkpoint(path)
    assert read.training == {"data": ["drawings"], "steps": 5}
    assert all(name.startswith(("prompt_encoder.", "mask_decoder.")) for name in read.state)
    found = load_decoder(path, build_model(tiny_spec("tiny_vit")))
    assert (found.spec.name, found.spec.prompts) == ("litemedsam-plus", ("points",))
    torch.testing.assert_close(
        found.mask_decoder.iou_token.weight, sam.mask_decoder.iou_token.weight, rtol=1e-3, atol=1e-4
    )


def test_one_patient_is_kept_from_training(tmp_path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"cases": [{"id": name, "patient": name[0]} for name in ("a1", "a2", "b1")]}))
    train_weights._split(path, "a")
    assert [case["split"] for case in json.loads(path.read_text())["cases"]] == ["val", "val", "train"]


def test_sets_that_are_missing_are_named(tmp_path):
    with pytest.raises(InputError, match="lacks sts_sarcoma_mr_pet_ct, .*spinal_cord_mr"):
        train_weights.prepared(tmp_path / "out", Path(tmp_path), None)
