"""How what is drawn by hand becomes a mask: lassos, measured lines, ellipses and rough masks, several ways each.

    .venv/bin/python scripts/studies/drawn.py --manifests DIR --embeddings DIR

DIR holds SET.json for every set (`medsam data recipe --all`). Of every set 8 structures on a slice each are drawn from the
reference, clean and noisy (`medsam.prompts.simulate*`). The network is asked once for each, with the box that follows from what was
drawn; the ways differ in what is done with its logits, and are compared on the same ones:

    lasso     itself, no model; its box; its box and nothing beyond it; a rough mask; the outline as the prior of a box is, so many
              tenths of its radius further in, counting so much at least, along the picture's edges
    lines     the box's prior; that of the ellipse that lies as the lines do, of several widths where one is given; the mask may leave
              the box by so much of its sides
    ellipse   its box; counting so much at least; a rough mask
    rough     the network's log-odds bounded to so much; along the edges; by the network's doubt

Measured 2026-11-29 (2 cores, Intel Xeon AVX-512 AMX), --cases 3 --structures 8 on 17 sets, 115 objects; mean Dice over the sets,
clean and noisy. What was chosen is marked; of two numbers of a setting the mean decided, and none was chosen that one set alone
carries.

    lasso: itself 0.839 0.810; box 0.825 0.821; box, nothing beyond 0.876 0.872; rough mask, nothing beyond 0.884 0.866;
      outline, 0 tenths in, by doubt 0.878 0.867; 1 tenth 0.887 0.882; 2 tenths 0.881 0.878 (14 sets);
      1 tenth and along the edges 0.901 0.894; counting 0.5 at least 0.908 0.897 (chosen), 1 at least 0.907 0.895 (15 sets);
      on all 17: 0.912 0.901
    one line: box 0.774 0.765; ellipse 0.4 as wide as long 0.793 0.780, 0.5 0.791 0.780 (chosen), 0.6 0.786 0.776, 0.7 0.783 0.774;
      counting 0.5 at least: less by 0.003 to 0.010; the mask may leave the box by 0, 5, 10, 20, 30 %: 0.790 0.790 0.790 0.790 0.790
    two lines: box 0.812 0.791; ellipse 0.818 0.797 (chosen); counting 0.5 at least 0.803 for 0.804 (14 sets); may leave the box by
      0, 5, 10, 20, 30 %: 0.815 0.814 0.813 0.812 0.812
    ellipse (centre and spread of the object): box 0.829 0.804 (chosen: simplest); counting 0.5 at least 0.833 0.808, 1 at least
      0.817 0.803; rough mask 0.834 0.807; itself 0.787 0.753
    rough mask: log-odds as they are 0.868 0.850; bounded to 3 0.882 0.857, 5 0.881 0.860 (chosen), 8 0.875 0.856; along the edges,
      unbounded 0.862 0.850; by the network's doubt, 0.5 at least, bounded to 3, along the edges 0.871 0.856

Frozen: not linted and not kept up to date.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from medsam import EmbeddingCache, Predictor, Prompt
from medsam.data.manifest_json import read_manifest
from medsam.inference import segment_slice as steps
from medsam.inference.combine import mean_logits
from medsam.inference.priors import add_box_and_intensity_prior
from medsam.prompts.plan import plan
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.shapes import lassoed
from medsam.prompts.simulate import inscribed_ellipse, rough_mask, seeded, tight_box
from medsam.prompts.simulate_outlines import diameters, ellipse_box, lasso


def chosen(cases, name, count):
    """(case, structure, slice), every structure about equally often."""
    todo, loaded = [], {}
    for case in cases:
        scan = case.load_image()
        loaded[case.id] = scan, case.load_references(scan)
        plane = scan.geometry.plane(None)
        for structure, reference in loaded[case.id][1].items():
            todo += [
                (case.id, structure, index)
                for index in plane.touched(reference)
                if tight_box(plane.take(reference, index)) is not None
            ]
    by = defaultdict(list)
    for one in [todo[n] for n in np.random.default_rng(zlib.crc32(name.encode())).permutation(len(todo))]:
        by[one[1]].append(one)
    found = []
    while len(found) < count and any(by.values()):
        found += [by[structure].pop() for structure in list(by) if by[structure]]
    return found[:count], loaded


def drawn(truth, plane, geometry, index, key, noise):
    """Kind -> (prompt with a box, mask or None)."""
    loop = np.zeros(truth.shape, bool)
    for corners in lasso(truth, seeded(0, *key), noise):
        loop |= lassoed(corners, truth.shape)
    rough = rough_mask(truth, seeded(0, *key), noise)
    axes = diameters(truth, plane.spacing_mm, None if noise == "clean" else seeded(0, *key))
    ellipse = ellipse_box(truth, None if noise == "clean" else seeded(0, *key))
    found = {
        "lasso": (SlicePrompt(1, tuple(map(float, tight_box(loop, 1)))), loop),
        "rough": (SlicePrompt(1, tuple(map(float, tight_box(rough, 1)))), rough),
        "ellipse": (SlicePrompt(1, ellipse), inscribed_ellipse(ellipse, truth.shape)),
    }
    for kind, lines in (("one line", axes[:1]), ("two lines", axes)):
        ((found[kind],),) = (
            [(one, None) for one in here] for here in plan(Prompt(slice=index, lines=lines), geometry, plane.axis).slices.values()
        )
    return found


def ways(kind, prompt, mask, logits, pixels, pitch):
    """Way -> mask; those that the code has today. The others were variants of the same functions."""

    def prior(**drawn):
        return add_box_and_intensity_prior(logits, prompt.box, pixels, pitch_mm=pitch, **drawn) > 0

    found = {"box": prior()}
    if mask is not None:
        found |= {"itself": mask, "rough mask": prior(rough=mask)}
    if kind == "lasso":
        found |= {"box, nothing beyond": found["box"] & mask, "rough mask": found["rough mask"] & mask, "lasso": prior(within=mask)}
    if prompt.lines:
        found["ellipse of the lines"] = prior(lines=prompt.lines)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--manifests", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--structures", type=int, default=8)
    arguments = parser.parse_args()
    predictor = Predictor("litemedsam", cache=EmbeddingCache(folder=arguments.embeddings))
    asked, combine = {}, steps.combine

    def spy(scan_encoder, index, request, predictions, zoom):
        asked[id(request.given)] = mean_logits([one.logits for one in predictions])
        return combine(scan_encoder, index, request, predictions, zoom)

    steps.combine = spy
    steps._logits_for = lambda *_: "all"
    table = defaultdict(lambda: defaultdict(list))
    for path in sorted(arguments.manifests.glob("*.json")):
        some, loaded = chosen(read_manifest(path).cases[: arguments.cases], path.stem, arguments.structures)
        for case, structure, index in some:
            scan, references = loaded[case]
            scan_encoder = predictor.encoder_for(scan)
            plane = scan_encoder.plane
            truth, pixels = plane.take(references[structure], index), scan_encoder.pixels(index)
            for noise in ("clean", "noisy"):
                for kind, (prompt, mask) in drawn(
                    truth, plane, scan.geometry, index, (case, structure, index), noise
                ).items():
                    asked.clear()
                    steps.segment_slice(scan_encoder, index, [prompt])
                    (logits,) = asked.values()
                    for way, found in ways(kind, prompt, mask, logits, pixels, plane.spacing_mm).items():
                        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
                        table[kind, way, noise][path.stem].append(dice)
        print(path.stem, len(some), flush=True)
    for (kind, way, noise), by_set in sorted(table.items()):
        print(f"{kind:10} {way:22} {noise:6} {np.mean([np.mean(scores) for scores in by_set.values()]):.3f}")


if __name__ == "__main__":
    main()
