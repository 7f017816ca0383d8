"""Who asks: a token, what a trusted proxy says, a login's cookie, or the one reader of this machine; in this order.

Whoever presents something that does not hold is refused, and not taken for somebody else by the next in order.

A login is a row of the store, found by the digest of its cookie. It ends after `ends_after` seconds, and locks after
`lock_after` seconds without a request that a person caused; the password opens it again. When a reader was last seen
is kept in memory and written to the store now and then, so a restart may lock somebody a little early, never late.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from medsam.errors import InputError
from medsam.server.gate.origins import csrf_of
from medsam.server.gate.request import Asked, Refused, is_loopback
from medsam.server.gate.rules import PrefixRules, Way
from medsam.server.gate.throttle import Buckets, Lockouts, remember
from medsam.server.settings import ServerSettings
from medsam.store.people import SEEN_AGAIN
from medsam.store.readers import Reader, Role
from medsam.store.records import Login, User
from medsam.store.store import Calls, Store

# wrong passwords that cost nothing: from one address, and of one name from all of them
_FREE_HERE, _FREE_ANYWHERE = 5, 50
# a hash takes 64 MiB and a core: no crowd of guesses has more than this at a time
_HASHES = 2
# lines of the audit that are on their way: the store takes one at a time
_WRITERS = 2
# A clock is set right by less than this. One that was put back further would let logins last that long more: they end.
_CLOCK_STEP = timedelta(minutes=5)
# a reader's looks at one case are one line of the audit for so long
_NEWS = timedelta(hours=1)
# requests a minute from an address that nobody is recognised in
_STRANGERS = 1200
LOG_IN = "Log in first."


@dataclass(frozen=True)
class Present:
    """A recognised reader. login: of a cookie. csrf: what changes have to carry; None where nothing is needed."""

    reader: Reader
    way: Way
    login: Login | None = None
    csrf: str | None = None


class Gate:
    """Recognises readers and counts what they ask. Methods are for the event loop; the store waits in threads.

    Raises InputError when an address beyond this machine's is asked for, and nobody could tell who comes.
    """

    def __init__(self, settings: ServerSettings, store: Store) -> None:
        self._settings, self._store = settings, store
        check_address(settings, bool(store.users()))
        self._alone = is_loopback(settings.host) and settings.proxy is None
        # there in any case, so that nobody comes by its name
        self._local = store.local_reader()
        self.https = settings.https
        self.cookie = "__Host-medsam" if settings.https else "medsam"
        self.readers = Buckets(settings.limits.requests_per_minute)
        self._strangers = Buckets(min(_STRANGERS, settings.limits.requests_per_minute))
        self.login_tries = Buckets(settings.limits.logins_per_minute)
        self._here, self._anywhere = Lockouts(_FREE_HERE), Lockouts(_FREE_ANYWHERE, most=60.0)
        # of their own, each: who is recognised waits for no other work, not even for lines of the audit
        self.calls, self.hashing, self.writing = Calls(), Calls(_HASHES), Calls(_WRITERS)
        self._seen: OrderedDict[int, datetime] = OrderedDict()
        self._looks: OrderedDict[tuple[int, str, str], tuple[datetime, asyncio.Future[None]]] = OrderedDict()
        # of readers that a proxy names; a page asks for it anew after a restart
        self._key = secrets.token_bytes(32)

    # -- recognising --------------------------------------------------------------------------------------------------

    async def recognise(self, asked: Asked, rules: PrefixRules, *, locked: bool = False) -> Present | None:
        """Who asks; None for a stranger. locked: whether a locked login will do.

        Raises Refused: 401 for what does not hold (or no longer), 403 for a way that is not taken here, 423.
        """
        named = self.check_proxy(asked)
        present: Present | None = None
        if (token := asked.bearer) is not None:
            present = await self._by_token(token)
        elif named is not None:
            present = await self._by_proxy(named)
        elif (secret := asked.cookie(self.cookie)) is not None:
            present = await self._by_cookie(secret, locked)
        elif self._alone and asked.from_this_machine and await self.is_open():
            present = Present(self._local, "local")
        if present is not None and present.way not in rules.ways:
            raise Refused(403, "This way of saying who you are is not taken here.")
        return present

    def check_proxy(self, asked: Asked) -> str | None:
        """The user whom the trusted proxy names. Refuses the same header from anybody else (403), and two (400)."""
        proxy = self._settings.proxy
        named = None if proxy is None or proxy.header is None else asked.one(proxy.header.lower())
        if named is not None and not asked.through_proxy:
            raise Refused(403, "Only the trusted proxy may say who its users are.")
        return named

    def count_stranger(self, asked: Asked, what: str = "") -> None:
        """One more request that nobody is recognised in. Refuses (429) when there were too many from its address.

        what: counted apart, for what anybody may ask.
        """
        if (wait := self._strangers.wait((asked.address, what))) > 0:
            raise too_many(wait, "Too many requests")

    async def is_open(self) -> bool:
        """Whether nobody has to log in: on this machine alone, and as long as there are no users."""
        return self._alone and not await self.calls(self._store.users)

    async def _by_token(self, token: str) -> Present:
        found = await self.calls(self._store.find_token, token)
        # what a program was given while there were no users does not outlive that
        if found is None or (found[1].id == self._local.id and not await self.is_open()):
            raise Refused(401, "This token is not known, or not valid any more.", {"WWW-Authenticate": "Bearer"})
        return Present(found[1], "token")

    async def _by_proxy(self, named: str) -> Present:
        try:
            user = await self.calls(self._from_proxy, named.encode("latin-1").decode("utf-8"))
        except (UnicodeError, InputError):
            raise Refused(403, "The proxy's name of the user cannot be used.") from None
        # a proxy that passes on what clients send would make anybody whom they name
        if not user.active or user.kind != "proxy":
            raise Refused(403, "This user may not come in by a proxy's word.")
        token = hmac.new(self._key, str(user.id).encode(), hashlib.sha256).hexdigest()
        return Present(user.reader, "proxy", csrf=token)

    def _from_proxy(self, name: str) -> User:
        """The user of that name, who is made a reader when seen first."""
        known = self._store.user_named(name)
        if known is not None:
            return known
        try:
            return self._store.add_user(name, Role.READER, kind="proxy")
        except InputError:
            # another request has been faster
            if (known := self._store.user_named(name)) is None:
                raise
            return known

    async def _by_cookie(self, secret: str, locked: bool) -> Present | None:
        login = await self.calls(self._store.find_login, secret)
        if login is None:
            return None
        now = datetime.now(UTC)
        if not -_CLOCK_STEP <= now - login.began_at <= timedelta(seconds=self._settings.ends_after):
            await self.calls(self._store.end_login, login.id)
            return None
        if self._is_locked(login, now) and not locked:
            raise Refused(423, "Locked after a while without use: give the password to /unlock.")
        return Present(login.reader, "login", login, csrf_of(secret))

    def _is_locked(self, login: Login, now: datetime) -> bool:
        # what is in memory is the later of the two, whatever the clock said
        idle = now - self._seen.get(login.id, login.seen_at)
        return not -_CLOCK_STEP <= idle <= timedelta(seconds=self._settings.lock_after)

    async def seen(self, present: Present, *, at_once: bool = False) -> None:
        """A person has just done something. at_once: written to the store now."""
        if present.login is None:
            return
        self._seen[present.login.id] = datetime.now(UTC)
        remember(self._seen, present.login.id)
        if at_once or datetime.now(UTC) - present.login.seen_at > SEEN_AGAIN:
            await self.calls(self._store.touch_login, present.login, at_once)

    async def once(
        self, present: Present, what: str, ids: Mapping[str, Any], write: Callable[[], Awaitable[None]]
    ) -> None:
        """Have `write` note a reader's look at a case or session, where it is the first within an hour: they are read
        in many pieces. Returns when it is noted, whoever did; raises what `write` raised, and then it is not."""
        about = next((str(ids[name]) for name in ("route", "session", "study", "case") if name in ids), "")
        key, now = (present.reader.id, what, about), datetime.now(UTC)
        begun, noted = self._looks.get(key, (now - _NEWS, None))
        if noted is None or abs(now - begun) >= _NEWS:
            noted = asyncio.ensure_future(write())
            self._looks[key] = now, noted
            remember(self._looks, key)
        try:
            await asyncio.shield(noted)
        except Exception:
            if (known := self._looks.get(key)) is not None and known[1] is noted:
                del self._looks[key]
            raise

    # -- passwords ----------------------------------------------------------------------------------------------------

    async def verify(self, name: str, password: str, asked: Asked, login: Login | None = None) -> Reader | None:
        """Who has this name and password; None for a wrong one. Takes as long for names that there are not.

        login: of whom it is asked anew; then nobody else's failures count.
        Raises Refused (429) when there were too many tries, whether or not there is such a name.
        """
        known = name[:200].casefold()
        here = (known, asked.address if login is None else login.id)
        wait = self._here.wait(here)
        if login is None:
            wait = max(wait, self._anywhere.wait(known)) or self.login_tries.wait(asked.address)
        if wait > 0:
            raise too_many(wait, "Too many tries to log in")
        reader = await self.hashing(self._store.verify, name, password)
        if reader is None:
            self._here.failed(here)
            if login is None:
                self._anywhere.failed(known)
        else:
            self._here.succeeded(here)
            self._anywhere.succeeded(known)
            if login is None:
                # many come from one address in the morning
                self.login_tries.give_back(asked.address)
        return reader


def check_address(settings: ServerSettings, has_users: bool) -> None:
    """Refuse to let in people beyond this machine without a way to tell who comes. Raises InputError.

    Whoever names the server, or has https spoken before it, has a proxy bring others to it.
    """
    if has_users or (settings.proxy is not None and settings.proxy.header is not None):
        return
    if behind := [name for name in settings.hosts if not is_loopback(name.lower())]:
        raise InputError(
            f"`hosts` {behind[0]} is a name for others, and this server has no users. Add one first (`add_user`), or "
            "name a `proxy` that logs people in.",
            parameter=("hosts", "proxy", "add_user"),
        )
    if not is_loopback(settings.host):
        raise InputError(
            f"`host` {settings.host} lets others in, and this server has no users. Add one first (`add_user`), name "
            "a `proxy` that logs people in, or stay at 127.0.0.1.",
            parameter=("host", "proxy", "add_user"),
        )


def too_many(seconds: float, what: str) -> Refused:
    """A refusal (429) that says how long to wait."""
    wait = max(1, math.ceil(seconds))
    return Refused(429, f"{what}: try again in {wait} s.", {"Retry-After": str(wait)})
