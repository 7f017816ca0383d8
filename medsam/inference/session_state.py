"""What a session is, as data: of which scan and model, the prompts step by step, and the masks they gave.

A state never changes and holds no logits: masks are compact, prompts are what the user put. It goes into JSON and back
exactly, so a session can be stored, moved to another process and go on: what the network needs of earlier steps is
computed again from the prompts (`Session`), bit by bit on the same scan, model and engine.

    objects   label -> {slice: `SliceState`}, as they were before the first step that can be undone; a step may be about
              many slices of an object, as propagation is
    steps     what can be undone, then, from `done` on, what can be done again
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from medsam.chances import CompactChances
from medsam.errors import InputError
from medsam.geometry import Axis, VolumeGeometry
from medsam.inference.documents import headed, reading, whole
from medsam.inference.image_predictor import ImagePredictor, ScanEncoder
from medsam.inference.prompt_parts import PromptPart, as_prompts, clicks_first
from medsam.inference.slice_request import SliceResult, Zoom
from medsam.inference.trust import ExpectedDice
from medsam.masks import CompactMask
from medsam.postprocess.clean import Cleanup
from medsam.prompts.limits import Limits, Values
from medsam.prompts.plan import plan
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt
from medsam.prompts.values import Box
from medsam.transforms.intensity import IntensityWindow, window_notes
from medsam.volume import Volume

KIND, VERSION = "medsam session", 1
# of one with limits: who does not know them would leave them out
_LIMITED = 2
# of one with clicks and strokes on a slice, in their order: before, clicks came first whatever the order of steps
_ORDERED = 3
# of one with steps that are about many slices, and what they left
_PROPAGATED = 4
# of one with masks that are what was drawn
_DRAWN = 5
# of one with masks that heads found
_FOUND = 6
# of one that begins from masks with the boxes whose answers they are
_ANSWERS = 7
# of one that begins from masks of which is known how likely each pixel is in them
_LIKELY = 8


@dataclass(frozen=True)
class SliceState:
    """An object on a slice. parts: its prompt, step by step. mask: (h, w), as the network gave it.

    predicted_iou: of the mask; 1 for one that was there before, and stands. number: of the result, counted from the
    session's first; never given twice. complete: see `SliceResult`. cleaned: whether the mask is as it will be saved.
    confidence: of a propagated mask, see `Propagation`. values: the range that the mask was kept to, `ANY` for none,
    where the session has another by now; not in documents, which are of sessions that have one. expected_dice: see
    `SliceResult`.
    """

    parts: tuple[PromptPart, ...]
    mask: CompactMask
    predicted_iou: float
    number: int
    complete: bool = True
    cleaned: bool = False
    confidence: float | None = None
    values: Values | None = None
    expected_dice: ExpectedDice | None = None

    @classmethod
    def of(
        cls, mask: CompactMask, number: int, box: Box | None = None, likely: CompactChances | None = None
    ) -> SliceState:
        """A mask that was there before the session. box, likely: see `PromptPart`."""
        return cls((PromptPart(None, mask, standing=True, box=box, likely=likely),), mask, 1.0, number)

    @classmethod
    def answered(cls, parts: tuple[PromptPart, ...], result: SliceResult, number: int) -> SliceState:
        """What the network answered."""
        mask, expected = CompactMask.of(result.mask), result.expected_dice
        return cls(parts, mask, result.predicted_iou, number, result.complete, expected_dice=expected)

    @classmethod
    def drawn_as(cls, mask: CompactMask, number: int, *, found: bool = False) -> SliceState:
        """A mask that was drawn. found: by a head."""
        return cls((PromptPart(None, mask, standing=True, drawn=True, found=found),), mask, 1.0, number)

    @property
    def standing(self) -> bool:
        """Whether it is a mask that was there before the session, corrected or not."""
        return self.parts[0].standing and not (self.parts[0].propagated or self.parts[0].drawn)

    @property
    def drawn(self) -> bool:
        """Whether it is a mask that was drawn, corrected or not."""
        return self.parts[0].drawn

    @property
    def by_hand(self) -> bool:
        """Whether it is exactly what a hand drew."""
        return self.untouched and self.drawn and not self.parts[0].found

    @property
    def erased(self) -> bool:
        """Whether it says that the object is not on this slice."""
        return self.untouched and self.drawn and not self.mask

    @property
    def propagated(self) -> bool:
        """Whether it is a mask that was propagated, corrected or not."""
        return self.parts[0].propagated

    @property
    def untouched(self) -> bool:
        """Whether nothing was asked of a mask that was there before the clicks on it."""
        return len(self.parts) == 1 and self.parts[0].standing

    @property
    def remade(self) -> bool:
        """Whether it is a propagated mask that nothing was asked of: the next propagation makes it anew."""
        return self.propagated and self.untouched

    @property
    def clicked_and_stroked(self) -> bool:
        """Whether there are clicks and strokes, whose order counts."""
        said = [part.prompt for part in self.parts if part.prompt is not None]
        return any(one.points for one in said) and any(one.scribbles for one in said)

    @property
    def ambiguous(self) -> bool:
        """Whether one click is all that was asked, which may mean a part or the whole (Kirillov et al. 2023)."""
        (first, *more) = self.parts
        if more or first.mask is not None or first.prompt is None:
            return False
        return first.prompt.clicked and len(first.prompt.points) == 1 and not first.prompt.scribbles

    def asked(self, label: str, index: int) -> SliceState:
        """As the next click finds it: what a model answered to a box is that again, and no mask that stands."""
        box = self.parts[0].box
        return self if box is None else replace(self, parts=(PromptPart(Prompt(label, box=box, slice=index)),))

    def kept(self, before: SliceState | None) -> int:
        """How many parts of its prompt a step found there: all of those before, or none."""
        known = () if before is None else before.parts
        return len(known) if self.parts[: len(known)] == known else 0


@dataclass(frozen=True)
class Step:
    """What a step left of the object `label`, by slice; None where it is no more. Without a label all was forgotten."""

    label: str = ""
    after: Mapping[int, SliceState | None] = field(default_factory=dict)


Objects = Mapping[str, Mapping[int, SliceState]]


def after_steps(objects: Objects, steps: Iterable[Step]) -> Objects:
    """The objects with steps taken. Labels are in order of first appearance; one that was forgotten has no slices, also
    after all was forgotten."""
    for step in steps:
        if not step.label:
            objects = {label: slices for label, slices in objects.items() if not slices}
        else:
            slices = {**objects.get(step.label, {}), **step.after}
            objects = {**objects, step.label: {index: one for index, one in slices.items() if one is not None}}
    return objects


@dataclass(frozen=True)
class History:
    """The steps that can be undone and, from `done` on, done again. base, objects: before them, and as it stands.

    Never changed, only followed by another.
    """

    base: Objects = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    done: int = 0
    objects: Objects = field(default_factory=dict)

    @classmethod
    def of(cls, base: Objects, steps: tuple[Step, ...] = (), done: int = 0) -> History:
        return cls(base, steps, done, after_steps(base, steps[:done]))

    def at(self, done: int) -> History | None:
        """With so many steps done; None where there are not so many."""
        return self.of(self.base, self.steps, done) if 0 <= done <= len(self.steps) else None

    def followed_by(self, step: Step, most: int) -> History:
        """What was undone is gone; of more than `most` steps the first can no longer be undone."""
        steps = (*self.steps[: self.done], step)
        past, kept = steps[:-most], steps[-most:]
        return History(after_steps(self.base, past), kept, len(kept), after_steps(self.objects, [step]))

    def with_result(self, before: SliceState, after: SliceState) -> History:
        """With a result in place of another of the same prompts, wherever that stands."""
        return self._with(lambda one: after if one.number == before.number else one)

    def kept_to(self, values: Values) -> History:
        """With the range that all masks were kept to, but for those that know theirs."""
        return self._with(lambda one: one if one.values is not None else replace(one, values=values))

    def _with(self, change: Callable[[SliceState], SliceState]) -> History:
        """With each result as `change` has it, wherever it stands."""

        def changed(slices: Mapping[int, Any]) -> dict[int, Any]:
            return {index: None if one is None else change(one) for index, one in slices.items()}

        base, objects = (
            {label: changed(slices) for label, slices in there.items()} for there in (self.base, self.objects)
        )
        steps = []
        for step in self.steps:
            after = changed(step.after)
            steps.append(
                step if all(after[index] is one for index, one in step.after.items()) else replace(step, after=after)
            )
        return History(base, tuple(steps), self.done, objects)


@dataclass(frozen=True)
class SessionState:
    """See the top of this file.

    model, weights: name of the model, and a digest of all its weights. engine, precision: who computed; others give
    the same masks but for rounding. geometry, voxels: grid of the scan, and a digest of its voxels. window,
    wide_window: as in `ScanEncoder`. limits: what masks keep to. label: of the object that steps are about when they
    name none.
    """

    model: str
    weights: str
    engine: str
    precision: str
    geometry: VolumeGeometry
    voxels: str
    axis: Axis
    window: IntensityWindow
    wide_window: IntensityWindow | None
    modality: str | None
    zoom: Zoom
    tidy: Cleanup
    label: str = DEFAULT_LABEL
    objects: Objects = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    done: int = 0
    names: Mapping[int, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def encoder_for(self, image_predictor: ImagePredictor, scan: Volume) -> ScanEncoder:
        """The scan, ready to be encoded as in the session. Raises InputError when either is another one."""
        if image_predictor.name != self.model or image_predictor.weights != self.weights:
            raise InputError(
                f"This session was made with the model {self.model} (weights {self.weights[:8]}), not with "
                f"{image_predictor.name} (weights {image_predictor.weights[:8]}). Load that one."
            )
        if scan.geometry != self.geometry:
            raise InputError("This session is of another scan: this one has another grid. Load that one.")
        plane, notes = scan.geometry.plane(self.axis), window_notes(scan, self.window, self.window, self.modality)
        scan_encoder = ScanEncoder(image_predictor, scan, plane, self.window, self.wide_window, notes, self.modality)
        if scan_encoder.voxels != self.voxels:
            raise InputError("This session is of another scan: this one has other voxels. Load that one.")
        return scan_encoder

    @property
    def results(self) -> Iterator[SliceState]:
        """Of all slices and steps."""
        for slices in (*self.objects.values(), *(step.after for step in self.steps)):
            yield from filter(None, slices.values())

    @property
    def _version(self) -> int:
        """The lowest whose readers understand it."""
        first = [state.parts[0] for state in self.results]
        for version, flag in ((_LIKELY, "likely"), (_ANSWERS, "box"), (_FOUND, "found"), (_DRAWN, "drawn")):
            if any(getattr(one, flag) for one in first):
                return version
        many = any(len(step.after) != 1 or None in step.after.values() for step in self.steps if step.label)
        if many or any(state.propagated or state.cleaned for state in self.results):
            return _PROPAGATED
        if any(state.clicked_and_stroked for state in self.results):
            return _ORDERED
        return VERSION if self.limits == Limits() else _LIMITED

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        before = self.objects
        steps = []
        for step in self.steps:
            steps.append(_step_to_dict(step, before))
            before = after_steps(before, [step])
        return headed(
            KIND,
            self._version,
            {
                "model": {
                    "name": self.model,
                    "weights": self.weights,
                    "engine": self.engine,
                    "precision": self.precision,
                },
                "scan": {"geometry": self.geometry.to_dict(), "voxels": self.voxels},
                "axis": self.axis,
                "window": self.window.to_dict(),
                "wide_window": None if self.wide_window is None else self.wide_window.to_dict(),
                "modality": self.modality,
                "zoom": self.zoom,
                "tidy": asdict(self.tidy),
                "label": self.label,
                "objects": [
                    _slice_to_dict(label, index, state, {})
                    for label, slices in self.objects.items()
                    for index, state in slices.items()
                ],
                "steps": steps,
                "done": self.done,
                **({"names": {str(number): name for number, name in self.names.items()}} if self.names else {}),
                **({"limits": limits} if (limits := self.limits.to_dict()) else {}),
            },
        )

    @classmethod
    def from_dict(cls, document: Any) -> SessionState:
        """The other way. Raises InputError for a document of another kind or version, and a damaged one."""
        with reading(
            document, KIND, VERSION, _LIMITED, _ORDERED, _PROPAGATED, _DRAWN, _FOUND, _ANSWERS, _LIKELY
        ) as found:
            geometry, axis = VolumeGeometry.from_dict(found["scan"]["geometry"]), found["axis"]
            reader = _StepReader(geometry, axis, ordered=found["version"] >= _ORDERED)
            objects = after_steps({}, reader.steps(found["objects"], {}))
            steps = tuple(reader.steps(found["steps"], objects))
            model, wide_window, modality = found["model"], found["wide_window"], found["modality"]
            tidy = Cleanup(**found["tidy"])
            tidy.check(geometry.calibrated)
            if found["zoom"] not in get_args(Zoom) or not isinstance(modality, str | None):
                raise ValueError("zoom or modality")
            return cls(
                model=str(model["name"]),
                weights=str(model["weights"]),
                engine=str(model["engine"]),
                precision=str(model["precision"]),
                geometry=geometry,
                voxels=str(found["scan"]["voxels"]),
                axis=axis,
                window=IntensityWindow.from_dict(found["window"]),
                wide_window=None if wide_window is None else IntensityWindow.from_dict(wide_window),
                modality=modality,
                zoom=found["zoom"],
                tidy=tidy,
                label=str(found["label"]),
                objects=objects,
                steps=steps,
                done=whole(found["done"], 0, len(steps) + 1),
                names={int(number): str(name) for number, name in found.get("names", {}).items()},
                limits=Limits.from_dict(found.get("limits", {}), geometry.shape),
            )


def _step_to_dict(step: Step, before: Objects) -> dict[str, Any]:
    """before: the objects the step found. Their parts of the prompt are not written again."""
    if not step.label:
        return {"reset": True}
    slices = [_slice_to_dict(step.label, index, state, before) for index, state in step.after.items()]
    return slices[0] if len(slices) == 1 else {"label": step.label, "slices": slices}


def _slice_to_dict(label: str, index: int, state: SliceState | None, before: Objects) -> dict[str, Any]:
    if state is None:
        return {"label": label, "slice": index, "gone": True}
    kept = state.kept(before.get(label, {}).get(index))
    return {
        "label": label,
        "slice": index,
        "kept": kept,
        "parts": [one.to_dict() for one in state.parts[kept:]],
        "mask": state.mask.to_dict(),
        "predicted_iou": state.predicted_iou,
        "number": state.number,
        **({} if state.complete else {"complete": False}),
        **({"cleaned": True} if state.cleaned else {}),
        **({} if state.confidence is None else {"confidence": state.confidence}),
        **({} if state.expected_dice is None else {"expected_dice": asdict(state.expected_dice)}),
    }


@dataclass(frozen=True)
class _StepReader:
    """Steps of a document. numbers: of results that were read already; grows.

    ordered: whether clicks and strokes count in their order.
    """

    geometry: VolumeGeometry
    axis: Axis
    ordered: bool
    numbers: set[int] = field(default_factory=set)

    def steps(self, documents: Iterable[Mapping[str, Any]], objects: Objects) -> Iterator[Step]:
        """objects: those that the first of the steps found."""
        for one in documents:
            step = Step()
            if not one.get("reset"):
                slices = one.get("slices", [one])
                label = str(one["label"])
                if not label or any(str(each["label"]) != label for each in slices):
                    raise ValueError("label")
                step = Step(label, dict(self._slice(each, objects.get(label, {})) for each in slices))
            objects = after_steps(objects, [step])
            yield step

    def _slice(self, one: Mapping[str, Any], known: Mapping[int, SliceState]) -> tuple[int, SliceState | None]:
        plane = self.geometry.plane(self.axis)
        label, index = str(one["label"]), whole(one["slice"], 0, plane.count)
        if one.get("gone"):
            return index, None
        before = known[index].parts if index in known else ()
        kept = whole(one["kept"], 0, len(before) + 1)
        parts = (*before[:kept], *(PromptPart.from_dict(part, label, index, plane.shape) for part in one["parts"]))
        parts = parts if self.ordered else clicks_first(parts)
        # refused now, not when it is used
        plan(as_prompts(parts, label, index), self.geometry, self.axis)
        mask, number = CompactMask.from_dict(one["mask"], plane.shape), whole(one["number"], 0, 2**53)
        predicted_iou, complete, cleaned = float(one["predicted_iou"]), one.get("complete", True), one.get("cleaned")
        if number in self.numbers or not math.isfinite(predicted_iou) or {complete, bool(cleaned)} - {True, False}:
            raise ValueError(f"result {number}")
        self.numbers.add(number)
        sure = one.get("confidence")
        confidence = None if sure is None else float(sure)
        expected = ExpectedDice.from_dict(one.get("expected_dice"))
        state = SliceState(parts, mask, predicted_iou, number, complete, bool(cleaned), confidence)
        return index, replace(state, expected_dice=expected)
