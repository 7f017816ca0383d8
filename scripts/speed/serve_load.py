"""Many readers at one server: each opens, boxes, clicks, undoes, propagates; every mask is compared with the right one.

    .venv/bin/python scripts/speed/serve_load.py [--clients 20] [--minutes 10] [--json FILE]
    .venv/bin/python scripts/speed/serve_load.py --clients 4 --minutes 0.5 --rows 128 --slices 24     # a short run

The scans are made: CTs of bodies with balls in them, as NIfTI. A task is a box on one ball, clicks on it, and a
propagation; what each step has to give is computed beforehand by a `Session` in this process, alone. A reader (a thread
with its own token, connections and sessions) takes tasks one after the other with pauses as of a person, sometimes
clicks before the refined mask has come, undoes, and leaves a propagation in the middle. Compared are

    each refined mask, each mask of a propagation    with the Session's, pixel by pixel
    first answers                                    that they are of the object and slice that was asked for
    what the client painted, at the end of a task    with everything the server has of the session, asked for anew

Memory is what the server's process has, every five seconds (shared pages counted once); it is flat where the fit over
the last two thirds grows by less than 1 % of it a minute. Exit status 1 for an error, a wrong mask, or times over
the limits (a click on an embedded slice: median 1 s, 95 % 3 s), which --no-limits leaves out.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from served import Server, about_machine, found_case, made_ct, quantile, report

import medsam
from medsam.client.client import Client
from medsam.client.session import RemoteSession

Point = tuple[float, float, bool]
Box = tuple[float, float, float, float]
# Seconds that a refined mask may take beside everything else.
_REFINED_S = 300.0


@dataclass(frozen=True)
class Task:
    """What a reader does on a scan. scan: its number. clicks: (x, y, inside), one after the other."""

    scan: int
    slice: int
    box: Box
    clicks: tuple[Point, ...]
    max_mm: float


@dataclass(frozen=True)
class Expected:
    """masks: bool (h, w) after the box, and after each click. propagated: by slice."""

    masks: list[np.ndarray]
    propagated: dict[int, np.ndarray]


def tasks_of(scan: int, balls: Sequence[tuple[int, float, float, float]], slices: int, max_mm: float) -> list[Task]:
    """Two for each ball: on its middle slice and beside it, with boxes that differ."""
    found = []
    for index, x, y, radius in balls:
        for n, at in enumerate((index, min(index + 1, slices - 1))):
            box = (x - radius - 2 - n, y - radius - 2, x + radius + 2, y + radius + 3 + n)
            box = tuple(float(round(edge)) for edge in box)  # type: ignore[assignment]
            clicks = ((round(x), round(y), True), (round(x + 1.25 * radius), round(y), False))
            found.append(Task(scan, at, box, clicks, max_mm))
    return found


def expected_of(predictor: medsam.Predictor, scan: medsam.Volume, task: Task) -> Expected:
    """What each step of a task gives by itself."""
    session = predictor.session(scan, axis="k")

    def mask_on(index: int) -> np.ndarray:
        mask = session.cleaned(index)
        if mask is None:
            raise SystemExit(f"There is no mask on slice {index} of scan {task.scan}.")
        return mask

    session.box(task.slice, task.box)
    masks = [mask_on(task.slice)]
    for x, y, inside in task.clicks:
        session.click(task.slice, x, y, inside)
        masks.append(mask_on(task.slice))
    session.propagate(max_mm=task.max_mm)
    return Expected(masks, {index: mask_on(index) for index in session.states[session.label]})


@dataclass
class Seen:
    """What the readers found, all together. For any number of threads."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    propagating: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def time(self, what: str, step: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = step()
        took = time.perf_counter() - begun
        with self.lock:
            self.seconds[what].append(took)
            if self.propagating:
                self.seconds[f"{what}, beside propagations"].append(took)
        return result

    def count(self, what: str, by: int = 1) -> None:
        with self.lock:
            self.counts[what] += by

    def fail(self, text: str) -> None:
        with self.lock:
            self.wrong.append(text)

    def compare(self, what: str, mask: np.ndarray, right: np.ndarray | None) -> None:
        """right: None where there should be no mask."""
        self.count("masks compared")
        if right is None:
            self.fail(f"{what}: there should be none")
        elif mask.shape != right.shape:
            self.fail(f"{what}: of {mask.shape} pixels, not {right.shape}")
        elif not np.array_equal(mask, right):
            self.fail(f"{what}: {int((mask != right).sum())} pixels differ")


