"""`medsam organs SCAN --out PATH`: every structure that a head was measured on, without a prompt."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.output import add_output_arguments
from medsam.cli.remote import send
from medsam.cli.scan_options import add_clip_argument, add_embeddings_argument, add_scan_arguments, add_trust_argument
from medsam.cli.segment import add_prompt_arguments, predictor_of, print_notes, segment_scan
from medsam.cli.segment_report import print_report
from medsam.errors import InputError, PromptError
from medsam.files import write_text
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.inference.by_name import KnownName
    from medsam.volume import Volume

_COLUMNS = (
    *("structure", "label", "voxels", "ml", "found", "head"),
    *("tested_on_patients", "tested_dice", "tested_scans_without"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam organs`: those of `medsam segment` that are no prompt."""
    add_scan_arguments(parser)
    add_trust_argument(parser)
    add_output_arguments(parser, "NAME.mask.nii.gz here; with --format NAME.mask.dcm")
    add_embeddings_argument(parser)
    parser.add_argument("--head", action="append", default=[], metavar="FILE", help="a further head; repeat for more")
    add_clip_argument(parser)
    parser.add_argument(
        "--untested", action="store_true", help="also what was not measured on unseen patients; every output says so"
    )
    parser.add_argument("--statistics", type=Path, metavar="CSV", help="volume of each structure, and who said so")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Guess, say, segment, write. Raises MedSAMError subclasses for everything a user can fix."""
    from medsam.io.load import load_volume
    from medsam.labels import english

    _check_statistics(arguments.statistics)
    scan = load_volume(arguments.scan, series=arguments.series, frame=arguments.frame)
    modality, how = guessed_modality(scan, arguments.modality)
    predictor = predictor_of(_as_segment(arguments, []))
    known = fitting(predictor.names.known, modality, untested=arguments.untested)
    if not known:
        raise PromptError(_nobody(predictor.names.known, modality, arguments.untested), parameter="untested")
    print(f"Modality: {modality or 'unknown'} ({how}). Looking for: {', '.join(map(english, known))}.", file=sys.stderr)
    with progress_bars("Slices") as (progress,):
        asked = _as_segment(arguments, [english(name) for name in known])
        report, found = segment_scan(asked, lambda _: predictor, progress, lambda: scan)
    rows = statistics(report, known)
    said = _body_part(rows)
    if arguments.statistics is not None:
        write_text(arguments.statistics, _csv(rows))
    print_notes([*found.notes, said], arguments)
    send(asked, Path(report["out"]))
    if arguments.json:
        guessed = {"modality": modality, "modality_by": how, "structures": rows}
        print(json.dumps({**report, "organs": guessed}, indent=2, allow_nan=False))
    else:
        print_report(report, found)


def guessed_modality(scan: Volume, stated: str | None = None) -> tuple[str | None, str]:
    """DICOM's word for the scanner, and how it is known: what is stated, else what the values look like."""
    from medsam.transforms.intensity import is_hounsfield

    if stated or scan.modality:
        return stated or scan.modality, "as stated" if stated else "as the file says"
    if is_hounsfield(scan):
        return "CT", "guessed: the values are Hounsfield units"
    low, high = float(scan.array.min()), float(scan.array.max())
    if low <= -900 and high >= 200:
        return "CT", "guessed: values reach from air to bone in Hounsfield units"
    if scan.array.ndim == 3 and scan.geometry.shape[0] > 1 and low >= 0:
        return "MR", "guessed: a volume whose values do not go below 0"
    return None, "nothing says it"


def fitting(known: Mapping[str, KnownName], modality: str | None, *, untested: bool = False) -> dict[str, KnownName]:
    """Those that were measured (or `untested`), of heads that learnt from such scans, where both are known."""
    return {
        name: one
        for name, one in known.items()
        if (untested or not one.untested)
        and (modality is None or not one.head.card.modalities or modality in one.head.card.modalities)
    }


def statistics(report: Mapping[str, Any], known: Mapping[str, KnownName]) -> list[dict[str, Any]]:
    """A row a structure: its volume, and the head that answered with what was measured of it."""
    from medsam.labels import english

    rows = []
    for label, (name, one) in zip(report["labels"], known.items(), strict=True):
        measured = one.measured or {}
        values = (
            english(name), label["name"], label["voxels"], label["ml"], label["voxels"] > 0, one.head.card.name,
            measured.get("patients"), measured.get("dice"), measured.get("scans_without", 0),
        )  # fmt: skip
        rows.append(dict(zip(_COLUMNS, values, strict=True)))
    return rows


def _body_part(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the structures that were found say of it: those alone that heads were seen to miss where they are not."""
    there = [row for row in rows if row["found"]]
    told = [row["structure"] for row in there if row["tested_scans_without"]]
    if there and not told:
        return "Body part: not guessed. The heads here were never measured on scans without what they look for."
    return f"Body part, by what was found: {', '.join(told) if told else 'none of these structures is in the scan'}."


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def _as_segment(arguments: argparse.Namespace, names: Sequence[str]) -> argparse.Namespace:
    """The options of `medsam segment` with these names as prompts."""
    parser = argparse.ArgumentParser()
    add_prompt_arguments(parser)
    asked = parser.parse_args([word for name in names for word in ("--text", name)])
    for option, value in vars(arguments).items():
        setattr(asked, option, value)
    return asked


def _check_statistics(path: Path | None) -> None:
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"--statistics: there is no folder {path.absolute().parent}.")
    if path is not None and path.suffix.lower() != ".csv":
        raise InputError("--statistics is a table: name a file that ends in .csv.")


def _nobody(known: Mapping[str, KnownName], modality: str | None, untested: bool) -> str:
    kinds = sorted({kind for one in known.values() for kind in one.head.card.modalities})
    if not known:
        return "No head here answers any name: train one (configs/train/names.yaml) and give it as --head FILE."
    hidden = sum(1 for one in known.values() if one.untested)
    if hidden == len(known) and not untested:
        return f"None of the {len(known)} structures here was measured on unseen patients. Say `untested` to have them."
    return f"The heads here learnt from {', '.join(kinds)}, and this scan is {modality or 'of unknown modality'}."
