"""Every layout of weights goes in; what does not fit is named in full; code never runs."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import types
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medsam.errors import CheckpointError
from medsam.models.build import build_model
from medsam.models.checkpoint import (
    Checkpoint,
    _infer_spec,
    from_hugging_face,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    to_hugging_face,
)
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, tiny_spec
from medsam.models.weights_file import CARD_KEY

PICKLES = {
    "plain": lambda state: state,
    "lightning": lambda state: {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4}]}],
    },
    "medsam training": lambda state: {"model": state, "optimizer": {}, "epoch": 1},
    "distributed": lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
    "compiled": lambda state: {"state_dict": {f"model._orig_mod.{name}": tensor for name, tensor in state.items()}},
    "half precision": lambda state: {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()
    },
}


def same_weights(ours: Sam, theirs: Sam, **tolerance) -> None:
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], **(tolerance or {"rtol": 0, "atol": 0}))


def error_of(path, spec=None) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec)
    return str(caught.value)


@pytest.mark.parametrize("layout", PICKLES)
def test_pickled_layouts(tiny, tmp_path, layout):
    path = tmp_path / "weights.pth"
    torch.save(PICKLES[layout](tiny.state_dict()), path)
    spec = tiny.spec if tiny.spec.family == "tiny_vit" else None  # a TinyViT's input size is not in its weights
    model = load_checkpoint(path, spec)
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if layout == "half precision" else {}
    same_weights(model, tiny, **tolerance)
    assert model.dtype == torch.float32
    assert model.spec.encoder == tiny.spec.encoder
    assert model.spec.decoder == tiny.spec.decoder


def test_an_old_pickle_without_a_zip_around_it(tiny, tmp_path):
    torch.save(tiny.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    same_weights(load_checkpoint(tmp_path / "old.pth", tiny.spec), tiny)


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


@pytest.mark.parametrize("name", SPECS)
def test_sizes_are_worked_out_from_names_and_shapes(name):
    with torch.device("meta"):
        state = Sam.from_spec(SPECS[name]).state_dict()
    spec = _infer_spec(Checkpoint(path=Path(f"{name}.pth"), state=state))
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
    spec = _infer_spec(Checkpoint(path=Path(name), state=state))
    assert spec == SPECS[expected]
    assert spec.note.startswith(f"{expected} assumed because the name")


@pytest.mark.parametrize("carrier", ["safetensors", "lightning"])
def test_a_card_decides(tmp_path, carrier):
    model = build_model(tiny_spec())
    spec = replace(model.spec, name="mine", preprocess=replace(SPECS["medsam-vit-b"].preprocess, size=64))
    model.spec = spec
    if carrier == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_checkpoint(model, path)
        assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]
    else:
        path = tmp_path / "last.ckpt"
        state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        torch.save({"state_dict": state, CARD_KEY: spec.to_dict()}, path)
    loaded = load_checkpoint(path)
    assert loaded.spec == spec
    same_weights(loaded, model)
    # and an explicit spec overrides it
    assert load_checkpoint(path, tiny_spec()).spec == tiny_spec()


TRAINING = {"medsam": "1.0", "steps": 300, "structures": ["liver", "spleen"], "metrics": {"val/dice": 0.91}}


@pytest.mark.parametrize("carrier", ["safetensors", "lightning"])
def test_a_card_says_how_the_weights_were_made(tmp_path, carrier):
    model = build_model(tiny_spec())
    if carrier == "safetensors":
        path = tmp_path / "model.safetensors"
        save_checkpoint(model, path, TRAINING)
    else:
        path = tmp_path / "best.ckpt"
        state = {f"sam.{name}": tensor for name, tensor in model.state_dict().items()}
        card = {**model.spec.to_dict(), "training": TRAINING, "untouched": {"val/dice": 0.3}}
        torch.save({"state_dict": state, CARD_KEY: card}, path)
    assert read_checkpoint(path).training == TRAINING
    loaded = load_checkpoint(path)
    assert loaded.spec == model.spec
    same_weights(loaded, model)
    # the model itself does not carry it on: what is saved next was made in another way
    save_checkpoint(loaded, tmp_path / "next.safetensors")
    assert read_checkpoint(tmp_path / "next.safetensors").training == {}


def test_a_file_that_does_not_say_how_it_was_made(tmp_path):
    model = build_model(tiny_spec())
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    assert read_checkpoint(tmp_path / "plain.pth").training == {}
    torch.save(
        {"state_dict": model.state_dict(), CARD_KEY: {**model.spec.to_dict(), "training": "long"}},
        tmp_path / "odd.ckpt",
    )
    assert read_checkpoint(tmp_path / "odd.ckpt").training == {}


def test_training_that_is_no_plain_value_is_not_written(tmp_path):
    with pytest.raises(TypeError):
        save_checkpoint(build_model(tiny_spec()), tmp_path / "model.safetensors", {"data": Path("secret")})
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("medsam.models.checkpoint.save_file", _write_half_and_fail)
    with pytest.raises(OSError, match="full"):
        save_checkpoint(build_model(tiny_spec()), tmp_path / "weights.safetensors")
    assert not list(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="safetensors"):
        save_checkpoint(build_model(tiny_spec()), tmp_path / "weights.pth")


def _write_half_and_fail(_state, path, metadata):
    path.write_bytes(b"half")
    raise OSError("disk full")


# -- what does not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hugging_face", [False, True])
def test_missing_unexpected_and_misshapen_weights_are_all_named(tmp_path, hugging_face):
    state = build_model(tiny_spec()).state_dict()
    if hugging_face:
        state = to_hugging_face(state)
        missing = ["vision_encoder.layers.1.attn.qkv.bias", "mask_decoder.upscale_conv2.bias"]
        misshapen = "mask_decoder.output_hypernetworks_mlps.3.proj_out.bias"
    else:
        missing = ["image_encoder.blocks.1.attn.qkv.bias", "mask_decoder.output_upscaling.3.bias"]
        misshapen = "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias"
    state = {f"model.{name}": tensor for name, tensor in state.items() if name not in missing}
    unexpected = ["model.mask_decoder.hf_token.weight", "loss.weight"]
    state |= dict.fromkeys(unexpected, torch.zeros(1))
    state[f"model.{misshapen}"] = torch.zeros(7)
    torch.save({"state_dict": state}, tmp_path / "odd.ckpt")

    message = error_of(tmp_path / "odd.ckpt")
    sections = re.split(r"\n\d+ (missing|unexpected|of another shape):\n", message)
    report = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert spelled_out(report["missing"]) == {f"model.{name}" for name in missing}
    assert spelled_out(report["unexpected"]) == set(unexpected)
    assert report["of another shape"] == f"  model.{misshapen}: (7,), expected (4,)"


def spelled_out(report: str) -> set[str]:
    """`block: a, b` -> block.a, block.b, for every line."""
    names = set()
    for line in report.splitlines():
        block, colon, rest = line.strip().rpartition(": ")
        names |= {f"{block}.{name}" if colon else name for name in rest.split(", ")}
    return names


def test_another_model_given_explicitly(tmp_path):
    torch.save(build_model(tiny_spec("tiny_vit")).state_dict(), tmp_path / "tiny.pth")
    message = error_of(tmp_path / "tiny.pth", tiny_spec("vit"))
    assert "does not fit tiny-vit" in message
    missing, unexpected = message.split("unexpected:")
    assert "image_encoder.blocks.1: norm1.weight, norm1.bias, attn.rel_pos_h, attn.rel_pos_w, norm2" in missing
    assert "image_encoder.layers.0.blocks.0.conv1: c.weight, bn.weight" in unexpected


def test_another_architecture(tmp_path):
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).state_dict()
    torch.save(state, tmp_path / "cnn.pth")
    message = error_of(tmp_path / "cnn.pth")
    assert "is not a SAM this package knows" in message
    for group in ("0.weight, 0.bias, 1.weight, 1.bias, 1.running_mean, 1.running_var, 1.num_batches_tracked",):
        assert group in message


def test_a_known_model_with_a_hole_where_its_sizes_are_written(tmp_path):
    torch.manual_seed(0)
    state = build_model("litemedsam").state_dict()
    del state["image_encoder.layers.2.blocks.0.attn.attention_biases"]
    torch.save(state, tmp_path / "holed.pth")
    message = error_of(tmp_path / "holed.pth")
    assert "does not fit litemedsam" in message
    assert "1 missing:\n  image_encoder.layers.2.blocks.0: attn.attention_biases" in message


def test_weights_that_are_not_finite(tmp_path):
    state = build_model(tiny_spec()).state_dict()
    state["mask_decoder.iou_token.weight"][0, 3] = torch.nan
    torch.save(state, tmp_path / "diverged.pth")
    message = error_of(tmp_path / "diverged.pth")
    assert "not finite" in message
    assert "mask_decoder: iou_token.weight" in message


def test_several_models_in_one_file(tmp_path):
    state = build_model(tiny_spec()).state_dict()
    both = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in state.items()}
    torch.save(both, tmp_path / "pair.pth")
    assert "'student.', 'teacher.'" in error_of(tmp_path / "pair.pth")


# -- what is not a checkpoint -----------------------------------------------------------------------------------


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


def test_a_folder_without_weights(tmp_path):
    assert "holds neither model.safetensors nor pytorch_model.bin" in error_of(tmp_path)


def test_a_file_that_is_not_there(tmp_path):
    assert "cannot be read: No such file" in error_of(tmp_path / "nothing.pth")


@pytest.mark.weights
def test_the_public_litemedsam_file(tmp_path, litemedsam):
    torch.save(litemedsam.state_dict(), tmp_path / "lite_medsam.pth")
    checkpoint = read_checkpoint(tmp_path / "lite_medsam.pth")
    assert len(checkpoint.state) == 435
    model = load_checkpoint(tmp_path / "lite_medsam.pth")
    assert model.spec == SPECS["litemedsam"]
    assert "256 px assumed" in model.spec.note


@pytest.fixture(scope="module")
def vit():
    return build_model(tiny_spec())


# -- what public training scripts save beside the weights -------------------------------------------------------


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


def test_weights_of_no_size_at_all(vit, tmp_path):
    torch.save({name: torch.tensor(1.0) for name in vit.state_dict()}, tmp_path / "weights.pth")
    assert "weights.pth" in error_of(tmp_path / "weights.pth")


# -- damaged and hostile ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(vit, tmp_path, dtype):
    torch.save(
        {name: t.to(dtype) if t.is_floating_point() else t for name, t in vit.state_dict().items()}, tmp_path / "w.pth"
    )
    assert all(tensor.dtype != dtype for tensor in load_checkpoint(tmp_path / "w.pth").state_dict().values())


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("encoder", "depth", 100_000),
        ("decoder", "layers", 10**6),
        ("decoder", "mask_tokens", 10**6),
        ("encoder", "width", 1.5),
        ("encoder", "heads", 0),
    ],
)
def test_a_card_is_held_against_the_weights_before_anything_is_built(vit, tmp_path, part, key, value):
    save_checkpoint(vit, tmp_path / "weights.safetensors")
    card = vit.spec.to_dict()
    card[part][key] = value
    save_file(vit.state_dict(), tmp_path / "weights.safetensors", metadata={"medsam": json.dumps(card)})
    assert "weights.safetensors" in error_of(tmp_path / "weights.safetensors")


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
