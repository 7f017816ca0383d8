"""A data set on its way from an association to the disk: a file of its own, counted as it grows.

pynetdicom would keep it in memory, whatever its size, or in the system's folder for temporary files, where one that a
dropped connection leaves behind would stay. Here it lies in the receiver's own folder, which is emptied at each start.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

# (0000,0900) of a C-STORE response, PS3.4 B.2.3
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
WRONG_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Refused(Exception):
    """An instance that is not taken. status: as above. comment: (0000,0902), at most 64 characters, no patient."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment[:64]


class TooMuch(Exception):
    """A sender that goes beyond what an instance may be: the association ends."""


class Space:
    """How many bytes the folder may hold, and holds; for all threads.

    quota: bytes. keep_free: bytes of the disk that are left to others.
    """

    def __init__(self, folder: Path, quota: int, keep_free: int) -> None:
        self.folder, self.quota, self.keep_free = folder, quota, keep_free
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return self._used

    def add(self, size: int) -> None:
        """Bytes are there, whether there is room or not."""
        with self._lock:
            self._used += size

    def take(self, size: int) -> bool:
        """Reserve bytes. False when the quota or the disk has no room for them."""
        with self._lock:
            if not self.has_room(size):
                return False
            self._used += size
            return True

    def has_room(self, size: int) -> bool:
        """Whether so many bytes could come."""
        return self._used + size <= self.quota and shutil.disk_usage(self.folder).free - size >= self.keep_free

    def give(self, size: int) -> None:
        """Bytes have left."""
        with self._lock:
            self._used = max(0, self._used - size)


class Part(BytesIO):
    """Takes the bytes of a data set from pynetdicom, in whose eyes it is a buffer, and puts them into a file.

    path: where they go. header: what comes before them in the file, called at the first ones; may raise Refused.
    limit: bytes of one. refused: set when it is not taken, after which the rest is let through unseen: the sender is
    told at its end.
    """

    def __init__(self, path: Path, header: Callable[[], bytes], space: Space, limit: int) -> None:
        super().__init__()
        self.path, self.size = path, 0
        self.refused: Refused | None = None
        self._header, self._space, self._limit = header, space, limit
        self._reserved = 0
        self._file: BinaryIO | None = None
        self._over = False

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Raises TooMuch beyond the limit, and after `discard`."""
        self.size += len(data)
        if self.size > self._limit or self._over:
            raise TooMuch
        if self.refused is None:
            self._keep(data)
        return len(data)

    def complete(self) -> Path:
        """Everything is there. Returns the file. Raises Refused when there was no room, or nothing came."""
        self._close()
        if self.refused is not None:
            raise self.refused
        if not self.size:
            raise Refused(CANNOT_UNDERSTAND, "the data set is empty")
        return self.path

    def kept(self) -> int:
        """The file has got a name and stays: its bytes are no longer this one's to give back. Returns them."""
        reserved, self._reserved = self._reserved, 0
        return reserved

    def discard(self) -> None:
        """Nothing of it is wanted any more. May be called at any time, by any thread, more than once."""
        self._over = True
        self._close()
        self.path.unlink(missing_ok=True)
        self._space.give(self.kept())

    def _keep(self, data: bytes) -> None:
        try:
            if self._file is None:
                self._file = self.path.open("xb")
                data = self._header() + data
            if self._space.take(len(data)):
                self._reserved += len(data)
                self._file.write(data)
                return
            self.refused = Refused(OUT_OF_RESOURCES, "no room: the quota is reached or the disk is full")
        except OSError:
            self.refused = Refused(OUT_OF_RESOURCES, "it cannot be written: the disk is full or gone")
        except Refused as refused:
            self.refused = refused
        self._close()
        self.path.unlink(missing_ok=True)
        self._space.give(self.kept())

    def _close(self) -> None:
        if self._file is not None and not self._file.closed:
            try:
                self._file.close()
            except OSError:
                self.refused = Refused(OUT_OF_RESOURCES, "the disk is full")
