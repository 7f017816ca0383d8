"""Seconds and memory of a training step of LiteMedSAM, ours beside the public code, in turn on the same batch.

    scripts/reference-env
    .venv/bin/python scripts/speed/training.py [--batch 4] [--steps 7] [--precision 32-true bf16-mixed] [--json FILE]

Full fine-tuning, one box an image, AdamW. Both sides are processes of their own that stay alive and take one step after
the other, so noise of the machine hits both; the first step of each is not counted. Ours is what `medsam fit` does in a
step: simulated box, the loss of the single mask and of the best of three, gradients, clipping, AdamW. Memory is the
peak of each process.

    .venv/bin/python scripts/speed/training.py --vit-b full       or lora

is a step of SAM ViT-B at 1024 x 1024 alone, with random weights, which cost the same: one image with eight boxes,
gradient checkpointing, bf16-mixed, AdamW; the second of two steps. The threads are torch's own choice
(`OMP_NUM_THREADS` changes it).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
VIT_B_PROMPTS = 8


def drawn(count: int) -> dict[str, np.ndarray]:
    """Noise with a bright ellipse each: speed does not depend on what is seen."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    images, masks, boxes = [], [], []
    for _ in range(count):
        (cx, cy), (rx, ry) = rng.uniform(90, 160, 2), rng.uniform(20, 60, 2)
        mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
        images.append(np.repeat((0.5 * mask + 0.5 * rng.random((256, 256)))[None], 3, axis=0))
        masks.append(mask)
        boxes.append((cx - rx, cy - ry, cx + rx, cy + ry))
    return {
        "images": np.array(images, np.float32),
        "masks": np.array(masks),
        "boxes": np.array(boxes, np.float32),
    }


def work(path: Path, precision: str) -> None:
    """Our side: one step a line of stdin."""
    import torch

    from medsam.training.batch import Batch
    from medsam.training.module import SamFineTuning
    from medsam.training.optimise import OptimiserSettings, build_optimiser

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with np.load(path) as file:
        images, masks, boxes = (torch.from_numpy(file[name]) for name in ("images", "masks", "boxes"))
    count = len(images)
    batch = Batch(
        image=images,
        targets=masks[:, None],
        boxes=boxes[:, None],
        valid=torch.ones(count, 1, dtype=torch.bool),
        pixel=torch.ones(count, 2),
        bounds=torch.full((count, 2), 256.0),
        seeds=torch.arange(count),
        names=("drawn",) * count,
    )
    module = SamFineTuning("litemedsam").train()
    optimiser = build_optimiser(module.sam, OptimiserSettings(lr=1e-5))
    for _ in sys.stdin:
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = module.losses(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mib": peak, "loss": loss.item()}), flush=True)


def vit_b_step(lora: bool) -> None:
    """Print seconds and peak memory of a step of SAM ViT-B."""
    import torch

    from medsam.models.build import build_model
    from medsam.models.checkpoint import save_checkpoint
    from medsam.training.batch import Batch
    from medsam.training.lora import LoraSettings
    from medsam.training.module import SamFineTuning
    from medsam.training.optimise import OptimiserSettings, build_optimiser

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.safetensors"
        save_checkpoint(build_model("sam-vit-b"), weights)
        module = SamFineTuning(str(weights), lora=LoraSettings() if lora else None, gradient_checkpointing=True)
    optimiser = build_optimiser(module.sam, OptimiserSettings())
    batch = Batch(
        image=torch.randn(1, 3, 1024, 1024),
        targets=torch.rand(1, VIT_B_PROMPTS, 256, 256) > 0.5,
        boxes=torch.tensor([[[100.0, 100.0, 400.0, 400.0]] * VIT_B_PROMPTS]),
        valid=torch.ones(1, VIT_B_PROMPTS, dtype=torch.bool),
        pixel=torch.ones(1, 2),
        bounds=torch.full((1, 2), 1024.0),
        seeds=torch.arange(1),
        names=("noise",),
    )
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.losses(batch)["loss"]
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds:.1f} s a step, peak {peak:.2f} GiB, {torch.get_num_threads()} threads")


def main() -> None:
    parser = argparse.ArgumentParser(description="Training step, ours beside the public LiteMedSAM code.")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--precision", nargs="+", choices=("32-true", "bf16-mixed"), default=["32-true", "bf16-mixed"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--vit-b", choices=("full", "lora"), help="a step of SAM ViT-B alone")
    parser.add_argument("--side", nargs=2, metavar=("BATCH", "PRECISION"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.vit_b:
        vit_b_step(arguments.vit_b == "lora")
        return
    if arguments.side:
        work(Path(arguments.side[0]), arguments.side[1])
        return

    reference = ROOT / ".venv-reference" / "bin" / "python"
    if not reference.exists():
        sys.exit("Make the reference's environment first: scripts/reference-env")
    here = Path(__file__)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.npz"
        np.savez(path, **cast(Any, drawn(arguments.batch)))
        commands = {"reference": [str(reference), str(here.with_name("reference_training.py")), str(path)]}
        commands |= {name: [sys.executable, str(here), "--side", str(path), name] for name in arguments.precision}
        sides = {
            name: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for name, command in commands.items()
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        try:
            for step in range(arguments.steps + 1):
                for name, side in sides.items():
                    assert side.stdin is not None  # noqa: S101 - both are pipes
                    assert side.stdout is not None  # noqa: S101
                    side.stdin.write("step\n")
                    side.stdin.flush()
                    told = json.loads(side.stdout.readline())
                    if step:
                        found[name].append(told)
                    print(f"step {step}: {name} {told['seconds']:.2f} s", file=sys.stderr)
        finally:
            for side in sides.values():
                side.kill()
    rows = {}
    for name, steps in found.items():
        ratios = [r["seconds"] / o["seconds"] for r, o in zip(found["reference"], steps, strict=True)]
        rows[name] = {
            "seconds": statistics.median(step["seconds"] for step in steps),
            "peak_mib": max(step["peak_mib"] for step in steps),
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
        }
    print(f"batch of {arguments.batch}, {arguments.steps} steps in turn, {len(os.sched_getaffinity(0))} threads")
    for name, row in rows.items():
        print(
            f"{name:12} {row['seconds']:6.2f} s a step   {row['ratio']:.2f} x ({row['ratio_low']:.2f} to "
            f"{row['ratio_high']:.2f})   {row['peak_mib']:6.0f} MiB"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
