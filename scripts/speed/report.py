"""What was measured, as JSON and as a Markdown table."""

from __future__ import annotations

import platform
import statistics
from pathlib import Path
from typing import Any

from stages import Stage
from turns import Others


def result(
    stage: Stage,
    found: dict[str, list[dict[str, Any]]],
    facts: dict[str, Any],
    agreement: tuple[dict[str, float], bool],
    others: Others,
) -> dict[str, Any]:
    pairs = list(zip(found["ours"], found["reference"], strict=True))
    ratios = [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]
    sides = {}
    for side, told in found.items():
        times = [one["seconds"] for one in told]
        sides[side] = {
            "seconds": statistics.median(times),
            "low": min(times),
            "high": max(times),
            "all": times,
            "cpu_seconds": statistics.median(one["cpu_seconds"] for one in told),
            "peak_mib": max(one["peak_mib"] for one in told),
            "working_mib": max(one["working_mib"] for one in told),
            **facts[side],
        }
    return {
        "what": stage.what,
        **sides,
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "cpu_ratio": statistics.median(theirs["cpu_seconds"] / ours["cpu_seconds"] for ours, theirs in pairs),
        "goal": stage.goal,
        "agreement": agreement[0],
        "agrees": bool(agreement[1]),
        "others": statistics.median(others.shares),
    }


def markdown(report: dict[str, Any]) -> str:
    about = report["machine"]
    speeds = ", ".join(f"{kind} {about[f'{kind}_gflops']:.0f} GFLOP/s" for kind in about["precisions"])
    pairs = report["settings"]["pairs"]
    columns = "ours s, reference s, ratio (lowest to highest), of CPU s, goal, agreement, MiB, GFLOP, limit s, others"
    lines = [
        f"{about['processor']}, {about['threads']} threads; matrix products: {speeds}; {pairs} pairs; "
        "MiB and GFLOP: ours, reference",
        "",
        f"| stage | {columns.replace(', ', ' | ')} |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for name, row in report["stages"].items():
        precision = row["ours"]["facts"].get("precision")
        agreement = ", ".join(f"{key} {number(value)}" for key, value in row["agreement"].items())
        cells = [
            f"{name}: {row['what']}{f' ({precision})' if precision else ''}",
            number(row["ours"]["seconds"]),
            number(row["reference"]["seconds"]),
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
            f"{row['cpu_ratio']:.2f}",
            str(row["goal"] or ""),
            agreement if row["agrees"] else f"DIFFER: {agreement}",
            f"{row['ours']['peak_mib']:.0f}, {row['reference']['peak_mib']:.0f}",
            ", ".join(number(value) for value in row.get("gflop", {}).values()),
            ", ".join(f"{kind} {number(value)}" for kind, value in row.get("limit_seconds", {}).items()),
            f"{row['others']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:.4g}"


def processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def failures(report: dict[str, Any]) -> list[str]:
    """What does not agree."""
    wrong = [name for name, row in report["stages"].items() if not row["agrees"]]
    for variant, row in report.get("load", {}).items():
        wrong += [f"load {variant}, {side}" for side, same in row["voxels_equal"].items() if not same]
    return wrong
