"""JSON looked at before it is parsed, in pieces of any size."""

from __future__ import annotations

import json

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsam.server.gate import bodies
from medsam.server.gate.bodies import JsonScan, read_body
from medsam.server.gate.request import Asked, Refused


def _scan(text: bytes, size: int) -> None:
    scan = JsonScan()
    for at in range(0, len(text), size):
        scan.feed(text[at : at + size])


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=9), one, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_VALUES, st.integers(1, 9))
def test_any_json_passes_in_any_pieces(value, size):
    for ascii_only in (True, False):
        _scan(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace"), size)


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "text", [b"[" * 65, b'{"a":' * 65, b"[NaN]", b"[-Infinity]", b'["\\"", NaN]', b'["\\\\", NaN]', b'["a",' * 65]
)
def test_what_is_deep_or_not_finite_is_refused(text, size):
    with pytest.raises(Refused) as refused:
        _scan(text, size)
    assert refused.value.status == 400


@pytest.mark.parametrize("text", [b"[" * 64, b'["' + b"[" * 100 + b'NaN\\"Infinity"]', b"[]" * 100])
def test_brackets_in_texts_and_side_by_side_do_not_count(text):
    _scan(text, 7)


def test_a_client_that_stops_sending_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(bodies, "_PAUSE_S", 0.01)

    async def nothing():
        await anyio.sleep(5)

    asked = Asked("POST", "/x", {"content-length": ("5",), "content-type": ("a/b",)}, "", "", False)
    with pytest.raises(Refused) as refused:
        anyio.run(read_body, asked, nothing, 10, 10)
    assert refused.value.status == 408


def test_a_client_that_leaves_is_no_defect():
    async def gone():
        return {"type": "http.disconnect"}

    asked = Asked("POST", "/x", {"transfer-encoding": ("chunked",)}, "", "", False)
    with pytest.raises(Refused) as refused:
        anyio.run(read_body, asked, gone, 10, 10)
    assert refused.value.status == 400
