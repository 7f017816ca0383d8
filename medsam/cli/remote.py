"""Scans on a server, for every command that takes one: fetched before it runs, gone when it ends; and results sent."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.errors import InputError
from medsam.pacs import is_remote

if TYPE_CHECKING:
    from medsam.pacs.client import Via

# the arguments of commands that name a scan
_SCANS = ("scan", "source")


@contextmanager
def fetched_scans(arguments: argparse.Namespace) -> Iterator[None]:
    """In this block, scans named `dicomweb:NAME/STUDY/SERIES` are folders; `arguments.remote` says where they are from.

    Raises InputError as `medsam.pacs.scan.fetched` does.
    """
    arguments.remote = None
    with ExitStack() as stack:
        for name in _SCANS:
            given = getattr(arguments, name, None)
            if not isinstance(given, str | Path) or not is_remote(str(given)):
                continue
            from medsam.pacs.scan import fetched
            from medsam.progress import progress_bars

            with progress_bars("Images fetched") as (progress,):
                series = stack.enter_context(fetched(str(given), getattr(arguments, "series", None), progress))
            arguments.remote = series.remote
            setattr(arguments, name, series.folder)
        yield


def check_send(arguments: argparse.Namespace, out: Path) -> None:
    """Raise InputError, before the work is done, when `out` cannot be sent to the server of --send."""
    if arguments.send is None:
        return
    if not out.name.lower().endswith(".dcm"):
        raise InputError(
            f"`send` sends DICOM, and {out.name} is none. Write a .dcm: `format` seg, or `out` FILE.dcm.",
            parameter=("send", "format", "out"),
        )
    from medsam.pacs.settings import credentials, read_settings

    server = read_settings().server(arguments.send)
    if server.dicomweb is not None:
        credentials(server)


def send(arguments: argparse.Namespace, out: Path) -> None:
    """Store what was written on the server of --send, if there is one, over the way that the scan came.

    Raises InputError, which says that it is written all the same.
    """
    if arguments.send is None:
        return
    from medsam.pacs.client import store
    from medsam.pacs.settings import read_settings
    from medsam.progress import progress_bars

    server = read_settings().server(arguments.send)
    via: Via | None = None
    if arguments.remote is not None and arguments.remote.server == server:
        via = arguments.remote.via
    try:
        with progress_bars("Files stored") as (progress,):
            done = store(server, [out], progress, via)
        if done.failures:
            raise InputError(f"Server {server.name} did not store it: {done.failures[0].reason}.")
    except InputError as error:
        raise InputError(
            f"{error}\n{out} is written, and was not sent. Try again: medsam pacs store {server.name} {out}",
            parameter=error.parameters,
        ) from error
