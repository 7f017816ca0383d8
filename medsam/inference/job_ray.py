"""Cases shared out on a Ray cluster that is there already: `ray start`, KubeRay, or a cloud's.

A worker is an actor. The work, with its weights, lies in the object store once, so every machine fetches it once and
every worker unpickles it once. Cases go by reference: what is sent is where their files lie, and results are written by
the worker, to a folder that all machines share.

A machine that goes takes its workers with it. The cases they were at are given to others, unless their result is there
(`is_done`); a case that has lost `_TRIES` workers counts as failed, for it may be what ends them.

Ending early is as with processes: `Cancelled` is raised where a worker next calls its progress, and after `GRACE`
seconds it is killed. Workers of a driver that was killed are ended by Ray.
"""

from __future__ import annotations

import logging
import pickle
import platform
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from medsam.errors import Cancelled, InputError
from medsam.inference.job_processes import GRACE, defect, picklable
from medsam.inference.job_queue import CaseWork, Ended, Waiting, Workers, queue_of, tried

# workers a case may lose, and workers in a row that may end before their first case
_TRIES, _STARTS = 3, 3
# seconds between two looks at the time, and that a cluster may take to make room for the first worker
_POLL, _ROOM = 0.5, 600.0
# of the memory that Ray counts on a machine, what scans may take
_SHARE = 0.8


class Worker:
    """An actor. content: the pickled work."""

    def __init__(self, content: bytes, threads: int) -> None:
        import torch

        self._threads = threads
        torch.set_num_threads(threads)
        self._work = pickle.loads(content)
        self._stopped = False

    def ready(self) -> tuple[str, str]:
        """(node, name of the machine), once it is there."""
        import ray

        return ray.get_runtime_context().get_node_id(), platform.node()

    def run(self, case: Any) -> tuple[str, Any]:
        """("done", what became of it) or ("defect", (error, traceback))."""
        import torch

        torch.set_num_threads(self._threads)  # of this thread: methods run in several
        try:
            return "done", tried(self._work, case, self._progress)
        except BaseException as error:
            return "defect", (picklable(error), traceback.format_exc())

    def stop(self) -> None:
        """Have the present case ended at its next slice."""
        self._stopped = True

    def _progress(self, done: int, total: int | None) -> None:
        if self._stopped:
            raise Cancelled


_STARTING, _IDLE = -1, -2


@dataclass
class _Actor:
    """A worker as the driver sees it. at: the number of its case, or _STARTING, or _IDLE."""

    handle: Any
    at: int = _STARTING
    node: str = ""
    host: str = ""
    since: float = field(default_factory=time.perf_counter)


def on_ray(
    cases: Sequence[Any],
    todo: Sequence[int],
    work: CaseWork[Any, Any],
    tell: Callable[[], None],
    workers: Workers,
    is_done: Callable[[Any], bool] | None,
    bytes_of: Callable[[Any], int] | None,
) -> Generator[tuple[int, Ended]]:
    """(number, what became of it) of every case of `todo`, as they end. tell: called twice a second.

    Raises InputError where there is no such cluster, or its workers do not begin.
    """
    import ray

    with _connected(ray, workers.ray or "auto"):
        threads = workers.threads or 1
        pool = _Pool(ray, ray.put(pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL)), threads, len(todo), workers)
        waiting = queue_of(cases, todo, bytes_of, pool.room(workers.memory))
        try:
            yield from _drive(pool, cases, waiting, tell, is_done)
        finally:
            pool.end()


def _drive(
    pool: _Pool,
    cases: Sequence[Any],
    waiting: Waiting,
    tell: Callable[[], None],
    is_done: Callable[[Any], bool] | None,
) -> Generator[tuple[int, Ended]]:
    lost = Counter[int]()
    # not until all workers are there: the cluster may never have room for the last that was started
    while pool.pending and (waiting or pool.working):
        answered = pool.answers()
        tell()
        for actor, answer, error in answered:
            number = actor.at
            if error is not None:
                if number == _STARTING:
                    pool.did_not_start(error)
                    if waiting:
                        pool.start()
                    continue
                lost[number] += 1
                ended = _after_loss(cases[number], actor, is_done, lost[number])
                waiting.give_back(number, again=ended is None)
                # the cluster may have no room for another while one that has nothing to do keeps its place
                pool.hand_round(cases, waiting)
                if waiting:
                    pool.start()
                if ended is not None:
                    yield number, ended
                continue
            if number == _STARTING:
                pool.started(actor, *answer)
            else:
                kind, about = answer
                if kind == "defect":
                    raise defect(*about)
                waiting.give_back(number)
            pool.hand_out(actor, cases, waiting)
            if number >= 0:
                yield number, answer[1]


