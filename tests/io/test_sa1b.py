import json

import numpy as np
import pytest

from medsam.errors import InputError
from medsam.io.sa1b import MaskFile, check_masks_target, read_sa1b, write_sa1b
from medsam.masks import RLE, AutomaticMask

# a file as SA-1B has it: 3 rows of 4 columns, the middle two columns of the last two rows
PUBLIC = {
    "image": {"image_id": 223750, "width": 4, "height": 3, "file_name": "sa_223750.jpg"},
    "annotations": [
        {
            "id": 562755794,
            "segmentation": {"size": [3, 4], "counts": [4, 2, 1, 2, 3]},
            "bbox": [1.0, 1.0, 1.0, 1.0],
            "area": 4,
            "predicted_iou": 0.93,
            "stability_score": 0.97,
            "crop_box": [0.0, 0.0, 4.0, 3.0],
            "point_coords": [[1.5, 2.25]],
        }
    ],
}


def a_mask(**extra) -> AutomaticMask:
    mask = np.zeros((3, 4), bool)
    mask[1:, 1:3] = True
    return AutomaticMask(RLE.of(mask), (1, 1, 1, 1), 0.93, 0.97, (0, 0, 4, 3), ((1.5, 2.25),), **extra)


def written(path, document):
    path.write_text(json.dumps(document))
    return path


def test_a_public_file_is_read(tmp_path):
    found = read_sa1b(written(tmp_path / "sa.json", PUBLIC))
    assert (found.width, found.height, found.image_id, found.file_name) == (4, 3, 223750, "sa_223750.jpg")
    assert (found.axis, found.slices) == (None, 1)
    (mask,) = found.masks
    assert mask == a_mask(id=562755794)
    assert mask.mask.astype(int).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    assert mask.area == 4


def test_what_is_written_is_the_public_format(tmp_path):
    path = write_sa1b(MaskFile(4, 3, (a_mask(id=562755794),), "sa_223750.jpg", 223750), tmp_path / "out.json")
    document = json.loads(path.read_text())
    # 4, 2, 1, and from then on the difference to the count two before: 2 - 2, 3 - 1
    assert document["annotations"][0].pop("segmentation") == {"size": [3, 4], "counts": "42102"}
    expected = json.loads(json.dumps(PUBLIC))
    expected["annotations"][0].pop("segmentation")
    assert document == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_pycocotools_reads_the_masks(tmp_path):
    referee = pytest.importorskip("pycocotools.mask")
    path = write_sa1b(MaskFile(4, 3, (a_mask(),)), tmp_path / "out.json")
    (entry,) = json.loads(path.read_text())["annotations"]
    assert np.array_equal(referee.decode(entry["segmentation"]), a_mask().mask)
    assert referee.area(entry["segmentation"]) == entry["area"]


def test_slices_and_objects_come_back(tmp_path):
    masks = (a_mask(slice=0, object=1), a_mask(slice=1, object=1), a_mask(slice=1, object=2))
    path = write_sa1b(MaskFile(4, 3, masks, "ct.nii.gz", axis="k", slices=2), tmp_path / "out.json")
    found = read_sa1b(path)
    assert (found.axis, found.slices) == ("k", 2)
    assert [(mask.slice, mask.object, mask.id) for mask in found.masks] == [(0, 1, 1), (1, 1, 2), (1, 2, 3)]


def test_no_masks_is_a_file_too(tmp_path):
    assert read_sa1b(write_sa1b(MaskFile(4, 3, ()), tmp_path / "none.json")).masks == ()


def test_nothing_is_left_of_a_failed_write(tmp_path):
    broken = AutomaticMask(a_mask().rle, (1, 1, 1, 1), float("nan"), 1, (0, 0, 4, 3), ())
    with pytest.raises(ValueError, match="JSON compliant"):
        write_sa1b(MaskFile(4, 3, (a_mask(), broken)), tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


def changed(where, key, value):
    document = json.loads(json.dumps(PUBLIC))
    target = document["image"] if where == "image" else document["annotations"][0]
    if value is None:
        target.pop(key)
    else:
        target[key] = value
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], 'needs "image" and "annotations"'),
        ({"image": {}, "annotations": {}}, 'needs "image" and "annotations"'),
        (changed("image", "width", None), '"width" and "height" are needed'),
        (changed("image", "height", -3), '"height" is -3'),
        (changed("image", "axis", "z"), "not i, j or k"),
        (changed("image", "file_name", 5), '"file_name" is not a text'),
        (changed("image", "width", 5), "Annotation 0 of sa.json: its mask is 3 x 4 pixels, the image 3 x 5"),
        (changed("annotation", "segmentation", None), "Annotation 0 .*COCO RLE"),
        (changed("annotation", "area", 5), '"area" is 5, its mask has 4 pixels'),
        (changed("annotation", "bbox", [1, 2, 3]), '"bbox" is .* not a list of 4'),
        (changed("annotation", "bbox", None), '"bbox" is None'),
        (changed("annotation", "predicted_iou", "good"), '"predicted_iou" is .* not a finite number'),
        (changed("annotation", "point_coords", [[1]]), '"point_coords"'),
        (changed("annotation", "point_coords", 5), '"point_coords" is not a list'),
        (changed("annotation", "slice", 1), '"slice" is 1, the scan has 1'),
        (changed("annotation", "object", 0), '"object" is 0'),
        ({**PUBLIC, "annotations": [7]}, "it is int, not an object"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, document, message):
    with pytest.raises(InputError, match=message):
        read_sa1b(written(tmp_path / "sa.json", document))


def test_what_is_no_json_is_said(tmp_path):
    (tmp_path / "sa.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_sa1b(tmp_path / "sa.json")
    with pytest.raises(InputError, match="does not exist"):
        read_sa1b(tmp_path / "none.json")


def test_where_it_cannot_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match=r"name the file masks.nii.json"):
        check_masks_target(tmp_path / "masks.nii")
    with pytest.raises(InputError, match="does not exist"):
        write_sa1b(MaskFile(4, 3, ()), tmp_path / "none" / "x.json")
    with pytest.raises(InputError, match="also an input"):
        check_masks_target(tmp_path / "x.json", [tmp_path / "x.json"])
    with pytest.raises(InputError, match="same id"):
        write_sa1b(MaskFile(4, 3, (a_mask(id=2), a_mask())), tmp_path / "x.json")


def test_a_json_file_of_another_kind_is_not_overwritten_by_masks(tmp_path):
    manifest = tmp_path / "m.json"
    manifest.write_text('{"cases": []}')
    with pytest.raises(InputError, match="holds something else than masks"):
        check_masks_target(manifest)
    manifest.write_text('{"image": {}, "annotations": []}')  # of an earlier run
    check_masks_target(manifest)
