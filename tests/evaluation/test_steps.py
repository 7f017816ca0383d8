"""What a correction did, on masks drawn by hand."""

import numpy as np
import pytest

from medsam.evaluation.steps import step_of, summarise_steps
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.strokes import Scribble

SQUARE = (1.0, 1.0)


def block(*parts):
    """Half-open (x0, y0, x1, y1) of a slice of 40 x 60."""
    mask = np.zeros((40, 60), bool)
    for x0, y0, x1, y1 in parts:
        mask[y0:y1, x0:x1] = True
    return mask


TRUTH = block((10, 10, 30, 20))


def test_a_click_that_mends_half_and_harms_far_away():
    before = block((10, 10, 20, 20), (40, 30, 42, 32))
    after = block((10, 10, 25, 20), (40, 30, 42, 32), (50, 0, 53, 1))
    clicked = SlicePrompt(1, points=((26, 15, 1), (22, 15, 1)))
    step = step_of(2, TRUTH, (before, after), (SlicePrompt(1, points=((26, 15, 1),)), clicked), SQUARE)
    assert (step.number, step.inside, step.error_px) == (2, True, 100)
    assert step.removed == pytest.approx(0.5)
    # the mask agrees with the second click, not with the first
    assert step.kept == 0.5
    assert (step.harmed_px, step.far_px) == (3, 3)
    assert step.dice == pytest.approx(2 * 150 / (200 + 157))


def test_a_stroke_counts_for_the_error_that_most_of_it_lies_in():
    before = TRUTH | block((30, 10, 40, 20))
    stroke = Scribble(((32.0, 15.0), (38.0, 15.0)), inside=False)
    step = step_of(1, TRUTH, (before, TRUTH), (SlicePrompt(1), SlicePrompt(1, scribbles=(stroke,))), SQUARE)
    assert (step.inside, step.error_px, step.removed, step.kept) == (False, 100, 1.0, 1.0)
    assert (step.harmed_px, step.far_px) == (0, 0)


def test_a_click_that_missed_the_error_removes_none():
    before = block((10, 10, 20, 20))
    step = step_of(1, TRUTH, (before, TRUTH), (SlicePrompt(1), SlicePrompt(1, points=((12, 12, 1),))), SQUARE)
    assert (step.error_px, step.removed) == (0, None)
    # within ten pixels of the click, or not
    assert step.far_px == np.hypot(*(np.argwhere(TRUTH & ~before) - 12).T).__gt__(10).sum()


def test_steps_are_told_by_model_prompt_and_number():
    row = {"model": "m", "prompt": "points", "kept": 1.0, "harmed_px": 2, "far_px": 0}
    rows = [{**row, "step": 2, "removed": share} for share in (0.2, 0.6, 0.9, None)]
    rows.append({**row, "step": 1, "removed": None, "kept": 0.5})
    first, second = summarise_steps(rows)["m"]["points"]
    assert first == {"step": 1, "n": 1, "removed": None, "kept": 0.0, "harmed_px": 2.0, "far_px": 0.0}
    assert (second["step"], second["n"], second["removed"], second["kept"]) == (2, 4, 0.6, 1.0)
