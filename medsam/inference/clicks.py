"""Clicks and masks for networks that were only ever shown boxes.

LiteMedSAM and MedSAM were trained with boxes: a click alone gives them nothing (Dice 0.04 on the development data),
a mask alone neither, and a click beside a box makes the mask worse. Yet a user who clicks wants a mask. So for them:

a click     becomes a box: squares of `_SIDES` of the slice are tried round the first one inside, then the boxes of the
            masks that they give; of those that hold the click, the one wins whose mask has the highest product of
            predicted IoU, stability and a power of how much in its middle the click lies.
a mask      brings its own tight box along.
every click and stroke after it corrects the mask that comes of it (`corrections`).

A network trained on clicks gets them as SAM published it and needs none of this: `ModelSpec.prompts` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import SlicePlane
from medsam.inference.image_predictor import Embedding, ImagePredictor, box_prompts
from medsam.inference.usage import Usage
from medsam.postprocess.merge import stability_score
from medsam.prompts.prompt import Box, Point, SlicePrompt, pixel_at
from medsam.prompts.simulate import depth_of, tight_box
from medsam.prompts.strokes import as_clicks, spots

# Sides of the squares tried round a click, in longer sides of the slice: from a lymph node to a liver.
_SIDES = (0.03, 0.045, 0.065, 0.09, 0.13, 0.18, 0.25, 0.35, 0.5, 0.7)
# People click into the middle: the power of a click's depth in a mask, beside predicted IoU and stability.
_MIDDLE = 0.1
# A click inside is beyond the box that was found when it lies further from it than this share of its side.
_NEAR = 0.1
# Another box takes its place when it holds half of it, and is at most so many times as large.
_HOLDS, _LARGER = 0.5, 8.0


def box_for(
    image_predictor: ImagePredictor,
    encode: Callable[[], Embedding],
    prompt: SlicePrompt,
    plane: SlicePlane,
    known: Box | None = None,
) -> tuple[SlicePrompt, Usage]:
    """The same prompt as a box without clicks, with the mask where one was given, and what finding it has cost.

    encode: the embedding of the whole slice; only called for clicks alone, which a box is searched for.
    known: what was found for the same prompt before its last click or stroke.
    """
    bare = replace(prompt, points=(), scribbles=())
    box: Box | None = prompt.box
    if box is None and prompt.mask is not None:
        box = tight_box(prompt.mask, 1)
    if box is not None:
        return replace(bare, box=box_including(box, clicked_inside(prompt, plane), plane)), Usage()
    box, usage = _found(image_predictor, encode, prompt, plane, known)
    return replace(bare, box=box), usage


def _found(
    image_predictor: ImagePredictor,
    encode: Callable[[], Embedding],
    prompt: SlicePrompt,
    plane: SlicePlane,
    known: Box | None,
) -> tuple[Box, Usage]:
    """The box of an object that was clicked, or stroked, alone, and what the search has cost.

    The first click inside finds it, and those that follow correct. One inside and well beyond the box says that another
    object may be meant, or more of it: all up to that one are searched for, and what is found counts where its mask
    honours them all and its box can be that of the same object. known: as in `box_for`.
    """
    said: list[Point] = []
    box, usage = known, Usage()
    for mark in _one_by_one(prompt, plane):
        said += mark
        here = np.array([(x, y) for x, y, label in mark if label], dtype=float).reshape(-1, 2)
        if len(here) and (box is None or not _in(box, here)):
            other, agrees, spent = _search(image_predictor, encode(), said, plane)
            box, usage = (other if box is None or (agrees and _grown(box, other)) else box), usage + spent
    if box is None:
        raise PromptError("Clicks and strokes alone need one inside the object.")
    return box, usage


def _one_by_one(prompt: SlicePrompt, plane: SlicePlane) -> list[tuple[Point, ...]]:
    """Clicks and strokes in their order, each as points."""
    return [spots((mark,), plane.shape) for mark in prompt.marks]


def _in(box: Box, points: np.ndarray) -> bool:
    """Whether most of some points (N, 2), pixel indices, lie in a box or so near that a correction reaches them."""
    margin = _NEAR * np.array([box[2] - box[0], box[3] - box[1]])
    low, high = np.array(box[:2]) - 0.5 - margin, np.array(box[2:]) - 0.5 + margin
    return bool((((points >= low) & (points <= high)).all(axis=1)).mean() >= 0.5)


def with_clicks(prompt: SlicePrompt, plane: SlicePlane) -> SlicePrompt:
    """The same for a network that knows clicks: strokes become some, too."""
    if not prompt.scribbles:
        return prompt
    return replace(prompt, points=as_clicks(prompt.marks, plane.shape), scribbles=())


def clicked_inside(prompt: SlicePrompt, plane: SlicePlane) -> np.ndarray:
    """The clicks and the pixels under strokes inside the object, (N, 2) pixel indices."""
    said = spots(prompt.marks, plane.shape)
    return np.array([(x, y) for x, y, label in said if label], dtype=float).reshape(-1, 2)


def box_including(box: Box, inside: np.ndarray, plane: SlicePlane) -> Box:
    """The box with clicks inside the object (N, 2): one outside the box says that the box was too small."""
    if not len(inside):
        return box
    (left, top), (right, bottom) = inside.min(axis=0) - 0.5, inside.max(axis=0) + 1.5
    rows, columns = plane.shape
    return (
        max(0.0, min(box[0], left)),
        max(0.0, min(box[1], top)),
        min(float(columns), max(box[2], right)),
        min(float(rows), max(box[3], bottom)),
    )


def _grown(box: Box, other: Box) -> bool:
    """Whether another box can be of the same object, seen larger."""
    width, height = (min(box[n + 2], other[n + 2]) - max(box[n], other[n]) for n in (0, 1))
    area, larger = ((one[2] - one[0]) * (one[3] - one[1]) for one in (box, other))
    return max(width, 0) * max(height, 0) >= _HOLDS * area and larger <= _LARGER * area


def _search(
    image_predictor: ImagePredictor, embedding: Embedding, said: Sequence[Point], plane: SlicePlane
) -> tuple[Box, bool, Usage]:
    """The box of an object that holds some clicks and not others, whether its mask honours all, and the cost.

    Squares round the clicks inside are asked first, then the boxes of their masks, of which one is taken.
    """
    at = [(pixel_at((x, y), plane.shape), bool(label)) for x, y, label in said]
    squares = candidate_boxes(np.array([(x, y) for x, y, label in said if label], dtype=float), plane)
    first = image_predictor.predict(embedding, box_prompts(squares))
    own = [tight_box(mask, 1) for mask in first.masks[:, 0]]
    boxes = np.array([box for box in own if box is not None] or squares, dtype=float)
    found = image_predictor.predict(embedding, box_prompts(boxes))
    masks, stability = found.masks[:, 0], stability_score(found.logits[:, 0]).nan_to_num().cpu().numpy()
    honoured = [sum(bool(mask[pixel]) == inside for pixel, inside in at) for mask in masks]
    middle = [_middle(mask, [pixel for pixel, inside in at if inside], plane) for mask in masks]
    score = found.predicted_iou[:, 0] * stability * np.maximum(middle, 0.01) ** _MIDDLE
    best = int(np.lexsort((score, honoured))[-1])
    x0, y0, x1, y1 = boxes[best].tolist()
    return (x0, y0, x1, y1), honoured[best] == len(at), first.usage + found.usage


def _middle(mask: np.ndarray, at: Sequence[tuple[int, ...]], plane: SlicePlane) -> float:
    """How deep in a mask (h, w) pixels lie in the mean, in depths of its deepest one: 0 outside, 1 in its middle."""
    depth = depth_of(mask, plane.spacing_mm)
    return float(np.mean([depth[pixel] for pixel in at]) / max(depth.max(), 1e-9))


def candidate_boxes(inside: np.ndarray, plane: SlicePlane) -> np.ndarray:
    """Squares in mm (C, 4) round clicks inside (N, 2), clipped to the slice; each holds all the clicks."""
    spacing = np.array(plane.spacing_mm[::-1])
    size = np.array(plane.shape[::-1], dtype=float)
    low, high = inside.min(axis=0) - 0.5, inside.max(axis=0) + 1.5
    boxes = []
    for side in _SIDES:
        # a square of less than two pixels holds no object
        half = np.maximum(side * plane.longest_mm / spacing, 2.0) / 2
        centre = (low + high) / 2
        half = np.maximum(half, (high - low) / 2)
        boxes.append(np.concatenate([np.maximum(centre - half, 0), np.minimum(centre + half, size)]))
    return np.unique(np.array(boxes), axis=0)
