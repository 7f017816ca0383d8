"""Inference prepares a slice with torch alone; to the bit it is what MONAI's transforms make of it in training."""

import numpy as np
import pytest
import torch
from phantoms import random_affine

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.transforms.intensity import IntensityWindow
from medsam.transforms.prepare import scan_tensor, slice_input
from medsam.transforms.preprocess import Preprocess
from medsam.transforms.reading import to_metatensor
from medsam.transforms.slicing import model_input, slice_pipeline
from medsam.volume import Volume

WINDOW = IntensityWindow(10, 200, "test")


def volume(dtype="int16", colour=False):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (4, 5, 6, 3) if colour else (4, 5, 6)).astype(dtype)
    return Volume(array, VolumeGeometry((4, 5, 6), random_affine(rng, (1, 2, 3), oblique=True)))


@pytest.mark.parametrize("axis", ["i", "j", "k", None])
@pytest.mark.parametrize("region", [None, (1, 0, 4, 3)])
@pytest.mark.parametrize(
    ("dtype", "colour"), [("int16", False), ("uint16", False), (">i2", False), ("float32", False), ("uint8", True)]
)
@pytest.mark.parametrize("preprocess", [Preprocess(32, "pad", "minmax", "bilinear")])
def test_inference_and_training_prepare_alike(axis, region, dtype, colour, preprocess):
    scan = volume(dtype, colour)
    pixels, frame = slice_input(scan_tensor(scan), scan.geometry.plane(axis), 3, WINDOW, preprocess, region)
    expected, expected_frame = model_input(slice_pipeline(preprocess, WINDOW, axis), to_metatensor(scan), 3, region)
    assert frame == expected_frame
    assert type(pixels) is torch.Tensor
    assert torch.equal(pixels, expected)


def test_voxels_are_shared_where_torch_has_the_dtype():
    scan = volume()
    tensor = scan_tensor(scan)
    assert tensor.shape == (1, 6, 5, 4)
    scan.array[3, 2, 1] = -77
    assert tensor[0, 1, 2, 3] == -77


def test_voxels_that_must_not_be_changed_are_shared_with_who_only_reads():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    array.flags.writeable = False
    scan = Volume(array, VolumeGeometry((2, 3, 4), np.eye(4)))
    assert np.shares_memory(scan_tensor(scan).numpy(), array)
    written = scan_tensor(scan, to_write=True)
    written += 1
    assert array[0, 0, 0] == 0


@pytest.mark.parametrize("index", [-1, 4])
def test_there_is_no_such_slice(index):
    scan = volume()
    with pytest.raises(PromptError, match=f"no slice {index} on axis k; it has 0 ... 3"):
        slice_input(
            scan_tensor(scan), scan.geometry.plane("k"), index, WINDOW, Preprocess(32, "pad", "minmax", "bilinear")
        )
