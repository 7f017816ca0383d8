import struct
import zipfile
import zlib

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


def claiming(path, side):
    """A PNG of one pixel whose header claims `side` x `side`."""
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(data))
    return path


def test_a_picture_of_a_billion_pixels_is_refused_before_it_fills_memory(tmp_path):
    path = claiming(tmp_path / "slide.png", 40000)
    with pytest.raises(InputError, match="too large for a picture"):
        load_volume(path)


def test_a_picture_that_pillow_warned_of_before_is_refused_too(tmp_path):
    path = claiming(tmp_path / "slide.png", 10000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(path).close()
    for _ in range(2):
        with pytest.raises(InputError, match=r"too large for a picture \(10000 x 10000 pixels"):
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


# -- damaged and hostile --------------------------------------------------------------------------------------


def changed_silently(path, sound, step=1):
    """Places of one changed bit after which other pixels, or another grid, are read without a word."""
    content, right, found = path.read_bytes(), load_volume(path), []
    for at in range(0, len(content), step):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            scan = load_volume(path)
        except InputError:
            continue
        if scan != right:
            found.append(at)
    path.write_bytes(content)
    return [at for at in found if sound(at)]


@pytest.mark.parametrize("how", [{}, {"interlaced": True}])
def test_every_changed_bit_of_a_png_is_an_error_or_changes_nothing(tmp_path, how):
    path = tmp_path / "a.png"
    if how:
        path.write_bytes(interlaced(np.arange(63, dtype=np.uint8).reshape(7, 9)))
    else:
        Image.fromarray(np.arange(63, dtype=np.uint8).reshape(7, 9)).save(path)
    assert load_volume(path).array[0, 6, 8] == 62
    assert changed_silently(path, lambda at: True) == []


def interlaced(pixels):
    """An Adam7 PNG, which Pillow reads and does not write."""
    rows = b""
    for x, y, down, across in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 8, 4),
        (2, 0, 4, 4),
        (0, 2, 4, 2),
        (1, 0, 2, 2),
        (0, 1, 2, 1),
    ):
        part = pixels[y::down, x::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    height, width = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("change", ["checksum", "short", "long"])
def test_the_pixels_of_a_png_are_read_to_their_end(tmp_path, change):
    rows = b"".join(b"\0" + bytes([n] * 9) for n in range(7))
    rows = rows[:-1] if change == "short" else rows + b"\0" * 50 if change == "long" else rows
    packed = zlib.compress(rows)
    packed = packed[:-1] + bytes([packed[-1] ^ 1]) if change == "checksum" else packed
    head = struct.pack(">IIBBBBB", 9, 7, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", packed), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    with pytest.raises(InputError, match=r"a.png cannot be read as a picture: its pixels"):
        load_volume(tmp_path / "a.png")


def tiff(
    path, pages, bits=8, photometric=1, order="<", compression=1, sample_format=1, share=False, rows_per_strip=None
):
    """An uncompressed or deflated grey TIFF; share: all pages have the strips of the first."""
    strips, where = b"", []
    for page in pages:
        rows = [row.tobytes() for row in page]
        step = rows_per_strip or len(rows)
        packed = [b"".join(rows[n : n + step]) for n in range(0, len(rows), step)]
        packed = [zlib.compress(one) for one in packed] if compression == 8 else packed
        if share and where:
            where.append(where[0])
            continue
        at = 8 + len(strips)
        where.append((np.cumsum([at, *map(len, packed[:-1])]).tolist(), [len(one) for one in packed]))
        strips += b"".join(packed)
    content = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(strips)) + strips
    for number, (page, (offsets, counts)) in enumerate(zip(pages, where, strict=True)):
        width = page.shape[1] * page.itemsize * 8 // bits
        tags = [(256, [width]), (257, [len(page)]), (258, [bits]), (259, [compression]), (262, [photometric])]
        tags += [
            (273, offsets),
            (277, [1]),
            (278, [rows_per_strip or len(page)]),
            (279, counts),
            (339, [sample_format]),
        ]
        end = len(content) + 2 + 12 * len(tags) + 4
        extra, entries = b"", b""
        for tag, values in tags:
            data = struct.pack(f"{order}{len(values)}I", *values)
            place = data if len(values) == 1 else struct.pack(f"{order}I", end + len(extra))
            extra += data if len(values) > 1 else b""
            entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + place
        following = 0 if number == len(pages) - 1 else end + len(extra)
        content += struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", following) + extra
    path.write_bytes(content)
    return path


def test_every_changed_bit_of_deflated_pixels_in_a_tiff_is_an_error_or_changes_nothing(tmp_path):
    page = np.random.default_rng(0).integers(0, 255, (6, 8), dtype=np.uint8)
    path = tiff(tmp_path / "a.tif", [page], compression=8, rows_per_strip=2)
    np.testing.assert_array_equal(load_volume(path).array[0], page)
    directory = int.from_bytes(path.read_bytes()[4:8], "little")
    assert changed_silently(path, lambda at: 8 <= at < directory) == []


def test_pages_that_share_their_pixels_are_counted(tmp_path):
    page = np.zeros((100, 100), np.uint8)
    np.testing.assert_array_equal(load_volume(tiff(tmp_path / "a.tif", [page] * 3)).array, np.zeros((3, 100, 100)))
    with pytest.raises(InputError, match="pages that share their pixels"):
        load_volume(tiff(tmp_path / "a.tif", [page] * 30, share=True))


def test_strips_that_are_missing_or_short(tmp_path):
    page = np.ones((6, 8), np.uint8)
    content = tiff(tmp_path / "a.tif", [page], rows_per_strip=2).read_bytes()
    assert load_volume(tmp_path / "a.tif").array.all()
    for old, new, told in (
        (struct.pack("<HHI", 273, 4, 3), struct.pack("<HHI", 273, 4, 2), "2 strips or tiles of 3"),
        (struct.pack("<3I", 16, 16, 16), struct.pack("<3I", 16, 16, 8), "cut short"),
        (struct.pack("<HHII", 257, 4, 1, 6), struct.pack("<HHII", 257, 4, 1, 60), "strips or tiles of 30"),
    ):
        assert old in content
        (tmp_path / "a.tif").write_bytes(content.replace(old, new))
        with pytest.raises(InputError, match=told):
            load_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("bits", "kind", "top", "order", "compression"),
    [
        *(
            (bits, kind, top, order, packed)
            for bits, kind, top in [(8, "u1", 255), (16, "u2", 65535), (1, "u1", 1), (4, "u1", 15)]
            for order in "<>"
            for packed in (1, 8)
        ),
        (32, "u4", 2**32 - 1, "<", 1),
    ],
)
def test_where_zero_is_white_the_picture_is_turned(tmp_path, bits, kind, top, order, compression):
    page = np.array([[0, 7, 200, 100], [1, 2, 3, 255]]).astype(f"{order}{kind}")
    dark, light = (
        load_volume(tiff(tmp_path / f"{photometric}.tif", [page, page], bits, photometric, order, compression)).array
        for photometric in (1, 0)
    )
    scale = 255 if bits == 4 else top  # Pillow spreads four bits over eight
    np.testing.assert_array_equal(light.astype(np.int64), scale - dark.astype(np.int64))
    if bits >= 8:
        np.testing.assert_array_equal(dark[1], page)


