"""What a single correction does to a mask: whether it mends what it was put into, and harms what was right.

Letters: h, w a stored slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from medsam.metrics.overlap import dice
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import error_regions, surroundings
from medsam.prompts.strokes import marks

# a change farther than this from the error that a correction was put into, in pixels, is far away
FAR_PX = 10


@dataclass(frozen=True)
class Step:
    """One correction. number: from 1. inside: whether it says so.

    error_px: pixels of the connected error that it was put into; 0 where a noisy one missed all errors.
    removed: the share of these that is right afterwards. kept: the share of all pixels clicked or drawn on up to now
    that the mask agrees with. harmed_px: pixels that were right before and are wrong now. far_px: pixels that changed
    farther than `FAR_PX` from that error. dice: after it.
    """

    number: int
    inside: bool
    error_px: int
    removed: float | None
    kept: float
    harmed_px: int
    far_px: int
    dice: float

    def as_row(self) -> dict[str, Any]:
        return {"step": self.number, **{key: value for key, value in asdict(self).items() if key != "number"}}


def step_of(
    number: int,
    truth: np.ndarray,
    masks: tuple[np.ndarray, np.ndarray],
    prompts: tuple[SlicePrompt, SlicePrompt],
    pitch_mm: tuple[float, float],
) -> Step:
    """masks, prompts: before and after a correction; masks and truth bool (h, w). pitch_mm: (row, column)."""
    before, after = masks
    new = marks(prompts[1].marks[len(prompts[0].marks) :], truth.shape, pitch_mm)
    regions = error_regions(truth, before)
    hit = np.bincount(regions[new != 0])
    hit[0] = 0
    error = regions == int(np.argmax(hit)) if hit.any() else np.zeros_like(truth)
    error_px = int(np.count_nonzero(error))
    # where a noisy click missed all errors, what is near is what is near the click
    around = error if error_px else new != 0
    changed = before != after
    said = marks(prompts[1].marks, truth.shape, pitch_mm)
    return Step(
        number,
        bool(new.max() > 0),
        error_px,
        float((after == truth)[error].mean()) if error_px else None,
        float((after == (said > 0))[said != 0].mean()),
        int(np.count_nonzero(changed & (before == truth))),
        int(np.count_nonzero(changed)) - _near(changed, around),
        dice(truth, after),
    )


def _near(changed: np.ndarray, around: np.ndarray) -> int:
    """How many of the changed pixels lie within `FAR_PX` of a region."""
    part = surroundings(around, FAR_PX)
    return int(np.count_nonzero(changed[part] & (ndimage.distance_transform_edt(~around[part]) <= FAR_PX)))


def summarise_steps(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """{model: {prompt: [of each step, in order]}} of the rows of corrections.csv, ready for JSON.

    Of each step: "step", "n", the median share of the error that it "removed", the share of steps after which every
    pixel that was clicked or drawn on is right ("kept"), and means of "harmed_px" and "far_px".
    """
    found: dict[str, dict[str, dict[int, list[Mapping[str, Any]]]]] = {}
    for row in rows:
        found.setdefault(row["model"], {}).setdefault(row["prompt"], {}).setdefault(row["step"], []).append(row)
    return {
        model: {prompt: [_of_step(step, mine) for step, mine in sorted(steps.items())] for prompt, steps in of.items()}
        for model, of in found.items()
    }


def _of_step(step: int, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    removed = [row["removed"] for row in rows if row["removed"] is not None]
    return {
        "step": step,
        "n": len(rows),
        "removed": float(np.median(removed)) if removed else None,
        "kept": float(np.mean([row["kept"] == 1 for row in rows])),
        "harmed_px": float(np.mean([row["harmed_px"] for row in rows])),
        "far_px": float(np.mean([row["far_px"] for row in rows])),
    }
