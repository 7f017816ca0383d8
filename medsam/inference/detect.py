"""Structures found without a prompt: a detector on every slice, boxes linked into objects.

Letters: h, w rows and columns of a stored slice. Boxes are half-open (x0, y0, x1, y1) in stored pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from medsam.errors import PromptError, listed
from medsam.geometry import SlicePlane
from medsam.inference.image_predictor import Embedding, ScanEncoder
from medsam.inference.tracked_boxes import BoxTrack, best_path, clipped, tracked
from medsam.inference.usage import Usage
from medsam.io.structure_names import plain_name
from medsam.models.detector import Detector, decode, detector_of
from medsam.models.heads import Head
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Box

# A slice of an object is kept from this share of the score that its structure needs to be believed.
_GOES_ON = 0.5
# of a structure whose head states none
_THRESHOLD = 0.3


@dataclass(frozen=True)
class FoundObject:
    """One object. boxes, scores: by slice. confidence: [0, 1], see `BoxTrack.confidence`."""

    name: str
    boxes: Mapping[int, Box]
    scores: Mapping[int, float]
    confidence: float

    @property
    def slices(self) -> list[int]:
        return sorted(self.boxes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. box: round all of it, on its slices."""
        corners = np.array(list(self.boxes.values()))
        return {
            "name": self.name,
            "confidence": round(self.confidence, 4),
            "slices": self.slices,
            "box": [*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist()],
        }


