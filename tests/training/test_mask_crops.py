"""What CLIP is shown of a mask, by drawings with known answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_clip import tiny_clip
from tiny_training import drawn as drawn_scan
from tiny_training import shapes, write_case, write_manifest

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.inference.embeddings import EmbeddingCache
from medsam.models.clip import load_clip
from medsam.models.specs import tiny_spec
from medsam.training.mask_crops import CropSettings, large_enough, picture_of, square_round
from medsam.training.names_data import NamesDataModule
from medsam.transforms.frame import Frame

NAMES = {"disc": "left kidney", "bar": "Milz"}


def drawn(x0: int, y0: int, x1: int, y1: int, shape=(20, 30)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_the_square_has_the_boxs_middle_and_its_longer_side():
    mask = drawn(10, 4, 14, 12)  # 4 wide, 8 high, middle (12, 8)
    assert square_round(mask, (1.0, 1.0), 1.0) == (8, 4, 16, 12)
    assert square_round(mask, (1.0, 1.0), 2.0) == (4, 0, 20, 16)
    assert square_round(mask, (1.0, 1.0), 3.0) == (0, -4, 24, 20), "it may reach outside"
    # square in millimetres: rows of 2 mm make 16 mm of 8 rows, and so 16 columns of 1 mm
    assert square_round(mask, (2.0, 1.0), 1.0) == (4, 4, 20, 12)


def test_a_picture_is_what_lies_in_the_square_and_black_beyond_the_slice():
    image = np.full((1, 20, 30), 51.0, np.float32)
    image[0, 4:12, 10:14] = 255
    picture, inside = picture_of(image, drawn(10, 4, 14, 12), (8, 4, 16, 12), 32, blank=False)
    assert picture.shape == (3, 32, 32)
    # four pixels of the picture are one of the slice; away from edges nothing is mixed
    assert torch.equal(inside, torch.from_numpy(drawn(8, 0, 24, 32, (32, 32))))
    torch.testing.assert_close(picture[:, 8:24, 14:18], torch.ones(3, 16, 4))
    torch.testing.assert_close(picture[:, :, :2], torch.full((3, 32, 2), 0.2))
    beyond, _ = picture_of(image, drawn(10, 4, 14, 12), (0, -4, 24, 20), 48, blank=False)
    assert not beyond[:, :6].any()
    assert (beyond[:, 12:44, 4:44] > 0.1).all()


def test_blanked_there_is_nothing_but_the_mask():
    image = np.full((3, 20, 30), 51.0, np.float32)
    image[:, 4:12, 10:14] = np.array([255.0, 102.0, 0.0])[:, None, None]
    mask = drawn(10, 4, 14, 12)
    plain, inside = picture_of(image, mask, (4, 0, 20, 16), 32, blank=False)
    blanked, same = picture_of(image, mask, (4, 0, 20, 16), 32, blank=True)
    assert torch.equal(inside, same)
    assert inside.sum() == 16 * 8
    assert torch.equal(blanked[:, inside], plain[:, inside])
    assert not blanked[:, ~inside].any()
    assert plain[:, ~inside].any()
    assert blanked[:, 16, 16].tolist() == pytest.approx([1.0, 0.4, 0.0], abs=1e-3)


def test_a_line_is_not_lost_in_a_small_picture():
    _, inside = picture_of(
        np.zeros((1, 90, 90), np.float32), drawn(0, 40, 90, 41, (90, 90)), (0, 0, 90, 90), 8, blank=True
    )
    assert inside.any()


def test_masks_are_large_enough_by_their_share_of_the_model_input():
    """100^2 of 1024^2 are 0.95 % of the model's square, of which a slice of 20 x 40 is half: 15.3 of its pixels."""
    plane = VolumeGeometry((1, 20, 40), np.eye(4)).plane("k")
    frame = Frame.of(plane, tiny_spec().preprocess)
    masks = torch.stack(
        [torch.from_numpy(drawn(0, 0, 16, 1, (20, 40))), torch.from_numpy(drawn(0, 0, 15, 1, (20, 40)))]
    )
    assert frame.resized == (32, 64)
    assert large_enough(masks, frame, 100).tolist() == [True, False]
    assert large_enough(torch.zeros_like(masks), frame, 0).tolist() == [False, False]


