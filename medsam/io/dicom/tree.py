"""What lies in a folder of DICOM files: scans, SEG and RTSTRUCT, and whose they are.

Patients are distinguished by (0010,0020) Patient ID with (0010,0021) Issuer of Patient ID, else by (0010,0010)
Patient's Name, which are compared and forgotten: what leaves this module is a number in order of first appearance, and
a pseudonym where the caller makes one. One person under two numbers is not guessed, with one exception: the same image
is of the same person, so series that share instances are.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydicom import Dataset

from medsam.errors import InputError, counted
from medsam.io.dicom.label_header import LABEL_KEYWORDS, LabelHeader, structures_of
from medsam.io.dicom.read import files_below, is_dicom, quiet, read_dataset
from medsam.io.dicom.rtstruct import RTSTRUCT_CLASSES
from medsam.io.dicom.seg import SEG_CLASSES
from medsam.io.dicom.source import Source, same_bytes
from medsam.io.dicom.tags import digest_of, known_non_scan, modality_of, sop_class, text, uid_of, whole_number
from medsam.progress import ProgressCallback

Kind = Literal["image", "seg", "rtstruct", "other"]
# an image that is no scan of its own: a scout, on which slices are planned, or a picture of a screen
Sort = Literal["scan", "localizer", "capture"]

_WANTED = [
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "ImagePositionPatient",
    "Modality",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "Rows",
    "Columns",
    "NumberOfFrames",
    *LABEL_KEYWORDS,
]
_THREADS, _BLOCK = 8, 256
# Secondary Capture Image Storage, and those of several frames
_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"

# what takes the place of a name when a scan is made anonymous
_PLACEHOLDERS = frozenset(
    (
        *("", "anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "unknown", "none", "na", "x"),
        *("xxx", "patient", "patientid", "noid", "noname", "removed", "unnamed", "test"),
    )
)


@dataclass(eq=False)
class TreeSeries:
    """One series: a scan, a SEG or an RTSTRUCT.

    kind: what it is. uid: (0020,000E). patient: 1, 2, ... in order of first appearance. study: 1, 2, ... likewise.
    files: of a scan its images, without copies; a SEG or RTSTRUCT is one file and one entry each. modality: DICOM
    code or None. instances: (0008,0018) -> file. sort: of images, what they are. derived: they were made from others.
    positions: where they lie, to be counted. header: of a SEG or RTSTRUCT.
    """

    kind: Kind
    uid: str
    patient: int
    study: int
    modality: str | None
    frame_of_reference: str | None
    files: list[Path] = field(default_factory=list)
    instances: dict[str, Path] = field(default_factory=dict)
    sort: Sort = "scan"
    derived: bool = False
    positions: set[str] = field(default_factory=set)
    header: LabelHeader | None = None

    @property
    def places(self) -> int:
        """How many different (0020,0032) Image Position (Patient) its images have; one without counts as different."""
        return len(self.positions)

    @property
    def drawn(self) -> LabelHeader:
        """The header of a SEG or RTSTRUCT."""
        if self.header is None:
            raise ValueError("a series of images has no header of a label")
        return self.header


@quiet()
def dicom_kind(path: Path) -> Kind | None:
    """What a DICOM file holds, or None for a file that is not DICOM. Raises InputError for a damaged one."""
    dataset = _header(path, path.name)
    return None if dataset is None else _kind(dataset)


@quiet()
def structure_names(path: Path) -> list[str]:
    """The structures of a SEG or RTSTRUCT as its reader names them, without its masks.

    Raises InputError for other files, and for damaged ones.
    """
    dataset = _header(path, path.name)
    if dataset is None or _kind(dataset) not in ("seg", "rtstruct"):
        raise InputError(f"{path.name} is neither a DICOM SEG nor an RTSTRUCT.")
    return structures_of(dataset, path.name)


@quiet()
def patient_digest(path: Path) -> str | None:
    """A digest of whose scan a DICOM file, or the first in a folder, says it is; None where it does not say.

    For comparing: equal digests are one person. A word such as "anonymous" is no identity.
    """
    try:
        first = next((file for file in files_below(path) if is_dicom(file)), None) if path.is_dir() else path
        dataset = None if first is None or not first.is_file() else _header(first, first.name)
    except (InputError, OSError):  # reading it as a scan reports it
        return None
    stated = None if dataset is None else _stated_person(dataset)
    return None if stated is None else digest_of(stated[1])


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file of images says of itself, for whoever follows a folder that changes.

    series: its UID, "" where there is none. person: digest of whose it says it is, "" where it does not say.
    frames: stated, 1 where it is not. rows, columns: 0 where they are not stated.
    """

    series: str
    person: str
    modality: str | None
    number: int | None
    sort: Sort
    rows: int
    columns: int
    frames: int


