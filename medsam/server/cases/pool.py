"""Processes that read scans: started before they are needed, one piece of work at a time, replaced when they die.

Reading holds Python's lock for seconds (headers, JPEG 2000), and a damaged file may take a decoder down with it;
neither may stop the event loop. So work goes to a process that has imported the readers already, and costs itself
alone.

What comes back is pickled; arrays in it do not go through the pipe but lie in memory without a name (a memfd; elsewhere
a file that is deleted at once) whose descriptor is passed along. Here they are mapped, read-only, and go with the last
array that uses them; a server that is killed leaves nothing behind.

One process at least is for those who wait for a scan (`run`): all other work (`beside`) has the rest, or takes its turn
where there is only one.

A piece of work is awaited by a thread of its own limiter; cancelling kills the process, and the thread sees its end.
"""

from __future__ import annotations

import contextlib
import mmap
import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from medsam.errors import MedSAMError
from medsam.processes import how_it_ended, without_ctrl_c
from medsam.server.cases.found import ForNow

Result = TypeVar("Result")

# what reading a scan imports
_WARM = ("medsam.io.load", "medsam.io.dicom.series", "medsam.io.nifti", "medsam.io.itk", "medsam.io.picture")
# arrays from this size on are mapped; smaller ones are pickled
_LARGE, _ALIGNED = 2**16, 64
_SECONDS = 900.0


class Defect(RuntimeError):
    """Work failed by a fault of ours; says where, and nothing of the file."""


