"""Masks on the grid of a DICOM series -> DICOM Segmentation (SEG).

highdicom writes the object: its modules, its segments, its codes. The frames are laid out here, one structure after the
other, because highdicom takes the masks as one array: overlapping structures would have to stand in (K, J, I, S) bytes,
3 GB for 40 of them in a scan of 300 x 512 x 512. A frame lies on the plane of an image of the source, by the numbers of
that image's header, and refers to it: viewers refuse planes that the source has not.

  BINARY     a bit a pixel, one frame for each structure and slice that has any of it; structures may overlap.
             Uncompressed: nothing else is read everywhere
  LABELMAP   a number a pixel, one frame for each slice that has any structure, RLE; smaller, and younger than many
             readers; structures must not overlap

Letters: K, J, I the grid; S structures, which are segments 1 ... S.
Source: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (Segmentation modules), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import format_number_as_ds

from medsam.errors import InputError
from medsam.io.algorithm import UNKNOWN, Algorithm
from medsam.io.dicom.derive import (
    EQUIPMENT,
    MANUFACTURER,
    SourceImage,
    SourceImages,
    SourcePlane,
    colour_of,
    image_reference,
    item_of,
    new_uid,
    quiet_writer,
    reference,
)
from medsam.io.dicom.frame_groups import FrameGroups, check_size, write_seg
from medsam.io.dicom.run_lengths import encode_run_lengths
from medsam.io.dicom.tags import named
from medsam.io.structure_names import one_line, plain_name
from medsam.labels import UNKNOWN_CATEGORY, UNKNOWN_TYPE, Code, structure
from medsam.masks import CompactMask

# (0062,0004) Segment Number has 16 bits
_MOST_SEGMENTS = 65535
# characters of a short text (LO), and of the longer one that viewers show on request (ST)
_SHORT, _LONG = 64, 1024


@dataclass(frozen=True)
class SegOptions:
    """labelmap: as LABELMAP (see the beginning of this file), for structures that do not overlap. remarks: ends of
    descriptions, by name of the structure.
    """

    labelmap: bool = False
    remarks: Mapping[str, str] = field(default_factory=dict)


def encode_seg(
    masks: Mapping[str, CompactMask], source: SourceImages, algorithm: Algorithm, options: SegOptions | None = None
) -> bytes:
    """The file: masks (K, J, I) on the grid of the source by their names, as segments in this order.

    A structure without a voxel is a segment without frames; where none has any, each has one empty frame.
    A name of more than 64 characters is shortened, with the whole in (0062,0006) Segment Description. Codes and colours
    are those of `medsam.labels`; a name that it does not know is tissue of no particular kind.
    UIDs and times are new; all else depends on the arguments alone.
    Raises InputError for images without a place in the patient, for no structure, more than 65535 of them or more than
    4 GB, and for structures that overlap in a LABELMAP.
    """
    options = options or SegOptions()
    if source.plane is None:
        raise InputError(f"A DICOM SEG lies in the patient, its images do not ({named('ImagePositionPatient')}).")
    if not masks:
        raise InputError(
            "A DICOM SEG holds one structure or more, and there is none: the labels are empty and unnamed."
        )
    if len(masks) > _MOST_SEGMENTS:
        raise InputError(f"A DICOM SEG holds up to {_MOST_SEGMENTS} structures, not {len(masks)}.")
    overlapping = _overlap(masks)
    if options.labelmap and overlapping:
        first, second = overlapping
        raise InputError(
            f"{first!r} and {second!r} overlap, and a label map has one number a voxel. Write `format` seg, the "
            "default.",
            parameter="format",
        )
    with quiet_writer():
        seg = _without_frames(list(masks), source, source.plane, algorithm, options)
        seg.SegmentsOverlap = "YES" if overlapping else "NO"
        # stated with each frame, not once where there is one segment: not every reader looks elsewhere
        seg.SharedFunctionalGroupsSequence[0].pop("SegmentIdentificationSequence", None)
        groups, pixels = (_label_frames if options.labelmap else _binary_frames)(seg, masks, source)
        return write_seg(seg, groups, pixels, encapsulated=options.labelmap)


def _overlap(masks: Mapping[str, CompactMask]) -> tuple[str, str] | None:
    """Two structures that share a voxel, or None."""
    filled = {name: mask for name, mask in masks.items() if mask}
    if len(filled) < 2:
        return None
    union = np.zeros(next(iter(filled.values())).shape, dtype=bool)
    for name, mask in filled.items():
        here, crop = union[mask.part], mask.crop
        if (here & crop).any():
            other = next(other for other, earlier in filled.items() if (earlier.to_array()[mask.part] & crop).any())
            return other, name
        here |= crop
    return None


def naming_notes(names: Sequence[str]) -> list[str]:
    """What to know of the labels of segments that structures get: those that differ from their names."""
    changed = [(name, label) for name, label in zip(names, _labels(names), strict=True) if name != label]
    return [f"{name!r} is called {label!r} in the SEG." for name, label in changed]


# -- the object without its frames --------------------------------------------------------------------------


def _without_frames(
    names: Sequence[str], source: SourceImages, plane: SourcePlane, algorithm: Algorithm, options: SegOptions
) -> Dataset:
    """The SEG with all that does not depend on where the structures are, as highdicom writes it."""
    from highdicom.seg import Segmentation

    texts = (*names, *options.remarks.values(), algorithm.name, algorithm.version, algorithm.licence)
    template = _template(source, plane, texts)
    # not shown to highdicom, which logs names that it finds unusual
    patient, template.PatientName = template.PatientName, ""
    whole = algorithm.of(*names)
    segments = [
        _segment(number, name, label, algorithm.of(name), options.remarks.get(name, ""))
        for number, (name, label) in enumerate(zip(names, _labels(names), strict=True), start=1)
    ]
    seg = Segmentation(
        source_images=[template],
        pixel_array=np.zeros((1, *source.geometry.shape[1:]), dtype=np.uint8),
        segmentation_type="LABELMAP" if options.labelmap else "BINARY",
        segment_descriptions=segments,
        series_instance_uid=new_uid(),
        series_number=source.derived_series_number,
        sop_instance_uid=new_uid(),
        instance_number=1,
        **EQUIPMENT,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
        content_label="SEGMENTATION",
        content_description=_content_description(whole),
        series_description=_cut(f"Segmentation ({by})" if (by := _by(whole)) else "Segmentation", _SHORT),
    )
    if options.labelmap:
        seg.file_meta.TransferSyntaxUID = RLELossless
    seg.PatientName = patient
    seg.ContentCreatorName = ""
    now = datetime.now()  # noqa: DTZ005 - of the place, as dates and times in DICOM are
    seg.SeriesDate, seg.SeriesTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    organisation = new_uid()
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [reference(*one) for one in source.instances]
    seg.SourceImageSequence = [reference(*one) for one in source.instances]
    return seg


def _template(source: SourceImages, plane: SourcePlane, texts: Sequence[str]) -> Dataset:
    """The first image as highdicom needs it: whose it is, and how its plane lies."""
    template = source.header_for(texts)
    pitch = source.geometry.spacing_mm[0]
    template.SOPInstanceUID = source.images[0].sop_instance
    template.SeriesInstanceUID = source.series
    template.FrameOfReferenceUID = plane.frame_of_reference
    template.Rows, template.Columns = source.geometry.shape[1:]
    for keyword in ("NumberOfFrames", "SpacingBetweenSlices"):
        template.pop(keyword, None)
    template.ImagePositionPatient = _position(source.images[0])
    template.ImageOrientationPatient = _decimals(plane.orientation)
    template.PixelSpacing = _decimals(plane.spacing)
    template.SliceThickness = _decimals([plane.thickness or pitch])[0]
    if len(source.images) > 1:
        template.SpacingBetweenSlices = _decimals([pitch])[0]
    return template


def _position(image: SourceImage) -> list[str]:
    return _decimals([] if image.position is None else image.position)


def _decimals(values: Iterable[float]) -> list[str]:
    """As text of at most 16 characters, all that a DS may have."""
    return [format_number_as_ds(float(value)) for value in values]


# -- what a structure is ------------------------------------------------------------------------------------


def _segment(number: int, name: str, label: str, algorithm: Algorithm, remark: str) -> Dataset:
    """One item of (0062,0002) Segment Sequence."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    known = structure(name)
    by = None
    if algorithm.kind != "MANUAL":
        by = AlgorithmIdentificationSequence(
            name=_cut(one_line(algorithm.name) or UNKNOWN, _SHORT),
            version=_cut(one_line(algorithm.version) or UNKNOWN, _SHORT),
            family=codes.DCM.ArtificialIntelligence,
            source=MANUFACTURER,
            parameters=_parameters(algorithm),
        )
    item = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=_concept(known.category if known else UNKNOWN_CATEGORY),
        segmented_property_type=_concept(known.type if known else UNKNOWN_TYPE),
        algorithm_type=algorithm.kind,
        algorithm_identification=by,
        tracking_uid=new_uid(),
        tracking_id=label,
        anatomic_regions=[_concept(known.region)] if known and known.region else None,
        display_color=CIELabColor.from_rgb(*colour_of(known, number)),
    )
    # highdicom has no arguments for these
    if known and known.modifier:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(known.modifier)]
    if known and known.region and known.region_modifier:
        item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(known.region_modifier)]
    item.SegmentDescription = _description(name, label, algorithm, remark)
    return item


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _labels(names: Sequence[str]) -> list[str]:
    """What (0062,0005) Segment Label can hold of each name, no two alike unless the names are."""
    labels = []
    # readers take segments of one name for parts of one structure
    taken = {plain_name(name) for name in names if name == _cut(one_line(name), _SHORT)}
    for number, name in enumerate(names, start=1):
        plain = one_line(name) or f"segment {number}"
        label, count = _cut(plain, _SHORT), 1
        while label != name and plain_name(label) in taken:
            count += 1
            label = f"{plain[: _SHORT - 6].rstrip()} ({count})"
        taken.add(plain_name(label))
        labels.append(label)
    return labels


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3].rstrip() + "..."


