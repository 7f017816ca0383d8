"""A session as data: stored, moved to another process, and gone on with."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from phantoms import ThresholdSam, block
from scipy.special import expit

from medsam.chances import CompactChances
from medsam.errors import InputError
from medsam.inference.corrections import Mark
from medsam.inference.likely_masks import corrected_odds
from medsam.inference.predictor import Predictor
from medsam.inference.session_state import SessionState
from medsam.inference.usage import Usage
from medsam.models.build import build_model
from medsam.models.specs import tiny_spec
from medsam.postprocess.clean import Cleanup
from medsam.volume import Volume


def tiny(seed=0):
    """A SAM that takes clicks and masks, with random weights: every logit that goes back into it counts."""
    torch.manual_seed(seed)
    return build_model(tiny_spec("vit"))


def noisy(seed=1):
    scan, _ = block((4, 40, 60), (6, 10, 0, 20, 24, 4))
    noise = np.random.default_rng(seed).uniform(0, 40, scan.array.shape).astype(np.float32)
    return Volume(scan.array + noise, scan.geometry)


def scribbled(session, mask):
    """Steps of every kind, of two objects, with one that is undone."""
    session.box(1, (4, 8, 24, 28))
    session.click(1, 10, 15)
    session.click(1, 3, 3, inside=False)
    session.mask(2, mask, label="node")
    session.click(2, 30, 20, label="node")
    session.click(0, 40, 20)
    session.undo()


@pytest.fixture
def mask():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 25:38] = True
    return mask


def same(one, other):
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.logits, other.logits)
    np.testing.assert_array_equal(one.low_res_logits, other.low_res_logits)
    assert (one.predicted_iou, one.box, one.crops) == (other.predicted_iou, other.box, other.crops)


@pytest.mark.parametrize("zoom", ["off", "auto"])
def test_a_stored_session_goes_on_bit_by_bit(mask, zoom):
    one = Predictor(tiny(), "cpu").session(noisy(), zoom=zoom)
    scribbled(one, mask)
    text = json.dumps(one.state.to_dict(), allow_nan=False)
    again = Predictor(tiny(), "cpu").resume(SessionState.from_dict(json.loads(text)), noisy())
    assert again.labels == one.labels
    assert again.names == {1: "object", 2: "node"}
    assert again.prompts == one.prompts
    same(again.result(1), one.result(1))
    same(again.click(1, 20, 20), one.click(1, 20, 20))
    same(again.click(2, 36, 12, label="node"), one.click(2, 36, 12, label="node"))
    assert again.undo() == one.undo()
    assert again.labels == one.labels
    assert again.state == one.state


def test_a_state_is_the_same_after_json_and_pickle(mask):
    session = Predictor(tiny(), "cpu").session(noisy())
    assert SessionState.from_dict(session.state.to_dict()) == session.state
    scribbled(session, mask)
    session.reset()
    session.undo()
    state = session.state
    assert SessionState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert pickle.loads(pickle.dumps(state)) == state


def test_what_was_undone_can_be_done_again_after_it_was_stored(mask):
    session = Predictor(tiny(), "cpu").session(noisy())
    scribbled(session, mask)
    again = Predictor(tiny(), "cpu").resume(session.state, noisy())
    assert again.result(0) is None
    assert again.redo()
    session.redo()
    assert again.labels == session.labels
    same(again.result(0), session.result(0))
    assert not again.redo()


def test_another_process_goes_on_with_the_same_masks(mask, tmp_path):
    session = Predictor(tiny(), "cpu").session(noisy())
    scribbled(session, mask)
    (tmp_path / "session.json").write_text(json.dumps(session.state.to_dict()))
    code = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import torch
from test_session_state import noisy, tiny
from medsam.inference.predictor import Predictor
from medsam.inference.session_state import SessionState
from medsam.inference.usage import Usage
torch.set_num_threads(int(sys.argv[4]))
state = SessionState.from_dict(json.loads(open(sys.argv[3]).read()))
result = Predictor(tiny(), "cpu").resume(state, noisy()).click(1, 20, 20)
print(result.logits.tobytes().hex())
"""
    here = Path(__file__).parent
    arguments = [str(here), str(here.parent), str(tmp_path / "session.json"), str(torch.get_num_threads())]
    there = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == session.click(1, 20, 20).logits.tobytes().hex()


