"""The device, what is run on it, and how seconds and memory are taken: one way for CUDA, MPS and the processor.

Letters: B images, P prompts an image, S side of the model input, s of its logits.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_check.request import Request
from medsam.assets.catalogue import find
from medsam.models.build import build_model, load_model
from medsam.models.sam import Sam
from medsam.models.specs import SPECS, ModelSpec, tiny_spec
from medsam.training.batch import Batch

Row = dict[str, Any]

LITE, VIT_B = "litemedsam", "sam-vit-b"
MIB = 2**20


class LeftOutError(Exception):
    """A part, or the rest of one, that this machine has no room for."""


class Bench:
    """request: what was asked for. Raises RuntimeError when its device is not there."""

    def __init__(self, request: Request) -> None:
        self.quick = request.quick
        self.device = torch.device(request.device or _accelerator() or "cpu")
        if self.device.type != "cpu" and self.device.type != _accelerator():
            raise RuntimeError(f"torch {torch.__version__} finds no {self.device.type} here.")
        if self.device.type == "cuda":
            # an index, as tensors have one
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.weights, self.weights_are = (None, "random") if self.quick else _weights(request.weights)
        self._models: dict[str, Sam] = {}
        if self.quick:
            # networks so small gain nothing by more, and wait for each other where the cores are busy
            torch.set_num_threads(1)

    # -- what is run ------------------------------------------------------------------------------------------------

    def spec(self, name: str) -> ModelSpec:
        """Of LiteMedSAM or SAM ViT-B; with --quick, of a small network of the same family."""
        return tiny_spec(SPECS[name].family) if self.quick else SPECS[name]

    def sam(self, name: str) -> Sam:
        """A copy of its own, in evaluation mode, on the processor; the same weights each time."""
        # whoever asks first may not want to train it, the next one may
        with torch.inference_mode(False):
            if name not in self._models:
                if name == LITE and self.weights is not None:
                    self._models[name] = load_model(self.weights, spec=LITE)
                else:
                    torch.manual_seed(0)
                    self._models[name] = build_model(self.spec(name)).eval()
            return copy.deepcopy(self._models[name])

    def is_real(self, name: str) -> bool:
        """Whether the weights were trained, so that masks mean something."""
        return name == LITE and self.weights is not None

    # -- seconds ----------------------------------------------------------------------------------------------------

    def synchronise(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        """Of one call, with all that it has the device do."""
        self.synchronise()
        start = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - start

    def repeated(self, work: Callable[[], object]) -> dict[str, float | int]:
        """Median, lowest and highest seconds of calls for about a second, at least three; two to warm up first.

        With --quick of one or two, without any to warm up.
        """
        least, most_s = (1, 0.01) if self.quick else (3, 1.0)
        for _ in range(0 if self.quick else 2):
            self.seconds(work)
        taken = [self.seconds(work)]
        while len(taken) < least or sum(taken) < most_s:
            taken.append(self.seconds(work))
        return {
            "seconds": round(statistics.median(taken), 6),
            "lowest": round(min(taken), 6),
            "highest": round(max(taken), 6),
            "calls": len(taken),
        }

    def in_turns(self, first: Callable[[], object], second: Callable[[], object], pairs: int) -> Row:
        """How many times as long the first takes: median, lowest, highest ratio of pairs, one after the other."""
        taken = [(self.seconds(first), self.seconds(second)) for _ in range(pairs)]
        ratios = [one / other for one, other in taken]
        return {
            "seconds_first": round(statistics.median(one for one, _ in taken), 6),
            "seconds_second": round(statistics.median(other for _, other in taken), 6),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_lowest": round(min(ratios), 3),
            "ratio_highest": round(max(ratios), 3),
            "pairs": pairs,
        }

    # -- memory -----------------------------------------------------------------------------------------------------

    def peak_mib(self, build: Callable[[], Callable[[], object]]) -> float | None:
        """Most memory that what `build` makes needs in its third call (with --quick its first).

        None where nobody counts it (MPS). On CUDA what torch has allocated, without what lay there before. On the
        processor the most that this process has had until then, whoever had it: an upper bound, and only the first one
        is worth something.
        """
        self.forget()
        before = torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0
        work = build()
        for _ in range(0 if self.quick else 2):
            work()
        if self.device.type == "cuda":
            self.synchronise()
            torch.cuda.reset_peak_memory_stats(self.device)
        work()
        self.synchronise()
        if self.device.type == "cuda":
            return round((torch.cuda.max_memory_allocated(self.device) - before) / MIB, 1)
        if self.device.type != "cpu":
            return None
        # Linux counts in KiB, macOS in bytes
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(most / (MIB if sys.platform == "darwin" else 1024), 1)

    def forget(self) -> None:
        """Give memory back that nothing uses any more."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def need_gib(self, gib: float) -> None:
        """Raise LeftOutError where so much is not free; a processor that swaps, or a killed process, tells nothing."""
        free = self.free_gib()
        if not self.quick and free is not None and free < gib:
            raise LeftOutError(f"needs about {gib:.0f} GiB of memory, and {free:.1f} are free")

    def free_gib(self) -> float | None:
        """Of the device; None where it cannot be asked."""
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0] / 2**30
        try:
            lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:"))

    # -- precision --------------------------------------------------------------------------------------------------

    def precisions(self) -> tuple[str, ...]:
        """What the device computes in: TF32 is CUDA's alone."""
        return ("float32", "tf32", "bfloat16") if self.device.type == "cuda" else ("float32", "bfloat16")

    @contextmanager
    def computing_in(self, precision: str) -> Iterator[None]:
        """float32 is all of it, also in convolutions, which torch has in TF32 by default."""
        with (
            tf32(precision == "tf32"),
            torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            yield


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Whether CUDA may round what it multiplies to ten bits."""
    matrices, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matrices)
        torch.backends.cudnn.allow_tf32 = convolutions


def drawn(spec: ModelSpec, images: int, prompts: int, seed: int = 0) -> Batch:
    """Grey ellipses on noise, as the model's preprocessing would leave them: B x P tight boxes and their masks."""
    rng = np.random.default_rng(seed)
    size, side = spec.image_size, 4 * spec.embed_side
    y, x = np.mgrid[:size, :size]
    step = size // side
    pictures, targets, boxes = [], [], []
    for _ in range(images):
        picture = 0.3 * rng.random((size, size))
        for _ in range(prompts):
            (cx, cy), (rx, ry) = rng.uniform(0.25, 0.75, 2) * size, rng.uniform(0.06, 0.2, 2) * size
            mask = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
            picture[mask] = rng.uniform(0.5, 1.0) - 0.2 * rng.random(int(mask.sum()))
            targets.append(mask[step // 2 :: step, step // 2 :: step])
            boxes.append((cx - rx, cy - ry, cx + rx, cy + ry))
        if spec.preprocess.scale == "minmax":
            low, high = picture.min(), picture.max()
            pictures.append(np.repeat(((picture - low) / (high - low))[None], 3, axis=0))
        else:
            mean, std = (np.array(values)[:, None, None] for values in (spec.preprocess.mean, spec.preprocess.std))
            pictures.append((255 * picture[None] - mean) / std)
    return Batch(
        image=torch.from_numpy(np.array(pictures, np.float32)),
        targets=torch.from_numpy(np.array(targets)).unflatten(0, (images, prompts)),
        boxes=torch.from_numpy(np.array(boxes, np.float32)).unflatten(0, (images, prompts)),
        valid=torch.ones(images, prompts, dtype=torch.bool),
        pixel=torch.ones(images, 2),
        bounds=torch.full((images, 2), float(size)),
        seeds=torch.arange(seed, seed + images),
        names=("drawn",) * images,
    )


def _accelerator() -> str | None:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if found is None else found.type


def _weights(given: str | None) -> tuple[Path | None, str]:
    """LiteMedSAM's file, if there is one, and what the report says of it."""
    path = None if given is None else Path(given)
    if path is None:
        try:
            from medsam.assets.cache import cached_paths

            path = (cached_paths(LITE) or {}).get("weights")
        except ImportError:
            # a bare machine does not know where the user's cache is
            path = None
    if path is None:
        return None, "random (no --weights, none in the cache)"
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    published = digest in {file.sha256 for file in find(LITE).files}
    return path, f"{'published' if published else 'not the published ones'}, sha256 {digest[:16]}"
