"""Predictor: from a scan and its prompts to a label map.

Letters: P prompts, h and w of the stored slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import Axis, SlicePlane
from medsam.inference.network import Look, Looker, Network
from medsam.inference.propagate import propagate_all
from medsam.inference.session import Session
from medsam.inference.zoom import Zoom, answer_slice
from medsam.postprocess.clean import HOLE_MM, ISLAND_MM, clean
from medsam.postprocess.merge import merge_by_quality
from medsam.prompts.prompt import Box, Point, Prompt, PromptPlan, SlicePrompt, plan
from medsam.transforms.intensity import IntensityWindow, looks_like_ct
from medsam.volume import LabelVolume, Volume


@dataclass(frozen=True)
class SliceAnswer:
    """What one prompt got, or what it spread to.

    slice: its number. label: id. box, points: as prompted; None and () where the mask came by propagation.
    quality: predicted IoU. pixels: in the mask, before merging. confidence: of a propagated mask, see
    `propagate.Propagation`; None for others. candidates: predicted IoU of the three masks, with `all_masks`.
    """

    slice: int
    label: int
    box: Box | None
    quality: float
    pixels: int
    points: tuple[Point, ...] = ()
    confidence: float | None = None
    candidates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Segmentation:
    """A label map with how it came about.

    seconds: {"embed", "decode"}. notes: what a reader should know before trusting it, e.g. a slice without contrast.
    encoded: images the network has encoded for it. alternatives: with `all_masks`, three label maps, of every prompt's
    best, second and third mask by predicted IoU.
    """

    labels: LabelVolume
    answers: tuple[SliceAnswer, ...]
    plane: SlicePlane
    window: IntensityWindow
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    encoded: int = 0
    alternatives: tuple[LabelVolume, ...] = ()


class Predictor(Network):
    """`Network` for whole scans: label maps on the scan's own grid."""

    def session(
        self,
        scan: Volume,
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
    ) -> Session:
        """The scan set once, for box, click, click, undo."""
        return Session(self.looker(scan, axis=axis, window=window, modality=modality), zoom)

    def segment(
        self,
        scan: Volume,
        prompts: Sequence[Prompt],
        *,
        axis: Axis | None = None,
        window: IntensityWindow | str = "auto",
        modality: str | None = None,
        zoom: Zoom = "auto",
        propagate: bool = False,
        keep_islands: bool = False,
        all_masks: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Segmentation:
        """Answer prompts on a scan with one label map on the scan's own grid.

        Each slice with a prompt is encoded once, and with zoom "auto" each box once more from close by. Masks of one
        label are united; where labels overlap, the mask with the higher predicted IoU keeps the pixel.
        window, modality: see `resolve_window`. zoom: see `zoom.answer_slice`.
        propagate: follow each label from its prompted slices through the volume, both ways (see `propagate`).
        keep_islands: leave out the removal of islands under 3 mm and holes under 5 mm.
        all_masks: also the three masks of an ambiguous prompt, from the whole slice, as `alternatives`.
        progress: called with (slices done, slices in all); with propagate, slices in all is the most it can be.
        Raises PromptError for a prompt outside the scan, or several objects of one label on a slice to propagate.
        """
        if all_masks and propagate:
            raise PromptError("All masks of a prompt are given on its own slice: leave propagation out.")
        todo = plan(prompts, scan.geometry, axis)
        look = self.looker(scan, axis=todo.axis, window=window, modality=modality)
        work = _Work(look, todo, zoom, keep_islands, progress)
        spent, encoded = dict(self.seconds), self.encoded
        if propagate:
            work.propagate()
        else:
            work.answer(all_masks)
        notes = list(work.notes)
        if window == "auto" and not (modality or scan.modality) and looks_like_ct(scan):
            notes.append(
                f"The scan does not say its modality; its values look like CT, so the window is {look.window.name}."
            )
        if look.flat:
            flat = sorted(look.flat)
            notes.append(
                f"No contrast in the window {look.window.name} on slice{'s' if len(flat) > 1 else ''} "
                f"{', '.join(map(str, flat[:8]))}{' ...' if len(flat) > 8 else ''}: masks there mean nothing."
            )
        return Segmentation(
            labels=LabelVolume(work.labels, scan.geometry, todo.names),
            answers=tuple(work.answers),
            plane=look.plane,
            window=look.window,
            seconds={name: self.seconds[name] - spent[name] for name in spent},
            notes=tuple(notes),
            encoded=self.encoded - encoded,
            alternatives=tuple(LabelVolume(each, scan.geometry, todo.names) for each in work.alternatives),
        )


class _Work:
    """What `Predictor.segment` fills in: labels (K, J, I), answers, alternatives, notes."""

    def __init__(
        self,
        look: Looker,
        todo: PromptPlan,
        zoom: Zoom,
        keep_islands: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.look, self.todo, self.zoom, self.keep_islands, self.progress = look, todo, zoom, keep_islands, progress
        self.labels = np.zeros(look.scan.geometry.shape, dtype=np.uint16)
        self.answers: list[SliceAnswer] = []
        self.alternatives: list[np.ndarray] = []
        self.notes: list[str] = []

    def answer(self, all_masks: bool) -> None:
        """Every prompted slice for itself."""
        if all_masks:
            self.alternatives = [np.zeros_like(self.labels) for _ in range(3)]
        total = len(self.todo.slices)
        for done, (index, prompts) in enumerate(self.todo.slices.items()):
            self._tell(done, total)
            found = answer_slice(self.look, index, prompts, zoom=self.zoom)
            masks = np.stack([self._cleaned(each.mask, self.look.plane.spacing_mm) for each in found])
            self._merge(self.labels, index, masks, np.array([each.quality for each in found]), prompts)
            three = self._three(index, prompts) if all_masks else [()] * len(prompts)
            self.answers += [
                SliceAnswer(
                    index, prompt.label, prompt.box, each.quality, int(np.count_nonzero(mask)), prompt.points,
                    candidates=candidates,
                )
                for prompt, each, mask, candidates in zip(prompts, found, masks, three, strict=True)
            ]  # fmt: skip
        self._tell(total, total)

    def _three(self, index: int, prompts: Sequence[SlicePrompt]) -> list[tuple[float, ...]]:
        """Fill the alternatives of a slice; predicted IoU of every prompt's three masks, best first."""
        found = self.look.network.ask(self.look.many([Look(index)])[0], prompts, multimask=True)
        order = np.argsort(-found.quality, axis=1, kind="stable")
        quality = np.take_along_axis(found.quality, order, axis=1)
        for rank, labels in enumerate(self.alternatives):
            masks = found.masks[np.arange(len(prompts)), order[:, rank]]
            self._merge(labels, index, masks, quality[:, rank], prompts)
        return [tuple(row) for row in quality.tolist()]

    def propagate(self) -> None:
        """Every label through the volume."""
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
        plane, geometry = self.look.plane, self.look.scan.geometry
        spread = propagate_all(self.look, seeds, zoom=self.zoom, progress=self.progress)
        best = np.full(geometry.shape, -np.inf, np.float32)
        for label, found in spread.items():
            solid = np.zeros(geometry.shape, bool)
            quality = np.zeros(plane.count, np.float32)
            for index, mask in found.masks.items():
                plane.take(solid, index)[...] = mask
                quality[index] = found.quality[index]
            solid = self._cleaned(solid, geometry.spacing_mm)
            shape = [1, 1, 1]
            shape[plane.array_axis] = plane.count
            wins = solid & (quality.reshape(shape) > best)
            best = np.where(wins, quality.reshape(shape), best)
            self.labels[wins] = label
            for index in sorted(found.masks):
                seed = seeds[label].get(index)
                self.answers.append(
                    SliceAnswer(
                        index,
                        label,
                        seed.box if seed else None,
                        found.quality[index],
                        int(np.count_nonzero(plane.take(solid, index))),
                        seed.points if seed else (),
                        found.confidence[index],
                    )
                )
        self.answers.sort(key=lambda answer: (answer.slice, answer.label))

    def _merge(
        self, labels: np.ndarray, index: int, masks: np.ndarray, quality: np.ndarray, prompts: Sequence[SlicePrompt]
    ) -> None:
        ids = np.array([prompt.label for prompt in prompts])
        self.look.plane.take(labels, index)[...] = merge_by_quality(masks, quality, ids)

    def _cleaned(self, mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        if self.keep_islands or not self.look.scan.geometry.calibrated:
            return mask
        return clean(mask, spacing_mm, min_island_mm=ISLAND_MM, fill_mm=HOLE_MM)

    def _tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)