def test_a_session_of_another_version_scan_or_model_is_refused(mask):
    predictor = Predictor(tiny(), "cpu")
    session = predictor.session(noisy())
    scribbled(session, mask)
    state, document = session.state, session.state.to_dict()
    with pytest.raises(InputError, match="of version 9, and this medsam reads version 1 and 2 and 3 and 4 and 5 and 6"):
        SessionState.from_dict({**document, "version": 9})
    with pytest.raises(InputError, match="no medsam session"):
        SessionState.from_dict({**document, "kind": "medsam segmentation"})
    with pytest.raises(InputError, match="medsam session is damaged"):
        SessionState.from_dict({key: value for key, value in document.items() if key != "steps"})
    with pytest.raises(InputError, match="medsam session is damaged"):
        SessionState.from_dict({**document, "done": 99})
    with pytest.raises(InputError, match="another scan: this one has other voxels"):
        predictor.resume(state, noisy(seed=2))
    with pytest.raises(InputError, match="another scan: this one has another grid"):
        predictor.resume(state, Volume(noisy().array[:3], block((3, 40, 60), (6, 10, 0, 20, 24, 3))[0].geometry))
    with pytest.raises(InputError, match=r"made with the model .* \(weights [0-9a-f]{8}\)"):
        Predictor(tiny(seed=1), "cpu").resume(state, noisy())
    with pytest.raises(InputError, match="another axis or window"):
        type(session).resume(state, predictor.encoder_for(noisy(), axis="i"))


@pytest.mark.parametrize(
    "change",
    [
        {"mask": {"size": [32768, 32768], "counts": [2**30]}},  # a gigabyte of a hundred bytes
        {"mask": {"size": [5, 5], "counts": [0, 25]}},
        {"kept": 99},
        {"kept": -1},
        {"number": 0},
        {"number": float("inf")},
        {"slice": 2.7},
        {"slice": 99},
        {"parts": [], "kept": 0},
        {"parts": [{"points": [[1000, 1, 1]]}], "kept": 0},
        {"predicted_iou": float("nan")},
        {"label": ""},
    ],
)
def test_a_damaged_step_is_refused_when_the_state_is_read(mask, change):
    session = Predictor(ThresholdSam(), "cpu").session(noisy())
    scribbled(session, mask)
    document = session.state.to_dict()
    document["steps"][4] |= change
    with pytest.raises(InputError):
        SessionState.from_dict(document)


@pytest.mark.parametrize("change", [{"zoom": 5}, {"modality": 5}, {"tidy": {"smooth_mm": "3"}}, {"done": float("inf")}])
def test_a_damaged_state_is_refused_when_it_is_read(mask, change):
    document = Predictor(ThresholdSam(), "cpu").session(noisy()).state.to_dict()
    with pytest.raises(InputError, match="damaged"):
        SessionState.from_dict({**document, **change})


def test_two_hundred_clicks_take_little_memory(monkeypatch):
    monkeypatch.setattr("medsam.inference.session.UNDO_STEPS", 100)
    predictor = Predictor(ThresholdSam(32), "cpu")
    scan, _ = block((10, 64, 64), (0, 0, 0, 64, 64, 10), outside=200.0)
    scan.array[:, ::7, ::7] += 40
    session = predictor.session(scan, zoom="off")
    for number in range(200):
        session.click(number % 10, 1 + number % 60, 1 + number * 7 % 61)
    held = {name: value for name, value in vars(session).items() if name not in ("scan_encoder", "_results")}
    # a mask of 64 x 64 pixels is 512 bytes; 200 clicks share what was said before
    assert len(pickle.dumps(held)) < 200 * 1500
    assert len(session._results._kept) <= 4
    assert len(json.dumps(session.state.to_dict())) < 200 * 1000
    undone = 0
    while session.undo():
        undone += 1
    assert undone == 100
    # what is too long ago to be undone stays
    assert len(session.seeds[0].points) == 10


