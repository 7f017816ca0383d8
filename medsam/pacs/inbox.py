"""Images on their way from a server into a folder: FOLDER/SERIES/INSTANCE.dcm.

Each file is written whole, after its UIDs were compared with what was asked for. A file that is there already and
says the same UIDs is kept, so that an interrupted transfer continues where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread

from medsam.errors import InputError
from medsam.files import write_whole
from medsam.pacs.query import Match
from medsam.pacs.uids import is_uid
from medsam.pacs.whole import check_whole


@dataclass
class Inbox:
    """The images of one series. listed: those that the server says it has, by UID; they alone are taken.

    kept: were there before. received: came now. Not for several threads.
    """

    folder: Path
    study: str
    series: str
    listed: Mapping[str, Match]
    server: str
    kept: set[str] = field(default_factory=set)
    received: set[str] = field(default_factory=set)
    _copies: int = 0

    def __post_init__(self) -> None:
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritten(error) from error
        self.kept = {uid for uid in self.listed if self._is_there(uid)}

    @property
    def place(self) -> Path:
        """The folder of the series."""
        return self.folder / self.series

    @property
    def missing(self) -> list[str]:
        """The images that are still to come, in the order of the list."""
        return [uid for uid in self.listed if uid not in self.kept and uid not in self.received]

    @property
    def done(self) -> int:
        return len(self.kept) + len(self.received)

    def path(self, instance: str) -> Path:
        """Where an image lies."""
        return self.place / f"{instance}.dcm"

    def new_answer(self) -> None:
        """The server begins anew: what came before may come again."""
        self._copies = 0

    def take(self, dataset: Dataset, write: Callable[[Path], None]) -> None:
        """Take one image. write: puts it, as a DICOM file, under the path it is given.

        Raises InputError when it is not one that was asked for, or is cut off.
        """
        uid = self._checked(dataset)
        if uid in self.received:
            self._copies += 1
            if self._copies > len(self.listed):
                raise self._error("sends the same images again and again")
            return
        if uid in self.kept:
            return
        try:
            with write_whole(self.path(uid)) as part:
                write(part)
        # a full disk is no fault of the server's
        except OSError as error:
            raise self._unwritten(error) from error
        self.received.add(uid)

    def check_complete(self) -> None:
        """Raise InputError when images are missing."""
        if missing := self.missing:
            raise self._error(
                f"did not send {len(missing)} of the {len(self.listed)} images of series {self.series} that it lists; "
                "what came is kept. Run the command again"
            )

    def _checked(self, dataset: Dataset) -> str:
        uids = [_uid(dataset, key) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        if not all(map(is_uid, uids)):
            raise self._error("sent an image whose study, series or instance UID is missing or is none")
        if uids[:2] != [self.study, self.series]:
            raise self._error("sent an image of another series than was asked for")
        if uids[2] not in self.listed:
            raise self._error(
                "sent an image that it did not list: the series may still be arriving there. Wait until it is "
                "complete, and run the command again"
            )
        check_whole(dataset, f"server {self.server}")
        return uids[2]

    def _is_there(self, uid: str) -> bool:
        path = self.path(uid)
        if not path.is_file():
            return False
        try:
            found = dcmread(path)
            check_whole(found, path.name)
        # a file that cannot be read, or was cut off since, is fetched again
        except Exception:
            return False
        uids = [_uid(found, key) for key in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        return uids == [self.study, self.series, uid]

    def _unwritten(self, error: OSError) -> InputError:
        return InputError(f"{self.place} cannot be written: {error.strerror or type(error).__name__}.")

    def _error(self, text: str) -> InputError:
        return InputError(f"Server {self.server} {text}.")


def _uid(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "")
    # a value of the wrong kind
    except Exception:
        return ""
