"""What one scan costs as slices prompted, structures on a slice and voxels grow: seconds, and a picture.

    .venv/bin/python scripts/speed/many_cost.py --out DIR [--most 384] [--picture docs/images/many-cost.png]

A ball in noise, stored as NIfTI, read, segmented with LiteMedSAM by one thread (zoom off) and written. Writes
DIR/many_cost.csv. Seconds are those of the processor, and of several runs the quickest counts: others on the machine
can only add.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt

from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.predictor import Predictor
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.prompts.prompt import Prompt


def ball(side: int, slices: int, path: Path) -> None:
    _, j, i = np.ogrid[:slices, :side, :side]
    inside = (i - side / 2) ** 2 + (j - side / 2) ** 2 < (side / 4) ** 2
    array = 200 * inside + np.random.default_rng(0).normal(0, 20, (slices, side, side))
    nib.save(nib.Nifti1Image(array.astype(np.int16).transpose(2, 1, 0), np.diag([1, 1, 3, 1.0])), path)


def prompts(side: int, slices: int, structures: int) -> list[Prompt]:
    low, high = side // 4, side - side // 4
    boxes = [(low + n, low, high, high - n) for n in range(structures)]
    return [Prompt(f"structure {n}", box=box, slice=k) for k in range(slices) for n, box in enumerate(boxes)]


def seconds(predictor: Predictor, side: int, depth: int, slices: int, structures: int, repeat: int) -> float:
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "scan.nii.gz"
        ball(side, depth, path)
        for _ in range(repeat):
            began = time.process_time()
            result = predictor.segment(load_volume(path), prompts(side, slices, structures), zoom="off")
            save_labels(result.labels, path.with_name("mask.nii.gz"))
            found.append(time.process_time() - began)
    return min(found)


def draw(table: list[tuple[str, int, float]], path: Path) -> None:
    kinds = [*dict.fromkeys(row[0] for row in table)]
    figure, axes = plt.subplots(1, len(kinds), figsize=(11, 3.2), constrained_layout=True)
    for axis, what in zip(axes, kinds, strict=True):
        amount, spent = (np.array([float(row[place]) for row in table if row[0] == what]) for place in (1, 2))
        slope, start = np.polyfit(amount, spent, 1)
        axis.plot(amount, start + slope * amount, color="#999999", linewidth=1)
        axis.plot(amount, spent, "o", color="#0072B2")
        axis.set(xlabel=what, ylabel="processor seconds a scan", ylim=(0, 1.15 * max(spent)), xlim=(0, None))
        fit = np.corrcoef(amount, spent)[0, 1] ** 2
        axis.set_title(f"{start:.2f} s + {slope:.3g} s each, R² {fit:.3f}", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=384, help="longest side of a slice in pixels")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor("litemedsam", "cpu", EmbeddingCache(memory_bytes=0))
    predictor.warm_up()
    asked = [("slices prompted", slices, (128, 16, slices, 1)) for slices in (1, 2, 4, 8, 16)]
    asked += [("structures on a slice", structures, (128, 16, 1, structures)) for structures in (1, 2, 4, 8, 16)]
    sides = [side for side in (64, 128, 192, 256, 320, 384, 512) if side <= arguments.most]
    asked += [("voxels", side * side * 64, (side, 64, 1, 1)) for side in sides]
    rows = []
    for what, amount, how in asked:
        rows.append((what, amount, round(seconds(predictor, *how, arguments.repeat), 3)))
        print(*rows[-1], flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "many_cost.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("what", "amount", "seconds"), *rows])
    if arguments.picture:
        draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