def prepared(folder, crops: CropSettings, **more) -> NamesDataModule:
    path = folder / "shapes.json"
    if not path.exists():
        shapes(folder, ("train", "train", "val"))
    data = NamesDataModule([str(path)], names=NAMES, negatives=0.0, crops=crops, **more)
    data.prepare(tiny_spec())
    return data


def test_a_mask_is_shown_once_and_never_again(tmp_path, monkeypatch):
    clip, cache = load_clip(tiny_clip(tmp_path / "clip")), EmbeddingCache(0, tmp_path / "kept")
    data = prepared(tmp_path, CropSettings(pictures=3))
    data.use_clip(clip, cache)
    shown = data.train_dataloader().dataset.prompts.embeddings
    assert len(shown) == 8
    assert all(
        {label: tuple(one.shape) for label, one in found.items()} == {"disc": (3, 24), "bar": (3, 24)}
        for found in shown.values()
    )
    torch.testing.assert_close(shown[2]["disc"].norm(dim=-1), torch.ones(3))
    assert not torch.equal(shown[2]["disc"][0], shown[2]["disc"][1]), "pictures differ"

    monkeypatch.setattr(clip, "images", None)
    again = prepared(tmp_path, CropSettings(pictures=3))
    again.use_clip(clip, cache)
    for number, found in again.train_dataloader().dataset.prompts.embeddings.items():
        assert torch.equal(found["bar"], shown[number]["bar"])
    with pytest.raises(TypeError):
        prepared(tmp_path, CropSettings(pictures=3, grow=1.5)).use_clip(clip, cache)


def test_half_of_the_pictures_are_blanked(tmp_path, monkeypatch):
    """Of a grey slice: beside the mask a blanked one is black, and no other is."""
    seen = []
    clip = load_clip(tiny_clip(tmp_path / "clip"))
    images = clip.images
    monkeypatch.setattr(clip, "images", lambda some, masks: seen.append((some, masks)) or images(some, masks))
    prepared(tmp_path, CropSettings(pictures=8)).use_clip(clip, EmbeddingCache(0))
    black = [not one[:, ~mask].any() for some, masks in seen for one, mask in zip(some, masks, strict=True)]
    assert len(black) == 8 * 2 * 8
    assert 0.35 < np.mean(black) < 0.65


def test_names_are_shown_by_pictures_of_masks_and_asked_by_phrases(tmp_path):
    clip = load_clip(tiny_clip(tmp_path / "clip"))
    data = prepared(tmp_path, CropSettings(pictures=2), names_per_slice=3)
    data.use_clip(clip, EmbeddingCache(0))
    samples = data.train_dataloader().dataset
    own = {name: samples.prompts.embeddings[5][label] for label, name in (("disc", "kidney_left"), ("bar", "spleen"))}
    classes = data.classes
    for draw in range(6):
        batch = samples[5, draw]
        # both are on the slice, and nothing is not: one of them comes twice
        assert batch.present.tolist() == [[True, True, True]]
        for row, number in enumerate(batch.numbers[0].tolist()):
            assert (batch.names[0, row] == own[classes[number]]).all(dim=1).any()
            assert batch.targets[0, row].any()
    scored = data.val_dataloader().dataset[0]
    torch.testing.assert_close(scored.names[0, :2], clip.texts(["spleen", "left kidney"]))
    assert scored.present.tolist() == [[True, True, False]]


