"""What a reader waits for: boxes, clicks and opening through the client, beside a local Session in the same run.

    .venv/bin/python scripts/speed/serve.py [--steps 40] [--opens 3] [--json FILE]

A `medsam serve` of its own with CTs of 512 x 512 x 200 in uncompressed DICOM, made for it, and one client on the same
machine. Each step is made in turn by the client and by a `Session` in this process, on the same scan. On the client's
side a step is timed from the call to the painted mask; `refined` from the same call to the mask that replaces the first
answer. The slice was embedded before (`view`), the closer looks were not: each box is a new one.

    limits: box and click median 250 ms, 95 % 400 ms; refined 1.5 s; a first click without a box 600 ms; from opening to
    the first possible box 6 s, to a mask 8 s. Exit status 1 where one is missed, unless --no-limits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from served import Server, about_machine, made_ct, quantile, report, write_dicom

import medsam
from medsam.client.session import RemoteSession

# what -> (limit of the median, of 95 %), in seconds
LIMITS = {
    "box": (0.25, 0.4),
    "click": (0.25, 0.4),
    "box, refined": (1.5, 1.5),
    "click, refined": (1.5, 1.5),
    "first click": (0.6, 0.6),
    "opening to the first possible box": (6.0, 6.0),
    "opening to a mask": (8.0, 8.0),
}
Balls = Sequence[tuple[int, float, float, float]]


class Steps:
    """The same steps for both sides. session: a local one, or a client's. Each turn is about a ball, by a new box."""

    def __init__(self, session: Any, balls: Balls) -> None:
        self.session, self.balls, self.remote = session, balls, isinstance(session, RemoteSession)
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def turn(self, number: int, index: int) -> None:
        """A box, a click on it, and a first click of another object, on slice `index`, all of them new."""
        _, x, y, radius = self.balls[number % len(self.balls)]
        dx, dy = number // len(self.balls) % 6, number // len(self.balls) // 6
        box = (
            round(x - radius - 2 - dx),
            round(y - radius - 2 - dy),
            round(x + radius + 2 + dx),
            round(y + radius + 3),
        )
        label, other = f"a{number % 8}", f"b{number}"
        self.measure("box", index, label, lambda: self.session.box(index, box, label))
        beside = round(x + 1.2 * radius + dx), round(y)
        self.measure("click", index, label, lambda: self.session.click(index, *beside, False, label))
        self.measure("first click", index, other, lambda: self.session.click(index, round(x), round(y), True, other))

    def measure(self, what: str, index: int, label: str, step: Callable[[], Any]) -> None:
        begun = time.perf_counter()
        step()
        self.seconds[what].append(time.perf_counter() - begun)
        if self.remote:
            self.session.wait_refined(index, label)
            self.seconds[f"{what}, refined"].append(time.perf_counter() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="of each kind")
    parser.add_argument("--opens", type=int, default=3)
    parser.add_argument("--readers", type=int, default=8, help="of whom the memory is measured, 3 at least")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--no-limits", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        missed = run(Path(home), arguments)
    for text in missed:
        print(f"MISSED {text}", file=sys.stderr)
    return int(bool(missed) and not arguments.no_limits)


