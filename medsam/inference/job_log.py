"""What became of every case of a job, in one table: `jobs.csv`.

    case,state,reason,seconds,host
    p001,done,,3.214,node-a
    p002,failed,"Case p002, image: ...",0.102,node-b
    p003,waiting,,,

The table is written whole, every few seconds while the job runs and at its end. One that was killed has lost at most
the seconds and hosts of the last cases: whether a case is done is told by its result, not by this table.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medsam.files import write_text
from medsam.inference.job_queue import Ended

COLUMNS = ("case", "state", "reason", "seconds", "host")
# seconds between two writes, and the share of the time that writing may take
_EVERY, _SHARE = 2.0, 0.02


@dataclass
class _Row:
    state: str = "waiting"
    reason: str = ""
    seconds: str = ""
    host: str = ""


class JobLog:
    """A table of the cases of a job.

    names: of all cases, in their order. write: takes the text of the table; None keeps none. before: the table of an
    earlier run, whose seconds and hosts of cases that are done stay.
    """

    def __init__(
        self, names: Sequence[str] = (), write: Callable[[str], None] | None = None, before: str | None = None
    ) -> None:
        self._names, self._write = names, write
        self._rows: list[_Row] = []
        self._before = _read(before or "")
        self._due = 0.0

    @classmethod
    def in_file(cls, path: Path, names: Sequence[str]) -> JobLog:
        """The table in a file, which need not be there; its folder has to be when the job begins."""
        before = None
        with suppress(OSError, UnicodeDecodeError):
            before = path.read_text(encoding="utf-8")
        return cls(names, lambda text: write_text(path, text), before)

    @contextmanager
    def of(self, count: int, todo: Sequence[int]) -> Iterator[None]:
        """For as long as the job runs; todo: cases that are not done yet. Written at its end, however it ends."""
        waiting = set(todo)
        self._rows = [_Row() if number in waiting else self._kept(number) for number in range(count)]
        self._save()
        try:
            yield
        except BaseException:
            # what ended the job is what the user has to know; the disk may be full
            with suppress(OSError):
                self._save()
            raise
        self._save()

    def ended(self, number: int, ended: Ended) -> None:
        """A case is done, or has failed."""
        state = "done" if ended.failure is None else "failed"
        self._rows[number] = _Row(state, ended.failure or "", f"{ended.seconds:.3f}", ended.host)
        if time.monotonic() >= self._due:
            self._save()

    def _kept(self, number: int) -> _Row:
        row = self._before.get(self._names[number]) if self._names else None
        return row if row is not None and row.state == "done" else _Row("done")

    def _save(self) -> None:
        if self._write is None:
            return
        started = time.monotonic()
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for name, row in zip(self._names, self._rows, strict=True):
            table.writerow((name, row.state, row.reason, row.seconds, row.host))
        self._write(text.getvalue())
        spent = time.monotonic() - started
        self._due = started + spent + max(_EVERY, spent / _SHARE)


def _read(text: str) -> dict[str, _Row]:
    """The rows of a table by case; none of one that is no such table."""
    with suppress(csv.Error):
        header, *rows = [*csv.reader(io.StringIO(text))] or [[]]
        if tuple(header) == COLUMNS:
            return {row[0]: _Row(*row[1:]) for row in rows if len(row) == len(COLUMNS)}
    return {}
