"""What is exported reads back, by our own readers and by others'."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from annotated import draw, masks_of, project
from dicom_files import series, slices
from tiny_training import STRUCTURES, drawn

from medsam.annotation.exporting import export as exporting
from medsam.annotation.exporting.content import ExportRequest
from medsam.annotation.exporting.export import export
from medsam.cli.main import main
from medsam.data.manifest_json import read_manifest
from medsam.errors import InputError
from medsam.io.dicom.seg import read_seg
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.io.sa1b import read_sa1b
from medsam.masks import CompactMask
from medsam.store.project_records import Effort, NewAnnotation, NewScan, NewTask
from medsam.store.readers import Role


@pytest.fixture
def made(tmp_path, boxes_model):
    with project(tmp_path, boxes_model, ("train", "val", "test"), labelled=()) as opened:
        draw(opened, ("train", "val", "test"), (0, 1, 2, 3))
        yield opened


def same_as_drawn(manifest: Path, count: int = 3) -> None:
    cases = read_manifest(manifest).cases
    assert [case.id for case in cases] == [f"c{n}" for n in range(count)]
    for n, case in enumerate(cases):
        scan = case.load_image()
        np.testing.assert_allclose(scan.array, drawn(n)[0], rtol=1e-6)
        masks = case.load_references(scan)
        for value, name in enumerate(STRUCTURES, start=1):
            np.testing.assert_array_equal(masks[name], drawn(n)[1] == value)


@pytest.mark.parametrize("layout", ["manifest", "nnunet", "decathlon"])
def test_layouts_of_label_maps_read_back_as_they_were_drawn(made, tmp_path, layout):
    told = export(made, ExportRequest(layout), tmp_path / "out")
    assert told == {"scans": 3, "patients": 3, "masks": 24, "remarks": []}
    same_as_drawn(tmp_path / "out")
    cases = read_manifest(tmp_path / "out").cases
    sides = ["train", "train", "test"] if layout == "nnunet" else ["train", "val", "test"]
    assert [case.split for case in cases] == sides
    if layout == "nnunet":
        (split,) = json.loads((tmp_path / "out" / "splits_final.json").read_text())
        assert split == {"train": ["c0"], "val": ["c1"]}
    assert not (tmp_path / "out" / ".parts").exists()


def test_slices_that_nobody_was_asked_for_are_ignored_by_nnunet(tmp_path, boxes_model):
    with project(tmp_path, boxes_model, ("train",), labelled=()) as made:
        anna = made.store.local_reader()
        (scan,) = made.store.scans()
        made.store.add_tasks([NewTask(scan.id, STRUCTURES, slices=(1, 2))])
        task = made.store.next_task(anna, 60)
        made.store.submit_task(task.id, anna, masks_of(scan, (1,)))
        export(made, ExportRequest("nnunet"), tmp_path / "out")
        document = json.loads((tmp_path / "out" / "dataset.json").read_text())
        assert document["labels"] == {"background": 0, "disc": 1, "bar": 2, "ignore": 3}
        labels = load_volume(tmp_path / "out" / "labelsTr" / "c0.nii.gz").array
        assert [int((labels[k] == 3).mean()) for k in range(4)] == [1, 0, 0, 1]
        assert not labels[2].any(), "it was looked at, and nothing is there"
        (case,) = read_manifest(tmp_path / "out").cases
        assert not case.load_references(case.load_image())["disc"][0].any()


def test_slices_of_a_scan_whose_task_waits_are_not_known_to_be_empty(tmp_path, boxes_model):
    with project(tmp_path, boxes_model, ("train",), labelled=()) as made:
        (scan,) = made.store.scans()
        made.store.add_tasks([NewTask(scan.id, STRUCTURES)])
        made.store.add_annotations(masks_of(scan, (1,), status="accepted"))
        assert export(made, ExportRequest("nnunet"), tmp_path / "nnunet")["remarks"] == []
        labels = load_volume(tmp_path / "nnunet" / "labelsTr" / "c0.nii.gz").array
        assert [int((labels[k] == 3).mean()) for k in range(4)] == [1, 0, 1, 1]
        (remark,) = export(made, ExportRequest("decathlon"), tmp_path / "decathlon")["remarks"]
        assert "1 scan of 1 was looked at on some slices alone" in remark
        assert remark in (tmp_path / "decathlon" / "README.md").read_text()


def test_label_maps_alone_and_structures_that_share_voxels(made, tmp_path):
    (scan, *_) = made.store.scans()
    full = CompactMask.of(np.ones((20, 24), bool))
    made.store.add_annotations([NewAnnotation(scan.id, "bar", "k", 0, "edited", full)])
    export(made, ExportRequest("nifti", side="train"), tmp_path / "out")
    geometry = load_volume(made.case(scan).image).geometry
    bar = load_labels(tmp_path / "out" / "c0" / "bar.nii.gz", geometry)
    disc = load_labels(tmp_path / "out" / "c0" / "disc.nii.gz", geometry)
    assert bar["bar"][0].all()
    np.testing.assert_array_equal(disc["disc"], drawn(0)[1] == 1)
    with pytest.raises(InputError, match="Scan c0: structures share voxels"):
        export(made, ExportRequest("decathlon"), tmp_path / "other")
    shared, only = disc["disc"] & bar["bar"], disc["disc"] & ~bar["bar"]
    for overlap in ("first", "last"):
        told = export(made, ExportRequest("decathlon", side="train", overlap=overlap), tmp_path / overlap)
        assert any(
            f"are in several structures: the {overlap} of them, in the project's order, has them" in remark
            for remark in told["remarks"]
        )
        case = next(one for one in read_manifest(tmp_path / overlap).cases if one.id == "c0")
        labels = case.load_references(case.load_image())
        # by the project's order
        kept = sorted(("disc", "bar"), key=made.labels.__getitem__)[-1 if overlap == "last" else 0]
        assert labels[kept][shared].all()
        assert not labels["bar" if kept == "disc" else "disc"][shared].any()
        assert labels["disc"][only].all()
    export(made, ExportRequest("decathlon", structures=("bar",)), tmp_path / "alone")
    assert read_manifest(tmp_path / "alone").labels == {"bar": 1}


def test_a_seg_says_which_model_made_what_and_what_was_drawn_by_hand(tmp_path, boxes_model):
    series(tmp_path / "ct", slices(3))
    with project(tmp_path, boxes_model, ("train",), labelled=()) as made:
        (scan,) = made.store.add_scans([NewScan("ct", "p", "test", False, {"id": "ct", "image": str(tmp_path / "ct")})])
        mask = CompactMask.of(np.eye(4, 5, dtype=bool))
        (proposed,) = made.store.add_annotations(
            [NewAnnotation(scan.id, "disc", "k", 1, "proposed", mask, model="tiny", weights="ab" * 32)]
        )
        accepted = NewAnnotation(scan.id, "disc", "k", 1, "accepted", None, parent=proposed)
        by_hand = NewAnnotation(scan.id, "bar", "k", 2, "edited", mask)
        made.store.add_annotations([accepted, by_hand], made.store.local_reader())
        export(made, ExportRequest("seg", side="test"), tmp_path / "out")
        geometry = made.case(scan).load_image().geometry
        masks = read_seg(tmp_path / "out" / "ct.dcm", geometry)
        assert (masks["disc"][1] == mask.to_array()).all()
        assert masks.voxels == {"disc": 4, "bar": 4}
        segments = pydicom.dcmread(tmp_path / "out" / "ct.dcm").SegmentSequence
        by = {one.SegmentLabel: one for one in segments}
        assert by["disc"].SegmentAlgorithmType == "SEMIAUTOMATIC"
        assert by["disc"].SegmentAlgorithmName == "tiny"
        assert by["bar"].SegmentAlgorithmType == "MANUAL"
        draw(made)
        with pytest.raises(InputError, match="Scan c0 is no DICOM"):
            export(made, ExportRequest("seg"), tmp_path / "none")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_is_read_by_pycocotools(made, tmp_path):
    tools = pytest.importorskip("pycocotools.coco")
    export(made, ExportRequest("coco", side="val", licence="CC-BY-4.0"), tmp_path / "out")
    coco = tools.COCO(str(tmp_path / "out" / "annotations.json"))
    assert {one["name"] for one in coco.loadCats(coco.getCatIds())} == set(STRUCTURES)
    assert len(coco.getImgIds()) == 4
    _, labels = drawn(1)
    for image in coco.loadImgs(coco.getImgIds()):
        assert load_volume(tmp_path / "out" / "images" / image["file_name"]).shape == (1, 20, 24)
        for one in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            np.testing.assert_array_equal(coco.annToMask(one), labels[image["slice"]] == one["category_id"])
            ys, xs = np.nonzero(coco.annToMask(one))
            assert one["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert one["area"] == len(xs)


def test_sa1b_has_a_file_a_slice(made, tmp_path):
    export(made, ExportRequest("sa1b", side="train", structures=("disc",)), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("c0_k*.png"))) == 4
    found = read_sa1b(tmp_path / "out" / "c0_k0002.json")
    assert (found.file_name, found.axis, found.slices) == ("c0_k0002.png", "k", 4)
    (one,) = found.masks
    np.testing.assert_array_equal(one.mask, drawn(0)[1][2] == 1)
    assert one.slice == 2
    assert one.stability_score is None
    assert "stability_score" not in (tmp_path / "out" / "c0_k0002.json").read_text()
    assert '"stability_score" is left out' in (tmp_path / "out" / "README.md").read_text()


def test_the_table_and_the_card_tell_where_masks_come_from_and_name_nobody(tmp_path, boxes_model):
    with project(tmp_path, boxes_model, ("train",), labelled=()) as made:
        anna = made.store.local_reader()
        (scan,) = made.store.scans()
        proposed = made.store.add_annotations(masks_of(scan, (0,), status="proposed", model="tiny", weights="ab" * 32))
        places = list(zip(STRUCTURES, proposed, strict=True))
        effort = Effort(seconds=3.0)
        accepted = [
            NewAnnotation(scan.id, name, "k", 0, "accepted", None, stage=2, parent=parent, effort=effort)
            for name, parent in places
        ]
        made.store.add_tasks([NewTask(scan.id, STRUCTURES, stage=2)])
        task = made.store.next_task(anna, 60)
        rows = made.store.submit_task(task.id, anna, [accepted[0], *masks_of(scan, (1,))])
        rita = made.store.add_user("Rita", Role.REVIEWER, kind="proxy").reader
        # handed in once more as it was: what it cost stays with it
        made.store.review_task(task.id, rita, "returned")
        made.store.take_task(task.id, anna, 60)
        again = replace(accepted[0], parent=rows[0], effort=Effort(seconds=1.0))
        rows = made.store.submit_task(task.id, anna, [again, *masks_of(scan, (1,))])
        approved = [NewAnnotation(scan.id, "disc", "k", 0, "approved", None, parent=rows[0])]
        made.store.review_task(task.id, rita, "approved", annotations=approved)
        made.store.add_verdict(rows[1], anna, "good")
        export(made, ExportRequest("csv"), tmp_path / "out")
        with (tmp_path / "out" / "masks.csv").open() as file:
            table = list(csv.DictReader(file))
        first = next(row for row in table if row["structure"] == "disc" and row["slice"] == "0")
        assert (first["status"], first["reader"], first["model"], first["seconds"]) == ("approved", "1", "tiny", "4.0")
        card = (tmp_path / "out" / "README.md").read_text()
        assert "3 masks of 2 structures on slices of 1 scan (train 1) of 1 patient." in card
        assert f"| tiny ({'ab' * 6}) | 1 |" in card
        assert "Audited: 1 mask, 1 of them found good." in card
        assert "**not stated**" in card
        assert "local" not in card
        assert "c0" not in card


def test_an_export_that_ended_early_goes_on_with_the_next_scan_and_sees_nothing_new(made, tmp_path, monkeypatch):
    kept = exporting.ManifestLayout.write
    written: list[str] = []

    def full_disk(self, content, folder):
        if len(written) == 1:
            raise OSError("full")
        written.append(content.scan.name)
        return kept(self, content, folder)

    with monkeypatch.context() as patch:
        patch.setattr(exporting.ManifestLayout, "write", full_disk)
        with pytest.raises(OSError, match="full"):
            export(made, ExportRequest("manifest"), tmp_path / "out")
    with pytest.raises(InputError, match="another export"):
        export(made, ExportRequest("nifti"), tmp_path / "out")
    nothing = CompactMask.of(np.eye(20, 24, dtype=bool))
    made.store.add_annotations([NewAnnotation(made.store.scans()[2].id, "disc", "k", 0, "edited", nothing)])
    monkeypatch.setattr(
        exporting.ManifestLayout,
        "write",
        lambda self, content, folder: written.append(content.scan.name) or kept(self, content, folder),
    )
    export(made, ExportRequest("manifest"), tmp_path / "out")
    assert written == ["c0", "c1", "c2"]
    same_as_drawn(tmp_path / "out")
    with pytest.raises(InputError, match="not empty"):
        export(made, ExportRequest("manifest"), tmp_path / "out")


def test_the_command(made, tmp_path, capsys):
    words = ["annotate", "export", str(made.folder), "--out", str(tmp_path / "out"), "--format", "csv"]
    assert main([*words, "--status", "proposed"]) == 2
    assert "There is no mask to export" in capsys.readouterr().err
    assert main([*words, "--structures", "liver"]) == 2
    assert "no structure 'liver'; it has: disc, bar" in capsys.readouterr().err
    assert main([*words, "--overlap", "last"]) == 2
    assert "--overlap is for nnunet and decathlon: csv holds" in capsys.readouterr().err
    assert main(words) == 0
    assert "24 masks on 3 scans of 3 patients" in capsys.readouterr().out
