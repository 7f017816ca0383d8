import bz2
import gzip
import os
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from medsam.errors import InputError
from medsam.io.load import load_volume

VOXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
DATA = VOXELS.tobytes()
NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nspacings: 1 1 2\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\nElementSpacing = 1 1 2\n"


def nrrd(path, head="encoding: raw\n", data=DATA, start=NRRD):
    path.write_bytes(f"{start}{head}\n".encode() + data)
    return path


def meta(path, head="", data=DATA, start=META):
    path.write_bytes(f"{start}{head}ElementDataFile = LOCAL\n".encode() + data)
    return path


# -- damage ---------------------------------------------------------------------------------------------------

PACKED = {
    "nrrd": lambda path, data: nrrd(path, "encoding: gzip\n", data),
    "bz2": lambda path, data: nrrd(path.with_suffix(".nrrd"), "encoding: bzip2\n", data),
    "mha": lambda path, data: meta(path, "CompressedData = True\n", data),
}


@pytest.mark.parametrize("kind", PACKED)
def test_every_changed_byte_of_compressed_voxels_is_an_error_or_changes_nothing(tmp_path, kind):
    packed = {"nrrd": gzip.compress, "bz2": bz2.compress, "mha": zlib.compress}[kind](VOXELS.tobytes())
    sound = PACKED[kind](tmp_path / f"a.{kind}", packed)
    np.testing.assert_array_equal(load_volume(sound).array, VOXELS)
    refused = 0
    for at in range(len(packed)):
        damaged = bytearray(packed)
        damaged[at] ^= 1 << at % 8
        try:
            array = load_volume(PACKED[kind](tmp_path / f"b.{kind}", bytes(damaged))).array
        except InputError:
            refused += 1
        else:
            np.testing.assert_array_equal(array, VOXELS)
    assert refused >= len(packed) - 10  # gzip's header has bytes that mean nothing: time, system


@pytest.mark.parametrize("stated", [5, 500])
def test_another_number_of_compressed_bytes_than_there_are_is_damage(tmp_path, stated):
    packed = zlib.compress(VOXELS.tobytes())
    good = meta(tmp_path / "a.mha", f"CompressedData = True\nCompressedDataSize = {len(packed)}\n", packed)
    np.testing.assert_array_equal(load_volume(good).array, VOXELS)
    with pytest.raises(InputError, match=rf"a.mha is damaged: its header states {stated} compressed bytes"):
        load_volume(meta(tmp_path / "a.mha", f"CompressedData = True\nCompressedDataSize = {stated}\n", packed))


@pytest.mark.parametrize("make", [nrrd, meta])
def test_voxels_missing_or_left_over_are_an_error(tmp_path, make):
    path = tmp_path / ("a.nrrd" if make is nrrd else "a.mha")
    with pytest.raises(InputError, match=r"states 24 bytes of voxels, 23 are there"):
        load_volume(make(path, data=DATA[:-1]))
    with pytest.raises(InputError, match="holds more voxels than its header states"):
        load_volume(make(path, data=DATA + b"\1\2\3\4"))
    # less than a row: a line end or padding, which no voxel could be
    np.testing.assert_array_equal(load_volume(make(path, data=DATA + b"\n")).array, VOXELS)


# -- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("NDims = 3", "NDims = -1e30", "NDims in its header is '-1e30', not a whole number from 2 to 4"),
        ("NDims = 3", "NDims = 99", "NDims"),
        ("NDims = 3", "NDims = 2", "DimSize in its header has 3 numbers for 2 axes"),
        ("DimSize = 4 3 2", "DimSize = 4 3 -2", "DimSize in its header is '-2'"),
        ("DimSize = 4 3 2", "DimSize = 4 3 0", "DimSize in its header is '0'"),
        ("DimSize = 4 3 2", "DimSize = 40000 30000 20000", "states 24,000,000,000,000 bytes of voxels, 24 are there"),
        ("MET_UCHAR", "MET_OTHER", "ElementType"),
        ("ElementSpacing = 1 1 2", "ElementSpacing = 1 1 nan", "a.mha: .*not a finite"),
        ("ElementSpacing = 1 1 2", "ElementSpacing = 1 1 0", "a.mha: .*zero length"),
        ("ElementSpacing = 1 1 2", "ElementSpacing = 1 1", "ElementSpacing in its header is '1 1', not 3 numbers"),
        ("ObjectType = Image", "ObjectType = Tube", "holds a MetaIO 'Tube'"),
    ],
)
def test_a_wrong_number_in_a_metaimage_is_named(tmp_path, old, new, told):
    with pytest.raises(InputError, match=told):
        load_volume(meta(tmp_path / "a.mha", start=META.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("dimension: 3", "dimension: -3", "dimension in its header is '-3'"),
        ("sizes: 4 3 2", "sizes: 4 3", "sizes in its header has 2 numbers for 3 axes"),
        ("sizes: 4 3 2", "sizes: 1000000000 1000000000 2", "bytes of voxels, 24 are there"),
        ("type: uint8", "type: block", "type in its header is 'block'"),
        ("spacings: 1 1 2", "spacings: 1 1", "spacings in its header has 2 numbers"),
        ("spacings: 1 1 2", "kinds: complex domain domain", "complex"),
        ("spacings: 1 1 2", "space directions: (1,0,0) (0,1,0)", "space directions in its header has 2 entries"),
        ("spacings: 1 1 2", "space directions: (1,0,0) (0,1,0) (0,0,nan)", "not finite"),
    ],
)
def test_a_wrong_number_in_a_nrrd_is_named(tmp_path, old, new, told):
    with pytest.raises(InputError, match=told):
        load_volume(nrrd(tmp_path / "a.nrrd", start=NRRD.replace(old, new)))


