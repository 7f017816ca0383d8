"""One piece of work for many cases: in this process, in several, or on a Ray cluster; what is done stays done.

    found = run_cases(cases, work, Workers(processes=4), is_done=lambda case: (folder / case.id).exists())
    found.raise_failures([case.id for case in cases], "be measured", "The others are kept.")

A case that fails (a `MedSAMError`: a broken file, a prompt that does not fit) does not stop the others; they are all
named at the end. Anything else is a defect of ours and stops the job at once. Results come in the order of the cases,
in whatever order and by whatever worker they were made. `JobLog` keeps what became of each in one table.

Each worker has its own copy of `work`, so weights are loaded once, and is given one case at a time, so long cases
delay no others; none while the scans in work would need more memory than there is (`bytes_of`).

Processes of this machine: `job_processes`. A cluster: `job_ray`; nothing of Ray is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

from medsam.errors import InputError, counted
from medsam.inference.job_log import JobLog
from medsam.inference.job_processes import shared_out
from medsam.inference.job_queue import CaseWork, Ended, JobFailed, Workers, queue_of, tried
from medsam.processes import free_memory
from medsam.progress import ProgressCallback

__all__ = ["CaseResults", "CaseWork", "JobFailed", "JobLog", "Workers", "run_cases"]

Case = TypeVar("Case")
Result = TypeVar("Result")

# failed cases that are listed by name
_LISTED = 20
# of the memory that is free when a job begins, what scans may take
_SHARE = 0.8


@dataclass(frozen=True)
class CaseResults(Generic[Result]):
    """What became of each case.

    results: in the order of the cases; None for one that failed or was done before. failures: number of the case ->
    why, ascending.
    """

    results: tuple[Result | None, ...]
    failures: Mapping[int, str]

    def raise_failures(self, names: Sequence[str], what: str, others: str) -> None:
        """Raise InputError that names the failed cases, if there are any.

        names: of all cases. what: "be measured", what they could not. others: a sentence on the rest.
        """
        if not self.failures:
            return
        listed = "\n".join(f"  {names[number]}: {why}" for number, why in [*self.failures.items()][:_LISTED])
        more = f"\n  and {len(self.failures) - _LISTED} more" if len(self.failures) > _LISTED else ""
        raise InputError(
            f"{len(self.failures)} of {counted(len(names), 'case')} could not {what}:\n{listed}{more}\n"
            f"  {others} Fix these, or take them out of the manifest, and run the same command again."
        )


def run_cases(
    cases: Sequence[Case],
    work: CaseWork[Case, Result],
    workers: Workers = Workers(),  # noqa: B008  frozen
    *,
    is_done: Callable[[Case], bool] | None = None,
    bytes_of: Callable[[Case], int] | None = None,
    log: JobLog | None = None,
    progress: ProgressCallback | None = None,
    case_progress: ProgressCallback | None = None,
) -> CaseResults[Result]:
    """Do `work` with every case that is not done yet.

    is_done: asked once a case before anything starts; a job that was ended goes on where it was. On a cluster it is
    also asked of a case whose machine has gone: what was written before that is not made again.
    bytes_of: memory that a case needs beside the weights; without it no case waits for memory. log: is told of every
    case, and written before this returns or raises.
    progress: called with (cases done, cases to do), also once a slice, so that raising ends the job there.
    case_progress: called with (slices done, slices) of the present case; only where this process does the work.
    Raises what `progress` raises, KeyboardInterrupt, JobFailed, and every exception of `work` that is no MedSAMError;
    InputError where the cluster cannot be reached.
    """
    todo = [number for number, case in enumerate(cases) if is_done is None or not is_done(case)]
    tell = _Progress(len(todo), progress, case_progress)
    results: list[Result | None] = [None for _ in cases]
    failures: dict[int, str] = {}
    log = log or JobLog()
    with log.of(len(cases), todo), closing(_outcomes(cases, todo, work, tell, workers, is_done, bytes_of)) as outcomes:
        # closed here, not whenever its traceback is forgotten: that ends the workers
        for number, ended in outcomes:
            if ended.failure is None:
                results[number] = ended.result
            else:
                failures[number] = ended.failure
            log.ended(number, ended)
            tell.case_done()
    return CaseResults(tuple(results), dict(sorted(failures.items())))


class _Progress:
    """Cases done, for the caller."""

    def __init__(self, total: int, cases: ProgressCallback | None, slices: ProgressCallback | None) -> None:
        self.done, self.total, self._cases, self._slices = 0, total, cases, slices
        self.repeat()

    def case_done(self) -> None:
        self.done += 1
        self.repeat()

    def repeat(self) -> None:
        if self._cases is not None:
            self._cases(self.done, self.total)

    def slices(self, done: int, total: int | None) -> None:
        """Slices of the present case."""
        self.repeat()
        if self._slices is not None:
            self._slices(done, total)


def _outcomes(
    cases: Sequence[Case],
    todo: Sequence[int],
    work: CaseWork[Case, Result],
    tell: _Progress,
    workers: Workers,
    is_done: Callable[[Case], bool] | None,
    bytes_of: Callable[[Case], int] | None,
) -> Generator[tuple[int, Ended]]:
    """(number, what became of it) of every case of `todo`, as they end."""
    if workers.ray is not None and todo:
        from medsam.inference.job_ray import on_ray

        return on_ray(cases, todo, work, tell.repeat, workers, is_done, bytes_of)
    processes = min(workers.processes or 1, len(todo))
    if processes <= 1:
        return _one_by_one(cases, todo, work, tell)
    free = workers.memory or (None if (free := free_memory()) is None else int(_SHARE * free))
    waiting = queue_of(cases, todo, bytes_of, {} if free is None else {"": free})
    return shared_out(cases, waiting, work, tell.repeat, processes, workers.threads)


def _one_by_one(
    cases: Sequence[Case], todo: Sequence[int], work: CaseWork[Case, Result], tell: _Progress
) -> Generator[tuple[int, Ended]]:
    for number in todo:
        tell.slices(0, None)
        yield number, tried(work, cases[number], tell.slices)
