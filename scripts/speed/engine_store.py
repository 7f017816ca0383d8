"""How long a project of the data engine makes people wait: 1,000 scans, 20,000 masks, both kinds of database.

    .venv/bin/python scripts/speed/engine_store.py [--scans 1000] [--masks 20000] [--database URL] [--csv FILE]

--database: an empty one of PostgreSQL; by default a server of Debian's package is started on a Unix socket, in a folder
of its own, with its own settings (fsync on), and ended again. SQLite's file lies in a folder that goes at the end.

Masks are blobs on slices of 512 x 512. Four scans of five are done, by six people, in ten rounds: every second with
proposals, of which two thirds were accepted as they were; the last fifth waits in the queue. Some are drawn twice. For
each call: the best, the median and the 95th percentile of --times calls; the best is what is left of it where other
work keeps the machine busy. Exit status 1: a 95th percentile is 300 ms or more, or going through all masks takes 50 MiB
of memory or more.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.annotation.status import status_of
from medsam.masks import CompactMask
from medsam.server.annotating.numbers import statistics
from medsam.server.annotating.telling import told_of_project, told_of_tasks
from medsam.store.project_records import Effort, NewAnnotation, NewScan, NewTask
from medsam.store.readers import Reader, Role
from medsam.store.store import Store

EDGE, ROUNDS, DONE, TWICE = 512, 10, 0.8, 40
STRUCTURES = ("liver", "left kidney", "right kidney", "spleen", "pancreas")
LIMIT_S, LIMIT_MIB = 0.3, 50.0
LEASE = 600.0


def blobs(count: int) -> list[CompactMask]:
    """Wobbly ones of 20 to 200 pixels, half of them in two pieces."""
    noise = np.random.default_rng(5)
    rows, columns = np.ogrid[:EDGE, :EDGE]
    made = []
    for number in range(count):
        edge = gaussian_filter(noise.normal(size=(EDGE, EDGE)), 9)
        edge /= np.abs(edge).max()
        inside = np.zeros((EDGE, EDGE), bool)
        for _ in range(1 + number % 2):
            (y, x), (high, wide) = noise.uniform(150, 360, 2), noise.uniform(10, 100, 2)
            inside |= ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 + edge <= 1
        made.append(CompactMask.of(inside))
    return made


def fill(folder: Path, url: str | None, scans: int, masks: int) -> None:
    """A project as it is after ten rounds."""
    drawn, chance = blobs(200), random.Random(3)
    with AnnotationProject.create(folder, "abdomen", STRUCTURES, Settings(stage=2), url=url) as project:
        store = project.store
        people = [store.add_user(f"reader {n}", Role.READER, kind="proxy").reader for n in range(6)]
        reviewer = store.add_user("reviewer", Role.REVIEWER, kind="proxy").reader
        there = store.add_scans(
            [
                NewScan(f"scan {n}", f"patient {n}", "test" if n % 5 == 4 else "train", False, {"id": f"scan {n}"})
                for n in range(scans)
            ]
        )
        tasks = store.add_tasks([NewTask(one.id, STRUCTURES, priority=-float(one.id)) for one in there])
        done = tasks[: int(scans * DONE)]
        each, more = divmod(masks, len(done))
        for number, task in enumerate(done):
            places = [(STRUCTURES[n % 5], 40 + n // 5) for n in range(each + (number < more))]
            rows = _rows(store, task.scan, number % 2 == 1, places, drawn, chance)
            reader = people[number % 6]
            store.take_task(task.id, reader, LEASE)
            store.submit_task(task.id, reader, rows, {"seconds": 90.0, "difficulty": "easy"})
            if number % 3 == 0:
                store.review_task(task.id, reviewer, "approved")
            if (number + 1) % (len(done) // ROUNDS) == 0:
                _end_round(store)
        for number, task in enumerate(done[:TWICE]):
            second = store.add_tasks([NewTask(task.scan, STRUCTURES, "second", after=task.id)])[0]
            other = people[(number + 1) % 6]
            store.take_task(second.id, other, LEASE)
            one = [(name, 40) for name in STRUCTURES]
            store.submit_task(second.id, other, _rows(store, task.scan, False, one, drawn, chance))


def _rows(
    store: Store,
    scan: int,
    proposed: bool,
    places: Sequence[tuple[str, int]],
    drawn: Sequence[CompactMask],
    chance: random.Random,
) -> list[NewAnnotation]:
    """What somebody hands in of a scan; with `proposed`, a model had said something on each place before."""
    model: dict[str, Any] = {"model": "litemedsam", "weights": "ab" * 32}

    def of(place: tuple[str, int], status: Any, **more: Any) -> NewAnnotation:
        return NewAnnotation(scan, place[0], "k", place[1], status, chance.choice(drawn), **{**model, **more})

    effort = Effort(clicks=2, boxes=1, seconds=4.0, prompts=[{"points": [[200, 210], [220, 260]], "box": [1, 2, 3, 4]}])
    if not proposed:
        return [of(place, "edited", effort=effort) for place in places]
    known = store.add_annotations([of(place, "proposed", stage=2, expected_dice=0.9) for place in places])
    rows = []
    for number, (place, parent) in enumerate(zip(places, known, strict=True)):
        if number % 3:
            looked = Effort(seconds=0.8)
            rows.append(
                NewAnnotation(scan, place[0], "k", place[1], "accepted", None, 2, parent, effort=looked, **model)
            )
        else:
            rows.append(of(place, "edited", stage=2, parent=parent, effort=effort))
    return rows


def _end_round(store: Store) -> None:
    number = store.begin_round({"steps": 120}).number
    store.round_event(number, "ended", {"promoted": True})
    store.put_model("promoted", "litemedsam", "ab" * 32, number=number)


def measure(folder: Path, times: int) -> Iterator[tuple[str, list[float]]]:
    """What is called, and how long it took, in seconds. In a process that has called nothing of it."""
    with AnnotationProject.open(folder) as project:
        store = project.store
        reader = _reader(store, "reader 1")
        reviewer = _reader(store, "reviewer")
        stored = project.model()[1]
        cases = {scan.id: scan.key for scan in store.scans()}

        def page(after: int | None = None) -> None:
            told_of_tasks(store, reviewer, store.tasks(after=after, limit=100), cases)

        calls: list[tuple[str, Callable[[], object]]] = [
            ("next task", lambda: store.next_task(reader, LEASE)),
            ("task counts", store.task_counts),
            ("standing counts", store.standing_counts),
            *((f"effort by {by}", lambda by=by: store.effort(by)) for by in ("reader", "structure", "round", "stage")),
            ("page of tasks, done", page),
            ("page of tasks, open", lambda: page(int(len(cases) * 0.9))),
            ("project, as the page asks", lambda: told_of_project(project, reader, cases, stored, "litemedsam", "ab")),
            ("masks that no round has seen", lambda: store.masks_since(store.rounds()[-1].last)),
            ("masks of a scan", lambda: list(store.standing(next(iter(cases))))),
            ("statistics, as the page asks", lambda: statistics(project, reader)),
            ("status", lambda: status_of(project)),
        ]
        for name, call in calls:
            taken: list[float] = []
            for _ in range(times):
                if name == "next task" and taken:
                    held = store.next_task(reader, LEASE)
                    if held is not None:
                        store.leave_task(held.id, reader)
                began = time.perf_counter()
                call()
                taken.append(time.perf_counter() - began)
            yield name, taken


def _reader(store: Store, name: str) -> Reader:
    user = store.user_named(name)
    if user is None:
        raise SystemExit(f"no {name} in this project")
    return user.reader


def stream(folder: Path) -> tuple[int, float, float]:
    """Masks gone through, seconds, and MiB of memory that it took at most beyond the first scan's."""
    with AnnotationProject.open(folder) as project:
        masks, count = project.store.standing(), 0
        for _ in range(50):
            count += next(masks).mask.area > 0
        before, most, began = _resident(), 0.0, time.perf_counter()
        for one in masks:
            count += one.mask.area > 0
            if count % 100 == 0:
                most = max(most, _resident())
        return count, time.perf_counter() - began, most - before


