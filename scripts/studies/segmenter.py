"""A segmenter of a few patients of MSD hippocampus, the model beside it, and how many clicks their mean still takes.

    .venv/bin/python scripts/studies/segmenter.py DATA/msd_hippocampus_mr OUT [PATIENTS...] [--model FILE] [--steps N]

Learns from the first 8, 16 ... of 80 patients, six slices each, and is asked about six of each of 27 others; the patients that
`scripts/data_engine/proof.py` measures on are in neither. OUT.csv: a row for each number of patients. Then the clicks (20 at most,
until Dice 0.90, in the middle of the worst error or anywhere in it) that the mean takes: as a mask that stands is corrected, by the
model's logits or by its own; and by how likely each pixel is (`likely_masks`).
Measured 2026-12-01. Results: docs/results/README.md, "The data engine without people". Frozen: not linted and not kept up to date.
"""

import argparse, csv
from pathlib import Path
import numpy as np
import torch
from scipy.special import expit
from medsam.annotation.answers import larger
from medsam.annotation.starting import spread_slices
from medsam.chances import CompactChances
from medsam.inference import corrections as C
from medsam.inference.auto import fed_back
from medsam.inference.likely_masks import corrected_odds
from medsam.inference.predictor import Predictor
from medsam.inference.segment_slice import segment_slice
from medsam.inference.whole_slices import labels_of, outlines, slice_inputs
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import error_regions, next_click, seeded, tight_box
from medsam.training.segmenter import DrawnSlices, train_segmenter

STRUCTURES = ("anterior", "posterior")
CLASSES = [(one,) for one in STRUCTURES]
def dice(a, b): return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))
def scan_of(data, name):
    volume = load_volume(data / "imagesTr" / f"{name}.nii.gz")
    masks = load_labels(data / "labelsTr" / f"{name}.nii.gz", volume.geometry, {one: n for n, one in enumerate(STRUCTURES, 1)})
    encoder = P.encoder_for(volume); slices = spread_slices(encoder.plane.count, 6)
    return encoder, slices, {i: [encoder.plane.take(masks[s], i) for s in STRUCTURES] for i in slices}
def examples(data, names):
    images, labels, places = [], [], []
    for name in names:
        encoder, slices, masks = scan_of(data, name); pixels, at, frame = slice_inputs(encoder, slices, 64)
        images.append(pixels); places.append(at); labels += [labels_of(dict(zip(STRUCTURES, masks[i])), CLASSES, frame) for i in slices]
    return DrawnSlices(torch.cat(images), torch.stack(labels), torch.cat(places))
def found(network, data, names):
    """Of each mask of three pixels and more: truth, outline or None, the model's logits for its box, pixels, pitch."""
    for name in names:
        encoder, slices, masks = scan_of(data, name)
        for index, some in outlines(network, CLASSES, encoder, slices):
            by = {one.structure: one for one in some}
            for number, structure in enumerate(STRUCTURES):
                truth, one = masks[index][number], by.get(structure)
                if np.count_nonzero(truth) < 3: continue
                if one is None: yield name, index, structure, truth, None, None, None, None; continue
                box = larger(tuple(map(float, tight_box(one.mask, 1))), 0.1, truth.shape)
                first = segment_slice(encoder, index, [SlicePrompt(1, box)]); again = fed_back(encoder, [SlicePrompt(1, box)], first, 0.15)
                (answer,) = segment_slice(encoder, index, again); window = encoder.window
                yield name, index, structure, truth, one.likely, answer.logits, np.clip(encoder.pixels(index), window.low, window.high), encoder.plane.spacing_mm
def clicks(one, way, noisy):
    name, index, structure, truth, likely, answer, pixels, pitch = one
    chances = (expit(answer) + likely) / 2; odds = CompactChances.of(chances).log_odds(); mask = base = chances > 0.5; marks, clicked, rng = [], set(), seeded(0, name, structure, index)
    for done in range(20):
        if dice(truth, mask) >= 0.9: return done
        click = next_click(truth, mask)
        if click is not None and noisy:
            error = error_regions(truth, mask); y, x = rng.choice(np.argwhere(error == error[click[1], click[0]])); click = int(x), int(y), click[2]
        if click in clicked: click = next_click(truth, mask, rng)
        if click is None: return done
        clicked.add(click); marks.append(C.Mark(point(truth.shape, click[1], click[0]), bool(click[2])))
        if way == "likely": mask = corrected_odds(odds, marks, pitch) > 0
        else: mask = C.correct(base, answer if way == "model" else odds, marks, pixels, pitch)
    return 20
def point(shape, y, x):
    where = np.zeros(shape, bool); where[y, x] = True
    return where

parser = argparse.ArgumentParser(); parser.add_argument("data", type=Path); parser.add_argument("out"); parser.add_argument("patients", nargs="*", type=int)
parser.add_argument("--model", default="litemedsam"); parser.add_argument("--steps", type=int, default=600); A = parser.parse_args()
P = Predictor(A.model)
names = sorted(path.name.removesuffix(".nii.gz") for path in (A.data / "imagesTr").glob("*.nii.gz"))
names = [names[n] for n in np.random.default_rng(2026).permutation(len(names))]; pool, others = names[23:103], names[103:]
with open(f"{A.out}.csv", "w") as file:
    table = csv.writer(file); ways = [(way, noisy) for noisy in (False, True) for way in ("model", "own", "likely")]
    table.writerow(["patients", "masks", "outline", "from 0.90", "model", "mean", "mean from 0.90", *(f"{figure} {way}{', noisy' * noisy}" for way, noisy in ways for figure in ("clicks", "median"))])
    for count in A.patients or [8, 16, 40, 80]:
        rows = list(found(train_segmenter(examples(A.data, pool[:count]), 2, steps=A.steps, seed=0), A.data, others))
        own, model, mean = ([0.0 if one[4] is None else dice(one[3], made(one)) for one in rows] for made in (lambda o: o[4] > 0.5, lambda o: o[5] > 0, lambda o: expit(o[5]) + o[4] > 1))
        there = [one for one in rows if one[4] is not None and np.count_nonzero(one[3]) >= 10]; taken = [[clicks(one, *way) for one in there] for way in ways]
        share = lambda dices: np.mean(np.array(dices) >= 0.9)
        row = [count, len(rows), np.mean(own), share(own), np.mean(model), np.mean(mean), share(mean), *(figure(some) for some in taken for figure in (np.mean, np.median))]
        table.writerow([round(float(v), 3) for v in row]); file.flush(); print(row, flush=True)
