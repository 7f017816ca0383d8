"""`medsam organs SCAN --out PATH`: every structure that a head was measured on, without a prompt."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from medsam.cli.output import add_output_arguments
from medsam.cli.remote import send
from medsam.cli.scan_options import (
    add_clip_argument,
    add_embeddings_argument,
    add_scan_arguments,
    add_trust_argument,
    checkpoint_file,
)
from medsam.cli.segment import add_prompt_arguments, check_outputs, finish, predictor_of, print_notes
from medsam.cli.segment_auto import files_of_heads
from medsam.cli.segment_report import print_report
from medsam.errors import InputError
from medsam.files import write_text
from medsam.progress import progress_bars


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam organs`: those of `medsam segment` that are no prompt."""
    add_scan_arguments(parser)
    add_trust_argument(parser)
    add_output_arguments(parser, "NAME.mask.nii.gz here; with --format NAME.mask.dcm")
    add_embeddings_argument(parser)
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a further head, of either kind; repeat for more",
    )
    add_clip_argument(parser)
    parser.add_argument(
        "--untested", action="store_true", help="also what was not measured on unseen patients; every output says so"
    )
    parser.add_argument("--statistics", type=Path, metavar="CSV", help="volume of each structure, and who said so")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Guess, say, segment, write. Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.inference.organs import body_part, guessed_modality, label_of, statistics_csv
    from medsam.io.load import load_volume
    from medsam.labels import english

    _check_statistics(arguments.statistics)
    started = time.perf_counter()
    scan = load_volume(arguments.scan, series=arguments.series, frame=arguments.frame)
    loaded = time.perf_counter() - started
    guessed = guessed_modality(scan, arguments.modality)
    asked = _as_segment(arguments)
    predictor = predictor_of(asked, without_prompt=True)
    known = predictor.organ_reader.asked(guessed.name, untested=arguments.untested)
    inputs = [arguments.scan, *checkpoint_file(arguments.model), *files_of_heads(arguments)]
    # before minutes go into looking
    outs, remarks = check_outputs(asked, scan, [label_of(one) for one in known], inputs)
    looked_for = ", ".join(english(one.name) for one in known)
    print(f"Modality: {guessed.name or 'unknown'} ({guessed.how}). Looking for: {looked_for}.", file=sys.stderr)
    with progress_bars("Slices") as (progress,):
        found = predictor.organs(
            scan,
            untested=arguments.untested,
            axis=arguments.axis,
            window=arguments.window,
            modality=arguments.modality,
            progress=progress,
        )
    report, segmentation = finish(asked, scan, found.segmentation, outs, remarks, loaded)
    rows = found.structures
    if arguments.statistics is not None:
        write_text(arguments.statistics, statistics_csv(rows))
    print_notes([*segmentation.notes, body_part(rows)], arguments)
    send(asked, Path(report["out"]))
    if arguments.json:
        told = {"modality": guessed.name, "modality_by": guessed.how, "structures": rows}
        print(json.dumps({**report, "organs": told}, indent=2, allow_nan=False))
    else:
        print_report(report, segmentation)


def _as_segment(arguments: argparse.Namespace) -> argparse.Namespace:
    """The options of `medsam segment`, of which those of a prompt say nothing."""
    parser = argparse.ArgumentParser()
    add_prompt_arguments(parser)
    asked = parser.parse_args([])
    for option, value in vars(arguments).items():
        setattr(asked, option, value)
    return asked


def _check_statistics(path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"--statistics: there is no folder {path.absolute().parent}.")
    if path is not None and path.suffix.lower() != ".csv":
        raise InputError("--statistics is a table: name a file that ends in .csv.")
