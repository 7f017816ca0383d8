"""A small random head that answers names, for a small random model."""

from __future__ import annotations

from pathlib import Path

import torch

from medsam.models.build import build_model
from medsam.models.heads import Head, HeadCard, changes_of, encoder_digest, save_head
from medsam.models.name_head import NameHead, NameSizes
from medsam.models.sam import Sam

# thresholds of presence that every slice reaches, and none
LOW, HIGH = -1e6, 1e6


def learnt(sam: Sam) -> Sam:
    """The model with another decoder."""
    other = build_model(sam.spec)
    other.load_state_dict(sam.state_dict())
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(1)
        for weight in other.mask_decoder.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return other.eval()


def name_network(sam: Sam) -> NameHead:
    """Random weights of a head."""
    with torch.random.fork_rng([]):
        torch.manual_seed(2)
        return NameHead(NameSizes(width=sam.spec.decoder.width)).eval()


def named_head(path: Path, sam: Sam, trained: Sam, network: NameHead, **thresholds: float) -> Path:
    """Write a head that knows three structures, of which the spleen was measured."""
    changes, about = changes_of(sam, trained)
    names = ("spleen", "kidney_left", "liver")
    card = HeadCard(
        "names", "three", names, sam.spec.name, encoder_digest(sam), network.sizes.to_dict(), "CC BY 4.0",
        measured={"spleen": {"patients": 3, "dice": 0.8}}, thresholds=dict.fromkeys(names, LOW) | thresholds,
        decoder=about,
    )  # fmt: skip
    save_head(Head(card, network.state_dict(), changes), path)
    return path
