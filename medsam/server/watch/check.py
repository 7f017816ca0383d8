"""What keeps a server from starting or from doing its work: asked before it is started, which changes nothing but
caches, and of one that runs.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from medsam.errors import InputError, MedSAMError, counted
from medsam.processes import all_memory
from medsam.server.page.built import NOT_BUILT, Page
from medsam.server.settings import GIB, MIB, NNInteractive, ServerSettings
from medsam.store.opening import is_foreign, is_store
from medsam.store.readers import Role

if TYPE_CHECKING:
    from medsam.server.run import Certificate
    from medsam.server.services import Services
    from medsam.store.store import Store

_PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "argon2-cffi", "prometheus-client", "python-multipart")
# for scans of a PACS, for the network's graphs, for clients of nnInteractive, and for PostgreSQL
_OPTIONAL = ("dicomweb-client", "pynetdicom", "openvino", "blosc2", "psycopg")
_LEAST_FREE = 2 * GIB
# what the model and the libraries take, however little is done
_PROGRAM = 1 * GIB
_NOBODY = "none: one local reader, on this machine, without a login"
_NO_TLS = "no certificate: https is for a proxy in front, or not spoken"
Given = TypeVar("Given")


@dataclass(frozen=True)
class Finding:
    """works: None for what is not there and need not be."""

    what: str
    works: bool | None
    text: str


def check(settings: ServerSettings, certificate: Certificate | None = None) -> Iterator[Finding]:
    """Look at everything, the quick first; each finding as soon as it is known. certificate: of the server itself."""
    yield from _packages()
    yield from present(settings)
    yield _tried("store", _store, settings)
    yield _tried("users", _users, settings) if is_store(settings.store) else Finding("users", None, _NOBODY)
    yield _tried("address", _address, settings)
    yield _tried("port", _port, settings)
    yield Finding("TLS", None, _NO_TLS) if certificate is None else _tried("TLS", _tls, certificate)
    yield from _servers()
    yield _tried("model", _model, settings)


def present(settings: ServerSettings) -> Iterator[Finding]:
    """What may be looked at whether or not the server runs, in little time."""
    yield _page()
    yield from (_tried(f"data {folder}", _folder, folder) for folder in settings.data)
    yield _tried("disk", _disk, settings)
    yield _tried("memory", _memory, settings)
    yield from _protocols(settings)


def of_running(services: Services) -> Iterator[Finding]:
    """Of a server that runs: `present`, and what it knows of itself. Waits for the servers of the settings file."""
    pulse = services.pulse
    waits = f"{services.predictor.name} on {services.predictor.device}, {services.predictor.engine.name}"
    text = "can answer" if pulse.is_ready else "is being made ready" if not pulse.warm.done() else "cannot be used"
    yield Finding("model", True if pulse.is_ready else None if not pulse.warm.done() else False, f"{waits}: {text}")
    stuck = "does nothing any more" if pulse.is_stuck else f"a click would wait {pulse.seconds:.2f} s"
    yield Finding("worker", not pulse.is_stuck, f"{stuck}, {counted(services.worker.waiting, 'job')} queued")
    takes = services.store.writable()
    yield Finding("store", takes, f"revision {services.store.schema()}" if takes else "takes nothing")
    yield _tried("users", _who, services.store)
    yield from present(services.settings)
    yield from _servers()


def _tried(what: str, look: Callable[[Given], str], given: Given) -> Finding:
    """look: returns what is told of a thing that works, and raises MedSAMError or OSError for one that does not."""
    try:
        return Finding(what, True, look(given))
    except MedSAMError as error:
        return Finding(what, False, str(error))
    except OSError as error:
        return Finding(what, False, error.strerror or type(error).__name__)


def _packages() -> Iterator[Finding]:
    for names, needed in ((_PACKAGES, True), (_OPTIONAL, False)):
        found, missing = list[str](), list[str]()
        for name in names:
            try:
                found.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                missing.append(name)
        text = ", ".join(found) + (f"; missing: {', '.join(missing)}" if missing else "")
        yield Finding("packages" if needed else "extras", True if not missing else False if needed else None, text)


def _page() -> Finding:
    page = Page.read()
    if page.index is None:
        return Finding("page", None, NOT_BUILT)
    size = sum(len(file.content) for file in (page.index, *page.assets.values()))
    return Finding("page", True, f"{counted(1 + len(page.assets), 'file')}, {size / MIB:.1f} MiB")


def _folder(folder: Path) -> str:
    return counted(sum(1 for _ in os.scandir(folder)), "entry", "entries")


def _store(settings: ServerSettings) -> str:
    if not is_store(settings.store):
        if not os.access(_nearest(settings.store), os.W_OK):
            raise InputError(f"There is no store at {settings.store}, and none can be made.", parameter="store")
        if is_foreign(settings.store):
            raise InputError(f"{settings.store} is no store, and not empty.", parameter="store")
        if settings.database is not None:
            return f"{settings.store} will be made, {_tables(settings.database)}"
        return f"{settings.store} will be made"
    with _opened(settings) as store:
        if broken := store.check():
            raise InputError(f"{settings.store} is damaged: {broken[0][:100]}.", parameter="store")
        return f"{settings.store}, tables of revision {store.schema()}, {counted(len(store.users()), 'user')}"


def _tables(database: str) -> str:
    """What a database of PostgreSQL holds already."""
    from medsam.store.postgres import look

    revision = look(database)
    return "with its tables in PostgreSQL" if revision is None else f"with tables of revision {revision} of other sites"


def _opened(settings: ServerSettings) -> Store:
    from medsam.store.store import Store

    return Store.open(settings.store, serving=False, url=settings.database)


def _nearest(folder: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def _disk(settings: ServerSettings) -> str:
    free = shutil.disk_usage(_nearest(settings.store)).free
    text = f"{free / GIB:.1f} GiB free for the store"
    if free < _LEAST_FREE:
        raise InputError(f"{text}: less than {_LEAST_FREE / GIB:.0f}.")
    return text


def _memory(settings: ServerSettings) -> str:
    """Of the machine, beside what scans, embeddings and viewers' images may take together."""
    viewers = 0 if settings.nninteractive is None else settings.nninteractive.image_bytes
    most = settings.scan_bytes + settings.embedding_bytes + viewers + _PROGRAM
    total = all_memory()
    if total is None:
        return f"up to {most / GIB:.1f} GiB are used; what there is, this system does not say"
    text = f"up to {most / GIB:.1f} of {total / GIB:.1f} GiB are used"
    if most > total:
        raise InputError(f"{text}: give `scan_memory` less, in GiB.", parameter="scan_memory")
    return text


