"""Prompts drawn from reference masks, by the rules evaluation and the demo report: boxes, clicks, rough masks.

What is drawn with a pen is in `simulate_scribbles` and `simulate_outlines`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from medsam.errors import PromptError
from medsam.masks import bounding_box, grown, xyxy
from medsam.prompts.shaky import SmoothNoise

# below this a structure is a partial-volume sliver, not something anybody would box (contracts: box protocol)
MIN_PIXELS = 10

# How exactly a prompt is drawn: as its protocol says, or as a person in a hurry would.
Noise = Literal["clean", "noisy"]

# Of a noisy click: how often it goes to the second region, and the standard deviation in pixels of where it lands.
_SECOND, _SLIP_PX = 0.2, 2.0


def tight_box(mask: np.ndarray, min_pixels: int = MIN_PIXELS) -> tuple[int, int, int, int] | None:
    """The half-open box (x0, y0, x1, y1) round all of a bool mask (h, w); None below `min_pixels` pixels.

    Several components share one box.
    """
    if np.count_nonzero(mask) < max(min_pixels, 1):
        return None
    part = bounding_box(mask)
    return None if part is None else xyxy(part)


def seeded(seed: int, case: str, structure: str, index: int, *more: int) -> np.random.Generator:
    """Chance for one structure on one slice of a case: the same whatever was drawn before, in any run or process."""
    return np.random.default_rng([seed, zlib.crc32(f"{case}\0{structure}\0{index}".encode()), *more])


def jittered(
    box: tuple[int, int, int, int], most_px: int, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """The box with each edge moved outwards by a whole number drawn uniformly from [0, most_px], inside (h, w).

    The same state of `rng` moves an edge the further the larger `most_px` is: curves over it are paired.
    """
    left, top, right, bottom = np.floor(rng.random(4) * (most_px + 1)).astype(int).tolist()
    x0, y0, x1, y1 = box
    return max(x0 - left, 0), max(y0 - top, 0), min(x1 + right, shape[1]), min(y1 + bottom, shape[0])


def inscribed_ellipse(box: tuple[float, float, float, float], shape: tuple[int, int]) -> np.ndarray:
    """Bool (h, w): pixels whose centre lies in the ellipse inscribed in a half-open box.

    An answer without a model; on tight boxes it is hard to beat on convex organs, so honest tables show it.
    """
    x0, y0, x1, y1 = box
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = (2 * (x + 0.5) - (x0 + x1)) / (x1 - x0)
    down = (2 * (y + 0.5) - (y0 + y1)) / (y1 - y0)
    return across**2 + down**2 <= 1


def next_click(
    truth: np.ndarray, answer: np.ndarray | None = None, rng: np.random.Generator | None = None
) -> tuple[int, int, int] | None:
    """The click (x, y, 1 inside | 0 outside) that corrects the worst error of an answer; None when there is none.

    truth, answer: bool (h, w); answer None: nothing yet, so the click is the pixel deepest inside the object.
    Without `rng`, as in evaluation: the pixel farthest (in pixels, Euclidean) from the boundary of its error region.
    Missed and false pixels are regions of their own even where they touch, and the image's border is a boundary.
    Between equals the lowest row, then the lowest column. The answer may ignore a click, so the same can come again.
    With `rng`, as in training: any erroneous pixel, all equally likely.
    Raises PromptError on unequal shapes.
    Source: Kirillov et al. 2023, appendices A and D; regions apart as in RITM (Sofiiuk et al. 2021) and SAM 2's code.
    """
    truth, answer = _two_masks(truth, answer)
    wrong = truth ^ answer
    if not wrong.any():
        return None
    # the first of equals in row-major order
    pixel = int(np.argmax(_error_depth(truth, answer)) if rng is None else rng.choice(np.flatnonzero(wrong)))
    row, column = divmod(pixel, truth.shape[1])
    return column, row, int(truth[row, column])


def human_click(truth: np.ndarray, answer: np.ndarray | None, rng: np.random.Generator) -> tuple[int, int, int] | None:
    """The click (x, y, 1 inside | 0 outside) of a person who corrects an answer; None when there is no error.

    truth, answer: as in `next_click`. The person sees the deepest error region, one time in five the next deepest,
    clicks on a pixel of it, drawn with a chance that grows with the square of its depth, and slips from that by a
    normally distributed way of 2 pixels in x and in y; not where that would say the wrong thing.
    Source: after the robot users of Antonov et al. 2024 (arXiv 2404.01816), whose clicks vary as people's do.
    """
    truth, answer = _two_masks(truth, answer)
    regions = error_regions(truth, answer)
    count = int(regions.max())
    if count == 0:
        return None
    depth = _error_depth(truth, answer)
    deepest = ndimage.maximum(depth, regions, np.arange(1, count + 1))
    order = np.argsort(-deepest, kind="stable")
    second = count > 1 and rng.random() < _SECOND
    pixels = np.flatnonzero(regions == order[int(second)] + 1)
    chance = depth.ravel()[pixels] ** 2
    row, column = divmod(int(rng.choice(pixels, p=chance / chance.sum())), truth.shape[1])
    inside = truth[row, column]
    slip_y, slip_x = np.rint(rng.normal(0, _SLIP_PX, 2)).astype(int).tolist()
    y, x = row + slip_y, column + slip_x
    if 0 <= y < truth.shape[0] and 0 <= x < truth.shape[1] and truth[y, x] == inside:
        row, column = y, x
    return column, row, int(inside)


def error_regions(truth: np.ndarray, answer: np.ndarray | None) -> np.ndarray:
    """The connected errors of an answer, numbered from 1: int (h, w), 0 where it is right.

    truth, answer: as in `next_click`. Missed and false pixels are regions of their own even where they touch; pixels
    are connected by their edges. Raises PromptError on unequal shapes.
    """
    truth, answer = _two_masks(truth, answer)
    missed, count = ndimage.label(truth & ~answer)
    false, _ = ndimage.label(answer & ~truth)
    regions: np.ndarray = np.where(false > 0, false + count, missed)
    return regions


def _two_masks(truth: np.ndarray, answer: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    truth = np.asarray(truth, dtype=bool)
    answer = np.zeros_like(truth) if answer is None else np.asarray(answer, dtype=bool)
    if truth.ndim != 2 or truth.shape != answer.shape:
        raise PromptError(
            f"A correction needs two masks of one slice; these have shapes {truth.shape} and {answer.shape}."
        )
    return truth, answer


def _error_depth(truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """How deep each pixel lies in the error that it belongs to; 0 where the answer is right."""
    return np.maximum(depth_of(truth & ~answer), depth_of(answer & ~truth))


def radius_of(mask: np.ndarray) -> float:
    """Of the disc of as many pixels as a mask has, in pixels."""
    return math.sqrt(np.count_nonzero(mask) / math.pi)


def rough_mask(truth: np.ndarray, rng: np.random.Generator, noise: Noise = "clean") -> np.ndarray:
    """A hasty outline of a bool mask (h, w), as a person or a lesser tool would hand in; bool (h, w), never empty.

    r is the radius of the disc of the same area. The mask is moved by 0.05 r in any direction and eroded or dilated
    (even odds) by 0.1 r, both in fractions of a pixel. Thin structures stay in place: the move is at most half of the
    median depth, and erosion leaves at least half of the pixels. On a disc the Dice to `truth` is about 0.89.
    With noise its outline is shaky as well: eroded and dilated by about 0.15 r (thin ones by less), changing along it.
    The same state of `rng` gives the same mask.
    Raises PromptError for an empty `truth`.
    """
    truth = np.asarray(truth, dtype=bool)
    if not truth.any():
        raise PromptError("There is no rough version of an empty mask.")
    radius = radius_of(truth)
    grow, angle = rng.random() < 0.5, rng.random() * 2 * math.pi
    # signed distance to the outline, which runs half a pixel outside the last pixel's centre
    padded = np.pad(truth, 1)
    outside = ndimage.distance_transform_edt(~padded)
    distance = np.where(padded, ndimage.distance_transform_edt(padded) - 0.5, 0.5 - outside)[1:-1, 1:-1]
    thickness = float(np.median(distance[truth]))
    step = min(0.05 * radius, thickness / 2)
    moved = ndimage.shift(distance, (step * math.sin(angle), step * math.cos(angle)), order=1, mode="nearest")
    if noise == "noisy":
        moved = moved + min(0.15 * radius, thickness) * _noise_over(truth, radius, rng)
    half = (np.count_nonzero(truth) + 1) // 2
    kept = float(np.partition(moved, -half, axis=None)[-half])
    rough: np.ndarray = moved >= min(-0.1 * radius if grow else 0.1 * radius, kept)
    return rough


def surroundings(mask: np.ndarray, reach: float) -> tuple[slice, slice]:
    """The box of a mask (h, w) and `reach` pixels around it; all of the slice for an empty one."""
    part = bounding_box(mask) or (slice(0, mask.shape[0]), slice(0, mask.shape[1]))
    rows, columns = grown(part, [math.ceil(reach)] * 2, mask.shape)
    return rows, columns


def _noise_over(mask: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (h, w) on a mask and a radius around it; 0 beyond."""
    around = surroundings(mask, radius)
    y, x = np.mgrid[around]
    grid = np.stack([x.ravel(), y.ravel()], axis=-1).astype(float)
    noise = np.zeros(mask.shape)
    noise[around] = SmoothNoise.draw(grid, radius, rng).at(grid).reshape(x.shape)
    return noise


def depth_of(region: np.ndarray, pitch_mm: Sequence[float] | np.ndarray = (1.0, 1.0)) -> np.ndarray:
    """Distance of each pixel of a bool region (h, w) to the nearest centre of a pixel outside it; 0 outside.

    pitch_mm: (row, column) of a pixel; as it is, distances are in pixels. The slice ends at its border.
    """
    depth = np.zeros(region.shape)
    box = tight_box(region, 1)
    if box is not None:
        # round the box lies nothing of the region: the nearest outside pixel is in its padding or nearer
        x0, y0, x1, y1 = box
        padded = np.pad(region[y0:y1, x0:x1], 1)
        depth[y0:y1, x0:x1] = ndimage.distance_transform_edt(padded, sampling=pitch_mm)[1:-1, 1:-1]
    return depth