def test_what_is_not_on_a_slice_is_shown_by_its_mask_on_another(tmp_path):
    scan, labels = drawn_scan(0)
    labels[1][labels[1] == 1] = 0
    cases = [write_case(tmp_path, "c0", scan, labels, "train"), write_case(tmp_path, "c1", *drawn_scan(1), "val")]
    data = NamesDataModule([str(write_manifest(tmp_path, cases))], names=NAMES, names_per_slice=2, negatives=0.0)
    data.prepare(tiny_spec())
    data.use_clip(load_clip(tiny_clip(tmp_path / "clip")), EmbeddingCache(0))
    samples = data.train_dataloader().dataset
    others = torch.cat([found["disc"] for number, found in samples.prompts.embeddings.items() if number != 1])
    for draw in range(4):
        batch = samples[1, draw]
        assert batch.present.tolist() == [[True, False]]
        assert batch.targets.flatten(2).any(2).tolist() == [[True, False]]
        assert (batch.names[0, 1] == others).all(dim=1).any()
        assert (batch.names[0, 0] == samples.prompts.embeddings[1]["bar"]).all(dim=1).any()


def test_one_name_is_of_what_is_not_there_where_there_is_any(tmp_path):
    scan, labels = drawn_scan(0)
    labels[0, :5, :5] = 3
    cases = [write_case(tmp_path, "c0", scan, labels, "train"), write_case(tmp_path, "c1", *drawn_scan(1), "val")]
    path = write_manifest(tmp_path, cases)
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "labels": {**about["labels"], "dot": 3}}))
    data = NamesDataModule([str(path)], names={**NAMES, "dot": "liver"}, names_per_slice=2, negatives=0.0)
    data.prepare(tiny_spec())
    data.use_clip(load_clip(tiny_clip(tmp_path / "clip")), EmbeddingCache(0))
    samples = data.train_dataloader().dataset
    for draw in range(4):
        batch = samples[2, draw]
        assert batch.present.tolist() == [[True, False]]
        assert batch.numbers[0, 1] == data.classes.index("liver")


def test_elsewhere_shows_what_is_there_by_its_mask_on_any_slice(tmp_path):
    clip = load_clip(tiny_clip(tmp_path / "clip"))
    shown = {}
    for elsewhere in (0.0, 1.0):
        data = prepared(tmp_path, CropSettings(pictures=1, elsewhere=elsewhere), names_per_slice=2)
        data.use_clip(clip, EmbeddingCache(0))
        samples = data.train_dataloader().dataset
        own = torch.cat(list(samples.prompts.embeddings[5].values()))
        rows = torch.cat([samples[5, draw].names[0] for draw in range(12)])
        shown[elsewhere] = [bool((row == own).all(dim=1).any()) for row in rows]
    assert all(shown[0.0])
    # one slice in eight is its own
    assert sum(shown[1.0]) < 12


def test_where_nothing_can_be_asked_another_slice_is(tmp_path):
    """Of a slice with too small a mask of the only structure neither "there" nor "not there" is true."""
    scan, labels = drawn_scan(0)
    labels[labels == 2] = 0
    labels[1] = 0
    labels[1, 3, 3:7] = 1
    cases = [write_case(tmp_path, "c0", scan, labels, "train"), write_case(tmp_path, "c1", *drawn_scan(1), "val")]
    path = write_manifest(tmp_path, cases)
    data = NamesDataModule([str(path)], ["disc"], None, "auto", 3, names=NAMES, negatives=0.0)
    data.prepare(tiny_spec())
    data.use_clip(load_clip(tiny_clip(tmp_path / "clip")), EmbeddingCache(0))
    samples = data.train_dataloader().dataset
    assert len(samples) == 4
    assert sorted(samples.prompts.embeddings) == [0, 2, 3]
    asked = [samples[1, draw] for draw in range(4)]
    assert not any("slice 1" in batch.labels[0] for batch in asked)
    assert [batch.present.tolist() for batch in asked] == [[[True] * 3]] * 4


def test_structures_that_are_all_too_small_are_refused(tmp_path):
    clip = load_clip(tiny_clip(tmp_path / "clip"))
    with pytest.raises(InputError, match=r"No mask of spleen has 315\^2 pixels .* lower data.crops.min_side"):
        prepared(tmp_path, CropSettings(min_side=315)).use_clip(clip, EmbeddingCache(0))


@pytest.mark.parametrize("wrong", [{"min_side": -1}, {"grow": 0.5}, {"blanked": float("nan")}, {"pictures": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"data.crops.{next(iter(wrong))} lies in"):
        CropSettings(**wrong)