@quiet()
def image_header(path: Path) -> ImageHeader | None:
    """Of a DICOM file of images; None for other files, also of DICOM. Raises InputError for a damaged one."""
    dataset = _header(path, path.name)
    if dataset is None or _kind(dataset) != "image":
        return None
    person = _stated_person(dataset)
    counts = (whole_number(dataset, keyword) or 0 for keyword in ("Rows", "Columns", "NumberOfFrames"))
    rows, columns, frames = (max(count, 0) for count in counts)
    return ImageHeader(
        series=uid_of(dataset, "SeriesInstanceUID"),
        person="" if person is None else digest_of(person[1]),
        modality=modality_of(dataset),
        number=whole_number(dataset, "SeriesNumber"),
        sort=_sort(dataset),
        rows=rows,
        columns=columns,
        frames=max(frames, 1),
    )


@quiet()
def label_header(path: Path) -> LabelHeader | None:
    """Of a SEG or RTSTRUCT; None for other files. Raises InputError for a damaged one."""
    dataset = _header(path, path.name)
    if dataset is None or _kind(dataset) not in ("seg", "rtstruct"):
        return None
    return LabelHeader.of(dataset, path.name)


@dataclass(frozen=True)
class Tree:
    """series: in order of file names. refused: a sentence for every DICOM file that is damaged.

    notes: sentences on copies, and on whose scans they are. copies: files that are in no series, as they are in one
    already. pseudonyms: of each patient, where they are made.
    """

    series: tuple[TreeSeries, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...] = ()
    copies: tuple[Path, ...] = ()
    pseudonyms: Mapping[int, str] = field(default_factory=dict)


@quiet()
def list_tree(
    folder: Path, *, pseudonym: Callable[[str], str] | None = None, progress: ProgressCallback | None = None
) -> Tree:
    """Every series below `folder`. Files that are not DICOM and hidden ones are ignored.

    pseudonym: makes one of whom a file says it is of: a keyword, a zero byte and its value, as for
        `medsam.io.dicom.deidentify`; of a number that two issuers gave, the issuer is behind another zero byte.
    progress: called with (files read, files in all).
    Raises InputError when a folder cannot be read; a file that cannot is among the refused.
    """
    listing = _Listing(folder, pseudonym)
    files = files_below(folder)
    # threads wait for a disk that is far away; a block at a time, so that few headers are in memory
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(files), _BLOCK):
            block = files[start : start + _BLOCK]
            for path, dataset in zip(block, pool.map(listing.read, block), strict=True):
                listing.add(path, dataset)
            if progress:
                progress(start + len(block), len(files))
    return listing.result()


