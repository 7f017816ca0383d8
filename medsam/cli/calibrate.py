"""`medsam calibrate --manifest M.json --out FILE`: the expected Dice for scans of one's own, from their references."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.scan_options import add_network_arguments
from medsam.cli.table import print_line
from medsam.errors import InputError, PromptError
from medsam.progress import ProgressCallback, progress_bars

if TYPE_CHECKING:
    from medsam.data.manifest import Case
    from medsam.evaluation.own_scans import OwnAnswers, Told
    from medsam.inference.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam calibrate`."""
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="lists of cases; see docs/manifests.md")
    parser.add_argument("--model", default="litemedsam", help="a known name (medsam models list) or a checkpoint file")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N cases of each manifest")
    parser.add_argument(
        "--slices", type=int, default=5, metavar="N", help="of each structure of a case, at most (default: 5)"
    )
    parser.add_argument("--window", default="auto", metavar="PRESET|L,W|auto", help="intensity window (default: auto)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .json that --trust takes")
    parser.add_argument("--force", action="store_true", help="replace FILE")
    add_network_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a line")


def run(arguments: argparse.Namespace) -> None:
    """Ask with boxes, learn, write. Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.cli.evaluate import named_cases
    from medsam.data.manifest import check_files
    from medsam.data.manifest_json import read_manifest
    from medsam.files import write_text
    from medsam.io.save import check_target
    from medsam.transforms.intensity import fixed_window

    fixed_window(arguments.window)
    for option in ("slices", "limit"):
        given = getattr(arguments, option)
        if given is not None and given < 1:
            raise PromptError(f"--{option} takes a whole number from 1, not {given}.")
    check_target(arguments.out, arguments.manifest)
    if arguments.out.exists() and not arguments.force:
        raise InputError(f"{arguments.out} is there already; --force replaces it.")
    named = named_cases([read_manifest(path) for path in arguments.manifest], None, arguments.limit)
    check_files((name, path) for name, case in named for path in case.files)
    names, cases = [name for name, _ in named], [case for _, case in named]

    from medsam.evaluation.own_scans import own_model
    from medsam.inference.jobs import run_cases
    from medsam.inference.predictor import Predictor
    from medsam.inference.trust import shipped

    predictor = Predictor(arguments.model, arguments.device, precision=arguments.precision, engine=arguments.engine)
    with progress_bars("Cases", "Slices") as (progress, case_progress):
        work = _Answers(predictor, arguments.window, arguments.slices)
        done = run_cases(cases, work, progress=progress, case_progress=case_progress)
    done.raise_failures(names, "be read", "Nothing was written.")
    there = [(case, one) for case, one in zip(cases, done.results, strict=True) if one is not None]
    weights = predictor.images.weights
    found, patients = [one for _, one in there], [case.patient for case, _ in there]
    model, told = own_model(found, patients, weights, shipped().get(weights))
    write_text(arguments.out, json.dumps(model.to_dict()) + "\n")
    if arguments.json:
        report = {"out": str(arguments.out), "patients": len(set(patients)), **asdict(told)}
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_line(_sentence(told, len(set(patients))))
        print_line(f"wrote {arguments.out}; use it with: medsam segment ... --trust {arguments.out}")


@dataclass(frozen=True)
class _Answers:
    predictor: Predictor
    window: str
    slices: int

    def __call__(self, case: Case, progress: ProgressCallback) -> OwnAnswers | None:
        from medsam.evaluation.own_scans import answers_of

        scan = case.load_image()
        encoder = self.predictor.encoder_for(scan, window=case.window or self.window)
        return answers_of(case.id, encoder, case.load_references(scan), self.slices, progress)


def _sentence(told: Told, patients: int) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    return (
        f"{told.answers} answers of {patients} patients, {told.failed} with a Dice below 0.7. Each patient told by the "
        f"others: AUROC for these {shown(told.auroc)} (before {shown(told.auroc_before)}), calibration error "
        f"{shown(told.error)} (before {shown(told.error_before)})."
    )
