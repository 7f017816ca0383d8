"""Embeddings of the names of structures, made once: a prompt by name needs no text encoder.

`name_bank.safetensors` holds what all-MiniLM-L6-v2 makes of every English phrase of `labels.languages`, in half
precision, beside the phrases and the structures they mean. `scripts/name_bank.py` writes it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medsam.errors import PromptError
from medsam.models.weights_file import read_tensors

BANK = Path(__file__).parents[1] / "assets" / "weights" / "name_bank.safetensors"


@dataclass(frozen=True, eq=False)
class NameBank:
    """phrases: English. names: which structure each means, canonical. embeddings: float32 (N, 384), of length 1."""

    phrases: tuple[str, ...]
    names: tuple[str, ...]
    embeddings: Tensor

    def of(self, name: str) -> Tensor:
        """What the phrases of a structure embed to, the usual one first, (M, 384). Raises PromptError for none."""
        rows = [number for number, known in enumerate(self.names) if known == name]
        if not rows:
            raise PromptError(f"{name!r} is not among the names with a known embedding (medsam.labels.nameable).")
        return self.embeddings[rows]

    def nearest(self, embedding: Tensor, limit: int = 3) -> list[tuple[str, float]]:
        """Structures by the cosine of their nearest phrase with an embedding (384,), the nearest first."""
        cosines = (self.embeddings @ F.normalize(embedding.float(), dim=-1)).numpy()
        best: dict[str, float] = {}
        for row in np.argsort(-cosines):
            best.setdefault(self.names[row], float(cosines[row]))
            if len(best) == limit:
                break
        return list(best.items())


@functools.cache
def name_bank() -> NameBank:
    """The bank of this package."""
    tensors, card = read_tensors(BANK)
    entries = (card or {})["phrases"]
    embeddings = F.normalize(tensors["embeddings"].to(torch.float32), dim=-1)
    return NameBank(tuple(phrase for phrase, _ in entries), tuple(name for _, name in entries), embeddings)
