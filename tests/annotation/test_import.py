"""Masks from elsewhere come in as they were, for the scans that they are of."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from annotated import draw, masks_of, project
from dicom_files import series, slices
from stores import square
from tiny_sets import nifti, write
from tiny_training import STRUCTURES, drawn

from medsam.annotation.exporting.content import ExportRequest
from medsam.annotation.exporting.export import export
from medsam.annotation.importing.bring_in import ImportRequest, import_masks
from medsam.annotation.knowing import known_scans
from medsam.annotation.looks import Looks
from medsam.cli.main import main
from medsam.errors import InputError
from medsam.masks import CompactMask
from medsam.server.annotating.start import before
from medsam.store.project_records import NewAnnotation, NewScan, NewTask


@pytest.fixture
def made(tmp_path, boxes_model):
    """Two scans on which nobody has drawn."""
    with project(tmp_path, boxes_model, ("train", "test"), labelled=()) as opened:
        yield opened


def same_as_drawn(made, structures=STRUCTURES, status="accepted") -> None:
    """Every scan has its true masks."""
    for scan in made.store.scans():
        found = {(row.structure, row.slice): row for row in made.store.standing(scan.id, [status])}
        _, labels = drawn(int(scan.name[1:]))
        assert len(found) == 4 * len(structures)
        for (name, index), row in found.items():
            value = STRUCTURES.index(name) + 1
            np.testing.assert_array_equal(row.mask.to_array(), labels[index] == value)
            assert (row.model, row.stage) == (None, 1)


@pytest.fixture(scope="module")
def other(tmp_path_factory, boxes_model):
    """A project with masks, to be exported."""
    with project(tmp_path_factory.mktemp("other"), boxes_model, ("train", "test"), labelled=()) as opened:
        draw(opened, ("train", "test"), range(4))
        yield opened


@pytest.mark.parametrize("layout", ["manifest", "nifti", "nnunet", "decathlon", "coco"])
def test_what_was_exported_comes_in_again(other, made, tmp_path, layout):
    export(other, ExportRequest(layout), tmp_path / "out")
    told = import_masks(made, ImportRequest(tmp_path / "out"), made.store.local_reader())
    assert (told.scans, told.masks, told.remarks) == (2, 16, [])
    same_as_drawn(made)
    again = import_masks(made, ImportRequest(tmp_path / "out"))
    assert (again.masks, again.same) == (0, 16)


def test_masks_without_a_class_are_of_the_structure_that_is_named(other, made, tmp_path):
    export(other, ExportRequest("sa1b", structures=("bar",)), tmp_path / "out")
    with pytest.raises(InputError, match="have no class"):
        import_masks(made, ImportRequest(tmp_path / "out"))
    import_masks(made, ImportRequest(tmp_path / "out", structures=("bar",), status="proposed"))
    same_as_drawn(made, ("bar",), "proposed")


def test_files_of_a_structure_each_and_numbers_that_somebody_says(made, tmp_path):
    _, labels = drawn(0)
    nifti(tmp_path / "in" / "c0" / "disc.nii.gz", (labels == 1).astype(np.uint8), np.diag([1.0, 1, 3, 1]))
    nifti(tmp_path / "in" / "c1.nii.gz", drawn(1)[1], np.diag([1.0, 1, 3, 1]))
    told = import_masks(made, ImportRequest(tmp_path / "in", numbers={"Disc": 1, "bone": 2}))
    assert told.masks == 8
    assert told.remarks == ["'bone' is no structure of this project: 1 scan had it."]


def test_what_fits_no_scan_is_said_and_what_does_not_fit_its_scan_is_an_error(made, tmp_path):
    nifti(tmp_path / "in" / "c0.nii.gz", drawn(0)[1], np.diag([1.0, 1, 3, 1]))
    nifti(tmp_path / "in" / "elsewhere.nii.gz", drawn(0)[1], np.diag([1.0, 1, 3, 1]))
    told = import_masks(made, ImportRequest(tmp_path / "in", numbers={"disc": 1, "bar": 2}))
    assert told.remarks == ["1 label of no scan of this project: elsewhere.nii.gz."]
    nifti(tmp_path / "in" / "c1.nii.gz", drawn(1)[1][:3], np.diag([1.0, 1, 3, 1]))
    with pytest.raises(InputError, match=r"c1\.nii\.gz .*the scan"):
        import_masks(made, ImportRequest(tmp_path / "in", numbers={"disc": 1, "bar": 2}))


def test_a_seg_finds_its_scan_by_the_series_that_it_cites(tmp_path, boxes_model):
    series(tmp_path / "ct", slices(3))
    mask = CompactMask.of(np.eye(4, 5, dtype=bool))
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with project(tmp_path / name, boxes_model, (), labelled=()) as made:
            document = {"id": name, "image": str(tmp_path / "ct")}
            (scan,) = made.store.add_scans([NewScan(name, "p", "train", False, document)])
            folders.append(made.folder)
            if name == "one":
                made.store.add_annotations([NewAnnotation(scan.id, "disc", "k", 1, "edited", mask)])
                export(made, ExportRequest("seg"), tmp_path / "seg")
                continue
            told = import_masks(made, ImportRequest(tmp_path / "seg"))
            assert told.masks == 1
            (row,) = made.store.standing(scan.id)
            assert (row.structure, row.slice, row.mask) == ("disc", 1, mask)


def datastore(folder, made) -> None:
    """As MONAI Label 0.8 leaves it: a final label of one image, another one that is only a model's."""
    objects = {}
    for scan, tag in zip(made.store.scans(), ("final", "original"), strict=True):
        folder.mkdir(exist_ok=True)
        shutil.copy(made.case(scan).image, folder / f"{scan.name}.nii.gz")
        nifti(folder / "labels" / tag / f"{scan.name}.nii.gz", drawn(int(scan.name[1:]))[1], np.diag([1.0, 1, 3, 1]))
        info = {"ts": 1, "name": f"{scan.name}.nii.gz", "label_info": [{"name": "disc", "idx": 1}, {"name": "bar"}]}
        objects[scan.name] = {
            "image": {"ext": ".nii.gz", "info": {"ts": 1, "name": f"{scan.name}.nii.gz"}},
            "labels": {tag: {"ext": ".nii.gz", "info": info}},
        }
    head = {"name": "new-dataset", "description": "New Dataset", "images_dir": ".", "labels_dir": "labels"}
    write(folder / "datastore_v2.json", head | {"objects": objects})


