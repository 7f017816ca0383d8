"""CLIP's towers: as transformers has them, what the output token of a mask sees, and folders that hold none."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import PATCH, SIDE, WIDTH, tiny_clip

from medsam.errors import CheckpointError
from medsam.models.clip import MEAN, STD, clip_folder, load_clip

PHRASES = ["left kidney", "spleen", "an anterior hippocampus"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(folder)


def pictures(count: int = 3) -> torch.Tensor:
    torch.manual_seed(4)
    return torch.rand(count, 3, SIDE, SIDE)


def test_texts_and_pictures_are_what_transformers_says(folder, clip):
    from transformers import CLIPModel, CLIPTokenizer

    theirs, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    with torch.no_grad():
        texts = [theirs.get_text_features(**tokenizer(one, return_tensors="pt")).pooler_output[0] for one in PHRASES]
        seen = theirs.get_image_features((pictures() - mean) / std).pooler_output
    for ours, wanted in ((clip.texts(PHRASES), torch.stack(texts)), (clip.images(pictures()), seen)):
        torch.testing.assert_close(ours, wanted / wanted.norm(dim=-1, keepdim=True), atol=1e-5, rtol=1e-4)
        assert ours.shape == (3, WIDTH)
        # and they are apart
        assert (ours[0] - ours[1]).norm() > 0.05
    assert clip.texts([]).shape == clip.images(pictures(0)).shape == (0, WIDTH)
    assert clip.texts(["spleen " * 40]).isfinite().all(), "cut where CLIP stops reading"


def test_the_output_token_of_a_mask_looks_at_its_patches_alone(tmp_path):
    """Of one layer: then it is the last, and nothing else carries what lies outside."""
    clip = load_clip(tiny_clip(tmp_path, layers=1))
    picture, mask = pictures(1), torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[0, 3:12, 9] = True  # of two patches, one below the other
    outside, inside = picture.clone(), picture.clone()
    outside[..., 2 * PATCH :, :] = 0
    outside[..., :PATCH] = 1
    inside[..., PATCH : 2 * PATCH, PATCH : 2 * PATCH] = 0
    kept = clip.images(picture, mask)
    torch.testing.assert_close(clip.images(outside, mask), kept)
    assert (clip.images(inside, mask) - kept).norm() > 1e-3
    assert (clip.images(outside) - clip.images(picture)).norm() > 1e-3
    # without a mask it sees itself, too
    assert (clip.images(picture, torch.ones_like(mask)) - clip.images(picture)).norm() > 1e-5
    torch.testing.assert_close(clip.images(picture, torch.zeros_like(mask)), clip.images(picture))


def test_the_digest_is_of_the_weights(folder, clip, tmp_path):
    assert load_clip(folder).digest == clip.digest
    assert load_clip(tiny_clip(tmp_path, seed=1)).digest != clip.digest


def test_where_it_lies_is_said_or_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("MEDSAM_CLIP", raising=False)
    assert clip_folder(None) is None
    monkeypatch.setenv("MEDSAM_CLIP", str(tmp_path))
    assert clip_folder(None) == tmp_path
    assert clip_folder("other").name == "other"


def without(folder, name):
    (folder / name).unlink()


def described_as(folder, **changes):
    about = json.loads((folder / "config.json").read_text())
    for part in changes:
        about[part] = about[part] | changes[part] if isinstance(changes[part], dict) else changes[part]
    (folder / "config.json").write_text(json.dumps(about))


def changed_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: without(folder, "config.json"), "lacks config.json.*save_pretrained"),
        (lambda folder: without(folder, "model.safetensors"), "lacks model.safetensors"),
        (lambda folder: without(folder, "merges.txt"), "lacks tokenizer.json"),
        (lambda folder: described_as(folder, model_type="siglip"), "does not describe a CLIP"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda folder: described_as(folder, vision_config={"image_size": 30}), "only squares are read|cannot be read"),
        (lambda folder: described_as(folder, text_config={"eos_token_id": 7}), "belongs to another CLIP"),
        (lambda folder: changed_weights(folder, lambda some: some.pop("visual_projection.weight")), "Missing key"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678{"), "is damaged"),
        (lambda folder: (folder / "vocab.json").write_text("[]"), "cannot be read as a CLIP"),
    ],
)
def test_what_is_no_clip_is_refused(damage, said, tmp_path):
    damage(tiny_clip(tmp_path))
    with pytest.raises(CheckpointError, match=said):
        load_clip(tmp_path)


def test_files_of_before_2023_are_read(folder, clip, tmp_path):
    """They hold numbers of places, and a wrong end of phrases, for which the highest number is taken."""
    old = tiny_clip(tmp_path)
    described_as(old, text_config={"eos_token_id": 2})
    changed_weights(old, lambda some: some.update({"text_model.embeddings.position_ids": torch.arange(48)[None]}))
    assert load_clip(old).digest == clip.digest
    torch.testing.assert_close(load_clip(old).texts(PHRASES), clip.texts(PHRASES))


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"medsam-framework\[clip\]") as error:
        load_clip(folder)
    assert error.value.name == "transformers"
