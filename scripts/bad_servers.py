"""A server on bad days: a share of scans that hangs, a clock that is put; see `bad_days`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from bad_clocks import faked, put
from bad_shares import mood, share

sys.path.append(str(Path(__file__).resolve().parent / "speed"))

from serve_load import write_nifti
from served import Server, found_case, made_ct

from medsam.client.session import RemoteSession

_STALL = 20.0
# seconds that somebody may wait whose scan is not on the share, beside what an answer takes
_PATIENCE = 5.0
_BOX = (20, 20, 60, 60)


def _scan(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    scan, _ = made_ct(seed, 6, 96)
    write_nifti(folder / f"{name}.nii.gz", scan)


def on_share(place: Path, model: Path) -> tuple[str, list[str]]:
    """While the share hangs under one reader, another goes on with a session and opens a case of a disk."""
    for number, name in enumerate(("one", "two")):
        _scan(place / "disk", name, number)
    _scan(place / "behind", "far", 2)
    faults: list[str] = []
    with share(place / "behind", place / "share") as mounted:
        server = Server(place, [place / "disk", place / "share"], str(model), users=2)
        try:
            first, second = server.client(0), server.client(1)
            far = found_case(first, "far").id
            session = second.open(found_case(second, "one").id, axis="k")
            session.box(2, _BOX, "a")
            mounted.feel(mood("open", "read", "getattr", "readdir", times=4, seconds=_STALL))
            waited: list[float] = []

            def open_far() -> None:
                began = time.monotonic()
                first.open(far, axis="k").box(2, _BOX, "a")
                waited.append(time.monotonic() - began)

            thread = threading.Thread(target=open_far, daemon=True)
            thread.start()
            if not mounted.begun.wait(30):
                return "not met", ["the share was not asked"]
            began = time.monotonic()
            session.box(3, _BOX, "a")
            other = second.open(found_case(second, "two").id, axis="k")
            other.box(1, _BOX, "b")
            if (took := time.monotonic() - began) > _PATIENCE:
                faults.append(f"another reader waited for {took:.1f} s")
            thread.join(6 * _STALL)
            if not waited:
                faults.append("who waited for the share has got no answer after two minutes")
        finally:
            if server.stop() != 128 + signal.SIGTERM:
                faults.append("the server did not end as it was told to")
    return "refused" if faults else "done", faults


def on_clock(place: Path, model: Path) -> tuple[str, list[str]]:
    """The clock is put forward, back and far back under a session: each step is confirmed, and all is there again."""
    _scan(place / "disk", "one", 0)
    faults: list[str] = []
    with _environment(faked(place / "clock")):
        put(place / "clock", "+0")
        server = Server(place, [place / "disk"], str(model), users=1)
    try:
        client = server.client(0)
        session = client.open(found_case(client).id, axis="k")
        for index, clock in enumerate(("+0", "+3600", "-3600", "+400d", "+0"), start=1):
            put(place / "clock", clock)
            session.box(index % 6, _BOX, f"at {clock}" if index < 5 else "again")
        _scan(place / "disk", "new", 1)
        found_case(client, "new")
        masks = _masks(session)
        server.kill()
        with _environment(faked(place / "clock")):
            put(place / "clock", "-3600")
            server.start()
        client = server.client(0)
        # by this clock its files are of the future, and wait until they have not changed for seconds
        found_case(client, "one")
        again = _masks(client.resume(session.id))
        if masks.keys() != again.keys() or not masks:
            faults.append(f"{len(again)} masks where {len(masks)} were confirmed")
        faults += [
            f"{key} is another mask" for key in masks if key not in again or not np.array_equal(masks[key], again[key])
        ]
    finally:
        if server.stop() != 128 + signal.SIGTERM:
            faults.append("the server did not end as it was told to")
    return "refused" if faults else "done", faults


def _masks(session: RemoteSession) -> dict[tuple[str, int], np.ndarray]:
    return {(name, index): one.mask for name, found in session.results.items() for index, one in found.items()}


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


SERVED_DAYS: dict[str, Callable[[Path, Path], tuple[str, list[str]]]] = {
    "scans on a share that hangs for 20 s": on_share,
    "a clock that is put forward and back": on_clock,
}
