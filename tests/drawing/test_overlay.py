"""Masks, boxes and clicks over a slice, pixel by pixel."""

from __future__ import annotations

import numpy as np

from medsam.drawing.colours import PREDICTION, REFERENCE, rgb
from medsam.drawing.overlay import Outline, draw_overlay, paint, render


def test_an_overlay_shows_the_structure_in_its_surroundings_with_both_outlines():
    image = np.full((100, 100), 50, np.uint8)
    reference = np.zeros((100, 100), bool)
    reference[30:70, 30:70] = True
    # 40 pixels and a margin of 8 on each side: 56 pixels become 224, four for one; the reference begins at 32
    picture = draw_overlay(image, reference, np.zeros_like(reference), (30, 30, 70, 70), 1.0, 224)
    assert picture.shape == (224, 224, 3)
    rows = np.flatnonzero(_is(picture, REFERENCE).any(axis=1))
    assert (rows.min(), rows.max()) == (32 - 2, 192 + 1)
    assert (picture[112, 112] == 50).all()
    assert not _is(picture, PREDICTION).any()
    same = draw_overlay(image, reference, reference, (30, 30, 70, 70), 1.0, 224)
    assert _is(same, PREDICTION).any()
    assert _is(same, REFERENCE).any()


def test_an_overlay_is_true_to_scale_and_may_pass_the_border():
    image = np.full((20, 80), 200, np.uint8)
    reference = np.zeros((20, 80), bool)
    reference[0:10, 0:40] = True  # rows four times as high as columns: a square in mm
    picture = draw_overlay(image, reference, reference, (0, 0, 40, 10), 4.0, 280)
    line = _is(picture, PREDICTION)
    high, wide = (np.ptp(np.flatnonzero(line.any(axis=axis))) for axis in (1, 0))
    assert abs(high - wide) <= 1
    assert (picture[:30, :30] == 0).all()


def test_an_overlay_without_any_mask_shows_the_box():
    empty = np.zeros((60, 60), bool)
    colour = np.full((60, 60, 3), (200, 30, 30), np.uint8)
    picture = draw_overlay(colour, empty, empty, (20, 20, 40, 40), 1.0, 160)
    assert (picture == 255).all(axis=-1).any()
    assert (picture[80, 80] == (200, 30, 30)).all()


def test_clicks_are_drawn_where_they_are_and_a_picture_needs_no_box():
    image = np.full((100, 100), 90, np.uint8)
    reference = np.zeros((100, 100), bool)
    reference[30:70, 30:70] = True
    picture = draw_overlay(image, reference, reference, None, 1.0, 224, points=[[50.0, 50.0, 1], [60.0, 40.0, 0]])
    # 40 pixels and a margin of a fifth on each side on 224: 4 a pixel, from 22
    assert tuple(picture[112, 112]) == (255, 255, 255)
    assert tuple(picture[112, 116]) == (255, 255, 255), "an arm of the +"
    assert tuple(picture[108, 108]) == (90, 90, 90)
    assert tuple(picture[72, 152]) == (255, 255, 255)
    assert tuple(picture[69, 149]) == (255, 255, 255), "an arm of the x"
    assert tuple(picture[72, 156]) == (90, 90, 90)


def test_strokes_are_drawn_solid_inside_and_dotted_outside():
    image = np.full((100, 100), 90, np.uint8)
    reference = np.zeros((100, 100), bool)
    reference[30:70, 30:70] = True

    def white(inside):
        strokes = [([[35.0, 50.0], [65.0, 50.0]], inside)]
        picture = draw_overlay(image, reference, reference, None, 1.0, 224, strokes=strokes)
        return (picture[112, 52:172] == 255).all(axis=-1).mean()

    assert white(True) == 1
    assert 0.3 < white(False) < 0.7
    dot = draw_overlay(image, reference, reference, None, 1.0, 224, strokes=[([[50.0, 50.0]], True)])
    assert (dot[112, 112] == 255).all(), "a stroke of one point is a dot"


def _is(picture: np.ndarray, colour: str) -> np.ndarray:
    return (picture == np.array(rgb(colour))).all(axis=-1)


def test_a_whole_slice_is_stretched_to_the_size_of_the_picture():
    image = np.zeros((10, 20), np.uint8)
    image[:, 10:] = 200
    picture = render(image, (40, 40))
    assert picture.shape == (40, 40, 3)
    assert (picture[:, :15] == 0).all()
    assert (picture[:, 25:] == 200).all()


def test_a_mask_of_another_number_of_pixels_lies_where_it_belongs():
    image = np.zeros((64, 64), np.uint8)
    coarse = np.zeros((16, 16), bool)
    coarse[4:12, 4:12] = True
    line = _is(render(image, (64, 64), [Outline(coarse, PREDICTION)]), PREDICTION)
    rows = np.flatnonzero(line.any(axis=1))
    # one pixel on each side of an edge at 16 and at 48
    assert (rows.min(), rows.max()) == (15, 48)


def test_later_outlines_lie_on_top():
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    picture = render(mask.astype(np.uint8), (32, 32), [Outline(mask, REFERENCE), Outline(mask, PREDICTION)])
    assert _is(picture, PREDICTION).any()
    assert not _is(picture, REFERENCE).any()


def test_a_painted_mask_lets_the_picture_through_and_has_its_edge_in_full_colour():
    picture = np.full((5, 5, 3), 0.5)
    mask = np.zeros((5, 5), bool)
    mask[1:4, 1:4] = True
    paint(picture, mask, np.array([1.0, 0.0, 0.0]), opacity=0.5)
    assert picture[2, 2].tolist() == [0.75, 0.25, 0.25]
    assert picture[1, 1].tolist() == [1, 0, 0]
    assert picture[0, 0].tolist() == [0.5, 0.5, 0.5]
