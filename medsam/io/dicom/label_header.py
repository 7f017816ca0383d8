"""What a SEG or RTSTRUCT says of itself, without its masks: its structures and their codes, what it was drawn on,
and which earlier one it replaces.

An RTSTRUCT cites the one it replaces in (3006,0018) Predecessor Structure Set Sequence. The SEG's definition has no
attribute for that; viewers that store a revision (OHIF, on cornerstone3D) write (0040,A360) Predecessor Documents
Sequence into SEG and RTSTRUCT alike. Both are read, in both.

Source: DICOM PS3.3 C.8.8.5 (Structure Set), C.8.8.8 (RT ROI Observations), C.8.20.2 (Segmentation Image), C.12.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from medsam.io.dicom.rtstruct import regions_of
from medsam.io.dicom.seg import SEG_CLASSES, segments_of
from medsam.io.dicom.tags import number, sequence_items, sop_class, text, uid_of

# of the elements below, for a reader that asks for these alone
LABEL_KEYWORDS = (
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "SourceImageSequence",
    "SegmentationType",
    "PixelPaddingValue",
    "SegmentSequence",
    "StructureSetROISequence",
    "RTROIObservationsSequence",
    "PredecessorStructureSetSequence",
    "PredecessorDocumentsSequence",
    "StructureSetDate",
    "StructureSetTime",
    "ContentDate",
    "ContentTime",
    "InstanceCreationDate",
    "InstanceCreationTime",
)


@dataclass(frozen=True)
class PropertyCode:
    """What an object is coded as, by the values of its codes: its property type with the scheme of that, a modifier,
    mostly its side, and of a finding where it is.
    """

    scheme: str
    value: str
    modifier: str | None = None
    region: str | None = None
    region_modifier: str | None = None


@dataclass(frozen=True)
class LabelHeader:
    """A SEG or RTSTRUCT without its masks.

    codes: structure, as its reader names it -> the codes of its objects, each once; in the order of the file.
    series, instances: UIDs of the scans and images it says it was drawn on. frame_of_reference: its own, else the only
    one that its regions state. predecessors: SOP Instance UIDs it replaces. made: date and time as digits that sort,
    "" where there is none; never to be shown.
    """

    codes: Mapping[str, tuple[PropertyCode, ...]]
    series: frozenset[str]
    instances: frozenset[str]
    frame_of_reference: str | None
    predecessors: frozenset[str]
    made: str

    @classmethod
    def of(cls, dataset: Dataset, name: str) -> LabelHeader:
        """name: of the file, for messages. Raises InputError for a damaged one, and one without structures."""
        codes = (_segment_codes if sop_class(dataset) in SEG_CLASSES else _region_codes)(dataset, name)
        series, instances = set[str](), set[str]()
        for item in _cited_series(dataset, name):
            series.update(found for found in [uid_of(item, "SeriesInstanceUID")] if found)
            for keyword in ("ReferencedInstanceSequence", "ContourImageSequence"):
                instances.update(_texts(sequence_items(item, keyword, name), "ReferencedSOPInstanceUID"))
        instances.update(_texts(sequence_items(dataset, "SourceImageSequence", name), "ReferencedSOPInstanceUID"))
        predecessors = frozenset(_predecessors(dataset, name))
        frame = _frame_of_reference(dataset, name)
        return cls(codes, frozenset(series), frozenset(instances), frame, predecessors, _made(dataset))


def structures_of(dataset: Dataset, name: str) -> list[str]:
    """The structures of a SEG or RTSTRUCT, as its reader names them. Raises InputError as `LabelHeader.of` does."""
    if sop_class(dataset) in SEG_CLASSES:
        return list(dict.fromkeys(segment.structure for segment in segments_of(dataset, name)))
    return list(dict.fromkeys(structure for _, structure in regions_of(dataset, name)))


def _cited_series(dataset: Dataset, name: str) -> Iterator[Dataset]:
    yield from sequence_items(dataset, "ReferencedSeriesSequence", name)
    for frame in sequence_items(dataset, "ReferencedFrameOfReferenceSequence", name):
        for study in sequence_items(frame, "RTReferencedStudySequence", name):
            yield from sequence_items(study, "RTReferencedSeriesSequence", name)


def _frame_of_reference(dataset: Dataset, name: str) -> str | None:
    """(0020,0052) of the file, which some planning systems leave out, else what all its regions say."""
    if own := text(dataset, "FrameOfReferenceUID"):
        return own
    regions = sequence_items(dataset, "StructureSetROISequence", name)
    stated = set(_texts(regions, "ReferencedFrameOfReferenceUID"))
    stated = stated or set(
        _texts(sequence_items(dataset, "ReferencedFrameOfReferenceSequence", name), "FrameOfReferenceUID")
    )
    return stated.pop() if len(stated) == 1 else None


def _predecessors(dataset: Dataset, name: str) -> Iterator[str]:
    yield from _texts(sequence_items(dataset, "PredecessorStructureSetSequence", name), "ReferencedSOPInstanceUID")
    for document in sequence_items(dataset, "PredecessorDocumentsSequence", name):
        for series in sequence_items(document, "ReferencedSeriesSequence", name):
            yield from _texts(sequence_items(series, "ReferencedSOPSequence", name), "ReferencedSOPInstanceUID")


def _texts(items: Sequence[Dataset], keyword: str) -> Iterator[str]:
    for item in items:
        if found := text(item, keyword):
            yield found


def _made(dataset: Dataset) -> str:
    """When the structures were drawn, else when the file was made; compared, never shown."""
    for kind in ("StructureSet", "Content", "InstanceCreation"):
        day = "".join(filter(str.isdigit, text(dataset, f"{kind}Date") or ""))
        if len(day) == 8:
            whole, _, part = (text(dataset, f"{kind}Time") or "").partition(".")
            hour = "".join(filter(str.isdigit, whole))[:6]
            return f"{day}{hour:0<6}{''.join(filter(str.isdigit, part))[:6]:0<6}"
    return ""


# -- codes --------------------------------------------------------------------------------------------------


def _segment_codes(dataset: Dataset, name: str) -> dict[str, tuple[PropertyCode, ...]]:
    by_number = {
        int(number(item, "SegmentNumber", name) or 0): _property_code(
            item, "SegmentedPropertyTypeCodeSequence", "AnatomicRegionSequence", name
        )
        for item in sequence_items(dataset, "SegmentSequence", name)
    }
    return _by_structure([(one.structure, by_number.get(one.number)) for one in segments_of(dataset, name)])


def _region_codes(dataset: Dataset, name: str) -> dict[str, tuple[PropertyCode, ...]]:
    by_number = {
        int(number(item, "ReferencedROINumber", name) or 0): _property_code(
            item, "RTROIIdentificationCodeSequence", "AnatomicRegionSequence", name
        )
        for item in sequence_items(dataset, "RTROIObservationsSequence", name)
    }
    return _by_structure([(structure, by_number.get(at)) for at, structure in regions_of(dataset, name)])


def _by_structure(pairs: Sequence[tuple[str, PropertyCode | None]]) -> dict[str, tuple[PropertyCode, ...]]:
    found: dict[str, tuple[PropertyCode, ...]] = {}
    for structure, code in pairs:
        before = found.setdefault(structure, ())
        if code is not None and code not in before:
            found[structure] = (*before, code)
    return found


def _property_code(item: Dataset, keyword: str, region: str, name: str) -> PropertyCode | None:
    types = sequence_items(item, keyword, name)
    if not types or (found := _code(types[0])) is None:
        return None
    # a writer may put the side into the type, or beside it
    modifiers = [
        *sequence_items(types[0], "SegmentedPropertyTypeModifierCodeSequence", name),
        *sequence_items(item, "SegmentedPropertyTypeModifierCodeSequence", name),
    ]
    places = sequence_items(item, region, name)
    sides = [side for place in places for side in sequence_items(place, "AnatomicRegionModifierSequence", name)]
    return PropertyCode(*found, *(_first_value(codes) for codes in (modifiers, places, sides)))


def _first_value(items: Sequence[Dataset]) -> str | None:
    return next((code[1] for code in map(_code, items) if code), None)


def _code(item: Dataset) -> tuple[str, str] | None:
    """(scheme, value) of an item of a code sequence."""
    scheme = text(item, "CodingSchemeDesignator")
    value = text(item, "CodeValue") or text(item, "LongCodeValue") or text(item, "URNCodeValue")
    return (scheme, value) if scheme and value else None
