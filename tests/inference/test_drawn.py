"""What is drawn with a pen, down to the mask: lassos bound it, strokes are right in it."""

from __future__ import annotations

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.inference.predictor import Predictor
from medsam.prompts.prompt import Prompt
from medsam.prompts.shapes import lassoed
from medsam.prompts.strokes import Scribble, marks

TRIANGLE = ((8, 12), (30, 12), (8, 22))


@pytest.fixture(params=[("box",), ("box", "points", "mask")], ids=["knows boxes", "knows all"])
def predictor(request):
    sam = ThresholdSam()
    sam.spec.prompts = request.param
    return Predictor(sam, device="cpu")


@pytest.fixture
def scan():
    """A bright block on a noisy ground."""
    made, mask = block((3, 40, 60), (6, 10, 0, 34, 24, 3))
    made.array[...] += np.random.default_rng(0).uniform(0, 10, made.array.shape)
    return made, mask


@pytest.mark.parametrize("zoom", ["off", "auto", "on"])
def test_nothing_is_kept_beyond_a_lasso(predictor, scan, zoom):
    volume, mask = scan
    prompt = Prompt("a", slice=1, lasso=TRIANGLE)
    loop = lassoed(TRIANGLE, (40, 60))
    options = {} if zoom == "on" else {"all_masks": True}
    found = predictor.segment(volume, prompt, zoom=zoom, **options)
    for labels in (found.labels, *found.alternatives):
        assert not (labels.array[1] & ~loop).any()
    np.testing.assert_array_equal(found.labels.array[1] == 1, loop & mask[1])
    propagated = predictor.propagate(volume, prompt, zoom=zoom).labels.array
    assert not (propagated[1] & ~loop).any()
    np.testing.assert_array_equal(predictor.session(volume, zoom=zoom).lasso(1, TRIANGLE).mask, loop & mask[1])


def test_a_lasso_follows_the_object_and_is_no_drawn_mask(predictor, scan):
    volume, mask = scan
    around = Prompt("a", slice=1, lasso=((2, 6), (40, 6), (40, 28), (2, 28)))
    found = predictor.segment(volume, around).labels.array[1] == 1
    assert np.count_nonzero(found ^ mask[1]) < 0.03 * np.count_nonzero(mask[1])
    followed = predictor.propagate(volume, around).labels.array == 1
    assert np.count_nonzero(followed ^ mask) < 0.03 * np.count_nonzero(mask)


STROKES = (
    # in the dark beyond the block, and in the block
    Scribble([(30, 20), (38, 21)], width_px=3),
    Scribble([(8, 12), (8, 20), (12, 21)], inside=False, width_mm=2),
    Scribble([(10, 14), (20, 14)]),
)


@pytest.mark.parametrize("zoom", ["off", "auto"])
@pytest.mark.parametrize(
    "drawn",
    [{"box": (4, 8, 36, 26)}, {"lasso": TRIANGLE}, {"lines": ((5, 17), (35, 17))}, {"ellipse": (2, 6, 38, 28)}, {}],
)
def test_what_is_under_a_stroke_is_right(predictor, scan, zoom, drawn):
    volume, _ = scan
    plane = volume.geometry.plane()
    prompt = Prompt("a", slice=1, scribbles=STROKES, points=((36, 20, 0), (8, 13, 1)), **drawn)
    said = marks((*prompt.points, *STROKES), plane.shape, plane.spacing_mm)
    found = predictor.segment(volume, prompt, zoom=zoom)
    session = predictor.session(volume, zoom=zoom)
    session.replay([prompt])
    if zoom == "off" and "points" in predictor.sam.spec.prompts:
        # the published way: strokes go to the network as clicks, and it has the last word
        return
    for mask in (found.labels.array[1] == 1, session.labels.array[1] == 1, session.result(1).mask):
        np.testing.assert_array_equal(mask[said != 0], said[said != 0] > 0)


def test_strokes_are_drawn_through_the_volume(predictor, scan):
    volume, mask = scan
    found = predictor.propagate(volume, Prompt("a", slice=1, scribbles=Scribble([(12, 17), (28, 17)])))
    labels = found.labels.array == 1
    assert labels.any(axis=(1, 2)).all()
    assert not (labels & ~mask).any()
    assert labels[1, 17, 12:29].all()
