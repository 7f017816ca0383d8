"""What an evaluation without prompts found, kept in the head's own file: then its structures are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsam.errors import InputError
from medsam.io.structure_names import plain_name
from medsam.models.heads import read_head, renamed, save_head


def record(head: Path, summary: Mapping[str, Any], sets: Sequence[str], split: str | None) -> list[str]:
    """Write the figures of a summary into a head's card, and return the structures that they are of.

    sets: names of the manifests. split: that was measured.
    Raises InputError without a split, or for that which a head learns from: patients have to be new to it.
    """
    if split in (None, "train", "val"):
        raise InputError(
            f"What is recorded in a head has to be measured on patients that it never saw, and the split is {split!r}: "
            "give the one that was kept apart with `split`, such as test.",
            parameter="split",
        )
    known = read_head(head)
    found: dict[str, Any] = {}
    for by in summary.get("detection", {}).values():  # of several models the first, as its Dice is
        for name, about in by.items():
            if about["present"]:  # on no scan: nothing is known of its outlines
                found.setdefault(name, about)
    measured = dict(known.card.measured)
    for name in known.card.classes:
        theirs = next((one for one in found if plain_name(one) == plain_name(name)), None)
        if theirs is not None:
            measured[name] = {"set": ", ".join(sets), "split": split, **_figures(summary, theirs, found[theirs])}
    if measured == known.card.measured:
        raise InputError(f"The evaluation says nothing of {', '.join(known.card.classes)}: there is nothing to record.")
    save_head(renamed(known, measured=measured), head)
    return [name for name in known.card.classes if name in measured]


def _figures(summary: Mapping[str, Any], name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    dice = _dice(summary, name)
    return {
        "patients": dice.get("patients"),
        "scans": about["scans"],
        "dice": None if dice.get("mean") is None else round(dice["mean"], 4),
        "ci95": [round(edge, 4) for edge in dice.get("ci95") or []] or None,
        "found": f"{about['found']} of {about['present']}",
        "false_alarms": about["false_alarms"],
        "scans_without": about["scans_without"],
        "scans_without_with_alarm": about["scans_without_with_alarm"],
        "presence_auc": about["presence_auc"],
    }


def _dice(summary: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Of the masks found without a prompt, of the first model that has any."""
    for model in summary["detection"]:
        entry = summary.get("prompts", {}).get(model, {}).get("auto") or summary.get(model, {})
        if name in entry.get("structures", {}):
            return entry["structures"][name]["dice"]
    return {}
