"""The prompt of an object on a slice as the steps of a session left it: part by part, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medsam.chances import CompactChances
from medsam.masks import CompactMask
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.prompts.strokes import ClickOrStroke, Scribble
from medsam.prompts.values import Box

# of a part of a prompt, as they are written
FLAGS = ("standing", "propagated", "drawn", "found")


@dataclass(frozen=True)
class PromptPart:
    """What one step added on a slice. prompt: all but its mask, None where that is all. mask: (h, w).

    standing: the mask was there before the clicks on it, which change of it what they touch: before the session, or
    propagated from other slices, or drawn on this one, where an empty one says that the object is not here. found: what
    was drawn is what a head found, and no hand's. box: of a mask that was there before the session, the one whose
    answer by this model it is: the first click on it corrects that answer. likely: of such a mask without a box, how
    likely each pixel is in it: by that clicks correct it.
    """

    prompt: Prompt | None
    mask: CompactMask | None = None
    standing: bool = False
    propagated: bool = False
    drawn: bool = False
    found: bool = False
    box: Box | None = None
    likely: CompactChances | None = None

    @classmethod
    def of(cls, prompt: Prompt, mask: np.ndarray | None) -> PromptPart:
        """mask: of the prompt, bool (h, w) on its slice; of a lasso, which is its corners, it is not kept."""
        if mask is None or prompt.mask is None:
            return cls(prompt)
        more = prompt.box or prompt.points or prompt.scribbles or prompt.lines or prompt.ellipse
        return cls(replace(prompt, mask=None) if more else None, CompactMask.of(mask))

    def to_dict(self) -> dict[str, Any]:
        """An entry of a prompts file without label and slice."""
        entry = {} if self.prompt is None else self.prompt.to_dict()
        part = {key: value for key, value in entry.items() if key not in ("label", "slice")}
        if self.mask is not None:
            part["mask"] = self.mask.to_dict()
        if self.box is not None:
            part["box"] = list(self.box)
        if self.likely is not None:
            part["likely"] = self.likely.to_dict()
        return part | {name: True for name in FLAGS if getattr(self, name)}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any], label: str, index: int, shape: tuple[int, int]) -> PromptPart:
        """shape: of the slice. The mask of an entry may be one already."""
        part = dict(entry)
        mask = part.pop("mask", None)
        flags = {name: part.pop(name, False) for name in FLAGS}
        standing, propagated, drawn, found = flags.values()
        box, likely = None, None
        if standing and not (propagated or drawn):
            if "box" in part:
                # refused as that of a prompt would be
                box = Prompt.from_dict({"label": label, "slice": index, "box": part.pop("box")}).box
            elif "likely" in part:
                likely = CompactChances.from_dict(part.pop("likely"), shape)
        if set(flags.values()) - {True, False} or (standing and (mask is None or part)):
            raise ValueError("standing")
        if propagated + drawn > standing or found > drawn:
            raise ValueError("propagated, drawn or found")
        return cls(
            Prompt.from_dict({**part, "label": label, "slice": index}) if part else None,
            mask if mask is None or isinstance(mask, CompactMask) else CompactMask.from_dict(mask, shape),
            **flags,
            box=box,
            likely=likely,
        )


def _joined(parts: Sequence[PromptPart], label: str, index: int) -> Prompt:
    """All parts on slice `index` as one prompt. parts: at least one; all but the first are clicks and strokes."""
    prompts = [one.prompt for one in parts if one.prompt is not None]
    masks: dict[str, Any] = {
        "drawn" if one.drawn else "mask": one.mask.to_array() for one in parts if one.mask is not None
    }
    first = replace(prompts[0], **masks) if prompts else Prompt(label, slice=index, **masks)
    return replace(
        first,
        points=tuple(point for one in prompts for point in one.points),
        scribbles=tuple(scribble for one in prompts for scribble in one.scribbles),
    )


def as_prompts(parts: Sequence[PromptPart], label: str, index: int) -> list[Prompt]:
    """The parts on slice `index` as few prompts as say in which order they came: in each, points before scribbles."""
    runs: list[list[PromptPart]] = []
    for part in parts:
        last = runs[-1][-1].prompt if runs else None
        points_again = part.prompt is not None and part.prompt.points and last is not None and last.scribbles
        if runs and not points_again:
            runs[-1].append(part)
        else:
            runs.append([part])
    return [_joined(run, label, index) for run in runs]


def single_steps(marks: Iterable[ClickOrStroke], label: str, index: int) -> list[Prompt]:
    """Every click and stroke on slice `index` as a step of its own."""
    return [
        Prompt(label, slice=index, scribbles=(one,))
        if isinstance(one, Scribble)
        else Prompt(label, slice=index, points=(one,))
        for one in marks
    ]


def first_asked(parts: Sequence[PromptPart]) -> int:
    """With how many of the parts the network was first asked.

    A mask that stands goes to it with the first click on it, and what lies outside with the first thing that says
    where the object is.
    """
    if parts[0].standing:
        return 2
    said = [part.mask is not None or part.prompt is None or part.prompt.says_inside for part in parts]
    return 1 if not _clicked(parts[0]) else said.index(True) + 1


def _clicked(part: PromptPart) -> bool:
    """Whether it is of clicks and strokes alone."""
    return part.mask is None and part.prompt is not None and part.prompt.clicked


def clicks_first(parts: Sequence[PromptPart]) -> tuple[PromptPart, ...]:
    """In the order in which they counted before they had one."""
    return tuple(sorted(parts, key=lambda part: _clicked(part) and part.prompt is not None and not part.prompt.points))


def drawn_first(prompt: SlicePrompt, label: str, index: int) -> Prompt | None:
    """What a slice starts from, as it was given: all of `prompt` but clicks and strokes; None where that is all."""
    if prompt.box is None and prompt.mask is None:
        return None
    if prompt.drawn:
        return Prompt(label, slice=index, drawn=prompt.mask)
    return Prompt(
        label,
        box=prompt.box if prompt.ellipse is None and not prompt.lines else None,
        slice=index,
        mask=prompt.mask if prompt.lasso is None else None,
        lasso=prompt.lasso,
        lines=prompt.lines,
        ellipse=prompt.ellipse,
    )
