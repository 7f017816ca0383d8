"""Training and speed on one GPU in under six minutes, and whether its answers are the processor's.

    scripts/gpu-check --json out/gpu.json                     on the accelerator there is, else on the processor
    scripts/gpu-check --quick --device cpu                    does it run: networks of a few ten thousand weights

A bare machine is enough: Python, torch, numpy and this checkout, nothing installed. LiteMedSAM's published weights
come from --weights or the cache of `medsam models fetch`; without either they are random, and the report says so. SAM
ViT-B has random weights from a fixed seed: they cost the same.

Parts, each with its own entry in the JSON (`parts`, by name: status, seconds, rows):

  machine            what it runs on, versions, weights
  parity             embeddings, logits and masks beside those of the processor in float32 (checked)
  two_processes      gradients of two DDP processes with gloo on one device beside one process's (checked)
  training_step      a step of SAM ViT-B with simulated prompts, ours beside a plain loop, in turns (`steps.PlainLoop`)
  training_variants  the same step in bfloat16, with LoRA, with gradient checkpointing
  encode             images a second by batch
  decode             seconds of 1 and 64 boxes
  compile            torch.compile of encoder and decode path: its seconds, what it brings, the same answers (checked);
                     what it cannot compile is noted

status: "done"; "failed" or "stopped" (time was up), with the rows made until then; "left out" for lack of time or
memory; "unavailable". This process only watches: another one works, and is started again when a part takes it down.
The JSON is written after each part, whole or not at all. `tolerances` say what passes; "passed" stands with each
comparison.

Exit status: 0; 1 when a comparison does not pass, or a part that makes some broke; 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_check.report import passed, table
from gpu_check.request import MARK, PARTS, REFUSED, Request
from medsam._version import __version__
from medsam.files import write_text

BUDGET_S = 340.0
_GRACE_S = 2.0


class RefusedDeviceError(Exception):
    """The worker cannot run on the device it was asked for."""


class Watch:
    """Runs parts in a process of their own and keeps what they say.

    request: what to run. path: where the JSON goes, None for nowhere.
    """

    def __init__(self, request: Request, path: Path | None) -> None:
        self.request, self.path = request, path
        self.started = time.time()
        self.found: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, Any]:
        """Every part is done, or is in the report with the reason why not. Raises RefusedDeviceError."""
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
            while todo := tuple(name for name in self.request.parts if name not in self.found):
                if time.time() >= self.request.ends:
                    for name in todo:
                        self._end(name, "left out", "the time was up")
                    break
                self._work(todo, Path(scratch))
        return self.report()

    def report(self) -> dict[str, Any]:
        """Plain values, of what is known so far."""
        # only a worker knows the device and what passes
        about = self.found.get("machine", {})
        return {
            "medsam": __version__,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started, 1),
            "quick": self.request.quick,
            "passed": passed(self.found),
            **about.get("run", {}),
            "parts": {
                name: {key: value for key, value in self.found[name].items() if key != "run"}
                for name in self.request.parts
                if name in self.found
            },
        }

    def _work(self, todo: tuple[str, ...], scratch: Path) -> None:
        """One worker, until it ends or its time is up; at least one part is known afterwards."""
        request = replace(self.request, parts=todo)
        # what an earlier run compiled would make this one look fast
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled")}
        command = [sys.executable, "-P", "-m", "gpu_check.worker", request.to_json()]
        # a group of its own: what it started ends with it
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, process_group=0)
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(worker, lines), daemon=True).start()
        running: str | None = None
        try:
            while True:
                try:
                    line = lines.get(timeout=max(0.0, request.ends - time.time()))
                except queue.Empty:
                    self._end(running or todo[0], "stopped", "the time was up")
                    return
                if line is None:
                    break
                running = self._heard(json.loads(line.removeprefix(MARK)), running)
            status = worker.wait()
        finally:
            _kill(worker)
        if status == REFUSED:
            raise RefusedDeviceError
        left = [name for name in todo if name not in self.found]
        # a worker that made no mistake ends before its parts only after one that failed
        if running is not None or (left and (status != 0 or len(left) == len(todo))):
            self._end(running or left[0], "failed", f"its process ended with exit status {status}")

    def _heard(self, event: dict[str, Any], running: str | None) -> str | None:
        """Keep what the worker says; returns the part it is in."""
        part = event["part"]
        if "row" in event:
            self.found.setdefault(part, {"status": "", "seconds": 0.0, "rows": []})["rows"].append(event["row"])
            return part
        if "status" not in event:
            print(f"{part} ...", file=sys.stderr, flush=True)
            return part
        self._end(part, event["status"], event.get("message", ""), event["seconds"])
        if "run" in event:
            self.found[part]["run"] = event["run"]
        return None

    def _end(self, part: str, status: str, message: str = "", seconds: float = 0.0) -> None:
        entry = self.found.setdefault(part, {"status": "", "seconds": 0.0, "rows": []})
        entry |= {"status": status, "seconds": round(seconds, 2)} | ({"message": message} if message else {})
        if self.path is not None:
            write_text(self.path, json.dumps(self.report(), indent=1) + "\n")


def _read(worker: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert worker.stdout is not None  # noqa: S101 - it is a pipe
    for line in worker.stdout:
        if line.startswith(MARK):
            lines.put(line)
    lines.put(None)


def _kill(worker: subprocess.Popen[str]) -> None:
    """The worker and all that it started."""
    if worker.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(worker.pid, number)
            try:
                worker.wait(_GRACE_S)
                break
            except subprocess.TimeoutExpired:
                continue
    if worker.stdout is not None:
        worker.stdout.close()


def parsed(argv: list[str] | None) -> argparse.Namespace:
    names = tuple(part.name for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="scripts/gpu-check", description="Parity, training and speed on one GPU, in under six minutes."
    )
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"), help="default: the accelerator there is, else cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes")
    parser.add_argument("--quick", action="store_true", help="networks of a few ten thousand weights: does it run")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="LiteMedSAM's; default: the cache's, else random")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--budget", type=float, default=BUDGET_S, metavar="SECONDS", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    if arguments.weights is not None and not arguments.weights.is_file():
        parser.error(f"--weights: there is no file {arguments.weights}.")
    if arguments.weights is not None and arguments.quick:
        parser.error("--weights are LiteMedSAM's, which --quick does not run: give one of the two.")
    if arguments.json is not None and not arguments.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {arguments.json.parent}.")
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parsed(argv)
    # the machine is always told: a number without it is worth nothing
    parts = tuple(part.name for part in PARTS if part.name in {"machine", *arguments.parts})
    weights = None if arguments.weights is None else str(arguments.weights.absolute())
    request = Request(arguments.device, arguments.quick, weights, parts, time.time() + arguments.budget)
    try:
        report = Watch(request, arguments.json).run()
    except RefusedDeviceError:
        # the worker has said why
        return 2
    print(table(report))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
