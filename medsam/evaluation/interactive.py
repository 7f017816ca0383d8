"""Simulated clicks: a user who checks each mask and clicks where it is most wrong.

The protocol of Kirillov et al. 2023, appendix D: the first click is the pixel deepest inside the object, each next one
the pixel deepest inside the error (`next_click`), and the logits of each answer go back in with the next click. A
structure that is answered without an error gets no more clicks.
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
from medsam.prompts.simulate import next_click

# prompts and the answers each had before its last click -> answers
PredictFn = Callable[[list[SlicePrompt], list[SliceResult | None]], list[SliceResult]]


def rounds(
    truths: Sequence[np.ndarray], ask: PredictFn, first: Sequence[SlicePrompt] | None = None
) -> Iterator[tuple[int, list[SlicePrompt], list[SliceResult]]]:
    """Click after click, for as long as the caller goes on: (clicks so far, all P prompts, all P answers).

    truths: P masks, bool (h, w), none empty. ask: answers the prompts of one round, all that still have an error.
    first: what each structure is asked with before any click, a box or a mask; it then starts with (0, ...).
    Without it every structure starts with a click and the first round is (1, ...).
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
    for clicks in itertools.count(1):
        wrong = []
        for number, (truth, answer) in enumerate(zip(truths, answers, strict=True)):
            click = next_click(truth, None if answer is None else answer.mask)
            if click is not None:
                prompts[number] = replace(prompts[number], points=(*prompts[number].points, click))
                wrong.append(number)
        if wrong:
            found = ask([prompts[number] for number in wrong], [answers[number] for number in wrong])
            for number, answer in zip(wrong, found, strict=True):
                answers[number] = answer
        yield clicks, list(prompts), _all(answers)


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
) -> list[dict[int, SliceResult]]:
    """The answer of each structure after each number of simulated clicks.

    truths, first: as in `rounds`. counts: numbers of clicks, from 0 with `first` and from 1 without.
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

    for count, _, answers in rounds(truths, ask, first):
        if count in counts:
            for kept, answer in zip(found, answers, strict=True):
                kept[count] = answer
        if count >= max(counts):
            break
    return found
