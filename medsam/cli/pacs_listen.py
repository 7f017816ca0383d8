"""`medsam pacs listen`: the receiver, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medsam.cli.table import print_line
from medsam.errors import InputError
from medsam.io.files import read_json

if TYPE_CHECKING:
    from medsam.pacs.listen.config import ListenSettings
    from medsam.pacs.listen.service import Receiver


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam pacs listen`; all else is in the settings file."""
    parser.add_argument("--retry", action="store_true", help="also try again what failed before")
    parser.add_argument("--check", action="store_true", help="only read the settings and say what they mean")
    parser.add_argument("--status", action="store_true", help="only print the numbers of the receiver that is running")
    parser.add_argument("--json", action="store_true", help="the log as JSON on stdout, one object a line")


def run(arguments: argparse.Namespace) -> None:
    """Receive until told to end. Raises InputError for settings, models and ports that cannot be used."""
    from medsam.pacs.listen.config import read_listen
    from medsam.pacs.settings import read_settings

    settings = read_listen(read_settings())
    if arguments.status:
        _print_status(settings, arguments.json)
    elif arguments.check:
        _print_settings(settings)
    else:
        _receive(settings, arguments)


def _receive(settings: ListenSettings, arguments: argparse.Namespace) -> None:
    from medsam.pacs.listen.deliver import deliver
    from medsam.pacs.listen.events import Events
    from medsam.pacs.listen.service import Receiver

    receiver = Receiver(settings, Events(as_json=arguments.json), deliver)
    try:
        with _ended_by_sigterm(receiver):
            receiver.start(retry=arguments.retry)
            receiver.loop()
    finally:
        receiver.stop()


@contextmanager
def _ended_by_sigterm(receiver: Receiver) -> Iterator[None]:
    """SIGTERM is how a service is stopped: not an error, so the exit status is 0."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: receiver.end())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_status(settings: ListenSettings, as_json: bool) -> None:
    """Raises InputError when no receiver has ever used the folder."""
    path = settings.folder / "status.json"
    if not path.exists():
        raise InputError(f"No receiver has used the folder {settings.folder} yet: there is no status.json in it.")
    document = read_json(path)
    if as_json:
        print(json.dumps(document))
        return
    for key, value in document.items():
        if key == "refused":
            for why, times in value.items():
                print_line(f"refused, {why}: {times}")
        else:
            print_line(f"{key.replace('_', ' ')}: {value}")


def _print_settings(settings: ListenSettings) -> None:
    """What an administrator should compare with what was meant."""
    from medsam.pacs.listen.rules import Command

    settings.tls()
    print_line(f"listens at {settings.host}, port {settings.port}, as {settings.aet}")
    print_line(f"lets in: {', '.join(settings.calling) or 'nobody'}")
    print_line(f"TLS: {'with client certificates' if settings.cert else 'none'}")
    print_line(
        f"folder: {settings.folder}; at most {settings.quota / 2**30:g} GiB, kept {settings.keep_s / 86400:g} days"
    )
    for number, rule in enumerate(settings.rules, start=1):
        what = f"runs {rule.action.words[0]}" if isinstance(rule.action, Command) else f"model {rule.action.model}"
        to = f"result to {rule.send_to}" if rule.send_to else "result stays in the folder"
        called = "" if rule.name == str(number) else f", {rule.name}"
        print_line(f"rule {number}{called}: {_conditions(rule.match)}; {what}; {to}")
    for text in settings.warnings():
        print_line(f"WARNING: {text}")


def _conditions(match: Any) -> str:
    stated = {key: value for key, value in vars(match).items() if value and (key, value) != ("at_least", 1)}
    if not stated:
        return "every series of images"
    return ", ".join(
        f"{key} {' or '.join(value) if isinstance(value, tuple) else value}" for key, value in stated.items()
    )
