from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from stores import document, drawn, square, upload

from medsam.errors import InputError
from medsam.store.readers import Role
from medsam.store.records import NewCase

DAY = 86400.0


@pytest.fixture
def people(store):
    """An owner, another reader, and a reviewer."""
    added = [
        store.add_user(name, role, kind="proxy")
        for name, role in [("owner", Role.READER), ("other", Role.READER), ("reviewer", Role.REVIEWER)]
    ]
    return [one.reader for one in added]


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_an_upload_is_its_owners_and_those_it_is_shared_with(store, people):
    owner, other, _ = people
    case = store.put_case(upload(owner=owner.id))
    assert [store.case(one, case.key) for one in people] == [case, None, case]
    assert [store.cases(one) for one in people] == [[case], [], [case]]
    store.share_case(case.id, other.id, owner)
    store.share_case(case.id, other.id, owner)
    assert (store.case(other, case.key), store.cases(other), store.shared_with(case.id)) == (case, [case], [other.id])
    store.unshare_case(case.id, other.id, owner)
    assert (store.case(other, case.key), store.cases(other), store.shared_with(case.id)) == (None, [], [])
    told = [(event.kind, event.by, event.details.get("user")) for event in store.case_history(case.id)]
    assert told == [("added", owner.id, None), ("shared", owner.id, other.id), ("unshared", owner.id, other.id)]


def test_cases_of_folders_are_everybodys(store, people):
    case = store.put_case(NewCase("data:0/a.nii.gz", "data", "a.nii.gz"))
    assert [store.cases(one) for one in people] == [[case]] * 3


def test_nobody_begins_a_session_on_a_case_they_may_not_see(store, people):
    owner, other, _ = people
    case = store.put_case(upload(owner=owner.id))
    for call in (lambda: store.open_reading(case.id, other, document()), lambda: store.open_case(case.id, other)):
        with pytest.raises(InputError, match="no such case"):
            call()
    store.share_case(case.id, other.id, owner)
    reading = store.open_reading(case.id, other, document())
    store.unshare_case(case.id, other.id, owner)
    assert (store.reading(other, reading.key), store.readings(other)) == (None, [])


def test_reviewers_see_the_sessions_of_all_when_they_ask(store, people):
    owner, other, reviewer = people
    case = store.put_case(NewCase("data:0/a.nii.gz", "data", "a.nii.gz"))
    readings = [store.open_reading(case.id, one, document()) for one in (owner, other)]
    assert store.readings(reviewer) == []
    lines = store.reading_lines(reviewer, case.id, everyones=True, most=9)
    assert [store.reading(reviewer, line.key) for line in lines] == readings[::-1]
    lines = store.reading_lines(other, everyones=True, most=9)
    assert [store.reading(other, line.key) for line in lines] == [readings[1]]


def test_a_source_is_one_case_that_keeps_its_key(store):
    first, second = store.put_cases([NewCase("data:a", "data", "a"), NewCase("data:b", "data", "b", modality="MR")])
    again = store.put_case(NewCase("data:a", "data", "a", modality="CT", details={"shape": [1, 2, 3]}))
    assert (again.id, again.key, again.modality, again.details) == (first.id, first.key, "CT", {"shape": [1, 2, 3]})
    assert store.put_case(NewCase("data:b", "data", "b", modality="MR")) == second
    assert [event.kind for event in store.case_history(second.id)] == ["added"]
    assert store.case_sources("data:") == [again, second]
    assert store.case_sources("data:b") == [second]
    assert store.case_sources("data_") == []


def test_a_case_whose_file_vanished_is_in_no_list_until_it_is_back(store, reader):
    case = store.put_case(NewCase("data:a", "data", "a"))
    store.vanish_cases([case.id])
    store.vanish_cases([case.id])
    assert store.cases(reader) == []
    assert store.case(reader, case.key).vanished_at is not None
    assert store.case_sources("data:")[0].id == case.id
    assert store.put_case(NewCase("data:a", "data", "a")) == case
    assert store.cases(reader) == [case]
    assert [event.kind for event in store.case_history(case.id)] == ["added", "vanished", "returned"]


