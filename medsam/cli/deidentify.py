"""`medsam data deidentify IN OUT`: DICOM that may leave the house."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.table import print_line, print_table
from medsam.errors import InputError, counted
from medsam.io.dicom.deidentify.options import KEEP, Options
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.io.dicom.deidentify.report import Report

# numbers of files that a line shows
_MOST = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="a folder of DICOM files, or one file; not changed")
    parser.add_argument("target", type=Path, metavar="OUT", help="a new folder, or one that the same command began")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key", type=Path, metavar="FILE", help="the same key gives the same pseudonyms and UIDs again")
    keys.add_argument(
        "--new-key", type=Path, metavar="FILE", help="make one and keep it there (neither: a key that is forgotten)"
    )
    parser.add_argument(
        "--keep", metavar="A,B", default="", help=f"what the profile would take away: {', '.join(KEEP)}"
    )
    parser.add_argument(
        "--shift-dates", action="store_true", help="move dates by days of each patient's own instead of removing them"
    )
    parser.add_argument(
        "--masks", type=Path, metavar="FILE", help="rules for pictures with text: which parts are blackened (JSON)"
    )
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="write which file became which; stays in the house, like the key"
    )
    parser.add_argument("--json", action="store_true", help="the report as one JSON document on stdout")


def run(arguments: argparse.Namespace) -> None:
    from medsam.io.dicom.deidentify.folder import (
        REPORT,
        check_folders,
        check_key_file,
        check_list_file,
        deidentify_folder,
    )
    from medsam.io.dicom.deidentify.keys import others_may_read, read_key, write_new_key
    from medsam.io.dicom.deidentify.pixels import read_rules

    keep = frozenset(part.strip() for part in arguments.keep.split(",") if part.strip())
    options = Options(keep, arguments.shift_dates, arguments.masks)
    for path in (arguments.key, arguments.new_key, arguments.names):
        if path is not None:
            check_key_file(path, arguments.source, arguments.target)
    check_list_file(arguments.names, arguments.key, arguments.new_key, options.masks)
    # all that may be wrong is found before a key is made
    check_folders(arguments.source, arguments.target)
    if options.masks is not None:
        read_rules(options.masks)
    if arguments.new_key is not None:
        key = write_new_key(arguments.new_key)
    elif arguments.key is not None:
        key = read_key(arguments.key)
        if others_may_read(arguments.key):
            print(f"{arguments.key} can be read by others: chmod 600 keeps it to yourself.", file=sys.stderr)
    else:
        key = secrets.token_bytes(32)
    with progress_bars("De-identifying") as (progress,):
        report = deidentify_folder(
            arguments.source,
            arguments.target,
            key,
            options,
            key_is_kept=arguments.key is not None or arguments.new_key is not None,
            names=arguments.names,
            progress=progress,
        )
    if arguments.json:
        print((arguments.target / REPORT).read_text(encoding="utf-8"), end="")
    else:
        _print(report, arguments)
    if report.left_out:
        raise InputError(
            f"{counted(report.left_out, 'DICOM file')} of {sum(report.files.values())} not copied, "
            f"see {arguments.target / REPORT}."
        )
    if not report.series:
        raise InputError(f"{arguments.source} holds no DICOM file.")


def _print(report: Report, arguments: argparse.Namespace) -> None:
    print_table(("files", "number"), [(state, str(number)) for state, number in sorted(report.files.items())])
    if report.actions:
        print_line("")
        print_table(("elements", "number"), [(what, str(number)) for what, number in sorted(report.actions.items())])
    if report.reasons:
        print_line("")
        rows = [(why, str(len(files)), _some(files)) for why, files in sorted(report.reasons.items())]
        print_table(("not copied, because", "files", "which, in the order of their paths"), rows)
    for what, series in report.remarks().items():
        print_line("")
        print_line(f"{counted(len(series), 'series', 'series')}: {what}.")
    print_line("")
    patients = len({one.patient for one in report.series.values()})
    done = f"{counted(len(report.series), 'series', 'series')} of {counted(patients, 'patient')}"
    print_line(
        f"wrote {arguments.target}: {done}. No program finds everything: look through it before you give it away."
    )


def _some(numbers: list[int]) -> str:
    more = f" and {len(numbers) - _MOST} more" if len(numbers) > _MOST else ""
    return ", ".join(map(str, numbers[:_MOST])) + more