def test_a_sentence_in_place_of_numbers_is_not_repeated(tmp_path):
    """Where a line end is damaged, the next field goes on in this one, and may hold the name of a patient."""
    start = NRRD.replace("spacings: 1 1 2", "spacings: 1 1 2\\PatientName:=DOE")
    with pytest.raises(InputError, match="spacings in its header is some text, not numbers") as caught:
        load_volume(nrrd(tmp_path / "a.nrrd", start=start))
    assert "DOE" not in str(caught.value)


def test_a_size_no_compression_reaches_is_refused_before_memory_is_asked_for(tmp_path):
    huge = NRRD.replace("sizes: 4 3 2", "sizes: 40000 30000 20000")
    with pytest.raises(InputError, match=r"states .* MiB of voxels in .* compressed bytes"):
        load_volume(nrrd(tmp_path / "a.nrrd", "encoding: gzip\n", gzip.compress(b"\0" * 99), start=huge))


def test_a_stream_that_goes_on_past_its_header_is_left_after_a_row(tmp_path):
    bomb = gzip.compress(bytes(2**24))
    with pytest.raises(InputError, match="holds more voxels than its header states"):
        load_volume(nrrd(tmp_path / "a.nrrd", "encoding: gzip\n", bomb))


# -- other files ----------------------------------------------------------------------------------------------


def test_a_data_file_is_read_from_the_headers_folder_alone(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "secret.raw"
    inside.mkdir()
    outside.write_bytes(VOXELS.tobytes())
    (inside / "link.raw").symlink_to(outside)
    for name in ("/etc/passwd", str(outside), "../secret.raw", "link.raw", "sub/../../secret.raw"):
        (inside / "a.mhd").write_text(f"{META}ElementDataFile = {name}\n")
        (inside / "a.nhdr").write_text(f"{NRRD}encoding: raw\ndata file: {name}\n")
        (inside / "list.mhd").write_text(f"{META}ElementDataFile = LIST\n{name}\n{name}\n")
        for header in ("a.mhd", "a.nhdr", "list.mhd"):
            with pytest.raises(InputError, match=f"{header} names a data file outside its own folder"):
                load_volume(inside / header)
    (inside / "sub").mkdir()
    (inside / "sub" / "v.raw").write_bytes(VOXELS.tobytes())
    for name in ("sub/v.raw", str(inside / "sub" / "v.raw")):
        (inside / "a.mhd").write_text(f"{META}ElementDataFile = {name}\n")
        np.testing.assert_array_equal(load_volume(inside / "a.mhd").array, VOXELS)
    (inside / "a.mhd").write_text(f"{META}ElementDataFile = gone.raw\n")
    with pytest.raises(InputError, match=r"gone.raw, which is not there"):
        load_volume(inside / "a.mhd")


def test_slices_in_files_of_their_own(tmp_path):
    for number, plane in enumerate(VOXELS, start=1):
        (tmp_path / f"s{number:02d}.raw").write_bytes(plane.tobytes())
    (tmp_path / "a.mhd").write_text(f"{META}ElementDataFile = s%02d.raw 1 2 1\n")
    (tmp_path / "b.mhd").write_text(f"{META}ElementDataFile = LIST\ns01.raw\ns02.raw\n")
    (tmp_path / "a.nhdr").write_text(f"{NRRD}encoding: raw\ndata file: s%02d.raw 1 2 1\n")
    (tmp_path / "b.nhdr").write_text(f"{NRRD}encoding: raw\ndata file: LIST\ns01.raw\ns02.raw\n")
    for name in ("a.mhd", "b.mhd", "a.nhdr", "b.nhdr"):
        np.testing.assert_array_equal(load_volume(tmp_path / name).array, VOXELS)
    for pattern in ("s%02d.raw 1 3 1", "s%s.raw 1 2 1", "s%999999999d.raw 1 2 1", "s%02d.raw 1 99999999 1"):
        (tmp_path / "a.mhd").write_text(f"{META}ElementDataFile = {pattern}\n")
        with pytest.raises(InputError):
            load_volume(tmp_path / "a.mhd")


def test_a_pipe_as_data_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "v.raw")
    (tmp_path / "a.mhd").write_text(f"{META}ElementDataFile = v.raw\n")
    with pytest.raises(InputError, match=r"v.raw is a pipe"):
        load_volume(tmp_path / "a.mhd")


