"""What is drawn with a pen, down to the mask: lassos bound it, strokes are right in it."""

from __future__ import annotations

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.inference.predictor import Predictor
from medsam.prompts.prompt import Prompt
from medsam.prompts.shapes import lassoed

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
