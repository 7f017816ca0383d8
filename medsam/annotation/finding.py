"""Where a project's structures are on scans that nobody has drawn on, and what mask the model gives there.

Where a structure is, is said by a head, where one knows it (a detector that was given, or names), and otherwise learnt
from what people drew in one of two ways: guessed from the slices that look most alike (`guessing`), which two scans are
enough for, or outlined by a segmenter of the project's own (`outlining`), which wants more and sees more. A structure
that is guessed clearly better, on patients that neither had learnt from, is guessed.

Every box is answered, and what Dice is to be expected of the answer was learnt on such patients, too (`answers`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medsam.annotation.answers import Answer, Expected, Guessed, answered, apart, learn, least_said
from medsam.annotation.guessing import Guesser, as_pixels, runs
from medsam.annotation.knowing import KnownScan, along, examples_of, features_of, known_scans
from medsam.annotation.looks import Look, Looks
from medsam.annotation.named import HeadBoxes
from medsam.annotation.outlining import Segmenting, segmenting
from medsam.annotation.project import AnnotationProject
from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.inference.tracked_boxes import clipped
from medsam.metrics.overlap import dice
from medsam.progress import ProgressCallback
from medsam.store.project_records import StoredScan

# scans that slices are guessed from, at most: their embeddings are needed
_GUESSED_FROM = 24
# slices from whose answers the expected Dice is learnt, at most; a hundredth of a second to a tenth each
_CALIBRATED = 40
# How much better guesses have to be on what is often a patient or two before a segmenter is not believed: by a few
# patients it is the better one nearly always (docs/results/README.md, "The data engine without people").
_CLEARLY = 0.05


@dataclass(frozen=True, eq=False)
class Found:
    """An answer on a slice, and the Dice that is expected of it."""

    axis: Axis
    slice: int
    answer: Answer
    expected: float


@dataclass(eq=False)
class _Tried:
    """What a way of finding gave on slices that people drew on, of patients that it had not learnt from.

    answers: each with its scan and what was drawn there, None for nothing. missed: (scan, structure) of what was drawn
    and not found.
    """

    answers: list[tuple[int, Answer, np.ndarray | None]] = field(default_factory=list)
    missed: list[tuple[int, str]] = field(default_factory=list)

    def add(self, one: KnownScan, index: int, answers: Sequence[Answer]) -> None:
        """All that was found on a slice."""
        names = {answer.guessed.structure for answer in answers}
        for answer in answers:
            mask = one.masks.get(answer.guessed.structure, {}).get(index)
            self.answers.append((one.scan.id, answer, None if mask is None else mask.to_array()))
        self.missed += [
            (one.scan.id, name) for name, masks in one.masks.items() if index in masks and name not in names
        ]

    def score(self, structure: str, scans: Container[int]) -> float:
        """Mean Dice on these scans over what was drawn and what was found; 0 for what is only one of them."""
        dices = [
            0.0 if mask is None else dice(mask, answer.mask)
            for scan, answer, mask in self.answers
            if answer.guessed.structure == structure and scan in scans
        ]
        count = len(dices) + sum(name == structure and scan in scans for scan, name in self.missed)
        return sum(dices) / count if count else 0.0

    def expected(self) -> Expected | None:
        """What is learnt from it of the Dice to be expected."""
        return learn([answer for _, answer, _ in self.answers], [mask for *_, mask in self.answers])


# id of a scan that people drew on -> its slices -> what is guessed to be there
_Guesses = dict[int, dict[int, list[Guessed]]]


class Finder:
    """Finds a project's structures on scans that nobody has drawn on. Made by `Finder.learnt`.

    known: scans that it was learnt from. outlined: the structures that the segmenter looks for.
    expected, expected_outlined: of boxes that were guessed, and of outlines; None where too little is known.
    """

    def __init__(self, looks: Looks, known: Sequence[KnownScan], heads: HeadBoxes) -> None:
        self.looks, self.known, self.heads = looks, known, heads
        self.guessers: dict[str, Guesser] = {}
        self.segmenting: Segmenting | None = None
        self.outlined: frozenset[str] = frozenset()
        self.expected: Expected | None = None
        self.expected_outlined: Expected | None = None

    @classmethod
    def learnt(
        cls,
        project: AnnotationProject,
        predictor: Predictor,
        *,
        names: bool = True,
        progress: ProgressCallback | None = None,
        training: ProgressCallback | None = None,
    ) -> Finder:
        """Of all that people have drawn. names: whether heads that answer names are asked. progress: called with
        (scans done, scans); training: with (steps done, steps) of a segmenter, where one learns."""
        looks = Looks(project, predictor)
        known = known_scans(project, looks, progress)
        structures = project.asked.structures
        finder = cls(looks, known, HeadBoxes(predictor, structures, names=names))
        # those that a segmenter is tried on are among them
        near = sorted(known, key=lambda one: one.scan.side != "val")[:_GUESSED_FROM]
        examples = examples_of(project, looks, near)
        finder.guessers = {name: one for name in structures if (one := Guesser.of(examples, name)) is not None}
        guesses = finder._guessed_by_others(near)
        finder.segmenting = segmenting(project, looks, known, progress=training)
        if finder.segmenting is not None:
            finder._compare(finder.segmenting, near, guesses)
        if finder.structures - finder.outlined:
            finder.expected = finder._calibrated(near, guesses, project.settings.seed)
        return finder

    @property
    def structures(self) -> set[str]:
        """Those that something is known of."""
        return {*self.guessers, *self.heads.structures, *self.outlined}

    @property
    def answers(self) -> int:
        """How many answers it was learnt from what Dice to expect; 0 where it was not."""
        return sum(one.answers for one in (self.expected, self.expected_outlined) if one is not None)

    def of(
        self, scan: StoredScan, slices: Sequence[int] | None = None, encoder: ScanEncoder | None = None
    ) -> list[Found]:
        """All that is found on these slices of a scan, sure or not; default: all slices."""
        encoder = encoder or self.looks.encoder(scan)
        wanted = list(range(encoder.plane.count)) if slices is None else sorted(set(slices))
        guesses: dict[int, list[Guessed]] = {}
        for index, one in self.heads.of(encoder, wanted):
            guesses.setdefault(index, []).append(one)
        if self.segmenting is not None and self.outlined:
            for index, one in self.segmenting.of(encoder, wanted):
                if one.structure in self.outlined:
                    guesses.setdefault(index, []).append(one)
        guessers = {
            name: one for name, one in self.guessers.items() if name not in {*self.heads.structures, *self.outlined}
        }
        if guessers:
            look = self.looks.of(scan, wanted, encoder)
            for name, guesser in guessers.items():
                for index, one in _guesses(name, guesser, look, whole=slices is None):
                    guesses.setdefault(index, []).append(one)
        return [
            Found(encoder.plane.axis, index, answer, self.expect(answer))
            for index in sorted(guesses)
            for answer in self._answered(encoder, index, guesses[index])
        ]

    def _answered(self, encoder: ScanEncoder, index: int, guesses: Sequence[Guessed]) -> list[Answer]:
        return self.apart(answered(encoder, index, guesses))

    def apart(self, answers: Sequence[Answer]) -> list[Answer]:
        """Answers on one slice, without pixels in two structures that people never drew over each other."""
        return list(answers) if self.segmenting is None else apart(answers, self.segmenting.share)

    def made_by(self, one: Found) -> str:
        """The model whose mask it is, and the segmenter that had a part in it."""
        model = self.looks.predictor.name
        if one.answer.guessed.likely is None or self.segmenting is None:
            return model
        return f"{model} + {self.segmenting.name}"

    def expect(self, answer: Answer) -> float:
        """The Dice that is expected of an answer."""
        expected = self.expected if answer.guessed.likely is None else self.expected_outlined
        return least_said(answer) if expected is None else expected(answer)

    def expects(self, scan: StoredScan, slices: Sequence[int] | None = None) -> float:
        """The mean over structures of what is expected on a few slices; 0 for one that is found on none of them."""
        encoder = self.looks.encoder(scan)
        few = self.looks.of(scan, slices, encoder).slices.tolist()
        values: dict[str, list[float]] = {name: [] for name in self.structures}
        for one in self.of(scan, few, encoder):
            values[one.answer.guessed.structure].append(one.expected)
        return float(np.mean([np.mean(found) if found else 0.0 for found in values.values()])) if values else 0.0

    def _compare(self, found: Segmenting, near: Sequence[KnownScan], guesses: _Guesses) -> None:
        """Which structures the segmenter is asked for, and what to expect of it. guesses: see `_guessed_by_others`."""

        def outlines_on(one: KnownScan, encoder: ScanEncoder) -> dict[int, list[Guessed]]:
            by_slice: dict[int, list[Guessed]] = {index: [] for index in one.slices}
            for index, guess in found.of(encoder, one.slices):
                by_slice[index].append(guess)
            return by_slice

        tried_on = found.tried_on(self.known)
        outlined = self._tried(tried_on, outlines_on)
        both = {one.scan.id for one in tried_on} & {one.scan.id for one in near}
        guessed = self._tried([one for one in near if one.scan.id in both], lambda one, _: guesses[one.scan.id])
        self.outlined = frozenset(
            name
            for name in found.structures
            if name not in self.heads.structures and outlined.score(name, both) + _CLEARLY > guessed.score(name, both)
        )
        self.expected_outlined = outlined.expected()

    def _calibrated(self, near: Sequence[KnownScan], guesses: _Guesses, seed: int) -> Expected | None:
        """What Dice to expect of guesses, by some of the slices that something is guessed on."""
        places = [(one.scan.id, index) for one in near for index, some in guesses[one.scan.id].items() if some]
        chosen: _Guesses = {}
        for n in sorted(np.random.default_rng(seed).permutation(len(places))[:_CALIBRATED].tolist()):
            scan, index = places[n]
            chosen.setdefault(scan, {})[index] = guesses[scan][index]
        asked = [one for one in near if one.scan.id in chosen]
        return self._tried(asked, lambda one, _: chosen[one.scan.id]).expected()

    def _guessed_by_others(self, near: Sequence[KnownScan]) -> _Guesses:
        """On each slice of these, which the guessers learnt from, what other patients' slices would have guessed."""
        found: _Guesses = {one.scan.id: {int(index): [] for index in one.slices} for one in near}
        for name, guesser in self.guessers.items():
            left_out, row = guesser.left_out(), 0
            for one in near:
                look = self.looks.of(one.scan, one.slices)
                rows = slice(row, None)
                for index, guess in _boxes(
                    name, look, left_out.presence[rows], left_out.boxes[rows], left_out.spread[rows]
                ):
                    found[one.scan.id][index].append(guess)
                row += len(look.slices)
        return found

    def _tried(
        self,
        scans: Sequence[KnownScan],
        guesses_on: Callable[[KnownScan, ScanEncoder], Mapping[int, Sequence[Guessed]]],
    ) -> _Tried:
        """The answers on scans, each read once. guesses_on: slice -> what is guessed there."""
        tried = _Tried()
        for one in scans:
            try:
                encoder = self.looks.encoder(one.scan)
            except InputError:
                # it cannot be read any more
                continue
            for index, some in guesses_on(one, encoder).items():
                tried.add(one, index, self._answered(encoder, index, some))
        return tried


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