def test_thousands_of_cases_are_put_at_once_listed_in_pages_and_found(store, reader):
    cases = store.put_cases([NewCase(f"data:{n}", "data", f"scan_{n:04}.nii.gz") for n in range(1500)])
    found, after = [], None
    while page := store.cases(reader, after=after, limit=400):
        found += page
        after = page[-1].key
    assert found == cases
    assert [one.name for one in store.cases(reader, q="SCAN_0007")] == ["scan_0007.nii.gz"]
    # of a question, no sign means more than itself
    assert store.cases(reader, q="%") == store.cases(reader, q="scan 0007") == store.cases(reader, q="\\") == []
    assert store.cases(reader, after="unknown") == []


def test_what_is_known_after_reading_is_kept(store, reader):
    case = store.put_case(upload(owner=reader.id))
    assert store.describe_case(case.id, {"shape": [3, 2, 1]}, "CT").details == {"shape": [3, 2, 1]}
    assert store.case(reader, case.key).modality == "CT"


def test_a_removed_case_is_gone_for_all_and_what_was_made_of_it_stays(store, reader):
    case = store.put_case(upload(owner=reader.id))
    reading = store.open_reading(case.id, reader, document())
    store.append_step(reading.id, reader, "prompt", masks=[drawn(1, square(2, 4))])
    assert (store.remove_case(case.id, reader), store.remove_case(case.id, reader)) == (True, False)
    assert (store.case(reader, case.key), store.cases(reader), store.case_sources()) == (None, [], [])
    with pytest.raises(InputError, match="was removed"):
        store.open_reading(case.id, reader, document())
    assert [one.mask for one in store.masks(reading.id)] == [square(2, 4)]
    assert store.reading(reader, reading.key) == reading
    assert [one.id for one in store.files_left()] == [case.id]
    store.files_removed(case.id)
    assert store.files_left() == []
    # the same source may come again, as another case
    assert store.put_case(upload(owner=reader.id)).key != case.key


def test_uploads_nobody_has_used_go_with_their_files(store, reader):
    old, opened, read = store.put_cases([upload(f"upload:{n}", reader.id) for n in range(3)])
    fetched = store.put_case(NewCase("pacs:1", "pacs", "a series", reader.id))
    data = store.put_case(NewCase("data:a", "data", "a"))
    reading = store.open_reading(read.id, reader, document())
    removed = []
    assert store.retire_uploads(30 * DAY, removed.append) == 0
    store.open_case(opened.id, reader)
    store.append_step(reading.id, reader, "prompt")
    assert store.retire_uploads(DAY, removed.append, later(2)) == 4
    assert [one.id for one in removed] == [old.id, opened.id, read.id, fetched.id]
    assert store.cases(reader) == [data]
    assert store.retire_uploads(DAY, removed.append, later(2)) == 0
    assert len(removed) == 4


def test_opening_and_working_keep_an_upload(store, reader, monkeypatch):
    old, opened, read = store.put_cases([upload(f"upload:{n}", reader.id) for n in range(3)])
    reading = store.open_reading(read.id, reader, document())
    monkeypatch.setattr("medsam.store.cases.now", lambda: later(20))
    monkeypatch.setattr("medsam.store.readings.now", lambda: later(20))
    store.open_case(opened.id, reader)
    store.append_step(reading.id, reader, "prompt")
    removed = []
    assert store.retire_uploads(30 * DAY, removed.append, later(40)) == 1
    assert [one.id for one in removed] == [old.id]


def test_files_that_could_not_be_removed_are_asked_for_again_and_hold_up_no_others(store, reader):
    busy, other = store.put_cases([upload(f"upload:{n}", reader.id) for n in range(2)])
    removed = []

    def remove(case):
        if case.id == busy.id and not removed[1:]:
            removed.append(None)
            raise PermissionError("in use")
        removed.append(case.id)

    with pytest.raises(PermissionError):
        store.retire_uploads(DAY, remove, later(2))
    assert store.cases(reader) == []
    assert [one.id for one in store.files_left()] == [busy.id]
    assert store.retire_uploads(DAY, remove, later(2)) == 0
    assert removed == [None, other.id, busy.id]
    assert store.files_left() == []
