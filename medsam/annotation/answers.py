"""A box that was guessed, answered: box, mask, the mask's own box fed back, mask; and what Dice is to be expected.

What is expected is learnt in the project itself: slices that people drew, each guessed by other patients' slices,
answered by the model that answers now, and held against what was drawn. So it counts in both where a
guess is wrong and where the model is. With too few of them the least of what the answer says of itself is taken.

Letters: n answers, S of their signs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from medsam.evaluation.expected_dice import logistic
from medsam.inference.auto import fed_back, larger
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.segment_slice import segment_slice
from medsam.inference.signs import NAMES
from medsam.inference.slice_request import SliceResult
from medsam.metrics.detection import box_iou
from medsam.metrics.overlap import dice
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import tight_box

# answers from which something is learnt
_LEAST = 12
_RIDGE = 0.02
# How much of each side a guessed box is larger when it asks, and the box of its mask when that is fed back: a guess
# errs both ways, and no mask leaves its box (docs/results/README.md, "The data engine without people").
_GROWN, _FED_BACK = 0.1, 0.15
_HALF = 0.5
# S of an answer: of the guess, of how far it and both answers agree, of the last answer, and how far an outline agrees
_SIGNS = (
    "presence",
    "closeness",
    "agreement",
    "same",
    "predicted_iou",
    "own_dice_after",
    "stability",
    "edge",
    "parted",
    "outline",
)


@dataclass(frozen=True, eq=False)
class Guessed:
    """A box in stored pixels; presence and spread as `guessing.Guess` has them.

    likely: float (h, w), how likely each pixel is in the structure, where a segmenter outlined it; else None.
    """

    structure: str
    box: Box
    presence: float
    spread: float
    likely: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What a guess was answered with. agreement: IoU of the box that was guessed and the one that the mask fills.

    stability: IoU of the network's masks at thresholds -1 and 1. box: whose answer the mask is; None where it is not
    that of a box alone. likely: (h, w), how likely each pixel is in the structure, where a segmenter outlined it.
    """

    guessed: Guessed
    mask: np.ndarray
    predicted_iou: float
    agreement: float
    signs: np.ndarray
    stability: float = 0.0
    box: Box | None = None
    likely: np.ndarray | None = None


def answered(encoder: ScanEncoder, index: int, guesses: Sequence[Guessed]) -> list[Answer]:
    """Those whose masks have a pixel. Nothing on a slice that the window leaves without contrast.

    Where a segmenter outlined what it guessed, the mask is where it and the model together find the structure more
    likely than not: each sees what the other does not (docs/results/README.md, "The data engine without people").
    """
    prompts, asked = list[SlicePrompt](), list[Guessed]()
    for number, one in enumerate(guesses, start=1):
        if (box := larger(one.box, _GROWN, encoder.plane.shape)) is not None:
            prompts.append(SlicePrompt(number, box))
            asked.append(one)
    if not prompts:
        return []
    first = segment_slice(encoder, index, prompts, trust=True)
    again = fed_back(encoder, prompts, first, _FED_BACK)
    second = segment_slice(encoder, index, again, trust=True)
    found = []
    for one, prompt, before, after in zip(asked, again, first, second, strict=True):
        mask, outline, likely = after.mask, 0.0, None
        if one.likely is not None:
            outline = dice(one.likely > _HALF, after.mask)
            likely = (expit(after.logits) + one.likely) / 2
            mask = likely > _HALF
        tight = tight_box(mask, 1)
        if tight is None or after.no_contrast:
            continue
        agreement = box_iou(one.box, tight)
        told = _signs(one, before, after, agreement, outline)
        stable = float(told[_SIGNS.index("stability")])
        box = prompt.box if prompt.mask is None and one.likely is None else None
        found.append(Answer(one, mask, after.predicted_iou, agreement, told, stable, box, likely))
    return found


def apart(answers: Sequence[Answer], share: Callable[[str, str], bool]) -> list[Answer]:
    """Outlined answers on one slice, without pixels in two structures that do not share any: the likelier has them.

    share: whether two structures may. Others stay as they are, and what has no pixel left goes.
    """
    found = list(answers)
    for n, m in itertools.combinations(range(len(found)), 2):
        one, other = found[n], found[m]
        if one.likely is None or other.likely is None or share(one.guessed.structure, other.guessed.structure):
            continue
        both = one.mask & other.mask
        more = both & (one.likely >= other.likely)
        found[n], found[m] = _without(one, both & ~more, other.likely), _without(other, more, one.likely)
    return [one for one in found if one.mask.any()]


def _without(answer: Answer, lost: np.ndarray, other: np.ndarray) -> Answer:
    """An outlined answer without the pixels `lost`, which are in another structure as likely as `other` says."""
    if answer.likely is None or not lost.any():
        return answer
    likely = np.where(lost, np.minimum(answer.likely, 1 - other), answer.likely)
    return replace(answer, mask=answer.mask & ~lost, likely=likely)


@dataclass(frozen=True, eq=False)
class Expected:
    """Dice to be expected by signs (S,). centre, scale, weights: (S,). answers: how many were learnt from."""

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: float
    answers: int

    @classmethod
    def learnt(cls, signs: np.ndarray, dices: np.ndarray) -> Expected | None:
        """signs: (n, S). dices: (n,). None of too few."""
        if len(dices) < _LEAST:
            return None
        centre, scale = signs.mean(axis=0), signs.std(axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0)
        shares = np.full(len(dices), 1 / len(dices))
        weights, bias = logistic((signs - centre) / scale, dices, shares, _RIDGE)
        return cls(centre, scale, weights, bias, len(dices))

    def __call__(self, answer: Answer) -> float:
        steps = np.clip((answer.signs - self.centre) / self.scale, -3, 3)
        return float(expit(self.bias + steps @ self.weights))


def least_said(answer: Answer) -> float:
    """What to expect where nothing was learnt: the least of what the answer says of itself."""
    return float(np.clip(min(answer.agreement, answer.predicted_iou, max(answer.guessed.presence, 0.0)), 0, 1))


def with_agreement(signs: np.ndarray, agreement: float) -> np.ndarray:
    """The signs (S,) of an answer that is held to another box."""
    changed = signs.copy()
    changed[_SIGNS.index("agreement")] = agreement
    return changed


def learn(answers: Sequence[Answer], drawn: Sequence[np.ndarray | None]) -> Expected | None:
    """drawn: what people drew there; None: nothing is there, and any answer is wrong."""
    dices = [0.0 if mask is None else dice(mask, one.mask) for one, mask in zip(answers, drawn, strict=True)]
    return Expected.learnt(np.array([one.signs for one in answers]), np.array(dices)) if answers else None


def _signs(guessed: Guessed, before: SliceResult, after: SliceResult, agreement: float, outline: float) -> np.ndarray:
    """(S,): in the order of `_SIGNS`. outline: Dice of an outline and the last answer, 0 where there was none."""
    known = after.signs if after.signs is not None else before.signs
    told: Mapping[str, float] = {} if known is None else dict(zip(NAMES, known.tolist(), strict=True))
    values = [
        guessed.presence,
        -np.log(max(guessed.spread, 1e-3)),
        agreement,
        dice(before.mask, after.mask) if before.mask.any() else 0.0,
        after.predicted_iou,
        *(told.get(name, 0.0) for name in _SIGNS[5:-1]),
        outline,
    ]
    return np.nan_to_num(np.array(values, dtype=np.float64))
