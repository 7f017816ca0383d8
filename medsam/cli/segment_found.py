"""`medsam segment SCAN --auto`: no prompt in, a label map of what a head finds out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medsam.cli.flags import comma_names
from medsam.cli.scan_options import checkpoint_file
from medsam.cli.segment import Given, check_options, check_outputs, finish, read_limits
from medsam.cli.segment_auto import check_alone, files_of_heads
from medsam.inference.detect import asked_classes
from medsam.postprocess.clean import Cleanup

if TYPE_CHECKING:
    from medsam.inference.predictor import Predictor
    from medsam.inference.segmentation import Segmentation
    from medsam.progress import ProgressCallback
    from medsam.volume import Volume


def segment_without_prompt(
    arguments: argparse.Namespace,
    scan: Volume,
    predictor_for: Callable[[argparse.Namespace], Predictor],
    loaded: float,
    progress: ProgressCallback | None,
) -> tuple[dict[str, Any], Segmentation]:
    """As `segment.segment_scan`. loaded: seconds that reading took. Raises MedSAMError subclasses."""
    check_alone(arguments)
    given = Given([], arguments.axis, None, [], [])
    limits = read_limits(arguments, scan, given)
    check_options(arguments, scan.geometry.calibrated, correcting=False)
    names, predictor = comma_names(arguments.auto) or None, predictor_for(arguments)
    head = predictor.detector(names, arguments.modality or scan.modality)
    asked = [head.card.classes[n] for n in asked_classes(head, names, arguments.untested)]
    limits.check(scan, asked)
    inputs = [arguments.scan, *checkpoint_file(arguments.model), *files_of_heads(arguments), *given.read]
    outs, remarks = check_outputs(arguments, scan, asked, inputs)
    found = predictor.find(
        scan,
        names,
        head=head,
        untested=arguments.untested,
        axis=arguments.axis,
        window=arguments.window,
        modality=arguments.modality,
        zoom=arguments.zoom,
        tidy=Cleanup(arguments.keep_islands, arguments.one_piece, arguments.smooth_mm),
        limits=limits,
        progress=progress,
    )
    return finish(arguments, scan, found, outs, remarks, loaded)
