"""When a series is complete: DICOM has no word for it, so when nothing of it has come for a quiet time.

Pure bookkeeping with the clock handed in, so that tests decide what time it is. Not for several threads.
"""

from __future__ import annotations

from collections.abc import Hashable

from medsam.pacs.listen.names import SeriesKey


class Watcher:
    """Series that are arriving, and those that are at work.

    quiet_s: how long nothing may have come of a series until it is complete. A sender that is in the middle of an
    instance keeps all series open that it has sent before: the slow last slice of a scan belongs to it.
    """

    def __init__(self, quiet_s: float) -> None:
        self.quiet_s = quiet_s
        self._last: dict[SeriesKey, float] = {}
        self._running: set[SeriesKey] = set()
        # sender -> series that it has sent
        self._sent: dict[Hashable, set[SeriesKey]] = {}
        self._busy: set[Hashable] = set()

    def arrived(self, key: SeriesKey, now: float, sender: Hashable = None) -> bool:
        """An instance of a series is on the disk. Returns whether the series was at rest before."""
        rested = key not in self._last
        self._last[key] = max(now, self._last.get(key, now))
        if sender is not None:
            self._sent.setdefault(sender, set()).add(key)
        return rested

    def touched(self, key: SeriesKey, now: float) -> None:
        """An instance came again that was there: it counts for a series that is arriving, and wakes no other."""
        if key in self._last:
            self._last[key] = max(now, self._last[key])

    def transfer(self, sender: Hashable, now: float, *, under_way: bool) -> None:
        """A sender has begun, or ended, an instance."""
        if under_way:
            self._busy.add(sender)
            return
        self._busy.discard(sender)
        # what it was about may have been another series; the quiet time begins here all the same
        for key in self._sent.get(sender, ()):
            self.touched(key, now)

    def gone(self, sender: Hashable) -> None:
        """A sender has left, however."""
        self._busy.discard(sender)
        self._sent.pop(sender, None)

    def take(self, now: float) -> list[SeriesKey]:
        """Series that are complete now and not at work, the longest quiet first; they count as at work from here on."""
        complete = sorted((last, key) for key, last in self._last.items() if self._open_until(key, last) <= now)
        found = [key for _, key in complete if key not in self._running]
        for key in found:
            del self._last[key]
        self._running.update(found)
        return found

    def ended(self, key: SeriesKey) -> bool:
        """The work on a series is over. Returns whether more of it came meanwhile: a new round follows by itself."""
        self._running.discard(key)
        return key in self._last

    def newer(self, key: SeriesKey) -> bool:
        """Whether instances came since a series was taken."""
        return key in self._last

    def wait(self, now: float) -> float | None:
        """Seconds until `take` may find something; None when only an arrival or the end of work changes that."""
        times = [self._open_until(key, last) for key, last in self._last.items() if key not in self._running]
        soonest = min(times, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - now)

    @property
    def arriving(self) -> int:
        """How many series are not complete."""
        return len(self._last)

    @property
    def at_work(self) -> int:
        """How many series are being worked on, or wait for it."""
        return len(self._running)

    def is_idle(self, key: SeriesKey) -> bool:
        """Whether a series neither arrives nor is at work."""
        return key not in self._last and key not in self._running

    def _open_until(self, key: SeriesKey, last: float) -> float:
        if any(key in self._sent.get(sender, ()) for sender in self._busy):
            return float("inf")
        return last + self.quiet_s