def _content_description(algorithm: Algorithm) -> str:
    """Who, with which weights, under which licence, in the 64 characters of a short text."""
    weights = f"weights {algorithm.digest[:12]}" if algorithm.digest else ""
    parts = (_cut(_by(algorithm), 24), weights, one_line(algorithm.licence))
    return _cut(", ".join(part for part in parts if part), _SHORT)


def _by(algorithm: Algorithm) -> str:
    """The name, "" where it is not known."""
    name = one_line(algorithm.name)
    return "" if name == UNKNOWN else name


def _parameters(algorithm: Algorithm) -> dict[str, str] | None:
    stated = {"weights sha256": algorithm.digest, "licence": one_line(algorithm.licence)}
    return {key: value for key, value in stated.items() if value} or None


def _description(name: str, label: str, algorithm: Algorithm, remark: str) -> str:
    """For who asks what a segment is, who drew it, and what else is known of it."""
    how = {"MANUAL": "Drawn by hand", "SEMIAUTOMATIC": "Segmented semiautomatically", "AUTOMATIC": "Segmented"}
    by = [f"{_by(algorithm)} {one_line(algorithm.version)}"] if _by(algorithm) and algorithm.kind != "MANUAL" else []
    by += [f"{key} {value}" for key, value in (_parameters(algorithm) or {}).items()]
    whole = f"{one_line(name)}. " if one_line(name) not in ("", label) else ""
    more = f" {_cut(one_line(remark), _LONG // 2)}" if remark else ""
    tail = f"{how[algorithm.kind]}{' by ' if by else ''}{'; '.join(by)}.{more}"
    return _cut(whole, max(_LONG - len(tail), 3)) + tail


