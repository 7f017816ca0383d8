"""How long the server's store makes a reader wait: appends that are on the disk when they return, and sessions opened.

    .venv/bin/python scripts/speed/store.py [--folder DIR] [--steps 5000] [--json FILE]

Masks are ellipses of 5 to 150 pixels half-axis on slices of 512 x 512. Measured, in a folder of its own that goes at
the end (--folder: on which disk; the sync of that disk is most of it, so its own is measured beside):

    sync            a write of 4 KB and fsync, without the store: what no database can beat
    step            a step with its mask
    propagation     a step with 200 masks, in one transaction
    readers         20 threads, each appending to its own session: steps a second, and what one waits
    session         opening a session of --steps steps, each with a first and a refined mask
    changes         what came after the last revision but ten, of that session
    cases           putting 10,000 scans at once, and again when nothing changed; a page of 100 for a reader
    backup          a copy of all of it, checked; and the longest step meanwhile
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medsam.masks import CompactMask
from medsam.store.readers import Reader
from medsam.store.records import NewCase, NewMask
from medsam.store.store import Store

EDGE, SLICES, THREADS = 512, 200, 20
DOCUMENT = {
    "model": {"name": "none", "weights": "0" * 64, "engine": "torch", "precision": "float32"},
    "scan": {"geometry": {}, "voxels": "0" * 64},
    "axis": "k",
    "modality": "CT",
}


def ellipses(count: int) -> list[CompactMask]:
    rng = random.Random(7)
    rows, columns = np.ogrid[:EDGE, :EDGE]
    made = []
    for _ in range(count):
        y, x, height, width = (rng.uniform(*span) for span in [(150, 360), (150, 360), (5, 150), (5, 150)])
        made.append(CompactMask.of(((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1))
    return made


def seconds_of(call: Callable[[], Any], times: int) -> list[float]:
    return [seconds(call) for _ in range(times)]


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def milliseconds(found: list[float]) -> str:
    ordered = sorted(found)
    high = ordered[min(round(0.95 * len(ordered)), len(ordered) - 1)]
    return f"median {1000 * statistics.median(found):7.1f} ms, 95 % {1000 * high:7.1f} ms"


class Measured:
    """Lines, as they are measured, and all of them at the end."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}

    def __setitem__(self, name: str, result: str) -> None:
        self.results[name] = result
        print(f"{name:12} {result}", flush=True)


def masks_of(masks: list[CompactMask], status: str = "refined") -> Iterator[NewMask]:
    number = 0
    while True:
        yield NewMask(1, "k", number % SLICES, masks[number % len(masks)], status, 0.9, number=number)
        number += 1


