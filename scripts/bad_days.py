"""Bad days of a machine: a full disk, one that may not be written to, files that may not grow.

    sudo ./scripts/bad-days [--kinds evaluate,segment] [--table FILE.csv]      # Linux, as root: it mounts small disks

Each command runs, in a process of its own, with its results on a small disk: one of 4 KiB to 1 MiB, one that is read
only, one that is whole but lets no file grow beyond a size. It either does its work, or ends with exit status 2 and one
message, no traceback; of what lies in the folder afterwards, every file of results equals that of a good day, and
nothing is left of unfinished ones. Given room, the same command then ends as on a good day. Exit status 1 for a fault.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from kill import Kind, begun, ended, kinds_of, unbroken

_PATIENCE = 240.0


@dataclass(frozen=True)
class Day:
    """room: KiB of the disk. grows: how large a file may become, in KiB. read_only: the folder's disk."""

    name: str
    room: int = 2**16
    grows: int | None = None
    read_only: bool = False


DAYS = (
    *(Day(f"a disk of {room} KiB", room) for room in (4, 16, 64, 256, 1024)),
    *(Day(f"files of {size} KiB at most", grows=size) for size in (0, 1, 20, 200)),
    Day("a disk that is read only", read_only=True),
)


@contextmanager
def disk(folder: Path, day: Day) -> Iterator[None]:
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={day.room}k", "tmpfs", str(folder))
    if day.read_only:
        mount("-o", "remount,ro", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def tried(kind: Kind, day: Day, out: Path, log: Path, right: dict[str, str]) -> tuple[str, list[str]]:
    """What became of a command on such a day: "done" or "refused", and faults."""
    faults: list[str] = []
    with disk(out, day):
        status, said = _said(kind.words(out), day, log)
        if status not in (0, 2):
            faults.append(f"exit status {status}: {said[-300:]}")
        if "Traceback" in said:
            faults.append(f"a traceback: {said[-300:]}")
        found = kind.results(out)
        faults += [f"half written, or another: {name}" for name, sha in found.items() if right.get(name) != sha]
        if status == 0 and found != right:
            faults.append("it says that it is done, and is not")
        left = [path.name for path in out.rglob(".medsam-*")]
        faults += [f"left behind: {name}" for name in left]
        if day.read_only:
            mount("-o", "remount,rw", str(out))
        mount("-o", "remount,size=64m", str(out))
        again = ended(begun(kind.words(out), log), _PATIENCE)
        if again != 0 or kind.results(out) != right:
            faults.append(f"given room, it ends with {again}: {log.read_text()[-300:]}")
    return "done" if status == 0 else "refused", faults


def _said(words: list[str], day: Day, log: Path) -> tuple[int | None, str]:
    """Exit status and words of a command. They come through a pipe: files may not grow."""
    log.unlink(missing_ok=True)
    os.mkfifo(log)
    pipe = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    try:
        status = ended(begun(words, log, lambda: _limit(day)), _PATIENCE)
        try:
            return status, os.read(pipe, 2**16).decode(errors="replace")
        except BlockingIOError:
            return status, ""
    finally:
        os.close(pipe)
        log.unlink()


def _limit(day: Day) -> None:
    if day.grows is not None:
        size = day.grows * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", help="of commands, with commas (default: all)")
    parser.add_argument("--table", type=Path, help="a CSV of what came out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, faults = [["command", "day", "what became of it", "faults"]], list[str]()
    with tempfile.TemporaryDirectory(prefix="medsam-bad-days-") as name:
        home = Path(name)
        kinds = kinds_of(home)
        chosen = [one for one in kinds if "," not in one] if arguments.kinds is None else arguments.kinds.split(",")
        for kind in chosen:
            place = home / kind
            place.mkdir()
            right, _ = unbroken(kinds[kind], place)
            for day in DAYS:
                what, wrong = tried(kinds[kind], day, place / "out", place / "log", right)
                rows.append([kind, day.name, what, str(len(wrong))])
                faults += [f"{kind}, {day.name}: {one}" for one in wrong]
                print("; ".join(rows[-1]), *wrong, flush=True)
            shutil.rmtree(place)
    if arguments.table is not None:
        with arguments.table.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return int(bool(faults))


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("Small disks are mounted here, which needs root.")
    sys.exit(main())
