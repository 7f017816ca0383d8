"""Running a command of the settings: without a shell, in a time, and with all its children gone afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from medsam.errors import Cancelled, InputError

_POLL_S, _GRACE_S = 0.05, 5.0
# what our own environment holds for us alone
_OURS = re.compile(r"MEDSAM_.*_(PASSWORD|TOKEN)")


def run_command(
    words: Sequence[str],
    folder: Path,
    output: Path,
    *,
    timeout_s: float,
    stopped: Callable[[], bool],
    has_room: Callable[[], bool],
) -> None:
    """Run a program in `folder`; what it prints goes to the file `output`, for it may name the patient.

    stopped: whether the receiver wants to end. has_room: whether what is written still fits the quota.
    Raises InputError when the program is not there, fails, takes too long or writes too much, and Cancelled.
    """
    environment = {name: value for name, value in os.environ.items() if not _OURS.fullmatch(name)}
    with output.open("wb") as printed:
        try:
            process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                # a group of its own: Ctrl-C is for us, and its children end with it
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "its arguments cannot be passed"
            raise InputError(f"The command cannot be started: {reason}.") from error
    try:
        _wait(process, timeout_s, stopped, has_room)
    finally:
        _end(process)
    if process.returncode:
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit status {process.returncode}"
        raise InputError(f"The command ended with {how}; what it printed is in {output.name} beside its results.")


def _wait(
    process: subprocess.Popen[bytes], timeout_s: float, stopped: Callable[[], bool], has_room: Callable[[], bool]
) -> None:
    until, look = time.monotonic() + timeout_s, 0.0
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
            return
        now = time.monotonic()
        if stopped():
            raise Cancelled
        if now > until:
            raise InputError(f"The command took longer than {timeout_s:g} s and was ended (`timeout_s` of its rule).")
        # looking through a folder costs more than looking at a process
        if now > look:
            look = now + 1
            if not has_room():
                raise InputError("The command wrote more than the quota or the disk has room for, and was ended.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that runs, and whatever it left behind."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
