"""Arrays as nnInteractive's client packs and unpacks them."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medsam.errors import InputError
from medsam.server.nninteractive.packed import Head, Unpacker, packed, unpacked

theirs = pytest.importorskip("nnInteractive.inference.remote.serialization", reason="the client of nnInteractive")

_TYPES = ["int16", ">i2", "uint8", "float32", "float64", "float16", "bool", "int64", "uint16"]


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(_TYPES), st.integers(1, 40))
def test_arrays_come_as_they_were_sent_in_parts_of_any_length(data, dtype, length):
    array = data.draw(arrays(dtype, array_shapes(min_dims=1, max_dims=4, max_side=6)))
    body, unpacker = theirs.pack_array(array), Unpacker()
    for start in range(0, len(body), length):
        unpacker.feed(body[start : start + length])
    found = unpacker.end()
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(theirs.unpack_array(packed(array)), array)


def test_zeros_of_any_length_can_be_unpacked():
    # blosc2 packs those of a length that is no multiple of 8 so that it cannot read them, unless it is told the size
    zeros = np.zeros((1, 6, 117943), np.uint8)
    np.testing.assert_array_equal(theirs.unpack_array(packed(zeros)), zeros)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_damaged_is_refused_or_has_another_value_and_nothing_worse(data):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    body = bytearray(theirs.pack_array(array))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(InputError):
        assert unpacked(bytes(body[: data.draw(st.integers(0, len(body)))])).nbytes <= 8 * array.size


def test_a_piece_that_says_it_is_longer_than_it_came_is_not_read_beyond_its_end():
    array = np.arange(4000, dtype=np.int16)
    body = theirs.pack_array(array)
    head = Head.of(body)
    before, after = np.frombuffer(body, "<u8", 2, head.size).tolist()
    # the piece's own header still says how long it was
    short = body[head.size + 16 : head.size + 16 + 40]
    assert after > len(short)
    lengths = np.array([before, len(short)], "<u8").tobytes()
    with pytest.raises(InputError, match="another length"):
        unpacked(body[: head.size] + lengths + short)


def test_an_array_is_judged_by_its_head_before_memory_is_taken_for_it():
    head = theirs.pack_array(np.zeros((1, 1, 1, 1), np.int16))[:8] + b"int16"
    huge = head + np.array([1, 9000, 9000, 9000], "<i8").tobytes() + b"\1\0\0\0"
    seen: list[Head] = []

    def check(head: Head) -> None:
        seen.append(head)
        raise InputError("too large")

    with pytest.raises(InputError, match="too large"):
        unpacked(huge, check)
    assert seen[0].nbytes == 2 * 9000**3
