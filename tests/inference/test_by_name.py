"""Structures by name through a volume: gates, languages, grids, refusals. The head is random, its threshold set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from named_heads import HIGH, learnt, name_network, named_head

from medsam.errors import CheckpointError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.inference.by_name import NameReader
from medsam.inference.image_predictor import ImagePredictor
from medsam.inference.predictor import Predictor
from medsam.models.build import build_model
from medsam.models.heads import renamed
from medsam.models.name_bank import name_bank
from medsam.models.name_head import NameHead, slice_places
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec
from medsam.prompts.prompt import Prompt
from medsam.volume import Volume


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_model(tiny_spec()).eval()


@pytest.fixture(scope="module")
def trained(sam) -> Sam:
    return learnt(sam)


@pytest.fixture(scope="module")
def network(sam) -> NameHead:
    return name_network(sam)


@pytest.fixture
def head(sam, trained, network, tmp_path):
    """A file of a head that knows three structures, of which the spleen was measured."""
    return partial(named_head, tmp_path / "three.safetensors", sam, trained, network)


def scan(affine=None) -> Volume:
    array = np.random.default_rng(3).normal(100, 30, (4, 20, 30)).astype(np.float32)
    return Volume(array, VolumeGeometry(array.shape, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine))


def test_a_name_is_answered_by_the_network_slice_by_slice(sam, head):
    images, volume = ImagePredictor(sam, "cpu"), scan()
    reader = NameReader(images, [head()])
    known, note = reader.named("Milz")
    assert (known.name, note, known.untested) == ("spleen", "", "")
    encoder = images.encoder_for(volume)
    (found,) = reader.answer(encoder, [known])
    assert found.mask.shape == volume.shape
    place = torch.from_numpy(slice_places(volume.geometry))[2]
    embedding = encoder.encode(2)
    # half precision in the file: the same networks as the reader's
    own, beside = reader._network(known.head)
    with torch.no_grad():
        logits, presence, _ = own.answer(
            beside, embedding.features, name_bank().of("spleen")[:1][None], place.expand(1, 1, 4)
        )
    assert found.presence[2] == pytest.approx(float(presence[0, 0]), abs=1e-5)
    wanted = embedding.frame.restore(logits[:, 0])[0].numpy() > 0
    # small pieces are cleaned away, none are added
    assert not (found.mask[2] & ~wanted).any()
    assert wanted.any()


def test_names_in_any_language_give_one_mask_and_one_encode_a_slice(sam, head):
    predictor = Predictor(sam, "cpu", heads=[head()])
    masks = []
    for text in ("spleen", "Milz", "lien", "비장"):
        found = predictor.segment(scan(), Prompt(text=text))
        masks.append(found.labels.array > 0)
        assert found.labels.names == {1: text}
        assert any("licence of its weights: CC BY 4.0" in note for note in found.notes)
    assert all(np.array_equal(masks[0], mask) for mask in masks)


def test_on_another_modality_an_answer_is_said_to_be_untested(sam, head):
    predictor = Predictor(sam, "cpu", heads=[head()])
    predictor.names.heads[0] = renamed(predictor.names.heads[0], modalities=("MR",))
    said = [predictor.segment(replace(scan(), modality=one), Prompt(text="spleen")).notes for one in ("CT", "MR")]
    assert ["UNTESTED: three learnt from MR, and this scan is CT." in notes for notes in said] == [True, False]


def test_below_its_threshold_a_structure_is_not_there(sam, head):
    predictor = Predictor(sam, "cpu", heads=[head(spleen=HIGH)])
    found = predictor.segment(scan(), text="spleen", label="S")
    assert not found.labels.array.any()
    assert found.labels.names == {1: "S"}
    assert any("spleen is not in this scan, says three" in note for note in found.notes)


def test_what_was_not_measured_is_refused_and_said_on_every_output(sam, head):
    predictor = Predictor(sam, "cpu", heads=[head()])
    with pytest.raises(PromptError, match="left kidney by three was not measured .* `untested`") as error:
        predictor.segment(scan(), text="linke Niere")
    assert error.value.parameter == "untested"
    found = predictor.segment(scan(), [Prompt(text="linke Niere"), Prompt(text="spleen")], untested=True)
    assert found.labels.names == {1: "linke Niere (untested)", 2: "spleen"}
    assert found.remarks["linke Niere (untested)"].startswith("UNTESTED")
    assert any(note.startswith("UNTESTED: left kidney") for note in found.notes)


def test_a_name_that_no_head_knows_is_answered_with_those_that_are(sam, head):
    predictor = Predictor(sam, "cpu", heads=[head()])
    with pytest.raises(PromptError, match=r"No head here answers 'trachea' .*known: spleen\)"):
        predictor.segment(scan(), text="windpipe")
    with pytest.raises(PromptError, match="Did you mean 'spleen'"):
        predictor.segment(scan(), text="spleeen")


def test_names_stand_beside_boxes(sam, head):
    predictor = Predictor(sam, "cpu", heads=[head()])
    prompts = [Prompt(text="spleen"), Prompt("b", box=(2, 2, 12, 12), slice=1)]
    assert predictor.segment(scan(), prompts).labels.names == {1: "spleen", 2: "b"}


def test_the_mask_lies_on_the_grid_of_a_file_that_is_stored_the_other_way_round(sam, head):
    predictor, volume = Predictor(sam, "cpu", heads=[head()]), scan()
    turned = np.diag([-1.0, 1.0, -2.0, 1.0])
    turned[:3, 3] = (29.0, 0.0, 6.0)
    other = Volume(np.ascontiguousarray(volume.array[::-1, :, ::-1]), VolumeGeometry(volume.shape, turned))
    one = predictor.segment(volume, text="spleen").labels.array
    same = predictor.segment(other, text="spleen").labels.array
    assert one.any()
    np.testing.assert_array_equal(same[::-1, :, ::-1], one)


def test_a_head_whose_decoder_is_not_this_one_is_refused(trained, head):
    with pytest.raises(CheckpointError, match="decoder of its own"):
        Predictor(trained, "cpu", heads=[head()]).segment(scan(), text="spleen")
