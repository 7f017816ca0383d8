"""`medsam everything` against the public SamAutomaticMaskGenerator, on the same fixed logits.

    scripts/reference-env
    .venv/bin/python scripts/parity/everything_parity.py [--cases N] [--seed N] [--reference PYTHON]

Draws soft blobs with duplicates, specks, holes and edges as the answers of a network, gives them to both, and compares
every mask, box, score, crop and point, in order. Exits with 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from medsam.geometry import VolumeGeometry
from medsam.inference.automatic import AutomaticSettings, everything_on_slice
from medsam.inference.predictor import Predictor
from medsam.transforms.preprocess import Preprocess
from medsam.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
# the public generator has no such filter
WHOLE: dict[str, Any] = {"max_mask_area_ratio": 2.0, "max_background_ratio": 1.0}


class Fixed(torch.nn.Module):
    """Answers the next of the logits it was given, whatever is asked."""

    def __init__(self, logits: np.ndarray, quality: np.ndarray, size: int) -> None:
        super().__init__()
        self.logits, self.quality, self.asked = torch.from_numpy(logits), torch.from_numpy(quality), 0
        preprocess = Preprocess(size, "pad", "minmax", "bilinear")
        self.spec = SimpleNamespace(name="fixed", preprocess=preprocess, embed_side=logits.shape[-1] // 4)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :1]

    def decode(
        self, _: torch.Tensor, *, points: torch.Tensor, point_labels: torch.Tensor, multimask: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        part = slice(self.asked, self.asked + points.shape[1])
        self.asked = part.stop
        return self.logits[None, part], self.quality[None, part]


def drawn(rng: np.random.Generator) -> dict:
    """One case: an image's shape, settings, and as many answers as they ask for."""
    settings: dict[str, Any] = {
        "points_per_side": int(rng.integers(4, 11)),
        "points_per_batch": int(rng.integers(3, 65)),
        "pred_iou_thresh": float(rng.choice([0.0, 0.6, 0.88])),
        "stability_score_thresh": float(rng.choice([0.5, 0.8, 0.95])),
        "stability_score_offset": float(rng.choice([0.5, 1.0])),
        "box_nms_thresh": float(rng.choice([0.3, 0.5, 0.7, 0.9])),
        "crop_n_layers": int(rng.integers(3)),
        "crop_nms_thresh": float(rng.choice([0.3, 0.7])),
        "crop_overlap_ratio": float(rng.choice([0.1, 512 / 1500])),
        "crop_n_points_downscale_factor": int(rng.integers(1, 3)),
        "min_mask_region_area": int(rng.choice([0, 30, 100])),
    }
    ours = AutomaticSettings(**settings, **WHOLE)
    count = sum(ours.side(layer) ** 2 * 4**layer for layer in range(ours.crop_n_layers + 1))
    side, size = 32, 128
    rows, columns = np.mgrid[:side, :side]
    centres = rng.uniform(0, side, (9, 2))
    logits = np.empty((count, 3, side, side), np.float32)
    for one in logits.reshape(-1, side, side):
        y, x = centres[rng.integers(len(centres))] + rng.normal(0, 1, 2)
        one[:] = rng.choice([0.5, 2.0, 8.0]) * (rng.choice([2, 4, 6, 12, 40]) - np.hypot(rows - y, columns - x))
        for sign in (1, -1):
            for _ in range(rng.integers(3)):
                v, u = rng.integers(side, size=2)
                one[v : v + rng.integers(1, 4), u : u + rng.integers(1, 4)] = 9 * sign
    return {
        "logits": logits,
        "quality": rng.uniform(0.4, 1.0, (count, 3)).astype(np.float32),
        "shape": rng.integers(60, 260, 2),
        "size": size,
        "settings": settings,
    }


def ours(case: dict) -> tuple[np.ndarray, np.ndarray]:
    """(M, H, W) and (M, 12), as reference_everything.py writes them."""
    height, width = case["shape"]
    ramp = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    scan = Volume(ramp, VolumeGeometry.uncalibrated(ramp.shape))
    network: Any = Fixed(case["logits"], case["quality"], case["size"])
    predictor = Predictor(network, "cpu")
    found = everything_on_slice(predictor.encoder_for(scan), 0, AutomaticSettings(**case["settings"], **WHOLE)).masks
    numbers = [
        [*one.bbox, one.predicted_iou, one.stability_score, *one.crop_box, *one.point_coords[0]] for one in found
    ]
    masks = np.array([one.mask for one in found], dtype=bool).reshape(-1, height, width)
    return masks, np.array(numbers, dtype=np.float64).reshape(-1, 12)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference", type=Path, default=ROOT / ".venv-reference" / "bin" / "python")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    cases = {f"case{n:03}": drawn(rng) for n in range(arguments.cases)}
    with tempfile.TemporaryDirectory() as folder:
        given, answers = Path(folder) / "cases.npz", Path(folder) / "answers.npz"
        flat: dict[str, Any] = {}
        for name, case in cases.items():
            flat |= {f"{name}/{key}": value for key, value in case.items() if key != "settings"}
            flat[f"{name}/settings"] = json.dumps(case["settings"])
        np.savez(given, **flat)
        script = Path(__file__).with_name("reference_everything.py")
        subprocess.run([str(arguments.reference), "-W", "ignore", str(script), str(given), str(answers)], check=True)
        with np.load(answers) as file:
            theirs = {name: (file[f"{name}/masks"], file[f"{name}/numbers"]) for name in cases}

    masks = pixels = bad = asked = 0
    furthest = 0.0
    for name, case in cases.items():
        (our_masks, our_numbers), (their_masks, their_numbers) = ours(case), theirs[name]
        asked += case["quality"].size
        masks += len(their_masks)
        pixels += int(their_masks.sum())
        if our_masks.shape != their_masks.shape or not np.array_equal(our_masks, their_masks):
            bad += 1
            print(f"{name} differs: {len(our_masks)} masks, theirs {len(their_masks)}; {case['settings']}")
        elif len(our_numbers):
            furthest = max(furthest, float(np.abs(our_numbers - their_numbers).max()))
    print(
        f"{len(cases)} cases, {asked} answers, {masks} masks of {pixels} pixels from the public generator; "
        f"{len(cases) - bad} cases equal to the pixel and in order, other numbers within {furthest:.1e}"
    )
    return int(bad > 0 or furthest > 1e-5 or masks == 0)


if __name__ == "__main__":
    sys.exit(main())
