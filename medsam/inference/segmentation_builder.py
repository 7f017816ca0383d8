"""From a plan of prompts, and a scan that is ready to be encoded, to a `Segmentation`.

Letters: K, J, I voxels of the scan (slice, row, column); h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from medsam.errors import PromptError, counted
from medsam.inference.clicks import with_clicks
from medsam.inference.combine import bounds, cleaned
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.propagate import PropagateSettings, Propagation, propagate_all
from medsam.inference.segmentation import CropPrediction, PromptResult, Segmentation, algorithm_of
from medsam.inference.slice_request import SliceResult, Zoom
from medsam.inference.trust import unfamiliar_note
from medsam.inference.usage import Usage
from medsam.inference.whole_objects import DRAWN, cleaned_object, packed
from medsam.masks import CompactMask, PackedMasks, shared_pixels
from medsam.models.specs import takes_clicks
from medsam.postprocess.clean import Cleanup
from medsam.postprocess.merge import merge_by_predicted_iou
from medsam.progress import ProgressCallback
from medsam.prompts.limits import Limits, SliceLimits
from medsam.prompts.plan import PromptPlan
from medsam.prompts.prompt import SlicePrompt, pixel_at
from medsam.prompts.standing import Standing
from medsam.transforms.frame import Frame
from medsam.volume import LabelVolume


class SegmentationBuilder:
    """What `Predictor.segment` and `Predictor.propagate` fill in: labels (K, J, I), results, alternatives, notes."""

    def __init__(
        self,
        scan_encoder: ScanEncoder,
        todo: PromptPlan,
        zoom: Zoom,
        cleanup: Cleanup,
        progress: ProgressCallback | None = None,
        *,
        standing: Standing | None = None,
        limits: Limits | None = None,
        all_masks: bool = False,
        keep_probabilities: bool = False,
    ) -> None:
        self.scan_encoder, self.todo, self.zoom = scan_encoder, todo, zoom
        self.cleanup, self.progress, self.keep_probabilities = cleanup, progress, keep_probabilities
        self.stop_reasons: dict[int, dict[int, str]] = {}
        self.labels = np.zeros(scan_encoder.scan.geometry.shape, dtype=np.uint16)
        self.results: list[PromptResult] = []
        self.alternatives = [np.zeros_like(self.labels) for _ in range(3 if all_masks else 0)]
        self.notes: list[str] = []
        self.closing_notes: list[str] = []
        self.usage = Usage()
        # slices that the window left without contrast
        self.no_contrast: set[int] = set()
        self.unfamiliar: set[int] = set()
        self.standing, self.limits = standing, limits or Limits()
        self.kept: dict[int, tuple[int, ...]] = {}
        # prompted slices as they were, and what each label got on them, (label id, slice) -> mask
        self.before: dict[int, np.ndarray] = {}
        self.answers: dict[tuple[int, int], CompactMask] = {}
        if standing is not None:
            self._keep_standing(standing)
        self._check_limits()
        if any(prompt.drawn for here in todo.slices.values() for prompt in here):
            inside = {index: self._drawn_inside(index, here) for index, here in todo.slices.items()}
            self.todo = replace(todo, slices=inside)

    def finish(self) -> Segmentation:
        """What was filled in."""
        scan_encoder, image_predictor = self.scan_encoder, self.scan_encoder.image_predictor
        geometry, names = scan_encoder.scan.geometry, self.todo.names
        no_contrast = [scan_encoder.no_contrast_note(self.no_contrast)] if self.no_contrast else []
        unfamiliar = [unfamiliar_note(self.unfamiliar)] if self.unfamiliar else []
        return Segmentation(
            labels=LabelVolume(self.labels, geometry, names),
            results=tuple(self.results),
            plane=scan_encoder.plane,
            window=scan_encoder.window,
            usage=self.usage,
            engine=image_predictor.engine.name,
            precision=image_predictor.precision,
            notes=(*scan_encoder.notes, *self.notes, *no_contrast, *unfamiliar, *self.closing_notes),
            alternatives=tuple(LabelVolume(one, geometry, names) for one in self.alternatives),
            stop_reasons=self.stop_reasons,
            model=image_predictor.name,
            modality=scan_encoder.scan.modality,
            source=scan_encoder.scan.source,
            series=scan_encoder.scan.uids.get("series"),
            algorithm=algorithm_of(image_predictor),
            kept=self.kept,
            structures=self._structures(),
        )

    def _keep_standing(self, standing: Standing) -> None:
        """Put what stands where nothing is asked of it into the label map, and say of whom nothing stood."""
        plane = self.scan_encoder.plane
        self.notes += standing.notes
        asked = {(index, prompt.label) for index, prompts in self.todo.slices.items() for prompt in prompts}
        self.before = {index: np.zeros(plane.shape, np.uint16) for index in self.todo.slices}
        # of those that overlap a locked one keeps a pixel, else the first, so it comes last
        lowest_first = [*standing.names.items()][::-1]
        for number, name in sorted(lowest_first, key=lambda one: self.limits.locks(one[1])):
            kept = [index for index in standing.masks[name] if (index, number) not in asked]
            self.kept[number] = tuple(sorted(kept))
            for index, mask in standing.masks[name].items():
                for target in (
                    *([plane.take(self.labels, index)] if index in kept else []),
                    *([self.before[index]] if index in self.before else []),
                ):
                    target[mask.to_array()] = number
        new = [repr(name) for number, name in self.todo.names.items() if number not in standing.names]
        if new:
            there = ", ".join(map(repr, standing.names.values()))
            self.notes.append(f"{', '.join(new)} was not there before (there were {there}), and is new.")

    def _structures(self) -> PackedMasks | None:
        """Every label as a mask of its own, where they overlap; else None."""
        masks: dict[int, dict[int, CompactMask]] = {number: {} for number in self.todo.names}
        if self.standing is not None:
            for number, kept in self.kept.items():
                there = self.standing.masks[self.todo.names[number]]
                masks[number] = {index: there[index] for index in kept}
        for (number, index), answer in self.answers.items():
            masks[number][index] = answer
        if not shared_pixels(masks.values()):
            return None
        named = {self.todo.names[number]: by_slice for number, by_slice in masks.items()}
        return packed(named, self.scan_encoder.plane, self.scan_encoder.scan.shape)

    def slices(self) -> Iterator[tuple[int, list[SlicePrompt]]]:
        """Each prompted slice with its prompts, for `add`; progress is reported between them."""
        total = len(self.todo.slices)
        for done, (index, prompts) in enumerate(self.todo.slices.items()):
            self._report(done, total)
            yield index, prompts
        self._report(total, total)

    def add(self, index: int, prompts: Sequence[SlicePrompt], found: Sequence[SliceResult]) -> None:
        """Put the masks of a slice into the label map. found: of all prompts but those that are untouched."""
        results = _complete(prompts, found)
        self._spend(index, [one.usage for one in results], any(one.no_contrast for one in results))
        if any(one.expected_dice is not None and one.expected_dice.unfamiliar for one in results):
            self.unfamiliar.add(index)
        answers = [self._answered(index, one.mask, prompt) for one, prompt in zip(results, prompts, strict=True)]
        masks = np.stack(self._limited(index, answers, prompts))
        for prompt, mask in zip(prompts, masks, strict=True):
            place, compact = (prompt.label, index), CompactMask.of(mask)
            self.answers[place] = compact | self.answers[place] if place in self.answers else compact
        ranks = [_rank(prompt, one) for prompt, one in zip(prompts, results, strict=True)]
        self._merge(self.labels, index, masks, np.array(ranks), prompts)
        candidates = self._ambiguous_masks(index, prompts, results) if self.alternatives else [()] * len(prompts)
        for prompt, one, mask, three in zip(prompts, results, masks, candidates, strict=True):
            if not (mask.any() or prompt.erased):
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
                    crops=self._crop_predictions(one) if self.keep_probabilities else (),
                    expected_dice=one.expected_dice,
                    **_drawn(prompt),
                )
            )

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
        # locked ones first: no other takes their pixels
        for label in sorted(spread, key=lambda label: not self._locks(label)):
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
        if not takes_clicks(image_predictor.sam.spec):
            # what was clicked has become a box by now
            prompts = [
                replace(prompt, box=result.box, points=()) for prompt, result in zip(prompts, results, strict=True)
            ]
        embedding, plane = self.scan_encoder.encode(index), self.scan_encoder.plane
        found = image_predictor.predict(embedding, [with_clicks(one, plane) for one in prompts], multimask=True)
        self._spend(index, [embedding.usage, found.usage], embedding.no_contrast)
        order = np.argsort(-found.predicted_iou, axis=1, kind="stable")
        predicted_iou = np.take_along_axis(found.predicted_iou, order, axis=1)
        for rank, labels in enumerate(self.alternatives):
            # of the whole slice alone, so they may leave their box
            masks = []
            for n, prompt in enumerate(prompts):
                mask = found.masks[n, order[n, rank]]
                inside = mask if prompt.within is None else mask & prompt.within
                masks.append(self._cleaned(inside, prompt, bounded=False))
            masks = self._limited(index, masks, prompts)
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
        solid = cleaned_object(self.scan_encoder, found, seeds, self.zoom, self.cleanup)
        for index in sorted(found.masks.keys() | seeds.keys()):
            seed, predicted_iou = seeds.get(index), found.predicted_iou.get(index, np.nan)
            mask = plane.take(solid, index)
            if index in found.masks:
                drawn = np.isnan(predicted_iou)
                if drawn:
                    mask = found.masks[index]  # not to be cleaned away, and better than any other
                mask = self._slice_limits(index).applied(mask, self.todo.names[label])
                self.answers[label, index] = CompactMask.of(mask)
                rank, here = plane.take(best, index), np.inf if drawn or self._locks(label) else predicted_iou
                wins = mask & (here > rank)
                rank[wins] = here
                plane.take(self.labels, index)[wins] = label
            elif seed is None or not seed.erased:
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
                    **({} if seed is None else _drawn(seed)),
                )
            )

    def _note_reach(self, label: int, found: Propagation) -> None:
        """Say how far an object was followed, and where to look first."""
        last = self.scan_encoder.plane.count - 1
        # behind the ends of the scan there is no slice to name
        where = [(min(max(index, 0), last), why) for index, why in found.stop_reasons.items() if why != "met"]
        ends = ", ".join(dict.fromkeys(f"{why} at slice {index}" for index, why in where))
        first = found.look_first
        look = "" if first is None else f" Look at slice {first} first: confidence {found.confidence[first]:.2f}."
        slices = counted(len(found.masks), "slice")
        self.notes.append(f"{self.todo.names[label]}: {slices}; {ends or 'as far as it was told'}.{look}")

    def _note_nothing(self, label: int, index: int) -> None:
        within = "" if self.limits == Limits() else " within the limits"
        self.notes.append(f"Nothing was found for {self.todo.names[label]!r} on slice {index}{within}.")

    def _merge(
        self,
        labels: np.ndarray,
        index: int,
        masks: np.ndarray,
        predicted_iou: np.ndarray,
        prompts: Sequence[SlicePrompt],
    ) -> None:
        ids = np.array([prompt.label for prompt in prompts])
        here, merged = self.scan_encoder.plane.take(labels, index), merge_by_predicted_iou(masks, predicted_iou, ids)
        drawn = np.any([mask & prompt.untouched for mask, prompt in zip(masks, prompts, strict=True)], axis=0)
        # what stands and was not asked about keeps its pixels, but those that were another's, or are drawn now
        stays = (here > 0) & ((merged == 0) | (merged != self.before.get(index, 0))) & ~drawn
        here[...] = np.where(stays, here, merged)
        if self.standing is not None:
            self._note_clicks_lost(index, prompts, here)

    def _note_clicks_lost(self, index: int, prompts: Sequence[SlicePrompt], here: np.ndarray) -> None:
        """Say which clicks lie in what stands and stays."""
        for prompt in prompts:
            for x, y, inside in prompt.points:
                holder = int(here[pixel_at((x, y), here.shape)])
                if inside and holder not in (0, prompt.label) and index in self.kept.get(holder, ()):
                    name, other = self.todo.names[prompt.label], self.todo.names[holder]
                    self.notes.append(
                        f"The point {x:g},{y:g} for {name!r} on slice {index} lies in {other!r}, which stays as it "
                        f"was: put a point outside for {other!r} there, too."
                    )

    def _locks(self, label: int) -> bool:
        return self.limits.locks(self.todo.names[label])

    def _slice_limits(self, index: int) -> SliceLimits:
        standing = {} if self.standing is None else self.standing.masks
        there = {name: masks[index] for name, masks in standing.items() if index in masks}
        return self.limits.on_slice(self.scan_encoder.scan, self.scan_encoder.plane, index, there)

    def _check_limits(self) -> None:
        """Raise PromptError where something is asked that they forbid; and say what they are."""
        names = self.todo.names
        self.limits.check(self.scan_encoder.scan, names.values())
        for index, prompts in self.todo.slices.items():
            here = self._slice_limits(index)
            for prompt in prompts:
                name = names[prompt.label]
                here.check(prompt, name, stands=self.standing is not None and name in self.standing.masks)
        if self.limits != Limits():
            self.notes.append(f"Masks keep {self.limits}.")

    def _drawn_inside(self, index: int, prompts: Sequence[SlicePrompt]) -> list[SlicePrompt]:
        """A slice's prompts, what is drawn inside the limits: it is that which points correct."""
        here, names = self._slice_limits(index), self.todo.names

        def inside(prompt: SlicePrompt) -> SlicePrompt:
            if prompt.mask is None or not prompt.drawn:
                return prompt
            name = names[prompt.label]
            return replace(prompt, mask=here.applied(prompt.mask, name, self._before(name, index)))

        return [inside(prompt) for prompt in prompts]

    def _before(self, name: str, index: int) -> CompactMask | None:
        return None if self.standing is None else self.standing.at(name, index)

    def _limited(self, index: int, masks: Sequence[np.ndarray], prompts: Sequence[SlicePrompt]) -> list[np.ndarray]:
        """The masks (h, w) of a slice's prompts inside the limits."""
        here, names = self._slice_limits(index), self.todo.names
        found = []
        for mask, prompt in zip(masks, prompts, strict=True):
            name = names[prompt.label]
            found.append(here.applied(mask, name, self._before(name, index), prompt))
        # two of them that overlap keep to the rule of all others
        locks = [self._locks(prompt.label) for prompt in prompts]
        taken = np.any([mask for mask, on in zip(found, locks, strict=True) if on], axis=0)
        return [mask if on else mask & ~taken for mask, on in zip(found, locks, strict=True)]

    def _answered(self, index: int, mask: np.ndarray, prompt: SlicePrompt) -> np.ndarray:
        """The mask cleaned; one that stands is not ours to clean, and only corrected."""
        if prompt.standing and prompt.mask is not None:
            if prompt.corrected and np.array_equal(mask, prompt.mask):
                what = "points" if prompt.points else "scribbles"
                self.notes.append(
                    f"The {what} for {self.todo.names[prompt.label]!r} on slice {index} changed nothing: they agree "
                    "with what is there. Put them where it is wrong, or draw a box."
                )
            return mask
        return self._cleaned(mask, prompt)

    def _cleaned(self, mask: np.ndarray, prompt: SlicePrompt, bounded: bool = True) -> np.ndarray:
        inside = bounds(prompt, self.zoom, self.scan_encoder.plane) if bounded else prompt.within
        return cleaned(mask, prompt, inside, self.scan_encoder, self.cleanup)

    def _spend(self, index: int, usages: Sequence[Usage], no_contrast: bool) -> None:
        self.usage = sum(usages, self.usage)
        if no_contrast:
            self.no_contrast.add(index)

    def _report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


def _complete(prompts: Sequence[SlicePrompt], found: Sequence[SliceResult]) -> list[SliceResult]:
    """Results of all prompts, those that are untouched among them. found: of the others."""
    waiting, results = iter(found), []
    for prompt in prompts:
        drawn = prompt.mask if prompt.untouched else None
        results.append(next(waiting) if drawn is None else SliceResult.of_mask(drawn, math.nan))
    return results


def _rank(prompt: SlicePrompt, result: SliceResult) -> float:
    """By which a mask keeps its pixels."""
    return DRAWN if prompt.untouched else result.predicted_iou


def _drawn(prompt: SlicePrompt) -> dict[str, Any]:
    """What was drawn by hand, as fields of a result."""
    return {name: getattr(prompt, name) for name in ("scribbles", "lines", "lasso", "ellipse")}
