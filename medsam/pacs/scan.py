"""`dicomweb:NAME/STUDY/SERIES`: a series on a server, fetched for as long as it is needed.

It lies in a folder that its owner alone may enter and that goes in the end, whatever that end is; only a process that
is killed (SIGKILL) leaves it. From Python:

    with fetched("dicomweb:main/1.2.3/1.2.3.4") as series:
        scan = medsam.load_volume(series.folder)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medsam.errors import InputError, SeveralSeries
from medsam.pacs import is_remote
from medsam.pacs.client import Via, find, get
from medsam.pacs.query import Found, Query
from medsam.pacs.settings import Server, read_settings
from medsam.pacs.uids import check_uid
from medsam.progress import ProgressCallback

FORM = "dicomweb:NAME/STUDY/SERIES (or dimse:NAME/...), NAME a server of the settings file, the others UIDs"


@dataclass(frozen=True)
class RemoteSeries:
    """A series on a server. series: "" while it is not known."""

    server: Server
    via: Via
    study: str
    series: str


@dataclass(frozen=True)
class FetchedSeries:
    """A series that was fetched into `folder`, whose name is its UID."""

    remote: RemoteSeries
    folder: Path


def parse_remote(text: str, series: str | None = None) -> RemoteSeries:
    """What `dicomweb:NAME/STUDY/SERIES` means. series: where the text leaves it out.

    Raises InputError when it is none, or the settings file has no such server.
    """
    kind, _, rest = text.partition(":")
    name, *uids = rest.split("/")
    if not is_remote(text) or not name or not 1 <= len(uids) <= 2:
        raise InputError(f"A scan on a server is {FORM}.")
    study = check_uid(uids[0], "Study Instance UID")
    if len(uids) == 2 and series is not None and uids[1] != series:
        raise InputError("`series` contradicts the series of the scan. Leave one out.", parameter="series")
    chosen = uids[1] if len(uids) == 2 else series
    server = read_settings().server(name)
    via: Via = "dicomweb" if kind == "dicomweb" else "dimse"
    return RemoteSeries(server, via, study, "" if chosen is None else check_uid(chosen, "Series Instance UID"))


@contextmanager
def fetched(text: str, series: str | None = None, progress: ProgressCallback | None = None) -> Iterator[FetchedSeries]:
    """Fetch a series for this block. Raises InputError, and SeveralSeries when only the study is named."""
    remote = parse_remote(text, series)
    if not remote.series:
        raise _which_series(remote)
    with tempfile.TemporaryDirectory(prefix="medsam-", ignore_cleanup_errors=True) as folder:
        got = get(remote.server, remote.study, remote.series, Path(folder), progress, remote.via)
        yield FetchedSeries(remote, got.folders[0])


def _which_series(remote: RemoteSeries) -> InputError:
    query = Query("series", {"StudyInstanceUID": remote.study}, 50)
    found: Found = find(remote.server, query, remote.via)
    if not found.matches:
        return InputError(f"Server {remote.server.name} does not have this study.")
    lines = [
        f"  {match.series}  {'/'.join(match.modalities) or '?'}, {match.images or '?'} images"
        for match in sorted(found.matches, key=lambda match: (match.number is None, match.number or 0, match.series))
    ]
    return SeveralSeries(
        f"The study on server {remote.server.name} has these series:\n"
        + "\n".join(lines)
        + "\n  Name one: .../SERIES.",
        parameter="series",
    )
