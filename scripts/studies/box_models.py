"""What a network that knows only boxes makes of clicks and masks given to it as prompts, and what medsam makes of them.

    medsam data recipe --all --root ../shared/data --out out/manifests
    .venv/bin/python scripts/studies/box_models.py out/manifests/*.json

LiteMedSAM, whole slices, the first case of each manifest, up to `--slices` slices of it; one click deepest in the
structure, a hasty mask (`prompts.simulate.rough_mask`). "As given" is the network's own prompt encoder (`Network.ask`),
"medsam" what `answer_slice` does (`--zoom off`). Dice, mean over the structures of a set, then over sets.

Measured 2026-11-22 on seven sets, as given and by medsam: box 0.807, 0.807; click 0.041, 0.700; box and click 0.724, 0.819;
mask 0.000, 0.778. So models that know only boxes are asked with boxes. docs/results/box_models.csv
Frozen: runs at commit 4726808 (there in scripts/bench/), whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from medsam.data.manifest_json import read_manifest
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import answer_slice
from medsam.metrics.overlap import dice
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import next_click, rough_mask, tight_box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--slices", type=int, default=3)
    arguments = parser.parse_args()
    predictor = Predictor("litemedsam")
    scores: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for path in track(arguments.manifests, console=Console(stderr=True), transient=True):
        case = read_manifest(path).cases[0]
        scan = case.load_image()
        references = case.load_references(scan)
        look = predictor.looker(scan, window=case.window or "auto")
        plane = look.plane
        prompted = [
            index
            for index in range(plane.count)
            if any(tight_box(plane.take(mask, index)) is not None for mask in references.values())
        ]
        some = np.linspace(0, len(prompted) - 1, min(arguments.slices + 2, len(prompted))).round().astype(int)
        # the ends of an object are slivers
        chosen = some[1:-1] if len(some) > 2 else some
        for index in (prompted[n] for n in chosen):
            embedding = look(index)
            for name, mask in references.items():
                truth = plane.take(mask, index)
                box, click = tight_box(truth), next_click(truth)
                if box is None or click is None:
                    continue
                rough = rough_mask(truth, np.random.default_rng(0))
                asked = {
                    "box": SlicePrompt(1, box),
                    "click": SlicePrompt(1, points=(click,)),
                    "box and click": SlicePrompt(1, box, (click,)),
                    "mask": SlicePrompt(1, mask=rough),
                }
                for kind, prompt in asked.items():
                    given = predictor.ask(embedding, [prompt]).masks[0, 0]
                    answered = answer_slice(look, index, [prompt], zoom="off")[0].mask
                    scores[path.stem][f"{kind}, as given"][name].append(dice(truth, given))
                    scores[path.stem][f"{kind}, medsam"][name].append(dice(truth, answered))
                three = predictor.ask(embedding, [asked["click"]], multimask=True).masks[0]
                best = max(dice(truth, one) for one in three)
                scores[path.stem]["click, best of three as given"][name].append(best)
    kinds = list(next(iter(scores.values())))
    print("| data set | " + " | ".join(kinds) + " |")
    print("|---|" + "---:|" * len(kinds))
    means = {
        name: [float(np.mean([np.mean(values) for values in by_kind[kind].values()])) for kind in kinds]
        for name, by_kind in scores.items()
    }
    for name, row in means.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
    print(
        "| **mean of sets** | " + " | ".join(f"{value:.3f}" for value in np.mean(list(means.values()), axis=0)) + " |"
    )


if __name__ == "__main__":
    main()
