"""Masks of one structure are told by their colours; label maps keep their numbers; the rest is an error."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsam.geometry import VolumeGeometry
from medsam.io.label_map import UnknownLabel
from medsam.io.label_picture import read_label_picture
from medsam.io.labels import load_labels, read_mask, structures_in

Y, X = np.mgrid[:48, :64]
INSIDE = ((X - 26) ** 2 / 18**2 + (Y - 24) ** 2 / 14**2) < 1
SMALL = (X > 50) & (X < 60) & (Y > 6) & (Y < 40)  # a second structure
GRID = VolumeGeometry.uncalibrated((1, 48, 64))
U8 = np.uint8


def grey(inside: int, outside: int = 0, dtype: type = U8) -> Image.Image:
    return Image.fromarray(np.where(INSIDE, inside, outside).astype(dtype))


def colour(inside: tuple[int, ...], outside: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.where(INSIDE[..., None], U8(inside), U8(outside)))


def palette(indices: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(indices.astype(U8), "L").convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours)
    return image


def jpeg(image: Image.Image, quality: int = 75) -> Image.Image:
    """What is left of a picture once it was a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
MASKS: dict[str, tuple[Image.Image, str, float]] = {
    "0 and 255": (grey(255), "png", 127),
    "0 and 128": (grey(128), "png", 64),
    "sixteen bits": (grey(65535, dtype=np.uint16), "png", 32767.5),
    "one bit": (Image.fromarray(INSIDE), "png", 127),
    "one bit, TIFF": (Image.fromarray(INSIDE), "tif", 127),
    "GIF": (grey(255), "gif", 127),
    "one bit, BMP": (Image.fromarray(INSIDE), "bmp", 127),
    "three equal channels": (colour((255, 255, 255), (0, 0, 0)), "png", 127),
    "red on black": (colour((255, 0, 0), (0, 0, 0)), "png", 127),
    "dark red on black": (colour((64, 0, 0), (0, 0, 0)), "png", 32),
    "white second in the palette": (palette(INSIDE, [0, 0, 0, 255, 255, 255]), "png", 127),
    "white first in the palette": (palette(~INSIDE, [255, 255, 255, 0, 0, 0]), "png", 127),
    "red second in the palette": (palette(INSIDE, [0, 0, 0, 255, 0, 0]), "bmp", 127),
    "red first in the palette": (palette(~INSIDE, [255, 0, 0, 0, 0, 0]), "png", 127),
    "one colour of a palette of four": (palette(INSIDE * 3, VOC), "png", 64),
    "white in the alpha channel": (colour((255, 255, 255, 255), (255, 255, 255, 0)), "png", 127),
    "black in the alpha channel": (colour((0, 0, 0, 255), (0, 0, 0, 0)), "png", 127),
    "red over nothing": (colour((255, 0, 0, 255), (0, 0, 0, 0)), "png", 127),
    "red, half transparent": (colour((255, 0, 0, 128), (255, 0, 0, 0)), "png", 64),
    "red on opaque black": (colour((255, 0, 0, 255), (0, 0, 0, 255)), "png", 127),
    "grey and alpha": (Image.merge("LA", [grey(255, 255), grey(255)]), "png", 127),
    "grey and constant alpha": (Image.merge("LA", [grey(255), grey(255, 255)]), "png", 127),
    "nearly 0 and nearly 255": (grey(252, 3), "png", 127),
}
LOSSY = {
    f"JPEG {quality}, {name}, {suffix}": (jpeg(image, quality), suffix, level)
    for quality in (60, 95)
    for name, image, level in (("grey", grey(255), 127), ("red", colour((255, 0, 0), (0, 0, 0)), 127))
    for suffix in ("jpg", "png", "tif")
}


LOSSY["smoothed"] = (grey(255).resize((32, 24)).resize((64, 48), Image.Resampling.BILINEAR), "png", 127)


@pytest.mark.parametrize(("image", "suffix", "threshold"), MASKS.values(), ids=list(MASKS))
def test_a_mask_of_one_structure_is_told_by_its_colours(tmp_path, image, suffix, threshold):
    path = tmp_path / f"a.{suffix}"
    image.save(path)
    assert read_label_picture(path).threshold == threshold
    # whoever reads it, and with the threshold or without, reads the same
    read = [
        load_labels(path, GRID)["mask"],
        load_labels(path, GRID, {"lesion": 7}, threshold=threshold)["lesion"],
        read_mask(path, GRID),
        read_mask(path, GRID, threshold=threshold),
    ]
    for mask in read:
        np.testing.assert_array_equal(mask, read[0])
    assert structures_in(path) == {"mask"}
    np.testing.assert_array_equal(read[0][0], INSIDE)


@pytest.mark.parametrize(("image", "suffix", "threshold"), LOSSY.values(), ids=list(LOSSY))
def test_the_smear_of_jpeg_makes_no_label_map_of_a_mask(tmp_path, image, suffix, threshold):
    path = tmp_path / f"a.{suffix}"
    image.save(path) if suffix != "jpg" else image.save(path, quality=90)
    assert len(np.unique(np.asarray(image))) > 4
    assert read_label_picture(path).threshold == threshold
    assert np.count_nonzero(read_mask(path, GRID)[0] != INSIDE) <= 0.06 * INSIDE.sum()


