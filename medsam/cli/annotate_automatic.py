"""`medsam annotate automatic PROJECT`: the model alone, on what it is sure of from every side (stage 3)."""

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
    """Options of `medsam annotate automatic`."""
    parser.add_argument("project", type=Path, metavar="PROJECT")
    parser.add_argument("--limit", type=int, metavar="N", help="only the N scans that come next (default: all)")
    for name, value, what in (
        ("expected", 0.9, "the Dice that is expected"),
        ("predicted-iou", 0.8, "the network's own guess"),
        ("stability", 0.9, "IoU of its masks at two thresholds"),
        ("agreement", 0.7, "IoU of the guessed box and the mask's"),
    ):
        parser.add_argument(f"--{name}", type=float, default=value, metavar="N", help=f"{what} (default: {value:g})")
    parser.add_argument(
        "--no-grid",
        action="store_true",
        help="no candidates of a grid of prompts, which takes seconds a slice; much faster",
    )
    parser.add_argument("--crops", type=int, default=0, metavar="N", help="layers of crops of the grid (default: 0)")
    add_finder_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.automatic import Bounds, automatic
    from medsam.annotation.project import AnnotationProject

    told = {name: getattr(arguments, name) for name in ("expected", "predicted_iou", "stability", "agreement", "crops")}
    check_count(arguments.limit, "limit")
    bounds = Bounds(**told, grid=not arguments.no_grid)
    with AnnotationProject.open(arguments.project) as project:
        predictor = predictor_of(project, arguments)
        with (
            progress_bars("Scans learnt from") as (learning,),
            progress_bars(TRAINING) as (training,),
            progress_bars("Scans", "Slices") as (progress, slices),
        ):
            found = automatic(
                project,
                predictor,
                bounds,
                limit=arguments.limit,
                names=not arguments.no_names,
                progress=progress,
                learning=learning,
                training=training,
                slices=slices,
            )
    if arguments.json:
        print(json.dumps(asdict(found), indent=2))
        return
    tell_failed(found.failed)
    if not found.scans and not found.failed:
        print_line("No scan waits that this model was not left alone with already, in these bounds")
        return
    audit = f"medsam annotate audit {arguments.project} --sample 50"
    print_line(
        f"{counted(found.masks, 'mask')} accepted on {counted(found.scans, 'scan')}, {found.done} of which need "
        f"nobody; {found.left} places left to people. Look at a sample: {audit}"
    )
