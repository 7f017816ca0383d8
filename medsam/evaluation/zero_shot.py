"""One case, measured: prompts drawn from its reference masks, answered by every model, scored per slice and volume.

Letters: h, w a stored slice; P prompts on it.

Each structure is scored alone, against its own reference, before labels are merged: two structures whose masks
overlap do not take pixels from each other. A slice is prompted where the reference has at least `MIN_PIXELS` pixels;
volume metrics compare reference and answer on exactly the prompted slices.

Beside the models stand two answers that need none, drawn from the same boxes: the filled box and its inscribed
ellipse. On tight boxes they beat published models on thin and on convex structures.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medsam.errors import InputError, PromptError
from medsam.evaluation.summary import BASELINES, COLUMNS, ORACLE
from medsam.geometry import Axis, SlicePlane
from medsam.inference.predictor import Embedding, Predictor
from medsam.labels import DEFAULT_TOLERANCE_MM, tolerance_mm
from medsam.metrics.measure import measure
from medsam.metrics.overlap import iou
from medsam.postprocess.merge import merge_by_quality
from medsam.prompts.simulate import MIN_PIXELS, inscribed_ellipse, jittered, tight_box
from medsam.transforms.intensity import IntensityWindow, fixed_window, resolve_window
from medsam.volume import LabelVolume, Volume


@dataclass(frozen=True)
class Protocol:
    """What is asked, so that a run can be repeated.

    prompt: "box". jitter_px: each edge of the box moves outwards by a whole number of pixels drawn uniformly from
    [0, N]; the first entry is the run's primary prompt. oracle: also the best of three masks, chosen by the reference.
    seed: of the jitter. window, axis: as for `medsam segment`.
    tolerance_mm: of the NSD; None takes each organ's own from `labels`.
    """

    prompt: str = "box"
    jitter_px: tuple[int, ...] = (0,)
    oracle: bool = False
    seed: int = 0
    window: str = "auto"
    axis: Axis | None = None
    min_pixels: int = MIN_PIXELS
    tolerance_mm: float | None = DEFAULT_TOLERANCE_MM

    def __post_init__(self) -> None:
        if self.prompt != "box":
            raise PromptError(f"The prompt {self.prompt!r} is not supported by this version; use box.")
        if not self.jitter_px or min(self.jitter_px) < 0 or len(set(self.jitter_px)) != len(self.jitter_px):
            raise PromptError(f"--jitter-px takes different whole numbers from 0, not {self.jitter_px}.")
        if self.seed < 0:
            raise PromptError(f"--seed takes a whole number from 0, not {self.seed}.")
        fixed_window(self.window)
        if self.tolerance_mm is not None and not 0 <= self.tolerance_mm < np.inf:
            raise PromptError(f"--tolerance-mm takes millimetres from 0 or the word organ, not {self.tolerance_mm}.")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "jitter_px": list(self.jitter_px)}

    def tolerance_of(self, structure: str) -> float:
        """Millimetres (for a picture without a physical size, pixels)."""
        return tolerance_mm(structure) if self.tolerance_mm is None else self.tolerance_mm

    def prompt_name(self, jitter: int) -> str:
        """How a row of the tables calls the box: "box", or "box+5px" when jittered."""
        return "box" if jitter == 0 else f"box+{jitter}px"


@dataclass(frozen=True)
class Subject:
    """A scan with its reference masks, ready to be measured.

    case: its name in the tables. key: what its jitter is drawn from, the same in every run it takes part in.
    references: structure -> bool (K, J, I) on the scan's grid. labels: structure -> id in a label map.
    window: overrides the protocol's.
    """

    case: str
    key: str
    patient: str
    scan: Volume
    references: Mapping[str, np.ndarray]
    labels: Mapping[str, int]
    window: str | None = None


@dataclass
class CaseResult:
    """Rows of both tables, pictures for the report, and the masks that were scored.

    overlays: one entry a structure and model: the slice with the largest reference area, upright.
    masks: model -> label map of the primary prompt. alone: (model, structure) -> bool (K, J, I), where the label map
    cannot show what was scored because structures overlap. skipped: {"structure", "why"} of what got no prompt.
    notes: about the scan. window: the name of the one used.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    slices: list[dict[str, Any]] = field(default_factory=list)
    overlays: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, LabelVolume] = field(default_factory=dict)
    alone: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    window: str = ""