def _resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def database(url: str | None) -> Iterator[str]:
    """An empty one."""
    if url is not None:
        yield url
        return
    sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
    import postgres  # type: ignore[import-not-found]

    with postgres.running({"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}) as server:
        server.run("CREATE DATABASE engine")
        yield server.url("engine")


def one_kind(kind: str, folder: Path, url: str | None, arguments: argparse.Namespace) -> Iterator[list[str]]:
    began = time.perf_counter()
    fill(folder, url, arguments.scans, arguments.masks)
    with AnnotationProject.open(folder) as project:
        size, rows = project.store.size() / 2**20, project.store.last_annotation()
    took = time.perf_counter() - began
    print(f"{kind}: {rows} rows, {size:.0f} MiB, filled in {took:.0f} s", flush=True)
    again = [sys.executable, __file__, "--of", str(folder), "--times", str(arguments.times)]
    for line in subprocess.run(again, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        yield [kind, *line.split("\t")]


def tell(folder: Path, times: int) -> None:
    """Lines of a table, in a process of its own: nothing is warm, and its memory is what is measured."""
    count, seconds, mib = stream(folder)
    print(f"all {count} masks, one after the other\t\t{seconds * 1000:.0f}\t\t{mib:.1f}")
    for name, taken in measure(folder, times):
        best, median, high = np.percentile(taken, [0, 50, 95])
        print(f"{name}\t{best * 1000:.1f}\t{median * 1000:.1f}\t{high * 1000:.1f}\t")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--masks", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--database", metavar="URL")
    parser.add_argument("--kinds", default="sqlite,postgres")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.of is not None:
        tell(arguments.of, arguments.times)
        return 0
    head = ["database", "what", "best ms", "median ms", "95 % ms", "memory MiB"]
    rows: list[list[str]] = []
    for kind in arguments.kinds.split(","):
        with tempfile.TemporaryDirectory(prefix="medsam-engine-") as name:
            if kind == "sqlite":
                rows += one_kind(kind, Path(name) / "project", None, arguments)
            else:
                with database(arguments.database) as url:
                    rows += one_kind(kind, Path(name) / "project", url, arguments)
    for row in [head, *rows]:
        print(f"{row[0]:9} {row[1]:38} {row[2]:>10} {row[3]:>10} {row[4]:>8} {row[5]:>10}")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, load {load}")
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *rows])
    slow = [
        row for row in rows if (row[4] and float(row[4]) >= LIMIT_S * 1000) or (row[5] and float(row[5]) >= LIMIT_MIB)
    ]
    for row in slow:
        print(f"over the limit: {row[0]}, {row[1]}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
