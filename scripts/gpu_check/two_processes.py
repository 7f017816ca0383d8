"""Gradients of two DDP processes, an image each, beside those of one process with both images.

    python -m gpu_check.two_processes REQUEST FOLDER RANK        one of the two; started by `rows`

Gloo on one device: NCCL takes one process a GPU. LiteMedSAM with random weights, boxes alone (a click after it is
where the mask is wrong, which the last bit of a logit can move), float32. DDP averages over processes, our loss over
images, so the two agree up to the order of sums. MPS has no gloo: there it runs on the processor.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from gpu_check.bench import LITE, Bench, Row, drawn
from gpu_check.request import Request
from medsam.models.build import build_model
from medsam.models.sam import Sam
from medsam.training.batch import Batch
from medsam.training.prompt_simulation import PromptSimulation
from medsam.training.step import TrainableParts, choose_parts, interaction_losses, rest_batch_norms

PROCESSES, PROMPTS = 2, 2
# largest difference of all gradients, relative to the largest gradient
TOLERANCE = 1e-4
_PATIENCE_S = 120.0


class Step(nn.Module):
    """A batch to its loss, as a module: DDP looks at what `forward` computes."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam, self.interaction = sam, PromptSimulation()
        choose_parts(sam, TrainableParts(), None, self.interaction)

    def forward(self, batch: Batch) -> Tensor:
        embedding = self.sam.encode_image(batch.image)
        return interaction_losses(self.sam, embedding, batch, self.interaction)["loss"]


def rows(bench: Bench) -> Iterator[Row]:
    device = _device(bench)
    alone = _step(bench, device)
    gradients, seconds = _gradients(bench, alone, alone.sam, _batch(bench, device))
    del alone
    bench.forget()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        _run_both(bench, device, Path(folder))
        found = torch.load(Path(folder) / "gradients.pt", weights_only=True)
    theirs = found.pop("seconds")
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    off = max(float((gradients[name] - found[name]).abs().max()) for name in gradients) / largest
    yield {
        "model": bench.spec(LITE).name,
        "device": device.type,
        "images": PROCESSES,
        "seconds_one_process": round(seconds, 6),
        "seconds_two_processes": round(float(theirs), 6),
        "weights_compared": len(gradients),
        "difference": off,
        "passes_to": TOLERANCE,
        "passed": gradients.keys() == found.keys() and off <= TOLERANCE,
    }


def _run_both(bench: Bench, device: torch.device, folder: Path) -> None:
    """The two processes; raises RuntimeError when one fails."""
    request = Request(device.type, bench.quick, None, (), 0.0)
    environment = dict(os.environ)
    if sys.platform == "linux":
        # the name of the host may lead nowhere
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    command = [sys.executable, "-P", "-m", "gpu_check.two_processes", request.to_json(), str(folder)]
    children = [
        subprocess.Popen(
            [*command, str(rank)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for rank in range(PROCESSES)
    ]
    try:
        for rank, child in enumerate(children):
            _, said = child.communicate(timeout=_PATIENCE_S)
            if child.returncode != 0:
                raise RuntimeError(f"process {rank} ended with exit status {child.returncode}: {said.strip()[-400:]}")
    finally:
        for child in children:
            child.kill()
            child.wait()


def work(bench: Bench, folder: Path, rank: int) -> None:
    """One of the two: its image, the gradients of both."""
    device = _device(bench)
    torch.set_num_threads(max(1, torch.get_num_threads() // PROCESSES))
    store = f"file://{(folder / 'store').absolute().as_posix()}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
    step = _step(bench, device)
    both = _batch(bench, device)
    own = Batch(**{name: value[rank : rank + 1] for name, value in vars(both).items()})
    found, seconds = _gradients(bench, nn.parallel.DistributedDataParallel(step), step.sam, own)
    if rank == 0:
        torch.save({**found, "seconds": torch.tensor(seconds)}, folder / "gradients.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def _device(bench: Bench) -> torch.device:
    return torch.device("cpu") if bench.device.type == "mps" else bench.device


def _step(bench: Bench, device: torch.device) -> Step:
    torch.manual_seed(0)
    step = Step(build_model(bench.spec(LITE))).train().to(device)
    # statistics of a process's own batch would differ
    rest_batch_norms(step)
    return step


def _batch(bench: Bench, device: torch.device) -> Batch:
    return drawn(bench.spec(LITE), PROCESSES, PROMPTS).to(device)


def _gradients(bench: Bench, step: nn.Module, sam: Sam, batch: Batch) -> tuple[dict[str, Tensor], float]:
    """Every gradient, on the processor, and the least seconds of forward and backward pass."""
    seconds = []
    # the same number in both processes, whatever they take: each waits for the other
    for _ in range(1 if bench.quick else 2 if bench.device.type == "cpu" else 5):
        step.zero_grad(set_to_none=True)
        with bench.computing_in("float32"):
            seconds.append(bench.seconds(lambda: step(batch).backward()))
    named = {name: weight.grad for name, weight in sam.named_parameters()}
    return {name: gradient.cpu().clone() for name, gradient in named.items() if gradient is not None}, min(seconds)


if __name__ == "__main__":
    work(Bench(Request.from_json(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]))
