"""torch runs the network, on any device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medsam.errors import InputError
from medsam.inference.engines.base import AT_ONCE, Precision
from medsam.models.mask_decoder import ImageTokens
from medsam.models.sam import Sam


class TorchEngine:
    """An `Engine` of torch alone.

    precision: of the encoder. The decoder stays in float32: positions of prompts do not survive less.
    """

    name = "torch"

    def __init__(self, sam: Sam, device: torch.device, precision: Precision = "auto") -> None:
        if precision == "auto":
            precision = "bfloat16" if device.type == "cuda" else "float32"
        if precision == "int8":
            raise InputError(
                "int8 runs as an exported graph on a CPU only; use bfloat16, or leave `precision` out.",
                parameter="precision",
            )
        self.sam, self.device, self.precision = sam, device, str(precision)
        self._dtype: torch.dtype = getattr(torch, self.precision)

    def warm_up(self) -> None:
        pass

    def encode(self, images: Tensor) -> Tensor:
        lower = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self._dtype, enabled=lower):
            return self.sam.encode_image(images.to(self.device)).float()

    def precompute(self, features: Tensor) -> None:
        # weights that are trained meanwhile would make it wrong
        return None

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
        count = max((len(tensor) for tensor in prompts.values()), default=0)
        logits, scores = [], []
        with torch.inference_mode():
            # once also for no prompts, which the network refuses
            for start in range(0, max(count, 1), at_once):
                given = {name: each[None, start : start + at_once].to(self.device) for name, each in prompts.items()}
                maps, predicted_iou = self.sam.decode(features, **given, multimask=multimask)
                logits.append(maps[0].float())
                scores.append(predicted_iou[0].float())
            return (logits[0], scores[0]) if len(logits) == 1 else (torch.cat(logits), torch.cat(scores))