def _after_loss(case: Any, actor: _Actor, is_done: Callable[[Any], bool] | None, lost: int) -> Ended | None:
    """What became of a case whose worker is gone; None: it is to be done by another."""
    spent = time.perf_counter() - actor.since
    if is_done is not None and is_done(case):
        return Ended(None, None, spent, actor.host)
    if lost < _TRIES:
        return None
    why = f"{lost} workers that worked on it ended by themselves. Their memory may have been full."
    return Ended(None, why, spent, actor.host)


class _Pool:
    """The workers of a job. pending: those that have something to say, by what Ray calls that."""

    def __init__(self, ray: Any, content: Any, threads: int, cases: int, workers: Workers) -> None:
        self._ray, self._content, self._threads = ray, content, threads
        self.pending: dict[Any, _Actor] = {}
        self._idle: list[_Actor] = []
        self._failed = 0
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fitting = sum(int(node.get("CPU", 0) // threads) for node in nodes)
        count = min(workers.processes or max(1, fitting), cases)
        gpus = sum(node.get("GPU", 0) for node in nodes)
        self._options = {
            "num_cpus": threads,
            "num_gpus": min(1.0, gpus / count),
            # the second is for `stop`
            "max_concurrency": 2,
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        self._since = time.monotonic()
        for _ in range(count):
            self.start()

    def room(self, memory: int | None) -> dict[str, int]:
        """Node -> bytes for scans."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return {node["NodeID"]: memory or int(_SHARE * node["Resources"].get("memory", 0)) for node in nodes}

    @property
    def working(self) -> bool:
        """Whether a worker is at a case."""
        return any(actor.at >= 0 for actor in self.pending.values())

    def start(self) -> None:
        """One more worker, as soon as the cluster has room for it."""
        handle = self._ray.remote(Worker).options(**self._options).remote(self._content, self._threads)
        self.pending[handle.ready.remote()] = _Actor(handle)

    def started(self, actor: _Actor, node: str, host: str) -> None:
        actor.node, actor.host = node, host
        self._failed = 0

    def did_not_start(self, error: Exception) -> None:
        """Raises InputError when that happens again and again."""
        self._failed += 1
        if self._failed >= _STARTS:
            raise InputError(
                "Workers on the cluster end before their first case. This version of medsam has to be installed on "
                f"every machine of it. The last said: {str(error).strip().splitlines()[-1][:300]}"
            )

    def answers(self) -> list[tuple[_Actor, Any, Exception | None]]:
        """(worker, what it said, or why it says nothing more) of those that have answered by now."""
        ready, _ = self._ray.wait([*self.pending], num_returns=1, timeout=_POLL)
        found: list[tuple[_Actor, Any, Exception | None]] = []
        for reference in ready:
            actor = self.pending.pop(reference)
            try:
                found.append((actor, self._ray.get(reference), None))
            except self._ray.exceptions.RayError as error:
                with suppress(Exception):
                    self._ray.kill(actor.handle)  # where it is only out of reach
                found.append((actor, None, error))
        self._check_room(bool(found))
        return found

    def _check_room(self, answered: bool) -> None:
        if answered or any(actor.at != _STARTING for actor in self.pending.values()):
            self._since = time.monotonic()
        elif time.monotonic() - self._since > _ROOM:
            raise InputError(
                f"The cluster has had no room for a worker of {self._threads} CPUs for {_ROOM / 60:.0f} minutes. "
                "Add machines, or wait for other jobs, and run the same command again."
            )

    def hand_out(self, actor: _Actor, cases: Sequence[Any], waiting: Waiting) -> None:
        """Cases to this worker, which has none, and to others like it, as memory allows."""
        actor.at = _IDLE
        self._idle.append(actor)
        self.hand_round(cases, waiting)

    def hand_round(self, cases: Sequence[Any], waiting: Waiting) -> None:
        """Cases to workers that have none, as memory allows; those of machines that have gone are let go."""
        if not (self._idle and waiting):
            return
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        self._idle = [one for one in self._idle if one.node in alive]
        for one in [*self._idle]:
            number = waiting.take(one.node)
            if number is not None:
                self._idle.remove(one)
                one.at, one.since = number, time.perf_counter()
                self.pending[one.handle.run.remote(cases[number])] = one

    def end(self) -> None:
        """All workers end: by themselves, on request, or by force."""
        working = {reference: actor for reference, actor in self.pending.items() if actor.at >= 0}
        try:
            for actor in working.values():
                actor.handle.stop.remote()
            if working:
                self._ray.wait([*working], num_returns=len(working), timeout=GRACE)
        finally:
            for actor in (*self.pending.values(), *self._idle):
                with suppress(Exception):
                    self._ray.kill(actor.handle)


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """To the cluster, for this block, unless this process is already. Raises InputError when there is none."""
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:  # OSError: no connection, a time that is over
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"There is no Ray cluster at {address}: {said[0][:300]} Start one (ray start --head), or name its "
            "HOST:PORT.",
            parameter="ray",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself would try for five minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
