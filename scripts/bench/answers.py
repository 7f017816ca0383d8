"""What the steps of an answer cost: encoding one by one and in a batch, decoding, restoring, evidence, clicks.

    .venv/bin/python scripts/bench/answers.py

LiteMedSAM on a made slice of 512 x 512 pixels; the median of `--runs`, with the smallest and the largest. The threads
are torch's own choice (`OMP_NUM_THREADS` changes it).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from medsam.geometry import VolumeGeometry
from medsam.inference.clicks import with_clicks
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.predictor import Predictor
from medsam.inference.zoom import answer_slice, with_evidence
from medsam.prompts.prompt import SlicePrompt
from medsam.volume import Volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    with ExitStack() as stack:
        measure(parser.parse_args().runs, stack)


def measure(runs: int, stack: ExitStack) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:512, :512]
    array = rng.normal(40, 20, (1, 512, 512)) + 100 * ((x - 220) ** 2 + (y - 220) ** 2 < 30**2)
    scan = Volume(array.astype(np.float32), VolumeGeometry(array.shape, np.eye(4)))
    predictor = Predictor("litemedsam", "cpu", EmbeddingCache(memory_bytes=0))
    size = predictor.sam.spec.image_size
    images = torch.rand(4, 3, size, size)
    kept = Predictor(predictor.sam, "cpu")
    look, pixels = kept.looker(scan), scan.array[0]
    embedding = look(0)
    small, large = (190.0, 190.0, 230.0, 230.0), (100.0, 100.0, 400.0, 400.0)
    logits = rng.normal(size=(512, 512)).astype(np.float32)
    found = kept.predict(embedding, np.array([small]))

    def batch() -> None:
        with torch.inference_mode():
            predictor.sam.encode_image(images)

    def one_by_one() -> None:
        with torch.inference_mode():
            for image in images:
                predictor.sam.encode_image(image[None])

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    on_disk = Predictor(predictor.sam, "cpu", EmbeddingCache(memory_bytes=0, folder=folder)).looker(scan)
    on_disk(0)
    steps: dict[str, Callable[[], object]] = {
        "encode 4 images one by one": one_by_one,
        "encode 4 images in a batch": batch,
        "look again, embedding in memory": lambda: look(0),
        "look again, embedding in a folder": lambda: on_disk(0),
        "decode 1 box": lambda: kept.predict(embedding, np.array([small])),
        "decode 20 boxes": lambda: kept.predict(embedding, np.tile(small, (20, 1))),
        "restore 1 mask": lambda: embedding.frame.restore(found.logits),
        "evidence, box of 40 x 40": lambda: with_evidence(logits, small, pixels),
        "evidence, box of 300 x 300": lambda: with_evidence(logits, large, pixels),
        "two clicks": lambda: with_clicks(-np.abs(logits), ((200, 200, 1), (225, 225, 1)), small, pixels, look.plane),
        "answer a box, embeddings there, zoom off": lambda: answer_slice(look, 0, [SlicePrompt(1, small)], zoom="off"),
        "answer a box, embeddings there, zoom auto": lambda: answer_slice(look, 0, [SlicePrompt(1, small)]),
        "answer a click, embeddings there, zoom auto": lambda: answer_slice(
            look, 0, [SlicePrompt(1, points=((220, 220, 1),))]
        ),
    }
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| step | ms | smallest, largest |")
    print("|---|---:|---:|")
    for name, step in steps.items():
        step()
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            step()
            times.append(1000 * (time.perf_counter() - started))
        print(f"| {name} | {statistics.median(times):.0f} | {min(times):.0f}, {max(times):.0f} |")


if __name__ == "__main__":
    main()
