"""Expected Dice for scans of one's own: answers to boxes drawn from their references, and what is learnt of them.

Where something was learnt of the network before, a slope and a shift of what that expects are all that one's own scans
change: a few patients can tell these, and not what each sign says. Of another network, one that was fine-tuned, all is
learnt anew. Every patient weighs the same, and the interval is that of patients who were left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from medsam.errors import InputError, counted
from medsam.evaluation.case import middles
from medsam.evaluation.expected_dice import Learnt, Recipe, familiar, fit, left_out, logistic, with_spread
from medsam.evaluation.tables import jsonable
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.segment_slice import segment_slice
from medsam.inference.signs import SIZELESS, pooled
from medsam.inference.trust import TrustModel
from medsam.metrics.detection import auroc
from medsam.metrics.overlap import dice
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import jittered, seeded, tight_box

# Edges of the boxes are moved outwards by up to so many pixels.
_LOOSE = (0, 5, 10)
# With fewer patients nothing is told of others.
MIN_PATIENTS = 3


@dataclass(frozen=True, eq=False)
class OwnAnswers:
    """Of one case: signs (n, S) and Dice (n,) of its answers, the pooled embeddings (m, C) of its slices."""

    signs: np.ndarray
    dice: np.ndarray
    pooled: np.ndarray


def answers_of(
    case: str,
    encoder: ScanEncoder,
    references: Mapping[str, np.ndarray],
    most: int,
    progress: ProgressCallback | None = None,
) -> OwnAnswers | None:
    """Each structure on at most so many slices, the middles of equal parts; None where none has enough pixels.

    references: structure -> bool (K, J, I). progress: called with (slices done, slices).
    """
    plane = encoder.plane
    asked: dict[int, list[tuple[str, np.ndarray, tuple[int, int, int, int]]]] = {}
    for name, reference in references.items():
        boxes = {int(n): tight_box(plane.take(reference, n)) for n in plane.touched(reference)}
        tight = {index: box for index, box in boxes.items() if box is not None}
        for index in set(middles(list(tight), most)):
            asked.setdefault(index, []).append((name, plane.take(reference, index), tight[index]))
    signs, scores, kinds = [], [], []
    for done, (index, targets) in enumerate(sorted(asked.items())):
        if progress is not None:
            progress(done, len(asked))
        prompts, truths = [], []
        for name, truth, box in targets:
            for most_px in _LOOSE:
                x0, y0, x1, y1 = jittered(box, most_px, truth.shape, seeded(0, case, name, index))
                prompts.append(SlicePrompt(1, (float(x0), float(y0), float(x1), float(y1))))
                truths.append(truth)
        for truth, found in zip(truths, segment_slice(encoder, index, prompts, trust=True), strict=True):
            if found.signs is not None and not found.no_contrast:
                signs.append(found.signs)
                scores.append(float(dice(truth, found.mask)))
        kinds.append(pooled(encoder.encode(index)))
    return OwnAnswers(np.array(signs), np.array(scores), np.array(kinds)) if signs else None


@dataclass(frozen=True)
class Told:
    """How well failures (Dice below 0.7) are told of patients left out, and how far off what is expected is in the
    mean. before: by what was there. None where it cannot be said."""

    answers: int
    failed: int
    auroc: float | None
    error: float
    auroc_before: float | None
    error_before: float | None


def own_model(
    found: Sequence[OwnAnswers], patients: Sequence[str], weights: str, start: TrustModel | None
) -> tuple[TrustModel, Told]:
    """What to expect of the network with these weights on scans like these. found, patients: a case each.

    start: what was learnt of this network before. Raises InputError for fewer than `MIN_PATIENTS` patients.
    """
    if len(set(patients)) < MIN_PATIENTS:
        raise InputError(
            f"Answers of {counted(len(set(patients)), 'patient')} tell nothing of others; give at least {MIN_PATIENTS}."
        )
    of = np.repeat(patients, [len(one.dice) for one in found])
    answers = Learnt(np.concatenate([one.signs for one in found]), np.concatenate([one.dice for one in found]), of, of)
    out = left_out(answers, lambda others: _learnt(others, start))
    pictures = np.repeat(patients, [len(one.pooled) for one in found])
    known = familiar(np.concatenate([one.pooled for one in found]), pictures, pictures)
    model = replace(with_spread(_learnt(answers, start), answers, out), weights=weights, familiar=known)
    failed = answers.dice < 0.7
    before = None if start is None else start.values(answers.signs)
    told = Told(
        len(of),
        int(failed.sum()),
        jsonable(auroc(-out, failed)),
        _error(expit(out), answers),
        None if before is None else jsonable(auroc(-before, failed)),
        None if before is None else _error(before, answers),
    )
    return model, told


def _learnt(answers: Learnt, start: TrustModel | None) -> TrustModel:
    if start is None:
        return fit(answers, Recipe(SIZELESS, 0.01))
    totals = logit(start.values(answers.signs)) - start.bias
    (slope,), bias = logistic(totals[:, None], answers.dice, answers.weights, 1e-3)
    # what was learnt of many sets is not turned round by few patients
    slope = max(float(slope), 0.1)
    return replace(start, below=slope * start.below, above=slope * start.above, bias=bias)


def _error(expected: np.ndarray, answers: Learnt) -> float:
    """The mean over ten bins of expected Dice, by their weight, of how far it is off in the mean."""
    place = np.clip((expected * 10).astype(int), 0, 9)
    off = np.bincount(place, answers.weights * (expected - answers.dice), 10)
    return float(np.abs(off).sum())
