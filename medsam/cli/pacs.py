"""`medsam pacs servers | echo | find | get | store | listen | login | logout`: servers of the settings file."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli import pacs_listen
from medsam.cli.table import print_line, print_table
from medsam.errors import InputError, counted, printable
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.pacs.client import Via
    from medsam.pacs.query import Found, Match
    from medsam.pacs.settings import Server

# option -> key of a search, help
_KEYS: dict[str, tuple[str, str]] = {
    "patient-id": ("PatientID", "exactly, or with * and ?; - reads it from stdin"),
    "patient-name": ("PatientName", "as FAMILY^GIVEN, with * and ?; - reads it from stdin"),
    "accession": ("AccessionNumber", "of the order"),
    "date": ("StudyDate", "YYYYMMDD, or a range: A-B, A-, -B"),
    "modality": ("Modality", "CT, MR, SEG, ..."),
    "study-description": ("StudyDescription", "with * and ?"),
    "series-description": ("SeriesDescription", "with * and ?; of series"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("servers", help="what the settings file names; nobody is asked")
    listing.add_argument("--json", action="store_true", help="one JSON document on stdout")

    testing = actions.add_parser("echo", help="whether a server answers, over all it has")
    _add_server(testing)

    finding = actions.add_parser("find", help="studies, series or images that a server knows")
    _add_server(finding)
    for option, (_, text) in _KEYS.items():
        finding.add_argument(f"--{option}", metavar="TEXT", help=text)
    finding.add_argument("--study", metavar="UID", help="the series of this study")
    finding.add_argument("--series", metavar="UID", help="with --study: the images of this series")
    finding.add_argument(
        "--level", choices=("study", "series", "instance"), help="what to list (default: by what is given)"
    )
    finding.add_argument("--limit", type=int, default=100, metavar="N", help="most lines (default: 100)")
    finding.add_argument(
        "--show-patient",
        action="store_true",
        help="also print what is about the patient: id, name, dates, accession numbers and descriptions",
    )

    getting = actions.add_parser("get", help="fetch a study or a series; what is there already is not fetched again")
    _add_server(getting)
    getting.add_argument("what", metavar="STUDY[/SERIES]", help="UIDs, as `medsam pacs find` lists them")
    getting.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="files go to DIR/SERIES/INSTANCE.dcm there"
    )

    storing = actions.add_parser("store", help="store files; a result goes to the study of its source, and no other")
    _add_server(storing)
    storing.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="DICOM files, and folders of them")

    listening = actions.add_parser("listen", help="receive series, run something on each, send the result back")
    pacs_listen.add_arguments(listening)

    entering = actions.add_parser("login", help="keep a server's password in the keyring; it is asked for")
    entering.add_argument("server", metavar="NAME")
    entering.add_argument("--token", action="store_true", help="keep a token (Bearer) instead of a password")
    leaving = actions.add_parser("logout", help="remove a server's password and token from the keyring")
    leaving.add_argument("server", metavar="NAME")


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("server", metavar="NAME", help="a server of the settings file (medsam pacs servers)")
    parser.add_argument(
        "--via", choices=("dicomweb", "dimse"), help="how to talk to it (default: DICOMweb where it has that)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(arguments: argparse.Namespace) -> None:
    {
        "servers": _servers,
        "echo": _echo,
        "find": _find,
        "get": _get,
        "store": _store,
        "listen": pacs_listen.run,
        "login": _login,
        "logout": _logout,
    }[arguments.action](arguments)


def _server(arguments: argparse.Namespace) -> Server:
    from medsam.pacs.settings import read_settings

    return read_settings().server(arguments.server)


def _servers(arguments: argparse.Namespace) -> None:
    from medsam.pacs.settings import read_settings, secret_source

    settings = read_settings()
    sources = {server.name: secret_source(server) for server in settings.servers.values()}
    found = [
        {
            "name": server.name,
            "dicomweb": server.dicomweb,
            "dimse": None
            if server.dimse is None
            else {
                "host": server.dimse.host,
                "port": server.dimse.port,
                "called_aet": server.dimse.called_aet,
                "aet": server.dimse.aet,
                "tls": server.dimse.tls,
            },
            "user": server.user,
            "credentials": sources[server.name],
        }
        for server in settings.servers.values()
    ]
    if arguments.json:
        print(json.dumps({"settings": str(settings.path), "servers": found}, indent=2))
        return
    rows = []
    for server in settings.servers.values():
        at = server.dimse
        where = "-" if at is None else f"{at.called_aet}@{at.host}:{at.port}{' TLS' if at.tls else ''}, as {at.aet}"
        rows.append((server.name, server.dicomweb or "-", where, server.user or "-", sources[server.name]))
    print_table(("server", "DICOMweb", "DIMSE", "user", "credentials"), rows, left=5)
    print_line(f"from {printable(str(settings.path))}")


def _echo(arguments: argparse.Namespace) -> None:
    from medsam.pacs.client import echo

    server = _server(arguments)
    has: dict[Via, bool] = {"dicomweb": server.dicomweb is not None, "dimse": server.dimse is not None}
    seconds, errors = dict[str, float](), list[str]()
    for way in [way for way in has if (has[way] if arguments.via is None else way == arguments.via)]:
        try:
            seconds[way] = echo(server, way)
        # the other way may still work, and that is worth knowing
        except InputError as error:
            errors.append(str(error))
    if arguments.json:
        print(json.dumps({"server": server.name, "seconds": seconds, "errors": errors}, indent=2))
    else:
        for over, took in seconds.items():
            print_line(f"{server.name} answers over {over} in {took:.3f} s")
    if errors:
        raise InputError("\n".join(errors))


# -- find ---------------------------------------------------------------------------------------------------


def _find(arguments: argparse.Namespace) -> None:
    from medsam.pacs.client import find
    from medsam.pacs.query import Query

    keys = {}
    for option, (keyword, _) in _KEYS.items():
        given = getattr(arguments, option.replace("-", "_"))
        if given is not None:
            # what a command line holds is in the list of processes and in the shell's history
            keys[keyword] = sys.stdin.readline().strip() if given == "-" else given
    if arguments.study is not None:
        keys["StudyInstanceUID"] = arguments.study
    if arguments.series is not None:
        keys["SeriesInstanceUID"] = arguments.series
    level = arguments.level
    if level is None:
        level = "instance" if arguments.series else "series" if arguments.study else "study"
        if level == "study" and "SeriesDescription" in keys:
            level = "series"
    server = _server(arguments)
    found = find(server, Query(level, keys, arguments.limit), arguments.via)
    if arguments.json:
        document = {
            "server": server.name,
            "level": level,
            "more": found.more,
            "matches": [
                _as_dict(match, level, f"{_way(server, arguments.via)}:{server.name}", arguments.show_patient)
                for match in found.matches
            ],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif found.matches:
        _print_matches(found, level, arguments.show_patient)
    else:
        print_line(f"no match on server {server.name}")
    if found.more:
        print(f"Note: there are more than {arguments.limit}. Search for less, or raise --limit.", file=sys.stderr)
    if found.left_out:
        left_out = counted(found.left_out, "answer")
        print(f"Note: {left_out} without a valid UID: left out.", file=sys.stderr)


def _way(server: Server, via: Via | None) -> Via:
    """How scans of a server are named, for who found them that way."""
    return via or ("dimse" if server.dicomweb is None else "dicomweb")


def _as_dict(match: Match, level: str, server: str, show_patient: bool) -> dict[str, Any]:
    """server: as in the name of a scan, e.g. "dicomweb:main"."""
    known: dict[str, Any] = {"study": match.study}
    if level == "study":
        known |= {"modalities": list(match.modalities), "series": match.series_count, "images": match.images}
    else:
        known |= {"series": match.series}
    if level == "series":
        known |= {"modality": "/".join(match.modalities), "number": match.number, "images": match.images}
        known |= {"scan": f"{server}/{match.study}/{match.series}"}
    if level == "instance":
        known |= {"instance": match.instance, "sop_class": match.sop_class, "number": match.number}
        known |= {"rows": match.rows or None, "columns": match.columns or None, "frames": match.frames or None}
    if show_patient and level == "study":
        known |= {"patient_id": match.patient_id, "patient_name": match.patient_name, "date": match.date}
        known |= {"accession": match.accession}
    if show_patient and level != "instance":
        known |= {"description": match.description}
    return known


def _print_matches(found: Found, level: str, show_patient: bool) -> None:
    from medsam.pacs.uids import uid_name

    matches = sorted(found.matches, key=lambda one: (one.study, one.number is None, one.number or 0, one.instance))
    left, headings, rows = 2, list[str](), list[list[str]]()
    if level == "study":
        headings = ["study", "modalities", "series", "images"]
        rows = [
            [one.study, "/".join(one.modalities), _number(one.series_count), _number(one.images)] for one in matches
        ]
        extra = ["date", "patient id", "patient name", "accession", "description"]
        about = [[one.date, one.patient_id, one.patient_name, one.accession, one.description] for one in matches]
    elif level == "series":
        several = len({one.study for one in matches}) > 1
        headings = [*(["study"] if several else []), "series", "modality", "number", "images"]
        rows = [
            [
                *([one.study] if several else []),
                one.series,
                "/".join(one.modalities),
                _number(one.number),
                _number(one.images),
            ]
            for one in matches
        ]
        left, extra, about = 2 + several, ["description"], [[one.description] for one in matches]
    else:
        headings = ["instance", "SOP class", "number", "rows", "columns", "frames"]
        rows = [
            [one.instance, uid_name(one.sop_class), *map(_number, (one.number, one.rows, one.columns, one.frames or 1))]
            for one in matches
        ]
        extra, about = [], [[] for _ in matches]
    if show_patient:
        # words go before numbers
        headings = [*headings[:left], *extra, *headings[left:]]
        rows = [[*row[:left], *more, *row[left:]] for row, more in zip(rows, about, strict=True)]
        left += len(extra)
    print_table(headings, rows, left=left)


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


# -- get and store ------------------------------------------------------------------------------------------


def _get(arguments: argparse.Namespace) -> None:
    from medsam.pacs.client import get

    study, _, series = arguments.what.partition("/")
    server = _server(arguments)
    with progress_bars("Images fetched") as (progress,):
        got = get(server, study, series or None, arguments.out, progress, arguments.via)
    if arguments.json:
        folders = [str(folder) for folder in got.folders]
        print(json.dumps({"folders": folders, "fetched": got.fetched, "kept": got.kept}, indent=2))
        return
    kept = f", {got.kept} were there" if got.kept else ""
    print_line(f"fetched {counted(got.fetched, 'image')}{kept}")
    for folder in got.folders:
        print_line(f"wrote {printable(str(folder))}")


def _store(arguments: argparse.Namespace) -> None:
    from medsam.pacs.client import store

    server = _server(arguments)
    with progress_bars("Files stored") as (progress,):
        done = store(server, arguments.paths, progress, arguments.via)
    for note in done.notes:
        print(f"Note: {printable(note)}", file=sys.stderr)
    if arguments.json:
        document = {
            "server": server.name,
            "stored": [file.instance for file in done.stored],
            "failed": [
                {"path": str(one.path), "instance": one.instance, "reason": one.reason} for one in done.failures
            ],
        }
        print(json.dumps(document, indent=2))
    elif done.stored:
        print_line(f"stored {counted(len(done.stored), 'file')} on {server.name}")
    if done.failures:
        lines = [f"  {one.path.name}: {one.reason}" for one in done.failures[:20]]
        more = [f"  and {len(done.failures) - 20} more"] if len(done.failures) > 20 else []
        raise InputError(
            f"Server {server.name} did not store {counted(len(done.failures), 'file')}:\n" + "\n".join([*lines, *more])
        )


# -- the keyring --------------------------------------------------------------------------------------------


def _login(arguments: argparse.Namespace) -> None:
    from medsam.pacs.settings import store_secret

    server = _server(arguments)
    if server.user is None and not arguments.token:
        raise InputError(
            f"Server {server.name} has no `user` in the settings file that a password could be of. Add one, or keep a "
            "token: --token."
        )
    what = "Token" if arguments.token else f"Password of {server.user}"
    # never an argument: those are in the list of processes
    secret = (
        getpass.getpass(f"{what} on {server.name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    )
    if not secret:
        raise InputError("Nothing was entered, so nothing is kept.")
    store_secret(server, secret, token=arguments.token)
    print_line(f"kept in the keyring, for server {server.name}")


def _logout(arguments: argparse.Namespace) -> None:
    from medsam.pacs.settings import forget_secrets

    server = _server(arguments)
    removed = forget_secrets(server)
    print_line(f"removed {counted(removed, 'entry', 'entries')} of server {server.name} from the keyring")
