"""`--zoom off` beside `--zoom auto`: one table by data set, one by structure.

    medsam data recipe --all --root ../shared/data --out out/manifests
    medsam evaluate --manifest out/manifests/*.json --jitter-px 0 5 10 --limit 3 --zoom off --out out/zoom-off
    medsam evaluate --manifest out/manifests/*.json --jitter-px 0 5 10 --limit 3 --zoom auto --out out/zoom-auto
    .venv/bin/python scripts/bench/zoom_table.py out/zoom-off out/zoom-auto

Either side may be several folders, separated by commas. Dice: mean over the structures of a data set of the mean over
its cases, each over exactly the prompted slices.
"""

from __future__ import annotations

import sys

import pandas as pd
from prompt_table import MODEL, dice, read

BASELINE = "inscribed-ellipse"


def by(table: pd.DataFrame, model: str, prompt: str, keys: list[str]) -> pd.Series:
    return dice(table[(table["model"] == model) & (table["prompt"] == prompt)], keys)


def main(off_folders: str, auto_folders: str) -> None:
    off, auto = read(off_folders), read(auto_folders)
    prompts = list(dict.fromkeys(off["prompt"]))
    print("| data set | " + " | ".join(f"{prompt}: ellipse, off, auto | gain" for prompt in prompts) + " |")
    print("|---|" + "---|---:|" * len(prompts))
    columns = {
        prompt: (by(off, BASELINE, prompt, ["set"]), by(off, MODEL, prompt, ["set"]), by(auto, MODEL, prompt, ["set"]))
        for prompt in prompts
    }
    for name in columns[prompts[0]][0].index:
        cells = [
            f"{ellipse[name]:.3f}, {whole[name]:.3f}, {closer[name]:.3f} | {closer[name] - whole[name]:+.3f}"
            for ellipse, whole, closer in columns.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    means = [tuple(series.mean() for series in three) for three in columns.values()]
    cells = [f"{ellipse:.3f}, {whole:.3f}, {closer:.3f} | {closer - whole:+.3f}" for ellipse, whole, closer in means]
    print(f"| **mean of sets** | {' | '.join(cells)} |")
    print()
    print(
        "| data set | structure | ellipse | off | auto | gain | " + " | ".join(f"gain {p}" for p in prompts[1:]) + " |"
    )
    print("|---|---|---:|---:|---:|---:|" + "---:|" * (len(prompts) - 1))
    keys = ["set", "structure"]
    three = [by(off, BASELINE, prompts[0], keys), by(off, MODEL, prompts[0], keys), by(auto, MODEL, prompts[0], keys)]
    gains = [by(auto, MODEL, prompt, keys) - by(off, MODEL, prompt, keys) for prompt in prompts]
    for key in three[0].index:
        values = " | ".join(f"{series[key]:.3f}" for series in three)
        print(f"| {key[0]} | {key[1]} | {values} | " + " | ".join(f"{gain[key]:+.3f}" for gain in gains) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
