from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from medsam.errors import InputError
from medsam.store import people
from medsam.store.readers import Reader, Role
from medsam.store.store import Store
from medsam.store.tables import Table, Users

PASSWORD = "correct horse battery"
pytestmark = pytest.mark.usefixtures("quick_hashes")


@pytest.fixture
def user(store):
    return store.add_user("Anna Ärztin", Role.READER, PASSWORD)


def test_who_gives_the_password_comes_in(store, user):
    assert store.verify("Anna Ärztin", PASSWORD) == Reader(user.id, "Anna Ärztin", Role.READER) == user.reader
    for name, password in [("Anna Ärztin", "wrong"), ("nobody", PASSWORD), ("", ""), ("\ud800", "\ud800" * 2000)]:
        try:
            assert store.verify(name, password) is None
        except InputError as error:
            assert "no Unicode" in str(error)  # noqa: PT017 (only a name that no database holds)
    assert store.users() == [user]
    assert store.user(user.key) == store.user_named("Anna Ärztin") == user
    assert (store.user("x"), store.user_named("x"), store.reader(99)) == (None, None, None)


def test_no_password_token_or_cookie_is_kept(store, user):
    _, token = store.add_token(user.id, "a script")
    _, cookie = store.add_login(user.id)
    with store._database.read() as connection:
        rows = (connection.execute(table.select()).all() for table in Table.metadata.sorted_tables)
        written = repr(list(rows)).encode()
    store.close()
    written += b"".join(path.read_bytes() for path in store.folder.iterdir())
    assert "Anna Ärztin".encode() in written
    assert b"$argon2id$" in written
    for secret in (PASSWORD, token, cookie):
        assert secret.encode() not in written


def test_an_unknown_name_takes_as_long_as_a_wrong_password(store, monkeypatch):
    # some 20 ms a try
    monkeypatch.setattr(people, "_HASHER", people.PasswordHasher(time_cost=40, memory_cost=1024, parallelism=1))
    people._nobodys.cache_clear()
    store.add_user("Anna Ärztin", Role.READER, PASSWORD)

    def seconds(name):
        started = time.perf_counter()
        assert store.verify(name, "wrong password") is None
        return time.perf_counter() - started

    seconds("nobody")
    known, unknown = (min(seconds(name) for _ in range(3)) for name in ("Anna Ärztin", "nobody"))
    assert unknown > known / 3


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "two\nlines", "bell\x07", "\u202eright to left"])
def test_names_that_do_not_print_are_refused(store, name):
    with pytest.raises(InputError, match="printable") as refused:
        store.add_user(name, Role.READER, PASSWORD)
    assert refused.value.parameter == "name"


def test_a_name_is_one_users_whatever_its_case(store, user):
    for name in ("Anna Ärztin", "ANNA Ärztin", " Anna Ärztin "):
        with pytest.raises(InputError, match="a user of this `name`"):
            store.add_user(name, Role.READER, PASSWORD)


@pytest.mark.parametrize("password", ["short", "x" * 1025])
def test_passwords_of_a_few_letters_and_of_a_book_are_refused(store, user, password):
    for call in (lambda: store.add_user("b", Role.READER, password), lambda: store.change_user(1, password=password)):
        with pytest.raises(InputError, match="8 to 1024 characters"):
            call()


def test_a_persons_password_may_not_be_left_out_and_a_proxys_is_none(store):
    with pytest.raises(InputError, match="needs a `password`"):
        store.add_user("b", Role.READER)
    named = store.add_user("b", Role.READER, kind="proxy")
    assert store.user_named("b") == named
    assert store.verify("b", "") is None


def test_the_local_reader_is_an_administrator_and_no_user(store):
    local = store.local_reader()
    assert (local.name, local.role, store.local_reader()) == ("local", Role.ADMINISTRATOR, local)
    assert store.users() == []
    assert store.verify("local", "") is None


