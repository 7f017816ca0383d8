"""Steps of a session that draw an object on many slices at once: between those that it is on, or by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medsam.errors import PromptError
from medsam.inference.by_name import NamedMask, NameReader
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.session_state import SliceState, Step
from medsam.inference.slice_request import SliceResult
from medsam.inference.whole_objects import interpolated
from medsam.inference.worker import Priority, through_worker
from medsam.labels import english
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.steps import Steps


class SessionDrawing(Steps[SliceResult]):
    """What `Session` is beside its prompts on single slices."""

    scan_encoder: ScanEncoder
    _numbers: Iterator[int]
    # of `Session`: what there is, cleaned, limited and locked; and how a step is taken
    states: Any
    _cleaned: Any
    _limits_on: Any
    _stands: Any
    _follow: Any

    @through_worker(Priority.SLICE)
    def interpolate(self, label: str | None = None, *, progress: ProgressCallback | None = None) -> list[int]:
        """Draw an object on the slices between those that it is on, from these alone; one step. Returns those slices.

        What was erased there is drawn again. progress: called once a slice; other steps may be taken then (`Worker`),
        and slices of the object that they changed are left alone. Raises PromptError where there is none to draw, or
        `limits` forbid it.
        """
        label = label or self.label
        there, pitch = dict(self.states.get(label, {})), self.scan_encoder.plane.spacing_mm
        found = interpolated(there, lambda index: self._cleaned(there[index], label, index), pitch, progress)
        after = self._drawn_on(found, there, label)
        if not after:
            raise PromptError(f"There is no slice to draw {label!r} on between those that it is on: give it two apart.")
        self._follow(Step(label, after))
        return sorted(after)

    @through_worker(Priority.PROPAGATE)
    def text(
        self,
        name: str,
        label: str | None = None,
        *,
        reader: NameReader | None = None,
        untested: bool = False,
        progress: ProgressCallback | None = None,
    ) -> NamedMask:
        """Draw the structure that is called so on every slice that it is on (docs/names.md), as one step.

        name: in English, Latin, German or Korean. label: of the object, which is drawn anew; default `label` of the
        session. reader: who answers; default the heads of this package. untested: also what was not measured on
        patients the head never saw; the object's label then says so. progress: called once a slice.
        Raises PromptError with a question for a name that is not known, and for a structure that is not in the scan.
        """
        reader = reader or NameReader(self.scan_encoder.image_predictor)
        known, _ = reader.named(name, untested=untested)
        label = f"{label or self.label}{' (untested)' if known.untested else ''}"
        there: Mapping[int, SliceState] = dict(self.states.get(label, {}))
        (found,) = reader.answer(self.scan_encoder, [known], progress)
        if not found.found:
            raise PromptError(
                f"{english(known.name)} is not in this scan, says {known.head.card.name}. Where it is, draw a box.",
                parameter="text",
            )
        self._put(found.mask, label, there)
        return found

    def put(self, mask: np.ndarray, label: str | None = None) -> None:
        """Have exactly this mask through the volume, which a head found, as one step: the object is drawn anew.

        mask: bool (K, J, I). What `limits` forbid is left out of it. Raises PromptError for a mask of another grid, and
        where they keep the object as it is.
        """
        label = label or self.label
        if mask.shape != self.scan_encoder.scan.geometry.shape:
            raise PromptError(
                f"The mask has the shape {mask.shape}, and the scan {self.scan_encoder.scan.geometry.shape} (K, J, I)."
            )
        self._put(mask, label, dict(self.states.get(label, {})))

    def _put(self, mask: np.ndarray, label: str, there: Mapping[int, SliceState]) -> None:
        """there: the object as it stood; slices that are another by now stay."""
        plane = self.scan_encoder.plane
        masks = {index: CompactMask.of(plane.take(mask, index)) for index in plane.touched(mask)}
        gone: dict[int, SliceState | None] = dict.fromkeys(index for index in there if index not in masks)
        self._follow(Step(label, {**gone, **self._drawn_on(masks, there, label, found=True)}))

    def _drawn_on(
        self, masks: Mapping[int, CompactMask], there: Mapping[int, SliceState], label: str, *, found: bool = False
    ) -> dict[int, SliceState | None]:
        """Masks within the limits, as what was drawn; slices that are no more as in `there` are left alone.

        found: whether a head found them.
        """
        now: Mapping[int, SliceState] = self.states.get(label, {})
        after: dict[int, SliceState | None] = {}
        for index, drawn in masks.items():
            limits, before = self._limits_on(index), now.get(index)
            limits.check(SlicePrompt(1), label, stands=self._stands(label))
            if before is not there.get(index):
                continue
            stood = before.mask if before else None
            if kept := CompactMask.of(limits.applied(drawn.to_array(), label, stood)):
                after[index] = SliceState.drawn_as(kept, next(self._numbers), found=found)
        return after