@dataclass(frozen=True)
class Detections:
    """What a head found. objects: surest first. asked: the structures that were looked for.

    missing: of those without an object the highest confidence that something had, below what is believed.
    untested: of those that were asked the ones of which nothing was measured. head: its name. usage: of embeddings.
    presence: structure -> how likely it is on each slice, nan for one without contrast.
    """

    objects: tuple[FoundObject, ...]
    asked: tuple[str, ...]
    missing: Mapping[str, float]
    untested: tuple[str, ...]
    head: str
    usage: Usage = field(default_factory=Usage)
    presence: Mapping[str, list[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the key "auto" of `medsam segment --auto --json`."""
        return {
            "head": self.head,
            "found": [one.to_dict() for one in self.objects],
            "not_found": [{"name": name, "confidence": round(score, 4)} for name, score in self.missing.items()],
            "untested": list(self.untested),
        }

    def notes(self) -> list[str]:
        """What the user should know."""
        said = [f"Not found: {name} (best confidence {score:.2f})." for name, score in self.missing.items()]
        if self.untested:
            said.append(
                f"UNTESTED: nothing was measured of {listed(self.untested)} on patients that the head {self.head!r} "
                "never saw. Trust no outline of them unseen."
            )
        return said


def asked_classes(head: Head, names: Sequence[str] | None, untested: bool) -> list[int]:
    """Which outputs of a head are wanted; names match but for case, spaces, "-" and "_".

    names: None for all that may be offered. untested: offer also what was not measured on unseen patients.
    Raises PromptError for a name that the head does not know, and for what is untested without that word.
    """
    card = head.card
    theirs = {plain_name(name): number for number, name in enumerate(card.classes)}
    if names is None:
        numbers = [n for n, name in enumerate(card.classes) if untested or name not in card.untested]
        if not numbers:
            raise PromptError(
                f"Nothing of what the head {card.name!r} knows ({listed(card.classes)}) was measured on patients it "
                "never saw. Look for it all the same with `untested`, and look at what comes out.",
                parameter="untested",
            )
        return numbers
    unknown = [name for name in names if plain_name(name) not in theirs]
    if unknown:
        raise PromptError(f"The head {card.name!r} knows no {listed(unknown)}; it knows {listed(card.classes)}.")
    numbers = list(dict.fromkeys(theirs[plain_name(name)] for name in names))
    refused = [card.classes[n] for n in numbers if card.classes[n] in card.untested and not untested]
    if refused:
        raise PromptError(
            f"{listed(refused)} of the head {card.name!r} was never measured on patients it had not seen. Look for it "
            "all the same with `untested`, and look at what comes out.",
            parameter="untested",
        )
    return numbers


def detect(
    scan_encoder: ScanEncoder,
    head: Head,
    names: Sequence[str] | None = None,
    *,
    untested: bool = False,
    least: float | None = None,
    every: int = 1,
    progress: ProgressCallback | None = None,
) -> Detections:
    """Look for a head's structures on every slice of a scan.

    names, untested: see `asked_classes`. least: believe all from this confidence on, and any number of a structure: for
    those who measure; None takes the head's own thresholds. every: look at every so many slices alone, as if there were
    no others. progress: called with (slices done, slices).
    Raises PromptError as `asked_classes` does, CheckpointError for a damaged head.
    """
    search = Search(scan_encoder, head, names, untested=untested, least=least, every=every)
    for place, index in enumerate(search.slices):
        if progress is not None:
            progress(place, len(search.slices))
        search.add(index, scan_encoder.encode(index))
    if progress is not None:
        progress(len(search.slices), len(search.slices))
    return search.finish()


class Search:
    """`detect`, slice by slice: whoever encodes them adds each of `slices`. Arguments and errors as of `detect`."""

    def __init__(
        self,
        scan_encoder: ScanEncoder,
        head: Head,
        names: Sequence[str] | None = None,
        *,
        untested: bool = False,
        least: float | None = None,
        every: int = 1,
    ) -> None:
        self._numbers = asked_classes(head, names, untested)
        card = head.card
        network = detector_of(head).to(scan_encoder.image_predictor.device)
        size, plane = scan_encoder.image_predictor.sam.spec.image_size, scan_encoder.plane
        self._thresholds = {
            n: card.thresholds.get(card.classes[n], _THRESHOLD) if least is None else least for n in self._numbers
        }
        self.slices = range(0, plane.count, every)
        self._card, self._detector = card, SliceDetector(network, self._thresholds, size, plane)
        self._single = bool(card.recipe.get("single", True)) and least is None

    def add(self, index: int, embedding: Embedding) -> None:
        """Look at slice `index`. embedding: of the whole of it."""
        self._detector.add(self.slices.index(index), index, embedding)

    def finish(self) -> Detections:
        """The objects, once all slices were added."""
        card, seen = self._card, self._detector.seen
        objects: list[FoundObject] = []
        missing: dict[str, float] = {}
        for n in self._numbers:
            name = card.classes[n]
            if self._single:
                path = best_path(seen.boxes[n], _GOES_ON * self._thresholds[n])
                tracks = [] if path is None else [path]
            else:
                tracks = tracked(seen.boxes[n])
            ranked = sorted((_object(name, one, self.slices) for one in tracks), key=_surest)
            believed = [one for one in ranked if one.confidence >= self._thresholds[n]]
            objects += believed
            if not believed:
                missing[name] = ranked[0].confidence if ranked else 0.0
        asked = tuple(card.classes[n] for n in self._numbers)
        return Detections(
            tuple(sorted(objects, key=_surest)),
            asked,
            missing,
            tuple(name for name in asked if name in card.untested),
            card.name,
            seen.usage,
            {card.classes[n]: seen.presence[n] for n in self._numbers},
        )


@dataclass
class Seen:
    """What the network said of all slices. boxes: class -> slice -> boxes with scores. presence: class -> slices."""

    boxes: dict[int, dict[int, list[tuple[Box, float]]]]
    presence: dict[int, list[float]]
    usage: Usage = field(default_factory=Usage)


class SliceDetector:
    """What a network says of one slice after another: boxes on the stored slices, clipped to them.

    thresholds: class -> the score from which an object is believed; its slices may have less. size: of its input.
    """

    def __init__(self, network: Detector, thresholds: Mapping[int, float], size: int, plane: SlicePlane) -> None:
        self._network, self._thresholds, self._size, self._plane = network, thresholds, size, plane
        self.seen = Seen({n: {} for n in thresholds}, {n: [math.nan] * plane.count for n in thresholds})

    def add(self, place: int, index: int, embedding: Embedding) -> None:
        """place: of slice `index` among those that are looked at. embedding: of the whole of it."""
        seen, thresholds = self.seen, self._thresholds
        seen.usage += embedding.usage
        if embedding.no_contrast:
            return
        with torch.inference_mode():
            maps = self._network(embedding.features.float())
        likely = maps.presence[0].float().sigmoid().tolist()
        (of_slice,) = decode(maps, self._size, _GOES_ON * min(thresholds.values()))
        for n, threshold in thresholds.items():
            seen.presence[n][index] = likely[n]
            kept = [one for one in of_slice[n] if one.score >= _GOES_ON * threshold]
            stored = embedding.frame.stored_boxes(np.array([one.box for one in kept]))
            inside = [(clipped(box, self._plane.shape), one.score) for box, one in zip(stored, kept, strict=True)]
            seen.boxes[n][place] = [(box, score) for box, score in inside if box is not None]


def _surest(one: FoundObject) -> float:
    return -one.confidence


def _object(name: str, track: BoxTrack, slices: Sequence[int]) -> FoundObject:
    """slices: number of each place that the track's boxes have."""
    filled = track.filled()
    boxes = {slices[place]: box for place, box in filled.boxes.items()}
    scores = {slices[place]: score for place, score in filled.scores.items()}
    return FoundObject(name, boxes, scores, track.confidence(len(slices)))
