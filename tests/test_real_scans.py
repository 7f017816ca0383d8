"""Every image of the development data loads; every file in it that is no scan says what it is."""

from pathlib import Path

import numpy as np
import pytest

from medsam.errors import InputError
from medsam.io.load import load_volume

SUFFIXES = (".nii.gz", ".nrrd", ".png", ".jpg", ".npz")


def test_every_image_file_loads(data):
    paths = [p for p in sorted(data.rglob("*")) if p.name.lower().endswith(SUFFIXES) and "parity" not in p.parts]
    # 130 nearly equal hippocampi: every tenth stands for the rest
    paths = [p for n, p in enumerate(paths) if "hippocampus" not in p.name or n % 10 == 0]
    assert len(paths) > 200
    for path in paths:
        scan = load_volume(path)
        assert scan.array.shape[:3] == scan.geometry.shape, path
        assert np.isfinite(scan.array).any(), path


def dicom_folders(data: Path) -> list[Path]:
    files = [path for path in data.rglob("*") if path.suffix.lower() == ".dcm"]
    return sorted({path.parent for path in files if path.parent.name not in ("seg", "rtstruct", "mask")})


@pytest.mark.parametrize(
    ("name", "shape", "modality"),
    [
        ("liver_ct_dicom_seg/ct_series", (3, 512, 512), "CT"),
        ("lung_ct_dicom_rtstruct/ct_series", (24, 512, 512), "CT"),
        ("breast_mr_dicom_seg/UCSF-BR-06/mr_series", (60, 256, 256), "MR"),
    ],
)
def test_dicom_series(data, name, shape, modality):
    scan = load_volume(data / name)
    assert scan.array.shape == shape
    assert scan.modality == modality
    assert scan.geometry.calibrated


def test_every_dicom_folder_loads(data):
    folders = dicom_folders(data)
    assert len(folders) == 5
    for folder in folders:
        assert load_volume(folder).array.shape[0] > 1, folder


def test_segmentations_and_structure_sets_are_not_taken_for_scans(data):
    others = [p for p in data.rglob("*") if p.suffix.lower() == ".dcm" and p.parent.name in ("seg", "rtstruct", "mask")]
    assert len(others) == 5
    for path in others:
        with pytest.raises(InputError, match="(Segmentation|RT Structure Set|SEG|RTSTRUCT).*not a scan"):
            load_volume(path)
