"""3D Slicer's .seg.nrrd: segments in layers, by name and by number."""

from __future__ import annotations

import numpy as np
import pytest
from label_files import GRID, MAP, NAMES, seg_nrrd

from medsam.errors import InputError
from medsam.io.label_map import UnknownLabel
from medsam.io.labels import load_labels, notes_on, read_mask, structures_in
from medsam.io.load import load_volume

LAYERS = np.stack([MAP, (MAP == 2) * np.uint8(2), np.roll(MAP == 1, 1, axis=2).astype(np.uint8)])
SEGMENTS = [
    {"Name": "liver", "LabelValue": 1, "Layer": 0},
    {"Name": "spleen", "LabelValue": 2, "Layer": 0},
    {"Name": "cyst", "LabelValue": 2, "Layer": 1},
    {"Name": "Liver", "LabelValue": 1, "Layer": 2},
]


def test_segments_in_layers_are_read_by_name_may_overlap_and_share_one(tmp_path):
    path = seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS)
    masks = load_labels(path, GRID)
    assert list(masks) == ["liver", "spleen", "cyst"]
    np.testing.assert_array_equal(masks["liver"], (MAP == 1) | (LAYERS[2] == 1))
    np.testing.assert_array_equal(masks["spleen"], MAP == 2)
    np.testing.assert_array_equal(masks["cyst"], MAP == 2)
    assert notes_on(masks) == ("2 segments named 'liver' are read as one structure.",)
    assert structures_in(path) == {"liver", "spleen", "cyst"}
    wanted = load_labels(path, GRID, {"tumour": 1, "spleen": 2}, aliases={"CYST": "tumour"})
    assert {name: int(mask.sum()) for name, mask in wanted.items()} == {"tumour": 4, "spleen": 4}
    np.testing.assert_array_equal(read_mask(path, GRID, structure="cyst"), MAP == 2)
    with pytest.raises(UnknownLabel, match="holds 3 structures .liver, spleen, cyst.; one is needed"):
        read_mask(path, GRID)


def test_segments_of_one_layer_are_read_by_name_and_by_number_where_no_name_fits(tmp_path):
    path = seg_nrrd(
        tmp_path / "a.seg.nrrd", MAP, [{"Name": "Leber", "LabelValue": 1}, {"Name": "Milz", "LabelValue": 2}]
    )
    np.testing.assert_array_equal(load_labels(path, GRID)["Milz"], MAP == 2)
    np.testing.assert_array_equal(load_labels(path, GRID, {"milz": 1})["milz"], MAP == 2)
    np.testing.assert_array_equal(load_labels(path, GRID, NAMES)["spleen"], MAP == 2)
    assert structures_in(path, {"milz": 1}) == {"milz"}
    assert structures_in(path, NAMES) == {"liver", "spleen"}


def test_old_segmentations_keep_a_segment_a_layer(tmp_path):
    layers = np.stack([MAP == 1, MAP == 2]).astype(np.uint8)
    path = seg_nrrd(tmp_path / "a.seg.nrrd", layers, [{"ID": "liver"}, {"Name": "spleen"}])
    for structure, value in NAMES.items():
        np.testing.assert_array_equal(load_labels(path, GRID)[structure], value == MAP)


def test_voxels_of_no_segment_are_an_error_unless_named_or_ignored(tmp_path):
    path = seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS[:1])
    assert structures_in(path) == {"liver", "layer 0 value 2", "layer 1 value 2", "layer 2 value 1"}
    with pytest.raises(UnknownLabel, match="called layer 0 value 2, layer 1 value 2, layer 2 value 1 .11 voxels."):
        load_labels(path, GRID, {"liver": 1})
    assert load_labels(path, GRID, {"liver": 1}, ignore="others")["liver"].sum() == 3
    assert load_labels(path, GRID, {"liver": 1}, ignore=(1, 2))["liver"].sum() == 3
    named = {"layer 1 value 2": "cyst", "layer 0 value 2": "spleen", "layer 2 value 1": "liver"}
    masks = load_labels(path, GRID, {"liver": 1, "cyst": 2, "spleen": 3}, aliases=named)
    assert [int(mask.sum()) for mask in masks.values()] == [np.count_nonzero((MAP == 1) | (LAYERS[2] == 1)), 4, 4]


def test_layers_may_be_picked_or_united(tmp_path):
    path = seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS)
    for n, layer in enumerate(LAYERS):
        values = {str(v) for v in np.unique(layer) if v}
        masks = load_labels(path, GRID, frame=n)
        assert set(masks) == values == structures_in(path, frame=n)
        np.testing.assert_array_equal(masks[min(values)], layer == int(min(values)))
    np.testing.assert_array_equal(load_labels(path, GRID, {"x": 1}, threshold=0)["x"], LAYERS.any(axis=0))
    assert structures_in(path, {"x": 1}, threshold=0) == {"x"}


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ([{"Name": "a", "Layer": 3}], "lies on layer 3"),
        ([{"Name": "a", "Layer": "x"}], "no whole number"),
        ([{"Name": "a", "LabelValue": 1}, {"Name": "b", "LabelValue": 1, "Layer": 0}], "are both value 1 of layer 0"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, segments, why):
    with pytest.raises(InputError, match=why):
        load_labels(seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, segments), GRID)


def test_a_segmentation_in_layers_is_no_scan_and_says_so(tmp_path):
    with pytest.raises(InputError, match=r"a segmentation in layers .3D Slicer., and no scan"):
        load_volume(seg_nrrd(tmp_path / "a.seg.nrrd", LAYERS, SEGMENTS))
