"""What is asked of each structure on a slice, drawn from its reference, and what of it needs no model.

Every prompt is drawn from what it is (seed, case, structure, slice, kind), never from what was drawn before, so that
resumed and sharded runs draw the same.

Letters: h, w a stored slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medsam.evaluation.protocol import PromptSetting, Protocol
from medsam.geometry import SlicePlane
from medsam.prompts.plan import axes
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.shapes import axes_ellipse, lassoed
from medsam.prompts.simulate import inscribed_ellipse, jittered, rough_mask, seeded, tight_box
from medsam.prompts.simulate_outlines import diameters, ellipse_box, lasso
from medsam.prompts.simulate_scribbles import scribble_in, scribble_near

# What is drawn, as the last of what chance is seeded with; the jitter of boxes has none.
_STREAMS = {"mask": 1, "points": 2, "scribbles": 3, "lasso": 4, "line": 5, "lines": 5, "ellipse": 6, "scribble-pair": 7}


@dataclass(frozen=True)
class Target:
    """A structure on a slice where it is prompted. key: of its case, see `seeded`. truth: bool (h, w).

    first: setting -> what it starts with, for all but corrections alone. given: setting -> the mask (h, w) that this
    prompt describes without a model.
    """

    key: str
    structure: str
    index: int
    truth: np.ndarray
    first: dict[PromptSetting, SlicePrompt] = field(default_factory=dict)
    given: dict[PromptSetting, np.ndarray] = field(default_factory=dict)

    def chance(self, seed: int, kind: str, *more: int) -> np.random.Generator:
        """For what is drawn of it. kind: of prompt or correction. more: the number of the correction."""
        return seeded(seed, self.key, self.structure, self.index, *_streams(kind), *more)


def targets_on(
    key: str, truths: Mapping[str, np.ndarray], index: int, protocol: Protocol, plane: SlicePlane
) -> list[Target]:
    """The structures with enough pixels on a slice, with all that they are first asked with."""
    found = []
    for structure, truth in truths.items():
        tight = tight_box(truth, protocol.min_pixels)
        if tight is None:
            continue
        target = Target(key, structure, index, truth)
        for setting in protocol.settings:
            if setting.first not in (None, "auto"):
                target.first[setting], given = _first(target, setting, tight, protocol, plane)
                if given is not None:
                    target.given[setting] = given
        found.append(target)
    return found


def _first(
    target: Target,
    setting: PromptSetting,
    tight: tuple[int, int, int, int],
    protocol: Protocol,
    plane: SlicePlane,
) -> tuple[SlicePrompt, np.ndarray | None]:
    """The prompt before any correction, and the mask that it describes; of a box that are its baselines."""
    truth, rng = target.truth, target.chance(protocol.seed, str(setting.first))
    noisy = rng if protocol.noise == "noisy" else None
    match setting.first:
        case "mask":
            rough = rough_mask(truth, rng, protocol.noise)
            return SlicePrompt(1, mask=rough), rough
        case "lasso":
            drawn = lasso(truth, rng, protocol.noise)
            around: np.ndarray = np.any([lassoed(corners, plane.shape) for corners in drawn], axis=0)
            return SlicePrompt(1, mask=around, within=around, lasso=drawn[0] if len(drawn) == 1 else None), around
        case "line" | "lines":
            across = diameters(truth, plane.spacing_mm, noisy)
            lines, box = axes(across[: 1 if setting.first == "line" else 2], plane)
            return SlicePrompt(1, box, lines=lines), axes_ellipse(lines, plane.shape, plane.spacing_mm)
        case "ellipse":
            box = ellipse_box(truth, noisy)
            return SlicePrompt(1, box, ellipse=box), inscribed_ellipse(box, plane.shape)
        case "scribble-pair":
            strokes = scribble_in(truth, rng, noise=protocol.noise) + scribble_near(truth, rng, noise=protocol.noise)
            return SlicePrompt(1, scribbles=strokes), None
    return SlicePrompt(1, jittered(tight, setting.jitter_px, truth.shape, rng)), None


def _streams(kind: str) -> tuple[int, ...]:
    return (_STREAMS[kind],) if kind in _STREAMS else ()