def test_a_step_long_undone_is_gone_on_with_bit_by_bit():
    clicks = [(10 + n, 15 + n % 3, n % 2 == 0) for n in range(12)]
    session = Predictor(tiny(), "cpu").session(noisy(), zoom="off")
    for x, y, inside in clicks:
        last = session.click(1, x, y, inside)
    straight = Predictor(tiny(), "cpu").session(noisy(), zoom="off")
    for x, y, inside in clicks[:3]:
        straight.click(1, x, y, inside)
    for _ in clicks[3:]:
        session.undo()
    same(session.result(1), straight.result(1))
    same(session.click(1, 30, 30), straight.click(1, 30, 30))
    assert not np.array_equal(session.result(1).logits, last.logits)


def test_objects_of_one_session_are_told_apart():
    scan, left = block((2, 40, 60), (6, 10, 0, 20, 24, 2))
    _, right = block((2, 40, 60), (34, 12, 0, 50, 30, 2))
    scan = Volume(np.where(left | right, 200, scan.array).astype(np.float32), scan.geometry)
    session = Predictor(ThresholdSam(), "cpu").session(scan, zoom="off", label="left")
    session.box(0, (4, 8, 24, 28))
    session.click(0, 40, 20, label="right")
    session.click(1, 40, 20, label="right")
    assert session.labels.names == {1: "left", 2: "right"}
    np.testing.assert_array_equal(session.labels.array[0], left[0] + 2 * right[0])
    np.testing.assert_array_equal(session.labels.array[1], 2 * right[1])
    assert list(session.seeds) == [0]
    assert {label: list(slices) for label, slices in session.objects.items()} == {"left": [0], "right": [0, 1]}
    assert session.result(1) is None
    np.testing.assert_array_equal(session.result(1, "right").mask, right[1])
    again = Predictor(ThresholdSam(), "cpu").session(scan, zoom="off", label="left")
    again.replay(session.prompts)
    assert again.labels == session.labels
    assert again.prompts == session.prompts
    # of two masks the one that the network trusts more keeps the pixel
    session.box(0, (4, 8, 55, 35), label="both")
    assert set(np.unique(session.labels.array[0])) == {0, 1, 2}
    session.reset()
    assert session.labels.names == {1: "left"}
    assert session.undo()
    assert session.names == {1: "left", 2: "right", 3: "both"}


def test_cleaning_is_part_of_a_state():
    predictor = Predictor(ThresholdSam(), "cpu")
    session = predictor.session(noisy(), zoom="off")
    session.tidy = Cleanup(keep_islands=True, smooth_mm=2.0)
    session.box(1, (4, 8, 24, 28))
    again = predictor.resume(SessionState.from_dict(session.state.to_dict()), noisy())
    assert again.tidy == session.tidy
    assert again.labels == session.labels


def test_a_mask_that_answers_a_box_is_stored_with_it_and_a_click_corrects_that_answer():
    box = (4.25, 8.0, 14.5, 28.0)
    drawn = Predictor(ThresholdSam(), "cpu").session(noisy())
    answer = drawn.box(1, box).mask
    start = {"node": np.zeros((4, 40, 60), bool)}
    start["node"][1] = start["node"][2] = answer
    session = Predictor(ThresholdSam(), "cpu").session(noisy())
    session.start(start, {"node": {1: box}})
    document = session.state.to_dict()
    assert document["version"] == 7
    assert SessionState.from_dict(json.loads(json.dumps(document))) == session.state
    session = Predictor(ThresholdSam(), "cpu").resume(SessionState.from_dict(document), noisy())
    np.testing.assert_array_equal(session.cleaned(1, "node"), answer)
    assert (session.prompts, session.undo()) == ([], False)
    expected, found = drawn.click(1, 17, 14), session.click(1, 17, 14, label="node")
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert (found.mask != session.click(2, 17, 14, label="node").mask).any(), "a mask without a box is corrected itself"
    (prompt, _) = session.prompts
    assert (prompt.box, prompt.points) == (box, ((17, 14, 1),))
    assert session.undo()
    assert session.undo()
    np.testing.assert_array_equal(session.cleaned(1, "node"), answer)
    document["objects"][0]["parts"][0]["box"] = [9, 9, 1, 1]
    with pytest.raises(InputError, match="damaged"):
        SessionState.from_dict(document)


