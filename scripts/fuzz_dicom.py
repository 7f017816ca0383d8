"""Sound DICOM files of every kind that is read, and damage to their elements; see `fuzz`."""

from __future__ import annotations

import random
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    RTStructureSetStorage,
    UltrasoundMultiFrameImageStorage,
)

from medsam.geometry import VolumeGeometry

PATIENT, PATIENT_ID = "Secret^Name", "MRN-4711"
VOXELS = np.random.default_rng(0).integers(0, 900, (5, 12, 10)).astype(np.int16)
GRID = VolumeGeometry.from_itk(VOXELS.shape, (-10.0, 20.0, 30.0), (0.8, 0.9, 2.5), tuple(np.eye(3).ravel()))
INTEGERS = [0, 1, 2, 3, 5, 8, 16, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


# -- sound files ----------------------------------------------------------------------------------------------


def dicom(sop_class: str, pixels: np.ndarray, **tags: Any) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uid = UID(sop_class)
    ds.SOPClassUID, ds.SOPInstanceUID = uid, f"1.2.3.9.{tags.get('InstanceNumber', 0)}"
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = uid, ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3.1", "1.2.3.2", "1.2.3.3"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = PATIENT, PATIENT_ID, "19500101"
    ds.AccessionNumber = ds.PatientSex = ds.StudyID = ds.StudyDate = ds.StudyTime = ds.ReferringPhysicianName = ""
    ds.SeriesNumber, ds.PositionReferenceIndicator = 1, ""
    ds.Modality, ds.SamplesPerPixel, ds.PhotometricInterpretation = "CT", 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
    ds.HighBit, ds.PixelRepresentation = 8 * pixels.itemsize - 1, int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def without_pixels(sop_class: str, modality: str) -> Dataset:
    ds = dicom(sop_class, VOXELS, Modality=modality)
    for element in [*ds]:
        if element.tag.group in (0x0028, 0x7FE0):
            del ds[element.tag]
    return ds


def slice_of(number: int) -> Dataset:
    return dicom(
        *(CTImageStorage, VOXELS[number]),
        InstanceNumber=number,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        ImagePositionPatient=[-10.0, 20.0, 30.0 + 2.5 * number],
        PixelSpacing=[0.9, 0.8],
        SliceThickness=2.5,
        RescaleSlope=1,
        RescaleIntercept=-1000,
        RescaleType="HU",
        WindowCenter=40,
        WindowWidth=400,
    )


def sequence(**values: Any) -> list[Dataset]:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return [item]


def saved(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    ds.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return path


def series(directory: Path) -> Path:
    for number in range(len(VOXELS)):
        saved(slice_of(number), directory / "ct" / f"IM{number}.dcm")
    return directory / "ct"


def zipped(directory: Path) -> Path:
    series(directory)
    with zipfile.ZipFile(directory / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((directory / "ct").iterdir()):
            archive.write(file, file.name)
    return directory / "a.zip"


def frames_of(count: int) -> list[Dataset]:
    return [
        sequence(
            PlanePositionSequence=sequence(ImagePositionPatient=[-10.0, 20.0, 30.0 + 2.5 * number]),
            FrameContentSequence=sequence(DimensionIndexValues=[1, number + 1]),
        )[0]
        for number in range(count)
    ]


def shared() -> list[Dataset]:
    return sequence(
        PlaneOrientationSequence=sequence(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=sequence(PixelSpacing=[0.9, 0.8], SliceThickness=2.5, SpacingBetweenSlices=2.5),
        PixelValueTransformationSequence=sequence(RescaleSlope=1, RescaleIntercept=-1000, RescaleType="HU"),
    )


def enhanced(directory: Path) -> Path:
    tags = {"NumberOfFrames": 5, "SharedFunctionalGroupsSequence": shared()}
    ds = dicom(EnhancedCTImageStorage, VOXELS, PerFrameFunctionalGroupsSequence=frames_of(5), **tags)
    return saved(ds, directory / "e.dcm")


def run_lengths(directory: Path) -> Path:
    ds = dicom(UltrasoundMultiFrameImageStorage, (VOXELS % 256).astype(np.uint8), NumberOfFrames=5, Modality="US")
    ds.compress(RLELossless, generate_instance_uid=False)
    return saved(ds, directory / "r.dcm")


def codestreams(directory: Path, syntax: str) -> Path:
    """A clip whose frames another library unpacks."""
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 72)).astype(np.uint8)
    ds = dicom(UltrasoundMultiFrameImageStorage, pixels, NumberOfFrames=2, Modality="US")
    uid = {"jpeg-ls": JPEGLSLossless, "jpeg2000": JPEG2000Lossless}[syntax]
    ds.compress(uid, generate_instance_uid=False)
    return saved(ds, directory / "c.dcm")


SEGMENT_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


def segmentation(directory: Path, kind: str = "BINARY") -> Path:
    """Two segments, which overlap where they can."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    described = [
        hd.seg.SegmentDescription(number, name, codes.SCT.Organ, code, "MANUAL")
        for number, (name, code) in enumerate((("liver", codes.SCT.Liver), ("spleen", codes.SCT.Spleen)), start=1)
    ]
    masks = np.stack([VOXELS > 500, (VOXELS > 300) & (VOXELS < 700)], axis=-1)
    seg = hd.seg.Segmentation(
        [slice_of(number) for number in range(len(VOXELS))],
        {"BINARY": masks, "FRACTIONAL": masks * 0.7, "LABELMAP": VOXELS.astype(np.uint16) // 301}[kind],
        kind,
        described,
        series_instance_uid="1.2.3.7",
        series_number=2,
        sop_instance_uid="1.2.3.8",
        instance_number=1,
        manufacturer="fuzz",
        manufacturer_model_name="fuzz",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=RLELossless if kind == "LABELMAP" else ExplicitVRLittleEndian,
    )
    seg.save_as(directory / "seg.dcm")
    return directory / "seg.dcm"


def contour(corners: list[tuple[int, int, int]]) -> Dataset:
    return sequence(
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(corners),
        ContourData=[f"{number:.3f}" for number in GRID.to_mm(np.array(corners)).ravel()],
        ContourImageSequence=reference(corners[0][2]),
    )[0]


def reference(number: int) -> list[Dataset]:
    return sequence(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=f"1.2.3.9.{number}")


def regions(directory: Path) -> Path:
    """A region with a hole on two slices, and one on a third."""
    ds = without_pixels(RTStructureSetStorage, "RTSTRUCT")
    ds.StructureSetROISequence = [
        sequence(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID="1.2.3.3")[0]
        for number, name in ((1, "gtv"), (2, "liver"))
    ]
    ring = [
        contour([(low, low, k), (high, low, k), (high, high, k), (low, high, k)])
        for k in (1, 2)
        for low, high in ((1, 8), (3, 6))
    ]
    triangle = [contour([(2, 2, 3), (7, 2, 3), (2, 9, 3)])]
    ds.ROIContourSequence = [
        sequence(ReferencedROINumber=number, ContourSequence=drawn)[0] for number, drawn in ((1, ring), (2, triangle))
    ]
    ds.RTROIObservationsSequence = sequence(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType="GTV")
    return saved(ds, directory / "rt.dcm")


def graphics(directory: Path) -> Path:
    """A presentation state beside its series: an ellipse, a line, a circle and an outline."""
    drawn = {
        "ELLIPSE": [2, 5, 8, 5, 5, 3, 5, 7],
        "POLYLINE": [2, 2, 8, 2, 8, 8, 2, 8, 2, 2],
        "CIRCLE": [5, 5, 8, 5],
        "POINT": [4, 4],
    }
    series(directory)
    ds = without_pixels(GrayscaleSoftcopyPresentationStateStorage, "PR")
    ds.ReferencedSeriesSequence = sequence(
        SeriesInstanceUID="1.2.3.2", ReferencedImageSequence=[reference(number)[0] for number in range(5)]
    )
    ds.GraphicAnnotationSequence = [
        sequence(
            ReferencedImageSequence=reference(number),
            GraphicLayer="A",
            GraphicObjectSequence=sequence(
                GraphicAnnotationUnits="PIXEL",
                GraphicDimensions=2,
                NumberOfGraphicPoints=len(points) // 2,
                GraphicData=points,
                GraphicType=kind,
                GraphicFilled="N",
            ),
            TextObjectSequence=sequence(UnformattedTextValue="12 mm", AnchorPoint=[1.0, 1.0]),
        )[0]
        for number, (kind, points) in enumerate(drawn.items())
    ]
    return saved(ds, directory / "gsps.dcm")


def code(scheme: str, value: str, meaning: str) -> list[Dataset]:
    return sequence(CodingSchemeDesignator=scheme, CodeValue=value, CodeMeaning=meaning)


def content(kind: str, concept: list[Dataset] | None, *children: Dataset, **tags: Any) -> Dataset:
    """A content item of a structured report."""
    more: dict[str, Any] = {"ConceptNameCodeSequence": concept} if concept else {}
    if children:
        more["ContentSequence"] = list(children)
    return sequence(ValueType=kind, RelationshipType=tags.pop("relation", "CONTAINS"), **more, **tags)[0]


def report(directory: Path) -> Path:
    """A structured report beside its series: RECIST's two lines, and an ellipse."""
    series(directory)

    def on_image(number: int) -> Dataset:
        return content("IMAGE", None, relation="SELECTED FROM", ReferencedSOPSequence=reference(number))

    def measured(name: list[Dataset], number: int, kind: str, points: list[float]) -> Dataset:
        shape = content(
            "SCOORD", None, on_image(number), relation="INFERRED FROM", GraphicType=kind, GraphicData=points
        )
        value = sequence(NumericValue="12.5", MeasurementUnitsCodeSequence=code("UCUM", "mm", "mm"))
        return content("NUM", name, shape, MeasuredValueSequence=value)

    groups = [
        content(
            "CONTAINER",
            code("DCM", "125007", "Measurement Group"),
            content("TEXT", code("DCM", "112039", "Tracking Identifier"), TextValue=f"lesion {number}"),
            content("UIDREF", code("DCM", "112040", "Tracking Unique Identifier"), UID=f"1.2.3.5.{number}"),
            content("CODE", code("DCM", "121071", "Finding"), ConceptCodeSequence=code("SCT", "52988006", "Lesion")),
            *shapes,
        )
        for number, shapes in enumerate(
            [
                [
                    measured(code("SCT", "103339001", "Long Axis"), 1, "POLYLINE", [2, 5, 8, 5]),
                    measured(code("SCT", "103340004", "Short Axis"), 1, "POLYLINE", [5, 3, 5, 7]),
                ],
                [measured(code("SCT", "42798000", "Area"), 2, "ELLIPSE", [2, 5, 8, 5, 5, 3, 5, 7])],
            ]
        )
    ]
    root = content("CONTAINER", code("DCM", "126000", "Imaging Measurement Report"), *groups)
    ds = without_pixels(ComprehensiveSRStorage, "SR")
    del root.RelationshipType
    ds.update(root)
    return saved(ds, directory / "sr.dcm")


def hospital(directory: Path) -> Path:
    """A series with its SEG and its RTSTRUCT."""
    series(directory)
    segmentation(directory)
    regions(directory)
    return directory


# -- changes --------------------------------------------------------------------------------------------------


def damage(content: bytes, rng: random.Random) -> tuple[bytes, int]:
    """Bits, chunks and cuts; and the first byte that changed."""
    at, size = rng.randrange(len(content)), min(len(content), rng.choice([1, 2, 4, 16, 64, 512]))
    how = rng.choice(["flip", "flip", "flip", "zero", "random", "delete", "double", "cut"])
    if how == "flip":
        changed, places = bytearray(content), [rng.randrange(len(content)) for _ in range(rng.choice([1, 1, 2, 8]))]
        for place in places:
            changed[place] ^= 1 << rng.randrange(8)
        return bytes(changed), min(places)
    between = {
        "zero": bytes(len(content[at : at + size])),
        "random": rng.randbytes(len(content[at : at + size])),
        "delete": b"",
        "double": content[at : at + size] * 2,
        "cut": b"",
    }[how]
    return content[:at] + between + (b"" if how == "cut" else content[at + size :]), at


# what stands where a text belongs, among it character sets, UIDs, dates and kinds of graphics
TEXTS = ["\x1b[2J", "MONOCHROME1", "YBR_FULL", "RGB", "A\\B", "é" * 70, "\\ISO 2022 IR 87", "ISO_IR 192", "GB18030"]
TEXTS += [
    "ISO_IR 999",
    "1.2.3",
    "1.2.3.9.3",
    "1..2",
    "20260231",
    "99",
    "YES",
    "POLYLINE",
    "ELLIPSOID",
    "SCOORD",
    "x" * 9000,
]


def nest(tag: int, depth: int) -> bytes:
    """A sequence in itself, `depth` times, as bytes: writers do not go so deep."""
    tag_bytes = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    begin = tag_bytes + b"SQ\0\0\xff\xff\xff\xff" + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return begin * depth + end * depth


def within(place: Dataset, element: Any) -> bool:
    """Whether a data set is an item of an element, at any depth."""
    items = element.value if element.VR == "SQ" else ()
    return any(item is place or any(within(place, inner) for inner in item) for item in items)


def walked(dataset: Dataset) -> Iterator[tuple[Dataset, Any]]:
    """Every element at any depth, and the data set it is in."""
    for element in dataset:
        yield dataset, element
        for item in element.value if element.VR == "SQ" else ():
            yield from walked(item)


def elements(path: Path, rng: random.Random) -> None:
    """Another value, representation or number of items of a DICOM element, at any depth; or one less."""
    ds = pydicom.dcmread(path, force=True)
    found = list(walked(ds))
    home, element = rng.choice(found)
    how = rng.choice(["value", "value", "value", "delete", "vr", "empty", "double", "move", "nest", "many"])
    if how == "nest":
        nested = [element.tag for _, element in found if element.VR == "SQ"] or [pydicom.tag.Tag(0x0040A730)]
        path.write_bytes(path.read_bytes() + nest(rng.choice(nested), rng.choice([2, 20, 300, 900, 20_000])))
        return
    if how == "move":
        # where it does not belong, and no longer where it does; not into itself
        del home[element.tag]
        rng.choice([place for place, _ in found if not within(place, element)] or [home])[element.tag] = element
    elif how == "many" and element.VR == "SQ" and element.value:
        size = sum(within(place, element) for place, _ in found) + len(element.value)
        element.value = [*element.value] * min(rng.choice([2, 100, 2000]), max(2, 20_000 // size))
    elif how == "delete":
        del home[element.tag]
    elif how == "double" and element.VR == "SQ":
        element.value = [*element.value, *element.value]
    elif how == "vr":
        home[element.tag] = pydicom.DataElement(element.tag, rng.choice(["LO", "DS", "UN", "IS", "US", "SH"]), None)
        raw = rng.choice([b"7", b"ab", b"\xff\xff", b"1.5", b"\0\0"])
        value: Any = (
            7 if home[element.tag].VR == "US" else raw.decode("latin-1") if home[element.tag].VR != "UN" else raw
        )
        home[element.tag]._value = value
    elif element.VR in ("US", "SS", "UL", "SL"):
        value = rng.choice(INTEGERS) % (2**15 if element.VR in ("US", "SS") else 2**31)
        element._value = [value, value] if how == "double" else value
    elif element.VR in ("DS", "IS", "FD", "FL"):
        text = rng.choice(["0", "-1", "1e308", "1e-308", "nan", "inf", "1.5", "99999999999", "abc", "", "3\\4\\5"])
        if element.VR in ("FD", "FL"):
            element._value = rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
        else:
            home[element.tag] = pydicom.DataElement(element.tag, "LO", text)
            home[element.tag].VR = element.VR
            home[element.tag]._value = text
    elif element.VR == "SQ":
        element.value = [] if how != "value" else list(element.value)[:-1]
    elif element.VR in ("OB", "OW"):
        element._value = damage(element.value, rng)[0] if element.value else b"\0\0"
    else:
        element._value = "" if how == "empty" else rng.choice(TEXTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(path, enforce_file_format=False)
