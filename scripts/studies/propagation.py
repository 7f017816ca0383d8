"""One box on the middle slice, followed through the volume: against a box on every slice and the obvious recipe.

    .venv/bin/python scripts/studies/propagation.py --manifests DIR --out out/propagation [--sets SET[:CASE,...] ...]

DIR holds SET.json for every set (`medsam data recipe --all`). Each case's answer is kept in OUT/cases, so the same
command goes on where it was interrupted; then OUT/propagation.json and OUT/propagation.md are written.

Measured are structures of one piece: at least 3 prompted slices (10 pixels, the contract's box protocol) without a gap,
and in the median of them 90 % of the pixels in the largest piece. Dice is over all slices of the volume, so carrying on
behind the object's end costs as much as stopping early.

    every slice    a tight box on each prompted slice, whole-slice look (what propagation saves the reader)
    recipe         tight box on the middle prompted slice; each mask's tight box is the next, until one is empty
    propagate      the same first box, `medsam.inference.propagate` as it comes
    three boxes    propagate from the first, middle and last prompted slice

Settings were chosen on TUNED; everything else is held out.

Measured 2026-11-22, the first version. Results and what each choice gained: docs/propagation.md of commit 0efa964.
Frozen: runs at commit 4726808 (there in scripts/bench/), whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage, stats

from medsam.data.manifest import Case
from medsam.data.manifest_json import read_manifest
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.network import Looker, Network
from medsam.inference.propagate import Propagation, propagate_all
from medsam.metrics.overlap import overlap
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import tight_box

TUNED = {
    ("totalseg_abdomen_ct", "totalseg_ct_slab"): {
        *("spleen", "kidney_left", "liver", "stomach", "pancreas", "aorta", "autochthon_left", "vertebrae_L1")
    },
    ("totalseg_abdomen_mr", "totalseg_mr"): {*("spinal_cord", "gallbladder", "aorta", "inferior_vena_cava", "stomach")},
    **{
        ("ct_lesion_npz", f"CT_Lesion_{name}"): {"lesion"}
        for name in ("000001_02_01_008-023", "000002_03_01_035-047", "000009_03_01_036-048")
    },
}
METHODS = ("every slice", "recipe", "propagate", "three boxes")
SETS = (
    "totalseg_abdomen_ct:totalseg_ct_slab",
    "ct_lesion_npz",
    "totalseg_abdomen_mr",
    "brain_tumour_mr",
    "msd_hippocampus_mr:hippocampus_001,hippocampus_008,hippocampus_011,hippocampus_014,hippocampus_015,hippocampus_017",
    "spinal_cord_mr",
    "sts_sarcoma_mr_pet_ct:STS_002_MR_T1,STS_003_MR_T1,STS_006_MR_T1,STS_008_CT",
)
Masks = Mapping[int, np.ndarray]


def structures(references: Mapping[str, np.ndarray], array_axis: int) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Structures of one piece: name -> reference with slices first, and its prompted slices."""
    chosen = {}
    for name, reference in references.items():
        truth = np.moveaxis(reference, array_axis, 0)
        prompted = [n for n in range(len(truth)) if tight_box(truth[n]) is not None]
        if len(prompted) < 3 or prompted[-1] - prompted[0] + 1 != len(prompted):
            continue
        largest = [
            np.bincount(ndimage.label(truth[n], np.ones((3, 3)))[0].ravel())[1:].max() / np.count_nonzero(truth[n])
            for n in prompted
        ]
        if np.median(largest) >= 0.9:
            chosen[name] = truth, prompted
    return chosen


def every_slice(look: Looker, todo: Mapping[str, tuple[np.ndarray, list[int]]]) -> dict[str, Masks]:
    masks: dict[str, dict[int, np.ndarray]] = {name: {} for name in todo}
    for index in range(look.plane.count):
        here = [name for name, (_, prompted) in todo.items() if index in prompted]
        if here:
            found = look.network.ask(look(index), [SlicePrompt(1, tight_box(todo[name][0][index])) for name in here])
            for name, mask in zip(here, found.masks[:, 0], strict=True):
                masks[name][index] = mask
    return masks


