import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import series
from phantoms import ThresholdSam, block
from PIL import Image
from pydicom import dcmread

from medsam.cli.main import main
from medsam.cli.scan_options import default_out
from medsam.inference.predictor import Predictor
from medsam.inference.trust import TrustModel
from medsam.io.labels import load_labels
from medsam.io.load import load_volume


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """scan.nii.gz in the current folder: a bright block of 20 x 16 x 2 voxels in 40 x 32 x 4."""
    monkeypatch.chdir(tmp_path)
    made, _ = block((4, 32, 40), (10, 8, 1, 30, 24, 3))
    affine = np.diag([0.5, 0.5, 2, 1])
    nib.save(nib.Nifti1Image(made.array.transpose(2, 1, 0).astype(np.int16), affine), "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.mark.weights
def test_boxes_in_mask_sidecar_preview_and_summary_out(scan, capsys):
    boxes = ["--box", "1:10,8,30,24=lesion", "--box", "2:10,8,30,24=lesion", "--box", "1:0,0,5,5=air"]
    arguments = ["segment", str(scan), *boxes, "--out", "mask.nii.gz", "--preview", "look.png", "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)

    mask = nib.load("mask.nii.gz")
    assert mask.shape == (40, 32, 4)
    assert mask.affine.tobytes() == nib.load(scan).affine.tobytes()
    data = np.asarray(mask.dataobj)
    assert json.loads((scan.parent / "mask.json").read_text()) == {"labels": {"1": "lesion", "2": "air"}}
    with Image.open("look.png") as picture:
        assert picture.format == "PNG"

    lesion, air = report["labels"]
    assert (lesion["id"], lesion["name"], lesion["slices"]) == (1, "lesion", [1, 2])
    assert lesion["voxels"] == np.count_nonzero(data == 1)
    assert lesion["ml"] == pytest.approx(lesion["voxels"] * 0.5 * 0.5 * 2 / 1000)
    assert 500 < lesion["voxels"] < 700  # 640 in truth
    assert 0 < lesion["predicted_iou"] < 1.1
    assert air["slices"] == [1]
    assert report["seconds"].keys() == {"load", "prepare", "embed", "decode"}
    assert report["scan"] == {
        "shape": [40, 32, 4],
        "spacing_mm": [0.5, 0.5, 2.0],
        "orientation": "RAS",
        "modality": None,
    }
    assert (report["axis"], report["model"], report["out"]) == ("k", "litemedsam", "mask.nii.gz")
    assert len(report["prompts"]) == 3


def test_what_is_drawn_is_typed_too(scan, monkeypatch, capsys):
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: ThresholdSam())
    drawn = [
        *("--lasso", "1:8,6;32,6;32,26;8,26=a", "--scribble", "1:12,10;20,12@1.5=a", "--point", "1:15,15=a"),
        *("--line", "2:10,16,29,16=b", "--line", "2:20,8,20,23=b", "--scribble", "2:2,2;4,2-@2px=b"),
        *("--ellipse", "3:0,0,9,9=c"),
    ]
    assert main(["segment", str(scan), *drawn, "--json", "--preview", "p.png"]) == 0
    report = json.loads(capsys.readouterr().out)
    lasso, line, ellipse = report["prompts"]
    assert lasso["lasso"] == [[8, 6], [32, 6], [32, 26], [8, 26]]
    assert lasso["scribbles"] == [{"points": [[12, 10], [20, 12]], "width_mm": 1.5, "inside": True}]
    assert (line["box"], len(line["lines"])) == ([10.5, 8.5, 29.5, 24], 2)
    assert ellipse["ellipse"] == ellipse["box"] == [0, 0, 9, 9]
    data = np.asarray(nib.load("scan.mask.nii.gz").dataobj)
    assert (data[10:30, 8:24, 1] == 1).all()
    assert np.count_nonzero(data[..., 1]) == 20 * 16


@pytest.mark.parametrize("stroke_last", [True, False])
def test_of_clicks_and_strokes_the_one_typed_last_counts(scan, monkeypatch, stroke_last):
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: ThresholdSam())
    typed = [("--point", "1:20,15=a"), ("--scribble", "1:12,15;28,15-=a")][:: 1 if stroke_last else -1]
    options = [text for option in (*typed, ("--box", "1:8,6,32,26=a")) for text in option]
    assert main(["segment", str(scan), *options, "--out", "m.nii.gz", "--keep-islands"]) == 0
    line = np.asarray(nib.load("m.nii.gz").dataobj)[12:29, 15, 1]
    assert line[20 - 12] == (not stroke_last)
    assert not line[[0, -1]].any()


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--scribble", "1:2,3;4", "--scribble '1:2,3;4' is not [SLICE:]X,Y;X,Y;...[+|-][@WIDTH_MM][=LABEL]"),
        ("--lasso", "1:2,3;4,5", "The corners of the lasso of 'object' are (x, y) each, at least 3"),
        ("--line", "1:2,3,2,3=n", "The line 1:2,3,2,3 for 'n' has no length"),
        ("--ellipse", "1:2,3", "--ellipse '1:2,3' is not [SLICE:]X0,Y0,X1,Y1[=LABEL]"),
    ],
)
def test_what_is_drawn_wrongly_is_told(scan, capsys, option, text, message):
    assert main(["segment", str(scan), option, text]) == 2
    assert message in capsys.readouterr().err


