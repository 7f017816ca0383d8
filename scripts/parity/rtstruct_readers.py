"""Write RTSTRUCT from masks and read it with plastimatch and dcmrtstruct2nii.

    .venv/bin/python scripts/parity/rtstruct_readers.py [--data FOLDER] [--dcmrtstruct2nii VENV/bin/python]

The masks are those of `dicom_out.py`. plastimatch is a program (Debian: apt-get install plastimatch), left out where it
is not installed. dcmrtstruct2nii wants an older pydicom and so an environment of its own:

    python3 -m venv VENV
    VENV/bin/pip install "pydicom<3" dcmrtstruct2nii

A row for each series and way to draw holes: the least Dice of a structure. plastimatch unites the contours of a slice,
so it fills holes that are contours of their own; keyholes it reads as they are meant. Exit status 1 when another Dice
is below 0.999.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from dicom_out import LEAST_DICE, ROOT, Masks, cases, dice_of

from medsam.geometry import VolumeGeometry
from medsam.io.algorithm import DicomOptions
from medsam.io.save import save_labels
from medsam.volume import Volume

# how far a voxel of another program may lie from ours, in voxels: they round what headers say
_OFF = 0.05
_DCMRTSTRUCT2NII = """
import sys
from dcmrtstruct2nii import dcmrtstruct2nii
dcmrtstruct2nii(sys.argv[2], sys.argv[1], sys.argv[3], convert_original_dicom=False)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSAM_DATA") or ROOT.parent / "shared/data"))
    parser.add_argument("--dcmrtstruct2nii", metavar="PYTHON", help="of an environment with dcmrtstruct2nii")
    arguments = parser.parse_args()
    readers: dict[str, Callable[[Path, Path, Path], None]] = {}
    if shutil.which("plastimatch"):
        readers["plastimatch"] = plastimatch
    if arguments.dcmrtstruct2nii:
        readers["dcmrtstruct2nii"] = lambda *paths: dcmrtstruct2nii(arguments.dcmrtstruct2nii, *paths)
    if not readers:
        parser.error("plastimatch is not installed, and no --dcmrtstruct2nii is given: there is nobody to read")
    print(f"| series | holes | {' | '.join(readers)} |\n|---|---|{'---:|' * len(readers)}")
    fine = True
    with tempfile.TemporaryDirectory(prefix="medsam-rt-") as folder:
        for name, scan, masks in cases(arguments.data, Path(folder)):
            for keyhole in (False, True):
                path = Path(folder) / "rs.dcm"
                options = DicomOptions(keyhole=keyhole)
                save_labels(masks, path, scan, geometry=scan.geometry, format="rtstruct", options=options)
                dice = {reader: least_dice(read, path, scan, masks) for reader, read in readers.items()}
                shown = " | ".join(f"{value:.4f}" for value in dice.values())
                print(f"| {name} | {'keyhole' if keyhole else 'contours'} | {shown} |")
                fine &= all(value >= LEAST_DICE for reader, value in dice.items() if keyhole or reader != "plastimatch")
    return 0 if fine else 1


def plastimatch(series: Path, path: Path, folder: Path) -> None:
    where = ["--output-prefix", str(folder), "--prefix-format", "nii.gz"]
    run(["plastimatch", "convert", "--input", str(path), "--referenced-ct", str(series), *where])


def dcmrtstruct2nii(python: str, series: Path, path: Path, folder: Path) -> None:
    run([python, "-c", _DCMRTSTRUCT2NII, str(series), str(path), str(folder)])


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-500:]}")


def least_dice(read: Callable[[Path, Path, Path], None], path: Path, scan: Volume, masks: Masks) -> float:
    """Of any structure, as another program makes NIfTI of it, a file each."""
    with tempfile.TemporaryDirectory() as folder:
        read(Path(scan.source or ""), path, Path(folder))
        files = {plain(file.name[: -len(".nii.gz")]): file for file in Path(folder).rglob("*.nii.gz")}
        found = {name: placed(files[plain(name)], scan.geometry) for name in masks if plain(name) in files}
    nothing = np.zeros(scan.shape, dtype=bool)
    return min(dice_of(found.get(name, nothing), mask) for name, mask in masks.items())


def plain(name: str) -> str:
    """A name without what file names lose, and without what they begin with."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("mask")


def placed(file: Path, geometry: VolumeGeometry) -> np.ndarray:
    """A mask of another grid on this one, voxel by voxel. Raises SystemExit when one lies between ours."""
    image = nib.load(file)
    inside = np.argwhere(np.asarray(image.dataobj) > 0)
    mask = np.zeros(geometry.shape, dtype=bool)
    if len(inside):
        voxels = geometry.to_voxel((inside @ image.affine[:3, :3].T + image.affine[:3, 3]) * (-1, -1, 1))
        if np.abs(voxels - np.rint(voxels)).max() > _OFF:
            raise SystemExit(f"{file.name}: a voxel lies between those of the grid")
        i, j, k = np.rint(voxels).astype(int).T
        mask[k, j, i] = True
    return mask


if __name__ == "__main__":
    sys.exit(main())
