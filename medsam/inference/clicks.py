"""Clicks and masks for networks that were only ever shown boxes.

LiteMedSAM and MedSAM were trained with boxes: a click alone gives them nothing (Dice 0.04 on the development data),
a mask alone neither, and a click beside a box makes the mask worse. Yet a user who clicks wants a mask. So for them:

a click     becomes a box: squares of `_SIDES` of the slice are tried round the clicks in one decode, and the one whose
            mask has the highest product of predicted IoU and stability wins, among those that honour most clicks.
a mask      brings its own tight box along.
every click is then enforced at its place: the logits near it, where the pixels resemble the clicked one, are
            moved past the threshold.

A network trained on clicks gets them as SAM published it and needs none of this: `ModelSpec.prompts` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medsam.geometry import SlicePlane
from medsam.inference.image_predictor import Embedding, ImagePredictor, box_prompts
from medsam.inference.usage import Usage
from medsam.postprocess.merge import stability_score
from medsam.prompts.prompt import Box, Point, SlicePrompt, pixel_at
from medsam.prompts.simulate import tight_box
from medsam.transforms.frame import pixels_of

# Sides of the squares tried round a click, in longer sides of the slice: from a lymph node to a liver.
_SIDES = (0.03, 0.045, 0.065, 0.09, 0.13, 0.18, 0.25, 0.35, 0.5, 0.7)
# A click reaches this share of the box's smaller side, at least this many pixels, and lifts its pixel this far past 0.
_REACH, _LEAST_REACH, _LIFT = 0.15, 1.5, 2.0


def box_for(
    image_predictor: ImagePredictor,
    encode: Callable[[], Embedding],
    prompt: SlicePrompt,
    plane: SlicePlane,
    last: Box | None = None,
) -> tuple[SlicePrompt, Usage]:
    """The same prompt as a box without clicks, with the mask where one was given, and what finding it has cost.

    encode: the embedding of the whole slice; only called for clicks alone, which a box is searched for.
    last: the box of the mask before the last click; kept unless another one honours more of the clicks.
    """
    inside = clicked_inside(prompt)
    box: Box | None = prompt.box
    if box is None and prompt.mask is not None:
        box = tight_box(prompt.mask, 1)
    if box is None:
        box, usage = _search(image_predictor, encode(), prompt.points, inside, plane, last)
        return replace(prompt, box=box, points=()), usage
    return replace(prompt, box=box_including(box, inside, plane), points=()), Usage()


def clicked_inside(prompt: SlicePrompt) -> np.ndarray:
    """The clicks inside the object, (N, 2) pixel indices."""
    return np.array([(x, y) for x, y, label in prompt.points if label], dtype=float).reshape(-1, 2)


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


def _search(
    image_predictor: ImagePredictor,
    embedding: Embedding,
    points: Sequence[Point],
    inside: np.ndarray,
    plane: SlicePlane,
    last: Box | None,
) -> tuple[Box, Usage]:
    boxes = candidate_boxes(inside, plane)
    if last is not None:
        boxes = np.concatenate([boxes, [box_including(last, inside, plane)]])
    found = image_predictor.predict(embedding, box_prompts(boxes))
    stability = stability_score(found.logits[:, 0]).nan_to_num().cpu().numpy()
    honoured = np.zeros(len(boxes))
    for x, y, label in points:
        row, column = pixel_at((x, y), plane.shape)
        honoured += found.masks[:, 0, row, column] == bool(label)
    known = np.zeros(len(boxes))
    known[-1] = last is not None
    best = int(np.lexsort((found.predicted_iou[:, 0] * stability, known, honoured))[-1])
    x0, y0, x1, y1 = boxes[best].tolist()
    return (x0, y0, x1, y1), found.usage


def candidate_boxes(inside: np.ndarray, plane: SlicePlane) -> np.ndarray:
    """Squares in mm (C, 4) round clicks inside (N, 2), clipped to the slice; each holds all the clicks."""
    spacing = np.array(plane.spacing_mm[::-1])
    size = np.array(plane.shape[::-1], dtype=float)
    low, high = inside.min(axis=0) - 0.5, inside.max(axis=0) + 1.5
    extent_mm = (size * spacing).max()
    boxes = []
    for side in _SIDES:
        # a square of less than two pixels holds no object
        half = np.maximum(side * extent_mm / spacing, 2.0) / 2
        centre = (low + high) / 2
        half = np.maximum(half, (high - low) / 2)
        boxes.append(np.concatenate([np.maximum(centre - half, 0), np.minimum(centre + half, size)]))
    return np.unique(np.array(boxes), axis=0)


def enforce_clicks(
    logits: np.ndarray, points: Sequence[Point], box: Box, pixels: np.ndarray, plane: SlicePlane
) -> np.ndarray:
    """Logits (h, w) that honour every click: moved past 0 on the spot, less so farther away and on unlike pixels.

    points: stored pixel indices, 1 inside, 0 outside. box: of the object, whose size tells how far a click reaches.
    pixels: (h, w) or (h, w, 3), any units. A click that is honoured already changes nothing.
    """
    grey = np.nan_to_num(pixels if pixels.ndim == 2 else pixels.mean(axis=2)).astype(np.float32)
    rows, columns = logits.shape
    spacing = np.array(plane.spacing_mm) / min(plane.spacing_mm)
    reach = max(_REACH * min((box[2] - box[0]) * spacing[1], (box[3] - box[1]) * spacing[0]), _LEAST_REACH)
    left, top, right, bottom = pixels_of(box, (rows, columns))
    around = grey[top:bottom, left:right]
    contrast = float(np.subtract(*np.percentile(around, (84, 16)))) / 2
    y, x = np.ogrid[:rows, :columns]
    squared = [((y - line) * spacing[0]) ** 2 + ((x - column) * spacing[1]) ** 2 for column, line, _ in points]
    # each click rules over the pixels that are nearer to it than to any other: none undoes another's work
    nearest = np.argmin(squared, axis=0)
    result = logits.copy()
    clicked = [(pixel_at((column, line), logits.shape), 1.0 if label else -1.0) for column, line, label in points]
    for number, ((row, col), sign) in enumerate(clicked):
        there = sign * float(np.clip(logits[row, col], -20.0, 20.0))
        if there > 0:
            continue
        near = grey[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2]
        weight = np.exp(-squared[number] / (2 * reach**2)) * (nearest == number)
        if contrast > 0:
            weight = weight * np.exp(-(((grey - np.median(near)) / contrast) ** 2) / 2)
        weight[row, col] = 1.0
        # what no crop reached, and what lies outside the box, can be had by a click alone
        reached = np.where(np.isfinite(result), result, np.where(weight > 0.5, -20.0, -np.inf))
        result = reached + sign * (_LIFT - there) * weight
    for (row, col), sign in clicked:
        if (result[row, col] > 0) != (sign > 0):
            result[row, col] = sign * _LIFT
    return result.astype(np.float32)
