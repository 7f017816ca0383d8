"""A server on the loopback that stores into a folder, and what it said."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from running import Running
from senders import Peer

from medsam.pacs.listen.incoming import Part
from medsam.pacs.listen.messages import Access, Hooks
from medsam.pacs.listen.rules import Rule
from medsam.pacs.listen.server import Server
from medsam.pacs.listen.spool import Spool
from medsam.pacs.listen.storage import Storage


@dataclass
class Stored:
    """arrived: (series, new). transfers: whether one was under way. refused, gone: what the server told."""

    server: Server
    spool: Spool
    arrived: list = field(default_factory=list)
    transfers: list = field(default_factory=list)
    refused: list = field(default_factory=list)
    gone: list = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    def files(self) -> list[Path]:
        return sorted((self.spool.folder / "series").rglob("*.dcm"))

    def parts(self) -> list[Path]:
        return list((self.spool.folder / ".incoming").iterdir())


@pytest.fixture
def serve(tmp_path):
    """Starts a server with access as given; quota and limit in bytes."""
    started: list[Stored] = []

    def start(*, quota: int = 2**30, limit: int = 2**24, keep_free: int = 0, **access: Any) -> Stored:
        spool = Spool(tmp_path / f"folder{len(started)}", quota, keep_free)
        storage = Storage(spool, lambda key, sender, new: found.arrived.append((key, new)))
        hooks = Hooks(
            lambda header: Part(spool.part_path(), header, spool.space, limit),
            lambda part, request: storage.store(part, request) and None,
            lambda sender, under_way: found.transfers.append(under_way),
            lambda sender: found.gone.append(sender),
            lambda why, titles: found.refused.append(why),
        )
        options = {"aet": "MEDSAM", "calling": ("CT1", "CT2"), "port": 0, "timeout_s": 5.0} | access
        found = Stored(Server(Access(**options), hooks), spool)
        found.server.start()
        started.append(found)
        return found

    yield start
    for one in started:
        one.server.stop(1)
        one.server.sweep()
        one.spool.close()


@pytest.fixture
def peer():
    made = []

    def connect(port: int) -> Peer:
        made.append(Peer(port))
        return made[-1]

    yield connect
    for one in made:
        one.socket.close()


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("medsam.pacs.listen.service._LOOK_S", 0.05)
    running: list[Running] = []

    def start(*rules: Rule, folder: str = "folder", **options: Any) -> Running:
        running.append(Running(tmp_path / folder, rules=rules, **options))
        return running[-1]

    yield start
    for one in running:
        if one.thread.is_alive():
            one.stop()


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    end = time.monotonic() + 10
    while any("Acceptor" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < end, "an association goes on"
        time.sleep(0.01)
