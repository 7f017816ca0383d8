"""Who may come in: users, tokens of programs, logins of people. No password, token or cookie is in the file."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, insert, select, update

from medsam.errors import InputError, printable
from medsam.store.part import Part, digest_of, new_key, new_secret, now
from medsam.store.readers import Reader, Role
from medsam.store.records import Login, Token, User
from medsam.store.tables import Logins, Tokens, Users

_LONGEST_NAME, _SHORTEST_PASSWORD, _LONGEST_PASSWORD = 100, 8, 1024
# how often the time of a login or token is written: each write waits for the disk
SEEN_AGAIN = timedelta(seconds=20.0)
# argon2id with the settings of RFC 9106 for little memory: 64 MiB and some 50 ms a try
_HASHER = PasswordHasher()
LOCAL = "local"


class People(Part):
    """Users, tokens, logins."""

    # -- users --------------------------------------------------------------------------------------------------

    def add_user(self, name: str, role: Role, password: str | None = None, kind: str = "person") -> User:
        """password: None for those whom a proxy names (`kind` "proxy").

        Raises InputError for a name that is taken, and for a name or password that will not do.
        """
        name = _name(name)
        if password is None and kind == "person":
            raise InputError("A user needs a `password`.", parameter="password")
        row = {
            "public_id": new_key(),
            "name": name,
            "kind": kind,
            "role": int(role),
            "password": None if password is None else _hash(password),
            "active": True,
            "added_at": now(),
        }
        with self._database.write() as connection:
            # of all letters, SQLite's own `lower` knows those of ASCII
            if name.casefold() in {one.casefold() for one in connection.execute(select(Users.name)).scalars()}:
                raise InputError("There is a user of this `name`.", parameter="name")
            connection.execute(insert(Users).values(row))
            return _user_where(connection, Users.public_id == row["public_id"])

    def verify(self, name: str, password: str) -> Reader | None:
        """Who logs in; None for a wrong name or password, and takes as long for the one as for the other."""
        with self._database.read() as connection:
            found = connection.execute(select(Users).where(Users.name == name)).first()
        kept = found.password if found is not None and found.active else None
        try:
            _HASHER.verify(kept or _nobodys(), _bytes(password[: _LONGEST_PASSWORD + 1]))
        except (VerificationError, InvalidHashError):
            return None
        if found is None or not kept:
            return None
        if _HASHER.check_needs_rehash(kept):
            with self._database.write() as connection:
                row = update(Users).where(Users.id == found.id, Users.password == kept)
                connection.execute(row.values(password=_HASHER.hash(_bytes(password))))
        return _user(found).reader

    def users(self) -> list[User]:
        """All but the local reader, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(Users).where(Users.kind != LOCAL).order_by(Users.name)).all()
        return [_user(row) for row in rows]

    def readers(self) -> list[Reader]:
        """Who may come in: users who have not left; the local reader where there are none."""
        return [user.reader for user in self.users() if user.active] or [self.local_reader()]

    def user(self, key: str) -> User | None:
        """By the key of URLs."""
        return self._find(Users.public_id == key)

    def user_named(self, name: str) -> User | None:
        """By the name they log in with; for who comes through a proxy, too."""
        return self._find(Users.name == name)

    def reader(self, user: int) -> Reader | None:
        """By id; None for one who is not active."""
        found = self._find(Users.id == user)
        return found.reader if found is not None and found.active else None

    def local_reader(self) -> Reader:
        """Who works on a server without users: an administrator of the name "local", made when asked for first."""
        found = self._find(Users.kind == LOCAL)
        return (found or self.add_user(LOCAL, Role.ADMINISTRATOR, kind=LOCAL)).reader

    def change_user(
        self, user: int, *, role: Role | None = None, active: bool | None = None, password: str | None = None
    ) -> User:
        """A new password, and leaving, end the user's logins; leaving ends the tokens too.

        Raises InputError where it would leave no administrator, and for a password that will not do.
        """
        change: dict[str, Any] = {} if role is None else {"role": int(role)}
        if active is not None:
            change["active"] = active
        if password is not None:
            change["password"] = _hash(password)
        return self._change(user, **change)

    def _change(self, user: int, **change: Any) -> User:
        moment = now()
        with self._database.write() as connection:
            before = _user_where(connection, Users.id == user)
            if change:
                connection.execute(update(Users).where(Users.id == user).values(change))
            after = _user_where(connection, Users.id == user)
            if _administers(before) and not _administers(after):
                others = select(Users.id).where(Users.role >= Role.ADMINISTRATOR, Users.active, Users.kind != LOCAL)
                if not connection.execute(others).first():
                    raise InputError("The last administrator has to stay one.", parameter="role")
            if "password" in change or not after.active:
                _end_logins(connection, user, moment)
            if not after.active:
                here = (Tokens.user_id == user) & Tokens.revoked_at.is_(None)
                connection.execute(update(Tokens).where(here).values(revoked_at=moment))
        return after

    def _find(self, which: Any) -> User | None:
        with self._database.read() as connection:
            row = connection.execute(select(Users).where(which)).first()
        return None if row is None else _user(row)

    # -- tokens -------------------------------------------------------------------------------------------------

    def add_token(self, user: int, name: str, expires_at: datetime | None = None) -> tuple[Token, str]:
        """The token, and its secret, which cannot be had again. Raises InputError for a name that will not do."""
        if expires_at is not None and expires_at.tzinfo is None:
            raise InputError("`expires_at` needs its time zone.", parameter="expires_at")
        secret = new_secret()
        row = {"public_id": new_key(), "user_id": user, "name": _name(name), "digest": digest_of(secret)}
        with self._database.write() as connection:
            connection.execute(insert(Tokens).values(**row, added_at=now(), expires_at=expires_at))
            added = connection.execute(select(Tokens).where(Tokens.public_id == row["public_id"])).one()
        return _token(added), secret

    def find_token(self, secret: str) -> tuple[Token, Reader] | None:
        """Whose secret this is; None when it was never given, is revoked or expired, or its user has left."""
        moment = now()
        with self._database.read() as connection:
            query = select(Tokens).join(Users, Users.id == Tokens.user_id)
            row = connection.execute(query.where(Tokens.digest == digest_of(secret), Users.active)).first()
            if row is None or row.revoked_at or (row.expires_at is not None and row.expires_at <= moment):
                return None
            reader = _user_where(connection, Users.id == row.user_id).reader
        if row.used_at is None or moment - row.used_at > SEEN_AGAIN:
            with self._database.write() as connection:
                connection.execute(update(Tokens).where(Tokens.id == row.id).values(used_at=moment))
        return _token(row), reader

    def tokens(self, user: int) -> list[Token]:
        """A user's, the revoked ones too, in the order in which they were made."""
        with self._database.read() as connection:
            rows = connection.execute(select(Tokens).where(Tokens.user_id == user).order_by(Tokens.id)).all()
        return [_token(row) for row in rows]

    def revoke_token(self, user: int, key: str) -> bool:
        """False where the user has no such token."""
        mine = (Tokens.user_id == user) & (Tokens.public_id == key)
        with self._database.write() as connection:
            if connection.execute(select(Tokens.id).where(mine)).first() is None:
                return False
            connection.execute(update(Tokens).where(mine, Tokens.revoked_at.is_(None)).values(revoked_at=now()))
        return True

    # -- logins -------------------------------------------------------------------------------------------------

    def add_login(self, user: int) -> tuple[Login, str]:
        """The login, and the secret of its cookie, which cannot be had again. Raises InputError for who has left."""
        secret, moment = new_secret(), now()
        with self._database.write() as connection:
            connection.execute(
                insert(Logins).values(user_id=user, digest=digest_of(secret), began_at=moment, seen_at=moment)
            )
            login = _login_where(connection, Logins.digest == digest_of(secret))
            if login is None:
                raise InputError("This user has left.")
        return login, secret

    def find_login(self, secret: str) -> Login | None:
        """None for one that never was or has ended. How long a login lasts, and when it locks, the caller says."""
        with self._database.read() as connection:
            return _login_where(connection, Logins.digest == digest_of(secret))

    def touch_login(self, login: Login, always: bool = False) -> None:
        """Its reader has just done something. Written once in a while, or at once (`always`)."""
        moment = now()
        if always or moment - login.seen_at > SEEN_AGAIN:
            with self._database.write() as connection:
                connection.execute(update(Logins).where(Logins.id == login.id).values(seen_at=moment))

    def end_login(self, login: int) -> None:
        """For good."""
        with self._database.write() as connection:
            here = (Logins.id == login) & Logins.ended_at.is_(None)
            connection.execute(update(Logins).where(here).values(ended_at=now()))

    def end_logins(self, user: int) -> None:
        """All of a user's, for good."""
        with self._database.write() as connection:
            _end_logins(connection, user, now())


