"""What a decoder that knows clicks adds to the search for a box: its answers as proposals, and agreement with them.

    .venv/bin/python scripts/studies/click_to_box.py embed OUT MANIFEST...                    # slices and their embeddings
    .venv/bin/python scripts/studies/click_proposals.py collect OUT DECODER MANIFEST...       # OUT/NAME.clicks, up to 20 objects a set
    .venv/bin/python scripts/studies/click_proposals.py table OUT TABLE.csv

DECODER: of `medsam fit --config configs/train/click_to_box.yaml`. Of each object three prompts: a click anywhere, one in its
middle, a straight stroke from a random pixel. The power of agreement is chosen for each set on sets of other patients; every
set weighs the same. Dice is that of the network's mask on the whole slice: no closer look, no priors.
Measured 2026-11-30: docs/results/README.md, "A decoder that proposes boxes". Frozen: not linted and not kept up to date.
"""

import csv, pickle, sys, zlib
from pathlib import Path
import numpy as np
import torch
from medsam.data.manifest_json import read_manifest
from medsam.inference import clicks
from medsam.inference.appearance import brightness, smoothed
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.engines.torch import TorchEngine
from medsam.inference.image_predictor import ImagePredictor, box_prompts
from medsam.models.build import load_model
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import depth_of, tight_box
from medsam.prompts.strokes import Scribble

KINDS, POWERS = ("any", "middle", "stroke"), (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
FAMILIES = {"sts_sarcoma_dicom_rtstruct": "sts", "sts_sarcoma_mr_pet_ct": "sts", "vertebra_ct_parts": "vertebra_ct"}
# sets that the decoder learnt from
SHOWN = ("breast_mr_dicom_seg", "spinal_cord_mr", "sts_sarcoma_dicom_rtstruct", "sts_sarcoma_mr_pet_ct")
dice = lambda a, b: 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))


def asked(kind, truth, rng):
    points = np.argwhere(truth); y, x = map(int, points[rng.integers(len(points))] if kind != "middle" else np.unravel_index(np.argmax(depth_of(truth)), truth.shape))
    if kind == "stroke":
        some = points[rng.permutation(len(points))[:30]]; far = some[np.square(some - [y, x]).sum(1).argmax()]
        line = list(dict.fromkeys(tuple(map(int, q[::-1])) for q in np.rint(np.linspace([y, x], far, 40)).astype(int) if truth[tuple(q)]))
        if len(line) > 1: return SlicePrompt(1, scribbles=(Scribble(tuple(line)),))
    return SlicePrompt(1, points=((x, y, 1),))


