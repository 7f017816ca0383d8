"""How many reference structures the masks of `medsam everything` find.

    .venv/bin/python scripts/studies/everything_recall.py MASKS.json REFERENCE [--axis i|j|k] [--least PIXELS]

REFERENCE is a label map on the grid of the scan. A structure on a slice counts from `--least` pixels on, on the slices
that have masks (or on all, for a file of a volume); its score is the IoU of the best mask of that slice.
Recall at an IoU is the share of structures found that well. Prints one line.

Measured 2026-11-22 on slice 60 of totalseg_abdomen_ct: boxes find 0.67 of 12 structures at IoU 0.5, clicks none.
docs/everything.md
Frozen: runs at commit 4726808 (there in scripts/bench/), whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from medsam.inference.link import iou_table
from medsam.io.load import load_volume
from medsam.io.sa1b import read_sa1b
from medsam.masks import RLE


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("masks", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--axis", choices=("i", "j", "k"), help="of a file that does not say it")
    parser.add_argument("--least", type=int, default=10, metavar="PIXELS")
    arguments = parser.parse_args()
    found, labels = read_sa1b(arguments.masks), load_volume(arguments.reference)
    plane = labels.geometry.plane(found.axis or arguments.axis)
    linked = any(one.object is not None for one in found.masks)
    slices = range(plane.count) if linked else sorted({one.slice or 0 for one in found.masks})
    best = []
    for index in slices:
        reference = plane.take(labels.array, index)
        ids = [n for n in np.unique(reference) if n and np.count_nonzero(reference == n) >= arguments.least]
        masks = [one.rle for one in found.masks if (one.slice or 0) == index]
        table = iou_table([RLE.of(reference == n) for n in ids], masks)
        best += table.max(axis=1, initial=0.0).tolist()
    scores = np.array(best)
    print(
        f"{len(found.masks)} masks, {len(best)} structures on {len(slices)} slices: "
        f"recall {np.mean(scores >= 0.5):.2f} at IoU 0.5, {np.mean(scores >= 0.75):.2f} at 0.75; "
        f"mean IoU of the best mask {scores.mean():.2f}"
    )


if __name__ == "__main__":
    main()