def test_a_new_password_ends_logins_and_leaving_ends_tokens_too(store, user):
    login, cookie = store.add_login(user.id)
    _, secret = store.add_token(user.id, "a script")
    assert store.find_login(cookie) == login
    store.change_user(user.id, password="another password")
    assert store.find_login(cookie) is None
    assert store.verify(user.name, "another password") == user.reader
    assert store.find_token(secret) is not None
    assert store.change_user(user.id, active=False).active is False
    assert (store.verify(user.name, "another password"), store.find_token(secret), store.reader(user.id)) == (None,) * 3
    with pytest.raises(InputError, match="has left"):
        store.add_login(user.id)
    store.change_user(user.id, active=True)
    assert store.find_token(secret) is None


def test_the_last_administrator_stays(store):
    first = store.add_user("first", Role.ADMINISTRATOR, PASSWORD)
    store.local_reader()
    for change in ({"role": Role.REVIEWER}, {"active": False}):
        with pytest.raises(InputError, match="last administrator"):
            store.change_user(first.id, **change)
    store.add_user("second", Role.ADMINISTRATOR, PASSWORD)
    assert store.change_user(first.id, role=Role.REVIEWER).role is Role.REVIEWER
    with pytest.raises(InputError, match="no such user"):
        store.change_user(99, role=Role.READER)


def test_a_stale_hash_is_made_anew_and_ends_nothing(store, user, monkeypatch):
    _, cookie = store.add_login(user.id)
    stronger = people.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
    monkeypatch.setattr(people, "_HASHER", stronger)
    assert store.verify(user.name, PASSWORD) == user.reader
    with store._database.read() as connection:
        kept = connection.execute(select(Users.password).where(Users.id == user.id)).scalar_one()
    assert not stronger.check_needs_rehash(kept)
    assert store.find_login(cookie) is not None


def test_a_token_lets_in_until_it_is_revoked_or_expires(store, user):
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    kept, secret = store.add_token(user.id, "kept")
    brief, other = store.add_token(user.id, "brief", soon)
    found = store.find_token(secret)
    assert found is not None
    assert (found[0].key, found[1]) == (kept.key, user.reader)
    assert [(one.name, one.expires_at, one.used_at is not None) for one in store.tokens(user.id)] == [
        ("kept", None, True),
        ("brief", soon, False),
    ]
    assert (store.find_token("x"), store.find_token("\ud800")) == (None, None)
    time.sleep(max((soon - datetime.now(UTC)).total_seconds(), 0))
    assert store.find_token(other) is None
    assert store.revoke_token(user.id, kept.key)
    assert store.find_token(secret) is None
    assert not store.revoke_token(user.id + 1, brief.key)
    with pytest.raises(InputError, match="time zone"):
        store.add_token(user.id, "naive", datetime(2030, 1, 1))  # noqa: DTZ001


def test_a_login_lasts_until_it_is_ended(store, user):
    login, cookie = store.add_login(user.id)
    other, second = store.add_login(user.id)
    assert (login.reader, login.began_at) == (user.reader, login.seen_at)
    store.touch_login(login)
    assert store.find_login(cookie) == login, "it was seen a moment ago"
    store.touch_login(login, always=True)
    assert store.find_login(cookie).seen_at > login.seen_at
    store.end_login(login.id)
    assert (store.find_login(cookie), store.find_login(second)) == (None, other)
    store.end_logins(user.id)
    assert store.find_login(second) is None


def test_a_role_counts_at_once(store, user):
    _, cookie = store.add_login(user.id)
    store.change_user(user.id, role=Role.REVIEWER)
    assert store.find_login(cookie).reader.role is Role.REVIEWER


def test_logins_that_ended_or_are_long_ago_are_forgotten(store, user):
    ended, _ = store.add_login(user.id)
    store.end_login(ended.id)
    _, cookie = store.add_login(user.id)
    assert store.retire_logins(3600) == 1
    assert store.find_login(cookie) is not None
    assert store.retire_logins(3600, datetime.now(UTC) + timedelta(hours=2)) == 1
    assert store.find_login(cookie) is None


def test_users_are_added_beside_a_running_server(store, user):
    with Store.open(store.folder, serving=False) as beside:
        added = beside.add_user("second", Role.REVIEWER, PASSWORD)
    assert store.verify("second", PASSWORD) == added.reader