def test_the_datastore_of_monai_label(made, tmp_path):
    datastore(tmp_path / "in", made)
    told = import_masks(made, ImportRequest(tmp_path / "in"))
    assert (told.scans, told.masks) == (1, 8), "what no person submitted does not stand"
    told = import_masks(made, ImportRequest(tmp_path / "in", status="proposed"))
    assert told.masks == 8, "and nothing is proposed where somebody's word stands"
    assert {row.status for row in made.store.standing(statuses=["proposed"])} == {"proposed"}


def test_a_datastore_that_names_files_elsewhere_is_refused(made, tmp_path):
    datastore(tmp_path / "in", made)
    path = tmp_path / "in" / "datastore_v2.json"
    path.write_text(path.read_text().replace('"c0": {', '"../../c0": {'))
    with pytest.raises(InputError, match="leads out of its folder"):
        import_masks(made, ImportRequest(tmp_path / "in"))


def test_polygons_of_coco_are_filled_where_pixels_have_their_centre(made, tmp_path):
    square = [[2, 3, 6, 3, 6, 8, 2, 8]]
    image = {"id": 7, "file_name": "c0_k0001.png", "height": 20, "width": 24}
    mask = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": square}
    document = {"images": [image], "annotations": [mask], "categories": [{"id": 3, "name": "disc"}]}
    path = write(tmp_path / "in.json", document)
    import_masks(made, ImportRequest(path))
    (row,) = made.store.standing()
    want = np.zeros((20, 24), bool)
    want[3:8, 2:6] = True
    np.testing.assert_array_equal(row.mask.to_array(), want)
    assert row.slice == 1
    image |= {"axis": "i", "slice": 3}
    write(path, document)
    with pytest.raises(InputError, match="image 7 is a slice across axis i; in this project people draw across k"):
        import_masks(made, ImportRequest(path))
    image |= {"height": 21, "axis": "k", "slice": 1}
    write(path, document)
    with pytest.raises(InputError, match=r"in\.json, image 7 is slice 1 of 21 x 24 pixels; the scan has 4 of 20 x 24"):
        import_masks(made, ImportRequest(path))


def test_tasks_that_are_answered_are_nobodys_any_more_and_what_stood_is_followed(other, made, tmp_path):
    one, two = made.store.scans()
    made.store.add_tasks([NewTask(one.id, STRUCTURES), NewTask(two.id, STRUCTURES)])
    made.store.add_annotations(masks_of(one, (0,)))
    made.store.add_annotations([NewAnnotation(one.id, "disc", "k", 1, "edited", CompactMask.of(np.eye(20, 24) > 0))])
    export(other, ExportRequest("manifest", side="train"), tmp_path / "out")
    told = import_masks(made, ImportRequest(tmp_path / "out"))
    assert (told.masks, told.same, told.replaced, told.withdrawn) == (6, 2, 1, 1)
    assert len(made.store.history(one.id, "disc", "k", 1)) == 2
    assert [task.state for task in made.store.tasks()] == ["withdrawn", "open"]


