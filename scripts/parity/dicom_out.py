"""Write DICOM SEG and RTSTRUCT from masks and read them back, with our readers and with other people's.

    .venv/bin/python scripts/parity/dicom_out.py [--data FOLDER] [--rt-utils VENV/bin/python] [--markdown]

Masks: the references of the sets in FOLDER (default: ../shared/data or $MEDSAM_DATA) that come as DICOM with a SEG or
RTSTRUCT; and structures with holes, islands in holes and single pixels, on axial, sagittal, coronal and oblique series
made here. A row each:

  SEG, LABELMAP   voxels that differ after writing and reading, by us, by dcmqi, by highdicom
  RTSTRUCT        least Dice of a structure after writing and reading, plain, with keyholes, with short names
  rt-utils        voxels that it reads otherwise, beyond one pixel of an outline (where pixels are square: it takes the
                  pitch of rows for that of columns); see reference_rt_utils.py
  dciodvfy        errors that the source has not

Exit status 1 when a SEG differs by a voxel, a Dice is below 0.999, rt-utils differs beyond a border pixel, or dciodvfy
finds an error.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dicom_referees import dciodvfy, dcmqi_masks, highdicom_masks
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from medsam.io.algorithm import DicomFormat, DicomOptions
from medsam.io.dicom.derive import source_images
from medsam.io.dicom.rtstruct import read_rtstruct
from medsam.io.dicom.seg import read_seg
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LEAST_DICE = 0.999
# folder of the images, file of their reference; and the DICOM of one patient in STS
REAL = (
    ("liver_ct_dicom_seg", "ct_series", "seg/liver.dcm"),
    ("lung_ct_dicom_rtstruct", "ct_series", "rtstruct/rtstruct.dcm"),
    ("breast_mr_dicom_seg/UCSF-BR-06", "mr_series", "seg/breast_voi_seg.dcm"),
    ("sts_sarcoma_dicom_rtstruct/STS_008/MR_T1", "image", "mask/RS.dcm"),
    ("sts_sarcoma_dicom_rtstruct/STS_008/PET", "image", "mask/RS.dcm"),
)
AXIAL, OBLIQUE = (1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, -0.36, 0.48, 0.8)
# name -> orientation, (row, column) pitch in mm
PHANTOMS: dict[str, tuple[tuple[float, ...], tuple[float, float]]] = {
    "axial": (AXIAL, (0.8, 0.8)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (0.8, 0.8)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0.8, 0.8)),
    "oblique": (OBLIQUE, (0.8, 0.8)),
    "axial 0.7 x 0.9 mm": (AXIAL, (0.7, 0.9)),
    "oblique 0.7 x 0.9 mm": (OBLIQUE, (0.7, 0.9)),
}
Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One series. voxels: in its masks. seg: "seg" or "seg-labelmap" and reader -> voxels that differ. dice: option ->
    least Dice. beyond: voxels that rt-utils reads otherwise, beyond a border pixel; None where it was not asked.
    errors: of dciodvfy, that the source has not.
    """

    name: str
    structures: int
    voxels: int
    seg: dict[str, int]
    dice: dict[str, float]
    beyond: int | None
    errors: tuple[str, ...]

    @property
    def fine(self) -> bool:
        exact = not any(self.seg.values()) and min(self.dice.values()) >= LEAST_DICE
        return exact and not self.beyond and not self.errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSAM_DATA") or ROOT.parent / "shared/data"))
    parser.add_argument("--rt-utils", type=Path, metavar="PYTHON", help="of an environment with rt-utils")
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in docs/dicom-out.md")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="medsam-out-") as folder:
        for number, (name, scan, masks) in enumerate(cases(arguments.data, Path(folder))):
            out = Path(folder) / f"out {number}"
            out.mkdir()
            rows.append(compared(name, scan, masks, out, arguments.rt_utils))
            if not arguments.markdown:
                print_row(rows[-1])
    if arguments.markdown:
        print_table(rows)
    return 0 if rows and all(row.fine for row in rows) else 1


# -- what is written ----------------------------------------------------------------------------------------


def cases(data: Path, folder: Path) -> Iterator[tuple[str, Volume, Masks]]:
    """(name, scan, masks by name): of the sets that are there, then of series made in `folder`."""
    for place, images, label in REAL:
        if not (data / place / images).is_dir():
            print(f"{place} is not in {data}: left out", file=sys.stderr)
            continue
        scan = load_volume(data / place / images)
        found = load_labels(data / place / label, scan.geometry)
        yield place, scan, {name: found[name] for name in found}
    for name, (orientation, spacing) in PHANTOMS.items():
        scan = load_volume(phantom(folder / name, orientation, spacing))
        yield f"phantom, {name}", scan, structures(scan.shape)


