"""The best Dice a network's resolution allows: reference masks brought to its logits and back to the stored slice.

    .venv/bin/python scripts/studies/logit_ceiling.py out/manifests/hippocampus_split.json --split test --every 3

Every n-th slice on which a structure has ten pixels. What is lost is lost to resampling; a network adds its own errors.

Measured 2026-11-23 on the test patients of the hippocampus set: Dice 1.000 for 292 masks, so resolution limits nothing there.
Frozen: runs at commit 4726808 (there in scripts/bench/), whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from medsam.data.manifest import SPLITS
from medsam.data.manifest_json import read_manifest
from medsam.data.slices import ModelSlice, StoredSliced, index_slices, unpack
from medsam.metrics.overlap import dice
from medsam.models.specs import SPECS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", choices=SPLITS, help="default: every case")
    parser.add_argument("--model", choices=tuple(SPECS), default="litemedsam")
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    cases = [
        case
        for case in read_manifest(arguments.manifest).cases
        if case.label is not None and arguments.split in (None, case.split)
    ]
    spec, stored = SPECS[arguments.model], StoredSliced()
    found = []
    for item in index_slices(cases).items[:: arguments.every]:
        seen = ModelSlice.of(*unpack(stored(item)), spec.preprocess)
        back = seen.frame.restore(seen.targets(4 * spec.embed_side).float() - 0.5) > 0
        found += [dice(truth.numpy(), mask.numpy()) for truth, mask in zip(seen.masks, back, strict=True)]
    print(f"{arguments.model}: Dice {np.mean(found):.4f}, lowest {np.min(found):.4f}, {len(found)} masks")


if __name__ == "__main__":
    main()
