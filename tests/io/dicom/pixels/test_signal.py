"""Padding, shutters and collimators: which pixels say nothing, what becomes of them, and the window without them."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_files import dataset, save, slices, write
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from medsam.errors import InputError
from medsam.io.dicom.series import read_dicom
from medsam.transforms.intensity import resolve_window

MR = {"Modality": "MR"}
XRAY = {"Modality": "DX", "ImagePositionPatient": None}


def signal_of(volume):
    """bool (K, J, I): the voxels that say something."""
    plane = volume.geometry.plane("k")
    hidden = [volume.without_signal(plane, k) for k in range(plane.count)]
    return np.array([np.ones(plane.shape, bool) if one is None else ~one for one in hidden])


def padded(dtype, value, rows=20, columns=21):
    """A picture of 200 to 499 with a border of `value`, and where the border is not."""
    inside = np.zeros((rows, columns), bool)
    inside[3:-4, 5:-2] = True
    picture = np.random.default_rng(0).integers(200, 500, (rows, columns))
    return np.where(inside, picture, value).astype(dtype), inside


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(
    ("dtype", "value", "tag"),
    [("uint16", 65535, 65535), ("uint16", 0, 0), ("int16", -2000, -2000), ("int16", 32767, 32767), ("uint8", 150, 150)],
)
def test_padding_is_no_signal_and_dark(tmp_path, syntax, dtype, value, tag):
    picture, inside = padded(dtype, value)
    picture = np.where(inside, picture // 3, value).astype(dtype) if dtype == "uint8" else picture
    volume = read_dicom(write(tmp_path / "a.dcm", picture, syntax=syntax, **MR, PixelPaddingValue=tag))
    np.testing.assert_array_equal(signal_of(volume)[0], inside & (picture != value))
    np.testing.assert_array_equal(volume.array[0][inside], picture[inside])
    lowest = picture[inside].min()
    assert set(np.unique(volume.array[0][~inside])) <= {min(value, lowest)}
    assert bool(volume.notes) == (value > lowest)
    clean = read_dicom(write(tmp_path / "b.dcm", np.where(inside, picture, 0).astype(dtype), **MR))
    if (picture[inside] != value).all():
        assert resolve_window(volume) == resolve_window(clean)


def test_padding_whose_element_has_the_wrong_sign_is_understood(tmp_path):
    picture, inside = padded("int16", -2000)
    ds = dataset(picture, **MR)
    ds.add_new("PixelPaddingValue", "US", 63536)
    np.testing.assert_array_equal(signal_of(read_dicom(save(ds, tmp_path / "a.dcm")))[0], inside)


def test_padding_may_lie_beyond_bits_stored(tmp_path):
    picture, inside = padded("uint16", 63536)
    tags = {"BitsStored": 12, "RescaleSlope": 1, "RescaleIntercept": -1024}
    volume = read_dicom(write(tmp_path / "a.dcm", picture, PixelPaddingValue=63536, **tags))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(signal_of(volume)[0], inside)
    assert set(np.unique(volume.array[0][~inside])) == {int(picture[inside].min()) - 1024}


@pytest.mark.parametrize("ends", [(0, 50), (50, 0)])
def test_a_range_of_padding_counts_from_end_to_end(tmp_path, ends):
    picture = np.array([[0, 25, 50], [51, 60, 65535]], np.uint16)
    tags = {"PixelPaddingValue": ends[0], "PixelPaddingRangeLimit": ends[1]}
    found = signal_of(read_dicom(write(tmp_path / "a.dcm", picture, **MR, **tags)))
    np.testing.assert_array_equal(found[0], picture > 50)


def test_padding_of_a_ct_below_air_keeps_its_value(tmp_path):
    picture, inside = padded("int16", -2000)
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    volume = read_dicom(write(tmp_path / "a.dcm", picture, PixelPaddingValue=-2000, **tags))
    assert volume.notes == ()
    assert set(np.unique(volume.array[0][~inside])) == {-3024}
    np.testing.assert_array_equal(signal_of(volume)[0], inside)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_tissue_that_has_the_number_of_padding_keeps_its_value(tmp_path, modality):
    """0 as padding of numbers that run below it: HU stored as they are, phases of an MR."""
    picture = np.random.default_rng(0).integers(-900, 900, (40, 40))
    picture[10:30, 18:22] = 0
    picture[5, ::2] = picture[0, 7] = 0
    tags = {"Modality": modality, "RescaleSlope": 1, "RescaleIntercept": 0, "PixelPaddingValue": 0}
    volume = read_dicom(write(tmp_path / "a.dcm", picture.astype(np.int16), **tags))
    np.testing.assert_array_equal(volume.array[0], picture)
    assert volume.notes == ()
    # along the edge it is what the tag says
    picture[:, :3] = 0
    volume = read_dicom(write(tmp_path / "b.dcm", picture.astype(np.int16), **tags))
    assert set(np.unique(volume.array[0][:, :3])) == {picture.min()}
    np.testing.assert_array_equal(volume.array[0][:, 3:], picture[:, 3:])
    assert len(volume.notes) == 1


def test_padding_above_the_signal_is_dark_wherever_it_lies(tmp_path):
    picture, _ = padded("uint16", 0)
    picture[10, 10] = 65535
    volume = read_dicom(write(tmp_path / "a.dcm", picture, **MR, PixelPaddingValue=65535))
    assert volume.array[0, 10, 10] == 0


def test_padding_of_an_inverted_radiograph_is_dark(tmp_path):
    picture, inside = padded("uint16", 0)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "PixelPaddingValue": 0}
    volume = read_dicom(write(tmp_path / "a.dcm", picture, **XRAY, **tags))
    np.testing.assert_array_equal(volume.array[0][inside], 4095 - picture[inside].astype(int))
    assert set(np.unique(volume.array[0][~inside])) == {4095 - picture[inside].max()}


def test_padding_of_float_pixels(tmp_path):
    picture, inside = padded("float32", 1e9)
    none = {"BitsStored": None, "HighBit": None, "PixelRepresentation": None}
    tags = {"FloatPixelData": picture.tobytes(), "FloatPixelPaddingValue": 1e9, **none}
    volume = read_dicom(write(tmp_path / "a.dcm", picture, **MR, **tags))
    np.testing.assert_array_equal(signal_of(volume)[0], inside)
    assert volume.array.max() < 500


def test_each_slice_has_its_own_padding_and_one_without_has_that_of_the_others(tmp_path):
    values = [65535, 65535, 65535]
    for k, (value, tag) in enumerate(zip(values, (65535, None, 65535), strict=True)):
        picture, inside = padded("uint16", value)
        write(tmp_path / "a" / f"{k}", picture, ImagePositionPatient=[0, 0, k], PixelPaddingValue=tag, **MR)
    for k, value in enumerate((65535, 1000)):
        picture, inside = padded("uint16", value)
        write(tmp_path / "b" / f"{k}", picture, ImagePositionPatient=[0, 0, k], PixelPaddingValue=value, **MR)
    for folder in "ab":
        volume = read_dicom(tmp_path / folder)
        assert (signal_of(volume) == inside).all()
        assert volume.array.max() < 500


def test_padding_in_a_compressed_image(tmp_path):
    picture, inside = padded("uint16", 4095)
    ds = dataset(picture, BitsStored=12, PixelPaddingValue=4095, **MR)
    ds.compress(JPEGLSLossless)
    np.testing.assert_array_equal(signal_of(read_dicom(save(ds, tmp_path / "a.dcm")))[0], inside)


def test_a_scan_of_padding_alone_is_read_as_it_is(tmp_path):
    volume = read_dicom(write(tmp_path / "a.dcm", np.full((4, 5), 7, np.uint16), PixelPaddingValue=7, **MR))
    assert volume.no_signal is None
    assert "tags are ignored" in volume.notes[0]
    assert (volume.array == 7).all()


def test_a_scan_without_such_tags_has_no_mask(tmp_path):
    volume = read_dicom(write(tmp_path / "a.dcm", slices(1)[0]))
    assert volume.no_signal is None
    assert volume.notes == ()


# -- shutters ------------------------------------------------------------------------------------------------------


def rectangle(kind):
    edges = {"LeftVertical": 2, "RightVertical": 5, "UpperHorizontal": 3, "LowerHorizontal": 8}
    return {f"{kind}Shape": "RECTANGULAR"} | {f"{kind}{name}Edge": place for name, place in edges.items()}


def circle(kind):
    return {f"{kind}Shape": "CIRCULAR", f"CenterOfCircular{kind}": [5, 4], f"RadiusOfCircular{kind}": 2}


def polygon(kind):
    return {f"{kind}Shape": "POLYGONAL", f"VerticesOfThePolygonal{kind}": [3, 2, 3, 5, 8, 5, 8, 2]}


def seen_through(shape):
    seen = np.zeros((10, 7), bool)
    if shape is circle:
        seen[2, 3] = seen[6, 3] = True
        seen[3:6, 2:5] = True
        seen[4, 1:6] = True
    else:
        seen[2:8, 1:5] = True
    return seen


@pytest.mark.parametrize("shape", [rectangle, circle, polygon])
@pytest.mark.parametrize("kind", ["Shutter", "Collimator"])
def test_what_lies_behind_a_shutter_or_collimator_is_no_signal(tmp_path, kind, shape):
    seen = seen_through(shape)
    picture = np.where(seen, 100, 4000).astype(np.uint16)
    picture[4, 3] = 90
    volume = read_dicom(write(tmp_path / "a.dcm", picture, PixelSpacing=[1, 1], **XRAY, **shape(kind)))
    np.testing.assert_array_equal(signal_of(volume)[0], seen)
    # the dark of a shutter is made, that of a collimator was measured
    assert set(np.unique(volume.array[0][~seen])) == ({90} if kind == "Shutter" else {4000})
    assert resolve_window(volume).high == 100


def test_a_pixel_is_seen_inside_all_shapes(tmp_path):
    tags = rectangle("Shutter") | circle("Shutter") | {"ShutterShape": ["RECTANGULAR", "CIRCULAR"]}
    volume = read_dicom(write(tmp_path / "a.dcm", np.ones((10, 7), np.uint16), PixelSpacing=[1, 1], **XRAY, **tags))
    np.testing.assert_array_equal(signal_of(volume)[0], seen_through(rectangle) & seen_through(circle))


def test_a_circle_is_round_in_millimetres(tmp_path):
    tags = circle("Shutter") | {"RadiusOfCircularShutter": 3}
    volume = read_dicom(write(tmp_path / "a.dcm", np.ones((10, 7), np.uint16), PixelSpacing=[3, 1], **XRAY, **tags))
    found = signal_of(volume)[0]
    assert found[:, 3].sum() == 3
    assert found[4].sum() == 7


def test_colour_behind_a_shutter_is_black(tmp_path):
    picture = np.full((10, 7, 3), 200, np.uint8)
    picture[4, 3] = 0
    volume = read_dicom(write(tmp_path / "a.dcm", picture, **XRAY | {"Modality": "US"}, **rectangle("Shutter")))
    seen = seen_through(rectangle)
    np.testing.assert_array_equal(signal_of(volume)[0], seen)
    assert (volume.array[0][~seen] == 0).all()


def test_every_frame_has_its_own_shutter(tmp_path):
    ds = dataset(np.full((2, 10, 7), 5, np.uint16), **XRAY, PixelSpacing=[1, 1])
    ds.PerFrameFunctionalGroupsSequence = [Dataset(), Dataset()]
    for group, shape in zip(ds.PerFrameFunctionalGroupsSequence, (rectangle, circle), strict=True):
        item = Dataset()
        for keyword, value in shape("Shutter").items():
            setattr(item, keyword, value)
        group.FrameDisplayShutterSequence = [item]
    found = signal_of(read_dicom(save(ds, tmp_path / "a.dcm")))
    np.testing.assert_array_equal(found, [seen_through(rectangle), seen_through(circle)])


def test_a_shutter_without_edges_hides_nothing_and_a_wrong_one_is_an_error(tmp_path):
    picture = np.ones((10, 7), np.uint16)
    assert read_dicom(write(tmp_path / "a.dcm", picture, **XRAY, ShutterShape="RECTANGULAR")).no_signal is None
    tags = polygon("Shutter") | {"VerticesOfThePolygonalShutter": [1, 1, 2]}
    with pytest.raises(InputError, match=r"\(0018,1620\) Vertices of the Polygonal Shutter"):
        read_dicom(write(tmp_path / "b.dcm", picture, **XRAY, **tags))