def collect(out, decoder, manifests, most=20):
    torch.set_num_threads(1)
    P, engine = ImagePredictor("litemedsam", cache=EmbeddingCache(folder=out / "embeddings")), TorchEngine(load_model(decoder), torch.device("cpu"))
    for path in manifests:
        slices, cases, rng = pickle.load(open(out / f"{path.stem}.slices", "rb")), read_manifest(path).cases, np.random.default_rng(zlib.crc32(path.stem.encode()) + 7)
        every = [(n, s) for n, r in enumerate(slices) for s in range(len(r["structures"]))]; rng.shuffle(every); seen, order, known, rows = {}, [], {}, []
        for n, s in every: name = slices[n]["structures"][s][0]; seen[name] = seen.get(name, 0) + 1; order.append((seen[name], n, s))
        for _, n, s in sorted(sorted(order, key=lambda o: o[0])[:most], key=lambda o: (slices[o[1]]["k"], o[1], o[2])):
            r = slices[n]; _, box, _, packed, _ = r["structures"][s]; h, w = r["shape"]; truth = np.unpackbits(packed)[: h * w].reshape(h, w).astype(bool); case = cases[r["k"]]
            if r["k"] not in known: known = {r["k"]: P.encoder_for(case.load_image(), window=case.window or "auto")}
            enc = known[r["k"]]; plane, e = enc.plane, enc.encode(r["index"]); tight = dice(P.predict(e, box_prompts(np.array([box], float))).masks[0, 0], truth)
            grey = smoothed(np.nan_to_num(brightness(np.clip(enc.pixels(r["index"]), enc.window.low, enc.window.high))).astype(np.float64))
            for kind in KINDS:
                prompt = asked(kind, truth, rng); said = clicks.Said.by(prompt, plane); at = said.all_inside(); squares = clicks.candidate_boxes(at[:, ::-1].astype(float), plane)
                marks = np.array(clicks.with_clicks(prompt, plane).points, float); given = {"points": torch.from_numpy(e.frame.points(marks[:, :2]))[None], "point_labels": torch.from_numpy(marks[:, 2]).long()[None]}
                logits, quality = engine.decode(e.features, given, multimask=True); theirs = (e.frame.restore(logits[0]) > 0).numpy(); quality = quality[0].numpy()
                first = P.predict(e, box_prompts(squares)); ranks, honoured = clicks._ranks(first, said, at, grey, plane); best = np.lexsort((ranks, honoured))[::-1][:3]
                own = [b for b in (tight_box(first.masks[k, 0], 1) for k in best) if b] or [tuple(squares[0])]; boxes = own + [b for b in (tight_box(m, 1) for m in theirs) if b]
                found = P.predict(e, box_prompts(np.array(boxes, float))); ranks, honoured = clicks._ranks(found, said, at, grey, plane); masks = found.masks[:, 0]; flat, others = (m.reshape(len(m), -1).astype(np.float32) for m in (masks, theirs)); both = flat @ others.T
                surely = (both / np.maximum(flat.sum(1)[:, None] + others.sum(1) - both, 1) * np.clip(quality, 0, 1)).max(1)
                rows.append(dict(kind=kind, score=ranks, surely=surely, honoured=honoured, dice=np.array([dice(m, truth) for m in masks]), own=len(own), tight=tight, direct=dice(theirs[int(quality.argmax())], truth), direct_best=max(dice(m, truth) for m in theirs)))
        pickle.dump(rows, open(out / f"{path.stem}.clicks", "wb")); print(path.stem, len(rows), flush=True)



def chosen(one, power, own=False):
    n = one["own"] if own else len(one["dice"]); score = one["score"][:n] * (0.05 + one["surely"][:n]) ** power
    return float(one["dice"][:n][int(np.lexsort((score, one["honoured"][:n]))[-1])])


def table(out, path):
    sets = {file.stem: pickle.load(open(file, "rb")) for file in sorted(out.glob("*.clicks"))}; family = lambda name: FAMILIES.get(name, name)
    by_power = {power: {name: np.mean([chosen(one, power) for one in of]) for name, of in sets.items()} for power in POWERS}
    power = {name: max(POWERS, key=lambda p: np.mean([value for other, value in by_power[p].items() if family(other) != family(name)])) for name in sets}
    ways = {"tight box": lambda n, o: o["tight"], "search over squares": lambda n, o: chosen(o, 0, own=True), "with proposals": lambda n, o: chosen(o, 0), "and agreement": lambda n, o: chosen(o, power[n]), "best of these": lambda n, o: float(o["dice"].max()),
        "decoder alone": lambda n, o: o["direct"], "decoder alone, best of three": lambda n, o: o["direct_best"]}
    mean = lambda name, way, kind: float(np.mean([ways[way](name, one) for one in sets[name] if one["kind"] == kind]))
    rows = [[kind, name, power[name], *(mean(name, way, kind) for way in ways)] for kind in KINDS for name in sets]
    for title, of in (("mean of sets", list(sets)), ("mean of sets never shown", [name for name in sets if name not in SHOWN])): rows += [[kind, title, "", *(float(np.mean([mean(name, way, kind) for name in of])) for way in ways)] for kind in KINDS]
    with open(path, "w") as file: csv.writer(file, lineterminator="\n").writerows([["prompt", "data set", "power", *ways], *([*row[:3], *(f"{value:.3f}" for value in row[3:])] for row in rows)])
    for row in rows[-6:]: print(*row[:2], {way: round(value, 3) for way, value in zip(ways, row[3:])})
    print({p: round(float(np.mean(list(of.values()))), 4) for p, of in by_power.items()}, power)


if __name__ == "__main__":
    command, out = sys.argv[1], Path(sys.argv[2])
    if command == "collect": collect(out, sys.argv[3], [Path(path) for path in sys.argv[4:]])
    else: table(out, Path(sys.argv[3]))
