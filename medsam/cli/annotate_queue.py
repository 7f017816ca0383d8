"""`medsam annotate queue PROJECT`: which scans come next and why; --reorder asks the model again."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.annotate_model import TRAINING, predictor_of
from medsam.cli.flags import check_count
from medsam.cli.scan_options import add_network_arguments
from medsam.cli.table import print_line, print_table
from medsam.errors import counted
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.annotation.project import AnnotationProject
    from medsam.annotation.waiting import Placed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate queue`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--reorder", action="store_true", help="ask the model that answers now, and order anew")
    parser.add_argument("--order", choices=("unsure", "different", "rare", "random"), help="from now on, and reorder")
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), help="of tasks that come, from now on")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="show so many (default: 20)")
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.project import AnnotationProject
    from medsam.annotation.waiting import queue_of

    check_count(arguments.limit, "limit")
    with AnnotationProject.open(arguments.project) as project:
        told = {name: getattr(arguments, name) for name in ("order", "stage") if getattr(arguments, name) is not None}
        if told:
            project.change(replace(project.settings, **told))
        if arguments.reorder or arguments.order is not None:
            _reorder(project, arguments)
        found = queue_of(project)
        if arguments.json:
            print(json.dumps([_document(one) for one in found[: arguments.limit]], indent=2))
            return
        nobodys = sum(one.nobodys for one in found)
        alone = f"; {counted(nobodys, 'task')} that nobody here may take" if nobodys else ""
        print_line(f"{counted(len(found) - nobodys, 'task')} waiting{alone}; order {project.settings.order!r}")
        rows = [
            (str(place), one.scan.name, one.task.kind, one.scan.side, one.why)
            for place, one in enumerate(found[: arguments.limit], start=1)
        ]
        if rows:
            print_table(("", "scan", "task", "side", "why"), rows, left=5, fold_last=True)


def _reorder(project: AnnotationProject, arguments: argparse.Namespace) -> None:
    from medsam.annotation.queue import order_queue

    if project.settings.order == "random":
        order_queue(project)
        return
    predictor = predictor_of(project, arguments)
    with progress_bars(TRAINING) as (training,), progress_bars("Scans") as (progress,):
        order_queue(project, predictor, progress=progress, training=training)


def _document(one: Placed) -> dict[str, object]:
    task = one.task
    return {
        "task": task.key,
        "scan": one.scan.name,
        "kind": task.kind,
        "side": one.scan.side,
        "stage": task.stage,
        "priority": task.priority,
        "why": one.why,
        "nobodys": one.nobodys,
    }
