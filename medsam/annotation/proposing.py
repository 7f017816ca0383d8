"""Stage 2: masks that come filled in, where the model is sure of them; the rest is left to people.

Where a structure is, is said by a head, where one knows it (a detector that was given, or names), and otherwise guessed
from what people drew (`guessing`). Every box is answered and its mask's box fed back; what Dice is to be expected was
learnt in the project (`answers`). A mask is proposed from the Dice that the settings say. No proposal takes the place
of what a person has drawn.

`propose` goes scan by scan, in the order of the queue. What was proposed for a scan is stored at once, all of it, and
PROJECT/proposed.json tells by what: a run that was interrupted goes on where it was. A model that was promoted proposes
anew, and so does one that has twice as many scans to go by, other heads or another threshold. Proposals of before that
are not repeated are rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsam.annotation.answers import Answer, Expected, Guessed, answered, learn, least_said
from medsam.annotation.guessing import Guesser, as_pixels, runs
from medsam.annotation.knowing import KnownScan, along, examples_of, features_of, how_many, known_scans
from medsam.annotation.looks import Look, Looks
from medsam.annotation.named import HeadBoxes
from medsam.annotation.project import AnnotationProject
from medsam.annotation.waiting import Placed, keep, kept, queue_of
from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.inference.tracked_boxes import clipped
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.prompts.entries import to_entry
from medsam.prompts.prompt import Box, Prompt
from medsam.store.project_records import Annotation, Effort, NewAnnotation, Status, StoredScan

# answers from which the expected Dice is learnt, at most; a hundredth of a second to a tenth each
_CALIBRATED = 60
# an answer whose box is hardly the one that was guessed is of something else
_SAME = 0.5
# among the prompts of a row, where the last is the one whose answer the mask is
_BOXES = 2
_TOLD = "proposed.json"


@dataclass(frozen=True, eq=False)
class Found:
    """An answer on a slice, and the Dice that is expected of it."""

    axis: Axis
    slice: int
    answer: Answer
    expected: float


@dataclass(frozen=True)
class Proposed:
    """scans: that were looked at. masks: proposed on them. left: answers that were not sure enough. failed: scan ->
    why it could not be read. known: scans that the guesses were learnt from. learnt: answers that the expected Dice
    was learnt from, 0 where it was not."""

    scans: int
    masks: int
    left: int
    failed: Mapping[str, str]
    known: int
    learnt: int


class Finder:
    """Finds a project's structures on scans that nobody has drawn on. Made by `Finder.learnt`.

    known: scans that it was learnt from. expected: None where too little is known to learn it.
    """

    def __init__(
        self,
        looks: Looks,
        known: Sequence[KnownScan],
        guessers: Mapping[str, Guesser],
        heads: HeadBoxes,
        expected: Expected | None,
    ) -> None:
        self.looks, self.known, self.guessers, self.heads = looks, known, guessers, heads
        self.expected = expected

    @classmethod
    def learnt(
        cls,
        project: AnnotationProject,
        predictor: Predictor,
        *,
        names: bool = True,
        progress: ProgressCallback | None = None,
    ) -> Finder:
        """Of all that people have drawn. names: whether heads that answer names are asked. progress: called with
        (scans done, scans)."""
        looks = Looks(project, predictor)
        known = known_scans(project, looks, progress)
        examples = examples_of(project, looks, known)
        structures = project.asked.structures
        guessers = {name: one for name in structures if (one := Guesser.of(examples, name)) is not None}
        heads = HeadBoxes(predictor, structures, names=names)
        finder = cls(looks, known, guessers, heads, None)
        finder.expected = finder._calibrated(project.settings.seed)
        return finder

    @property
    def structures(self) -> set[str]:
        """Those that something is known of."""
        return {*self.guessers, *self.heads.structures}

    def of(
        self, scan: StoredScan, slices: Sequence[int] | None = None, encoder: ScanEncoder | None = None
    ) -> list[Found]:
        """All that is found on these slices of a scan, sure or not; default: all slices."""
        encoder = encoder or self.looks.encoder(scan)
        wanted = range(encoder.plane.count) if slices is None else sorted(set(slices))
        look = self.looks.of(scan, list(wanted), encoder)
        guesses: dict[int, list[Guessed]] = {}
        for index, one in self.heads.of(encoder, list(wanted)):
            guesses.setdefault(index, []).append(one)
        for name, guesser in self.guessers.items():
            if name not in self.heads.structures:
                for index, one in _guesses(name, guesser, look, whole=slices is None):
                    guesses.setdefault(index, []).append(one)
        return [
            Found(encoder.plane.axis, index, answer, self.expect(answer))
            for index in sorted(guesses)
            for answer in answered(encoder, index, guesses[index])
        ]

    def expect(self, answer: Answer) -> float:
        """The Dice that is expected of an answer."""
        return least_said(answer) if self.expected is None else self.expected(answer)

    def expects(self, scan: StoredScan, slices: Sequence[int] | None = None) -> float:
        """The mean over structures of what is expected on a few slices; 0 for one that is found on none of them."""
        encoder = self.looks.encoder(scan)
        few = self.looks.of(scan, slices, encoder).slices.tolist()
        values: dict[str, list[float]] = {name: [] for name in self.structures}
        for one in self.of(scan, few, encoder):
            values[one.answer.guessed.structure].append(one.expected)
        return float(np.mean([np.mean(found) if found else 0.0 for found in values.values()])) if values else 0.0

    def _calibrated(self, seed: int) -> Expected | None:
        """Learnt from slices that people drew, each guessed by other patients'."""
        places = [(one, int(n)) for one in self.known for n in one.slices]
        asked: list[tuple[KnownScan, int, Guessed]] = []
        for name, guesser in self.guessers.items():
            left_out, row = guesser.left_out(), 0
            for one in self.known:
                look = self.looks.of(one.scan, one.slices)
                for index, guess in _boxes(
                    name, look, left_out.presence[row:], left_out.boxes[row:], left_out.spread[row:]
                ):
                    asked.append((one, index, guess))
                row += len(look.slices)
        if not asked or not places:
            return None
        chosen = sorted(np.random.default_rng(seed).permutation(len(asked))[:_CALIBRATED].tolist())
        answers, drawn = list[Answer](), list[np.ndarray | None]()
        encoder: tuple[int, ScanEncoder] | None = None
        for one, index, guess in (asked[n] for n in sorted(chosen, key=lambda n: (asked[n][0].scan.id, n))):
            if encoder is None or encoder[0] != one.scan.id:
                encoder = one.scan.id, self.looks.encoder(one.scan)
            for answer in answered(encoder[1], index, [guess]):
                mask = one.masks.get(guess.structure, {}).get(index)
                answers.append(answer)
                drawn.append(None if mask is None else mask.to_array())
        return learn(answers, drawn)