def _end_logins(connection: Connection, user: int, moment: datetime) -> None:
    here = (Logins.user_id == user) & Logins.ended_at.is_(None)
    connection.execute(update(Logins).where(here).values(ended_at=moment))


def _name(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= _LONGEST_NAME or printable(name) != name or "\n" in name:
        raise InputError(f"A `name` has 1 to {_LONGEST_NAME} printable characters.", parameter="name")
    return name


def _hash(password: str) -> str:
    if not _SHORTEST_PASSWORD <= len(password) <= _LONGEST_PASSWORD:
        raise InputError(
            f"A `password` has {_SHORTEST_PASSWORD} to {_LONGEST_PASSWORD} characters.", parameter="password"
        )
    return _HASHER.hash(_bytes(password))


def _bytes(password: str) -> bytes:
    return password.encode(errors="surrogatepass")


@cache
def _nobodys() -> str:
    """Of a password that nobody has: looked at for names that are unknown, so that they take as long."""
    return _HASHER.hash(secrets.token_hex())


def _administers(user: User) -> bool:
    return user.active and user.role >= Role.ADMINISTRATOR and user.kind != LOCAL


def _user(row: Any) -> User:
    return User(row.id, row.public_id, row.name, Role(row.role), row.kind, row.active, row.added_at)


def _user_where(connection: Connection, which: Any) -> User:
    row = connection.execute(select(Users).where(which)).first()
    if row is None:
        raise InputError("There is no such user.")
    return _user(row)


def _token(row: Any) -> Token:
    return Token(
        row.id, row.public_id, row.user_id, row.name, row.added_at, row.expires_at, row.used_at, row.revoked_at
    )


def _login_where(connection: Connection, which: Any) -> Login | None:
    query = select(Logins, Users.name, Users.role).join(Users, Users.id == Logins.user_id)
    row = connection.execute(query.where(which, Users.active, Logins.ended_at.is_(None))).first()
    if row is None:
        return None
    return Login(row.id, Reader(row.user_id, row.name, Role(row.role)), row.began_at, row.seen_at)
