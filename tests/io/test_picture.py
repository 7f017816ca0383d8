import numpy as np
import pytest
from PIL import Image

from medsam.errors import InputError
from medsam.io.load import load_volume
from medsam.io.save import save_labels
from medsam.volume import LabelVolume


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_grey_picture_is_one_slice_without_millimetres(tmp_path, suffix):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    scan = load_volume(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(scan.array, pixels[None])
    assert not scan.geometry.calibrated


def test_sixteen_bits_stay_sixteen_bits(tmp_path):
    pixels = np.array([[0, 65535], [1000, 300]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.png").array[0], pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colour_pictures_have_three_channels(tmp_path, mode):
    image = Image.new("RGB", (4, 3), (250, 20, 30)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    scan = load_volume(path)
    assert scan.array.shape == (1, 3, 4, 3)
    assert np.abs(scan.array[0, 0, 0].astype(int) - [250, 20, 30]).max() <= 25


def test_grey_with_transparency_and_black_and_white(tmp_path):
    Image.new("LA", (4, 3), (90, 128)).save(tmp_path / "la.png")
    assert (load_volume(tmp_path / "la.png").array == 90).all()
    Image.new("1", (4, 3), 1).save(tmp_path / "bw.png")
    assert load_volume(tmp_path / "bw.png").array.max() == 1


def test_a_multi_page_tiff_is_a_stack(tmp_path):
    pages = [Image.fromarray(np.full((3, 4), n, np.uint8)) for n in range(5)]
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:])
    assert load_volume(tmp_path / "s.tif").array[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    pages.append(Image.fromarray(np.zeros((7, 7), np.uint8)))
    pages[0].save(tmp_path / "u.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="6 pages of different sizes"):
        load_volume(tmp_path / "u.tif")


def test_an_exif_rotation_does_not_move_stored_pixels(tmp_path):
    image = Image.fromarray(np.zeros((3, 4), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "r.jpg", exif=exif)
    assert load_volume(tmp_path / "r.jpg").array.shape == (1, 3, 4)


@pytest.mark.parametrize("keep", [4, 40])
def test_a_damaged_picture(tmp_path, keep):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a.png cannot be read as a picture"):
        load_volume(path)


def test_a_picture_of_a_billion_pixels_is_refused_before_it_fills_memory(tmp_path):
    path = tmp_path / "slide.png"
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    import zlib

    data[16:24] = (40000).to_bytes(4, "big") + (40000).to_bytes(4, "big")
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="too large for a picture"):
        load_volume(path)


def test_npz_with_and_without_millimetres(tmp_path):
    imgs = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", imgs=imgs, spacing=[0.5, 0.6, 5.0], origin=[1.0, 2, 3], direction=np.eye(3).ravel())
    scan = load_volume(tmp_path / "a.npz")
    np.testing.assert_array_equal(scan.array, imgs)
    assert scan.geometry.spacing_mm == pytest.approx((5, 0.6, 0.5))
    assert scan.geometry.to_mm([0, 0, 0]).tolist() == [1, 2, 3]
    np.savez(tmp_path / "b.npz", imgs=imgs)
    assert not load_volume(tmp_path / "b.npz").geometry.calibrated
    np.savez(tmp_path / "c.npz", imgs=np.zeros((5, 6, 3), np.uint8))
    assert load_volume(tmp_path / "c.npz").array.shape == (1, 5, 6, 3)
    np.savez(tmp_path / "d.npz", imgs=imgs[0])
    assert load_volume(tmp_path / "d.npz").array.shape == (1, 3, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.zeros(3)}, "no array `imgs`, only image"),
        ({"imgs": np.array(["a"])}, "not numbers"),
        ({"imgs": np.zeros((2, 2, 2, 2, 2))}, "expected \\(K, J, I\\)"),
        ({"imgs": np.array([{"a": 1}], dtype=object)}, "cannot be read as .npz"),
        ({"imgs": np.zeros((2, 2, 2)), "spacing": np.ones(2)}, "`spacing` in a.npz has 2 numbers; expected 3"),
        ({"imgs": np.zeros((2, 2, 2)), "spacing": np.zeros(3)}, "a.npz: .*zero length"),
        ({"imgs": np.zeros((0, 2, 2))}, "a.npz: The scan has no voxels"),
    ],
)
def test_a_wrong_npz_says_what_is_wrong(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_volume(tmp_path / "a.npz")


def test_a_truncated_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, imgs=np.zeros((9, 9, 9)))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"cannot be read as .npz"):
        load_volume(path)


def test_a_mask_of_a_picture_is_a_picture_of_label_ids(tmp_path):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    scan = load_volume(tmp_path / "a.png")
    labels = LabelVolume(np.arange(12).reshape(1, 3, 4), scan.geometry, {1: "lesion"})
    path = save_labels(labels, tmp_path / "mask.png", tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), labels.array[0])
    many = LabelVolume(np.full((1, 3, 4), 300), scan.geometry, {300: "cell"})
    np.testing.assert_array_equal(np.asarray(Image.open(save_labels(many, path))), many.array[0])


def test_a_frame_of_what_has_no_frames_is_refused(tmp_path):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no frame 7"):
        load_volume(tmp_path / "a.png", frame=7)


def test_an_array_saved_under_the_wrong_suffix(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((3, 4)))
    with pytest.raises(InputError, match="cannot be read as .npz"):
        load_volume(tmp_path / "a.npz")


def test_a_cameras_thumbnail_is_not_a_page(tmp_path):
    photo, thumbnail = Image.new("RGB", (40, 30), (200, 10, 10)), Image.new("RGB", (8, 6))
    photo.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[thumbnail])
    assert load_volume(tmp_path / "a.jpg").array.shape == (1, 30, 40, 3)
