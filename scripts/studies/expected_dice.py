"""Can it be told without a reference whether an answer to a box is a good one? Learnt on some sets, tested on others.

    .venv/bin/python scripts/studies/click_to_box.py embed OUT MANIFEST...        # slices and their embeddings
    .venv/bin/python scripts/studies/expected_dice.py collect OUT MANIFEST...     # OUT/NAME.signs, up to 40 objects a set
    .venv/bin/python scripts/studies/expected_dice.py fit OUT                     # tables, picture, weights

Every object is asked for with four boxes: tight, edges 0-5 and 0-10 px outwards, and shifted by up to 15 % of its sides.
Each set is told by a regression on sets of other patients; what it looks like (signs, form, strength) is chosen by leaving
sets of those out in turn. Every set weighs the same.
Measured 2026-11-30: docs/results/README.md, "Expected Dice". Frozen: not linted and not kept up to date.
"""

import csv, json, math, pickle, sys, zlib
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path
import numpy as np
from scipy.special import logit
from medsam.data.manifest_json import read_manifest
from medsam.evaluation.expected_dice import Learnt, Recipe, familiar, fit, left_out, with_spread
from medsam.inference.embeddings import EmbeddingCache
from medsam.models.weights_file import weights_digest
from medsam.inference.image_predictor import ImagePredictor
from medsam.inference.segment_slice import segment_slice
from medsam.inference.signs import NAMES
from medsam.metrics.overlap import dice
from medsam.models.build import load_model
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import inscribed_ellipse, jittered, seeded

BOXES = ("tight", "+5", "+10", "shifted")
FAMILIES = {"sts_sarcoma_dicom_rtstruct": "sts", "sts_sarcoma_mr_pet_ct": "sts", "vertebra_ct_parts": "vertebra_ct"}


def collect(out, manifests, most=40):
    predictor = ImagePredictor("litemedsam", cache=EmbeddingCache(folder=out / "embeddings"))
    for path in manifests:
        if (out / f"{path.stem}.signs").exists(): continue
        cases, slices, rng = read_manifest(path).cases, pickle.load(open(out / f"{path.stem}.slices", "rb")), np.random.default_rng(zlib.crc32(path.stem.encode()))
        seen, order = {}, []
        for n, s in rng.permutation([(n, s) for n, r in enumerate(slices) for s in range(len(r["structures"]))]):
            name = slices[n]["structures"][s][0]; seen[name] = seen.get(name, 0) + 1; order.append((seen[name], int(n), int(s)))
        chosen = {}
        for _, n, s in sorted(order, key=lambda one: one[0])[:most]: chosen.setdefault(n, []).append(s)
        rows, known = [], {}
        for n in sorted(chosen, key=lambda n: (slices[n]["k"], n)):
            r = slices[n]; case = cases[r["k"]]
            if r["k"] not in known: known = {r["k"]: predictor.encoder_for(case.load_image(), window=case.window or "auto")}
            encoder, (h, w) = known[r["k"]], r["shape"]; prompts, truths = [], []
            for s in chosen[n]:
                name, box, _, packed, _ = r["structures"][s]; truth = np.unpackbits(packed)[: h * w].reshape(h, w).astype(bool)
                for kind in BOXES:
                    chance = seeded(0, case.id, name, r["index"])
                    if kind == "shifted":
                        dx, dy = chance.uniform(-0.15, 0.15, 2) * (box[2] - box[0], box[3] - box[1])
                        drawn = (max(0, box[0] + dx), max(0, box[1] + dy), min(w, box[2] + dx), min(h, box[3] + dy))
                    else: drawn = jittered(box, 0 if kind == "tight" else int(kind), (h, w), chance)
                    prompts.append(SlicePrompt(1, tuple(map(float, drawn)))); truths.append((name, kind, truth))
            for (name, kind, truth), prompt, found in zip(truths, prompts, segment_slice(encoder, r["index"], prompts, trust=True)):
                rows.append(dict(set=path.stem, case=case.id, index=r["index"], structure=name, kind=kind, signs=found.signs, dice=float(dice(truth, found.mask)), ellipse=float(dice(truth, inscribed_ellipse(prompt.box, (h, w))))))
        pickle.dump(rows, open(out / f"{path.stem}.signs", "wb")); print(path.stem, len(rows), "%.3f" % np.mean([r["dice"] for r in rows]), flush=True)


# -- learnt ------------------------------------------------------------------------------------------------------------

NO_MM = tuple(n for n in NAMES if n != "side_mm")
NO_SIZE = tuple(n for n in NAMES if n not in ("side", "side_mm", "coarse", "several_looks"))
NETWORK = NAMES[:6]
SIGNS = {NAMES: "all", NO_MM: "no_mm", NO_SIZE: "no_size", NETWORK: "network"}
RECIPES = [Recipe(names, ridge, hinged) for names in SIGNS for ridge in (0.003, 0.01, 0.03, 0.1) for hinged in (False, True)]
ALONE = Recipe(("predicted_iou",), 1e-4, False)


