"""Memory told from a header, before the voxels are read."""

from __future__ import annotations

import nibabel as nib
import nrrd
import numpy as np

from medsam.io.footprint import working_bytes


def test_the_header_tells_and_compression_does_not_deceive(tmp_path):
    voxels = np.zeros((40, 30, 20), np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((40, 30, 20, 3), np.int16), np.eye(4)), tmp_path / "several.nii")
    nrrd.write(str(tmp_path / "a.nrrd"), voxels)
    told = {working_bytes(tmp_path / name) for name in ("a.nii.gz", "several.nii", "a.nrrd")}
    assert len(told) == 1
    assert told.pop() >= voxels.size * 8


def test_other_files_by_their_size_and_nothing_where_there_is_nothing(tmp_path):
    (tmp_path / "series").mkdir()
    for name in ("1", "2"):
        (tmp_path / "series" / name).write_bytes(bytes(1000))
    assert working_bytes(tmp_path / "series") == 2 * working_bytes(tmp_path / "series" / "1") > 2000
    assert working_bytes(tmp_path / "none.nii.gz") == 0
    (tmp_path / "damaged.nii").write_bytes(b"damaged")
    assert working_bytes(tmp_path / "damaged.nii") == 0
