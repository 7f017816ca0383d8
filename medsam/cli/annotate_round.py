"""`medsam annotate round PROJECT`: train on what was accepted, measure, and promote what is better."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.table import print_line
from medsam.errors import InputError

if TYPE_CHECKING:
    from medsam.annotation.project import AnnotationProject
    from medsam.annotation.rounds import RoundRequest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate round`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--steps", type=int, metavar="N", help="of training (default: of the project's settings)")
    parser.add_argument("--config", metavar="FILE", help="of configs/train, or a path (default: of the settings)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a further option of medsam fit, such as model.optimiser.lr=1e-4",
    )
    parser.add_argument("--limit-test", type=int, metavar="N", help="measure on the first N frozen scans alone")
    parser.add_argument(
        "--force",
        action="store_true",
        help="promote a gain on too few patients for an interval, too",
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--if-due", action="store_true", help="only when --every masks are new; for cron")
    when.add_argument("--watch", type=float, metavar="SECONDS", help="look every so often whether one is due")
    parser.add_argument("--every", type=int, metavar="N", help="new masks after which one is due")
    parser.add_argument(
        "--back",
        type=int,
        nargs="?",
        const=-1,
        metavar="N",
        help="have the model of round N answer again, 0: the first one; without N: the one before",
    )
    parser.add_argument("--abandon", action="store_true", help="give up the round that is under way")
    parser.add_argument("--json", action="store_true", help="what came of it on stdout, as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.project import AnnotationProject
    from medsam.annotation.rounds import RoundRequest, abandon_round, answer_again

    request = RoundRequest(
        arguments.config,
        arguments.steps,
        dict(_override(text) for text in arguments.set),
        arguments.limit_test,
        arguments.force,
    )
    if arguments.every is not None and arguments.every < 1:
        raise InputError(f"`every` is a whole number from 1, not {arguments.every}.", parameter="every")
    if arguments.watch is not None and not arguments.watch > 0:
        raise InputError(f"`watch` is a number of seconds above 0, not {arguments.watch:g}.", parameter="watch")
    with AnnotationProject.open(arguments.project) as project:
        if arguments.back is not None:
            now = answer_again(project, None if arguments.back < 0 else arguments.back)
            _told(arguments, {"answers": now}, f"Now answers: {now}.")
        elif arguments.abandon:
            _told(arguments, {"abandoned": abandon_round(project, _say)})
        elif arguments.watch is not None:
            while True:
                _round(project, request, arguments)
                time.sleep(arguments.watch)
        else:
            _round(project, request, arguments)


def _round(project: AnnotationProject, request: RoundRequest, arguments: argparse.Namespace) -> None:
    """A round, unless one is to run when due and none is."""
    from medsam.annotation.rounds import RoundRequest, due, run_round, under_way

    if arguments.if_due or arguments.watch is not None:
        is_due, why = due(project, arguments.every)
        if not is_due:
            _told(arguments, {"round": None, "why": why}, f"Nothing to do: {why}.")
            return
        if under_way(project) is not None:
            # what it is told stands, and whoever calls again and again says the same each time
            request = RoundRequest()
    ended = run_round(project, request, _say)
    _told(arguments, ended, f"Round {ended['round']}: {ended['why']}")


def _override(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InputError(f"`set` takes KEY=VALUE, such as model.optimiser.lr=1e-4, not {text!r}.", parameter="set")
    return key.removeprefix("--"), value


def _told(arguments: argparse.Namespace, document: dict[str, object], line: str | None = None) -> None:
    if arguments.json:
        print(json.dumps(document, indent=2))
    elif line is not None:
        print_line(line)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
