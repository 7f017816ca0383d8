"""Predictor: from a scan and its prompts to a label map on the scan's own grid.

Predictor.segment -> segment_slice -> ImagePredictor.predict -> Engine.decode -> Sam.decode
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch

from medsam.errors import PromptError
from medsam.geometry import Axis
from medsam.inference.automatic import AutomaticSettings
from medsam.inference.by_name import AnsweredNames, answer_names
from medsam.inference.embeddings import EmbeddingCache
from medsam.inference.engines.base import Engine, EngineName, Precision
from medsam.inference.everything import Everything
from medsam.inference.image_predictor import Embedding, ImagePredictor, Prediction, ScanEncoder, box_prompts
from medsam.inference.predictor_heads import PredictorHeads, Scan, Seen
from medsam.inference.segment_slice import segment_slice
from medsam.inference.segmentation import Segmentation
from medsam.inference.segmentation_builder import SegmentationBuilder
from medsam.inference.session import Session
from medsam.inference.session_state import SessionState
from medsam.inference.slice_request import Zoom
from medsam.inference.usage import Usage
from medsam.inference.worker import Priority, Worker, through_worker
from medsam.io.load import as_volume
from medsam.models.sam import Sam
from medsam.models.specs import takes_clicks
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.limits import Limits
from medsam.prompts.masks import standing_of
from medsam.prompts.plan import plan
from medsam.prompts.prompt import DEFAULT_LABEL, Box, Point, Prompt, SlicePrompt, as_prompts
from medsam.prompts.standing import Labels
from medsam.prompts.strokes import Scribble
from medsam.prompts.values import Line, Position
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import Volume

# labels to correct: a file of them, a label map, or masks by name
Start = str | Path | Labels


_NO_BOX = "A closer look is taken at boxes, and there is none: zoom on changes nothing."


class OnePrompt(TypedDict, total=False):
    """The fields of a single `Prompt`, as keywords."""

    label: str
    box: Box
    slice: int
    box3d: tuple[float, float, float, float, float, float]
    points: tuple[Point, ...]
    mask: np.ndarray
    scribbles: tuple[Scribble, ...]
    lasso: tuple[Position, ...]
    lines: tuple[Line, ...]
    ellipse: Box
    drawn: np.ndarray
    text: str


class Predictor(PredictorHeads):
    """A model for whole scans: label maps on the scan's own grid, and sessions of clicks.

    images: what encodes slices and decodes prompts on them, for arrays of boxes and for embeddings of one's own.
    model, device, cache, precision, engine: see `ImagePredictor`, which raises for them.
    worker: whose thread `segment`, `propagate`, `everything` and the steps of sessions run on, the most urgent first,
    whatever thread calls them (docs/worker.md); default: the caller's own.
    heads: files of heads that answer names (docs/names.md) or find structures (docs/automatic.md), beside those of this
    package. clip: the folder of the CLIP that such heads learnt with; default `$MEDSAM_CLIP`.
    """

    def __init__(
        self,
        model: str | Path | Sam = "litemedsam",
        device: str = "auto",
        cache: EmbeddingCache | None = None,
        *,
        precision: Precision = "auto",
        engine: EngineName = "auto",
        worker: Worker | None = None,
        heads: Iterable[str | Path] = (),
        clip: str | Path | None = None,
    ) -> None:
        images = ImagePredictor(model, device, cache, precision=precision, engine=engine, worker=worker)
        super().__init__(images, tuple(heads), clip)

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, device={str(self.device)!r})"

    @property
    def name(self) -> str:
        """The model's."""
        return self.images.name

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def engine(self) -> Engine:
        """Who runs the network on `device`."""
        return self.images.engine

    @property
    def precision(self) -> str:
        """What the encoder computes in."""
        return self.images.precision

    @property
    def cache(self) -> EmbeddingCache:
        """Where embeddings are kept."""
        return self.images.cache

    @through_worker(Priority.BATCH)
    def warm_up(self) -> Usage:
        """Have graphs made and compiled now, which the first prompt would wait for. Returns what that took."""
        return self.images.warm_up()

    @through_worker(Priority.PREFETCH)
    def embed(
        self, scan: Scan, index: int = 0, *, axis: Axis | None = None, window: IntensityWindow | str = "auto"
    ) -> Embedding:
        """Encode one whole slice, see `ImagePredictor.embed`."""
        return self.images.embed(scan, index, axis=axis, window=window)

    @through_worker(Priority.SLICE)
    def predict(self, embedding: Embedding, prompts: Sequence[SlicePrompt] | np.ndarray, **options: Any) -> Prediction:
        """The masks of prompts on one embedding, see `ImagePredictor.predict`; also half-open boxes (P, 4)."""
        if isinstance(prompts, np.ndarray):
            prompts = box_prompts(prompts)
        return self.images.predict(embedding, prompts, **options)

    def encoder_for(
        self,
        scan: Scan,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
    ) -> ScanEncoder:
        """The scan, ready to be encoded slice by slice, see `ImagePredictor.encoder_for`."""
        return self.images.encoder_for(scan, axis=axis, window=window, modality=modality)

    # by its earlier name
    looker = encoder_for

    def session(
        self,
        scan: Scan,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
        label: str = DEFAULT_LABEL,
        start: Start | None = None,
        limits: Limits | None = None,
        at_hand: bool = False,
    ) -> Session:
        """The scan set once, for box, click, click, undo. scan: as for `segment`. label: of the first object.

        start: labels to correct, as for `segment`; see `Session.start`. limits: where masks may lie, see `Limits`.
        at_hand: see `Session`.
        """
        scan = as_volume(scan)
        standing = None if start is None else standing_of(start, scan, axis)
        scan_encoder = self.encoder_for(scan, axis=axis, window=window, modality=modality)
        session = Session(scan_encoder, zoom, label, limits=limits, at_hand=at_hand)
        if standing is not None:
            session.start(standing)
        return session

    def resume(self, state: SessionState, scan: Scan, *, at_hand: bool = False) -> Session:
        """Go on with a session that was stored: the next click gives the mask it would have given then.

        Raises InputError when the state is of another scan or model.
        """
        return Session.resume(state, state.encoder_for(self.images, as_volume(scan)), at_hand=at_hand)

    @through_worker(lambda options: Priority.PROPAGATE if options.get("propagate") else Priority.SLICE)
    def segment(
        self,
        scan: Scan,
        prompts: Prompt | Iterable[Prompt] | None = None,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
        propagate: bool = False,
        max_mm: float = math.inf,
        tidy: Cleanup | None = None,
        start: Start | None = None,
        limits: Limits | None = None,
        all_masks: bool = False,
        keep_probabilities: bool = False,
        untested: bool = False,
        progress: ProgressCallback | None = None,
        **prompt: Unpack[OnePrompt],
    ) -> Segmentation:
        """Segment what prompts ask for: one label map on the scan's own grid.

        Each slice with a prompt is encoded once, and with zoom "auto" each box once more from close by. Masks of one
        label are united; where labels overlap, the mask with the higher predicted IoU keeps the pixel.
        scan: a Volume, the path of one (`load_volume`), or an array without millimetres (`Volume.from_array`).
        prompts: one or several. A single one may be written out: `segment(scan, box=(60, 40, 210, 180), slice=41)`.
        window, modality: see `resolve_window`. zoom: see `segment_slice`. tidy: how masks are cleaned; default: small
        islands and holes go. propagate, max_mm: as `propagate` does.
        start: labels to correct, a file of them, a LabelVolume or masks by name: what is not prompted stays as it is,
        and clicks change what they touch (see `prompts.standing`).
        limits: values, a region and labels that masks keep to (`Limits`), whatever else is asked.
        all_masks: also the three masks of every prompt, from the whole slice, as `alternatives`.
        untested: whether names are answered that were not measured on patients the head never saw; outputs say so.
        keep_probabilities: also what the network gave every prompt in each crop, as `results[n].crops`: 256 KiB a crop.
        progress: called with (slices done, slices in all).
        Raises PromptError for a prompt outside the scan, or an option that cannot apply.
        """
        given = [name for name, on in (("all_masks", all_masks), ("keep_probabilities", keep_probabilities)) if on]
        _check_options(propagate, max_mm, [*given, *(["start"] if start is not None else [])])
        options = dict.fromkeys(given, True)
        scan, listed = as_volume(scan), _listed(prompts, prompt)
        seen: Seen = {"axis": axis, "window": window, "modality": modality}
        named = self._named(scan, listed, untested, progress, seen)
        builder, listed = self._begin(
            scan, named.prompts, {}, axis, window, modality, zoom, tidy, progress, limits, start, options
        )
        if propagate:
            return _told(self._followed(builder, listed, max_mm), named)
        for index, on_slice in builder.slices():
            asked = [prompt for prompt in on_slice if not prompt.untouched]
            found = segment_slice(builder.scan_encoder, index, asked, zoom=zoom, trust=True) if asked else []
            builder.add(index, on_slice, found)
        if zoom == "on" and takes_clicks(self.sam.spec) and not any(map(_has_box, listed)):
            builder.closing_notes.append(_NO_BOX)
        if all_masks and not takes_clicks(self.sam.spec):
            builder.closing_notes.append(f"{self.name} was trained to give one mask: the three may mean little.")
        return _told(builder.finish(), named)

    @through_worker(Priority.PROPAGATE)
    def propagate(
        self,
        scan: Scan,
        prompts: Prompt | Iterable[Prompt] | None = None,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
        max_mm: float = math.inf,
        tidy: Cleanup | None = None,
        limits: Limits | None = None,
        progress: ProgressCallback | None = None,
        **prompt: Unpack[OnePrompt],
    ) -> Segmentation:
        """Follow each label from its prompted slices through the volume, both ways (see `inference.propagate`).

        A label with a box3d stays between its ends. A drawn mask is kept as it is.
        max_mm: how far from a prompted slice at most. progress: slices in all is the most it can be.
        All else is as for `segment`. Raises PromptError also for several objects of one label on a slice, and for
        max_mm on a scan that has no millimetres.
        """
        builder, listed = self._begin(scan, prompts, prompt, axis, window, modality, zoom, tidy, progress, limits)
        return self._followed(builder, listed, max_mm)

    @through_worker(Priority.BATCH)
    def everything(
        self,
        scan: Scan,
        index: int | None = None,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        settings: AutomaticSettings | None = None,
        link_iou_thresh: float = 0.5,
        progress: ProgressCallback | None = None,
    ) -> Everything:
        """All masks of slice `index`, or of all slices and linked into objects, without a prompt.

        scan, axis, window, modality: as for `segment`. settings: of the grid of prompts and the filters; default
        `AutomaticSettings.suited_to` the model. link_iou_thresh: masks of neighbouring slices that overlap by this much
        are one object. progress: called with (prompts done, prompts in all). Raises PromptError for no such slice.
        """
        scan_encoder = self.encoder_for(scan, axis=axis, window=window, modality=modality)
        if scan_encoder.plane.count == 1 and index is None:
            index = 0
        settings = settings or AutomaticSettings.suited_to(self.sam.spec)
        return Everything.of(scan_encoder, index, settings, link_iou_thresh=link_iou_thresh, progress=progress)

    def _named(
        self, scan: Volume, prompts: list[Prompt], untested: bool, progress: ProgressCallback | None, seen: Seen
    ) -> AnsweredNames:
        """Names among prompts answered; where there are none, neither a head is read nor a slice encoded."""
        if all(one.text is None for one in prompts):
            return AnsweredNames(prompts, {}, (), ())
        return answer_names(self.names, self.encoder_for(scan, **seen), prompts, untested=untested, progress=progress)

    def _begin(
        self,
        scan: Scan,
        prompts: Prompt | Iterable[Prompt] | None,
        prompt: OnePrompt,
        axis: Axis | None,
        window: IntensityWindow | str,
        modality: str | None,
        zoom: Zoom,
        tidy: Cleanup | None,
        progress: ProgressCallback | None,
        limits: Limits | None,
        start: Start | None = None,
        options: Mapping[str, bool] | None = None,
    ) -> tuple[SegmentationBuilder, list[Prompt]]:
        """Everything checked that can be before the network runs, and the prompts as a list."""
        scan, listed, cleanup = as_volume(scan), _listed(prompts, prompt), tidy or Cleanup()
        cleanup.check(scan.geometry.calibrated)
        if (options or {}).get("all_masks") and any(one.drawn is not None for one in listed):
            raise PromptError(
                "A drawn mask is the one that there is: leave `all_masks` out.", parameter=("all_masks", "drawn")
            )
        standing = None if start is None else standing_of(start, scan, axis)
        todo = plan(listed, scan.geometry, axis, standing)
        scan_encoder = self.encoder_for(scan, axis=todo.axis, window=window, modality=modality)
        builder = SegmentationBuilder(
            scan_encoder, todo, zoom, cleanup, progress, standing=standing, limits=limits, **(options or {})
        )
        return builder, listed

    def _followed(self, builder: SegmentationBuilder, prompts: Sequence[Prompt], max_mm: float) -> Segmentation:
        """What `propagate` finds."""
        builder.propagate({one.label for one in prompts if one.box3d is not None}, max_mm)
        # clicks become a box for a model that takes no others; a drawn mask is followed as it is
        clicked = not takes_clicks(self.sam.spec) and any(one.points or one.scribbles for one in prompts)
        closer = clicked or any(map(_has_box, prompts))
        if builder.zoom == "on" and not closer:
            builder.closing_notes.append(_NO_BOX)
        plane = builder.scan_encoder.plane
        if plane.count == 1:
            builder.closing_notes.append(
                f"The scan has one slice on axis {plane.axis}, so there is nowhere to propagate to."
            )
        return builder.finish()