def _protocols(settings: ServerSettings) -> Iterator[Finding]:
    yield Finding("protocol medsam", True, "the page, medsam.client and programs, at /api/v1")
    if settings.monailabel is None:
        yield Finding("protocol MONAI Label", None, "off: --monailabel")
    else:
        ohif = settings.monailabel.ohif
        yield Finding("protocol MONAI Label", True, "on" if ohif is None else f"on, with OHIF of {ohif}")
    if settings.nninteractive is None:
        yield Finding("protocol nnInteractive", None, "off: --nninteractive")
        return
    yield _tried("protocol nnInteractive", _nninteractive, settings.nninteractive)


def _nninteractive(settings: NNInteractive) -> str:
    from medsam.server.nninteractive.leases import check_installed

    check_installed()
    return f"on, at /nninteractive, {counted(settings.sessions, 'session')} at a time"


def _users(settings: ServerSettings) -> str:
    with _opened(settings) as store:
        return _who(store)


def _who(store: Store) -> str:
    users = [user for user in store.users() if user.active]
    chiefs = sum(user.role >= Role.ADMINISTRATOR for user in users)
    if users and not chiefs:
        raise InputError("There are users and no administrator: nobody can add others or look at the audit.")
    return f"{counted(len(users), 'user')}, of them {counted(chiefs, 'administrator')}" if users else _NOBODY


