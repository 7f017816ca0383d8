"""What is known of an object on the next slice: network, last outline and grey levels, weighed on some sets, shown on others.

    .venv/bin/python scripts/studies/propagation_evidence.py --manifests DIR --out OUT [--embeddings DIR]

DIR holds SET.json for every set (`medsam data recipe --all`). Three parts, each kept in OUT and gone on with:

    pairs     of every structure of `SAMPLE` up to eight pairs of neighbouring slices. From the mask that a tight box
              gives on the one (`--zoom auto`), what is known of the other: the network's logits for the box of that
              mask grown by 7 % and a pixel, signed distances in several units, log-odds of grey levels
    weights   a logistic regression on the pixels within half a radius of the outline, every set counting the same; the
              Dice of each set with the weights fitted to the others
    walks     from the middle slice's box through the whole scan, stopping nowhere; how each rule of stopping, applied
              to what is kept of every step, would have ended it

Measured 2026-11-29 on two busy cores. Weights: docs/results/propagation_weights.csv; stops: propagation_stops.csv.
Frozen: runs at commit ca48e1b, whose names it uses; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
import math
import pickle
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import minimize

from medsam.data.manifest_json import read_manifest
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.grey_levels import GreyLevels, radius_mm
from medsam.inference.image_predictor import ImagePredictor
from medsam.inference.next_slice import EvidenceWeights, evidence
from medsam.inference.outlines import signed_distance
from medsam.inference.segment_slice import segment_slice
from medsam.inference.tracks import TrackMask
from medsam.masks import CompactMask
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import tight_box

SAMPLE = {
    "ct_lesion_npz": {"CT_Lesion_000001_02_01_008-023": None, "CT_Lesion_000002_03_01_035-047": None},
    "totalseg_abdomen_ct": {
        "totalseg_ct_slab": ("kidney_left", "pancreas", "adrenal_gland_left", "vertebrae_L1", "spinal_cord", "aorta", "stomach")
    },
    "totalseg_abdomen_mr": {"totalseg_mr": ("gallbladder", "spinal_cord", "inferior_vena_cava", "liver")},
    "brain_tumour_mr": {"brain1": None},
    "msd_hippocampus_mr": {"hippocampus_001": None},
    "spinal_cord_mr": {"t2s": None},
    "sts_sarcoma_mr_pet_ct": {"STS_002_MR_T1": None},
    "vertebra_ct": {"sub-ct_22": ("vertebra_L3",)},
}
FEATURES = {
    "network": ("network",),
    "network, grey": ("network", "grey"),
    "network, outline": ("network", "ball"),
    "outline, grey": ("ball", "grey"),
    "network, outline, grey": ("network", "ball", "grey"),
    "outline in tenths of the radius": ("network", "tenths", "grey"),
    "outline in gaps": ("network", "gaps", "grey"),
}
# added to the fitted bias: Dice wants fewer misses than likelihood does
SHIFT = 0.3


class Walker:
    """One structure of one scan. zoom: of the prompted slice."""

    def __init__(self, encoder, truth):
        self.encoder, self.truth, self.plane = encoder, truth, encoder.plane
        self.pitch = self.plane.spacing_mm
        self.gap = float(encoder.scan.geometry.spacing_mm[self.plane.array_axis])
        longest = max(n * pitch for n, pitch in zip(self.plane.shape, self.pitch, strict=True))
        self.input_mm = longest / encoder.image_predictor.sam.spec.preprocess.size
        self.prompted = [n for n in range(self.plane.count) if tight_box(truth[n]) is not None]
        self.middle = self.prompted[len(self.prompted) // 2]
        self.given = {}

    def boxed(self, index):
        """What a tight box gives."""
        if index not in self.given:
            (found,) = segment_slice(self.encoder, index, [SlicePrompt(1, tight_box(self.truth[index]))], zoom="auto")
            self.given[index] = TrackMask(CompactMask.of(found.mask), found.predicted_iou, window=found.crops[0].window)
        return self.given[index]

    def grey(self, index, window):
        pixels = (window or self.encoder.window).picture(self.encoder.pixels(index))
        return pixels if pixels.ndim == 2 else pixels.mean(axis=-1)

    def asked(self, index, last, grow=0.07, grow_px=1.0):
        x0, y0, x1, y1 = last.box
        right = grow * (x1 - x0) + grow_px * self.input_mm / self.pitch[1]
        down = grow * (y1 - y0) + grow_px * self.input_mm / self.pitch[0]
        rows, columns = self.plane.shape
        box = max(x0 - right, 0.0), max(y0 - down, 0.0), min(x1 + right, columns), min(y1 + down, rows)
        embedding = self.encoder.encode(index, window=last.window)
        found = self.encoder.image_predictor.predict(embedding, [SlicePrompt(1, box)], logits_for="near_box")
        return found.frame.restore(found.logits[:, 0])[0].cpu().numpy(), float(found.predicted_iou[0, 0])

    def levels(self, seed_levels, index, last):
        now = GreyLevels.of(self.grey(index, last.window), last.mask, self.pitch)
        return now if seed_levels is None else seed_levels.mixed(now)

    def known(self, index, last, levels, weights):
        logits, score = self.asked(index, last)
        grey = self.grey(index, last.window)
        lengths = {"spacing_mm": self.pitch, "gap_mm": self.gap, "input_mm": self.input_mm}
        return evidence(logits, last.mask, grey, levels, weights, **lengths), logits, grey, score


def pairs(walker):
    seed = walker.boxed(walker.middle)
    others = [n for n in walker.prompted if n != walker.middle]
    for index in others[:: max(1, len(others) // 8)]:
        back = index - (1 if index > walker.middle else -1)
        last = walker.boxed(back)
        if not last.area or last.window != seed.window:
            continue
        levels = GreyLevels.of(walker.grey(back, last.window), last.mask, walker.pitch)
        found, logits, grey, _ = walker.known(index, last, levels, EvidenceWeights())
        part, radius = found.part, radius_mm(last.mask, walker.pitch)
        distance = signed_distance(last.mask.to_array()[part], walker.pitch)
        odds = np.zeros_like(distance) if levels is None else levels.odds(grey[part])
        yield {
            "network": np.clip(logits[part], -10, 10),
            "ball": np.tanh(2 * distance / math.sqrt(radius * walker.gap)),
            "tenths": np.clip(distance / (radius / 5), -2, 2),
            "gaps": np.clip(distance / max(walker.gap, walker.input_mm), -2, 2),
            "grey": np.clip(odds, -2, 2),
            "near": np.abs(distance) < max(radius / 2, 2 * walker.input_mm),
            "last": last.mask.to_array()[part],
            "truth": walker.truth[index][part],
            "all": int(walker.truth[index].sum()),
        }


def meeting(mask, last):
    pieces, count = ndimage.label(mask, np.ones((3, 3)))
    stay = np.zeros(count + 1, bool)
    stay[np.unique(pieces[last])] = True
    stay[0] = False
    return stay[pieces]


def matrix(pair, features):
    return np.stack([pair[name] for name in features] + [np.ones_like(pair["ball"])], axis=-1)


def fitted(sets, features):
    """Weights from the pairs of some sets, each counting the same."""
    rng = np.random.default_rng(1)
    xs, ys, ws = [], [], []
    for chosen in sets:
        for pair in chosen:
            at = np.flatnonzero(pair["near"])
            at = rng.choice(at, min(300, len(at)), replace=False)
            xs.append(matrix(pair, features).reshape(-1, len(features) + 1)[at])
            ys.append(pair["truth"].ravel()[at].astype(float))
            ws.append(np.full(len(at), 1 / (len(at) * len(chosen) * len(sets))))
    x, y, w = map(np.concatenate, (xs, ys, ws))

    def loss(b):
        p = 1 / (1 + np.exp(-(x @ b)))
        value = -(w * (y * np.log(p + 1e-9) + (1 - y) * np.log(1 - p + 1e-9))).sum() + 1e-4 * (b**2).sum()
        return value, -(x * (w * (y - p))[:, None]).sum(0) + 2e-4 * b

    return minimize(loss, np.zeros(x.shape[1]), jac=True).x


def dice(pair, features, weights):
    mask = meeting(matrix(pair, features) @ weights > 0, pair["last"])
    return 2 * (mask & pair["truth"]).sum() / max(mask.sum() + pair["all"], 1)


def walk(walker, weights=EvidenceWeights()):
    """Every step both ways until a mask is empty: what the rules of stopping are tried on."""
    seed = walker.boxed(walker.middle)
    record = {"true": walker.truth.sum((1, 2)).tolist(), "area": seed.area, "steps": {1: [], -1: []}}
    record["hit"] = int((seed.mask.to_array() & walker.truth[walker.middle]).sum())
    if not seed.area:
        return record
    grey = walker.grey(walker.middle, seed.window)
    mine = GreyLevels.of(grey, seed.mask, walker.pitch)
    likeness = 0.0 if mine is None else mine.mean_odds(grey, seed.mask.to_array())
    found, *_ = walker.known(walker.middle, seed, mine, weights)
    bias = weights.bias + weights.fitted * (found.bias_for(seed.area) - weights.bias)
    record["gap"] = walker.gap / radius_mm(seed.mask, walker.pitch)
    for step in (1, -1):
        last, index = seed, walker.middle + step
        while 0 <= index < walker.plane.count:
            levels = walker.levels(mine, index - step, last)
            found, logits, grey, score = walker.known(index, last, levels, weights)
            mask = last.meeting(found.mask(bias))
            if not mask.any():
                break
            inside = int(np.count_nonzero(mask & last.mask.to_array()))
            area = int(mask.sum())
            record["steps"][step].append(
                {
                    "hit": int((mask & walker.truth[index]).sum()),
                    "area": area,
                    "true": record["true"][index],
                    "last": last.area,
                    "overlap": last.overlap(mask),
                    "inside": inside / area,
                    "likeness": 0.0 if levels is None else levels.mean_odds(grey, mask) - likeness,
                    "predicted_iou": score,
                    "certainty": found.certainty(mask, bias),
                    "network": float(np.clip(logits, -10, 10)[mask].mean()),
                }
            )
            last = TrackMask(CompactMask.of(mask), score, window=last.window)
            index += step
    return record


def ended(record, stop):
    """Dice over the scan when each way ends where `stop(step, record)` says so first."""
    hit, area = record["hit"], record["area"]
    for steps in record["steps"].values():
        for number, step in enumerate(steps):
            if stop(step, record):
                # a cap is kept
                if stop is ours and step["inside"] >= 0.95 and step["area"] < 0.6 * step["last"] and near(step, record):
                    hit, area = hit + step["hit"], area + step["area"]
                break
            hit, area = hit + step["hit"], area + step["area"]
    return 2 * hit / max(area + sum(record["true"]), 1)


def near(step, record):
    return step["overlap"] >= 0.6 / (1 + record["gap"]) and step["area"] <= 4 * record["area"]


def ours(step, record):
    return not near(step, record) or step["likeness"] < -0.5


def large(step, record):
    return step["overlap"] < 0.3 or step["area"] > 4 * record["area"]


RULES = {
    "nowhere": lambda step, record: False,
    "overlap 0.3": large,
    "overlap 0.5": lambda step, record: large(step, record) or step["overlap"] < 0.5,
    "overlap 0.3, predicted IoU 0.5": lambda step, record: large(step, record) or step["predicted_iou"] < 0.5,
    "overlap 0.3, network 0": lambda step, record: large(step, record) or step["network"] < 0,
    "overlap 0.3, certainty 0.5": lambda step, record: large(step, record) or step["certainty"] < 0.5,
    **{
        f"overlap 0.3, likeness {least}": lambda step, record, least=least: large(step, record) or step["likeness"] < least
        for least in (-0.4, -0.5, -0.6, -0.75)
    },
    "overlap 0.6 / (1 + gap), likeness -0.5, caps kept": ours,
}


def kept(path, make):
    if not path.exists():
        path.write_bytes(pickle.dumps(make()))
    return pickle.loads(path.read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    predictor = ImagePredictor("litemedsam", cache=EmbeddingCache(folder=arguments.embeddings))
    sets, walks = {}, {}
    for dataset, wanted in SAMPLE.items():
        for case in read_manifest(arguments.manifests / f"{dataset}.json").cases:
            if case.id not in wanted:
                continue
            scan = case.load_image()
            encoder = predictor.encoder_for(scan, window=case.window or "auto")
            for name, reference in case.load_references(scan).items():
                if wanted[case.id] and name not in wanted[case.id]:
                    continue
                walker = Walker(encoder, np.moveaxis(reference, encoder.plane.array_axis, 0))
                if len(walker.prompted) > 2:
                    path = f"{arguments.out}/{dataset}.{case.id}.{name}"
                    sets.setdefault(dataset, []).extend(kept(Path(f"{path}.pairs"), lambda: list(pairs(walker))))
                    walks.setdefault(dataset, []).append(kept(Path(f"{path}.walk"), lambda: walk(walker)))
    lines = ["features," + ",".join(sets) + ",mean,weights"]
    for title, features in FEATURES.items():
        scores = []
        for left in sets:
            weights = fitted([pairs for name, pairs in sets.items() if name != left], features)
            weights[-1] += 2 * SHIFT
            scores.append(np.mean([dice(pair, features, weights) for pair in sets[left]]))
        everywhere = " ".join(f"{one:.2f}" for one in fitted(list(sets.values()), features))
        lines.append(f'"{title}",' + ",".join(f"{one:.3f}" for one in [*scores, np.mean(scores)]) + f",{everywhere}")
    (arguments.out / "propagation_weights.csv").write_text("\n".join(lines) + "\n")
    lines = ["stop," + ",".join(walks) + ",mean"]
    for title, rule in RULES.items():
        scores = [np.mean([ended(record, rule) for record in records]) for records in walks.values()]
        lines.append(f'"{title}",' + ",".join(f"{one:.3f}" for one in [*scores, np.mean(scores)]))
    (arguments.out / "propagation_stops.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
