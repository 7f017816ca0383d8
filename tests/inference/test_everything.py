"""What `Predictor.everything` gives, into JSON and back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.errors import InputError, PromptError
from medsam.inference.automatic import AutomaticSettings
from medsam.inference.everything import Everything
from medsam.inference.predictor import Predictor
from medsam.volume import Volume

SETTINGS = AutomaticSettings(points_per_side=6, pred_iou_thresh=0, stability_score_thresh=0, min_mask_region_area=0)


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(64), "cpu")


@pytest.fixture
def scan():
    """Two blocks on slices 0 and 1."""
    scan, left = block((2, 64, 64), (10, 10, 0, 30, 30, 2))
    _, right = block((2, 64, 64), (38, 36, 0, 56, 56, 2))
    return Volume(np.where(left | right, 200, scan.array).astype(np.float32), scan.geometry)


@pytest.mark.parametrize("index", [1, None])
def test_everything_comes_back_from_json_as_it_was(predictor, scan, index):
    found = predictor.everything(scan, index, settings=SETTINGS)
    assert {one.slice for one in found.masks} == ({1} if index == 1 else {0, 1})
    assert found.objects == (None if index == 1 else len({one.object for one in found.masks}))
    again = Everything.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert [replace(one, id=None) for one in again.masks] == list(found.masks)
    for name in ("geometry", "plane", "window", "settings", "slice", "left_out_as_background", "model", "engine"):
        assert getattr(again, name) == getattr(found, name), name
    assert (again.usage.encoded, again.usage.decoded, again.masks_s) == (
        found.usage.encoded,
        found.usage.decoded,
        found.masks_s,
    )
    assert again.notes == found.notes
    assert again.labels == found.labels
    assert repr(found) == f"Everything({len(found.masks)} masks on {'slice 1' if index else '2 slices'} of axis k)"


def test_each_block_is_found_and_the_label_map_shows_it(predictor, scan):
    labels = predictor.everything(scan, settings=SETTINGS).labels
    for block_ in (np.s_[:, 12:28, 12:28], np.s_[:, 38:54, 40:54]):
        (number,) = np.unique(labels.array[block_])
        assert labels.names[int(number)] == f"object {number}"
    assert len(np.unique(labels.array[scan.array == 200])) == 2


def test_a_scan_of_one_slice_needs_no_number(predictor, scan):
    flat = Volume(scan.array[:1], block((1, 64, 64), (0, 0, 0, 1, 1, 1))[0].geometry)
    found = predictor.everything(flat, settings=SETTINGS)
    assert found.slice == 0
    assert found.objects is None
    with pytest.raises(PromptError, match="no slice 3"):
        predictor.everything(scan, 3, settings=SETTINGS)


def test_what_is_no_document_of_everything_is_refused(predictor, scan):
    document = predictor.everything(scan, 0, settings=SETTINGS).to_dict()
    with pytest.raises(InputError, match="of version 2, and this medsam reads version 1"):
        Everything.from_dict({**document, "version": 2})
    with pytest.raises(InputError, match="medsam everything is damaged"):
        Everything.from_dict(predictor.everything(scan, 0, settings=SETTINGS).to_dict(masks=False))
    bad = {**document["annotations"][0], "segmentation": {"size": [2, 3], "counts": [6]}}
    with pytest.raises(InputError, match="its mask is 2 x 3 pixels"):
        Everything.from_dict({**document, "annotations": [bad]})


def test_nothing_found_is_said(predictor, scan):
    strict = replace(SETTINGS, pred_iou_thresh=2.0, stability_score_thresh=1.0)
    found = predictor.everything(scan, 0, settings=strict)
    assert found.masks == ()
    assert any("No mask passed the filters" in note for note in found.notes)
