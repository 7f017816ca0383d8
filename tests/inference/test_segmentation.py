"""What `Predictor.segment` gives, into JSON and files and back."""

import json
import math
import pickle

import numpy as np
import pytest
from dicom_files import SERIES, series
from phantoms import ThresholdSam, block

from medsam.errors import InputError, PromptError
from medsam.inference.predictor import Predictor
from medsam.inference.segmentation import Segmentation
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.prompts.prompt import Prompt
from medsam.volume import LabelVolume, Volume


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(64), "cpu")


@pytest.fixture
def scan():
    return block((5, 20, 30), (4, 6, 1, 14, 12, 4))[0]


def assert_same(one, other):
    assert one.labels == other.labels
    assert one.alternatives == other.alternatives
    for name in ("plane", "window", "seconds", "engine", "precision", "notes", "encoded", "stop_reasons", "model"):
        assert getattr(one, name) == getattr(other, name), name
    assert len(one.results) == len(other.results)
    for mine, theirs in zip(one.results, other.results, strict=True):
        assert math.isnan(mine.predicted_iou) == math.isnan(theirs.predicted_iou)
        if not math.isnan(mine.predicted_iou):
            assert mine == theirs


def all_masks(predictor, scan):
    prompts = [Prompt("a", box=(4, 6, 14, 12), slice=2), Prompt("b", box=(2, 2, 9, 9), slice=1, points=((5, 7, 1),))]
    return predictor.segment(scan, prompts, all_masks=True)


def followed(predictor, scan):
    drawn = np.zeros((5, 20, 30), bool)
    drawn[2, 7:11, 5:9] = True
    return predictor.propagate(scan, [Prompt("box", box=(4, 6, 14, 12), slice=2), Prompt("drawn", mask=drawn)])


def nothing(predictor, scan):
    return predictor.segment(scan, Prompt("gone", box=(20, 2, 28, 9), slice=1), axis="k", zoom="off")


def along_i(predictor, scan):
    return predictor.segment(scan, Prompt("bar", box=(6, 1, 12, 4), slice=8), axis="i")


@pytest.mark.parametrize("make", [all_masks, followed, nothing, along_i])
def test_a_segmentation_comes_back_from_json_as_it_was(predictor, scan, make):
    found = make(predictor, scan)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert_same(Segmentation.from_dict(document), found)
    light = json.loads(json.dumps(found.to_dict(masks=False), allow_nan=False))
    assert len(json.dumps(light)) < len(json.dumps(document))
    again = Segmentation.from_dict(light, found.labels)
    assert again.labels is found.labels
    assert len(again.results) == len(found.results)
    with pytest.raises(InputError, match="made without masks"):
        Segmentation.from_dict(light)


def test_a_document_says_what_it_holds(predictor, scan):
    document = all_masks(predictor, scan).to_dict()
    assert document["kind"] == "medsam segmentation"
    assert document["version"] == 1
    first = document["labels"][0]
    assert {**first, "predicted_iou": None} == {
        "id": 1, "name": "a", "voxels": 60, "ml": 0.06, "slices": [2], "predicted_iou": None,
    }  # fmt: skip
    assert document["masks"][-1]["label"] == 1
    assert document["masks"][-1]["slice"] == 2
    assert document["masks"][-1]["size"] == [20, 30]
    assert len(document["alternative_masks"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "of version 3, and this medsam reads version 1"),
        ({"kind": "medsam session"}, "no medsam segmentation"),
        ({"prompts": [{"label": "a"}]}, "medsam segmentation is damaged"),
        ({"prompts": None}, "medsam segmentation is damaged"),
        ({"masks": [{"label": 1, "slice": 9, "size": [20, 30], "counts": [600]}]}, "does not fit the scan"),
        ({"masks": [{"label": 1, "slice": 0, "size": [2, 3], "counts": [6]}]}, "does not fit the scan"),
        ({"masks": [{"label": 1, "slice": 1e999, "size": [20, 30], "counts": [600]}]}, "damaged"),
        ({"masks": [{"label": 7, "slice": 0, "size": [20, 30], "counts": [0, 600]}]}, "does not fit the scan"),
        ({"labels": [{"id": 2**40, "name": "a"}]}, "damaged"),
        ({"alternative_masks": [[]]}, "damaged"),
        ({"geometry": {"shape": [40000, 4000, 400], "affine": np.eye(4).tolist(), "calibrated": True}}, "A grid is"),
        ({"geometry": {"shape": [1, 2], "affine": 5, "calibrated": True}}, "A grid is"),
    ],
)
def test_a_document_of_another_kind_or_a_damaged_one_is_one_error(predictor, scan, change, message):
    document = all_masks(predictor, scan).to_dict()
    with pytest.raises(InputError, match=message):
        Segmentation.from_dict({**document, **change})
    with pytest.raises(InputError, match="no medsam segmentation"):
        Segmentation.from_dict([])


