"""What a radiologist's measurement gives as a prompt: lines, axes and outlines derived from reference masks.

    .venv/bin/python scripts/studies/measurements.py --manifests DIR --out out/measurements.json

DIR holds SET.json for every set (`medsam data recipe --all`). Of every structure the slice with its largest area and those
at a quarter and three quarters of its slices are measured, where it is one piece of at least 30 pixels:

    long axis    the two points of the outline that are farthest apart, in mm (RECIST's longest diameter)
    short axis   the longest chord at a right angle to it
    outline      8 points of the outline at equal distances, as somebody in a hurry draws it

Ways to ask, all compared on the same slices; "no model" are answers without one. Nothing was tuned on them: the ways were
written down first, and the simplest that is not worse is taken.

Measured 2026-11-29 with --cases 3 --structures 3 on brain_tumour_mr, breast_ultrasound_busbra, ct_lesion_npz,
lung_ct_dicom_rtstruct, polyp_endoscopy, sts_sarcoma_dicom_rtstruct and totalseg_abdomen_ct: 35 slices. Results:
docs/prompts.md.
Frozen: not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Polygon
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from medsam import Predictor, Prompt
from medsam.data.manifest_json import read_manifest
from medsam.inference.segment_slice import segment_slice
from medsam.prompts.plan import plan
from medsam.prompts.shapes import axes_box, line_box
from medsam.prompts.simulate import inscribed_ellipse, tight_box


def edges_of(mask):
    """Corners of the pixels of a mask (N, 2) as x, y edges."""
    y, x = np.nonzero(mask)
    return np.unique(np.concatenate([np.stack([x + a, y + b], 1) for a in (0, 1) for b in (0, 1)]), axis=0).astype(float)


def axes_of(mask, spacing):
    """Long and short axis (2, 2) edges."""
    corners = edges_of(mask)
    hull = corners[ConvexHull(corners).vertices]
    far = squareform(pdist(hull * spacing))
    a, b = np.unravel_index(far.argmax(), far.shape)
    long = hull[[a, b]]
    way = (long[1] - long[0]) * spacing
    way /= np.linalg.norm(way)
    across = np.array([-way[1], way[0]])
    y, x = np.nonzero(mask)
    centres = np.stack([x + 0.5, y + 0.5], 1) * spacing
    u, v = centres @ way, centres @ across
    step = spacing.min()
    best, chord = 0.0, None
    bins = np.floor((u - u.min()) / step).astype(int)
    for n in range(bins.max() + 1):
        here = np.sort(v[np.abs(bins - n) <= 0])
        if not len(here):
            continue
        breaks = np.flatnonzero(np.diff(here) > 2.5 * spacing.max())
        for run in np.split(here, breaks + 1):
            size = run[-1] - run[0] + step
            if size > best:
                best, chord = size, (u.min() + (n + 0.5) * step, run[0] - step / 2, run[-1] + step / 2)
    at, low, high = chord
    short = np.stack([at * way + low * across, at * way + high * across]) / spacing
    return long, short


def outline_of(mask, count=8):
    """Points of the outer outline at equal distances (count, 2), as edges."""
    from contourpy import contour_generator

    padded = np.pad(mask.astype(float), 1)
    lines = contour_generator(z=padded).lines(0.5)
    line = max(lines, key=len) - 0.5  # centre of padded pixel n+1 is n, and an edge is half a pixel on
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
    at = np.linspace(0, steps[-1], count, endpoint=False)
    return np.stack([np.interp(at, steps, line[:, n]) for n in (0, 1)], 1)


def filled(points, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return Polygon(points).contains_points(np.stack([x + 0.5, y + 0.5], -1).reshape(-1, 2)).reshape(shape)


def ellipse_mask(long, short, shape, spacing):
    centre = (long.mean(0) + short.mean(0)) / 2
    u, v = (long[1] - long[0]) / 2 * spacing, (short[1] - short[0]) / 2 * spacing
    y, x = np.mgrid[: shape[0], : shape[1]]
    off = (np.stack([x + 0.5, y + 0.5], -1) - centre) * spacing
    return ((off @ u / (u @ u)) ** 2 + (off @ v / (v @ v)) ** 2) <= 1


def clipped(box, shape):
    x0, y0, x1, y1 = box
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(shape[1])), min(y1, float(shape[0]))


def ends_box(points):
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    pad = np.maximum(0, 1 - np.array([x1 - x0, y1 - y0])) / 2
    return x0 - pad[0], y0 - pad[1], x1 + pad[0], y1 + pad[1]


def narrow_box(line, spacing, ratio=0.7):
    """Of an ellipse whose short axis is `ratio` of the line."""
    way = (line[1] - line[0]) * spacing / 2
    across = np.array([-way[1], way[0]]) * ratio
    half = np.sqrt(way**2 + across**2) / spacing
    low, high = line.mean(0) - half, line.mean(0) + half
    return (*low, *high)


def ways(mask, spacing):
    """Way to ask -> Prompt fields, and way to answer without a model -> mask."""
    shape = mask.shape
    long, short = axes_of(mask, spacing)
    outline = outline_of(mask)
    inside = lambda at: ((float(at[0]) - 0.5, float(at[1]) - 0.5, 1),)
    square, narrow = clipped(line_box(long, spacing), shape), clipped(narrow_box(long, spacing), shape)
    axes = clipped(axes_box(long, short), shape)
    ends = clipped(ends_box(np.concatenate([long, short])), shape)
    oval, area = ellipse_mask(long, short, shape, spacing), filled(outline, shape)
    ask = {
        "tight box": {"box": tight_box(mask, 1)},
        "line: square": {"box": square},
        "line: square and its middle": {"box": square, "points": inside(long.mean(0))},
        "line: ellipse 0.7": {"box": narrow},
        "line: its own box": {"box": clipped(ends_box(long), shape)},
        "axes: ends": {"box": ends},
        "axes: ends and ellipse": {"box": axes},
        "axes: ends and ellipse, crossing": {"box": axes, "points": inside((long.mean(0) + short.mean(0)) / 2)},
        "axes: ellipse as a mask": {"mask": oval},
        "outline: box": {"box": clipped(ends_box(outline), shape)},
        "outline: as a mask": {"mask": area},
    }
    without = {
        "no model: ellipse in the tight box": inscribed_ellipse(tight_box(mask, 1), shape),
        "no model: ellipse of the axes": oval,
        "no model: the outline": area,
    }
    return ask, without


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def chosen_slices(reference, plane):
    others = tuple(n for n in range(3) if n != plane.array_axis)
    areas = reference.sum(axis=others)
    there = np.flatnonzero(areas)
    if not len(there):
        return []
    return sorted({int(areas.argmax()), int(there[len(there) // 4]), int(there[3 * len(there) // 4])})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifests", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--structures", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=25)
    arguments = parser.parse_args()
    predictor = Predictor("litemedsam")
    rows, started = [], time.time()
    for file in sorted(arguments.manifests.glob("*.json")):
        if arguments.sets and file.stem not in arguments.sets:
            continue
        manifest = read_manifest(file)
        for case in manifest.cases[: arguments.cases]:
            if time.time() - started > arguments.minutes * 60:
                break
            try:
                scan = case.load_image()
                references = case.load_references(scan)
            except Exception as error:
                print(file.stem, case.id, error)
                continue
            encoder = predictor.encoder_for(scan)
            plane = encoder.plane
            spacing = np.array(plane.spacing_mm[::-1])
            names = sorted(references, key=lambda name: zlib.crc32(name.encode()))[: arguments.structures]
            for name in names:
                reference = references[name]
                for index in chosen_slices(reference, plane):
                    mask = plane.take(reference, index)
                    pieces, count = ndimage.label(mask, np.ones((3, 3)))
                    if count != 1 or np.count_nonzero(mask) < 30:
                        continue
                    ask, without = ways(mask, spacing)
                    row = {"set": file.stem, "case": case.id, "structure": name, "slice": index}
                    for way, fields in ask.items():
                        todo = plan([Prompt(name, slice=index, **fields)], scan.geometry, plane.axis)
                        (result,) = segment_slice(encoder, index, todo.slices[index])
                        row[way] = dice(result.mask, mask)
                    row |= {way: dice(answer, mask) for way, answer in without.items()}
                    rows.append(row)
            print(file.stem, case.id, len(rows), f"{time.time() - started:.0f} s", flush=True)
            arguments.out.write_text(json.dumps(rows))
    keys = [key for key in rows[0] if key not in ("set", "case", "structure", "slice")]
    per_set = defaultdict(list)
    for row in rows:
        per_set[row["set"]].append(row)
    print("| way | " + " | ".join(per_set) + " | mean of sets |")
    for key in keys:
        means = [np.mean([row[key] for row in some]) for some in per_set.values()]
        print(f"| {key} | " + " | ".join(f"{mean:.3f}" for mean in means) + f" | {np.mean(means):.3f} |")
    print({name: len(some) for name, some in per_set.items()})


if __name__ == "__main__":
    main()
