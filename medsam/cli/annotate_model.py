"""What commands of `medsam annotate` that ask the model have in common: options, and the model of the project."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from medsam.cli.scan_options import add_network_arguments

if TYPE_CHECKING:
    from medsam.annotation.project import AnnotationProject
    from medsam.inference.predictor import Predictor

# of the bar while a project's segmenter learns
TRAINING = "Steps of the segmenter"


def add_finder_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of commands that find structures by themselves."""
    parser.add_argument(
        "--head", nargs="+", default=[], metavar="FILE", help="heads that find structures, or answer their names"
    )
    parser.add_argument("--no-names", action="store_true", help="ask no head by name that medsam ships")
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def predictor_of(project: AnnotationProject, arguments: argparse.Namespace) -> Predictor:
    """The model that answers in the project now, on what the options say, with the heads that they name."""
    from medsam.annotation.looks import project_predictor

    options = {name: getattr(arguments, name) for name in ("device", "engine", "precision")}
    return project_predictor(project, **options, heads=getattr(arguments, "head", ()))


def tell_failed(failed: Mapping[str, str]) -> None:
    """Scan -> why it could not be read, a line each."""
    for name, why in failed.items():
        print(f"{name} is left out: {why}", file=sys.stderr)