@pytest.mark.parametrize("quality", [60, 75, 90])
@pytest.mark.parametrize("painted", [(128, 0, 0), (0, 128, 0), (0, 0, 128), (200, 60, 60), (60, 20, 20)])
def test_a_jpeg_mask_of_any_colour_is_cut_halfway_to_its_own_brightness(tmp_path, painted, quality):
    """Edges of a JPEG are brighter than what they bound: the brightest pixel is not the brightness of the mask."""
    colour(painted, (0, 0, 0)).resize((128, 96), Image.Resampling.NEAREST).save(tmp_path / "a.jpg", quality=quality)
    found = read_label_picture(tmp_path / "a.jpg")
    assert found.threshold == 127 if max(painted) == 200 else abs(found.threshold - max(painted) / 2) < 4
    inside = INSIDE.repeat(2, 0).repeat(2, 1)
    mask = load_labels(tmp_path / "a.jpg", VolumeGeometry.uncalibrated((1, 96, 128)))["mask"][0]
    assert np.count_nonzero(mask != inside) <= 0.05 * inside.sum()


def test_a_dim_jpeg_is_no_mask_but_the_threshold_told_fits_it(tmp_path):
    grey(2).save(tmp_path / "a.jpg", quality=95)
    with pytest.raises(UnknownLabel, match=r'state "threshold": 1 '):
        load_labels(tmp_path / "a.jpg", GRID)


def test_a_palette_of_black_and_another_colour_has_black_as_its_background_in_either_order(tmp_path):
    palette(~INSIDE, [255, 255, 255, 0, 0, 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_labels(tmp_path / "a.png", GRID, {"lesion": 1})["lesion"][0], INSIDE)


NUMBERS = {
    "small numbers": (INSIDE * 1 + SMALL * 2, None),
    "one small number": (INSIDE * 1, None),
    "three levels": (INSIDE * 128 + SMALL * 255, None),
    "two bright levels": (INSIDE * 200 + SMALL * 255, None),
    "small numbers and an ignored one": (INSIDE * 1 + SMALL * 255, None),
    "many numbers": (np.where(INSIDE, Y // 8 * 10 + X // 16, 0), None),
    "more numbers than hands draw": (X // 4 + 16 * (Y // 4), None),
    "a palette of four": (INSIDE * 1 + SMALL * 2, VOC),
    "a palette of greys": (INSIDE * 1 + SMALL * 2, [0, 0, 0, 128, 128, 128, 255, 255, 255]),
}


@pytest.mark.parametrize(("numbers", "colours"), NUMBERS.values(), ids=list(NUMBERS))
def test_a_label_map_keeps_its_numbers(tmp_path, numbers, colours):
    path = tmp_path / "a.png"
    (Image.fromarray(numbers.astype(U8)) if colours is None else palette(numbers, colours)).save(path)
    drawn = read_label_picture(path)
    assert (drawn.threshold, drawn.unreadable) == (None, None)
    np.testing.assert_array_equal(drawn.numbers[0], numbers)
    assert structures_in(path) == {str(value) for value in np.unique(numbers) if value}


NEITHER = {
    "two hues": (Image.fromarray(INSIDE[..., None] * U8([255, 0, 0]) + SMALL[..., None] * U8([0, 255, 0])), "png"),
    "two hues in a JPEG": (
        Image.fromarray(INSIDE[..., None] * U8([255, 0, 0]) + SMALL[..., None] * U8([0, 0, 255])),
        "jpg",
    ),
    "three levels in a JPEG": (Image.fromarray((INSIDE * 128 + SMALL * 255).astype(U8)), "jpg"),
    "red on white": (colour((255, 0, 0), (255, 255, 255)), "png"),
    "a photograph": (
        Image.fromarray(np.random.default_rng(0).normal(120, 40, (48, 64)).clip(0, 255).astype(U8)),
        "png",
    ),
}


@pytest.mark.parametrize(("image", "suffix"), NEITHER.values(), ids=list(NEITHER))
def test_what_is_neither_is_refused_with_what_to_do(tmp_path, image, suffix):
    path = tmp_path / f"a.{suffix}"
    image.save(path)
    for read in (lambda: load_labels(path, GRID), lambda: read_mask(path, GRID), lambda: structures_in(path)):
        with pytest.raises(UnknownLabel, match=rf'a\.{suffix} (is|holds) .* state "threshold": \d+'):
            read()
    assert load_labels(path, GRID, {"x": 1}, threshold=127)["x"].any()


@pytest.mark.parametrize(
    "image", [grey(0), Image.fromarray(INSIDE & False), colour((255, 255, 255, 0), (255, 255, 255, 0))]
)
def test_nothing_drawn_is_an_empty_mask(tmp_path, image):
    image.save(tmp_path / "a.png")
    assert not read_mask(tmp_path / "a.png", GRID).any()


def test_a_jpeg_mask_read_by_number_says_which_threshold(tmp_path):
    grey(255).save(tmp_path / "a.jpg")
    with pytest.raises(UnknownLabel, match='It looks like a binary mask: state "threshold": 127'):
        load_labels(tmp_path / "a.jpg", GRID, {"polyp": 1})


def test_where_0_is_white_the_mask_is_what_a_viewer_shows_white(tmp_path):
    """16 bits, Photometric Interpretation 0: Pillow turns only samples of up to 8."""
    grey(0, 65535, np.uint16).save(tmp_path / "a.tif", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif", GRID)[0], INSIDE)


def test_pages_of_a_tiff_are_slices(tmp_path):
    grey(255).save(tmp_path / "a.tif", save_all=True, append_images=[grey(0), grey(255)])
    mask = read_mask(tmp_path / "a.tif", VolumeGeometry.uncalibrated((3, 48, 64)))
    assert mask.sum(axis=(1, 2)).tolist() == [INSIDE.sum(), 0, INSIDE.sum()]


def test_real_masks_of_every_set_are_masks(data):
    folders: list[Path] = sorted(data.glob("*/masks")) + sorted(data.glob("*/*/masks"))
    for path in (path for folder in folders for path in sorted(folder.glob("*.[pj]*"))[:2]):
        assert read_label_picture(path).threshold == 127, path
