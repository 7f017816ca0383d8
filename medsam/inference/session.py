"""Interactive refinement: a scan is set once, then boxes, clicks and strokes follow one after the other, with undo.

Each click or stroke goes to the network together with all earlier prompts of its object on its slice and with the
logits of the last mask; the slice's embeddings come from the cache, so it costs a decode.

A session is a scan that is ready to be encoded and a `SessionState`, which is data. State is never changed, only
followed by another: undo and redo walk the steps and run no network. Logits are kept of the last few steps; what is
needed of an earlier one is computed again from its prompts, and is the same to the bit. The same steps on the same scan
give the same bits. A step that is refused leaves everything as it was.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from medsam.chances import CompactChances
from medsam.errors import InputError, PromptError
from medsam.inference.candidates import Candidate
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.prompt_parts import PromptPart, as_prompts, drawn_first, first_asked, single_steps
from medsam.inference.propagate import Propagation
from medsam.inference.session_drawing import SessionDrawing
from medsam.inference.session_results import SessionResults
from medsam.inference.session_state import History, Objects, SessionState, SliceState, Step
from medsam.inference.slice_request import SliceResult, Zoom
from medsam.inference.whole_objects import FoundCallback, follow, followed, label_array
from medsam.inference.worker import Priority, Worker, through_worker
from medsam.masks import CompactMask
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.limits import ANY, Limits, SliceLimits, Values
from medsam.prompts.plan import plan
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt, SlicePrompt
from medsam.prompts.standing import Labels, Standing
from medsam.prompts.values import Box
from medsam.volume import LabelVolume

# Steps that can be undone; older ones stay as they are.
UNDO_STEPS = 1000


class Session(SessionDrawing):
    """Boxes, lassos, lines, masks, clicks and strokes on one scan, one after the other, with undo.

    Made by `Predictor.session` or `Predictor.resume`. zoom: as in `segment_slice`. tidy: how `labels` are cleaned.
    limits: what masks keep to, see `Limits`; a step that asks for more is refused.
    label: of the object that a step is about when it names none; each label is an object of its own.
    at_hand: whether steps are answered from the embeddings that are in memory, at once, and `refine` looks closer.
    Slice numbers count along the scan encoder's axis; positions are stored pixels, as in `Prompt`. For one thread at a
    time. Memory: some KB a step, for the last `UNDO_STEPS` of them, and the logits of a few.
    Raises PromptError for a `tidy` in mm on a scan without millimetres.
    """

    def __init__(
        self,
        scan_encoder: ScanEncoder,
        zoom: Zoom = "auto",
        label: str = DEFAULT_LABEL,
        tidy: Cleanup | None = None,
        limits: Limits | None = None,
        *,
        at_hand: bool = False,
    ) -> None:
        self.scan_encoder, self.zoom, self.label, self.tidy = scan_encoder, zoom, label, tidy or Cleanup()
        self.at_hand = at_hand
        self.tidy.check(scan_encoder.scan.geometry.calibrated)
        self.limits = limits or Limits()
        self.limits.check(scan_encoder.scan)
        self._history = History()
        # id -> name of labels that were there before the first step
        self._names: dict[int, str] = {}
        # of results to come
        self._numbers = itertools.count()
        self._results = SessionResults(scan_encoder, zoom)

    @classmethod
    def resume(cls, state: SessionState, scan_encoder: ScanEncoder, *, at_hand: bool = False) -> Session:
        """Go on with a stored state. scan_encoder: `SessionState.encoder_for` makes one that fits.

        Raises InputError for one that sees the scan along another axis or through another window.
        """
        seen = scan_encoder.plane.axis, scan_encoder.window, scan_encoder.wide_window, scan_encoder.scan.geometry
        if seen != (state.axis, state.window, state.wide_window, state.geometry):
            raise InputError("This session is of a scan of another grid, or seen along another axis or window.")
        session = cls(scan_encoder, state.zoom, state.label, state.tidy, state.limits, at_hand=at_hand)
        session._history = History.of(state.objects, state.steps, state.done)
        session._names = dict(state.names)
        session._numbers = itertools.count(1 + max((one.number for one in state.results), default=-1))
        return session

    @property
    def state(self) -> SessionState:
        """All of the session but scan and model, as data. Reads every voxel and weight once, to know them again."""
        scan_encoder, image_predictor = self.scan_encoder, self.scan_encoder.image_predictor
        return SessionState(
            model=image_predictor.name,
            weights=image_predictor.weights,
            engine=image_predictor.engine.name,
            precision=image_predictor.precision,
            geometry=scan_encoder.scan.geometry,
            voxels=scan_encoder.voxels,
            axis=scan_encoder.plane.axis,
            window=scan_encoder.window,
            wide_window=scan_encoder.wide_window,
            modality=scan_encoder.modality,
            zoom=self.zoom,
            tidy=self.tidy,
            label=self.label,
            objects=self._history.base,
            steps=self._history.steps,
            done=self._history.done,
            names=self._names,
            limits=self.limits,
        )

    # -- steps ----------------------------------------------------------------------------------------------------

    def start(
        self,
        labels: Labels | Standing,
        boxes: Mapping[str, Mapping[int, Box]] | None = None,
        likely: Mapping[str, Mapping[int, CompactChances]] | None = None,
    ) -> None:
        """Begin with labels that are there, a label map or masks by name on the scan's grid: what is to be corrected.

        They stay as they are, to the voxel, where no step is about them. A click or a stroke on a slice of one corrects
        its mask there (`corrections`); a box, or what else starts a slice, draws it anew. Their ids stay; where the
        session's own label is none of them, it becomes the first one's.
        boxes: label -> {slice: box} of masks that are what this model answered to a box alone. They stay likewise; a
        click corrects that answer, as if the box had been drawn here, and undo goes back to the mask.
        likely: likewise of others, how likely each pixel is in them (`likely_masks`): a mask is where that is more
        likely than not, and a click moves its outline most where that was unsure.
        This is no step, so it cannot be undone. Raises InputError for labels of another grid, for a mask that is not
        where it is said to be likely, and after a step, and PromptError for empty ones.
        """
        if self._history.steps or self._history.base:
            raise InputError("A session starts from labels before its first step: begin another one.")
        plane, geometry = self.scan_encoder.plane, self.scan_encoder.scan.geometry
        there = labels if isinstance(labels, Standing) else Standing.of(labels, geometry, plane.axis)
        there.check_likely(likely or {})
        standing = {
            name: {
                index: SliceState.of(
                    mask,
                    next(self._numbers),
                    (boxes or {}).get(name, {}).get(index),
                    (likely or {}).get(name, {}).get(index),
                )
                for index, mask in masks.items()
            }
            for name, masks in there.masks.items()
        }
        self._history = History.of(standing)
        self._names = dict(there.names)
        self.label = there.called(self.label)
        if self.label == DEFAULT_LABEL and self.label not in there.masks:
            self.label = next(iter(there.masks))

    def prompt(self, prompt: Prompt) -> SliceResult:
        """Take any prompt that is about one slice as one step: clicks and strokes alone correct what is there.

        Raises PromptError as the methods of `Steps` do, and for a prompt without a slice where there are several.
        """
        if prompt.drawn is not None:
            return self._draw(prompt)
        return self._correct(prompt) if prompt.clicked else self._begin(prompt)

    def undo(self) -> bool:
        """Go back to before the last step (a reset too); False when there is none, or it is too long ago."""
        return self._go(self._history.done - 1)

    def redo(self) -> bool:
        """Take the step again that `undo` took back; False when there is none, also after another step."""
        return self._go(self._history.done + 1)

    def reset(self) -> None:
        """Forget all prompts on every slice, and the start. Raises PromptError where `limits` keep that as it is."""
        self.limits.check_forgotten(label for label in self.states if self._stands(label))
        if any(self.states.values()):
            self._follow(Step())

    def forget(self, label: str | None = None) -> None:
        """Forget an object on every slice, and the start of it; a step. Raises PromptError as `reset`."""
        label = label or self.label
        self.limits.check_forgotten([label] if self._stands(label) else [])
        if self.states.get(label) != {}:
            self._follow(Step(label, dict.fromkeys(self.states.get(label, {}))))

    def keep_to(self, limits: Limits) -> None:
        """Limits from now on, which fit the scan: masks made under another range of values keep to that one."""
        if limits.values != self.limits.values:
            self._history = self._history.kept_to(self.limits.values or ANY)
        self.limits = limits

    @through_worker(Priority.SLICE)
    def refine(
        self, index: int, label: str | None = None, *, progress: ProgressCallback | None = None
    ) -> SliceResult | None:
        """The whole answer to what stands on a slice, where a closer look was not at hand (`at_hand`); None without a
        prompt.

        It takes the mask's place and is no step: undo goes back to before the prompt.
        progress: called before each crop; other steps may be taken then (`Worker`), and what they left stays.
        """
        label = label or self.label
        state = self.states.get(label, {}).get(index)
        if state is None or state.complete:
            return None if state is None else self._result(state, label, index)
        whole, kept = replace(state, complete=True, number=next(self._numbers)), self._kept(state)
        result = self._results.computed(whole, label, index, self._limits_on(index, kept), progress)
        # the range may have become another meanwhile
        values = None if kept == (self.limits.values or ANY) else kept
        refined = replace(SliceState.answered(state.parts, result, whole.number), values=values)
        self._history = self._history.with_result(state, refined)
        self._results.keep(refined, result)
        return result

    def candidates(self, index: int, label: str | None = None) -> list[Candidate]:
        """Other answers to what was asked of an object on a slice, the one that stands among them; best first.

        Masks are as `labels` has them. None where they hardly differ, and where a mask that stands is corrected.
        """
        label = label or self.label
        state, limits = self.states.get(label, {}).get(index), self._limits_on(index)
        return [] if state is None else self._results.candidates(state, label, index, limits, self.tidy)

    @through_worker(Priority.PROPAGATE)
    def propagate(
        self,
        label: str | None = None,
        *,
        max_mm: float = math.inf,
        found: FoundCallback | None = None,
        wanted: Callable[[], bool] | None = None,
        progress: ProgressCallback | None = None,
    ) -> Propagation:
        """Follow an object from its prompted slices through the volume (see `inference.propagate`), as one step.

        Slices with prompts of their own keep them, and get the mask as it is saved; what was propagated before is made
        anew. A click on a propagated slice corrects its mask.
        found: called with (slice, mask) for each mask on the way, before they are joined and cleaned. wanted: asked
        once a slice; False ends the way there, and what was found until then is kept. progress: see `propagate`; what
        it raises leaves no step. Other steps may be taken meanwhile (`Worker`): their slices stay theirs.
        Raises PromptError for an object without prompts, or one that `limits` keep as it is, and for max_mm on a scan
        without millimetres.
        """
        label = label or self.label
        before = {index: state for index, state in sorted(self.states.get(label, {}).items()) if not state.remade}
        if all(state.erased for state in before.values()):
            raise PromptError(f"There is no prompt of {label!r} to propagate: give it one on at least one slice.")
        seeds = {index: self._results.placed(state.parts, label, index) for index, state in before.items()}
        for index, seed in seeds.items():
            self._limits_on(index).check(seed, label, stands=self._stands(label))
        spread, solid = follow(
            self.scan_encoder, seeds, self.zoom, self.tidy, max_mm, progress=progress, found=found, wanted=wanted
        )
        now, plane = self.states.get(label, {}), self.scan_encoder.plane
        self._follow(Step(label, followed(spread, solid, plane, before, now, label, self._limits_on, self._numbers)))
        return spread

    def replay(self, prompts: Sequence[Prompt]) -> None:
        """Take the steps that lead to these prompts: on each slice the box or mask, then click after click.

        The `prompts` of one session give another on the same scan, with the same start, the same masks, bit by bit.
        Prompts of a single label are about the session's own object, whatever they call it.
        Raises PromptError when one lies outside or `limits` forbid it, or two objects of one label are on a slice; then
        no step is taken.
        """
        before = self._history
        try:
            self._replay(prompts)
        except PromptError:
            self._history = before
            raise

    def _replay(self, prompts: Sequence[Prompt]) -> None:
        corrections = [one for one in prompts if self._corrects(one)]
        for one in corrections:
            parts = (*self.states[one.label][one.slice or 0].parts, PromptPart(one))
            self._results.placed(parts, one.label, one.slice or 0)
        others = [one for one in prompts if one not in corrections]
        if others or not corrections:
            self._replay_anew(others)
        for one in corrections:
            for step in single_steps((*one.points, *one.scribbles), one.label, one.slice or 0):
                self._correct(step)

    def _corrects(self, prompt: Prompt) -> bool:
        """Whether a prompt is of clicks and strokes alone, about a mask that was there before."""
        state = self.states.get(prompt.label, {}).get(prompt.slice or 0)
        return prompt.clicked and state is not None and state.parts[0].standing

    def _replay_anew(self, prompts: Sequence[Prompt]) -> None:
        todo = plan(prompts, self.scan_encoder.scan.geometry, self.scan_encoder.plane.axis)
        for index, on_slice in todo.slices.items():
            if len({prompt.label for prompt in on_slice}) < len(on_slice):
                raise PromptError(
                    f"These prompts are about several objects of one label on slice {index}. Give them labels of "
                    "their own, or take a session each."
                )
        for index, on_slice in todo.slices.items():
            for prompt in on_slice:
                self._replay_slice(index, prompt, self.label if len(todo.names) == 1 else todo.names[prompt.label])

    def _replay_slice(self, index: int, prompt: SlicePrompt, label: str) -> None:
        first = drawn_first(prompt, label, index)
        if first is not None and first.drawn is not None:
            self._draw(first)
            for step in single_steps(prompt.marks, label, index):
                self._correct(step)
            return
        parts = () if first is None else (PromptPart.of(first, first.mask),)
        parts = (*parts, *(PromptPart(step) for step in single_steps(prompt.marks, label, index)))
        result = None
        # the network gets the clicks one at a time, as it did the first time
        for count in range(first_asked(parts), len(parts) + 1):
            placed = self._results.placed(parts[:count], label, index)
            result = self._step(label, index, parts[:count], placed, result)

    # -- what there is --------------------------------------------------------------------------------------------

    def result(self, index: int, label: str | None = None) -> SliceResult | None:
        """The result of an object on a slice as it stands; None where it has no prompt.

        That of a step long ago is computed again, bit by bit the same.
        """
        label = label or self.label
        state = self.states.get(label, {}).get(index)
        return None if state is None else self._result(state, label, index)

    def answer(self, index: int) -> SliceResult | None:
        """`result`, by its earlier name."""
        return self.result(index)

    @property
    def names(self) -> dict[int, str]:
        """Label id -> name of the objects: those of the start, `Session.label` (1), the others by first appearance."""
        known = set(self._names.values())
        others = [label for label in dict.fromkeys([self.label, *self.states]) if label not in known]
        return self._names | dict(enumerate(others, start=max(self._names, default=0) + 1))

    @property
    def labels(self) -> LabelVolume:
        """All masks as one label map on the scan's grid, cleaned by `tidy`; ready to be saved.

        Where objects overlap, the mask with the higher predicted IoU keeps the pixel.
        """
        plane, geometry, names = self.scan_encoder.plane, self.scan_encoder.scan.geometry, self.names
        array = label_array(self.states, names, geometry.shape, plane, self._cleaned, self.limits.locks)
        return LabelVolume(array, geometry, names)

    def cleaned(self, index: int, label: str | None = None) -> np.ndarray | None:
        """The mask of an object on a slice, bool (h, w), as `labels` has it where none overlap; None without."""
        label = label or self.label
        state = self.states.get(label, {}).get(index)
        return None if state is None else self._cleaned(state, label, index)

    @property
    def states(self) -> Objects:
        """What there is of each object, label -> {slice: state}; a state's number tells whether its mask is another."""
        return self._history.objects

    @property
    def incomplete(self) -> list[tuple[str, int]]:
        """Label and slice of what was answered from the embeddings at hand, and waits for `refine`."""
        each = ((label, index, state) for label, slices in self.states.items() for index, state in slices.items())
        return [(label, index) for label, index, state in each if not state.complete]

    @property
    def prompts(self) -> list[Prompt]:
        """One prompt an object and slice, by slice: as for a prompts file, or for `replay`.

        A click after a stroke begins a further prompt. Of masks that were there at the start only the clicks on them.
        """
        return [
            prompt
            for label in self.names.values()
            for index, state in sorted(self.states.get(label, {}).items())
            for prompt in as_prompts([part for part in state.parts if part.drawn or not part.standing], label, index)
        ]

    @property
    def seeds(self) -> dict[int, SlicePrompt]:
        """The prompts of the object `Session.label`, by slice: as propagation starts from."""
        return self.objects.get(self.label, {})

    @property
    def objects(self) -> dict[str, dict[int, SlicePrompt]]:
        """All prompts, by label and slice."""
        return {
            label: {index: self._results.placed(slices[index].parts, label, index, number) for index in sorted(slices)}
            for number, label in self.names.items()
            if (slices := self.states.get(label))
        }

    @property
    def worker(self) -> Worker | None:
        """On whose thread the network runs."""
        return self.scan_encoder.image_predictor.worker

    # -- how ------------------------------------------------------------------------------------------------------

    def _begin(self, prompt: Prompt) -> SliceResult:
        placed = self._results.checked([prompt])
        return self._step(prompt.label, prompt.slice or 0, (PromptPart.of(prompt, placed.mask),), placed, None)

    def _draw(self, prompt: Prompt) -> SliceResult:
        """Have a mask that was drawn in the place of what is there; none is asked of the network but corrections."""
        placed, label, index = self._results.checked([prompt]), prompt.label, prompt.slice or 0
        before, limits = self.states.get(label, {}).get(index), self._limits_on(index)
        limits.check(replace(placed, points=(), scribbles=()), label, stands=self._stands(label))
        drawn = np.zeros(self.scan_encoder.plane.shape, bool) if placed.mask is None else placed.mask
        mask = limits.applied(drawn, label, None if before is None else before.mask)
        state = SliceState.drawn_as(CompactMask.of(mask), next(self._numbers))
        if placed.marks:
            parts = (*state.parts, PromptPart(replace(prompt, drawn=None)))
            return self._step(label, index, parts, replace(placed, mask=mask), None)
        # nothing where nothing was, and what is so already, are no steps
        if (before is None and not mask.any()) or (before is not None and before.parts == state.parts):
            return SliceResult.of_mask(mask)
        self._follow(Step(label, {index: state}))
        return SliceResult.of_mask(mask)

    def _correct(self, prompt: Prompt) -> SliceResult:
        """Add a click or a stroke to what was said of its object on its slice."""
        label, index = prompt.label, prompt.slice or 0
        before = self.states.get(label, {}).get(index)
        if before is None or before.erased:
            return self._begin(prompt)
        before = before.asked(label, index)
        parts = (*before.parts, PromptPart(prompt))
        placed, known = self._results.placed(parts, label, index), self._results.placed(before.parts, label, index)
        if placed.marks == known.marks:
            return self._result(before, label, index)
        previous = self._results.previous(before, label, index, self._limits_on(index, self._kept(before)))
        # what was said before may lie in what was locked since
        said = placed.marked(placed.marks[len(known.marks) :])
        return self._step(label, index, parts, placed, previous, said)

    def _step(
        self,
        label: str,
        index: int,
        parts: tuple[PromptPart, ...],
        prompt: SlicePrompt,
        previous: SliceResult | None,
        said: SlicePrompt | None = None,
    ) -> SliceResult:
        """said: what of the prompt is new; default: all."""
        before, limits = self.states.get(label, {}).get(index), self._limits_on(index)
        limits.check(said or prompt, label, stands=self._stands(label))
        result = self._results.segment(index, prompt, previous, self.at_hand)
        replaced = None if before is None else before.mask
        result = replace(result, mask=limits.applied(result.mask, label, replaced, prompt))
        state = SliceState.answered(parts, result, next(self._numbers))
        self._follow(Step(label, {index: state}))
        self._results.keep(state, result)
        return result

    def _result(self, state: SliceState, label: str, index: int) -> SliceResult:
        return self._results.result(state, label, index, self._limits_on(index, self._kept(state)))

    def _cleaned(self, state: SliceState, label: str, index: int) -> np.ndarray:
        limits = self._limits_on(index, self._kept(state), drawn=False)
        return self._results.cleaned(state, label, index, limits, self.tidy)

    def _stands(self, label: str) -> bool:
        return any(state.standing for state in self.states.get(label, {}).values())

    def _kept(self, state: SliceState) -> Values:
        """The range of values that a mask was kept to."""
        return state.values or self.limits.values or ANY

    def _limits_on(self, index: int, values: Values | None = None, *, drawn: bool = True) -> SliceLimits:
        # a mask does not change when another is locked later: of what was drawn in the session only steps keep clear
        there = {
            name: slices[index].mask
            for name, slices in self.states.items()
            if index in slices and (slices[index].standing or (drawn and self.limits.locks(name)))
        }
        return self.limits.on_slice(self.scan_encoder.scan, self.scan_encoder.plane, index, there, values)

    def _go(self, done: int) -> bool:
        history = self._history.at(done)
        self._history = history or self._history
        return history is not None

    def _follow(self, step: Step) -> None:
        self._history = self._history.followed_by(step, UNDO_STEPS)
