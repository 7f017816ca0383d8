import numpy as np
import pytest
import torch
from phantoms import random_affine

from medsam.errors import PromptError
from medsam.geometry import VolumeGeometry
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import IntensityWindow
from medsam.transforms.preprocess import Preprocess
from medsam.transforms.reading import to_metatensor
from medsam.transforms.slicing import TakeSliced, model_input, slice_pipeline
from medsam.volume import Volume

PREPROCESS = Preprocess(32, "pad", "minmax", "bilinear")


def volume(seed=0, colour=False):
    rng = np.random.default_rng(seed)
    shape = (4, 5, 6)
    array = rng.integers(0, 255, (*shape, 3) if colour else shape, dtype=np.uint8 if colour else np.int16)
    return Volume(array, VolumeGeometry(shape, random_affine(rng, (1, 2, 3), oblique=True)))


@pytest.mark.parametrize("axis", ["i", "j", "k", None])
@pytest.mark.parametrize("colour", [False, True])
def test_a_slice_is_what_the_plane_takes(axis, colour):
    scan = volume(colour=colour)
    taken = TakeSliced("image", axis)({"image": to_metatensor(scan), "slice": 2})["image"]
    plane = scan.geometry.plane(axis)
    expected = plane.take(scan.array, 2)
    np.testing.assert_array_equal(taken.numpy(), expected.transpose(2, 0, 1) if colour else expected[None])
    assert taken.meta["plane"] == plane


def test_there_is_no_such_slice():
    with pytest.raises(PromptError, match="no slice 4 on axis k; it has 0 ... 3"):
        TakeSliced("image", "k")({"image": to_metatensor(volume()), "slice": 4})


@pytest.mark.parametrize("seed", range(3))
def test_the_pipeline_is_window_then_frame(seed):
    scan, window = volume(seed), IntensityWindow(10, 200, "test")
    pixels, frame = model_input(slice_pipeline(PREPROCESS, window, "j"), to_metatensor(scan), 3)
    plane = scan.geometry.plane("j")
    assert frame == Frame.of(plane, PREPROCESS)
    expected = frame.image(window.apply(torch.from_numpy(np.ascontiguousarray(plane.take(scan.array, 3)))[None]))
    assert torch.equal(pixels, expected)
    assert type(pixels) is torch.Tensor
