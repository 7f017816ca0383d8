"""DICOM files made for a test: pixels and the tags that matter, under a patient's name that no message may show."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    generate_uid,
)

from medsam.errors import InputError, MedSAMError
from medsam.io.dicom.series import read_dicom

SERIES, STUDY, FRAME = "1.2.3.1", "1.2.3.2", "1.2.3.3"
AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
SAGITTAL = (0, 1, 0, 0, 0, -1)
PATIENT = "DOE^JANE"


def dataset(pixels: np.ndarray, **tags) -> FileDataset:
    """A CT image of (rows, columns), (frames, rows, columns) or with colours last; `tags` override or, None, drop."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    colour = pixels.shape[-1] == 3 and pixels.ndim > 2
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": SERIES,
        "StudyInstanceUID": STUDY,
        "FrameOfReferenceUID": FRAME,
        "PatientName": PATIENT,
        "PatientID": "MRN-4711",
        "PatientBirthDate": "19500101",
        "SeriesDescription": f"thorax of {PATIENT}",
        "Modality": "CT",
        "SeriesNumber": 7,
        "ImageOrientationPatient": list(AXIAL),
        "ImagePositionPatient": [0, 0, 0],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 9,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "SamplesPerPixel": 3 if colour else 1,
        "Rows": pixels.shape[-3] if colour else pixels.shape[-2],
        "Columns": pixels.shape[-2] if colour else pixels.shape[-1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "HighBit": 8 * pixels.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if colour:
        values["PlanarConfiguration"] = 0
    if pixels.ndim - colour == 3:
        values["NumberOfFrames"] = pixels.shape[0]
    if tags.get("BitsStored"):
        values["HighBit"] = tags["BitsStored"] - 1
    for keyword, value in (values | tags).items():
        if value is not None:
            setattr(ds, keyword, value)
    if "FloatPixelData" not in tags and "DoubleFloatPixelData" not in tags and "PixelData" not in tags:
        big = meta.TransferSyntaxUID == ExplicitVRBigEndian
        data = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
    if "PixelData" in ds:
        ds["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def save(ds: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = ds.file_meta.TransferSyntaxUID
    ds.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(path, enforce_file_format=True)
    return path


def write(path: Path, pixels: np.ndarray, **tags) -> Path:
    return save(dataset(pixels, **tags), path)


def pack(plain: Path, packed: Path, syntax: str = "JPEGLosslessProcess14_1") -> Path:
    """The file again, as lossless JPEG. syntax: of gdcm.TransferSyntax."""
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return packed


def slices(count: int, rows: int = 4, columns: int = 5, dtype: str = "int16", top: int = 1000) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, (count, rows, columns)).astype(dtype)


def series(
    folder: Path,
    pixels: np.ndarray,
    orientation: tuple[float, ...] = AXIAL,
    step: float = 2.0,
    origin: tuple[float, ...] = (-10, 20, 30),
    **tags,
) -> Path:
    """Slices along the normal that makes them ascend in LPS, under shuffled names without extension."""
    normal = np.cross(orientation[:3], orientation[3:])
    normal *= np.sign(normal[np.argmax(np.abs(normal))])
    names = random.Random(1).sample(range(1000), len(pixels))
    for k, name in enumerate(names):
        position = list(np.asarray(origin) + k * step * normal)
        per_slice = {key: value[k] if isinstance(value, list) else value for key, value in tags.items()}
        values = {"ImagePositionPatient": position, "ImageOrientationPatient": list(orientation)} | per_slice
        write(folder / f"IM{name:04d}", pixels[k], **values)
    return folder


def message(path: Path, kind: type[MedSAMError] = InputError, series: str | None = None) -> str:
    """What the user reads; it never says who the patient is."""
    with pytest.raises(kind) as caught:
        read_dicom(path, series)
    said = str(caught.value)
    assert not any(secret in said for secret in ("DOE", "JANE", "4711", "1950"))
    return said


def item(**values: object) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def enhanced(pixels: np.ndarray, positions: list, slopes: list | None = None, **tags) -> FileDataset:
    """Frames in the order given; rescale per frame when `slopes`, else 1 and -1024 for all."""

    def transformation(slope: float, intercept: float) -> Dataset:
        return item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")

    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"))
    ds = dataset(pixels, **({"SOPClassUID": EnhancedCTImageStorage} | nowhere | tags))
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=9, SpacingBetweenSlices=2)],
        FrameVOILUTSequence=[item(WindowCenter=50, WindowWidth=350)],
    )
    if slopes is None:
        shared.PixelValueTransformationSequence = [transformation(1, -1024)]
    ds.SharedFunctionalGroupsSequence = [shared]
    each = []
    for n, position in enumerate(positions):
        group = item(
            PlanePositionSequence=[item(ImagePositionPatient=list(position))],
            FrameContentSequence=[item(TemporalPositionIndex=1 + n % 2, DimensionIndexValues=[n + 1])],
        )
        if slopes is not None:
            group.PixelValueTransformationSequence = [transformation(slopes[n], 0)]
        each.append(group)
    ds.PerFrameFunctionalGroupsSequence = each
    organisation = generate_uid()
    ds.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organisation)]
    ds.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organisation,
            DimensionIndexPointer=0x00200032,
            FunctionalGroupPointer=0x00209113,
        )
    ]
    return ds


def numbered(folder: Path, name: str, count: int = 6) -> list[Path]:
    """A sound series whose files bear `name` with the place of the slice in it."""
    pixels = slices(count)
    return [
        write(folder / name.format(k), pixels[k], ImagePositionPatient=[0, 0, 2 * k], InstanceNumber=k + 1)
        for k in range(count)
    ]


def compressed(syntax: str) -> FileDataset:
    ds = dataset(slices(1, 40, 40)[0])
    ds.compress(syntax)
    return ds
