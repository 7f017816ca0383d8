"""Clicks and masks for networks that were only ever shown boxes.

LiteMedSAM and MedSAM were trained with boxes: a click alone gives them nothing (Dice 0.04 on the development data),
a mask alone neither, and a click beside a box makes the mask worse. Yet a user who clicks wants a mask. So for them:

a click     becomes a box (`search`): it and a stroke are tried with margins all round them, then the boxes of the best
            of the masks that they give, and those of what a decoder that knows clicks answers, where there is one
            (`Sam.proposer`). Of those that honour most of what was said the one wins whose mask has the
            highest product of predicted IoU, stability, how much in its middle the clicks lie, how far through it they
            reach, how much it is as bright as where they lie, and how far it is what that decoder answers.
a mask      brings its own tight box along.
every click and stroke after it corrects the mask that comes of it (`corrections`). One after clicks alone may refute
the box as well: see `refuted`.

A network trained on clicks gets them as SAM published it and needs none of this: `ModelSpec.prompts` tells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from medsam.errors import PromptError
from medsam.geometry import SlicePlane
from medsam.inference.appearance import brightness, smoothed
from medsam.inference.engines.torch import TorchEngine
from medsam.inference.image_predictor import Embedding, ImagePredictor, Prediction, box_prompts
from medsam.inference.usage import Usage
from medsam.masks import bounding_box
from medsam.metrics.overlap import iou
from medsam.postprocess.merge import stability_score
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import depth_of, tight_box
from medsam.prompts.strokes import as_clicks, marked, spots

# Sides of the squares tried round a click, or by how much larger than a stroke boxes are, in longer sides of the slice:
# from a lymph node to a liver.
_SIDES = (0.03, 0.045, 0.09, 0.18, 0.25, 0.35, 0.5, 0.7)
# Of so many of their masks the boxes are tried.
_BEST = 3
# People click into the middle: the power of a click's depth in a mask, beside predicted IoU and stability.
_MIDDLE = 0.1
# Strokes, or several clicks, reach far through an object: the power of the share of a mask that they do, and the least.
_SPREAD, _LEAST_SHARE = 0.3, 0.05
# How much it counts, in the logarithm, that the clicked pixels are by a standard deviation brighter or darker than the
# mask (docs/results/README.md, "Clicks and strokes alone"); the most of them that count, and the least that one has, in
# shares of the slice's range.
_UNLIKE, _MOST_UNLIKE, _LEAST_SPREAD = 0.2, 5.0, 0.02
# What it counts that a mask is like an answer of a decoder that knows clicks, by IoU times the IoU that it predicts
# (docs/results/README.md, "A decoder that proposes boxes"): the power, and the least.
_AGREES, _LEAST_AGREES = 0.3, 0.05
# A click refutes a mask when it lies so deep in the error, in depths of the mask at its deepest.
_REFUTES = 0.5


def is_alone(prompt: SlicePrompt) -> bool:
    """Whether there are clicks or strokes, and nothing that a box follows from."""
    return prompt.box is None and prompt.mask is None


def as_box(prompt: SlicePrompt, plane: SlicePlane, found: Box | None = None) -> SlicePrompt:
    """The same prompt as a box without clicks, with the mask where one was given.

    found: the box of clicks and strokes alone.
    """
    bare, box = replace(prompt, points=(), scribbles=(), order=()), prompt.box
    if is_alone(prompt):
        return replace(bare, box=found)
    if box is None and prompt.mask is not None:
        box = tight_box(prompt.mask, 1)
    if box is None:
        raise PromptError("A mask without a pixel has no box.")
    return replace(bare, box=box_including(box, clicked_inside(prompt, plane), plane))


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
    # one on its last pixels is in it
    beyond = (inside < np.array(box[:2]) - 0.5) | (inside > np.array(box[2:]) - 0.5)
    inside = inside[beyond.any(axis=1)]
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


@dataclass(frozen=True, eq=False)
class Said:
    """What clicks and strokes say, one after the other: the pixels (N, 2) row and column of each, and which side."""

    pixels: tuple[np.ndarray, ...]
    inside: tuple[bool, ...]

    @classmethod
    def by(cls, prompt: SlicePrompt, plane: SlicePlane) -> Said:
        """Raises PromptError where nothing is said to be inside."""
        drawn = [marked(one, plane.shape, plane.spacing_mm) for one in prompt.marks]
        if not any(where.any() and inside for where, inside in drawn):
            raise PromptError("Clicks and strokes alone need one inside the object.")
        return cls(tuple(np.argwhere(where) for where, _ in drawn), tuple(inside for _, inside in drawn))

    def honoured_by(self, mask: np.ndarray) -> float:
        """How many of the marks a mask (h, w) has right; of a stroke the share of its pixels."""
        return sum(
            np.count_nonzero(mask[tuple(pixels.T)] == inside) / max(len(pixels), 1)
            for pixels, inside in zip(self.pixels, self.inside, strict=True)
        )

    def all_inside(self) -> np.ndarray:
        """(N, 2), rows and columns."""
        return np.concatenate([one for one, inside in zip(self.pixels, self.inside, strict=True) if inside])


class Found(NamedTuple):
    """A box, how many marks its mask honours (`Said.honoured_by`), and what finding it has cost."""

    box: Box
    honoured: float
    usage: Usage


def refuted(mask: np.ndarray, where: np.ndarray, inside: bool, plane: SlicePlane) -> bool:
    """Whether a mark says of a mask (h, w) that another object is meant, or far more or less of it.

    Who points into the middle of an error says how thick it is. An error that is much thinner than the object is one of
    its outline, and none of which object it is. where: bool (h, w), under the mark. inside: what it says.
    """
    if not mask.any():
        return inside
    depth = depth_of(mask, plane.spacing_mm)
    radius = float(depth.max())
    if inside:
        # all of the mask is in this part
        part = bounding_box(mask | where) or np.s_[:, :]
        depth, where = ndimage.distance_transform_edt(~mask[part], sampling=plane.spacing_mm), where[part]
    return float(np.max(depth, where=where, initial=0.0)) > _REFUTES * radius


def search(
    image_predictor: ImagePredictor,
    embedding: Embedding,
    prompt: SlicePrompt,
    plane: SlicePlane,
    pixels: np.ndarray,
    also: Box | None = None,
) -> Found:
    """The box of the object that was clicked or stroked alone.

    prompt: of clicks and strokes. embedding: of the whole slice. pixels: (h, w) or (h, w, 3), any units, in the window
    in which they are looked at.
    also: one more box to try.
    """
    said = Said.by(prompt, plane)
    at, grey = said.all_inside(), smoothed(np.nan_to_num(brightness(pixels)).astype(np.float64))
    squares = candidate_boxes(at[:, ::-1].astype(float), plane)
    first = image_predictor.predict(embedding, box_prompts(squares))
    order = np.lexsort(_ranks(first, said, at, grey, plane))[::-1]
    own = [*(tight_box(first.masks[n, 0], 1) for n in order[:_BEST]), also]
    proposals = _proposals(image_predictor, embedding, prompt, plane)
    own += [tight_box(mask, 1) for mask in proposals.masks]
    boxes = np.array([box for box in own if box is not None] or squares, dtype=float)
    found = image_predictor.predict(embedding, box_prompts(boxes))
    score, honoured = _ranks(found, said, at, grey, plane)
    score = score * proposals.agreement(found.masks[:, 0])
    best = int(np.lexsort((score, honoured))[-1])
    x0, y0, x1, y1 = boxes[best].tolist()
    return Found((x0, y0, x1, y1), float(honoured[best]), first.usage + found.usage)


@dataclass(frozen=True, eq=False)
class _Proposals:
    """What a decoder that knows clicks answers. masks: bool (M, h, w). predicted_iou: (M,). M is 0 without one."""

    masks: np.ndarray
    predicted_iou: np.ndarray

    def agreement(self, masks: np.ndarray) -> np.ndarray:
        """What masks (n, h, w) are worth for being like one of these, (n,); 1 where there is none."""
        if not len(self.masks):
            return np.ones(len(masks))
        alike = np.array([[iou(one, mask) for one in self.masks] for mask in masks])
        # nan: both are empty
        surely = np.nan_to_num(alike) * np.clip(self.predicted_iou, 0, 1)
        worth: np.ndarray = (_LEAST_AGREES + surely.max(axis=1)) ** _AGREES
        return worth


def _proposals(
    image_predictor: ImagePredictor, embedding: Embedding, prompt: SlicePrompt, plane: SlicePlane
) -> _Proposals:
    """Three where there is such a decoder: a part, the whole, what it belongs to."""
    proposer = image_predictor.sam.proposer
    if proposer is None:
        return _Proposals(np.zeros((0, *plane.shape), dtype=bool), np.zeros(0))
    clicked = np.array(with_clicks(prompt, plane).points, dtype=np.float64)
    points = torch.from_numpy(embedding.frame.points(clicked[:, :2]))
    given = {"points": points[None], "point_labels": torch.from_numpy(clicked[:, 2]).long()[None]}
    engine = TorchEngine(proposer.to(image_predictor.device), image_predictor.device)
    logits, predicted_iou = engine.decode(embedding.features, given, multimask=True)
    return _Proposals((embedding.frame.restore(logits[0]) > 0).cpu().numpy(), predicted_iou[0].cpu().numpy())


def _ranks(
    found: Prediction, said: Said, at: np.ndarray, grey: np.ndarray, plane: SlicePlane
) -> tuple[np.ndarray, np.ndarray]:
    """How good each of P masks seems, (P,), and how many marks it honours, (P,), which comes first."""
    masks, stability = found.masks[:, 0], stability_score(found.logits[:, 0]).nan_to_num().cpu().numpy()
    middle = np.array([_middle(mask, at, plane) for mask in masks])
    unlike = np.array([_unlike(mask, at, grey) for mask in masks])
    spread = np.array([_spread(mask, at, plane) for mask in masks])
    placed = np.maximum(middle, 0.01) ** _MIDDLE * np.maximum(spread, _LEAST_SHARE) ** _SPREAD
    score = found.predicted_iou[:, 0] * stability * placed * np.exp(-_UNLIKE * unlike)
    return score, np.array([said.honoured_by(mask) for mask in masks])


def _middle(mask: np.ndarray, at: np.ndarray, plane: SlicePlane) -> float:
    """How deep in a mask (h, w) pixels (N, 2) lie in the mean, in depths of its deepest: 0 outside, 1 in its middle."""
    depth = depth_of(mask, plane.spacing_mm)
    return float(np.mean(depth[tuple(at.T)]) / max(depth.max(), 1e-9))


def _unlike(mask: np.ndarray, at: np.ndarray, grey: np.ndarray) -> float:
    """How far pixels (N, 2) are from a mask's middle brightness, in the mean, in its standard deviations."""
    if not mask.any():
        return _MOST_UNLIKE
    under = grey[mask]
    spread = float(under.std()) + _LEAST_SPREAD * float(np.ptp(grey)) + 1e-9
    return min(float(np.abs(grey[tuple(at.T)] - np.median(under)).mean()) / spread, _MOST_UNLIKE)


