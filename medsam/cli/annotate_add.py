"""`medsam annotate add PROJECT --data DIR|MANIFEST`: further scans; those that are there stay as they are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medsam.cli.annotate_init import add_data_arguments, sentence
from medsam.cli.table import print_line
from medsam.progress import progress_bars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate add`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    add_data_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.project import AnnotationProject
    from medsam.annotation.queue import order_queue
    from medsam.annotation.starting import add_scans, read_data
    from medsam.cli.data import parse_labels

    labels = None if arguments.labels is None else parse_labels(arguments.labels)
    with (
        AnnotationProject.open(arguments.project) as project,
        progress_bars("Reading headers and labels", "Counting slices") as (reading, counting),
    ):
        manifest, remarks = read_data(arguments.data, labels, reading)
        added = add_scans(project, manifest, counting)
        order_queue(project)
    for remark in (*remarks, *added.remarks):
        print(remark, file=sys.stderr)
    print_line(f"added to {arguments.project}: {sentence(added)}")
