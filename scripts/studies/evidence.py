"""How much should the box and the pixels count beside the network? Chosen on some data sets, tested on the others.

    medsam data recipe --all --root ../shared/data --out out/manifests
    .venv/bin/python scripts/studies/evidence.py out/evidence.json out/manifests/*.json

From every manifest a fixed random sample of prompts is drawn, tight and with edges 0-5 and 0-10 px outwards; the
looks of `--zoom auto` are taken once, and every setting of `Evidence` is scored on them. For each data set the setting
is chosen by the mean gain over whole-slice on all *other* sets, and scored on this one. Data sets of the same scans
are left out together. Progress is kept in the JSON: run it again to go on.

Measured 2026-11-22 on 19 data sets. Chosen: box 3, pixels 4.5. Held out, the mean gain over the whole slice alone was 0.058
with tight boxes, 0.021 with up to 5 pixels and 0.019 with up to 10; the looks and the window alone gain 0.009, 0.008,
0.004. docs/results/prior_weights.csv
Frozen: runs at commit 4726808 (there in scripts/bench/), whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import zlib
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from medsam.data.manifest_json import read_manifest
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import Evidence, answer_slice, together, with_evidence
from medsam.metrics.overlap import dice
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import inscribed_ellipse, jittered, tight_box
from medsam.transforms.frame import Frame

JITTERS = (0, 5, 10)
GRID = [Evidence(*one) for one in itertools.product((0.0, 1.0, 2.0, 3.0, 4.0, 6.0), (0.0, 1.5, 3.0, 4.5), (1.5,))]
# sets that share patients or scans
FAMILIES = {"sts_sarcoma_dicom_rtstruct": "sts", "sts_sarcoma_mr_pet_ct": "sts", "vertebra_ct_parts": "vertebra_ct"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--per-set", type=int, default=24, help="prompts drawn from each data set")
    parser.add_argument("--cases", type=int, default=8, help="at most this many cases of each data set")
    arguments = parser.parse_args()
    done = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    predictor = Predictor("litemedsam")
    console = Console(stderr=True)
    for path in arguments.manifests:
        name = path.stem
        if name in done:
            continue
        done[name] = _measure(predictor, path, arguments.per_set, arguments.cases, console)
        partial = arguments.out.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(done))
        os.replace(partial, arguments.out)
    _report({name: rows for name, rows in done.items() if rows})


def _measure(predictor: Predictor, path: Path, per_set: int, most_cases: int, console: Console) -> list[dict]:
    rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
    cases = list(read_manifest(path).cases)
    rng.shuffle(cases)
    loaded, candidates = [], []
    for number, case in enumerate(cases[:most_cases]):
        scan = case.load_image()
        references = case.load_references(scan)
        plane = scan.geometry.plane()
        loaded.append((case, scan, references, predictor.looker(scan, window=case.window or "auto")))
        for structure, mask in references.items():
            there = [k for k in range(plane.count) if tight_box(plane.take(mask, k)) is not None]
            candidates += [(number, structure, int(k)) for k in rng.permutation(there)[: max(1, per_set // 4)]]
    rng.shuffle(candidates)
    rows = []
    for number, structure, index in track(candidates[:per_set], path.stem, console=console, transient=True):
        number, index = int(number), int(index)
        case, scan, references, look = loaded[number]
        plane = look.plane
        truth = plane.take(references[structure], index)
        for jitter in JITTERS:
            draw = np.random.default_rng([0, zlib.crc32(f"{case.id}\0{structure}\0{index}".encode())])
            box = jittered(tight_box(truth), jitter, truth.shape, draw)
            prompt = [SlicePrompt(1, box)]
            found = answer_slice(look, index, prompt, zoom="auto")[0]
            frames = [Frame.of(plane, predictor.sam.spec.preprocess, one.region) for one in found.looks]
            fused = together(
                [frame.restore(logits).numpy() for frame, logits in zip(frames, found.memory, strict=True)]
            )
            scores = [dice(truth, with_evidence(fused, box, look.pixels(index), one) > 0) for one in GRID]
            whole = answer_slice(look, index, prompt, zoom="off")[0]
            rows.append(
                {
                    "structure": str(structure),
                    "jitter": jitter,
                    "looks": len(found.looks),
                    "whole": dice(truth, whole.mask),
                    "fused": dice(truth, fused > 0),
                    "ellipse": dice(truth, inscribed_ellipse(box, truth.shape)),
                    "grid": scores,
                }
            )
    return rows


def _report(done: dict[str, list[dict]]) -> None:
    def gain(name: str, setting: int | None, jitter: int) -> float:
        rows = [row for row in done[name] if row["jitter"] == jitter]
        return float(
            np.mean([(row["fused"] if setting is None else row["grid"][setting]) - row["whole"] for row in rows])
        )

    gains = {name: np.array([[gain(name, n, j) for j in JITTERS] for n in range(len(GRID))]) for name in done}
    default = GRID.index(Evidence())
    print("| data set | prompts | ellipse | whole slice | chosen on others (box, pixels) | tight | +5 px | +10 px |")
    print("|---|---:|---:|---:|---|---:|---:|---:|")
    held = []
    for name, rows in done.items():
        others = [gains[other] for other in done if FAMILIES.get(other, other) != FAMILIES.get(name, name)]
        chosen = int(np.mean(others, axis=0).mean(axis=1).argmax())
        held.append(gains[name][chosen])
        tight = [row for row in rows if row["jitter"] == 0]
        ellipse, whole = (np.mean([row[key] for row in tight]) for key in ("ellipse", "whole"))
        weights = f"{GRID[chosen].box:g}, {GRID[chosen].pixels:g}"
        cells = " | ".join(f"{value:+.3f}" for value in held[-1])
        print(f"| {name} | {len(tight)} | {ellipse:.3f} | {whole:.3f} | {weights} | {cells} |")
    print(f"| mean of sets, held out | | | | | {' | '.join(f'{v:+.3f}' for v in np.mean(held, axis=0))} |")
    for label, setting in (("looks and window alone, no evidence", None), ("default", default)):
        means = [np.mean([gain(name, setting, jitter) for name in done]) for jitter in JITTERS]
        worst = [min((gain(name, setting, jitter), name) for name in done) for jitter in JITTERS]
        cells = " | ".join(f"{m:+.3f} (worst {w[0]:+.3f} {w[1]})" for m, w in zip(means, worst, strict=True))
        print(f"| mean of sets, {label} | | | | | {cells} |")
    print()
    for number, one in enumerate(GRID):
        mean = np.mean([gains[name][number] for name in done], axis=0)
        worst = np.min([gains[name][number] for name in done], axis=0)
        print(f"box {one.box:g} pixels {one.pixels:g}: mean {np.round(mean, 3)} worst {np.round(worst, 3)}")


if __name__ == "__main__":
    main()
