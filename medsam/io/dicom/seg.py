"""DICOM Segmentation (SEG) -> one mask per segment on a given grid.

Letters: K, J, I the target grid (see `geometry`).

What a structure fills of the frames: see `seg_frames`. Where frames lie, and what of them lies where on the target
grid: see `seg_grid`.

Source: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (Segmentation modules), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.dicom.read import check_frame_of_reference, open_dicom, quiet
from medsam.io.dicom.seg_frames import frames_of, parts_of
from medsam.io.dicom.seg_grid import FrameStack, GridPlacement, corners_mm, extent
from medsam.io.dicom.tags import number, sequence_items, text
from medsam.io.structure_names import plain_name, structure_of_each, united
from medsam.masks import PackedMasks

SEG_CLASSES: Mapping[str, str] = {
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
}

# of Background, PS3.16 annex D
_BACKGROUND = "DCM 125040"


def read_seg(path: Path, geometry: VolumeGeometry, *, frame_of_reference: str | None = None) -> PackedMasks:
    """Masks of all structures of a DICOM SEG, on the grid of `geometry`.

    frame_of_reference: (0020,0052) Frame of Reference UID of the scan; when given, a SEG in another one is
        refused, because its millimetres mean other places.
    Returns (0062,0005) Segment Label -> bool (K, J, I), in the order of the segment sequence; segments of one name
    are one structure (see `structure_names`), background is none (see `segments_of`). BINARY and LABELMAP as stored;
    FRACTIONAL, whether probability or occupancy, from half of (0062,000E) Maximum Fractional Value on.
    Raises InputError when the file is not a SEG, is damaged, has no segments or frames, has frames without a
    place in the patient or of different orientations, or covers nothing of the grid.
    """
    dataset = open_dicom(path, SEG_CLASSES, "a DICOM SEG")
    try:
        with quiet():
            check_frame_of_reference(path, dataset.get("FrameOfReferenceUID"), frame_of_reference)
            segments = segments_of(dataset, str(path))
            kind = text(dataset, "SegmentationType")
            if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
                raise InputError(
                    f"{path}: (0062,0001) Segmentation Type is missing or unknown; BINARY, FRACTIONAL or LABELMAP is "
                    "needed. Export the SEG again."
                )
            stack = FrameStack.of(path, dataset)
            frames = frames_of(path, dataset, len(stack.plane))
            described = {int(item.SegmentNumber) for item in dataset.SegmentSequence}
    except InputError:
        raise
    except Exception as error:  # pydicom and the pixel decoders raise what they like on damaged files
        # only an AttributeError is sure to speak of the standard's attributes and not of their values
        reason = str(error) if isinstance(error, AttributeError) else type(error).__name__
        raise InputError(
            f"{path}: not a readable DICOM SEG ({reason}). It may be cut off or lack required attributes; "
            "export it again."
        ) from error
    if kind != "LABELMAP" and set(stack.segment.tolist()) - described:
        raise InputError(
            f"{path}: a frame's (0062,000B) Referenced Segment Number is missing or names a segment that "
            "(0062,0002) Segment Sequence does not describe. Export the SEG again."
        )

    place = GridPlacement.of(stack, frames.size, geometry)
    if not place.any_overlap():
        raise InputError(
            f"{path}: no frame of the SEG touches the scan: it covers {extent(stack.corners_mm(frames.size))}, "
            f"the scan {extent(corners_mm(geometry))} (LPS mm). It belongs to another scan."
        )
    parts: dict[str, list[int]] = {}
    for segment in segments:
        parts.setdefault(segment.structure, []).append(segment.number)
    notes = _notes_on(segments)
    masks = PackedMasks(geometry.shape)
    for name, part in parts_of(stack, frames, parts):
        found = part and place.resample(part)
        mask, start = found or (None, (0, 0, 0))
        masks.add(name, mask, notes.get(name, ()), start=start)
    return masks


@dataclass(frozen=True)
class Segment:
    """One segment of a SEG. structure: what it is a part of. codes: of its category and type, to be compared."""

    number: int
    structure: str
    codes: tuple[str, ...]


def segments_of(dataset: Dataset, name: str) -> list[Segment]:
    """The segments of a SEG, without its background; `name` is the file's, for messages.

    Background is no structure: in a LABELMAP the number 0 and (0028,0120) Pixel Padding Value, anywhere what is
    coded as background (DCM 125040) or called so.
    Raises InputError when there are no segments, one has no number, or two of different names share one.
    """
    items = sequence_items(dataset, "SegmentSequence", name)
    if not items:
        raise InputError(f"{name}: (0062,0002) Segment Sequence is missing or empty: the SEG has no segments.")
    numbers, labels, codes = [], [], []
    for item in items:
        at = number(item, "SegmentNumber", name)
        if at is None or at != int(at):
            raise InputError(f"{name}: a segment has no (0062,0004) Segment Number. Export the SEG again.")
        numbers.append(int(at))
        labels.append(text(item, "SegmentLabel") or "")
        codes.append(_codes(item, name))
    empty = set()
    if text(dataset, "SegmentationType") == "LABELMAP":
        empty = {0, int(number(dataset, "PixelPaddingValue", name) or 0)}
    found = [
        Segment(at, structure, code)
        for at, structure, code in zip(numbers, structure_of_each(labels), codes, strict=True)
        if at not in empty and _BACKGROUND not in code and plain_name(structure) != "background"
    ]
    if not found:
        raise InputError(f"{name}: (0062,0002) Segment Sequence describes nothing but background.")
    by_number: dict[int, str] = {}
    for segment in found:
        other = by_number.setdefault(segment.number, segment.structure)
        if other != segment.structure:
            raise InputError(
                f"{name}: {other!r} and {segment.structure!r} have the same (0062,0004) Segment Number "
                f"{segment.number}, so it is not known whose frames are whose. Export the SEG again."
            )
    return found


def _codes(item: Dataset, name: str) -> tuple[str, ...]:
    codes = []
    for keyword in ("SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"):
        for code in sequence_items(item, keyword, name)[:1]:
            modifiers = sequence_items(code, "SegmentedPropertyTypeModifierCodeSequence", name)
            codes += [f"{text(c, 'CodingSchemeDesignator')} {text(c, 'CodeValue')}" for c in (code, *modifiers)]
    return tuple(codes)


def _notes_on(segments: Sequence[Segment]) -> dict[str, list[str]]:
    notes = united((segment.structure for segment in segments), "segments")
    for name, sentences in notes.items():
        if len({segment.codes for segment in segments if segment.structure == name}) > 1:
            sentences.append(f"The segments named {name!r} differ in their property codes (e.g. left and right).")
    return notes