class _Listing:
    """The series of a folder, a file at a time. Only what tells series and patients apart is kept of a header."""

    def __init__(self, folder: Path, pseudonym: Callable[[str], str] | None = None) -> None:
        self.folder, self.pseudonym = folder, pseudonym
        self.pseudonyms: dict[_Person, tuple[str, str]] = {}  # without and with the issuer
        self.series: dict[object, TreeSeries] = {}
        self.people: list[_Person] = []  # of each series, in the same order
        self.refused: list[str] = []
        self.copies: list[tuple[Path, Path]] = []
        self.births: dict[_Person, set[str]] = defaultdict(set)
        self._studies: dict[str, int] = {}

    def read(self, path: Path) -> Dataset | InputError | None:
        """The header of a DICOM file, or what is wrong with it; in any thread."""
        try:
            return _header(path, path.relative_to(self.folder).as_posix())
        except InputError as error:
            return error

    def add(self, path: Path, dataset: Dataset | InputError | None) -> None:
        """dataset: of `read`."""
        try:
            if isinstance(dataset, InputError):
                raise dataset
            kind = "other" if dataset is None else _kind(dataset)
            if dataset is None or kind == "other":
                return
            name = path.relative_to(self.folder).as_posix()
            self._add(path, dataset, kind, LabelHeader.of(dataset, name) if kind != "image" else None)
        except InputError as error:
            self.refused.append(str(error))

    def _add(self, path: Path, dataset: Dataset, kind: Kind, header: LabelHeader | None) -> None:
        study = text(dataset, "StudyInstanceUID") or str(path.parent)
        person = self._person_of(dataset, study)
        series = uid_of(dataset, "SeriesInstanceUID")
        instance = text(dataset, "SOPInstanceUID") or ""
        key: object = (person, series) if kind == "image" else (person, kind, instance or path)
        found = self.series.get(key)
        if found is not None and self._is_copy(path, found.instances.get(instance)):
            return
        if found is None or kind != "image":
            found = TreeSeries(
                kind=kind,
                uid=series,
                patient=0,
                study=self._studies.setdefault(study, len(self._studies) + 1),
                modality=modality_of(dataset),
                frame_of_reference=header.frame_of_reference if header else text(dataset, "FrameOfReferenceUID"),
                sort=_sort(dataset),
                derived={"DERIVED", "SECONDARY"} <= _image_type(dataset),
                header=header,
            )
            # two labels of one instance UID and unequal content stay two
            self.series[path if key in self.series else key] = found
            self.people.append(person)
        elif found.sort != "scan" and _sort(dataset) == "scan":
            found.sort = "scan"  # a series that starts with a scout
        found.files.append(path)
        found.positions.add(text(dataset, "ImagePositionPatient") or str(path))
        if instance:
            found.instances.setdefault(instance, path)

    def _person_of(self, dataset: Dataset, study: str) -> _Person:
        person = _person(dataset) or _Person(study=digest_of(study))
        if self.pseudonym and person not in self.pseudonyms:
            who, issuer = _whose(dataset, study), text(dataset, "IssuerOfPatientID") or ""
            self.pseudonyms[person] = self.pseudonym(who), self.pseudonym(f"{who}\0{issuer}")
        if birth := text(dataset, "PatientBirthDate"):
            self.births[person].add(digest_of(birth))
        return person

    def _is_copy(self, path: Path, first: Path | None) -> bool:
        if first is None or not same_bytes(Source(str(first), first), Source(str(path), path)):
            return False
        self.copies.append((first, path))
        return True

    def result(self) -> Tree:
        series = list(self.series.values())
        people = _joined(self.people, series)
        numbers: dict[_Person, int] = {}
        for one, person in zip(series, people, strict=True):
            one.patient = numbers.setdefault(person, len(numbers) + 1)
        notes = [*self._copied(), *self._doubts(series)]
        twice = Counter(plain for plain, _ in (self.pseudonyms[person] for person in numbers if self.pseudonyms))
        pseudonyms = {
            number: self.pseudonyms[person][twice[self.pseudonyms[person][0]] > 1]
            for person, number in numbers.items()
            if self.pseudonyms
        }
        copies = tuple(copy for _, copy in self.copies)
        return Tree(tuple(series), tuple(self.refused), tuple(notes), copies, pseudonyms)

    def _copied(self) -> list[str]:
        if not self.copies:
            return []
        first, copy = (path.relative_to(self.folder).as_posix() for path in self.copies[0])
        what = counted(len(self.copies), "file is a copy of another one", "files are copies of others")
        return [f"{what}, byte by byte, and counted once, e.g. {copy} of {first}"]

    def _doubts(self, series: Sequence[TreeSeries]) -> Iterator[str]:
        """What should be looked at about whose scans these are; no name, number or date is in it."""
        by_person: dict[_Person, list[TreeSeries]] = defaultdict(list)
        by_uid: dict[str, dict[_Person, TreeSeries]] = defaultdict(dict)
        for one, person in zip(series, self.people, strict=True):
            by_person[person].append(one)
            if one.kind == "image" and one.uid:
                by_uid[one.uid].setdefault(person, one)
        nameless = sum(len(those) for person, those in by_person.items() if person.study)
        if nameless:
            yield (
                f"{counted(nameless, 'series', 'series')} without (0010,0020) Patient ID and (0010,0010) Patient's "
                "Name: each study counts as a patient of its own"
            )
        doubtful = [person for person, births in self.births.items() if len(births) > 1 and person.number]
        if doubtful:
            yield (
                f"{counted(len(doubtful), 'patient has', 'patients have')} several (0010,0030) Patient's Birth Date "
                f"under one (0010,0020) Patient ID, e.g. in {self._name(by_person[doubtful[0]][0])}: counted as one "
                "patient each; two people whom two sites gave one number are told apart by (0010,0021) Issuer of "
                "Patient ID"
            )
        twice = [list(those.values()) for those in by_uid.values() if len(those) > 1]
        if twice:
            yield (
                f"{counted(len(twice), 'series is', 'series are')} there under several (0010,0020) Patient IDs, e.g. "
                f"{' and '.join(map(self._name, twice[0][:2]))}: those that share images count as one patient"
            )

    def _name(self, one: TreeSeries) -> str:
        return one.files[0].relative_to(self.folder).as_posix()


