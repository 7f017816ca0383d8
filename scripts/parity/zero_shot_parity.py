"""Zero-shot LiteMedSAM, ours beside the public code, on the same windows and boxes.

    scripts/reference-env
    .venv/bin/python scripts/parity/zero_shot_parity.py [--data DIR] [--only SET] [--json FILE]

For every slice and structure of at least 10 pixels, the tight box of the reference mask; Dice over all prompted slices
of a volume, each structure scored alone. The public code gets our windowed slices as uint8 and the same boxes, and runs
in its own environment (see reference_litemedsam.py), with antialiased bilinear resizing like ours; --area adds a second
pass with INTER_AREA as in its own script. Two answers without a model stand beside them: the filled box and its
inscribed ellipse. Finished sets are kept in the JSON file and not run again. Exit status 1 when the mean Dice of a set
differs from the public code by more than 0.005.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medsam
from medsam.inference.image_predictor import box_prompts
from medsam.io.dicom.rtstruct import read_rtstruct
from medsam.io.dicom.seg import read_seg
from medsam.prompts.simulate import inscribed_ellipse, tight_box
from medsam.transforms.intensity import resolve_window

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 0.005
AREA = "public, INTER_AREA"


@dataclass(frozen=True)
class Case:
    """A scan and its reference masks, bool (K, J, I) by structure."""

    name: str
    scan: medsam.Volume
    references: Mapping[str, np.ndarray]


def cases(data: Path) -> Iterator[Case]:
    folder = data / "totalseg_abdomen_ct"
    for which, entries in json.loads((folder / "labels.json").read_text()).items():
        names = {int(number): name for number, name in entries.items()}
        labels = medsam.load_volume(folder / "labels" / f"{which}.nii.gz").array
        present = [number for number in np.unique(labels) if number]
        yield Case(
            f"totalseg_abdomen_ct/{which}",
            medsam.load_volume(folder / "images" / f"{which}.nii.gz"),
            {names[int(number)]: labels == number for number in present},
        )

    folder = data / "liver_ct_dicom_seg"
    scan = medsam.load_volume(folder / "ct_series")
    spine = medsam.load_volume(folder / "labels_nrrd" / "spine_seg.nrrd")
    if not spine.geometry.same_grid(scan.geometry):
        raise SystemExit("spine_seg.nrrd does not lie on the grid of its CT")
    masks = read_seg(folder / "seg" / "liver.dcm", scan.geometry)
    yield Case("liver_ct_dicom_seg", scan, {**masks, "spine": spine.array > 0})

    folder = data / "lung_ct_dicom_rtstruct"
    scan = medsam.load_volume(folder / "ct_series")
    yield Case("lung_ct_dicom_rtstruct", scan, read_rtstruct(folder / "rtstruct" / "rtstruct.dcm", scan.geometry))


def measure(case: Case, predictor: medsam.Predictor, area: bool) -> dict[str, Any]:
    """Dice of every side by structure, and the seconds of both programs."""
    scan = case.scan
    plane, window = scan.geometry.plane(), resolve_window(scan)
    overlap: dict[str, dict[str, np.ndarray]] = {name: {} for name in case.references}
    pixels, boxes, asked = {}, {}, {}
    seconds = 0.0
    for index in range(plane.count):
        prompts = [
            (name, box)
            for name, mask in case.references.items()
            if (box := tight_box(plane.take(mask, index))) is not None
        ]
        if not prompts:
            continue
        key = f"{index:04d}"
        pixels[key] = plane.view.apply(window.picture(plane.take(scan.array, index)))
        corners = plane.view.edges(np.array([box for _, box in prompts]).reshape(-1, 2, 2), plane.shape)
        boxes[key] = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.int64)
        asked[key] = (index, prompts)

        started = time.perf_counter()
        found = predictor.predict(
            predictor.embed(scan, index, window=window), box_prompts(np.array([box for _, box in prompts]))
        )
        seconds += time.perf_counter() - started
        for (name, box), mask in zip(prompts, found.masks[:, 0], strict=True):
            truth = plane.take(case.references[name], index)
            filled = np.zeros(plane.shape, bool)
            filled[box[1] : box[3], box[0] : box[2]] = True
            _add(overlap[name], "medsam", mask, truth)
            _add(overlap[name], "ellipse", inscribed_ellipse(box, plane.shape), truth)
            _add(overlap[name], "filled box", filled, truth)

    times = {"medsam": seconds}
    for side, resize in (("public code", "bilinear"), *([(AREA, "area")] if area else [])):
        answers = public_code(pixels, boxes, resize)
        times[side] = answers["seconds"]
        for key, (index, prompts) in asked.items():
            for (name, _), mask in zip(prompts, answers["masks"][key], strict=True):
                _add(overlap[name], side, plane.view.undo(mask), plane.take(case.references[name], index))
    dice = {
        name: {side: float(2 * both / total) for side, (both, total) in sums.items()}
        for name, sums in overlap.items()
        if sums
    }
    sides = next(iter(dice.values()))
    return {
        "set": case.name,
        "window": window.name,
        "orientation": scan.geometry.axcodes,
        "slices": len(pixels),
        "boxes": int(sum(len(found) for found in boxes.values())),
        "dice": dice,
        "mean": {side: float(np.mean([scores[side] for scores in dice.values()])) for side in sides},
        "seconds": times,
    }


def _add(sums: dict[str, np.ndarray], side: str, mask: np.ndarray, truth: np.ndarray) -> None:
    both = np.array([np.count_nonzero(mask & truth), np.count_nonzero(mask) + np.count_nonzero(truth)])
    sums[side] = sums.get(side, 0) + both


def public_code(pixels: dict[str, np.ndarray], boxes: dict[str, np.ndarray], resize: str) -> dict[str, Any]:
    """Masks by slice from the public code, in its own environment; it runs once over all slices of a case."""
    python = ROOT / ".venv-reference" / "bin" / "python"
    if not python.exists():
        raise SystemExit("The public code's environment is not there: run scripts/reference-env first.")
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "cases.npz", Path(folder) / "answers.npz"
        arrays: dict[str, Any] = {f"slices/{key}": value for key, value in pixels.items()}
        arrays |= {f"boxes/{key}": value for key, value in boxes.items()}
        np.savez(asked, **arrays)
        script = Path(__file__).with_name("reference_litemedsam.py")
        subprocess.run([python, script, "--resize", resize, asked, answered], check=True)
        with np.load(answered) as found:
            return {
                "masks": {key: found[f"masks/{key}"] for key in pixels},
                "seconds": float(found["encode_seconds"] + found["decode_seconds"]),
            }


def markdown(results: list[dict[str, Any]]) -> str:
    sides = [side for side in ("medsam", "public code", AREA, "ellipse", "filled box") if side in results[0]["mean"]]
    programs = ", ".join(results[0]["seconds"])
    lines = ["| set | slices | boxes | " + " | ".join(sides) + f" | seconds: {programs} |"]
    lines.append("|---|---:|---:|" + "---:|" * (len(sides) + 1))
    for result in results:
        scores = " | ".join(f"{result['mean'][side]:.4f}" for side in sides)
        seconds = ", ".join(f"{value:.0f}" for value in result["seconds"].values())
        lines.append(f"| {result['set']} | {result['slices']} | {result['boxes']} | {scores} | {seconds} |")
    for result in results:
        lines += ["", f"{result['set']} (window {result['window']}):", ""]
        lines += ["| structure | " + " | ".join(sides) + " |", "|---|" + "---:|" * len(sides)]
        for name, scores in result["dice"].items():
            lines.append(f"| {name} | " + " | ".join(f"{scores[side]:.3f}" for side in sides) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MEDSAM_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="the folder of real scans")
    parser.add_argument("--area", action="store_true", help="run the public code with INTER_AREA too")
    parser.add_argument("--only", help="only the sets whose name contains this")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "zero_shot_parity.json")
    arguments = parser.parse_args()

    predictor = medsam.Predictor("litemedsam", device="cpu")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    for case in cases(arguments.data):
        if case.name in [result["set"] for result in results] or (arguments.only or "") not in case.name:
            continue
        print(f"{case.name} ...", file=sys.stderr)
        results.append(measure(case, predictor, arguments.area))
        arguments.json.write_text(json.dumps(results, indent=1))
    print(markdown(results))
    worst = max(abs(result["mean"]["medsam"] - result["mean"]["public code"]) for result in results)
    print(f"\nLargest difference of a mean: {worst:.4f} (at most {TOLERANCE} wanted)")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
