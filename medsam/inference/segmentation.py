"""A segmentation: a label map, how each prompt fared, and how it came about; into JSON and back.

`SegmentationBuilder` fills one in, from a plan of prompts and a scan that is ready to be encoded.
Letters: P prompts, h and w of the stored slice, s the side of the network's logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsam.errors import InputError, PromptError, counted
from medsam.geometry import SlicePlane, VolumeGeometry
from medsam.inference.documents import headed, reading
from medsam.inference.image_predictor import Crop, ScanEncoder
from medsam.inference.propagate import PropagateSettings, Propagation, propagate_all
from medsam.inference.segment_slice import SliceResult, Zoom, bounds, segment_slice
from medsam.inference.usage import Usage
from medsam.io.save import save_labels
from medsam.masks import RLE
from medsam.postprocess.clean import Cleanup
from medsam.postprocess.merge import merge_by_predicted_iou
from medsam.progress import ProgressCallback
from medsam.prompts.plan import PromptPlan
from medsam.prompts.prompt import Box, Point, SlicePrompt
from medsam.transforms.frame import Frame
from medsam.transforms.intensity import IntensityWindow
from medsam.volume import LabelVolume

KIND, VERSION = "medsam segmentation", 1


@dataclass(frozen=True, eq=False, repr=False)
class CropPrediction:
    """What the network alone said of a prompt in one crop: without priors, bounds and cleaning.

    crop: the part of the slice. logits: (s, s) float32, log-odds of being inside. frame: the way back to the slice.
    """

    crop: Crop
    logits: np.ndarray
    frame: Frame

    def __repr__(self) -> str:
        return f"CropPrediction({self.crop})"

    @property
    def probabilities(self) -> np.ndarray:
        """Of each pixel of the stored slice: (h, w) float32 in [0, 1]; nan outside the crop."""
        logits = self.frame.restore(torch.from_numpy(self.logits)[None])[0]
        return torch.where(logits.isfinite(), logits.sigmoid(), torch.nan).numpy()


@dataclass(frozen=True)
class PromptResult:
    """What one prompt got, or what it spread to.

    slice: its number. label: id. box, points: as prompted; None and () where the mask came by propagation.
    predicted_iou: nan where a drawn mask was taken as it is, or nothing was found. pixels: in the mask, before merging.
    confidence: of a propagated mask, see `propagate.propagate`; None for others. candidates: predicted IoU of the three
    masks, with `all_masks`. crops: with `keep_probabilities`, what the network said in each crop.
    """

    slice: int
    label: int
    box: Box | None
    predicted_iou: float
    pixels: int
    points: tuple[Point, ...] = ()
    confidence: float | None = None
    candidates: tuple[float, ...] = ()
    crops: tuple[CropPrediction, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A label map with how it came about.

    usage: what was run for it. engine, precision: who computed, and in what the encoder did; the same ones give the
    same masks. notes: what a reader should know before trusting it, e.g. a slice without contrast. alternatives: with
    `all_masks`, three label maps, of every prompt's best, second and third mask by predicted IoU. stop_reasons: with
    `propagate`, label id -> {slice: why it ended there}. model: its name. modality, source: of the scan.
    """

    labels: LabelVolume
    results: tuple[PromptResult, ...]
    plane: SlicePlane
    window: IntensityWindow
    usage: Usage
    engine: str
    precision: str
    notes: tuple[str, ...] = ()
    alternatives: tuple[LabelVolume, ...] = ()
    stop_reasons: Mapping[int, Mapping[int, str]] = field(default_factory=dict)
    model: str = ""
    modality: str | None = None
    source: Path | None = None

    def __repr__(self) -> str:
        counts = ", ".join(counted(len(some), one) for some, one in ((self.results, "result"), (self.notes, "note")))
        return f"Segmentation({self.labels}, {counts})"

    @property
    def seconds(self) -> dict[str, float]:
        """{"prepare", "embed", "decode"}, see `Usage`."""
        return self.usage.seconds

    @property
    def encoded(self) -> int:
        """Images that the network has encoded for it."""
        return self.usage.encoded

    def save(self, path: str | Path) -> Path:
        """Write the label map, in the format that the name asks for (`save_labels`). Returns the path written."""
        source = self.source if self.source is not None and self.source.is_file() else None
        return save_labels(self.labels, path, source)

    def to_dict(self, masks: bool = True) -> dict[str, Any]:
        """All of it as JSON, but for `source` and `crops`: what `medsam segment --json` prints, with the masks.

        masks: False leaves out the label maps, which `from_dict` then needs beside it.
        A predicted IoU is null where nothing was found or a drawn mask was taken as it is; millilitres are null
        for a picture, which has no millimetres. Masks: {"label": id, "slice", "size", "counts"}, COCO's RLE of slices
        across `axis`.
        """
        geometry, names = self.labels.geometry, self.labels.names
        counts = np.bincount(self.labels.array.ravel(), minlength=max(names, default=0) + 1)
        content: dict[str, Any] = {
            "model": self.model,
            "engine": self.engine,
            "precision": self.precision,
            "scan": {
                "shape": list(geometry.shape[::-1]),
                "spacing_mm": list(geometry.spacing_mm[::-1]) if geometry.calibrated else None,
                "orientation": geometry.axcodes,
                "modality": self.modality,
            },
            "axis": self.plane.axis,
            "window": self.window.to_dict(),
            "labels": [self._label_to_dict(number, int(counts[number])) for number in names],
            "prompts": [_result_to_dict(one, names[one.label]) for one in self.results],
            "notes": list(self.notes),
            "encoder_calls": self.usage.encoded,
            "decoded": self.usage.decoded,
            "seconds": self.usage.seconds,
        }
        if masks:
            content |= {
                "geometry": geometry.to_dict(),
                "masks": list(_masks_to_dicts(self.labels, self.plane)),
                "alternative_masks": [list(_masks_to_dicts(one, self.plane)) for one in self.alternatives],
            }
        return headed(KIND, VERSION, content)

    @classmethod
    def from_dict(cls, document: Any, labels: LabelVolume | None = None) -> Segmentation:
        """The other way. labels: the label map, where the document was made without masks.

        Raises InputError for a document of another kind or version, a damaged one, or one without masks and labels.
        """
        with reading(document, KIND, VERSION) as found:
            names = {int(one["id"]): str(one["name"]) for one in found["labels"]}
            if labels is None and "masks" not in found:
                raise InputError(f"This {KIND} was made without masks: give its label map as well.")
            geometry = VolumeGeometry.from_dict(found["geometry"]) if labels is None else labels.geometry
            plane = geometry.plane(found["axis"])
            if labels is None:
                labels = LabelVolume(_masks_from_dicts(found["masks"], geometry, plane), geometry, names)
            alternatives = [_masks_from_dicts(some, geometry, plane) for some in found.get("alternative_masks", ())]
            ids = {name: number for number, name in names.items()}
            return cls(
                labels=labels,
                results=tuple(_result_from_dict(one, ids) for one in found["prompts"]),
                plane=plane,
                window=IntensityWindow.from_dict(found["window"]),
                usage=Usage.from_report(found["encoder_calls"], found["decoded"], found["seconds"]),
                engine=str(found["engine"]),
                precision=str(found["precision"]),
                notes=tuple(map(str, found["notes"])),
                alternatives=tuple(LabelVolume(array, geometry, names) for array in alternatives),
                stop_reasons={
                    int(one["id"]): {int(index): str(why) for index, why in one["stopped"].items()}
                    for one in found["labels"]
                    if "stopped" in one
                },
                model=str(found["model"]),
                modality=found["scan"]["modality"],
            )

    def _label_to_dict(self, number: int, voxels: int) -> dict[str, Any]:
        geometry, results = self.labels.geometry, [one for one in self.results if one.label == number]
        stopped = {str(index): why for index, why in self.stop_reasons.get(number, {}).items()}
        return {
            "id": number,
            "name": self.labels.names[number],
            "voxels": voxels,
            "ml": voxels * geometry.voxel_ml if geometry.calibrated else None,
            "slices": sorted({one.slice for one in results if one.pixels}),
            "predicted_iou": _mean([one.predicted_iou for one in results]),
            **({"stopped": stopped} if stopped else {}),
        }