class LoadReader(threading.Thread):
    """One reader, until `end`."""

    def __init__(
        self, number: int, client: Client, cases: Sequence[str], plan: Mapping[Task, Expected], seen: Seen,
        end: float, pause_s: float,
    ) -> None:  # fmt: skip
        super().__init__(name=f"reader{number}", daemon=True)
        self.client, self.cases, self.plan, self.seen, self.end = client, cases, plan, seen, end
        self.random, self.pause_s = random.Random(number), pause_s

    def run(self) -> None:
        while time.monotonic() < self.end:
            task = self.random.choice(list(self.plan))
            try:
                self.take(task)
            except Exception as error:
                self.seen.fail(f"{self.name}: {type(error).__name__}: {str(error)[:300]}")
                return

    def pause(self) -> None:
        """As long as a person takes, but not beyond the end."""
        time.sleep(min(self.random.uniform(0.3, 1.7) * self.pause_s, max(self.end - time.monotonic(), 0.0)))

    def take(self, task: Task) -> None:
        """A task from opening to closing; what is begun is ended, also after the end."""
        seen, right = self.seen, self.plan[task]
        opened = seen.time("opening", lambda: self.client.open(self.cases[task.scan], axis="k"))
        with opened as session:
            what = f"{self.name}, session {session.id[:6]}, scan {task.scan}, slice {task.slice}"
            session.view(task.slice)
            self.pause()
            self.step(session, task, "box", partial(session.box, task.slice, task.box))
            self.refined(session, task, f"{what}, box", right.masks[0])
            for n, (x, y, inside) in enumerate(task.clicks, start=1):
                self.pause()
                self.step(session, task, "click", partial(session.click, task.slice, x, y, inside))
                # a hasty reader clicks again before the refined mask has come
                if n == len(task.clicks) or self.random.random() < 0.5:
                    self.refined(session, task, f"{what}, click {n}", right.masks[n])
            self.back_and_forth(session, task, what, right)
            if self.random.random() < 0.5:
                self.propagate(session, task, what, right)
            self.check(session, what)
            seen.count("tasks")

    def step(self, session: RemoteSession, task: Task, kind: str, step: Callable[[], Any]) -> None:
        result = self.seen.time(kind, step)
        if session.result(task.slice) is not result or session.names != {1: "object"}:
            self.seen.fail(f"{self.name}: an answer about another object or slice")

    def refined(self, session: RemoteSession, task: Task, what: str, right: np.ndarray) -> None:
        found = self.seen.time("refined", lambda: session.wait_refined(task.slice, timeout_s=_REFINED_S))
        self.seen.compare(what, found.mask, right)

    def back_and_forth(self, session: RemoteSession, task: Task, what: str, right: Expected) -> None:
        for step, n in ((session.undo, -2), (session.redo, -1)):
            if not self.seen.time("undo or redo", step):
                self.seen.fail(f"{what}: nothing to undo or redo")
            found = session.wait_refined(task.slice, timeout_s=_REFINED_S)
            self.seen.compare(f"{what}, {step.__name__}", found.mask, right.masks[n])

    def propagate(self, session: RemoteSession, task: Task, what: str, right: Expected) -> None:
        stop_after = self.random.choice([None, 3])
        with self.seen.lock:
            self.seen.propagating += 1
        try:
            begun, came = time.perf_counter(), 0
            for came, _ in enumerate(session.propagate(max_mm=task.max_mm), start=1):
                if came == stop_after:
                    break
            self.seen.count("slices propagated", came)
            with self.seen.lock:
                self.seen.seconds["propagation, a slice"].append((time.perf_counter() - begun) / max(came, 1))
        finally:
            with self.seen.lock:
                self.seen.propagating -= 1
        session.changes()
        there = session.results["object"]
        for index, result in there.items():
            if index != task.slice:
                self.seen.compare(f"{what}, propagated to {index}", result.mask, right.propagated.get(index))
        if stop_after is None and there.keys() != right.propagated.keys():
            self.seen.fail(f"{what}: propagated to {sorted(there)} and not {sorted(right.propagated)}")

    def check(self, session: RemoteSession, what: str) -> None:
        """What was painted here is what the server has."""
        session.changes()
        anew = self.client.resume(session.id)
        ours, theirs = session.results, anew.results
        same = {(name, n) for name, found in ours.items() for n in found} == {
            (name, n) for name, found in theirs.items() for n in found
        }
        if not same:
            self.seen.fail(f"{what}: the server has masks on other slices than its client")
            return
        for name, found in ours.items():
            for index, result in found.items():
                self.seen.compare(f"{what}, slice {index} asked for anew", theirs[name][index].mask, result.mask)


