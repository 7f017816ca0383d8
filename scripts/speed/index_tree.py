"""Time and memory of `medsam data index` on a DICOM tree of many small files, made for it.

    .venv/bin/python scripts/speed/index_tree.py [--files 20000] [--work DIR] [--repeat 1]

The tree holds a CT series of 199 slices a patient, each slice with a header of about 60 elements and a few pixels, and
an RTSTRUCT that cites them all. Only headers count here: pixels are never read. Peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage

from medsam.data.index import index_folder

SLICES = 199


def header(sop_class: str, uid: str, patient: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID(sop_class)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(uid)
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = f"2.25.{patient}.1", f"2.25.{patient}.2"
    ds.PatientID, ds.PatientName, ds.PatientSex = f"made-{patient}", "Made^Up", "MF"[patient % 2]
    return ds


def write_patient(folder: Path, patient: int, slices: int) -> None:
    folder.mkdir(parents=True)
    cited = []
    for n in range(slices):
        ds = header(CTImageStorage, f"2.25.{patient}.3.{n + 1}", patient)
        ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = f"2.25.{patient}.3", "CT", n + 1
        ds.ImageType, ds.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], f"Maker {patient % 3}"
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-250, -250, 2.5 * n], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.KVP = [0.97, 0.97], 2.5, 120
        for element in range(0x20):  # what else a scanner writes
            ds.add_new((0x0019, 0x1000 + element), "LO", "something of the maker's " + "x" * 36)
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.PixelData = bytes(128)
        ds.save_as(folder / f"{n:04}.dcm", enforce_file_format=True)
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = CTImageStorage, ds.SOPInstanceUID
        cited.append(image)
    ds = header(RTStructureSetStorage, f"2.25.{patient}.4.1", patient)
    ds.SeriesInstanceUID, ds.Modality = f"2.25.{patient}.4", "RTSTRUCT"
    frame, study, series, region = Dataset(), Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = f"2.25.{patient}.3", cited
    study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
    region.ROINumber, region.ROIName = 1, ("Liver", "liver", "LIVER")[patient % 3]
    ds.ReferencedFrameOfReferenceSequence, ds.StructureSetROISequence = [frame], [region]
    ds.save_as(folder / "structures.dcm", enforce_file_format=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--work", type=Path, help="where the tree is kept (default: a temporary folder)")
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.work or Path(temporary)) / f"tree-{arguments.files}"
        if not root.is_dir():
            for patient in range(max(1, arguments.files // (SLICES + 1))):
                write_patient(root / f"{patient:04}", patient, SLICES)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for _ in range(arguments.repeat):
            start = time.perf_counter()
            found = index_folder(root)
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            cases = found.manifest.cases
            labelled = sum(case.label is not None for case in cases)
            print(
                f"{len(cases)} cases, {labelled} with a label, {seconds:.1f} s "
                f"({1000 * seconds / arguments.files:.2f} ms a file), {peak - before:.0f} MiB more than before"
            )


if __name__ == "__main__":
    main()
