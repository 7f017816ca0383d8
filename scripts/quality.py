"""Masks before and after: the settings that every change of what a prompt gives is judged by, and the tables.

    .venv/bin/python scripts/quality.py run out/after --manifest out/manifests/*.json [--quick] [--only clicks noisy]
    .venv/bin/python scripts/quality.py table --before out/before/* --after out/after/* [--csv out/quality.csv]

`run` calls `medsam evaluate` for each of `RUNS` into a folder of its own, and goes on where it was stopped. Of the
development sets, embeddings at hand, 36 of 40 cases of `clicks` alone took 43 minutes of a busy core (2026-11-29);
`--quick` takes one case a set and one slice a structure. Results do not know which version of the program made them:
give each its own folder.

`table` compares any folders of `medsam evaluate`, finished or not, prompt by prompt and set by set: Dice, mean over
structures of the mean over cases, of what both sides have. A structure that was prompted on other slices there is
compared on the slices that both have. Then it checks what must hold; the exit status is 1 when something does not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medsam.evaluation.tables import BASELINES, data_sets

ELLIPSE, GIVEN = BASELINES[1:]
CLICKS = (
    "box",
    "box+points:1",
    "box+points:2",
    "box+points:3",
    "box+points:5",
    "point",
    "points:3",
    "points:5",
    "mask",
)
DRAWN = ("scribble", "scribbles:3", "box+scribbles:1", "box+scribbles:3", "lasso", "line", "lines", "ellipse")
# name -> options of `medsam evaluate`
RUNS = {
    "box": ["--prompt", "box", "--jitter-px", "0", "5", "10"],
    "clicks": ["--slices", "3", "--prompt", *CLICKS],
    "drawn": ["--slices", "1", "--prompt", *DRAWN],
    "noisy": ["--slices", "1", "--noise", "noisy", "--prompt", *(p for p in CLICKS if p != "box"), *DRAWN[:-1]],
}
QUICK = {
    "quick-steps": ["--slices", "1", "--prompt", "box", "box+points:1", "box+points:3", "box+points:5"],
    "quick": ["--slices", "1", "--jitter-px", "5", "--prompt", "box", "mask", "lasso", "line", "lines"],
    "quick-points": ["--slices", "1", "--prompt", "point", "points:3"],
    "quick-scribbles": ["--slices", "1", "--prompt", "scribble", "scribbles:2", "box+scribbles:1"],
}
# prompts that follow each other: none may be worse than the one before
CURVES = (
    ("box", "box+points:1", "box+points:2", "box+points:3", "box+points:5"),
    ("point", "points:3", "points:5"),
    ("scribble", "scribbles:2", "scribbles:3"),
    ("box", "box+scribbles:1", "box+scribbles:3"),
)
FALLS = 0.005


@dataclass(frozen=True)
class Result:
    """One folder of `medsam evaluate`. rows, slices, steps: of metrics.csv, slices.csv and corrections.csv."""

    name: str
    noise: str
    rows: pd.DataFrame
    slices: pd.DataFrame
    steps: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Result:
        """From the case files, so that a run need not be finished."""
        protocol = json.loads((folder / "run.json").read_text())["protocol"]
        cases = [json.loads(path.read_text()) for path in sorted((folder / "cases").glob("*.json"))]
        tables = [
            pd.DataFrame([row for case in cases for row in case.get(key, ())])
            for key in ("rows", "slices", "corrections")
        ]
        for table in tables:
            if len(table):
                table["set"] = data_sets(table["case"])
        return cls(folder.name, protocol.get("noise", "clean"), *tables)

    def of(self, prompt: str, model: str | None = None) -> pd.DataFrame:
        """The rows of a prompt: of a baseline, or of the model."""
        mine = self.rows["model"] == model if model else ~self.rows["model"].isin(BASELINES)
        return self.rows[mine & (self.rows["prompt"] == prompt)]


def run(arguments: argparse.Namespace) -> int:
    """Make the results of this checkout."""
    for name in arguments.only or (QUICK if arguments.quick else RUNS):
        asked = (RUNS | QUICK)[name]
        command = [sys.executable, "-m", "medsam.cli.main", "evaluate", *asked, "--out", arguments.out / name]
        command += ["--manifest", *arguments.manifest, "--limit", "1" if arguments.quick else "3"]
        command += ["--devices", str(arguments.devices)]
        if arguments.embeddings:
            command += ["--embeddings", arguments.embeddings]
        done = subprocess.run([str(word) for word in command], cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
        if done.returncode:
            return done.returncode
    return 0


# -- two sides -------------------------------------------------------------------------------------------------------


def paired(before: Result, after: Result, prompt: str) -> pd.DataFrame:
    """A row of each case and structure that both have: set, structure, before, after (Dice)."""
    key = ["set", "case", "structure"]
    both = before.of(prompt)[[*key, "n_slices", "dice"]].merge(
        after.of(prompt)[[*key, "n_slices", "dice"]], on=key, suffixes=("_before", "_after")
    )
    both = both.rename(columns={"dice_before": "before", "dice_after": "after"})
    other = both["n_slices_before"] != both["n_slices_after"]
    if other.any():
        flat = [
            one.slices[~one.slices["model"].isin(BASELINES) & (one.slices["prompt"] == prompt)]
            for one in (before, after)
        ]
        common = flat[0].merge(flat[1], on=[*key, "slice"], suffixes=("_before", "_after"))
        means = common.groupby(key)[["dice_before", "dice_after"]].mean()
        found = means.reindex(pd.MultiIndex.from_frame(both.loc[other, key]))
        both.loc[other, ["before", "after"]] = found.to_numpy()
    return both.dropna(subset=["before", "after"])


def by_set(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Means over the structures of a set of the mean over cases; then the mean of the sets, as "mean"."""
    sets = rows.groupby(["set", "structure"])[list(columns)].mean().groupby("set").mean()
    sets.loc["mean"] = sets.mean()
    return sets


