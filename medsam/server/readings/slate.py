"""The masks of a reading as they stand, and frames of what a client has not seen of them.

Of each mask the rectangles of its latest changes are kept. To a client that says which revision it has, what differs
lies in the union of those that came later: that is what it gets, with the revision it is relative to (`base`). A client
that has none, or one from too long ago, gets the mask whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsam.geometry import Axis
from medsam.inference.trust import ExpectedDice
from medsam.masks import CompactMask, bounding_box, xyxy
from medsam.wire import MaskFrame, Status

Rectangle = tuple[int, int, int, int]
# number of an object, and a slice
Place = tuple[int, int]

_EMPTY: Rectangle = (0, 0, 0, 0)
# changes of one mask whose rectangles are kept
_CHANGES = 32


@dataclass(frozen=True)
class Drawn:
    """A mask (h, w) of an object on a slice. status, confidence, ambiguous: see `wire`. predicted_iou: None where the
    network said nothing. expected: Dice, where that is known."""

    mask: CompactMask
    status: Status
    predicted_iou: float | None = None
    confidence: float | None = None
    expected: ExpectedDice | None = None
    ambiguous: bool = False


@dataclass(frozen=True)
class _Change:
    """revision: that it made. base: the revision of the mask before it, 0 where there was none."""

    revision: int
    base: int
    rectangle: Rectangle


@dataclass
class _Mask:
    drawn: Drawn
    changes: deque[_Change] = field(default_factory=lambda: deque(maxlen=_CHANGES))

    @property
    def revision(self) -> int:
        return self.changes[-1].revision

    def since(self, revision: int) -> tuple[int, Rectangle]:
        """(base, rectangle) for a client that has what there was at `revision`."""
        later = [change for change in self.changes if change.revision > revision]
        if not later:
            return self.revision, _EMPTY
        base = later[0].base
        if revision == 0 or base == 0 or base > revision:
            # nothing to change, or more has changed than is known
            return 0, _box(self.drawn.mask)
        return base, union(change.rectangle for change in later)


# masks on their way to a slate, and the rectangle that each changes
Compared = list[tuple[Place, Drawn, Rectangle]]


@dataclass(frozen=True)
class Part:
    """A frame that is still to be made, on any thread. pixels: of its rectangle."""

    pixels: int
    frame: Callable[[], MaskFrame]


class Slate:
    """All masks of a reading. shape: (h, w) of a slice."""

    def __init__(self, axis: Axis, shape: tuple[int, int]) -> None:
        self.axis, self.shape = axis, shape
        # of each object by slice: what is asked of one does not go through those of all
        self._masks: dict[int, dict[int, _Mask]] = {}
        self._removed = Drawn(CompactMask.empty(shape), "removed")

    def get(self, place: Place) -> Drawn | None:
        """What stands on a place; None where there never was a mask, "removed" where there is none any more."""
        found = self._at(place)
        return None if found is None else found.drawn

    def _at(self, place: Place) -> _Mask | None:
        return self._masks.get(place[0], {}).get(place[1])

    def compared(self, drawn: Mapping[Place, Drawn | None], gone: bool = False) -> Compared:
        """What `put` takes; None: there is no mask any more. gone: though none is known, there was one.

        On any thread, while the slate stays as it is.
        """
        found = []
        for place, new in drawn.items():
            there = self.get(place)
            if new is not None or there is not None or gone:
                after = self._removed if new is None else new
                found.append((place, after, difference(None if there is None else there.mask, after.mask)))
        return found

    def put(self, revision: int, compared: Compared) -> None:
        """Put masks in place."""
        for place, drawn, rectangle in compared:
            there = self._at(place)
            base = 0 if there is None or there.drawn.status == "removed" else there.revision
            if there is None:
                there = self._masks.setdefault(place[0], {})[place[1]] = _Mask(drawn)
            there.drawn = drawn
            there.changes.append(_Change(revision, base, rectangle))

    def update(self, revision: int, drawn: Mapping[Place, Drawn | None], gone: bool = False) -> None:
        """Compare masks and put them in place."""
        self.put(revision, self.compared(drawn, gone))

    def has(self, number: int) -> bool:
        """Whether an object has a mask anywhere."""
        return any(mask.drawn.status != "removed" for mask in self._masks.get(number, {}).values())

    def of(self, number: int) -> tuple[int, dict[int, CompactMask]]:
        """The masks of an object by slice, and the revision of the last that changed, 0 where there was none."""
        found = self._masks.get(number, {})
        revision = max((mask.revision for mask in found.values()), default=0)
        return revision, {index: mask.drawn.mask for index, mask in sorted(found.items()) if mask.drawn.mask}

    def frames(self, since: int = 0, places: frozenset[Place] = frozenset()) -> list[Part]:
        """Of every mask that changed after revision `since`, and of `places`, whether they changed or not.

        What is to be sent is decided now.
        """
        # a client that has nothing is not told of what was removed
        return [
            self._part((number, index), mask.drawn, mask.revision, *mask.since(since))
            for number, masks in sorted(self._masks.items())
            for index, mask in sorted(masks.items())
            if (number, index) in places or (mask.revision > since and (since or mask.drawn.status != "removed"))
        ]

    def _part(self, place: Place, drawn: Drawn, revision: int, base: int, rectangle: Rectangle) -> Part:
        if drawn.status == "removed":
            base, rectangle = 0, _EMPTY
        x0, y0, x1, y1 = rectangle

        def frame() -> MaskFrame:
            return MaskFrame(
                object=place[0],
                axis=self.axis,
                slice=place[1],
                shape=self.shape,
                rectangle=rectangle,
                pixels=_within(drawn.mask, rectangle),
                revision=revision,
                status=drawn.status,
                predicted_iou=drawn.predicted_iou,
                base=base,
                confidence=drawn.confidence,
                ambiguous=drawn.ambiguous,
                **_told(drawn.expected),
            )

        return Part((x1 - x0) * (y1 - y0), frame)


def _told(expected: ExpectedDice | None) -> dict[str, Any]:
    """As parts of a frame."""
    if expected is None:
        return {}
    return {
        "expected_dice": expected.value,
        "expected_dice_low": expected.low,
        "expected_dice_high": expected.high,
        "unfamiliar": expected.unfamiliar,
    }


def difference(before: CompactMask | None, after: CompactMask) -> Rectangle:
    """Where two masks (h, w) of one shape differ; before: None for an empty one."""
    if before is None or not before:
        return _box(after)
    if before == after:
        return _EMPTY
    both = union([_box(before), _box(after)])
    part = bounding_box(_within(before, both) != _within(after, both))
    if part is None:
        return _EMPTY
    (left, top, *_), (x0, y0, x1, y1) = both, xyxy(part)
    return left + x0, top + y0, left + x1, top + y1


def _within(mask: CompactMask, rectangle: Rectangle) -> np.ndarray:
    """Of a mask what is in a rectangle, bool."""
    x0, y0, x1, y1 = rectangle
    found = np.zeros((y1 - y0, x1 - x0), bool)
    left, top, right, bottom = _box(mask)
    rows, columns = slice(max(y0, top), min(y1, bottom)), slice(max(x0, left), min(x1, right))
    if rows.start < rows.stop and columns.start < columns.stop:
        part = mask.crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        found[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0] = part
    return found


def union(rectangles: Iterable[Rectangle]) -> Rectangle:
    """The smallest rectangle that holds all of them; empty ones do not count."""
    some = [one for one in rectangles if one[0] < one[2] and one[1] < one[3]]
    if not some:
        return _EMPTY
    low, high = np.array(some)[:, :2].min(axis=0), np.array(some)[:, 2:].max(axis=0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _box(mask: CompactMask) -> Rectangle:
    return xyxy(mask.part) if mask else _EMPTY
