"""Index, check and evaluate every folder of a data root, without hand editing, and say which need a word from the user.

    .venv/bin/python scripts/index_all.py ROOT... [--model NAME] [--work DIR] [--no-evaluate]

Each folder directly below a ROOT is one data set. For each: `medsam data index`, `medsam data check` and, where a case
has a label, `medsam evaluate --limit 1`. The table on stdout is Markdown. A word is needed where a command says so and
names the option or the key (`--labels`, `--threshold`, `patient`): the last column holds what was said.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import tempfile
from pathlib import Path

from medsam.cli.main import main as medsam


def run(*words: str | Path) -> tuple[int, str, str]:
    """One command: exit status, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = medsam([str(word) for word in words])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
    return status, out.getvalue(), err.getvalue()


def sentences(stderr: str) -> list[str]:
    """What a command told the user: progress bars aside."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr)]
    return [line for line in lines if re.search(r"[a-z]", line) and not re.match(r"\w+( \w+)? .*\d+/\d+", line)]


def row(folder: Path, work: Path, model: str, evaluate: bool) -> list[str]:
    """One line of the table."""
    manifest = work / f"{folder.parent.name}-{folder.name}.json"
    manifest.unlink(missing_ok=True)
    status, _, err = run("data", "index", folder, "--out", manifest)
    said = sentences(err)
    cells = [f"{folder.parent.name}/{folder.name}"]
    if status:
        return [*cells, "", "", "", f"exit {status}", " ".join(said)]
    content = json.loads(manifest.read_text(encoding="utf-8"))
    cases = content["cases"]
    labelled = sum("label" in case for case in cases)
    structures = list(content["labels"])
    status, out, err = run("data", "check", manifest, "--json")
    checked = json.loads(out)
    said += [problem["message"] for problem in checked["manifests"][0]["problems"] if problem["level"] == "error"]
    dice = "no label" if not labelled else "not run"
    if labelled and evaluate:
        results = work / f"{manifest.stem}-results"
        status, _, err = run("evaluate", "--manifest", manifest, "--limit", "1", "--model", model, "--out", results)
        if status:
            dice = f"exit {status}"
            said += sentences(err)[-1:]
        else:
            summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
            mean = summary[model]["overall"]["dice"]["mean"]
            dice = "nothing to score" if mean is None else f"{mean:.3f}"
    wanted = [sentence for sentence in said if re.search(r"--[a-z]{3}|`(labels|patient)`|left out|rror", sentence)]
    names = ", ".join(structures[:4]) + (f" ... ({len(structures)})" if len(structures) > 4 else "")
    problems = f"{checked['errors']} / {checked['warnings']}"
    return [*cells, f"{len(cases)} ({labelled})", names, problems, dice, " · ".join(wanted)[:600]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("roots", nargs="+", type=Path, metavar="ROOT")
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--work", type=Path, help="where manifests and results go (default: a temporary folder)")
    parser.add_argument("--no-evaluate", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        print("| folder | cases (with label) | structures | errors / warnings | Dice | what the user is told |")
        print("|---|---|---|---|---|---|")
        for folder in (path for root in arguments.roots for path in sorted(root.iterdir()) if path.is_dir()):
            cells = row(folder, work, arguments.model, not arguments.no_evaluate)
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
