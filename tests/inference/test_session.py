import json
import pickle

import numpy as np
import pytest
from phantoms import ThresholdSam, block

from medsam.errors import InputError, PromptError
from medsam.inference import corrections
from medsam.inference.corrections import evidence
from medsam.inference.predictor import Predictor
from medsam.inference.session import Session
from medsam.inference.session_state import SessionState
from medsam.io.save import save_labels
from medsam.postprocess.clean import Cleanup
from medsam.prompts.parse import read_prompts, write_prompts
from medsam.prompts.prompt import Prompt, SlicePrompt
from medsam.prompts.strokes import Scribble
from medsam.volume import LabelVolume, Volume


@pytest.fixture
def two():
    """Two bright blocks on slices 0 ... 3 of a noisy dark scan, and their masks."""
    scan, left = block((4, 40, 60), (6, 10, 0, 20, 24, 4))
    _, right = block((4, 40, 60), (34, 12, 0, 50, 30, 4))
    noise = np.random.default_rng(0).uniform(0, 10, scan.array.shape).astype(np.float32)
    return Volume(np.where(left | right, 200, 20 + noise).astype(np.float32), scan.geometry), left, right


@pytest.fixture
def session(two):
    return Predictor(ThresholdSam(), device="cpu").session(two[0], zoom="off")


def test_boxes_and_clicks_get_what_they_ask_for(session, two):
    _, left, right = two
    np.testing.assert_array_equal(session.click(1, 10, 15).mask, left[1])
    np.testing.assert_array_equal(session.box(1, (4, 8, 55, 35)).mask, (left | right)[1])
    np.testing.assert_array_equal(session.click(1, 40, 20, inside=False).mask, left[1])
    np.testing.assert_array_equal(session.box(2, (30, 8, 55, 35)).mask, right[2])
    np.testing.assert_array_equal(session.mask(3, left[3]).mask, left[3])
    assert session.answer(0) is None
    labels = session.labels
    assert labels.names == {1: "object"}
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.array[1], left[1])
    np.testing.assert_array_equal(labels.array[2], right[2])
    assert not labels.array[0].any()


def test_earlier_names_go_on_working(session, two):
    result = session.box(1, (4, 8, 24, 28))
    assert result.quality == result.predicted_iou
    assert session.answer(1) is result
    found = Predictor(ThresholdSam(), device="cpu").segment(two[0], Prompt("left", box=(4, 8, 24, 28), slice=1))
    assert found.answers is found.results
    assert found.stopped is found.stop_reasons
    assert found.results[0].quality == found.results[0].predicted_iou
    predictor = Predictor(ThresholdSam(), device="cpu")
    box = np.array([[4, 8, 24, 28]])
    prediction = predictor.predict(predictor.looker(two[0])(1), box)
    np.testing.assert_array_equal(prediction.masks[0, 0], two[1][1])
    with pytest.raises(PromptError, match="True or False"):
        session.click(1, 20, 12, inside="no")


def test_each_answer_goes_back_into_the_network(session, monkeypatch):
    given = []
    sam = session.scan_encoder.image_predictor.sam
    decode = sam.decode
    monkeypatch.setattr(sam, "decode", lambda *a, **k: given.append(k.get("masks")) or decode(*a, **k))
    first = session.box(1, (4, 8, 24, 28))
    session.click(1, 10, 15)
    assert given[0] is None
    np.testing.assert_array_equal(given[1][0, 0], first.low_res_logits[0])


def test_undo_and_redo_run_no_network(session):
    answers = [session.box(1, (4, 8, 24, 28)), session.click(1, 10, 15), session.click(2, 40, 20)]
    image_predictor = session.scan_encoder.image_predictor
    ran = image_predictor.sam.encoded, image_predictor.sam.decoded
    assert session.undo()
    assert session.answer(2) is None
    assert session.undo()
    assert session.answer(1) is answers[0]
    assert session.undo()
    assert session.answer(1) is None
    assert not session.undo()
    assert [session.redo() for _ in range(4)] == [True, True, True, False]
    assert session.answer(1) is answers[1]
    assert session.answer(2) is answers[2]
    assert (image_predictor.sam.encoded, image_predictor.sam.decoded) == ran


def test_a_new_step_after_undo_drops_what_was_undone(session):
    session.click(1, 10, 15)
    session.click(1, 40, 20)
    session.undo()
    session.click(1, 0, 0, inside=False)
    assert not session.redo()
    assert session.seeds[1].points == ((10, 15, 1), (0, 0, 0))


