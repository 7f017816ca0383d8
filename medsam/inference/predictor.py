"""Predictor: from a scan and its prompts to a label map.

Letters: P prompts, h and w of the stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medsam.errors import PromptError, counted
from medsam.geometry import Axis, SlicePlane
from medsam.inference.image_predictor import ImagePredictor, ScanEncoder
from medsam.inference.propagate import PropagateSettings, Propagation, propagate_all
from medsam.inference.segment_slice import SliceResult, Zoom, bounds, segment_slice
from medsam.inference.session import Session
from medsam.inference.usage import Usage
from medsam.io.load import as_volume
from medsam.postprocess.clean import Cleanup
from medsam.postprocess.merge import merge_by_predicted_iou
from medsam.progress import ProgressCallback
from medsam.prompts.plan import PromptPlan, plan
from medsam.prompts.prompt import Box, Point, Prompt, SlicePrompt, as_prompts
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import LabelVolume, Volume


@dataclass(frozen=True)
class PromptResult:
    """What one prompt got, or what it spread to.

    slice: its number. label: id. box, points: as prompted; None and () where the mask came by propagation.
    predicted_iou: nan where a drawn mask was taken as it is, or nothing was found. pixels: in the mask, before
    merging. confidence: of a propagated mask, see `propagate.Propagation`; None for others. candidates: predicted IoU
    of the three masks, with `all_masks`.
    """

    slice: int
    label: int
    box: Box | None
    predicted_iou: float
    pixels: int
    points: tuple[Point, ...] = ()
    confidence: float | None = None
    candidates: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A label map with how it came about.

    seconds: {"prepare", "embed", "decode"}, see `ImagePredictor`. engine, precision: who answered, and in what the
    encoder computed; the same ones give the same masks. notes: what a reader should know before trusting it, e.g. a
    slice without contrast. encoded: images the network has encoded for it. alternatives: with `all_masks`, three label
    maps, of every prompt's best, second and third mask by predicted IoU. stop_reasons: with `propagate`, label id ->
    {slice: why it ended there}.
    """

    labels: LabelVolume
    answers: tuple[PromptResult, ...]
    plane: SlicePlane
    window: IntensityWindow
    seconds: dict[str, float]
    engine: str
    precision: str
    notes: tuple[str, ...] = ()
    encoded: int = 0
    alternatives: tuple[LabelVolume, ...] = ()
    stop_reasons: Mapping[int, Mapping[int, str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = ", ".join(counted(len(some), one) for some, one in ((self.answers, "answer"), (self.notes, "note")))
        return f"Segmentation({self.labels}, {counts})"


class Predictor(ImagePredictor):
    """`ImagePredictor` for whole scans: label maps on the scan's own grid."""

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, device={str(self.device)!r})"

    def session(
        self,
        scan: Volume | str | Path | np.ndarray,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
    ) -> Session:
        """The scan set once, for box, click, click, undo. scan: as for `segment`."""
        return Session(self.encoder_for(scan, axis=axis, window=window, modality=modality), zoom)

    def segment(
        self,
        scan: Volume | str | Path | np.ndarray,
        prompts: Prompt | Iterable[Prompt],
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
        propagate: bool = False,
        max_mm: float = math.inf,
        tidy: Cleanup | None = None,
        all_masks: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Segmentation:
        """Answer prompts on a scan with one label map on the scan's own grid.

        Each slice with a prompt is encoded once, and with zoom "auto" each box once more from close by. Masks of one
        label are united; where labels overlap, the mask with the higher predicted IoU keeps the pixel.
        scan: a Volume, the path of one (`load_volume`), or an array without millimetres (`Volume.from_array`).
        window, modality: see `resolve_window`. zoom: see `segment_slice`.
        propagate: follow each label from its prompted slices through the volume, both ways (see `propagate`), at most
        max_mm; a label with a box3d stays between its ends. What somebody drew as a mask is kept as it is.
        tidy: how masks are cleaned; default: small islands and holes go.
        all_masks: also the three masks of every prompt, from the whole slice, as `alternatives`.
        progress: called with (slices done, slices in all); with propagate, slices in all is the most it can be.
        Raises PromptError for a prompt outside the scan, several objects of one label on a slice to propagate, or an
        option that cannot apply: max_mm without propagate, millimetres on a scan that has none.
        """
        if all_masks and propagate:
            raise PromptError("All masks of a prompt are given on its own slice: leave propagation out.")
        if math.isfinite(max_mm) and not propagate:
            raise PromptError(
                "`max_mm` bounds how far a label is followed: it needs `propagate`.", parameter=("max_mm", "propagate")
            )
        scan, prompts, tidy = as_volume(scan), as_prompts(prompts), tidy or Cleanup()
        tidy.check(scan.geometry.calibrated)
        todo = plan(prompts, scan.geometry, axis)
        scan_encoder = self.encoder_for(scan, axis=todo.axis, window=window, modality=modality)
        work = SegmentationBuilder(scan_encoder, todo, zoom, tidy, progress)
        if propagate:
            bounded = {prompt.label for prompt in prompts if prompt.box3d is not None}
            work.propagate(bounded, max_mm)
        else:
            work.answer(all_masks)
        notes = [
            *scan_encoder.notes,
            *work.notes,
            *([scan_encoder.no_contrast_note(work.no_contrast)] if work.no_contrast else []),
        ]
        if zoom == "on" and not any(self._looks_closer(prompt, propagate) for prompt in prompts):
            notes.append("A closer look is taken at boxes, and there is none: zoom on changes nothing.")
        if all_masks and "points" not in self.sam.spec.prompts:
            notes.append(f"{self.name} was trained to give one mask: the three may mean little.")
        if propagate and scan_encoder.plane.count == 1:
            notes.append(
                f"The scan has one slice on axis {scan_encoder.plane.axis}, so there is nowhere to propagate to."
            )
        return Segmentation(
            labels=LabelVolume(work.labels, scan.geometry, todo.names),
            answers=tuple(work.answers),
            plane=scan_encoder.plane,
            window=scan_encoder.window,
            seconds=work.usage.seconds,
            engine=self.engine.name,
            precision=self.precision,
            notes=tuple(notes),
            encoded=work.usage.encoded,
            alternatives=tuple(LabelVolume(each, scan.geometry, todo.names) for each in work.alternatives),
            stop_reasons=work.stop_reasons,
        )

    def _looks_closer(self, prompt: Prompt, propagate: bool) -> bool:
        """Whether a prompt has a box to be looked at closer, or becomes one for a model that knows nothing else."""
        if prompt.box is not None or prompt.box3d is not None:
            return True
        # a drawn mask is followed as it is
        return "points" not in self.sam.spec.prompts and (bool(prompt.points) or not propagate)


class SegmentationBuilder:
    """What `Predictor.segment` fills in: labels (K, J, I), answers, alternatives, notes."""

    def __init__(
        self,
        scan_encoder: ScanEncoder,
        todo: PromptPlan,
        zoom: Zoom,
        tidy: Cleanup,
        progress: ProgressCallback | None,
    ) -> None:
        self.scan_encoder, self.todo, self.zoom, self.tidy, self.progress = scan_encoder, todo, zoom, tidy, progress
        self.stop_reasons: dict[int, dict[int, str]] = {}
        self.labels = np.zeros(scan_encoder.scan.geometry.shape, dtype=np.uint16)
        self.answers: list[PromptResult] = []
        self.alternatives: list[np.ndarray] = []
        self.notes: list[str] = []
        self.no_contrast: set[int] = set()
        self.usage = Usage()

    def answer(self, all_masks: bool) -> None:
        """Every prompted slice for itself."""
        if all_masks:
            self.alternatives = [np.zeros_like(self.labels) for _ in range(3)]
        total = len(self.todo.slices)
        for done, (index, prompts) in enumerate(self.todo.slices.items()):
            self._tell(done, total)
            found = segment_slice(self.scan_encoder, index, prompts, zoom=self.zoom)
            self._spend(index, [each.usage for each in found], any(each.no_contrast for each in found))
            masks = np.stack([self._cleaned(each.mask, prompt) for each, prompt in zip(found, prompts, strict=True)])
            self._merge(self.labels, index, masks, np.array([each.predicted_iou for each in found]), prompts)
            three = self._three(index, prompts, found) if all_masks else [()] * len(prompts)
            for prompt, mask in zip(prompts, masks, strict=True):
                if not mask.any():
                    self.notes.append(f"Nothing was found for {self.todo.names[prompt.label]!r} on slice {index}.")
            self.answers += [
                PromptResult(
                    index, prompt.label, prompt.box, each.predicted_iou, int(np.count_nonzero(mask)), prompt.points,
                    candidates=candidates,
                )
                for prompt, each, mask, candidates in zip(prompts, found, masks, three, strict=True)
            ]  # fmt: skip
        self._tell(total, total)

    def _three(
        self, index: int, prompts: Sequence[SlicePrompt], answers: Sequence[SliceResult]
    ) -> list[tuple[float, ...]]:
        """Fill the alternatives of a slice; predicted IoU of every prompt's three masks, best first."""
        image_predictor = self.scan_encoder.image_predictor
        if "points" not in image_predictor.sam.spec.prompts:
            # what was clicked has become a box by now
            prompts = [
                replace(prompt, box=answer.box, points=()) for prompt, answer in zip(prompts, answers, strict=True)
            ]
        embedding = self.scan_encoder.encode(index)
        found = image_predictor.predict(embedding, prompts, multimask=True)
        self._spend(index, [embedding.usage, found.usage], embedding.no_contrast)
        order = np.argsort(-found.predicted_iou, axis=1, kind="stable")
        predicted_iou = np.take_along_axis(found.predicted_iou, order, axis=1)
        for rank, labels in enumerate(self.alternatives):
            masks = np.stack(
                # of the whole look alone, so they may leave their box
                [
                    self._cleaned(found.masks[n, order[n, rank]], prompt, bounded=False)
                    for n, prompt in enumerate(prompts)
                ]
            )
            self._merge(labels, index, masks, predicted_iou[:, rank], prompts)
        return [tuple(row) for row in predicted_iou.tolist()]

    def propagate(self, bounded: Set[str], max_mm: float) -> None:
        """Every label through the volume. bounded: names of labels that stay between their outermost prompts."""
        names = self.todo.names
        seeds: dict[int, dict[int, SlicePrompt]] = {}
        for index, prompts in self.todo.slices.items():
            for prompt in prompts:
                mine = seeds.setdefault(prompt.label, {})
                if index in mine:
                    raise PromptError(
                        f"Slice {index} has several objects of the label {names[prompt.label]!r}: each is "
                        "followed through the volume for itself, so give them labels of their own."
                    )
                mine[index] = prompt
        geometry = self.scan_encoder.scan.geometry
        spread = propagate_all(
            self.scan_encoder,
            seeds,
            zoom=self.zoom,
            settings=PropagateSettings(max_mm=max_mm),
            limits={label: (min(mine), max(mine)) for label, mine in seeds.items() if names[label] in bounded},
            progress=self.progress,
        )
        for found in spread.values():
            self.usage += found.usage
            self.no_contrast.update(found.no_contrast)
        best = np.full(geometry.shape, -np.inf, np.float32)
        for label in list(spread):
            found = spread.pop(label)  # masks of one object at a time
            self._paint(label, found, seeds[label], best)
            self.stop_reasons[label] = dict(found.stop_reasons)
            last = self.scan_encoder.plane.count - 1
            # behind the ends of the scan there is no slice to name
            where = [(min(max(index, 0), last), why) for index, why in found.stop_reasons.items() if why != "met"]
            ends = ", ".join(dict.fromkeys(f"{why} at slice {index}" for index, why in where))
            lowest = min(found.confidence, key=lambda index: found.confidence[index], default=None)
            surest = "" if lowest is None else f" Least confidence: {found.confidence[lowest]:.2f} on slice {lowest}."
            slices = counted(len(found.masks), "slice")
            self.notes.append(f"{names[label]}: {slices}; {ends or 'as far as it was told'}.{surest}")
        self.answers.sort(key=lambda answer: (answer.slice, answer.label))

    def _paint(self, label: int, found: Propagation, seeds: Mapping[int, SlicePrompt], best: np.ndarray) -> None:
        """Put one object into the label map where it is better than `best`, the quality of what is there."""
        plane, geometry = self.scan_encoder.plane, self.scan_encoder.scan.geometry
        solid = found.volume(plane, geometry.shape)
        clicks = []
        for index, seed in seeds.items():
            for point in seed.points:
                at: list[float] = [*point]
                at.insert(2 - plane.array_axis, index)
                clicks.append(tuple(at))
        within = np.ones_like(solid)
        for index, seed in seeds.items():
            if (part := bounds(seed, self.zoom, plane)) is not None:
                plane.take(within, index)[...] = part
        solid = self.tidy(solid, geometry.spacing_mm, calibrated=geometry.calibrated, points=clicks, within=within)
        for index in sorted(found.masks.keys() | seeds.keys()):
            asked, predicted_iou = seeds.get(index), found.predicted_iou.get(index, np.nan)
            mask = plane.take(solid, index)
            if index in found.masks:
                if np.isnan(predicted_iou):
                    mask = found.masks[index]  # drawn: not to be tidied away, and better than any answer
                rank = plane.take(best, index)
                wins = mask & ((np.inf if np.isnan(predicted_iou) else predicted_iou) > rank)
                rank[wins] = np.inf if np.isnan(predicted_iou) else predicted_iou
                plane.take(self.labels, index)[wins] = label
            else:
                self.notes.append(f"Nothing was found for {self.todo.names[label]!r} on slice {index}.")
            self.answers.append(
                PromptResult(
                    index,
                    label,
                    asked.box if asked else None,
                    predicted_iou,
                    int(np.count_nonzero(mask)),
                    asked.points if asked else (),
                    found.confidence.get(index),
                )
            )

    def _merge(
        self,
        labels: np.ndarray,
        index: int,
        masks: np.ndarray,
        predicted_iou: np.ndarray,
        prompts: Sequence[SlicePrompt],
    ) -> None:
        ids = np.array([prompt.label for prompt in prompts])
        self.scan_encoder.plane.take(labels, index)[...] = merge_by_predicted_iou(masks, predicted_iou, ids)

    def _cleaned(self, mask: np.ndarray, prompt: SlicePrompt, bounded: bool = True) -> np.ndarray:
        return self.tidy(
            mask,
            self.scan_encoder.plane.spacing_mm,
            calibrated=self.scan_encoder.scan.geometry.calibrated,
            points=prompt.points,
            box=prompt.box,
            within=bounds(prompt, self.zoom, self.scan_encoder.plane) if bounded else None,
        )

    def _spend(self, index: int, usages: Sequence[Usage], no_contrast: bool) -> None:
        self.usage = sum(usages, self.usage)
        if no_contrast:
            self.no_contrast.add(index)

    def _tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)
