from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from annotated import empty_store
from tiny_training import STRUCTURES, drawn, shapes, write_case, write_manifest

from medsam.annotation.project import AnnotationProject
from medsam.annotation.settings import Settings
from medsam.annotation.starting import add_scans, checked_structures, read_data, spread_slices, start_project
from medsam.cli.main import main
from medsam.errors import InputError


def started(folder: Path, data: Path, structures=STRUCTURES, **options):
    manifest, _ = read_data(data)
    settings = options.pop("settings", Settings())
    if options.pop("empty", True):
        empty_store(folder / "project" / "store")
    return start_project(folder / "project", manifest, structures, settings, **options)


def test_scans_with_a_reference_are_nobodys_task_and_every_other_is_one(tmp_path):
    path = shapes(tmp_path / "data")
    content = json.loads(path.read_text())
    for row in content["cases"][1:3]:
        del row["label"]
    path.write_text(json.dumps(content))
    project, added = started(tmp_path, path)
    with project:
        assert [(scan.name, scan.side, scan.labelled) for scan in added.scans] == [
            ("c0", "train", True),
            ("c1", "train", False),
            ("c2", "val", False),
            ("c3", "test", True),
        ]
        assert [task.scan for task in added.tasks] == [added.scans[1].id, added.scans[2].id]
        assert added.tasks[0].structures == STRUCTURES
        case = project.case(added.scans[0])
        masks = case.load_references(case.load_image())
        assert masks["disc"].sum() == (drawn(0)[1] == 1).sum(), "the reference is read from where it lies"


def test_a_reference_that_lacks_a_structure_leaves_its_scan_to_be_drawn(tmp_path):
    project, added = started(tmp_path, shapes(tmp_path / "data"), ("disc", "cross"))
    with project:
        assert len(added.tasks) == 4
        assert not any("label" in scan.document for scan in added.scans)
        assert "4 scans with a reference that lacks some of the structures" in added.remarks[-1]


def test_structures_are_found_in_any_spelling_and_kept_as_they_were_asked_for(tmp_path):
    project, added = started(tmp_path, shapes(tmp_path / "data"), ("Bar", "DISC"))
    with project:
        assert project.labels == {"Bar": 1, "DISC": 2}
        assert added.scans[0].document["labels"] == {"DISC": 1, "Bar": 2}
        assert not added.tasks


def test_a_patient_is_on_one_side_and_the_seed_says_which(tmp_path):
    cases = []
    (tmp_path / "data").mkdir()
    for n in range(12):
        row = write_case(tmp_path / "data", f"c{n}", *drawn(n))
        cases.append({**row, "patient": f"p{n // 2}", "label": None})
    path = write_manifest(tmp_path / "data", [{k: v for k, v in row.items() if v} for row in cases])
    sides = []
    for seed in (0, 0, 1):
        project, added = started(tmp_path / f"{len(sides)}", path, settings=Settings(seed=seed), frozen=0.3, val=0.2)
        project.close()
        by_patient: dict[str, set[str]] = {}
        for scan in added.scans:
            by_patient.setdefault(scan.patient, set()).add(scan.side)
        assert all(len(one) == 1 for one in by_patient.values())
        sides.append({patient: one.pop() for patient, one in by_patient.items()})
        assert sorted(sides[-1].values()) == ["test"] * 2 + ["train"] * 3 + ["val"]
    assert sides[0] == sides[1] != sides[2]


def test_too_few_patients_are_not_shared(tmp_path):
    path = shapes(tmp_path / "data", (None, None))
    with pytest.raises(InputError, match="2 patients cannot be shared") as raised:
        started(tmp_path, path, empty=False)
    assert raised.value.parameters == ("frozen", "val")
    assert not (tmp_path / "project").exists(), "nothing was made"
    project, added = started(tmp_path, path, val=0)
    project.close()
    assert sorted(scan.side for scan in added.scans) == ["test", "train"]


def test_a_number_of_slices_is_one_in_the_middle_of_each_part(tmp_path):
    assert spread_slices(101, 5) == (10, 30, 50, 70, 90)
    assert spread_slices(101, 1) == (50,)
    assert spread_slices(40, 2) == (10, 30)
    assert spread_slices(3, 9) == (0, 1, 2)
    assert spread_slices(1, 4) == (0,)
    project, added = started(tmp_path, shapes(tmp_path / "data"), ("cross",), settings=Settings(slices=2))
    project.close()
    assert {task.slices for task in added.tasks} == {(1, 3)}


def test_structures_that_will_not_do_are_refused():
    assert checked_structures([" liver ", "", "spleen"]) == ("liver", "spleen")
    with pytest.raises(InputError, match="'left kidney' and 'kidney_left' are one structure"):
        checked_structures(["left kidney", "kidney_left"])
    with pytest.raises(InputError, match="Name the `structures`"):
        checked_structures([" "])
    with pytest.raises(InputError, match="needs a name"):
        checked_structures(["--"])


def test_further_scans_come_in_and_known_ones_stay(tmp_path):
    data = tmp_path / "data"
    project, _ = started(tmp_path, shapes(data), ("cross",))
    with project:
        row = write_case(data, "new", *drawn(7))
        both = write_manifest(data, [{**row, "id": "c0"}, write_case(data, "c1", *drawn(1), "train")], "more")
        more = add_scans(project, read_data(both)[0])
        assert [(scan.name, scan.side) for scan in more.scans] == [("c0-2", "train")], "another scan of this name"
        assert more.remarks == ("1 scan of these the project has already.",)
        assert len(more.tasks) == 1
        assert len(project.store.scans()) == 5
        assert add_scans(project, read_data(both)[0]).scans == ()


def test_scans_left_without_a_task_by_a_killed_process_get_theirs(tmp_path):
    project, added = started(tmp_path, shapes(tmp_path / "data"), ("cross",))
    with project:
        before = project.store.add_scans([like(added.scans[1], "lost")])
        again = add_scans(project, read_data(tmp_path / "data" / "shapes.json")[0])
        assert [task.scan for task in again.tasks] == [before[0].id]


def like(scan, name):
    from medsam.store.project_records import NewScan

    return NewScan(name, name, scan.side, False, {**scan.document, "id": name, "frame": 0})


def test_a_folder_of_training_scans_has_patients_to_be_measured_on_and_the_model_it_begins_with(
    tmp_path, predictor, boxes_model, capsys
):
    folder = tmp_path / "data" / "imagesTr"
    folder.mkdir(parents=True)
    for n in range(10):
        nib.save(nib.Nifti1Image(np.zeros((8, 8, 2), np.float32), np.eye(4)), folder / f"head{n}.nii.gz")
    words = ["annotate", "init", str(tmp_path / "project"), "--data", str(tmp_path / "data"), "--structures", "brain"]
    assert main([*words, "--model", "no-such"]) == 2
    assert "No checkpoint at no-such" in capsys.readouterr().err
    assert main([*words, "--model", str(boxes_model)]) == 0
    said = "2 patients to be measured on and 1 patient to stop training by are set aside"
    assert said in capsys.readouterr().err
    with AnnotationProject.open(tmp_path / "project") as project:
        assert project.asked.structures == ("brain",)
        assert Counter(scan.side for scan in project.store.scans()) == {"train": 7, "test": 2, "val": 1}
        assert len(project.store.tasks()) == 10
        assert project.store.model().weights == predictor.images.weights
    project, added = started(tmp_path / "none", tmp_path / "data", ("brain",), frozen=0, val=0)
    project.close()
    assert ({scan.side for scan in added.scans}, added.remarks) == ({"train"}, ())
