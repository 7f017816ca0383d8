"""A receiver as a whole, in a thread, and images to send to it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from dicom_files import SERIES, STUDY, dataset, slices
from pydicom import Dataset
from senders import send

from medsam.errors import InputError
from medsam.pacs.listen.config import ListenSettings
from medsam.pacs.listen.events import Events
from medsam.pacs.listen.names import SeriesKey
from medsam.pacs.listen.service import Receiver
from medsam.pacs.settings import Dimse, Server

KEY = SeriesKey(STUDY, SERIES)
MAIN = Server("main", dimse=Dimse("127.0.0.1", 1, "MAIN"))
QUIET = 30.0


def images(count: int = 3, series: str = SERIES, **tags: Any) -> list[Dataset]:
    return [
        dataset(
            pixels,
            SeriesInstanceUID=series,
            SOPInstanceUID=f"{series}.{k}",
            ImagePositionPatient=[0, 0, 2 * k],
            InstanceNumber=k + 1,
            **tags,
        )
        for k, pixels in enumerate(slices(count, 16, 16))
    ]


class Running:
    """A receiver in a thread, whose clock goes on when a test says so.

    sent: (server, names of files). said: lines of its log. refuse: why a server says no.
    """

    def __init__(self, folder: Path, deliver: Any = None, **options: Any) -> None:
        self.sent: list = []
        self.said: list[dict] = []
        self.refuse: list[str] = []
        self.ahead = self.skipped = 0.0
        settings = {"port": 0, "calling": ("CT1", "CT2"), "quiet_s": QUIET, "keep_free": 0, "timeout_s": 5.0}
        settings |= {"servers": {"main": MAIN}} | options
        events = Events(as_json=True, write=lambda line: self.said.append(json.loads(line)))
        self.receiver = Receiver(
            ListenSettings(folder, **settings),
            events,
            deliver or self._send,
            clock=lambda: time.monotonic() + self.skipped,
            now=lambda: time.time() + self.ahead,
        )
        self.receiver.start(retry=options.get("retry", False))
        self.thread = threading.Thread(target=self.receiver.loop)
        self.thread.start()

    def _send(self, server, files) -> None:
        if self.refuse:
            raise InputError(self.refuse[0])
        self.sent.append((server.name, [path.read_bytes() for path in files]))

    @property
    def port(self) -> int:
        return self.receiver.port

    def send(self, some, **options) -> None:
        """Instances come, and then nothing for the quiet time."""
        assert set(send(self.port, some, **options)) == {0}
        self.skipped += QUIET

    def pass_time(self, seconds: float) -> None:
        """As every clock says."""
        self.ahead, self.skipped = self.ahead + seconds, self.skipped + seconds

    def rounds(self, key: SeriesKey = KEY) -> list[Any]:
        return self.receiver.spool.find(key).rounds()

    def heard(self, event: str) -> list[dict]:
        return [one for one in self.said if one["event"] == event]

    def until(self, true, seconds: float = 15.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"it did not come about in time: {self.said}"
            self.receiver._wake.set()
            time.sleep(0.01)

    def stop(self) -> None:
        self.receiver.end()
        self.thread.join(10)
        self.receiver.stop()
