"""A project's scans as cases: as the manifest says they are read, and without anybody's name."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from annotating_house import STRUCTURES, annotating, make_project
from dicom_files import series, slices
from phantoms import random_affine

from medsam.annotation.exporting.export import ExportRequest, export
from medsam.geometry import VolumeGeometry
from medsam.masks import RLE
from medsam.store.project_records import NewScan, NewTask


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "project"


def test_a_series_is_read_as_the_manifest_says_and_nobody_is_told_whose_it_is(folder, tmp_path):
    scans = tmp_path / "DOE^JANE"
    scans.mkdir()
    series(scans, slices(3, 32, 40), PatientName="DOE^JANE", PatientID="4711")
    with make_project(folder, 0) as project:
        document = {
            "id": "case_1",
            "image": str(scans),
            "modality": "MR",
            "window": "40,400",
            "spacing_mm": [0.5, 0.5, 4.0],
        }
        (scan,) = project.store.add_scans([NewScan("case_1", "4711", "train", False, document, "MR")])
        project.store.add_tasks([NewTask(scan.id, ("left block", "right block"))])
    with annotating(folder) as house:
        house.ada.begin()
        told = house.ada.get(f"/sessions/{house.ada.session}")
        assert (told["window"]["low"], told["window"]["high"]) == (-160, 240)
        case = house.ada.get(f"/cases/{house.ada.task['case']}")
        assert (case["name"], case["modality"], case["patient"]) == ("case_1", "MR", None)
        grid = house.ada.get(f"/cases/{house.ada.task['case']}/geometry")
        assert VolumeGeometry.from_dict(grid).spacing_mm == (4.0, 0.5, 0.5)
        asked = [
            house.ada.get(path)
            for path in ("/annotate", "/annotate/tasks", "/annotate/statistics", "/cases?patients=true", "/audit")
        ]
        assert not any(name in str((told, case, asked)) for name in ("DOE", "JANE", "4711"))


def test_what_is_drawn_on_turned_tilted_and_flat_scans_is_exported_voxel_by_voxel(folder, tmp_path):
    rng, shape = np.random.default_rng(3), (18, 14, 11)
    with make_project(folder, 0, axis=None) as project:
        for n, spacing in enumerate([(4.0, 0.7, 1.1), (0.9, 5.0, 0.6), (0.8, 1.2, 3.0)]):
            array = np.zeros(shape, np.float32)
            # nowhere the same from both sides
            array[3:8, 2:6, 4:6], array[3:5, 2:9, 4:9] = 200, 200
            nib.save(nib.Nifti1Image(array, random_affine(rng, spacing, True)), tmp_path / f"s{n}.nii.gz")
            document = {"id": f"s{n}", "image": str(tmp_path / f"s{n}.nii.gz"), "modality": "MR"}
            (scan,) = project.store.add_scans([NewScan(f"s{n}", f"p{n}", "train", False, document, "MR")])
            project.store.add_tasks([NewTask(scan.id, STRUCTURES)])
    with annotating(folder) as house:
        ann, axes = house.ann, ""
        for scan in house.store.scans():
            ann.begin()
            image = house.project.case(scan).load_image()
            plane = image.geometry.plane(ann.get(f"/sessions/{ann.session}")["axis"])
            axes += plane.axis
            for index in range(plane.count):
                if (bright := plane.take(image.array, index) > 100).any():
                    ann.prompt(1, index, drawn=RLE.of(bright).to_dict())
            ann.submit(absent=[STRUCTURES[1]])
        export(house.project, ExportRequest("nifti"), tmp_path / "out")
    assert axes == "ijk", "each across its thickest slices"
    for n in range(3):
        scan = nib.load(tmp_path / f"s{n}.nii.gz")
        (path,) = (tmp_path / "out").rglob(f"s{n}*.nii.gz")
        label = nib.load(path)
        np.testing.assert_allclose(label.affine, scan.affine, atol=1e-4)
        np.testing.assert_array_equal(label.get_fdata() == 1, scan.get_fdata() > 100)
