"""Simulated corrections: a user who checks each mask and clicks, or draws a stroke, where it is most wrong.

Clicks follow the protocol of Kirillov et al. 2023, appendix D: the first one is the pixel deepest inside the object,
each next one the pixel deepest inside the error (`next_click`), and the logits of each answer go back in with the next
click. Strokes are drawn in the object and then in the largest connected error (`next_scribble`). A structure that is
answered without an error gets no more corrections.
Letters: P structures of one slice, which are asked together; h, w of the stored slice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from medsam.errors import PromptError
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.segment_slice import segment_slice
from medsam.inference.slice_request import SliceResult, Zoom
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import Noise, human_click, next_click
from medsam.prompts.simulate_scribbles import next_scribble

# prompts and the answers each had before its last correction -> answers
PredictFn = Callable[[list[SlicePrompt], list[SliceResult | None]], list[SliceResult]]
# a prompt, the truth, the answer (h, w) or None, structure 0 ... P - 1, correction from 1 -> the prompt with one more,
# or None where nothing is wrong
CorrectFn = Callable[[SlicePrompt, np.ndarray, np.ndarray | None, int, int], SlicePrompt | None]
# structure, correction -> where its chance comes from
ChanceFn = Callable[[int, int], np.random.Generator]


def by_clicks(
    prompt: SlicePrompt, truth: np.ndarray, answer: np.ndarray | None, structure: int, number: int
) -> SlicePrompt | None:
    """A `CorrectFn`: a click in the middle of the deepest error."""
    return _with_click(prompt, next_click(truth, answer))


def by_human_clicks(chance: ChanceFn) -> CorrectFn:
    """A click as people make them, see `human_click`."""

    def correct(
        prompt: SlicePrompt, truth: np.ndarray, answer: np.ndarray | None, structure: int, number: int
    ) -> SlicePrompt | None:
        return _with_click(prompt, human_click(truth, answer, chance(structure, number)))

    return correct


def by_scribbles(chance: ChanceFn, noise: Noise = "clean") -> CorrectFn:
    """A stroke in the largest error, see `next_scribble`."""

    def correct(
        prompt: SlicePrompt, truth: np.ndarray, answer: np.ndarray | None, structure: int, number: int
    ) -> SlicePrompt | None:
        drawn = next_scribble(truth, answer, chance(structure, number), noise=noise)
        return replace(prompt, scribbles=(*prompt.scribbles, *drawn)) if drawn else None

    return correct


def _with_click(prompt: SlicePrompt, click: tuple[int, int, int] | None) -> SlicePrompt | None:
    return None if click is None else replace(prompt, points=(*prompt.points, click))


def rounds(
    truths: Sequence[np.ndarray],
    ask: PredictFn,
    first: Sequence[SlicePrompt] | None = None,
    correct: CorrectFn = by_clicks,
) -> Iterator[tuple[int, list[SlicePrompt], list[SliceResult]]]:
    """Correction after correction, for as long as the caller goes on: (how many, all P prompts, all P answers).

    truths: P masks, bool (h, w), none empty. ask: answers the prompts of one round, all that still have an error.
    first: what each structure is asked with before any correction, a box or a mask; it then starts with (0, ...).
    Without it every structure starts with a click, or a stroke, inside, and the first round is (1, ...).
    Raises PromptError for an empty truth, which has no place to click, or unequal numbers.
    """
    if first is not None and len(first) != len(truths):
        raise PromptError(f"{len(first)} prompts do not fit {len(truths)} structures.")
    if not all(truth.any() for truth in truths):
        raise PromptError("There is no place to click in an empty mask.")
    answers: list[SliceResult | None] = [None for _ in truths]
    if first is None:
        prompts = [SlicePrompt(1) for _ in truths]
    else:
        prompts = list(first)
        answers = [*ask(list(prompts), list(answers))]
        yield 0, list(prompts), _all(answers)
    for number in itertools.count(1):
        wrong = []
        for structure, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
            more = correct(prompts[structure], truth, None if answer is None else answer.mask, structure, number)
            if more is not None:
                prompts[structure] = more
                wrong.append(structure)
        if wrong:
            found = ask([prompts[structure] for structure in wrong], [answers[structure] for structure in wrong])
            for structure, answer in zip(wrong, found, strict=True):
                answers[structure] = answer
        yield number, list(prompts), _all(answers)


def _all(answers: Sequence[SliceResult | None]) -> list[SliceResult]:
    return [answer for answer in answers if answer is not None]


def clicks_on_slice(
    scan_encoder: ScanEncoder,
    index: int,
    truths: Sequence[np.ndarray],
    counts: Sequence[int] = (1, 3, 5, 9),
    *,
    first: Sequence[SlicePrompt] | None = None,
    zoom: Zoom = "auto",
    correct: CorrectFn = by_clicks,
) -> list[dict[int, SliceResult]]:
    """The answer of each structure after each number of simulated clicks, or of other corrections.

    truths, first, correct: as in `rounds`. counts: numbers of clicks, from 0 with `first` and from 1 without.
    Returns P dictionaries {count: answer}. The slice's embedding is used again in every round.
    Raises PromptError as `rounds` does and for counts that cannot be reached.
    """
    lowest = 1 if first is None else 0
    if not counts or min(counts) < lowest:
        raise PromptError(f"The numbers of clicks are whole numbers from {lowest}, not {tuple(counts)}.")
    found: list[dict[int, SliceResult]] = [{} for _ in truths]
    if not truths:
        return found

    def ask(prompts: list[SlicePrompt], previous: list[SliceResult | None]) -> list[SliceResult]:
        return segment_slice(scan_encoder, index, prompts, zoom=zoom, previous=previous)

    for count, _, answers in rounds(truths, ask, first, correct):
        if count in counts:
            for kept, answer in zip(found, answers, strict=True):
                kept[count] = answer
        if count >= max(counts):
            break
    return found
