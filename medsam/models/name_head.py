"""Names as prompts: the embedding of a name -> a few tokens beside the sparse prompts, and whether it is there at all.

Letters: B images, P names an image, E length of a name's embedding, T tokens a name, C width of the decoder.
  names     (B, P, E)      unit vectors, of `models.name_bank` or a text encoder
  places    (B, P, 4)      where the slice is: its place in the volume in [0, 1], and which plane (one of three is 1)
  tokens    (B, P, T, C)   T - 1 of the name, one of the place
  presence  (B, P)         a logit: above 0 the structure is rather on the slice than not
A slice knows its own left and right (it is upright, see `geometry.View`), and nothing of what lies above and below:
hence the places. Idea: Kirillov et al. 2023 (arXiv 2304.02643), section 7.5 and appendix D.5; Ma et al. 2024's
extension puts all of CLIP's word states beside the prompts. The score of presence follows SAM 3's presence token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsam.errors import CheckpointError
from medsam.geometry import Axis, VolumeGeometry
from medsam.models.heads import Head
from medsam.models.sam import Sam

PLACES = 4
_WAVES = 4


@dataclass(frozen=True)
class NameSizes:
    """embedding: E. width: C. tokens: those of the name, T - 1.

    stride: how many cells of the image embedding become one, a side. 2 costs a quarter of the time, in training and in
    an answer, and draws outlines to two pixels of the model's input, where 1 draws them to one.
    """

    embedding: int = 384
    width: int = 256
    tokens: int = 4
    stride: int = 2

    def to_dict(self) -> dict[str, int]:
        """As a head's card has them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, sizes: Mapping[str, int]) -> NameSizes:
        """Inverse of `to_dict`."""
        return cls(**{name: int(size) for name, size in sizes.items()})


class NameHead(nn.Module):
    """Tokens of names for a decoder, and their presence from what it answers."""

    def __init__(self, sizes: NameSizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes = sizes or NameSizes()
        width = sizes.width
        self.name = nn.Sequential(nn.Linear(sizes.embedding, width), nn.GELU(), nn.Linear(width, sizes.tokens * width))
        self.place = nn.Linear(2 * _WAVES + PLACES, width)
        self.norm = nn.LayerNorm(width)
        self.score = nn.Sequential(nn.Linear(width, width // 4), nn.GELU(), nn.Linear(width // 4, 1))

    def forward(self, names: Tensor, places: Tensor) -> Tensor:
        """names (B, P, E), places (B, P, 4) -> tokens (B, P, T, C)."""
        # unit vectors of 384 numbers are small; as wide as what a layer expects they learn faster
        named = self.name(names * math.sqrt(self.sizes.embedding)).unflatten(-1, (self.sizes.tokens, -1))
        return self.norm(torch.cat([named, self.place(_waves(places))[:, :, None]], dim=2))

    def presence(self, summary: Tensor) -> Tensor:
        """What the decoder knows of each prompt, (B, P, C) (`Sam.decode_text`) -> logits (B, P)."""
        return self.score(summary)[..., 0]

    def answer(self, sam: Sam, embedding: Tensor, names: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P names on each of B images.

        sam: with the decoder that learnt beside this head. embedding: (B, C, h, w).
        Returns mask logits (B, P, 4h / stride, 4w / stride), logits of presence and the predicted IoU, (B, P) each.
        """
        if self.sizes.stride > 1:
            embedding = F.avg_pool2d(embedding, self.sizes.stride)
        logits, predicted_iou, summary = sam.decode_text(embedding, self(names, places))
        return logits[:, :, 0], self.presence(summary), predicted_iou[:, :, 0]

    @classmethod
    def of(cls, head: Head) -> NameHead:
        """The network of a file of the kind "names", in evaluation mode. Raises CheckpointError."""
        unknown = sorted(head.card.sizes.keys() - asdict(NameSizes()).keys())
        if unknown:
            called = head.path or head.card.name
            raise CheckpointError(f"{called}: the card of this head has sizes of another network.")
        with torch.device("meta"):
            network = cls(NameSizes.from_dict(head.card.sizes))
        head.load_into(network)
        return network.eval()


def _waves(places: Tensor) -> Tensor:
    """(B, P, 4) -> (B, P, 12): the place in the volume also as sines and cosines of up to four turns."""
    turns = math.pi * places[..., :1] * 2.0 ** torch.arange(_WAVES, device=places.device)
    return torch.cat([places, turns.sin(), turns.cos()], dim=-1)


def slice_places(geometry: VolumeGeometry, axis: Axis | None = None) -> np.ndarray:
    """`places` of every slice of a volume, float32 (slices, 4)."""
    along = geometry.slice_places(axis)
    plane = np.zeros((len(along), 3))
    plane[:, geometry.across(axis)] = 1
    return np.concatenate([along[:, None], plane], axis=1).astype(np.float32)
