"""`check_manifest` finds what is wrong, says where, and is silent about a sound data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tiny_sets as scans

from medsam.data.check import check_manifest
from medsam.data.manifest import Case


def kinds(path: Path) -> list[tuple[str, str, str | None]]:
    return [(p.level, p.kind, p.case) for p in check_manifest(path).problems]


def test_a_sound_manifest_has_no_problems(tmp_path):
    seen = []
    checked = check_manifest(scans.manifest(tmp_path, 3), lambda done, total: seen.append((done, total)))
    assert checked.problems == ()
    assert checked.present == {"liver": 3, "spleen": 3}
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_one_slice_volumes_are_sound(tmp_path):
    path = scans.manifest(tmp_path, 1)
    scans.scan(tmp_path / "images/a0.nii.gz", shape=(1, 4, 5))
    scans.label(tmp_path / "labels/a0.nii.gz", shape=(1, 4, 5))
    assert kinds(path) == []


def test_each_fault_is_found_in_its_case(tmp_path):
    path = scans.manifest(tmp_path, 8)
    (tmp_path / "images/a0.nii.gz").unlink()
    (tmp_path / "labels/a1.nii.gz").unlink()
    (tmp_path / "images/a2.nii.gz").write_bytes(b"not a scan")
    scans.label(tmp_path / "labels/a3.nii.gz", shape=(3, 4, 6))
    scans.label(tmp_path / "labels/a4.nii.gz", affine=np.diag([1, 1, 2.5, 1]))
    scans.label(tmp_path / "labels/a5.nii.gz", (1, 9))
    scans.label(tmp_path / "labels/a6.nii.gz", ())
    checked = check_manifest(path)
    assert [(p.level, p.kind, p.case) for p in checked.problems] == [
        ("error", "missing-file", "a0"),
        ("error", "missing-file", "a1"),
        ("error", "image", "a2"),
        ("error", "grid", "a3"),
        ("error", "grid", "a4"),
        ("error", "unknown-label", "a5"),
        ("warning", "empty-label", "a6"),
    ]
    assert (checked.errors, checked.warnings) == (6, 1)
    grid = {p.case: p.message for p in checked.problems}
    assert "has 6 x 4 x 3 voxels" in grid["a3"]
    assert "the scan has 5 x 4 x 3 voxels" in grid["a3"]
    assert "up to 3 mm (3 voxels)" in grid["a4"]
    assert "unknown label values 9 (1 voxel)" in grid["a5"]
    assert [p.file.name for p in checked.problems] == [f"a{n}.nii.gz" for n in range(7)]
    assert [p.file.parent.name for p in checked.problems][:3] == ["images", "labels", "images"]


def test_a_structure_in_no_case_is_a_warning(tmp_path):
    path = scans.manifest(tmp_path, 2, labels={"liver": 1, "spleen": 2, "kidney": 3})
    problems = check_manifest(path).problems
    assert [(p.level, p.kind, p.message) for p in problems] == [
        ("warning", "never-present", "the structure 'kidney' is in no case.")
    ]


def test_patients_in_two_splits_and_ids_used_twice(tmp_path):
    path = scans.manifest(tmp_path, 3)
    content = json.loads(path.read_text())
    content["cases"][0] |= {"patient": "p", "split": "train"}
    content["cases"][1] |= {"patient": "p", "split": "val"}
    content["cases"][2]["id"] = "a0"
    checked = check_manifest(scans.write(path, content))
    assert [p.kind for p in checked.problems] == ["cross-case", "cross-case"]
    assert checked.errors == 2
    assert "two cases have the id 'a0'" in checked.problems[0].message
    assert "patient 'p' is in 2 splits" in checked.problems[1].message


def test_one_image_in_two_splits_or_of_two_patients(tmp_path):
    path = scans.manifest(tmp_path, 3)
    content = json.loads(path.read_text())
    for case in content["cases"]:
        case["image"] = "images/a0.nii.gz"
    content["cases"][0] |= {"patient": "p"}
    content["cases"][1] |= {"patient": "p"}
    assert kinds(scans.write(path, content)) == [("error", "same-image", "a2")]
    content["cases"][2] |= {"patient": "p"}  # three references of one image
    assert kinds(scans.write(path, content)) == []
    content["cases"][2] |= {"patient": "q", "split": "test"}
    assert kinds(scans.write(path, content)) == [("error", "same-image", "a2")]


def test_one_person_as_several_patients_is_a_warning(tmp_path):
    for patient in ("P1", "P2"):
        for kind in ("CT", "PET"):
            scans.scan(tmp_path / patient / f"{kind}.nii.gz")
            scans.label(tmp_path / patient / f"{kind}_seg.nii.gz")
    cases = [
        {"id": f"{p}_{kind}", "image": f"{p}/{kind}.nii.gz", "label": f"{p}/{kind}_seg.nii.gz", "split": split}
        for p in ("P1", "P2")
        for kind, split in (("CT", "train"), ("PET", "test"))
    ]
    path = scans.write(tmp_path / "m.json", {"labels": {"liver": 1, "spleen": 2}, "cases": cases})
    checked = check_manifest(path)
    assert [(p.level, p.kind, p.case) for p in checked.problems] == [("warning", "patient", "P1_PET")]
    assert "4 cases without `patient` look like scans of 2 people; 2 of them in several splits" in (
        checked.problems[0].message
    )
    assert checked.patients == "4 cases without `patient`, each counted as one of its own"
    for case in cases:
        case |= {"patient": case["id"][:2], "split": "train"}
    checked = check_manifest(scans.write(path, {"labels": {"liver": 1, "spleen": 2}, "cases": cases}))
    assert checked.problems == ()
    assert checked.patients == "2, by `patient`"


def test_a_defect_of_ours_does_not_stop_the_other_cases(tmp_path, monkeypatch):
    path = scans.manifest(tmp_path, 3)
    original = Case.load_image

    def broken(case):
        if case.id == "a1":
            raise ZeroDivisionError("oh")
        return original(case)

    monkeypatch.setattr(Case, "load_image", broken)
    checked = check_manifest(path)
    assert [(p.level, p.case) for p in checked.problems] == [("error", "a1")]
    assert (
        "a defect in medsam, not in your file; please report it: ZeroDivisionError: oh" in checked.problems[0].message
    )
    assert checked.present == {"liver": 2, "spleen": 2}


def test_nan_and_constant_images_are_warnings(tmp_path):
    path = scans.manifest(tmp_path, 3)
    array = np.ones(scans.SHAPE, np.float32)
    scans.nifti(tmp_path / "images/a0.nii.gz", array)
    array[0, 0, :3] = np.nan
    array[1] = 2
    scans.nifti(tmp_path / "images/a1.nii.gz", array)
    scans.nifti(tmp_path / "images/a2.nii.gz", np.full(scans.SHAPE, np.inf, np.float32))
    assert kinds(path) == [
        ("warning", "constant", "a0"),
        ("warning", "not-finite", "a1"),
        ("warning", "not-finite", "a2"),
        ("warning", "constant", "a2"),
    ]
    assert "3 voxels are NaN or infinite (5.00% of the image)" in check_manifest(path).problems[1].message


def test_one_empty_mask_of_several(tmp_path):
    scans.scan(tmp_path / "x.nii.gz")
    scans.label(tmp_path / "liver.nii.gz", (1,))
    scans.label(tmp_path / "spleen.nii.gz", ())
    cases = [{"id": "x", "image": "x.nii.gz", "label": {"liver": "liver.nii.gz", "spleen": "spleen.nii.gz"}}]
    problems = check_manifest(scans.write(tmp_path / "m.json", {"cases": cases})).problems
    assert [(p.kind, p.message) for p in problems] == [
        ("empty-label", "1 of its 2 masks is empty: spleen."),
        ("never-present", "the structure 'spleen' is in no case."),
    ]
    assert problems[0].file == tmp_path / "spleen.nii.gz"


def test_a_manifest_that_cannot_be_read_is_a_problem_of_its_own(tmp_path):
    (tmp_path / "m.json").write_text("{")
    assert kinds(tmp_path / "m.json") == [("error", "manifest", None)]
    assert kinds(scans.write(tmp_path / "n.json", {"cases": []})) == [("error", "manifest", None)]


def test_cases_without_labels_are_no_errors(tmp_path):
    path = scans.manifest(tmp_path, 2)
    content = json.loads(path.read_text())
    for case in content["cases"]:
        del case["label"]
    assert kinds(scans.write(path, content)) == [("warning", "no-label", None)]


def test_labels_are_read_once(tmp_path, monkeypatch):
    from medsam.io import labels

    read, original = [], labels.read_map
    monkeypatch.setattr(labels, "read_map", lambda path, frame=None: read.append(path) or original(path, frame))
    path = scans.manifest(tmp_path, 3)
    check_manifest(path)
    assert len(read) == 3


def test_a_note_on_many_cases_is_said_once(tmp_path):
    path = scans.manifest(tmp_path, 3)
    for n in range(3):
        scans.nifti(tmp_path / f"labels/a{n}.nii.gz", np.full(scans.SHAPE, 1.0001 if n else 1.0, np.float32))
    checked = check_manifest(path)
    assert [(p.level, p.kind, p.case) for p in checked.problems] == [
        ("warning", "never-present", None),
        ("note", "label-read", "a1"),
    ]
    assert checked.problems[1].message.endswith("were rounded to them. So in 1 more case.")
    assert (checked.errors, checked.warnings) == (0, 1)
