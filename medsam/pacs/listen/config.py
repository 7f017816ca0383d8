"""The `[listen]` table of the settings file."""

from __future__ import annotations

import os
import re
import ssl
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from medsam.errors import InputError
from medsam.io.algorithm import DICOM_FORMATS
from medsam.pacs.listen.rules import Command, Match, ModelRun, Rule
from medsam.pacs.settings import Server, Settings, Table, is_aet, is_loopback
from medsam.pacs.uids import is_uid

# of `inference.engines.base`, whose import would bring torch
EngineName = Literal["auto", "torch", "openvino"]
_GIB, _MIB, _DAY_S = 2**30, 2**20, 86400.0
# in place of a prompts file
MEASUREMENTS = "measurements"
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?|mps")
_PLACEHOLDERS = ("folder", "out", "study", "series")


@dataclass(frozen=True)
class ListenSettings:
    """All of the receiver that the file says.

    folder: where everything lies. calling: AE titles that are let in. ca, cert, key: of TLS, None without.
    quiet_s: see `Watcher`. instance_bytes: the most one may have. quota, keep_free: bytes, see `Space`. keep_s: how
    long a series stays after it was finished. jobs: at one time. classes: SOP classes beyond the standard's. device,
    engine: of models, see `ImagePredictor`.
    """

    folder: Path
    aet: str = "MEDSAM"
    host: str = "127.0.0.1"
    port: int = 11112
    calling: tuple[str, ...] = ()
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    quiet_s: float = 5.0
    associations: int = 10
    timeout_s: float = 60.0
    instance_bytes: int = 4 * _GIB
    quota: int = 50 * _GIB
    keep_free: int = 2 * _GIB
    keep_s: float = 7 * _DAY_S
    jobs: int = 1
    classes: tuple[str, ...] = ()
    device: str = "auto"
    engine: EngineName = "auto"
    rules: tuple[Rule, ...] = ()
    servers: Mapping[str, Server] | None = None

    def tls(self) -> ssl.SSLContext | None:
        """The context of the port: TLS 1.2 or newer, and a certificate of `ca` is asked of everybody.

        Raises InputError for files that are not what they should be.
        """
        if self.cert is None or self.key is None or self.ca is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # never asks on the terminal: a daemon has none
        password = os.environ.get("MEDSAM_LISTEN_KEY_PASSWORD", "")
        try:
            context.load_cert_chain(self.cert, self.key, lambda: password)
            context.load_verify_locations(self.ca)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InputError(
                "[listen]: `cert`, `key` and `ca` are not a certificate, its key (whose password may be in "
                "MEDSAM_LISTEN_KEY_PASSWORD) and the authority that senders are certified by, all in PEM."
            ) from error
        return context

    def warnings(self) -> list[str]:
        """What an administrator should hear at the start."""
        found = []
        if not self.calling:
            found.append("nobody is let in: [listen] calling_aets is empty. Name the AE titles of those who may send.")
        if not is_loopback(self.host) and self.cert is None:
            found.append(
                f"what comes to {self.host} is not encrypted, and anybody who knows an AE title may send. Set `cert`, "
                "`key` and `ca` in [listen] where senders can do TLS; else let a firewall choose who reaches the port."
            )
        if not self.rules:
            found.append("there are no [[listen.rules]]: series are kept, and nothing is done with them.")
        return found


def read_listen(settings: Settings) -> ListenSettings:
    """The receiver's part of the settings. Raises InputError, which names table and key and quotes no value."""
    if settings.listen is None:
        raise InputError(
            f"{settings.path} has no [listen] table. It needs at least the folder and who may send:\n"
            '  [listen]\n  folder = "/var/lib/medsam"\n  calling_aets = ["CT1"]'
        )
    table = Table(settings.listen, f"{settings.path.name}, [listen]", settings.path.parent)
    folder = table.path("folder")
    if folder is None:
        raise table.error("`folder` is missing: where what is received lies.")
    lists = _lists(table)
    rules = _rules(table, settings)
    values: dict[str, Any] = {
        "aet": table.aet("aet"),
        "host": table.text("host"),
        "port": table.whole("port", 0, 65535),
        "quiet_s": table.number("quiet_s", 0.05, 3600),
        "associations": table.whole("associations", 1, 200),
        "timeout_s": table.number("timeout_s", 0.1, 3600),
        "instance_bytes": _bytes(table.number("instance_mib", 1, 2**17), _MIB),
        "quota": _bytes(table.number("quota_gib", 0.001, 2**20), _GIB),
        "keep_free": _bytes(table.number("keep_free_gib", 0, 2**20), _GIB),
        "keep_s": _times(table.number("keep_days", 0, 36500), _DAY_S),
        "jobs": table.whole("jobs", 1, 64),
    }
    tls, run_on = _tls(table), _run_on(table)
    table.end()
    return ListenSettings(
        folder=folder,
        rules=rules,
        servers=settings.servers,
        **lists,
        **tls,
        **run_on,
        **{key: value for key, value in values.items() if value is not None},
    )