class _Reference:
    """A reference mask, kept as the part that holds it: thirty of them fit into memory beside a large scan."""

    def __init__(self, mask: np.ndarray) -> None:
        lows, highs = [], []
        for axis in range(3):
            there = np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis)))
            lows.append(int(there[0]) if there.size else 0)
            highs.append(int(there[-1]) + 1 if there.size else 0)
        self.part = tuple(slice(low, high) for low, high in zip(lows, highs, strict=True))
        self.crop = mask[self.part].copy()

    def on(self, plane: SlicePlane, index: int) -> np.ndarray:
        """Bool (h, w) of slice `index`."""
        full = np.zeros(plane.shape, bool)
        across = self.part[plane.array_axis]
        if across.start <= index < across.stop:
            rows, columns = (part for axis, part in enumerate(self.part) if axis != plane.array_axis)
            full[rows, columns] = plane.take(self.crop, index - across.start)
        return full


@dataclass(frozen=True)
class _Box:
    """A prompt on a slice."""

    structure: str
    prompt: str
    box: tuple[int, int, int, int]


@dataclass
class _Answers:
    """What one (model, prompt, structure) got: slice -> box, mask (h, w), predicted IoU, seconds.

    draw: makes the mask from the box alone, for answers that need no model; nothing is kept then.
    """

    draw: Callable[[tuple[int, int, int, int], tuple[int, int]], np.ndarray] | None = None
    boxes: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    masks: dict[int, np.ndarray] = field(default_factory=dict)
    quality: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    def add(
        self,
        index: int,
        box: tuple[int, int, int, int],
        mask: np.ndarray | None = None,
        quality: float = np.nan,
        seconds: float = np.nan,
    ) -> None:
        if mask is not None:
            # packed: thirty structures of a large volume would fill memory eight times over
            self.masks[index] = np.packbits(mask)
        self.boxes[index], self.quality[index], self.seconds[index] = box, quality, seconds

    def mask(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        if self.draw is not None:
            return self.draw(self.boxes[index], shape)
        return np.unpackbits(self.masks[index], count=shape[0] * shape[1]).astype(bool).reshape(shape)


def measure_case(
    subject: Subject, predictors: Mapping[str, Predictor], protocol: Protocol, *, keep_masks: bool = False
) -> CaseResult:
    """Score every model and both baselines on one case; a slice is encoded once a model for all its prompts.

    Raises InputError for a reference off the scan's grid. A case without any structure of enough pixels gives no rows.
    """
    references = {}
    for name, reference in subject.references.items():
        if reference.shape != subject.scan.geometry.shape:
            raise InputError(
                f"{subject.case}: the reference of {name!r} has shape {reference.shape}, its scan "
                f"{subject.scan.geometry.shape} (K, J, I)."
            )
        references[name] = _Reference(reference)
    plane = subject.scan.geometry.plane(protocol.axis)
    window = resolve_window(subject.scan, subject.window or protocol.window)
    result = CaseResult(window=window.name)
    if subject.scan.array.dtype.kind == "f":
        broken = 1 - float(np.isfinite(subject.scan.array).mean())
        if broken:
            result.notes.append(f"{100 * broken:.2g} % of its voxels are not finite")
    look = {
        model: predictor.embedder(subject.scan, axis=plane.axis, window=window)
        for model, predictor in predictors.items()
    }
    answers: dict[tuple[str, str, str], _Answers] = {}
    for index in range(plane.count):
        truths = {name: reference.on(plane, index) for name, reference in references.items()}
        boxes = list(_boxes(subject.key, truths, index, protocol))
        if not boxes:
            continue
        for box in boxes:
            for baseline, draw in _DRAWN.items():
                _at(answers, baseline, box, draw).add(index, box.box)
        for model, predictor in predictors.items():
            _ask(answers, model, predictor, look[model], index, boxes, truths, protocol)

    asked = {structure for _, _, structure in answers}
    for name, kept in references.items():
        if name not in asked:
            why = "absent" if not kept.crop.any() else f"under {protocol.min_pixels} pixels on every slice"
            result.skipped.append({"structure": name, "why": why})
    for (model, prompt, structure), found in answers.items():
        _score(result, subject, references[structure], plane, protocol, (model, prompt, structure), found)
    primary = protocol.prompt_name(protocol.jitter_px[0])
    _picture(result, subject, references, plane, window, answers, primary)
    if keep_masks:
        for model in predictors:
            _masks(result, subject, plane, answers, model, primary)
    return result


def _boxes(key: str, truths: Mapping[str, np.ndarray], index: int, protocol: Protocol) -> Iterator[_Box]:
    for structure, truth in truths.items():
        tight = tight_box(truth, protocol.min_pixels)
        if tight is None:
            continue
        for jitter in protocol.jitter_px:
            # from what the box is, not from what was drawn before: resumed and sharded runs draw the same
            rng = np.random.default_rng([protocol.seed, zlib.crc32(f"{key}\0{structure}\0{index}".encode())])
            yield _Box(structure, protocol.prompt_name(jitter), jittered(tight, jitter, truth.shape, rng))


def _ask(
    answers: dict[tuple[str, str, str], _Answers],
    model: str,
    predictor: Predictor,
    look: Callable[[int], Embedding],
    index: int,
    boxes: list[_Box],
    truths: Mapping[str, np.ndarray],
    protocol: Protocol,
) -> None:
    """Embed the slice, answer all its boxes, and share the time equally among them."""
    started = time.perf_counter()
    embedding = look(index)
    coordinates = np.array([box.box for box in boxes])
    found = predictor.predict(embedding, coordinates)
    seconds = (time.perf_counter() - started) / len(boxes)
    for box, mask, quality in zip(boxes, found.masks[:, 0], found.quality[:, 0], strict=True):
        _at(answers, model, box).add(index, box.box, mask, float(quality), seconds)
    if not protocol.oracle:
        return
    primary = [box for box in boxes if box.prompt == protocol.prompt_name(protocol.jitter_px[0])]
    started = time.perf_counter()
    three = predictor.predict(embedding, np.array([box.box for box in primary]), multimask=True)
    seconds += (time.perf_counter() - started) / len(primary)
    for box, masks, qualities in zip(primary, three.masks, three.quality, strict=True):
        truth = truths[box.structure]
        best = int(np.argmax([iou(truth, mask) for mask in masks]))
        chosen = _Box(box.structure, ORACLE, box.box)
        _at(answers, model, chosen).add(index, box.box, masks[best], float(qualities[best]), seconds)


def _at(
    answers: dict[tuple[str, str, str], _Answers],
    model: str,
    box: _Box,
    draw: Callable[[tuple[int, int, int, int], tuple[int, int]], np.ndarray] | None = None,
) -> _Answers:
    return answers.setdefault((model, box.prompt, box.structure), _Answers(draw))


def _filled(box: tuple[int, int, int, int], shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


_DRAWN = dict(zip(BASELINES, (_filled, inscribed_ellipse), strict=True))


def _score(
    result: CaseResult,
    subject: Subject,
    reference: _Reference,
    plane: SlicePlane,
    protocol: Protocol,
    key: tuple[str, str, str],
    found: _Answers,
) -> None:
    geometry = subject.scan.geometry
    model, prompt, structure = key
    # organs' tolerances are millimetres; a picture has none
    tolerance = (
        protocol.tolerance_of(structure) if geometry.calibrated else protocol.tolerance_mm or DEFAULT_TOLERANCE_MM
    )
    shared = {
        "case": subject.case,
        "patient": subject.patient,
        "structure": structure,
        "label": subject.labels[structure],
        "model": model,
        "prompt": prompt,
    }
    indices = sorted(found.boxes)
    masks = {index: found.mask(index, plane.shape) for index in indices}
    truths = {index: reference.on(plane, index) for index in indices}
    slice_ml = geometry.voxel_ml
    for index in indices:
        flat = measure(truths[index], masks[index], plane.spacing_mm, tolerance)
        flat["volume_ml"] = np.count_nonzero(masks[index]) * slice_ml
        flat["volume_ref_ml"] = np.count_nonzero(truths[index]) * slice_ml
        row = _row(shared, flat, 1, found.quality[index], found.seconds[index], geometry.calibrated)
        result.slices.append({**row, "slice": index})
    if plane.count == 1:
        # one picture has no third dimension for a surface to lie in
        result.rows.append({key: value for key, value in result.slices[-1].items() if key != "slice"})
        return
    first, last = indices[0], indices[-1]
    truth, answer = np.zeros((2, last - first + 1, *plane.shape), bool)
    for index in indices:
        truth[index - first], answer[index - first] = truths[index], masks[index]
    spacing = (geometry.spacing_mm[plane.array_axis], *plane.spacing_mm)
    solid = measure(truth, answer, spacing, tolerance)
    quality = float(np.mean(list(found.quality.values())))
    seconds = float(np.sum(list(found.seconds.values())))
    result.rows.append(_row(shared, solid, len(indices), quality, seconds, geometry.calibrated))


def _row(
    shared: dict[str, Any], numbers: dict[str, float], slices: int, quality: float, seconds: float, calibrated: bool
) -> dict[str, Any]:
    """A row of metrics.csv, None where a number is not defined.

    Without a physical size there are no millimetres and no millilitres; to an empty answer there is no distance. Means
    are then over fewer rows, which the summary counts, and the Dice of 0 keeps the failure in sight.
    """
    physical = ("hd95_mm", "assd_mm", "volume_ml", "volume_ref_ml")
    row = {**shared, "n_slices": slices, "predicted_iou": quality, "seconds": seconds}
    for column in COLUMNS:
        if column not in row:
            row[column] = np.nan if column in physical and not calibrated else numbers[column]
    return {c: None if isinstance(row[c], float) and not np.isfinite(row[c]) else row[c] for c in COLUMNS}


def _picture(
    result: CaseResult,
    subject: Subject,
    references: Mapping[str, _Reference],
    plane: SlicePlane,
    window: IntensityWindow,
    answers: dict[tuple[str, str, str], _Answers],
    primary: str,
) -> None:
    """The slice where the reference is largest, for each structure and model, upright."""
    dice = {(row["model"], row["prompt"], row["structure"], row["slice"]): row["dice"] for row in result.slices}
    row_mm, column_mm = plane.upright_spacing_mm
    for (model, prompt, structure), found in answers.items():
        if model in BASELINES or prompt != primary:
            continue
        areas = {n: np.count_nonzero(references[structure].on(plane, n)) for n in sorted(found.boxes)}
        index = max(areas, key=lambda n: areas[n])
        mask, truth = found.mask(index, plane.shape), references[structure].on(plane, index)
        corners = plane.view.edges(np.reshape(found.boxes[index], (2, 2)), plane.shape)
        result.overlays.append(
            {
                "structure": structure,
                "model": model,
                "prompt": prompt,
                "slice": index,
                "dice": float(dice[model, prompt, structure, index]),
                "box": [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()],
                "aspect": row_mm / column_mm,
                "image": plane.view.apply(window.picture(plane.take(subject.scan.array, index))),
                "reference": plane.view.apply(truth),
                "prediction": plane.view.apply(mask),
            }
        )


def _masks(
    result: CaseResult,
    subject: Subject,
    plane: SlicePlane,
    answers: dict[tuple[str, str, str], _Answers],
    model: str,
    primary: str,
) -> None:
    """The label map of one model, and alone what it cannot hold because structures overlap."""
    mine = {s: found for (m, prompt, s), found in answers.items() if m == model and prompt == primary}
    merged = np.zeros(subject.scan.geometry.shape, np.uint16)
    hidden: set[str] = set()
    for index in sorted({index for found in mine.values() for index in found.masks}):
        here = [structure for structure, found in mine.items() if index in found.masks]
        masks = np.stack([mine[structure].mask(index, plane.shape) for structure in here])
        quality = np.array([mine[structure].quality[index] for structure in here])
        ids = np.array([subject.labels[structure] for structure in here])
        shown = merge_by_quality(masks, quality, ids)
        plane.take(merged, index)[...] = shown
        hidden |= {name for name, mask, n in zip(here, masks, ids, strict=True) if not np.array_equal(shown == n, mask)}
    names = {number: structure for structure, number in subject.labels.items()}
    result.masks[model] = LabelVolume(merged, subject.scan.geometry, names)
    for structure in sorted(hidden):
        whole = np.zeros(merged.shape, bool)
        for index in mine[structure].masks:
            plane.take(whole, index)[...] = mine[structure].mask(index, plane.shape)
        result.alone[model, structure] = whole