@dataclass(frozen=True)
class _Person:
    """Who a file says it is of: digests of the ID and its issuer, else of the name, else of the study; "" without."""

    number: str = ""
    issuer: str = ""
    name: str = ""
    study: str = ""


def _person(dataset: Dataset) -> _Person | None:
    if (stated := _stated_person(dataset)) is None:
        return None
    keyword, who = stated
    if keyword == "PatientName":
        return _Person(name=digest_of(who))
    issuer = text(dataset, "IssuerOfPatientID")
    return _Person(digest_of(who), digest_of(issuer) if issuer else "")


def _whose(dataset: Dataset, study: str) -> str:
    """What `_person` tells people apart by, as words."""
    return "\0".join(_stated_person(dataset) or ("StudyInstanceUID", study))


def _joined(people: Sequence[_Person], series: Sequence[TreeSeries]) -> list[_Person]:
    """Of each series its patient, the same for what is of one person: a number with its only issuer and the same
    number without, and series that share an instance.
    """
    issuers: dict[str, set[str]] = defaultdict(set)
    for person in people:
        if person.number and person.issuer:
            issuers[person.number].add(person.issuer)
    first: dict[_Person, _Person] = {}
    for person in people:
        of_number = issuers.get(person.number, set())
        alone = person.number and not person.issuer and len(of_number) == 1
        first[person] = _Person(person.number, next(iter(of_number))) if alone else person
    first |= {person: person for person in first.values() if person not in first}

    def root(person: _Person) -> _Person:
        while first[person] != person:
            person = first[person]
        return person

    owner: dict[str, _Person] = {}
    for one, person in zip(series, people, strict=True):
        for instance in one.instances if one.kind == "image" else ():
            other = root(owner.setdefault(instance, person))
            first[root(person)] = other
    return [root(person) for person in people]


def _image_type(dataset: Dataset) -> set[str]:
    return set(re.findall("[A-Z]+", (text(dataset, "ImageType") or "").upper()))


def _sort(dataset: Dataset) -> Sort:
    """What images are by (0008,0008) Image Type and their SOP class."""
    if {"LOCALIZER", "SCOUT"} & _image_type(dataset):
        return "localizer"
    uid = sop_class(dataset)
    return "capture" if uid == _CAPTURES or uid.startswith(f"{_CAPTURES}.") else "scan"


def _header(path: Path, name: str) -> Dataset | None:
    """What this module asks of a DICOM file, `name` in messages; None for other files, InputError for damaged ones."""
    if not is_dicom(path):
        return None
    return read_dataset(path, name, stop_before_pixels=True, specific_tags=list(_WANTED))


def _stated_person(dataset: Dataset) -> tuple[str, str] | None:
    """(0010,0020) Patient ID, else (0010,0010) Patient's Name, unless it is a placeholder: keyword and value."""
    for keyword in ("PatientID", "PatientName"):
        who = text(dataset, keyword)
        if who and re.sub(r"[\W\d_]+", "", who).casefold() not in _PLACEHOLDERS:
            return keyword, who
        if who and re.sub(r"[^\W\d_]+", "", who).strip("0-_ ^."):  # ANON0012 is one of several
            return keyword, who
    return None


def _kind(dataset: Dataset) -> Kind:
    uid = sop_class(dataset)
    if uid in SEG_CLASSES:
        return "seg"
    if uid in RTSTRUCT_CLASSES:
        return "rtstruct"
    return "image" if "Rows" in dataset and not known_non_scan(dataset) else "other"
