"""`medsam segment SCAN --box 41:120,88,212,176=spleen`: prompts in, a label map on the scan's own grid out."""

from __future__ import annotations

import argparse
import functools
import json
import math
import operator
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.flags import comma_names, with_flags
from medsam.cli.output import add_output_arguments, check_output, dicom_options, written_format
from medsam.cli.remote import send
from medsam.cli.scan_options import (
    add_clip_argument,
    add_embeddings_argument,
    add_scan_arguments,
    add_trust_argument,
    checkpoint_file,
    default_out,
)
from medsam.cli.segment_auto import add_auto_arguments, add_boxes
from medsam.cli.segment_report import print_report
from medsam.errors import InputError, PromptError, printable
from medsam.progress import ProgressCallback, progress_bars

if TYPE_CHECKING:
    import numpy as np

    from medsam.geometry import Axis
    from medsam.inference.predictor import Predictor
    from medsam.inference.segmentation import Segmentation
    from medsam.prompts.limits import Limits
    from medsam.prompts.prompt import Prompt
    from medsam.prompts.standing import Standing
    from medsam.volume import Volume

# option, how it is typed, and what it is
_PROMPTS = (
    ("box", "[S:]X0,Y0,X1,Y1[=LABEL]", "box on a slice: half-open columns and rows as the file stores them, 0-based"),
    (
        "point",
        "[S:]X,Y[+|-][=LABEL]",
        "click on a slice, + inside (the default) or - outside; clicks and a box of one label are one object",
    ),
    (
        "scribble",
        "[S:]X,Y;X,Y;...[+|-][@MM|@Npx][=LABEL]",
        "stroke of a pen on a slice, + inside (the default) or - outside; @2 is a pen 2 mm wide, @3px one of 3 pixels; "
        "in quotes, for the shell takes ; for its own",
    ),
    (
        "lasso",
        "[S:]X,Y;X,Y;...[=LABEL]",
        "loop drawn round the object: nothing beyond it is segmented; in quotes",
    ),
    (
        "line",
        "[S:]X0,Y0,X1,Y1[=LABEL]",
        "longest diameter (RECIST), from edge to edge; a second one of the same label across it is the short axis",
    ),
    ("ellipse", "[S:]X0,Y0,X1,Y1[=LABEL]", "ellipse round the object, by the box that it is inscribed in"),
    ("text", "NAME", "name of a structure in English, Latin, German or Korean, looked for on every slice"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam segment`."""
    add_prompt_arguments(parser)
    add_scan_arguments(parser)
    add_trust_argument(parser)
    add_output_arguments(parser, "NAME.mask.nii.gz here; with --format NAME.mask.dcm")
    add_embeddings_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a table")


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked of a scan and what may become of it: of `medsam segment` and of `medsam segment-many`."""
    for name, metavar, what in _PROMPTS:
        help_text = f"{what}; repeat for more"
        parser.add_argument(f"--{name}", action=_Typed, default=[], metavar=metavar, help=help_text)
    parser.add_argument(
        "--prompts",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="prompts in a file: JSON; measurements (DICOM GSPS, SR); masks (SEG, RTSTRUCT, NIfTI, ...); see "
        "docs/prompts.md; repeat for more",
    )
    parser.add_argument("--propagate", action="store_true", help="follow every label through the volume, both ways")
    parser.add_argument(
        "--zoom",
        default="auto",
        choices=("auto", "on", "off"),
        help="auto: the whole slice, and small boxes closer (default); off: whole slice, fastest; on: closer alone",
    )
    parser.add_argument(
        "--max-mm", type=float, metavar="MM", help="with --propagate: at most this far from a prompted slice"
    )
    parser.add_argument("--keep-islands", action="store_true", help="leave small islands and holes as they are")
    parser.add_argument("--one-piece", action="store_true", help="keep only the piece that the prompt points at")
    parser.add_argument("--smooth-mm", type=float, default=0.0, metavar="MM", help="round outlines (default: 0, off)")
    parser.add_argument(
        "--all-masks", action="store_true", help="also write the three masks of each prompt, best first: NAME.1, .2, .3"
    )
    parser.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="a head that answers --text, or finds for --auto",
    )
    add_clip_argument(parser)
    parser.add_argument(
        "--untested",
        action="store_true",
        help="also structures that were not measured on patients the head never saw; every output says so",
    )
    _add_limits(parser)
    add_auto_arguments(parser)


class _Typed(argparse.Action):
    """Texts of one option as "append" does, and of all such options together, (option, text), as `typed`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), values])
        namespace.typed = [*getattr(namespace, "typed", ()), (self.dest, values)]


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep-range",
        metavar="LOW,HIGH",
        help="only pixels of these values, as the scan stores them (HU on CT), both ends in; either may be left out",
    )
    parser.add_argument(
        "--editable",
        type=Path,
        metavar="MASK",
        help="nothing changes outside of this mask (a file on the scan's grid, all its structures together)",
    )
    parser.add_argument(
        "--lock",
        action="append",
        default=[],
        metavar="NAME,...|FILE",
        help="no pixel of these labels, or of the structures in a label file, is taken by another; repeat for more",
    )


def run(arguments: argparse.Namespace) -> None:
    """Segment, write, report. Raises MedSAMError subclasses for everything a user can fix."""
    with progress_bars("Slices") as (progress,):
        report, found = segment_scan(arguments, predictor_of, progress)
    print_notes(found.notes, arguments)
    send(arguments, Path(report["out"]))
    if arguments.json:
        print(json.dumps(report, indent=2, allow_nan=False))
    else:
        print_report(report, found)


def predictor_of(arguments: argparse.Namespace, *, without_prompt: bool = False) -> Predictor:
    """The model that the options name. Raises CheckpointError, AssetError and InputError.

    without_prompt: whether structures are looked for, as with --auto.
    """
    from medsam.inference.embeddings import EmbeddingCache
    from medsam.inference.predictor import Predictor
    from medsam.inference.trust import read_trust

    # without a prompt every slice is encoded, and answered when all were looked at
    memory = {"memory_bytes": 2**30} if without_prompt or arguments.auto is not None else {}
    cache = EmbeddingCache(folder=arguments.embeddings, **memory)
    options = {"precision": arguments.precision, "engine": arguments.engine, "heads": arguments.head}
    predictor = Predictor(arguments.model, arguments.device, cache, clip=arguments.clip, **options)
    if arguments.trust is not None:
        predictor.images.trust = read_trust(arguments.trust, predictor.images.weights)
    return predictor


def segment_scan(
    arguments: argparse.Namespace,
    predictor_for: Callable[[argparse.Namespace], Predictor],
    progress: ProgressCallback | None = None,
    load: Callable[[], Volume] | None = None,
) -> tuple[dict[str, Any], Segmentation]:
    """Segment one scan as the options say and write the result. Gives what `--json` tells, and the result.

    predictor_for: asked for the model once all input is known to be good. load: reads the scan, where `arguments.scan`
    alone does not say how. Raises MedSAMError subclasses for everything a user can fix.
    """
    from medsam.io.load import load_volume
    from medsam.prompts.masks import standing_of

    prompts = [] if arguments.auto is not None else _typed_prompts(arguments)
    started = time.perf_counter()
    scan = load() if load else load_volume(arguments.scan, series=arguments.series, frame=arguments.frame)
    loaded = time.perf_counter() - started
    if arguments.auto is not None:
        from medsam.cli.segment_found import segment_without_prompt

        return segment_without_prompt(arguments, scan, predictor_for, loaded, progress)
    given = _read_files(arguments, scan, prompts)
    limits = read_limits(arguments, scan, given)
    inputs = [arguments.scan, *checkpoint_file(arguments.model), *given.read]
    # a wrong box or option is reported before seconds go into loading a model
    check_options(arguments, scan.geometry.calibrated, correcting=given.start is not None)
    standing = None if given.start is None else standing_of(given.start, scan, given.axis)
    names = _labels(given, scan, standing)
    limits.check(scan, names)
    outs, remarks = check_outputs(arguments, scan, names, inputs)

    # torch comes with it, so it waits until the input is known to be good
    predictor = predictor_for(arguments)
    found = _segment(predictor, scan, given, limits, arguments, progress)
    found = replace(found, notes=(*given.notes, *found.notes))
    return finish(arguments, scan, found, outs, remarks, loaded)


def finish(
    arguments: argparse.Namespace,
    scan: Volume,
    found: Segmentation,
    outs: list[Path],
    remarks: tuple[str, ...],
    loaded: float,
) -> tuple[dict[str, Any], Segmentation]:
    """Write a result. remarks: notes on the file. loaded: seconds that reading took. Returns as `segment_scan` does."""
    whole = found.structures if found.written_as(outs[0], arguments.format) is not found.labels else None
    if found.structures is not None and whole is None:
        remarks = (
            *remarks,
            "Structures overlap, and a label map gives their voxels to one; a .dcm holds both.",
        )
    found = replace(found, notes=(*found.notes, *remarks))
    _write(arguments, scan, found, outs, found.model)
    report = {
        **found.to_dict(masks=False),
        "seconds": {"load": loaded, **found.seconds},
        "out": str(outs[0]),
        "format": written_format(arguments, outs[0]),
        "sent": arguments.send,
        **({"alternatives": [str(one) for one in outs[1:]]} if outs[1:] else {}),
        "preview": None if arguments.preview is None else str(arguments.preview),
    }
    if whole is not None:
        # as they are in the file, with what others have of them, too
        for label in report["labels"]:
            label["voxels"] = whole.voxels[label["name"]]
            label["ml"] = label["voxels"] * scan.geometry.voxel_ml
    return report, found


def _labels(given: Given, scan: Volume, standing: Standing | None) -> list[str]:
    """The labels that the result will have, once every prompt is known to lie on the scan."""
    from medsam.prompts.plan import plan

    placed = [one for one in given.prompts if one.text is None]
    there = {} if standing is None else standing.names
    names = plan(placed, scan.geometry, given.axis, standing).names if placed else there
    return [*names.values(), *(one.label for one in given.prompts if one.text is not None)]


def print_notes(notes: Sequence[str], arguments: argparse.Namespace, names: Sequence[str] = ("modality",)) -> None:
    """What the user should know of a result, on stderr. names: the arguments that notes name."""
    for note in notes:
        print(f"Note: {with_flags(printable(note), names, arguments)}", file=sys.stderr)


def _typed_prompts(arguments: argparse.Namespace) -> list[Prompt]:
    """The prompts of --box, --point and the others. PromptError when there are none, and no --prompts either."""
    from medsam.prompts.parse import PARSERS

    # of clicks and strokes a later one corrects what the earlier ones gave
    ranks = {kind: rank for rank, kind in enumerate(PARSERS)} | {"scribble": list(PARSERS).index("point")}
    prompts = [
        PARSERS[kind](text) for kind, text in sorted(getattr(arguments, "typed", ()), key=lambda one: ranks[one[0]])
    ]
    if not prompts and not arguments.prompts and not arguments.boxes_from:
        raise PromptError(
            "There is nothing to segment: give --box [S:]X0,Y0,X1,Y1[=LABEL], --point [S:]X,Y[+|-][=LABEL], "
            "--scribble, --lasso, --line, --ellipse, --text NAME, --prompts FILE or --boxes-from FILE; or --auto, to "
            "have it found."
        )
    return prompts


def check_outputs(
    arguments: argparse.Namespace, scan: Volume, names: Sequence[str], inputs: Sequence[Path]
) -> tuple[list[Path], tuple[str, ...]]:
    """The masks to write, of structures of these names: the result, and those of --all-masks; and what to know of them.

    Raises InputError when they or the preview cannot be written, or would overwrite an input or each other.
    """
    from medsam.io.save import check_preview, written_to

    out = arguments.out or default_out(scan, arguments.scan, dicom=arguments.format is not None)
    outs = [out, *(alternative_out(out, rank) for rank in (1, 2, 3) if arguments.all_masks)]
    for one in outs:
        if arguments.out is None and one.exists():
            raise InputError(f"{one.name} is there already, perhaps corrected by hand. Name what to write: --out FILE.")
    remarks = check_output(arguments, outs, scan, names, inputs)
    if arguments.preview is not None:
        check_preview(arguments.preview, [*inputs, *(file for one in outs for file in written_to(one))])
    return outs, remarks


def _write(arguments: argparse.Namespace, scan: Volume, found: Segmentation, outs: Sequence[Path], model: str) -> None:
    """The masks and the preview."""
    from medsam.drawing.preview import write_preview
    from medsam.io.save import save_labels

    options = dicom_options(arguments, found.algorithm)
    # of the answers, and not of other masks
    told = replace(options, remarks=found.remarks)
    for one, labels in zip(outs, (found.written_as(outs[0], arguments.format), *found.alternatives), strict=True):
        save_labels(labels, one, scan, format=arguments.format, options=told if one is outs[0] else options)
    if arguments.preview is not None:
        write_preview(scan, found, arguments.preview, title=f"{model}, window {found.window.name}")


@dataclass
class Given:
    """What --prompts brings. start: label files that other prompts correct; None where there are none of either.

    read, notes: the files, and what the user should know of the reading.
    """

    prompts: list[Prompt]
    axis: Axis | None
    start: Mapping[str, np.ndarray] | None
    read: list[Path]
    notes: list[str]


def _read_files(arguments: argparse.Namespace, scan: Volume, typed: Sequence[Prompt]) -> Given:
    """The prompts of all --prompts files, and the one axis that they and --axis agree on.

    Masks of label files are refined where they are all there is, and corrected where there are other prompts.
    Raises PromptError when two axes contradict each other.
    """
    from medsam.prompts.files import read_prompt_file
    from medsam.prompts.masks import joined

    given = Given([], arguments.axis, None, [], [])
    stated, masks = f"--axis {arguments.axis}", []
    for path in arguments.prompts:
        file = read_prompt_file(path, scan, given.axis, given.prompts)
        given.read += file.read
        given.notes += file.notes
        given.prompts += file.prompts
        masks += [file] if file.masks is not None else []
        if given.axis and file.axis and given.axis != file.axis:
            raise PromptError(f"{stated} contradicts the axis {file.axis!r} of {path.name}.")
        if file.axis and not given.axis:
            given.axis, stated = file.axis, f"The axis {file.axis!r} of {path.name}"
    given.prompts += typed
    given.axis = add_boxes(arguments, scan, given.axis, given.prompts, given.read, given.notes)
    if given.prompts and masks:
        given.start = joined([file.masks for file in masks if file.masks is not None])
    else:
        for file in masks:
            more, remarks = file.as_prompts()
            given.prompts += more
            given.notes += remarks
    return given


def read_limits(arguments: argparse.Namespace, scan: Volume, given: Given) -> Limits:
    """What --keep-range, --editable and --lock say; their files are added to those read. PromptError, InputError."""
    from medsam.io.files import is_there
    from medsam.prompts.limits import Limits
    from medsam.prompts.masks import load_masks, voxels_of

    def inside(path: Path) -> np.ndarray:
        """All structures of a label file together. Raises PromptError where there are none."""
        given.read.append(path)
        masks = load_masks(path, scan, given.notes)
        if not any(voxels_of(masks, name) for name in masks):
            raise PromptError(
                f"{path.name} marks nothing on the scan, so it is no limit. Name another, or leave it out."
            )
        return functools.reduce(operator.or_, masks.values())

    if any(not comma_names(text) for text in arguments.lock):
        raise PromptError("`locked` needs names of labels, with commas between them, or a file.", parameter="locked")
    files = [Path(text) for text in arguments.lock if is_there(Path(text))]
    names = [name for text in arguments.lock if Path(text) not in files for name in comma_names(text)]
    return Limits(
        None if arguments.keep_range is None else _range(arguments.keep_range),
        None if arguments.editable is None else inside(arguments.editable),
        tuple(names),
        functools.reduce(operator.or_, map(inside, files)) if files else None,
    )


def _range(text: str) -> tuple[float | None, float | None]:
    ends = [end.strip() for end in text.split(",")]
    try:
        low, high = (float(end) if end else None for end in ends)
        if low is None and high is None:
            raise ValueError
    except ValueError:
        raise PromptError(
            f"`values` {text!r} is not LOW,HIGH, for example -100,300 or 150, for all from 150 on.", parameter="values"
        ) from None
    return low, high


def check_options(arguments: argparse.Namespace, calibrated: bool, correcting: bool) -> None:
    """Raise PromptError for options that would do nothing, or contradict each other.

    correcting: prompts correct what is in label files.
    """
    from medsam.postprocess.clean import Cleanup

    if not 0 <= arguments.smooth_mm < math.inf or (arguments.max_mm is not None and not arguments.max_mm >= 0):
        raise PromptError("--smooth-mm and --max-mm take millimetres from 0.")
    if arguments.max_mm is not None and not arguments.propagate:
        raise PromptError("--max-mm bounds how far --propagate goes, and --propagate is not there.")
    if arguments.max_mm is not None and not calibrated:
        raise PromptError(
            "--max-mm is in millimetres, and the file of this scan states no physical size. Leave it out."
        )
    for option, on in (("--propagate", arguments.propagate), ("--all-masks", arguments.all_masks)):
        if correcting and on:
            raise PromptError(
                f"Label files beside other prompts are corrected on the prompted slices: leave {option} out, or the "
                "label files."
            )
    if arguments.all_masks and arguments.propagate:
        raise PromptError("--all-masks are those of each prompt on its own slice: leave --propagate out.")
    Cleanup(smooth_mm=arguments.smooth_mm).check(calibrated)


def alternative_out(out: Path, rank: int) -> Path:
    """`NAME.1.nii.gz` for `NAME.nii.gz`: where --all-masks puts every prompt's mask of that rank."""
    suffix = ".nii.gz" if out.name.lower().endswith(".nii.gz") else out.suffix
    return out.with_name(f"{out.name[: len(out.name) - len(suffix)]}.{rank}{out.name[len(out.name) - len(suffix) :]}")


def _segment(
    predictor: Predictor,
    scan: Volume,
    given: Given,
    limits: Limits,
    arguments: argparse.Namespace,
    progress: ProgressCallback | None,
) -> Segmentation:
    from medsam.postprocess.clean import Cleanup

    return predictor.segment(
        scan,
        given.prompts,
        axis=given.axis,
        window=arguments.window,
        modality=arguments.modality,
        zoom=arguments.zoom,
        propagate=arguments.propagate,
        max_mm=math.inf if arguments.max_mm is None else arguments.max_mm,
        tidy=Cleanup(arguments.keep_islands, arguments.one_piece, arguments.smooth_mm),
        start=given.start,
        limits=limits,
        all_masks=arguments.all_masks,
        untested=arguments.untested,
        progress=progress,
    )
