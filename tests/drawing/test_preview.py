import json
from dataclasses import replace

import numpy as np
import pytest
from phantoms import ThresholdSam, block
from PIL import Image

from medsam.drawing.colours import LABELS
from medsam.drawing.preview import _some, _title, _views, upright_rectangle, write_preview
from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.inference.segmentation import Segmentation
from medsam.inference.trust import ExpectedDice
from medsam.prompts.prompt import Prompt
from medsam.prompts.strokes import Scribble
from medsam.volume import Volume


@pytest.fixture
def predictor():
    return Predictor(ThresholdSam(), device="cpu")


def colour_of(pixels, code):
    wanted = [int(code[n : n + 2], 16) for n in (1, 3, 5)]
    return np.abs(pixels[..., :3].astype(int) - wanted).max(axis=-1) < 30


def test_the_picture_shows_the_mask_where_the_patient_has_it(predictor, tmp_path):
    # stored RAS: i grows to the right, so the block at small i lies on the patient's left, on the viewer's right
    scan, _ = block((1, 40, 40), (2, 16, 0, 10, 24, 1), np.diag([-1.0, -1, 1, 1]))
    found = predictor.segment(scan, [Prompt("node", box=(2, 16, 10, 24))])
    write_preview(scan, found, tmp_path / "p.png")
    pixels = np.asarray(Image.open(tmp_path / "p.png"))
    columns = np.nonzero(colour_of(pixels[: int(pixels.shape[0] * 0.8)], LABELS[0]))[1]
    assert len(columns) > 50
    assert columns.mean() > 0.6 * pixels.shape[1]


def test_at_most_twelve_panels_of_many_slices(predictor, tmp_path):
    scan, _ = block((30, 20, 20), (4, 4, 0, 12, 12, 30))
    found = predictor.segment(scan, [Prompt(box3d=(4, 4, 0, 12, 12, 30))])
    write_preview(scan, found, tmp_path / "p.png", title="thirty")
    with Image.open(tmp_path / "p.png") as picture:
        assert max(picture.size) < 2000
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_colour_pictures_and_empty_masks_can_be_drawn(predictor, tmp_path):
    array = np.full((1, 20, 30, 3), 77, np.uint8)
    scan = Volume(array, VolumeGeometry.uncalibrated((1, 20, 30)))
    write_preview(scan, predictor.segment(scan, [Prompt(box=(4, 4, 12, 12))]), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_strokes_lassos_and_lines_are_drawn_where_the_patient_has_them(predictor, tmp_path):
    dark = Volume(np.zeros((1, 40, 40), np.float32), VolumeGeometry((1, 40, 40), np.diag([-1.0, -1, 1, 1])))
    corners = [(2, 16), (10, 16), (10, 24), (2, 24)]
    for drawn in (
        {"lasso": corners},
        {"lines": ((3, 20), (9, 20))},
        {"box": (0, 12, 14, 30), "scribbles": [Scribble([(3, 20), (9, 20)]), Scribble([(6, 17)], inside=False)]},
        {"ellipse": (2, 16, 10, 24)},
    ):
        found = predictor.segment(dark, [Prompt("node", **drawn)])
        write_preview(dark, found, tmp_path / "p.png")
        pixels = np.asarray(Image.open(tmp_path / "p.png"))
        columns = np.nonzero(colour_of(pixels[: int(pixels.shape[0] * 0.8)], LABELS[0]))[1]
        assert len(columns) > 20
        assert columns.mean() > 0.6 * pixels.shape[1]
        assert Segmentation.from_dict(json.loads(json.dumps(found.to_dict()))).results == found.results


def test_a_box_is_drawn_round_its_pixels_after_a_flip():
    plane = VolumeGeometry((1, 40, 50), np.diag([-1.0, -1, 1, 1])).plane("k")
    assert upright_rectangle(plane, (2, 16, 10, 24)) == (39.5, 15.5, 8, 8)


@pytest.mark.parametrize("name", ["p.jpg", "none/p.png"])
def test_a_preview_that_cannot_be_written_is_refused(predictor, tmp_path, name):
    scan, _ = block((1, 20, 20), (4, 4, 0, 12, 12, 1))
    found = predictor.segment(scan, [Prompt(box=(4, 4, 12, 12))])
    with pytest.raises(InputError):
        write_preview(scan, found, tmp_path / name)


def test_prompted_slices_are_always_among_the_panels():
    shown = _some(list(range(24)), {11, 12})
    assert len(shown) == len(set(shown)) == 12
    assert {0, 11, 12, 23} < set(shown)
    assert _some(list(range(12, 24)), set()) == list(range(12, 24))


def test_a_small_object_is_shown_close_up_beside_its_slice(predictor, tmp_path):
    # 100 x 50 mm: 1 mm across, 0.5 mm down
    scan, _ = block((2, 100, 100), (10, 20, 0, 16, 28, 2), np.diag([1, 0.5, 3, 1]))
    small, large = Prompt("node", box=(10, 20, 16, 28), slice=0), Prompt("chest", box=(5, 5, 90, 90), slice=1)
    found = predictor.segment(scan, [small, large])
    whole, close, other = _views(found, [0, 1], {0, 1})
    assert (whole, other) == ((0, None), (1, None))
    index, (x0, y0, x1, y1) = close
    assert index == 0
    # square in millimetres, at least 16 pixels of 1 mm, the object in its middle
    assert (x1 - x0, y1 - y0) == pytest.approx((16, 32))
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((13, 24))
    write_preview(scan, found, tmp_path / "p.png")
    pixels = np.asarray(Image.open(tmp_path / "p.png"))
    middle = pixels[:, pixels.shape[1] // 3 : 2 * pixels.shape[1] // 3]
    # the close-up is the second of three panels, and its outline is long
    assert colour_of(middle, LABELS[0]).sum() > 3 * colour_of(pixels[:, : pixels.shape[1] // 3], LABELS[0]).sum()


def test_neighbours_share_a_close_up_and_slices_make_room_for_theirs(predictor):
    scan, _ = block((12, 100, 100), (10, 20, 0, 16, 28, 12))
    prompts = [Prompt("node", box3d=(10, 20, 0, 16, 28, 12)), Prompt("vessel", box=(12, 22, 15, 25), slice=0)]
    views = _views(predictor.segment(scan, prompts), list(range(12)), set(range(12)))
    assert len(views) == 12
    assert [part is None for _, part in views] == [True, False] * 6


def test_predicted_iou_says_whose_it_is(predictor):
    scan, _ = block((1, 40, 40), (4, 6, 0, 24, 22, 1))
    prompts = [Prompt("liver $x$", box=(4, 6, 24, 22)), Prompt("a name that goes on and on for ever", box=(1, 1, 9, 9))]
    found = predictor.segment(scan, prompts)
    shown = " ".join(_title(found, 0, list(found.results)).split())
    assert shown == "k = 0 predicted IoU: liver $x$ 0.90, a name that goes on an... 0.50"
    told = [
        replace(one, expected_dice=ExpectedDice(0.5, 0.2, high))
        for one, high in zip(found.results, (0.7, 0.69), strict=True)
    ]
    shown = " ".join(_title(found, 0, told).split())
    assert shown.endswith("0.50 probably wrong: a name that goes on an...")
