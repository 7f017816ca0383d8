"""How long a first `medsam segment` of one box takes, and a later one.

    .venv/bin/python scripts/speed/cold_start.py --runs 3 --json out/cold_start.json [--cpus 0,1]

Every pair of runs has a cache folder of its own that holds LiteMedSAM's weights and nothing else: the first run makes
the graphs, the second finds them. Files that were read before come from memory, in both. Wall seconds, those of the
processor (of all threads together), and what the command itself says. On a busy machine only the processor's are
worth reading.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medsam.assets.cache import fetch


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="pairs of a first and a later run (default: 3)")
    parser.add_argument("--cpus", help="processors to run on, as in 0,1 (default: all)")
    parser.add_argument("--scan", type=Path, help="default: a drawn CT of 40 slices")
    parser.add_argument("--box", default="20:180,200,300,330", help="of the scan")
    parser.add_argument("--json", type=Path, help="file to write")
    arguments = parser.parse_args()
    if arguments.cpus:
        os.sched_setaffinity(0, {int(number) for number in arguments.cpus.split(",")})
    weights = Path(fetch("litemedsam")["weights"])
    runs: dict[str, list[dict[str, Any]]] = {"first": [], "later": []}
    with tempfile.TemporaryDirectory() as folder:
        scan = arguments.scan or draw(Path(folder) / "scan.nii.gz")
        # modules are compiled by a run that does not count
        for number in range(arguments.runs + 1):
            cache = Path(folder) / f"cache-{number}"
            shutil.copytree(weights.parent, cache / weights.parent.name)
            for kind, found in runs.items():
                if number or kind == "first":
                    one = run(scan, arguments.box, cache, Path(folder) / "mask.nii.gz")
                    if number:
                        found.append(one)
                        print(kind, json.dumps(one), flush=True)
            shutil.rmtree(cache)
    report: dict[str, Any] = {
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)),
        **{
            kind: {"median": {key: middle(found, key) for key in ("wall", "cpu")}, "runs": found}
            for kind, found in runs.items()
        },
    }
    print(json.dumps({kind: report[kind]["median"] for kind in runs}))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1))


def draw(path: Path) -> Path:
    """A CT of noise with a bright block, 512 x 512 x 40."""
    values = np.random.default_rng(0).normal(0, 40, (512, 512, 40)).astype(np.int16)
    values[190:290, 210:320, 10:30] += 150
    nib.save(nib.Nifti1Image(values, np.diag([0.8, 0.8, 3, 1])), path)
    return path


def run(scan: Path, box: str, cache: Path, out: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "medsam.cli.main", "segment", str(scan), "--box", box, "--out", str(out), "--json"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        words,
        env={**os.environ, "MEDSAM_CACHE": str(cache)},
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = json.loads(done.stdout)
    seconds = {key: round(value, 2) for key, value in said["seconds"].items()}
    return {"wall": round(wall, 2), "cpu": round(cpu, 2), "engine": said.get("engine"), "seconds": seconds}


def middle(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(one[key] for one in runs)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