def comparison(befores: Sequence[Result], afters: Sequence[Result]) -> pd.DataFrame:
    """A row of each run, prompt and set: before, after, baseline (the ellipse in the box, or what was given)."""
    found = []
    for after in afters:
        for prompt in after.rows["prompt"].unique():
            rows = after.of(prompt)[["set", "case", "structure", "dice"]].rename(columns={"dice": "after"})
            columns = ["after"]
            earlier = [paired(one, after, prompt) for one in befores if one.noise == after.noise]
            if any(map(len, earlier)):
                # of several the one that was prompted on the same slices
                rows = max(earlier, key=_alike)
                columns = ["before", "after"]
            for baseline in (ELLIPSE, GIVEN):
                beside = after.of(prompt, baseline)
                if len(beside):
                    rows = rows.merge(beside[["set", "case", "structure", "dice"]], on=["set", "case", "structure"])
                    rows = rows.rename(columns={"dice": "baseline"})
                    columns.append("baseline")
                    break
            if len(rows):
                table = by_set(rows, columns).reset_index()
                found.append(table.assign(run=after.name, noise=after.noise, prompt=prompt))
    table = pd.concat(found, ignore_index=True)
    return table.reindex(columns=["run", "noise", "prompt", "set", "before", "after", "baseline"])


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """The mean of the sets, of each run and prompt; how many sets there are, and how many fell by `FALLS`."""
    found = []
    for (run, prompt), rows in table.groupby(["run", "prompt"], sort=False):
        sets = rows[rows["set"] != "mean"]
        change = sets["after"] - sets["before"]
        (mean,) = rows[rows["set"] == "mean"].to_dict("records")
        numbers = {key: round(mean[key], 3) for key in ("before", "after", "baseline")}
        lower = int((change < -FALLS).sum()) if change.notna().any() else ""
        found.append({"run": run, "prompt": prompt, **numbers, "sets": len(sets), "lower": lower})
    return pd.DataFrame(found)


