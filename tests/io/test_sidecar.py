"""Names that lie beside a label map."""

from __future__ import annotations

import json

import numpy as np
import pytest
from label_files import GRID, MAP, itk, nifti

from medsam.io.labels import load_labels, notes_on, structures_in, values_in
from medsam.io.sidecar import names_beside


@pytest.mark.parametrize(
    ("mask", "beside"),
    [("a.nii.gz", "a.json"), ("A.NII", "A.json"), ("a.nrrd", "a.nrrd.json"), ("a.mha", "a.mha.json")],
)
def test_where_the_names_lie(tmp_path, mask, beside):
    (tmp_path / beside).write_text('{"labels": {"0": "background", "2": " spleen "}}')
    assert names_beside(tmp_path / mask) == {2: "spleen"}


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        "{}",
        '{"labels": {}}',
        '{"labels": ["liver"]}',
        '{"labels": {"liver": "1"}}',
        '{"labels": {"1": 2}}',
        '{"labels": {"1": ""}}',
        '{"labels": {"-1": "liver"}}',
        json.dumps({"labels": {"1": "x" * 257}}),
    ],
)
def test_a_file_that_says_nothing_of_labels(tmp_path, document):
    (tmp_path / "a.json").write_text(document)
    assert names_beside(tmp_path / "a.nii.gz") == {}


def test_values_without_a_name_go_by_their_number(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text('{"labels": {"2": "spleen", "7": "colon"}}')
    found = load_labels(path, GRID)
    assert list(found) == ["spleen", "colon", "1"]
    np.testing.assert_array_equal(found["1"], MAP == 1)
    assert not found["colon"].any()
    assert structures_in(path) == {"spleen", "1"}
    assert values_in(path) == {1, 2}
    # who names the values asks for nothing else
    assert list(load_labels(path, GRID, {"liver": 1, "spleen": 2})) == ["liver", "spleen"]


def test_values_of_one_name_are_one_structure(tmp_path):
    path = itk(tmp_path / "a.mha")
    (tmp_path / "a.mha.json").write_text('{"labels": {"1": "lesion", "2": "Lesion"}}')
    found = load_labels(path, GRID)
    assert list(found) == ["lesion"]
    np.testing.assert_array_equal(found["lesion"], MAP > 0)
    assert found.voxels == {"lesion": np.count_nonzero(MAP)}
    assert notes_on(found) == ("2 labels named 'lesion' are read as one structure.",)
