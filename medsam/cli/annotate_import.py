"""`medsam annotate import PROJECT --from PATH`: masks from elsewhere for scans of a project."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.flags import comma_names, with_flags
from medsam.cli.table import print_line
from medsam.errors import InputError, counted, listed
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.store.readers import Reader
    from medsam.store.store import Store

_FORMATS = ("auto", "manifest", "labels", "coco", "sa1b", "monailabel")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate import`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--from", dest="source", type=Path, required=True, metavar="PATH", help="a file or a folder")
    parser.add_argument(
        "--format",
        default="auto",
        choices=_FORMATS,
        help="manifest: ours, nnU-Net's, the Decathlon's; labels: files called as their scans are, NIfTI, SEG and "
        "others; coco; sa1b; monailabel: its local datastore (default: by what is there)",
    )
    parser.add_argument("--labels", metavar="A=1,B=2", help="what the values of label maps mean that have no names")
    parser.add_argument(
        "--structures", type=comma_names, metavar="NAME,...", help="only these; of sa1b: the one that all masks are of"
    )
    parser.add_argument("--reader", metavar="NAME", help="who drew them (default: whoever works without users)")
    parser.add_argument(
        "--as",
        dest="status",
        default="accepted",
        choices=("accepted", "proposed"),
        help="accepted: they stand; proposed: a person is asked about them (default: accepted)",
    )
    parser.add_argument(
        "--replace-approved",
        action="store_true",
        help="also where a reviewer has approved what stands (default: that stays, and is counted)",
    )
    parser.add_argument("--json", action="store_true", help="what came in on stdout, as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.importing.bring_in import ImportRequest, import_masks
    from medsam.annotation.project import AnnotationProject
    from medsam.cli.data import parse_labels

    numbers = None if arguments.labels is None else parse_labels(arguments.labels)
    structures = None if arguments.structures is None else tuple(arguments.structures)
    request = ImportRequest(
        arguments.source, arguments.format, numbers, structures, arguments.status, arguments.replace_approved
    )
    with AnnotationProject.open(arguments.project) as project, progress_bars("Scans") as (progress,):
        told = import_masks(project, request, _reader(project.store, arguments.reader), progress)
    if arguments.json:
        print(json.dumps(asdict(told), indent=2))
        return
    for remark in told.remarks:
        print(f"Note: {with_flags(remark, ['replace_approved'], arguments)}", file=sys.stderr)
    more = [
        f"{number} {what}"
        for number, what in (
            (told.same, "were there already"),
            (told.replaced, "follow others that stood"),
            (told.withdrawn, "tasks are done with that"),
        )
        if number
    ]
    print_line(f"{counted(told.masks, 'mask')} on {counted(told.scans, 'scan')}" + "".join(f"; {one}" for one in more))


def _reader(store: Store, name: str | None) -> Reader:
    if name is None:
        return store.local_reader()
    users = store.users()
    found = next((user for user in users if user.name == name), None)
    if found is None:
        known = listed(user.name for user in users) or "nobody: `medsam serve user add` adds them"
        raise InputError(f"Nobody here is called {name!r}; there are: {known}.", parameter="reader")
    return found.reader
