"""Hammer a receiver (`medsam pacs listen`, a process of its own) with what the tests have no time for.

    .venv/bin/python scripts/parity/receiver.py [--damaged 2000] [--connections 600] [--associations 1500] [--kills 8]

Damaged data sets in five encodings and damaged connections: each has to be answered or ended, with nothing left over.
Many associations and a large instance: memory has to stay level. Killed (SIGKILL) again and again while four senders
send: every instance has to be there, byte for byte, and each series complete in its last round.
Exit status 1 when one of that fails.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom import AE, build_context

STUDY = "1.2.3.2"
ENCODINGS = (
    *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian),
    *(ExplicitVRBigEndian, RLELossless),
)


class Receiver:
    """The process. Started again after `kill`, with the same folder."""

    def __init__(self, folder: Path, rules: str = "") -> None:
        self.folder = folder
        settings = folder / "settings.toml"
        settings.write_text(
            '[listen]\nfolder = "in"\nport = 0\ncalling_aets = ["CT1"]\nquiet_s = 0.5\ntimeout_s = 5\n' + rules
        )
        self._environment = os.environ | {"MEDSAM_SETTINGS": str(settings)}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "medsam.cli.main", "pacs", "listen", "--json"]
        with (self.folder / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                command, env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        # whatever ends this script
        atexit.register(self.process.kill)
        printed: Iterable[str] = self.process.stdout or []
        for line in printed:
            said = json.loads(line)
            if said["event"] == "listening":
                self.port = int(said["port"])
                break
        # read on, or it would wait for its reader
        threading.Thread(target=lambda: list(printed), daemon=True).start()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def memory_mb(self) -> int:
        """Resident now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def files(self) -> list[Path]:
        return list((self.folder / "in" / "series").rglob("*.dcm"))

    def parts(self) -> list[Path]:
        return list((self.folder / "in" / ".incoming").iterdir())


