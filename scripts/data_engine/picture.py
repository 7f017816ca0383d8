"""The tables of `proof.py` as a picture and as one table: what a mask costs, and the Dice of the model, by round.

    .venv/bin/python scripts/data_engine/picture.py DIR --out data-engine.png [--seeds 2] [--table data_engine.csv]

Lines are means over seeds, thin ones single seeds.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

from medsam.drawing.colours import SERIES

PANELS = (
    ("clicks_per_mask", "Clicks a mask"),
    ("untouched", "Share accepted untouched"),
    ("dice_after_promotion", "Dice on frozen patients"),
)


def answering(row: dict[str, str]) -> str:
    """Dice of the model that answers after a round."""
    return row["dice_after"] if row["promoted"] == "True" else row["dice_before"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", default="hippocampus")
    parser.add_argument("--seeds", nargs="*", help="only these are drawn (default: all)")
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    rows = [row for path in sorted(arguments.folder.glob("*.csv")) for row in csv.DictReader(path.open())]
    if arguments.table:
        with arguments.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    runs: dict[str, dict[str, dict[int, dict[str, str]]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["set"] == arguments.set and (not arguments.seeds or row["seed"] in arguments.seeds):
            found = runs[row["order"]][row["seed"]]
            # the model that the project began with
            found.setdefault(0, {"dice_after_promotion": row["dice_before"]})
            found[int(row["round"])] = row | {"dice_after_promotion": answering(row)}
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(11, 3.4), constrained_layout=True)
    for axis, (column, title) in zip(axes, PANELS, strict=True):
        for place, (order, seeds) in enumerate(sorted(runs.items())):
            colour = SERIES[place]
            for found in seeds.values():
                known = {number: float(row[column]) for number, row in found.items() if column in row}
                axis.plot(list(known), list(known.values()), color=colour, lw=0.7, alpha=0.5)
            there = ({one for one, row in found.items() if column in row} for found in seeds.values())
            rounds = sorted(set.intersection(*there))
            means = [np.mean([float(found[one][column]) for found in seeds.values()]) for one in rounds]
            label = f"{order} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"
            axis.plot(rounds, means, color=colour, lw=2, marker="o", label=label)
        axis.set_title(title)
        axis.set_xlabel("round")
        axis.set_xticks(range(1 + max(one for seeds in runs.values() for found in seeds.values() for one in found)))
        axis.set_ylim(bottom=0)
        axis.margins(y=0.15)
        axis.grid(alpha=0.3)
    # its zero says nothing: what is asked is whether it rises
    axes[-1].set_ylim(bottom=0.75)
    axes[0].legend()
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
