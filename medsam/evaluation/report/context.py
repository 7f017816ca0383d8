"""What the template of an evaluation's page is given: numbers and names, no HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from medsam._version import __version__
from medsam.drawing.colours import PREDICTION, REFERENCE
from medsam.errors import InputError, counted
from medsam.evaluation.bootstrap import MIN_PATIENTS
from medsam.evaluation.report.figures import FEW
from medsam.evaluation.report.run_data import HEADLINE, RunData, Series, group_tables
from medsam.evaluation.summary import rows_of
from medsam.evaluation.tables import METRICS, ORACLE, TITLES, without_distance
from medsam.labels import DEFAULT_TOLERANCE_MM, tolerance
from medsam.metrics.measure import DEFINITIONS, EMPTY_RULE

# below this the volume Dice of a case is listed as a failure
FAILURE_DICE = 0.5
MAX_FAILURES = 200
MAX_SKIPPED = 50

_PROMPT = re.compile(
    r"(?P<start>box|propagate|mask|lasso|lines?|ellipse|scribble-pair)?(?:\+(?P<px>\d+)px)?"
    r"(?:\+?(?P<by>points|scribbles):(?P<count>\d+))?(?P<one>point|scribble)?"
)
_STARTS = {
    "mask": "a rough mask made",
    "lasso": "a lasso drawn",
    "line": "the longest line across, drawn",
    "lines": "the longest line across and the one at a right angle to it, drawn",
    "ellipse": "an ellipse drawn",
    "scribble-pair": "a scribble inside and one outside, drawn",
}
VOLUMES = {"volume_ml": "Volume (ml)", "volume_ref_ml": "Reference volume (ml)"}


def page_context(run: RunData, title: str | None) -> dict[str, Any]:
    """Everything but the pictures and plots. title: of the page; by default it names the models."""
    models = [series.name for series in run.series if not series.baseline]
    propagated = run.primary.startswith("propagate")
    return {
        "title": title or (f"Evaluation: {', '.join(models)}" if models else "Evaluation without a model"),
        "version": __version__,
        "series": run.series,
        "everyone": run.everyone,
        "models": models,
        "first": run.first,
        "summary": run.summary,
        "prompt": run.primary,
        "prompt_words": _prompt_words(run.primary),
        "propagated": propagated,
        "counts": _counts(run, propagated),
        "headline": HEADLINE,
        "metrics": METRICS,
        "titles": TITLES,
        "best": {metric: _best(run, metric) for metric in HEADLINE},
        "structures": run.structures,
        "anchors": {name: f"structure-{place}" for place, name in enumerate(run.structures, 1)},
        "without_distance": without_distance(run.asked),
        "prompts": _prompt_rows(run),
        "oracle": ORACLE,
        "calibration": (known := run.summary.get("calibration") or {}),
        "told_dice": {name: one["expected_dice"] for name, one in known.items() if "expected_dice" in one},
        "few": FEW,
        "colours": (REFERENCE, PREDICTION),
        "times": _times(run),
        "definitions": {
            (TITLES | VOLUMES).get(key, key): _definition(key, text, propagated) for key, text in DEFINITIONS.items()
        },
        "empty_rule": EMPTY_RULE,
        "datasets": run.summary.get("datasets") or {},
        "groups": (groups := group_tables(run)),
        "few_patients": any(known.get("few") for found in groups.values() for _, known, _ in found),
        "min_patients": MIN_PATIENTS,
        **_failures(run, models),
        **_protocol(run),
    }


def _counts(run: RunData, propagated: bool) -> dict[str, int]:
    one = run.asked[run.asked["model"] == run.first.name]
    return {
        "cases": run.rows["case"].nunique(),
        "patients": run.rows["patient"].nunique(),
        "structures": len(run.structures),
        # propagation is prompted once a structure and case
        "prompts": (len(one) if propagated else int(one["n_slices"].fillna(0).sum())),
    }


def _failures(run: RunData, models: Sequence[str]) -> dict[str, Any]:
    failed = run.asked[run.asked["model"].isin(models) & (run.asked["dice"] < FAILURE_DICE)]
    failed = failed.sort_values(["dice", "case", "structure", "model"], kind="stable")
    return {
        "failure_dice": FAILURE_DICE,
        "failures": failed.head(MAX_FAILURES).to_dict("records"),
        "failed": len(failed),
        "answers": int(run.asked["model"].isin(models).sum()),
    }


def _protocol(run: RunData) -> dict[str, Any]:
    protocol = dict(run.summary.get("protocol") or {})
    command = protocol.pop("command", None)
    tolerances = protocol.pop("nsd_tolerance_mm", None) or {}
    manifests = protocol.pop("manifests", None) or []
    skipped = protocol.pop("skipped", None) or []
    protocol.pop("by", None)
    environment = run.summary.get("environment") or {}
    return {
        "min_pixels": protocol.get("min_pixels"),
        "tolerances": _tolerances(tolerances, run.structures),
        "references": {_plain(entry.get("name")): _plain(entry.get("reference")) for entry in manifests},
        "skipped": [tuple(_plain(entry.get(key)) for key in ("case", "structure", "why")) for entry in skipped],
        "max_skipped": MAX_SKIPPED,
        "protocol": [(key.replace("_", " "), _plain(value)) for key, value in protocol.items()],
        "environment": [(key.replace("_", " "), _plain(value)) for key, value in environment.items()],
        "command": command,
    }


def _best(run: RunData, metric: str) -> float | None:
    means = [(run.summary[series.name]["overall"].get(metric) or {}).get("mean") for series in run.series]
    known = [mean for mean in means if mean is not None]
    if len(known) < 2:
        return None
    return min(known) if metric.endswith("_mm") else max(known)


def _prompt_words(prompt: str) -> str:
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        return f"slice by slice from the prompt “{prompt}” drawn from the reference"
    said = []
    if match["start"] in _STARTS:
        said.append(f"{_STARTS[match['start']]} from the reference")
    elif match["start"]:
        moved = (
            f" with each edge moved outwards by 0 to {counted(int(match['px']), 'pixel')} at random"
            if match["px"]
            else ""
        )
        said.append(f"the tight box of the reference{moved}")
    if match["start"] == "propagate":
        return f"through the volume from one prompt a structure, {said[0]} on its middle slice"
    count = 1 if match["one"] else int(match["count"] or 0)
    if count:
        what = "scribble" if "scribbles" in (match["by"], f"{match['one']}s") else "click"
        said.append(f"{counted(count, what)} drawn from the reference")
    return f"slice by slice from {' and '.join(said)}"


def _prompt_rows(run: RunData) -> list[tuple[Series, str, Mapping[str, Any]]]:
    """(series, prompt, overall statistics) of every prompt of every model; empty when there was one prompt."""
    rows = rows_of(run.summary)
    return [
        (series, prompt, entry["overall"])
        for series in run.everyone
        for name, prompt, entry in rows
        if name == series.name and prompt is not None
    ]


def _times(run: RunData) -> list[tuple[Series, float, float, float]]:
    """(model, median seconds a case, median seconds a slice, mean encoder runs a case) by structures together.

    A model without times is left out; encoder runs are nan in folders that do not tell them.
    """
    found = []
    for series in run.series:
        rows = run.asked[(run.asked["model"] == series.name) & run.asked["seconds"].notna()]
        if len(rows) and not series.baseline:
            each = rows["seconds"] / rows["n_slices"]
            by_case = rows.groupby("case")
            runs = by_case["encoder_calls"].sum(min_count=1).mean()
            found.append((series, float(by_case["seconds"].sum().median()), float(each.median()), float(runs)))
    return found


_CHOSEN = "chosen for this run (the same for every structure)"


def _tolerances(used: Mapping[str, float], structures: Sequence[str]) -> list[tuple[str, float, str]]:
    """Structure, the tolerance its NSD was measured with, and where that number comes from."""
    found = []
    chosen = len(set(used.values())) == 1
    for name in structures:
        if name not in used:
            continue
        try:
            published = tolerance(name)
        except InputError:  # a name without a letter or digit has no entry
            published = None
        own = published is not None and published.mm == used[name] != DEFAULT_TOLERANCE_MM
        found.append((name, used[name], published.source if published and (own or not chosen) else _CHOSEN))
    return found


def _definition(key: str, text: str, propagated: bool) -> str:
    """As the page applies it: what a table shows for infinity, and that volumes are of the prompted slices."""
    if key.startswith("volume") and not propagated:
        text += " Only prompted slices count, in the prediction and in the reference."
    return f"{text} Infinite is shown as – here." if "infinite" in text else text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(entry)}" for key, entry in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(entry) for entry in value) or "–"
    return str(value)
