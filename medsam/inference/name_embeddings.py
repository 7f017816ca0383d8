"""What a name is to the head that answers it: MiniLM's embedding from the bank, or what CLIP's text tower says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from medsam.errors import CheckpointError
from medsam.labels import english
from medsam.models.clip import VARIABLE, clip_folder, load_clip
from medsam.models.heads import Head
from medsam.models.name_bank import name_bank


class NameEmbeddings:
    """clip: the folder of the CLIP that heads belong to; default `$MEDSAM_CLIP`. Needed by heads that learnt with it.

    CLIP is read once for each such head, for all of its names, and let go.
    """

    def __init__(self, clip: str | Path | None = None) -> None:
        self._clip = clip
        self._by_head: dict[int, dict[str, Tensor]] = {}

    def of(self, head: Head, names: Sequence[str]) -> Tensor:
        """Canonical names that the head knows -> float32 (P, E).

        Raises CheckpointError where its CLIP is not at hand, or another one is.
        """
        if head.card.text_encoder is None:
            bank = name_bank()
            return torch.stack([bank.of(name)[0] for name in names])
        if id(head) not in self._by_head:
            self._by_head[id(head)] = self._read(head, head.card.text_encoder["digest"])
        known = self._by_head[id(head)]
        return torch.stack([known[name] for name in names])

    def _read(self, head: Head, digest: str) -> dict[str, Tensor]:
        folder, card = clip_folder(self._clip), head.card
        if folder is None:
            raise CheckpointError(
                f"The head {card.name!r} reads names by the CLIP that it learnt with (digest {digest[:12]}), and that "
                f"does not come with it. Say in which folder it lies: `clip`, or the environment variable {VARIABLE}.",
                parameter="clip",
            )
        clip = load_clip(folder)
        if clip.digest != digest or clip.width != card.sizes.get("embedding"):
            raise CheckpointError(
                f"The head {card.name!r} learnt with another CLIP (digest {digest[:12]}) than the one in {folder} "
                f"({clip.digest[:12]}). Name the folder of its own one: `clip`, or {VARIABLE}.",
                parameter="clip",
            )
        return dict(zip(card.classes, clip.texts([english(name) for name in card.classes]), strict=True))
