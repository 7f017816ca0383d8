"""Options of `medsam segment` for boxes that nobody drew: --auto, and --boxes-from."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.errors import PromptError

if TYPE_CHECKING:
    from medsam.geometry import Axis
    from medsam.prompts.prompt import Prompt
    from medsam.volume import Volume


def add_auto_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--auto",
        nargs="?",
        const="",
        metavar="NAME,...",
        help="find structures without a prompt: these, or all that the head knows; see docs/automatic.md",
    )
    parser.add_argument(
        "--boxes-from",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="boxes of another program: a label map (TotalSegmentator, nnU-Net, SEG, RTSTRUCT), JSON of MONAI, "
        "nnDetection or COCO, DICOM SR; see docs/automatic.md; repeat for more",
    )
    parser.add_argument(
        "--map",
        dest="map_names",
        action=_Mapped,
        default={},
        metavar="THEIRS=OURS,...",
        help="with --boxes-from: only these, by the names or numbers of the file, and what they are called here",
    )
    parser.add_argument(
        "--min-score",
        type=float,
        metavar="S",
        help="with --boxes-from: leave boxes of a lower score out, where the file gives scores (default: 0.5)",
    )
    parser.add_argument(
        "--loosen",
        metavar="MM|Npx",
        help="with --boxes-from: move each edge outwards by so many millimetres, or pixels (2px)",
    )


class _Mapped(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        found = dict(getattr(namespace, self.dest))
        for pair in values.split(","):
            theirs, _, ours = (part.strip() for part in pair.partition("="))
            if not theirs:
                parser.error(f"--map takes THEIRS=OURS, not {pair!r}")
            found[theirs] = ours or theirs
        setattr(namespace, self.dest, found)


def loosened(arguments: argparse.Namespace) -> tuple[float, bool]:
    """How far --loosen moves an edge, and whether in millimetres. Raises PromptError for what is no length."""
    text = arguments.loosen
    if text is None:
        return 0.0, False
    if not arguments.boxes_from:
        raise PromptError("--loosen is for the boxes of --boxes-from, and there is none.")
    pixels = text.endswith("px")
    try:
        length = float(text.removesuffix("px"))
    except ValueError:
        length = math.nan
    if not 0 <= length < math.inf:
        raise PromptError(f"--loosen takes millimetres, or pixels as 2px, from 0, not {text!r}.")
    return length, not pixels


def add_boxes(
    arguments: argparse.Namespace,
    scan: Volume,
    axis: Axis | None,
    prompts: list[Prompt],
    read: list[Path],
    notes: list[str],
) -> Axis | None:
    """Add the boxes of --boxes-from, and what to know of them, to the lists. Returns the axis they lie across."""
    from medsam.prompts.boxes_from import read_boxes

    length, in_mm = loosened(arguments)
    if (arguments.map_names or arguments.min_score is not None) and not arguments.boxes_from:
        raise PromptError("--map and --min-score are for the boxes of --boxes-from, and there is none.")
    least = 0.5 if arguments.min_score is None else arguments.min_score
    for path in arguments.boxes_from:
        found = read_boxes(path, scan, axis, mapping=arguments.map_names, loosen=length, in_mm=in_mm, least_score=least)
        prompts += found.prompts
        read += found.read
        notes += found.notes
        axis = axis or found.axis
    return axis


def check_alone(arguments: argparse.Namespace) -> None:
    """Raise PromptError for what does nothing beside --auto."""
    beside = {
        "prompts of your own": getattr(arguments, "typed", ()) or arguments.prompts or arguments.boxes_from,
        "--propagate": arguments.propagate,
        "--all-masks": arguments.all_masks,
    }
    given = [name for name, there in beside.items() if there]
    if given:
        raise PromptError(f"--auto finds its own boxes, on every slice: leave {' and '.join(given)} out.")


def files_of_heads(arguments: argparse.Namespace) -> list[Path]:
    """Heads that are files: inputs that no output may hit."""
    return [Path(head) for head in arguments.head if Path(head).is_file()]