# -- as ITK reads them ----------------------------------------------------------------------------------------

_PLACED = "space directions: (0.5,0,0) (0,0.6,0.1) (0,-0.1,3)\nspace origin: (1,2,3)\n"
_SPACES = ("right-anterior-superior", "RAS", "left-anterior-superior", "left-posterior-superior", "scanner-xyz")


@pytest.mark.parametrize(
    "head",
    [
        *(f"space: {name}\n{_PLACED}" for name in _SPACES),
        "space dimension: 3\n" + _PLACED,
        "spacings: 0.5 0.6 7\naxis mins: 1 2 3\n",
        "spacings: 0.5 0.6 7\naxis mins: 1 2 3\ncenterings: node node node\n",
        "",
    ],
)
def test_nrrd_places_its_voxels_as_itk_does(tmp_path, head):
    start = NRRD.replace("spacings: 1 1 2\n", head)
    same_as_itk(nrrd(tmp_path / "a.nrrd", start=start))


def test_an_axis_from_where_it_begins_to_where_it_ends(tmp_path):
    start = NRRD.replace("spacings: 1 1 2\n", "axis mins: 1 2 3\naxis maxs: 5 8 7\n")
    scan = load_volume(nrrd(tmp_path / "a.nrrd", start=start))
    assert scan.geometry.spacing_mm == (2, 2, 1)
    np.testing.assert_array_equal(scan.geometry.to_mm([0, 0, 0]), [1.5, 3, 4])


@pytest.mark.parametrize(
    "head",
    [
        "TransformMatrix = 0 1 0 0 0 1 1 0 0\nOffset = 1 2 3\n",
        "Rotation = 0 1 0 0 0 1 1 0 0\nPosition = 1 2 3\nElementSize = 5 6 7\n",
        "Orientation = 1 0 0 0 -1 0 0 0 1\nOrigin = 1 2 3\nBinaryData = True\n",
    ],
)
def test_metaimage_places_its_voxels_as_itk_does(tmp_path, head):
    same_as_itk(meta(tmp_path / "a.mha", head))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_itk_writes_is_read_as_itk_reads_it(tmp_path, suffix, dtype, packed):
    image = sitk.GetImageFromArray(VOXELS.astype(dtype))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=packed)
    same_as_itk(tmp_path / f"a{suffix}")


def same_as_itk(path):
    image, scan = sitk.ReadImage(str(path)), load_volume(path)
    np.testing.assert_array_equal(scan.array, sitk.GetArrayFromImage(image))
    affine = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    np.testing.assert_allclose(scan.geometry.affine[:3, :3], affine, atol=1e-12)
    np.testing.assert_allclose(scan.geometry.affine[:3, 3], image.GetOrigin(), atol=1e-12)


def test_voxels_written_as_text_and_big_endian(tmp_path):
    words = " ".join(str(n) for n in VOXELS.ravel()).encode()
    np.testing.assert_array_equal(load_volume(nrrd(tmp_path / "a.nrrd", "encoding: ascii\n", words)).array, VOXELS)
    np.testing.assert_array_equal(load_volume(meta(tmp_path / "a.mha", "BinaryData = False\n", words)).array, VOXELS)
    hexed = VOXELS.tobytes().hex().encode()
    np.testing.assert_array_equal(load_volume(nrrd(tmp_path / "a.nrrd", "encoding: hex\n", hexed)).array, VOXELS)
    for data, told in ((words[:-3], "holds 23 voxels"), (b"x" + words, "not numbers"), (words + b" 300", "25 voxels")):
        with pytest.raises(InputError, match=told):
            load_volume(nrrd(tmp_path / "a.nrrd", "encoding: ascii\n", data))
    wide = NRRD.replace("uint8", "uint16")
    big = nrrd(tmp_path / "a.nrrd", "encoding: raw\nendian: big\n", VOXELS.astype(">u2").tobytes(), start=wide)
    np.testing.assert_array_equal(load_volume(big).array, VOXELS)


def test_voxels_behind_a_header_of_their_own(tmp_path):
    (tmp_path / "v.raw").write_bytes(b"sixteen of theirs" + VOXELS.tobytes())
    for skip in (17, -1):
        (tmp_path / "a.mhd").write_text(f"{META}HeaderSize = {skip}\nElementDataFile = v.raw\n")
        (tmp_path / "a.nhdr").write_text(f"{NRRD}encoding: raw\nbyte skip: {skip}\ndata file: v.raw\n")
        np.testing.assert_array_equal(load_volume(tmp_path / "a.mhd").array, VOXELS)
        np.testing.assert_array_equal(load_volume(tmp_path / "a.nhdr").array, VOXELS)
