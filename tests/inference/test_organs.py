"""Organs without a prompt: who is asked, by what was measured; one encode for all; what is said. Heads are random."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from named_heads import HIGH, learnt, name_network, named_head
from organ_heads import detector_head

from medsam.errors import Cancelled, PromptError
from medsam.geometry import VolumeGeometry
from medsam.inference.organs import COLUMNS, GuessedModality, body_part, guessed_modality, statistics_csv
from medsam.inference.predictor import Predictor
from medsam.models.build import build_model
from medsam.models.heads import renamed
from medsam.models.sam import Sam
from medsam.models.specs import tiny_spec
from medsam.volume import Volume

SLICES = 4
WELL, BADLY = {"patients": 9, "dice": 0.9, "scans_without": 5}, {"patients": 4, "dice": 0.5}


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_model(tiny_spec()).eval()


@pytest.fixture(scope="module")
def names(sam, tmp_path_factory):
    """Writes a head that answers spleen (measured, Dice 0.8), left kidney and liver by name."""
    return partial(
        named_head, tmp_path_factory.mktemp("names") / "three.safetensors", sam, learnt(sam), name_network(sam)
    )


@pytest.fixture
def boxes(sam, tmp_path):
    return partial(detector_head, tmp_path / "boxes.safetensors", sam)


def scan(modality: str | None = None) -> Volume:
    array = np.random.default_rng(3).normal(100, 30, (SLICES, 20, 30)).clip(0).astype(np.float32)
    return Volume(array, VolumeGeometry(array.shape, np.diag([1.0, 1.0, 2.0, 1.0])), modality=modality)


def who(predictor: Predictor, modality: str | None = None, *, untested: bool = False) -> dict[str, str]:
    return {one.name: one.head.card.name for one in predictor.organ_reader.offered(modality, untested=untested)}


def test_modalities_are_guessed_from_values():
    def shades(low: float, high: float) -> Volume:
        array = np.linspace(low, high, 60, dtype=np.float32).reshape(3, 4, 5)
        return Volume(array, VolumeGeometry(array.shape, np.eye(4)))

    assert guessed_modality(shades(0, 800), "pt") == GuessedModality("PT", "stated")
    assert guessed_modality(replace(shades(0, 800), modality="US")) == GuessedModality("US", "file")
    assert guessed_modality(shades(-1024, 1500)).name == "CT"
    assert guessed_modality(shades(-950, 250)) == GuessedModality("CT", "units")
    # of a picture without millimetres no value is believed to be in Hounsfield units
    bare = Volume.from_array(shades(-950, 250).array)
    assert guessed_modality(bare) == GuessedModality("CT", "air and bone")
    assert guessed_modality(shades(0, 800)).how == "guessed: a volume whose values do not go below 0"
    assert guessed_modality(shades(-5, 5)) == GuessedModality(None, "nothing")


@pytest.mark.parametrize(("measured", "answers"), [(WELL, "boxes"), (BADLY, "three"), (None, "three")])
def test_of_two_heads_the_one_that_was_measured_best_answers(sam, names, boxes, measured, answers):
    measured = {} if measured is None else {"Spleen": measured}
    predictor = Predictor(sam, "cpu", heads=[names(), boxes(measured=measured)])
    assert who(predictor) == {"spleen": answers}
    # what nobody measured comes on demand alone, from who was given first
    assert who(predictor, untested=True) == {"spleen": answers, "kidney_left": "three", "liver": "three"}


def test_a_head_of_another_modality_is_no_rival(sam, names, boxes):
    predictor = Predictor(sam, "cpu", heads=[names(), boxes(measured={"Spleen": WELL}, modalities=("CT",))])
    assert who(predictor, "CT") == who(predictor) == {"spleen": "boxes"}
    assert who(predictor, "MR") == {"spleen": "three"}


def test_why_nothing_is_offered(sam, names, boxes):
    nobody = Predictor(sam, "cpu").organ_reader
    assert (nobody.offered("CT"), nobody.lack("CT").why) == ([], "no head")
    reader = Predictor(sam, "cpu", heads=[boxes(modalities=("CT",))]).organ_reader
    assert (reader.offered("MR"), reader.lack("MR").why) == ([], "modality")
    with pytest.raises(PromptError, match="learnt from CT, and this scan is MR"):
        reader.asked("MR", untested=True)
    assert reader.lack("CT").why == "untested"
    with pytest.raises(PromptError, match="None of the 2 structures .* Say `untested`") as error:
        reader.asked("CT")
    assert error.value.parameter == "untested"
    assert len(reader.asked("CT", untested=True)) == 2


def test_one_encode_of_a_slice_serves_heads_of_both_kinds(sam, names, boxes):
    predictor = Predictor(sam, "cpu", heads=[names(), boxes(measured={"Left Kidney": WELL})])
    told: list[tuple[int, int | None]] = []
    found = predictor.organs(scan(), progress=lambda done, total: told.append((done, total)))
    assert found.segmentation.labels.names == {1: "spleen", 2: "left kidney"}
    # zoomed looks at boxes apart
    whole = [crop for crop in found.segmentation.usage.crops if crop.region is None]
    assert len(whole) == SLICES
    assert [done for done, _ in told[:SLICES]] == [*range(SLICES)]
    assert told[-1][0] == told[-1][1] > SLICES

    own = Predictor(sam, "cpu", heads=[names(), boxes()])
    (spleen,) = own.names.answer(own.encoder_for(scan()), [own.names.known["spleen"]])
    kidney = own.find(scan(), ["Left Kidney"], untested=True).labels.array > 0
    masks = predictor.organ_reader.answer(predictor.encoder_for(scan()), predictor.organ_reader.offered(None)).masks
    np.testing.assert_array_equal(masks[0].mask, spleen.mask)
    np.testing.assert_array_equal(masks[1].mask, kidney)
    assert spleen.found
    assert kidney.any()
    assert (masks[1].presence > -np.inf).all()
    assert found.segmentation.algorithm.kind == "AUTOMATIC"
    assert found.segmentation.algorithm.licence.endswith("CC BY 4.0; CC BY-SA 4.0")
    rows = found.structures
    assert [row["head"] for row in rows] == ["three", "boxes"]
    assert [row["tested_scans_without"] for row in rows] == [0, 5]
    # whole, also where they overlap and the label map cannot hold both
    assert [row["voxels"] for row in rows] == [np.count_nonzero(one.mask) for one in masks]
    assert body_part(rows) == "Body part, by what was found: left kidney."
    assert any("spleen: three was never measured on scans without it" in note for note in found.segmentation.notes)


def test_a_table_has_a_row_for_each_structure_found_or_not_tested_or_not(sam, names):
    found = Predictor(sam, "cpu", heads=[names(kidney_left=HIGH)]).organs(scan(), untested=True)
    assert [*found.segmentation.labels.names.values()] == ["spleen", "left kidney (untested)", "liver (untested)"]
    rows = [*csv.DictReader(statistics_csv(found.structures).splitlines())]
    assert tuple(rows[0]) == COLUMNS
    assert [row["structure"] for row in rows] == ["spleen", "left kidney", "liver"]
    assert [row["found"] for row in rows] == ["True", "False", "True"]
    for name, row in zip(found.segmentation.labels.names.values(), rows, strict=True):
        voxels = np.count_nonzero(found.segmentation.structures[name])
        assert (int(row["voxels"]), float(row["ml"])) == (voxels, voxels * 0.002)
    assert [row["tested_dice"] for row in rows] == ["0.8", "", ""]
    assert {one.split(":")[0] for one in found.segmentation.said.values()} == {"UNTESTED"}
    assert any("left kidney is not in this scan, says three" in note for note in found.segmentation.notes)
    assert body_part(found.structures).startswith("Body part: not guessed.")


def test_nothing_is_left_of_one_that_is_given_up(sam, names):
    predictor = Predictor(sam, "cpu", heads=[names()])

    def stop(done: int, _: int | None) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        predictor.organs(scan(), progress=stop)


def test_a_detector_that_finds_nothing_says_so(sam, boxes):
    predictor = Predictor(sam, "cpu", heads=[boxes(2.0, measured={"Spleen": WELL})])
    found = predictor.organs(scan())
    assert [row["found"] for row in found.structures] == [False]
    assert not found.segmentation.labels.array.any()
    assert any("spleen is not in this scan, says boxes: no box is sure" in note for note in found.segmentation.notes)


def test_what_a_head_calls_a_structure_is_read_as_any_name_is(sam, boxes):
    reader = Predictor(sam, "cpu", heads=[boxes(classes=("linke Niere", "Blob 3"))]).organ_reader
    assert {one.name: one.own_name for one in reader.known} == {"kidney_left": "linke Niere", "blob_3": "Blob 3"}


def test_a_modality_that_a_head_learnt_from_is_asked_for_by_name(sam, names):
    predictor = Predictor(sam, "cpu", heads=[names()])
    predictor.names.heads[0] = renamed(predictor.names.heads[0], modalities=("MR",))
    assert predictor.organs(scan()).modality == GuessedModality("MR", "not below 0")
    with pytest.raises(PromptError, match="learnt from MR, and this scan is CT"):
        predictor.organs(scan("CT"))
