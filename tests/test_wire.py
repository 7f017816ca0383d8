import json
import re
import struct
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medsam.client.masks import result_of
from medsam.errors import InputError
from medsam.wire import MaskFrame, Status, read_frames, write_frames

PIXELS = arrays(bool, st.tuples(st.integers(0, 9), st.integers(0, 9)))


def frame(pixels: np.ndarray, x0: int = 2, y0: int = 1, **fields) -> MaskFrame:
    height, width = pixels.shape
    return MaskFrame(3, "k", 7, (20, 30), (x0, y0, x0 + width, y0 + height), pixels, **fields)


def test_the_bytes_of_a_frame_are_those_that_are_documented():
    pixels = np.array([[1, 0, 1], [0, 1, 1]], dtype=bool)
    body = frame(pixels, revision=5, status="first", predicted_iou=0.5).to_bytes()
    magic, version, encoding, zero, n, m = struct.unpack("<4sHBBII", body[:16])
    assert (magic, version, encoding, zero, m) == (b"MSAM", 1, 0, 0, 1)
    assert json.loads(body[16 : 16 + n]) == {
        "object": 3,
        "axis": "k",
        "slice": 7,
        "shape": [20, 30],
        "rectangle": [2, 1, 5, 3],
        "base": 0,
        "revision": 5,
        "status": "first",
        "predicted_iou": 0.5,
        "expected_dice": None,
    }
    assert body[16 + n :] == bytes([0b10101100])


def test_an_expected_dice_comes_with_its_interval_and_only_where_it_is_known():
    said = {"expected_dice": 0.86, "expected_dice_low": 0.71, "expected_dice_high": 0.94, "unfamiliar": True}
    body = frame(np.ones((2, 3), bool), **said).to_bytes()
    (n,) = struct.unpack("<I", body[8:12])
    assert said.items() <= json.loads(body[16 : 16 + n]).items()
    (back,) = read_frames(body)
    assert {name: getattr(back, name) for name in said} == said
    result = result_of(back)
    assert (result.expected_dice, result.expected_dice_low, result.expected_dice_high) == (0.86, 0.71, 0.94)
    assert result.unfamiliar
    (plain,) = read_frames(frame(np.ones((2, 3), bool)).to_bytes())
    assert (plain.expected_dice_low, plain.expected_dice_high, plain.unfamiliar) == (None, None, False)


def test_a_frame_tells_that_one_click_is_all_that_was_asked_and_is_as_it_was_otherwise():
    (back,) = read_frames(frame(np.ones((2, 3), bool), ambiguous=True).to_bytes())
    assert back.ambiguous
    plain = frame(np.ones((2, 3), bool)).to_bytes()
    assert b"ambiguous" not in plain
    assert not next(read_frames(plain)).ambiguous


def test_run_lengths_start_outside_and_are_taken_where_they_are_shorter():
    pixels = np.ones((10, 20), dtype=bool)
    body = frame(pixels).to_bytes()
    assert body[6] == 1
    assert body[-8:] == struct.pack("<II", 0, 200)
    (back,) = read_frames(body)
    assert np.array_equal(back.pixels, pixels)


@given(st.lists(PIXELS, max_size=4))
def test_frames_come_back_as_they_were_sent(many):
    frames = [frame(pixels, revision=number) for number, pixels in enumerate(many)]
    back = list(read_frames(write_frames(frames)))
    assert [one.revision for one in back] == [one.revision for one in frames]
    for sent, got in zip(frames, back, strict=True):
        assert (got.object, got.axis, got.slice, got.shape, got.rectangle) == (3, "k", 7, (20, 30), sent.rectangle)
        assert np.array_equal(got.pixels, sent.pixels)


def test_a_frame_on_a_base_paints_its_rectangle_and_nothing_else():
    mask = np.ones((20, 30), dtype=bool)
    (change,) = read_frames(frame(np.zeros((2, 3), dtype=bool), revision=6, base=4).to_bytes())
    assert (change.base, change.revision) == (4, 6)
    change.paint(mask)
    assert not mask[1:3, 2:5].any()
    assert mask.sum() == 600 - 6


def test_a_frame_without_a_base_stands_alone():
    mask = np.ones((20, 30), dtype=bool)
    frame(np.ones((2, 3), dtype=bool)).paint(mask)
    assert mask[1:3, 2:5].all()
    assert mask.sum() == 6


@given(st.binary(max_size=80) | st.integers(0, 120).map(lambda cut: frame(np.eye(9, dtype=bool)).to_bytes()[:cut]))
def test_damaged_frames_are_refused_with_one_error(body):
    whole = frame(np.eye(9, dtype=bool)).to_bytes()
    if body in (b"", whole):
        return
    with pytest.raises(InputError):
        list(read_frames(body))


def test_a_rectangle_beyond_the_slice_and_a_later_version_are_refused():
    outside = MaskFrame(1, "k", 0, (4, 4), (0, 0, 5, 4), np.zeros((4, 5), dtype=bool)).to_bytes()
    with pytest.raises(InputError, match="damaged"):
        list(read_frames(outside))
    later = bytearray(frame(np.eye(2, dtype=bool)).to_bytes())
    later[4] = 2
    with pytest.raises(InputError, match="version 2"):
        list(read_frames(bytes(later)))


def section(title: str) -> str:
    text = (Path(__file__).parents[1] / "docs" / "server.md").read_text(encoding="utf-8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def fenced(text: str, language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    return block


def test_the_worked_example_of_the_docs_is_a_frame_to_the_byte():
    prefix, head, payload = fenced(section("Wire"), "frame").strip().split("\n")
    body = bytes.fromhex(prefix) + head.encode() + bytes.fromhex(payload)
    (read,) = read_frames(body)
    assert read.pixels.astype(int).tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0]]
    assert (read.rectangle, read.base, read.revision, read.status) == ((2, 1, 6, 4), 5, 7, "first")
    assert read.to_bytes() == body


@given(PIXELS, st.booleans())
def test_the_reader_in_the_docs_reads_what_we_write(pixels, alone):
    theirs: dict = {}
    exec(fenced(section("Wire"), "python"), theirs)
    before = np.arange(600).reshape(20, 30) % 3 == 0
    sent = frame(pixels, revision=9, base=0 if alone else 4)
    ((head, found),) = theirs["frames"](sent.to_bytes())
    painted, expected = before.astype(int).tolist(), before.copy()
    theirs["paint"](painted, head, found)
    sent.paint(expected)
    assert np.array_equal(painted, expected)


def test_the_docs_name_every_key_of_a_head_and_every_status():
    wire = section("Wire")
    sent = frame(np.eye(2, dtype=bool)).to_bytes()
    head = json.loads(sent[16 : 16 + struct.unpack_from("<I", sent, 8)[0]])
    for name in (*head, *get_args(Status)):
        assert f"`{name}`" in wire, name
