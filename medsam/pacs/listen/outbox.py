"""Sending results back: when, to whom, and again with growing waits until it works or is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsam.errors import InputError, MedSAMError, counted
from medsam.pacs.listen.events import Events
from medsam.pacs.listen.jobs import write_failure
from medsam.pacs.listen.names import SeriesKey, short
from medsam.pacs.listen.spool import Round, SeriesFolder, Spool
from medsam.pacs.settings import Server

_FIRST_WAIT_S, _LONGEST_WAIT_S, _GIVE_UP_S, _AFTER_ERROR_S = 10.0, 3600.0, 3 * 86400.0, 60.0
# attempts that are made at least, whatever the clock says
_GIVE_UP_AFTER = 24

# sends files to a server; raises MedSAMError
Send = Callable[[Server, Sequence[Path]], Any]


def wait_after(attempts: int) -> float:
    """Seconds until the next attempt: 10 s, then twice as long each time, an hour at most."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(attempts - 1, 20))


@dataclass
class Outbox:
    """What is to be sent: the records in the folder say it, and this remembers which they are. For all threads.

    gave_up: told of a series that was not taken for three days. clock: seconds since 1970; records outlive the process.
    """

    spool: Spool
    servers: Mapping[str, Server]
    send: Send
    events: Events
    gave_up: Callable[[SeriesKey], None]
    clock: Callable[[], float]
    _due: dict[tuple[SeriesKey, int], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, key: SeriesKey, made: Round) -> None:
        """A round was recorded that has something to send."""
        if made.send is not None and made.send["state"] == "waiting":
            with self._lock:
                self._due[key, made.number] = float(made.send["next"])

    def forget(self, key: SeriesKey) -> None:
        """A series is gone."""
        with self._lock:
            self._due = {one: due for one, due in self._due.items() if one[0] != key}

    def wait(self) -> float | None:
        """Seconds until something is due; None when nothing is waiting."""
        with self._lock:
            soonest = min(self._due.values(), default=None)
        return None if soonest is None else _still(soonest, self.clock())

    def __len__(self) -> int:
        with self._lock:
            return len(self._due)

    def holds(self, key: SeriesKey) -> bool:
        """Whether something of a series is still to be sent."""
        with self._lock:
            return any(one == key for one, _ in self._due)

    def send_due(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Send everything that is due, one after the other."""
        now = self.clock()
        with self._lock:
            due = sorted(one for one, when in self._due.items() if not _still(when, now))
        for key, number in due:
            if stopped():
                return
            try:
                self._attempt(self.spool.find(key), number)
            except Exception as error:  # the record cannot be written: what was sent may be sent again, not at once
                with self._lock:
                    self._due[key, number] = self.clock() + _AFTER_ERROR_S
                self.events(
                    "error",
                    "series {series}: its record cannot be written: {message}",
                    series=short(key.series),
                    message=getattr(error, "strerror", None) or type(error).__name__,
                )

    def _attempt(self, series: SeriesFolder, number: int) -> None:
        made = _waiting(series.rounds(), number)
        if made is None:
            with self._lock:
                self._due.pop((series.key, number), None)
            return
        error = self._deliver(series, made)
        with self.spool.records:
            rounds = series.rounds()
            made = next((one for one in rounds if one.number == number), made)
            send = self._after(made, error)
            if send["state"] == "failed":
                write_failure(self.spool.failure(series.key), series.key, made, f"Not sent: {error}")
            series.record(rounds)
        if send["state"] == "failed":
            self.gave_up(series.key)
        with self._lock:
            if send["state"] == "waiting":
                self._due[series.key, number] = send["next"]
            else:
                self._due.pop((series.key, number), None)
        self._say(series.key, made, send)

    def _after(self, made: Round, error: str | None) -> dict[str, Any]:
        """How the sending of a round stands after an attempt. error: why it did not work."""
        send = made.send = dict(made.send or {})
        now = made.ended = self.clock()
        send["attempts"] += 1
        # a clock that was put back
        since = send["since"] = min(now, send.get("since", now))
        if error is None:
            send |= {"state": "sent", "message": ""}
        elif send["state"] == "waiting":
            given_up = now - since > _GIVE_UP_S and send["attempts"] >= _GIVE_UP_AFTER
            send |= {"message": error, "next": now + wait_after(send["attempts"])}
            send["state"] = "failed" if given_up else "waiting"
        return send

    def _deliver(self, series: SeriesFolder, made: Round) -> str | None:
        """Send the results of a round. Returns why that did not work."""
        server = str((made.send or {}).get("server"))
        files = [series.results(made.number) / one["file"] for one in made.results]
        try:
            if server not in self.servers:
                raise InputError("The settings name its server no longer.")
            self.send(self.servers[server], files)
        except MedSAMError as error:
            return str(error)
        except Exception as error:  # whatever a network library raises; its text may quote what was sent
            return type(error).__name__
        return None

    def _say(self, key: SeriesKey, made: Round, send: dict[str, Any]) -> None:
        text = {
            "sent": "series {series}: {results} sent to {server}",
            "waiting": "series {series}: not sent to {server} yet (attempt {attempts}), again in {wait}: {message}",
            "obsolete": "series {series}: not sent to {server}, and a newer result takes its place",
            "failed": "series {series}: NOT SENT to {server} after {attempts} attempts: {message}",
        }[send["state"]]
        self.events(
            f"send_{send['state']}",
            text,
            series=short(key.series),
            study=short(key.study),
            round=made.number,
            results=counted(len(made.results), "result"),
            server=send["server"],
            attempts=send["attempts"],
            wait=f"{wait_after(send['attempts']):.0f} s",
            message=send["message"],
        )


def _still(due: float, now: float) -> float:
    """Seconds to wait. What is more than the longest wait ahead was noted before the clock was put back: it is due."""
    wait = due - now
    return wait if 0 < wait <= _LONGEST_WAIT_S else 0.0


def _waiting(rounds: Sequence[Round], number: int) -> Round | None:
    """A round, if its results are still to be sent."""
    found = next((one for one in rounds if one.number == number), None)
    return found if found is not None and found.send is not None and found.send["state"] == "waiting" else None
