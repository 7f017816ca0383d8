"""A box for a click, from the embedding: a small head beside today's search over squares, on sets it was not trained on.

    .venv/bin/python scripts/studies/click_to_box.py embed OUT MANIFEST...      # up to 20 slices a set; 4 MiB of disk each
    .venv/bin/python scripts/studies/click_to_box.py fit OUT [FOLD...]          # one head a fold, 320 steps of 64 marks
    .venv/bin/python scripts/studies/click_to_box.py score OUT MANIFEST...      # up to eight clicks a set
    .venv/bin/python scripts/studies/click_to_box.py table OUT                  # OUT.csv

Four folds of sets (`FOLDS`), those that share patients in one; each set is scored by the head that saw none of its fold.
Measured 2026-11-29. Results: docs/results/README.md, "A box for a click". Frozen: not linted and not kept up to date.

Letters: N marks, C components of the embedding, R radii, A angles, K boxes. Cells are those of the embedding's 64 x 64 grid.
"""

import csv, math, pickle, sys, time, zlib
from pathlib import Path
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn
from medsam.data.manifest_json import read_manifest
from medsam.inference import clicks
from medsam.inference.appearance import brightness, smoothed
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.image_predictor import Crop, ImagePredictor, box_prompts
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import depth_of, inscribed_ellipse, tight_box

FOLDS = {
    "A": "totalseg_abdomen_ct totalseg_abdomen_mr vertebra_ct vertebra_ct_parts sts_sarcoma_dicom_rtstruct sts_sarcoma_mr_pet_ct".split(),
    "B": "breast_ultrasound_busbra chest_xray_lungs lung_ct_dicom_rtstruct spinal_cord_mr".split(),
    "C": "brain_tumour_mr liver_ct_dicom_seg polyp_endoscopy medscribble_2d".split(),
    "D": "breast_mr_dicom_seg ct_lesion_npz msd_hippocampus_mr ct_slices_sammed2d fundus_vessels_fives".split(),
}
R, A, K, C = 18, 16, 3, 32
RADII = 0.45 * 1.31 ** torch.arange(R)  # from half a cell to most of the slice
LEVEL = torch.floor(torch.log2((0.3 * RADII).clamp(min=1))).clamp(0, 3).long()
FINE = torch.floor(torch.log2((1.2 * RADII).clamp(min=1))).clamp(0, 4).long()

# -- samples on rings round a mark: what is large looks as what is small does, a few rings farther out -----------------

def pyramid(x, levels=4, pool=F.avg_pool2d):
    out = [x]
    while len(out) < levels: out.append(pool(out[-1], 2))
    return out

def rings(centre, scale=1.0):
    """centre (B, E, 2) x, y in cells -> (B, E, R, A, 2)."""
    angle = torch.arange(A) * (2 * math.pi / A)
    return centre[:, :, None, None] + scale * RADII[:, None, None] * torch.stack([angle.cos(), angle.sin()], -1)[None]

def sampled(levels, at, level=LEVEL, padding="zeros"):
    """levels of (B, C, h, w), at (B, E, R, A, 2) -> (B, E, C, R, A)."""
    (B, E), parts = at.shape[:2], []
    for n, map_ in enumerate(levels):
        of = (level == n).nonzero().flatten()
        if len(of):
            grid = (at[:, :, of] / 32 - 1).reshape(B, E * len(of), A, 2)
            parts.append(F.grid_sample(map_, grid, padding_mode=padding, align_corners=False).reshape(B, -1, E, len(of), A))
    return torch.cat(parts, 3).transpose(1, 2)

class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.rings, self.norm = nn.Conv2d(c, c, (5, 3), groups=c), nn.GroupNorm(1, c)
        self.a, self.b, self.gate = nn.Conv2d(c, 3 * c // 2, 1), nn.Conv2d(3 * c // 2, c, 1), nn.Linear(c, c)
    def forward(self, x):
        y = self.norm(self.rings(F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 2, 2))))
        return x + 2 * self.b(F.gelu(self.a(y))) * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]

