"""Scans on a server, for every command that takes one: fetched before it runs, gone when it ends."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from medsam.pacs import is_remote

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
