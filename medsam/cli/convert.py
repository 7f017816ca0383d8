"""`medsam convert LABELS --source SCAN --out PATH`: labels of any format to any other, on the grid of their scan."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medsam.cli.data import parse_labels
from medsam.cli.output import add_output_arguments, check_output, dicom_options, written_format
from medsam.cli.remote import send
from medsam.cli.segment import print_notes
from medsam.cli.table import print_line, print_table
from medsam.errors import InputError, printable

if TYPE_CHECKING:
    from medsam.geometry import VolumeGeometry
    from medsam.masks import PackedMasks
    from medsam.volume import LabelVolume, Volume

_MADE = ("semiautomatic", "automatic", "manual")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam convert`."""
    parser.add_argument(
        "label",
        type=Path,
        nargs="+",
        metavar="LABELS",
        help="NIfTI, NRRD, .seg.nrrd, MHA, .npz, picture, DICOM SEG or RTSTRUCT; several of one scan are united",
    )
    parser.add_argument(
        "--source",
        type=Path,
        metavar="SCAN",
        help="the scan they were drawn on, also dicomweb:NAME/STUDY/SERIES; needed from and to DICOM, gives the grid",
    )
    parser.add_argument("--series", metavar="UID", help="which DICOM series, when the scan's folder holds several")
    add_output_arguments(parser)
    parser.add_argument(
        "--labels", metavar="A=1,B=2", help="what the values of a label map mean (default: the names beside it)"
    )
    parser.add_argument("--structures", nargs="+", metavar="NAME", help="convert these alone (default: all)")
    parser.add_argument(
        "--overlap",
        default="error",
        choices=("error", "first", "last"),
        help="which structure keeps a voxel of several in a label map, which holds one (default: error)",
    )
    parser.add_argument("--frame", type=int, metavar="N", help="which volume of a 4D label map, 0-based")
    parser.add_argument(
        "--made", default=_MADE[0], choices=_MADE, help="a .dcm says how labels were made (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Read, unite, write, report. Raises InputError for everything a user can fix."""
    from medsam.io.algorithm import UNKNOWN, Algorithm
    from medsam.io.label_sets import as_label_map, united
    from medsam.io.labels import label_kind
    from medsam.io.save import save_labels

    names = None if arguments.labels is None else parse_labels(arguments.labels)
    if names is not None and all(label_kind(path) != "map" for path in arguments.label):
        raise InputError(
            "`labels` says what the values of a label map mean, and there is none: the files bring names of their own.",
            parameter="labels",
        )
    scan = _grid(arguments)
    labels = united(arguments.label, scan, names, arguments.structures, frame=arguments.frame)
    inputs = [*arguments.label, *([arguments.source] if arguments.source else [])]
    notes = [*labels.notes, *check_output(arguments, [arguments.out], scan, labels.masks, inputs)]
    written: LabelVolume | PackedMasks = labels.masks
    if written_format(arguments, arguments.out) not in ("seg", "rtstruct"):
        written, more = as_label_map(labels, scan.geometry, arguments.overlap)
        notes += more
    # who made the labels is not known here, and no model of ours is claimed to have
    options = dicom_options(arguments, Algorithm(UNKNOWN, UNKNOWN, kind=arguments.made.upper()))
    save_labels(written, arguments.out, scan, geometry=scan.geometry, format=arguments.format, options=options)
    print_notes(notes, arguments, ("overlap", "labels"))
    send(arguments, arguments.out)
    _report(arguments, scan.geometry, written, notes)


def _grid(arguments: argparse.Namespace) -> Volume:
    """The scan; without one, the first label map, which has a grid of its own. Raises InputError where it has none."""
    import numpy as np

    from medsam.io.label_sets import own_grid
    from medsam.io.labels import label_kind
    from medsam.io.load import load_volume
    from medsam.volume import Volume

    if arguments.source is not None:
        return load_volume(arguments.source, series=arguments.series)
    if arguments.series is not None:
        raise InputError("`series` is one of the `source`, and there is none.", parameter=("series", "source"))
    if arguments.out.name.lower().endswith(".dcm"):
        raise InputError(
            "A .dcm refers to the images that the labels were drawn on: name the DICOM scan with `source`.",
            parameter="source",
        )
    first = arguments.label[0]
    grids = [own_grid(path, arguments.frame) for path in arguments.label]
    # its header is copied where the format is the same, unless it is one of layers; no voxel of it is looked at
    source = first if label_kind(first) == "map" else None
    return Volume(np.broadcast_to(np.uint8(0), grids[0].shape), grids[0], source=source)


def _report(
    arguments: argparse.Namespace,
    geometry: VolumeGeometry,
    written: LabelVolume | PackedMasks,
    notes: Sequence[str],
) -> None:
    """What was written, as it can be read back."""
    from medsam.io.label_map import value_counts
    from medsam.volume import LabelVolume

    if isinstance(written, LabelVolume):
        counts = value_counts(written.array)
        found = [(number, name, counts.get(number, 0)) for number, name in written.names.items()]
    else:
        found = [(number, name, written.voxels[name]) for number, name in enumerate(written, start=1)]
    ml = [voxels * geometry.voxel_ml if geometry.calibrated else None for _, _, voxels in found]
    if arguments.json:
        rows = [
            {"id": number, "name": name, "voxels": voxels, "ml": volume}
            for (number, name, voxels), volume in zip(found, ml, strict=True)
        ]
        how = written_format(arguments, arguments.out)
        document = {"out": str(arguments.out), "format": how, "sent": arguments.send, "labels": rows, "notes": [*notes]}
        print(json.dumps(document, indent=2, allow_nan=False))
        return
    print_table(
        ("label", "id", "voxels", *(["ml"] if geometry.calibrated else [])),
        [
            (name, str(number), str(voxels), *([] if volume is None else [f"{volume:.2f}"]))
            for (number, name, voxels), volume in zip(found, ml, strict=True)
        ],
    )
    print_line(f"wrote {printable(str(arguments.out))}")
    if arguments.send:
        print_line(f"sent to {arguments.send}")