# -- frames -------------------------------------------------------------------------------------------------


def _binary_frames(
    seg: Dataset, masks: Mapping[str, CompactMask], source: SourceImages
) -> tuple[FrameGroups, list[bytes]]:
    """A frame a structure and slice, in this order, a bit a pixel without gaps between the frames."""
    where = {number: mask.indices() for number, mask in enumerate(masks.values(), start=1)}
    if not any(where.values()):
        # there must be a frame
        where = {number: [0] for number in where}
    rows, columns = source.geometry.shape[1:]
    check_size(sum(map(len, where.values())) * rows * columns // 8)
    groups = _groups(source.images, set().union(*where.values()))
    packed, rest = list[bytes](), np.zeros(0, dtype=bool)
    for number, mask in enumerate(masks.values(), start=1):
        for k, frame in zip(where[number], _slices(mask, where[number]), strict=True):
            groups.add(k, number)
            bits = np.concatenate([rest, frame.ravel()]) if rest.size else frame.ravel()
            whole = bits.size // 8 * 8
            packed.append(np.packbits(bits[:whole], bitorder="little").tobytes())
            rest = bits[whole:]
    packed.append(np.packbits(rest, bitorder="little").tobytes())
    return groups, packed


def _slices(mask: CompactMask, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """The mask on these slices, bool (J, I) each."""
    crop, (first, past) = mask.crop, mask.bounds[0]
    for k in indices:
        frame = np.zeros(mask.shape[1:], dtype=bool)
        if first <= k < past:
            frame[mask.part[1:]] = crop[k - first]
        yield frame


def _label_frames(
    seg: Dataset, masks: Mapping[str, CompactMask], source: SourceImages
) -> tuple[FrameGroups, list[bytes]]:
    """A frame a slice, with the number of the segment in each pixel."""
    labels = np.zeros(source.geometry.shape, dtype=np.uint8 if seg.BitsAllocated == 8 else np.uint16)
    for number, mask in enumerate(masks.values(), start=1):
        labels[mask.part][mask.crop] = number
    there = np.flatnonzero(labels.any(axis=(1, 2))).tolist() or [0]
    groups, frames = _groups(source.images, there), []
    for k in there:
        groups.add(k)
        frames.append(encode_run_lengths(labels[k]))
    return groups, [encapsulate(frames)]


def _groups(images: Sequence[SourceImage], planes: Iterable[int]) -> FrameGroups:
    """Of frames on these slices k."""
    there = sorted(planes)
    position = {k: item_of(ImagePositionPatient=_position(images[k])) for k in there}
    return FrameGroups({k: _derivation(images[k]) for k in there}, position)


def _derivation(image: SourceImage) -> Dataset:
    source = image_reference(image)
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = [_coded(codes.DCM.SourceImageForImageProcessingOperation)]
    return item_of(SourceImageSequence=[source], DerivationCodeSequence=[_coded(codes.DCM.Segmentation)])


def _coded(code: Any) -> Dataset:
    return item_of(CodeValue=code.value, CodingSchemeDesignator=code.scheme_designator, CodeMeaning=code.meaning)