def image(pixels: np.ndarray, series: int = 1, number: int = 1, syntax: UID = ExplicitVRLittleEndian) -> FileDataset:
    """A CT image (J, I), or frames of one, in an encoding."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{series}.{number}")
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, f"1.2.3.{series}"
    ds.PatientID, ds.Modality, ds.SamplesPerPixel = "P1", "CT", 1
    ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 1
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    item = Dataset()
    item.CodeValue = "1"
    ds.ConceptNameCodeSequence = [item]
    ds.PixelData = pixels.astype(">i2" if syntax == ExplicitVRBigEndian else "<i2").tobytes()
    ds["PixelData"].VR = "OW"
    if syntax == RLELossless:
        ds.compress(RLELossless)
    ds.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    return ds


@contextlib.contextmanager
def association(port: int, syntax: UID = ExplicitVRLittleEndian) -> Iterator[Any]:
    entity = AE("CT1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    found = entity.associate("127.0.0.1", port, [build_context(CTImageStorage, syntax)], ae_title="MEDSAM")
    try:
        yield found
    finally:
        if found.is_established:
            found.release()


def damaged_data_sets(receiver: Receiver, count: int, rng: random.Random) -> str:
    """Send what was damaged behind the client's back. Returns how it was answered."""
    answers: Counter[str] = Counter()
    for syntax in ENCODINGS:
        ds = image(rng_pixels(20), syntax=syntax)
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        whole = buffer.getvalue()
        meta = dcmread(BytesIO(whole), stop_before_pixels=True).file_meta
        whole = whole[144 + meta.FileMetaInformationGroupLength :]
        left = count // len(ENCODINGS)
        while left:
            with association(receiver.port, syntax) as peer:
                send = peer.dimse.send_msg
                while left and peer.is_established:
                    left -= 1
                    body = damaged(whole, rng)

                    def lie(primitive: Any, context: int, body: bytes = body, send: Any = send) -> None:
                        primitive.DataSet = BytesIO(body)
                        send(primitive, context)

                    peer.dimse.send_msg = lie
                    status = peer.send_c_store(ds).get("Status")
                    answers["ended" if status is None else f"0x{status:04X}"] += 1
    return ", ".join(f"{answer} {times}" for answer, times in sorted(answers.items()))


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, the first ones oftenest, and cut."""
    body = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 5, 40])):
        body[rng.randrange(min(len(body), rng.choice([60, 400, 10**6])))] = rng.choice([0, 255, rng.randrange(256)])
    if rng.random() < 0.3:
        del body[rng.randrange(1, len(body)) :]
    return bytes(body)


def damaged_connections(receiver: Receiver, count: int, rng: random.Random) -> None:
    import socket

    for _ in range(count):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", receiver.port), 5) as peer:
            kind = rng.choice([1, 4, 5, 7, rng.randrange(256)])
            content = rng.randbytes(rng.choice([0, 10, 200, 5000]))
            stated = rng.choice([len(content), len(content) + 7, 2**32 - 1])
            peer.sendall(struct.pack(">BxL", kind, stated) + content)


def rng_pixels(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (side, side))


def killed(folder: Path, kills: int, rng: random.Random) -> list[str]:
    """Four senders, who try again what was not acknowledged. Returns what is wrong in the end."""
    rule = '[[listen.rules]]\ncommand = ["/bin/sh", "-c", "sleep 0.2; ls $1 > $2/names", "x", "{folder}", "{out}"]\n'
    receiver = Receiver(folder, rule)
    images = {n: [image(rng_pixels(200), n, k) for k in range(25)] for n in range(1, 5)}

    def send(series: list[FileDataset]) -> None:
        done = 0
        while done < len(series):
            with contextlib.suppress(Exception), association(receiver.port) as peer:
                while done < len(series) and peer.send_c_store(series[done]).get("Status") == 0:
                    done += 1
            time.sleep(0.05)

    senders = [threading.Thread(target=send, args=(series,)) for series in images.values()]
    for sender in senders:
        sender.start()
    for _ in range(kills):
        time.sleep(rng.uniform(0.1, 0.6))
        receiver.end(signal.SIGKILL)
        receiver.start()
    for sender in senders:
        sender.join()
    wrong, until = ["not looked at"], time.monotonic() + 60
    while wrong and time.monotonic() < until:
        time.sleep(0.5)
        wrong = [f"series {n}: {why}" for n, series in images.items() if (why := wrong_with(folder, n, series))]
    receiver.end()
    return wrong


def wrong_with(folder: Path, number: int, series: list[FileDataset]) -> str:
    """What a series in the folder lacks."""
    place = folder / "in" / "series" / STUDY / f"1.2.3.{number}"
    for ds in series:
        path = place / "instances" / f"{ds.SOPInstanceUID}.dcm"
        if not path.is_file() or dcmread(path).PixelData != ds.PixelData:
            return f"{path.name} is missing or differs"
    record = place / "series.json"
    last = json.loads(record.read_text())["rounds"][-1] if record.is_file() else {}
    return "" if (last.get("instances"), last.get("state")) == (len(series), "done") else "its last round is not done"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damaged", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=600)
    parser.add_argument("--associations", type=int, default=1500)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    # the client's remarks on what it is made to send
    warnings.simplefilter("ignore")
    rng, faults = random.Random(arguments.seed), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        receiver = Receiver(Path(folder))
        started = receiver.memory_mb()
        print(f"damaged data sets: {damaged_data_sets(receiver, arguments.damaged, rng)}")
        damaged_connections(receiver, arguments.connections, rng)
        # those that stopped in the middle hold a place until their time is over
        time.sleep(6)
        small = [image(rng_pixels(64), 9, k) for k in range(60)]
        since = time.monotonic()
        with association(receiver.port) as peer:
            taken = [peer.send_c_store(ds).Status for ds in small]
        print(f"60 slices of 64 x 64: {time.monotonic() - since:.2f} s")
        for _ in range(arguments.associations):
            with association(receiver.port):
                pass
        level = receiver.memory_mb()
        since = time.monotonic()
        with association(receiver.port) as peer:
            taken.append(peer.send_c_store(image(np.zeros((600, 512, 512)), 10)).Status)
        print(f"300 MB in one instance: {time.monotonic() - since:.1f} s")
        print(f"memory: {started} MB at the start, {level} MB, {receiver.memory_mb()} MB after the large one")
        if any(taken) or receiver.process.poll() is not None:
            faults.append("sound instances were refused, or the receiver has ended")
        if receiver.memory_mb() > started + 150:
            faults.append("memory grows")
        if (status := receiver.end()) != 0 or receiver.parts():
            faults.append(f"exit status {status}, {len(receiver.parts())} parts left")
    with tempfile.TemporaryDirectory() as folder:
        faults += killed(Path(folder), arguments.kills, rng)
        print(f"killed {arguments.kills} times")
    print("\n".join(faults) or "nothing wrong")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