def _lists(table: Table) -> dict[str, Any]:
    """Who may send, and what beyond the standard's classes."""
    calling = table.texts("calling_aets") or ()
    if not all(is_aet(one) for one in calling):
        raise table.error("`calling_aets` holds what is no AE title: 1 to 16 characters of ASCII, no backslash.")
    classes = table.texts("extra_sop_classes") or ()
    if not all(is_uid(one) for one in classes):
        raise table.error("`extra_sop_classes` holds what is no UID.")
    return {"calling": tuple(one.strip() for one in calling), "classes": classes}


def _run_on(table: Table) -> dict[str, Any]:
    """What models run on, where the settings say so."""
    device, engine = table.text("device"), table.text("engine")
    if device is not None and not _DEVICE.fullmatch(device):
        raise table.error('`device` is "auto", "cpu", "cuda", "cuda:N" or "mps".')
    if engine is not None and engine not in get_args(EngineName):
        raise table.error(f"`engine` is one of {', '.join(get_args(EngineName))}.")
    return {key: value for key, value in (("device", device), ("engine", engine)) if value is not None}


def _tls(table: Table) -> dict[str, Any]:
    """The files of TLS, all or none."""
    tls: dict[str, Any] = {key: table.path(key) for key in ("ca", "cert", "key")}
    if any(tls.values()) and not all(tls.values()):
        raise table.error("TLS needs all three of `cert`, `key` and `ca`: senders have to show a certificate, too.")
    for key, path in tls.items():
        if path is not None and not path.is_file():
            raise table.error(f"`{key}` names a file that is not there.")
    return tls


def _bytes(number: float | None, unit: int) -> int | None:
    return None if number is None else int(number * unit)


def _times(number: float | None, unit: float) -> float | None:
    return None if number is None else number * unit


def _rules(listen: Table, settings: Settings) -> tuple[Rule, ...]:
    tables = listen.tables("rules") or []
    rules = [_rule(table, number, settings) for number, table in enumerate(tables, start=1)]
    names = [rule.name for rule in rules]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise tables[number].error("`name` is that of an earlier rule.")
    return tuple(rules)


def _rule(table: Table, number: int, settings: Settings) -> Rule:
    name = table.text("name") or str(number)
    match = Match(
        modality=_several(table, "modality"),
        sop_class=_several(table, "sop_class"),
        calling_aet=_several(table, "calling_aet"),
        body_part=_several(table, "body_part"),
        description=_several(table, "description"),
        at_least=table.whole("at_least", 1, 10**6) or 1,
    )
    if not all(is_uid(one) for one in match.sop_class):
        raise table.error("`sop_class` takes UIDs, such as 1.2.840.10008.5.1.4.1.1.2 for CT.")
    action = _action(table)
    send_to, timeout_s = table.text("send_to"), table.number("timeout_s", 0.1, 7 * _DAY_S)
    table.end()
    if send_to is not None and send_to not in settings.servers:
        raise table.error("`send_to` names no server of the file: there is no such [servers.NAME].")
    return Rule(name, match, action, send_to, 3600.0 if timeout_s is None else timeout_s)


def _several(table: Table, key: str) -> tuple[str, ...]:
    """One text or a list of them."""
    if isinstance(table.values.get(key), str):
        return (table.text(key) or "",)
    return table.texts(key) or ()


def _action(table: Table) -> Command | ModelRun:
    words, model = table.texts("command"), table.text("model")
    measured = table.values.get("prompts") == MEASUREMENTS
    prompts, propagate = table.path("prompts"), table.flag("propagate")
    window, kind = table.text("window"), table.text("format")
    if (words is None) == (model is None):
        raise table.error("it needs either `command`, a list of words, or `model` with `prompts`.")
    if words is not None:
        if prompts is not None or propagate or window is not None or kind is not None:
            raise table.error("`prompts`, `propagate`, `window` and `format` belong to `model`.")
        return _command(table, words)
    if not measured and (prompts is None or not prompts.is_file()):
        raise table.error(
            "`model` needs `prompts`: a prompts file that is there (docs/prompts.md), or "
            f'"{MEASUREMENTS}" for what came with the study.'
        )
    chosen = next((one for one in DICOM_FORMATS if one == (kind or "seg")), None)
    if chosen is None:
        raise table.error(f"`format` is one of {', '.join(DICOM_FORMATS)}.")
    return ModelRun(str(model), None if measured else prompts, propagate, window or "auto", chosen)


def _command(table: Table, words: tuple[str, ...]) -> Command:
    for word in words:
        try:
            fields = [(field, spec, how) for _, field, spec, how in string.Formatter().parse(word) if field is not None]
        except ValueError:
            fields = [("", "", None)]
        if any(field not in _PLACEHOLDERS or spec or how for field, spec, how in fields):
            raise table.error(
                "`command` holds braces other than {folder}, {out}, {study} and {series}; write {{ and }} for braces."
            )
    if not any("{folder}" in word for word in words):
        raise table.error("`command` names no {folder}, so it would not know what to work on.")
    return Command(words)
