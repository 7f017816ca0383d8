"""A DICOM file or folder -> Volume: find the series, sort its slices, check that they are one regular volume.

Slices are sorted by their position along the normal of their plane, ascending in LPS along the normal's main
axis: feet, right or front first, so array index k grows toward S, L or P. Columns and rows stay as stored. The
affine says so exactly: i steps along the row, j down the column, k from the first slice to the last, its pitch
the mean distance of their positions ((0020,0032)), never a slice thickness.

Letters: N images of a series; array (K, J, I).

Nothing is guessed: gaps, doubled or tilted slices are errors that say which files and what to do. Series are
told apart by (0020,000E) alone. Source: DICOM PS3.3 C.7.6.2.1.1 (position and orientation of a plane).
"""

from __future__ import annotations

import filecmp
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsam.errors import InconsistentSeries, InputError, SeveralSeries, counted
from medsam.geometry import VolumeGeometry
from medsam.io.dicom_file import (
    DISTINGUISHING,
    Frame,
    Header,
    files_below,
    is_dicom,
    named,
    quiet,
    read_header,
    text,
)
from medsam.io.dicom_pixels import Values, read_frames
from medsam.volume import Volume

__all__ = ["SeriesSummary", "is_dicom", "list_series", "read_dicom"]

# slices that are regular but for the rounding of headers: share of their distance, or mm, whichever is larger
_REGULAR, _REGULAR_MM = 0.01, 0.01
# slices nearer than this share of the usual distance lie at the same place
_SAME_PLACE = 0.05
_TILT_DEGREES = 0.1
# sideways displacement that goes unnoticed, in pixels
_SIDEWAYS = 0.1


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


