"""DICOM files or a folder -> Volume: find the series, put its images on one grid, read their pixels.

Series are distinguished by (0020,000E) alone. Nothing is guessed: files that may be lost slices, several series and
irregular slices (see `grid`) are errors that say which files and what to do.

Letters: N images of a series; array (K, J, I).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from medsam.errors import InputError, SeveralSeries, counted
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.frame import ImageFrame, frames_of
from medsam.io.dicom.grid import arrange, check_values_alike
from medsam.io.dicom.header import Header
from medsam.io.dicom.pixels.common import Values
from medsam.io.dicom.pixels.read import read_frames
from medsam.io.dicom.read import files_below, quiet, read_header
from medsam.io.dicom.source import DicomFile, Source, same_bytes, sources_of
from medsam.io.dicom.tags import named, text
from medsam.volume import Volume

# several files that have no folder, in messages
_FILES = "The set of files"


@dataclass(frozen=True)
class SeriesSummary:
    """A series of images as its headers state it, unchecked.

    uid: (0020,000E), "" when the files have none. modality: a DICOM code, or None. number: (0020,0011).
    files: how many; images: with the frames of multi-frame files counted. rows, columns: of most files.
    Free text such as a description is left out: it may name the patient.
    """

    uid: str
    modality: str | None
    number: int | None
    files: int
    images: int
    rows: int | None
    columns: int | None

    def __str__(self) -> str:
        number = "" if self.number is None else f"  series {self.number}"
        images = counted(self.images, "image")
        size = f"{self.rows or '?'} x {self.columns or '?'}"
        return f"{self.uid or '(no UID)'}  {self.modality or '?'}{number}  {images}  {size}"


def read_dicom(files: DicomFile | Iterable[DicomFile] | Mapping[str, DicomFile], series: str | None = None) -> Volume:
    """Read a DICOM file, the one series in a folder and the folders in it, or a series of files open or in memory.

    files: the path of a file or folder; or one file or several, each a path, a file opened in binary mode (read from
        where it stands to its end, not closed) or bytes, in any order. Messages call a path as it is written, others
        "file 3", counted from 1, or what a mapping calls them. The same files give the same volume, wherever they are.
    series: (0020,000E) of the series to take where there are several.

    Objects that are no scans (SEG, RTSTRUCT, SR, presentation states, DICOMDIR) are ignored, in a folder also hidden
    files and files that are not DICOM, unless they are named as its images are: those may be lost slices, and
    an error. A file copied twice counts once. Values are rescaled (HU, Bq/ml),
    MONOCHROME1 is turned so that larger is brighter, colour becomes RGB; see `pixels.read.read_frames`.
    Images without a place in space (radiographs, ultrasound clips) come as they are: k is the frame, columns run
    left and rows back, `calibrated` when the file states its pixel spacing.

    Raises SeveralSeries; InconsistentSeries when images are missing, doubled, tilted or of unequal shape;
    InputError for everything else that is wrong with the files, including a `series` that is not there.
    """
    with quiet():
        headers, non_dicom, path, name = _scans(files)
        return _read(_choose(headers, non_dicom, path, name, series), name, path)


def list_series(files: DicomFile | Iterable[DicomFile] | Mapping[str, DicomFile]) -> list[SeriesSummary]:
    """The series of scans among files as `read_dicom` takes them, by series number.

    Raises InputError when there is none, and for what may be a damaged image.
    """
    with quiet():
        headers, non_dicom, folder, _ = _scans(files)
        _check_none_lost(headers, non_dicom, folder)
        return _summaries(headers)


def series_images(
    files: DicomFile | Iterable[DicomFile] | Mapping[str, DicomFile], series: str | None = None
) -> tuple[VolumeGeometry, list[ImageFrame]]:
    """The grid that `read_dicom` puts a series on, and its images in the order of k, without their pixels.

    Arguments and errors as of `read_dicom`.
    """
    with quiet():
        headers, non_dicom, path, name = _scans(files)
        return _arranged(_choose(headers, non_dicom, path, name, series), name)


def _arranged(headers: list[Header], name: str) -> tuple[VolumeGeometry, list[ImageFrame]]:
    return arrange([frame for header in _without_copies(headers) for frame in frames_of(header)], name)


def _read(headers: list[Header], name: str, source: Path | None) -> Volume:
    """The volume of one series. name: the whole as messages call it."""
    geometry, frames = _arranged(headers, name)
    check_values_alike(frames, name)
    pixels = read_frames(frames, name)
    first, middle = frames[0].header, frames[len(frames) // 2]
    is_colour = pixels.array.ndim == 4
    uids = {
        "series": first.series,
        "study": frames[0].value("StudyInstanceUID"),
        "frame_of_reference": frames[0].value("FrameOfReferenceUID"),
    }
    return Volume(
        array=pixels.array,
        geometry=geometry,
        modality=first.modality,
        source=source,
        window=None if is_colour else Values.of(middle).window(middle.window),
        uids={key: uid for key, uid in uids.items() if uid},
        units=None if is_colour else frames[0].units,
        no_signal=pixels.no_signal,
        notes=pixels.notes,
        images=tuple(frame.identity for frame in frames),
    )


# -- which files --------------------------------------------------------------------------------------------


def _scans(
    files: DicomFile | Iterable[DicomFile] | Mapping[str, DicomFile],
) -> tuple[list[Header], list[Path], Path | None, str]:
    """The headers of all scans; of a folder, its files that are not DICOM; the path; the whole as messages call it."""
    if isinstance(files, str | os.PathLike):
        path = Path(files)
        return *_scans_at(path), path, path.name
    sources = sources_of(files)
    name = sources[0].name if len(sources) == 1 else _FILES
    return _scans_among(sources, name), [], None, name


def _scans_at(path: Path) -> tuple[list[Header], list[Path]]:
    """The headers of all scans in a file or folder, and the files of a folder that are not DICOM."""
    if not path.is_dir():
        return _scans_among([Source(path.name, path)], path.name), []
    files, others, scans, non_dicom = files_below(path), Counter[str](), [], []
    for file in files:
        # a link that leads nowhere cannot be read; whether that matters depends on its name
        source = Source(file.relative_to(path).as_posix(), file)
        header = read_header(source) if file.exists() else None
        if header is None:
            non_dicom.append(file)
        elif header.not_a_scan:
            others[header.not_a_scan] += 1
        else:
            scans.append(header)
    if not scans:
        _check_none_lost(scans, non_dicom, path)
        raise _no_scan(f"{path.name}/", len(files), others, "the folder of the images")
    return scans, non_dicom


def _scans_among(sources: Sequence[Source], name: str) -> list[Header]:
    """The headers of all scans among files, each of which must be DICOM."""
    others, scans = Counter[str](), []
    for source in sources:
        header = read_header(source)
        if header is None:
            raise InputError(f"{source.name} is not a DICOM file.")
        if header.not_a_scan:
            others[header.not_a_scan] += 1
        else:
            scans.append(header)
    if not scans and len(sources) == 1:
        raise InputError(f"{name} is {next(iter(others))}, not a scan. Pass the images it belongs to.")
    if not scans:
        raise _no_scan(name, len(sources), others, "the images")
    return scans


def _no_scan(name: str, count: int, others: Counter[str], wanted: str) -> InputError:
    found = "; ".join(f"{number} x {kind}" for kind, number in others.most_common())
    return InputError(
        f"{name} holds no DICOM image ({counted(count, 'file')} looked at{': ' + found if found else ''}). "
        f"Pass {wanted}."
    )


def _summaries(headers: Sequence[Header]) -> list[SeriesSummary]:
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(header.series, []).append(header)
    found = []
    for uid, members in groups.items():
        rows, columns = Counter(header.shape for header in members).most_common(1)[0][0]
        images = sum(header.frame_count for header in members)
        first = members[0]
        found.append(SeriesSummary(uid, first.modality, first.series_number, len(members), images, rows, columns))
    return sorted(found, key=lambda s: (s.number is None, s.number or 0, s.uid))


def _choose(
    headers: list[Header], non_dicom: list[Path], folder: Path | None, name: str, series: str | None
) -> list[Header]:
    """The headers of the one series, or of the one asked for. folder: of `non_dicom`; None for a set of files."""
    if series is None:
        _check_none_lost(headers, non_dicom, folder)
    found = _summaries(headers)
    table = "\n".join(f"  {summary}" for summary in found)
    if series is not None:
        chosen = [header for header in headers if header.series == series]
        if not chosen:
            raise InputError(f"{name} holds no series {series}. There is:\n{table}")
        # what is damaged elsewhere is no concern of this series
        folders = {header.folder for header in chosen}
        here = [header for header in headers if header.folder in folders]
        _check_none_lost(here, [file for file in non_dicom if file.parent in folders], folder)
        return chosen
    if len(found) > 1:
        raise SeveralSeries(
            f"{name} holds {len(found)} DICOM series ({named('SeriesInstanceUID')}):\n{table}\n"
            "  Pick one by its UID: `series` UID.",
            parameter="series",
        )
    return headers


# -- which files are lost or doubled ------------------------------------------------------------------------


def _check_none_lost(scans: Sequence[Header], non_dicom: Sequence[Path], folder: Path | None) -> None:
    """Raise when a file may be a damaged image: without it the others would pass for a sound, shorter series.

    It may be one when its name says so (`non_dicom`, in `folder`), or when its header ends before its pixels and
    within or before (0020,000E), so that it would pass for another series.
    """
    if folder is not None:
        _check_names(scans, non_dicom, folder)
    uids = {header.series for header in scans}
    for header in scans:
        cut = not header.series or any(uid.startswith(header.series) for uid in uids - {header.series})
        if cut and header.pixel_keyword is None:
            raise header.without_pixels()


def _check_names(scans: Sequence[Header], non_dicom: Sequence[Path], folder: Path) -> None:
    """Raise when a file that is not DICOM is named as images are."""
    names: dict[Path | None, list[str]] = {}
    for header in scans:
        names.setdefault(header.folder, []).append(PurePath(header.name).name)
    namings = {where: _naming(members) for where, members in names.items()}
    suspects = []
    for file in non_dicom:
        usual, patterns = namings.get(file.parent, ("", set()))
        suffix = _suffix(file.name)
        if suffix == ".dcm" or (suffix == usual if suffix else _pattern(file.name) in patterns):
            suspects.append(file)
    if not suspects:
        return
    first, others = suspects[0], len(suspects) - 1
    if not first.exists():
        what = "is a link to a file that is not there"
    elif first.stat().st_size == 0:
        what = "is empty (0 bytes)"
    else:
        what = f"is not DICOM although it is named like {'the others' if first.parent in namings else 'a DICOM file'}"
    more = f" The same holds for {counted(others, 'more file')}." if others else ""
    raise InputError(
        f"{first.relative_to(folder).as_posix()} {what}; copy or export it again, or move it out of the folder.{more}"
    )


def _naming(names: Sequence[str]) -> tuple[str, set[str]]:
    """The suffix most of the names have, and the patterns of those without one."""
    usual = Counter(_suffix(name) for name in names).most_common(1)[0][0]
    return usual, {_pattern(name) for name in names if not _suffix(name)}


def _suffix(name: str) -> str:
    """In lower case; "" also for the last part of a UID."""
    suffix = Path(name).suffix.lower()
    return "" if suffix[1:].isdecimal() else suffix


def _pattern(name: str) -> str:
    """The name with its numbers, decimal or hexadecimal, taken out: IM0001 and IM000F are alike."""
    return re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "#", name.lower())


def _without_copies(headers: list[Header]) -> list[Header]:
    """One of each image: a file may have been copied twice. Equal UIDs at unequal places, or with unequal pixels, are
    no copies.
    """
    kept: dict[object, list[Header]] = {}
    for header in headers:
        uid = text(header.dataset, "SOPInstanceUID")
        place = [text(header.dataset, keyword) for keyword in ("ImagePositionPatient", "InstanceNumber")]
        alike = kept.setdefault((uid, *place) if uid else id(header), [])
        if not any(_is_copy(header, other) for other in alike):
            alike.append(header)
    return [header for alike in kept.values() for header in alike]


def _is_copy(one: Header, other: Header) -> bool:
    if same_bytes(one.source, other.source):
        return True
    sizes = [(layout.frames, layout.rows, layout.columns) for layout in (one.layout, other.layout)]
    if sizes[0] != sizes[1]:
        return False
    # written again, perhaps in another encoding
    first, second = (read_frames(frames_of(header), header.name).array for header in (one, other))
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f" and second.dtype.kind == "f")
