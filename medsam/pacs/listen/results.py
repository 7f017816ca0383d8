"""What a job may send back: a SEG or RTSTRUCT of the very series it was given, and nothing else.

A result that names another study or patient would stand among a stranger's images, and look as if it belonged there.
So it is held against the series it was made of, not against what the job says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from medsam.errors import InputError
from medsam.io.dicom.read import files_below, is_dicom, read_dataset
from medsam.io.dicom.rtstruct import RTSTRUCT_CLASSES
from medsam.io.dicom.seg import SEG_CLASSES
from medsam.io.dicom.tags import named, sequence_items, text
from medsam.pacs.cited import cited_images
from medsam.pacs.listen.rules import Facts, person_of
from medsam.pacs.uids import is_uid
from medsam.pacs.whole import cut_off_within


@dataclass(frozen=True)
class Result:
    """A file that may be sent. instance: its (0008,0018)."""

    path: Path
    instance: str


def check_results(folder: Path, source: Facts) -> list[Result]:
    """The DICOM objects below a folder, all of which were found to belong to `source`; other files are passed over.

    Raises InputError for the first that does not, naming the file and the tag and no value.
    """
    found: list[Result] = []
    for path in files_below(folder):
        if not path.is_symlink() and is_dicom(path):
            name = path.relative_to(folder).as_posix()
            dataset = read_dataset(path, name)
            if cut_off_within(dataset) is not None:
                raise InputError(f"The result {name} is not sent: the file is cut off.")
            found.append(Result(path, _checked(dataset, name, source)))
    if len({one.instance for one in found}) < len(found):
        raise InputError(f"Two results have one {named('SOPInstanceUID')}.")
    return found


def _checked(dataset: Dataset, name: str, source: Facts) -> str:
    """The UID of a result. Raises InputError when it may not be sent."""
    for keyword, why in (*_wrong_itself(dataset, source), *_wrong_reference(dataset, name, source)):
        raise InputError(f"The result {name} is not sent: {named(keyword)} {why}.")
    return text(dataset, "SOPInstanceUID") or ""


def _wrong_itself(dataset: Dataset, source: Facts) -> Iterator[tuple[str, str]]:
    """Keywords of what a result says of itself that does not fit its source, and why."""
    instance, series = text(dataset, "SOPInstanceUID") or "", text(dataset, "SeriesInstanceUID") or ""
    frame = text(dataset, "FrameOfReferenceUID")
    if text(dataset, "SOPClassUID") not in {**SEG_CLASSES, **RTSTRUCT_CLASSES}:
        yield "SOPClassUID", "is neither that of a SEG nor of an RTSTRUCT"
    if not is_uid(instance) or instance in source.instances:
        yield "SOPInstanceUID", "is missing, no UID, or that of an image"
    if text(dataset, "StudyInstanceUID") != source.key.study:
        yield "StudyInstanceUID", "is not that of the series it was made from"
    if not is_uid(series) or series == source.key.series:
        yield "SeriesInstanceUID", "is missing, no UID, or that of the images; a result is a series of its own"
    for (keyword, digest), (_, other) in zip(source.person, person_of(dataset), strict=True):
        # some programs leave name and date of birth empty, which makes it nobody else's
        if digest != other and (keyword == "PatientID" or text(dataset, keyword)):
            yield keyword, "is not that of the images: it would be another patient's"
    # images without one are given one by whoever describes places in them
    if frame is not None and "" not in source.frames and frame not in source.frames:
        yield "FrameOfReferenceUID", "is not that of the images, so its coordinates are of another space"


def _wrong_reference(dataset: Dataset, name: str, source: Facts) -> Iterator[tuple[str, str]]:
    """The same for what a result refers to."""
    for keyword, uids, own in _contexts(dataset, name, source):
        if not uids <= own:
            yield keyword, "of what it refers to is not that of the images"
    cited = set(cited_images(dataset, name))
    if not cited:
        yield "ReferencedSOPInstanceUID", "occurs nowhere: it does not say on which images it was drawn"
    if not cited <= source.instances:
        yield "ReferencedSOPInstanceUID", "names images that are not of the series it was made from"


def _contexts(dataset: Dataset, name: str, source: Facts) -> Iterator[tuple[str, set[str], set[str] | frozenset[str]]]:
    """Keyword, the UIDs that a SEG or RTSTRUCT names by it, and those it may name: of studies, series and frames."""
    frames = sequence_items(dataset, "ReferencedFrameOfReferenceSequence", name)
    studies = [study for frame in frames for study in sequence_items(frame, "RTReferencedStudySequence", name)]
    series = [
        *sequence_items(dataset, "ReferencedSeriesSequence", name),
        *(item for study in studies for item in sequence_items(study, "RTReferencedSeriesSequence", name)),
    ]
    others = sequence_items(dataset, "StudiesContainingOtherReferencedInstancesSequence", name)
    yield "SeriesInstanceUID", _values(series, "SeriesInstanceUID"), {source.key.series}
    yield "StudyInstanceUID", _values(others, "StudyInstanceUID"), {source.key.study}
    yield "ReferencedSOPInstanceUID", _values(studies, "ReferencedSOPInstanceUID"), {source.key.study}
    if "" not in source.frames:
        yield "FrameOfReferenceUID", _values(frames, "FrameOfReferenceUID"), source.frames


def _values(items: Iterable[Dataset], keyword: str) -> set[str]:
    return {uid for item in items if (uid := text(item, keyword))}