def _tls(certificate: Certificate) -> str:
    """Speak TLS with the certificate, to oneself: whether the key fits, and it is valid now."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        server.load_cert_chain(certificate.certificate, certificate.key)
        client.load_verify_locations(certificate.certificate)
    except OSError:  # ssl.SSLError is one
        raise InputError("The `certificate` or its `key` cannot be used.", parameter=("certificate", "key")) from None
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    try:
        for end in (*ends, *ends):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
        told = ends[0].getpeercert() or {}
    except (ssl.SSLError, ValueError) as error:
        why = getattr(error, "verify_message", "") or "the handshake fails"
        raise InputError(f"The `certificate` is not accepted: {why}.", parameter="certificate") from None
    left = (ssl.cert_time_to_seconds(str(told["notAfter"])) - time.time()) / 86400
    names = ", ".join(str(value) for _, value in cast(Any, told.get("subjectAltName", ())))
    return f"valid for {counted(int(left), 'day')}, for {names or 'no name: browsers will refuse it'}"


def _address(settings: ServerSettings) -> str:
    from medsam.server.gate.identity import check_address
    from medsam.server.gate.request import is_loopback

    has_users = False
    if is_store(settings.store):
        with _opened(settings) as store:
            has_users = bool(store.users())
    check_address(settings, has_users)
    who = [
        word
        for word, there in (
            ("users", has_users),
            ("a trusted proxy", settings.proxy is not None and settings.proxy.header is not None),
        )
        if there
    ]
    reach = "this machine alone" if is_loopback(settings.host) else f"others, at {settings.host}"
    text = f"for {reach}; {' and '.join(who) if who else 'one local reader, without a login'}"
    if not settings.https and not is_loopback(settings.host):
        text += "; without https: passwords and scans can be read on the way"
    return text


def _port(settings: ServerSettings) -> str:
    from medsam.server.run import bind

    bind(settings.host, settings.port).close()
    return f"{settings.host}:{settings.port} is free"


def _servers() -> Iterator[Finding]:
    from medsam.pacs.settings import read_settings, settings_path

    if not settings_path().exists():
        yield Finding("PACS", None, "no settings file, so no servers")
        return
    try:
        servers = read_settings().servers
    except MedSAMError as error:
        yield Finding("PACS", False, str(error))
        return
    for name, server in servers.items():
        try:
            from medsam.pacs.client import echo

            yield Finding(f"PACS {name}", True, f"answered after {echo(server):.2f} s")
        except ModuleNotFoundError as error:
            yield Finding(f"PACS {name}", False, f"needs {error.name}: pip install 'medsam-framework[pacs]'")
        except MedSAMError as error:
            yield Finding(f"PACS {name}", False, str(error))
    if not servers:
        yield Finding("PACS", None, "the settings file names no server")


def _model(settings: ServerSettings) -> str:
    from medsam.annotation.project import AnnotationProject
    from medsam.inference.predictor import Predictor
    from medsam.inference.trust import read_trust

    began = time.monotonic()
    model = settings.model
    if settings.project is not None:
        with AnnotationProject.open(settings.project) as project:
            model, _ = project.model()
    predictor = Predictor(model, settings.device, heads=settings.heads)
    offered = len(predictor.organ_reader.offered(None))
    if settings.trust is not None:
        read_trust(settings.trust, predictor.images.weights)
    predictor.warm_up()
    ready = time.monotonic()
    scan = np.zeros((1, 256, 256), np.float32)
    scan[:, 96:160, 96:160] = 1
    predictor.segment(scan, box=(80, 80, 176, 176))
    took = f"ready after {ready - began:.1f} s, a box answered in {time.monotonic() - ready:.2f} s"
    return (
        f"{predictor.name} on {predictor.device}, {predictor.engine.name}, {took}; {counted(offered, 'organ')} by heads"
    )
