"""Seconds of a scan without a prompt, beside the same scan with a box for every structure on every slice.

    .venv/bin/python scripts/speed/automatic.py MANIFEST --head HEAD.safetensors [--case ID] [--slices 100] [--csv FILE]

`medsam segment --auto`, and `medsam segment --prompts` with the tight boxes of the references of what the head knows,
whole commands of a process each, in turns; zoom off, so that both encode a slice once. Once with nothing known of the
scan, once with its embeddings there (`--embeddings`).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medsam.data.manifest_json import parse_manifest
from medsam.models.heads import read_head
from medsam.prompts.simulate import tight_box

FIELDS = ("scan", "slices", "structures", "boxes", "how", "median_s", "n", "threads")


def scan_of(manifest: Path, name: str | None, slices: int, folder: Path) -> tuple[Path, Path, dict[str, int]]:
    """The first slices of a case and of its label map, as files; and what the label map means."""
    case = next(one for one in parse_manifest(manifest).cases if name in (None, one.id))
    if not isinstance(case.label, Path):
        raise SystemExit(f"{case.id} has no label map of one file")
    paths = folder / "scan.nii.gz", folder / "label.nii.gz"
    for source, path in zip((case.image, case.label), paths, strict=True):
        nib.save(nib.load(source).slicer[:, :, :slices], path)
    return *paths, dict(case.labels)


def boxes(label: Path, labels: dict[str, int], names: Sequence[str]) -> list[dict[str, Any]]:
    """Tight boxes of structures on the slices where they have 10 pixels, as `tight_box` asks for."""
    values = np.asanyarray(nib.load(label).dataobj)
    prompts = []
    for name in names:
        for k in np.flatnonzero((values == labels[name]).any(axis=(0, 1))).tolist():
            box = tight_box((values[:, :, k] == labels[name]).T)
            if box is not None:
                prompts.append({"label": name, "box": list(map(int, box)), "slice": k})
    return prompts


def seconds(words: Sequence[str], threads: int) -> float:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "medsam.cli.main", *words]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--head", type=Path, required=True)
    parser.add_argument("--case")
    parser.add_argument("--slices", type=int, default=100, help="of the scan, from its first one on")
    parser.add_argument("--structures", type=int, default=40, help="of those that the head knows, the largest ones")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scan, label, labels = scan_of(arguments.manifest, arguments.case, arguments.slices, folder)
        values = np.asanyarray(nib.load(label).dataobj)
        known = [name for name in read_head(arguments.head).card.classes if (values == labels.get(name, -1)).any()]
        names = sorted(known, key=lambda name: -int((values == labels[name]).sum()))[: arguments.structures]
        prompts = boxes(label, labels, names)
        (folder / "prompts.json").write_text(json.dumps({"axis": "k", "prompts": prompts}))
        common = [str(scan), "--zoom", "off", "--out", str(folder / "mask.nii.gz")]
        ways = {
            "automatic": ["--auto", ",".join(names), "--head", str(arguments.head), "--untested"],
            "boxes": ["--prompts", str(folder / "prompts.json")],
        }
        taken: dict[str, list[float]] = {}
        for turn in range(arguments.turns):
            for way, words in ways.items():
                kept = folder / f"embeddings-{way}-{turn}"
                for state in ("first", "embedded"):
                    one = seconds(["segment", *common, *words, "--embeddings", str(kept)], arguments.threads)
                    taken.setdefault(f"{way}, {state}", []).append(one)
                    print(f"{way}, {state}: {one:.1f} s", flush=True)
        about = (arguments.case or arguments.manifest.stem, values.shape[2], len(names), len(prompts))
        rows = [
            (*about, how, f"{statistics.median(times):.1f}", len(times), arguments.threads)
            for how, times in taken.items()
        ]
    for row in rows:
        print(*row)
    if arguments.csv is not None:
        there = list(csv.reader(arguments.csv.open()))[1:] if arguments.csv.is_file() else []
        kept_rows = [row for row in there if row[0] != str(rows[0][0])]
        with arguments.csv.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([FIELDS, *kept_rows, *rows])


if __name__ == "__main__":
    main()
