"""`medsam annotate propose PROJECT`: masks that the model is sure of come filled in (stage 2)."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from medsam.cli.annotate_model import TRAINING, add_finder_arguments, predictor_of, tell_failed
from medsam.cli.flags import check_count
from medsam.cli.table import print_line
from medsam.errors import counted
from medsam.progress import progress_bars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate propose`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--limit", type=int, metavar="N", help="only for the N scans that come next (default: all)")
    add_finder_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.project import AnnotationProject
    from medsam.annotation.proposing import propose

    check_count(arguments.limit, "limit")
    with AnnotationProject.open(arguments.project) as project:
        predictor = predictor_of(project, arguments)
        with (
            progress_bars("Scans learnt from") as (learning,),
            progress_bars(TRAINING) as (training,),
            progress_bars("Scans") as (progress,),
        ):
            found = propose(
                project,
                predictor,
                limit=arguments.limit,
                names=not arguments.no_names,
                progress=progress,
                learning=learning,
                training=training,
            )
    if arguments.json:
        print(json.dumps(asdict(found), indent=2))
        return
    tell_failed(found.failed)
    if not found.scans and not found.failed:
        print_line("No scan waits that this model was not asked about already: nothing is proposed anew")
        return
    print_line(
        f"{counted(found.masks, 'mask')} proposed on {counted(found.scans, 'scan')}, {found.left} left out as not sure "
        f"enough; guessed from {counted(found.known, 'scan')}, "
        + (f"Dice expected by {found.learnt} answers" if found.learnt else "too few to learn what Dice to expect")
    )
