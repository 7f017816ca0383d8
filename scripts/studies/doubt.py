"""Which parts of what box and brightness add to a network's answer are worth it? Chosen on some sets, tested on others.

    medsam data recipe --all --root ../shared/data --out out/manifests
    .venv/bin/python scripts/studies/doubt.py out/doubt.json out/manifests/*.json --csv out/doubt.csv

From every manifest a fixed random sample of prompts is drawn, every structure about as often, tight and with edges 0-5
and 0-10 px outwards. The looks of `--zoom auto` are taken once, and each setting of five switches is scored on them:

    reach   the priors count more where the logits come near to the box's edges, less where they stay far
    sure    the network's logits are bounded softly
    middle  the less a mask fits its box, the more the middle of the box stands for the inside
    smooth  the sum is smoothed along the picture's edges
    blind   where nothing is known the ellipse counts more, on coarse pictures (with `middle` alone)

All off is what medsam did until commit 0efa964. For each set the switches are chosen by the mean of the gains (tight
once, 5 and 10 pixels half each; a gain of a set beyond 0.03 counts as that) over all sets of other patients.

Measured 2026-11-29: docs/results/doubt.csv.
Frozen: runs at the commit that added it; not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from pathlib import Path

import numpy as np

from medsam.data.manifest_json import read_manifest
from medsam.inference import priors, segment_slice
from medsam.inference.combine import mean_logits
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.predictor import Predictor
from medsam.metrics.overlap import dice
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import inscribed_ellipse, jittered, seeded, tight_box

JITTERS = (0, 5, 10)
SWITCHES = ("reach", "sure", "middle", "smooth", "blind")
BEFORE, NOW = (0, 0, 0, 0, 0), (1, 1, 1, 1, 1)
# each alone, each left out, and some together; `blind` needs `middle`
ONE = [tuple(int(n == k) for n in range(5)) for k in range(4)]
SETTINGS = [
    BEFORE,
    *ONE,
    (0, 1, 1, 1, 0),
    (1, 0, 1, 1, 1),
    (0, 1, 1, 1, 1),
    (1, 1, 0, 1, 0),
    (1, 1, 1, 0, 1),
    (1, 1, 1, 1, 0),
    NOW,
]
FAMILIES = {"sts_sarcoma_dicom_rtstruct": "sts", "sts_sarcoma_mr_pet_ct": "sts", "vertebra_ct_parts": "vertebra_ct"}
REACH, SURE, SMOOTH, FIT = priors._TIGHT, priors._SURE, priors._SMOOTH, priors.box_fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--per-set", type=int, default=8, help="prompts drawn from each data set")
    parser.add_argument("--cases", type=int, default=3, help="at most this many cases of each data set")
    parser.add_argument("--embeddings", type=Path)
    arguments = parser.parse_args()
    done = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    predictor = Predictor("litemedsam", cache=EmbeddingCache(folder=arguments.embeddings))
    for path in arguments.manifests:
        if path.stem not in done:
            done[path.stem] = measure(predictor, path, arguments.per_set, arguments.cases)
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(done))
            print(path.stem, len(done[path.stem]), flush=True)
    report({name: rows for name, rows in done.items() if rows}, arguments.csv)


def measure(predictor: Predictor, path: Path, per_set: int, most_cases: int) -> list[dict]:
    """A row a prompt: structure, jitter, the ellipse's Dice and that of every setting."""
    rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
    cases, waiting = {}, {}
    for case in read_manifest(path).cases[:most_cases]:
        scan = case.load_image()
        cases[case.id] = (predictor.encoder_for(scan, window=case.window or "auto"), case.load_references(scan))
        plane = cases[case.id][0].plane
        for structure, mask in cases[case.id][1].items():
            there = [k for k in plane.touched(mask) if tight_box(plane.take(mask, k)) is not None]
            waiting.setdefault(structure, []).extend((case.id, int(k)) for k in rng.permutation(there))
    chosen = []
    while len(chosen) < per_set and any(waiting.values()):
        for structure, left in waiting.items():
            if left and len(chosen) < per_set:
                chosen.append((structure, *left.pop(int(rng.integers(len(left))))))
    rows = []
    for structure, case, index in chosen:
        encoder, references = cases[case]
        truth = encoder.plane.take(references[structure], index)
        for jitter in JITTERS:
            seed = seeded(0, case, structure, index)
            box = tuple(float(edge) for edge in jittered(tight_box(truth), jitter, truth.shape, seed))
            rows.append({"structure": structure, "jitter": jitter, **score(encoder, index, box, truth)})
    return rows


