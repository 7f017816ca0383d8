"""Files on their way to a server: what they are, and whether they belong where they would go.

A result (SEG, RTSTRUCT, structured report, presentation state) enters the study of what it was made from and no other,
and a study of the same patient: this is looked up on the server before anything is sent. Patient ids are compared, and
are in no message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from medsam.errors import InputError, counted
from medsam.io.dicom.read import files_below, is_dicom, quiet, read_dataset, syntax_of
from medsam.pacs.cited import cited_images
from medsam.pacs.query import Found, Query
from medsam.pacs.uids import is_uid
from medsam.pacs.whole import check_whole

_SEGMENTATIONS = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.5", "1.2.840.10008.5.1.4.1.1.66.7"}
_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_STATES = "1.2.840.10008.5.1.4.1.1.11."

# of one study
MOST_SERIES = 5_000
# of one series
MOST_IMAGES = 100_000

# PS3.7 annex C, PS3.4 B.2.3, PS3.18 10.5.3
_REASONS = {
    0x0110: "processing failure",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0xA700: "out of resources",
    0xA900: "it does not match its SOP class",
    0xC000: "the server cannot understand it",
    0xC122: "transfer syntax not supported",
}


@dataclass(frozen=True)
class Failure:
    """A file that was not stored, and why."""

    path: Path
    instance: str
    reason: str


class CannotAsk(InputError):
    """The server stores, and answers no questions."""


@dataclass(frozen=True)
class Outgoing:
    """A file to store. studies, sources: what it refers to, if it is a result (`derived`): studies, and series of its
    own one.

    images: of a SEG or RTSTRUCT that names no series.
    """

    path: Path
    study: str
    series: str
    instance: str
    sop_class: str
    syntax: str
    size: int
    derived: bool = False
    studies: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    patient_id: str = field(default="", repr=False)

    def dataset(self) -> Dataset:
        """The whole file, with the file meta information that a server wants. Raises InputError."""
        dataset = read_dataset(self.path, self.path.name)
        check_whole(dataset, self.path.name)
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = UID(self.syntax)
        dataset.file_meta.MediaStorageSOPClassUID = UID(self.sop_class)
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(self.instance)
        if getattr(dataset, "preamble", None) is None:
            dataset.preamble = b"\0" * 128
        return dataset


def outgoing(paths: Sequence[Path]) -> list[Outgoing]:
    """The DICOM files of paths and of the folders among them, images before results, each one once.

    In a folder, files that are not DICOM are passed over. Raises InputError for a path that is neither DICOM nor a
    folder, and for a file that is damaged or lacks a UID.
    """
    found: dict[str, Outgoing] = {}
    for path in _files(paths):
        # a header that is against the standard is remarked on by pydicom, with what stands there
        with quiet():
            one = _outgoing(path)
        other = found.setdefault(one.instance, one)
        if other is not one and other.path.read_bytes() != path.read_bytes():
            raise InputError(f"{other.path.name} and {path.name} differ and have one SOP Instance UID.")
    if not found:
        raise InputError("There is no DICOM file to store.")
    return sorted(found.values(), key=lambda one: (one.derived, one.study, one.series, str(one.path)))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (file for file in files_below(path) if is_dicom(file))
        elif not path.is_file():
            raise InputError(f"{path} does not exist, or is no file.")
        elif not is_dicom(path):
            raise InputError(f"{path} is not a DICOM file, and a server stores nothing else.")
        else:
            yield path


def _outgoing(path: Path) -> Outgoing:
    dataset = read_dataset(path, path.name)
    check_whole(dataset, path.name)
    keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    uids = [_text(dataset, key) for key in keys]
    for key, uid in zip(keys, uids, strict=True):
        if not is_uid(uid):
            raise InputError(f"{path.name}: {key} is missing, or is no UID.")
    study, series, instance, sop_class = uids
    derived = sop_class in _SEGMENTATIONS or sop_class == _STRUCTURE_SET or sop_class.startswith((_REPORTS, _STATES))
    studies, sources = _references(dataset, study) if derived else (set(), set())
    drawn = sop_class in _SEGMENTATIONS or sop_class == _STRUCTURE_SET
    images = frozenset(cited_images(dataset, path.name)) if drawn and not sources else frozenset()
    return Outgoing(
        path,
        study,
        series,
        instance,
        sop_class,
        str(syntax_of(dataset)),
        path.stat().st_size,
        derived,
        frozenset(studies),
        frozenset(sources),
        images,
        _text(dataset, "PatientID"),
    )


def _references(dataset: Dataset, own: str) -> tuple[set[str], set[str]]:
    """The studies that a result refers to, and the series of its own study."""
    studies, series = set[str](), set[str]()

    def add(study: str, references: list[Dataset]) -> None:
        studies.add(study)
        if study == own:
            series.update(_text(one, "SeriesInstanceUID") for one in references)

    if of_this_study := _items(dataset, "ReferencedSeriesSequence"):
        add(own, of_this_study)
    for key in ("StudiesContainingOtherReferencedInstancesSequence", "CurrentRequestedProcedureEvidenceSequence"):
        for item in _items(dataset, key):
            add(_text(item, "StudyInstanceUID"), _items(item, "ReferencedSeriesSequence"))
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        for item in _items(frame, "RTReferencedStudySequence"):
            # here, and only here, a study is named as if it were an instance
            add(_text(item, "ReferencedSOPInstanceUID"), _items(item, "RTReferencedSeriesSequence"))
    return studies, series - {""}


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        return list(dataset.get(keyword) or [])
    # a damaged sequence
    except Exception:
        return []


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").strip()
    except Exception:
        return ""


def check_own_study(files: Sequence[Outgoing]) -> list[str]:
    """Raise InputError for a result that was made from another study than it says it belongs to, and for one study
    under several patient ids. Returns what the user should know.
    """
    notes, patients = [], dict[str, str]()
    for file in files:
        if patients.setdefault(file.study, file.patient_id) != file.patient_id:
            raise InputError(
                f"{file.path.name} says another (0010,0020) Patient ID than other files of its study. Nothing was sent."
            )
        if not file.derived:
            continue
        report = file.sop_class.startswith(_REPORTS)
        # a report may compare with earlier studies
        if file.studies and (file.study not in file.studies or (len(file.studies) > 1 and not report)):
            raise InputError(
                f"{file.path.name} refers to images of another study than its own, (0020,000D) Study Instance UID. It "
                "would be shown with images it was not made from, so nothing was sent."
            )
        if not file.studies and not file.images:
            notes.append(f"{file.path.name} cites neither series nor images, so only its study is compared.")
    return notes


def check_there(files: Sequence[Outgoing], find: Callable[[Query], Found], server: str) -> list[str]:
    """Compare files with what the server has: results find their study and source series there (or among `files`), and
    nothing enters a study of another patient. Returns what the user should know.

    Raises InputError when something does not fit; nothing was sent then.
    """
    coming = {file.series for file in files if not file.derived}
    by_study: dict[str, list[Outgoing]] = {}
    for file in files:
        by_study.setdefault(file.study, []).append(file)
    try:
        for members in by_study.values():
            _check_study(members, coming, find, server)
    except CannotAsk:
        return [f"Server {server} answers no searches: it was not looked up whether the study is there."]
    return []


def _check_study(members: Sequence[Outgoing], coming: set[str], find: Callable[[Query], Found], server: str) -> None:
    """`check_there` for the files of one study. coming: the series whose images are sent along."""
    study, name = members[0].study, members[0].path.name
    found = find(Query("study", {"StudyInstanceUID": study}, 1)).matches
    if found and found[0].patient_id.strip() != members[0].patient_id:
        raise InputError(
            f"{name}: server {server} has this study under another (0010,0020) Patient ID. Nothing was sent."
        )
    results = [file for file in members if file.derived]
    sources = set[str]().union(*(file.sources for file in results)) - coming
    # images of this study that are sent along
    along = {file.instance for file in members if not file.derived}
    images = set[str]().union(*(file.images for file in results)) - along
    if not results or (not (sources or images) and len(results) < len(members)):
        return
    name = results[0].path.name
    if not found:
        raise InputError(
            f"{name}: server {server} does not have the study this was made from. Store its images first, or together "
            "with it."
        )
    lost = _lost(study, sources, images, find)
    if lost:
        raise InputError(
            f"{name}: {lost} that it refers to cannot be found in its study on server {server}. Nothing was sent."
        )


def _lost(study: str, series: set[str], images: set[str], find: Callable[[Query], Found]) -> str:
    """How many series and images are not in a study on the server, in words; "" where all are."""
    there = {match.series for match in find(Query("series", {"StudyInstanceUID": study}, MOST_SERIES)).matches}
    if absent := series - there:
        return counted(len(absent), "series", "series")
    left = set(images)
    for one in sorted(there) if images else ():
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": one}
        left -= {match.instance for match in find(Query("instance", keys, MOST_IMAGES)).matches}
    return counted(len(left), "image") if left else ""


def reason_text(code: Any) -> str:
    """A status of C-STORE, or a failure reason of STOW-RS, for people."""
    try:
        number = int(code)
    except (TypeError, ValueError):
        return "no reason given"
    group = number & 0xF000 if 0xC000 <= number <= 0xCFFF else number & 0xFF00 if 0xA700 <= number <= 0xA9FF else number
    meaning = _REASONS.get(number) or _REASONS.get(group)
    return f"0x{number:04X}" + (f", {meaning}" if meaning else "")
