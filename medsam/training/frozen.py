"""Embeddings of an image encoder that does not learn: made once, and kept."""

from __future__ import annotations

import torch

from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.engines.base import EngineName, Precision
from medsam.inference.image_predictor import ImagePredictor
from medsam.models.sam import Sam

# of embeddings that are kept without a folder
_IN_MEMORY = 2 * 2**30


def frozen_encoder(
    model: Sam | str,
    device: torch.device,
    folder: str | None,
    *,
    kept: bool = True,
    precision: Precision = "auto",
    engine: EngineName = "torch",
) -> ImagePredictor:
    """Who encodes slices for training.

    model: as for `ImagePredictor`, which takes the quickest engine for one that is named. folder: where embeddings
    stay; None: in memory, up to 2 GiB, if they are `kept`.
    """
    cache = EmbeddingCache(memory_bytes=_IN_MEMORY if kept else 0, folder=folder)
    return ImagePredictor(model, str(device), cache, precision=precision, engine=engine)
