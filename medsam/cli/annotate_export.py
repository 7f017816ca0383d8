"""`medsam annotate export PROJECT --out DIR --format LAYOUT`: masks as a data set."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from medsam.cli.flags import comma_names
from medsam.cli.table import print_line
from medsam.errors import InputError, counted
from medsam.progress import progress_bars

_LAYOUTS = ("manifest", "nifti", "seg", "nnunet", "decathlon", "coco", "sa1b", "csv")
# of one number a voxel
_DENSE = ("nnunet", "decathlon")
_STATUSES = ("proposed", "accepted", "edited", "rejected", "approved")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate export`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder that is empty or not there")
    parser.add_argument(
        "--format", required=True, choices=_LAYOUTS, help="csv: where every mask comes from; no scan is read for it"
    )
    parser.add_argument(
        "--status",
        type=comma_names,
        metavar="NAME,...",
        help=f"only masks that are these, of {', '.join(_STATUSES)} (default: accepted, edited, approved)",
    )
    parser.add_argument("--structures", type=comma_names, metavar="NAME,...", help="only these (default: all)")
    parser.add_argument(
        "--overlap",
        choices=("error", "first", "last"),
        default="error",
        help="of nnunet and decathlon: which structure, in the project's order, has a voxel that several share, as a "
        "tumour within an organ (default: error)",
    )
    parser.add_argument("--side", choices=("train", "val", "test"), help="only scans of this side (default: all)")
    parser.add_argument("--licence", metavar="TEXT", help="under which the data set is passed on; for its card")
    parser.add_argument("--json", action="store_true", help="counts on stdout, as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.exporting.content import ExportRequest
    from medsam.annotation.exporting.export import export
    from medsam.annotation.project import AnnotationProject
    from medsam.store.annotations import DONE

    unknown = [name for name in arguments.status or () if name not in _STATUSES]
    if unknown:
        raise InputError(f"There is no `status` {unknown[0]!r}; use {', '.join(_STATUSES)}.", parameter="status")
    structures = None if arguments.structures is None else tuple(arguments.structures)
    statuses = tuple(arguments.status) if arguments.status else DONE
    if arguments.overlap != "error" and arguments.format not in _DENSE:
        raise InputError(
            f"`overlap` is for {' and '.join(_DENSE)}: {arguments.format} holds structures that share voxels as they "
            "are. Leave it out.",
            parameter="overlap",
        )
    request = ExportRequest(
        arguments.format, statuses, structures, arguments.side, arguments.licence, arguments.overlap
    )
    with AnnotationProject.open(arguments.project) as project, progress_bars("Scans") as (progress,):
        told = export(project, request, arguments.out, progress)
    if arguments.json:
        print(json.dumps({**told, "out": str(arguments.out), "format": arguments.format}, indent=2))
        return
    for remark in told["remarks"]:
        print(f"Note: {remark}", file=sys.stderr)
    said = [counted(told[f"{kind}s"], kind) for kind in ("mask", "scan", "patient")]
    print_line(f"wrote {arguments.out}: {said[0]} on {said[1]} of {said[2]}")
