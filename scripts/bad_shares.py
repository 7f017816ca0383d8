"""Commands whose scans or results are on a share that stalls, fails or goes; see `bad_days`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bad_endings import of_good_day, of_results, told
from kill import Kind

_SCRIPT = Path(__file__).with_name("stalling_share.py")
# that a command may take to end after what it waited for has come
_AFTER = 60.0
_STALL = 20.0


@dataclass(frozen=True)
class ShareDay:
    """scans: whether they are on the share, not the results. mood: see `stalling_share`. allowed: exit statuses.

    interrupt: Ctrl-C, a second after the first operation stalls. cleans: whether what is unfinished can be removed.
    """

    name: str
    scans: bool
    mood: dict[str, Any]
    allowed: tuple[int, ...] = (0, 2)
    interrupt: bool = False
    cleans: bool = True


def mood(
    *of: str, after: int = 0, times: int | None = None, seconds: float = 0.0, errno: str | None = None
) -> dict[str, Any]:
    return {"of": list(of) or None, "after": after, "times": times, "seconds": seconds, "errno": errno}


SHARE_DAYS = (
    ShareDay("scans that hang for 20 s", True, mood("open", "read", times=1, seconds=_STALL), (0,)),
    ShareDay("scans that cannot be read (EIO)", True, mood("read", errno="EIO")),
    ShareDay("scans whose share is stale in the middle (ESTALE)", True, mood("open", "read", after=3, errno="ESTALE")),
    ShareDay("scans that hang for 20 s, and Ctrl-C", True, mood("read", times=1, seconds=_STALL), (130,), True),
    ShareDay("results that hang for 20 s", False, mood("write", "rename", times=1, seconds=_STALL), (0,)),
    ShareDay("results that cannot be written (EIO)", False, mood("write", after=1, errno="EIO")),
    ShareDay("results that cannot be renamed (ESTALE)", False, mood("rename", errno="ESTALE")),
    ShareDay("results whose share is stale for one write (ESTALE)", False, mood("write", times=1, errno="ESTALE")),
    ShareDay("results whose share goes (ENOTCONN)", False, mood(after=25, errno="ENOTCONN"), cleans=False),
    ShareDay("results that hang for 20 s, and Ctrl-C", False, mood("write", times=1, seconds=_STALL), (130,), True),
)


class Mounted:
    """A share that is there. begun: set when the first operation stalls or fails."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.begun, self._set = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            (self._set if line.strip() == "set" else self.begun).set()

    def feel(self, said: dict[str, Any]) -> None:
        """From now on."""
        self._set.clear()
        self.begun.clear()
        print(json.dumps(said), file=self._process.stdin, flush=True)
        if not self._set.wait(10):
            raise SystemExit("The share does not answer.")


@contextmanager
def share(folder: Path, mount: Path) -> Iterator[Mounted]:
    """A folder by way of a share, at `mount`, which is made."""
    if importlib.util.find_spec("mfusepy") is None:
        raise SystemExit("Shares need mfusepy and libfuse: pip install mfusepy; apt install libfuse3-3 (or fuse3).")
    mount.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(_SCRIPT), str(folder), str(mount)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # libfuse tells of limits that do not matter
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        until = time.monotonic() + 20
        while not os.path.ismount(mount):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"The share cannot be mounted; {_SCRIPT.name} FOLDER MOUNT says why.")
            time.sleep(0.02)
        yield Mounted(process)
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=False)
        process.kill()
        process.wait()
        mount.rmdir()


def shared(kind: Kind, day: ShareDay, place: Path, data: Path, right: dict[str, str]) -> tuple[str, list[str]]:
    """What became of a command on such a day: "done", "refused", "interrupted" or "not met", and faults."""
    log, out = place / "log", place / "out"
    there = data if day.scans else out
    behind = there.with_name(f"{there.name}-behind")
    if day.scans:
        data.rename(behind)
        out.mkdir()
    else:
        behind.mkdir()
    faults: list[str] = []
    try:
        with share(behind, there) as mounted:
            # what a command begins from may have to be put there
            words = kind.words(out)
            mounted.feel(day.mood)
            started = time.monotonic()

            def interrupt(child: int) -> None:
                if mounted.begun.wait(_AFTER):
                    time.sleep(1)
                    os.killpg(child, signal.SIGINT)

            ending = told(words, log, meanwhile=interrupt if day.interrupt else None)
            met, seconds = mounted.begun.is_set(), time.monotonic() - started
        where = out if day.scans else behind
        if met:
            faults += ending.faults(day.allowed)
            faults += of_results(kind, where, right, ending.status, left=day.cleans)
        if seconds > day.mood["seconds"] + 2 * _AFTER:
            faults.append(f"it took {seconds:.0f} s")
    finally:
        behind.rename(there)
    faults += of_good_day(kind, out, right)
    shutil.rmtree(out)
    became: dict[int | None, str] = {0: "done", 2: "refused", 130: "interrupted"}
    return (became.get(ending.status, "faulty") if met else "not met"), faults