def run(home: Path, arguments: argparse.Namespace) -> list[str]:
    folders = [home / "data" / f"ct{number}" for number in range(arguments.opens)]
    scan, balls = made_ct(0, arguments.slices)
    for folder in folders:
        write_dicom(folder, scan)
    server = Server(home, [home / "data"], arguments.model, users=max(arguments.readers, 1))
    client = server.client()
    memory = {"after the start": server.memory_mib()}
    cases = sorted_cases(client, arguments.opens)
    opened: dict[str, list[float]] = defaultdict(list)
    index = balls[0][0]
    for case in cases:
        begun = time.perf_counter()
        session = client.open(case, axis="k")
        opened["opening to the first possible box"].append(time.perf_counter() - begun)
        box = box_of(balls[0])
        session.box(index, box)
        opened["opening to a mask"].append(time.perf_counter() - begun)
        session.close()
    memory["with the scans"] = server.memory_mib()
    ours, theirs = both_sides(client, cases[0], scan, balls, index, arguments)
    memory["after the steps"] = server.memory_mib()
    # embeddings are kept once for all readers: those of this work are there then
    reader_of(server, 1, cases[0], balls[0])
    memory["with one reader"] = server.memory_mib()
    sessions = [reader_of(server, number, cases[0], balls[0]) for number in range(2, arguments.readers)]
    memory["with all readers"] = server.memory_mib()
    grown = memory["with all readers"]["server"] - memory["with one reader"]["server"]
    a_reader = grown / max(len(sessions), 1)
    server.stop()
    seconds = {**theirs.seconds, **opened}
    result, rows = {}, [["", "n", "client, median", "95 %", "local, median", "95 %", "ratio"]]
    missed = []
    for what, found in seconds.items():
        local = ours.seconds.get(what.removesuffix(", refined"), [])
        medians = quantile(found, 0.5), quantile(local, 0.5)
        result[what] = {"client": found, "local": local, "ratio": medians[0] / medians[1]}
        rows.append([what, str(len(found)), *ms(found), *(ms(local) if local else ("", "")),
                     f"{medians[0] / medians[1]:.2f}" if local else ""])  # fmt: skip
        for share, limit in zip((0.5, 0.95), LIMITS.get(what, ()), strict=False):
            if quantile(found, share) > limit:
                missed.append(f"{what}: {quantile(found, share):.3f} s at {share:.0%}, not {limit} s")
    whole = {
        "machine": about_machine(),
        "start_s": server.started_s,
        "seconds": result,
        "memory_mib": memory,
        "a_reader_mib": a_reader,
    }
    report(whole, rows, arguments.json)
    for when, found_mib in memory.items():
        print(f"memory {when}: {found_mib['server']:.0f} MiB, loaders {found_mib['loaders']:.0f} MiB")
    print(
        f"a reader with a session, a mask and a propagated object: {a_reader:.1f} MiB; start {server.started_s:.1f} s"
    )
    return missed


def sorted_cases(client: medsam.Client, count: int) -> list[Any]:
    """The cases, once all are indexed."""
    end = time.monotonic() + 120
    while len(cases := client.cases()) < count:
        if time.monotonic() > end:
            raise SystemExit(f"The server has {len(cases)} cases, not {count}.")
        time.sleep(0.2)
    return sorted(cases, key=lambda case: case.name)


def box_of(ball: tuple[int, float, float, float]) -> tuple[float, float, float, float]:
    _, x, y, radius = ball
    return round(x - radius - 2), round(y - radius - 2), round(x + radius + 2), round(y + radius + 2)


def both_sides(
    client: medsam.Client, case: Any, scan: medsam.Volume, balls: Balls, index: int, arguments: argparse.Namespace
) -> tuple[Steps, Steps]:
    """The steps of both, in turn: the local side first in every other turn."""
    predictor = medsam.Predictor(arguments.model, "cpu")
    predictor.warm_up()
    local = Steps(predictor.session(scan, axis="k"), balls)
    remote = Steps(client.open(case, axis="k"), balls)
    for side in (local, remote):
        if side.remote:
            side.session.view(index)
        # the slice is embedded, and the first step of all is not counted
        side.turn(0, index)
        side.seconds.clear()
    number = 0
    while min(len(remote.seconds[what]) for what in ("box", "click", "first click")) < arguments.steps:
        number += 1
        for side in (local, remote) if number % 2 else (remote, local):
            side.turn(number, index)
    differ = compare(local, remote, index)
    if differ:
        raise SystemExit(f"Masks of client and Session differ: {differ}")
    remote.session.close()
    return local, remote


def compare(local: Steps, remote: Steps, index: int) -> list[str]:
    """Objects whose masks differ at the end, after cleaning."""
    ours, theirs = local.session.labels, remote.session.labels
    numbers = {name: number for number, name in theirs.names.items()}
    return [
        name
        for number, name in ours.names.items()
        if name in numbers and not np.array_equal(ours.array == number, theirs.array == numbers[name])
    ]


def reader_of(server: Server, number: int, case: Any, ball: tuple[int, float, float, float]) -> RemoteSession:
    """One more reader, who has worked: a box, a click, and an object through some slices."""
    session = server.client(number).open(case, axis="k")
    session.box(ball[0], box_of(ball))
    session.click(ball[0], round(ball[1]), round(ball[2]))
    session.wait_refined(ball[0])
    for _ in session.propagate(max_mm=10):
        pass
    return session


def ms(values: Sequence[float]) -> tuple[str, str]:
    shown = [quantile(values, share) for share in (0.5, 0.95)]
    return f"{shown[0] * 1e3:.0f} ms", f"{shown[1] * 1e3:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
