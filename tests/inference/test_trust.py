"""Expected Dice of signs, by models whose numbers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medsam.errors import InputError
from medsam.inference.predictor import Predictor
from medsam.inference.segmentation import Segmentation
from medsam.inference.signs import NAMES
from medsam.inference.trust import (
    ExpectedDice,
    Familiar,
    TrustModel,
    described,
    doubt_note,
    over_slices,
    read_trust,
    shipped,
)
from medsam.prompts.prompt import Prompt
from tests.phantoms import ThresholdSam, block

NONE = np.zeros(1)
BOX = (10.0, 10.0, 30.0, 30.0)


@pytest.fixture
def learnt(monkeypatch):
    """A predictor, and what is learnt of its network: pictures whose mean brightness is near 0 are familiar."""
    predictor = Predictor(ThresholdSam(64), "cpu")
    known = Familiar(NONE, np.ones((1, 1)), NONE + 1, np.zeros((1, 1)), 1.0, 1000.0)
    models = {predictor.images.weights: model(familiar=known)}
    monkeypatch.setattr("medsam.inference.combine.shipped", lambda: models)
    return predictor, models


def segmented(predictor, prompts=None):
    scan, _ = block((3, 40, 40), (10, 10, 0, 30, 30, 3))
    return predictor.segment(scan, prompts or [Prompt("node", BOX, 1)])


def model(**more) -> TrustModel:
    """Of `fill` alone: its centre is 0.5, and each 0.1 beyond adds 1 below and 2 above it."""
    values = {"centre": np.array([0.5]), "scale": np.array([0.1]), "below": NONE + 1, "above": NONE + 2, "bias": 0.0}
    return TrustModel(("fill",), **{**values, **more})


def signs(fill: float) -> np.ndarray:
    found = np.full(len(NAMES), np.nan)
    found[NAMES.index("fill")] = fill
    return found


@pytest.mark.parametrize(
    ("fill", "logit"), [(0.5, 0), (0.6, 2), (0.4, -1), (0.9, 6), (5, 6), (-5, -3), (np.nan, 0), (np.inf, 6)]
)
def test_a_sign_counts_by_its_distance_up_to_three_deviations_and_not_where_it_is_not_known(fill, logit):
    assert model().expected(signs(fill)).value == pytest.approx(1 / (1 + np.exp(-logit)))


def test_the_bias_is_what_is_expected_of_a_mean_answer():
    assert model(bias=1.0).expected(signs(0.5)).value == pytest.approx(1 / (1 + np.exp(-1)))


def test_the_interval_is_that_of_a_beta_distribution():
    # of a uniform one, mean 0.5 and spread 2
    assert model(spread=2.0).interval(0.5) == pytest.approx((0.1, 0.9))
    narrow, wide = model(spread=100.0).interval(0.8), model(spread=10.0).interval(0.8)
    assert wide[0] < narrow[0] < 0.8 < narrow[1] < wide[1]
    for value in (0.0, 1.0):
        low, high = model().interval(value)
        assert 0 <= low < high <= 1


def test_pictures_far_from_all_that_were_learnt_from_are_unfamiliar():
    # along x, by halves, from 1 and from 11, or up from there
    basis, points = np.array([[1.0], [0.0]]), np.array([[0.0], [20.0]])
    known = Familiar(np.array([1.0, 1.0]), basis, np.array([0.5]), points, 3.0, 2.0)
    assert known.distance(np.array([2.0, 1.0])) == pytest.approx(2)
    assert known.distance(np.array([10.0, 7.0])) == pytest.approx(np.hypot(2, 2))
    at = [(1.0, 1.0), (1.9, 1.0), (2.1, 1.0), (10.5, 1.0), (1.0, 6.9), (1.0, 7.1)]
    found = [model(familiar=known).expected(signs(0.5), np.array(one)).unfamiliar for one in at]
    assert found == [False, False, True, False, False, True]
    assert not model(familiar=known).expected(signs(0.5)).unfamiliar


def test_as_json_and_back():
    known = Familiar(np.array([1.0, 0.5]), np.eye(2), np.array([1.0, 2.0]), np.array([[0.0, 4.0]]), 1.0, 2.0)
    one = model(familiar=known, weights="abc", spread=3.5)
    other = TrustModel.from_dict(json.loads(json.dumps(one.to_dict())))
    for fill, x in ((0.3, 0.0), (0.7, 9.0)):
        assert one.expected(signs(fill), np.array([x, 1.0])) == other.expected(signs(fill), np.array([x, 1.0]))
    assert other.weights == "abc"


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"kind": "x"}, {"signs": ["luck"]}, {"centre": [1, 2]}, {"bias": None}]
)
def test_what_is_no_model_is_refused(change):
    with pytest.raises(InputError, match="expected Dice"):
        TrustModel.from_dict(model().to_dict() | change)
    with pytest.raises(InputError, match="expected Dice"):
        TrustModel.from_dict([])


def test_what_is_shipped_can_be_read_and_is_small():
    (one,) = shipped().values()
    assert len(json.dumps(one.to_dict())) < 32_000
    assert one.familiar is not None
    good, bad = np.full((2, len(NAMES)), np.nan)
    for name, values in {"own_dice": (0.98, 0.5), "stability": (0.98, 0.3), "predicted_iou": (0.95, 0.4)}.items():
        good[NAMES.index(name)], bad[NAMES.index(name)] = values
    assert one.expected(good).value > one.expected(bad).value


def test_of_several_answers_the_mean_is_said_with_the_lowest():
    good, poor = ExpectedDice(0.9, 0.8, 0.96), ExpectedDice(0.5, 0.2, 0.79, unfamiliar=True)
    assert (over_slices([]), described([], 3)) == ("", "")
    assert over_slices([good]) == "0.90 (0.80 to 0.96)"
    assert over_slices([good, poor]) == "0.70 (mean of 2; lowest 0.50, 0.20 to 0.79)"
    assert described([good], 1) == (
        "Expected Dice 0.90 (0.80 to 0.96): estimated by a model, not measured; 8 in 10 such answers lie between the "
        "two numbers."
    )
    assert "0.20 to 0.79) on 2 of 7 slices: estimated" in described([good, poor], 7)
    assert described([poor], 1).endswith("The pictures are unlike all that this was learnt from.")


def test_an_answer_is_called_wrong_only_where_hardly_any_such_is_good():
    doubts = [ExpectedDice(value, 0.2, high).doubt for value, high in ((0.7, 0.9), (0.69, 0.7), (0.5, 0.69))]
    assert doubts == [None, "uncertain", "probably wrong"]
    assert doubt_note("node", "uncertain", [1]).startswith(
        "node: uncertain on slice 1 (expected Dice below 0.70). Look"
    )
    assert "on slices 1, 2 (expected Dice below 0.70, with all of its interval)" in doubt_note("a", doubts[2], [1, 2])


def test_a_segmentation_tells_it_by_label_and_where_to_look(learnt):
    predictor, models = learnt
    # as wide as before, and lower: less of the box is filled than is usual
    loose = Prompt("loose", (0.0, 0.0, 40.0, 40.0), 2)
    (weights,) = models
    models[weights] = model(centre=np.array([1.0]), weights=weights)
    found = segmented(predictor, [Prompt("node", BOX, 1), Prompt("clicked", BOX, 0, points=((20, 20, 1),)), loose])
    assert list(found.expected) == ["node", "loose"] == list(found.remarks)
    assert found.doubtful == {
        (name, found.expected[name][0].doubt): [where] for name, where in (("node", 1), ("loose", 2))
    }
    assert found.expected["loose"][0].value < found.expected["node"][0].value == pytest.approx(0.5)
    assert found.remarks["node"] == described(found.expected["node"], 1)


def test_a_box_alone_has_an_expected_dice_where_something_was_learnt_of_the_network(learnt):
    predictor, models = learnt
    (found,) = segmented(predictor).results
    # the block fills its box: five deviations beyond the mean, of which three count, two each
    assert found.expected_dice is not None
    assert found.expected_dice.value == pytest.approx(1 / (1 + np.exp(-6)))
    (clicked,) = segmented(predictor, [Prompt("node", BOX, 1, points=((20, 20, 1),))]).results
    assert clicked.expected_dice is None
    models.clear()
    assert segmented(predictor).results[0].expected_dice is None


def test_it_travels_in_json_and_an_unfamiliar_picture_is_said_to_be_so(learnt):
    predictor, models = learnt
    plain = segmented(predictor)
    document = plain.to_dict()
    assert set(document["prompts"][0]["expected_dice"]) == {"value", "low", "high", "unfamiliar"}
    assert Segmentation.from_dict(document).results == plain.results
    assert plain.notes == segmented(Predictor(ThresholdSam(64), "cpu")).notes
    (weights,) = models
    models[weights] = model(familiar=Familiar(NONE, np.ones((1, 1)), NONE + 1, np.full((1, 1), 1e6), 1.0, 1.0))
    strange = segmented(predictor)
    assert strange.results[0].expected_dice.unfamiliar
    assert [note for note in strange.notes if "unlike" in note] == [
        "Slice 1: unlike every picture that the expected Dice was learnt from. Look at these masks before using them."
    ]


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "[1]", '{"kind": ' + "9" * 5000 + "}", "\xff"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "trust.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"trust.json cannot be used: .* `medsam calibrate` writes such files"):
        read_trust(path, "0" * 64)
