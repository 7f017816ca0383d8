"""Boxes from heads: a detector that was given, and heads that answer the names of structures.

A head is asked for what it was measured on alone, and only where it fits the model that answers. How sure it is takes
the place of a guess's presence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from medsam.annotation.answers import Guessed
from medsam.errors import MedSAMError
from medsam.inference.by_name import KnownName
from medsam.inference.detect import detect
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.io.structure_names import plain_name
from medsam.labels.names import canonical_name
from medsam.models.heads import Head
from medsam.prompts.prompt import Box
from medsam.prompts.simulate import tight_box

# of a side, that the boxes of heads are usually wrong by
_SPREAD = 0.1


class HeadBoxes:
    """What heads know of a project's structures. names: whether heads that answer names are asked."""

    def __init__(self, predictor: Predictor, structures: Sequence[str], *, names: bool) -> None:
        self._detector, self._detected = _detector(predictor, structures)
        self._names = {
            name: one
            for name, one in (_known(predictor, structures) if names else {}).items()
            if name not in self._detected
        }
        self._predictor = predictor

    @property
    def structures(self) -> set[str]:
        """Those that a head knows."""
        return {*self._detected, *self._names}

    def of(self, encoder: ScanEncoder, slices: Sequence[int]) -> Iterator[tuple[int, Guessed]]:
        """Boxes on these slices. Heads look at all of a scan, to tell one object from another."""
        wanted = set(slices)
        if self._detector is not None and self._detected:
            found = detect(encoder, self._detector, list(self._detected.values()))
            ours = {plain_name(theirs): name for name, theirs in self._detected.items()}
            for one in found.objects:
                for index, box in one.boxes.items():
                    if index in wanted:
                        yield index, Guessed(ours[plain_name(one.name)], box, one.confidence, _SPREAD)
        if self._names:
            answers = self._predictor.names.answer(encoder, list(self._names.values()))
            for name, answer in zip(self._names, answers, strict=True):
                for index in (int(n) for n in encoder.plane.touched(answer.mask)):
                    tight = tight_box(encoder.plane.take(answer.mask, index), 1)
                    if index in wanted and tight is not None:
                        yield index, Guessed(name, cast(Box, tuple(map(float, tight))), 1.0, _SPREAD)


def _detector(predictor: Predictor, structures: Sequence[str]) -> tuple[Head | None, dict[str, str]]:
    """A detector that was given, and structure -> its name there."""
    if not predictor.heads:
        return None, {}
    try:
        head = predictor.detector()
    except MedSAMError:
        # heads of another kind were given
        return None, {}
    theirs = {canonical_name(one): one for one in head.card.classes if one not in head.card.untested}
    return head, {name: theirs[canonical_name(name)] for name in structures if canonical_name(name) in theirs}


def _known(predictor: Predictor, structures: Sequence[str]) -> dict[str, KnownName]:
    try:
        known = predictor.names.known
    except MedSAMError:
        return {}
    found = {name: known.get(canonical_name(name)) for name in structures}
    return {name: one for name, one in found.items() if one is not None and not one.untested}
