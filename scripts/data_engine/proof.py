"""The data engine without people: a simulated annotator over rounds, and what its masks cost from one to the next.

    .venv/bin/python scripts/data_engine/proof.py hippocampus DATA/msd_hippocampus_mr --out DIR --order unsure --seed 0
    .venv/bin/python scripts/data_engine/proof.py ultrasound DATA/breast_ultrasound_busbra --out DIR --order random
    .venv/bin/python scripts/data_engine/picture.py DIR --out docs/images/data-engine.png

Everything goes the way a hospital's would: `medsam annotate init`, `queue`, `propose` and `round` are run as commands,
and the annotator (`annotator.py`) works through the server's own queue (`medsam serve --project`), a reader of its API
as the page is. The references of the scans to be drawn are the annotator's eye, and in no file of the project. Frozen
patients are measured on alone, the same ones for every order and seed.

A row a round goes to DIR/SET-ORDER-SEED.csv as it comes; a run that was stopped goes on with the round it was in.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from annotator import Rules, Truth, work

from medsam.client.client import Client
from medsam.data.manifest_json import parse_manifest
from medsam.errors import InputError
from medsam.io.load import load_volume

COLUMNS = (
    *("set", "order", "seed", "round", "tasks", "masks", "clicks_per_mask", "median_clicks", "untouched", "brushed"),
    *("removed", "dice_of_first_answer", "machine_seconds", "proposed", "promoted", "dice_before", "dice_after"),
    *("ci95_low", "ci95_high", "annotate_s", "propose_s", "round_s", "why"),
)
STRUCTURES = {"hippocampus": ("anterior", "posterior"), "ultrasound": ("lesion",)}


def hippocampus(data: Path, frozen: int, val: int) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """Rows of a manifest, and name -> reference of those that are to be drawn. Volumes of the Decathlon."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "imagesTr").glob("*.nii.gz"))
    order = np.random.default_rng(2026).permutation(len(names))
    rows, eye = [], {}
    for place, name in enumerate(names[n] for n in order):
        image, label = data / "imagesTr" / f"{name}.nii.gz", data / "labelsTr" / f"{name}.nii.gz"
        row: dict[str, Any] = {"id": name, "image": str(image)}
        if place < frozen + val:
            row |= {"label": str(label), "split": "test" if place < frozen else "val"}
        else:
            row["split"], eye[name] = "train", label
        rows.append(row)
    return rows, eye


def ultrasound(data: Path, frozen: int, val: int) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """The same of pictures, as their own manifest pairs them."""
    cases = parse_manifest(data / "manifest.json").cases if (data / "manifest.json").is_file() else indexed(data)
    order = np.random.default_rng(2026).permutation(len(cases))
    rows, eye = [], {}
    for place, case in enumerate(cases[n] for n in order):
        label = case.label
        if not isinstance(label, Path):
            raise SystemExit(f"{case.id} has no label file")
        row: dict[str, Any] = {"id": case.id, "image": str(case.image), "threshold": 127}
        if place < frozen + val:
            row |= {"label": str(label), "split": "test" if place < frozen else "val"}
        else:
            row["split"], eye[case.id] = "train", label
        rows.append(row)
    return rows, eye


def indexed(data: Path) -> tuple[Any, ...]:
    """The pairs of a folder."""
    from medsam.data.index import index_folder

    return index_folder(data, labels={"lesion": 1}, threshold=127).manifest.cases


SETS: dict[str, Callable[[Path, int, int], tuple[list[dict[str, Any]], dict[str, Path]]]] = {
    "hippocampus": hippocampus,
    "ultrasound": ultrasound,
}


def truth_reader(name: str, manifest: Path, eye: dict[str, Path]) -> Callable[[str], Truth]:
    """Name of a scan -> its reference by structure, for the annotator alone."""
    cases = {case.id: case for case in parse_manifest(manifest).cases}

    def truth_of(scan: str) -> Truth:
        from medsam.io.labels import load_labels

        case, values = cases[scan], {one: n for n, one in enumerate(STRUCTURES[name], start=1)}
        grid = load_volume(case.image).geometry
        return load_labels(eye[scan], grid, values, threshold=case.threshold)

    return truth_of


