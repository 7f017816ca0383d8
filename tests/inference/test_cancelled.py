"""Raising from `progress` is the way out of every long job: at a slice, and as if it had never begun."""

import itertools

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.errors import Cancelled
from medsam.inference.automatic import AutomaticSettings, everything_in_volume
from medsam.inference.predictor import Predictor
from medsam.prompts.prompt import Prompt

SCAN = block((8, 40, 50), (10, 8, 1, 30, 24, 7))[0]
# no two slices alike: equal ones share an embedding
SCAN.array[...] += 0.01 * np.arange(8, dtype=np.float32)[:, None, None]


def segment(predictor, progress=None):
    prompts = [Prompt(box=(10, 8, 30, 24), slice=index) for index in range(1, 6)]
    return predictor.segment(SCAN, prompts, zoom="off", progress=progress).labels.array.tolist()


def propagate(predictor, progress=None):
    prompt = Prompt(box=(10, 8, 30, 24), slice=3)
    return predictor.segment(SCAN, prompt, zoom="off", propagate=True, progress=progress).labels.array.tolist()


def everything(predictor, progress=None):
    settings = AutomaticSettings(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    return everything_in_volume(predictor.encoder_for(SCAN), settings, progress=progress).masks


@pytest.mark.parametrize("job", [segment, propagate, everything])
def test_raising_from_progress_ends_a_job_at_a_slice_and_leaves_nothing_behind(job):
    predictor = Predictor(ThresholdSam(), device="cpu")
    encoded = []

    def progress(done, total):
        assert 0 <= done <= total
        encoded.append(predictor.sam.encoded)
        if len(encoded) == 4:
            raise Cancelled

    with pytest.raises(Cancelled, match="cancelled"):
        job(predictor, progress)
    assert predictor.sam.encoded == encoded[-1] < 8, "nothing is encoded after it"
    assert all(after - before <= 1 for before, after in itertools.pairwise(encoded)), "it is called once a slice"
    assert job(predictor) == job(Predictor(ThresholdSam(), device="cpu"))