def propose(
    project: AnnotationProject,
    predictor: Predictor,
    *,
    limit: int | None = None,
    names: bool = True,
    progress: ProgressCallback | None = None,
    learning: ProgressCallback | None = None,
) -> Proposed:
    """Masks for scans that wait to be drawn on, as many as `limit`. See the top of the file.

    names: see `Finder.learnt`. progress: called with (scans done, scans); learning: likewise, before. Raises InputError
    where nothing is known to propose from.
    """
    settings, told = project.settings, kept(project, _TOLD)
    by = _by(project, predictor, names)
    waiting = [one for one in waiting_scans(project) if told.get(one.scan.key) != by][:limit]
    if not waiting:
        return Proposed(0, 0, 0, {}, 0, 0)
    finder = Finder.learnt(project, predictor, names=names, progress=learning)
    if not finder.structures:
        raise InputError(
            "Nothing is known yet of any structure: draw on scans of two patients first, or give a head that knows it."
        )
    failed = dict[str, str]()
    masks = left = 0
    for number, one in enumerate(waiting):
        if progress is not None:
            progress(number, len(waiting))
        try:
            found = finder.of(one.scan, one.task.slices)
        except InputError as error:
            failed[one.scan.name] = str(error)
            continue
        if project.store.task_of(one.task.id).state != "open":
            # somebody took it meanwhile, and began from what there was
            continue
        sure = [each for each in found if each.expected >= settings.propose and each.answer.agreement >= _SAME]
        masks, left = masks + _put(project, one.scan, sure, finder, stage=2), left + len(found) - len(sure)
        told[one.scan.key] = by
        keep(project, _TOLD, told)
    if progress is not None:
        progress(len(waiting), len(waiting))
    learnt = 0 if finder.expected is None else finder.expected.answers
    return Proposed(len(waiting) - len(failed), masks, left, failed, len(finder.known), learnt)


