"""What looking closer costs and gains on whole CTs: encoder calls, seconds, Dice of every structure by its tight box.

    medsam data recipe --all --root ../shared/data --out out/manifests
    python scripts/speed/looks.py out/manifests [--scan abdomen lung] [--zoom off auto] [--slices 20] \
        [--embeddings out/embeddings] [--csv out/looks.csv]

Two scans: the lung CT (24 slices of 512 x 512), and the middle slices of the abdominal slab, whose 3 mm pixels would
never ask for a closer look: brought to 512 x 512 square pixels (scan linear, labels nearest; padded with air). Encoder
calls are those of an empty cache. Seconds are the processor's: what is not encoding as it was measured, and the calls
at what one takes here on its own. Commits from 0efa964 on can run it.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

import medsam
from medsam.data.manifest_json import read_manifest
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.image_predictor import Crop, ScanEncoder
from medsam.inference.segment_slice import segment_slice
from medsam.metrics.overlap import dice
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.simulate import tight_box

SIDE, AIR = 512, -1024
Zoom = Literal["off", "auto"]


class Scan(NamedTuple):
    scan: medsam.Volume
    references: Mapping[str, np.ndarray]
    slices: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path)
    parser.add_argument("--scan", nargs="+", choices=["abdomen", "lung"], default=["abdomen", "lung"])
    parser.add_argument("--zoom", nargs="+", choices=["off", "auto"], default=["off", "auto"])
    parser.add_argument("--slices", type=int, default=20, help="of the abdomen")
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    predictor = medsam.Predictor("litemedsam", cache=EmbeddingCache(folder=arguments.embeddings))
    rows = []
    for name in arguments.scan:
        one = abdomen(arguments.manifests, arguments.slices) if name == "abdomen" else lung(arguments.manifests)
        for zoom in arguments.zoom:
            rows.append({"scan": name, "zoom": zoom, **measured(predictor, one, zoom)})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def measured(predictor: medsam.Predictor, one: Scan, zoom: Zoom) -> dict[str, str]:
    encoder = predictor.encoder_for(one.scan)
    found: dict[str, list[float]] = {}
    calls, other_s, whole, wide = 0, 0.0, 0, 0
    sessions: list[list[int]] = []
    for index in one.slices:
        truths = {name: encoder.plane.take(mask, index) for name, mask in one.references.items()}
        boxes = {name: box for name, truth in truths.items() if (box := tight_box(truth)) is not None}
        if not boxes:
            continue
        started = time.process_time()
        results = segment_slice(encoder, index, [SlicePrompt(1, box) for box in boxes.values()], zoom=zoom)
        usage = sum((result.usage for result in results[1:]), results[0].usage)
        other_s += time.process_time() - started
        calls += len(usage.crops)
        whole += sum(crop.region is None for crop in usage.crops)
        wide += sum(crop.region is not None and crop.window == encoder.wide_window for crop in usage.crops)
        seen: set[Crop] = set()
        # one box after the other, as in a session, which keeps what was encoded
        sessions.append([len(seen := seen | set(result.crops)) for result in results])
        for (name, _), result in zip(boxes.items(), results, strict=True):
            found.setdefault(name, []).append(dice(result.mask, truths[name]))
    prompts = [score for scores in found.values() for score in scores]
    return {
        "slices": str(len(one.slices)),
        "structures": str(len(found)),
        "prompts": str(len(prompts)),
        "encoder_calls": str(calls),
        "of_whole_slices": str(whole),
        "closer_in_wide_window": str(wide),
        **{f"calls_of_{n}_boxes": of_boxes(sessions, n) for n in (1, 2, 5, 10)},
        "seconds": f"{other_s + calls * seconds_a_call(encoder, one.slices):.0f}",
        "dice_prompts": f"{statistics.mean(prompts):.4f}",
        "dice_structures": f"{statistics.mean(statistics.mean(scores) for scores in found.values()):.4f}",
    }


def of_boxes(sessions: list[list[int]], count: int) -> str:
    """Encoder calls that the first `count` boxes of a slice have taken, the mean of slices with so many."""
    taken = [session[count - 1] for session in sessions if len(session) >= count]
    return f"{statistics.mean(taken):.1f}" if taken else ""


def seconds_a_call(encoder: ScanEncoder, slices: list[int]) -> float:
    """Processor seconds of one encoder call, the median of three on slices that are in no cache."""
    spent = []
    for index in slices[:3]:
        side = encoder.plane.shape[1] - 1
        fresh = medsam.Predictor(encoder.image_predictor.sam, "cpu", engine="openvino").encoder_for(encoder.scan)
        fresh.encode(index)
        started = time.process_time()
        fresh.encode(index, region=(0, 0, side, side))
        spent.append(time.process_time() - started)
    return statistics.median(spent)


def lung(manifests: Path) -> Scan:
    case = read_manifest(manifests / "lung_ct_dicom_rtstruct.json").cases[0]
    scan = case.load_image()
    return Scan(scan, case.load_references(scan), list(range(scan.array.shape[0])))


def abdomen(manifests: Path, count: int) -> Scan:
    case = next(case for case in read_manifest(manifests / "totalseg_abdomen_ct.json").cases if "slab" in case.id)
    scan = case.load_image()
    first = (scan.array.shape[0] - count) // 2
    array = np.stack([square(one, 1, AIR) for one in scan.array[first : first + count]]).round().astype(np.int16)
    affine = scan.geometry.affine.copy()
    affine[:, :2] *= max(scan.array.shape[1:]) / SIDE
    references = {
        name: np.stack([square(one, 0, 0) for one in mask[first : first + count]]) > 0.5
        for name, mask in case.load_references(scan).items()
    }
    geometry = medsam.VolumeGeometry(array.shape, affine)
    return Scan(medsam.Volume(array, geometry, modality="CT"), references, list(range(count)))


def square(pixels: np.ndarray, order: int, fill: float) -> np.ndarray:
    """A slice padded to a square and brought to `SIDE` pixels. order: of the interpolation, 0 nearest, 1 linear."""
    longest = max(pixels.shape)
    around = [((longest - size) // 2, longest - size - (longest - size) // 2) for size in pixels.shape]
    padded = np.pad(pixels.astype(np.float32), around, constant_values=fill)
    return ndimage.zoom(padded, SIDE / longest, order=order, grid_mode=True, mode="nearest")


if __name__ == "__main__":
    main()
