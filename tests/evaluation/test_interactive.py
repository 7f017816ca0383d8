import itertools

import numpy as np
import pytest
import torch
from phantoms import ThresholdSam, block

from medsam.errors import PromptError
from medsam.evaluation.interactive import by_human_clicks, by_scribbles, clicks_on_slice, rounds
from medsam.inference.predictor import Predictor
from medsam.inference.slice_request import SliceResult
from medsam.metrics.overlap import overlap
from medsam.prompts.prompt import SlicePrompt
from medsam.volume import Volume


def drawn(*blocks):
    """A mask of half-open (x0, y0, x1, y1)."""
    mask = np.zeros((40, 60), bool)
    for x0, y0, x1, y1 in blocks:
        mask[y0:y1, x0:x1] = True
    return mask


def answer(mask):
    return SliceResult(mask, 0.5, np.where(mask, 1, -1).astype(np.float32), (), torch.zeros(1, 4, 4))


LEFT, RIGHT = drawn((5, 5, 16, 16)), drawn((30, 10, 51, 31))


def test_a_user_clicks_where_it_is_most_wrong_and_stops_when_it_is_right():
    """Answers on paper: first only the left block, then both and too much, then as it should be."""
    truth = LEFT | RIGHT
    script = [answer(LEFT), answer(truth | drawn((20, 5, 29, 14))), answer(truth)]
    asked = []

    def ask(prompts, before):
        asked.append((prompts, before))
        return [script[len(asked) - 1]]

    found = [next(walk) for walk in [rounds([truth], ask)] for _ in range(5)]
    assert [clicks for clicks, _, _ in found] == [1, 2, 3, 4, 5]
    # the deepest of the larger block, the deepest of what is missed, the deepest of what is too much
    points = ((40, 20, 1), (40, 20, 1), (24, 9, 0))
    assert [prompts[0].points for prompts, _ in asked] == [points[:1], points[:2], points]
    assert [before for _, before in asked] == [[None], [script[0]], [script[1]]]
    assert [answers[0] for _, _, answers in found] == [*script, script[2], script[2]]


def test_only_structures_with_an_error_are_asked_again():
    asked = []

    def ask(prompts, before):
        asked.append(len(prompts))
        return [answer(LEFT) for _ in prompts]

    walk = rounds([LEFT, RIGHT], ask, [SlicePrompt(1, (5, 5, 16, 16)), SlicePrompt(2, (30, 10, 51, 31))])
    clicks, prompts, answers = next(walk)
    assert (clicks, len(prompts), len(answers)) == (0, 2, 2)
    clicks, prompts, _ = next(walk)
    assert clicks == 1
    assert prompts[0].points == ()
    assert prompts[1].points == ((40, 20, 1),)
    assert prompts[1].box == (30, 10, 51, 31)
    assert asked == [2, 1]


@pytest.fixture
def scan_encoder():
    scan, _ = block((2, 40, 60), (5, 5, 0, 16, 16, 2))
    array = np.where((LEFT | RIGHT)[None], 200, scan.array).astype(np.float32)
    return Predictor(ThresholdSam(), device="cpu").encoder_for(Volume(array, scan.geometry))


def test_clicks_on_a_slice_encode_it_once_and_decode_a_round_together(scan_encoder):
    found = clicks_on_slice(scan_encoder, 1, [LEFT, LEFT | RIGHT], (1, 3), zoom="off")
    assert [list(counts) for counts in found] == [[1, 3], [1, 3]]
    np.testing.assert_array_equal(found[0][1].mask, LEFT)
    assert found[0][3] is found[0][1]
    assert scan_encoder.image_predictor.sam.encoded == 1
    assert scan_encoder.image_predictor.sam.decoded == 2 + 1 + 1


def test_a_box_of_too_much_is_mended_by_a_click_outside(scan_encoder):
    first = [SlicePrompt(1, (4, 4, 52, 32))]
    (found,) = clicks_on_slice(scan_encoder, 0, [LEFT], (0, 1), first=first, zoom="off")
    np.testing.assert_array_equal(found[0].mask, LEFT | RIGHT)
    np.testing.assert_array_equal(found[1].mask, LEFT)


def test_what_cannot_be_clicked(scan_encoder):
    with pytest.raises(PromptError, match="empty mask"):
        clicks_on_slice(scan_encoder, 0, [np.zeros((40, 60), bool)], zoom="off")
    with pytest.raises(PromptError, match="from 1, not"):
        clicks_on_slice(scan_encoder, 0, [LEFT], (0, 1), zoom="off")
    with pytest.raises(PromptError, match="2 prompts do not fit 1"):
        clicks_on_slice(scan_encoder, 0, [LEFT], (0,), first=[SlicePrompt(1, (4, 4, 52, 32))] * 2, zoom="off")
    assert clicks_on_slice(scan_encoder, 0, [], zoom="off") == []


@pytest.mark.weights
def test_clicks_on_a_real_model_are_repeatable_and_encode_once(litemedsam):
    """A noisy block with a hole, boxed. Whether clicks help is measured, not asserted: LiteMedSAM never saw any."""
    rng = np.random.default_rng(0)
    truth = drawn((10, 5, 50, 35)) & ~drawn((20, 12, 34, 26))
    array = (np.where(truth, 200, 20) + rng.normal(0, 15, truth.shape)).astype(np.float32)[None]
    scan, _ = block((1, 40, 60), (5, 5, 0, 16, 16, 1))
    scan_encoder = Predictor(litemedsam, device="cpu").encoder_for(Volume(array, scan.geometry, "MR"))
    first = [SlicePrompt(1, (10, 5, 50, 35))]
    one, again = (clicks_on_slice(scan_encoder, 0, [truth], (0, 3), first=first, zoom="off")[0] for _ in range(2))
    assert sum(result.usage.encoded for found in (one, again) for result in found.values()) == 1
    np.testing.assert_array_equal(one[3].logits, again[3].logits)
    assert overlap(truth, one[0].mask, (1, 1)).dice > 0.8


def test_a_user_draws_strokes_where_it_is_most_wrong():
    truth = LEFT | RIGHT
    script = [answer(RIGHT), answer(truth | drawn((20, 5, 29, 14))), answer(truth)]
    asked = []

    def ask(prompts, before):
        asked.append(prompts[0])
        return [script[len(asked) - 1]]

    correct = by_scribbles(lambda structure, number: np.random.default_rng([structure, number]))
    list(itertools.islice(rounds([truth], ask, correct=correct), 5))
    assert len(asked) == 3, "nothing wrong, nothing drawn"
    sides = [[stroke.inside for stroke in prompt.scribbles] for prompt in asked]
    assert set(sides[0]) == {True}
    assert sides[2][-1] is False
    new = asked[1].scribbles[len(asked[0].scribbles) :]
    assert all((LEFT[stroke.to_mask(LEFT.shape, (1, 1))]).all() for stroke in new)


def test_people_click_elsewhere_each_time_and_the_same_again():
    def clicked(seed):
        correct = by_human_clicks(lambda structure, number: np.random.default_rng([seed, structure, number]))
        return correct(SlicePrompt(1), LEFT, None, 0, 1).points

    assert clicked(0) == clicked(0)
    assert len({clicked(seed) for seed in range(5)}) > 1
