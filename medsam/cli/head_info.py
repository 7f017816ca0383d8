"""`medsam models info HEAD`: what a head knows, what it learnt from, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsam.cli.table import print_table


def head_facts(path: Path) -> dict[str, Any] | None:
    """The card of a head's file, ready for JSON; None for another file. Raises CheckpointError for a damaged one."""
    # loads torch: only here, never for `list` or `fetch`
    from medsam.labels import english, nameable
    from medsam.models.heads import HeadCard
    from medsam.models.weights_file import HEAD_KEY, read_tensors

    tensors, card = read_tensors(path)
    if card is None or HEAD_KEY not in card:
        return None
    known, names = HeadCard.from_dict(card), set(nameable())
    structures = [
        {
            "structure": name,
            "english": english(name) if name in names else name,
            "tested": name in known.measured,
            "measured": dict(known.measured.get(name, {})),
            "threshold": known.thresholds.get(name),
        }
        for name in known.classes
    ]
    return {
        "head": known.kind,
        "name": known.name,
        "model": known.model,
        "licence": known.licence or None,
        "text_encoder": None if known.text_encoder is None else dict(known.text_encoder),
        "modalities": list(known.modalities),
        "weights": sum(tensor.numel() for tensor in tensors.values()),
        "structures": structures,
        "data": [dict(one) for one in known.data],
        "recipe": dict(known.recipe),
    }


def print_head(facts: Mapping[str, Any]) -> None:
    """A head's card for people: what was measured first, what was not marked as untested."""
    modalities = ", ".join(facts["modalities"]) or "not stated"
    print(f"{facts['name']}: a head ({facts['head']}) beside {facts['model']}, {facts['weights']:,} weights")
    print(f"licence of the weights: {facts['licence'] or 'not stated'}; learnt from modality {modalities}")
    if facts["text_encoder"] is not None:
        kind, digest = (facts["text_encoder"][key] for key in ("kind", "digest"))
        print(f"reads names by {kind.upper()}, digest {digest[:12]}, which does not come with it: --clip")
    for one in facts["data"]:
        counts = ", ".join(f"{one[key]} {key}" for key in ("patients", "cases", "slices") if key in one)
        print(f"data: {one['name']} ({counts}){'; ' + one['licence'] if one.get('licence') else ''}")
    measured = list(dict.fromkeys(key for one in facts["structures"] for key in one["measured"]))
    rows = [
        (
            one["english"],
            *(_plain(one["measured"].get(key)) for key in measured),
            "" if one["tested"] else "UNTESTED: offered with --untested alone",
        )
        for one in facts["structures"]
    ]
    print_table(("structure", *(key.replace("_", " ") for key in measured), ""), rows)


def _plain(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
