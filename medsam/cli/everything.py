"""`medsam everything`: all masks of a slice or a volume, from a grid of clicks."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsam.cli.flags import with_flags
from medsam.cli.segment import add_scan_arguments, checkpoint_file, default_out
from medsam.errors import InputError, PromptError, counted, printable
from medsam.progress import progress_bars

if TYPE_CHECKING:
    from medsam.inference.automatic import AutomaticSettings, Everything
    from medsam.inference.image_predictor import ScanEncoder
    from medsam.masks import AutomaticMask
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
        "--labels", type=Path, metavar="PATH", help="also write a label map: .nii.gz, .nrrd, .mha, .png"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout instead of a summary")
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
    from medsam.io.load import load_volume

    started = time.perf_counter()
    scan = load_volume(arguments.scan, series=arguments.series, frame=arguments.frame)
    loaded = time.perf_counter() - started
    plane = scan.geometry.plane(arguments.axis)
    if arguments.slice is not None and not 0 <= arguments.slice < plane.count:
        raise PromptError(f"There is no slice {arguments.slice} on axis {plane.axis}; it has 0 ... {plane.count - 1}.")
    if arguments.link_iou_thresh is not None and (arguments.slice is not None or plane.count == 1):
        raise PromptError("--link-iou-thresh links masks of neighbouring slices, and there is one slice. Leave it out.")
    out = _checked_out(arguments, scan)

    # torch comes with these, so they wait until the input is known to be good
    from medsam.inference.automatic import AutomaticSettings
    from medsam.inference.predictor import Predictor

    given = {name: getattr(arguments, name) for name in (*_SETTINGS, "prompt")}
    AutomaticSettings(**{name: value for name, value in given.items() if value is not None})  # before the weights
    index = 0 if plane.count == 1 else arguments.slice
    predictor = Predictor(arguments.model, arguments.device, precision=arguments.precision, engine=arguments.engine)
    settings = AutomaticSettings.suited_to(predictor.sam.spec, **given)
    scan_encoder = predictor.encoder_for(scan, axis=plane.axis, window=arguments.window, modality=arguments.modality)
    started = time.perf_counter()
    link_iou_thresh = 0.5 if arguments.link_iou_thresh is None else arguments.link_iou_thresh
    found = _find(scan_encoder, index, settings, link_iou_thresh)
    masks, prepared = found.masks, found.usage.prepare_s
    seconds = {"load": loaded, "prepare": prepared, "masks": time.perf_counter() - started - prepared}

    _write(arguments, scan_encoder, masks, out)
    notes = _notes(scan_encoder, index is None, found, settings.max_background_ratio)
    objects = len({one.object for one in masks if one.object is not None})
    report: dict[str, Any] = {
        "model": predictor.name,
        "engine": predictor.engine.name,
        "precision": predictor.precision,
        "axis": plane.axis,
        "window": {"name": scan_encoder.window.name, "low": scan_encoder.window.low, "high": scan_encoder.window.high},
        "settings": asdict(settings),
        "slices": plane.count if index is None else 1,
        "slice": index,
        "masks": len(masks),
        "left_out_as_background": found.left_out,
        "objects": None if index is not None else objects,
        "encoded": found.usage.encoded,
        "decoded": found.usage.decoded,
        "notes": notes,
        "seconds": seconds,
        "out": str(out),
        "labels": None if arguments.labels is None else str(arguments.labels),
        "preview": None if arguments.preview is None else str(arguments.preview),
    }
    for note in notes:
        print(f"Note: {with_flags(printable(note), ('modality',), arguments)}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report, indent=2, allow_nan=False))
        return
    where = f"slice {index}" if index is not None else f"{plane.count} slices, {counted(objects, 'object')}"
    asked = counted(found.usage.decoded, "prompt")
    print(f"{counted(len(masks), 'mask')} on {where}, from {asked} in {seconds['masks']:.1f} s")
    for path in (report["out"], report["labels"], report["preview"]):
        if path:
            print(f"wrote {printable(str(path))}")


def _checked_out(arguments: argparse.Namespace, scan: Volume) -> Path:
    """Where the masks go. Raises InputError when any of the outputs cannot be written, or would overwrite an input."""
    from medsam.io.sa1b import check_masks_target
    from medsam.io.save import check_preview, check_writable, sidecar

    out: Path = arguments.out or _default_out(scan, arguments.scan)
    if arguments.out is None and out.exists():
        raise InputError(f"{out.name} is there already. Name what to write: --out FILE.json.")
    inputs = [arguments.scan, *checkpoint_file(arguments.model)]
    check_masks_target(out, inputs)
    if arguments.labels is not None:
        check_writable(arguments.labels, scan.geometry.shape[0], [*inputs, out])
    if arguments.preview is not None:
        written = [] if arguments.labels is None else [arguments.labels, sidecar(arguments.labels)]
        check_preview(arguments.preview, [*inputs, out, *written])
    return out


def _write(arguments: argparse.Namespace, scan_encoder: ScanEncoder, masks: list[AutomaticMask], out: Path) -> None:
    """The masks, and where they are asked for a label map and a preview."""
    from medsam.drawing.preview import write_masks_preview
    from medsam.inference.automatic import label_map
    from medsam.io.sa1b import MaskFile, write_sa1b
    from medsam.io.save import save_labels

    scan, plane = scan_encoder.scan, scan_encoder.plane
    flat = scan.geometry.shape[0] == 1
    rows, columns = plane.shape
    write_sa1b(
        MaskFile(
            columns,
            rows,
            tuple(masks),
            arguments.scan.absolute().name,
            axis=None if flat and plane.axis == "k" else plane.axis,
            slices=plane.count,
        ),
        out,
    )
    if arguments.labels is not None:
        source = arguments.scan if arguments.scan.is_file() else None
        save_labels(label_map(masks, scan, plane), arguments.labels, source)
    if arguments.preview is not None:
        title = f"{scan_encoder.image_predictor.name}, window {scan_encoder.window.name}"
        write_masks_preview(scan, masks, plane, scan_encoder.window, arguments.preview, title)


def _notes(scan_encoder: ScanEncoder, is_volume: bool, found: Everything, most_background: float) -> list[str]:
    """What the user should know."""
    notes = list(scan_encoder.notes)
    if found.no_contrast and not is_volume:  # empty slices are normal in a volume
        notes.append(scan_encoder.no_contrast_note(found.no_contrast))
    if found.left_out:
        notes.append(
            f"{counted(found.left_out, 'mask')} left out: more than {most_background:g} of each lay on the "
            "background round the scan. --max-background-ratio 1 keeps them."
        )
    if not found.masks:
        notes.append(
            "No mask passed the filters. Lower --pred-iou-thresh and --stability-score-thresh; a model trained with "
            "boxes alone answers clicks badly, so leave --prompt out (docs/everything.md)."
        )
    return notes


def _default_out(scan: Volume, path: Path) -> Path:
    """`NAME.masks.json` in the current folder."""
    return Path(default_out(scan, path).name.rpartition(".mask.")[0] + ".masks.json")


def _find(
    scan_encoder: ScanEncoder, index: int | None, settings: AutomaticSettings, link_iou_thresh: float
) -> Everything:
    from medsam.inference.automatic import everything_in_volume, everything_on_slice

    with progress_bars("Prompts") as (progress,):
        if index is not None:
            return everything_on_slice(scan_encoder, index, settings, progress)
        return everything_in_volume(scan_encoder, settings, link_iou_thresh=link_iou_thresh, progress=progress)