def test_where_zero_is_white_among_fractions_nothing_is_guessed(tmp_path):
    page = np.array([[0.0, 1.0], [0.5, 0.25]], "<f4")
    np.testing.assert_array_equal(load_volume(tiff(tmp_path / "a.tif", [page], 32, 1, sample_format=3)).array[0], page)
    with pytest.raises(InputError, match="says that 0 is white"):
        load_volume(tiff(tmp_path / "a.tif", [page], 32, 0, sample_format=3))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_what_is_no_picture_of_ours_meets_none_of_pillows_other_readers(tmp_path, suffix, monkeypatch):
    import PIL.EpsImagePlugin

    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("an interpreter was started"))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        load_volume(path)
    Image.new("L", (4, 3)).save(path, format="PPM")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        load_volume(path)


def rezipped(path, name, data, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, data)
    return path


@pytest.mark.parametrize("packed", [np.savez, np.savez_compressed])
def test_every_changed_bit_of_an_npz_is_an_error_or_changes_nothing(tmp_path, packed):
    packed(tmp_path / "a.npz", imgs=np.arange(24, dtype=np.int16).reshape(2, 3, 4), spacing=np.array([1.0, 2.0, 3.0]))
    assert changed_silently(tmp_path / "a.npz", lambda at: True, step=3) == []


@pytest.mark.parametrize("shape", ["(10**9, 10**6)", "(100000000, 100000000)", "(2, 3, 5)", "(2, 3, 3)", "(-1,)"])
def test_the_shape_of_an_array_is_held_against_its_bytes(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + bytes(24)
    with pytest.raises(InputError, match=r"a.npz cannot be read as .npz"):
        load_volume(rezipped(tmp_path / "a.npz", "imgs.npy", content))


def test_records_and_places_that_are_no_numbers(tmp_path):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((2, 3), [("a", "u1"), ("b", "u1")]))
    with pytest.raises(InputError, match="`imgs` in a.npz holds"):
        load_volume(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", imgs=np.zeros((2, 3, 4)), spacing=np.array(["a", "b", "c"]))
    with pytest.raises(InputError, match="`spacing` in a.npz holds"):
        load_volume(tmp_path / "a.npz")
