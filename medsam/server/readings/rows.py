"""A session as rows of the store, and from them again: without the network, bit by bit.

A row's mask is the one that the session goes on from, before it is cleaned. Its `extra` is what else the session knows
of that slice: {"kept": how many parts of its prompt were there before the step, "parts": those that the step added,
each as `PromptPart.to_dict` gives it, with "own" for a mask that is the row's, "expected_dice": where that is known,
with its interval}. Its status is "first" for an answer that is to be refined.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medsam.errors import InputError, PromptError
from medsam.inference.prompt_parts import PromptPart
from medsam.inference.session import UNDO_STEPS
from medsam.inference.session_state import Objects, SessionState, SliceState, Step, after_steps
from medsam.inference.trust import ExpectedDice
from medsam.prompts.limits import ANY, Limits, Values
from medsam.server.readings.objects import label_of
from medsam.store.records import NewMask, ReadingState, StoredMask, StoredStep
from medsam.wire import Status

_OWN = "own"


def status_of(state: SliceState, brought_back: bool = False) -> Status:
    """What is said of a mask. brought_back: by undo or redo."""
    if not state.complete:
        return "first"
    if brought_back or not state.untouched:
        return "restored" if brought_back else "refined"
    return "drawn" if state.drawn else "propagated" if state.propagated else "restored"


def iou_of(state: SliceState) -> float | None:
    """None where the network said nothing."""
    stated = state.predicted_iou
    return None if (state.untouched and not state.propagated) or not math.isfinite(stated) else float(stated)


def to_extra(state: SliceState, before: SliceState | None) -> dict[str, Any]:
    """before: what the step found on that slice."""
    kept = state.kept(before)
    parts = []
    for part in state.parts[kept:]:
        # a refined mask takes the place of a first answer's, and not of what was asked
        own = state.complete and part.mask is not None and part.mask == state.mask
        parts.append({**replace(part, mask=None).to_dict(), "mask": _OWN} if own else part.to_dict())
    return {
        "kept": kept,
        "parts": parts,
        **({"cleaned": True} if state.cleaned else {}),
        **({} if state.confidence is None else {"confidence": state.confidence}),
        **expected_of(state),
    }


def expected_of(state: SliceState) -> dict[str, Any]:
    """What is expected of a mask, as a part of `extra`."""
    return {} if state.expected_dice is None else {"expected_dice": asdict(state.expected_dice)}


@dataclass(frozen=True)
class Restored:
    """A session as it was stored, with the limits that were set last. extras: of its first answers, for the journal.
    steps_of: number of a result -> id of the step that it belongs to."""

    state: SessionState
    extras: Mapping[int, Any]
    steps_of: Mapping[int, int]


def restored(stored: ReadingState) -> Restored:
    """The session of a reading. Raises InputError for rows that are damaged."""
    try:
        begun = SessionState.from_dict(dict(stored.reading.document))
        # What masks kept to, from which revision on: as `Limits` has it, without copies of what `begun.limits` holds.
        kept = [(0, begun.limits.values), *((at, Limits(said["values"]).values) for at, said in stored.limits)]
        rows = _Rows(begun.geometry.plane(begun.axis).shape, kept)
        base: Objects = {}
        for number, masks in _by_object(stored.started).items():
            base = after_steps(base, [Step(label_of(number), rows.read(label_of(number), masks, {}))])
        names = {number: label_of(number) for number in _by_object(stored.started)}
        objects, steps = base, []
        for one in stored.steps:
            step = rows.step(one, objects)
            objects = after_steps(objects, [step])
            steps.append(step)
        # what can be undone no more; where more was undone already, that stays
        folded = min(max(len(steps) - UNDO_STEPS, 0), stored.done)
        state = replace(
            begun,
            objects=after_steps(base, steps[:folded]),
            steps=tuple(steps[folded:]),
            done=stored.done - folded,
            names=names,
            limits=replace(begun.limits, values=kept[-1][1]) if stored.limits else begun.limits,
        )
        return Restored(state, rows.extras, rows.steps_of)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, PromptError) as error:
        raise InputError(f"The stored session is damaged: {type(error).__name__} {str(error)[:80]}.") from error


class _Rows:
    """Rows as steps. extras, steps_of: as in `Restored`; grow. shape: of a slice. kept: revision from which on masks
    kept to a range of values, and that, in order; the last is that of now."""

    def __init__(self, shape: tuple[int, int], kept: Sequence[tuple[int, Values | None]]) -> None:
        self.shape, self.kept = shape, kept
        self.extras: dict[int, Any] = {}
        self.steps_of: dict[int, int] = {}

    def step(self, stored: StoredStep, objects: Objects) -> Step:
        """objects: as the step found them."""
        if stored.kind == "reset":
            return Step()
        if stored.object is None:
            raise ValueError("a step without an object")
        label = label_of(stored.object)
        left = self.read(label, stored.masks, objects.get(label, {}))
        _, values = self.kept[bisect.bisect(self.kept, stored.revision, key=lambda one: one[0]) - 1]
        if values == self.kept[-1][1]:
            return Step(label, left)
        # made under another range than that of now
        values = values or ANY
        return Step(label, {index: one and replace(one, values=values) for index, one in left.items()})

    def read(
        self, label: str, masks: Iterable[StoredMask], before: Mapping[int, SliceState]
    ) -> dict[int, SliceState | None]:
        """What a step left of an object, by slice. before: what it found.

        Rows of a propagation that was cut off, of slices that did not become part of the step, have no number.
        """
        left = [one for one in masks if one.number is not None or one.status != "propagated"]
        return {one.slice: self._state(one, label, before.get(one.slice)) for one in left}

    def _state(self, row: StoredMask, label: str, before: SliceState | None) -> SliceState | None:
        if row.status == "removed":
            return None
        if row.number is None or row.mask.shape != self.shape:
            raise ValueError("a mask of another session")
        known = () if before is None else before.parts
        parts = [self._part(entry, row, label) for entry in row.extra["parts"]]
        state = SliceState(
            (*known[: row.extra["kept"]], *parts),
            row.mask,
            1.0 if row.predicted_iou is None else row.predicted_iou,
            row.number,
            complete=row.status != "first",
            cleaned=bool(row.extra.get("cleaned")),
            confidence=row.extra.get("confidence"),
            expected_dice=ExpectedDice.from_dict(row.extra.get("expected_dice")),
        )
        if not state.complete:
            self.extras[row.number] = row.extra
        self.steps_of[row.number] = row.step
        return state

    def _part(self, entry: Mapping[str, Any], row: StoredMask, label: str) -> PromptPart:
        own = {"mask": row.mask} if entry.get("mask") == _OWN else {}
        return PromptPart.from_dict({**entry, **own}, label, row.slice, self.shape)


def _by_object(masks: Iterable[StoredMask]) -> dict[int, list[StoredMask]]:
    found: dict[int, list[StoredMask]] = {}
    for one in masks:
        found.setdefault(one.object, []).append(one)
    return found


def ended(state: SessionState, following: StoredStep) -> tuple[SessionState, list[NewMask]]:
    """A propagation that was cut off, as the step that it would have left had it been stopped; and its rows."""
    label = label_of(following.object or 0)
    before = after_steps(state.objects, state.steps[: state.done]).get(label, {})
    numbers = itertools.count(1 + max((one.number for one in state.results), default=-1))
    after: dict[int, SliceState | None] = {}
    rows: list[NewMask] = []
    for row in following.masks:
        there = before.get(row.slice)
        if row.mask and (there is None or there.remade):
            part = PromptPart(None, row.mask, standing=True, propagated=True)
            one = SliceState((part,), row.mask, 0.0 if row.predicted_iou is None else row.predicted_iou, next(numbers))
            after[row.slice] = one
            extra = to_extra(one, there)
            rows.append(
                NewMask(row.object, row.axis, row.slice, row.mask, "propagated", number=one.number, extra=extra)
            )
    steps = (*state.steps[: state.done], Step(label, after))
    return replace(state, steps=steps, done=len(steps)), rows