def _told(found: Segmentation, named: AnsweredNames) -> Segmentation:
    """What was found, with what is to be said of names."""
    return replace(found, notes=(*found.notes, *named.notes), said=named.said)


def _check_options(propagate: bool, max_mm: float, given: Sequence[str]) -> None:
    """Raise PromptError for options of `segment` that cannot apply together. given: names of those that are on."""
    if propagate and "all_masks" in given:
        raise PromptError(
            "All masks of a prompt are given on its own slice: leave `propagate` out.",
            parameter=("propagate", "all_masks"),
        )
    if propagate and "start" in given:
        raise PromptError(
            "Labels to start from are corrected on the slices that are prompted: leave `propagate` out.",
            parameter=("propagate", "start"),
        )
    if "all_masks" in given and "start" in given:
        raise PromptError(
            "A correction has one mask, that which stands with what was clicked: leave `all_masks` out.",
            parameter=("all_masks", "start"),
        )
    if propagate and "keep_probabilities" in given:
        raise PromptError(
            "Probabilities are kept of each prompt on its own slice: leave `propagate` out.",
            parameter=("propagate", "keep_probabilities"),
        )
    if math.isfinite(max_mm) and not propagate:
        raise PromptError(
            "`max_mm` bounds how far a label is followed: it needs `propagate`.", parameter=("max_mm", "propagate")
        )


def _listed(prompts: Prompt | Iterable[Prompt] | None, one: OnePrompt) -> list[Prompt]:
    """Prompts, or the single one whose fields were given, as a list. Raises PromptError for both, or neither."""
    if not one:
        return as_prompts(prompts)  # type: ignore[arg-type]  # None too is refused there
    if unknown := one.keys() - OnePrompt.__annotations__.keys():
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(unknown))}")
    if prompts is not None:
        raise PromptError("Give prompts, or the fields of a single one, not both.")
    return [Prompt(**one)]


def _has_box(prompt: Prompt) -> bool:
    """Whether a box is given, or follows from what is drawn."""
    drawn = prompt.ellipse is not None or prompt.lasso is not None or bool(prompt.lines)
    return prompt.box is not None or prompt.box3d is not None or drawn
