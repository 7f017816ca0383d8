import nibabel as nib
import numpy as np
import pytest
from phantoms import random_affine

from medsam.errors import InputError
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.volume import LabelVolume


def save(path, data, affine=None, **header):
    image = nib.Nifti1Image(data, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def test_voxels_keep_their_stored_order_and_the_affine_becomes_lps(tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # (i, j, k)
    scan = load_volume(save(tmp_path / "a.nii.gz", data))
    assert scan.array.shape == (4, 3, 2)
    assert scan.array[3, 2, 1] == data[1, 2, 3]
    assert scan.array.dtype == np.int16
    assert scan.geometry.axcodes == "RAS"
    assert scan.geometry.spacing_mm == (4, 3, 2)
    np.testing.assert_array_equal(scan.geometry.to_mm([1, 1, 1]), [-2, -3, 4])


def test_scaled_integers_become_their_real_values(tmp_path):
    image = nib.Nifti1Image(np.full((2, 2, 2), 10, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii")
    scan = load_volume(tmp_path / "a.nii")
    assert scan.array.dtype == np.float32
    assert (scan.array == 10 * 0.5 - 3).all() or (scan.array == 10).all()
    assert scan.array[0, 0, 0] == nib.load(tmp_path / "a.nii").get_fdata()[0, 0, 0]


def test_a_4d_file_needs_a_frame(tmp_path):
    data = np.stack([np.full((2, 3, 4), n, np.int16) for n in range(5)], axis=-1)
    path = save(tmp_path / "bold.nii.gz", data)
    with pytest.raises(InputError, match=r"bold.nii.gz holds 5 volumes.*--frame 0 ... 4"):
        load_volume(path)
    assert (load_volume(path, frame=3).array == 3).all()
    with pytest.raises(InputError, match=r"frames 0 ... 4, not 5"):
        load_volume(path, frame=5)
    single = save(tmp_path / "one.nii.gz", data[..., :1])
    assert load_volume(single).array.shape == (4, 3, 2)
    with pytest.raises(InputError, match="no frame 2"):
        load_volume(save(tmp_path / "flat.nii.gz", data[..., 0]), frame=2)


def test_colour_is_three_bytes_a_voxel(tmp_path):
    data = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    data["G"][1, 2, 3] = 200
    scan = load_volume(save(tmp_path / "rgb.nii.gz", data))
    assert scan.is_colour
    assert scan.array.shape == (4, 3, 2, 3)
    assert scan.array[3, 2, 1].tolist() == [0, 200, 0]


def test_one_slice_stored_in_two_dimensions(tmp_path):
    scan = load_volume(save(tmp_path / "flat.nii.gz", np.ones((3, 4), np.uint8)))
    assert scan.array.shape == (1, 4, 3)


def test_a_file_in_metres_or_micrometres_is_read_in_millimetres(tmp_path):
    metres = save(tmp_path / "m.nii", np.ones((2, 2, 2), np.uint8), np.diag([0.002, 0.003, 0.004, 1]), xyzt_units=1)
    assert load_volume(metres).geometry.spacing_mm == pytest.approx((4, 3, 2))
    microns = save(tmp_path / "u.nii", np.ones((2, 2, 2), np.uint8), np.diag([2000.0, 3000, 4000, 1]), xyzt_units=3)
    assert load_volume(microns).geometry.spacing_mm == pytest.approx((4, 3, 2))


@pytest.mark.parametrize("cut", [10, 200, 400])
def test_a_truncated_file_is_told_as_such(tmp_path, cut):
    rng = np.random.default_rng(0)
    path = save(tmp_path / "a.nii.gz", rng.integers(0, 1000, (9, 9, 9), dtype=np.int16))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a.nii.gz .*truncated or damaged"):
        load_volume(path)


def test_a_text_file_called_nifti(tmp_path):
    path = tmp_path / "notes.nii"
    path.write_text("not a scan" * 100)
    with pytest.raises(InputError, match=r"notes.nii cannot be read as NIfTI"):
        load_volume(path)


def test_complex_and_five_dimensional_data_are_refused(tmp_path):
    with pytest.raises(InputError, match="complex"):
        load_volume(save(tmp_path / "c.nii", np.ones((2, 2, 2), np.complex64)))
    with pytest.raises(InputError, match="5 dimensions"):
        load_volume(save(tmp_path / "v.nii", np.ones((2, 2, 2, 1, 3), np.float32)))


def test_an_affine_without_direction_names_the_file(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), None)
    image.header["sform_code"] = 1
    image.header["srow_x"] = [1, 0, 0, 0]
    image.header["srow_y"] = [0, 1, 0, 0]
    nib.save(image, tmp_path / "flat.nii")
    with pytest.raises(InputError, match=r"flat.nii: The scan's affine has an axis of zero length"):
        load_volume(tmp_path / "flat.nii")


@pytest.mark.parametrize("kind", ["sform", "qform", "both", "neither"])
@pytest.mark.parametrize("seed", range(3))
def test_a_mask_carries_the_orientation_of_its_source_to_the_bit(tmp_path, kind, seed):
    rng = np.random.default_rng(seed)
    affine = random_affine(rng, rng.uniform(0.3, 4, 3), oblique=True)
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_sform(affine, code=2 if kind in ("sform", "both") else 0)
    image.set_qform(affine, code=1 if kind in ("qform", "both") else 0)
    image.header["descrip"] = b"DOE^JANE"
    source = tmp_path / "scan.nii.gz"
    nib.save(image, source)

    scan = load_volume(source)
    labels = LabelVolume(np.ones(scan.array.shape, np.uint8), scan.geometry, {1: "all"})
    mask = nib.load(save_labels(labels, tmp_path / "mask.nii.gz", source))
    original = nib.load(source)
    assert mask.affine.tobytes() == original.affine.tobytes()
    for field in ("sform_code", "qform_code", "quatern_b", "qoffset_x", "srow_y", "pixdim"):
        assert mask.header[field].tobytes() == original.header[field].tobytes(), field
    assert mask.shape == original.shape
    assert b"DOE" not in mask.header.binaryblock, "free text may hold a name"


def test_nifti_2_stays_nifti_2(tmp_path):
    affine = np.eye(4) * 1.000000001
    affine[3, 3] = 1
    nib.save(nib.Nifti2Image(np.zeros((2, 2, 2), np.int16), affine), tmp_path / "two.nii")
    scan = load_volume(tmp_path / "two.nii")
    labels = LabelVolume(np.zeros((2, 2, 2), np.uint8), scan.geometry, {1: "a"})
    mask = nib.load(save_labels(labels, tmp_path / "mask.nii.gz", tmp_path / "two.nii"))
    assert isinstance(mask, nib.Nifti2Image)
    assert mask.affine.tobytes() == nib.load(tmp_path / "two.nii").affine.tobytes()
