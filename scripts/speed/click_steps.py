"""What a user waits for: a click after a box, a box, and 20 boxes, of two checkouts in turn; and what each costs.

    python scripts/speed/click_steps.py BEFORE AFTER [--runs 9] [--threads 1] [--clicks-learnt]

BEFORE and AFTER are checkouts. Each runs in a process of its own and takes every measurement in turn with the other
one, so that a busy machine slows both; given are medians, and the median of the paired ratios. In a pass that is not
timed the calls are counted: encodes, image parts (what all prompts on an embedding share), preparations of a slice
(windowing, resizing, copying), digests of its pixels, and decodes.

LiteMedSAM on a made CT slice of 512 x 512 pixels. --clicks-learnt takes it for a network that was trained with clicks,
which is given its own logits back (`record_answers.py` says the same).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROWS, COLUMNS, SLICES = 512, 512, 64
BOX = (190.0, 190.0, 250.0, 250.0)
STAGES = ("click after a box", "second click", "box, slice encoded", "box, all encoded", "20 boxes, all encoded")
# What is counted -> (function, graph): names of today, then those of 0.1. `graph` of a function that runs graphs.
COUNTED: dict[str, list[tuple[str, ...]]] = {
    "encodes": [("encoder",)],
    "image parts": [("precompute",), ("image_part",)],
    "decodes": [("decode_tokens", "decode_tokens_with_mask"), ("answer", "answer_masked")],
}
CALLS = {"slices prepared": ("slice_input",), "digests": ("embedding_key",)}


class Measurement:
    """One side: a predictor with a session on a made scan, and the stages."""

    def __init__(self, clicks_learnt: bool) -> None:
        import numpy as np

        import medsam

        rng = np.random.default_rng(0)
        y, x = np.mgrid[:ROWS, :COLUMNS]
        disc = 100 * ((x - 220) ** 2 + (y - 220) ** 2 < 30**2)
        noise = rng.normal(40, 20, (SLICES, ROWS, COLUMNS))
        model: Any = "litemedsam"
        if clicks_learnt:
            model = medsam.load_model("litemedsam")
            model.spec = dataclasses.replace(model.spec, prompts=("box", "points", "mask"))
        self.Prompt = medsam.Prompt
        self.predictor = medsam.Predictor(model, "cpu", engine="openvino")
        self.scan = medsam.Volume(
            (noise + disc).astype(np.float32),
            medsam.VolumeGeometry((SLICES, ROWS, COLUMNS), np.diag([0.8, 0.8, 2.5, 1.0])),
            modality="CT",
        )
        self.session = self.predictor.session(self.scan)
        self.next = 0
        for stage in STAGES:
            self.run(stage)

    def shifted(self) -> tuple[float, float, float, float]:
        """A box nobody asked for before, so that its closer look is new."""
        self.next += 1
        x0, y0, x1, y1 = BOX
        right = self.next % 40
        down = self.next // 40
        return x0 + right, y0 + down, x1 + right, y1 + down

    def boxes(self, count: int) -> list[Any]:
        places = [(40.0 + 80 * (n % 5), 60.0 + 100 * (n // 5)) for n in range(count)]
        return [self.Prompt(f"b{n}", box=(x, y, x + 60, y + 60), slice=3) for n, (x, y) in enumerate(places)]

    def prepare(self, stage: str) -> Callable[[], Any]:
        """The stage, up to what is timed."""
        if stage == "20 boxes, all encoded":
            prompts = self.boxes(20)
            return lambda: self.predictor.segment(self.scan, prompts)
        if stage == "box, slice encoded":
            box = self.shifted()
            return lambda: self.session.box(1, box)
        if stage == "box, all encoded":
            return lambda: self.session.box(1, BOX)
        self.session.box(1, BOX)
        if stage == "second click":
            self.session.click(1, 220, 222)
        return lambda: self.session.click(1, 240, 230, False)

    def run(self, stage: str) -> float:
        step = self.prepare(stage)
        started = time.perf_counter()
        step()
        return time.perf_counter() - started

    def count(self, stage: str) -> dict[str, int]:
        step = self.prepare(stage)
        graphs: Counter[str] = Counter()
        calls: Counter[str] = Counter()

        def watch(frame: FrameType, event: str, _: object) -> None:
            if event != "call" or "medsam" not in frame.f_code.co_filename:
                return
            calls[frame.f_code.co_name] += 1
            # the function that runs one compiled graph has the graph's name as an argument
            if frame.f_code.co_name in {"_run", "run_graph"} and isinstance(name := frame.f_locals.get("graph"), str):
                graphs[name] += 1

        sys.setprofile(watch)
        try:
            step()
        finally:
            sys.setprofile(None)
        if not graphs:
            raise SystemExit("No graph was seen to run: the name of the function that runs one has changed.")
        counts = {
            what: sum(graphs[name] for names in spellings for name in names) for what, spellings in COUNTED.items()
        }
        return counts | {what: sum(calls[name] for name in names) for what, names in CALLS.items()}


def serve(clicks_learnt: bool) -> None:
    """Measure what stdin asks for, a line each; JSON lines on stdout."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    side = Measurement(clicks_learnt)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        what, stage = json.loads(line)
        print(json.dumps(side.count(stage) if what == "count" else side.run(stage)), flush=True)


class Side:
    """A checkout in a process of its own."""

    def __init__(self, checkout: Path, threads: int, clicks_learnt: bool) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-W", "ignore", __file__, "--serve", *(["--clicks-learnt"] if clicks_learnt else [])]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.read()

    def read(self) -> Any:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise SystemExit("A checkout's process has ended; its error is above.")
        return json.loads(line)

    def ask(self, what: str, stage: str) -> Any:
        if self.process.stdin:
            self.process.stdin.write(json.dumps([what, stage]) + "\n")
        return self.read()

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="*", metavar="CHECKOUT", help="before and after")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clicks-learnt", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.clicks_learnt)
        return 0
    if len(arguments.checkouts) != 2:
        parser.error("two checkouts are needed")
    sides = [Side(path.resolve(), arguments.threads, arguments.clicks_learnt) for path in arguments.checkouts]
    print(f"{arguments.threads} thread(s), median of {arguments.runs} in turn\n")
    print("| step | before, ms | after, ms | after / before | " + " | ".join((*COUNTED, *CALLS)) + " |")
    print("|---|---:|---:|---:|" + "---:|" * (len(COUNTED) + len(CALLS)))
    for stage in STAGES:
        times: list[list[float]] = [[], []]
        for run in range(arguments.runs):
            for number in (0, 1) if run % 2 == 0 else (1, 0):
                times[number].append(1000 * sides[number].ask("time", stage))
        ratio = statistics.median(after / before for before, after in zip(*times, strict=True))
        before, after = (side.ask("count", stage) for side in sides)
        counts = " | ".join(f"{before[what]} -> {after[what]}" for what in before)
        medians = " | ".join(f"{statistics.median(each):.0f}" for each in times)
        print(f"| {stage} | {medians} | {ratio:.2f} | {counts} |", flush=True)
    for side in sides:
        side.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
