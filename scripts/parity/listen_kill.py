"""Nothing that a receiver took is lost when it is killed: instances, rounds, results.

    PYTHONPATH=.:tests .venv/bin/python scripts/parity/listen_kill.py [--kills 30] [--series 12] [--seed 1]

`medsam pacs listen` runs with a rule whose command digests the instances of a series. Two senders send
series after series by C-STORE. After a random time (up to two seconds from when it listens) the receiver is killed
(SIGKILL, with the commands it runs) and started again on the same folder; each sender sends again what no answer came
for. After each kill every instance that was answered with success lies there, once and with the same pixels, none has
another content, and rounds that are recorded as done hold what their command made. At the end each series is complete,
its last round is done with all of its instances, and nothing of unfinished work is left.
Exit status 1 where anything is missing. That a power cut loses nothing is not claimed: nothing is synced.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from dicom_files import STUDY, dataset  # type: ignore[import-not-found]
from pydicom import Dataset, dcmread
from senders import send  # type: ignore[import-not-found]

from medsam.pacs.listen.names import SeriesKey
from medsam.pacs.listen.spool import SeriesFolder

_PROGRAM = """
import sys
from medsam.cli.main import main
sys.exit(main(["pacs", "listen"]))
"""
_EDGE, _INSTANCES = 96, 8

Sent = dict[str, Dataset]


class Receiver:
    """The process, and its folder."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self._log = home / "spool", home / "log"
        # a moment's work, so that kills meet it
        work = 'export LC_ALL=C; cat "$1"/*.dcm | sha256sum > "$2/sha256"; sleep 0.2; ls "$1" > "$2/names"'
        command = ["/bin/sh", "-c", work, "digest"]
        words = ", ".join(f"'{word}'" for word in [*command, "{folder}", "{out}"])
        (home / "settings.toml").write_text(
            f'[listen]\nfolder = "spool"\nport = {self.port}\ncalling_aets = ["CT1", "CT2"]\nquiet_s = 0.5\n'
            f'jobs = 2\nkeep_free_gib = 0\n\n[[listen.rules]]\nname = "copy"\ncommand = [{words}]\n'
        )
        self._environment = {**os.environ, "MEDSAM_SETTINGS": str(home / "settings.toml")}

    def start(self) -> None:
        """Returns once it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise SystemExit(f"The receiver does not listen: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(30)

    def series(self) -> dict[str, SeriesFolder]:
        there = self.folder / "series" / STUDY
        return {path.name: SeriesFolder(SeriesKey(STUDY, path.name), path) for path in sorted(there.glob("*"))}


class Sender:
    """Sends its series, an instance at a time, until the receiver is gone. taken: answered with success."""

    def __init__(self, number: int, series: int, rng: random.Random) -> None:
        self.calling = f"CT{number + 1}"
        self.todo: list[Dataset] = []
        for n in range(series):
            uid = f"1.2.3.{number + 1}.{n + 1}"
            self.todo += [_instance(uid, k, rng) for k in range(_INSTANCES)]
        self.taken: Sent = {}

    def work(self, port: int) -> None:
        while self.todo:
            some = self.todo[: 1 + len(self.taken) % _INSTANCES]
            try:
                answers = send(port, some, calling=self.calling)
            except (AssertionError, OSError):  # it is gone
                return
            done = [ds for ds, status in zip(some, answers, strict=True) if status == 0]
            self.taken |= {str(ds.SOPInstanceUID): ds for ds in done}
            self.todo = [ds for ds in self.todo if str(ds.SOPInstanceUID) not in self.taken]
            if len(done) < len(some):
                return


def _instance(series: str, k: int, rng: random.Random) -> Dataset:
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 1000, (_EDGE, _EDGE)).astype(np.int16)
    place = {"ImagePositionPatient": [0, 0, 2 * k], "InstanceNumber": k + 1}
    return dataset(pixels, SeriesInstanceUID=series, SOPInstanceUID=f"{series}.{k + 1}", **place)


def faults(receiver: Receiver, taken: Sent, counts: Counter[str]) -> list[str]:
    """What is wrong with a folder whose receiver does not run."""
    found: list[str] = []
    files = {path.stem: path for one in receiver.series().values() for path in one.files()}
    for uid, ds in taken.items():
        counts["instances compared"] += 1
        if uid not in files:
            found.append(f"{uid} was taken, and is gone")
        elif (why := _differs(files[uid], ds)) is not None:
            found.append(f"{uid} {why}")
    for one in receiver.series().values():
        for made in one.rounds():
            counts["rounds looked at"] += 1
            if made.state != "done":
                found.append(f"{one.path.name}, round {made.number}: {made.state}, {made.message}")
                continue
            names, sha256 = (one.results(made.number) / name for name in ("names", "sha256"))
            if not (names.exists() and sha256.exists()):
                found.append(f"{one.path.name}, round {made.number}: its results are gone")
                continue
            listed = names.read_text().split()
            content = b"".join(files[Path(name).stem].read_bytes() for name in listed)
            if len(listed) != made.instances or sha256.read_text().split()[0] != hashlib.sha256(content).hexdigest():
                found.append(f"{one.path.name}, round {made.number}: other results than of its instances")
    return found


def _differs(path: Path, ds: Dataset) -> str | None:
    try:
        there = dcmread(path)
        same = there.PixelData == ds.PixelData and there.SOPInstanceUID == ds.SOPInstanceUID
    except Exception as error:  # whatever half a file makes the reader do
        return f"cannot be read: {type(error).__name__}"
    return None if same else "has another content"


def unfinished(folder: Path) -> list[str]:
    parts = [path for name in (".incoming", ".work") for path in (folder / name).iterdir()]
    return [path.name for path in (*parts, *folder.rglob(".medsam-*"))]


def _run(home: Path, kills: int, series: int, seed: int) -> tuple[Counter[str], list[str]]:
    rng, counts = random.Random(seed), Counter[str]()
    receiver = Receiver(home)
    senders = [Sender(number, -(-series // 2), rng) for number in range(2)]
    receiver.start()
    for _ in range(kills):
        threads = [threading.Thread(target=one.work, args=(receiver.port,), daemon=True) for one in senders]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0, 2))
        counts["kills"] += 1
        counts["kills while it received"] += any(thread.is_alive() for thread in threads)
        counts["kills while it worked"] += any((receiver.folder / ".work").iterdir())
        receiver.kill()
        for thread in threads:
            thread.join(60)
        wrong = faults(receiver, {uid: ds for one in senders for uid, ds in one.taken.items()}, counts)
        if wrong:
            return counts, wrong
        receiver.start()
    for one in senders:
        one.work(receiver.port)
    taken = {uid: ds for one in senders for uid, ds in one.taken.items()}
    until = time.monotonic() + 120
    while time.monotonic() < until and not _complete(receiver, series):
        time.sleep(0.2)
    wrong = [] if _complete(receiver, series) else ["series without a last round of all their instances"]
    if len(taken) != len(senders) * -(-series // 2) * _INSTANCES:
        wrong.append(f"only {len(taken)} instances were taken")
    if receiver.stop() != 0:
        wrong.append("it did not end with 0")
    wrong += faults(receiver, taken, counts)
    wrong += [f"left behind: {name}" for name in unfinished(receiver.folder)]
    return counts, wrong


def _complete(receiver: Receiver, series: int) -> bool:
    rounds = [one.rounds() for one in receiver.series().values()]
    return len(rounds) >= series and all(made and made[-1].instances == _INSTANCES for made in rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--series", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medsam-listen-kill-") as home:
        counts, wrong = _run(Path(home), arguments.kills, arguments.series, arguments.seed)
    for what, count in counts.items():
        print(f"{what} | {count}")
    for text in wrong[:20]:
        print(f"WRONG {text}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