def _spread(mask: np.ndarray, at: np.ndarray, plane: SlicePlane) -> float:
    """How far pixels (N, 2) reach, along the diagonal of their box, in shares of a mask's."""
    part = bounding_box(mask)
    if part is None:
        return 0.0
    pitch = np.array(plane.spacing_mm)
    extent = np.linalg.norm(np.array([one.stop - one.start for one in part]) * pitch)
    return min(float(np.linalg.norm(np.ptp(at, axis=0) * pitch) / extent), 1.0)


def candidate_boxes(inside: np.ndarray, plane: SlicePlane) -> np.ndarray:
    """Boxes (C, 4) with a margin in mm round all clicks inside (N, 2), clipped to the slice; of one click squares."""
    spacing = np.array(plane.spacing_mm[::-1])
    size = np.array(plane.shape[::-1], dtype=float)
    low, high = inside.min(axis=0) - 0.5, inside.max(axis=0) + 1.5
    centre, apart = (low + high) / 2, np.ptp(inside, axis=0) / 2
    boxes = []
    for side in reversed(_SIDES):
        # a square of less than two pixels holds no object
        half = np.maximum(side * plane.longest_mm / spacing, 2.0) / 2 + apart
        half = np.maximum(half, (high - low) / 2)
        boxes.append(np.concatenate([np.maximum(centre - half, 0), np.minimum(centre + half, size)]))
    # each once: a slice's edges can make several alike
    return np.array(list(dict.fromkeys(tuple(box.tolist()) for box in boxes)))
