"""`medsam segment-many SCANS... --out DIR`: what `medsam segment` does, for many scans, by many workers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.many import add_many_arguments, run_many
from medsam.cli.output import add_format_arguments
from medsam.cli.scan_options import add_trust_argument, default_out
from medsam.cli.segment import add_prompt_arguments, predictor_of, segment_scan
from medsam.progress import ProgressCallback

if TYPE_CHECKING:
    from medsam.data.manifest import Case
    from medsam.inference.predictor import Predictor
    from medsam.volume import Volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam segment-many`."""
    add_prompt_arguments(parser)
    add_trust_argument(parser)
    add_format_arguments(parser)
    add_many_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Segment what is not there yet. Raises MedSAMError subclasses for everything a user can fix."""
    run_many(arguments, predictor_of, _segmented, "segmented")


def _segmented(
    arguments: argparse.Namespace, predictor: Predictor, case: Case, folder: Path, progress: ProgressCallback
) -> dict[str, Any]:
    def load() -> Volume:
        scan = case.load_image()
        ending = default_out(scan, case.image, dicom=arguments.format is not None).name.rpartition(".mask")[2]
        arguments.out = folder / "masks" / f"{arguments.name}{ending}"
        return scan

    report, _ = segment_scan(arguments, lambda _: predictor, progress, load)
    for key in ("out", "preview"):
        report[key] = report[key] and Path(report[key]).relative_to(folder).as_posix()
    if "alternatives" in report:
        report["alternatives"] = [Path(one).relative_to(folder).as_posix() for one in report["alternatives"]]
    # how long it took, and what was at hand, is not of the result
    return {key: value for key, value in report.items() if key not in ("seconds", "encoder_calls", "sent")}