def test_reset_forgets_everything_and_can_be_undone(session):
    answer = session.click(1, 10, 15)
    session.reset()
    assert session.seeds == {}
    assert not session.labels.array.any()
    session.reset()  # nothing to forget, so no step
    assert session.undo()
    assert session.answer(1) is answer


def test_a_second_prompt_on_a_slice_costs_no_encoder_call(session):
    image_predictor = session.scan_encoder.image_predictor
    session.box(1, (4, 8, 24, 28))
    assert image_predictor.sam.encoded == 1
    session.click(1, 10, 15)
    session.click(1, 0, 0, inside=False)
    session.box(1, (30, 8, 55, 35))
    assert image_predictor.sam.encoded == 1
    assert image_predictor.sam.decoded == 4
    session.click(2, 10, 15)
    assert image_predictor.sam.encoded == 2


def test_clicks_after_a_box_look_where_the_box_looked(two):
    session = Predictor(ThresholdSam(32), device="cpu").session(two[0], zoom="auto")
    crops = session.box(1, (4, 4, 14, 14)).crops
    encoded = session.scan_encoder.image_predictor.sam.encoded
    assert encoded == len(crops) == 2
    assert session.click(1, 10, 15).crops == crops
    assert session.scan_encoder.image_predictor.sam.encoded == encoded


def test_a_new_box_or_mask_starts_its_slice_anew(session, two):
    session.click(1, 10, 15)
    session.click(2, 10, 15)
    answer = session.box(1, (30, 8, 55, 35))
    np.testing.assert_array_equal(answer.mask, two[2][1])
    assert session.seeds[1] == SlicePrompt(1, (30, 8, 55, 35))
    assert session.seeds[2].points == ((10, 15, 1),)
    session.mask(1, two[1])
    assert session.seeds[1].box is None
    np.testing.assert_array_equal(session.seeds[1].mask, two[1][1])


def test_the_same_click_again_is_no_step(session):
    answer = session.click(1, 10, 15)
    assert session.click(1, 10, 15) is answer
    assert session.scan_encoder.image_predictor.sam.decoded == 1
    session.undo()
    assert session.answer(1) is None


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda s: s.click(1, 60, 15), "outside the slice"),
        (lambda s: s.click(2, 10, 15, inside=False), "no foreground point"),
        (lambda s: s.click(1, 10, 15, inside=False), "contradicts itself"),
        (lambda s: s.click(1, float("nan"), 15), "not finite"),
        (lambda s: s.click(9, 10, 15), "needs slice 9"),
        (lambda s: s.click(1, "a", 15), "points of 'object'"),
        (lambda s: s.box(1, (20, 8, 4, 28)), "inverted"),
        (lambda s: s.box(1, (4, 8, 24, 99)), "outside the slice"),
        (lambda s: s.mask(1, np.zeros((40, 60), bool)), "empty mask"),
        (lambda s: s.mask(1, np.ones((3, 3), bool)), r"shape \(3, 3\)"),
    ],
)
def test_a_step_that_is_refused_changes_nothing(session, step, said):
    answer = session.click(1, 10, 15)
    session.click(1, 40, 20)
    session.undo()
    decoded = session.scan_encoder.image_predictor.sam.decoded
    with pytest.raises(PromptError, match=said):
        step(session)
    assert session.answer(1) is answer
    assert session.seeds == {1: SlicePrompt(1, points=((10, 15, 1),))}
    assert session.scan_encoder.image_predictor.sam.decoded == decoded
    assert session.redo(), "what was undone is still there"


def test_what_was_said_can_be_saved_and_gives_the_same_bits(two, tmp_path):
    predictor = Predictor(ThresholdSam(), device="cpu")
    one = Session(predictor.encoder_for(two[0]), "auto", label="node")
    one.box(2, (4, 8, 24, 28))
    one.click(2, 10, 15)
    one.click(0, 40, 20)
    one.click(0, 10, 15, inside=False)
    one.mask(3, two[1])
    assert [(prompt.slice, prompt.label) for prompt in one.prompts] == [(0, "node"), (2, "node"), (3, "node")]
    again = Session(predictor.encoder_for(two[0]), "auto", label="node")
    again.replay(one.prompts)
    for index in (0, 2, 3):
        np.testing.assert_array_equal(again.answer(index).mask, one.answer(index).mask)
        np.testing.assert_array_equal(again.answer(index).logits, one.answer(index).logits)
    assert again.prompts == one.prompts