def test_masks_keep_to_a_range_a_region_and_what_is_locked(scan, monkeypatch, capsys):
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: ThresholdSam())
    part = np.zeros((40, 32, 4), np.uint8)
    part[:20] = 1
    nib.save(nib.Nifti1Image(part, nib.load(scan).affine), "left.nii.gz")
    nib.save(nib.Nifti1Image(0 * part, nib.load(scan).affine), "none.nii.gz")
    box = ["--box", "1:8,6,32,26=a"]

    def segment(*options):
        assert main(["segment", str(scan), *box, *options, "--out", "m.nii.gz"]) == 0
        return np.asarray(nib.load("m.nii.gz").dataobj)

    assert not segment("--keep-range", "-100,150").any()
    assert np.count_nonzero(segment("--keep-range", "150,")) == 20 * 16
    assert np.count_nonzero(segment("--editable", "left.nii.gz")[20:]) == 0
    locked = segment("--lock", "left.nii.gz")
    assert (np.count_nonzero(locked[:20]), np.count_nonzero(locked[20:])) == (0, 10 * 16)
    both = segment("--box", "1:8,6,20,26=b", "--lock", "b")
    assert (both[10:20, 8:24, 1] == 2).all()
    assert "Masks keep off 'b'." in capsys.readouterr().err
    for wrong, message in (
        (["--keep-range", "5"], "--keep-range '5' is not LOW,HIGH"),
        (["--keep-range", ","], "--keep-range ',' is not LOW,HIGH"),
        (["--lock", ","], "--lock needs names of labels"),
        (["--lock", ""], "--lock needs names of labels"),
        (["--lock", "x" * 300], "to be locked (--lock)"),
        (["--scribble", "1:5,5@0=a"], "--scribble '1:5,5@0=a': The width of a scribble is a number above 0"),
        (["--keep-range", "5,3"], "--keep-range from 5 to 3 holds nothing"),
        (["--lock", "liver"], "no 'liver' to be locked (--lock); the labels are 'a'"),
        (["--point", "1:0,0=a", "--editable", "left.nii.gz", "--keep-range=-inf,10"], "has 20, outside of the values"),
        (["--editable", "left.nii.gz", "--out", "left.nii.gz"], "left.nii.gz"),
        (["--editable", "none.nii.gz"], "none.nii.gz marks nothing on the scan"),
        (["--lock", "none.nii.gz"], "none.nii.gz marks nothing on the scan"),
    ):
        assert main(["segment", str(scan), *box, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_a_picture_has_strokes_in_pixels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save("a.png")
    assert main(["segment", "a.png", "--scribble", "2,3;9,3@2"]) == 2
    assert "Give its width in pixels: @WIDTHpx." in capsys.readouterr().err


def test_a_dicom_scan_gives_dicom_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: ThresholdSam())
    bright, _ = block((4, 32, 40), (10, 8, 1, 30, 24, 3))
    folder = series(tmp_path / "ct", bright.array.astype(np.int16), FrameOfReferenceUID=None)
    boxes = ["--box", "1:10,8,30,24=Left Kidney", "--box", "2:10,8,30,24=Left Kidney"]
    assert main(["segment", str(folder), *boxes, "--format", "seg-labelmap", "--all-masks", "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["format"], report["out"]) == ("seg-labelmap", "ct.mask.dcm")
    assert "Note: The images have no (0020,0052) Frame of Reference UID" in captured.err
    # names are inside: no file beside them
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("ct", "ct.mask.1.dcm", "ct.mask.2.dcm", "ct.mask.3.dcm", "ct.mask.dcm")
    ]
    scan = load_volume(folder)
    mask = load_labels(tmp_path / "ct.mask.dcm", scan.geometry)["Left Kidney"]
    assert np.count_nonzero(mask) == report["labels"][0]["voxels"]
    assert report["weights"] in (tmp_path / "ct.mask.dcm").read_bytes().decode("latin-1")
    assert main(["segment", str(folder), *boxes, "--out", "rt.dcm", "--format", "rtstruct", "--tps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "rtstruct"
    again = load_labels(tmp_path / "rt.dcm", scan.geometry)["Left Kidney"]
    np.testing.assert_array_equal(again, mask)


def test_what_is_expected_is_in_the_table_and_in_the_dcm(tmp_path, monkeypatch, capsys):
    one, network = np.ones(1), ThresholdSam()
    # of whatever is answered
    trust = TrustModel(("fill",), one, one, 0 * one, 0 * one, bias=0.0, spread=5.0)
    digest = Predictor(network, "cpu").images.weights
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: network)
    monkeypatch.setattr("medsam.inference.combine.shipped", lambda: {digest: trust})
    bright, _ = block((4, 32, 40), (10, 8, 1, 30, 24, 3))
    folder = series(tmp_path / "ct", bright.array.astype(np.int16))
    boxes = ["--box", "1:10,8,30,24=Liver", "--box", "2:10,8,30,24=Liver", "--point", "1:20,16=spot"]
    asked = ["segment", str(folder), *boxes, "--format", "seg", "--all-masks", "--preview", "a.png"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "0.50 (mean of 2; lowest 0.50, 0.22 to 0.78)" in told
    assert "Liver: uncertain on slices 1, 2 (expected Dice below 0.70). Look there, and correct it" in told
    segments = dcmread("ct.mask.dcm").SegmentSequence
    assert "Expected Dice 0.50 (mean of 2; lowest 0.50, 0.22 to 0.78): estimated by" in segments[0].SegmentDescription
    # nothing is known of a click, nor of the other masks
    others = [segments[1], *dcmread("ct.mask.1.dcm").SegmentSequence]
    assert not any("Dice" in one.SegmentDescription for one in others)


@pytest.mark.weights
def test_a_prompts_file_and_another_axis(scan, capsys):
    prompts = {"axis": "j", "prompts": [{"label": "lesion", "box3d": [10, 8, 1, 30, 10, 3]}]}
    (scan.parent / "prompts.json").write_text(json.dumps(prompts))
    assert main(["segment", str(scan), "--prompts", "prompts.json", "--out", "mask.nrrd"]) == 0
    assert "lesion" in capsys.readouterr().out
    assert (scan.parent / "mask.nrrd").exists()


@pytest.mark.weights
def test_a_picture_gives_a_picture_without_millilitres(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made, _ = block((1, 50, 60), (15, 10, 0, 45, 40, 1))
    Image.fromarray(made.array[0].astype(np.uint8)).save("xray.png")
    assert main(["segment", "xray.png", "--box", "15,10,45,40=plate", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["labels"][0]["ml"] is None
    assert report["scan"]["spacing_mm"] is None
    mask = np.asarray(Image.open("xray.mask.png"))
    assert mask.shape == (50, 60)
    assert mask[12:38, 17:43].mean() > 0.95


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "PromptError: There is nothing to segment"),
        (["--box", "9:1,1,5,5"], "PromptError: The box 9:1,1,5,5 for 'object' needs slice 9"),
        (["--box", "1:5,5,1,1"], "empty or inverted"),
        (["--box", "1:1,1,5,5", "--out", "mask.dcm"], "InputError: scan.nii.gz is not DICOM"),
        (["--box", "1:1,1,5,5", "--out", "mask.hdr"], "InputError: A mask cannot be written as mask.hdr"),
        (["--box", "1:1,1,5,5", "--out", "m.nii.gz", "--format", "seg"], "--format seg is of a .dcm, not of a .nii.gz"),
        (["--box", "1:1,1,5,5", "--format", "rtstruct"], "InputError: scan.nii.gz is not DICOM"),
        (["--box", "1:1,1,5,5", "--tps"], "--tps is of an RTSTRUCT, not of scan.mask.nii.gz"),
        (["--box", "1:1,1,5,5", "--out", "none/mask.nii"], "InputError: The folder none does not exist"),
        (["--box", "1:1,1,5,5", "--preview", "look.jpg"], "InputError: The preview is a PNG"),
        (["--box", "1:1,1,5,5", "--frame", "3"], "InputError: scan.nii.gz holds one volume"),
        (["--box", "1:1,1,5,5", "--series", "1.2.3"], "InputError: scan.nii.gz is not DICOM"),
        (["--box", "1:1,1,5,5", "--window", "bones"], "PromptError: There is no window 'bones'"),
        (["--box", "1:1,1,5,5", "--model", "none.pth"], "Error: "),
        (["--box", "1:1,1,5,5", "--out", "scan.nii.gz"], "InputError: scan.nii.gz is also an input"),
        (["--box", "1:1,1,5,5", "--out", "m.nii.gz", "--preview", "m.json.png/x.png"], "does not exist"),
        (["--box", "1:1,1,5,5", "--modality", "banana"], "PromptError: There is no modality 'BANANA'"),
        (["--box", "-1:1,1,5,5"], "needs slice -1"),
        (["--box", "1:1,1,5,5=a\x1b[0m"], "control characters"),
        (["--prompts", "none.json"], "PromptError: The prompts file none.json cannot be read"),
    ],
)
def test_what_is_wrong_is_one_message_exit_2_and_no_file(scan, capsys, extra, message):
    assert main(["segment", str(scan), *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert [path.name for path in scan.parent.iterdir()] == ["scan.nii.gz"]


def test_a_prompts_file_beside_its_mask_is_not_overwritten(scan, capsys):
    (scan.parent / "lesion.json").write_text('{"prompts": [{"box": [1, 1, 5, 5], "slice": 1}]}')
    before = (scan.parent / "lesion.json").read_bytes()
    assert main(["segment", str(scan), "--prompts", "lesion.json", "--out", "lesion.nii.gz"]) == 2
    assert "lesion.json is also an input" in capsys.readouterr().err
    assert (scan.parent / "lesion.json").read_bytes() == before


def test_contradicting_axes(scan, capsys):
    (scan.parent / "p.json").write_text('{"axis": "i", "prompts": [{"box": [1, 1, 5, 5], "slice": 1}]}')
    assert main(["segment", str(scan), "--prompts", "p.json", "--axis", "j"]) == 2
    assert "contradicts" in capsys.readouterr().err


def test_several_prompts_files_are_all_heard_and_may_not_contradict_each_other(scan, quick, capsys):
    for name, axis in (("one", "j"), ("two", None), ("three", "k")):
        box = {"label": name, "box": [10, 1, 30, 3], "slice": 10}
        (scan.parent / f"{name}.json").write_text(json.dumps({**({"axis": axis} if axis else {}), "prompts": [box]}))
    files = ["--prompts", "two.json", "--prompts", "one.json"]
    assert main(["segment", str(scan), *files, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [label["name"] for label in report["labels"]] == ["two", "one"]
    assert report["axis"] == "j"
    assert main(["segment", str(scan), *files, "--prompts", "three.json", "--out", "m.mha"]) == 2
    assert "The axis 'j' of one.json contradicts the axis 'k' of three.json" in capsys.readouterr().err


def test_a_scan_that_is_not_there(tmp_path, capsys):
    assert main(["segment", str(tmp_path / "none.nii"), "--box", "1,1,5,5"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_file_that_is_no_scan(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("hello" * 100)
    assert main(["segment", str(tmp_path / "notes.txt"), "--box", "1,1,5,5"]) == 2
    error = capsys.readouterr().err
    assert "notes.txt is not a scan this program can read" in error
    assert "a folder or zip of DICOM files" in error


def test_an_empty_file(tmp_path, capsys):
    (tmp_path / "a.nii.gz").touch()
    assert main(["segment", str(tmp_path / "a.nii.gz"), "--box", "1,1,5,5"]) == 2
    assert "empty (0 bytes)" in capsys.readouterr().err


@pytest.mark.weights
def test_labels_and_paths_are_text_whatever_they_hold(scan, capsys):
    boxes = ["--box", "1:10,8,30,24=[/foo] $x^$", "--box", "1:0,0,5,5=_hidden"]
    assert main(["segment", str(scan), *boxes, "--out", "[a].nii.gz", "--preview", "[a].png"]) == 0
    out = capsys.readouterr().out
    assert "[/foo] $x^$" in out
    assert "_hidden" in out
    assert "wrote [a].nii.gz" in out


@pytest.mark.weights
def test_a_mask_without_contrast_is_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nib.save(nib.Nifti1Image(np.full((20, 20, 2), 7, np.int16), np.eye(4)), "flat.nii.gz")
    assert main(["segment", "flat.nii.gz", "--box", "1:1,1,9,9", "--json"]) == 0
    captured = capsys.readouterr()
    assert "No contrast in the window" in captured.err
    assert "slice 1: masks there mean nothing" in json.loads(captured.out)["notes"][0]


@pytest.mark.weights
def test_without_out_a_mask_that_is_there_is_kept(scan, capsys):
    assert main(["segment", str(scan), "--box", "1:10,8,30,24"]) == 0
    assert (scan.parent / "scan.mask.nii.gz").exists()
    assert main(["segment", str(scan), "--box", "1:10,8,30,24"]) == 2
    assert "scan.mask.nii.gz is there already" in capsys.readouterr().err


def test_two_names_with_dots_do_not_share_a_default(tmp_path):
    made, _ = block((1, 20, 20), (4, 4, 0, 12, 12, 1))
    for name in ("1.2.840.5", "1.2.840.6"):
        (tmp_path / name).mkdir()
    assert default_out(made, tmp_path / "1.2.840.5").name == "1.2.840.5.mask.nii.gz"
    (tmp_path / "IM.0001").touch()
    assert default_out(made, tmp_path / "IM.0001").name == "IM.0001.mask.nii.gz"
    (tmp_path / "CT.NII.GZ").touch()
    assert default_out(made, tmp_path / "CT.NII.GZ").name == "CT.mask.nii.gz"


@pytest.mark.weights
def test_a_drawn_mask_and_a_click_are_followed_and_reported_as_json(scan, capsys):
    drawn = np.zeros((40, 32, 4), np.uint8)
    drawn[12:28, 10:22, 1] = 1
    nib.save(nib.Nifti1Image(drawn, nib.load(scan).affine), "rough.nii.gz")
    prompts = {"prompts": [{"label": "drawn", "mask": "rough.nii.gz"}]}
    (scan.parent / "prompts.json").write_text(json.dumps(prompts))
    arguments = ["--prompts", "prompts.json", "--point", "1:20,16=clicked", "--propagate", "--out", "mask.nii.gz"]
    assert main(["segment", str(scan), *arguments, "--preview", "look.png", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    first = next(prompt for prompt in report["prompts"] if (prompt["label"], prompt["slice"]) == ("drawn", 1))
    assert first["predicted_iou"] is None
    assert first["pixels_before_merging"] == 16 * 12
    assert all(label["stopped"] for label in report["labels"])
    data = np.asarray(nib.load("mask.nii.gz").dataobj)
    assert (data[12:28, 10:22, 1] == 1).all()
    # the masks that were read are inputs, too: never written over
    assert main(["segment", str(scan), *arguments[:-1], "rough.nii.gz"]) == 2
    assert "rough.nii.gz" in capsys.readouterr().err


@pytest.mark.weights
def test_all_masks_are_written_beside_the_answer_and_never_over_another(scan, capsys):
    box = ["--box", "1:10,8,30,24"]
    assert main(["segment", str(scan), *box, "--all-masks", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["alternatives"] == [f"scan.mask.{rank}.nii.gz" for rank in (1, 2, 3)]
    assert len(report["prompts"][0]["candidates"]) == 3
    for path in report["alternatives"]:
        assert nib.load(path).shape == (40, 32, 4)
    (scan.parent / "scan.mask.nii.gz").unlink()
    assert main(["segment", str(scan), *box, "--all-masks"]) == 2
    assert "scan.mask.1.nii.gz is there already" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--smooth-mm", "-1"], ["--propagate", "--max-mm", "nan"]])
def test_lengths_are_millimetres_from_zero(scan, capsys, wrong):
    assert main(["segment", str(scan), "--box", "1:10,8,30,24", *wrong]) == 2
    assert "millimetres from 0" in capsys.readouterr().err


@pytest.fixture
def quick(monkeypatch):
    """The model is ThresholdSam."""
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: ThresholdSam(64))


@pytest.fixture
def picture(scan):
    """xray.png: a bright plate of 30 x 30 pixels in 60 x 50."""
    made, _ = block((1, 50, 60), (15, 10, 0, 45, 40, 1))
    Image.fromarray(made.array[0].astype(np.uint8)).save("xray.png")
    return "xray.png"


@pytest.mark.parametrize(
    ("on", "options", "message"),
    [
        ("scan.nii.gz", ["--max-mm", "5"], "--max-mm bounds how far --propagate goes"),
        ("scan.nii.gz", ["--all-masks", "--propagate"], "leave --propagate out"),
        ("xray.png", ["--smooth-mm", "1"], "--smooth-mm) is in millimetres, and the file of this scan states no"),
        ("xray.png", ["--propagate", "--max-mm", "5"], "--max-mm is in millimetres"),
    ],
)
def test_an_option_that_cannot_apply_is_refused_before_the_model_is_loaded(
    picture, monkeypatch, capsys, on, options, message
):
    monkeypatch.setattr("medsam.inference.image_predictor.load_model", lambda name: pytest.fail("a model was loaded"))
    assert main(["segment", on, "--box", "0:1,1,5,5", *options, "--out", "m.png" if on == "xray.png" else "m.mha"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not list(Path().glob("m.*"))


@pytest.mark.parametrize(
    ("on", "options", "note"),
    [
        ("xray.png", ["--propagate"], "The scan has one slice on axis k, so there is nowhere to propagate to."),
        ("xray.png", ["--modality", "DX", "--window", "none"], "and the window was given: DX changes nothing."),
        ("xray.png", ["--zoom", "on", "--point", "20,20"], "A closer look is taken at boxes, and there is none"),
        ("scan.nii.gz", ["--propagate"], "object: 2 slices; vanished at slice 0, vanished at slice 3."),
        ("xray.png", ["--propagate"], "object: 1 slice; end of scan at slice 0."),
    ],
)
def test_a_note_is_said_on_the_terminal_and_in_json(picture, quick, capsys, on, options, note):
    prompt = [] if "--point" in options else ["--box", "15,10,45,40" if on == "xray.png" else "1:10,8,30,24"]
    assert main(["segment", on, *prompt, *options, "--json"]) == 0
    captured = capsys.readouterr()
    assert any(note in one for one in json.loads(captured.out)["notes"])
    assert note in captured.err


def test_the_table_counts_pixels_of_a_picture_and_shows_what_all_masks_are_ranked_by(picture, quick, capsys):
    assert main(["segment", picture, "--box", "15,10,45,40=plate", "--out", "m.png"]) == 0
    heading, row = capsys.readouterr().out.splitlines()[:2]
    assert heading.split() == ["label", "pixels", "slices", "predicted", "IoU"]
    assert row.split() == ["plate", row.split()[1], "1", "0.90"]
    assert main(["segment", "scan.nii.gz", "--box", "1:10,8,30,24", "--all-masks", "--out", "m.mha"]) == 0
    heading, row = capsys.readouterr().out.splitlines()[:2]
    assert heading.split() == ["label", "voxels", "ml", "slices", "predicted", "IoU", ".1", ".2", ".3"]
    assert row.split()[-4:] == ["0.90", "0.90", "0.90", "0.90"]


@pytest.fixture
def old(scan, quick):
    """old.nii.gz: of the block of `scan` a mask with a part too much on slice 1, and another structure."""
    from medsam import LabelVolume, load_volume, save_labels

    volume = load_volume(scan)
    array = (volume.array > 100) * np.uint8(2)
    array[1, 26:30, 10:30] = 2
    array[3, 2:5, 2:9] = 5
    save_labels(LabelVolume(array, volume.geometry, {2: "lesion", 5: "cyst"}), "old.nii.gz", scan)
    return array


def test_clicks_correct_a_file_of_labels_and_leave_the_rest(scan, old, capsys):
    words = ["segment", str(scan), "--prompts", "old.nii.gz", "--point", "1:20,28-=Lesion", "--zoom", "off", "--json"]
    assert main([*words, "--out", "new.nii.gz"]) == 0
    report = json.loads(capsys.readouterr().out)
    expected = old.copy()
    expected[1, 26:30, 10:30] = 0
    np.testing.assert_array_equal(np.asarray(nib.load("new.nii.gz").dataobj).transpose(2, 1, 0), expected)
    assert json.loads((scan.parent / "new.json").read_text()) == {"labels": {"2": "lesion", "5": "cyst"}}
    assert [(one["id"], one["kept"]) for one in report["labels"]] == [(2, [2]), (5, [3])]
    assert [one["slice"] for one in report["prompts"]] == [1]


def test_a_file_of_labels_alone_is_refined_everywhere(scan, old, capsys):
    assert main(["segment", str(scan), "--prompts", "old.nii.gz", "--zoom", "off", "--out", "m.mha", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["slices"]) for one in report["labels"]] == [("lesion", [1, 2]), ("cyst", [])]
    assert "kept" not in report["labels"][0]


@pytest.mark.parametrize(
    ("option", "said"), [("--propagate", "leave --propagate out"), ("--all-masks", "--all-masks out")]
)
def test_a_correction_takes_no_option_that_draws_elsewhere(scan, old, capsys, option, said):
    assert main(["segment", str(scan), "--prompts", "old.nii.gz", "--point", "1:20,28-=lesion", option]) == 2
    assert said in capsys.readouterr().err


def test_a_correction_may_not_overwrite_what_it_corrects(scan, old, capsys):
    words = ["segment", str(scan), "--prompts", "old.nii.gz", "--point", "1:20,28-=lesion", "--out", "old.nii.gz"]
    assert main(words) == 2
    assert "is also an input" in capsys.readouterr().err


def test_measurements_of_a_series_are_segmented_on_their_slices(tmp_path, quick, capsys):
    from drawn import PATIENT, grid, make_series
    from measured import graphic, gsps

    pixels = np.full((3, 40, 48), 20, "<u2")
    pixels[1, 10:30, 12:36] = 200
    images = make_series(tmp_path / "ct", grid(pixels.shape, spacing_ijk=(1, 1, 3)))
    for k, image in enumerate(images):
        image.PixelData = pixels[k].tobytes()
        image.save_as(tmp_path / "ct" / f"{k}.dcm", enforce_file_format=True)
    axes = [graphic("POLYLINE", [(12, 20), (36, 20)]), graphic("POLYLINE", [(24, 10), (24, 30)])]
    path, out = gsps(tmp_path / "m.dcm", [(images[1], axes)], text=f"{PATIENT} 12 mm"), tmp_path / "out.nii.gz"
    words = ["segment", tmp_path / "ct", "--prompts", path, "--zoom", "off", "--out", out, "--json"]
    assert main([*map(str, words)]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    (prompt,) = report["prompts"]
    assert (prompt["label"], prompt["slice"], prompt["box"]) == ("measurement", 1, [12, 10, 36, 30])
    assert report["notes"][0] == "m.dcm, left out: 1 text annotation says nothing of a place."
    assert PATIENT not in printed.out + printed.err
    np.testing.assert_array_equal(np.asarray(nib.load(out).dataobj).transpose(2, 1, 0), pixels > 100)
