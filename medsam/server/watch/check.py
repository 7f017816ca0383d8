"""What keeps a server from starting or from doing its work, asked before it is started; changes nothing but caches."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medsam.errors import InputError, MedSAMError, counted
from medsam.server.page.built import NOT_BUILT, Page
from medsam.server.settings import GIB, MIB, ServerSettings

_PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "argon2-cffi", "prometheus-client", "python-multipart")
# for scans of a PACS, for the network's graphs, and for clients of nnInteractive
_OPTIONAL = ("dicomweb-client", "pynetdicom", "openvino", "blosc2")
_LEAST_FREE = 2 * GIB
Given = TypeVar("Given")


@dataclass(frozen=True)
class Finding:
    """works: None for what is not there and need not be."""

    what: str
    works: bool | None
    text: str


def check(settings: ServerSettings) -> Iterator[Finding]:
    """Look at everything, the quick first; each finding as soon as it is known."""
    yield from _packages()
    yield _page()
    yield from (_tried(f"data {folder}", _folder, folder) for folder in settings.data)
    yield _tried("store", _store, settings)
    yield _tried("disk", _disk, settings)
    yield _tried("address", _address, settings)
    yield _tried("port", _port, settings)
    yield from _servers()
    yield _tried("model", _model, settings)


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
    from medsam.server.store.database import NAME, is_foreign
    from medsam.server.store.store import Store

    if not (settings.store / NAME).exists():
        if not os.access(_nearest(settings.store), os.W_OK):
            raise InputError(f"There is no store at {settings.store}, and none can be made.", parameter="store")
        if is_foreign(settings.store):
            raise InputError(f"{settings.store} is no store, and not empty.", parameter="store")
        return f"{settings.store} will be made"
    with Store.open(settings.store, serving=False) as store:
        if broken := store.check():
            raise InputError(f"{settings.store} is damaged: {broken[0][:100]}.", parameter="store")
        return f"{settings.store}, tables of revision {store.schema()}, {counted(len(store.users()), 'user')}"


def _nearest(folder: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def _disk(settings: ServerSettings) -> str:
    free = shutil.disk_usage(_nearest(settings.store)).free
    text = f"{free / GIB:.1f} GiB free for the store"
    if free < _LEAST_FREE:
        raise InputError(f"{text}: less than {_LEAST_FREE / GIB:.0f}.")
    return text


def _address(settings: ServerSettings) -> str:
    from medsam.server.gate.identity import check_address
    from medsam.server.gate.request import is_loopback
    from medsam.server.store.database import NAME
    from medsam.server.store.store import Store

    has_users = False
    if (settings.store / NAME).exists():
        with Store.open(settings.store, serving=False) as store:
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
    from medsam.inference.predictor import Predictor
    from medsam.inference.trust import read_trust

    began = time.monotonic()
    predictor = Predictor(settings.model, settings.device)
    if settings.trust is not None:
        read_trust(settings.trust, predictor.images.weights)
    predictor.warm_up()
    took = time.monotonic() - began
    return f"{predictor.name} on {predictor.device}, {predictor.engine.name}, ready after {took:.1f} s"