def size_of(store: Store) -> int:
    """Bytes, once what is in the log is in the file."""
    with closing(sqlite3.connect(store.folder / "medsam.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (store.folder / "medsam.db").stat().st_size


@contextmanager
def session(store: Store) -> Iterator[tuple[Reader, int]]:
    reader = store.local_reader()
    yield reader, store.open_reading(store.put_case(NewCase("upload:1", "upload", "scan")).id, reader, DOCUMENT).id


def appends(store: Store, masks: list[CompactMask], told: Measured) -> None:
    following = masks_of(masks)
    with session(store) as (reader, reading):
        box = {"box": [100.0, 100.0, 300.0, 300.0]}
        found = seconds_of(
            lambda: store.append_step(reading, reader, "prompt", prompts=box, masks=[next(following)]), 500
        )
        told["step"] = milliseconds(found)
        whole = [NewMask(1, "k", n, masks[n % len(masks)], "propagated", 0.9) for n in range(SLICES)]
        found = seconds_of(lambda: store.append_step(reading, reader, "propagate", masks=whole), 40)
        told["propagation"] = milliseconds(found)


def readers_at_once(store: Store, masks: list[CompactMask], told: Measured, each: int = 50) -> None:
    def read(_: int) -> list[float]:
        following = masks_of(masks)
        with session(store) as (reader, reading):
            found = seconds_of(lambda: store.append_step(reading, reader, "prompt", masks=[next(following)]), each)
            if len(store.masks(reading)) != min(each, SLICES):
                raise SystemExit("A mask is missing.")
        return found

    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        found = [one for of_thread in pool.map(read, range(THREADS)) for one in of_thread]
    rate = len(found) / (time.perf_counter() - started)
    told["readers"] = f"{rate:.0f} steps/s of {THREADS} threads; one waits: {milliseconds(found)}"


def long_session(store: Store, masks: list[CompactMask], steps: int, told: Measured) -> None:
    first, refined = masks_of(masks[::-1], "first"), masks_of(masks)
    before = size_of(store)
    with session(store) as (reader, reading):
        for number in range(steps):
            prompts = {"points": [[float(number % 512), 20.0, 1]]}
            step = store.append_step(reading, reader, "prompt", prompts=prompts, masks=[next(first)]).step
            store.append_masks(reading, reader, step, [next(refined)])
        state = store.reading_state(reading)
        if (len(state.steps), state.done, len(state.masks)) != (steps, steps, min(steps, SLICES)):
            raise SystemExit("A step is missing.")
        began = time.process_time()
        found = milliseconds(seconds_of(lambda: store.reading_state(reading), 15))
        told["session"] = f"{steps} steps: {found}; of a CPU {1000 * (time.process_time() - began) / 15:.0f} ms"
        told["changes"] = milliseconds(seconds_of(lambda: store.changes(reading, 2 * steps - 10), 100))
        told["seen"] = f"all masks: {milliseconds(seconds_of(lambda: store.changes(reading, 0), 30))}"
    size = size_of(store) - before
    told["bytes"] = f"{size / steps / 1024:.1f} KiB a step with two masks"


def cases(store: Store, told: Measured, count: int = 10_000) -> None:
    many = [NewCase(f"data:{n}", "data", f"scan_{n:05}.nii.gz", details={"shape": [1, 2, 3]}) for n in range(count)]
    reader = store.local_reader()
    first, again = (seconds(lambda: store.put_cases(many)) for _ in range(2))
    page = milliseconds(seconds_of(lambda: store.cases(reader, q="scan_09", limit=100), 50))
    told["cases"] = f"{count}: {first:.2f} s, unchanged {again:.2f} s; a page of 100 found by name: {page}"


def backup(store: Store, masks: list[CompactMask], told: Measured) -> None:
    following, waited, ended = masks_of(masks), [0.0], threading.Event()
    with session(store) as (reader, reading):

        def click() -> None:
            while not ended.wait(0.02):
                waited.append(seconds(lambda: store.append_step(reading, reader, "prompt", masks=[next(following)])))

        thread = threading.Thread(target=click)
        thread.start()
        try:
            took = seconds(lambda: store.backup(store.folder / "copy.db"))
        finally:
            ended.set()
            thread.join()
    size = (store.folder / "copy.db").stat().st_size / 2**20
    told["backup"] = f"{took:.2f} s for {size:.0f} MiB; {len(waited) - 1} steps meanwhile, {milliseconds(waited[1:])}"


def sync(folder: Path, told: Measured) -> None:
    handle = os.open(folder / "probe", os.O_RDWR | os.O_CREAT)

    def write() -> None:
        os.write(handle, b"x" * 4096)
        os.fsync(handle)

    told["sync"] = milliseconds(seconds_of(write, 300))
    os.close(handle)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    told, masks = Measured(), ellipses(97)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="medsam-store-") as name:
        sync(Path(name), told)
        with Store.open(Path(name) / "store") as store:
            appends(store, masks, told)
            readers_at_once(store, masks, told)
            long_session(store, masks, arguments.steps, told)
            cases(store, told)
            backup(store, masks, told)
            if faults := store.check():
                sys.exit(f"The file is damaged: {faults}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told.results, indent=2))


if __name__ == "__main__":
    main()
