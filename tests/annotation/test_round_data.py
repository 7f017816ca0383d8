from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from annotated import draw, masks_of, project
from stores import square
from tiny_training import drawn, shapes

from medsam.annotation.label_files import asked_case
from medsam.annotation.round_data import MANIFEST, write_frozen, write_training_data
from medsam.data.manifest_json import read_manifest
from medsam.data.slices import index_slices
from medsam.errors import InputError
from medsam.masks import CompactMask
from medsam.store.project_records import NewAnnotation, Round


def begun(made) -> Round:
    return made.store.begin_round({})


def quiet(text: str) -> None:
    pass


def test_masks_are_label_maps_on_the_grid_of_their_scan_and_sides_stay(tmp_path, boxes_model):
    with project(tmp_path, boxes_model) as made:
        draw(made, slices=(0, 2))
        this = begun(made)
        draw(made, slices=(1,))  # later ones are for the next round
        about = write_training_data(made, this, quiet)
        assert about["val"] == {"scans": 1, "patients": 1, "masks": 4, "labelled": 0}
        assert about["structures"] == ["disc", "bar"]
        cases = read_manifest(made.folder / "rounds" / "1" / MANIFEST).cases
        assert [(case.id, case.split) for case in cases] == [("c0", "train"), ("c1", "train"), ("c2", "val")]
        masks = cases[1].load_references(cases[1].load_image())
        _, labels = drawn(1)
        labels[[1, 3]] = 0
        for name, value in (("disc", 1), ("bar", 2)):
            np.testing.assert_array_equal(masks[name], labels == value)
        items = index_slices(cases).items
        assert {item.index for item in items} == {0, 2}, "of slices that nobody drew on nothing is learned"


def test_structures_that_share_voxels_have_a_file_each(tmp_path, boxes_model):
    with project(tmp_path, boxes_model) as made:
        scan = made.store.scans("train")[0]
        made.store.add_annotations(
            [
                NewAnnotation(scan.id, name, "k", 1, "edited", CompactMask.of(np.ones((6, 6), bool), (20, 24), start))
                for name, start in (("disc", (2, 2)), ("bar", (4, 4)))
            ]
        )
        about = write_training_data(made, begun(made), quiet)
        (case,) = read_manifest(made.folder / "rounds" / "1" / MANIFEST).cases
        assert about["train"]["masks"] == 2
        masks = case.load_references(case.load_image())
        assert (masks["disc"].sum(), masks["bar"].sum(), (masks["disc"] & masks["bar"]).sum()) == (36, 36, 16)


def test_the_frozen_set_has_peoples_masks_and_none_that_a_model_was_left_alone_with(tmp_path, boxes_model):
    with project(tmp_path, boxes_model, ("train", "test", "test", "test"), labelled=()) as made:
        one, other, third = made.store.scans("test")
        made.store.add_annotations(masks_of(one, (0,)), made.store.local_reader())
        made.store.add_annotations(masks_of(other, (0,), model="tiny"))
        made.store.add_annotations(masks_of(third, (0,), status="proposed"), made.store.local_reader())
        about = write_frozen(made, begun(made))
        assert {name: about[name] for name in ("scans", "masks", "labelled")} == {"scans": 1, "masks": 2, "labelled": 0}
        folder = made.folder / "frozen" / about["digest"]
        assert [case.id for case in read_manifest(folder / MANIFEST).cases] == [one.name]


def test_a_reference_has_the_projects_structures_alone_and_in_its_spelling(tmp_path):
    case = read_manifest(shapes(tmp_path)).cases[0]
    asked = asked_case(case, {"Disc": 1})
    masks = asked.load_references(asked.load_image())
    assert list(masks) == ["Disc"]
    np.testing.assert_array_equal(masks["Disc"], drawn(0)[1] == 1)
    assert asked_case(case, {"liver": 1}) is None
    files = replace(case, label={"disc": (case.label,), "bar": (case.label,)})
    assert asked_case(files, {"bar": 1}).structures == ("bar",)


def test_a_mask_that_does_not_fit_its_scan_is_named(tmp_path, boxes_model):
    with project(tmp_path, boxes_model) as made:
        scan = made.store.scans("train")[0]
        made.store.add_annotations([NewAnnotation(scan.id, "disc", "k", 1, "edited", square(1, 5))])
        with pytest.raises(InputError, match="Scan c0: a mask of 'disc' has 8 x 8 pixels, its slice 1 along k 20 x 24"):
            write_training_data(made, begun(made), quiet)
