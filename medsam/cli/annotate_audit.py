"""`medsam annotate audit PROJECT`: what people say of masks that the model made alone; --sample draws some."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from medsam.cli.table import print_line
from medsam.errors import InputError, counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate audit`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--sample", type=int, metavar="N", help="let reviewers look at N more masks, drawn by the seed")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.audits import audit_of, sample
    from medsam.annotation.project import AnnotationProject

    if arguments.sample is not None and arguments.sample < 1:
        raise InputError("`sample` is a number from 1.", parameter="sample")
    with AnnotationProject.open(arguments.project) as project:
        made = sample(project, arguments.sample) if arguments.sample else []
        found = audit_of(project)
    if arguments.json:
        print(json.dumps({**found, "made": len(made)}, indent=2))
        return
    if made:
        print_line(f"{counted(len(made), 'task')} for reviewers, on the page")
    said = found["good"] + found["wrong"]
    print_line(
        f"{counted(found['masks'], 'mask')} made by the model alone; {found['asked']} asked about, {found['waiting']} "
        f"of which wait"
    )
    if said:
        print_line(
            f"{found['good']} of {said} right: {100 * found['right']:.0f} % (95 % interval {100 * found['low']:.0f} to "
            f"{100 * found['high']:.0f} %)"
        )
