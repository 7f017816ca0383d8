"""Volumes as a hospital's folder of DICOM, a patient with one MR series for each file: to try docs/annotate.md.

.venv/bin/python scripts/data_engine/as_dicom.py DATA/msd_hippocampus_mr/imagesTr --out DIR [--count 20]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid


def write_series(source: Path, folder: Path, number: int) -> None:
    """One volume, in slices along its third axis."""
    image = nib.load(source)
    voxels = np.asanyarray(image.dataobj)
    # RAS to LPS
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    across, down, step = (affine[:3, :3] / spacing).T
    scale = 4000 / max(float(voxels.max()), 1.0)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    folder.mkdir(parents=True)
    for k in range(voxels.shape[2]):
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.PatientID, one.PatientName, one.Modality = f"T{number:03}", f"Trial^{number:03}", "MR"
        one.SeriesNumber, one.InstanceNumber, one.StudyDate, one.SeriesDescription = 1, k + 1, "20260101", "T1"
        one.ImagePositionPatient = [*map(float, np.round(affine[:3, 3] + k * spacing[2] * step, 6))]
        one.ImageOrientationPatient = [*map(float, np.round([*across, *down], 6))]
        one.PixelSpacing, one.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
        one.Rows, one.Columns = voxels.shape[1], voxels.shape[0]
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit = 15
        one.PixelData = np.round(voxels[:, :, k].T * scale).clip(0).astype("<u2").tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.save_as(folder / f"IM{k:04}", enforce_file_format=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    for number, path in enumerate(sorted(arguments.folder.glob("*.nii.gz"))[: arguments.count], start=1):
        write_series(path, arguments.out / f"export{number:03}" / "S1", number)


if __name__ == "__main__":
    main()
