"""What goes into one slice's segmentation and what comes out of it: plain data, shared by `segment_slice`'s parts.

Letters: P prompts, C crops, h and w of the stored slice, s the side of the network's logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from medsam.inference.corrections import Fold
from medsam.inference.image_predictor import Crop
from medsam.inference.usage import Usage
from medsam.prompts.prompt import Box, SlicePrompt

if TYPE_CHECKING:
    from medsam.inference.trust import ExpectedDice

Zoom = Literal["off", "on", "auto"]


@dataclass(frozen=True, eq=False)
class SliceResult:
    """What one prompt got on one slice.

    mask: bool (h, w). predicted_iou: the network's own guess, not clamped. logits: (h, w) float32, what was thresholded
    at 0; -inf where no crop reached. crops: what was encoded for it. low_res_logits: (C, s, s), the logits of each
    crop, fit to be given back with the next click. box: the one the network was shown, given or found.
    no_contrast: the window left none in one of the crops, so that the mask means nothing. usage: of the whole call that
    gave it and others, with the first of them: a sum over results counts nothing twice. fold: its corrections so far,
    from which the next click goes on. complete: whether the network saw all crops it should; not so where only those at
    hand were asked for, and one was missing. signs: of an answer to a box alone, by which it may be trusted (`signs`),
    where they were asked for.
    expected_dice: what they say, where it was learnt for the network's weights (`trust`).
    """

    mask: np.ndarray
    predicted_iou: float
    logits: np.ndarray
    crops: tuple[Crop, ...]
    low_res_logits: torch.Tensor
    box: Box | None = None
    no_contrast: bool = False
    usage: Usage = field(default_factory=Usage)
    fold: Fold | None = None
    complete: bool = True
    signs: np.ndarray | None = None
    expected_dice: ExpectedDice | None = None

    @classmethod
    def of_mask(cls, mask: np.ndarray, predicted_iou: float = 1.0) -> SliceResult:
        """A mask that no network was asked about."""
        return cls(mask, predicted_iou, np.where(mask, np.inf, -np.inf).astype(np.float32), (), torch.empty(0))

    @property
    def quality(self) -> float:
        """`predicted_iou`, by its earlier name."""
        return self.predicted_iou


@dataclass(frozen=True, eq=False)
class SliceRequest:
    """given: the prompt as the user put it. prompt: as the network is shown it, in `crops`.

    previous: the result whose logits go back into the network, or None. fold: the corrections that were made before,
    or None. complete: see `SliceResult`.
    """

    given: SlicePrompt
    prompt: SlicePrompt
    crops: tuple[Crop, ...]
    previous: SliceResult | None
    fold: Fold | None = None
    complete: bool = True

    def previous_logits(self, crop: Crop) -> torch.Tensor | None:
        """(s, s), of one of the crops."""
        return None if self.previous is None else self.previous.low_res_logits[self.crops.index(crop)]


class CropAnswer(NamedTuple):
    """What the network answered a prompt in one crop. logits: (h, w) on the slice. low_res_logits: (s, s).

    pooled: of the whole slice's embedding (`signs.pooled`), where something was learnt of such.
    """

    logits: np.ndarray
    low_res_logits: torch.Tensor
    predicted_iou: float
    no_contrast: bool
    pooled: np.ndarray | None = None
