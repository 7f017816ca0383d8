import numpy as np
import pytest
import SimpleITK as sitk
from phantoms import random_affine

from medsam.errors import InputError
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.volume import LabelVolume


def save(path, array, affine=None, vector=False):
    image = sitk.GetImageFromArray(array, isVector=vector)
    if affine is not None:
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_voxels_and_grid_as_stored(tmp_path, suffix):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    affine = random_affine(np.random.default_rng(1), (1, 2, 3), oblique=True)
    scan = load_volume(save(tmp_path / f"a{suffix}", array, affine))
    np.testing.assert_array_equal(scan.array, array)
    np.testing.assert_allclose(scan.geometry.affine, affine, atol=1e-9)
    assert scan.geometry.spacing_mm == pytest.approx((3, 2, 1))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("seed", range(5))
def test_a_mask_carries_the_grid_of_its_source_to_the_bit(tmp_path, suffix, seed):
    rng = np.random.default_rng(seed)
    source = tmp_path / f"scan{suffix}"
    save(source, np.zeros((3, 4, 5), np.int16), random_affine(rng, rng.uniform(0.3, 4, 3), oblique=True))
    scan = load_volume(source)
    labels = LabelVolume(rng.integers(0, 3, (3, 4, 5)), scan.geometry, {1: "a", 2: "b"})
    mask = load_volume(save_labels(labels, tmp_path / f"mask{suffix}", source))
    assert mask.geometry.affine.tobytes() == scan.geometry.affine.tobytes()
    np.testing.assert_array_equal(mask.array, labels.array)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_mask_in_another_format_lies_in_the_same_place(tmp_path, suffix):
    rng = np.random.default_rng(3)
    source = save(tmp_path / "scan.nrrd", np.zeros((3, 4, 5), np.int16), random_affine(rng, (0.7, 0.8, 5), True))
    scan = load_volume(source)
    labels = LabelVolume(rng.integers(0, 300, (3, 4, 5)), scan.geometry, {1: "a"})
    mask = load_volume(save_labels(labels, tmp_path / f"mask{suffix}", source))
    assert mask.geometry.same_grid(scan.geometry, tolerance_mm=1e-4)
    np.testing.assert_array_equal(mask.array, labels.array)


def test_colour_vectors_and_frames(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(load_volume(save(tmp_path / "rgb.mha", rgb, vector=True)).array, rgb)
    vector = rgb[..., :2].astype(np.float32)
    path = save(tmp_path / "vector.nrrd", vector, vector=True)
    with pytest.raises(InputError, match=r"holds 2 volumes.*`frame`"):
        load_volume(path)
    np.testing.assert_array_equal(load_volume(path, frame=1).array, vector[..., 1])
    series = np.stack([np.full((2, 3, 4), n, np.int16) for n in range(3)])
    path = save(tmp_path / "time.nrrd", series)
    with pytest.raises(InputError, match="holds 3 volumes"):
        load_volume(path)
    assert (load_volume(path, frame=2).array == 2).all()
    with pytest.raises(InputError, match="no frame 1"):
        load_volume(save(tmp_path / "one.mha", series[0]), frame=1)


def test_a_flat_image_is_one_slice(tmp_path):
    scan = load_volume(save(tmp_path / "flat.mha", np.ones((3, 4), np.int16)))
    assert scan.array.shape == (1, 3, 4)
    assert scan.geometry.axcodes == "LPS"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("keep", [60, 120, 700])
def test_a_truncated_file_is_told_as_such(tmp_path, name, keep):
    path = save(tmp_path / name, np.zeros((9, 9, 9), np.int16))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=name):
        load_volume(path)


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("a.mha", b"ElementSpacing", "no ElementSpacing"),
        ("a.mha", b"Offset", "no Offset"),
        ("a.mha", b"TransformMatrix", "no TransformMatrix"),
        ("a.nrrd", b"space directions", "no space directions"),
        ("a.nrrd", b"space origin", "no space origin"),
        ("a.nrrd", b"space:", "no space"),
    ],
)
def test_what_a_header_leaves_to_be_guessed_is_noted(tmp_path, name, line, told):
    """A letter of the key was damaged, or a writer left it out: no wrong place without a word."""
    path = save(tmp_path / name, np.zeros((2, 3, 4), np.int16), np.diag([2.0, 3.0, 4.0, 1.0]))
    assert load_volume(path).notes == ()
    path.write_bytes(path.read_bytes().replace(b"\n" + line, b"\nx" + line, 1))
    (note,) = load_volume(path).notes
    assert note.startswith(f"The header of {name} has {told}: where it says nothing")
