"""Many scans by 1, 2 and 4 workers and by a local Ray cluster: the same bytes, and how much faster.

    .venv/bin/python scripts/speed/many.py DATA/msd_hippocampus_mr --out DIR [--scans 200] [--workers 1 2 4] [--kill]

Volumes of the Decathlon's hippocampus with boxes of the references on slices of either structure, through
`medsam segment-many` and through `medsam evaluate` (whole slices, zoom off), each worker with one thread. A set of more
scans than there are holds some twice, under other names. Beside two workers run two processes that know nothing of each
other (`--part 0/2` and `1/2`): what the machine itself loses. Ray: a head and two nodes of one processor on this
machine. With --kill there are three, and one is killed (raylet and workers) once a quarter of the scans is done.

Efficiency is the seconds of one worker, over those of N, over N; never more than the machine has processors. Rows are
written to DIR/many.csv as they come.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

STRUCTURES = {"anterior": 1, "posterior": 2}
# slices of either structure, and the pixels it has to have there
SLICES, PIXELS = 3, 10
COLUMNS = ("command", "workers", "scans", "seconds", "efficiency", "bytes")


def boxes(label: np.ndarray, slices: int = SLICES) -> list[dict[str, Any]]:
    """Tight boxes on slices of each structure, evenly spread. label: (i, j, k)."""
    prompts = []
    for name, value in STRUCTURES.items():
        there = label == value
        shown = np.flatnonzero(there.sum((0, 1)) >= PIXELS)
        for k in shown[np.linspace(0, len(shown) - 1, min(slices, len(shown))).round().astype(int)]:
            i, j = np.nonzero(there[:, :, k])
            box = [int(i.min()), int(j.min()), int(i.max()) + 1, int(j.max()) + 1]
            prompts.append({"label": name, "box": box, "slice": int(k)})
    return prompts


def make_set(source: Path, folder: Path, count: int, slices: int = SLICES) -> Path:
    """A manifest of so many scans, with a prompts file for each."""
    folder.mkdir(parents=True, exist_ok=True)
    images = sorted((source / "imagesTr").glob("*.nii.gz"))
    cases = []
    for n in range(count):
        image = images[n % len(images)]
        label = source / "labelsTr" / image.name
        content = {"axis": "k", "prompts": boxes(np.asanyarray(nib.load(label).dataobj), slices)}
        (folder / f"s{n:04}.json").write_text(json.dumps(content))
        cases.append({"id": f"s{n:04}", "image": str(image), "label": str(label)})
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "hippocampus", "modality": "MR", "labels": STRUCTURES, "cases": cases}))
    return path


def words(command: str, manifest: Path, arguments: argparse.Namespace, out: Path) -> list[str]:
    asked = ["--zoom", "off", "--out", str(out)]
    asked += ["--embeddings", str(arguments.embeddings)] if arguments.embeddings else []
    if command == "segment-many":
        return [command, str(manifest), "--prompts", str(manifest.parent / "{id}.json"), *asked]
    return [
        command,
        "--manifest",
        str(manifest),
        "--slices",
        str(arguments.slices),
        "--no-timing",
        "--save-masks",
        *asked,
    ]


def seconds_of(*several: Sequence[str]) -> float:
    """Until all of these commands, begun at once, have ended."""
    began = time.perf_counter()
    started = [[sys.executable, "-m", "medsam.cli.main", *one, "--threads", "1"] for one in several]
    running = [subprocess.Popen(one, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for one in started]
    for one in running:
        _, errors = one.communicate()
        if one.returncode:
            raise SystemExit(errors)
    return time.perf_counter() - began


def digest(out: Path) -> str:
    """Of every result; without the table of seconds, and what tells the command and the machine."""
    found = hashlib.sha256()
    apart = ("jobs.csv", "run.json", "summary.json", "report.html", "table.tex")
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path.name not in apart):
        found.update(path.relative_to(out).as_posix().encode() + b"\0")
        if path.suffix == ".npz":  # a zip, which tells when it was made
            with np.load(path) as arrays:
                found.update(b"".join(arrays[key].tobytes() for key in arrays))
        elif path.parent.name == "cases":  # "made_from" tells where the prompts lay, which is a new folder each time
            found.update(b"".join(line for line in path.read_bytes().splitlines() if b'"made_from"' not in line))
        else:
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


@contextmanager
def cluster(nodes: int) -> Iterator[Any]:
    """A head without processors, and nodes of one each."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 200 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        made.worker_nodes_made = [made.add_node(num_cpus=1, **small) for _ in range(nodes)]
        yield made
    finally:
        made.shutdown()


