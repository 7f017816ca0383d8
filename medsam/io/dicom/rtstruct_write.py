"""Masks on the grid of a DICOM series -> an RT Structure Set (RTSTRUCT) that refers to its images.

Each structure is one region, outlined slice by slice (see `outlines`): the outlines lie in the planes of the images,
as these state them, so oblique, sagittal and coronal series need nothing of their own. Holes are contours of their
own, which readers take by exclusive or; or keyholes. Every contour names the one image it was drawn on. A structure
without pixels is a region without contours.

Coordinates have four decimals, or as many as a thousandth of a pixel needs; DS takes 16 characters. Their text is put
together here and not by pydicom, which makes an object of each number. The file is explicit VR little endian; implicit
where a contour is longer than the 64 kB that explicit VR has room for.

Letters: K slices of the source; N points of a contour.
Source: DICOM PS3.3 A.19 (RT Structure Set IOD), C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour), C.8.8.8 (RT ROI
Observations), PS3.5 6.2 (DS) and 7.1.2 (lengths).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO

import numpy as np
from pydicom import DataElement, Dataset, dcmwrite
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.algorithm import UNKNOWN, Algorithm
from medsam.io.contours import MOST_LOOPS
from medsam.io.dicom.derive import (
    SourceImages,
    colour_of,
    derived_dataset,
    image_reference,
    item_of,
    quiet_writer,
    reference,
)
from medsam.io.dicom.tags import named
from medsam.io.outlines import outlines
from medsam.io.roi_names import roi_names
from medsam.io.structure_names import one_line
from medsam.labels import Code, rt_type, structure
from medsam.masks import CompactMask

_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
_CONTOUR_DATA = Tag("ContourData")
_IMAGES = Tag("ContourImageSequence")
# characters of a DS, bytes of one in explicit VR
_LONGEST_NUMBER, _LONGEST_TEXT = 16, 65_534
_DECIMALS = 4
# of a coordinate, in pixels
_PRECISION = 1e-3


@dataclass(frozen=True)
class RtstructOptions:
    """keyhole: each region of a slice is one contour that reaches its holes by channels without width, for systems that
    fill holes. tps: names have at most 16 characters, for planning systems that take no longer ones. remarks: ends of
    the regions' descriptions, by name.
    """

    keyhole: bool = False
    tps: bool = False
    remarks: Mapping[str, str] = field(default_factory=dict)


def encode_rtstruct(
    masks: Mapping[str, CompactMask],
    source: SourceImages,
    algorithm: Algorithm,
    options: RtstructOptions = RtstructOptions(),
) -> bytes:
    """The file: masks of (K, J, I) of the source by their names, as regions in this order.

    Names that are too long are shortened, with the whole in (3006,0028) ROI Description (see `naming_notes`).
    UIDs and times are new; all else depends on the arguments alone.
    Raises InputError for images without a place in the patient, for no structure, and for one in thousands of pieces.
    """
    if source.frame_of_reference is None:
        raise InputError(
            f"An RTSTRUCT has its place in the patient, and the images of the scan have none "
            f"({named('ImagePositionPatient')} is missing). Write .nii.gz, or .png for a single picture."
        )
    if not masks:
        raise InputError(
            "An RTSTRUCT holds one structure or more, and there is none: the labels are empty and unnamed."
        )
    names = roi_names(list(masks), options.tps)
    decimals = _decimals(source.geometry)
    with quiet_writer():
        dataset = _structure_set(list(masks), names, source, algorithm, options.remarks)
        planes = [_Plane.of(source, k) for k in range(len(source.images))]
        longest = 0
        for item, (name, mask) in zip(dataset.ROIContourSequence, masks.items(), strict=True):
            contours = list(_contours(name, mask, planes, decimals, options.keyhole))
            if contours:
                # there is none without contours: an empty one is not allowed
                item.ContourSequence = contours
                longest = max(longest, *(len(contour[_CONTOUR_DATA].value) for contour in contours))
        if longest > _LONGEST_TEXT:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        file = BytesIO()
        dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def naming_notes(names: Sequence[str], options: RtstructOptions = RtstructOptions()) -> list[str]:
    """What to know of the names of regions that structures get: those that differ."""
    changed = [(name, roi) for name, roi in zip(names, roi_names(names, options.tps), strict=True) if name != roi]
    return [f"{name!r} is called {roi!r} in the RTSTRUCT." for name, roi in changed]


# -- the object without its contours ------------------------------------------------------------------------


def _structure_set(
    structures: Sequence[str],
    names: Sequence[str],
    source: SourceImages,
    algorithm: Algorithm,
    remarks: Mapping[str, str],
) -> Dataset:
    """All but the contours."""
    whole = algorithm.of(*structures)
    by, made_by = _by(whole), _made_by(whole)
    title = f"Contours ({by})"[:64] if by else "Contours"
    dataset = derived_dataset(
        source,
        RTStructureSetStorage,
        "RTSTRUCT",
        series_number=source.derived_series_number,
        series_description=title,
        texts=(*structures, *remarks.values(), made_by),
    )
    now = datetime.now()  # noqa: DTZ005 - dates and times in DICOM are local
    dataset.OperatorsName = ""
    dataset.SeriesDate = dataset.StructureSetDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.StructureSetTime = now.strftime("%H%M%S")
    dataset.StructureSetLabel = "medsam"
    dataset.StructureSetName = title
    if made_by:
        dataset.StructureSetDescription = made_by
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = [_referenced_frame(source)]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = []
    for number, (name, roi_name) in enumerate(zip(structures, names, strict=True), start=1):
        colour = colour_of(structure(name), number)
        roi = _roi(number, name, roi_name, source, algorithm.of(name), remarks.get(name, ""))
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(item_of(ReferencedROINumber=number, ROIDisplayColor=list(colour)))
        dataset.RTROIObservationsSequence.append(_observation(number, name))
    return dataset


def _made_by(algorithm: Algorithm) -> str:
    """Who made the contours, in words (ST)."""
    words = [_by(algorithm)] if _by(algorithm) else []
    words += [f"weights sha256 {algorithm.digest}"] if algorithm.digest else []
    words += [f"licence {algorithm.licence}"] if algorithm.licence else []
    return one_line("; ".join(words))[:1024]


def _by(algorithm: Algorithm) -> str:
    """Name and version, "" where they are not known."""
    return "" if algorithm.name == UNKNOWN else one_line(f"{algorithm.name[:40]} {algorithm.version[:10]}")


def _referenced_frame(source: SourceImages) -> Dataset:
    """The frame of reference and, in it, every image of the series."""
    images = [reference(*one) for one in source.instances]
    series = item_of(SeriesInstanceUID=source.series, ContourImageSequence=images)
    study = item_of(
        ReferencedSOPClassUID=_STUDY_COMPONENT,
        ReferencedSOPInstanceUID=source.study,
        RTReferencedSeriesSequence=[series],
    )
    return item_of(FrameOfReferenceUID=source.frame_of_reference, RTReferencedStudySequence=[study])


def _roi(number: int, name: str, roi_name: str, source: SourceImages, algorithm: Algorithm, remark: str) -> Dataset:
    item = item_of(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=source.frame_of_reference,
        ROIName=roi_name,
        ROIGenerationAlgorithm=algorithm.kind,
    )
    if by := _by(algorithm):
        item.ROIGenerationDescription = by
    whole = one_line(name) if roi_name != name else ""
    if description := ". ".join(filter(None, (whole, one_line(remark)))):
        item.ROIDescription = description[:1024]
    return item


def _observation(number: int, name: str) -> Dataset:
    """What a region is, as far as `medsam.labels` knows."""
    item = item_of(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIInterpretedType=rt_type(name),
        ROIInterpreter="",
    )
    if known := structure(name):
        identity = _code(known.type)
        if known.modifier:
            identity.SegmentedPropertyTypeModifierCodeSequence = [_code(known.modifier)]
        item.SegmentedPropertyCategoryCodeSequence = [_code(known.category)]
        item.RTROIIdentificationCodeSequence = [identity]
    return item


def _code(code: Code) -> Dataset:
    return item_of(CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning)


# -- contours -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Plane:
    """Where an image lies. origin: (3,) LPS mm of its first pixel. steps: (2, 3), to the next column and row.

    images: the element that says which image a contour was drawn on; all contours of the plane share it.
    """

    origin: np.ndarray
    steps: np.ndarray
    images: DataElement

    @classmethod
    def of(cls, source: SourceImages, k: int) -> _Plane:
        image = source.images[k]
        # as the image says, where readers look for it; the grid has its slices at even distances
        origin = source.geometry.to_mm(np.array([0, 0, k])) if image.position is None else image.position
        return cls(origin, source.geometry.affine[:3, :2].T, DataElement(_IMAGES, "SQ", [image_reference(image)]))

    def contour(self, loop: np.ndarray, decimals: int) -> Dataset:
        """An item of the Contour Sequence. loop: (N, 2) as (column, row)."""
        item = Dataset()
        item[_IMAGES] = self.images
        item.ContourGeometricType = "CLOSED_PLANAR"
        item.NumberOfContourPoints = len(loop)
        data = _decimal_strings(loop @ self.steps + self.origin, decimals)
        item[_CONTOUR_DATA] = DataElement(_CONTOUR_DATA, "DS", data, already_converted=True)
        return item


def _contours(
    name: str, mask: CompactMask, planes: Sequence[_Plane], decimals: int, keyhole: bool
) -> Iterator[Dataset]:
    """The contours of a structure, slices ascending, each after those it lies in.

    Raises InputError where a slice has more of them than anybody reads.
    """
    if mask:
        slices, rows, columns = mask.part
        corner = np.array([columns.start, rows.start])
        for k, loops in outlines(mask.crop, keyhole=keyhole):
            if len(loops) > MOST_LOOPS:
                raise InputError(
                    f"{name!r} has {len(loops)} outlines on slice {slices.start + k}, and no more than {MOST_LOOPS} "
                    "are read. Remove its small pieces and holes, or write a SEG."
                )
            for loop in loops:
                yield planes[slices.start + k].contour(loop.points + corner, decimals)


def _decimals(geometry: VolumeGeometry) -> int:
    """How many decimals a coordinate has."""
    needed = math.ceil(-math.log10(_PRECISION * min(geometry.spacing_mm)))
    corners = np.stack(np.meshgrid(*[(-1, n) for n in geometry.shape[::-1]]), axis=-1)
    whole = len(str(int(np.abs(geometry.to_mm(corners)).max())))
    # beside a sign and a point
    return min(max(_DECIMALS, needed), _LONGEST_NUMBER - 2 - whole)


def _decimal_strings(values: np.ndarray, decimals: int) -> str:
    """Numbers as the text of a DS. There is neither an exponent nor a -0."""
    rounded = (np.round(values, decimals) + 0.0).ravel().tolist()
    # the shortest text that means the number; it has an exponent from the fifth decimal on
    texts = map(repr, rounded) if decimals <= _DECIMALS else (f"{value:.{decimals}f}" for value in rounded)
    return "\\".join(texts)
