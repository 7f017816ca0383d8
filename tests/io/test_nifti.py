import bz2
import gzip
import lzma

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
    with pytest.raises(InputError, match=r"bold.nii.gz holds 5 volumes.*`frame` 0 ... 4"):
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


def test_every_changed_byte_of_a_compressed_file_is_an_error_or_changes_nothing(tmp_path):
    data = np.random.default_rng(0).integers(0, 1000, (5, 4, 3), dtype=np.int16)
    sound = save(tmp_path / "a.nii.gz", data).read_bytes()
    for at in range(0, len(sound), 3):
        damaged = bytearray(sound)
        damaged[at] ^= 1 << at % 8
        (tmp_path / "b.nii.gz").write_bytes(damaged)
        try:
            scan = load_volume(tmp_path / "b.nii.gz")
        except InputError:
            continue
        np.testing.assert_array_equal(scan.array, data.T)


def test_a_checksum_that_does_not_match_is_named(tmp_path):
    content = bytearray(save(tmp_path / "a.nii.gz", np.ones((5, 4, 3), np.int16)).read_bytes())
    content[-8] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(InputError, match="a.nii.gz is damaged: the checksum at the end of the compressed data"):
        load_volume(tmp_path / "a.nii.gz")


def test_gzip_or_not_is_read_whatever_the_name_says(tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    plain = save(tmp_path / "a.nii", data).read_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "two.nii.gz").write_bytes(gzip.compress(plain[:400]) + gzip.compress(plain[400:]) + bytes(512))
    for name in ("plain.nii.gz", "packed.nii", "two.nii.gz"):
        scan = load_volume(tmp_path / name)
        np.testing.assert_array_equal(scan.array, data.T)
        labels = LabelVolume(np.ones(scan.array.shape, np.uint8), scan.geometry, {1: "all"})
        mask = load_volume(save_labels(labels, tmp_path / "mask.nii.gz", tmp_path / name))
        np.testing.assert_array_equal(mask.geometry.affine, scan.geometry.affine)


@pytest.mark.parametrize(
    ("packed", "told"), [(bz2.compress, "bzip2"), (lzma.compress, "xz"), (lambda content: b"PK\3\4" + content, "zip")]
)
def test_another_packing_is_named(tmp_path, packed, told):
    plain = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16)).read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(packed(plain))
    with pytest.raises(InputError, match=rf"a.nii.gz is .*{told}.*Unpack it"):
        load_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    ("dim", "shape"),
    [
        ([4, 2, 3, 4, 0, 1, 1, 1], (4, 3, 2)),
        ([4, 2, 3, 4, 1, 0, 0, 0], (4, 3, 2)),
        ([7, 2, 3, 4, 0, 0, 0, 0], (4, 3, 2)),
        ([3, 4, 6, 0, 1, 1, 1, 1], (1, 6, 4)),
        ([5, 2, 3, 4, 1, 1, 1, 1], (4, 3, 2)),
    ],
)
def test_an_axis_of_length_0_behind_the_others_is_none(tmp_path, dim, shape):
    content = bytearray(save(tmp_path / "a.nii", np.arange(24, dtype=np.uint8).reshape(2, 3, 4)).read_bytes())
    content[40:56] = np.array(dim, "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    scan = load_volume(tmp_path / "a.nii")
    assert scan.array.shape == shape
    np.testing.assert_array_equal(
        scan.array.transpose(2, 1, 0).ravel(order="F"), np.frombuffer(content[352:], np.uint8)
    )


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (40, np.array([3, 2, 0, 4], "<i2"), "dim in its header"),
        (40, np.array([3, -2, 3, 4], "<i2"), "a.nii"),
        (40, np.array([3, 30000, 30000, 30000], "<i2"), "states 27,000,000,000,000 bytes of voxels, 24 are there"),
        (40, np.array([3, 2, 3, 3], "<i2"), "holds more voxels than its header states"),
        (40, np.array([3, 2, 3, 5], "<i2"), "30 bytes of voxels, 24 are there"),
        (108, np.array([1e30], "<f4"), "vox_offset"),
        (108, np.array([np.nan], "<f4"), "a.nii"),
        (108, np.array([4096], "<f4"), "truncated or damaged"),
    ],
)
def test_a_number_of_the_header_is_held_against_the_bytes_there_are(tmp_path, at, value, told):
    content = bytearray(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8)).read_bytes())
    content[at : at + value.nbytes] = value.tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_volume(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("at", "value", "told"),
    [
        (254, np.array([2304], "<i2"), "sform_code is 2304, of which NIfTI knows 0 to 5"),
        (252, np.array([-3], "<i2"), "qform_code is -3"),
        (80, np.array([-2.0], "<f4"), "pixdim is -2, 3, 4, no distances between voxels"),
        (84, np.array([0.0], "<f4"), "pixdim is 2, 0, 4"),
        (88, np.array([np.nan], "<f4"), "pixdim is 2, 3, nan"),
    ],
)
def test_a_place_that_would_be_guessed_is_refused(tmp_path, at, value, told):
    """nibabel puts another code or distance in place of one that it does not know, and says nothing."""
    content = bytearray(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8)).read_bytes())
    if at < 252:  # the distances count where no sform does
        content[252:256] = np.array([1, 0], "<i2").tobytes()
    content[at : at + value.nbytes] = value.tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_volume(tmp_path / "a.nii")


def test_a_header_that_does_not_say_which_side_is_left_is_noted(tmp_path):
    content = bytearray(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8)).read_bytes())
    for codes, noted in (((0, 0), 1), ((1, 0), 0), ((0, 2), 0)):
        content[252:256] = np.array(codes, "<i2").tobytes()
        (tmp_path / "a.nii").write_bytes(content)
        notes = [note.split(" (")[0] for note in load_volume(tmp_path / "a.nii").notes]
        assert notes == ["The header of a.nii does not say which side is left"] * noted


def test_a_size_no_compression_reaches_is_refused_before_memory_is_asked_for(tmp_path):
    content = bytearray(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8)).read_bytes())
    content[42:48] = np.array([30000] * 3, "<i2").tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"MiB of voxels in .* compressed bytes, which no scan does"):
        load_volume(tmp_path / "a.nii.gz")


def test_a_header_and_its_voxels_in_two_files(tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Pair(data, np.eye(4)), tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        np.testing.assert_array_equal(load_volume(tmp_path / name).array, data.T)
    away = tmp_path / "away.img"
    (tmp_path / "a.img").rename(away)
    with pytest.raises(InputError, match=r"a.hdr is a header alone"):
        load_volume(tmp_path / "a.hdr")
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.hdr").rename(tmp_path / "sub" / "a.hdr")
    (tmp_path / "sub" / "a.img").symlink_to(away)
    with pytest.raises(InputError, match="outside its own folder"):
        load_volume(tmp_path / "sub" / "a.hdr")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_scaling_is_nibabels(tmp_path, dtype):
    image = nib.Nifti1Image(np.arange(24).reshape(2, 3, 4).astype(dtype), np.eye(4))
    image.header.set_slope_inter(0.3, -7)
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([0.3, -7], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    theirs = np.asanyarray(nib.load(tmp_path / "a.nii").dataobj).astype(np.float32)
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii").array, theirs.T)