def test_a_segmentation_is_saved_on_the_grid_of_its_file(predictor, scan, tmp_path):
    save_labels(LabelVolume(scan.array.astype(np.uint8), scan.geometry, {}), tmp_path / "scan.nii.gz")
    found = predictor.segment(tmp_path / "scan.nii.gz", Prompt("a", box=(4, 6, 14, 12), slice=2))
    assert found.source == tmp_path / "scan.nii.gz"
    assert found.save(tmp_path / "mask.nii.gz") == tmp_path / "mask.nii.gz"
    np.testing.assert_array_equal(load_volume(tmp_path / "mask.nii.gz").array, found.labels.array)
    with pytest.raises(InputError, match="overwritten"):
        found.save(tmp_path / "scan.nii.gz")
    # file names may hold patients
    assert "scan.nii" not in json.dumps(found.to_dict())
    predictor.segment(scan, Prompt(box=(4, 6, 14, 12), slice=2)).save(tmp_path / "of an array.mha")


def test_of_a_dicom_scan_it_is_saved_as_seg_and_says_which_weights_made_it(predictor, tmp_path):
    values = block((5, 20, 30), (4, 6, 1, 14, 12, 4))[0].array
    folder = series(tmp_path / "ct", values.astype(np.int16))
    series(tmp_path / "ct" / "other", values.astype(np.int16), SeriesInstanceUID="1.2.3.99")
    found = predictor.segment(load_volume(folder, series=SERIES), Prompt("liver", box=(4, 6, 14, 12), slice=2))
    assert found.algorithm.digest == predictor.images.weights
    again = Segmentation.from_dict(found.to_dict())
    assert again.algorithm == found.algorithm
    for chosen in (None, "rtstruct"):
        path = found.save(tmp_path / "mask.dcm", format=chosen)
        mask = load_labels(path, found.labels.geometry)["liver"]
        np.testing.assert_array_equal(mask, found.labels.array == 1)
    with pytest.raises(InputError, match="give `save_labels` the DICOM scan as `source`"):
        again.save(tmp_path / "mask.dcm")


def test_probabilities_are_kept_of_every_crop(predictor):
    scan, _ = block((1, 256, 256), (46, 66, 0, 52, 72, 1))
    prompts = [Prompt("a", box=(40, 60, 65, 80)), Prompt("b", box=(2, 2, 250, 250))]
    found = predictor.segment(scan, prompts, keep_probabilities=True)
    small, large = found.results
    assert [one.crop.region is None for one in small.crops] == [True, False]
    assert [one.crop.region is None for one in large.crops] == [True]
    whole, closer = (one.probabilities for one in small.crops)
    assert whole.shape == closer.shape == (256, 256)
    assert whole.dtype == np.float32
    assert ((whole >= 0) & (whole <= 1)).all()
    x0, y0, x1, y1 = small.crops[1].crop.region
    inside = np.zeros((256, 256), bool)
    inside[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(np.isfinite(closer), inside)
    assert closer[67:71, 47:51].min() > 0.5 > closer[y0, x0]
    assert predictor.segment(scan, prompts).results[0].crops == ()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(small)).crops[1].probabilities, closer)
    with pytest.raises(PromptError, match="leave `propagate` out"):
        predictor.segment(scan, prompts, keep_probabilities=True, propagate=True)


def test_a_picture_without_millimetres_has_no_millilitres(predictor):
    found = predictor.segment(np.pad(np.full((8, 8), 200.0), 8), Prompt(box=(7, 7, 17, 17)))
    document = found.to_dict()
    assert document["scan"]["spacing_mm"] is None
    assert document["labels"][0]["ml"] is None
    assert_same(Segmentation.from_dict(document), found)
    assert isinstance(Volume.from_array(found.labels.array), Volume)
