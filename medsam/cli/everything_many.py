"""`medsam everything-many SCANS... --out DIR`: what `medsam everything` does, for many scans, by many workers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.everything import add_generator_arguments, everything_in
from medsam.cli.many import add_many_arguments, run_many
from medsam.cli.scan_options import plain_predictor
from medsam.progress import ProgressCallback

if TYPE_CHECKING:
    from medsam.data.manifest import Case
    from medsam.inference.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam everything-many`."""
    parser.add_argument("--label-maps", action="store_true", help="also write a label map of each scan: .nii.gz")
    add_many_arguments(parser)
    add_generator_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Find what is not there yet. Raises MedSAMError subclasses for everything a user can fix."""
    run_many(arguments, plain_predictor, _found, "searched")


def _found(
    arguments: argparse.Namespace, predictor: Predictor, case: Case, folder: Path, progress: ProgressCallback
) -> dict[str, Any]:
    arguments.slice = None
    arguments.out = folder / "masks" / f"{arguments.name}.masks.json"
    arguments.labels = folder / "masks" / f"{arguments.name}.nii.gz" if arguments.label_maps else None
    report, _ = everything_in(arguments, lambda _: predictor, progress, case.load_image)
    for key in ("out", "labels", "preview"):
        report[key] = report[key] and Path(report[key]).relative_to(folder).as_posix()
    return {key: value for key, value in report.items() if key not in ("seconds", "encoded")}
