"""`medsam annotate init PROJECT --data DIR|MANIFEST --structures NAME,...`: a project begun."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.flags import comma_names
from medsam.cli.table import print_line
from medsam.errors import counted
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.annotation.settings import Settings
    from medsam.annotation.starting import Added
    from medsam.store.project_records import Project

# options that are settings of the project, as they are called there; of a round, likewise
_SETTINGS = ("axis", "model", "stage", "order", "seed", "propose", "gold", "second", "slices", "differ")
_ROUND = ("config", "steps", "every", "prompt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam annotate init`."""
    parser.add_argument("project", type=Path, metavar="PROJECT", help="the folder to make")
    add_data_arguments(parser)
    parser.add_argument("--structures", required=True, metavar="NAME,...", help="what is to be drawn, in this order")
    parser.add_argument(
        "--database", metavar="URL", help="of PostgreSQL, for several sites (default: a file in PROJECT)"
    )
    parser.add_argument("--name", help="of the project (default: the data set's)")
    parser.add_argument(
        "--frozen", type=float, default=0.2, metavar="SHARE", help="of the patients, only measured on (default: 0.2)"
    )
    parser.add_argument(
        "--val", type=float, default=0.1, metavar="SHARE", help="of the patients, who stop training (default: 0.1)"
    )
    parser.add_argument("--model", default="litemedsam", help="to begin with: a known name or a checkpoint file")
    parser.add_argument(
        "--axis", choices=("i", "j", "k"), help="slice axis (default: the largest spacing of each scan)"
    )
    parser.add_argument(
        "--slices", type=int, metavar="N", help="so many of each scan, over its middle (default: wherever they are)"
    )
    parser.add_argument("--stage", type=int, default=1, choices=(1, 2, 3), help="how much the model does (default: 1)")
    parser.add_argument(
        "--order", default="unsure", choices=("unsure", "different", "rare", "random"), help="which scan comes first"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn at random (default: 0)")
    parser.add_argument(
        "--gold", type=float, default=0.05, metavar="SHARE", help="of tasks, on scans with a reference (default: 0.05)"
    )
    parser.add_argument(
        "--second", type=float, default=0.1, metavar="SHARE", help="of tasks, that two people do (default: 0.1)"
    )
    parser.add_argument(
        "--differ", type=float, default=0.8, metavar="DICE", help="of two people, below which a reviewer decides"
    )
    parser.add_argument(
        "--propose", type=float, default=0.85, metavar="DICE", help="expected, from which masks come filled in"
    )
    parser.add_argument("--config", help="of rounds: a file of configs/train (default: litemedsam_decoder.yaml)")
    parser.add_argument("--steps", type=int, metavar="N", help="of training in a round (default: 120)")
    parser.add_argument("--every", type=int, metavar="N", help="a round begins by itself after so many new masks")
    parser.add_argument("--prompt", help="of rounds: what both models are asked with (default: box)")
    parser.add_argument(
        "--measure", type=int, metavar="N", help="of rounds: on N slices of each structure alone (default: all of them)"
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of commands that bring scans into a project."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR|MANIFEST", help="a folder of scans, or a manifest"
    )
    parser.add_argument("--labels", metavar="A=1,B=2", help="of a folder: what the values of its label maps mean")


def run(arguments: argparse.Namespace) -> None:
    """Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.annotation.project import project_in
    from medsam.annotation.starting import checked_structures, read_data, start_project
    from medsam.cli.data import parse_labels
    from medsam.errors import InputError
    from medsam.models.build import load_model
    from medsam.models.weights_file import weights_digest

    if (arguments.project / "store").exists():
        raise InputError(f"{arguments.project} holds a project already: `medsam annotate add` brings further scans.")
    settings, asked = _settings(arguments), checked_structures(comma_names(arguments.structures))
    if arguments.database is not None and (there := project_in(arguments.database)) is not None:
        _join(arguments, there, asked)
        return
    labels = None if arguments.labels is None else parse_labels(arguments.labels)
    # before scans are read: a model that there is not is found at once
    weights = weights_digest(load_model(settings.model))
    with progress_bars("Reading headers and labels", "Counting slices") as (reading, counting):
        manifest, remarks = read_data(arguments.data, labels, reading)
        project, added = start_project(
            arguments.project,
            manifest,
            asked,
            settings,
            name=arguments.name,
            frozen=arguments.frozen,
            val=arguments.val,
            progress=counting,
            url=arguments.database,
            weights=weights,
        )
    with project:
        from medsam.annotation.queue import order_queue

        order_queue(project)
    for remark in (*remarks, *added.remarks):
        print(remark, file=sys.stderr)
    print_line(f"made {arguments.project}: {sentence(added)}")
    print_line(f"next: medsam serve --project {arguments.project}, and medsam annotate status {arguments.project}")


def _join(arguments: argparse.Namespace, there: Project, asked: tuple[str, ...]) -> None:
    """Another site of a project that there is. Raises InputError where it asks for other structures."""
    from medsam.annotation.project import AnnotationProject
    from medsam.errors import InputError, listed

    if there.structures != asked:
        raise InputError(
            f"The `database` holds the project {there.name!r} already, of {listed(there.structures)}: a site of it "
            "names the same `structures`, in that order; another project has a database of its own.",
            parameter="structures",
        )
    with AnnotationProject.open(arguments.project, arguments.database) as project:
        scans = counted(len(project.store.scans()), "scan")
    print_line(
        f"made {arguments.project}: a site of the project {there.name!r}, with its {scans}, settings and model; "
        f"medsam annotate add {arguments.project} brings further scans"
    )
    print_line(f"next: medsam serve --project {arguments.project}, and medsam annotate status {arguments.project}")


def sentence(added: Added) -> str:
    """What came into a project."""
    sides = {side: sum(scan.side == side for scan in added.scans) for side in ("train", "val", "test")}
    labelled = sum(scan.labelled for scan in added.scans)
    patients = len({scan.patient for scan in added.scans})
    return (
        f"{counted(len(added.scans), 'scan')} of {counted(patients, 'patient')} "
        f"({', '.join(f'{side} {count}' for side, count in sides.items())}), {labelled} with a reference, "
        f"{counted(len(added.tasks), 'task')}"
    )


def _settings(arguments: argparse.Namespace) -> Settings:
    from medsam.annotation.settings import RoundSettings, Settings

    told = {name: getattr(arguments, name) for name in _ROUND if getattr(arguments, name) is not None}
    told |= {} if arguments.measure is None else {"slices": arguments.measure}
    model = {"model": str(Path(arguments.model).resolve())} if Path(arguments.model).is_file() else {}
    return Settings(**{**{name: getattr(arguments, name) for name in _SETTINGS}, **model}, round=RoundSettings(**told))
