"""From a folder of DICOM to a better model: the commands of docs/annotate.md, people simulated.

    .venv/bin/python scripts/data_engine/hospital.py DATA/msd_hippocampus_mr --out DIR [--patients 60] [--tasks 32]

The volumes are written as a PACS would export them (`as_dicom.py`), one MR series a patient, without a reference: those
are the annotator's eye (`annotator.py`), and in no file of the project. It draws what comes first in the queue, the
frozen patients before all others, on six slices a scan. Then a round, proposals, and the data set out again.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

from annotator import Rules, Truth, work
from as_dicom import write_series
from proof import STRUCTURES, medsam, served

from medsam.annotation.project import AnnotationProject
from medsam.io.labels import load_labels
from medsam.io.load import load_volume

NAMES = STRUCTURES["hippocampus"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    dicom, project, threads = arguments.out / "dicom", arguments.out / "project", arguments.threads
    images = sorted((arguments.data / "imagesTr").glob("*.nii.gz"))[: arguments.patients]
    for number, path in enumerate(images, start=1):
        write_series(path, dicom / f"export{number:03}" / "S1", number)

    began = time.perf_counter()

    def told(what: str) -> None:
        print(f"{time.perf_counter() - began:6.0f} s  {what}", flush=True)

    init = ["annotate", "init", str(project), "--data", str(dicom), "--structures", ",".join(NAMES), "--slices", "6"]
    told(medsam(*init, "--gold", "0", "--second", "0", threads=threads).strip().splitlines()[-1])
    with AnnotationProject.open(project) as opened:
        # the annotator knows whom it sees
        folders = {scan.name: str(opened.case(scan).image) for scan in opened.store.scans()}

    def truth_of(scan: str) -> Truth:
        (number,) = re.findall(r"export(\d+)", folders[scan])
        label = arguments.data / "labelsTr" / images[int(number) - 1].name
        grid = load_volume(dicom / f"export{number}" / "S1").geometry
        return load_labels(label, grid, {name: value for value, name in enumerate(NAMES, start=1)})

    with served(project, arguments.out / "serve.log", threads) as client:
        tally = work(client, truth_of, Rules(), 0, arguments.tasks)
    told(f"drawn: {tally.row()}")
    found = json.loads(medsam("annotate", "round", str(project), "--json", threads=threads))
    told(f"round: {found['why']}")
    found = json.loads(medsam("annotate", "propose", str(project), "--limit", "8", "--json", threads=threads))
    told(f"proposed: {found['masks']} masks on {found['scans']} scans")
    # masks that were drawn one by one share some voxels where they meet
    for layout, more in (("nnunet", ["--overlap", "last"]), ("seg", [])):
        words = ["annotate", "export", str(project), "--format", layout, "--out", str(arguments.out / layout), *more]
        medsam(*words, threads=threads)
    told("exported: " + ", ".join(sorted(path.name for path in (arguments.out / "nnunet").iterdir())))


if __name__ == "__main__":
    main()
