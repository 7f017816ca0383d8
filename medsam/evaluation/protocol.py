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
from medsam.prompts.simulate import MIN_PIXELS, Noise
from medsam.transforms.intensity import fixed_window

# what a structure may be asked with before anything is corrected
First = Literal["box", "mask", "lasso", "line", "lines", "ellipse", "scribble-pair"]
# what a user corrects with
CorrectedBy = Literal["points", "scribbles"]

_CORRECTIONS = re.compile(r"(?P<by>points|scribbles):(?P<count>[1-9]\d?)")
_ONE = {"point": "points:1", "scribble": "scribbles:1"}
_JITTERED = ("box", "propagate")
# fields of a protocol that were added later, as they were before
_LATER = {"noise": "clean", "slices": None, "every": 1}


@dataclass(frozen=True)
class PromptSetting:
    """One kind of prompt, and one row of the tables for every structure.

    first: what comes first; "propagate" is the box of one slice for the whole volume, "auto" no prompt at all; None:
        the first correction.
    jitter_px: of the box. by, corrections: with what a user corrects the answer, and how often.
    """

    first: First | Literal["propagate", "auto"] | None
    jitter_px: int = 0
    by: CorrectedBy = "points"
    corrections: int = 0

    @property
    def name(self) -> str:
        """How the tables call it: "box", "box+5px", "point", "points:3", "box+5px+points:3", "lasso", "scribble"."""
        corrected = [f"{self.by}:{self.corrections}"] if self.corrections else []
        if self.first is None:
            return next((name for name, alike in _ONE.items() if [alike] == corrected), corrected[0])
        return "+".join([self.family, *corrected])

    @property
    def family(self) -> str:
        """What it has in common with those that are corrected more or less often: "box+5px", or the corrections."""
        if self.first is None:
            return self.by
        return f"{self.first}+{self.jitter_px}px" if self.jitter_px else self.first


@dataclass(frozen=True)
class Protocol:
    """What is asked, so that a run can be repeated.

    prompts: each of `First` ("box", "mask", "lasso", ...), alone or with corrections ("box+points:N",
    "box+scribbles:N", N up to 99); corrections alone ("points:N", "scribbles:N"; "point" and "scribble" are one); or
    "propagate"; or "auto", what a detector finds. The first is the run's primary prompt. jitter_px: each edge of a box
    moves outwards by a whole number of pixels drawn uniformly from [0, N]; every prompt with a box is asked with each
    of these, the first of them first. noise: how exactly a user draws all but boxes, see `prompts.simulate`.
    oracle: also the best of three masks for the box on the whole slice, chosen by the reference.
    seed: of all that is drawn. slices: most of each structure in a case, evenly spread; None: all. every: of
    neighbouring slices only every so many are there at all, for the prompt "auto" too.
    window, axis, zoom, keep_islands: as for `medsam segment`.
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
    noise: Noise = "clean"
    slices: int | None = None
    every: int = 1
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
        if max(self.jitter_px) and not any(setting.first in _JITTERED for setting in settings):
            raise PromptError(
                f"`jitter_px` moves boxes, and `prompts` {' '.join(self.prompts)} has none.",
                parameter=("jitter_px", "prompts"),
            )
        if self.oracle and "box" not in self.prompts:
            raise PromptError(
                "`oracle` is the best of three masks for a box: add box to `prompts`.", parameter=("oracle", "prompts")
            )
        self._check_numbers()
        fixed_window(self.window)

    def _check_numbers(self) -> None:
        if self.seed < 0:
            raise PromptError(f"`seed` takes a whole number from 0, not {self.seed}.", parameter="seed")
        if self.noise not in get_args(Noise):
            raise PromptError(f"`noise` is {' or '.join(get_args(Noise))}, not {self.noise!r}.", parameter="noise")
        if self.every < 1:
            raise PromptError(f"`every` takes a whole number from 1, not {self.every}.", parameter="every")
        if self.slices is not None and self.slices < 1:
            raise PromptError(f"`slices` takes a whole number from 1, not {self.slices}.", parameter="slices")
        if self.zoom not in get_args(Zoom):
            raise PromptError(f"There is no zoom {self.zoom!r}; use {', '.join(get_args(Zoom))}.")
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
        """For JSON. What earlier versions did not know is left out where it changes nothing: runs stay comparable."""
        said = asdict(self)
        for key in _LATER:
            if said[key] == _LATER[key]:
                del said[key]
        return {"prompt": " ".join(said.pop("prompts")), **said, "jitter_px": list(self.jitter_px)}

    def tolerance_of(self, structure: str) -> float:
        """Millimetres (for a picture without a physical size, pixels)."""
        return tolerance_mm(structure) if self.tolerance_mm is None else self.tolerance_mm


def _settings_of(prompt: str, jitter_px: tuple[int, ...]) -> list[PromptSetting]:
    first: list[Any] = _ONE.get(prompt, prompt).split("+")
    corrected = _CORRECTIONS.fullmatch(first[-1])
    by: CorrectedBy = "points"
    count = 0
    if corrected is not None:
        by, count = ("points" if corrected["by"] == "points" else "scribbles"), int(corrected["count"])
        first = first[:-1] or [None]
    alone = ("propagate", "auto")
    if len(first) > 1 or first[0] not in (*get_args(First), *alone, None) or (first[0] in alone and count):
        raise PromptError(
            f"There is no prompt {prompt!r}; use {', '.join(get_args(First))}, each alone or with +points:N or "
            "+scribbles:N; point, points:N, scribble, scribbles:N; propagate; or auto, N from 1 to 99.",
            parameter="prompts",
        )
    return [PromptSetting(first[0], jitter, by, count) for jitter in (jitter_px if first[0] in _JITTERED else (0,))]
