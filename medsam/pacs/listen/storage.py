"""C-STORE: whether an instance is taken, and under which name.

The sender's words are judged, not believed: the data set that came has to name the instance that the request names, and
its UIDs have to be some before they become names of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medsam.errors import InputError
from medsam.io.dicom.read import quiet, read_dataset
from medsam.io.dicom.tags import text
from medsam.pacs.listen.incoming import CANNOT_UNDERSTAND, WRONG_CLASS, Part, Refused
from medsam.pacs.listen.names import SeriesKey
from medsam.pacs.listen.spool import Spool
from medsam.pacs.uids import is_uid
from medsam.pacs.whole import cut_off_within

_WANTED = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
_PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)


class Request(NamedTuple):
    """What a C-STORE request says. sender: the association."""

    sop_class: str
    instance: str
    sender: Hashable


class Storage:
    """Takes instances into the folder. For all threads.

    arrived: called with the series, the sender, and whether the instance is new.
    """

    def __init__(self, spool: Spool, arrived: Callable[[SeriesKey, Hashable, bool], None]) -> None:
        self._spool, self._arrived = spool, arrived

    def store(self, part: Part, request: Request) -> bool:
        """Take a complete data set. Returns whether it is new; False for one that was there with the same content.

        Raises Refused. The part is discarded unless it is taken.
        """
        try:
            path = part.complete()
            key = _checked(path, request)
            there = self._spool.place(part, key, request.instance)
            if there is not None and not same_content(path, there):
                raise Refused(CANNOT_UNDERSTAND | 1, "another instance of this UID is here; the first one is kept")
            self._arrived(key, request.sender, there is None)
            return there is None
        except OSError as error:
            raise Refused(0xA701, "it cannot be written") from error
        finally:
            part.discard()


def _checked(path: Path, request: Request) -> SeriesKey:
    """The series of an instance. Raises Refused for a damaged one, and where request and data set differ."""
    try:
        # all elements are gone through, large values without being read
        dataset = read_dataset(path, "the instance", defer_size=2**16)
        sop_class, instance, study, series = (text(dataset, keyword) or "" for keyword in _WANTED)
    except InputError as error:
        raise Refused(CANNOT_UNDERSTAND, "the data set is damaged") from error
    if cut_off_within(dataset, path.stat().st_size) is not None:
        raise Refused(CANNOT_UNDERSTAND, "the data set is cut off")
    if sop_class != request.sop_class:
        raise Refused(WRONG_CLASS, "(0008,0016) SOP Class UID is not that of the request")
    if instance != request.instance:
        raise Refused(WRONG_CLASS, "(0008,0018) SOP Instance UID is not that of the request")
    for tag, uid in (("(0008,0018) SOP Instance", instance), ("(0020,000D) Study Instance", study)):
        _check_uid(tag, uid)
    _check_uid("(0020,000E) Series Instance", series)
    return SeriesKey(study, series)


def _check_uid(tag: str, uid: str) -> None:
    if not is_uid(uid):
        raise Refused(CANNOT_UNDERSTAND, f"{tag} UID is missing or is no UID")


def same_content(one: Path, other: Path) -> bool:
    """Whether two files hold one data set: the same bytes behind the file meta information, or the same elements.

    A sender may choose another uncompressed encoding the second time. Damaged files are equal to none.
    """
    try:
        with quiet():
            (first, a), (second, b) = _body(one), _body(other)
            if first == second and a == b:
                return True
            if not {first, second} <= set(_PLAIN):
                return False
            return _elements(one) == _elements(other)
    # whatever a damaged file makes the parser do
    except Exception:
        return False


def _body(path: Path) -> tuple[str, bytes]:
    """The transfer syntax, and a digest of the bytes of the data set."""
    with path.open("rb") as file:
        meta = dcmread(file, stop_before_pixels=True, specific_tags=[], force=False).file_meta
        # (0002,0000): what follows it, up to the data set; our own files have it right
        file.seek(132 + 12 + meta.FileMetaInformationGroupLength)
        return str(meta.TransferSyntaxUID), hashlib.file_digest(file, "sha256").hexdigest().encode()


def _elements(path: Path) -> Dataset:
    """Without group lengths, which an encoding may have or not."""
    found = dcmread(path)
    return Dataset({tag: found[tag] for tag in list(found.keys()) if tag.element != 0})