def read(out):
    rows = [row for path in sorted(out.glob("*.signs")) for row in pickle.load(open(path, "rb"))]
    sets = np.array([r["set"] for r in rows])
    return rows, Learnt(np.array([r["signs"] for r in rows]), np.array([r["dice"] for r in rows]), sets, np.array([FAMILIES.get(s, s) for s in sets]))


def without(job):
    """Logits of two families by what was learnt from all others, of each recipe."""
    answers, pair = job; mine = np.isin(answers.families, pair)
    return pair, np.array([logit(fit(answers[~mine], recipe).values(answers.signs[mine])) for recipe in RECIPES])


def loss(logits, answers):
    y = answers.dice; return float(answers.weights @ (np.logaddexp(0, logits) - y * logits))


def auroc(score, failed, weights):
    bad, good = score[failed], score[~failed]
    if not len(bad) or not len(good): return math.nan
    wins = (bad[:, None] < good[None]) + 0.5 * (bad[:, None] == good[None])
    return float(weights[failed] @ wins @ weights[~failed] / (weights[failed].sum() * weights[~failed].sum()))


def ece(expected, dice, weights, bins=10):
    place = np.clip((expected * bins).astype(int), 0, bins - 1)
    return float(sum(abs(weights[place == b] @ (expected - dice)[place == b]) for b in range(bins)) / weights.sum())


def learn(out, processes=2):
    rows, answers = read(out); families = list(np.unique(answers.families))
    pairs = [(a, b) for n, a in enumerate(families) for b in families[n + 1 :]]
    inner = {a: np.full((len(RECIPES), len(rows)), np.nan) for a in families}  # inner[a]: of others, learnt without them and a
    with Pool(processes) as pool:
        for (a, b), found in pool.imap_unordered(without, [(answers, pair) for pair in pairs]):
            at = np.flatnonzero(np.isin(answers.families, (a, b))); of = answers.families[at]
            inner[a][:, at[of == b]], inner[b][:, at[of == a]] = found[:, of == b], found[:, of == a]
    expected, alone, ends, unfamiliar = np.full(len(rows), np.nan), np.full(len(rows), np.nan), np.full((len(rows), 2), np.nan), {}
    pooled, of = pictures(out); where = np.array([FAMILIES.get(s, s) for s in of])
    for a in families:
        mine = answers.families == a; rest = answers[~mine]; best = int(np.argmin([loss(logits[~mine], rest) for logits in inner[a]])); print(a, label(RECIPES[best]))
        model = with_spread(fit(rest, RECIPES[best]), rest, inner[a][best][~mine])
        expected[mine] = model.values(answers.signs[mine]); ends[mine] = [model.interval(v) for v in expected[mine]]
        alone[mine] = fit(rest, ALONE).values(answers.signs[mine])
        known = familiar(pooled[where != a], of[where != a], where[where != a])
        for name in np.unique(of[where == a]): unfamiliar[name] = float(np.mean([known.distance(p) > known.limit for p in pooled[of == name]]))
    pickle.dump((rows, answers, expected, alone, ends, unfamiliar), open(out / "learnt.pickle", "wb"))
    # what is shipped is chosen likewise on all families, and learnt from all
    outer = [left_out(answers, lambda rest, recipe=recipe: fit(rest, recipe)) for recipe in RECIPES]; values = [loss(logits, answers) for logits in outer]; best = int(np.argmin(values)); w, failed = answers.weights, answers.dice < 0.7
    for n in np.argsort(values): print("%.4f, AUROC %.3f, %s" % (values[n], auroc(outer[n], failed, w), label(RECIPES[n])))
    model = replace(with_spread(fit(answers, RECIPES[best]), answers, outer[best]), familiar=familiar(pooled, of, where), weights=weights_digest(load_model("litemedsam")))
    (out / "litemedsam.json").write_text(json.dumps(model.to_dict()) + "\n"); print("shipped:", label(RECIPES[best]), len(json.dumps(model.to_dict())), "bytes")
    table(out); picture(out)


def label(recipe):
    return f"{SIGNS[recipe.names]}, ridge {recipe.ridge:g}{', hinged' * recipe.hinged}"


def pictures(out):
    """Pooled embeddings (n, C) of the slices, and their sets (n,)."""
    pooled, of = [], []
    for path in sorted(out.glob("*.slices")):
        for r in pickle.load(open(path, "rb")):
            h, w = (max(1, math.ceil(side / 4)) for side in r["resized"])
            pooled.append(r["features"][:, :h, :w].astype(np.float32).mean((1, 2))); of.append(r["set"])
    return np.array(pooled), np.array(of)


