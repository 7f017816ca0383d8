"""Files of weights: what is no checkpoint, what lies beside the weights, damage; code never runs."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_errors import error_of
from safetensors.torch import save_file

from medsam.models.build import build_model
from medsam.models.checkpoint import (
    load_checkpoint,
    save_checkpoint,
)
from medsam.models.specs import tiny_spec


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harmful()}, "bad.ckpt")
    message = error_of(tmp_path / "bad.ckpt")
    assert "loading it would run code (posix.system)" in message
    assert "save only the weights" in message
    assert not (tmp_path / "harmed").exists()


def test_an_object_with_a_class_of_its_own_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    assert "would run code (torch.nn.modules.linear.Linear)" in error_of(tmp_path / "whole.pth")


@pytest.mark.parametrize("kept", [0, 5, 200, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["pth", "safetensors", "old.pth"])
def test_truncated_files(tmp_path, kind, kept):
    model = build_model(tiny_spec())
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_checkpoint(model, path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=kind == "pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    assert "is damaged, incomplete or not a checkpoint" in error_of(path)


def test_a_text_file(tmp_path):
    (tmp_path / "weights.pth").write_text("<!doctype html><title>404</title>")
    assert "is damaged, incomplete or not a checkpoint" in error_of(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a dictionary of weights"),
        ({"epoch": 3}, "holds no weights; it holds: epoch"),
        ({"image_encoder.pos_embed": torch.zeros(1), "lr": 1e-4}, "entries that are not tensors:\n  lr"),
    ],
)
def test_files_without_plain_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pth")
    assert message in error_of(tmp_path / "weights.pth")


def test_a_file_that_is_not_there(tmp_path):
    assert "cannot be read: No such file" in error_of(tmp_path / "nothing.pth")


@pytest.mark.parametrize(
    "beside",
    [
        {"loss": np.float64(0.3), "best_loss": np.float32(0.2), "step": np.int64(7), "done": np.bool_(True)},
        {"losses": np.arange(5.0), "names": np.array(["a", "b"]), "flags": np.zeros(3, bool)},
        {"args": argparse.Namespace(lr=1e-4, out=Path("runs")), "path": Path("data")},
        {"when": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "seen": OrderedDict(a=np.float64(1))},
        {
            "hyper_parameters": types.SimpleNamespace(loss=np.float64(1)),
            "optimizer": {"state": {0: {"step": np.int64(1)}}},
        },
    ],
)
def test_what_training_scripts_keep_beside_the_weights_is_passed_over(vit, tmp_path, beside):
    torch.save({"model": vit.state_dict(), "epoch": 3, **beside}, tmp_path / "weights.pth")
    loaded = load_checkpoint(tmp_path / "weights.pth")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), vit.state_dict().values(), strict=True))


def test_nothing_of_numpy_is_called_for_what_is_beside(vit, tmp_path, monkeypatch):
    torch.save({"model": vit.state_dict(), "loss": np.float64(0.3), "list": np.arange(3)}, tmp_path / "weights.pth")
    content = torch.load
    seen = []
    monkeypatch.setattr(torch, "load", lambda *words, **named: seen.append(content(*words, **named)) or seen[-1])
    load_checkpoint(tmp_path / "weights.pth")
    assert not isinstance(seen[0]["loss"], np.generic)
    assert not isinstance(seen[0]["list"], np.ndarray)


def test_weights_that_are_no_tensors_are_named_with_their_type(tmp_path):
    weights = {"image_encoder.pos_embed": torch.zeros(1), "image_encoder.x": np.zeros(3)}
    torch.save({"model": weights}, tmp_path / "weights.pth")
    message = error_of(tmp_path / "weights.pth")
    assert "image_encoder.x: numpy" in message
    assert "torch.from_numpy" in message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.to_sparse(), "is sparse"),
        (lambda t: t.to("meta"), "has no values"),
        (lambda t: t.to(torch.complex64), "complex"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantised"),
        (lambda t: t.to(torch.int8), "int8"),
        (lambda t: t.to(torch.bool), "bool"),
        (lambda t: t.flatten()[:1].clone().expand(*t.shape), "repeats fewer values"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_weight_that_is_no_plain_tensor_is_named(vit, tmp_path, change, told):
    state = dict(vit.state_dict())
    name = "mask_decoder.mask_tokens.weight"
    state[name] = change(state[name])
    torch.save(state, tmp_path / "weights.pth")
    message = error_of(tmp_path / "weights.pth")
    assert name in message
    assert re.search(told, message)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 70 + "1" + "}" * 70, "9" * 5000, "{", "3"])
def test_a_card_that_is_no_sound_json(vit, tmp_path, text):
    save_file(vit.state_dict(), tmp_path / "weights.safetensors", metadata={"medsam": text})
    assert "model card in its metadata is not" in error_of(tmp_path / "weights.safetensors")


def test_a_changed_bit_of_a_weight_is_found_by_the_checksum_of_its_zip(vit, tmp_path):
    torch.save({"w": torch.zeros(1000), **vit.state_dict()}, tmp_path / "weights.pth")
    content = bytearray((tmp_path / "weights.pth").read_bytes())
    with zipfile.ZipFile(tmp_path / "weights.pth") as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[entry.header_offset + 200] ^= 64
    (tmp_path / "weights.pth").write_bytes(content)
    message = error_of(tmp_path / "weights.pth")
    assert "is damaged, incomplete or not a checkpoint" in message
    assert "checksum" in message


def test_a_pipe_is_no_checkpoint_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "weights.pth")
    assert "is a pipe" in error_of(tmp_path / "weights.pth")


@pytest.mark.parametrize("letters", range(0, 64, 8))
def test_weights_lie_where_torch_puts_numbers_however_long_the_card_is(tmp_path, letters):
    """What a product's last digits are depends on it, and workers get copies."""
    path = tmp_path / "weights.safetensors"
    save_checkpoint(build_model(tiny_spec()), path, {"note": "n" * letters})
    assert {weight.data_ptr() % 64 for weight in load_checkpoint(path).parameters()} == {0}
