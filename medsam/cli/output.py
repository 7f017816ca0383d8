"""Options of commands that write labels: where to, and as what. Shared by `segment` and `convert`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.remote import check_send
from medsam.io.algorithm import DICOM_FORMATS, Algorithm, DicomFormat, DicomOptions

if TYPE_CHECKING:
    from medsam.volume import Volume


def add_output_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """--out, and what a .dcm is written as. default: what is written without --out, in words; None: it is required."""
    shown = "" if default is None else f" (default: {default})"
    parser.add_argument(
        "--out",
        type=Path,
        required=default is None,
        help=f"mask to write: .nii.gz, .nrrd, .mha, .dcm of a DICOM scan, or .png for one slice{shown}",
    )
    parser.add_argument(
        "--send", metavar="SERVER", help="also store the .dcm on this server of the settings file, beside the scan"
    )
    add_format_arguments(parser)


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """What a .dcm is written as."""
    parser.add_argument(
        "--format",
        choices=DICOM_FORMATS,
        help="of a .dcm: seg (DICOM SEG, default), seg-labelmap (smaller, read by fewer programs) or rtstruct",
    )
    parser.add_argument(
        "--keyhole", action="store_true", help="rtstruct: holes by channels, for programs that fill other ones"
    )
    parser.add_argument("--tps", action="store_true", help="rtstruct: names of at most 16 characters")


def dicom_options(arguments: argparse.Namespace, algorithm: Algorithm | None = None) -> DicomOptions:
    """What the options say of a .dcm. algorithm: who made the labels."""
    return DicomOptions(algorithm or Algorithm(), keyhole=arguments.keyhole, tps=arguments.tps)


def written_format(arguments: argparse.Namespace, out: Path) -> str:
    """As what `out` is written: the format of a .dcm, else the suffix."""
    from medsam.io.save import writable_suffix

    suffix = writable_suffix(out)
    return arguments.format or "seg" if suffix == ".dcm" else suffix[1:]


def check_output(
    arguments: argparse.Namespace, outs: Sequence[Path], scan: Volume, names: Iterable[str], inputs: Sequence[Path] = ()
) -> tuple[str, ...]:
    """What to know of labels of a scan before they are written to each of `outs`. names: of the structures.

    Raises InputError now for what writing would refuse later. inputs: files that must not be written over.
    """
    from medsam.errors import InputError
    from medsam.io.save import check_derivable, check_writable, writable_suffix

    check_send(arguments, outs[0])
    chosen: DicomFormat | None = arguments.format
    for out in outs:
        check_writable(out, scan.geometry.shape[0], inputs, format=chosen)
    if writable_suffix(outs[0]) == ".dcm":
        return check_derivable(scan, scan.geometry, names, format=chosen, options=dicom_options(arguments))
    for name in ("keyhole", "tps"):
        if getattr(arguments, name):
            raise InputError(f"`{name}` is of an RTSTRUCT, not of {outs[0].name}.", parameter=name)
    return ()
