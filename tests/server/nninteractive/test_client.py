"""Driven by nnInteractive's own client: what it asks for, what it gets, and how it is refused."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
from argon2 import PasswordHasher
from nninteractive_viewer import Viewer
from phantoms import ThresholdSam, block

from medsam.geometry import VolumeGeometry
from medsam.inference.predictor import Predictor
from medsam.inference.worker import Priority, Worker
from medsam.prompts.prompt import Prompt
from medsam.prompts.strokes import Scribble
from medsam.server.nninteractive.leases import Expired, Leases, NoRoom
from medsam.server.settings import MIB, NNInteractive
from medsam.store import people
from medsam.store.readers import Role
from medsam.store.store import Store
from medsam.volume import Volume

BOX = [[2, 3], [6, 20], [4, 20]]
WHOLE = [[1, 5], [8, 18], [6, 18]]
ASKED = Prompt(box=(4, 6, 20, 20), slice=2)


def segmented(predictor, image, prompt, axis="k", spacing=(3.0, 1.0, 1.0)):
    """What one call gives on the array that the client sent."""
    scan = Volume.from_array(image, spacing)
    return predictor.segment(scan, prompt, axis=axis, propagate=True).labels.array != 0


@contextmanager
def refused(kind, **more):
    """That a claim is; the client leaves its connection open then."""
    with pytest.raises(kind, **more) as raised:
        yield raised
    for entry in raised.traceback:
        if hasattr(client := entry.locals.get("self"), "_http"):
            client._http.close()


# -- what is asked ---------------------------------------------------------------------------------------------------


def test_a_box_on_a_slice_gives_the_whole_object(viewer, bright, predictor):
    changed = viewer.session.add_bbox_interaction(BOX, True)
    np.testing.assert_array_equal(viewer.mask, bright[1])
    assert changed == WHOLE
    expected = segmented(predictor, bright[0], ASKED)
    np.testing.assert_array_equal(viewer.mask, expected)


@pytest.mark.parametrize(
    ("box", "axis", "prompt"),
    [
        ([[0, 6], [12, 13], [4, 20]], "j", Prompt(box=(4, 0, 20, 6), slice=12)),
        ([[0, 6], [7, 19], [12, 13]], "i", Prompt(box=(7, 0, 19, 6), slice=12)),
    ],
)
def test_a_box_across_another_axis_is_asked_there(viewer, bright, predictor, box, axis, prompt):
    viewer.session.add_bbox_interaction(box, True)
    assert viewer.mask.any()
    np.testing.assert_array_equal(viewer.mask, segmented(predictor, bright[0], prompt, axis))


def test_points_strokes_and_loops_give_what_one_call_gives(viewer, bright, predictor):
    session, image = viewer.session, bright[0]
    session.add_point_interaction([2.2, 12.4, 9.6], True)
    np.testing.assert_array_equal(viewer.mask, segmented(predictor, image, Prompt(points=((10, 12, 1),), slice=2)))
    session.reset_interactions()
    assert not viewer.buffer.any()
    stroke = np.zeros((1, 1, 7), np.uint8)
    stroke[...] = 1
    session.add_scribble_interaction(stroke, True, interaction_bbox=[[2, 3], [12, 13], [8, 15]])
    said = Prompt(scribbles=(Scribble(((8, 12), (14, 12))),), slice=2)
    np.testing.assert_array_equal(viewer.mask, segmented(predictor, image, said))
    session.reset_interactions()
    lasso = np.zeros(image.shape, np.uint8)
    lasso[2, 10:16, 8:22] = 1
    session.add_lasso_interaction(lasso, True)
    # round the same pixels
    loop = ((7.5, 10), (7.5, 15.5), (21.5, 15.5), (21.5, 9.5), (8, 9.5))
    np.testing.assert_array_equal(viewer.mask, segmented(predictor, image, Prompt(lasso=loop, slice=2)))
    assert viewer.mask[2].any()
    assert not viewer.mask[2][lasso[2] == 0].any()
    session.add_lasso_interaction(np.roll(lasso, 4, axis=2), False)
    assert np.argwhere(viewer.mask[2])[:, 1].max() == 11


def test_what_is_outside_is_taken_away_and_undo_brings_it_back(viewer, bright):
    session, inside = viewer.session, bright[1]
    session.add_bbox_interaction(BOX, True)
    session.add_bbox_interaction([[4, 5], [8, 18], [6, 12]], False)
    assert not viewer.mask[4, :, :12].any()
    assert viewer.mask[4].sum() == 10 * 6
    assert session.undo()
    np.testing.assert_array_equal(viewer.mask, inside)
    assert not session.undo()
    session.add_point_interaction([4, 12, 10], False)
    assert not viewer.mask[4, 12, 10]
    assert session.undo()
    # a stroke through slices: what is under it is said on each
    stroke = np.ones((3, 1, 2), np.uint8)
    session.add_scribble_interaction(stroke, False, interaction_bbox=[[3, 6], [12, 13], [10, 12]])
    assert not viewer.mask[3:6, 12, 10:12].any()
    assert session.undo()
    np.testing.assert_array_equal(viewer.mask, inside)


def test_prompts_that_wait_are_answered_together_and_can_be_taken_back(viewer, bright):
    session = viewer.session
    assert session.add_bbox_interaction(BOX, True, run_prediction=False) is None
    assert not viewer.mask.any()
    assert session._predict() == WHOLE
    np.testing.assert_array_equal(viewer.mask, bright[1])
    assert session._predict() is None
    session.add_point_interaction([4, 12, 10], False, run_prediction=False)
    assert session.undo()
    assert session._predict() is None
    np.testing.assert_array_equal(viewer.mask, bright[1])


def test_a_mask_that_was_there_is_begun_from_and_corrected_on_the_slice_of_a_click(viewer, bright, predictor):
    session, inside = viewer.session, bright[1]
    start = inside.copy()
    start[3, 8:13] = False
    session.add_bbox_interaction(BOX, True)
    session.add_initial_seg_interaction(start.astype(np.uint8))
    np.testing.assert_array_equal(viewer.mask, start)
    session.add_point_interaction([3, 10, 10], True)
    own = predictor.session(Volume.from_array(bright[0], (3.0, 1.0, 1.0)), start={"object": start})
    own.click(3, 10, 10)
    np.testing.assert_array_equal(viewer.mask, own.labels.array != 0)
    assert viewer.mask[3, 10, 10]
    np.testing.assert_array_equal(np.delete(viewer.mask, 3, 0), np.delete(start, 3, 0))
    assert session.undo()
    np.testing.assert_array_equal(viewer.mask, start)
    session.add_initial_seg_interaction(np.zeros_like(viewer.buffer))
    session.add_bbox_interaction(BOX, True)
    np.testing.assert_array_equal(viewer.mask, inside)
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        session.add_initial_seg_interaction(start.astype(np.uint8), run_prediction=True)


@pytest.mark.parametrize(
    ("dtype", "buffer"), [("int16", np.uint8), (">i2", bool), ("float16", np.int32), ("uint8", np.uint8)]
)
def test_images_and_buffers_of_any_type_and_without_a_spacing(url, claim, bright, predictor, dtype, buffer):
    found = Viewer(claim(url), bright[0].astype(dtype), None, buffer)
    assert found.session.original_image_shape == (1, 6, 24, 32)
    found.session.add_bbox_interaction(BOX, True)
    scan = Volume(bright[0].astype(dtype).astype(np.float32), VolumeGeometry.uncalibrated((6, 24, 32)))
    expected = predictor.segment(scan, ASKED, propagate=True)
    np.testing.assert_array_equal(found.mask, expected.labels.array != 0)
    assert found.buffer.max() == 1


def test_a_picture_of_one_slice_and_one_in_colour(url, claim):
    scan, inside = block((1, 24, 32), (6, 8, 0, 18, 18, 1))
    session = claim(url)
    for image in (scan.array[None], np.repeat(scan.array[None].astype(np.uint8), 3, axis=0)):
        session.set_image(image, {"spacing": [0.5, 0.5]})
        buffer = np.zeros(inside.shape, np.uint8)
        session.set_target_buffer(buffer)
        session.add_bbox_interaction([[0, 1], [6, 20], [4, 20]], True)
        np.testing.assert_array_equal(buffer != 0, inside)


# -- what is refused -------------------------------------------------------------------------------------------------


def test_what_cannot_be_asked_is_refused_and_changes_nothing(viewer, bright):
    from nnInteractive.inference.remote.serialization import pack_array

    session = viewer.session
    session.add_bbox_interaction(BOX, True)
    mask = np.ones((2, 2, 2), np.uint8)
    wrong = [
        lambda: session.add_bbox_interaction([[4, 4], [6, 20], [4, 20]], True),
        lambda: session.add_bbox_interaction([[2, 4], [6, 20], [4, 20]], True),
        lambda: session.add_bbox_interaction([[4, 5], [6, 20], [4, 33]], True),
        lambda: session.add_bbox_interaction([[4, 5], [6, 20]], True),
        lambda: session.add_bbox_interaction([[1, 2], [20, 22], [22, 30]], False),
        lambda: session.add_point_interaction([10, 0, 0], True),
        lambda: session.add_point_interaction([1, 2], True),
        lambda: session.add_point_interaction([float("nan"), 2, 3], True),
        lambda: session.add_scribble_interaction(mask, True, interaction_bbox=[[0, 2], [0, 2], [0, 3]]),
        lambda: session.add_scribble_interaction(mask * 0, True, interaction_bbox=[[0, 2], [0, 2], [0, 2]]),
        lambda: session.add_lasso_interaction(mask, True, interaction_bbox=[[0, 2], [0, 2], [0, 2]]),
        lambda: session._post_binary("/add_initial_seg_interaction", {}, pack_array(viewer.buffer[1:])),
        lambda: session._post_json("/set_target_buffer", {"shape": [1, 2, 3], "dtype": "uint8"}),
        lambda: session._post_json("/set_target_buffer", {"shape": [6, 24, 32], "dtype": "float32"}),
        lambda: session._post_binary("/add_scribble_interaction", {}, b"no array"),
        lambda: session._post_json("/add_point_interaction", {}),
    ]
    for number, ask in enumerate(wrong):
        buffer = viewer.buffer.copy()
        with pytest.raises(httpx.HTTPStatusError) as raised:
            ask()
        assert raised.value.response.status_code == 400, (number, raised.value.response.text)
        assert len(raised.value.response.json()["detail"]) > 20, number
        viewer.buffer[...] = buffer
    assert session._predict() is None
    np.testing.assert_array_equal(viewer.mask, bright[1])


def test_nothing_is_said_of_an_object_before_there_is_an_image_and_where_it_is(url, claim, bright):
    session = claim(url)
    for ask in (lambda: session.add_point_interaction([1, 2, 3], True), lambda: session._predict()):
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            ask()
    for image in (np.zeros((1, 2, 3, 4), np.int16), np.ones((2, 2, 3, 4), np.int16), np.ones((3, 4, 5), np.int16)):
        with pytest.raises((httpx.HTTPStatusError, AssertionError), match="400|4d"):
            session.set_image(image)
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        session.set_image(bright[0][None], {"spacing": [1, 0, 1]})
    session.set_image(bright[0][None])
    with pytest.raises(httpx.HTTPStatusError) as raised:
        session.add_bbox_interaction(BOX, True)
    assert "target buffer" in raised.value.response.json()["detail"]
    session.set_target_buffer(np.zeros(bright[0].shape, np.uint8))
    with pytest.raises(httpx.HTTPStatusError) as raised:
        session.add_point_interaction([2, 12, 10], False)
    assert "inside first" in raised.value.response.json()["detail"]


def test_an_image_that_does_not_fit_is_refused_with_numbers_and_before_it_has_come(serve, claim):
    url = serve(image_bytes=24 * MIB)
    session = claim(url)
    # incompressible, so that most of it is on its way when its head has been read
    image = np.random.default_rng(0).integers(0, 2**15, (1, 64, 256, 256)).astype(np.int16)
    began = time.monotonic()
    with pytest.raises(httpx.HTTPStatusError) as raised:
        session.set_image(image)
    assert raised.value.response.status_code == 413
    assert "28 MiB" in raised.value.response.json()["detail"]
    assert time.monotonic() - began < 20
    # half of it does
    session.set_image(image[:, :32])
    other = claim(url)
    with pytest.raises(httpx.HTTPStatusError, match="413"):
        other.set_image(image[:, :32])
    session.close()
    other.set_image(image[:, :32])
    # one that is refused later keeps no room
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        other.set_image(np.zeros_like(image[:, :32]))
    claim(url).set_image(image[:, :32])


def test_an_image_on_its_way_takes_room_also_when_its_session_was_released():
    leases = Leases(NNInteractive(image_bytes=100))
    gone, other = leases.claim(1), leases.claim(1)
    with gone.acting():
        leases.set_aside(gone, 80)
        leases.release(gone)
        with pytest.raises(NoRoom):
            leases.set_aside(other, 80)
        with pytest.raises(Expired):
            leases.set_aside(gone, 10)
    leases.set_aside(other, 80)


def test_an_image_that_breaks_off_is_no_defect(url, claim, caplog):
    session = claim(url)
    head = f"POST /nninteractive/set_image HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Lease-Token: {session._lease_token}\r\n"
    port = int(url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(f"{head}Content-Length: 1000\r\nContent-Type: application/octet-stream\r\n\r\nNNIA".encode())
    # waits for its turn behind it
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        session._post_json("/reset_interactions", {})
    assert "defect" not in caplog.text


# -- places ----------------------------------------------------------------------------------------------------------


def test_a_client_that_finds_every_place_taken_is_told_so(serve, claim):
    from nnInteractive.inference.remote.remote_session import ServerAtCapacityError

    url = serve(sessions=2)
    first, _ = claim(url), claim(url)
    with refused(ServerAtCapacityError, match="2 places"):
        claim(url)
    answer = httpx.post(f"{url}/claim")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    first.close()
    claim(url)


def test_a_place_ends_when_nobody_does_anything_or_its_client_is_gone(serve, claim, bright):
    from nnInteractive.inference.remote.remote_session import SessionExpiredError

    url = serve(idle_seconds=0.6, liveness_seconds=30.0)
    session = claim(url)
    viewer = Viewer(session, bright[0])
    left = session.lease_status()["remaining_seconds"]
    time.sleep(0.2)
    # what is no act does not keep it
    assert session.heartbeat() < left
    time.sleep(0.5)
    for ask in (session.heartbeat, session.lease_status, lambda: session.add_bbox_interaction(BOX, True)):
        with pytest.raises(SessionExpiredError, match="claim a new one"):
            ask()
    # as viewers go on: anew, from the mask that they have
    again = claim(url)
    viewer.buffer[4] = 1
    again.set_image(bright[0][None], {})
    again.set_target_buffer(viewer.buffer)
    again.add_initial_seg_interaction(viewer.buffer)
    assert viewer.buffer[4].all()
    assert not viewer.buffer[5].any()


def test_a_lease_that_is_none_or_another_reader_s_is_gone_and_a_wrong_key_is_refused(
    serve, claim, tmp_path, monkeypatch
):
    monkeypatch.setattr(people, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    with Store.open(tmp_path / "store", serving=False) as store:
        keys = [
            store.add_token(store.add_user(name, role, "a long password").id, "x")[1]
            for name, role in (("ann", Role.ADMINISTRATOR), ("ben", Role.READER))
        ]
    url = serve()
    assert claim(url, keys[0]).ping()
    assert httpx.get(f"{url}/healthz").json() == {"ok": True}
    for key in (None, "wrong"):
        with refused(httpx.HTTPStatusError) as raised:
            claim(url, key)
        assert raised.value.response.status_code == 401
    session = claim(url, keys[0])
    for key, lease in ((keys[1], session._lease_token), (keys[0], "none"), (keys[0], None)):
        headers = {"Authorization": f"Bearer {key}"} | ({} if lease is None else {"X-Lease-Token": lease})
        assert httpx.get(f"{url}/capabilities", headers=headers).status_code == 410
        # what is no more can be released
        assert httpx.post(f"{url}/release", headers=headers).status_code == 200
    assert session.lease_status()["idle_timeout_seconds"] == 600


def test_no_page_calls_and_the_protocol_is_closed_unless_it_is_asked_for(url, tmp_path, predictor):
    from over_a_port import serving

    from medsam.server.app import create_app
    from medsam.server.settings import ServerSettings

    assert httpx.post(f"{url}/claim", headers={"Origin": "https://evil.example"}).status_code == 403
    assert httpx.post(f"{url}/claim", headers={"Cookie": "medsam=x"}).status_code == 401
    with serving(create_app(ServerSettings(store=tmp_path / "other"), predictor)) as other:
        assert httpx.get(f"{other}/nninteractive/healthz").status_code == 404
        assert httpx.post(f"{other}/nninteractive/claim").status_code == 404


# -- time ------------------------------------------------------------------------------------------------------------


@contextmanager
def slowed(predictor, seconds):
    """Each look of the network takes so long."""
    sam = predictor.sam
    encode = sam.encode_image
    sam.encode_image = lambda images: (time.sleep(seconds), encode(images))[1]
    try:
        yield
    finally:
        sam.encode_image = encode


def test_a_long_propagation_is_answered_in_time_and_goes_on_behind(serve, claim, bright):
    with Worker() as worker:
        slow = Predictor(ThresholdSam(64), "cpu", worker=worker)  # type: ignore[arg-type]
        viewer = Viewer(claim(serve(answers=slow, answer_seconds=0.5)), bright[0])
        with slowed(slow, 0.2):
            began = time.monotonic()
            viewer.session.add_bbox_interaction(BOX, True)
            assert time.monotonic() - began < 2.0
            there = viewer.mask.any(axis=(1, 2))
            assert there[2]
            assert there.sum() < 4
            np.testing.assert_array_equal(viewer.mask[there], bright[1][there])
        viewer.wait()
        np.testing.assert_array_equal(viewer.mask, bright[1])
        assert viewer.session._predict() is None


def test_a_click_does_not_wait_for_a_propagation_and_undo_of_it_goes_on_with_that(serve, claim, bright):
    with Worker() as worker:
        slow = Predictor(ThresholdSam(64), "cpu", worker=worker)  # type: ignore[arg-type]
        viewer = Viewer(claim(serve(answers=slow, answer_seconds=0.3)), bright[0])
        with slowed(slow, 0.2):
            viewer.session.add_bbox_interaction(BOX, True)
            began = time.monotonic()
            viewer.session.add_point_interaction([2, 9, 7], False)
            assert not viewer.mask[2, 9, 7]
            assert time.monotonic() - began < 2.0
        assert viewer.session.undo()
        viewer.wait()
        np.testing.assert_array_equal(viewer.mask, bright[1])


def test_two_clients_do_not_touch_each_other_s_objects(url, claim, bright):
    one, two = Viewer(claim(url), bright[0]), Viewer(claim(url), bright[0][:, ::-1, ::-1].copy())
    with_two = threading.Thread(
        target=two.session.add_bbox_interaction, args=([[2, 3], [4, 18], [12, 28]], True), daemon=True
    )
    with_two.start()
    one.session.add_bbox_interaction(BOX, True)
    with_two.join(30)
    np.testing.assert_array_equal(one.mask, bright[1])
    np.testing.assert_array_equal(two.mask, bright[1][:, ::-1, ::-1])
    one.session.reset_interactions()
    assert two.session.undo()
    assert not two.mask.any()


def test_a_session_that_ends_stops_what_is_under_way(serve, claim, bright):
    with Worker() as worker:
        slow = Predictor(ThresholdSam(64), "cpu", worker=worker)  # type: ignore[arg-type]
        session = claim(serve(answers=slow, answer_seconds=0.1))
        viewer = Viewer(session, bright[0])
        with slowed(slow, 0.3):
            viewer.session.add_bbox_interaction(BOX, True)
            session.close()
            done = worker.submit(lambda _: None, priority=Priority.BATCH)
            done.result(1.5)
