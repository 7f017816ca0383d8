"""What an evaluation measures: the kinds of prompts, the boxes' jitter, the window, the zoom."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from medsam.errors import PromptError
from medsam.evaluation.tables import ORACLE
from medsam.geometry import Axis
from medsam.inference.slice_request import Zoom
from medsam.labels import DEFAULT_TOLERANCE_MM, tolerance_mm
from medsam.prompts.simulate import MIN_PIXELS
from medsam.transforms.intensity import fixed_window

_PROMPT = re.compile(r"(?P<kind>box|point|mask|propagate)|(?P<boxed>box\+)?points:(?P<clicks>[1-9]\d?)")


@dataclass(frozen=True)
class PromptSetting:
    """One kind of prompt, and one row of the tables for every structure.

    kind: what comes first; "propagate" is the box of one slice for the whole volume. jitter_px: of the box.
    clicks: how many follow (or, for "points", are all there is).
    """

    kind: Literal["box", "points", "mask", "propagate"]
    jitter_px: int = 0
    clicks: int = 0

    @property
    def name(self) -> str:
        """How the tables call it: "box", "box+5px", "point", "points:3", "box+5px+points:3", "mask", "propagate"."""
        if self.kind == "points":
            return "point" if self.clicks == 1 else f"points:{self.clicks}"
        moved = f"+{self.jitter_px}px" if self.jitter_px else ""
        return f"{self.kind}{moved}{f'+points:{self.clicks}' if self.clicks else ''}"


@dataclass(frozen=True)
class Protocol:
    """What is asked, so that a run can be repeated.

    prompts: of "box", "point" (the same as "points:1"), "points:N", "box+points:N" (N up to 99), "mask" and
    "propagate"; the first is the run's primary prompt. jitter_px: each edge of a box moves outwards by a whole number
    of pixels drawn uniformly from [0, N]; every prompt with a box is asked with each of these, the first of them
    first. oracle: also the best of three masks for the box on the whole slice, chosen by the reference.
    seed: of jitter and rough masks. window, axis, zoom, keep_islands: as for `medsam segment`.
    tolerance_mm: of the NSD; None takes each organ's own from `labels`.
    """

    prompts: tuple[str, ...] = ("box",)
    jitter_px: tuple[int, ...] = (0,)
    oracle: bool = False
    seed: int = 0
    window: str = "auto"
    axis: Axis | None = None
    zoom: Zoom = "auto"
    keep_islands: bool = False
    min_pixels: int = MIN_PIXELS
    tolerance_mm: float | None = DEFAULT_TOLERANCE_MM

    def __post_init__(self) -> None:
        if not self.jitter_px or min(self.jitter_px) < 0 or len(set(self.jitter_px)) != len(self.jitter_px):
            raise PromptError(
                f"`jitter_px` takes different whole numbers from 0, not {self.jitter_px}.", parameter="jitter_px"
            )
        settings = self.settings
        if not settings:
            raise PromptError("`prompts` needs at least one kind of prompt, for example box.", parameter="prompts")
        if len({setting.name for setting in settings}) < len(settings):
            raise PromptError(f"`prompts` names one prompt twice: {' '.join(self.prompts)}.", parameter="prompts")
        if max(self.jitter_px) and not any(setting.kind in ("box", "propagate") for setting in settings):
            raise PromptError(
                f"`jitter_px` moves boxes, and `prompts` {' '.join(self.prompts)} has none.",
                parameter=("jitter_px", "prompts"),
            )
        if self.oracle and "box" not in self.prompts:
            raise PromptError(
                "`oracle` is the best of three masks for a box: add box to `prompts`.", parameter=("oracle", "prompts")
            )
        if self.seed < 0:
            raise PromptError(f"`seed` takes a whole number from 0, not {self.seed}.", parameter="seed")
        if self.zoom not in get_args(Zoom):
            raise PromptError(f"There is no zoom {self.zoom!r}; use {', '.join(get_args(Zoom))}.")
        fixed_window(self.window)
        if self.tolerance_mm is not None and not 0 <= self.tolerance_mm < np.inf:
            raise PromptError(
                f"`tolerance_mm` takes millimetres from 0 or the word organ, not {self.tolerance_mm}.",
                parameter="tolerance_mm",
            )

    @property
    def settings(self) -> tuple[PromptSetting, ...]:
        """All that is asked of a structure; the first is the primary one."""
        return tuple(setting for prompt in self.prompts for setting in _settings_of(prompt, self.jitter_px))

    @property
    def names(self) -> tuple[str, ...]:
        """What the column `prompt` can hold, the primary one first."""
        return (*(setting.name for setting in self.settings), *([ORACLE] if self.oracle else []))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        said = asdict(self)
        return {"prompt": " ".join(said.pop("prompts")), **said, "jitter_px": list(self.jitter_px)}

    def tolerance_of(self, structure: str) -> float:
        """Millimetres (for a picture without a physical size, pixels)."""
        return tolerance_mm(structure) if self.tolerance_mm is None else self.tolerance_mm


def _settings_of(prompt: str, jitter_px: tuple[int, ...]) -> list[PromptSetting]:
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        raise PromptError(
            f"There is no prompt {prompt!r}; use box, point, points:N, box+points:N, mask or propagate, N from 1 to 99."
        )
    kind = match["kind"] or ("box" if match["boxed"] else "points")
    clicks = int(match["clicks"] or 0)
    if kind == "point":
        return [PromptSetting("points", clicks=1)]
    if kind == "points":
        return [PromptSetting("points", clicks=clicks)]
    if kind == "mask":
        return [PromptSetting("mask")]
    boxed: Literal["box", "propagate"] = "propagate" if kind == "propagate" else "box"
    return [PromptSetting(boxed, jitter, clicks) for jitter in jitter_px]