def measures(which, answers, expected, alone, ends):
    w = answers.weights[which]; y = answers.dice[which]; failed = y < 0.7; e, iou = expected[which], answers.signs[which, 0]
    said = np.clip(2 * iou / (1 + iou), 0, 1); found = {"answers": int(which.sum()), "failed": int(failed.sum()), "Dice": w @ y / w.sum(), "expected": w @ e / w.sum(), "predicted IoU as Dice": w @ said / w.sum()}
    for name, value in (("predicted IoU", said), ("predicted IoU refitted", alone[which]), ("expected", e)): found |= {f"AUROC {name}": auroc(value, failed, w), f"calibration error {name}": ece(value, y, w)}
    held = (y >= ends[which, 0]) & (y <= ends[which, 1])
    return found | {"held by interval": w @ held / w.sum(), "width": w @ (ends[which, 1] - ends[which, 0]) / w.sum()}


def table(out):
    rows, answers, expected, alone, ends, unfamiliar = pickle.load(open(out / "learnt.pickle", "rb")); kind = np.array([r["kind"] for r in rows]); lines = {}
    for name in np.unique(answers.sets): lines[name] = measures(answers.sets == name, answers, expected, alone, ends) | {"unfamiliar": unfamiliar[name]}
    keys = list(next(iter(lines.values())))
    sets = {key: np.nanmean([line[key] for line in lines.values()]) for key in keys}; sets["answers"], sets["failed"] = (sum(line[key] for line in lines.values()) for key in keys[:2])
    for box in BOXES: lines[f"all, {box}"] = measures(kind == box, answers, expected, alone, ends)
    lines["all answers"] = measures(np.ones(len(rows), bool), answers, expected, alone, ends) | {"unfamiliar": sets["unfamiliar"]}; lines["mean of sets"] = sets
    with open(out / "expected_dice.csv", "w") as file:
        writer = csv.writer(file, lineterminator="\n"); writer.writerow(["data set", *keys])
        for name, line in lines.items(): writer.writerow([name, *("" if line.get(key) is None or math.isnan(line[key]) else str(line[key]) if key in keys[:2] else f"{line[key]:.3f}" for key in keys)])
    for name in ("all answers", "mean of sets"): print(name, {key: round(float(value), 3) for key, value in lines[name].items()})


def picture(out):
    import matplotlib; matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    rows, answers, expected, alone, ends, *_ = pickle.load(open(out / "learnt.pickle", "rb")); w, y, iou = answers.weights, answers.dice, answers.signs[:, 0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for value, name, colour, mark in ((np.clip(2 * iou / (1 + iou), 0, 1), "predicted IoU, as a Dice", "#d55e00", "s"), (expected, "expected Dice", "#0072b2", "o")):
        place = np.clip((value * 10).astype(int), 0, 9); bins = [b for b in range(10) if w[place == b].sum() > 0.002]
        x, t, share = (np.array([f(place == b) for b in bins]) for f in (lambda m: w[m] @ value[m] / w[m].sum(), lambda m: w[m] @ y[m] / w[m].sum(), lambda m: w[m].sum()))
        left.plot(x, t, color=colour, lw=1); left.scatter(x, t, s=500 * share + 8, color=colour, marker=mark, label=name, alpha=0.8)
    order = np.argsort(expected); cut = np.array_split(order, 12); x = [expected[c].mean() for c in cut]
    for name in np.unique(answers.sets):
        mine = answers.sets == name; right.scatter(expected[mine].mean(), y[mine].mean(), s=18, color="#009e73")
        right.annotate(name.replace("_", " "), (expected[mine].mean(), y[mine].mean()), fontsize=5, xytext=(3, 2), textcoords="offset points")
    for axes, title, what in ((left, "Answers of sets left out, by what was foretold", "Dice, mean"), (right, "Means of sets, each left out", "Dice, mean of a set")):
        axes.plot([0, 1], [0, 1], color="grey", lw=0.8, ls="--"); axes.set(xlim=(0.2, 1), ylim=(0.2, 1), xlabel="foretold", ylabel=what, aspect="equal"); axes.set_title(title, fontsize=9)
    left.set(xlim=(0, 1), ylim=(0, 1)); left.legend(fontsize=8, loc="upper left", markerscale=0.5); figure.savefig(out / "expected_dice.png", dpi=110)


if __name__ == "__main__":
    command, out = sys.argv[1], Path(sys.argv[2])
    if command == "collect": collect(out, [Path(path) for path in sys.argv[3:]])
    else: {"fit": learn, "table": table, "picture": picture}[command](out)