class Head(nn.Module):
    """127 k weights. Three boxes of a mark: the logarithm of the way to each of four sides, its scale, a confidence each."""
    def __init__(self, c=32, depth=4, basis=5, reduced=12, hidden=96, drop=0.1):
        super().__init__()
        self.first, self.blocks = nn.Conv2d(2 * C + 9, c, 1), nn.ModuleList(Block(c) for _ in range(depth))
        self.inside, self.reduce, self.angles = nn.Conv2d(c, K, 1), nn.Conv2d(c, reduced, 1), nn.Parameter(torch.randn(A, basis) * A**-0.5)
        self.side = nn.Sequential(nn.Linear(R * basis * reduced, hidden), nn.GELU(), nn.Dropout(drop))
        self.way, self.confidence, self.drop = nn.Linear(hidden, 2 * K), nn.Linear(hidden, K), nn.Dropout2d(drop)
        with torch.no_grad():
            self.way.bias[:K], self.way.weight[:] = torch.tensor([0.7, 1.6, 2.5]), self.way.weight * 0.3
    def forward(self, features, marked, maps):
        """features (N, C, R, A); marked (N, C) under the mark; maps (N, 6, R, A) -> inside (N, K, R, A), way and scale (N, 4, K)
        right, down, left, up, confidence (N, K)."""
        unlike = features - marked[:, :, None, None]
        same, far = (features * marked[:, :, None, None]).mean(1, keepdim=True), unlike.square().mean(1, keepdim=True)
        radius = (RADII.log() / 2)[None, None, :, None].expand(len(features), 1, R, A)
        x = self.first(torch.cat([self.drop(features), unlike.abs(), same, far, maps, radius], 1))
        for block in self.blocks: x = block(x)
        turned = [torch.roll(self.reduce(x), -d * A // 4, 3) for d in range(4)]
        h = torch.stack([self.side(torch.einsum("ncra,ab->ncrb", z, self.angles).flatten(1)) for z in turned], 1)
        way = self.way(h)
        return self.inside(x), way[..., :K], way[..., K:].clamp(-4, 2), self.confidence(h.mean(1))

def boxes_of(way, centre):
    """(N, K, 4) xyxy in cells."""
    d, x, y = (way.exp() - 0.25).clamp(min=0.1), centre[:, 0, None], centre[:, 1, None]
    return torch.stack([x - d[:, 2], y - d[:, 3], x + d[:, 0], y + d[:, 1]], -1)

def iou(a, b):
    both = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area = lambda z: (z[..., 2:] - z[..., :2]).clamp(min=0).prod(-1)
    return both / (area(a) + area(b) - both + 1e-6)

# -- slices and marks --------------------------------------------------------------------------------------------------

def embed(out, manifests, most=20):
    P = ImagePredictor("litemedsam", cache=EmbeddingCache(folder=out / "embeddings"))
    for path in manifests:
        rng, cases, records, seen, chosen = np.random.default_rng(zlib.crc32(path.stem.encode())), read_manifest(path).cases, [], set(), []
        for k in rng.permutation(len(cases)):
            if cases[k].patient not in seen or len(seen) < most:
                seen.add(cases[k].patient); chosen.append(int(k))
        chosen = chosen[:most]; each = -(-most // len(chosen))
        for k in chosen:
            case = cases[k]; scan = case.load_image(); refs = dict(case.load_references(scan))
            enc = P.encoder_for(scan, window=case.window or "auto"); plane = enc.plane
            pairs = [(s, int(i)) for s, ref in refs.items() for i in plane.touched(ref) if np.count_nonzero(plane.take(ref, i)) >= 10]
            rng.shuffle(pairs); slices, had = [], set()
            for s, i in pairs:  # those that show structures not seen yet come first
                if not (s in had and len(had) < len(refs)) and len(slices) < each:
                    had.add(s); slices += [i] * (i not in slices)
            slices += [i for i in dict.fromkeys(i for _, i in pairs) if i not in slices][: each - len(slices)]
            for i in slices:
                e = enc.encode(i); structures = []
                for s, ref in refs.items():
                    truth = np.ascontiguousarray(plane.take(ref, i)); box = tight_box(truth)
                    if box: structures.append((s, box, e.frame.boxes(np.array([box], float))[0], np.packbits(truth), np.packbits((e.frame.mask_prompt(truth[None], 256)[0] > 0).numpy())))
                if structures: records.append(dict(set=path.stem, k=k, index=i, features=e.features[0].half().numpy(), resized=e.frame.resized, shape=plane.shape, structures=structures, image=enc._input(Crop(i))[0].mean(0).half().numpy()))
        pickle.dump(records, open(out / f"{path.stem}.slices", "wb")); print(path.stem, len(records), flush=True)

def read_slices(out, names):
    found = []
    for name in names:
        for r in pickle.load(open(out / f"{name}.slices", "rb")):
            r["objects"] = []
            for _, _, box, _, packed in r["structures"]:
                mask = np.unpackbits(packed)[:65536].reshape(256, 256).astype(bool); number, count = ndimage.label(mask, np.ones((3, 3)))
                parts = [at for n in range(count) if len(at := np.argwhere(number == n + 1)) >= 6]
                if parts: r["objects"].append((np.array(box) / 4, mask, parts))
            if r["objects"]: found.append(r)
    return found

def components(slices):
    """Mean and the first principal components, half whitened: (256,), (C, 256)."""
    mean, square = 0, 0
    for r in slices:
        h, w = (math.ceil(side / 4) for side in r["resized"])
        x = torch.from_numpy(r["features"])[:, :h, :w].reshape(256, -1).float(); mean, square = mean + x.mean(1), square + x @ x.T / x.shape[1]
    mean = mean / len(slices); values, vectors = torch.linalg.eigh(square / len(slices) - mean[:, None] * mean[None])
    scale = values[-C:].sqrt()
    return mean, (vectors[:, -C:] / (scale.clamp(min=1e-3).sqrt() * scale.max().sqrt())).T

def maps_of(r, pca):
    """What is sampled of a slice: (C, 64, 64), where it is (64, 64), its grey levels (256, 256)."""
    (h, w), (mean, basis) = r["resized"], pca
    there = torch.zeros(64, 64); there[: max(1, round(h / 4)), : max(1, round(w / 4))] = 1
    grey = torch.zeros(256, 256); x = torch.from_numpy(r["image"]).float()[:h, :w]; grey[:h, :w] = (x - x.mean()) / (x.std() + 1e-3)
    return torch.einsum("dc,chw->dhw", basis, torch.from_numpy(r["features"]).float() - mean[:, None, None]), there, grey

def drawn(object_, rng):
    """Pixels (row, column of 256) inside, outside, and which part: a click, some, or a stroke; some with clicks outside."""
    box, mask, parts = object_; sizes = np.array([len(at) for at in parts], float); n = int(rng.choice(len(parts), p=sizes / sizes.sum()))
    at, u, outside = parts[n], rng.random(), np.zeros((0, 2), int)
    if u < 0.55: inside = at[rng.integers(len(at))][None]
    elif u < 0.8: inside = at[rng.integers(len(at), size=rng.integers(2, 5))]
    else:
        a, b = at[rng.integers(len(at), size=2)]; line = np.rint(np.linspace(a, b, int(abs(a - b).max()) + 1)).astype(int); inside = line[mask[tuple(line.T)]]
    if rng.random() < 0.3:
        x0, y0, x1, y1 = box * 4; w, h = x1 - x0, y1 - y0
        q = np.stack([rng.uniform(y0 - 0.6 * h - 2, y1 + 0.6 * h + 2, 8), rng.uniform(x0 - 0.6 * w - 2, x1 + 0.6 * w + 2, 8)], 1).astype(int)
        q = q[(q >= 0).all(1) & (q < 256).all(1)]; outside = q[~mask[tuple(q.T)]][: rng.integers(1, 4)]
    return inside, outside, n

def centre_of(pixels):
    return (pixels[np.square(pixels - pixels.mean(0)).sum(1).argmin()][::-1] + 0.5) / 4

def on_grid(pixels):
    m = np.zeros((64, 64), np.float32); m[pixels[:, 0] // 4, pixels[:, 1] // 4] = 1
    return torch.from_numpy(m)

def under(features, centre, inside, count):
    """(C,) of the embedding under what was marked."""
    if count == 1: return F.grid_sample(features[None], torch.as_tensor(centre, dtype=torch.float32)[None, None, None] / 32 - 1, align_corners=False)[0, :, 0, 0]
    return (features * inside).sum((1, 2)) / inside.sum()

def inputs(features, there, grey, inside, outside, centre, scale=1.0):
    """(B, C, 64, 64), (B, 64, 64), (B, 256, 256), (B, E, 64, 64) twice, (B, E, 2) -> features and maps of B E marks, and where."""
    at = rings(centre, scale); each = at.flatten(0, 1)[:, None]
    marks = sampled(pyramid(torch.stack([inside, outside], 2).flatten(0, 1), pool=F.max_pool2d), each)[:, 0]
    valid = sampled(pyramid(there[:, None]), at).flatten(0, 1); g = sampled(pyramid(grey[:, None], 5), at, FINE, "border")[:, :, 0]
    clicked = F.grid_sample(F.avg_pool2d(grey[:, None], 3, 1, 1), centre[:, :, None] / 32 - 1, align_corners=False)[:, 0, :, 0]
    n = inside.sum((2, 3)); mean = (F.avg_pool2d(grey[:, None], 4) * inside).sum((2, 3)) / n.clamp(min=1)
    d = (g - torch.where(n > 1, mean, clicked)[:, :, None, None]).abs()
    return sampled(pyramid(features), at).flatten(0, 1), torch.cat([marks, valid, torch.stack([g, d, torch.exp(-((d / 0.35) ** 2))], 2).flatten(0, 1)], 1), each

def batch(slices, maps, by_set, rng, B=8, E=8):
    rows = []
    for _ in range(B):
        of = list(by_set.values())[rng.integers(len(by_set))]; k = of[rng.integers(len(of))]
        f, v, g = maps[k]; g = g * float(np.exp(0.15 * rng.normal()) * (1 if rng.random() < 0.75 else -1)); row = []
        for _ in range(E):
            objects = slices[k]["objects"]; box, mask, parts = object_ = objects[rng.integers(len(objects))]
            inside, outside, n = drawn(object_, rng); centre = centre_of(inside) + rng.uniform(-0.1, 0.1, 2)
            if rng.random() < 0.35 and len(inside) == 1:  # the part that was clicked may be what is meant
                mask = np.zeros((256, 256), bool); mask[tuple(parts[n].T)] = True; box = np.array([*parts[n].min(0)[::-1], *(parts[n].max(0)[::-1] + 1)]) / 4
            i = on_grid(inside); row.append((i, on_grid(outside), torch.tensor(centre).float(), torch.tensor(box).float(), torch.from_numpy(mask).float(), under(f, centre, i, len(inside))))
        i, o, c, t, m, u = (torch.stack(z) for z in zip(*row)); fields = [f, v, g, i, o, F.avg_pool2d(m[None], 4)[0]]
        if rng.random() < 0.5: fields = [z.flip(-1) for z in fields]; c = torch.stack([64 - c[:, 0], c[:, 1]], 1); t = torch.stack([64 - t[:, 2], t[:, 1], 64 - t[:, 0], t[:, 3]], 1)
        if rng.random() < 0.5: fields = [z.flip(-2) for z in fields]; c = torch.stack([c[:, 0], 64 - c[:, 1]], 1); t = torch.stack([t[:, 0], 64 - t[:, 3], t[:, 2], 64 - t[:, 1]], 1)
        if rng.random() < 0.5: fields = [z.transpose(-1, -2) for z in fields]; c, t = c.flip(1), t[:, [1, 0, 3, 2]]
        rows.append((*fields, c, t, u))
    f, v, g, i, o, m, c, t, u = (torch.stack(z) for z in zip(*rows))
    features, others, each = inputs(f, v, g, i, o, c, float(np.exp(0.08 * rng.normal())))
    return features, u.flatten(0, 1), others, c.flatten(0, 1), t.flatten(0, 1), sampled(pyramid(m.flatten(0, 1)[:, None]), each)[:, 0, 0]

def loss_of(answer, centre, box, mask):
    inside, way, scale, confidence = answer
    d = torch.stack([box[:, 2] - centre[:, 0], box[:, 3] - centre[:, 1], centre[:, 0] - box[:, 0], centre[:, 1] - box[:, 1]], 1).clamp(min=0.05)
    error = (way - (d + 0.25).log()[..., None]).abs(); overlap = iou(boxes_of(way, centre), box[:, None])
    bce = F.binary_cross_entropy_with_logits(inside, mask[:, None].expand(-1, K, -1, -1), reduction="none").mean((2, 3))
    best = F.one_hot((error.mean(1) + 1 - overlap + bce).detach().argmin(1), K)
    each = 0.5 * (error * (-scale).exp() + scale).mean(1) + error.mean(1) + 1 - overlap + 2 * bce
    return ((0.9 * best + 0.1 / K) * each).sum(1).mean() + 0.5 * F.binary_cross_entropy_with_logits(confidence, overlap.detach().clamp(0, 1)), overlap.detach()

def fit(out, fold, steps=320, lr=2e-3):
    names = [n for f, of in FOLDS.items() if f != fold for n in of]; slices = read_slices(out, names); pca = components(slices)
    maps = [maps_of(r, pca) for r in slices]; by_set = {n: [k for k, r in enumerate(slices) if r["set"] == n] for n in names}
    torch.manual_seed(0); rng, net, started, seen = np.random.default_rng(0), Head(), time.process_time(), []
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimiser.param_groups: group["lr"] = lr * min(1, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        features, marked, others, centre, box, mask = batch(slices, maps, by_set, rng)
        loss, overlap = loss_of(net(features, marked, others), centre, box, mask)
        optimiser.zero_grad(); loss.backward(); nn.utils.clip_grad_norm_(net.parameters(), 1.0); optimiser.step(); seen.append((loss.item(), overlap.amax(1).mean().item()))
        if step % 50 == 49: print(fold, step + 1, "loss %.3f, best box IoU %.3f" % tuple(np.mean(seen[-50:], 0)), "%.0f s" % (time.process_time() - started), flush=True)
    torch.save((net.state_dict(), pca), out / f"head_{fold}.pt")

# -- scored ------------------------------------------------------------------------------------------------------------

@torch.no_grad()
def asked(net, pca, r, pixels):
    """Boxes (K, 4) in pixels of the network, and their confidence (K,)."""
    f, v, g = maps_of(r, pca); centre = centre_of(pixels); c = torch.tensor(centre).float()[None, None]; i = on_grid(pixels)
    features, others, _ = inputs(f[None], v[None], g[None], i[None, None], torch.zeros(1, 1, 64, 64), c)
    _, way, _, confidence = net(features, under(f, centre, i, len(pixels))[None], others); h, w = (side / 4 for side in r["resized"])
    return (4 * boxes_of(way, c[0])[0].clamp(torch.zeros(4), torch.tensor([w, h, w, h]))).numpy(), torch.sigmoid(confidence)[0].numpy()

def dice(a, b): return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))

def score(out, manifests, most=8):
    P = ImagePredictor("litemedsam", cache=EmbeddingCache(folder=out / "embeddings"))
    for path in manifests:
        name = path.stem; fold = next(f for f, of in FOLDS.items() if name in of); weights, pca = torch.load(out / f"head_{fold}.pt"); net = Head(); net.load_state_dict(weights); net.eval()
        slices, rng, cases, seen, order, rows, known = pickle.load(open(out / f"{name}.slices", "rb")), np.random.default_rng(zlib.crc32(name.encode()) + 1), read_manifest(path).cases, {}, [], [], {}
        every = [(n, s) for n, r in enumerate(slices) for s in range(len(r["structures"]))]; rng.shuffle(every)
        for n, s in every:
            structure = slices[n]["structures"][s][0]; seen[structure] = seen.get(structure, 0) + 1; order.append((seen[structure], n, s))
        for _, n, s in sorted(sorted(order, key=lambda o: o[0])[:most], key=lambda o: (slices[o[1]]["k"], o[1], o[2])):
            r = slices[n]; _, box, _, packed, _ = r["structures"][s]; h, w = r["shape"]; truth = np.unpackbits(packed)[: h * w].reshape(h, w).astype(bool); case = cases[r["k"]]
            if r["k"] not in known: known = {r["k"]: P.encoder_for(case.load_image(), window=case.window or "auto")}
            enc = known[r["k"]]; plane, e = enc.plane, enc.encode(r["index"]); f = e.frame
            grey = smoothed(np.nan_to_num(brightness(np.clip(enc.pixels(r["index"]), enc.window.low, enc.window.high))).astype(np.float64))
            for kind in ("any", "middle"):
                at = np.argwhere(truth); y, x = map(int, at[rng.integers(len(at))] if kind == "any" else np.unravel_index(np.argmax(depth_of(truth)), truth.shape))
                said = clicks.Said.by(SlicePrompt(1, points=((x, y, 1),)), plane); here = said.all_inside()
                found, confidence = asked(net, pca, r, np.clip(np.rint(f.points(np.array([[x, y]], float))[0, ::-1]), 0, 255).astype(int)[None])
                found = f.view.inverse.boxes(found / np.tile(f._scale, 2), f.upright)
                found = np.array([clicks.box_including(tuple(b), np.array([[x, y]], float), plane) for b in found]); squares = clicks.candidate_boxes(here[:, ::-1].astype(float), plane)
                first = P.predict(e, box_prompts(np.concatenate([squares, found, [box]]))); ranks, honoured = clicks._ranks(first, said, here, grey, plane); m = len(squares)
                own = lambda of: [b for b in (tight_box(first.masks[i, 0], 1) for i in of) if b is not None]
                o1, o2 = own(np.lexsort((ranks[:m], honoured[:m]))[::-1][:3]) or [tuple(b) for b in squares], own(range(m, m + K)) or [tuple(b) for b in found]
                second = P.predict(e, box_prompts(np.array(o1 + o2, float))); ranks2, honoured2 = clicks._ranks(second, said, here, grey, plane)
                one = lambda p, i, b, score=0.0, honoured=0.0: dict(dice=dice(p.masks[i, 0], truth), box=np.array(b, float), score=score, hon=honoured)
                rows.append(dict(kind=kind, conf=confidence, ellipse=dice(inscribed_ellipse(box, truth.shape), truth), tight=one(first, m + K, box), squares=[one(first, i, squares[i], ranks[i], honoured[i]) for i in range(m)],
                    head=[one(first, m + i, found[i], ranks[m + i], honoured[m + i]) for i in range(K)], own1=[one(second, i, b, ranks2[i], honoured2[i]) for i, b in enumerate(o1)],
                    own2=[one(second, len(o1) + i, b, ranks2[len(o1) + i], honoured2[len(o1) + i]) for i, b in enumerate(o2)]))
        pickle.dump(rows, open(out / f"{name}.scored", "wb")); print(name, len(rows), flush=True)

def table(out):
    """Dice by set. today: the search over squares; head: its most confident box; ranked: its three by today's rule times their
    confidence; both: theirs, those of their masks and today's by today's rule; best: of the three, and of all, by the reference."""
    def ways(q):
        by = lambda of, times=1.0: of[int(np.lexsort((np.array([c["score"] for c in of]) * times, [c["hon"] for c in of]))[-1])]["dice"]
        everything = q["own1"] + q["own2"] + q["head"]
        return {"tight box": q["tight"]["dice"], "ellipse": q["ellipse"], "today": by(q["own1"]), "head": q["head"][int(np.argmax(q["conf"]))]["dice"], "ranked": by(q["head"], q["conf"]),
            "both": by(everything), "best of three": max(c["dice"] for c in q["head"]), "best of all": max(c["dice"] for c in everything + q["squares"])}
    rows = {}
    for path in sorted(out.glob("*.scored")):
        scored = pickle.load(open(path, "rb"))
        rows[path.stem] = {"clicks": len(scored) // 2} | {f"{way}, {kind}" if way not in ("tight box", "ellipse") else way: float(np.mean([ways(q)[way] for q in scored if q["kind"] == kind])) for kind in ("any", "middle") for way in ways(scored[0])}
    keys = list(next(iter(rows.values())))
    rows["mean of sets"] = {key: (sum if key == "clicks" else np.mean)([row[key] for row in rows.values()]) for key in keys}
    with open(f"{out}.csv", "w") as file:
        writer = csv.writer(file, lineterminator="\n"); writer.writerow(["data set", *keys])
        for name, row in rows.items(): writer.writerow([name, row["clicks"], *(f"{row[key]:.3f}" for key in keys[1:])])

if __name__ == "__main__":
    command, out = sys.argv[1], Path(sys.argv[2]); out.mkdir(parents=True, exist_ok=True)
    if command == "fit":
        for fold in sys.argv[3:] or FOLDS: fit(out, fold)
    elif command == "table": table(out)
    else: {"embed": embed, "score": score}[command](out, [Path(path) for path in sys.argv[3:]])
