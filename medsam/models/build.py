"""The one registry: a model by name, by spec, or from a checkpoint file."""

from __future__ import annotations

from pathlib import Path

import torch

from medsam.errors import CheckpointError
from medsam.models.checkpoint import load_checkpoint, load_decoder
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, ModelSpec


def build_model(spec: ModelSpec | str) -> Sam:
    """A model with random weights (drawn from torch's global generator), in training mode.

    spec: a `ModelSpec` or a name in `SPECS`. Raises CheckpointError for an unknown name.
    """
    return Sam.from_spec(_spec(spec))


def load_model(source: str | Path, device: str | torch.device = "cpu", spec: ModelSpec | str | None = None) -> Sam:
    """A model with its weights, in evaluation mode, fp32, on `device`.

    source: a name in `SPECS`, whose weights are fetched once and verified, or a checkpoint: the original SAM
        `.pth`, MedSAM, LiteMedSAM, a Hugging Face `SamModel` (file or folder), a Lightning checkpoint or one of
        `save_checkpoint`. A name in `SPECS` wins over a file of that name; write `./name` for the file.
    spec: which model the checkpoint is. By default the card inside it says; without a card the keys and shapes
        do (see `checkpoint.load_checkpoint` for what they cannot say). `model.spec` states the outcome, and
        `model.spec.note` what had to be assumed.

    Raises CheckpointError when the file is missing, damaged, unsafe or of another architecture, and AssetError
    when a named model's weights cannot be fetched.
    """
    wanted = None if spec is None else _spec(spec)
    if isinstance(source, str) and source in SPECS:
        known = SPECS[source]
        sam = load_checkpoint(_fetched(known, known.asset)["weights"], wanted or known).eval().to(device)
        if known.clicks is not None:
            sam.propose_by(load_decoder(_fetched(known, known.clicks)["decoder"], sam))
        return sam
    path = Path(source)
    if not path.exists():
        raise CheckpointError(
            f"No checkpoint at {path}, and it is not the name of a model. Known models: {', '.join(SPECS)}."
        )
    return load_checkpoint(path, wanted).eval().to(device)


def _spec(spec: ModelSpec | str) -> ModelSpec:
    if isinstance(spec, ModelSpec):
        return spec
    if spec not in SPECS:
        raise CheckpointError(f"There is no model {spec!r}. Known models: {', '.join(SPECS)}.")
    return SPECS[spec]


def _fetched(spec: ModelSpec, asset: str | None) -> dict[str, Path]:
    from medsam.assets.cache import fetch

    if asset is None:
        raise CheckpointError(f"{spec.name} has no public weights; give the path of a checkpoint.")
    return fetch(asset)
