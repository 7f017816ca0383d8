"""Whether two runs did the same task: why a difference between them may not be the models' alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsam.errors import InputError, counted
from medsam.evaluation.tables import TITLES

# of a protocol: what a pair of runs may differ in, or what the prompt's name already tells
_FREE = ("models", "command", "cases", "oracle", "manifests", "skipped", "by")


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value there, value here) of what two descriptions of an evaluation differ in; None: it has no such key."""
    keys = dict.fromkeys((*there, *here))
    return [(key, there.get(key), here.get(key)) for key in keys if there.get(key) != here.get(key)]


def task_warnings(
    folders: tuple[Path, Path],
    prompts: tuple[str, str],
    common: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> list[str]:
    """A sentence for each way in which the tasks of A and B differ.

    prompts: of the two sides. common: the rows of metrics.csv of each case and structure that both scored.
    Raises InputError for a summary.json that is not JSON.
    """
    found = []
    if prompts[0] != prompts[1]:
        found.append(f"The prompts differ: {prompts[0]} for A, {prompts[1]} for B.")
    if Path(folders[0]).resolve() != Path(folders[1]).resolve():
        protocols = [_protocol(folder) for folder in folders]
        for folder, protocol in zip(folders, protocols, strict=True):
            if protocol is None:
                found.append(f"{folder} has no protocol in a summary.json: it cannot be checked that both were equal.")
        if protocols[0] is not None and protocols[1] is not None:
            found += [
                f"The protocols differ: {key} is {json.dumps(one)} in A and {json.dumps(other)} in B."
                for key, one, other in sorted(changes(_primary(protocols[0]), _primary(protocols[1])))
            ]

    def count(differ: Any) -> int:
        return sum(bool(differ(*rows)) for rows in common)

    for number, what in (
        (count(lambda one, two: one["patient"] != two["patient"]), "belong to another patient (A's is used)"),
        (count(_other_volume), "have another reference volume"),
        (count(lambda one, two: one["n_slices"] != two["n_slices"]), "were scored on another number of slices"),
    ):
        if number:
            found.append(f"{number} of {counted(len(common), 'pair')} {what}: the two runs did not see the same task.")
    return found


def empty_warnings(common: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], metric: str) -> list[str]:
    """One sentence where one side has more empty answers than the other; they show in distances only.

    common: as of `task_warnings`; the metric is inf for an empty answer.
    """
    empty = {name: sum(math.isinf(pair[side][metric]) for pair in common) for side, name in enumerate("AB")}
    if empty["A"] == empty["B"]:
        return []
    (more, most), (less, least) = sorted(empty.items(), key=lambda entry: -entry[1])
    return [
        f"{more} has {counted(most, 'empty answer')}, {less} {least or 'none'}: they rank as the worst "
        f"{TITLES[metric].removesuffix(' (mm)')}, but the means leave their pairs out and flatter {more}."
    ]


def _other_volume(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    volumes = one["volume_ref_ml"], two["volume_ref_ml"]
    return all(map(math.isfinite, volumes)) and not math.isclose(*volumes, rel_tol=1e-6, abs_tol=1e-9)


def _primary(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What of a protocol the answers to the primary prompt depend on."""
    found = {key: value for key, value in protocol.items() if key not in _FREE}
    jitter = found.get("jitter_px")
    # the first is that of the primary prompt; more of them change nothing for it
    return found | ({"jitter_px": jitter[0]} if isinstance(jitter, list) and jitter else {})


def _protocol(folder: Path) -> dict[str, Any] | None:
    path = Path(folder) / "summary.json"
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}. Run `medsam evaluate` again.") from None
    protocol = summary.get("protocol") if isinstance(summary, dict) else None
    return protocol if isinstance(protocol, dict) else None
