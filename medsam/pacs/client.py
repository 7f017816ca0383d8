"""`find`, `get`, `store` and `echo` on a server, over DICOMweb or DIMSE, whichever it has.

server = read_settings().server("main")
found = find(server, Query("series", {"StudyInstanceUID": uid}))
got = get(server, study, series, folder)
stored = store(server, [folder / "liver.dcm"])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from medsam.errors import InputError
from medsam.pacs.inbox import Inbox
from medsam.pacs.outbox import MOST_IMAGES, MOST_SERIES, Failure, Outgoing, check_own_study, check_there, outgoing
from medsam.pacs.query import KEYS, Found, Match, Query
from medsam.pacs.settings import Server
from medsam.pacs.uids import check_uid
from medsam.progress import ProgressCallback

Via = Literal["dicomweb", "dimse"]


class Client(Protocol):
    """What both ways of talking to a server can do."""

    def close(self) -> None: ...

    def echo(self) -> float: ...

    def find(self, query: Query) -> Found: ...

    def fetch(self, inbox: Inbox, progress: ProgressCallback) -> None: ...

    def send(self, files: Sequence[Outgoing], progress: ProgressCallback) -> list[Failure]: ...


@dataclass(frozen=True)
class Got:
    """What `get` did. folders: of the series. fetched, kept: how many images came, and were there before."""

    folders: tuple[Path, ...]
    fetched: int
    kept: int


@dataclass(frozen=True)
class Stored:
    """What `store` did. notes: what could not be looked up before."""

    stored: tuple[Outgoing, ...]
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


@contextmanager
def connected(server: Server, via: Via | None = None) -> Iterator[Client]:
    """A client of `server`. via: by default DICOMweb where the server has it. Raises InputError."""
    if via is None:
        via = "dimse" if server.dicomweb is None else "dicomweb"
    client: Client
    if via == "dimse":
        from medsam.pacs.dimse import DimseClient

        client = DimseClient(server)
    elif server.dicomweb is None:
        raise InputError(f"Server {server.name} has no `dicomweb` in the settings file.")
    else:
        from medsam.pacs.dicomweb import WebClient

        client = WebClient(server)
    try:
        yield client
    finally:
        client.close()


def echo(server: Server, via: Via | None = None) -> float:
    """Seconds that the smallest question took. Raises InputError that says why there is no answer."""
    with connected(server, via) as client:
        return client.echo()


def find(server: Server, query: Query, via: Via | None = None) -> Found:
    """The studies, series or instances that a server knows.

    Where no study is named, those that can hold a series are searched first: not every server looks for series of all.
    Raises InputError.
    """
    with connected(server, via) as client:
        return _find(client, query)


def _find(client: Client, query: Query) -> Found:
    if query.level == "study" or "StudyInstanceUID" in query.keys:
        return client.find(query)
    studies = client.find(query.of_study())
    matches: list[Match] = []
    more, left_out = studies.more, studies.left_out
    for study in studies.matches:
        keys = {key: value for key, value in query.keys.items() if KEYS[key] != "study"}
        found = client.find(Query(query.level, keys | {"StudyInstanceUID": study.study}, query.limit))
        matches += found.matches
        more, left_out = more or found.more, left_out + found.left_out
        if query.limit is not None and len(matches) > query.limit:
            return Found(tuple(matches[: query.limit]), True, left_out)
    return Found(tuple(matches), more, left_out)


def get(
    server: Server,
    study: str,
    series: str | None,
    folder: Path,
    progress: ProgressCallback | None = None,
    via: Via | None = None,
) -> Got:
    """Fetch a study, or one series of it, to FOLDER/SERIES/INSTANCE.dcm.

    What is there already is not fetched again. Raises InputError when something is missing, is not what was asked for,
    or does not come; images that came whole stay.
    """
    check_uid(study, "Study Instance UID")
    keys = {"StudyInstanceUID": study}
    if series is not None:
        keys["SeriesInstanceUID"] = check_uid(series, "Series Instance UID")
    with connected(server, via) as client:
        found = client.find(Query("series", keys, MOST_SERIES))
        if not found.matches:
            what = "study" if series is None else "series (or it is of another study)"
            raise InputError(f"Server {server.name} does not have this {what}.")
        if found.more:
            raise InputError(f"Server {server.name} says the study has more than {MOST_SERIES} series.")
        inboxes = [_inbox(client, server, match, folder) for match in found.matches]
        total = sum(len(inbox.listed) for inbox in inboxes)
        before = 0
        for inbox in inboxes:
            if inbox.missing:
                client.fetch(inbox, _counting(progress, before, total))
                inbox.check_complete()
            before += len(inbox.listed)
    return Got(
        tuple(inbox.place for inbox in inboxes),
        sum(len(inbox.received) for inbox in inboxes),
        sum(len(inbox.kept) for inbox in inboxes),
    )


def _inbox(client: Client, server: Server, match: Match, folder: Path) -> Inbox:
    keys = {"StudyInstanceUID": match.study, "SeriesInstanceUID": match.series}
    found = client.find(Query("instance", keys, MOST_IMAGES))
    if found.left_out:
        raise InputError(f"Server {server.name} lists images without a valid UID in series {match.series}.")
    if found.more or not found.matches:
        what = f"more than {MOST_IMAGES}" if found.more else "no"
        raise InputError(f"Server {server.name} lists {what} images in series {match.series}.")
    return Inbox(folder, match.study, match.series, {one.instance: one for one in found.matches}, server.name)


def _counting(progress: ProgressCallback | None, before: int, total: int) -> ProgressCallback:
    def count(done: int, _: int | None, /) -> None:
        if progress is not None:
            progress(before + done, total)

    return count


def store(
    server: Server,
    paths: Sequence[Path],
    progress: ProgressCallback | None = None,
    via: Via | None = None,
) -> Stored:
    """Store DICOM files, and those in folders.

    A result never enters another study than that of its source, nor a study of another patient: this is looked up
    before anything is sent. Failures of single files are in the result. Raises InputError for everything else.
    """
    files = outgoing(paths)
    notes = check_own_study(files)
    with connected(server, via) as client:
        notes += check_there(files, client.find, server.name)
        failures = client.send([file for file in files if not file.derived], _counting(progress, 0, len(files)))
        lost = {file.series for file in files if any(failure.instance == file.instance for failure in failures)}
        results = [file for file in files if file.derived]
        unfounded = [file for file in results if file.sources & lost]
        failures += [Failure(file.path, file.instance, "images it was made from were not stored") for file in unfounded]
        sent = [file for file in results if file not in unfounded]
        failures += client.send(sent, _counting(progress, len(files) - len(results), len(files)))
    failed = {failure.instance for failure in failures}
    return Stored(tuple(file for file in files if file.instance not in failed), tuple(failures), tuple(notes))