def test_what_a_reviewer_approved_stays_unless_it_is_asked_for(made, tmp_path, capsys):
    (one, _), mask = made.store.scans(), CompactMask.of(np.eye(20, 24) > 0)
    made.store.add_annotations([NewAnnotation(one.id, "disc", "k", n, "approved", mask) for n in (1, 2)])
    made.store.add_annotations([NewAnnotation(one.id, "disc", "k", 3, "edited", mask)])
    request = ImportRequest(coco(tmp_path / "in.json", (1, 2, 3)))
    told = import_masks(made, request)
    assert (told.masks, told.replaced, told.approved) == (4, 1, 2)
    assert "2 masks that a reviewer approved differ" in told.remarks[0]
    words = ["annotate", "import", str(made.folder), "--from", str(request.path)]
    assert main(words) == 0
    assert "follows them where --replace-approved is asked for" in capsys.readouterr().err
    assert {row.status for row in made.store.standing(one.id, structures=["disc"])} == {"approved", "accepted"}
    assert main([*words, "--replace-approved"]) == 0
    assert {row.status for row in made.store.standing(one.id, structures=["disc"])} == {"accepted"}
    assert [row.status for row in made.store.history(one.id, "disc", "k", 1)] == ["approved", "accepted"]


def coco(path, slices, scan="c0"):
    """A square of each structure on these slices."""
    square = [[2, 3, 6, 3, 6, 8, 2, 8]]
    images = [{"id": k, "file_name": f"{scan}_k{k:04}.png", "height": 20, "width": 24} for k in slices]
    masks = [{"id": 9 * k + n, "image_id": k, "category_id": n, "segmentation": square} for k in slices for n in (1, 2)]
    names = [{"id": n, "name": name} for n, name in enumerate(STRUCTURES, start=1)]
    return write(path, {"images": images, "annotations": masks, "categories": names})


def test_masks_of_some_slices_leave_the_task_which_begins_from_them(made, tmp_path):
    store, anna = made.store, made.store.local_reader()
    one, two = store.scans()
    whole, _ = store.add_tasks([NewTask(one.id, STRUCTURES), NewTask(two.id, STRUCTURES, slices=(1, 2))])
    told = import_masks(made, ImportRequest(coco(tmp_path / "one.json", (1,))))
    assert (told.masks, told.withdrawn) == (2, 0)
    assert set(before(store, whole, "k")) == {("disc", 1), ("bar", 1)}
    assert import_masks(made, ImportRequest(coco(tmp_path / "1.json", (1,), "c1"))).withdrawn == 0
    assert import_masks(made, ImportRequest(coco(tmp_path / "2.json", (1, 2), "c1"))).withdrawn == 1
    assert [task.state for task in store.tasks()] == ["open", "withdrawn"]
    taken = store.next_task(anna, 60)
    with pytest.raises(InputError, match="Somebody is drawing on scan c0"):
        import_masks(made, ImportRequest(coco(tmp_path / "3.json", (3,))))
    kept = [
        NewAnnotation(one.id, place[0], "k", 1, "accepted", None, parent=row.id)
        for place, row in before(store, taken, "k").items()
    ]
    store.submit_task(taken.id, anna, kept)
    assert {(row.structure, row.slice) for row in store.standing(one.id)} == {("disc", 1), ("bar", 1)}


def test_what_came_from_elsewhere_is_an_example_to_guess_from(other, made, tmp_path, predictor):
    scans = made.store.scans()
    made.store.add_tasks([NewTask(scan.id, STRUCTURES) for scan in scans])
    export(other, ExportRequest("manifest"), tmp_path / "out")
    import_masks(made, ImportRequest(tmp_path / "out"), made.store.local_reader())
    (known,) = known_scans(made, Looks(made, predictor))
    assert known.scan.side == "train", "nothing is learnt from the frozen side"
    assert set(known.masks) == set(STRUCTURES)
    made.store.add_annotations([NewAnnotation(scans[0].id, "disc", "j", 1, "edited", square(1, 5))])
    (again,) = known_scans(made, Looks(made, predictor))
    assert again.masks["disc"][1].shape == (20, 24), "a mask along another axis is none of these slices"


def test_the_command(other, made, tmp_path, capsys):
    export(other, ExportRequest("manifest"), tmp_path / "out")
    words = ["annotate", "import", str(made.folder), "--from", str(tmp_path / "out")]
    assert main([*words, "--reader", "Anna"]) == 2
    assert "Nobody here is called 'Anna'" in capsys.readouterr().err
    assert main([*words, "--structures", "liver"]) == 2
    assert "no structure 'liver'" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["masks"] == 16
    (tmp_path / "empty").mkdir()
    assert main([*words[:-1], str(tmp_path / "empty")]) == 2
    assert "holds no labels" in capsys.readouterr().err
