"""A structure within another: a segmenter with a class of what they share, beside one that has each pixel in one alone.

    .venv/bin/python scripts/studies/segmenter_classes.py DATA/msd_hippocampus_mr [--patients N] [--steps N]

Of MSD hippocampus the whole and its anterior part, as an organ and a tumour in it. Patients and slices as in segmenter.py, and
outlines alone: what the model answers to their boxes is left out. Prints the mean Dice of each structure with and without.
Measured 2026-12-01. Results: docs/results/README.md, "The data engine without people". Frozen: not linted and not kept up to date.
"""

import argparse
from pathlib import Path
import numpy as np
import torch
from medsam.annotation.starting import spread_slices
from medsam.inference.predictor import Predictor
from medsam.inference.whole_slices import labels_of, outlines, slice_inputs
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.metrics.overlap import dice
from medsam.training.segmenter import DrawnSlices, train_segmenter

WAYS = {"each pixel in one": [("whole",), ("anterior",)], "a class of both": [("whole",), ("anterior",), ("whole", "anterior")]}
parser = argparse.ArgumentParser(); parser.add_argument("data", type=Path); parser.add_argument("--patients", type=int, default=16)
parser.add_argument("--steps", type=int, default=600); A = parser.parse_args()
P = Predictor("litemedsam")
names = sorted(path.name.removesuffix(".nii.gz") for path in (A.data / "imagesTr").glob("*.nii.gz"))
names = [names[n] for n in np.random.default_rng(2026).permutation(len(names))]; learn, others = names[23 : 23 + A.patients], names[103:]

def scan_of(name):
    volume = load_volume(A.data / "imagesTr" / f"{name}.nii.gz")
    masks = load_labels(A.data / "labelsTr" / f"{name}.nii.gz", volume.geometry, {"anterior": 1, "posterior": 2})
    masks = {"whole": masks["anterior"] | masks["posterior"], "anterior": masks["anterior"]}
    encoder = P.encoder_for(volume); slices = spread_slices(encoder.plane.count, 6)
    return encoder, slices, {i: {s: m for s, mask in masks.items() if (m := encoder.plane.take(mask, i)).any()} for i in slices}
def examples(classes):
    images, labels, places = [], [], []
    for encoder, slices, masks in map(scan_of, learn):
        pixels, at, frame = slice_inputs(encoder, slices, 64)
        images.append(pixels); places.append(at); labels += [labels_of(masks[i], classes, frame) for i in slices]
    return DrawnSlices(torch.cat(images), torch.stack(labels), torch.cat(places))
for way, classes in WAYS.items():
    network = train_segmenter(examples(classes), len(classes), steps=A.steps, seed=0); dices = {"whole": [], "anterior": []}
    for encoder, slices, masks in map(scan_of, others):
        for index, found in outlines(network, classes, encoder, slices):
            there = {one.structure: one.mask for one in found}
            for name, truth in masks[index].items():
                if np.count_nonzero(truth) >= 3: dices[name].append(dice(truth, there.get(name, np.zeros_like(truth))))
    print(way, {name: (len(some), round(float(np.mean(some)), 3)) for name, some in dices.items()}, flush=True)
