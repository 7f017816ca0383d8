"""A label on its scan's grid: exactly, or an error that says both grids."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import AFFINE, GRID, MAP, NAMES, nifti

from medsam.geometry import VolumeGeometry
from medsam.io.label_grid import LabelGridMismatch, on_grid
from medsam.io.labels import load_labels
from medsam.io.load import load_volume
from medsam.volume import Volume


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), oblique=st.booleans())
def test_any_order_and_direction_of_axes_is_turned_exactly(seed, oblique):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, 3).tolist())
    scan = VolumeGeometry(shape, phantoms.random_affine(rng, rng.uniform(0.5, 4, 3), oblique))
    truth = rng.integers(0, 5, shape).astype(np.uint8)
    # the same voxels, stored another way: new axis n runs along old axis order[n], backwards if flip[n]
    order, flip = rng.permutation(3), rng.random(3) < 0.5
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for n in range(3):
        to_old[order[n], n] = -1 if flip[n] else 1
        if flip[n]:
            to_old[order[n], 3] = shape[::-1][order[n]] - 1
    stored = truth.transpose(2, 1, 0).transpose(*order)
    stored = stored[tuple(slice(None, None, -1 if f else 1) for f in flip)].transpose(2, 1, 0)
    label = Volume(stored, VolumeGeometry(stored.shape, scan.affine @ to_old))
    np.testing.assert_array_equal(on_grid(label, scan, Path("a.nii")).array, truth)


def test_a_label_in_another_orientation_is_read_from_a_file(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    turned = nib.as_closest_canonical(nib.load(path))
    turned = turned.as_reoriented([[2, -1], [0, 1], [1, 1]])
    nib.save(turned, tmp_path / "b.nii.gz")
    assert load_volume(tmp_path / "b.nii.gz").array.shape != MAP.shape
    np.testing.assert_array_equal(load_labels(tmp_path / "b.nii.gz", GRID, NAMES)["spleen"], MAP == 2)


def test_another_shape_is_refused_with_both_grids(tmp_path):
    with pytest.raises(LabelGridMismatch, match=r"a\.nii\.gz has 4 x 3 x 1 voxels.*the scan has 4 x 3 x 2 voxels"):
        load_labels(nifti(tmp_path / "a.nii.gz", MAP[:1]), GRID, NAMES)


def test_another_place_is_refused_with_how_far_it_is(tmp_path):
    affine = AFFINE.copy()
    affine[2, 3] += 1.5  # half a slice
    with pytest.raises(LabelGridMismatch, match=r"up to 1\.5 mm \(0\.5 voxels\)"):
        load_labels(nifti(tmp_path / "a.nii.gz", geometry=VolumeGeometry(MAP.shape, affine)), GRID, NAMES)


def test_the_rounding_of_a_header_is_no_mismatch(tmp_path):
    affine = AFFINE + np.random.default_rng(0).uniform(-1e-3, 1e-3, (4, 4)) * np.eye(4)
    masks = load_labels(nifti(tmp_path / "a.nii.gz", geometry=VolumeGeometry(MAP.shape, affine)), GRID, NAMES)
    np.testing.assert_array_equal(masks["liver"], MAP == 1)


def test_a_flip_that_only_the_header_tells_is_refused(tmp_path):
    """Same shape, columns running the other way about the same origin: half of a scan away."""
    affine = AFFINE.copy()
    affine[0, 0] = -0.8
    with pytest.raises(LabelGridMismatch):
        load_labels(nifti(tmp_path / "a.nii.gz", geometry=VolumeGeometry(MAP.shape, affine)), GRID, NAMES)


def test_an_npz_that_states_its_grid_must_state_the_right_one(tmp_path):
    np.savez(
        tmp_path / "a.npz", gts=MAP, spacing=(0.8, 0.9, 4.0), origin=(-12.5, 40.25, 7.0), direction=np.eye(3).ravel()
    )
    with pytest.raises(LabelGridMismatch, match=r"up to 1 mm"):
        load_labels(tmp_path / "a.npz", GRID, NAMES)


def test_one_slice_is_a_volume(tmp_path):
    grid = VolumeGeometry((1, 3, 4), AFFINE)
    masks = load_labels(nifti(tmp_path / "a.nii.gz", MAP[:1], grid), grid, NAMES)
    np.testing.assert_array_equal(masks["liver"], MAP[:1] == 1)


def test_all_orders_of_axes_are_covered():
    """The property test draws orders at random; these are the six, once each, against numpy."""
    truth = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    scan = VolumeGeometry(truth.shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    for order in itertools.permutations(range(3)):
        affine = np.eye(4)
        affine[:3, :3] = scan.affine[:3, :3][:, order]
        stored = truth.transpose(2, 1, 0).transpose(order).transpose(2, 1, 0)
        turned = on_grid(Volume(stored, VolumeGeometry(stored.shape, affine)), scan, Path("a"))
        np.testing.assert_array_equal(turned.array, truth)
