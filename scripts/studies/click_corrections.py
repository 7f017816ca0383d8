"""How far does a correction reach? A regression on what is known of each pixel round a click.

    .venv/bin/python scripts/studies/click_corrections.py OUT MANIFEST...

For each set up to five tight boxes are answered; then five clicks, clean or noisy, each corrected by weights that were fitted
on the other groups of sets (clicks on the answers of the weights in the program). Prints Dice by set and writes OUT.csv.
Measured 2026-11-29. Results: docs/results/README.md, "What a correction changes".
Frozen: not linted and not kept up to date.
"""

import csv, sys
from pathlib import Path
import numpy as np
from scipy import ndimage
from medsam import Predictor
from medsam.data.manifest_json import read_manifest
from medsam.inference import corrections as C
from medsam.inference.segment_slice import segment_slice
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import next_click, seeded, tight_box
from medsam.transforms.frame import in_box

GROUP = {"sts_sarcoma_mr_pet_ct": "sts", "sts_sarcoma_dicom_rtstruct": "sts", "vertebra_ct": "vert", "vertebra_ct_parts": "vert"}
ORDER = list(C._WEIGHTS)
def dice(a, b): return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))
def rows(path):
    found = []
    for case in read_manifest(path).cases[:3]:
        scan = case.load_image(); enc = P.encoder_for(scan); plane = enc.plane
        for name, ref in case.load_references(scan).items():
            for i in plane.touched(ref):
                truth = plane.take(ref, i)
                if tight_box(truth): found.append((case, name, int(i)))
    rng = np.random.default_rng(0); out = []
    for case, name, i in [found[k] for k in rng.permutation(len(found))[:5]]:
        scan = case.load_image(); enc = P.encoder_for(scan); plane = enc.plane; truth = plane.take(case.load_references(scan)[name], i)
        box = tuple(map(float, tight_box(truth))); (r,) = segment_slice(enc, i, [SlicePrompt(1, box)])
        px = enc.pixels(i); px = px.mean(2) if px.ndim == 3 else px
        x0, y0, x1, y1 = map(int, box); m = max(x1 - x0, y1 - y0) + 16
        part = np.s_[max(y0 - m, 0) : y1 + m, max(x0 - m, 0) : x1 + m]
        out.append(dict(set=Path(path).stem, key=(case.id, name, i), truth=truth[part], logits=r.logits[part], pitch=plane.spacing_mm,
            allowed=in_box(box, truth.shape)[part], grey=np.nan_to_num(np.clip(px[part], enc.window.low, enc.window.high)).astype(float)))
    return out
def steps(r, weights, bias, kind):
    truth, mask, allowed = r["truth"], r["logits"] > 0, r["allowed"].copy(); said = np.zeros(truth.shape, np.int8); rng = seeded(1, *r["key"])
    for _ in range(5):
        click = next_click(truth, mask)
        if click is None: return
        x, y, s = click; wrong = (truth != mask) & (truth == bool(s)); numbers, _n = ndimage.label(wrong, np.ones((3, 3))); error = numbers == numbers[y, x]
        if kind == "noisy": at = np.argwhere(error); y, x = at[rng.integers(len(at))]
        where = np.zeros(truth.shape, bool); where[y, x] = True; said[y, x] = 1 if s else -1; allowed[y, x] = True
        ev = C.evidence(C.Mark(where, bool(s)), mask, said, r["logits"], r["grey"], np.array(r["pitch"], float), allowed)
        new = mask.copy(); new[ev.part][ev.error(weights, bias + (C._FOR_DICE if s else -C._FOR_DICE))] = bool(s); new[said == 1] = True; new[said == -1] = False
        yield s, error, new, ev; mask = new
def fit(data, skip):
    use = [d for d in data if GROUP.get(d[0], d[0]) != skip]; total = {}
    for d in use: total[d[0]] = total.get(d[0], 0) + d[3].sum()
    X = np.concatenate([d[1] for d in use]); y = np.concatenate([d[2] for d in use]).astype(float); w = np.concatenate([d[3] / total[d[0]] for d in use]); w *= len(y) / w.sum()
    X = np.c_[X, np.ones(len(X))]; b = np.zeros(X.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(X @ b, -30, 30))); ridge = 1e-3 * w.sum()
        b -= np.linalg.solve((X * (w * np.maximum(p * (1 - p), 1e-5))[:, None]).T @ X + ridge * np.eye(len(b)), X.T @ (w * (p - y)) + ridge * np.r_[b[:-1], 0])
    return dict(zip(ORDER, b[:-1])), float(b[-1])
P = Predictor("litemedsam"); R = [r for path in sys.argv[2:] for r in rows(path)]; data = []; rng = np.random.default_rng(0)
for r in R:
    for kind in ("clean", "noisy"):
        for s, error, new, ev in steps(r, C._WEIGHTS, C._AT_A_CLICK, kind):
            i = np.flatnonzero(ev.piece); t = rng.choice(i, min(len(i), 300), replace=False)
            X = np.stack([np.broadcast_to(ev.terms.get(n, 0.0), ev.at.shape).ravel()[t] for n in ORDER], 1)
            data.append((r["set"], np.minimum(X, 1e3), (r["truth"] == bool(s))[ev.part].ravel()[t], np.full(len(t), len(i) / len(t) / max(error.sum(), 10))))
print("all", fit(data, None)); chosen = {g: fit(data, g) for g in {GROUP.get(r["set"], r["set"]) for r in R}}
with open(sys.argv[1] + ".csv", "w") as file:
    table = csv.writer(file); table.writerow(["data set", "clicks", *range(6)])
    for kind in ("clean", "noisy"):
        by = {}
        for r in R:
            d = [dice(r["logits"] > 0, r["truth"])] + [dice(new, r["truth"]) for _, _, new, _ in steps(r, *chosen[GROUP.get(r["set"], r["set"])], kind)]
            by.setdefault(r["set"], []).append(d + [d[-1]] * (6 - len(d)))
        for name, d in by.items(): table.writerow([name, kind, *np.mean(d, 0).round(3)]); print(name, kind, np.mean(d, 0).round(3))
