"""Lists of cases that others wrote: Decathlon and nnU-Net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_sets as scans

from medsam.data.manifest_json import read_manifest
from medsam.errors import InputError


def test_a_decathlon_dataset(tmp_path):
    scans.scan(tmp_path / "imagesTr/liver_0.nii.gz")
    scans.label(tmp_path / "labelsTr/liver_0.nii.gz", (1,))
    content = {
        "name": "Liver",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "cancer"},
        "training": [{"image": "./imagesTr/liver_0.nii.gz", "label": "./labelsTr/liver_0.nii.gz"}],
        "test": ["./imagesTs/liver_1.nii.gz"],
    }
    scans.write(tmp_path / "dataset.json", content)
    found = read_manifest(tmp_path)
    assert (found.name, found.modality, found.labels) == ("Liver", "CT", {"liver": 1, "cancer": 2})
    assert [(c.id, c.split, c.label is None) for c in found.cases] == [
        ("liver_0", "train", False),
        ("liver_1", "test", True),
    ]
    masks = found.cases[0].load_references(found.cases[0].load_image())
    assert masks["liver"].sum() == 1


def test_the_first_of_a_decathlons_channels_is_taken(tmp_path):
    array = np.random.default_rng(0).integers(0, 9, (2, *scans.SHAPE)).astype(np.int16)
    import nibabel as nib

    (tmp_path / "imagesTr").mkdir()
    nib.save(nib.Nifti1Image(array.transpose(3, 2, 1, 0), np.eye(4)), tmp_path / "imagesTr/p.nii.gz")
    content = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"1": "PZ"}, "training": [{"image": "imagesTr/p.nii.gz"}]}
    found = read_manifest(scans.write(tmp_path / "dataset.json", content))
    assert found.modality == "MR"
    np.testing.assert_array_equal(found.cases[0].load_image().array, array[0])


def nnunet(folder: Path, content: dict) -> Path:
    for name in ("imagesTr/x_0000.nii.gz", "imagesTr/x_0001.nii.gz", "imagesTs/y_0000.nii.gz"):
        scans.scan(folder / name)
    scans.label(folder / "labelsTr/x.nii.gz")
    scans.write(folder / "dataset.json", content)
    return folder


def test_an_nnunet_folder(tmp_path):
    content = {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "PZ": 1, "TZ": 2, "ignore": 3},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    found = read_manifest(nnunet(tmp_path / "Dataset005_Prostate", content))
    assert (found.name, found.modality, found.labels) == ("Dataset005_Prostate", "MR", {"PZ": 1, "TZ": 2})
    assert [(c.id, c.image.name, c.split, c.ignore) for c in found.cases] == [
        ("x", "x_0000.nii.gz", "train", (3,)),
        ("y", "y_0000.nii.gz", "test", (3,)),
    ]
    assert found.cases[1].label is None
    assert found.cases[0].load_references(found.cases[0].load_image())["TZ"].sum() == 1


def test_an_nnunet_folder_of_version_1(tmp_path):
    content = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [{"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}],
    }
    found = read_manifest(nnunet(tmp_path, content))
    assert [case.image.name for case in found.cases] == ["x_0000.nii.gz", "y_0000.nii.gz"]
    assert found.labels == {"PZ": 1, "TZ": 2}


def test_an_nnunet_dataset_that_lists_its_files(tmp_path):
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"a": 1, "b": 2},
        "dataset": {"x": {"images": ["imagesTr/x_0000.nii.gz"], "label": "labelsTr/x.nii.gz"}},
    }
    case = read_manifest(nnunet(tmp_path, content)).cases[0]
    assert (case.id, case.modality) == ("x", "CT")
    assert len(case.load_references(case.load_image())) == 2


def test_regions_of_nnunet_are_refused_in_words(tmp_path):
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "kidney": [1, 2], "cyst": 2}}
    with pytest.raises(InputError, match=r"dataset\.json: .*'kidney' a region of several values"):
        read_manifest(nnunet(tmp_path, content))


@pytest.mark.parametrize("labels", [None, 3, ["a"], "a", {"a": "x"}, {"a": None}])
def test_labels_of_the_wrong_kind_are_an_input_error(tmp_path, labels):
    content = {"channel_names": {"0": "CT"}, "labels": labels}
    with pytest.raises(InputError, match=r"dataset\.json: "):
        read_manifest(nnunet(tmp_path, content))
