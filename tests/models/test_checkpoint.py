"""Every layout of weights goes in; what does not fit is named in full; code never runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoint_errors import error_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medsam.errors import CheckpointError
from medsam.models.build import build_model, load_model
from medsam.models.checkpoint import (
    load_checkpoint,
    load_decoder,
    read_checkpoint,
    save_checkpoint,
    save_decoder,
)
from medsam.models.hugging_face import to_hugging_face
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
    monkeypatch.setattr("safetensors.torch.save_file", _write_half_and_fail)
    with pytest.raises(OSError, match="full"):
        save_checkpoint(build_model(tiny_spec()), tmp_path / "weights.safetensors")
    assert not list(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="safetensors"):
        save_checkpoint(build_model(tiny_spec()), tmp_path / "weights.pth")


def _write_half_and_fail(_state, path, metadata):
    path.write_bytes(b"half")
    raise OSError("disk full")


# -- what does not fit ------------------------------------------------------------------------------------------


def test_a_decoder_beside_another_model(tiny, tmp_path):
    """Small, nearly the same numbers, exactly the same positions, and on the other's embedding."""
    torch.manual_seed(5)
    beside = build_model(tiny.spec).eval()
    path = tmp_path / "decoder.safetensors"
    save_decoder(tiny, path, {"data": ["drawings"]})
    found = load_decoder(path, beside)
    assert found.image_encoder is beside.image_encoder
    assert not found.training
    wanted, there = tiny.state_dict(), found.state_dict()
    for name, tensor in wanted.items():
        if name.startswith(("prompt_encoder.", "mask_decoder.")):
            torch.testing.assert_close(there[name], tensor, rtol=1e-3, atol=1e-4)
    positions = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    assert torch.equal(there[positions], wanted[positions])
    weights = sum(tensor.numel() for name, tensor in wanted.items() if not name.startswith("image_encoder."))
    assert path.stat().st_size < 2 * weights + 30_000
    before = {name: tensor.clone() for name, tensor in beside.state_dict().items()}
    beside.propose_by(found)
    assert before.keys() == beside.state_dict().keys()
    assert beside.proposer is found
    assert build_model(tiny.spec).proposer is None


def test_one_file_holds_both_decoders_of_a_model(tiny, tmp_path):
    torch.manual_seed(5)
    other = build_model(replace(tiny.spec, prompts=("points",)))
    tiny = Sam(tiny.spec, tiny.image_encoder, tiny.prompt_encoder, tiny.mask_decoder)
    tiny.propose_by(Sam(other.spec, tiny.image_encoder, other.prompt_encoder, other.mask_decoder))
    path = tmp_path / "both.safetensors"
    save_checkpoint(tiny, path, {"steps": 1})
    found = load_model(path)
    proposer = found.proposer
    assert proposer is not None
    assert proposer.image_encoder is found.image_encoder
    assert (proposer.spec.prompts, proposer.training) == (("points",), False)
    assert read_checkpoint(path).training == {"steps": 1}
    for there, wanted in ((found, tiny), (proposer, tiny.proposer)):
        assert all(torch.equal(there.state_dict()[name], tensor) for name, tensor in wanted.state_dict().items())
    broken = load_file(path)
    del broken["proposer.mask_decoder.iou_token.weight"]
    with safe_open(path, "pt") as file:
        save_file(broken, path, file.metadata())
    assert "proposer.mask_decoder: iou_token.weight" in error_of(path)


def test_a_decoder_of_another_architecture_and_a_damaged_one(tmp_path):
    path = tmp_path / "decoder.safetensors"
    save_decoder(build_model(tiny_spec()), path, {})
    other = build_model(tiny_spec("tiny_vit"))
    with pytest.raises(CheckpointError, match="holds no decoder for tiny-tinyvit"):
        load_decoder(path, other)
    save_file({"mask_decoder.iou_token.weight": torch.zeros(1, 32)}, path)
    with pytest.raises(CheckpointError, match="holds no decoder for tiny-vit"):
        load_decoder(path, build_model(tiny_spec()))


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


def test_a_folder_without_weights(tmp_path):
    assert "holds neither model.safetensors nor pytorch_model.bin" in error_of(tmp_path)


@pytest.mark.weights
def test_the_public_litemedsam_file(tmp_path, litemedsam):
    torch.save(litemedsam.state_dict(), tmp_path / "lite_medsam.pth")
    checkpoint = read_checkpoint(tmp_path / "lite_medsam.pth")
    assert len(checkpoint.state) == 435
    model = load_checkpoint(tmp_path / "lite_medsam.pth")
    assert model.spec == SPECS["litemedsam"]
    assert "256 px assumed" in model.spec.note


# -- what public training scripts save beside the weights -------------------------------------------------------


# -- damaged and hostile ------------------------------------------------------------------------------------------


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