def test_one_click_alone_is_ambiguous_and_nothing_else():
    session = Predictor(ThresholdSam(), "cpu").session(noisy())

    def ambiguous(index):
        return session.states["node"][index].ambiguous

    session.click(1, 20, 20, label="node")
    session.box(2, (10, 10, 30, 30), label="node")
    assert (ambiguous(1), ambiguous(2)) == (True, False)
    session.click(1, 22, 20, label="node")
    session.click(2, 22, 20, label="node")
    assert (ambiguous(1), ambiguous(2)) == (False, False)
    session.undo()
    session.undo()
    assert ambiguous(1)
    # of masks that stood, with their box or without, the click is a correction
    start = {"node": np.zeros((4, 40, 60), bool)}
    start["node"][1:3, 10:30, 10:30] = True
    session = Predictor(ThresholdSam(), "cpu").session(noisy())
    session.start(start, boxes={"node": {2: (10, 10, 30, 30)}})
    for index in (1, 2):
        session.click(index, 20, 20, label="node")
        assert not ambiguous(index)


def test_a_mask_with_how_likely_each_pixel_is_is_stored_with_it_and_corrected_by_it():
    y, x = np.mgrid[:40, :60]
    # unsure along its right side alone
    beyond = np.hypot(x - 30, y - 20) - 10
    chances = expit(np.where(x > 30, -beyond / 4, -3 * beyond))
    start = {"node": np.zeros((4, 40, 60), bool)}
    start["node"][1] = start["node"][2] = chances > 0.5
    session = Predictor(ThresholdSam(), "cpu").session(noisy())
    with pytest.raises(InputError, match="'node' on slice 2 is not where its pixels are more likely"):
        session.start(start, likely={"node": {2: CompactChances.of(chances / 2)}})
    session.start(start, likely={"node": {1: CompactChances.of(chances)}})
    document = session.state.to_dict()
    assert document["version"] == 8
    assert SessionState.from_dict(json.loads(json.dumps(document))) == session.state
    session = Predictor(ThresholdSam(), "cpu").resume(SessionState.from_dict(document), noisy())
    np.testing.assert_array_equal(session.cleaned(1, "node"), chances > 0.5)
    found = session.click(1, 43, 20, label="node").mask
    where = np.zeros((40, 60), bool)
    where[20, 43] = True
    odds = corrected_odds(CompactChances.of(chances).log_odds(), [Mark(where, True)], (1.0, 1.0))
    np.testing.assert_array_equal(found, odds > 0)
    assert 0.5 < session.result(1, "node").predicted_iou < 1
    assert session.result(1, "node").usage == Usage(), "the network was not asked"
    assert found[14, 39], "all of the side that was unsure"
    assert (found != session.click(2, 43, 20, label="node").mask).any(), "the same mask, of which no more is known"
    again = session.click(1, 40, 26, False, label="node").mask
    resumed = Predictor(ThresholdSam(), "cpu").resume(SessionState.from_dict(session.state.to_dict()), noisy())
    np.testing.assert_array_equal(resumed.result(1, "node").mask, again)
    for _ in range(3):
        assert session.undo()
    np.testing.assert_array_equal(session.cleaned(1, "node"), chances > 0.5)
    document["objects"][0]["parts"][0]["likely"]["size"] = [41, 60]
    with pytest.raises(InputError, match="do not fit"):
        SessionState.from_dict(document)
