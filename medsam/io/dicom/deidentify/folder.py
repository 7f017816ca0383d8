"""From a folder of DICOM files to another one that may leave the house.

A file is read, cleaned and written whole, one after the other; what is there already from an earlier run with the same
key and options is not written again. Names in the new folder come from the new UIDs. A file that cannot be cleaned, or
whose pixels may show text, is not copied; the report says how many and why.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, MediaStorageDirectoryStorage

from medsam._version import __version__
from medsam.errors import InputError
from medsam.files import holds_files, write_text, write_whole
from medsam.io.dicom.deidentify.codes import code_item
from medsam.io.dicom.deidentify.keys import Pseudonyms
from medsam.io.dicom.deidentify.kinds import Kind, kind_of, several, shows_head, why_text_may_show
from medsam.io.dicom.deidentify.options import CLEAN_CONTENT, CLEAN_PIXELS, Options
from medsam.io.dicom.deidentify.pixels import (
    MaskRule,
    blacken,
    check_syntax,
    read_rules,
    without_rest,
)
from medsam.io.dicom.deidentify.report import Outcome, Report, document, settings
from medsam.io.dicom.deidentify.walker import Done, Walker
from medsam.io.dicom.read import files_below, is_dicom, quiet, read_dataset, syntax_of
from medsam.io.dicom.tags import PIXEL_KEYWORDS, named, sop_class, text
from medsam.progress import ProgressCallback

REPORT = "report.json"
_LIST_HEAD = "number\tfile\tstate\tnew file, or why not\n"

HEAD = "the head is in the picture: a face can be made from it; take it off (defacing) before you give it away"
UNKNOWN_PART = "does not say which part of the body it shows: if it is a head, a face can be made from it"
LETTERS = "a radiograph: letters of the technician may be in the picture"
DERIVED = "made of other images by a program, which may have written on them"


@dataclass(frozen=True)
class Cleaned:
    """A data set that may leave, and what was done. remarks: what a person should look at."""

    dataset: Dataset
    done: Done
    remarks: tuple[str, ...]


class Deidentifier:
    """Cleans data sets by one key and one set of options."""

    def __init__(self, options: Options, key: bytes) -> None:
        self.options = options
        self.pseudonyms = Pseudonyms(key)
        self.masks: tuple[MaskRule, ...] = read_rules(options.masks) if options.masks else ()
        self._walker = Walker(options, self.pseudonyms)

    def clean(self, dataset: Dataset) -> Cleaned:
        """A data set with file meta information, ready to be written. `dataset` is changed: it is of no more use.

        Raises InputError, its message without the name of the file, when it must not leave: text may be burned into
        it, there are no rules for its kind, or it is damaged.
        """
        kind = kind_of(dataset)
        if not isinstance(kind, Kind):
            raise InputError(kind)
        codes = [*self.options.codes(), *([CLEAN_CONTENT] if kind == Kind.REPORT else [])]
        extra: list[str] = []
        masked = False
        remarks = _remarks(dataset, kind)
        pictured = any(keyword in dataset for keyword in PIXEL_KEYWORDS.values())
        if kind in (Kind.IMAGE, Kind.RISKY) and not pictured:
            raise InputError(f"{named('PixelData')} is missing: the file is cut off, or holds a header alone")
        if pictured:
            masked = self._mask(dataset, kind)
            extra = without_rest(dataset)
        if masked:
            codes.append(CLEAN_PIXELS)
        cleaned, done = self._walker.clean(dataset)
        for one in extra:
            done.actions[f"{one}, removed"] += 1
        if masked:
            cleaned.BurnedInAnnotation = "NO"
            done.actions["picture masked"] += 1
        if done.identity:
            done.actions["texts that held the patient's name or number, removed"] += done.identity
        _mark(cleaned, codes, self.options)
        cleaned.preamble = bytes(128)
        cleaned.file_meta = _meta(dataset, cleaned)
        return Cleaned(cleaned, done, remarks)

    def _mask(self, dataset: Dataset, kind: Kind) -> bool:
        """Blacken what a rule says; whether there was one. Raises InputError where one is needed and none fits."""
        check_syntax(dataset)
        rule = next((rule for rule in self.masks if rule.fits(dataset)), None)
        why = why_text_may_show(dataset, kind)
        if rule is None:
            if why is not None:
                raise InputError(f"text may be burned in: {why}")
            return False
        if rule.rectangles:
            blacken(dataset, rule.rectangles)
        return True


def _remarks(dataset: Dataset, kind: Kind) -> tuple[str, ...]:
    if kind not in (Kind.IMAGE, Kind.RISKY):
        return ()
    found = []
    head = shows_head(dataset)
    if head is not False:
        found.append(UNKNOWN_PART if head is None else HEAD)
    if text(dataset, "Modality") in ("CR", "DX", "MG", "RTIMAGE", "IO"):
        found.append(LETTERS)
    if text(dataset, "Modality") in ("CT", "MR", "PT", "NM") and "SECONDARY" in several(dataset, "ImageType"):
        found.append(DERIVED)
    return tuple(found)


def _mark(cleaned: Dataset, codes: list[tuple[str, str]], options: Options) -> None:
    """Say in the data set that it was de-identified, and how (PS3.15 E.1.1)."""
    cleaned.PatientIdentityRemoved = "YES"
    cleaned.DeidentificationMethod = f"medsam {__version__}, PS3.15 Basic Profile"
    cleaned.LongitudinalTemporalInformationModified = options.dates
    cleaned.DeidentificationMethodCodeSequence = [
        code_item("CodeValue", value, "DCM", meaning) for value, meaning in codes
    ]


def _meta(dataset: Dataset, cleaned: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = cleaned.SOPClassUID = sop_class(dataset)
    meta.MediaStorageSOPInstanceUID = cleaned.SOPInstanceUID
    meta.TransferSyntaxUID = syntax_of(dataset)
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = "MEDSAM"
    return meta


def encoded(cleaned: Dataset) -> bytes:
    """The bytes of a file."""
    syntax = cleaned.file_meta.TransferSyntaxUID
    buffer = BytesIO()
    with quiet():
        dcmwrite(
            buffer,
            cleaned,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=True,
        )
    return buffer.getvalue()


def deidentify_folder(
    source: Path,
    target: Path,
    key: bytes,
    options: Options | None = None,
    *,
    key_is_kept: bool = True,
    names: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Report:
    """Clean every DICOM file of `source` (a folder, or one file) into `target`, and write a report beside them.

    key: 32 secret bytes. key_is_kept: whether there will be another run with it; without, nothing is resumed. names:
    a file, outside of both, that says which file became which: it is not for the outside.
    Raises InputError when the folders are not fit, or hold what another run made; a file that cannot be cleaned is in
    the report, and not copied.
    """
    options = options or Options()
    cleaner = Deidentifier(options, key)
    check_folders(source, target)
    masks = None if options.masks is None else hashlib.sha256(options.masks.read_bytes()).hexdigest()[:16]
    run = settings(options, cleaner.pseudonyms.fingerprint(), masks)
    with _writing(target):
        _begin(target, run, key_is_kept=key_is_kept)
    report = Report()
    claimed: set[Path] = set()
    files = [source] if source.is_file() else files_below(source)
    with _writing(target), _listing(names) as listing:
        for number, path in enumerate(files, start=1):
            outcome = _one(path, number, target, cleaner, claimed)
            report.add(outcome)
            if listing is not None:
                listing.write(f"{number}\t{path}\t{outcome.state}\t{outcome.path or outcome.why}\n")
            if progress is not None:
                progress(number, len(files))
    with _writing(target):
        _write_report(target, document(report, run, complete=True))
    return report


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """A disk that is full or may not be written to is no defect, and what is there already stays."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror or type(error).__name__}. What is in it is whole; with the "
            "same key the command goes on.",
            parameter="target",
        ) from error


