from __future__ import annotations

import pytest
from projects import scans

from medsam.errors import InputError
from medsam.store.project_records import NewScan


def test_structures_keep_their_numbers(store):
    assert store.project() is None
    store.set_project("abdomen", ("liver", "kidney"), {"axis": "k"})
    store.set_project("abdomen", ("liver", "kidney", "spleen"), {"axis": "k"})
    assert store.project().structures == ("liver", "kidney", "spleen")
    with pytest.raises(InputError, match="keep their order"):
        store.set_project("abdomen", ("kidney", "liver"), {})


def test_a_patient_never_changes_sides(store):
    scans(store, 2)
    again = NewScan("s0-later", "p0", "test", False, {})
    with pytest.raises(InputError, match="on the train side already"):
        store.add_scans([NewScan("s7", "p7", "test", True, {}), again])
    assert [one.name for one in store.scans()] == ["s0", "s1"], "nothing of it was stored"
    assert [one.name for one in store.add_scans([NewScan("s7", "p7", "test", True, {})])] == ["s7"]
    assert store.add_scans([NewScan("s7", "p8", "train", True, {})]) == [], "it is known"
    assert [one.patient for one in store.scans("test")] == ["p7"]


def test_a_round_is_told_step_by_step_and_one_is_under_way_at_a_time(store):
    store.set_project("abdomen", ("liver",), {})
    first = store.begin_round({"seed": 1})
    assert store.round_event(first.number, "manifest", {"cases": 3}) == {"cases": 3}
    assert store.round_event(first.number, "manifest", {"cases": 4}) == {"cases": 3}, "what was said stays"
    with pytest.raises(InputError, match="Round 1 is under way"):
        store.begin_round({"seed": 2})
    store.round_event(first.number, "ended", {"promoted": False})
    assert store.begin_round({"seed": 2}).number == 2
    assert [list(one.events) for one in store.rounds()] == [["manifest", "ended"], []]


def test_an_earlier_model_comes_back_as_a_further_row(store):
    assert store.model() is None
    store.put_model("started", "litemedsam", "aa")
    one = store.begin_round({})
    store.put_model("promoted", "rounds/1/model.safetensors", "bb", number=one.number, details={"dice": 0.8})
    store.put_model("back", "litemedsam", "aa")
    assert [(one.kind, one.weights) for one in store.models()] == [
        ("started", "aa"),
        ("promoted", "bb"),
        ("back", "aa"),
    ]
    assert store.model().path == "litemedsam"