def rows_of(
    scan: StoredScan, found: Sequence[Found], predictor: Predictor, *, status: Status, stage: int
) -> list[NewAnnotation]:
    """Answers as rows of the store: "proposed", or "accepted" of a model that was left alone.

    Their prompts are the box that was guessed and, where the mask is the answer to it alone, the one that was fed back.
    """
    return [
        NewAnnotation(
            scan.id,
            one.answer.guessed.structure,
            one.axis,
            one.slice,
            status,
            CompactMask.of(one.answer.mask),
            stage,
            model=predictor.name,
            weights=predictor.images.weights,
            effort=Effort(prompts=_entries(one)),
            predicted_iou=one.answer.predicted_iou,
            expected_dice=one.expected,
        )
        for one in found
    ]


def place_of(one: Annotation | NewAnnotation) -> tuple[str, Axis, int]:
    """Where a mask of a scan lies."""
    return one.structure, one.axis, one.slice


def _put(project: AnnotationProject, scan: StoredScan, sure: Sequence[Found], finder: Finder, stage: int) -> int:
    """Proposals into the store, in place of those of before: how many."""
    store = project.store
    drawn = {place_of(one) for one in store.standing(scan.id)}
    rows = [
        one
        for one in rows_of(scan, sure, finder.looks.predictor, status="proposed", stage=stage)
        if place_of(one) not in drawn
    ]
    now = {place_of(one) for one in rows}
    gone: list[Annotation] = [one for one in store.standing(scan.id, ["proposed"]) if place_of(one) not in now]
    rejected = [
        NewAnnotation(scan.id, one.structure, one.axis, one.slice, "rejected", None, one.stage, one.id) for one in gone
    ]
    if rows or rejected:
        store.add_annotations([*rows, *rejected])
    return len(rows)


def _guesses(name: str, guesser: Guesser, look: Look, *, whole: bool) -> list[tuple[int, Guessed]]:
    """Boxes on the slices that were looked at. whole: they are all of the scan, one after the other."""
    guess = guesser(features_of(look), along(look))
    presence = guess.presence
    if whole:
        presence = np.where(runs((presence > 0).tolist()), np.maximum(presence, 0.01), np.minimum(presence, 0))
    return list(_boxes(name, look, presence, guess.boxes, guess.spread))


def _boxes(
    name: str, look: Look, presence: np.ndarray, boxes: np.ndarray, spread: np.ndarray
) -> list[tuple[int, Guessed]]:
    size = look.frame.preprocess.size
    found = []
    for row, index in enumerate(look.slices.tolist()):
        if presence[row] <= 0 or look.blank[row] or not np.isfinite(boxes[row]).all():
            continue
        corners = look.frame.stored_boxes(as_pixels(boxes[row : row + 1], size))[0]
        box = clipped(corners.tolist(), look.frame.stored)
        if box is not None:
            found.append((index, Guessed(name, box, float(presence[row]), float(spread[row]))))
    return found


def _entries(one: Found) -> list[dict[str, object]]:
    guessed, box = one.answer.guessed, one.answer.box
    x0, y0, x1, y1 = (round(edge, 1) for edge in guessed.box)
    boxes: list[Box] = [(x0, y0, x1, y1), *([] if box is None else [box])]
    return [to_entry(Prompt(guessed.structure, box=each, slice=one.slice)) for each in boxes]


def box_of(one: Annotation) -> Box | None:
    """The box whose answer a model's mask is, alone; None where that is not known."""
    if one.by is not None or not isinstance(one.effort.prompts, list) or len(one.effort.prompts) != _BOXES:
        return None
    return Prompt.from_dict(one.effort.prompts[-1]).box


def waiting_scans(project: AnnotationProject) -> list[Placed]:
    """What a model may fill in, in the order of the queue: open drawing of scans that nothing is measured on."""
    return [one for one in queue_of(project) if one.task.kind == "draw" and one.scan.side != "test"]


def _by(project: AnnotationProject, predictor: Predictor, names: bool) -> str:
    """What proposals depend on; as long as it is the same they are."""
    depends = (predictor.images.weights, how_many(project).bit_length(), project.settings.propose, names)
    return " ".join(map(str, (*depends, *predictor.heads)))
