"""Two processes that take turns: what either side of a stage is, how it is asked, and what else the machine did.

The standard library and numpy alone: the reference's environment imports it too, and torch only in functions, since a
process that the coordinator starts is charged with the coordinator's own peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

THREADS = len(os.sched_getaffinity(0))
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Side:
    """run: what is timed. arrays: its answer as arrays, not timed. facts: for the record, asked at the end."""

    run: Callable[[], Any]
    arrays: Callable[[Any], Arrays]
    facts: Callable[[], dict[str, Any]] = dict


def memory_mib(line: str = "VmHWM") -> float:
    """The largest resident set of this process since it began, or since the last reset."""
    return int(Path("/proc/self/status").read_text().split(f"{line}:")[1].split()[0]) / 1024


def serve(build: Callable[[Path], Side], inputs: Path) -> None:
    """Take turns: "turn N" on stdin runs N times, "reset" begins working memory, "answer FILE" writes the last answer.

    Each line is answered with one of JSON on stdout; what a library prints there goes to stderr.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    started = time.perf_counter()
    side = build(inputs)
    told: dict[str, Any] = {"setup_seconds": time.perf_counter() - started}
    peak, last = 0.0, None
    print(json.dumps(told), file=out, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        told = {}
        if word == "turn":
            last = None
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(int(rest)):
                last = side.run()
            told["seconds"] = (time.perf_counter() - start) / int(rest)
            told["cpu_seconds"] = (time.process_time() - start_cpu) / int(rest)
        elif word == "reset":
            peak = max(peak, memory_mib())
            Path("/proc/self/clear_refs").write_text("5")
        elif word == "answer":
            told["facts"] = side.facts()
            np.savez(rest, **cast(Any, side.arrays(last)))
        told["working_mib"] = memory_mib()
        told["peak_mib"] = peak = max(peak, told["working_mib"])
        print(json.dumps(told), file=out, flush=True)


def machine() -> Side:
    """Matrix products; the answer is GFLOP/s by precision, the best of some. Runs in either environment."""
    import torch

    torch.set_num_threads(THREADS)
    kinds = [torch.float32]
    flags = Path("/proc/cpuinfo").read_text()
    if "amx_bf16" in flags or "avx512_bf16" in flags:
        kinds.append(torch.bfloat16)
    side = 2048
    pairs = {kind: (torch.rand(side, side).to(kind), torch.rand(side, side).to(kind)) for kind in kinds}

    def run() -> Arrays:
        found = {}
        for kind, (a, b) in pairs.items():
            best = float("inf")
            for _ in range(8):
                start = time.perf_counter()
                torch.mm(a, b)
                best = min(best, time.perf_counter() - start)
            found[str(kind).removeprefix("torch.")] = np.array(2 * side**3 / best / 1e9)
        return found

    return Side(run, lambda found: found)


def organs_of(inputs: Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[float, ...], float]:
    """Reference and prediction of every organ, spacing and tolerance in mm; for both sides."""
    with np.load(inputs) as file:
        shape = tuple(file["shape"])
        unpacked = [np.unpackbits(packed, count=int(np.prod(shape))).view(bool) for packed in file["packed"]]
        masks = [one.reshape(shape) for one in unpacked]
        return (
            list(zip(masks[::2], masks[1::2], strict=True)),
            tuple(float(step) for step in file["spacing_mm"]),
            float(file["tolerance_mm"]),
        )


def count_gflop(run: Callable[[], Any]) -> float:
    """Floating-point operations of one call, a multiply and an add being two, in units of 10^9."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # the counter does not know the fused attention of a CPU
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def busy_seconds() -> float:
    """Core seconds that the machine has worked since it started."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Others:
    """How many cores other programs take while ours or the reference works."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def turn(self, run: Callable[[], dict[str, Any]], repeats: int) -> dict[str, Any]:
        busy, start = busy_seconds(), time.perf_counter()
        told = run()
        busy, wall = busy_seconds() - busy, time.perf_counter() - start
        self.shares.append(max(0.0, busy - told["cpu_seconds"] * repeats) / wall)
        return told


class Worker:
    """One side of a stage, alive."""

    def __init__(self, name: str, command: list[Any], log: Path, environment: dict[str, str]) -> None:
        self.name, self.log = name, log
        quiet = {"OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | quiet | environment,
            )
        self.ready = self._read()

    def ask(self, line: str) -> dict[str, Any]:
        if self.process.stdin is None:
            raise SystemExit("no pipe")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            self.process.wait()
            tail = "\n".join(self.log.read_text().splitlines()[-15:])
            raise SystemExit(f"{self.name} ended with {self.process.returncode}:\n{tail}")
        return json.loads(line)


def cold(command: list[str], log: Path) -> dict[str, Any]:
    with log.open("w") as file:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    peak = usage.ru_maxrss / 1024
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak, "working_mib": peak}