def test_a_prompts_file_can_be_replayed(session, two, tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(
        '{"prompts": [{"points": [[0, 0, 0], [10, 15, 1]], "slice": 1}, {"box": [30, 8, 55, 35], "slice": 2}]}'
    )
    prompts, _ = read_prompts(file)
    session.replay(prompts)
    np.testing.assert_array_equal(session.labels.array[1], two[1][1])
    np.testing.assert_array_equal(session.labels.array[2], two[2][2])
    assert not session.labels.array[[0, 3]].any()
    with pytest.raises(PromptError, match="about several"):
        session.replay([Prompt("a", (4, 8, 24, 28), 1), Prompt("a", (30, 8, 55, 35), 1)])


def test_a_lasso_a_line_and_an_ellipse_start_a_slice_as_a_box_does(session, two):
    _, left, right = two
    session.click(1, 10, 15)
    np.testing.assert_array_equal(session.lasso(1, [(32, 8), (54, 8), (54, 34), (32, 34)]).mask, right[1])
    assert session.seeds[1].points == ()
    assert session.seeds[1].within is not None
    np.testing.assert_array_equal(session.line(2, ((4, 17), (22, 17))).mask, left[2])
    assert session.seeds[2].box == (4.5, 8.5, 22.5, 26.5)
    session.line(2, ((4, 17), (22, 17)), ((13, 8), (13, 25)))
    assert len(session.seeds[2].lines) == 2
    np.testing.assert_array_equal(session.ellipse(3, (30, 8, 55, 35)).mask, right[3])
    assert [session.undo() for _ in range(5)] == [True] * 5
    assert session.seeds == {}


def test_strokes_follow_what_a_slice_starts_from_and_are_undone_one_by_one(session):
    session.lasso(1, [(4, 8), (24, 8), (24, 28), (4, 28)])
    session.scribble(1, [(10, 15), (14, 15)])
    result = session.scribble(1, [(3, 3), (3, 9)], inside=False, width_mm=3)
    assert session.scribble(1, [(3, 3), (3, 9)], inside=False, width_mm=3) is result, "the same again is no step"
    session.click(1, 10, 12)
    assert [one.inside for one in session.seeds[1].scribbles] == [True, False]
    assert [one.width_mm for one in session.seeds[1].scribbles] == [None, 3]
    session.undo()
    assert session.seeds[1].points == ()
    session.undo()
    assert len(session.seeds[1].scribbles) == 1
    session.lasso(1, [(4, 8), (24, 8), (24, 28)])
    assert session.seeds[1].scribbles == ()
    with pytest.raises(PromptError, match="outside the slice"):
        session.scribble(1, [(3, 3), (99, 9)])
    with pytest.raises(PromptError, match="no foreground point"):
        session.scribble(0, [(3, 3)], inside=False)


def drawn_all(session):
    """Steps of every kind that is drawn, clicks and strokes mixed."""
    session.ellipse(0, (4, 8, 24, 28))
    session.scribble(0, [(10, 15), (14, 15.5)], width_px=2)
    session.click(0, 10, 12)
    session.scribble(0, [(3, 3), (3, 9)], inside=False)
    session.lasso(1, [(4, 8), (24, 8), (24, 28), (4, 28)], label="node")
    session.click(1, 10, 15, label="node")
    session.line(2, ((4, 17), (22, 17)), ((13, 8), (13, 25)))


def test_drawings_can_be_saved_and_give_the_same_bits(two, tmp_path):
    predictor = Predictor(ThresholdSam(), device="cpu")
    one = predictor.session(two[0], zoom="off")
    drawn_all(one)
    # a click after a stroke is a prompt of its own, so that the order is known
    assert [(p.label, p.slice, len(p.points), len(p.scribbles)) for p in one.prompts] == [
        ("object", 0, 0, 1),
        ("object", 0, 1, 1),
        ("object", 2, 0, 0),
        ("node", 1, 1, 0),
    ]
    write_prompts(tmp_path / "p.json", one.prompts)
    again = predictor.session(two[0], zoom="off")
    again.replay(read_prompts(tmp_path / "p.json")[0])
    assert again.prompts == one.prompts
    for index, label in ((0, "object"), (1, "node"), (2, "object")):
        np.testing.assert_array_equal(again.result(index, label).logits, one.result(index, label).logits)
    document = json.loads(json.dumps(one.state.to_dict()))
    stored = predictor.resume(SessionState.from_dict(document), two[0])
    assert stored.prompts == one.prompts
    assert stored.labels == one.labels
    assert stored.state == one.state


def test_clicks_and_strokes_count_in_the_order_of_the_steps(two):
    predictor = Predictor(ThresholdSam(), device="cpu")
    # of a network that knows clicks, one call gives it all at once
    predictor.sam.spec.prompts = ("box",)
    scan, line = two[0], [(10, 15), (20, 15)]
    masks = {}
    for first in ("click", "stroke"):
        session = predictor.session(scan, zoom="auto")
        session.box(1, (4, 8, 24, 28))
        if first == "click":
            session.click(1, 15, 15)
        session.scribble(1, line, inside=False)
        if first == "stroke":
            session.click(1, 15, 15)
        masks[first] = session.result(1).mask
        assert masks[first][15, 15] == (first == "stroke")
        assert session.seeds[1].marks[-1] == ((15, 15, 1) if first == "stroke" else Scribble(line, False))
        # one call with the same prompts, and a replay, agree
        found = predictor.segment(scan, session.prompts, tidy=Cleanup(keep_islands=True))
        np.testing.assert_array_equal(found.labels.array[1] == 1, masks[first])
        again = predictor.session(scan, zoom="auto")
        again.replay(session.prompts)
        np.testing.assert_array_equal(again.result(1).mask, masks[first])
        assert again.prompts == session.prompts
    session.click(1, 15, 15)
    assert len(session.seeds[1].marks) == 2, "the same again is no step"
    session.scribble(1, line, inside=False)
    assert not session.click(1, 12, 15).mask[15, 15]
    assert session.click(1, 15, 15).mask[15, 15], "after a stroke that took it back it says something new"


def test_of_a_session_stored_before_there_was_an_order_clicks_count_first(two):
    predictor = Predictor(ThresholdSam(), device="cpu")
    one, other, stroke = (6, 10, True), (15, 12, False), [(10, 15), (20, 15)]

    def session(*steps):
        made = predictor.session(two[0], zoom="auto")
        made.box(1, (4, 8, 24, 28))
        for step in steps:
            made.scribble(1, step, inside=False) if step is stroke else made.click(1, *step)
        return made

    document = session(one, stroke, other).state.to_dict()
    assert document["version"] == 3
    for version, steps in ((3, (one, stroke, other)), (1, (one, other, stroke))):
        stored = predictor.resume(SessionState.from_dict({**document, "version": version}), two[0])
        assert stored.seeds == session(*steps).seeds
        # a mask that was stored stays as it was until the next step
        np.testing.assert_array_equal(stored.result(1).mask, session(one, stroke, other).result(1).mask)
        assert SessionState.from_dict(stored.state.to_dict()) == stored.state
        mask = stored.click(1, 18, 20, inside=False).mask
        np.testing.assert_array_equal(mask, session(*steps, (18, 20, False)).result(1).mask)
    assert session(stroke).state.to_dict()["version"] == session(one).state.to_dict()["version"] == 1


def test_strokes_correct_what_stands(started, two):
    labels, session = started
    expected = labels.array.copy()
    expected[1, 2:6, 6:20] = 0
    # in the part too much
    session.click(1, 10, 12, label="left")
    session.scribble(1, [(8, 3), (16, 3)], inside=False, label="left")
    np.testing.assert_array_equal(session.labels.array, expected)
    assert [len(one.scribbles) for one in session.prompts] == [1]
    other = Predictor(ThresholdSam(), device="cpu").session(two[0], zoom="off", start=labels)
    other.replay(session.prompts)
    assert other.labels == session.labels


def test_the_axis_is_the_scan_encoders(two):
    scan, left, _ = two
    session = Predictor(ThresholdSam(), device="cpu").session(scan, axis="i", zoom="off")
    answer = session.box(10, (8, 0, 26, 4))  # x is j, y is k
    np.testing.assert_array_equal(answer.mask, left[:, :, 10])
    assert session.labels.array[:, :, 10].any()
    assert not session.labels.array[:, :, 11].any()


def test_a_click_costs_one_correction_however_many_were_before(two, monkeypatch):
    weighed = []
    monkeypatch.setattr(corrections, "evidence", lambda mark, *rest: weighed.append(mark) or evidence(mark, *rest))
    session = Predictor(ThresholdSam(), device="cpu").session(two[0], zoom="auto")
    session.box(1, (4, 8, 55, 35))
    for x in (40, 10, 50, 20):
        weighed.clear()
        session.click(1, x, 20, x < 30)
        assert len(weighed) == 1
    session.undo()
    session.click(1, 20, 20)
    again = Predictor(ThresholdSam(), device="cpu").session(two[0], zoom="auto")
    again.replay(session.prompts)
    np.testing.assert_array_equal(again.answer(1).logits, session.answer(1).logits)


@pytest.mark.weights
def test_clicks_on_a_real_model_are_deterministic(litemedsam, two):
    steps = [(12, 16, True), (40, 20, False), (8, 20, True)]
    found = []
    for _ in range(2):
        session = Predictor(litemedsam, device="cpu").session(two[0], zoom="auto")
        results = [session.box(1, (4, 8, 24, 28)), *(session.click(1, *step) for step in steps)]
        assert sum(result.usage.encoded for result in results) == len(session.answer(1).crops)
        found.append(session.answer(1))
    np.testing.assert_array_equal(found[0].logits, found[1].logits)
    assert found[0].predicted_iou == found[1].predicted_iou


def test_a_session_goes_on_after_pickle(session, two):
    _, left, _ = two
    session.box(1, (4, 8, 55, 35))
    session.click(1, 40, 20, inside=False)
    again = pickle.loads(pickle.dumps(session))
    assert again.labels == session.labels
    assert again.undo()
    np.testing.assert_array_equal(again.click(1, 40, 20, inside=False).mask, left[1])
    assert session.prompts == again.prompts


# -- a start ------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(two):
    """Of the left block a mask with a part too much on slice 1; of the right one, one with an island."""
    scan, left, right = two
    array = left * np.uint8(3) + right * np.uint8(7)
    array[1, 2:6, 6:20] = 3
    array[:, 38, 2:4] = 7
    labels = LabelVolume(array, scan.geometry, {3: "left", 7: "right"})
    return labels, Predictor(ThresholdSam(), device="cpu").session(scan, zoom="off", start=labels)


def test_a_start_comes_back_as_it_was(started):
    labels, session = started
    assert session.label == "left"
    assert session.labels == labels
    np.testing.assert_array_equal(session.result(2).mask, labels.array[2] == 3)
    assert (session.undo(), session.prompts) == (False, [])


def test_clicks_change_what_they_touch_and_nothing_else(started, two):
    labels, session = started
    _, left, _ = two
    expected = labels.array.copy()
    expected[1, 2:6, 6:20] = 0
    result = session.click(1, 10, 3, inside=False)
    np.testing.assert_array_equal(result.mask, left[1])
    np.testing.assert_array_equal(session.labels.array, expected)
    # where network and mask agree, a click changes nothing
    session.click(2, 10, 12, label="left")
    np.testing.assert_array_equal(session.labels.array, expected)
    session.undo()
    np.testing.assert_array_equal(session.labels.array, expected)
    session.undo()
    assert session.labels == labels
    assert session.redo()
    # a box draws a slice anew, and a new label gets a number of its own
    session.box(1, (4, 8, 24, 28), label="right")
    session.click(3, 10, 15, label="new")
    assert session.names == {3: "left", 7: "right", 8: "new"}
    assert not (session.labels.array[1, 12:30, 34:50] == 7).any()
    # what stands on a slice keeps its pixels
    np.testing.assert_array_equal(session.labels.array[3], expected[3])


def test_a_started_session_is_stored_replayed_and_goes_on(started, two):
    labels, session = started
    session.click(1, 10, 3, inside=False)
    session.click(1, 12, 4, inside=False)
    document = json.loads(json.dumps(session.state.to_dict()))
    predictor = Predictor(session.scan_encoder.image_predictor.sam, device="cpu")
    again = predictor.resume(SessionState.from_dict(document), two[0])
    assert again.labels == session.labels
    session._results._kept.clear()
    np.testing.assert_array_equal(again.result(1).mask, session.result(1).mask)
    np.testing.assert_array_equal(again.result(1).logits, session.result(1).logits)
    other = predictor.session(two[0], zoom="off", start=labels)
    assert [len(one.points) for one in session.prompts] == [2]
    other.replay(session.prompts)
    assert other.labels == session.labels
    again.undo()
    again.undo()
    assert again.labels == labels


def test_a_start_is_before_the_first_step(started, two, tmp_path):
    labels, session = started
    with pytest.raises(InputError, match="before its first step"):
        session.start(labels)
    fresh = Predictor(ThresholdSam(), device="cpu").session(two[0], zoom="off")
    fresh.box(1, (4, 8, 24, 28))
    with pytest.raises(InputError, match="before its first step"):
        fresh.start(labels)
    save_labels(labels, tmp_path / "a.nii.gz")
    scan = Volume(two[0].array, labels.geometry)
    from_file = Predictor(ThresholdSam(), device="cpu").session(scan, start=tmp_path / "a.nii.gz")
    assert from_file.labels == labels
