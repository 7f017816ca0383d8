"""Boxes of other programs as prompts, in their own files; numbers from anywhere are looked at first."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medsam.errors import InputError, PromptError
from medsam.geometry import VolumeGeometry
from medsam.prompts.boxes_from import read_boxes
from medsam.volume import Volume

SHAPE = (8, 20, 30)  # K, J, I
# stored feet first, patient's left first, 2 x 1 x 5 mm: LPS affine
AFFINE = np.diag([-2.0, 1.0, 5.0, 1.0])
AFFINE[:3, 3] = 100, -50, 30


@pytest.fixture
def scan() -> Volume:
    return Volume(np.zeros(SHAPE, np.float32), VolumeGeometry(SHAPE, AFFINE))


@pytest.fixture
def picture() -> Volume:
    return Volume(np.zeros((1, 20, 30), np.uint8), VolumeGeometry((1, 20, 30), np.eye(4)))


def write(path, document):
    path.write_text(json.dumps(document))
    return path


def label_map(path, names=None):
    array = np.zeros(SHAPE[::-1], np.uint8)  # i, j, k
    array[4:9, 3:7, 2:4] = 1
    array[20:22, 10:12, 5] = 2
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1, 1, 1]) @ AFFINE), path)
    if names:
        write(path.with_name(path.name.replace(".nii.gz", ".json")), {"labels": names})
    return path


def test_a_label_map_gives_a_box_a_slice_by_the_names_beside_it(scan, tmp_path):
    path = label_map(tmp_path / "seg.nii.gz", {"1": "liver", "2": "cyst"})
    found = read_boxes(path, scan, "k")
    assert [(one.label, one.slice, one.box) for one in found.prompts] == [
        ("liver", 2, (4, 3, 9, 7)),
        ("liver", 3, (4, 3, 9, 7)),
        ("cyst", 5, (20, 10, 22, 12)),
    ]
    assert found.axis == "k"
    renamed = read_boxes(path, scan, "k", mapping={"Liver": "hepar"})
    assert {one.label for one in renamed.prompts} == {"hepar"}
    assert any("cyst left out" in note for note in renamed.notes)
    with pytest.raises(PromptError, match="holds no spleen; it holds liver, cyst"):
        read_boxes(path, scan, "k", mapping={"spleen": "spleen"})


def test_numbers_without_names_are_mapped_by_the_number(scan, tmp_path):
    found = read_boxes(label_map(tmp_path / "seg.nii.gz"), scan, "k", mapping={"2": "cyst"})
    assert [(one.label, one.slice) for one in found.prompts] == [("cyst", 5)]


def test_edges_are_loosened_in_millimetres_as_far_as_the_scan_goes(scan, tmp_path):
    path = label_map(tmp_path / "seg.nii.gz", {"1": "liver", "2": "cyst"})
    # 4 mm are 2 columns and 4 rows, and row 3 has only 3 before it
    first = read_boxes(path, scan, "k", loosen=4, in_mm=True).prompts[0]
    assert first.box == (2, 0, 11, 11)
    assert read_boxes(path, scan, "k", loosen=1).prompts[0].box == (3, 2, 10, 8)


def in_lps(low, high):
    """Half-open voxels (i, j, k) -> MONAI's middle and size in LPS mm."""
    ends = [AFFINE[:3, :3] @ (np.array(corner) - 0.5) + AFFINE[:3, 3] for corner in (low, high)]
    middle, size = (ends[0] + ends[1]) / 2, np.abs(ends[1] - ends[0])
    return [*middle.tolist(), *size.tolist()]


def test_monais_boxes_are_middle_and_size_in_the_patient(scan, tmp_path):
    box, box3d = in_lps((4, 3, 2), (9, 7, 4)), (4, 3, 2, 9, 7, 4)
    plain = {"box": [box, box], "label": [0, 1], "label_scores": [0.9, 0.2]}
    found = read_boxes(write(tmp_path / "a.json", {"validation": [plain]}), scan, mapping={"0": "nodule"})
    assert [(one.label, one.box3d) for one in found.prompts] == [("nodule", box3d)]
    assert found.axis is None
    found = read_boxes(write(tmp_path / "b.json", plain), scan)
    assert [one.label for one in found.prompts] == ["0"]
    assert found.notes == ("b.json: 1 box with a score below 0.5 left out.",)
    ras = [-box[0], -box[1], *box[2:]]
    there = {"box": [ras], "label": [1], "space": "ras"}
    assert read_boxes(write(tmp_path / "c.json", there), scan).prompts[0].box3d == box3d
    voxels = {"box": [list(box3d)], "label": [1], "space": "index", "box_mode": "xyzxyz"}
    assert read_boxes(write(tmp_path / "d.json", voxels), scan).prompts[0].box3d == box3d


