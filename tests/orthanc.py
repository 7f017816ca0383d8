"""Orthanc, the PACS of the tests: on the loopback, in a folder of its own, ended by its own process number."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from medsam.pacs.settings import Dimse, Server

INSTALL = "apt-get install orthanc orthanc-dicomweb"
PLUGINS = Path("/usr/share/orthanc/plugins")
READY_S = 60.0


@dataclass(frozen=True)
class Orthanc:
    """A running server. user, password: of HTTP; empty: none wanted."""

    http: int
    dicom: int
    folder: Path
    aet: str = "ORTHANC"
    user: str = ""
    password: str = ""

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def server(self, **changed) -> Server:
        """How the settings file would describe it."""
        given = {
            "dicomweb": self.dicomweb,
            "dimse": Dimse("127.0.0.1", self.dicom, self.aet),
            "user": self.user or None,
            "timeout_s": 20.0,
        }
        return Server("main", **(given | changed))

    def rest(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        """Orthanc's own interface. Raises urllib.error.HTTPError."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", body, method=method)
        if self.user:
            both = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {both}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read()

    def empty(self) -> None:
        """Remove every study."""
        for study in json.loads(self.rest("/studies")):
            self.rest(f"/studies/{study}", "DELETE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program() -> str:
    """The program; skips the test where it is not installed."""
    found = shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None or not list(PLUGINS.glob("libOrthancDicomWeb*")):
        pytest.skip(f"no Orthanc with DICOMweb: {INSTALL}")
    return found


@contextmanager
def running(folder: Path, user: str = "", password: str = "", known: dict | None = None) -> Iterator[Orthanc]:
    """Orthanc in `folder`. user, password: without them it answers everybody. known: its `DicomModalities`."""
    binary = program()
    server = Orthanc(free_port(), free_port(), folder, user=user, password=password)
    everybody = not user
    config = {
        "Name": "tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": server.http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": bool(user),
        "RegisteredUsers": {user: password} if user else {},
        "DicomAet": server.aet,
        "DicomPort": server.dicom,
        "DicomCheckCalledAet": True,
        "DicomModalities": known or {},
        **dict.fromkeys(("DicomAlwaysAllowStore", "DicomAlwaysAllowFind", "DicomAlwaysAllowGet"), everybody),
        "DicomAlwaysAllowMove": everybody,
        # the SOP class of label maps is newer than it
        "UnknownSopClassAccepted": True,
        "Plugins": [str(PLUGINS)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }
    settings = folder / "orthanc.json"
    settings.write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, str(settings)], stdout=log, stderr=log, cwd=folder)
        try:
            _wait(server, process)
            yield server
        finally:
            # what it keeps is thrown away, and ending in order takes it seconds
            process.kill()
            process.wait()


def _wait(server: Orthanc, process: subprocess.Popen) -> None:
    """Until it answers over both protocols."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"Orthanc ended: {(server.folder / 'log').read_text(errors='replace')[-2000:]}")
        try:
            server.rest("/system")
            server.rest("/dicom-web/studies?limit=1")
            socket.create_connection(("127.0.0.1", server.dicom), 1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"Orthanc did not answer within {READY_S} s")
