import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImage, Orientationd
from phantoms import random_affine

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.transforms.reading import LoadScand, ScanReader, geometry_of, to_metatensor
from medsam.volume import Volume


@pytest.fixture
def path(tmp_path):
    affine = random_affine(np.random.default_rng(4), (1, 2, 3), oblique=False)
    data = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_metatensor_is_channel_first_in_stored_order_with_a_ras_affine(path):
    image = LoadScand("image")({"image": path})["image"]
    original = nib.load(path)
    assert image.shape == (1, 2, 3, 4)
    np.testing.assert_array_equal(image[0].numpy(), np.asarray(original.dataobj))
    np.testing.assert_array_equal(image.affine.numpy(), original.affine)


def test_our_reader_in_monais_own_load_image(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MONAI sets up all its readers and tells which it cannot
        load = LoadImage(image_only=True, ensure_channel_first=True)
    image = load(path, reader=ScanReader())
    np.testing.assert_array_equal(image.numpy(), LoadScand("image")({"image": path})["image"].numpy())
    np.testing.assert_array_equal(image.affine.numpy(), nib.load(path).affine)
    with pytest.raises(InputError, match="does not exist"):
        load(path.with_name("none.nii.gz"), reader=ScanReader())
    with pytest.raises(InputError, match="got 2 paths"):
        load([path, path], reader=ScanReader())


def test_it_goes_on_into_a_monai_pipeline(path):
    turned = Compose([LoadScand("image"), Orientationd("image", "RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))])(
        {"image": path}
    )["image"]
    expected = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(turned[0].numpy(), np.asarray(expected.dataobj))
    np.testing.assert_allclose(turned.affine.numpy(), expected.affine, atol=1e-9)


def test_an_unreadable_file_stays_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"none.nii does not exist"):
        LoadScand("image")({"image": tmp_path / "none.nii"})


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, bool, ">i2"]
)
def test_every_stored_type_becomes_a_tensor_of_the_same_values(dtype):
    array = np.array([[[0, 1], [100, 120]]]).astype(dtype)
    image = to_metatensor(Volume(array, VolumeGeometry(array.shape, np.eye(4))))
    np.testing.assert_array_equal(image[0].numpy(), array.transpose(2, 1, 0))


def test_the_largest_sixteen_bit_value_survives():
    array = np.full((1, 1, 1), 65535, np.uint16)
    assert to_metatensor(Volume(array, VolumeGeometry((1, 1, 1), np.eye(4)))).item() == 65535


def test_colour_comes_first(tmp_path):
    array = np.zeros((4, 3, 2, 3), np.uint8)
    array[3, 2, 1] = (1, 2, 3)
    image = to_metatensor(Volume(array, VolumeGeometry((4, 3, 2), np.eye(4))))
    assert image.shape == (3, 2, 3, 4)
    assert image[:, 1, 2, 3].tolist() == [1, 2, 3]


def test_the_grid_can_be_read_back_from_the_tensor():
    geometry = VolumeGeometry((4, 3, 2), random_affine(np.random.default_rng(0), (1, 2, 3), True))
    image = to_metatensor(Volume(np.zeros((4, 3, 2), np.int16), geometry))
    assert geometry_of(image).affine.tobytes() == geometry.affine.tobytes()
    assert geometry_of(image).shape == (4, 3, 2)


def test_loading_copies_no_voxels():
    array = np.zeros((4, 3, 2), np.int16)
    image = to_metatensor(Volume(array, VolumeGeometry((4, 3, 2), np.eye(4))))
    array[3, 2, 1] = 7
    assert image[0, 1, 2, 3] == 7
    assert isinstance(image, torch.Tensor)
