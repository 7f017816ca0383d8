"""Without a prompt: what a detector finds is prompted by its boxes, and every mask's own box is asked once more.

Source: SAM composed with a detector, and the best mask given back once, are of Kirillov et al. 2023 (appendix D.4).
A model that was trained with boxes alone is given the box of its mask, another one the mask as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from medsam.errors import PromptError, listed
from medsam.inference.by_name import modality_of
from medsam.inference.detect import Detections
from medsam.inference.engines.base import EngineName, Precision
from medsam.inference.image_predictor import ImagePredictor, ScanEncoder
from medsam.inference.segment_slice import segment_slice
from medsam.inference.segmentation import Segmentation
from medsam.inference.segmentation_builder import SegmentationBuilder
from medsam.inference.slice_request import SliceResult, Zoom
from medsam.inference.tracked_boxes import clipped
from medsam.io.structure_names import plain_name
from medsam.metrics.detection import box_iou
from medsam.models.heads import Head, bundled_heads, find_head
from medsam.models.sam import Sam
from medsam.models.specs import takes_clicks
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.limits import Limits
from medsam.prompts.plan import PromptPlan
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import tight_box

# Boxes of a detector are wrong by about so much of a side, and nothing outside a box is kept: a guess, not measured.
_GROWN = 0.06
# A mask whose box overlaps the one that was asked with by less is of something else, and its box is not believed.
_SAME = 0.5


@dataclass(frozen=True)
class AutoSettings:
    """feed_back: ask once more with the box of the first mask. grown: of each side of a found box, before it asks."""

    feed_back: bool = True
    grown: float = _GROWN


def head_for(
    sources: Sequence[str | Path], sam: Sam, names: Sequence[str] | None = None, modality: str | None = None
) -> Head:
    """The detector to look with: of `sources`, or of those that medsam ships, by the structures or by the modality.

    names: of structures, as the user asks for them. Raises PromptError where none, or more than one, would do;
    CheckpointError for a head that does not fit the model.
    """
    if sources:
        return _given_head(sources, sam)
    known = bundled_heads("detector", sam)
    if not known:
        raise PromptError(
            f"No detector of medsam reads the embeddings of {sam.spec.name}. Train one (docs/automatic.md) and name "
            "its file as `head`.",
            parameter="head",
        )
    fit = [head for head in known if _suits(head, names, modality)]
    if len(fit) != 1:
        cards = [head.card for head in known]
        there = listed(f"{one.name} ({', '.join(one.modalities)}: {', '.join(one.classes)})" for one in cards)
        what = f"knows {listed(names)}" if names is not None else f"is for {modality or 'such scans'}"
        raise PromptError(
            f"{'No head' if not fit else 'More than one head'} of medsam {what}. There are: {there}. Name one, or a "
            "file of your own, as `head`.",
            parameter="head",
        )
    return fit[0]


def _given_head(sources: Sequence[str | Path], sam: Sam) -> Head:
    heads = [head for head in (find_head(source, sam) for source in sources) if head.card.kind == "detector"]
    if len(heads) != 1:
        raise PromptError(
            f"Looking without a prompt takes one head of the kind 'detector', and {len(heads)} were given.",
            parameter="head",
        )
    return heads[0]


def _suits(head: Head, names: Sequence[str] | None, modality: str | None) -> bool:
    if names is not None:
        return {plain_name(name) for name in names} <= {plain_name(name) for name in head.card.classes}
    return head.card.is_for(modality or None)


def answering(images: ImagePredictor, head: Head) -> ImagePredictor:
    """Who answers the boxes of a head: `images`, or one with the decoder that lies beside the head.

    Both share their embeddings: the same engine encodes for both.
    """
    sam = head.with_decoder(images.sam)
    if sam is images.sam:
        return images
    precision, engine = cast(Precision, images.precision), cast(EngineName, images.engine.name)
    return ImagePredictor(
        sam, str(images.device), images.cache, precision=precision, engine=engine, worker=images.worker
    )


def prompts_of(found: Detections, scan_encoder: ScanEncoder, grown: float) -> PromptPlan:
    """The boxes of all objects as prompts. Labels are numbered by what was asked for, whether it was found or not."""
    plane = scan_encoder.plane
    numbers = {name: number for number, name in enumerate(found.asked, start=1)}
    slices: dict[int, list[SlicePrompt]] = {}
    for one in found.objects:
        for index, box in one.boxes.items():
            if (asked := larger(box, grown, plane.shape)) is not None:
                slices.setdefault(index, []).append(SlicePrompt(numbers[one.name], asked))
    return PromptPlan(plane.axis, {n: name for name, n in numbers.items()}, dict(sorted(slices.items())))


def segment_found(
    scan_encoder: ScanEncoder,
    found: Detections,
    head: Head,
    *,
    zoom: Zoom = "auto",
    cleanup: Cleanup | None = None,
    limits: Limits | None = None,
    settings: AutoSettings | None = None,
    progress: ProgressCallback | None = None,
) -> Segmentation:
    """A label map of what a detector found. Where that is nothing it is empty, and the notes say so."""
    settings = settings or AutoSettings()
    todo = prompts_of(found, scan_encoder, settings.grown)
    limits = limits or Limits()
    builder = SegmentationBuilder(scan_encoder, todo, zoom, cleanup or Cleanup(), progress, limits=limits)
    for index, prompts in builder.slices():
        results = segment_slice(scan_encoder, index, prompts, zoom=zoom, trust=True)
        if settings.feed_back:
            first = [one.usage for one in results]
            prompts = fed_back(scan_encoder, prompts, results, settings.grown)
            results = segment_slice(scan_encoder, index, prompts, zoom=zoom, trust=True)
            results[0] = replace(results[0], usage=sum(first, results[0].usage))
        builder.add(index, prompts, results)
    segmentation = builder.finish()
    nothing = [] if found.objects else [f"Nothing was found of {listed(found.asked)}: the label map is empty."]
    names = [*dict.fromkeys(one.name for one in found.objects)]
    remarks = head.card.foreign(modality_of(scan_encoder.scan)), head.card.drawn_anyway(names)
    licence = "; ".join(dict.fromkeys(one for one in (segmentation.algorithm.licence, head.card.licence) if one))
    return replace(
        segmentation,
        usage=segmentation.usage + found.usage,
        found=found,
        said=dict.fromkeys(found.untested, "UNTESTED: not measured on patients the head never saw"),
        notes=(*segmentation.notes, *found.notes(), *nothing, *filter(None, remarks)),
        algorithm=replace(segmentation.algorithm, kind="AUTOMATIC", licence=licence),
    )


def fed_back(
    scan_encoder: ScanEncoder, prompts: Sequence[SlicePrompt], results: Sequence[SliceResult], grown: float
) -> list[SlicePrompt]:
    """Prompts with the boxes of their masks, a little larger; with the masks, too, for a model that knows such."""
    shape, clicks = scan_encoder.plane.shape, takes_clicks(scan_encoder.image_predictor.sam.spec)
    again = []
    for prompt, result in zip(prompts, results, strict=True):
        tight = tight_box(result.mask, 1)
        if tight is None or prompt.box is None or box_iou(tight, prompt.box) < _SAME:
            again.append(prompt)
            continue
        box = larger((*map(float, tight),), grown, shape)  # type: ignore[arg-type]
        again.append(replace(prompt, box=box or prompt.box, mask=result.mask if clicks else None))
    return again


def larger(box: Box, grown: float, shape: tuple[int, int]) -> Box | None:
    """A box with so much of each side more at each end, inside a slice (h, w); None as `clipped` says."""
    corners = np.array(box)
    sides = np.tile(corners[2:] - corners[:2], 2)
    return clipped((corners + np.array([-1, -1, 1, 1]) * grown * sides).tolist(), shape)
