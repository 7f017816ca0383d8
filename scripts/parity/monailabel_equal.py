"""Is each mask that MONAI Label's own client gets the one that `medsam segment` gives for the file that it sent?

    .venv/bin/python scripts/parity/monailabel_equal.py [--data FOLDER] [--only NAME ...] [--json FILE]

FOLDER has the real scans (tests/conftest.py says where). A CT and a sagittal MR, and of both copies that are stored
flipped, with axes swapped, and oblique (`serve_equal.scans`). Each is sent as a session; then clicks inside and outside
on one slice, a box on it, and a click that is followed through the scan are asked for, as 3D Slicer asks, and compared
with what `medsam segment SCAN ...` writes in a process of its own. Exit status 1 where a voxel differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

sys.path.append(str(Path(__file__).resolve().parents[1] / "speed"))

from protocols import fetched_wheel, monai_client
from serve_equal import DATA, scans
from served import Server, about_machine, report

import medsam


def asked(scan: medsam.Volume) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
    """(what, model, the client's parameters, the program's arguments) for a scan."""
    k, j, i = (size // 2 for size in scan.geometry.shape)
    out = (max(1, i // 6), max(1, j // 6))
    clicks = {"foreground": [[i, j, k]], "background": [[*out, k]]}
    flat = ["--axis", "k"]
    yield "clicks", "medsam_slice", clicks, [*flat, "--point", f"{k}:{i},{j}+", "--point", f"{k}:{out[0]},{out[1]}-"]
    box = (i - i // 3, j - j // 3, i + i // 3, j + j // 3)
    # descending, as where an axis runs against the patient's
    roi = {"roi": [box[2] - 1, box[0], box[1], box[3] - 1, k, k]}
    yield "box", "medsam_slice", roi, [*flat, "--box", f"{k}:{','.join(map(str, box))}"]
    axis = scan.geometry.acquired_axis
    at = dict(zip("ijk", (i, j, k), strict=True))
    x, y = (at[one] for one in "ijk" if one != axis)
    reach = 4 * max(scan.geometry.spacing_mm)
    params = {"foreground": [[i, j, k]], "axis": ["auto", "k", "j", "i"], "max_mm": str(reach)}
    program = ["--point", f"{at[axis]}:{x},{y}+", "--propagate", "--max-mm", str(reach)]
    yield "click, followed", "medsam_volume", params, program


def segmented(scan: Path, words: list[str], out: Path) -> np.ndarray:
    """What the program writes."""
    command = [sys.executable, "-m", "medsam.cli.main", "segment", str(scan), *words, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"medsam segment: {done.stderr[-2000:]}")
    return sitk.GetArrayFromImage(sitk.ReadImage(str(out))) != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of scans")
    parser.add_argument("--wheel", type=Path, help="of monailabel; default: fetched as the tests do")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, result, wrong = [["scan", "compared", "voxels inside", "that differ"]], [], 0
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        viewer = monai_client(arguments.wheel or fetched_wheel(), folder)
        server = Server(folder, [], options=["--monailabel"])
        client = viewer.MONAILabelClient(server.url, tmpdir=str(folder))
        for name, path in scans(arguments.data, folder):
            if path.is_dir() or name == "ultrasound" or not any(part in name for part in arguments.only or [""]):
                continue
            session = client.create_session(str(path))["session_id"]
            for what, model, params, words in asked(medsam.load_volume(path)):
                got, _ = client.infer(model, "", dict(params), session_id=session)
                mask = sitk.GetArrayFromImage(sitk.ReadImage(got)) != 0
                expected = segmented(path, words, folder / "theirs.nii.gz")
                differ = int((mask != expected).sum())
                wrong += differ
                result.append({"scan": name, "compared": what, "inside": int(expected.sum()), "differ": differ})
                rows.append([name, what, str(int(expected.sum())), str(differ)])
                print(f"{name}: {what}: {int(expected.sum())} voxels, {differ} differ", file=sys.stderr, flush=True)
        server.stop()
    report({"machine": about_machine(), "compared": result}, rows, arguments.json)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