def structures(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Masks that outlines are wrong about easily, on every slice others. None overlaps another."""
    k, j, i = np.indices(shape)
    far = np.hypot(j - shape[1] * 0.45, (i - shape[2] * 0.4) * 0.8)
    radius = 14 + 3 * np.sin(k * 0.7)
    ring = (far < radius) & ~(far < radius * 0.6)
    island = far < radius * 0.3
    pixels = np.zeros(shape, dtype=bool)
    pixels[:, 1::7, -4::3] = True
    diagonal = np.zeros(shape, dtype=bool)
    for step in range(6):
        diagonal[:, 2 + step, 2 + step] = True
    border = np.zeros(shape, dtype=bool)
    border[:, -1, : shape[2] // 2] = True
    speckle = np.random.default_rng(0).random(shape) < 0.5
    speckle &= (j > shape[1] - 12) & (j < shape[1] - 2) & (i > 10) & (i < 24)
    one_slice = np.zeros(shape, dtype=bool)
    one_slice[shape[0] // 2, 40:44, 2:9] = True
    drawn: dict[str, np.ndarray] = {}
    taken = np.zeros(shape, dtype=bool)
    named = {
        "ring with island": ring | island, "single pixels": pixels, "corner to corner": diagonal,
        "at the border": border, "speckle": speckle, "of one slice": one_slice,
    }  # fmt: skip
    for name, mask in named.items():
        drawn[name] = mask & ~taken
        taken |= mask
    return drawn


def phantom(folder: Path, orientation: tuple[float, ...], spacing: tuple[float, float]) -> Path:
    """A CT of 9 slices of 53 x 47 pixels, an odd number, in these planes."""
    folder.mkdir()
    normal = np.cross(orientation[:3], orientation[3:])
    series, study, space = generate_uid(), generate_uid(), generate_uid()
    for k in range(9):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, space
        ds.PatientName, ds.PatientID, ds.StudyID, ds.Modality, ds.SeriesNumber = "Phantom^Ph", "0", "1", "CT", 1
        ds.ImageOrientationPatient = [f"{part:.6g}" for part in orientation]
        place = np.array((-31.7, 12.25, 88.1)) + 2.5 * k * normal
        ds.ImagePositionPatient = [f"{part:.8g}" for part in place]
        ds.PixelSpacing, ds.SliceThickness, ds.InstanceNumber = list(spacing), 2.5, k + 1
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 53, 47, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = np.full((53, 47), k, dtype=np.int16).tobytes()
        ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"{k:02}.dcm", enforce_file_format=True)
    return folder


# -- what comes back ----------------------------------------------------------------------------------------


def compared(name: str, scan: Volume, masks: Masks, folder: Path, rt_utils: Path | None) -> Row:
    """Everything of one series. folder: where the files go."""
    inherited = {kind(line) for line in source_errors(scan)}
    errors: list[str] = []

    def write(file: str, masks: Masks, form: DicomFormat, options: DicomOptions | None = None) -> Path:
        path = save_labels(masks, folder / file, scan, geometry=scan.geometry, format=form, options=options)
        errors.extend(line for line in dciodvfy(path) if kind(line) not in inherited)
        return path

    flat = without_overlap(masks)
    seg: dict[str, int] = {}
    for form, drawn in (("seg", masks), ("seg-labelmap", flat)):
        path = write(f"{form}.dcm", drawn, form)  # type: ignore[arg-type]
        for reader, read in SEG_READERS.items():
            seg[f"{form} {reader}"] = differing(read(path, scan), drawn)
    dice: dict[str, float] = {}
    paths = {}
    for option in ("plain", "keyhole", "tps"):
        options = DicomOptions(keyhole=option == "keyhole", tps=option == "tps")
        paths[option] = write(f"{option}.dcm", masks, "rtstruct", options)
        found = read_rtstruct(paths[option], scan.geometry, frame_of_reference=scan.uids.get("frame_of_reference"))
        # short names are other names, in the same order
        dice[option] = min(dice_of(found[theirs], masks[ours]) for theirs, ours in zip(found, masks, strict=True))
    # it takes the pitch of rows for that of columns
    square = len(set(np.round(scan.geometry.spacing_mm[1:], 6).tolist())) == 1
    beyond = beyond_border(rt_utils, paths["plain"], scan, masks) if rt_utils is not None and square else None
    return Row(name, len(masks), sum(map(int, map(np.count_nonzero, masks.values()))), seg, dice, beyond, tuple(errors))


SEG_READERS: dict[str, Callable[[Path, Volume], Masks]] = {
    "medsam": lambda path, scan: read_seg(path, scan.geometry, frame_of_reference=scan.uids.get("frame_of_reference")),
    "dcmqi": lambda path, scan: dcmqi_masks(path, scan.geometry),
    "highdicom": lambda path, scan: highdicom_masks(path, scan.geometry),
}


def without_overlap(masks: Masks) -> dict[str, np.ndarray]:
    """The first structure keeps a voxel, for a label map."""
    taken = np.zeros(next(iter(masks.values())).shape, dtype=bool)
    flat = {}
    for name, mask in masks.items():
        flat[name] = mask & ~taken
        taken |= mask
    return flat


def differing(found: Masks, masks: Masks) -> int:
    """Voxels that one has and the other not; structures of other names differ in all of theirs."""
    names = {*found, *masks}
    nothing = np.zeros(next(iter(masks.values())).shape, dtype=bool)
    return sum(int(np.count_nonzero(found.get(name, nothing) ^ masks.get(name, nothing))) for name in names)


def dice_of(one: np.ndarray, other: np.ndarray) -> float:
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else 1.0


def source_errors(scan: Volume) -> list[str]:
    path = scan.source
    files = sorted(path.iterdir()) if path is not None and path.is_dir() else [path] if path else []
    return dciodvfy(files[0]) if files else []


def kind(line: str) -> str:
    """A message of dciodvfy without what differs from file to file."""
    return re.sub(r"<[^>]*>", "<>", line) if "Value invalid" in line else line


def beyond_border(python: Path, rtstruct: Path, scan: Volume, masks: Masks) -> int:
    """Voxels that rt-utils reads otherwise and that do not touch an outline.

    Its masks have as many rows as the images have columns and the other way round, so what lies beyond is cut off; what
    both have is compared.
    """
    out = rtstruct.with_suffix(".npz")
    command = [str(python), str(HERE / "reference_rt_utils.py"), str(scan.source), str(rtstruct), str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(out) as found:
        order = {uid: number for number, uid in enumerate(found["uids"].tolist())}
        slices = [order[image.sop_instance] for image in source_images(scan, scan.geometry).images]
        names = found["names"].tolist()
        theirs = {name: found[f"roi {n}"][slices] for n, name in enumerate(names) if f"roi {n}" in found}
    pixel = np.ones((1, 3, 3), dtype=bool)
    wrong = 0
    for name, mask in masks.items():
        border = ndimage.binary_dilation(mask, pixel) & ~ndimage.binary_erosion(mask, pixel)
        other = theirs.get(name, np.zeros_like(mask))
        both = tuple(slice(min(sizes)) for sizes in zip(mask.shape, other.shape, strict=True))
        wrong += int(np.count_nonzero((other[both] ^ mask[both]) & ~border[both]))
    return wrong


# -- the table ----------------------------------------------------------------------------------------------


def print_row(row: Row) -> None:
    seg = " ".join(f"{reader}={count}" for reader, count in row.seg.items())
    dice = " ".join(f"{option}={value:.6f}" for option, value in row.dice.items())
    beyond = "-" if row.beyond is None else row.beyond
    print(f"{'ok  ' if row.fine else 'FAIL'} {row.name}: {row.structures} structures, {row.voxels} voxels")
    print(f"     SEG, voxels that differ: {seg}")
    print(f"     RTSTRUCT, least Dice: {dice}; rt-utils beyond a border pixel: {beyond}")
    for error in row.errors:
        print(f"     {error}")


def print_table(rows: list[Row]) -> None:
    readers = list(SEG_READERS)
    heads = [f"SEG: {', '.join(readers)}", "LABELMAP", "RTSTRUCT", "keyhole", "tps", "rt-utils", "dciodvfy"]
    print(f"| series | structures | voxels | {' | '.join(heads)} |")
    print("|---|" + "---:|" * (2 + len(heads)))
    for row in rows:
        binary, labelmap = (
            ", ".join(str(row.seg[f"{form} {reader}"]) for reader in readers) for form in ("seg", "seg-labelmap")
        )
        dice = " | ".join(f"{value:.4f}" for value in row.dice.values())
        beyond = "-" if row.beyond is None else row.beyond
        print(
            f"| {row.name} | {row.structures} | {row.voxels} | {binary} | {labelmap} | {dice} | {beyond} | "
            f"{len(row.errors)} |"
        )


if __name__ == "__main__":
    sys.exit(main())
