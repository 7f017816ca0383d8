"""Commands whose clock is put in the middle; see `bad_days`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bad_endings import PATIENCE, Ending, of_good_day, of_results
from kill import Kind


@dataclass(frozen=True)
class ClockDay:
    """before, after: how the clock stands, as libfaketime takes it; it is put from one to the other in the middle."""

    name: str
    before: str
    after: str


CLOCK_DAYS = (
    ClockDay("a clock put back by an hour", "+0", "-3600"),
    ClockDay("a clock put forward by an hour", "+0", "+3600"),
    ClockDay("a clock put forward by 400 days", "+0", "+400d"),
    ClockDay("a clock that stands in 1970 until it is put right", f"-{int(time.time()) - 86400}", "+0"),
)


def faked(file: Path) -> Mapping[str, str]:
    """The environment of a process whose clock stands as a file says; what only ever goes forward is left alone."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        raise SystemExit("Clocks need libfaketime: apt install libfaketime.")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # a disk tells its own times
        "NO_FAKE_STAT": "1",
    }


def put(file: Path, clock: str) -> None:
    """Set a clock, at once."""
    part = file.with_suffix(".part")
    part.write_text(clock + "\n")
    os.replace(part, file)


# everything imported, as in `kill`, so that the clock is put while it works
_PROGRAM = """
import sys, lightning, torch, medsam.cli.train
from medsam.cli.main import main
torch.set_num_threads(1)
print("begun", flush=True)
sys.exit(main(sys.argv[1:]))
"""


def on_clock(kind: Kind, day: ClockDay, place: Path, right: dict[str, str], seconds: float) -> tuple[str, list[str]]:
    """What became of a command on such a day: "done" or "not met", and faults. seconds: that it takes."""
    clock, out = place / "clock", place / "out"
    out.mkdir()
    put(clock, day.before)
    words = [sys.executable, "-c", _PROGRAM, *kind.words(out)]
    environment = {**os.environ, **faked(clock)}
    with (place / "log").open("w+") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        begun = (process.stdout.readline() if process.stdout else "") == "begun\n"
        time.sleep(0.4 * seconds)
        met = begun and process.poll() is None
        put(clock, day.after)
        process.communicate(timeout=PATIENCE)
        log.seek(0)
        ending = Ending(process.returncode, log.read())
    (place / "log").unlink()
    faults = ending.faults((0,)) + of_results(kind, out, right, ending.status)
    faults += of_good_day(kind, out, right)
    shutil.rmtree(out)
    return ("done" if met else "not met") if not faults else "faulty", faults
