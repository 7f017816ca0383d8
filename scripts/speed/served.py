"""A `medsam serve` of its own for the scripts that measure or break one; scans made for them; tables."""

from __future__ import annotations

import atexit
import json
import os
import platform
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import medsam
from medsam.client.client import Client, RemoteCase
from medsam.errors import MedSAMError

ROWS = 512
SPACING_MM = (2.0, 0.8, 0.8)


class Server:
    """The process. Started again after `kill`, with the same store and at the same port.

    users: so many readers, "reader0" ..., each with a token; 0: the one local reader, without a login.
    """

    def __init__(
        self, folder: Path, data: Sequence[Path], model: str = "litemedsam", users: int = 0, options: Sequence[str] = ()
    ) -> None:
        self.store = folder / "store"
        self.tokens = add_readers(self.store, users)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "server.log"
        self._command = [sys.executable, "-m", "medsam.cli.main", "serve", "--port", str(self.port)]
        self._command += ["--store", str(self.store), "--model", model, *options]
        for one in data:
            self._command += ["--data", str(one)]
        # seconds from the start of the process to its first answer
        self.started_s = self.start()

    def start(self) -> float:
        begun = time.perf_counter()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        # whatever ends this script
        atexit.register(self.process.kill)
        while self.process.poll() is None:
            try:
                self.client().close()
            except MedSAMError:
                time.sleep(0.1)
            else:
                return time.perf_counter() - begun
        raise SystemExit(f"The server ended with {self.process.returncode}: {self._log.read_text()[-2000:]}")

    def client(self, number: int = 0) -> Client:
        """A client of reader `number`."""
        return Client(self.url, self.tokens[number] if self.tokens else None)

    def kill(self) -> None:
        """As a power cut does."""
        for child in children(self.process.pid):
            # what a parent's death leaves; a machine that goes down takes all
            os.kill(child, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def memory_mib(self) -> dict[str, float]:
        """Resident now: of the server's process, and of those that read scans for it (shared pages counted once)."""
        return {"server": pss_mib(self.process.pid), "loaders": sum(map(pss_mib, children(self.process.pid)))}


def add_readers(store: Path, count: int) -> list[str]:
    """Readers in the store of a server that does not run yet: their tokens."""
    if not count:
        return []
    from medsam.store.readers import Role
    from medsam.store.store import Store

    with Store.open(store, serving=False) as opened:
        users = [opened.add_user(f"reader{number}", Role.READER, secrets.token_hex(8)) for number in range(count)]
        return [opened.add_token(user.id, "script")[1] for user in users]


def children(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def pss_mib(pid: int) -> float:
    """Memory of a process, what it shares with others divided among them; 0 for one that has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(text.split("\nPss:")[1].split()[0]) / 1024


# -- scans ----------------------------------------------------------------------------------------------------


def made_ct(seed: int, slices: int, rows: int = ROWS) -> tuple[medsam.Volume, list[tuple[int, float, float, float]]]:
    """A CT of a body with balls in it, and the balls: (slice, x, y, radius) in pixels of a slice, the largest first."""
    rng = np.random.default_rng(seed)
    k, y, x = np.ogrid[:slices, :rows, :rows]
    body = ((x - rows / 2) / (0.42 * rows)) ** 2 + ((y - rows / 2) / (0.32 * rows)) ** 2 < 1
    array = np.where(np.broadcast_to(body, (slices, rows, rows)), np.int16(40), np.int16(-1000))
    balls = []
    for number in range(6):
        radius = rows * (0.09 - 0.008 * number)
        angle = 2 * np.pi * (number + rng.uniform(0, 0.3)) / 6
        at = (
            int(slices * rng.uniform(0.3, 0.7)),
            float(rows / 2 + 0.22 * rows * np.cos(angle)),
            float(rows / 2 + 0.17 * rows * np.sin(angle)),
        )
        scale = SPACING_MM[0] / SPACING_MM[1]
        inside = ((k - at[0]) * scale) ** 2 + (y - at[2]) ** 2 + (x - at[1]) ** 2 < radius**2
        array[inside] = 130 + 15 * number
        balls.append((*at, radius))
    array = array + rng.normal(0, 12, array.shape).astype(np.int16)
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    return medsam.Volume.from_array(array, affine=affine, modality="CT"), balls


def write_dicom(folder: Path, scan: medsam.Volume) -> None:
    """A CT, axial and int16, as uncompressed DICOM, a file a slice, beside each other. folder: made here."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    origin, (between, down, across) = scan.geometry.affine[:3, 3].tolist(), scan.geometry.spacing_mm
    for k, pixels in enumerate(scan.array):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Made^Up", "1", "", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260101", "120000", "1", ""
        ds.ReferringPhysicianName = ds.PositionReferenceIndicator = ""
        ds.Modality, ds.Manufacturer, ds.SeriesNumber, ds.InstanceNumber = "CT", "made", 1, k + 1
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [*origin[:2], origin[2] + between * k]
        ds.PixelSpacing, ds.SliceThickness = [down, across], between
        ds.Rows, ds.Columns = pixels.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 1
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, 0, "HU"
        ds.PixelData = pixels.astype("<i2").tobytes()
        ds.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def found_case(client: Client, name: str = "", seconds: float = 60.0) -> RemoteCase:
    """The case whose name holds `name`, once the server has indexed it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cases = [case for case in client.cases() if name in case.name]
        if cases:
            return cases[0]
        time.sleep(0.1)
    raise SystemExit(f"The server has no case {name!r} after {seconds:g} s: {client.cases()}")


# -- what was found -------------------------------------------------------------------------------------------


def quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")


def client_row(client: str, step: str, seconds: Sequence[float], slices: int) -> dict[str, str]:
    """A row of docs/results/protocols.csv: how long a step took in a client. slices: of the scan."""
    machine = about_machine()
    return {
        "client": client,
        "step": step,
        "median_s": f"{quantile(list(seconds), 0.5):.3f}",
        "p95_s": f"{quantile(list(seconds), 0.95):.3f}",
        "n": str(len(seconds)),
        "slices": str(slices),
        "date": machine["date"][:10],
        "load": f"{machine['load']:.0f}",
    }


def about_machine() -> dict[str, Any]:
    """What a measurement was made on."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
        "medsam": medsam.__version__,
    }


def report(result: dict[str, Any], rows: Sequence[Sequence[str]], path: Path | None) -> None:
    """A table in Markdown to stdout, and everything as JSON to `path`."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")