def medsam(*words: str, threads: int) -> str:
    """A command of medsam: what it printed."""
    command = [sys.executable, "-m", "medsam.cli.main", *words]
    done = subprocess.run(command, text=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        raise SystemExit(f"medsam {' '.join(words)}\n{done.stderr[-3000:]}")
    return done.stdout


@contextmanager
def served(project: Path, log: Path, threads: int) -> Iterator[Client]:
    """The project's own server, for as long as this block lasts."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    words = [sys.executable, "-m", "medsam.cli.main", "serve", "--project", str(project), "--port", str(port)]
    with log.open("a") as output:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        server = subprocess.Popen(words, stdout=output, stderr=output, env=environment)
    try:
        yield _client(f"http://127.0.0.1:{port}", server)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def _client(url: str, server: subprocess.Popen[bytes]) -> Client:
    until = time.monotonic() + 120
    while True:
        try:
            return Client(url, timeout_s=600.0)
        except InputError:
            if server.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.3)


def begin(arguments: argparse.Namespace, root: Path) -> tuple[Path, Path, dict[str, Path]]:
    """The project and its manifest, made where they are not there."""
    rows, eye = SETS[arguments.set](arguments.data, arguments.frozen, arguments.val)
    rows = rows[: arguments.frozen + arguments.val + arguments.pool]
    structures = STRUCTURES[arguments.set]
    manifest, project = root / "manifest.json", root / "project"
    if not project.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        modality = "MR" if arguments.set == "hippocampus" else "US"
        labels = {one: number for number, one in enumerate(structures, start=1)}
        whole = {"name": arguments.set, "modality": modality, "labels": labels, "cases": rows}
        manifest.write_text(json.dumps(whole))
        words = ["--data", str(manifest), "--structures", ",".join(structures), "--order", arguments.order]
        words += ["--seed", str(arguments.seed), "--gold", "0", "--second", "0", "--steps", str(arguments.steps)]
        words += ["--slices", str(arguments.slices)] if arguments.set == "hippocampus" else []
        words += ["--propose", str(arguments.propose), "--measure", str(arguments.measure)]
        medsam("annotate", "init", str(project), *words, threads=arguments.threads)
        if arguments.embeddings is not None:
            arguments.embeddings.mkdir(parents=True, exist_ok=True)
            (project / "embeddings").symlink_to(arguments.embeddings.resolve())
    return project, manifest, eye


def one_round(arguments: argparse.Namespace, project: Path, truth_of: Callable[[str], Truth], number: int) -> list[Any]:
    """Queue, proposals, work and training of a round: its row."""
    kept = project.parent / f"work-{number}.json"
    if not kept.is_file():
        kept.write_text(json.dumps(one_stage(arguments, project, truth_of, number)))
    began = time.perf_counter()
    told = json.loads(medsam(*_round_words(arguments, project), threads=arguments.threads))
    low, high = told.get("ci95") or ("", "")
    row = {
        "set": arguments.set,
        "order": arguments.order,
        "seed": arguments.seed,
        "round": number,
        **json.loads(kept.read_text()),
        "promoted": told["promoted"],
        "dice_before": told.get("dice_before", ""),
        "dice_after": told.get("dice_after", ""),
        "ci95_low": low,
        "ci95_high": high,
        "round_s": round(time.perf_counter() - began, 1),
        "why": told.get("why", ""),
    }
    return [row[name] for name in COLUMNS]


def one_stage(
    arguments: argparse.Namespace, project: Path, truth_of: Callable[[str], Truth], number: int
) -> dict[str, Any]:
    """What comes before training: the queue in order, proposals, and the annotator's work."""
    threads = arguments.threads
    began = time.perf_counter()
    medsam("annotate", "queue", str(project), "--reorder", "--limit", "1", threads=threads)
    proposed = ""
    if number >= arguments.propose_from:
        told = medsam(
            *("annotate", "propose", str(project), "--limit", str(arguments.tasks), "--no-names", "--json"),
            threads=threads,
        )
        proposed = json.loads(told)["masks"]
    before_work = time.perf_counter()
    with served(project, project.parent / "serve.log", threads) as client:
        tally = work(client, truth_of, Rules(), arguments.seed, arguments.tasks)
    return {
        "tasks": arguments.tasks,
        **tally.row(),
        "proposed": proposed,
        "annotate_s": round(time.perf_counter() - before_work, 1),
        "propose_s": round(before_work - began, 1),
    }


def _round_words(arguments: argparse.Namespace, project: Path) -> list[str]:
    """A round that was begun goes on as it began."""
    rounds = json.loads(medsam("annotate", "status", str(project), "--json", threads=arguments.threads))["rounds"]
    going = rounds and rounds[-1]["ended"] is None
    said = [] if going else [word for one in arguments.fit for word in ("--set", one)]
    return ["annotate", "round", str(project), *said, "--json"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--order", default="unsure", choices=("unsure", "different", "rare", "random"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=10, help="scans that are drawn in a round")
    parser.add_argument("--slices", type=int, default=4, help="of each volume")
    parser.add_argument("--frozen", type=int, default=20, help="patients that are measured on")
    parser.add_argument("--val", type=int, default=3)
    parser.add_argument("--measure", type=int, default=4, help="slices of each structure of a frozen patient")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--propose", type=float, default=0.80, help="expected Dice from which masks are filled in")
    parser.add_argument("--propose-from", type=int, default=3, help="round from which masks are filled in (stage 2)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fit", nargs="*", default=["data.batch_size=4"], metavar="KEY=VALUE", help="of `medsam fit`")
    parser.add_argument("--embeddings", type=Path, help="a folder that runs share: each slice is encoded once for all")
    parser.add_argument("--pool", type=int, default=80, help="scans that wait to be drawn at the beginning")
    arguments = parser.parse_args()
    name = f"{arguments.set}-{arguments.order}-{arguments.seed}"
    project, manifest, eye = begin(arguments, arguments.out / name)
    table = arguments.out / f"{name}.csv"
    rows = list(csv.reader(table.open())) if table.is_file() else [list(COLUMNS)]
    truth_of = truth_reader(arguments.set, manifest, eye)
    for number in range(len(rows), arguments.rounds + 1):
        rows.append(one_round(arguments, project, truth_of, number))
        print(*rows[-1], flush=True)
        part = table.with_suffix(".part")
        with part.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        part.rename(table)


if __name__ == "__main__":
    main()