def test_nndetections_boxes_are_array_order_and_a_voxel_larger(scan, tmp_path):
    path = write(tmp_path / "c_boxes.json", {"1": {"box": [1, 2, 4, 7, 3, 9], "label": 0, "score": 0.8}})
    (one,) = read_boxes(path, scan).prompts
    assert one.box3d == (4, 3, 2, 9, 7, 4)


def test_coco_on_a_picture_and_on_named_slices(picture, scan, tmp_path):
    document = {
        "images": [{"id": 7, "file_name": "x.png"}],
        "categories": [{"id": 3, "name": "lesion"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [4, 3, 5, 4]}],
    }
    (one,) = read_boxes(write(tmp_path / "coco.json", document), picture).prompts
    assert (one.label, one.slice, one.box) == ("lesion", 0, (4, 3, 9, 7))
    results = [{"image_id": 7, "category_id": 3, "bbox": [4, 3, 5, 4], "score": 0.9}]
    assert read_boxes(write(tmp_path / "results.json", results), picture).prompts[0].label == "3"
    with pytest.raises(PromptError, match="the scan has 8 slices. Say which slice each image"):
        read_boxes(write(tmp_path / "coco.json", document), scan)
    document["images"][0]["slice"] = 5
    (one,) = read_boxes(write(tmp_path / "coco.json", document), scan, "k").prompts
    assert (one.slice, one.box) == (5, (4, 3, 9, 7))


BOX = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
HOSTILE = {
    "nothing": ({}, "no file of boxes that is known"),
    "a prompts file": ({"prompts": [{"label": "a", "box": [1, 2, 3, 4]}]}, "no file of boxes that is known"),
    "too few numbers": ({"box": [[1, 2, 3]], "label": [1]}, "box 0: a box has 6 numbers"),
    "infinite": ({"box": [[*BOX[:5], 1e300]], "label": [1]}, "finite numbers"),
    "words": ({"box": [[*BOX[:5], "1"]], "label": [1]}, "6 numbers"),
    "truths": ({"box": [[*BOX[:5], True]], "label": [1]}, "6 numbers"),
    "other labels": ({"box": [BOX], "label": [1, 2]}, "as many labels, and as many scores"),
    "a score beyond": ({"box": [BOX], "label": [1], "score": [7]}, "between 0 and 1"),
    "another mode": ({"box": [BOX], "label": [1], "box_mode": "zyx"}, "`box_mode` is one of"),
    "no list": ({"box": [BOX], "label": 3}, "as many labels"),
    "no box": ({"annotations": [{"image_id": 1}]}, "8 slices"),
    "an image that is a list": (
        {"images": [{"id": 1, "slice": 0}], "annotations": [{"image_id": [1], "bbox": [1, 1, 3, 3]}]},
        "annotation 0: `image_id` and `category_id` are numbers",
    ),
    "a list for an image": ({"images": [{"id": [1], "slice": 0}], "annotations": []}, "8 slices"),
    "a category that is an object": (
        {"images": [{"id": 1, "slice": 0}], "annotations": [{"image_id": 1, "category_id": {}, "bbox": [1, 1, 3, 3]}]},
        "`category_id` are numbers",
    ),
    "a number for cases": ({"training": [{"box": [[1, 2, 3]], "label": [1]}], "testing": 5}, "6 numbers"),
    "far away": (
        {"box": [[9999, 9999, 9999, 1, 1, 1]], "label": [1]},
        "holds no box for this scan. .* beyond the scan",
    ),
    "very many": ({"box": [[100, -50, 30, 4, 4, 5]] * 20001, "label": [1] * 20001}, "more than 20000"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_box_is_refused(scan, tmp_path, what):
    document, said = HOSTILE[what]
    with pytest.raises(PromptError, match=said):
        read_boxes(write(tmp_path / "boxes.json", document), scan)


def test_no_json_and_no_file(scan, tmp_path):
    (tmp_path / "boxes.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_boxes(tmp_path / "boxes.json", scan)
    with pytest.raises(InputError, match="does not exist"):
        read_boxes(tmp_path / "none.json", scan)