def score(encoder, index: int, box: tuple, truth: np.ndarray) -> dict:
    looks = []

    def spy(scan_encoder, number, request, predictions, zoom):
        looks.extend(one.logits for one in predictions)
        return original(scan_encoder, number, request, predictions, zoom)

    original, segment_slice.combine = segment_slice.combine, spy
    try:
        segment_slice.segment_slice(encoder, index, [SlicePrompt(1, box)], zoom="auto")
    finally:
        segment_slice.combine = original
    logits, plane, pixels = mean_logits(looks), encoder.plane, encoder.pixels(index)
    size = encoder.image_predictor.sam.spec.preprocess.size
    coarse = size * min(plane.spacing_mm) / max(np.multiply(plane.shape, plane.spacing_mm)) >= 1.5
    found = []
    for reach, sure, middle, smooth, blind in SETTINGS:
        priors._TIGHT, priors._SURE, priors._SMOOTH = REACH * reach, SURE if sure else 1e3, SMOOTH * smooth
        priors.box_fit = FIT if middle else lambda mask, box: 1.0
        weights = priors.PriorWeights(blind=priors.PriorWeights.blind * (blind and coarse))
        mask = priors.add_box_and_intensity_prior(logits, box, pixels, weights, pitch_mm=plane.spacing_mm) > 0
        found.append(float(dice(truth, mask)))
    return {"ellipse": float(dice(truth, inscribed_ellipse(box, plane.shape))), "dice": found}


def report(done: dict[str, list[dict]], path: Path) -> None:
    means = {name: {jitter: mean_of(rows, jitter) for jitter in JITTERS} for name, rows in done.items()}
    before, now = SETTINGS.index(BEFORE), SETTINGS.index(NOW)
    gains = {name: np.array([means[name][j][1] - means[name][j][1][before] for j in JITTERS]) for name in means}
    lines = [
        [
            "data set or switches",
            "prompts",
            *(f"{what}, {j} px" for j in JITTERS for what in COLUMNS),
            "chosen on others",
        ]
    ]
    held = []
    for name, rows in done.items():
        others = [gains[one] for one in gains if family(one) != family(name)]
        best = int(np.argmax(np.clip(np.mean(np.clip(others, -0.05, 0.03), axis=0).T @ [1, 0.5, 0.5], -1, 1)))
        held.append(gains[name][:, best])
        cells = [
            f"{number:{style}}"
            for j, jitter in enumerate(JITTERS)
            for number, style in (
                (means[name][jitter][0], ".3f"),
                (means[name][jitter][1][before], ".3f"),
                (means[name][jitter][1][now], ".3f"),
                (gains[name][j][best], "+.3f"),
            )
        ]
        lines.append([name, str(len(rows) // 3), *cells, named(SETTINGS[best])])
    for title, rows in [("held out", np.array(held))] + [
        (named(one), np.array([gains[name][:, n] for name in gains])) for n, one in enumerate(SETTINGS)
    ]:
        cells = [
            cell for j in range(3) for cell in ("", "", f"worst {rows[:, j].min():+.3f}", f"{rows[:, j].mean():+.4f}")
        ]
        lines.append([f"mean of sets: {title}", "", *cells, ""])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


COLUMNS = ("ellipse", "before", "now", "gain of what others choose")


def mean_of(rows: list[dict], jitter: int) -> tuple[float, np.ndarray]:
    """Of the ellipse, and of every setting: mean over structures."""
    by: dict[str, list] = {}
    for row in rows:
        if row["jitter"] == jitter:
            by.setdefault(row["structure"], []).append([row["ellipse"], *row["dice"]])
    mean = np.mean([np.mean(one, axis=0) for one in by.values()], axis=0)
    return float(mean[0]), mean[1:]


def family(name: str) -> str:
    return FAMILIES.get(name, name)


def named(setting: tuple) -> str:
    return "+".join(name for name, on in zip(SWITCHES, setting, strict=True) if on) or "none"


if __name__ == "__main__":
    main()
