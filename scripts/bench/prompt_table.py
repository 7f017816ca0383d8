"""Evaluations side by side, by data set: Dice of every prompt, and what it cost.

    .venv/bin/python scripts/bench/prompt_table.py clicks=out/clicks
    .venv/bin/python scripts/bench/prompt_table.py off=out/zoom-off on=out/zoom-on auto=out/zoom-auto --prompts box

NAME=FOLDER[,FOLDER], each written by `medsam evaluate`. Only cases that all of them have are compared. Dice: mean over
the structures of a data set of the mean over its cases. Beside LiteMedSAM stand the answers that need no model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

MODEL = "litemedsam"


def read(folders: str) -> pd.DataFrame:
    """metrics.csv of several folders, with the column `set`."""
    tables = []
    for folder in map(Path, folders.split(",")):
        table = pd.read_csv(folder / "metrics.csv", keep_default_na=False)
        # a run over one manifest does not name it: its folder has to
        table["set"] = [case.split("/")[0] if "/" in case else folder.name for case in table["case"]]
        for column in ("dice", "seconds", "encoder_calls"):
            table[column] = pd.to_numeric(table[column], errors="coerce")
        tables.append(table)
    return pd.concat(tables)


def dice(table: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Mean over structures of the mean over cases, by `keys` ("set", perhaps "structure")."""
    return table.groupby(["set", "structure"])["dice"].mean().groupby(keys).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER[,FOLDER]")
    parser.add_argument("--prompts", nargs="*", help="only these (default: all)")
    arguments = parser.parse_args()
    runs = {name: read(folders) for name, folders in (run.split("=", 1) for run in arguments.runs)}
    shared = set.intersection(*(set(table["case"]) for table in runs.values()))
    columns: dict[str, pd.Series] = {}
    costs = []
    for name, table in runs.items():
        rows = table[table["case"].isin(shared)]
        for (model, prompt), part in rows.groupby(["model", "prompt"], sort=False):
            if arguments.prompts and prompt not in arguments.prompts:
                continue
            if model == MODEL:
                label = f"{name}: {prompt}" if len(runs) > 1 else prompt
                calls, prompts = part["encoder_calls"].sum(), part["n_slices"].sum()
                costs.append(f"{label}: {calls:.0f} encoder calls, {part['seconds'].sum():.1f} s, {prompts} prompts")
            else:
                label = f"{prompt}: {model}"
            columns.setdefault(label, dice(part, ["set"]))
    sets = list(dict.fromkeys(next(iter(runs.values()))["set"]))
    print("| data set | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for name in sets:
        if name in next(iter(columns.values())):
            print(f"| {name} | " + " | ".join(f"{series[name]:.3f}" for series in columns.values()) + " |")
    print("| **mean of sets** | " + " | ".join(f"{series.mean():.3f}" for series in columns.values()) + " |")
    print("", *costs, sep="\n")


if __name__ == "__main__":
    main()
