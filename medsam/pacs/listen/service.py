"""The receiver: what comes is stored, what is complete is worked on, what was made is sent, what is old goes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from medsam.errors import Cancelled, counted
from medsam.files import write_text
from medsam.io.dicom.read import quiet
from medsam.pacs.listen.config import ListenSettings
from medsam.pacs.listen.events import Events
from medsam.pacs.listen.incoming import Part, Refused
from medsam.pacs.listen.jobs import Jobs
from medsam.pacs.listen.messages import Access, Hooks
from medsam.pacs.listen.model_run import Models
from medsam.pacs.listen.names import SeriesKey, short
from medsam.pacs.listen.outbox import Outbox, Send
from medsam.pacs.listen.rules import described
from medsam.pacs.listen.server import Server
from medsam.pacs.listen.spool import SeriesFolder, Spool, digest_of
from medsam.pacs.listen.storage import Request, Storage
from medsam.pacs.listen.watcher import Watcher

# seconds between looks at the folder, at what is old, and between lines about one kind of refusal
_LOOK_S, _CLEAN_S, _SAY_S = 1.0, 60.0, 10.0
# seconds that two clocks may come apart between two looks at what is old: beyond, one of them was put
_JUMP_S = 60.0


class Receiver:
    """Runs from `start` to `stop`; `loop` in between, which returns after `end` was called.

    send: how results go to a server. clock: seconds from anywhere. now: seconds since 1970.
    Raises InputError for what is wrong with the settings, the folder, a model, or the port.
    """

    def __init__(
        self,
        settings: ListenSettings,
        events: Events,
        send: Send,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.events, self.clock, self.now = settings, events, clock, now
        tls = settings.tls()
        self.spool = Spool(settings.folder, settings.quota, settings.keep_free)
        self.models = Models(settings.rules, settings.device, settings.engine)
        self.jobs = Jobs(self.spool, settings.rules, self.models, events, self._is_ending)
        self.outbox = Outbox(self.spool, settings.servers or {}, send, events, self._failed, now)
        self._storage = Storage(self.spool, self._arrived)
        self._watcher = Watcher(settings.quiet_s)
        # guards the watcher and the numbers
        self._lock = threading.Lock()
        self._wake, self._ending = threading.Event(), threading.Event()
        self._received, self._refusals = 0, Counter[str]()
        self._said: dict[str, float] = {}
        self._failing: set[SeriesKey] = set()
        self._next_look = self._next_clean = 0.0
        self._apart, self._ahead = now() - clock(), 0.0
        self._status = ""
        self._pool = ThreadPoolExecutor(settings.jobs, "job")
        self._sender = ThreadPoolExecutor(1, "send")
        self._sending: Future[None] | None = None
        try:
            self.server = Server(_access(settings, tls), self._hooks())
        except BaseException:
            self.spool.close()
            raise

    @property
    def port(self) -> int:
        return self.server.port

    def start(self, *, retry: bool = False) -> None:
        """Load models, go on with what is in the folder, and listen. retry: also what failed."""
        loaded = self.models.load()
        if retry:
            for path in self.spool.failures():
                path.unlink(missing_ok=True)
        with quiet():
            self._resume()
        self.server.start()
        settings = self.settings
        self.events(
            "listening",
            "listening at {host}, port {port}, as {aet}{tls}; {rules}; {used:.2f} of {quota:.2f} GiB used",
            host=settings.host,
            port=self.port,
            aet=settings.aet,
            tls=" with TLS" if settings.cert else "",
            rules=described(settings.rules),
            models=loaded,
            used=self.spool.space.used / 2**30,
            quota=settings.quota / 2**30,
        )
        warnings = settings.warnings()
        if not self.spool.space.has_room(2**20):
            warnings.append("there is no room, so that nothing will be taken: see `quota_gib` and `keep_free_gib`.")
        for text in warnings:
            self.events("warning", "WARNING: {message}", message=text)

    def loop(self) -> None:
        """Do what is due, until `end`."""
        while not self._ending.is_set():
            try:
                # pydicom's remarks on damaged headers quote them
                with quiet():
                    wait = self.tick()
            except OSError as error:  # a disk that fails may come back
                wait = _LOOK_S
                self.events("error", "the folder: {message}", message=error.strerror or type(error).__name__)
            self._wake.wait(wait)
            self._wake.clear()

    def end(self) -> None:
        """Have `loop` return; from any thread or a signal."""
        self._ending.set()
        self._wake.set()

    def stop(self) -> None:
        """Finish the instances under way, interrupt jobs, which begin anew at the next start, and leave the folder."""
        self.end()
        self.server.stop()
        self._pool.shutdown(cancel_futures=True)
        self._sender.shutdown(cancel_futures=True)
        self.models.close()
        self.server.sweep()
        self._write_status(running=False)
        self.spool.close()
        self.events("stopped", "stopped")

    def tick(self) -> float:
        """Do what is due. Returns seconds until it should be called again, unless something comes before."""
        now = self.clock()
        self.server.sweep()
        with self._lock:
            complete = self._watcher.take(now)
        for key in complete:
            self._pool.submit(self._job, key)
        if self.outbox.wait() == 0 and not self._is_sending():
            self._sending = self._sender.submit(self.outbox.send_due, self._is_ending)
            self._sending.add_done_callback(lambda _: self._wake.set())
        if now >= self._next_look:
            self._next_look = now + _LOOK_S
            self._retry_removed()
            self._write_status()
        if now >= self._next_clean:
            self._next_clean = now + _CLEAN_S
            self._remove_old()
        with self._lock:
            wait = self._watcher.wait(now)
        waits = [wait, None if self._is_sending() else self.outbox.wait()]
        return max(0.01, min([_LOOK_S, *(one for one in waits if one is not None)]))

    # -- what the server tells -----------------------------------------------------------------------------------------

    def _hooks(self) -> Hooks:
        def part(header: Callable[[], bytes]) -> Part:
            return Part(self.spool.part_path(), header, self.spool.space, self.settings.instance_bytes)

        return Hooks(part, self._store, self._transfer, self._gone, self._refused)

    def _store(self, part: Part, request: Request) -> None:
        try:
            self._storage.store(part, request)
        except Refused as refused:
            self._refused(refused.comment, what="an instance")
            raise

    def _arrived(self, key: SeriesKey, sender: Hashable, new: bool) -> None:
        now = self.clock()
        with self._lock:
            if new:
                self._received += 1
                self._watcher.arrived(key, now, sender)
            else:
                self._watcher.touched(key, now)
        self._wake.set()

    def _transfer(self, sender: Hashable, under_way: bool) -> None:
        with self._lock:
            self._watcher.transfer(sender, self.clock(), under_way=under_way)

    def _gone(self, sender: Hashable) -> None:
        with self._lock:
            self._watcher.gone(sender)
        self._wake.set()

    def _refused(self, why: str, titles: str = "", *, what: str = "a sender") -> None:
        """Count it, and say so now and then: who is turned away may come a thousand times."""
        now = self.clock()
        with self._lock:
            self._refusals[why] += 1
            times = self._refusals[why]
            if now < self._said.get(why, now):
                return
            self._said[why] = now + _SAY_S
        text = "refused {what}: {why} ({times} so far)" + ("; {titles}" if titles else "")
        self.events("refused", text, what=what, why=why, times=times, titles=titles)

    # -- what is due ---------------------------------------------------------------------------------------------------

    def _is_ending(self) -> bool:
        return self._ending.is_set()

    def _is_sending(self) -> bool:
        return self._sending is not None and not self._sending.done()

    def _failed(self, key: SeriesKey) -> None:
        """A job or a sending; there is a file that says so."""
        with self._lock:
            self._failing.add(key)

    def _job(self, key: SeriesKey) -> None:
        """In the pool: one round of a series."""
        try:
            with self._lock:
                # it waited for its turn, and more has come: it is not complete
                begun = not self._watcher.newer(key) and not self._ending.is_set()
            if begun:
                # as in `loop`; each thread says so for itself
                with quiet():
                    self._round(key)
        except Cancelled:
            pass
        except Exception as error:  # the disk is full, or a defect of ours: the receiver goes on
            self.events(
                "error",
                "series {series}: {message}; it is tried again in a minute",
                series=short(key.series),
                message=getattr(error, "strerror", None) or type(error).__name__,
            )
            with self._lock:
                self._watcher.arrived(key, self.clock() + _CLEAN_S)
        finally:
            with self._lock:
                self._watcher.ended(key)
            self._wake.set()

    def _round(self, key: SeriesKey) -> None:
        """Raises Cancelled, and OSError when it could not be recorded."""
        made = self.jobs.work(key)
        if made is None:
            return
        self.outbox.add(key, made)
        if made.state == "none" and self.jobs.wants_measurements:
            self._wake_measured(key)
        if made.state == "failed":
            self._failed(key)
        else:
            with self._lock:
                self._failing.discard(key)

    def _wake_measured(self, key: SeriesKey) -> None:
        """A series is complete that may hold measurements: those of its study that they were drawn on are due again."""
        for series in self.spool.study(key.study):
            if series.key != key and series.rounds() and self.jobs.is_due(series):
                with self._lock:
                    self._watcher.arrived(series.key, self.clock() - self.settings.quiet_s)

    def _resume(self) -> None:
        """Put into memory what the folder says is to be done."""
        waiting = 0
        for series in self.spool.series():
            rounds = series.rounds()
            for made in rounds:
                self.outbox.add(series.key, made)
                if made.send is not None and made.send["state"] == "failed":
                    self._failing.add(series.key)
            if self.jobs.is_due(series):
                waiting += 1
                self._watcher.arrived(series.key, self.clock())
            elif rounds[-1].state == "failed":
                self._failing.add(series.key)
        if waiting or len(self.outbox):
            self.events(
                "resumed",
                "going on with {series} and {results} to be sent",
                series=counted(waiting, "series", "series"),
                results=counted(len(self.outbox), "result"),
            )

    def _retry_removed(self) -> None:
        """Try again what failed and whose file in `failed` is gone."""
        with self._lock:
            removed = [key for key in self._failing if not self.spool.failure(key).exists()]
        for key in removed:
            series = self.spool.find(key)
            with self.spool.records:
                rounds = series.rounds()
                again = [one for one in rounds if one.send is not None and one.send["state"] == "failed"]
                for made in again:
                    made.send = {**(made.send or {}), "state": "waiting", "attempts": 0, "next": 0.0}
                    made.send.pop("since", None)
                if again:
                    series.record(rounds)
            for made in again:
                self.outbox.add(key, made)
            with self._lock:
                self._failing.discard(key)
                if rounds and rounds[-1].state == "failed":
                    self._watcher.arrived(key, self.clock() - self.settings.quiet_s)

    def _remove_old(self) -> None:
        """Remove series that were finished long enough ago, and that nothing is done with."""
        self._note_jump()
        for series in list(self.spool.series()):
            with suppress(OSError):
                files = series.files()
                if self._is_old(series, files) and (size := self.spool.remove(series, digest_of(files))) is not None:
                    self.outbox.forget(series.key)
                    with self._lock:
                        self._failing.discard(series.key)
                    self.events(
                        "removed",
                        "series {series}: removed after {days:g} days, {mib:.1f} MiB",
                        series=short(series.key.series),
                        study=short(series.key.study),
                        days=self.settings.keep_s / 86400,
                        mib=size / 2**20,
                    )

    def _is_old(self, series: SeriesFolder, files: Sequence[Path]) -> bool:
        rounds = series.rounds()
        with self._lock:
            idle = self._watcher.is_idle(series.key)
        if not idle or self.jobs.is_due(series) or self.outbox.holds(series.key):
            return False
        last = max(rounds[-1].ended, *(path.stat().st_mtime for path in files))
        return self.now() - self._ahead - last > self.settings.keep_s

    def _note_jump(self) -> None:
        """A clock that is put forward makes nothing old: that time has not passed. (Nor has it, by the other clock,
        while a machine sleeps.)"""
        apart = self.now() - self.clock()
        jump, self._apart = apart - self._apart, apart
        if abs(jump) > _JUMP_S:
            self._ahead = max(0.0, self._ahead + jump)
            self.events(
                "clock",
                "the clock was put {where} by {seconds:.0f} s",
                where="forward" if jump > 0 else "back",
                seconds=abs(jump),
            )

    def status(self) -> dict[str, Any]:
        """Numbers for a monitor."""
        with self._lock:
            return {
                "associations": self.server.associations,
                "arriving": self._watcher.arriving,
                "at_work": self._watcher.at_work,
                "to_be_sent": len(self.outbox),
                "failed": len(self._failing),
                "received_instances": self._received,
                "refused": dict(self._refusals),
                "bytes": self.spool.space.used,
                "quota_bytes": self.settings.quota,
            }

    def _write_status(self, *, running: bool = True) -> None:
        numbers = json.dumps(self.status())
        if numbers == self._status and running:
            # a monitor sees by its age whether the receiver lives
            with suppress(OSError):
                os.utime(self.spool.folder / "status.json")
            return
        self._status = numbers
        document = {"running": running, "pid": os.getpid(), **json.loads(numbers)}
        with suppress(OSError):
            write_text(self.spool.folder / "status.json", json.dumps(document, indent=1) + "\n")


def _access(settings: ListenSettings, tls: Any) -> Access:
    return Access(
        aet=settings.aet,
        calling=settings.calling,
        host=settings.host,
        port=settings.port,
        tls=tls,
        classes=settings.classes,
        associations=settings.associations,
        timeout_s=settings.timeout_s,
        instance_bytes=settings.instance_bytes,
    )