def read_dicom(path: Path, series: str | None = None) -> Volume:
    """Read one DICOM file, or the one series in a folder and the folders in it.

    Objects that are no scans (SEG, RTSTRUCT, SR, presentation states, DICOMDIR), hidden files and files that are
    not DICOM are passed over in a folder, unless they are named as its images are: those may be lost slices, and
    an error. A file copied twice counts once. Values are rescaled (HU, Bq/ml),
    MONOCHROME1 is turned so that larger is brighter, colour becomes RGB; see `dicom_pixels.read_frames`.
    Images without a place in space (radiographs, ultrasound clips) come as they are: k is the frame, columns run
    left and rows back, `calibrated` when the file states its pixel spacing.

    series: (0020,000E) of the series to take where there are several.
    Raises SeveralSeries; InconsistentSeries when images are missing, doubled, tilted or of unequal shape;
    InputError for everything else that is wrong with the files, including a `series` that is not there.
    """
    path = Path(path)
    with quiet():
        headers = _choose(*_scans(path), path, series)
        frames = [frame for header in _without_copies(headers) for frame in header.frames()]
        geometry, frames = _arrange(frames, path)
        _check_values_alike(frames, path)
        pixels = read_frames(frames, path.name)
        first, middle = frames[0].header, frames[len(frames) // 2]
        is_colour = pixels.array.ndim == 4
        window = None if is_colour else Values.of(middle).window(middle.window)
        units = None if is_colour else frames[0].units
        uids = {
            "series": first.series,
            "study": frames[0].value("StudyInstanceUID"),
            "frame_of_reference": frames[0].value("FrameOfReferenceUID"),
        }
    return Volume(
        array=pixels.array,
        geometry=geometry,
        modality=first.modality,
        source=path,
        window=window,
        uids={key: uid for key, uid in uids.items() if uid},
        units=units,
        no_signal=pixels.no_signal,
        notes=pixels.notes,
    )


def list_series(path: Path) -> list[SeriesSummary]:
    """The series of scans in a file or folder, by series number.

    Raises InputError when there is none, and for what may be a damaged image.
    """
    path = Path(path)
    with quiet():
        headers, strangers = _scans(path)
        _check_none_lost(headers, strangers, path)
        return _summaries(headers)


# -- which files --------------------------------------------------------------------------------------------


def _scans(path: Path) -> tuple[list[Header], list[Path]]:
    """The headers of all scans in a file or folder, and the files of a folder that are not DICOM."""
    if not path.is_dir():
        header = read_header(path, path.name)
        if header is None:
            raise InputError(f"{path.name} is not a DICOM file.")
        if header.not_a_scan:
            raise InputError(f"{path.name} is {header.not_a_scan}, not a scan. Pass the images it belongs to.")
        return [header], []
    files, others, scans, strangers = files_below(path), Counter[str](), [], []
    for file in files:
        # a link that leads nowhere cannot be read; whether that matters depends on its name
        header = read_header(file, file.relative_to(path).as_posix()) if file.exists() else None
        if header is None:
            strangers.append(file)
        elif header.not_a_scan:
            others[header.not_a_scan] += 1
        else:
            scans.append(header)
    if not scans:
        _check_none_lost(scans, strangers, path)
        found = "; ".join(f"{count} x {kind}" for kind, count in others.most_common())
        raise InputError(
            f"{path.name}/ holds no DICOM image ({counted(len(files), 'file')} looked at"
            f"{': ' + found if found else ''}). Pass the folder of the images."
        )
    return scans, strangers


def _check_none_lost(scans: Sequence[Header], strangers: Sequence[Path], path: Path) -> None:
    """Raise when a file may be a damaged image: without it the others would pass for a sound, shorter series.

    It may be one when its name says so (`strangers` are not DICOM), or when its header ends before its pixels and
    within or before (0020,000E), so that it would pass for another series.
    """
    names: dict[Path, list[str]] = {}
    for header in scans:
        names.setdefault(header.path.parent, []).append(header.path.name)
    looks = {folder: _look(members) for folder, members in names.items()}
    suspects = []
    for file in strangers:
        usual, patterns = looks.get(file.parent, ("", set()))
        suffix = _suffix(file.name)
        if suffix == ".dcm" or (suffix == usual if suffix else _pattern(file.name) in patterns):
            suspects.append(file)
    if suspects:
        first, others = suspects[0], len(suspects) - 1
        if not first.exists():
            what = "is a link to a file that is not there"
        elif first.stat().st_size == 0:
            what = "is empty (0 bytes)"
        else:
            what = f"is not DICOM although it is named like {'the others' if first.parent in looks else 'a DICOM file'}"
        more = f" The same holds for {counted(others, 'more file')}." if others else ""
        raise InputError(
            f"{first.relative_to(path).as_posix()} {what}; copy or export it again, or move it out of the folder.{more}"
        )
    uids = {header.series for header in scans}
    for header in scans:
        cut = not header.series or any(uid.startswith(header.series) for uid in uids - {header.series})
        if cut and header.pixel_keyword is None:
            raise header.without_pixels()


def _look(names: Sequence[str]) -> tuple[str, set[str]]:
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


def _choose(headers: list[Header], strangers: list[Path], path: Path, series: str | None) -> list[Header]:
    if series is None:
        _check_none_lost(headers, strangers, path)
    found = _summaries(headers)
    table = "\n".join(f"  {summary}" for summary in found)
    if series is not None:
        chosen = [header for header in headers if header.series == series]
        if not chosen:
            raise InputError(f"{path.name} holds no series {series}. There is:\n{table}")
        # what is damaged elsewhere is no concern of this series
        folders = {header.path.parent for header in chosen}
        here = [header for header in headers if header.path.parent in folders]
        _check_none_lost(here, [file for file in strangers if file.parent in folders], path)
        return chosen
    if len(found) > 1:
        raise SeveralSeries(
            f"{path.name} holds {len(found)} DICOM series ({named('SeriesInstanceUID')}):\n{table}\n"
            "  Pick one by its UID: --series UID."
        )
    return headers


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
    if filecmp.cmp(one.path, other.path, shallow=False):
        return True
    if one.layout.frames != other.layout.frames or _shape(one.frames()[0]) != _shape(other.frames()[0]):
        return False
    # written again, perhaps in another encoding
    first, second = (read_frames(header.frames(), header.name).array for header in (one, other))
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f" and second.dtype.kind == "f")


# -- where the images lie -----------------------------------------------------------------------------------


def _arrange(frames: list[Frame], path: Path) -> tuple[VolumeGeometry, list[Frame]]:
    """The grid of the images and the images in the order of k."""
    nowhere = [frame for frame in frames if frame.position is None or frame.orientation is None]
    single_file = len({frame.header for frame in frames}) == 1
    if not nowhere and (len(frames) > 1 or frames[0].spacing is not None):
        return _stack(frames, path)
    if single_file and len(nowhere) in (0, len(frames)):
        return _flat(frames), frames
    missing = "ImagePositionPatient" if nowhere[0].position is None else "ImageOrientationPatient"
    raise InconsistentSeries(
        f"{path.name}: {len(nowhere)} of {len(frames)} images of the series have no {named(missing)}, so their "
        f"place in a volume is unknown: {_names([frame.name for frame in nowhere])}.\n"
        "  Pass one of the files alone, or export the series again with its geometry."
    )


def _flat(frames: list[Frame]) -> VolumeGeometry:
    """Images without a place: k is the frame, columns run left, rows run back."""
    layout = frames[0].header.layout
    spacing = frames[0].projected_spacing
    row, column = spacing or (1.0, 1.0)
    thickness = frames[0].slice_thickness if spacing else 1.0
    affine = np.diag([column, row, thickness, 1.0])
    return VolumeGeometry((len(frames), layout.rows, layout.columns), affine, calibrated=spacing is not None)


def _stack(frames: list[Frame], path: Path) -> tuple[VolumeGeometry, list[Frame]]:
    """Sort parallel slices along their normal and place them in space."""
    typical = _check_alike(frames, path)
    if typical.spacing is None:
        raise InputError(f"{typical.name}: {named('PixelSpacing')} is missing. Export the series again.")
    along_row, along_column = np.asarray(typical.orientation)
    normal = np.cross(along_row, along_column)
    normal /= np.linalg.norm(normal)
    if normal[np.argmax(np.abs(normal))] < 0:
        normal = -normal
    depths = np.array([frame.position @ normal for frame in frames])
    order = np.argsort(depths, kind="stable")
    frames, depths = [frames[n] for n in order], depths[order]
    positions = np.array([frame.position for frame in frames])
    if len(frames) > 1:
        _check_doubles(frames, depths, path)
        _check_tilt(frames, positions, normal, path)
        _check_gaps(frames, depths, path)
        step = (positions[-1] - positions[0]) / (len(frames) - 1)
    else:
        step = normal * frames[0].slice_thickness
    affine = np.eye(4)
    affine[:3, 0] = along_row * typical.spacing[1]
    affine[:3, 1] = along_column * typical.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    layout = typical.header.layout
    return VolumeGeometry((len(frames), layout.rows, layout.columns), affine), frames


def _shape(frame: Frame) -> tuple[float, ...]:
    return frame.header.layout.rows, frame.header.layout.columns


def _colour(frame: Frame) -> tuple[float, ...]:
    layout = frame.header.layout
    return layout.samples, layout.photometric == "PALETTE COLOR", layout.is_float


def _direction(frame: Frame) -> tuple[float, ...]:
    return () if frame.orientation is None else tuple(np.ravel(frame.orientation).tolist())


def _spacing(frame: Frame) -> tuple[float, ...]:
    return frame.spacing or ()


# what all slices of a volume share, the name of its tags, how far it may be rounded (relative, absolute)
_TRAITS: tuple[tuple[Callable[[Frame], tuple[float, ...]], str, float, float], ...] = (
    (_shape, f"{named('Rows')} x {named('Columns')}", 0, 0),
    (_colour, f"{named('SamplesPerPixel')}", 0, 0),
    (_direction, named("ImageOrientationPatient"), 0, 2e-3),
    (_spacing, f"{named('PixelSpacing')} in mm", 1e-3, 0),
)


def _check_alike(frames: list[Frame], path: Path) -> Frame:
    """Return a typical slice; raise when another has a different shape, direction or spacing."""
    typical = frames[0]
    for trait, tags, relative, absolute in _TRAITS:
        values = [trait(frame) for frame in frames]
        rounded = [tuple(round(v, 2) for v in value) for value in values]
        number = rounded.index(Counter(rounded).most_common(1)[0][0])
        typical, usual = frames[number], values[number]
        strangers = {
            frame: _list(value)
            for frame, value in zip(frames, values, strict=True)
            if len(value) != len(usual) or not np.allclose(value, usual, rtol=relative, atol=absolute)
        }
        if strangers:
            localizer = any("LOCALIZER" in (frame.value("ImageType") or "") for frame in strangers)
            raise InconsistentSeries(
                f"{path.name} holds images that do not fit one volume: {len(frames) - len(strangers)} have "
                f"{tags} {_list(usual)}, {len(strangers)} {'differ' if len(strangers) > 1 else 'differs'}: "
                f"{_names([f'{frame.name} ({value})' for frame, value in strangers.items()])}.\n"
                f"  {'A localizer is among them. ' if localizer else ''}"
                "Move these files out of the folder, or export them as a series of their own."
            )
    references = {frame.value("FrameOfReferenceUID") for frame in frames} - {None}
    if len(references) > 1:
        raise InconsistentSeries(
            f"{path.name}: its images name {len(references)} different {named('FrameOfReferenceUID')}, so their "
            "positions cannot be compared. Export each part as a series of its own."
        )
    return typical


def _photometric(frame: Frame) -> str:
    # colours all become RGB
    layout = frame.header.layout
    return "colour" if layout.samples == 3 else layout.photometric


def _sign(frame: Frame) -> str:
    return "signed" if frame.header.layout.signed else "unsigned"


def _mirror(frame: Frame) -> str:
    # any number of bits has its value; but the range about which MONOCHROME1 is turned must be one
    return str(frame.header.layout.bits_stored) if Values.of(frame).inverted else ""


# what the numbers of all slices share, in words that may be shown
_MEANINGS: tuple[tuple[Callable[[Frame], str], str], ...] = (
    (lambda frame: frame.transform, f"{named('RescaleSlope')} and {named('RescaleIntercept')}"),
    (lambda frame: frame.units or "US", f"{named('RescaleType')} or {named('Units')}"),
    (_photometric, named("PhotometricInterpretation")),
    (_sign, named("PixelRepresentation")),
    (_mirror, named("BitsStored")),
)


def _check_values_alike(frames: list[Frame], path: Path) -> None:
    """Raise when the numbers of one slice mean something else than those of another."""
    grey = [frame for frame in frames if _photometric(frame) in ("MONOCHROME1", "MONOCHROME2")]
    for meaning, tags in _MEANINGS:
        # colours have no units
        values = {frame: meaning(frame) for frame in (frames if meaning is _photometric else grey)}
        if len(set(values.values())) < 2:
            continue
        usual = Counter(values.values()).most_common(1)[0][0]
        strangers = [f"{frame.name} ({value})" for frame, value in values.items() if value != usual]
        raise InconsistentSeries(
            f"{path.name} holds images whose numbers mean different things ({tags}): "
            f"{len(values) - len(strangers)} have {usual}, "
            f"{counted(len(strangers), 'differs', 'differ')}: {_names(strangers)}.\n"
            "  Export the series again; if these files belong to another one, move them out of the folder."
        )


def _check_doubles(frames: list[Frame], depths: np.ndarray, path: Path) -> None:
    gaps = np.diff(depths)
    apart = gaps[gaps > 1e-3]
    closest = _SAME_PLACE * float(np.median(apart)) if len(apart) else 1e-3
    place = np.concatenate([[0], np.cumsum(gaps > closest)])
    per_place = np.bincount(place)
    if per_place.max() == 1:
        return
    crowded = int(np.argmax(per_place > 1))
    here = [frame for frame, where in zip(frames, place, strict=True) if where == crowded]
    kinds = {keyword: len({frame.value(keyword) for frame in here}) for keyword in DISTINGUISHING}
    reasons = [f"{named(keyword)} ({number} values)" for keyword, number in kinds.items() if number > 1]
    counts = sorted(set(per_place.tolist()))
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    why = f"They differ in {', '.join(reasons[:3])}" if reasons else "Nothing in their headers tells them apart"
    if len({frame.value("SOPInstanceUID") for frame in here}) < len({frame.header for frame in here}):
        why = f"They share one {named('SOPInstanceUID')}, and their pixels differ"
    raise InconsistentSeries(
        f"{path.name} holds several images of the same place: {len(frames)} images at {len(per_place)} positions "
        f"({each} each; {named('ImagePositionPatient')}), e.g. {_names([frame.name for frame in here])}.\n"
        f"  {why}: several phases, echoes or time points are several scans. Export one of them as its own series."
    )


def _check_tilt(frames: list[Frame], positions: np.ndarray, normal: np.ndarray, path: Path) -> None:
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    along = float(step @ normal)
    sideways = float(np.linalg.norm(step - along * normal))
    angle = float(np.degrees(np.arctan2(sideways, along)))
    unnoticed = _SIDEWAYS * min(frames[0].spacing or (1.0,))
    if angle > _TILT_DEGREES and sideways * (len(frames) - 1) > unnoticed:
        raise InconsistentSeries(
            f"{path.name}: its slices are sheared by {angle:.1f} degrees against their normal "
            f"({named('ImagePositionPatient')}), as under a tilted gantry ({named('GantryDetectorTilt')}).\n"
            "  Export the series reformatted without tilt, or resample it with a tool that corrects tilt."
        )
    line = positions[0] + np.arange(len(frames))[:, None] * step
    off = positions - line
    off -= (off @ normal)[:, None] * normal
    astray = np.linalg.norm(off, axis=1)
    if astray.max() > max(unnoticed, _REGULAR_MM):
        worst = [frames[n].name for n in np.argsort(-astray) if astray[n] > max(unnoticed, _REGULAR_MM)]
        raise InconsistentSeries(
            f"{path.name}: slices lie up to {astray.max():.2f} mm beside the line of the others "
            f"({named('ImagePositionPatient')}): {_names(worst)}.\n"
            "  Export the series again, as one volume."
        )


def _check_gaps(frames: list[Frame], depths: np.ndarray, path: Path) -> None:
    gaps = np.diff(depths)
    # the lower median, which is a distance that occurs; that of 3 and 6 mm is not 4.5 mm
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    wrong = np.flatnonzero(np.abs(gaps - usual) > max(_REGULAR * usual, _REGULAR_MM))
    if len(wrong):
        shown = [f"{gaps[n]:.4g} mm between {frames[n].name} and {frames[n + 1].name}" for n in wrong[:3].tolist()]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        lost = np.rint(gaps[wrong] / usual)
        whole = np.abs(gaps[wrong] - lost * usual) <= max(0.05 * usual, _REGULAR_MM)
        missing = int((lost - 1).sum())
        guess = "the distances are uneven"
        if whole.all() and missing > 0:
            guess = f"{missing} slice{'s seem' if missing > 1 else ' seems'} to be missing"
        raise InconsistentSeries(
            f"{path.name} is not a regular volume.\n"
            f"  Slices lie {usual:.4g} mm apart, except {'; '.join(shown)}{more} "
            f"({named('ImagePositionPatient')}): {guess}.\n"
            "  Export the series again."
        )
    # many gaps, each within its tolerance, may still add up
    even = np.linspace(depths[0], depths[-1], len(depths))
    off = np.abs(depths - even)
    if off.max() > max(0.1 * usual, _REGULAR_MM):
        raise InconsistentSeries(
            f"{path.name} is not a regular volume.\n"
            f"  The distance of its slices runs from {gaps.min():.4g} to {gaps.max():.4g} mm, so that "
            f"{frames[int(off.argmax())].name} lies {off.max():.3g} mm from where a regular volume has it "
            f"({named('ImagePositionPatient')}).\n"
            "  Export the series again, reformatted to even slices."
        )


def _list(values: Sequence[float]) -> str:
    return " x ".join(f"{v:.4g}" for v in values) if len(values) < 6 else ", ".join(f"{v:.4g}" for v in values)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