def recipe(look: Looker, todo: Mapping[str, tuple[np.ndarray, list[int]]]) -> dict[str, Masks]:
    """The previous mask's box is the next box, until the mask is empty."""
    masks: dict[str, dict[int, np.ndarray]] = {name: {} for name in todo}
    for step in (1, -1):
        boxes: dict[str, Any] = {}
        for index in range(look.plane.count)[::step]:
            for name, (truth, prompted) in todo.items():
                if index == prompted[len(prompted) // 2]:
                    boxes[name] = tight_box(truth[index])
            if not boxes:
                continue
            names = list(boxes)
            found = look.network.ask(look(index), [SlicePrompt(1, boxes[name]) for name in names])
            for name, mask in zip(names, found.masks[:, 0], strict=True):
                boxes[name] = tight_box(mask, 1)
                if boxes[name] is None:
                    del boxes[name]
                else:
                    masks[name][index] = mask
    return masks


def propagated(look: Looker, todo: Mapping[str, tuple[np.ndarray, list[int]]], three: bool) -> dict[str, Propagation]:
    seeds = {}
    for name, (truth, prompted) in todo.items():
        middle = prompted[len(prompted) // 2]
        chosen = {prompted[0], middle, prompted[-1]} if three else {middle}
        seeds[name] = {index: SlicePrompt(1, tight_box(truth[index])) for index in sorted(chosen)}
    return propagate_all(look, seeds)


def measure(network: Network, case: Case, dataset: str) -> dict[str, Any]:
    scan = case.load_image()
    look = network.looker(scan, window=case.window or "auto")
    todo = structures(case.load_references(scan), look.plane.array_axis)
    rows: dict[str, dict[str, Any]] = {
        name: {
            "set": dataset,
            "case": case.id,
            "structure": name,
            "tuned": name in TUNED.get((dataset, case.id), ()),
            "slices": len(prompted),
            "of": look.plane.count,
            "dice": {},
            "seconds": {},
            "encoded": {},
        }
        for name, (_, prompted) in todo.items()
    }
    if not todo:
        return {"rows": [], "trust": []}
    trust = []
    for method in METHODS:
        before, started = network.encoded, time.perf_counter()
        found: Mapping[str, Any]
        if method == "every slice":
            found = every_slice(look, todo)
        elif method == "recipe":
            found = recipe(look, todo)
        else:
            answers = propagated(look, todo, method == "three boxes")
            found = {name: answer.masks for name, answer in answers.items()}
            if method == "propagate":
                for name, answer in answers.items():
                    rows[name]["stopped"] = {str(index): why for index, why in answer.stopped.items()}
                    middle = todo[name][1][len(todo[name][1]) // 2]
                    trust += [
                        {
                            "structure": name,
                            "away": abs(index - middle),
                            "confidence": answer.confidence[index],
                            "quality": answer.quality[index],
                            "dice": overlap(todo[name][0][index], mask).dice,
                        }
                        for index, mask in answer.masks.items()
                    ]
        seconds = (time.perf_counter() - started) / len(todo)
        for name, (truth, _) in todo.items():
            answer = np.zeros(truth.shape, dtype=bool)
            for index, mask in found[name].items():
                answer[index] = mask
            rows[name]["dice"][method] = overlap(truth, answer).dice
            rows[name]["seconds"][method] = seconds
            rows[name]["encoded"][method] = network.encoded - before
    return {"rows": list(rows.values()), "trust": trust}


def table(results: list[dict[str, Any]]) -> str:
    rows = [row for result in results for row in result["rows"]]
    lines = [f"| set | structures | {' | '.join(METHODS)} |", f"|---|---|{'---|' * len(METHODS)}"]

    def line(name: str, chosen: list[dict[str, Any]]) -> None:
        means = (np.mean([row["dice"][method] for row in chosen]) for method in METHODS)
        lines.append(f"| {name} | {len(chosen)} | {' | '.join(f'{mean:.3f}' for mean in means)} |")

    groups: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["tuned"]), []).append(row)
    for (name, tuned), chosen in groups.items():
        line(f"{name} {'(tuned on)' if tuned else '(held out)'}", chosen)
    for tuned in (True, False):
        sets = [group for (_, flag), group in groups.items() if flag == tuned]
        if sets:
            means = [np.mean([np.mean([row["dice"][m] for row in group]) for group in sets]) for m in METHODS]
            title = "**mean of the sets tuned on**" if tuned else "**mean of the held-out sets**"
            lines.append(f"| {title} | {sum(map(len, sets))} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    lines += ["", f"| structure | slices | {' | '.join(METHODS)} |", f"|---|---|{'---|' * len(METHODS)}"]
    for row in rows:
        numbers = " | ".join(f"{row['dice'][method]:.3f}" for method in METHODS)
        lines.append(f"| {row['case']} {row['structure']} | {row['slices']} of {row['of']} | {numbers} |")
    trust = [one for result in results for one in result["trust"]]
    lines += ["", "| confidence | slices | mean Dice of the slice | share below 0.5 |", "|---|---|---|---|"]
    for low, high in ((0, 0.3), (0.3, 0.5), (0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
        dice = [one["dice"] for one in trust if low <= one["confidence"] < high]
        if dice:
            bad = np.mean(np.array(dice) < 0.5)
            lines.append(f"| {low:g} to {min(high, 1):g} | {len(dice)} | {np.mean(dice):.3f} | {100 * bad:.0f} % |")
    for key in ("confidence", "quality"):
        rank = stats.spearmanr([one[key] for one in trust], [one["dice"] for one in trust]).statistic
        lines.append(f"\nRank correlation of {key} with the slice's Dice: {rank:.2f} ({len(trust)} slices).")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT")
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="SET[:CASE,...]")
    parser.add_argument("--limit", type=int, metavar="N", help="cases a set")
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep embeddings there, 4 MiB a slice")
    arguments = parser.parse_args()
    (arguments.out / "cases").mkdir(parents=True, exist_ok=True)
    network = Network(arguments.model, cache=EmbeddingCache(folder=arguments.cache))
    results = []
    for spec in arguments.sets:
        dataset, _, wanted = spec.partition(":")
        names = wanted.split(",") if wanted else None
        cases = [c for c in read_manifest(arguments.manifests / f"{dataset}.json").cases if not names or c.id in names]
        for case in cases[: arguments.limit]:
            path = arguments.out / "cases" / f"{dataset}.{case.id}.json"
            if not path.exists():
                write(path, json.dumps(measure(network, case, dataset), indent=1))
            results.append(json.loads(path.read_text()))
            for row in results[-1]["rows"]:
                dice = "  ".join(f"{method} {row['dice'][method]:.3f}" for method in METHODS)
                print(f"{row['case']:24} {row['structure']:24} {dice}", flush=True)
    write(arguments.out / "propagation.json", json.dumps({"threads": torch.get_num_threads(), "cases": results}))
    write(arguments.out / "propagation.md", table(results))
    print(arguments.out / "propagation.md")


if __name__ == "__main__":
    main()
