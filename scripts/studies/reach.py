"""What is lost by up-sampling only where a box's mask can be (`extent="near"` of `Network.predict`), and what is saved.

    medsam data recipe --all --root ../shared/data --out out/manifests
    .venv/bin/python scripts/studies/reach.py out/manifests/*.json

LiteMedSAM in the exported graphs, a tight box around every structure of up to `--slices` slices of up to `--cases`
cases a set; each box is answered with all logits and with those near it. Prints how many masks differ and by how many
pixels of the logits, how far masks reach beyond their boxes in cells of the embedding, and which share of logits was
made.

Measured 2026-11-23: 211 masks of 20 data sets; none reached a cell of the embedding beyond its box, one had a spot apart
of 19 pixels in 1,228, and a sixth of all logits was made.
Frozen: runs at commit 4726808 (there in scripts/bench/), whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from int8 import looks, split, spread

from medsam.inference.engines import UNASKED
from medsam.inference.network import Embedding, Network
from medsam.metrics.overlap import dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--slices", type=int, default=2)
    arguments = parser.parse_args()
    network = Network("litemedsam", "cpu", engine="openvino")
    sets = split(arguments.manifests)[1]
    made: list[float] = []
    reach: list[float] = []
    lost: list[tuple[str, int, int, float]] = []
    for name, cases in sets.items():
        for case in spread(cases, arguments.cases):
            for one in looks(case, arguments.slices, network.sam.spec.preprocess):
                if not one.asked:
                    continue
                boxes = np.array([box for _, box in one.asked.values()])
                embedding = Embedding(network.encode([torch.from_numpy(one.image)])[0], one.frame)
                whole, near = (
                    network.predict(embedding, boxes, extent=extent).logits[:, 0].numpy()
                    for extent in ("everywhere", "near")
                )
                made += (near != UNASKED).mean(axis=(1, 2)).tolist()
                for all_of_it, part, box in zip(whole > 0, near > 0, one.frame.boxes(boxes), strict=True):
                    reach.append(beyond(part, box))
                    if (all_of_it != part).any():
                        apart = int((all_of_it != part).sum())
                        lost.append((name, apart, int(all_of_it.sum()), dice(part, all_of_it)))
    print(f"{len(made)} boxes of {len(sets)} sets; logits made: {np.mean(made):.2f} of all")
    print(f"masks reach beyond their boxes by at most {max(reach):.2f} cells, in the mean {np.mean(reach):.2f}")
    print(f"{len(lost)} masks differ")
    for name, apart, size, same in lost:
        print(f"  {name}: {apart} of {size} pixels, Dice {same:.4f}")


def beyond(mask: np.ndarray, box: np.ndarray) -> float:
    """By how many cells (four pixels) a mask reaches beyond its box, both on the grid of logits; 0 if it does not."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not len(rows):
        return 0.0
    x0, y0, x1, y1 = box.tolist()
    return max(0.0, x0 - columns[0], y0 - rows[0], columns[-1] + 1 - x1, rows[-1] + 1 - y1) / 4


if __name__ == "__main__":
    main()
