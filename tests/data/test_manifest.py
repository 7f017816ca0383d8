"""Cases: what they load, and whose errors those are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_sets as scans

from medsam.data.manifest_json import read_manifest
from medsam.errors import InputError


def test_overrides_reach_the_scan(tmp_path):
    case = read_manifest(scans.edit(scans.manifest(tmp_path), modality="MR", spacing_mm=[0.5, 0.75, 3])).cases[0]
    image = case.load_image()
    assert image.modality == "MR"
    assert image.geometry.spacing_mm == (3, 0.75, 0.5)
    masks = case.load_references(image)  # the label still has the old spacing: only shapes can be compared
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"liver": 1, "spleen": 1}


def test_a_mapping_of_masks(tmp_path):
    scans.label(tmp_path / "s/left.nii.gz", (1,))
    scans.label(tmp_path / "s/right.nii.gz", (0, 0, 5))
    masks = {"liver": "labels/a0.nii.gz", "kidney": ["s/left.nii.gz", "s/right.nii.gz"]}
    path = scans.edit(scans.manifest(tmp_path), label=masks)
    with pytest.raises(InputError, match="'a0'.*`label` names 'kidney', `labels` does not"):
        read_manifest(path)
    content = json.loads(path.read_text())
    content["labels"] = {"kidney": 4, "liver": 1}
    content["cases"][0]["label"].pop("liver")
    content["cases"].pop()
    case = read_manifest(scans.write(path, content)).cases[0]
    found = case.load_references(case.load_image())
    assert list(found) == ["kidney"]
    assert np.flatnonzero(found["kidney"]).tolist() == [0, 2]
    del content["labels"]
    assert read_manifest(scans.write(path, content)).labels == {"kidney": 1}


def test_errors_of_files_name_the_case(tmp_path):
    path = scans.manifest(tmp_path)
    (tmp_path / "images/a0.nii.gz").unlink()
    scans.label(tmp_path / "labels/a1.nii.gz", (1, 7))
    first, second = read_manifest(path).cases
    with pytest.raises(InputError, match=r"Case a0, image: .*a0\.nii\.gz does not exist"):
        first.load_image()
    with pytest.raises(InputError, match=r"Case a1, label: a1\.nii\.gz holds unknown label values 7"):
        second.load_references(second.load_image())
    with pytest.raises(InputError, match="Case a1, label: it has no label"):
        replace(second, label=None).load_references(second.load_image())
