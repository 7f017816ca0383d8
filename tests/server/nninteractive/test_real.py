"""The masks that nnInteractive's client has are those of `medsam segment` on the image that it sent, to the voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nninteractive_viewer import Viewer
from scipy import ndimage

from medsam.cli.main import main
from medsam.inference.predictor import Predictor
from medsam.inference.worker import Worker
from medsam.io.load import load_volume


@pytest.fixture(scope="module")
def predictor():
    """The real model, in place of the one that answers with what is bright."""
    with Worker() as worker:
        yield Predictor("litemedsam", "cpu", worker=worker)


def _series(data: Path, kind: str) -> tuple[np.ndarray, list[float]]:
    """The array (K, J, I) as a viewer holds a series, and its spacing: a few slices about the middle."""
    if kind == "axial CT":
        scan = load_volume(data / "lung_ct_dicom_rtstruct" / "ct_series")
    elif kind == "sagittal MR":
        scan = load_volume(next((data / "breast_mr_dicom_seg").rglob("*.dcm")).parent)
    else:
        scan = load_volume(data / "msd_hippocampus_mr" / "imagesTr" / "hippocampus_001.nii.gz")
    array, spacing = np.asarray(scan.array), list(scan.geometry.spacing_mm)
    if kind == "flipped":
        array = array[:, ::-1, ::-1]
    if kind == "oblique":
        # as a viewer cuts it anew across a tilted plane
        array = ndimage.rotate(array, 15, axes=(0, 1), reshape=False, order=1)
    if kind == "anisotropic":
        # whose slices were acquired along the last axis
        array, spacing = array[:, :, 12:24:6], [spacing[0], spacing[1], 6 * spacing[2]]
        return np.ascontiguousarray(array), spacing
    middle = array.shape[0] // 2
    return np.ascontiguousarray(array[middle - 1 : middle + 1]), spacing


@pytest.mark.parametrize("kind", ["axial CT", "sagittal MR", "flipped", "oblique", "anisotropic"])
def test_the_mask_is_that_of_the_image_that_was_sent(kind, url, claim, predictor, data, tmp_path, monkeypatch, capsys):
    image, spacing = _series(data, kind)
    # what is sent, as a file: no direction, its spacing
    sent = sitk.GetImageFromArray(image)
    sent.SetSpacing(spacing[::-1])
    path = tmp_path / "sent.nii.gz"
    sitk.WriteImage(sent, str(path))
    k, (rows, columns) = len(image) // 2, image.shape[1:]
    axis = load_volume(path).geometry.acquired_axis
    if axis == "k":
        box, where = (columns // 4, rows // 4, columns // 2, rows // 2), k
        asked = [[k, k + 1], [box[1], box[3]], [box[0], box[2]]]
    else:
        # of rows k and columns j
        box, where = (rows // 4, k // 2, rows // 2, k + k // 2), columns // 2
        asked = [[box[1], box[3]], [box[0], box[2]], [where, where + 1]]
    viewer = Viewer(claim(url), image, spacing)
    viewer.session.add_bbox_interaction(asked, True)
    viewer.wait()
    monkeypatch.setattr("medsam.inference.predictor.Predictor", lambda *_, **__: predictor)
    out = tmp_path / "mask.nii.gz"
    typed = f"{where}:{','.join(map(str, box))}"
    assert main(["segment", str(path), "--axis", axis, "--box", typed, "--propagate", "--out", str(out)]) == 0
    expected = np.asarray(nib.load(out).dataobj).transpose(2, 1, 0) != 0
    assert viewer.mask.any()
    np.testing.assert_array_equal(viewer.mask, expected)