def kill_node(node: Any, out: Path, after: int) -> None:
    """As when it loses its power, once so many cases are done."""
    while len([*(out / "cases").glob("*.json")]) < after:
        time.sleep(0.1)
    raylet = node.all_processes["raylet"][0].process.pid
    for pid in (raylet, *(int(p.parent.name) for p in Path("/proc").glob("[0-9]*/stat") if parent(p) == raylet)):
        os.kill(pid, signal.SIGKILL)


def parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


@dataclass
class Table:
    """Rows of one command after the other. alone: seconds of one worker."""

    path: Path
    scans: int
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    alone: float = 0.0

    def add(self, command: str, name: str, number: int, seconds: float, out: Path | None = None) -> None:
        self.alone = seconds if number == 1 else self.alone
        efficiency = f"{self.alone / seconds / number:.2f}" if self.alone else ""
        row = (command, name, self.scans, f"{seconds:.1f}", efficiency, digest(out) if out else "")
        self.rows.append(row)
        print(*row, flush=True)
        with self.path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *self.rows])


def measure(command: str, manifest: Path, root: Path, table: Table, arguments: argparse.Namespace) -> None:
    """One command by every number of workers."""
    for number in arguments.workers:
        out = root / f"{command}-{number}"
        seconds = seconds_of([*words(command, manifest, arguments, out), "--processes", str(number)])
        table.add(command, str(number), number, seconds, out)
        if number == 2 and command == "segment-many":
            apart = [[*words(command, manifest, arguments, root / f"apart-{n}"), "--part", f"{n}/2"] for n in (0, 1)]
            table.add(command, "2 processes apart", 2, seconds_of(*apart))
    if arguments.ray:
        with cluster(2) as made:
            out = root / f"{command}-ray"
            seconds = seconds_of([*words(command, manifest, arguments, out), "--ray", made.address])
            table.add(command, "Ray: 2 nodes", 2, seconds, out)
    if arguments.kill and command == "segment-many":
        with cluster(3) as made:
            out = root / f"{command}-killed"
            node, after = made.worker_nodes_made[2], arguments.scans // 4
            threading.Thread(target=kill_node, args=(node, out, after), daemon=True).start()
            seconds = seconds_of([*words(command, manifest, arguments, out), "--ray", made.address])
            table.add(command, "Ray: 3 nodes, 1 killed", 3, seconds, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--slices", type=int, default=SLICES, help="slices of each structure")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--commands", nargs="+", default=["segment-many", "evaluate"])
    parser.add_argument("--embeddings", type=Path, help="made there before, by two workers: what is timed is the rest")
    parser.add_argument("--alone", type=float, default=0.0, help="seconds of one worker, where a run before has them")
    parser.add_argument("--no-ray", dest="ray", action="store_false")
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = Table(arguments.out / "many.csv", arguments.scans, alone=arguments.alone)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        manifest = make_set(arguments.data, root / "set", arguments.scans, arguments.slices)
        # graphs are made once a machine
        seconds_of([*words("segment-many", manifest, arguments, root / "warm"), "--limit", "1"])
        for command in arguments.commands:
            if arguments.embeddings:
                seconds_of([*words(command, manifest, arguments, root / f"{command}-embeds"), "--processes", "2"])
            measure(command, manifest, root, table, arguments)


if __name__ == "__main__":
    main()