class Pool:
    """So many processes. To be opened and closed as an asynchronous context manager.

    warm: modules that each imports at its start.
    """

    def __init__(self, processes: int, warm: Sequence[str] = _WARM) -> None:
        self._processes, self._warm = max(1, processes), tuple(warm)
        self._idle: deque[_Child] = deque()
        self._all: set[_Child] = set()
        self._free = anyio.Semaphore(self._processes)
        self._beside = anyio.Semaphore(max(1, self._processes - 1))
        self._limiter = CapacityLimiter(self._processes + 1)
        self._open = False

    async def __aenter__(self) -> Pool:
        self._open = True
        for _ in range(self._processes):
            self._idle.append(await self._started())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        children = list(self._all)
        for child in children:
            child.kill()
        with anyio.CancelScope(shield=True):
            for child in children:
                await to_thread.run_sync(child.join)
        self._all.clear()

    async def run(self, work: Callable[..., Result], *arguments: Any, seconds: float = _SECONDS) -> Result:
        """The result of `work(*arguments)` in a process; arrays in it are read-only. work: of a module.

        Raises what the work raises of `MedSAMError`; ForNow when its process dies or takes longer than `seconds`;
        Defect. Cancelling ends the work at once.
        """
        async with self._free:
            child = await self._next()
            try:
                with anyio.fail_after(seconds):
                    kind, found = await self._answer(child, work, arguments)
            except TimeoutError:
                raise ForNow(f"Reading takes longer than {seconds:.0f} seconds and was ended.") from None
            finally:
                if not child.at_work and self._open:
                    self._idle.append(child)
                else:
                    # dead, or cancelled: what it is at cannot be stopped otherwise
                    with anyio.CancelScope(shield=True):
                        await self._end(child)
                        await self._replace()
        if kind == "done":
            return found
        if isinstance(found, MedSAMError):
            raise found
        raise Defect(found)

    async def beside(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The same for work that is not to keep anybody from opening a scan."""
        async with self._beside:
            return await self.run(work, *arguments)

    async def _answer(self, child: _Child, work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
        try:
            return await to_thread.run_sync(child.ask, work, arguments, abandon_on_cancel=True, limiter=self._limiter)
        except EOFError:
            raise ForNow(
                f"The process that read it ended by itself ({child.how_it_ended()}): the file is damaged in a way that "
                "no reader survives, or the memory was full."
            ) from None

    async def _next(self) -> _Child:
        """A process that lives; one may have died while it waited."""
        while self._idle:
            child = self._idle.popleft()
            if child.alive:
                return child
            await self._end(child)
        return await self._started()

    async def _end(self, child: _Child) -> None:
        self._all.discard(child)
        child.kill()
        await to_thread.run_sync(child.join)

    async def _started(self) -> _Child:
        child = await to_thread.run_sync(_Child, self._warm)
        self._all.add(child)
        return child

    async def _replace(self) -> None:
        """Have a process in place of one that died, warm before it is needed."""
        if self._open and len(self._all) < self._processes:
            self._idle.append(await self._started())


class _Child:
    """One process and its pipe."""

    def __init__(self, warm: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, there = context.Pipe()
        process = context.Process(target=serve, args=(there, tuple(warm)), name="scans", daemon=True)
        with without_ctrl_c():
            process.start()
        there.close()
        self.process = process
        self.at_work = False
        self._warm = False

    @property
    def alive(self) -> bool:
        return self.process.is_alive() and not self.connection.closed

    def ask(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
        """("done", result) or ("failed", error or text). Raises EOFError when the process ends."""
        self.at_work = True
        try:
            if not self._warm:
                self.connection.recv()
                self._warm = True
            self.connection.send((work, arguments))
            kind, content, places = self.connection.recv()
            buffers = _mapped(reduction.recv_handle(self.connection), places) if places else []
        except OSError:
            raise EOFError from None
        self.at_work = False
        return kind, pickle.loads(content, buffers=buffers)

    def kill(self) -> None:
        if self.process.is_alive():
            self.process.kill()

    def join(self) -> None:
        self.process.join()
        self.connection.close()

    def how_it_ended(self) -> str:
        self.process.join(5)
        code = self.process.exitcode
        return "it does not answer" if code is None else how_it_ended(code)


# -- in the process -----------------------------------------------------------------------------------------


def serve(connection: Connection, warm: Sequence[str]) -> None:
    """What a process does until the other end of `connection` is closed."""
    for name in warm:
        import_module(name)
    # a closed pipe: the server has gone, and with it the use of all this
    with contextlib.suppress(EOFError, OSError):
        connection.send("ready")
        while True:
            work, arguments = connection.recv()
            kind, result = _tried(work, arguments)
            content, buffers = _packed(result)
            places = _places(buffers)
            connection.send((kind, content, places))
            if places:
                with _memory(buffers, places) as descriptor:
                    reduction.send_handle(connection, descriptor, os.getppid())
            del work, arguments, result, buffers, content


def _tried(work: Callable[..., Any], arguments: Sequence[Any]) -> tuple[str, Any]:
    try:
        return "done", work(*arguments)
    except MedSAMError as error:
        return "failed", error
    except MemoryError:
        return "failed", ForNow("It does not fit into the memory of this machine now.")
    except Exception as error:
        # its message may quote the file, and so the patient
        frames = traceback.extract_tb(error.__traceback__)[-12:]
        where = " > ".join(f"{frame.name}:{frame.lineno}" for frame in frames)
        return "failed", f"{type(error).__name__} in a loader at {where}"


def _packed(result: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A result as bytes, and its large arrays beside them."""
    buffers: list[pickle.PickleBuffer] = []

    def is_pickled(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < _LARGE:
            return True
        buffers.append(buffer)
        return False

    return pickle.dumps(result, protocol=5, buffer_callback=is_pickled), buffers


def _places(buffers: Sequence[pickle.PickleBuffer]) -> list[tuple[int, int]]:
    """Where each lies in the common memory: (begin, size)."""
    places, begin = [], 0
    for buffer in buffers:
        size = buffer.raw().nbytes
        places.append((begin, size))
        begin += -(-size // _ALIGNED) * _ALIGNED
    return places


@contextlib.contextmanager
def _memory(buffers: Sequence[pickle.PickleBuffer], places: Sequence[tuple[int, int]]) -> Any:
    """A descriptor of memory without a name that holds the buffers."""
    with contextlib.ExitStack() as stack:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("medsam-scan", os.MFD_CLOEXEC)
            stack.callback(os.close, descriptor)
        else:
            descriptor = stack.enter_context(tempfile.TemporaryFile(prefix="medsam-")).fileno()
        for buffer, (begin, _) in zip(buffers, places, strict=True):
            view, at = buffer.raw(), begin
            while len(view):
                done = os.pwrite(descriptor, view[: 2**28], at)
                view, at = view[done:], at + done
        os.ftruncate(descriptor, sum(places[-1]))
        yield descriptor


def _mapped(descriptor: int, places: Sequence[tuple[int, int]]) -> list[memoryview]:
    """The buffers again, read-only. The descriptor is closed; the memory lives as long as its views."""
    try:
        whole = memoryview(mmap.mmap(descriptor, sum(places[-1]), prot=mmap.PROT_READ))
    finally:
        os.close(descriptor)
    return [whole[begin : begin + size] for begin, size in places]
