"""Interactive refinement: a scan is set once, then boxes and clicks follow one after the other, and can be undone.

One session is one object. Each click goes to the network together with everything said on its slice so far and with
the logits of the last answer; the slice's looks come from the cache, so it costs a decode.

State is never changed, only followed by another: undo and redo walk a list of states and run no network. The same
steps on the same scan give the same bits. A step that is refused leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsam.errors import PromptError
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.segment_slice import SliceResult, Zoom, bounds, segment_slice
from medsam.postprocess.clean import Cleanup
from medsam.prompts.plan import plan
from medsam.prompts.prompt import DEFAULT_LABEL, Box, Prompt, SlicePrompt
from medsam.volume import LabelVolume


@dataclass(frozen=True, eq=False)
class _Slice:
    """What was said on one slice so far, and the answer to it."""

    prompt: SlicePrompt
    answer: SliceResult


_State = Mapping[int, _Slice]
_EMPTY: _State = {}


class Session:
    """Made by `Predictor.session`, or from a `ScanEncoder`. label: the object's name. zoom: as in `segment_slice`.
    tidy: how `labels` are cleaned.

    Slice numbers count along the scan encoder's axis; positions are stored pixels, as in `Prompt`. Not for several
    threads. Undo keeps every answer: at 512 x 512 pixels a step takes 2 MB.
    Raises PromptError for a `tidy` in mm on a scan without millimetres.
    """

    def __init__(
        self, scan_encoder: ScanEncoder, zoom: Zoom = "auto", label: str = DEFAULT_LABEL, tidy: Cleanup | None = None
    ) -> None:
        self.scan_encoder, self.zoom, self.label, self.tidy = scan_encoder, zoom, label, tidy or Cleanup()
        self.tidy.check(scan_encoder.scan.geometry.calibrated)
        self._states: list[_State] = [_EMPTY]
        self._at = 0

    @property
    def _now(self) -> _State:
        return self._states[self._at]

    def box(self, index: int, box: Box) -> SliceResult:
        """Ask for what is in a box on slice `index`. What was said on that slice before is forgotten (undo has it).

        Raises PromptError for a box that is empty, not finite or outside, or no such slice.
        """
        return self._begin(Prompt(self.label, box=box, slice=index))

    def mask(self, index: int, mask: np.ndarray) -> SliceResult:
        """Ask with a rough mask, bool (h, w) or (K, J, I), of which slice `index` counts. Starts the slice anew.

        Raises PromptError for a mask that is empty there or of another grid, or no such slice.
        """
        return self._begin(Prompt(self.label, slice=index, mask=mask))

    def click(self, index: int, x: float, y: float, inside: bool = True) -> SliceResult:
        """Add a click to what was said on slice `index`; without anything said, it has to be inside.

        The same click twice changes nothing. Raises PromptError for a click outside the slice, one that contradicts an
        earlier one, a first click that is not inside, or no such slice.
        """
        said = self._now.get(index)
        if said is None:
            return self._begin(Prompt(self.label, slice=index, points=((x, y, int(inside)),)))
        previous = said.prompt
        asked = Prompt(
            self.label, previous.box, index, points=(*previous.points, (x, y, int(inside))), mask=previous.mask
        )
        prompt = self._checked(asked)
        return said.answer if prompt.points == previous.points else self._step(index, prompt, said.answer)

    def undo(self) -> bool:
        """Go back to before the last step (a reset too); False when there is none."""
        self._at -= (there := self._at > 0)
        return there

    def redo(self) -> bool:
        """Take the step again that `undo` took back; False when there is none, also after another step."""
        self._at += (there := self._at + 1 < len(self._states))
        return there

    def reset(self) -> None:
        """Forget what was said on every slice."""
        if self._now:
            self._follow(_EMPTY)

    def answer(self, index: int) -> SliceResult | None:
        """The answer on a slice as it stands; None where nothing was asked."""
        said = self._now.get(index)
        return None if said is None else said.answer

    @property
    def labels(self) -> LabelVolume:
        """All answers as one label map on the scan's grid, 1 in the object, cleaned by `tidy`; ready to be saved."""
        plane, calibrated = self.scan_encoder.plane, self.scan_encoder.scan.geometry.calibrated
        array = np.zeros(self.scan_encoder.scan.geometry.shape, dtype=np.uint8)
        for index, said in self._now.items():
            plane.take(array, index)[...] = self.tidy(
                said.answer.mask,
                plane.spacing_mm,
                calibrated=calibrated,
                points=said.prompt.points,
                box=said.prompt.box,
                within=bounds(said.prompt, self.zoom, plane),
            )
        return LabelVolume(array, self.scan_encoder.scan.geometry, {1: self.label})

    @property
    def prompts(self) -> list[Prompt]:
        """What was said, one prompt a slice, by slice: as for a prompts file, or for `replay`."""
        return [
            Prompt(self.label, said.box, index, points=said.points, mask=said.mask)
            for index, said in self.seeds.items()
        ]

    @property
    def seeds(self) -> dict[int, SlicePrompt]:
        """What was said, by slice: as propagation starts from."""
        return {index: self._now[index].prompt for index in sorted(self._now)}

    def replay(self, prompts: Sequence[Prompt]) -> None:
        """Take the steps that lead to these prompts: on each slice the box or mask, then click after click.

        The `prompts` of one session give another on the same scan the same masks, bit by bit.
        Raises PromptError, before any step, when a prompt lies outside or they are of several objects.
        """
        todo = plan(prompts, self.scan_encoder.scan.geometry, self.scan_encoder.plane.axis)
        if len(todo.names) > 1 or any(len(on_slice) > 1 for on_slice in todo.slices.values()):
            raise PromptError(
                "A session is about one object, and these prompts are about several. Take a session each."
            )
        for index, (prompt,) in todo.slices.items():
            # the network hears of the clicks one at a time, as it did the first time; what they mean needs one inside
            anchored = prompt.box is not None or prompt.mask is not None
            start = 0 if anchored else [point[2] for point in prompt.points].index(1) + 1
            answer = None
            for clicks in range(start, len(prompt.points) + 1):
                answer = self._step(index, replace(prompt, points=prompt.points[:clicks]), answer)

    def _begin(self, prompt: Prompt) -> SliceResult:
        index = 0 if prompt.slice is None else prompt.slice
        return self._step(index, self._checked(prompt), None)

    def _checked(self, prompt: Prompt) -> SlicePrompt:
        """The prompt as it is on its slice; PromptError when it does not fit the scan."""
        todo = plan([prompt], self.scan_encoder.scan.geometry, self.scan_encoder.plane.axis)
        ((found,),) = todo.slices.values()
        return found

    def _step(self, index: int, prompt: SlicePrompt, previous: SliceResult | None) -> SliceResult:
        (answer,) = segment_slice(self.scan_encoder, index, [prompt], zoom=self.zoom, previous=[previous])
        self._follow({**self._now, index: _Slice(prompt, answer)})
        return answer

    def _follow(self, state: _State) -> None:
        # a new step after undo: what was undone is gone
        self._states = [*self._states[: self._at + 1], state]
        self._at += 1
