"""DICOM label files on disk: a SEG of masks, a structure set of contours, and a series to lie on."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry

PATIENT = "Secret^Name"
FRAME_OF_REFERENCE = generate_uid(entropy_srcs=["tests of medsam"])
# an outline with a hole in it, as `drawing` shows it
HOLE = [
    "#######",
    "#######",
    "##...##",
    "##...##",
    "##...##",
    "#######",
    "#######",
]


def drawing(mask: np.ndarray) -> list[str]:
    """A slice (rows, columns) in letters."""
    return ["".join(".#"[int(pixel)] for pixel in row) for row in mask]


def grid(shape=(4, 6, 5), spacing_ijk=(0.8, 0.9, 3.0), origin=(-12.5, 40.25, 7.0), direction=None) -> VolumeGeometry:
    direction = np.eye(3) if direction is None else direction
    return VolumeGeometry.from_itk(shape, origin, spacing_ijk, tuple(np.ravel(direction)))


def source(geometry: VolumeGeometry) -> list[Dataset]:
    """The least of a CT series that highdicom accepts as the source of a SEG."""
    study, series = generate_uid(), generate_uid()
    images = []
    for k in range(geometry.shape[0]):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.FrameOfReferenceUID = FRAME_OF_REFERENCE
        image.PatientName, image.PatientID = PATIENT, "4711"
        image.PatientBirthDate, image.PatientSex, image.AccessionNumber = "19700101", "O", ""
        image.StudyID, image.StudyDate, image.StudyTime, image.ReferringPhysicianName = "1", "", "", ""
        image.Modality, image.SeriesNumber, image.InstanceNumber, image.PositionReferenceIndicator = "CT", 1, k + 1, ""
        image.Rows, image.Columns = geometry.shape[1:]
        direction = geometry.affine[:3, :3] / geometry.spacing_mm[::-1]
        image.ImageOrientationPatient = [float(v) for v in direction[:, :2].T.ravel()]
        image.ImagePositionPatient = [float(v) for v in geometry.to_mm([0, 0, k])]
        image.PixelSpacing = list(geometry.spacing_mm[1:])
        image.SliceThickness = geometry.spacing_mm[0]
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        images.append(image)
    return images


def make_series(folder: Path, geometry: VolumeGeometry) -> list[Dataset]:
    """A CT series on disk; its images, for `make_seg`."""
    folder.mkdir(parents=True)
    images = source(geometry)
    for k, image in enumerate(images):
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.PixelData = (np.arange(image.Rows * image.Columns, dtype="<u2") + k).tobytes()
        image.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return images


def make_seg(
    path: Path, masks: np.ndarray, geometry: VolumeGeometry, labels=("liver",), kind="BINARY", images=None, **more
) -> Path:
    """A SEG of masks (K, J, I, S) with its frames on `geometry`, empty frames left out. images: it refers to."""
    seg = hd.seg.Segmentation(
        source_images=images or source(geometry),
        pixel_array=masks,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=n,
                segment_label=label,
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Liver,
                algorithm_type="MANUAL",
            )
            for n, label in enumerate(labels, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="tests",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
        **more,
    )
    seg.save_as(path)
    return path


def change(path: Path, edit) -> Path:
    """Edit a file as plain DICOM, behind highdicom's back."""
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    return path


def rectangle(x0, y0, x1, y1) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float)


def loop(geometry: VolumeGeometry, xy, at: float, axis="k") -> np.ndarray:
    """A polygon given in voxels of a slice, as LPS mm."""
    return geometry.to_mm(np.insert(np.asarray(xy, dtype=float), "ijk".index(axis), at, axis=1))


def make_rs(path: Path, rois: dict | list, kind="CLOSED_PLANAR") -> Path:
    """An RTSTRUCT of (name, [contours in mm]); a contour may be (geometric type, points)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PATIENT, "4711", "19700101"
    dataset.Modality, dataset.StructureSetLabel = "RTSTRUCT", "tests"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items() if isinstance(rois, dict) else rois, start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, FRAME_OF_REFERENCE
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for contour in contours:
            shape, points = contour if isinstance(contour, tuple) else (kind, contour)
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = shape, len(points)
            item.ContourData = [f"{v:.6f}" for v in np.ravel(points)]
            drawn.ContourSequence.append(item)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    dataset.save_as(path, enforce_file_format=True)
    return path


def refusal_of(read, usual: VolumeGeometry, path: Path, geometry: VolumeGeometry | None = None, **more) -> str:
    """What `read` says of a file that it refuses, which names the file and nobody. usual: where no grid is given."""
    with pytest.raises(InputError) as caught:
        read(path, geometry or usual, **more)
    message = str(caught.value)
    assert str(path) in message
    assert not any(secret in message for secret in (PATIENT, "Secret", "4711", "19700101"))
    return message
