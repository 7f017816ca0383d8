"""`medsam annotate`: the data engine. Each action is a module of its own, imported when it is called."""

from __future__ import annotations

import argparse
import importlib

# action -> (module, one line for --help). A module offers add_arguments(parser) and run(arguments) -> None.
ACTIONS: dict[str, tuple[str, str]] = {
    "init": ("medsam.cli.annotate_init", "begin a project: scans, the structures to be drawn, a task for each scan"),
    "add": ("medsam.cli.annotate_add", "bring further scans into a project"),
    "status": ("medsam.cli.annotate_status", "how a project stands, and what to do next"),
    "queue": ("medsam.cli.annotate_queue", "which scans come next and why; put them into another order"),
    "propose": ("medsam.cli.annotate_propose", "stage 2: masks that the model is sure of come filled in"),
    "automatic": ("medsam.cli.annotate_automatic", "stage 3: the model alone, on what it is sure of from every side"),
    "audit": ("medsam.cli.annotate_audit", "a sample of what the model made alone, and what people say of it"),
    "agreement": ("medsam.cli.annotate_agreement", "how far two readers of a scan agree, and where they differ most"),
    "round": (
        "medsam.cli.annotate_round",
        "train on what was accepted, measure, and promote what is better; resumable",
    ),
    "export": (
        "medsam.cli.annotate_export",
        "masks as a data set: manifest, NIfTI, SEG, nnU-Net, Decathlon, COCO, SA-1B, CSV",
    ),
    "import": (
        "medsam.cli.annotate_import",
        "masks from elsewhere: the same layouts, and MONAI Label's datastore",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (module, line) in ACTIONS.items():
        action = actions.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        importlib.import_module(module).add_arguments(action)


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    importlib.import_module(ACTIONS[arguments.action][0]).run(arguments)