def _alike(rows: pd.DataFrame) -> tuple[int, int]:
    return int((rows["n_slices_before"] == rows["n_slices_after"]).sum()), len(rows)


def encodes(result: Result, prompt: str = "box") -> pd.Series:
    """Encoder calls a prompted slice, by set."""
    calls = result.of(prompt).groupby("set")["encoder_calls"].sum()
    asked = result.slices[~result.slices["model"].isin(BASELINES) & (result.slices["prompt"] == prompt)]
    return calls / asked.drop_duplicates(["set", "case", "slice"]).groupby("set").size()


def steps_of(afters: Iterable[Result]) -> pd.DataFrame:
    """What each correction did: of each run, prompt and step."""
    found = []
    for result in afters:
        if not len(result.steps):
            continue
        for (prompt, step), rows in result.steps.groupby(["prompt", "step"]):
            found.append(
                {
                    "run": result.name,
                    "prompt": prompt,
                    "step": step,
                    "n": len(rows),
                    "removed, median": rows["removed"].median(),
                    "all clicked right": (rows["kept"] == 1).mean(),
                    "harmed px, mean": rows["harmed_px"].mean(),
                    "far px, mean": rows["far_px"].mean(),
                    "nothing far": (rows["far_px"] == 0).mean(),
                }
            )
    return pd.DataFrame(found)


# -- what must hold --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """what: the sentence. holds: None where it could not be judged. detail: numbers."""

    what: str
    holds: bool | None
    detail: str

    def __str__(self) -> str:
        return f"{'?' if self.holds is None else 'ok' if self.holds else 'NO'}  {self.what}: {self.detail}"


def checks(table: pd.DataFrame, afters: Sequence[Result]) -> list[Check]:
    """All of them."""
    found: list[Check | None] = [_tight(table)]
    for result in afters:
        found += [_curve(result, curve) for curve in CURVES]
        clicks = _column(result, "box+points:3")
        box = _column(result, "box")
        if clicks is not None and box is not None:
            sets = [name for name in box.index if name != "mean"]
            worst = box[sets].nsmallest(6).index
            gain = float((clicks - box)[worst].mean())
            what = f"{result.name}: three clicks gain 0.06 in the six sets where the box is worst"
            found.append(Check(what, gain >= 0.06, f"{gain:+.3f} ({', '.join(worst)})"))
        five = _column(result, "box+points:5")
        if five is not None and result.noise == "clean":
            mean = float(five["mean"])
            found.append(
                Check(f"{result.name}: box and five clicks reach 0.86 in the mean", mean >= 0.86, f"{mean:.3f}")
            )
        muscle = result.of("box+points:2")
        muscle = muscle[(muscle["set"] == "ct_slices_sammed2d") & (muscle["structure"] == "heart_myocardium")]
        if len(muscle):
            dice = float(muscle["dice"].mean())
            what = f"{result.name}: heart_myocardium of ct_slices_sammed2d reaches 0.75 after two clicks"
            found.append(Check(what, dice >= 0.75, f"{dice:.3f}"))
        found += _steps(result)
    return [check for check in found if check is not None]


def _tight(table: pd.DataFrame) -> Check:
    rows = table[(table["prompt"] == "box") & (table["noise"] == "clean")].dropna(subset=["before"])
    # of several runs with a box, the one on most slices comes first
    rows = rows[rows["run"] == rows["run"].iloc[0]] if len(rows) else rows
    change = (rows.set_index("set")["after"] - rows.set_index("set")["before"]).sort_values()
    if not len(change):
        return Check("tight boxes", None, "no results before")
    lower = change[(change < -FALLS) & (change.index != "mean")]
    detail = f"mean {change['mean']:+.3f}; {_listed(lower) or 'none lower'}"
    return Check("tight boxes: no set lower by 0.005, the mean higher", not len(lower) and change["mean"] > 0, detail)


