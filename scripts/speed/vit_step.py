"""Seconds and memory of a training step of SAM ViT-B at 1024 x 1024, with random weights, which cost the same.

    .venv/bin/python scripts/speed/vit_step.py full
    .venv/bin/python scripts/speed/vit_step.py lora

One image with eight boxes, gradient checkpointing, bf16-mixed, AdamW; two steps, the second is told. The threads are
torch's own choice (`OMP_NUM_THREADS` changes it).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from medsam.models.build import build_model
from medsam.models.checkpoint import save_checkpoint
from medsam.training.datamodule import Batch
from medsam.training.lora import LoraSettings
from medsam.training.module import SamFineTuning
from medsam.training.optimise import OptimiserSettings, build_optimiser

PROMPTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("full", "lora"))
    lora = LoraSettings() if parser.parse_args().what == "lora" else None
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.safetensors"
        save_checkpoint(build_model("sam-vit-b"), weights)
        module = SamFineTuning(str(weights), lora=lora, gradient_checkpointing=True)
    optimiser = build_optimiser(module.sam, OptimiserSettings())
    batch = Batch(
        image=torch.randn(1, 3, 1024, 1024),
        targets=torch.rand(1, PROMPTS, 256, 256) > 0.5,
        boxes=torch.tensor([[[100.0, 100.0, 400.0, 400.0]] * PROMPTS]),
        valid=torch.ones(1, PROMPTS, dtype=torch.bool),
        pixel=torch.ones(1, 2),
        bounds=torch.full((1, 2), 1024.0),
        seeds=torch.arange(1),
        names=("noise",),
    )
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


if __name__ == "__main__":
    main()