def drive(
    clients: Sequence[Client], cases: Sequence[str], plan: Mapping[Task, Expected], seconds: float, pause_s: float,
    watch: Callable[[], dict[str, float]] | None = None, every_s: float = 5.0,
) -> tuple[Seen, list[dict[str, float]]]:  # fmt: skip
    """Have a reader for each client work for so long. watch: called every `every_s`; what it said is given back."""
    seen, begun = Seen(), time.monotonic()
    readers = [LoadReader(n, one, cases, plan, seen, begun + seconds, pause_s) for n, one in enumerate(clients)]
    for reader in readers:
        reader.start()
    watched = []
    while any(reader.is_alive() for reader in readers):
        if watch is not None:
            watched.append({"s": time.monotonic() - begun, **watch()})
        until = time.monotonic() + every_s
        for reader in readers:
            reader.join(max(until - time.monotonic(), 0.0))
    return seen, watched


def growth_percent(watched: Sequence[Mapping[str, float]]) -> float:
    """Of the server's memory, a minute, over the last two thirds."""
    late = watched[len(watched) // 3 :]
    if len(late) < 3:
        return float("nan")
    minutes, memory = [one["s"] / 60 for one in late], [one["server"] for one in late]
    return float(np.polyfit(minutes, memory, 1)[0] / np.mean(memory) * 100)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two steps, on average")
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--max-mm", type=float, default=12.0, help="how far a propagation goes")
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--no-limits", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        result = _run(Path(home), arguments)
    click = result["seconds"].get(
        "click, beside propagations", result["seconds"].get("click", {"median": 0, "95 %": 0})
    )
    late = click["median"] > 1.0 or click["95 %"] > 3.0
    rows = [["", "n", "median", "95 %", "most"]]
    for what, found in sorted(result["seconds"].items()):
        rows.append([what, str(found["n"]), *(f"{found[key]:.2f} s" for key in ("median", "95 %", "most"))])
    rows.append(["memory of the server", str(len(result["memory"])), f"{result['memory_median_mib']:.0f} MiB", "",
                 f"{result['memory_most_mib']:.0f} MiB"])  # fmt: skip
    report(result, rows, arguments.json)
    print(f"\n{result['counts']}; memory grows by {result['growth_percent_a_minute']:.2f} % a minute")
    for text in result["wrong"][:20]:
        print(f"WRONG {text}", file=sys.stderr)
    grows = result["growth_percent_a_minute"] > 1.0
    return int(bool(result["wrong"]) or ((late or grows) and not arguments.no_limits))


def _run(home: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    data, scans, plan = home / "data", [], {}
    data.mkdir()
    predictor = medsam.Predictor(arguments.model, "cpu")
    for number in range(arguments.scans):
        scan, balls = made_ct(number, arguments.slices, arguments.rows)
        path = data / f"scan{number}.nii.gz"
        write_nifti(path, scan)
        # as the server reads it
        scans.append(medsam.load_volume(path))
        for task in tasks_of(number, balls[:3], arguments.slices, arguments.max_mm):
            plan[task] = expected_of(predictor, scans[number], task)
    del predictor
    server = Server(home, [data], arguments.model, users=arguments.clients)
    clients = [server.client(number) for number in range(arguments.clients)]
    cases = [found_case(clients[0], f"scan{number}").id for number in range(arguments.scans)]
    for case in cases:
        clients[0].load(case)
    before = server.memory_mib()
    seen, watched = drive(clients, cases, plan, 60 * arguments.minutes, arguments.pause, server.memory_mib)
    status = server.stop()
    if status not in (0, -15, 143):
        seen.fail(f"the server ended with {status}")
    memory = [one["server"] for one in watched]
    return {
        "machine": about_machine(),
        "settings": {key: str(value) for key, value in vars(arguments).items()},
        "seconds": {
            what: {"n": len(found), "median": quantile(found, 0.5), "95 %": quantile(found, 0.95), "most": max(found)}
            for what, found in seen.seconds.items()
        },
        "counts": dict(seen.counts),
        "wrong": seen.wrong,
        "memory_before": before,
        "memory": watched,
        "memory_median_mib": float(np.median(memory)),
        "memory_most_mib": float(max(memory)),
        "growth_percent_a_minute": growth_percent(watched),
    }


def write_nifti(path: Path, scan: medsam.Volume) -> None:
    import nibabel

    image = nibabel.Nifti1Image(scan.array.transpose(2, 1, 0), scan.geometry.ras_affine)
    nibabel.save(image, path)


if __name__ == "__main__":
    sys.exit(main())
