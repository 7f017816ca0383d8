import json

import nibabel as nib
import numpy as np
import pytest
from dicom_files import series
from phantoms import ThresholdSam, block
from PIL import Image
from pydicom import dcmread

from medsam.cli.everything import _SETTINGS
from medsam.cli.main import main
from medsam.inference.automatic import AutomaticSettings
from medsam.io.sa1b import read_sa1b

# what ThresholdSam's narrow logits and made-up predicted IoU can meet
EASY = [
    *("--points-per-side", "8", "--pred-iou-thresh", "0.4"),
    *("--stability-score-thresh", "0.5", "--stability-score-offset", "0.25", "--min-mask-region-area", "0"),
]


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """scan.nii.gz in the current folder: two bright blocks in 40 x 32 x 4; the model is ThresholdSam."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: ThresholdSam())
    made, _ = block((4, 32, 40), (4, 4, 1, 16, 14, 4))
    made.array[2:3, 20:28, 24:34] = 200
    nib.save(nib.Nifti1Image(made.array.transpose(2, 1, 0).astype(np.int16), np.diag([0.5, 0.5, 2, 1])), "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_the_options_are_the_settings():
    assert {name: default for name, (_, default, _) in _SETTINGS.items()} | {
        "prompt": "point"
    } == AutomaticSettings().__dict__


def test_a_volume_becomes_objects(scan, capsys):
    arguments = ["everything", "scan.nii.gz", *EASY, "--labels", "labels.nii.gz", "--preview", "look.png", "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["masks"], report["objects"], report["slices"], report["slice"]) == (4, 2, 4, None)
    # two of the four slices are alike, and the second comes from the cache
    assert (report["encoded"], report["out"]) == (3, "scan.masks.json")
    assert report["settings"]["points_per_side"] == 8
    assert report["notes"] == []

    found = read_sa1b("scan.masks.json")
    assert (found.width, found.height, found.axis, found.slices) == (40, 32, "k", 4)
    assert found.file_name == "scan.nii.gz"
    assert sorted((one.object, one.slice) for one in found.masks) == [(1, 1), (1, 2), (1, 3), (2, 2)]

    labels = nib.load("labels.nii.gz")
    assert labels.affine.tobytes() == nib.load(scan).affine.tobytes()
    array = np.asarray(labels.dataobj)
    assert (array == 1).sum() == 12 * 10 * 3
    assert (array[24:34, 20:28, 2] == 2).all()
    assert json.loads((scan.parent / "labels.json").read_text()) == {"labels": {"1": "object 1", "2": "object 2"}}
    with Image.open("look.png") as picture:
        assert picture.format == "PNG"


def test_the_objects_of_a_dicom_scan_may_be_a_seg(scan, tmp_path):
    values = np.asarray(nib.load(scan).dataobj).transpose(2, 1, 0)
    series(tmp_path / "ct", values.astype(np.int16))
    assert main(["everything", "ct", *EASY, "--out", "masks.json", "--labels", "x.dcm"]) == 0
    ds = dcmread("x.dcm")
    assert [item.SegmentLabel for item in ds.SegmentSequence] == ["object 1", "object 2"]
    assert ds.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert ds.SegmentSequence[0].SegmentAlgorithmName == "threshold"
    # before the work
    assert main(["everything", "scan.nii.gz", *EASY, "--out", "masks.json", "--labels", "x.dcm"]) == 2


def test_one_slice(scan, capsys):
    assert main(["everything", "scan.nii.gz", "--slice", "2", *EASY, "--out", "two.json"]) == 0
    assert "2 masks on slice 2, from 64 prompts" in capsys.readouterr().out
    found = read_sa1b("two.json")
    assert [one.slice for one in found.masks] == [2, 2]
    assert [one.object for one in found.masks] == [None, None]
    assert sorted(one.area for one in found.masks) == [80, 120]


def test_a_grid_of_boxes(scan, capsys):
    assert (
        main(["everything", "scan.nii.gz", "--slice", "1", "--prompt", "box", *EASY[2:], "--box-nms-thresh", "1"]) == 0
    )
    assert "on slice 1, from 1" in capsys.readouterr().out
    found = read_sa1b("scan.masks.json").masks
    assert 100 <= max(one.area for one in found) <= 120
    assert all(one.prompt_box and not one.point_coords for one in found)


def test_another_axis(scan, capsys):
    assert main(["everything", "scan.nii.gz", "--axis", "j", "--slice", "8", *EASY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["axis"] == "j"
    found = read_sa1b("scan.masks.json")
    assert (found.width, found.height, found.slices) == (40, 4, 32)


def test_a_picture_is_one_slice_and_its_labels_a_picture(scan, capsys):
    made, truth = block((1, 50, 60), (15, 10, 0, 45, 40, 1))
    Image.fromarray(made.array[0].astype(np.uint8)).save("xray.png")
    assert main(["everything", "xray.png", *EASY, "--labels", "labels.png", "--preview", "look.png"]) == 0
    assert "1 mask on slice 0" in capsys.readouterr().out
    found = read_sa1b("xray.masks.json")
    assert (found.axis, found.slices, found.file_name) == (None, 1, "xray.png")
    assert np.array_equal(found.masks[0].mask, truth[0])
    assert np.array_equal(np.asarray(Image.open("labels.png")) > 0, truth[0])


def test_what_lies_on_the_background_is_counted_in_words_and_in_json(scan, capsys):
    # a bright frame round a dark picture is as constant as a dark one
    picture = np.full((50, 60), 250, np.uint8)
    picture[10:40, 10:50] = 20
    picture[15:25, 15:30] = 200
    Image.fromarray(picture).save("framed.png")
    assert main(["everything", "framed.png", *EASY, "--json", "--modality", "US", "--window", "none"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["left_out_as_background"] == 1
    assert report["notes"] == [
        "A modality helps to choose a window, and the window was given: US changes nothing.",
        "1 mask left out: more than 0.5 of each lay on the background round the scan. "
        "`max_background_ratio` 1 keeps them.",
    ]
    for note in report["notes"]:
        assert f"Note: {note.replace('`max_background_ratio`', '--max-background-ratio')}" in captured.err


def test_no_masks_is_an_answer_with_a_note(scan, capsys):
    arguments = ["everything", "scan.nii.gz", "--slice", "2", "--points-per-side", "4", "--preview", "look.png"]
    assert main([*arguments, "--pred-iou-thresh", "1"]) == 0
    captured = capsys.readouterr()
    assert "0 masks on slice 2" in captured.out
    assert "Note: No mask passed the filters" in captured.err
    assert read_sa1b("scan.masks.json").masks == ()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--slice", "4"], "PromptError: There is no slice 4 on axis k; it has 0 ... 3."),
        (["--slice", "-1"], "There is no slice -1"),
        (["--out", "masks.nii.gz"], "InputError: Masks are written as JSON"),
        (["--out", "none/masks.json"], "InputError: The folder none does not exist"),
        (["--labels", "labels.txt"], "InputError: A mask cannot be written as labels.txt"),
        (["--labels", "labels.png"], "can hold one slice"),
        (["--out", "a.json", "--labels", "a.nii.gz"], "a.json is also an input, or another output"),
        (["--labels", "scan.nii.gz"], "scan.nii.gz is also an input"),
        (["--preview", "look.jpg"], "InputError: The preview is a PNG"),
        (["--points-per-side", "0"], "PromptError: points_per_side is 0"),
        (["--pred-iou-thresh", "88"], "PromptError: pred_iou_thresh is 88"),
        (["--slice", "1", "--link-iou-thresh", "0.4"], "PromptError: --link-iou-thresh links masks of neighbouring"),
        (["--prompt", "box", "--points-per-side", "8"], "PromptError: points_per_side is of a grid of clicks"),
        (["--crop-overlap-ratio", "0.2"], "PromptError: crop_overlap_ratio is of crops"),
        (["--link-iou-thresh", "0"], "PromptError: The IoU to link masks by is 0"),
        (["--window", "bones"], "PromptError: There is no window 'bones'"),
    ],
)
def test_what_is_wrong_is_one_message_exit_2_and_no_file(scan, capsys, extra, message):
    assert main(["everything", "scan.nii.gz", *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert [path.name for path in scan.parent.iterdir()] == ["scan.nii.gz"]


def test_an_earlier_answer_is_not_written_over(scan, capsys):
    (scan.parent / "scan.masks.json").write_text("{}")
    assert main(["everything", "scan.nii.gz"]) == 2
    assert "scan.masks.json is there already" in capsys.readouterr().err


def test_interrupting_leaves_no_file(scan, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("medsam.inference.automatic.stability_score", stopped)
    assert main(["everything", "scan.nii.gz", *EASY]) == 130
    assert [path.name for path in scan.parent.iterdir()] == ["scan.nii.gz"]
