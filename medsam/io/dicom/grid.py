"""Images of one series -> the grid they lie on, sorted, or what is wrong with them.

Slices are sorted by their position along the normal of their plane, ascending in LPS along the normal's main
axis: feet, right or front first, so array index k grows toward S, L or P. Columns and rows stay as stored. The
affine says so exactly: i steps along the row, j down the column, k from the first slice to the last, its pitch
the mean distance of their positions ((0020,0032)), never a slice thickness.

Nothing is guessed: gaps, doubled or tilted slices are errors that say which files and what to do.
Source: DICOM PS3.3 C.7.6.2.1.1 (position and orientation of a plane).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from medsam.errors import InconsistentSeries, InputError, counted
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.frame import ImageFrame
from medsam.io.dicom.pixels.common import Values
from medsam.io.dicom.tags import DISTINGUISHING, named

# slices that are regular but for the rounding of headers: share of their distance, or mm, whichever is larger
_REGULAR, _REGULAR_MM = 0.01, 0.01
# slices nearer than this share of the usual distance lie at the same place
_SAME_PLACE = 0.05
_TILT_DEGREES = 0.1
# sideways displacement that goes unnoticed, in pixels
_SIDEWAYS = 0.1


def arrange(frames: list[ImageFrame], name: str) -> tuple[VolumeGeometry, list[ImageFrame]]:
    """The grid of the images and the images in the order of k."""
    unplaced = [frame for frame in frames if frame.position is None or frame.orientation is None]
    single_file = len({frame.header for frame in frames}) == 1
    if not unplaced and (len(frames) > 1 or frames[0].spacing is not None):
        return _stack(frames, name)
    if single_file and len(unplaced) in (0, len(frames)):
        return _without_place(frames), frames
    missing = "ImagePositionPatient" if unplaced[0].position is None else "ImageOrientationPatient"
    raise InconsistentSeries(
        f"{name}: {len(unplaced)} of {len(frames)} images of the series have no {named(missing)}, so their "
        f"place in a volume is unknown: {_names([frame.name for frame in unplaced])}.\n"
        "  Pass one of the files alone, or export the series again with its geometry."
    )


def _without_place(frames: list[ImageFrame]) -> VolumeGeometry:
    """Images without a place: k is the frame, columns run left, rows run back."""
    layout = frames[0].header.layout
    spacing = frames[0].projected_spacing
    row, column = spacing or (1.0, 1.0)
    thickness = frames[0].slice_thickness if spacing else 1.0
    affine = np.diag([column, row, thickness, 1.0])
    return VolumeGeometry((len(frames), layout.rows, layout.columns), affine, calibrated=spacing is not None)


def _stack(frames: list[ImageFrame], name: str) -> tuple[VolumeGeometry, list[ImageFrame]]:
    """Sort parallel slices along their normal and place them in space."""
    typical = _check_alike(frames, name)
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
        _check_doubles(frames, depths, name)
        _check_tilt(frames, positions, normal, name)
        _check_gaps(frames, depths, name)
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


def _shape(frame: ImageFrame) -> tuple[float, ...]:
    return frame.header.layout.rows, frame.header.layout.columns


def _colour(frame: ImageFrame) -> tuple[float, ...]:
    layout = frame.header.layout
    return layout.samples, layout.photometric == "PALETTE COLOR", layout.is_float


def _direction(frame: ImageFrame) -> tuple[float, ...]:
    return () if frame.orientation is None else tuple(np.ravel(frame.orientation).tolist())


def _spacing(frame: ImageFrame) -> tuple[float, ...]:
    return frame.spacing or ()


# what all slices of a volume share, the name of its tags, how far it may be rounded (relative, absolute)
_TRAITS: tuple[tuple[Callable[[ImageFrame], tuple[float, ...]], str, float, float], ...] = (
    (_shape, f"{named('Rows')} x {named('Columns')}", 0, 0),
    (_colour, f"{named('SamplesPerPixel')}", 0, 0),
    (_direction, named("ImageOrientationPatient"), 0, 2e-3),
    (_spacing, f"{named('PixelSpacing')} in mm", 1e-3, 0),
)


def _check_alike(frames: list[ImageFrame], name: str) -> ImageFrame:
    """Return a typical slice; raise when another has a different shape, direction or spacing."""
    typical = frames[0]
    for trait, tags, relative, absolute in _TRAITS:
        values = [trait(frame) for frame in frames]
        rounded = [tuple(round(v, 2) for v in value) for value in values]
        number = rounded.index(Counter(rounded).most_common(1)[0][0])
        typical, usual = frames[number], values[number]
        differing = {
            frame: _list(value)
            for frame, value in zip(frames, values, strict=True)
            if len(value) != len(usual) or not np.allclose(value, usual, rtol=relative, atol=absolute)
        }
        if differing:
            localizer = any("LOCALIZER" in (frame.value("ImageType") or "") for frame in differing)
            raise InconsistentSeries(
                f"{name} holds images that do not fit one volume: {len(frames) - len(differing)} have "
                f"{tags} {_list(usual)}, {len(differing)} {'differ' if len(differing) > 1 else 'differs'}: "
                f"{_names([f'{frame.name} ({value})' for frame, value in differing.items()])}.\n"
                f"  {'A localizer is among them. ' if localizer else ''}"
                "Move these files out of the folder, or export them as a series of their own."
            )
    references = {frame.value("FrameOfReferenceUID") for frame in frames} - {None}
    if len(references) > 1:
        raise InconsistentSeries(
            f"{name}: its images name {len(references)} different {named('FrameOfReferenceUID')}, so their "
            "positions cannot be compared. Export each part as a series of its own."
        )
    return typical


def _photometric(frame: ImageFrame) -> str:
    # colours all become RGB
    layout = frame.header.layout
    return "colour" if layout.samples == 3 else layout.photometric


def _sign(frame: ImageFrame) -> str:
    return "signed" if frame.header.layout.signed else "unsigned"


def _mirror(frame: ImageFrame) -> str:
    # any number of bits has its value; but the range about which MONOCHROME1 is turned must be one
    return str(frame.header.layout.bits_stored) if Values.of(frame).inverted else ""


# what the numbers of all slices share, in words that may be shown
_MEANINGS: tuple[tuple[Callable[[ImageFrame], str], str], ...] = (
    (lambda frame: frame.transform, f"{named('RescaleSlope')} and {named('RescaleIntercept')}"),
    (lambda frame: frame.units or "US", f"{named('RescaleType')} or {named('Units')}"),
    (_photometric, named("PhotometricInterpretation")),
    (_sign, named("PixelRepresentation")),
    (_mirror, named("BitsStored")),
)


def check_values_alike(frames: list[ImageFrame], name: str) -> None:
    """Raise when the numbers of one slice mean something else than those of another."""
    grey = [frame for frame in frames if _photometric(frame) in ("MONOCHROME1", "MONOCHROME2")]
    for meaning, tags in _MEANINGS:
        # colours have no units
        values = {frame: meaning(frame) for frame in (frames if meaning is _photometric else grey)}
        if len(set(values.values())) < 2:
            continue
        usual = Counter(values.values()).most_common(1)[0][0]
        differing = [f"{frame.name} ({value})" for frame, value in values.items() if value != usual]
        raise InconsistentSeries(
            f"{name} holds images whose numbers mean different things ({tags}): "
            f"{len(values) - len(differing)} have {usual}, "
            f"{counted(len(differing), 'differs', 'differ')}: {_names(differing)}.\n"
            "  Export the series again; if these files belong to another one, move them out of the folder."
        )


def _check_doubles(frames: list[ImageFrame], depths: np.ndarray, name: str) -> None:
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
        f"{name} holds several images of the same place: {len(frames)} images at {len(per_place)} positions "
        f"({each} each; {named('ImagePositionPatient')}), e.g. {_names([frame.name for frame in here])}.\n"
        f"  {why}: several phases, echoes or time points are several scans. Export one of them as its own series."
    )


def _check_tilt(frames: list[ImageFrame], positions: np.ndarray, normal: np.ndarray, name: str) -> None:
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    along = float(step @ normal)
    sideways = float(np.linalg.norm(step - along * normal))
    angle = float(np.degrees(np.arctan2(sideways, along)))
    unnoticed = _SIDEWAYS * min(frames[0].spacing or (1.0,))
    if angle > _TILT_DEGREES and sideways * (len(frames) - 1) > unnoticed:
        raise InconsistentSeries(
            f"{name}: its slices are sheared by {angle:.1f} degrees against their normal "
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
            f"{name}: slices lie up to {astray.max():.2f} mm beside the line of the others "
            f"({named('ImagePositionPatient')}): {_names(worst)}.\n"
            "  Export the series again, as one volume."
        )


def _check_gaps(frames: list[ImageFrame], depths: np.ndarray, name: str) -> None:
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
            f"{name} is not a regular volume.\n"
            f"  Slices lie {usual:.4g} mm apart, except {'; '.join(shown)}{more} "
            f"({named('ImagePositionPatient')}): {guess}.\n"
            "  Export the series again."
        )
    # many gaps, each within its tolerance, may still add up
    even = np.linspace(depths[0], depths[-1], len(depths))
    off = np.abs(depths - even)
    if off.max() > max(0.1 * usual, _REGULAR_MM):
        raise InconsistentSeries(
            f"{name} is not a regular volume.\n"
            f"  The distance of its slices runs from {gaps.min():.4g} to {gaps.max():.4g} mm, so that "
            f"{frames[int(off.argmax())].name} lies {off.max():.3g} mm from where a regular volume has it "
            f"({named('ImagePositionPatient')}).\n"
            "  Export the series again, reformatted to even slices."
        )


def _list(values: Sequence[float]) -> str:
    return " x ".join(f"{v:.4g}" for v in values) if len(values) < 6 else ", ".join(f"{v:.4g}" for v in values)


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
