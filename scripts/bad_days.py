"""Bad days of a machine: full disks, shares that stall or go, clocks that are put back or forward.

    sudo ./scripts/bad-days [--days disks,shares,clocks,served] [--kinds 'evaluate|segment'] [--table FILE.csv]

Linux, as root: small disks and shares are mounted. Each command runs, in a process of its own, on such a day:

    disks    its results on a disk of 4 KiB to 1 MiB, on one that is read only, or where no file grows beyond a size
    shares   its scans or its results on a share (FUSE) that hangs for 20 s, fails in the middle, or goes; and Ctrl-C
    clocks   the clock put an hour or a year back or forward in the middle, or standing in 1970 (libfaketime)
    served   a server whose scans are on a share that hangs, and one whose clock is put; see `bad_servers`

It either does its work, or ends with exit status 2 and one message, no traceback; of what lies in the folder
afterwards, every file of results equals that of a good day, and nothing is left of unfinished ones. Then the same
command ends as on a good day. `not met`: it had done its work before the share failed. Exit status 1 for a fault.
Shares need libfuse and mfusepy (see `stalling_share`), clocks Debian's libfaketime.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from bad_clocks import CLOCK_DAYS, ClockDay, on_clock
from bad_endings import of_good_day, of_results, told
from bad_shares import SHARE_DAYS, ShareDay, shared
from kill import Kind, kinds_of, unbroken


@dataclass(frozen=True)
class DiskDay:
    """room: KiB of the disk. grows: how large a file may become, in KiB. read_only: the folder's disk."""

    name: str
    room: int = 2**16
    grows: int | None = None
    read_only: bool = False


DISK_DAYS = (
    *(DiskDay(f"a disk of {room} KiB", room) for room in (4, 16, 64, 256, 1024)),
    *(DiskDay(f"files of {size} KiB at most", grows=size) for size in (0, 1, 20, 200)),
    DiskDay("a disk that is read only", read_only=True),
)


# -- disks ----------------------------------------------------------------------------------------------------


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path, day: DiskDay) -> None:
    """Leave so much room on the disk, beside what a command begins from, or none to write."""
    there = os.statvfs(folder)
    used = (there.f_blocks - there.f_bfree) * there.f_frsize // 1024
    mount("-o", f"remount,size={used + day.room}k", str(folder))
    if day.read_only:
        mount("-o", "remount,ro", str(folder))


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def on_disk(kind: Kind, day: DiskDay, place: Path, right: dict[str, str]) -> tuple[str, list[str]]:
    """What became of a command on such a day: "done" or "refused", and faults."""
    out, log = place / "out", place / "log"
    with disk(out):
        words = kind.words(out)
        fill(out, day)
        ending = told(words, log, lambda: _limit(day))
        # a store writes even where it is read
        beside = Path(shutil.copytree(out, place / "beside", symlinks=True))
        faults = ending.faults((0, 2)) + of_results(kind, beside, right, ending.status)
        shutil.rmtree(beside)
        if day.read_only:
            mount("-o", "remount,rw", str(out))
        mount("-o", "remount,size=64m", str(out))
        faults += of_good_day(kind, out, right)
    return "done" if ending.status == 0 else "refused", faults


def _limit(day: DiskDay) -> None:
    if day.grows is not None:
        size = day.grows * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# -- all of them ----------------------------------------------------------------------------------------------


def one(
    kind: Kind, day: DiskDay | ShareDay | ClockDay, place: Path, data: Path, right: dict[str, str], seconds: float
) -> tuple[str, list[str]]:
    if isinstance(day, DiskDay):
        return on_disk(kind, day, place, right)
    if isinstance(day, ShareDay):
        return shared(kind, day, place, data, right)
    return on_clock(kind, day, place, right, seconds)


DAYS: dict[str, tuple[DiskDay | ShareDay | ClockDay, ...]] = {
    "disks": DISK_DAYS,
    "shares": SHARE_DAYS,
    "clocks": CLOCK_DAYS,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", default="disks,shares,clocks,served", help="with commas (default: all)")
    parser.add_argument("--kinds", help="of commands, with | between (default: all that are one process)")
    parser.add_argument("--only", default="", help="days whose name holds this")
    parser.add_argument("--table", type=Path, help="a CSV of what came out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # what a shell runs in the background ignores Ctrl-C, and so would the commands
    signal.signal(signal.SIGINT, signal.default_int_handler)
    families = arguments.days.split(",")
    rows, faults = [["command", "day", "what became of it", "faults"]], list[str]()

    def note(command: str, day: str, what: str, wrong: list[str]) -> None:
        rows.append([command, day, what, str(len(wrong))])
        faults.extend(f"{command}, {day}: {one}" for one in wrong)
        print("; ".join(rows[-1]), *wrong, flush=True)

    days = [day for family in families if family != "served" for day in DAYS[family] if arguments.only in day.name]
    with tempfile.TemporaryDirectory(prefix="medsam-bad-days-") as name:
        home = Path(name)
        kinds = kinds_of(home)
        chosen = [one for one in kinds if "," not in one] if arguments.kinds is None else arguments.kinds.split("|")
        for kind in chosen if days else ():
            place = home / kind
            place.mkdir()
            right, seconds = unbroken(kinds[kind], place)
            for day in days:
                note(kind, day.name, *one(kinds[kind], day, place, home / "data", right, seconds))
            shutil.rmtree(place)
        if "served" in families:
            from bad_servers import SERVED_DAYS

            for title, served in SERVED_DAYS.items():
                if arguments.only in title:
                    (home / title).mkdir()
                    note("serve", title, *served(home / title, home / "tiny.safetensors"))
    if arguments.table is not None:
        with arguments.table.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return int(bool(faults))


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("Disks and shares are mounted here, which needs root.")
    sys.exit(main())