def _curve(result: Result, curve: Sequence[str]) -> Check | None:
    there = [(prompt, values) for prompt in curve if (values := _column(result, prompt)) is not None]
    if len(there) < 2:
        return None
    falls: dict[str, float] = {}
    for (_, earlier), (prompt, later) in itertools.pairwise(there):
        change = (later - earlier)[later.index != "mean"]
        falls |= {f"{name} at {prompt}": value for name, value in change.items() if value < -FALLS}
    what = f"{result.name}: {' -> '.join(prompt for prompt, _ in there)} never falls by 0.005"
    return Check(what, not falls, _listed(pd.Series(falls, dtype=float).sort_values()) or "no set falls")


def _steps(result: Result) -> list[Check]:
    if not len(result.steps):
        return []
    found = []
    for prompt, rows in result.steps.groupby("prompt"):
        removed, kept = rows["removed"].median(), (rows["kept"] == 1).mean()
        what = (
            f"{result.name}: a correction of {prompt} removes half of its error in the median, all clicked stays right"
        )
        found.append(Check(what, bool(removed >= 0.5 and kept == 1), f"removed {removed:.2f}, right {kept:.4f}"))
    return found


def _column(result: Result, prompt: str) -> pd.Series | None:
    """Dice by set."""
    rows = result.of(prompt)
    return by_set(rows, ["dice"])["dice"] if len(rows) else None


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{name} {value:+.3f}" for name, value in values.items())


# -- shown -----------------------------------------------------------------------------------------------------------


def show(arguments: argparse.Namespace) -> int:
    """Print the tables and the checks."""
    befores = [Result.read(folder) for folder in arguments.before]
    afters = [Result.read(folder) for folder in arguments.after]
    table = comparison(befores, afters)
    print(overview(table).to_string(index=False))
    for (name, prompt), rows in table.groupby(["run", "prompt"], sort=False) if arguments.sets else ():
        wide = rows.drop(columns=["run", "noise", "prompt"]).set_index("set").dropna(axis=1, how="all")
        if "before" in wide:
            wide.insert(2, "change", wide["after"] - wide["before"])
        print(f"\n{name}: {prompt}\n{wide.round(3).to_string()}")
    calls = {
        f"{side} {one.name}": encodes(one) for side, all_ in (("before", befores), ("after", afters)) for one in all_
    }
    print("\nencoder calls a slice, boxes")
    print(pd.DataFrame(calls).dropna(axis=1, how="all").round(2).to_string())
    steps = steps_of(afters)
    if len(steps):
        print(f"\nwhat a correction does\n{steps.round(3).to_string(index=False)}")
    print()
    judged = checks(table, afters)
    print("\n".join(map(str, judged)))
    if arguments.csv:
        table.round(4).to_csv(arguments.csv, index=False, lineterminator="\n")
        if len(steps):
            steps.round(4).to_csv(
                arguments.csv.with_stem(f"{arguments.csv.stem}_steps"), index=False, lineterminator="\n"
            )
    return int(any(check.holds is False for check in judged))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("run", help="evaluate this checkout")
    making.add_argument("out", type=Path, metavar="DIR")
    making.add_argument("--manifest", type=Path, nargs="+", required=True)
    making.add_argument("--quick", action="store_true", help="one case a set, one slice a structure")
    making.add_argument(
        "--only", nargs="+", choices=(*RUNS, *QUICK), metavar="RUN", help=f"of {', '.join((*RUNS, *QUICK))}"
    )
    making.add_argument("--embeddings", type=Path, metavar="DIR")
    making.add_argument("--devices", type=int, default=1, metavar="N")
    making.set_defaults(do=run)
    telling = commands.add_parser("table", help="compare results")
    telling.add_argument("--before", type=Path, nargs="*", default=[], metavar="DIR")
    telling.add_argument("--after", type=Path, nargs="+", required=True, metavar="DIR")
    telling.add_argument("--sets", action="store_true", help="every set, not the mean alone")
    telling.add_argument("--csv", type=Path, metavar="FILE")
    telling.set_defaults(do=show)
    arguments = parser.parse_args()
    return int(arguments.do(arguments))


if __name__ == "__main__":
    sys.exit(main())
