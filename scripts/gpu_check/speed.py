"""Encoding by batch, decoding by prompts, and what torch.compile makes of both."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gpu_check.bench import LITE, VIT_B, Bench, Row, drawn
from gpu_check.parity import TOLERANCES, difference
from medsam.models.sam import Sam

BATCHES = {LITE: (1, 8, 32, 128), VIT_B: (1, 4, 16)}
# a processor gains nothing by more
_MOST_ON_CPU = 8
PROMPTS = (1, 64)
COMPILERS = ("g++", "clang++", "c++", "cl", "gcc", "clang", "cc")


class UnavailableError(Exception):
    """What a part needs is not on this machine."""


@torch.inference_mode()
def encode(bench: Bench) -> Iterator[Row]:
    for name in (LITE, VIT_B):
        sam = bench.sam(name).to(bench.device)
        sizes = (1, 2) if bench.quick else BATCHES[name]
        if bench.device.type == "cpu":
            sizes = tuple(size for size in sizes if size <= _MOST_ON_CPU)
        for precision in bench.precisions():
            for size in sizes:
                image = drawn(sam.spec, 1, 1).image.to(bench.device).expand(size, -1, -1, -1).contiguous()
                row: Row = {"model": sam.spec.name, "precision": precision, "batch": size}
                try:
                    with bench.computing_in(precision):
                        found = bench.repeated(lambda image=image, sam=sam: sam.encode_image(image))  # type: ignore[misc]
                except torch.OutOfMemoryError:
                    bench.forget()
                    yield row | {"note": "out of memory"}
                    break
                yield row | {"images_per_s": round(size / found["seconds"], 3)} | found
        del sam
        bench.forget()


@torch.inference_mode()
def decode(bench: Bench) -> Iterator[Row]:
    """Boxes on an embedding that is there; float32, as `medsam` decodes in whatever it encodes."""
    for name in (LITE, VIT_B):
        sam = bench.sam(name).to(bench.device)
        embedding = sam.encode_image(drawn(sam.spec, 1, 1).image.to(bench.device))
        for prompts in PROMPTS:
            boxes = drawn(sam.spec, 1, prompts).boxes.to(bench.device)
            with bench.computing_in("float32"):
                found = bench.repeated(
                    lambda sam=sam, embedding=embedding, boxes=boxes: sam.decode(embedding, boxes=boxes)  # type: ignore[misc]
                )
            yield {"model": sam.spec.name, "precision": "float32", "boxes": prompts} | found


@torch.inference_mode()
def compiled(bench: Bench) -> Iterator[Row]:
    """torch.compile beside torch as it is. The first call's seconds are those of compiling, from an empty cache."""
    reason = why_nothing_compiles(bench.device)
    if reason:
        raise UnavailableError(reason)
    for name in (LITE, VIT_B):
        sam = bench.sam(name).to(bench.device)
        batch = drawn(sam.spec, 1, 8).to(bench.device)
        embedding = sam.encode_image(batch.image)

        def decode_path(one: Tensor, boxes: Tensor = batch.boxes, sam: Sam = sam) -> Tensor:
            return sam.decode(one, boxes=boxes)[0]

        for stage, precision, work, given in (
            ("encode", "float32", sam.encode_image, batch.image),
            ("decode", "float32", decode_path, embedding),
            ("encode", "bfloat16", sam.encode_image, batch.image),
        ):
            yield {"model": sam.spec.name, "stage": stage, "precision": precision} | _beside_itself(
                bench, work, given, precision
            )
            torch.compiler.reset()
        del sam, decode_path, work
        bench.forget()


def _beside_itself(bench: Bench, work: Callable[[Tensor], Tensor], given: Tensor, precision: str) -> Row:
    """One piece of work as it is and compiled, in turns; its answer beside that in float32."""
    with bench.computing_in("float32"):
        reference = work(given)
    fast: Any = torch.compile(work, dynamic=False)
    with bench.computing_in(precision):
        try:
            seconds = bench.seconds(lambda: fast(given))
        except Exception as error:  # of any layer of the compiler; it says nothing of our answers
            return {"note": f"does not compile: {' '.join(str(error).split())[:200]}"}
        off = difference(reference, fast(given))
        for _ in range(2):
            bench.seconds(lambda: work(given))
        turns = bench.in_turns(lambda: work(given), lambda: fast(given), pairs=3 if bench.quick else 9)
    most = TOLERANCES[precision][0]
    return {
        "compile_s": round(seconds, 2),
        "seconds_eager": turns.pop("seconds_first"),
        "seconds_compiled": turns.pop("seconds_second"),
        **turns,
        "difference": off,
        "passes_to": most,
        "passed": off <= most,
    }


def why_nothing_compiles(device: torch.device) -> str:
    """What torch.compile lacks here; empty where a first small function compiles."""
    chosen = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ((chosen,) if chosen else COMPILERS)):
        return f"torch.compile needs a C++ compiler, and there is none ({chosen or ', '.join(COMPILERS)})"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton on CUDA, and it is not installed"

    def small(x: Tensor) -> Tensor:
        return x.sin() + 1

    try:
        torch.compile(small)(torch.ones(8, device=device))
    # whatever a compiler that does not fit raises, through torch's own wrappers
    except Exception as error:
        return f"a small function does not compile: {' '.join(str(error).split())[:300]}"
    return ""
