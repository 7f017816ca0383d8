"""`medsam serve`: scans, sessions and masks for many readers, and the users, backups and checks of such a server."""

from __future__ import annotations

import argparse
import getpass
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.scan_options import add_trust_argument
from medsam.cli.table import print_line, print_table
from medsam.errors import InputError, counted, printable

if TYPE_CHECKING:
    from medsam.server.run import Certificate
    from medsam.server.settings import MonaiLabel, ServerSettings
    from medsam.store.records import User
    from medsam.store.store import Store

_ROLES = ("reader", "reviewer", "administrator")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free (default: 8000)")
    _add_places(parser)
    parser.add_argument("--model", metavar="NAME|CHECKPOINT", help="(default: litemedsam)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps (default: auto)")
    add_trust_argument(parser)
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a further head, which answers names or finds organs; only what it was measured on is offered",
    )
    parser.add_argument(
        "--hosts", action="append", default=[], metavar="NAME", help="a further name that the server is called by"
    )
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="believe this proxy, or network, who its users are",
    )
    parser.add_argument(
        "--proxy-header",
        default="X-Forwarded-User",
        metavar="NAME",
        help="that says so (default: X-Forwarded-User); none: readers log in here",
    )
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="speak https itself")
    parser.add_argument("--key", type=Path, metavar="PEM", help="of the certificate, where that file has none")
    parser.add_argument("--https", action="store_true", help="a proxy in front speaks https: cookies are for it alone")
    parser.add_argument(
        "--lock-after", type=float, default=15.0, metavar="MINUTES", help="without use, then the password is asked for"
    )
    parser.add_argument(
        "--scan-memory",
        type=float,
        default=4.0,
        metavar="GIB",
        help="of scans, shared by all readers, and as much of images that other viewers send (default: 4)",
    )
    parser.add_argument(
        "--keep-uploads", type=float, default=30.0, metavar="DAYS", help="that nobody opens (default: 30; 0: for good)"
    )
    parser.add_argument(
        "--patients-from", choices=_ROLES, default="reader", help="who is told whose a case is (default: reader)"
    )
    add_viewers(parser)
    _add_instead(parser)


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Where scans and the store are."""
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="DIR", help="its scans are cases")
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="database, uploads and fetched series (default: of this user)"
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="of PostgreSQL, postgresql://USER@HOST/NAME, for the store's tables; DIR knows it afterwards",
    )
    parser.add_argument(
        "--demo", action="store_true", help="with the demo's scan, fetched once; --store: of the demo alone"
    )
    parser.add_argument(
        "--project",
        type=Path,
        metavar="DIR",
        help="of `medsam annotate`: its scans are cases, its tasks are worked on, its model answers",
    )


def _add_instead(parser: argparse.ArgumentParser) -> None:
    instead = parser.add_argument_group("instead of serving")
    one = instead.add_mutually_exclusive_group()
    one.add_argument("--add-user", metavar="NAME", help="the password is asked for, or the first line of stdin")
    one.add_argument("--set-password", metavar="NAME", help="another password; who was removed may come in again")
    one.add_argument("--remove-user", metavar="NAME", help="who may not come in any more; what they did stays")
    one.add_argument("--list-users", action="store_true", help="names and roles")
    one.add_argument("--backup", type=Path, metavar="PATH", help="copy the database, also while a server runs on it")
    one.add_argument("--check", action="store_true", help="say what works and what does not")
    instead.add_argument(
        "--role", choices=_ROLES, help="of --add-user (default: reader, of the first user administrator)"
    )
    instead.add_argument("--json", action="store_true", help="--check and --list-users: one JSON document on stdout")


def add_viewers(parser: argparse.ArgumentParser) -> None:
    """What is served for viewers beside the page: closed unless it is asked for."""
    viewers = parser.add_argument_group("for other viewers")
    viewers.add_argument(
        "--monailabel",
        action="store_true",
        help="speak MONAI Label's protocol, for 3D Slicer and MITK (docs/slicer.md)",
    )
    viewers.add_argument(
        "--ohif", type=Path, metavar="DIR", help="a built OHIF: served at /ohif/, with --monailabel (docs/ohif.md)"
    )
    viewers.add_argument(
        "--pacs", metavar="NAME", help="that OHIF shows, of the settings file (default: the only one there is)"
    )
    viewers.add_argument(
        "--structure",
        action="append",
        default=[],
        metavar="NAME",
        help="that viewers offer which pick one from a list (default: object)",
    )
    viewers.add_argument(
        "--nninteractive",
        action="store_true",
        help="speak nnInteractive's protocol at /nninteractive, for 3D Slicer, napari and MITK (docs/nninteractive.md)",
    )
    viewers.add_argument(
        "--nninteractive-sessions", type=int, default=4, metavar="N", help="of them at a time (default: 4)"
    )


def run(arguments: argparse.Namespace) -> None:
    if arguments.role is not None and arguments.add_user is None:
        raise InputError("`role` is of a user who is added.", parameter="role")
    if arguments.check:
        _check(arguments)
    elif arguments.add_user is not None:
        _add_user(arguments)
    elif arguments.set_password is not None:
        _set_password(arguments)
    elif arguments.remove_user is not None:
        _remove_user(arguments)
    elif arguments.list_users:
        _list_users(arguments)
    elif arguments.backup is not None:
        with _open(arguments) as store:
            store.backup(arguments.backup)
        print_line(f"The store is copied to {printable(str(arguments.backup))}; uploads are files beside it.")
    else:
        _serve(arguments)


def _serve(arguments: argparse.Namespace) -> None:
    from medsam.server.gate.request import is_loopback
    from medsam.server.page.built import NOT_BUILT, is_built
    from medsam.server.run import bind, serve

    settings, certificate = _settings(arguments), _certificate(arguments)
    listening = bind(settings.host, settings.port)
    demo = _put_demo(arguments) if arguments.demo else None

    def started(address: str) -> None:
        if not settings.https and not is_loopback(settings.host):
            print("Without https, passwords and scans can be read on the way.", file=sys.stderr)
        if not is_built():
            print(NOT_BUILT, file=sys.stderr)
        print(f"medsam serve: {address} (Ctrl-C ends it)", flush=True)
        if demo is not None:
            print(f"The demo's scan: {address}/#/case/{demo}", flush=True)

    told = serve(settings, listening, certificate=certificate, started=started)
    if told == signal.SIGINT:
        raise KeyboardInterrupt
    if told is not None:
        raise SystemExit(128 + told)


def _certificate(arguments: argparse.Namespace) -> Certificate | None:
    from medsam.server.run import Certificate

    return None if arguments.certificate is None else Certificate(arguments.certificate, arguments.key)


def _put_demo(arguments: argparse.Namespace) -> str:
    from medsam.server.cases.demo import demo_folder, put_demo

    with _open(arguments) as store:
        return put_demo(store, demo_folder(), arguments.data)


def _settings(arguments: argparse.Namespace) -> ServerSettings:
    from medsam.server.cases.demo import demo_folder
    from medsam.server.settings import GIB, NNInteractive, ServerSettings, TrustedProxy
    from medsam.store.readers import Role

    if not 0 <= arguments.port < 65536:
        raise InputError("A `port` is a number from 0 to 65535.", parameter="port")
    for name, least in (("lock_after", 1 / 60), ("scan_memory", 1 / 64), ("keep_uploads", 0.0)):
        if not least <= getattr(arguments, name) < 1e6:
            raise InputError(f"`{name}` is a number from {least:.3g}.", parameter=name)
    if arguments.project is not None:
        _check_project(arguments)
    if arguments.key is not None and arguments.certificate is None:
        raise InputError("A `key` needs its `certificate`.", parameter=("certificate", "key"))
    header = None if arguments.proxy_header == "none" else arguments.proxy_header
    memory = int(arguments.scan_memory * GIB)
    clients = NNInteractive(arguments.nninteractive_sessions, image_bytes=memory)
    return ServerSettings(
        store=_store_folder(arguments),
        database=arguments.database,
        data=(*arguments.data, *([demo_folder()] if arguments.demo else [])),
        host=arguments.host,
        port=arguments.port,
        hosts=tuple(arguments.hosts),
        model=arguments.model or "litemedsam",
        device=arguments.device,
        proxy=TrustedProxy(tuple(arguments.proxy), header) if arguments.proxy else None,
        https=arguments.https or arguments.certificate is not None,
        lock_after=arguments.lock_after * 60.0,
        scan_bytes=memory,
        uploads_kept=arguments.keep_uploads * 86400.0 or None,
        patients_from=Role[arguments.patients_from.upper()],
        trust=arguments.trust,
        monailabel=_monailabel(arguments),
        nninteractive=clients if arguments.nninteractive else None,
        project=arguments.project,
        heads=tuple(arguments.head),
    )


def _check_project(arguments: argparse.Namespace) -> None:
    for name in ("model", "store", "demo"):
        if getattr(arguments, name):
            raise InputError(f"A `project` has its own {name}.", parameter=("project", name))
    if arguments.head:
        raise InputError("A `project` replaces its model, which a `head` belongs to.", parameter=("project", "head"))
    # with a database, the folder becomes another site of the project in it
    if arguments.database is None and not _store_folder(arguments).is_dir():
        raise InputError(
            f"{arguments.project} holds no `project`: `medsam annotate init` makes one.", parameter="project"
        )


def _monailabel(arguments: argparse.Namespace) -> MonaiLabel | None:
    from medsam.server.monailabel.ohif import Ohif
    from medsam.server.settings import MonaiLabel

    if not arguments.monailabel and arguments.ohif is None:
        for name in ("structure", "pacs"):
            if getattr(arguments, name):
                raise InputError(f"`{name}` is of other viewers: `monailabel`, `ohif`.", parameter=(name, "monailabel"))
        return None
    if arguments.ohif is not None:
        # before the model is loaded
        Ohif.of(arguments.ohif)
    return MonaiLabel(labels=tuple(arguments.structure) or ("object",), ohif=arguments.ohif, pacs=arguments.pacs)


def _store_folder(arguments: argparse.Namespace) -> Path:
    if arguments.store is not None:
        return Path(arguments.store)
    if arguments.project is not None:
        return Path(arguments.project) / "store"
    import platformdirs

    return Path(platformdirs.user_data_dir("medsam", appauthor=False)) / ("demo" if arguments.demo else "server")


def _open(arguments: argparse.Namespace) -> Store:
    """The store beside a server that may be running; one that is not there is not made."""
    from medsam.store.opening import is_store
    from medsam.store.store import Store

    folder = _store_folder(arguments)
    if arguments.add_user is None and not arguments.demo and not is_store(folder):
        raise InputError(f"There is no `store` at {folder}.", parameter="store")
    return Store.open(folder, serving=False, url=arguments.database)


def _add_user(arguments: argparse.Namespace) -> None:
    from medsam.store.readers import Role

    with _open(arguments) as store:
        first = not store.users()
        role = Role[(arguments.role or ("administrator" if first else "reader")).upper()]
        if first and role < Role.ADMINISTRATOR:
            raise InputError("The first user has to be of the `role` administrator.", parameter="role")
        user = store.add_user(arguments.add_user, role, _password())
    print_line(f"{user.name} may log in, as {role.name.lower()}.")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise InputError("The two are not the same: nothing was changed.")
    return password


def _set_password(arguments: argparse.Namespace) -> None:
    with _open(arguments) as store:
        user = _known(store, arguments.set_password)
        if user.kind != "person":
            raise InputError("A proxy logs this user in, and there is no password.", parameter="set_password")
        store.change_user(user.id, password=_password(), active=True)
    print_line(f"{user.name} may log in with it; all logins before have ended.")


def _known(store: Store, name: str) -> User:
    user = store.user_named(name)
    if user is None or user.kind == "local":
        raise InputError("There is no such user: see `list_users`.", parameter="list_users")
    return user


def _remove_user(arguments: argparse.Namespace) -> None:
    with _open(arguments) as store:
        user = _known(store, arguments.remove_user)
        store.change_user(user.id, active=False)
    print_line(f"{user.name} may not come in any more.")


def _list_users(arguments: argparse.Namespace) -> None:
    with _open(arguments) as store:
        users = store.users()
    if arguments.json:
        found = [
            {"name": user.name, "role": user.role.name.lower(), "kind": user.kind, "active": user.active}
            for user in users
        ]
        print(json.dumps(found, indent=2))
        return
    rows = [(user.name, user.role.name.lower(), user.kind, "yes" if user.active else "no") for user in users]
    print_table(("name", "role", "kind", "may come in"), rows, left=4)


def _check(arguments: argparse.Namespace) -> None:
    from medsam.server.watch.check import Finding, check

    words = {True: "works", False: "FAILS", None: "-"}
    findings = list[Finding]()
    for finding in check(_settings(arguments), _certificate(arguments)):
        findings.append(finding)
        if not arguments.json:
            print_line(f"{words[finding.works]:6} {printable(finding.what)}: {printable(finding.text)}")
    if arguments.json:
        found = [{"what": one.what, "works": one.works, "text": one.text} for one in findings]
        print(json.dumps(found, indent=2))
    if failed := [one.what for one in findings if one.works is False]:
        raise InputError(f"{counted(len(failed), 'thing')} would not work: {', '.join(failed)}.")
