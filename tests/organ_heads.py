"""A small random head that finds boxes, for a small random model; beside `named_heads`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from medsam.models.detector import Detector, DetectorSizes
from medsam.models.heads import Head, HeadCard, encoder_digest, save_head
from medsam.models.sam import Sam


def detector_head(path: Path, sam: Sam, threshold: float = 1e-9, **card: Any) -> Path:
    """Write a detector of a spleen and a left kidney that believes its boxes from `threshold` on. card: what else."""
    classes = card.get("classes", ("Spleen", "Left Kidney"))
    sizes = DetectorSizes(len(classes), sam.spec.decoder.width, 16, 16)
    plain = HeadCard(
        "detector", "boxes", classes, sam.spec.name, encoder_digest(sam), asdict(sizes), "CC BY-SA 4.0",
        thresholds=dict.fromkeys(classes, threshold),
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        save_head(Head(replace(plain, **card), Detector(sizes).state_dict()), path)
    return path
