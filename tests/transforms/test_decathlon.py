"""The Decathlon through MONAI: what is there is used, a tar is unpacked, and no network is a clear error."""

from __future__ import annotations

import hashlib
import socket
import tarfile

import pytest
import tiny_sets as scans

from medsam.data.manifest_json import read_manifest
from medsam.errors import AssetError
from medsam.transforms.decathlon import TASKS, fetch_decathlon

TASK = "Task04_Hippocampus"


def test_the_tasks_are_monais():
    from monai.apps import DecathlonDataset

    assert set(TASKS) == set(DecathlonDataset.resource)


def test_no_network_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(AssetError, match=r"Task04_Hippocampus could not be downloaded by MONAI .*Without a network"):
        fetch_decathlon(TASK, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_tar_file_that_is_there_is_verified_and_unpacked(tmp_path, monkeypatch):
    from monai.apps import DecathlonDataset

    source = tmp_path / "source" / TASK
    scans.scan(source / "imagesTr/h_1.nii.gz")
    scans.label(source / "labelsTr/h_1.nii.gz")
    content = {
        "name": "Hippocampus",
        "description": "",
        "reference": "",
        "licence": "",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": 1,
        "numTest": 0,
        "training": [{"image": "./imagesTr/h_1.nii.gz", "label": "./labelsTr/h_1.nii.gz"}],
        "test": [],
    }
    scans.write(source / "dataset.json", content)
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / f"{TASK}.tar", "w") as tar:
        tar.add(source, TASK)
    with pytest.raises(AssetError, match=r"Task04_Hippocampus\.tar in .* is damaged .*md5"):
        fetch_decathlon(TASK, root, progress=False)
    digest = hashlib.md5((root / f"{TASK}.tar").read_bytes()).hexdigest()
    monkeypatch.setitem(DecathlonDataset.md5, TASK, digest)
    folder = fetch_decathlon(TASK, root, progress=False)
    assert folder == root / TASK
    manifest = read_manifest(folder)
    assert (manifest.labels, manifest.modality) == ({"Anterior": 1, "Posterior": 2}, "MR")
