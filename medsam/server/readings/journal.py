"""What a call changed in an inference session: the rows that are stored of it, and the masks that are drawn.

A `SessionState` never changes, and each of its results has a number that is never given twice. So whatever was called,
the difference between before and after says what there is to store, and nothing here knows the rules of undoing,
refining or propagating.

All of this runs on the worker's thread, where the session is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from medsam.inference.session import Session
from medsam.inference.session_state import SessionState, SliceState, Step
from medsam.masks import CompactMask
from medsam.server.readings.objects import label_of, number_of
from medsam.server.readings.rows import expected_of, iou_of, status_of, to_extra
from medsam.server.readings.slate import Drawn, Place
from medsam.store.records import CallKind, NewMask

# "following": slices of a propagation under way, whose step comes when it ends; "ended": it left no step
Kind = Literal[CallKind, "refined"]

# cleaned masks that are kept, so that undo needs not clean them again; a large one takes 10 KB
_CLEANED = 4096
_WALKS = ("undo", "redo")


@dataclass(frozen=True)
class Delta:
    """What a call changed. masks: rows to store. drawn: the masks as they are shown; None: there is none any more.

    object, prompts: what to store with the step, its number and JSON. seconds: from its begin to its end. incomplete:
    places whose mask is a first answer, of all there is. undo, redo: how many steps there are. refines: of a
    refinement, the number of the result it took the place of. follows: the propagation that these slices are of, or
    that ended. gone: numbers of objects that were removed.
    """

    kind: Kind
    object: int | None = None
    masks: tuple[NewMask, ...] = ()
    drawn: Mapping[Place, Drawn | None] = field(default_factory=dict)
    prompts: dict[str, Any] | None = None
    seconds: float = 0.0
    incomplete: tuple[Place, ...] = ()
    undo: int = 0
    redo: int = 0
    refines: int | None = None
    follows: str | None = None
    gone: frozenset[int] = frozenset()

    @property
    def places(self) -> frozenset[Place]:
        """Those whose masks it is about."""
        return frozenset(self.drawn)


class Journal:
    """Of one session; begins with what that is now. extras: of its first answers, by number, as they were stored."""

    def __init__(self, session: Session, extras: Mapping[int, Any] | None = None) -> None:
        self._session = session
        self._plane = session.scan_encoder.plane
        self._states, self._stack = _by_place(session), _stack(session.state)
        self._cleaned: OrderedDict[int, CompactMask] = OrderedDict()
        # a refined mask has the prompts of the first answer
        self._extras = dict(extras or {})
        # where a propagation under way has been
        self._followed: dict[str, set[Place]] = {}

    def take(
        self,
        kind: Kind,
        number: int | None = None,
        prompts: dict[str, Any] | None = None,
        seconds: float = 0.0,
        follows: str | None = None,
    ) -> Delta | None:
        """What changed since the last time; None where nothing did. number: of the object. The rest: see `Delta`.

        Where a propagation that ended has been and left nothing, what stands there is drawn again.
        """
        before, after, stack = self._states, _by_place(self._session), _stack(self._session.state)
        changed = [
            place for place in dict.fromkeys((*before, *after)) if _number(before, place) != _number(after, place)
        ]
        been = self._followed.pop(follows, set()) if follows is not None else set()
        stood = stack[0] == self._stack[0] and stack[1] is self._stack[1]
        self._states, self._stack = after, stack
        if not changed and not been and (stood or kind == "refined"):
            # a refined mask that another one has taken the place of, or that was undone, is made again when it is back
            return None
        if kind == "propagate" and stood:
            kind = "ended"
        places = [*changed, *sorted(been.difference(changed))]
        done, total = self.steps
        return Delta(
            kind,
            number,
            masks=tuple(self._row(kind, place, before.get(place), after.get(place)) for place in places),
            drawn={place: self._drawn(kind, place, after.get(place)) for place in places},
            prompts=prompts,
            seconds=seconds,
            incomplete=self.incomplete,
            undo=done,
            redo=total - done,
            refines=before[changed[0]].number if kind == "refined" else None,
            follows=follows,
            gone=self.gone,
        )

    def again(self) -> None:
        """The session says the same in other words: what it keeps to is another."""
        self._states, self._stack = _by_place(self._session), _stack(self._session.state)

    @property
    def gone(self) -> frozenset[int]:
        """Numbers of objects that were removed: the session has forgotten all their masks."""
        return frozenset(number_of(label) for label, slices in self._session.states.items() if not slices)

    @property
    def incomplete(self) -> tuple[Place, ...]:
        """Places whose mask is a first answer."""
        return tuple((number_of(label), index) for label, index in self._session.incomplete)

    @property
    def steps(self) -> tuple[int, int]:
        """How many can be undone, and how many there are."""
        state = self._session.state
        return state.done, len(state.steps)

    def rows(self) -> tuple[NewMask, ...]:
        """All there is now, as rows: the start of a session."""
        return tuple(self._row("start", place, None, state) for place, state in self._states.items())

    def everything(self) -> Delta:
        """All there is now, as it is shown. It is stored already."""
        done, total = self.steps
        return Delta(
            "start",
            drawn={place: self._drawn("start", place, state) for place, state in self._states.items()},
            incomplete=self.incomplete,
            undo=done,
            redo=total - done,
            gone=self.gone,
        )

    def of_slice(self, number: int, index: int, mask: CompactMask, follows: str) -> Delta | None:
        """A slice that a propagation has come to, which is no part of the session yet; None where a reader's own is."""
        place = number, index
        there = self._session.states.get(label_of(number), {}).get(index)
        if there is not None and not there.remade:
            return None
        self._followed.setdefault(follows, set()).add(place)
        row = NewMask(number, self._plane.axis, index, mask, "propagated")
        return Delta("following", number, (row,), {place: Drawn(mask, "propagated")}, follows=follows)

    def _row(self, kind: Kind, place: Place, before: SliceState | None, after: SliceState | None) -> NewMask:
        number, index = place
        if after is None:
            return NewMask(number, self._plane.axis, index, CompactMask.empty(self._plane.shape), "removed")
        extra = None
        if kind == "refined" and before is not None:
            extra = self._extras.pop(before.number, None)
            extra = None if extra is None else extra | expected_of(after)
        elif kind not in _WALKS:
            extra = to_extra(after, before)
        if not after.complete and extra is not None:
            self._extras[after.number] = extra
        return NewMask(
            number,
            self._plane.axis,
            index,
            after.mask,
            status_of(after, brought_back=kind in _WALKS),
            predicted_iou=iou_of(after),
            expected_dice=None if after.expected_dice is None else after.expected_dice.value,
            number=after.number,
            extra=extra,
        )

    def _drawn(self, kind: Kind, place: Place, state: SliceState | None) -> Drawn | None:
        if state is None or state.erased:
            return None
        mask = self._cleaned.get(state.number)
        if mask is None:
            number, index = place
            cleaned = self._session.cleaned(index, label_of(number))
            mask = state.mask if cleaned is None else CompactMask.of(cleaned)
        self._cleaned[state.number] = mask
        self._cleaned.move_to_end(state.number)
        while len(self._cleaned) > _CLEANED:
            self._cleaned.popitem(last=False)
        status = status_of(state, brought_back=kind in _WALKS)
        return Drawn(mask, status, iou_of(state), state.confidence, state.expected_dice, state.ambiguous)


def _by_place(session: Session) -> dict[Place, SliceState]:
    return {
        (number_of(label), index): state for label, slices in session.states.items() for index, state in slices.items()
    }


def _number(states: Mapping[Place, SliceState], place: Place) -> int | None:
    """Of the result there; None where there is none."""
    return states[place].number if place in states else None


def _stack(state: SessionState) -> tuple[int, Step | None]:
    """What tells whether a step was made: how many are done, and the last of them, which is never made twice."""
    return state.done, state.steps[state.done - 1] if state.done else None