@contextmanager
def _listing(path: Path | None) -> Iterator[TextIO | None]:
    """A file for its owner alone, that says which file became which; nothing where there is no path."""
    if path is None:
        yield None
        return
    try:
        # a list of an earlier run is written over, in place of which a link or an open file may lie
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", parameter="names") from error
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(_LIST_HEAD)
        yield file


def _one(path: Path, number: int, target: Path, cleaner: Deidentifier, claimed: set[Path]) -> Outcome:
    """Clean and write one file."""
    try:
        if not is_dicom(path):
            return Outcome(number, "not DICOM")
        dataset = read_dataset(path, "it")
    except InputError:
        return Outcome(number, "damaged", "it cannot be read as DICOM")
    if sop_class(dataset) == MediaStorageDirectoryStorage:
        # whatever it is called: it lists names of patients and files that are not copied
        return Outcome(number, "index of files")
    try:
        with quiet():
            cleaned = cleaner.clean(dataset)
            data = encoded(cleaned.dataset)
    except InputError as error:
        return Outcome(number, "refused", str(error))
    except Exception as error:  # a damaged file makes pydicom raise what it likes, and its words may be the file's
        return Outcome(number, "damaged", f"it is damaged ({type(error).__name__})")
    return _write(data, cleaned, number, target, claimed)


