"""What every engine does, and an engine that stands in for another.

Letters: P prompts, M masks a prompt, s the side of the logits, four times that of the embedding's grid.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor

from medsam.errors import MedSAMError
from medsam.models.mask_decoder import ImageTokens

Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
EngineName = Literal["auto", "torch", "openvino"]

# Logit of a pixel outside the requested region: certainly outside, and finite, so that enlarging never meets inf - inf.
OUTSIDE_ROI = -32.0
# Prompts that go through the decoder together. More gains nothing on a CPU and lets a slice with hundreds of prompts
# exhaust memory.
AT_ONCE = 32

_log = logging.getLogger(__name__)


class EngineError(MedSAMError):
    """An exported graph cannot be made or run, or does not answer as torch does."""


class Engine(Protocol):
    """Encodes images, and decodes prompts on what came out.

    name: for reports. device: where it runs and leaves its answers. precision: of the encoder, as torch names it.
    """

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> str: ...

    def warm_up(self) -> None:
        """Make all that answers of any kind wait for, so that nothing has to be made, or fails to be, between them."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Preprocessed images (B, 3, S, S) -> embedding (B, C, h, w), float32."""
        ...

    def precompute(self, features: Tensor) -> ImageTokens | None:
        """What all prompts without a mask on one embedding (1, C, h, w) share; None where nothing is gained."""
        ...

    def decode(
        self,
        features: Tensor,
        prompts: Mapping[str, Tensor],
        *,
        multimask: bool,
        image: ImageTokens | None = None,
        roi: Tensor | None = None,
        extend_roi: bool = False,
        at_once: int = AT_ONCE,
    ) -> tuple[Tensor, Tensor]:
        """P prompts on one embedding (1, C, h, w), named and shaped as `Sam.decode` takes them but for the image axis.

        image: of `precompute`; made anew where it is needed and not given.
        roi: (P, 4), boxes in model pixels outside of which logits are not used: they may be `OUTSIDE_ROI`.
        extend_roi: but where a mask (above `mask_threshold`) reaches out of its box, all its logits are made.
        at_once: prompts that go through the decoder together, at most.
        Returns logits (P, M, s, s) and predicted IoU (P, M), float32. Raises PromptError as `Sam.decode` does.
        """
        ...


class FallbackEngine:
    """One engine, and a second that takes its place for good where the first cannot get ready.

    Which of the two it is, is known after `warm_up`, and every other method sees to that first: one engine gives all
    answers. What fails later is raised.
    """

    def __init__(self, first: Engine, second: Engine) -> None:
        self._engine, self._second = first, second
        self._settled = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def device(self) -> torch.device:
        return self._engine.device

    @property
    def precision(self) -> str:
        return self._engine.precision

    def warm_up(self) -> None:
        self._settle()

    def encode(self, images: Tensor) -> Tensor:
        return self._settle().encode(images)

    def precompute(self, features: Tensor) -> ImageTokens | None:
        return self._settle().precompute(features)

    def decode(
        self,
        features: Tensor,
        prompts: Mapping[str, Tensor],
        *,
        multimask: bool,
        image: ImageTokens | None = None,
        roi: Tensor | None = None,
        extend_roi: bool = False,
        at_once: int = AT_ONCE,
    ) -> tuple[Tensor, Tensor]:
        return self._settle().decode(
            features, prompts, multimask=multimask, image=image, roi=roi, extend_roi=extend_roi, at_once=at_once
        )

    def _settle(self) -> Engine:
        if not self._settled:
            with self._lock:
                if not self._settled:
                    try:
                        self._engine.warm_up()
                    except (EngineError, ImportError, OSError) as error:
                        _log.warning("%s Torch answers instead, about half as fast.", error)
                        self._second.warm_up()
                        self._engine = self._second
                    self._settled = True
        return self._engine
