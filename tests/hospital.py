"""A hospital's DICOM in small: series, SEG and RTSTRUCT with the tags that say what belongs together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from dicom_files import FRAME, dataset, item, save
from pydicom import Dataset
from pydicom.uid import CTImageStorage, RTStructureSetStorage, SegmentationStorage

SHAPE = (3, 6, 8)
STEP = 2.0


def code(value: str, scheme: str = "SCT", meaning: str = "coded", **more: object) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning, **more)


def scan(folder: Path, uid: str, *, patient: str = "4711", count: int = 3, start: float = 0.0, **tags) -> Path:
    """Axial slices STEP mm apart from z = start on, with pixels of their own; instance UIDs `uid.1`, `uid.2`, ..."""
    rng = np.random.default_rng(len(uid) + sum(map(ord, uid)))
    values = {"PatientID": patient, "SeriesInstanceUID": uid, "StudyInstanceUID": f"1.2.{len(patient)}", **tags}
    for k in range(count):
        pixels = rng.integers(0, 900, SHAPE[1:]).astype("int16")
        here = {"SOPInstanceUID": f"{uid}.{k + 1}", "ImagePositionPatient": [0, 0, start + STEP * k]}
        more = {"InstanceNumber": k + 1, "PixelSpacing": [1, 1], "SliceThickness": STEP}
        save(dataset(pixels, **{**more, **here, **values}), folder / f"{k}.dcm")
    return folder


def _label(sop_class: str, modality: str, uid: str, patient: str, made: str, tags: dict) -> Dataset:
    values = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.0",
        "PatientID": patient,
        "StudyInstanceUID": f"1.2.{len(patient)}",
        "Modality": modality,
        **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")),
    }
    if made:
        kind = "StructureSet" if modality == "RTSTRUCT" else "Content"
        values |= {f"{kind}Date": made[:8], f"{kind}Time": made[8:] or "000000"}
    return dataset(np.zeros(SHAPE, "uint8"), **{**values, **tags})


def structures(
    path: Path,
    uid: str,
    names: Sequence[str] = ("Heart",),
    *,
    cites: Iterable[str] = (),
    images: Iterable[str] = (),
    replaces: Iterable[str] = (),
    patient: str = "4711",
    z: Sequence[float] = (2.0,),
    made: str = "",
    codes: Sequence[Dataset | None] = (),
    corner: tuple[float, float] = (0.5, 0.5),
    **tags,
) -> Path:
    """An RTSTRUCT: each region a rectangle of 3 x 2 pixels from `corner` on at heights z."""
    ds = _label(RTStructureSetStorage, "RTSTRUCT", uid, patient, made, tags)
    for keyword in ("PixelData", "Rows", "Columns", "NumberOfFrames"):
        del ds[keyword]
    frame = tags.get("FrameOfReferenceUID", FRAME)
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    (x, y), several = corner, list(codes) or [None] * len(names)
    for n, (name, coded) in enumerate(zip(names, several, strict=True), start=1):
        ds.StructureSetROISequence.append(item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame))
        contours = [
            item(
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=4,
                ContourData=[x, y, h, x + 3, y, h, x + 3, y + 2, h, x, y + 2, h],
            )
            for h in z
        ]
        ds.ROIContourSequence.append(item(ReferencedROINumber=n, ContourSequence=contours))
        seen = {} if coded is None else {"RTROIIdentificationCodeSequence": [coded]}
        ds.RTROIObservationsSequence.append(item(ObservationNumber=n, ReferencedROINumber=n, **seen))
    series = [item(SeriesInstanceUID=one, ContourImageSequence=_references(images)) for one in cites]
    if series:
        ds.ReferencedFrameOfReferenceSequence = [
            item(
                FrameOfReferenceUID=frame,
                RTReferencedStudySequence=[item(ReferencedSOPInstanceUID="1.2", RTReferencedSeriesSequence=series)],
            )
        ]
    if replaces:
        ds.PredecessorStructureSetSequence = _references(replaces)
    return save(ds, path)


def segments(
    path: Path,
    uid: str,
    names: Sequence[str] = ("Heart",),
    *,
    cites: Iterable[str] = (),
    images: Iterable[str] = (),
    replaces: Iterable[str] = (),
    patient: str = "4711",
    z: Sequence[float] = (2.0,),
    made: str = "",
    codes: Sequence[Dataset | None] = (),
    **tags,
) -> Path:
    """A SEG (LABELMAP): on each plane z segment n fills row n."""
    ds = _label("1.2.840.10008.5.1.4.1.1.66.7", "SEG", uid, patient, made, tags)
    planes = np.zeros((len(z), *SHAPE[1:]), np.uint8)
    ds.SegmentationType, ds.NumberOfFrames, ds.PixelPaddingValue = "LABELMAP", len(z), 0
    ds.SegmentSequence = []
    for n, (name, coded) in enumerate(zip(names, list(codes) or [None] * len(names), strict=True), start=1):
        planes[:, n] = n
        found = item(SegmentNumber=n, SegmentLabel=name, SegmentAlgorithmType="MANUAL")
        if coded is not None:
            found.SegmentedPropertyCategoryCodeSequence = [code("123037004")]
            found.SegmentedPropertyTypeCodeSequence = [coded]
        ds.SegmentSequence.append(found)
    ds.PixelData = planes.tobytes()
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=STEP, SpacingBetweenSlices=STEP)],
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, height])]) for height in z
    ]
    if cites:
        ds.ReferencedSeriesSequence = [
            item(SeriesInstanceUID=one, ReferencedInstanceSequence=_references(images)) for one in cites
        ]
    if replaces:
        cited = item(SeriesInstanceUID="1.2", ReferencedSOPSequence=_references(replaces, SegmentationStorage))
        ds.PredecessorDocumentsSequence = [item(StudyInstanceUID="1.2", ReferencedSeriesSequence=[cited])]
    return save(ds, path)


def _references(uids: Iterable[str], sop_class: str = CTImageStorage) -> list[Dataset]:
    return [item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid) for uid in uids]
