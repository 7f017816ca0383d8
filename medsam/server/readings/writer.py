"""What a reading became, as rows of the store. All of this runs in the thread of its ledger."""

from __future__ import annotations

from collections.abc import Mapping

from medsam.prompts.limits import Limits
from medsam.server.readings.journal import Delta
from medsam.store.readers import Reader
from medsam.store.records import StoredReading, Work
from medsam.store.store import Store

# what computes nothing
_IDLE = ("start", "remove", "undo", "redo", "reset", "ended")


class Writer:
    """Of one reading. steps_of: number of a first answer -> id of the step that it belongs to."""

    def __init__(self, store: Store, stored: StoredReading, owner: Reader, steps_of: Mapping[int, int]) -> None:
        self._store, self._stored, self._owner = store, stored, owner
        self._steps_of = dict(steps_of)
        # of propagations under way, the step that their slices belong to meanwhile
        self._following: dict[str, int] = {}

    def write(self, delta: Delta) -> int:
        """The revision that it has now."""
        reading, by = self._stored.id, self._owner
        # what a hand drew, or came between two of its outlines, no model made
        drawn = delta.kind != "text" and bool(delta.masks) and all(one.status == "drawn" for one in delta.masks)
        work = None if drawn or delta.kind in _IDLE else self._work(delta.seconds)
        if delta.kind == "refined":
            first = self._steps_of.pop(delta.refines or 0)
            return self._store.append_masks(reading, by, first, delta.masks, work)
        if delta.kind == "following":
            return self._store.append_masks(reading, by, self._begun(delta), delta.masks, work)
        step = self._store.append_step(
            reading,
            by,
            delta.kind,
            object_number=delta.object,
            slice_index=(delta.prompts or {}).get("slice"),
            prompts=delta.prompts,
            masks=delta.masks,
            work=work,
            ends=self._following.pop(delta.follows or "", None),
        )
        self._steps_of |= {
            one.number: step.step for one in delta.masks if one.status == "first" and one.number is not None
        }
        return step.revision

    def limit(self, limits: Limits) -> int:
        """What masks keep to from now on: the revision."""
        said = {"values": None if limits.values is None else list(limits.values)}
        return self._store.append_step(self._stored.id, self._owner, "limits", prompts=said).revision

    def _begun(self, delta: Delta) -> int:
        key = delta.follows or ""
        if key not in self._following:
            begun = self._store.append_step(self._stored.id, self._owner, "following", object_number=delta.object)
            self._following[key] = begun.step
        return self._following[key]

    def _work(self, seconds: float) -> Work:
        document = self._stored.document
        settings = {name: document[name] for name in ("axis", "window", "wide_window", "modality", "zoom", "tidy")}
        settings |= {name: document["model"][name] for name in ("engine", "precision")}
        return Work(self._stored.model, self._stored.weights, settings, seconds)
