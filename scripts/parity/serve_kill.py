"""Nothing that the store confirmed is lost when its process is killed.

    .venv/bin/python scripts/parity/serve_kill.py [--kills 30] [--writers 4] [--seed 1]

A process opens a store as a server does, and its threads append objects, steps, refined masks and propagations of 20
slices to sessions of their own. What a call has returned is told over a pipe: the revision, and a digest of what was
written. After a random time (up to 1.5 s) it is killed by SIGKILL; then the store is opened again, SQLite checks the
file, and every told change has to be there, to the bit; of what was not told, at most one change a thread. The next
process goes on with the same file. Sessions that are there come back with all of their steps.

SIGKILL takes the process and leaves the system: that the file is also synced before a change is told (for a power cut)
is what `PRAGMA synchronous` says, which a test looks at. Exits with 1 where anything is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

import numpy as np

from medsam.masks import CompactMask
from medsam.store.readers import Reader
from medsam.store.records import NewCase, NewMask, StoredMask
from medsam.store.store import Store

DOCUMENT = {
    "model": {"name": "none", "weights": "0" * 64, "engine": "torch", "precision": "float32"},
    "scan": {"geometry": {}, "voxels": "0" * 64},
    "axis": "k",
    "modality": "CT",
}
EDGE, SLICES = 512, 20


def ellipse(rng: random.Random) -> CompactMask:
    rows, columns = np.ogrid[:EDGE, :EDGE]
    y, x, height, width = (rng.uniform(80, 430), rng.uniform(80, 430), rng.uniform(5, 150), rng.uniform(5, 150))
    return CompactMask.of(((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1)


def digest(masks: Sequence[NewMask] | Sequence[StoredMask]) -> str:
    """Of objects, places, bounds and bits, whatever order they come in."""
    told = sorted((one.object, one.axis, one.slice, repr(one.mask), one.mask.bits.hex()) for one in masks)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]


# -- the process that is killed -----------------------------------------------------------------------------


def write(folder: Path, writers: int, seed: int) -> None:
    """Append until somebody ends it."""
    store = Store.open(folder)
    reader = store.local_reader()
    case = store.put_case(NewCase("upload:1", "upload", "scan", reader.id)).id
    for number in range(writers):
        work = (store, reader, store.open_reading(case, reader, DOCUMENT).id, random.Random(f"{seed} {number}"))
        threading.Thread(target=append, args=work).start()


def append(store: Store, reader: Reader, reading: int, rng: random.Random) -> None:
    object_number = store.add_object(reading, reader, "liver", "#aa0000").number
    tell(reading, 1, "object", "")
    while True:
        first = [NewMask(object_number, "k", rng.randrange(200), ellipse(rng), "first", 0.5)]
        if rng.random() < 0.1:
            first = [NewMask(object_number, "k", n, ellipse(rng), "propagated", 0.9) for n in range(SLICES)]
        step = store.append_step(reading, reader, "prompt", object_number=object_number, prompts={"n": 1}, masks=first)
        tell(reading, step.revision, "step", digest(first))
        if len(first) == 1:
            refined = [NewMask(object_number, "k", first[0].slice, ellipse(rng), "refined", 0.8)]
            tell(reading, store.append_masks(reading, reader, step.step, refined), "masks", digest(refined))


def tell(reading: int, revision: int, kind: str, written: str) -> None:
    """In one write, so that lines of threads are never mixed."""
    line = {"reading": reading, "revision": revision, "kind": kind, "digest": written}
    os.write(sys.stdout.fileno(), (json.dumps(line) + "\n").encode())


# -- who kills, and looks -----------------------------------------------------------------------------------


def kill_once(folder: Path, writers: int, seed: int, rng: random.Random) -> list[dict]:
    """What a process told before it was killed."""
    command = [sys.executable, __file__, "--write", str(folder), "--writers", str(writers), "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    pipe = cast(IO[bytes], process.stdout)
    first = pipe.readline()
    timer = threading.Timer(rng.uniform(0, 1.5), process.send_signal, [signal.SIGKILL])
    timer.start()
    rest = pipe.read()
    timer.cancel()
    if process.wait() != -signal.SIGKILL:
        raise SystemExit("The writer ended by itself; its message is above.")
    # a line is whole or not there: it is one write, and shorter than a pipe takes at once
    return [json.loads(line) for line in (first + rest).splitlines()]


def missing(folder: Path, told: Sequence[dict], writers: int) -> tuple[list[str], int]:
    """What is wrong with the store, and how many changes were there that nobody had told."""
    wrong, untold = [], 0
    by_reading: dict[int, dict[int, dict]] = defaultdict(dict)
    for line in told:
        by_reading[line["reading"]][line["revision"]] = line
    with Store.open(folder) as store:
        wrong += [f"the file: {fault}" for fault in store.check()]
        for reading, lines in by_reading.items():
            last = store.revision(reading)
            untold += last - len(lines)
            if sorted(lines) != list(range(1, len(lines) + 1)) or not 0 <= last - len(lines) <= 1:
                wrong.append(f"session {reading}: {len(lines)} changes were told, and {last} are there")
            found = written_by(store, reading)
            for revision, line in lines.items():
                if line["digest"] and found.get(revision) != line["digest"]:
                    wrong.append(f"session {reading}: revision {revision} ({line['kind']}) is not what was told")
            if not store.objects(reading):
                wrong.append(f"session {reading}: its object is gone")
    if len(by_reading) > writers:
        wrong.append(f"{len(by_reading)} sessions of {writers} threads")
    return wrong, untold


def written_by(store: Store, reading: int) -> dict[int, str]:
    """By revision, the digest of the masks it wrote, also of those that later ones replaced."""
    masks: dict[int, list[StoredMask]] = defaultdict(list)
    for mask in store.all_masks(reading):
        masks[mask.revision].append(mask)
    return {revision: digest(those) for revision, those in masks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write is not None:
        write(arguments.write, arguments.writers, arguments.seed)
        return
    rng = random.Random(arguments.seed)
    changes = untold = 0
    wrong: list[str] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="medsam-kill-") as name:
        folder = Path(name) / "store"
        everything: list[dict] = []
        for number in range(arguments.kills):
            told = kill_once(folder, arguments.writers, arguments.seed + number, rng)
            found, more = missing(folder, told, arguments.writers)
            wrong += [f"kill {number}: {one}" for one in found]
            changes, untold = changes + len(told), untold + more
            everything += told
            print(
                f"kill {number:2}: {len(told):5} changes told, {more} more were there, {len(found)} faults", flush=True
            )
        # all of it once more, at the end: no later process took anything away
        wrong += [f"at the end: {one}" for one in missing(folder, everything, len(everything))[0]]
        size = (folder / "medsam.db").stat().st_size / 2**20
    for one in wrong:
        print(one)
    print(
        f"{arguments.kills} kills, {changes} confirmed changes, {untold} that were on the disk and not yet told, "
        f"{len(wrong)} faults; {size:.1f} MiB, {time.monotonic() - started:.0f} s"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
