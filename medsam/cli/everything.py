"""`medsam everything`: all masks of a slice or a volume, from a grid of clicks."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.scan_options import add_scan_arguments, checkpoint_file, default_out, plain_predictor
from medsam.cli.segment import print_notes
from medsam.errors import InputError, PromptError, counted, printable
from medsam.progress import ProgressCallback, progress_bars

if TYPE_CHECKING:
    from medsam.inference.everything import Everything
    from medsam.inference.predictor import Predictor
    from medsam.io.algorithm import Algorithm
    from medsam.volume import Volume

# parameter of the public generator -> (type, its default, help)
_SETTINGS: dict[str, tuple[type, float, str]] = {
    "points_per_side": (int, 32, "clicks along either side of the slice"),
    "points_per_batch": (int, 64, "clicks decoded together"),
    "pred_iou_thresh": (float, 0.88, "keep masks above this predicted IoU; 0: all"),
    "stability_score_thresh": (float, 0.95, "keep masks from this stability on; 0: all"),
    "stability_score_offset": (float, 1.0, "shift of the threshold that stability is measured by, in logits"),
    "box_nms_thresh": (float, 0.7, "IoU of boxes above which one of two masks is a duplicate"),
    "crop_n_layers": (int, 0, "look at crops too; layer n has 2^n a side"),
    "crop_nms_thresh": (float, 0.7, "the same as box-nms-thresh, between crops"),
    "crop_overlap_ratio": (float, 512 / 1500, "overlap of crops in layer 1, in short sides of the slice"),
    "crop_n_points_downscale_factor": (int, 1, "clicks a side are divided by its n-th power in layer n"),
    "min_mask_region_area": (int, 100, "fill holes and remove islands of fewer pixels; 0: none"),
    "max_mask_area_ratio": (float, 0.95, "drop masks of this share of the slice or more; above 1: none"),
    "max_background_ratio": (float, 0.5, "drop masks of which more lies on the background round the scan; 1: none"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `medsam everything`."""
    parser.add_argument("--slice", type=int, metavar="N", help="one slice (default: all, linked into objects)")
    add_scan_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="JSON", help="masks, as SA-1B (default: NAME.masks.json here)")
    parser.add_argument(
        "--labels", type=Path, metavar="PATH", help="also write a label map: .nii.gz, .nrrd, .mha, .png, .dcm"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a summary")
    add_generator_arguments(parser)


def add_generator_arguments(parser: argparse.ArgumentParser) -> None:
    """How masks are found: of `medsam everything` and of `medsam everything-many`."""
    parser.add_argument(
        "--link-iou-thresh",
        type=float,
        metavar="IOU",
        help="masks of neighbouring slices that overlap by this much are one object (default: 0.5)",
    )
    parser.add_argument(
        "--prompt",
        choices=("point", "box"),
        help="ask with a grid of clicks, as published, or of boxes (default: clicks if the model knows them)",
    )
    published = parser.add_argument_group("the published algorithm", "see docs/everything.md")
    for name, (kind, default, text) in _SETTINGS.items():
        option = "--" + name.replace("_", "-")
        boxes = "; 0.7 with boxes" if name in ("pred_iou_thresh", "stability_score_thresh") else ""
        published.add_argument(option, type=kind, metavar="N", help=f"{text} (default: {default:g}{boxes})")


def run(arguments: argparse.Namespace) -> None:
    """Find, link, write, report. Raises MedSAMError subclasses for everything a user can fix."""
    with progress_bars("Prompts") as (progress,):
        report, found = everything_in(arguments, plain_predictor, progress)
    print_notes(found.notes, arguments, ("modality", "prompt", *_SETTINGS))
    if arguments.json:
        print(json.dumps(report, indent=2, allow_nan=False))
        return
    where = f"slice {found.slice}"
    if found.objects is not None:
        where = f"{found.plane.count} slices, {counted(found.objects, 'object')}"
    asked = counted(found.usage.decoded, "prompt")
    print(f"{counted(len(found.masks), 'mask')} on {where}, from {asked} in {found.masks_s:.1f} s")
    for path in (report["out"], report["labels"], report["preview"]):
        if path:
            print(f"wrote {printable(str(path))}")


def everything_in(
    arguments: argparse.Namespace,
    predictor_for: Callable[[argparse.Namespace], Predictor],
    progress: ProgressCallback | None = None,
    load: Callable[[], Volume] | None = None,
) -> tuple[dict[str, Any], Everything]:
    """Find, link and write as the options say. Gives what `--json` tells, and the result.

    predictor_for, load: as of `medsam.cli.segment.segment_scan`.
    """
    from medsam.io.load import load_volume

    started = time.perf_counter()
    scan = load() if load else load_volume(arguments.scan, series=arguments.series, frame=arguments.frame)
    loaded = time.perf_counter() - started
    plane = scan.geometry.plane(arguments.axis)
    if arguments.slice is not None and not 0 <= arguments.slice < plane.count:
        raise PromptError(f"There is no slice {arguments.slice} on axis {plane.axis}; it has 0 ... {plane.count - 1}.")
    if arguments.link_iou_thresh is not None and (arguments.slice is not None or plane.count == 1):
        raise PromptError("--link-iou-thresh links masks of neighbouring slices, and there is one slice. Leave it out.")
    out = _checked_out(arguments, scan)

    # torch comes with these, so they wait until the input is known to be good
    from medsam.inference.automatic import AutomaticSettings
    from medsam.inference.segmentation import algorithm_of

    given = {name: getattr(arguments, name) for name in (*_SETTINGS, "prompt")}
    AutomaticSettings(**{name: value for name, value in given.items() if value is not None})  # before the weights
    predictor = predictor_for(arguments)
    found = predictor.everything(
        scan,
        arguments.slice,
        axis=plane.axis,
        window=arguments.window,
        modality=arguments.modality,
        settings=AutomaticSettings.suited_to(predictor.sam.spec, **given),
        link_iou_thresh=0.5 if arguments.link_iou_thresh is None else arguments.link_iou_thresh,
        progress=progress,
    )
    _write(arguments, scan, found, out, replace(algorithm_of(predictor.images), kind="AUTOMATIC"))
    report = {
        **found.to_dict(masks=False),
        "seconds": {"load": loaded, "prepare": found.usage.prepare_s, "masks": found.masks_s},
        "out": str(out),
        "labels": None if arguments.labels is None else str(arguments.labels),
        "preview": None if arguments.preview is None else str(arguments.preview),
    }
    return report, found


def _checked_out(arguments: argparse.Namespace, scan: Volume) -> Path:
    """Where the masks go. Raises InputError when any of the outputs cannot be written, or would overwrite an input."""
    from medsam.io.sa1b import check_masks_target
    from medsam.io.save import check_derivable, check_preview, check_writable, writable_suffix, written_to

    out: Path = arguments.out or _default_out(scan, arguments.scan)
    if arguments.out is None and out.exists():
        raise InputError(f"{out.name} is there already. Name what to write: --out FILE.json.")
    inputs = [arguments.scan, *checkpoint_file(arguments.model)]
    check_masks_target(out, inputs)
    if arguments.labels is not None:
        check_writable(arguments.labels, scan.geometry.shape[0], [*inputs, out])
        if writable_suffix(arguments.labels) == ".dcm":
            check_derivable(scan, scan.geometry)
    if arguments.preview is not None:
        written = [] if arguments.labels is None else written_to(arguments.labels)
        check_preview(arguments.preview, [*inputs, out, *written])
    return out


def _write(arguments: argparse.Namespace, scan: Volume, found: Everything, out: Path, algorithm: Algorithm) -> None:
    """The masks, and where they are asked for a label map and a preview."""
    from medsam.drawing.preview import write_masks_preview
    from medsam.io.algorithm import DicomOptions
    from medsam.io.sa1b import MaskFile, write_sa1b
    from medsam.io.save import save_labels

    plane = found.plane
    flat = scan.geometry.shape[0] == 1
    rows, columns = plane.shape
    write_sa1b(
        MaskFile(
            columns,
            rows,
            found.masks,
            arguments.scan.absolute().name,
            axis=None if flat and plane.axis == "k" else plane.axis,
            slices=plane.count,
        ),
        out,
    )
    if arguments.labels is not None:
        save_labels(found.labels, arguments.labels, scan, options=DicomOptions(algorithm))
    if arguments.preview is not None:
        title = f"{found.model}, window {found.window.name}"
        write_masks_preview(scan, found.masks, plane, found.window, arguments.preview, title)


def _default_out(scan: Volume, path: Path) -> Path:
    """`NAME.masks.json` in the current folder."""
    return Path(default_out(scan, path).name.rpartition(".mask.")[0] + ".masks.json")
