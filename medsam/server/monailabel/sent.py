"""Sessions: images that clients sent, from then until they have not been used for long.

    sent/TOKEN/             an image, sorted as an upload (`cases.intake`)
    sent/TOKEN.json         whose it is, what it is called, when it was used last, and for how long it is kept
    sent/.part-TOKEN/       one that is still coming

They are no cases: nobody finds them in a list, and when they go nothing is left. A client that asks for one that is
gone is told so (404), and sends the image again when its user opens it again; so they are kept for hours, each use
begins that time anew, and a server that is started again knows them still.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medsam.errors import MedSAMError
from medsam.files import write_whole
from medsam.server.cases.found import FoundCase, ScanFiles
from medsam.server.cases.uploads import Uploads
from medsam.store.readers import Reader

# of one reader at a time: the one used longest ago makes room
_MOST = 32
# uses that are nearer to each other than this are one
_AGAIN_S = 30.0
_SHORTEST_S = 60.0


class NoSession(MedSAMError):
    """There is none of that id, or it is another reader's, or its time is over."""

    status = 404

    def __init__(self, message: str = "", **options: Any) -> None:
        super().__init__(message or "There is no such session, or its time is over: load the image again.", **options)


@dataclass(frozen=True)
class SentImage:
    """reader: whose it is. name: what the client calls the file. used: seconds of the clock; kept_s: after that."""

    token: str
    reader: int
    name: str
    found: FoundCase
    used: float
    kept_s: float

    def to_dict(self) -> dict[str, Any]:
        return {**{key: value for key, value in vars(self).items() if key != "token"}, "found": self.found.to_dict()}

    @property
    def ends(self) -> float:
        return self.used + self.kept_s


class Sent:
    """Made for a folder, where those of before are found again. Methods block; any thread may call them.

    kept_s: the longest that one is kept after its last use, and how long where nothing else is asked for.
    """

    def __init__(self, folder: Path, kept_s: float, clock: Callable[[], float] = time.time) -> None:
        self.uploads = Uploads(folder)
        self._kept_s, self._clock, self._lock = kept_s, clock, threading.RLock()
        self._images = {one.token: one for one in _read(folder)}
        self.uploads.sweep(set(self._images))
        for entry in folder.iterdir():
            # whole, and its server died before it could say whose it is
            if entry.is_dir() and entry.name not in self._images:
                self.uploads.remove(entry.name)
        for token in [token for token in self._images if not self.uploads.place(token).is_dir()]:
            self._forget(token)

    def keep(self, part: Path, found: FoundCase, name: str, reader: Reader, kept_s: float | None) -> SentImage:
        """What has come to `part`, a folder of `uploads`, is a session of a reader from now on."""
        token = self.uploads.keep(part)
        seconds = self._kept_s if kept_s is None else min(max(kept_s, _SHORTEST_S), self._kept_s)
        image = SentImage(token, reader.id, name, found, self._clock(), seconds)
        with self._lock:
            mine = sorted((one for one in self._images.values() if one.reader == reader.id), key=lambda one: one.used)
            for old in mine[: max(0, len(mine) + 1 - _MOST)]:
                self.remove(old.token)
            self._write(image)
        self.uploads.known(token)
        return image

    def get(self, token: str, reader: Reader) -> SentImage:
        """A reader's own, used now. Raises NoSession."""
        with self._lock:
            image = self._images.get(token)
            if image is None or image.reader != reader.id or image.ends <= self._clock():
                raise NoSession(parameter="session_id")
            if self._clock() - image.used > _AGAIN_S:
                image = replace(image, used=self._clock())
                self._write(image)
            return image

    def files(self, image: SentImage) -> ScanFiles:
        """Where it lies."""
        return ScanFiles(self.uploads.place(image.token), image.found)

    def remove(self, token: str) -> None:
        """For good."""
        with self._lock:
            self._forget(token)
            self.uploads.remove(token)

    def retire(self) -> list[str]:
        """Remove those whose time is over: their tokens."""
        with self._lock:
            over = [one.token for one in self._images.values() if one.ends <= self._clock()]
            for token in over:
                self.remove(token)
            return over

    def _write(self, image: SentImage) -> None:
        with write_whole(self._told(image.token)) as path:
            path.write_text(json.dumps(image.to_dict()))
        self._images[image.token] = image

    def _forget(self, token: str) -> None:
        self._images.pop(token, None)
        self._told(token).unlink(missing_ok=True)

    def _told(self, token: str) -> Path:
        return self.uploads.folder / f"{token}.json"


def _read(folder: Path) -> Iterator[SentImage]:
    """What a server before this one has kept."""
    for path in folder.glob("*.json"):
        try:
            document = json.loads(path.read_text())
            found = FoundCase.from_dict(document.pop("found"))
            yield SentImage(token=path.stem, found=found, **document)
        except (OSError, ValueError, TypeError, KeyError):
            # half of one, or of a later server: the image goes with it
            path.unlink(missing_ok=True)