def _write(data: bytes, cleaned: Cleaned, number: int, target: Path, claimed: set[Path]) -> Outcome:
    made = cleaned.dataset
    name = Path(made.StudyInstanceUID, made.SeriesInstanceUID, f"{made.SOPInstanceUID}.dcm")
    outcome = Outcome(
        number,
        "written",
        series=str(made.SeriesInstanceUID),
        patient=str(made.PatientID),
        modality=text(made, "Modality") or "",
        path=name.as_posix(),
        actions=cleaned.done.actions,
        kept_texts=cleaned.done.kept_texts,
        remarks=cleaned.remarks,
    )
    file = target / name
    if name in claimed:
        if file.read_bytes() == data:
            return replace(outcome, state="duplicate")
        return Outcome(number, "refused", "(0008,0018) SOP Instance UID is that of another file, which differs")
    claimed.add(name)
    # else the source has changed since
    if file.is_file() and file.stat().st_size == len(data) and file.read_bytes() == data:
        return replace(outcome, state="copied before")
    file.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(file) as part:
        part.write_bytes(data)
    return outcome


def check_folders(source: Path, target: Path) -> None:
    """Raises InputError when `source` is not there, or the two are not fit for one another."""
    if not source.exists():
        raise InputError(f"{source} is not there.", parameter="source")
    if source.is_file() and source.suffix.lower() == ".zip":
        raise InputError(f"{source} is a zip; unpack it first.", parameter="source")
    here, there = source.resolve(), target.resolve()
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; a folder is needed.", parameter="target")
    if here == there or here in there.parents or there in here.parents:
        raise InputError(f"{target} and {source} must lie apart: what leaves the house is not mixed with what stays.")


def check_key_file(path: Path, source: Path, target: Path) -> None:
    """Raises InputError when a file that must stay secret lies in one of the folders."""
    where = path.resolve()
    for folder in (source.resolve(), target.resolve()):
        if folder == where or folder in where.parents:
            raise InputError(
                f"{path} lies with the data; a key that goes with them undoes the work. Keep it somewhere else.",
                parameter=("key", "new_key"),
            )


def check_list_file(names: Path | None, *others: Path | None) -> None:
    """Raises InputError when the list of files would be written over the key, or anything else that is no such list."""
    if names is None:
        return
    if any(other is not None and other.resolve() == names.resolve() for other in others):
        raise InputError(f"{names} is the key or the rules, which the list would replace.", parameter="names")
    try:
        if names.is_file() and names.stat().st_size:
            with names.open("rb") as file:
                if file.read(len(_LIST_HEAD)) != _LIST_HEAD.encode():
                    raise InputError(f"{names} is there, and is no list of an earlier run.", parameter="names")
    except OSError as error:
        raise InputError(f"{names} cannot be read: {error.strerror}.", parameter="names") from error


def _begin(target: Path, run: dict[str, Any], *, key_is_kept: bool) -> None:
    """Make the folder ready, and leave a report in it that says what is being done."""
    report = target / REPORT
    # what is unfinished is of a run that could not write its report
    if target.exists() and holds_files(target):
        if not report.is_file():
            raise InputError(f"{target} is not empty, and no run of this command began it. Name a new folder.")
        if not key_is_kept:
            raise InputError(
                f"{target} was begun with another key. To go on with a folder, use `key` from the start.",
                parameter=("key", "new_key"),
            )
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(report.read_text(encoding="utf-8"))["settings"] == run:
                return
        raise InputError(
            f"{target} was begun with another key, other options or another version of medsam. Name a new folder.",
            parameter=("key", "keep"),
        )
    target.mkdir(parents=True, exist_ok=True)
    _write_report(target, document(Report(), run, complete=False))


def _write_report(target: Path, found: dict[str, Any]) -> None:
    write_text(target / REPORT, json.dumps(found, indent=2) + "\n")
