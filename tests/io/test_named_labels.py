"""Files that bring their own names: real SEG and RTSTRUCT, equal names, aliases."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import grid, loop, make_rs, make_seg, rectangle
from label_files import picture

from medsam.errors import InputError
from medsam.io.label_grid import LabelGridMismatch
from medsam.io.label_map import UnknownLabel
from medsam.io.labels import load_labels, notes_on, read_mask, structures_in
from medsam.io.load import load_volume


def test_a_seg_and_an_nrrd_of_one_liver_agree(data):
    folder = data / "liver_ct_dicom_seg"
    scan = load_volume(folder / "ct_series")
    seg = load_labels(folder / "seg/liver.dcm", scan.geometry, {"liver": 1})
    np.testing.assert_array_equal(
        seg["liver"], load_labels(folder / "labels_nrrd/liver_seg.nrrd", scan.geometry, {"liver": 1})["liver"]
    )
    assert seg["liver"].any()


def test_names_match_but_for_case_and_signs_and_the_rest_is_passed_over(data):
    folder = data / "lung_ct_dicom_rtstruct"
    scan = load_volume(folder / "ct_series")
    everything = load_labels(folder / "rtstruct/rtstruct.dcm", scan.geometry)
    assert list(everything) == ["GTV-1", "Spinal-Cord", "Lung-Left", "Lung-Right"]
    names = {"lung_left": 1, "tumour": 2, "heart": 3}
    found = load_labels(folder / "rtstruct/rtstruct.dcm", scan.geometry, names, aliases={"GTV-1": "tumour"})
    assert list(found) == ["lung_left", "tumour", "heart"]
    np.testing.assert_array_equal(found["lung_left"], everything["Lung-Left"])
    np.testing.assert_array_equal(found["tumour"], everything["GTV-1"])
    assert not found["heart"].any()
    with pytest.raises(UnknownLabel, match="holds none of heart; it holds GTV-1, Spinal-Cord"):
        load_labels(folder / "rtstruct/rtstruct.dcm", scan.geometry, {"heart": 1})
    assert structures_in(folder / "rtstruct/rtstruct.dcm", {"spinal cord": 1}) == {"spinal cord"}


def test_a_structure_set_cannot_lie_on_a_scan_without_millimetres(data):
    with pytest.raises(LabelGridMismatch, match="placed in millimetres"):
        load_labels(data / "lung_ct_dicom_rtstruct/rtstruct/rtstruct.dcm", picture(512, 512), {"heart": 1})


def test_aliases_may_map_several_names_to_one_structure(tmp_path):
    here = grid((4, 8, 10))
    squares = [rectangle(n + 0.5, 1.5, n + 3.5, 4.5) for n in range(3)]
    rois = [(name, [loop(here, square, 1)]) for name, square in zip(("GTV-1", "gtv_2", "heart"), squares, strict=True)]
    path = make_rs(tmp_path / "rs.dcm", rois)
    aliases = {"GTV 1": "tumour", "gtv-2": "tumour"}
    masks = load_labels(path, here, {"tumour": 1, "Heart": 2}, aliases=aliases)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"tumour": 12, "Heart": 9}
    assert notes_on(masks) == ("'GTV-1', 'gtv_2' are read as one structure, 'tumour'.",)
    assert structures_in(path, {"tumour": 1, "Heart": 2}, aliases=aliases) == {"tumour", "Heart"}
    assert read_mask(path, here, structure="tumour", aliases=aliases).sum() == 12


def test_an_alias_and_the_name_itself_are_one_structure(tmp_path):
    here = grid()
    masks = np.zeros((4, 6, 5, 3), np.uint8)
    masks[0, 0, :3], masks[0, 0, 2:4, 1], masks[1, 1, 1, 2] = [[1, 0, 0]] * 3, 1, 1
    path = make_seg(tmp_path / "s.dcm", masks, here, ("Lesion", "nodule", "LESION"))
    found = load_labels(path, here, {"lesion": 7}, aliases={"Nodule": "lesion"})
    assert found["lesion"].sum() == 5
    assert notes_on(found) == (
        "2 segments named 'Lesion' are read as one structure.",
        "'Lesion', 'nodule' are read as one structure, 'lesion'.",
    )


def test_notes_on_what_nobody_asked_for_are_not_told(tmp_path):
    here = grid()
    masks = np.eye(3, dtype=np.uint8)[np.random.default_rng(0).integers(0, 3, (4, 6, 5))]
    path = make_seg(tmp_path / "s.dcm", masks, here, ("cyst", "liver", "cyst"))
    assert notes_on(load_labels(path, here, {"liver": 1})) == ()


def test_two_names_of_a_manifest_that_are_one_name_are_refused_for_named_files(tmp_path):
    here = grid()
    path = make_seg(tmp_path / "s.dcm", np.ones((4, 6, 5, 1), np.uint8), here, ("GTV 1",))
    with pytest.raises(InputError, match="'GTV 1' and 'gtv-1' in `labels` are one name"):
        load_labels(path, here, {"GTV 1": 1, "gtv-1": 2})