def _mean(values: Sequence[float]) -> float | None:
    """Of the numbers among them; None where there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else None


def _result_to_dict(result: PromptResult, name: str) -> dict[str, Any]:
    return {
        "label": name,
        "slice": result.slice,
        "box": None if result.box is None else list(result.box),
        "points": [list(point) for point in result.points],
        "predicted_iou": _mean([result.predicted_iou]),
        "pixels_before_merging": result.pixels,
        **({} if result.confidence is None else {"confidence": result.confidence}),
        **({"candidates": list(result.candidates)} if result.candidates else {}),
    }


def _result_from_dict(document: Mapping[str, Any], ids: Mapping[str, int]) -> PromptResult:
    box, predicted_iou = document["box"], document["predicted_iou"]
    x0, y0, x1, y1 = (0.0, 0.0, 0.0, 0.0) if box is None else map(float, box)
    return PromptResult(
        slice=int(document["slice"]),
        label=ids[document["label"]],
        box=None if box is None else (x0, y0, x1, y1),
        predicted_iou=math.nan if predicted_iou is None else float(predicted_iou),
        pixels=int(document["pixels_before_merging"]),
        points=tuple((float(x), float(y), int(inside)) for x, y, inside in document["points"]),
        confidence=None if document.get("confidence") is None else float(document["confidence"]),
        candidates=tuple(map(float, document.get("candidates", ()))),
    )


def _masks_to_dicts(labels: LabelVolume, plane: SlicePlane) -> Iterator[dict[str, Any]]:
    """The label map as one mask a label and slice."""
    for index in range(plane.count):
        on_slice = plane.take(labels.array, index)
        for number in np.unique(on_slice[on_slice > 0]).tolist():
            yield {"label": number, "slice": index, **RLE.of(on_slice == number).to_dict()}


def _masks_from_dicts(documents: Any, geometry: VolumeGeometry, plane: SlicePlane) -> np.ndarray:
    """The label map (K, J, I), uint16."""
    array = np.zeros(geometry.shape, dtype=np.uint16)
    for one in documents:
        mask, index = RLE.from_dict(one).to_array(), int(one["slice"])
        if mask.shape != plane.shape or not 0 <= index < plane.count:
            raise InputError(f"A mask of {mask.shape} pixels on slice {index} does not fit the scan.")
        plane.take(array, index)[mask] = one["label"]
    return array


# -- how one is made ----------------------------------------------------------------------------------------------


class SegmentationBuilder:
    """What `Predictor.segment` and `Predictor.propagate` fill in: labels (K, J, I), results, alternatives, notes."""

    def __init__(
        self,
        scan_encoder: ScanEncoder,
        todo: PromptPlan,
        zoom: Zoom,
        cleanup: Cleanup,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.scan_encoder, self.todo, self.zoom = scan_encoder, todo, zoom
        self.cleanup, self.progress = cleanup, progress
        self.stop_reasons: dict[int, dict[int, str]] = {}
        self.labels = np.zeros(scan_encoder.scan.geometry.shape, dtype=np.uint16)
        self.results: list[PromptResult] = []
        self.alternatives: list[np.ndarray] = []
        self.notes: list[str] = []
        self.closing_notes: list[str] = []
        self.usage = Usage()
        # slices that the window left without contrast
        self.no_contrast: set[int] = set()

    def finish(self) -> Segmentation:
        """What was filled in."""
        scan_encoder, image_predictor = self.scan_encoder, self.scan_encoder.image_predictor
        geometry, names = scan_encoder.scan.geometry, self.todo.names
        no_contrast = [scan_encoder.no_contrast_note(self.no_contrast)] if self.no_contrast else []
        return Segmentation(
            labels=LabelVolume(self.labels, geometry, names),
            results=tuple(self.results),
            plane=scan_encoder.plane,
            window=scan_encoder.window,
            usage=self.usage,
            engine=image_predictor.engine.name,
            precision=image_predictor.precision,
            notes=(*scan_encoder.notes, *self.notes, *no_contrast, *self.closing_notes),
            alternatives=tuple(LabelVolume(one, geometry, names) for one in self.alternatives),
            stop_reasons=self.stop_reasons,
            model=image_predictor.name,
            modality=scan_encoder.scan.modality,
            source=scan_encoder.scan.source,
        )

    def segment(self, *, all_masks: bool, keep_probabilities: bool) -> None:
        """Every prompted slice for itself."""
        if all_masks:
            self.alternatives = [np.zeros_like(self.labels) for _ in range(3)]
        total = len(self.todo.slices)
        for done, (index, prompts) in enumerate(self.todo.slices.items()):
            self._report(done, total)
            found = segment_slice(self.scan_encoder, index, prompts, zoom=self.zoom)
            self._spend(index, [one.usage for one in found], any(one.no_contrast for one in found))
            masks = np.stack([self._cleaned(one.mask, prompt) for one, prompt in zip(found, prompts, strict=True)])
            self._merge(self.labels, index, masks, np.array([one.predicted_iou for one in found]), prompts)
            candidates = self._ambiguous_masks(index, prompts, found) if all_masks else [()] * len(prompts)
            for prompt, one, mask, three in zip(prompts, found, masks, candidates, strict=True):
                if not mask.any():
                    self._note_nothing(prompt.label, index)
                self.results.append(
                    PromptResult(
                        index,
                        prompt.label,
                        prompt.box,
                        one.predicted_iou,
                        int(np.count_nonzero(mask)),
                        prompt.points,
                        candidates=three,
                        crops=self._crop_predictions(one) if keep_probabilities else (),
                    )
                )
        self._report(total, total)

    def propagate(self, bounded: Set[str], max_mm: float) -> None:
        """Every label through the volume. bounded: names of labels that stay between their outermost prompts."""
        seeds = self._seeds()
        geometry, names = self.scan_encoder.scan.geometry, self.todo.names
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
            self._merge_object(label, found, seeds[label], best)
            self.stop_reasons[label] = dict(found.stop_reasons)
            self._note_reach(label, found)
        self.results.sort(key=lambda result: (result.slice, result.label))

    def _seeds(self) -> dict[int, dict[int, SlicePrompt]]:
        """Label id -> {slice number: its prompt}. Raises PromptError for several objects of a label on a slice."""
        seeds: dict[int, dict[int, SlicePrompt]] = {}
        for index, prompts in self.todo.slices.items():
            for prompt in prompts:
                mine = seeds.setdefault(prompt.label, {})
                if index in mine:
                    raise PromptError(
                        f"Slice {index} has several objects of the label {self.todo.names[prompt.label]!r}: each is "
                        "followed through the volume for itself, so give them labels of their own."
                    )
                mine[index] = prompt
        return seeds

    def _ambiguous_masks(
        self, index: int, prompts: Sequence[SlicePrompt], results: Sequence[SliceResult]
    ) -> list[tuple[float, ...]]:
        """Fill the alternatives of a slice; predicted IoU of every prompt's three masks, best first."""
        image_predictor = self.scan_encoder.image_predictor
        if "points" not in image_predictor.sam.spec.prompts:
            # what was clicked has become a box by now
            prompts = [
                replace(prompt, box=result.box, points=()) for prompt, result in zip(prompts, results, strict=True)
            ]
        embedding = self.scan_encoder.encode(index)
        found = image_predictor.predict(embedding, prompts, multimask=True)
        self._spend(index, [embedding.usage, found.usage], embedding.no_contrast)
        order = np.argsort(-found.predicted_iou, axis=1, kind="stable")
        predicted_iou = np.take_along_axis(found.predicted_iou, order, axis=1)
        for rank, labels in enumerate(self.alternatives):
            # of the whole slice alone, so they may leave their box
            masks = [
                self._cleaned(found.masks[n, order[n, rank]], prompt, bounded=False) for n, prompt in enumerate(prompts)
            ]
            self._merge(labels, index, np.stack(masks), predicted_iou[:, rank], prompts)
        return [tuple(row) for row in predicted_iou.tolist()]

    def _crop_predictions(self, result: SliceResult) -> tuple[CropPrediction, ...]:
        plane, preprocess = self.scan_encoder.plane, self.scan_encoder.image_predictor.sam.spec.preprocess
        return tuple(
            CropPrediction(crop, logits.numpy().copy(), Frame.of(plane, preprocess, crop.region))
            for crop, logits in zip(result.crops, result.low_res_logits, strict=True)
        )

    def _merge_object(self, label: int, found: Propagation, seeds: Mapping[int, SlicePrompt], best: np.ndarray) -> None:
        """Put one object into the label map where it is better than `best`, the predicted IoU of what is there."""
        plane = self.scan_encoder.plane
        solid = self._cleaned_object(found, seeds)
        for index in sorted(found.masks.keys() | seeds.keys()):
            seed, predicted_iou = seeds.get(index), found.predicted_iou.get(index, np.nan)
            mask = plane.take(solid, index)
            if index in found.masks:
                drawn = np.isnan(predicted_iou)
                if drawn:
                    mask = found.masks[index]  # not to be cleaned away, and better than any other
                rank = plane.take(best, index)
                wins = mask & ((np.inf if drawn else predicted_iou) > rank)
                rank[wins] = np.inf if drawn else predicted_iou
                plane.take(self.labels, index)[wins] = label
            else:
                self._note_nothing(label, index)
            self.results.append(
                PromptResult(
                    index,
                    label,
                    seed.box if seed else None,
                    predicted_iou,
                    int(np.count_nonzero(mask)),
                    seed.points if seed else (),
                    found.confidence.get(index),
                )
            )

    def _cleaned_object(self, found: Propagation, seeds: Mapping[int, SlicePrompt]) -> np.ndarray:
        """An object through the volume, bool (K, J, I), cleaned in three dimensions."""
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
        return self.cleanup(solid, geometry.spacing_mm, calibrated=geometry.calibrated, points=clicks, within=within)

    def _note_reach(self, label: int, found: Propagation) -> None:
        """Say how far an object was followed, and where least surely."""
        last = self.scan_encoder.plane.count - 1
        # behind the ends of the scan there is no slice to name
        where = [(min(max(index, 0), last), why) for index, why in found.stop_reasons.items() if why != "met"]
        ends = ", ".join(dict.fromkeys(f"{why} at slice {index}" for index, why in where))
        lowest = min(found.confidence, key=lambda index: found.confidence[index], default=None)
        surest = "" if lowest is None else f" Least confidence: {found.confidence[lowest]:.2f} on slice {lowest}."
        slices = counted(len(found.masks), "slice")
        self.notes.append(f"{self.todo.names[label]}: {slices}; {ends or 'as far as it was told'}.{surest}")

    def _note_nothing(self, label: int, index: int) -> None:
        self.notes.append(f"Nothing was found for {self.todo.names[label]!r} on slice {index}.")

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
        return self.cleanup(
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

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)
