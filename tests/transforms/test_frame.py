import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.geometry import View
from medsam.transforms.frame import Frame
from medsam.transforms.preprocess import Preprocess

LITE = Preprocess(256, "pad", "minmax", "bilinear")
SAM = Preprocess(1024, "pad", "standardise", "bilinear", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
MEDSAM = Preprocess(1024, "stretch", "minmax", "bicubic")

views = st.builds(View, st.booleans(), st.booleans(), st.booleans())


def frame(stored, preprocess=LITE, view=None, spacing=(1.0, 1.0)):
    return Frame(stored, spacing, view or View(), preprocess)


@pytest.mark.parametrize(
    ("stored", "spacing", "resized"),
    [
        ((512, 512), (0.8, 0.8), (256, 256)),
        ((400, 512), (1, 1), (200, 256)),
        ((300, 100), (1, 1), (256, 85)),
        ((60, 512), (5.0, 0.8), (188, 256)),  # 300 mm by 409.6 mm
        ((1, 4000), (1, 1), (1, 256)),
    ],
)
def test_the_long_side_in_millimetres_fills_the_input(stored, spacing, resized):
    assert frame(stored, spacing=spacing).resized == resized


def test_medsam_stretches_both_sides():
    assert frame((400, 512), MEDSAM).resized == (1024, 1024)


def test_shrinking_weighs_the_neighbourhood_so_that_nothing_aliases():
    # two to one: a triangle two pixels wide on each side, 1 3 3 1 over 8; at the border only what is there
    stripes = torch.tensor([[0.0, 8, 0, 8, 0, 8, 0, 8]]).expand(8, 8)
    small = frame((8, 8), Preprocess(4, "pad", "standardise", "bilinear")).image(stripes[None])
    np.testing.assert_allclose(small[0, 1, 1:3], [4, 4], atol=1e-5)


def test_growing_is_linear_between_pixel_centres():
    large = frame((2, 2), Preprocess(4, "pad", "standardise", "bilinear")).image(torch.tensor([[[0.0, 8], [0, 8]]]))
    np.testing.assert_allclose(large[0, 0], [0, 2, 6, 8], atol=1e-6)


def test_intensities_are_scaled_before_padding_so_padding_is_zero():
    pixels = torch.full((1, 10, 20), 100.0)
    pixels[0, 0, 0] = 50
    image = frame((10, 20)).image(pixels)
    assert image.shape == (3, 256, 256)
    assert image.amax() == 1
    assert (image[:, 128:] == 0).all()
    standard = frame((10, 20), SAM).image(torch.full((1, 10, 20), 123.675))
    assert standard[0, :512].abs().max() < 1e-5
    assert (standard[:, 512:] == 0).all()


@pytest.mark.parametrize("preprocess", [LITE, MEDSAM])
def test_a_constant_slice_is_zero_not_a_division_by_zero(preprocess):
    assert frame((9, 9), preprocess).image(torch.full((1, 9, 9), 7.0)).abs().max() < 0.01


def test_colour_keeps_its_channels_and_one_scale():
    pixels = torch.stack([torch.full((8, 8), value) for value in (0.0, 100, 200)])
    image = frame((8, 8)).image(pixels)
    assert image[:, 0, 0].tolist() == [0, 0.5, 1]


@settings(max_examples=60, deadline=None)
@given(
    view=views,
    rows=st.integers(4, 40),
    columns=st.integers(4, 40),
    spacing=st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)),
    data=st.data(),
)
def test_a_box_lies_round_its_pixels_in_the_model_image_and_comes_back(view, rows, columns, spacing, data):
    y, x = data.draw(st.integers(0, rows - 2)), data.draw(st.integers(0, columns - 2))
    box = np.array([[x, y, x + 2, y + 2]])
    pixels = np.zeros((rows, columns), np.float32)
    pixels[y : y + 2, x : x + 2] = 255
    place = frame((rows, columns), view=view, spacing=spacing)
    image = place.image(torch.from_numpy(pixels)[None])[0]
    x0, y0, x1, y1 = place.boxes(box)[0]
    bright_y, bright_x = np.nonzero(image.numpy() > 0.5)
    assert bright_x.min() == pytest.approx(x0, abs=1.01)
    assert bright_x.max() + 1 == pytest.approx(x1, abs=1.01)
    assert bright_y.min() == pytest.approx(y0, abs=1.01)
    assert bright_y.max() + 1 == pytest.approx(y1, abs=1.01)
    restored = place.restore(image[None] - 0.5)[0].numpy() > 0
    np.testing.assert_array_equal(restored, pixels > 0)


@given(view=views, rows=st.integers(1, 50), columns=st.integers(1, 50), data=st.data())
def test_a_point_is_the_centre_of_its_pixel(view, rows, columns, data):
    x, y = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    place = frame((rows, columns), view=view)
    centre = place.boxes(np.array([[x, y, x + 1, y + 1]]))[0].reshape(2, 2).mean(axis=0)
    np.testing.assert_allclose(place.points(np.array([x, y])) + 0.5, centre, atol=1e-3)


@pytest.mark.parametrize("preprocess", [LITE, MEDSAM, SAM])
def test_restored_logits_have_the_stored_shape(preprocess):
    place = frame((33, 47), preprocess, View(True, True, False))
    assert place.restore(torch.zeros(2, 3, 256, 256)).shape == (2, 3, 33, 47)
