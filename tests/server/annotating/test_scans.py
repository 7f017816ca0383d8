"""A project's scans as cases: as the manifest says they are read, and without anybody's name."""

from __future__ import annotations

import pytest
from annotating_house import annotating, make_project
from dicom_files import series, slices

from medsam.geometry import VolumeGeometry
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
