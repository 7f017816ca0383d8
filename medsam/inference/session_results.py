"""What a session asks of the network for the prompts of an object on a slice, and what it keeps of the answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from medsam.errors import PromptError
from medsam.inference.candidates import Candidate, answers, distinct
from medsam.inference.combine import bounds, cleaned
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.prompt_parts import PromptPart, as_prompts, first_asked
from medsam.inference.segment_slice import segment_slice
from medsam.inference.session_state import SliceState
from medsam.inference.slice_request import SliceResult, Zoom
from medsam.inference.worker import Priority, Worker, through_worker
from medsam.models.specs import takes_clicks
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.limits import SliceLimits
from medsam.prompts.plan import plan
from medsam.prompts.prompt import Prompt, SlicePrompt

# Results with logits that are kept; at 512 x 512 pixels one takes 2 MB.
_KEPT_RESULTS = 4


class SessionResults:
    """The part of a `Session` that runs the network. scan_encoder, zoom: see there.

    Logits of the last few results are kept; those of others are computed again from their prompts, bit by bit the same.
    """

    def __init__(self, scan_encoder: ScanEncoder, zoom: Zoom) -> None:
        self.scan_encoder, self.zoom = scan_encoder, zoom
        self._kept: OrderedDict[int, SliceResult] = OrderedDict()

    @property
    def worker(self) -> Worker | None:
        """On whose thread the network runs."""
        return self.scan_encoder.image_predictor.worker

    def checked(self, prompts: Sequence[Prompt]) -> SlicePrompt:
        """Prompts of one object as they are on its slice; PromptError when they do not fit the scan."""
        if any(one.slice is None and self.scan_encoder.plane.count > 1 for one in prompts):
            raise PromptError("A step of a session is about one slice: name it (`slice`).", parameter="slice")
        todo = plan(prompts, self.scan_encoder.scan.geometry, self.scan_encoder.plane.axis)
        ((found,),) = todo.slices.values()
        return found

    def placed(self, parts: Sequence[PromptPart], label: str, index: int, number: int = 1) -> SlicePrompt:
        """All parts as one prompt on its slice. number: its label id."""
        placed = self.checked(as_prompts(parts, label, index))
        return replace(placed, label=number, standing=parts[0].standing, likely=parts[0].likely)

    @through_worker(Priority.CLICK)
    def segment(
        self,
        index: int,
        prompt: SlicePrompt,
        previous: SliceResult | None,
        at_hand: bool = False,
        progress: ProgressCallback | None = None,
    ) -> SliceResult:
        """What the network answers. previous, at_hand, progress: see `segment_slice`."""
        (result,) = segment_slice(
            self.scan_encoder,
            index,
            [prompt],
            zoom=self.zoom,
            previous=[previous],
            at_hand=at_hand,
            progress=progress,
            trust=True,
        )
        return result

    def previous(self, state: SliceState, label: str, index: int, limits: SliceLimits) -> SliceResult | None:
        """What the next click needs of the result before it; None before the first click on a mask that stands."""
        if state.untouched:
            return None
        if takes_clicks(self.scan_encoder.image_predictor.sam.spec) or state.number in self._kept:
            return self.result(state, label, index, limits)
        # of a network that knows boxes only, no logits go back
        mask = state.mask.to_array()
        return SliceResult(mask, state.predicted_iou, np.zeros(mask.shape, np.float32), (), torch.empty(0))

    def result(self, state: SliceState, label: str, index: int, limits: SliceLimits) -> SliceResult:
        """With logits: kept, or computed again. limits: of the slice."""
        found = self._kept.get(state.number)
        if found is None:
            # what else is on the slice today had no say when its mask was made
            found = replace(self.computed(state, label, index, limits), mask=state.mask.to_array())
        self.keep(state, found)
        return found

    def computed(
        self,
        state: SliceState,
        label: str,
        index: int,
        limits: SliceLimits,
        progress: ProgressCallback | None = None,
    ) -> SliceResult:
        """What the network answers to its parts, one after the other. progress: see `segment_slice`."""
        if state.untouched:
            return SliceResult.of_mask(state.mask.to_array(), state.predicted_iou)

        def after(count: int, previous: SliceResult | None) -> SliceResult:
            prompt = self.placed(state.parts[:count], label, index)
            found = self.segment(index, prompt, previous, not state.complete, progress=progress)
            return replace(found, mask=limits.applied(found.mask, label, state.mask, prompt))

        first = first_asked(state.parts)
        result = after(first, None)
        for count in range(first + 1, len(state.parts) + 1):
            result = after(count, result)
        return result

    def keep(self, state: SliceState, result: SliceResult) -> None:
        """A result with its logits, for a while."""
        self._kept[state.number] = result
        self._kept.move_to_end(state.number)
        while len(self._kept) > _KEPT_RESULTS:
            self._kept.popitem(last=False)

    def cleaned(self, state: SliceState, label: str, index: int, limits: SliceLimits, tidy: Cleanup) -> np.ndarray:
        """The mask as it is saved."""
        if state.parts[0].standing or state.cleaned:
            # what was there is not ours to clean
            return state.mask.to_array()
        prompt, mask = self.placed(state.parts, label, index), state.mask.to_array()
        inside = bounds(prompt, self.zoom, self.scan_encoder.plane)
        return limits.applied(cleaned(mask, prompt, inside, self.scan_encoder, tidy), label, state.mask)

    @through_worker(Priority.SLICE)
    def candidates(
        self,
        state: SliceState,
        label: str,
        index: int,
        limits: SliceLimits,
        tidy: Cleanup,
        progress: ProgressCallback | None = None,
    ) -> list[Candidate]:
        """See `Session.candidates`. progress: called before each answer; a click may come in between (`Worker`)."""
        if state.parts[0].standing:
            return []
        prompt = self.placed(state.parts, label, index)
        box = self.result(state, label, index, limits).box
        others = answers(self.scan_encoder, index, prompt, self.zoom, box, progress)

        def kept(one: Candidate) -> Candidate:
            mask = cleaned(one.mask, prompt, None, self.scan_encoder, tidy)
            return replace(one, mask=limits.applied(mask, label, state.mask))

        stands = Candidate(self.cleaned(state, label, index, limits, tidy), state.predicted_iou)
        return distinct([stands, *map(kept, others)])
