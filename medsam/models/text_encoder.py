"""Text -> embedding: all-MiniLM-L6-v2, a BERT of six layers whose outputs are averaged.

Source: Devlin et al. 2018 (arXiv 1810.04805), Wang et al. 2020 (MiniLM, 2002.10957), Reimers and Gurevych 2019
(sentence embeddings, 1908.10084); parameter names of the public weights. It is the encoder of the names that prompt a
`NameHead`, and is needed only for names that are not in the bank (`models.name_bank`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsam.assets.cache import fetch
from medsam.errors import CheckpointError
from medsam.models.weights_file import read_tensors
from medsam.models.word_pieces import WordPieces

WIDTH = 384
_ASSET = "minilm"
_LONGEST = 256  # word pieces, as published


class TextEncoder(nn.Module):
    """Texts -> unit vectors. Defaults: the sizes of MiniLM-L6."""

    def __init__(
        self, width: int = WIDTH, layers: int = 6, heads: int = 12, hidden: int = 1536, words: int = 30522
    ) -> None:
        super().__init__()
        self.embeddings = _Embeddings(words, width)
        self.layer = nn.ModuleList(_Layer(width, heads, hidden) for _ in range(layers))

    def forward(self, pieces: Tensor) -> Tensor:
        """Numbers of word pieces of one text (T,) -> its embedding (C,), of length 1."""
        x = self.embeddings(pieces[None])
        for layer in self.layer:
            x = layer(x)
        return F.normalize(x.mean(dim=1), dim=-1)[0]


class _Embeddings(nn.Module):
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, width)
        self.position_embeddings = nn.Embedding(512, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, pieces: Tensor) -> Tensor:
        positions = torch.arange(pieces.shape[1], device=pieces.device)
        x = self.word_embeddings(pieces) + self.position_embeddings(positions) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(x)


class _Layer(nn.Module):
    """Attention, then two linear layers, each added to its input and normalised. No mask: texts come one by one."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, eps=1e-12)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.narrow_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.attended_norm(x + self.attended(seen))
        return self.narrow_norm(x + self.narrow(F.gelu(self.widen(x))))


_NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "widen",
    "output.dense": "narrow",
    "output.LayerNorm": "narrow_norm",
}


def load_text_encoder(weights: Path) -> TextEncoder:
    """MiniLM's published `model.safetensors`. Raises CheckpointError for other weights."""
    tensors, _ = read_tensors(weights)
    encoder = TextEncoder().eval()
    found = {_our_name(name): tensor for name, tensor in tensors.items() if name != "embeddings.position_ids"}
    found = {name: tensor for name, tensor in found.items() if not name.startswith("pooler.")}
    try:
        encoder.load_state_dict(found)
    except RuntimeError as error:
        raise CheckpointError(f"{weights.name} does not hold the weights of all-MiniLM-L6-v2.") from error
    return encoder.requires_grad_(False)


def _our_name(name: str) -> str:
    if not name.startswith("encoder.layer."):
        return name
    number, _, rest = name.removeprefix("encoder.layer.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"layer.{number}.{_NAMES.get(part, part)}.{kind}"


class PhraseEncoder:
    """English phrases -> embeddings (N, 384) of length 1, with the vocabulary that belongs to the weights."""

    def __init__(self, weights: Path, vocabulary: Path) -> None:
        self._encoder, self._pieces = load_text_encoder(weights), WordPieces(vocabulary)

    @torch.inference_mode()
    def encode(self, phrases: Sequence[str]) -> Tensor:
        """float32 (N, 384)."""
        return torch.stack([self._encoder(torch.tensor(self._pieces.encode(text, _LONGEST))) for text in phrases])


@functools.cache
def phrase_encoder() -> PhraseEncoder:
    """MiniLM, fetched the first time (83 MB). Raises AssetError where that cannot be."""
    files = fetch(_ASSET)
    return PhraseEncoder(files["weights"], files["vocabulary"])
