"""A manifest of one patient: blocks of slices with gaps between them, some learnt from, some measured on.

    .venv/bin/python scripts/studies/blocks.py MANIFEST OUT [--case ID] [--size 8] [--gap 2]

Where there is one patient alone, nothing can be said of unseen ones; blocks of slices that lie apart at least are not
the neighbours of what was learnt. Of five blocks the third is "test" and the fifth "val"; OUT gets the pieces of scan
and label as NIfTI and manifest.json, whose name says what it is. Each block counts as a patient, or no split of them
would be taken: what is measured on such a manifest is called "blocks of one patient", and nothing else.
Measured 2026-11-30. Results: docs/results/README.md, "Without a prompt". Frozen: not linted and not kept up to date.
"""

import argparse, json
from pathlib import Path
import nibabel as nib
import numpy as np
from medsam.data.manifest_json import parse_manifest

SPLITS = ("train", "train", "test", "train", "val")

parser = argparse.ArgumentParser()
parser.add_argument("manifest", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--case")
parser.add_argument("--size", type=int, default=8)
parser.add_argument("--gap", type=int, default=2)
arguments = parser.parse_args()
manifest = parse_manifest(arguments.manifest)
case = next(one for one in manifest.cases if arguments.case in (None, one.id))
image, label = nib.load(case.image), nib.load(case.label)
assert image.shape == label.shape and np.allclose(image.affine, label.affine)
arguments.out.mkdir(parents=True)
cases = []
for number, first in enumerate(range(0, image.shape[2], arguments.size + arguments.gap)):
    if first + arguments.size // 2 > image.shape[2]:
        break
    name = f"block{number:02}"
    for one, kind in ((image, "image"), (label, "label")):
        nib.save(one.slicer[:, :, first : first + arguments.size], arguments.out / f"{name}.{kind}.nii.gz")
    cases.append({"id": name, "patient": name, "image": f"{name}.image.nii.gz", "label": f"{name}.label.nii.gz",
                  "split": SPLITS[number % len(SPLITS)]})
labels = dict(case.labels)
whole = {"name": f"{manifest.name} blocks of one patient", "modality": case.modality or manifest.modality, "labels": labels, "cases": cases}
(arguments.out / "manifest.json").write_text(json.dumps(whole, indent=1))
print(*(f"{one['id']} {one['split']}" for one in cases), sep="\n")
