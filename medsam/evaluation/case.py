"""One case, measured: prompts drawn from its reference masks, answered by every model, scored per slice and volume.

Letters: h, w a stored slice.

Each structure is scored alone, against its own reference, before labels are merged: two structures whose masks
overlap do not take pixels from each other. A slice is prompted where the reference has at least `min_pixels` pixels.
Volume metrics compare reference and answer on exactly the prompted slices; propagation, which is prompted on one slice
and may go astray anywhere, is compared on the whole volume.

Beside the models stand answers that need none, drawn from the same prompts: the filled box and its inscribed ellipse
for boxes, and what a mask, a lasso, a line or an ellipse describes by itself. On tight boxes they beat published models
on thin and on convex structures. There is none for clicks and strokes, which say nothing of a structure's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medsam.errors import InputError
from medsam.evaluation.automatic import evaluate_automatic
from medsam.evaluation.prompting import ScoredMask, evaluate_slice, evaluate_volume
from medsam.evaluation.protocol import Protocol
from medsam.evaluation.steps import Step
from medsam.evaluation.tables import BASELINES, COLUMNS, TRUST
from medsam.evaluation.targets import Target, targets_on
from medsam.geometry import SlicePlane
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.io.labels import notes_on
from medsam.labels import DEFAULT_TOLERANCE_MM
from medsam.masks import CompactMask
from medsam.metrics.measure import measure
from medsam.postprocess.merge import merge_by_predicted_iou
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import inscribed_ellipse
from medsam.transforms.intensity import IntensityWindow, resolve_window, window_notes
from medsam.volume import LabelVolume, Volume


@dataclass(frozen=True)
class EvaluationCase:
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
    """Rows of the tables, pictures for the report, and the masks that were scored.

    detections: what was found without a prompt.
    overlays: one entry a structure and model: the slice with the largest reference area, upright.
    masks: model -> label map of the primary prompt. alone: (model, structure) -> bool (K, J, I), where the label map
    cannot show what was scored because structures overlap. skipped: {"structure", "why"} of what got no prompt.
    notes: about the scan. window: the name of the one used. spacing_mm: (i, j, k), where the scan has millimetres.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    slices: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    detections: list[dict[str, Any]] = field(default_factory=list)
    overlays: list[dict[str, Any]] = field(default_factory=list)
    masks: dict[str, LabelVolume] = field(default_factory=dict)
    alone: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    window: str = ""
    spacing_mm: list[float] | None = None


def _filled(box: Box, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    x0, y0, x1, y1 = (round(edge) for edge in box)
    mask[y0:y1, x0:x1] = True
    return mask


_NONE = np.zeros(0, bool)
FILLED, ELLIPSE, GIVEN = BASELINES
_DRAWN: dict[str, Callable[[Box, tuple[int, int]], np.ndarray]] = {FILLED: _filled, ELLIPSE: inscribed_ellipse}

# model, prompt, structure
_Key = tuple[str, str, str]


@dataclass
class _Answers:
    """What one (model, prompt, structure) got, by slice; masks are kept compact, thirty structures of a large volume
    would fill memory eight times over.

    draw: makes the mask from the box alone, for answers that need no model; nothing is kept then.
    """

    draw: Callable[[Box, tuple[int, int]], np.ndarray] | None = None
    kept: dict[int, ScoredMask] = field(default_factory=dict)
    masks: dict[int, CompactMask] = field(default_factory=dict)

    def add(self, found: ScoredMask) -> None:
        asked = None if found.asked is None else replace(found.asked, mask=None, within=None)
        self.kept[found.index] = replace(found, asked=asked, mask=_NONE, steps=())
        if self.draw is None:
            self.masks[found.index] = CompactMask.of(found.mask)

    def mask(self, index: int, shape: tuple[int, int]) -> np.ndarray:
        """Bool (h, w)."""
        asked = self.kept[index].asked
        if self.draw is not None and asked is not None and asked.box is not None:
            return self.draw(asked.box, shape)
        return self.masks[index].to_array()


@dataclass
class _Work:
    """A case while it is evaluated. references: with the slice axis first. prompted: structure -> its slices."""

    case: EvaluationCase
    protocol: Protocol
    plane: SlicePlane
    references: dict[str, CompactMask]
    result: CaseResult
    answers: dict[_Key, _Answers] = field(default_factory=dict)
    prompted: dict[str, list[int]] = field(default_factory=dict)

    def targets(self, index: int, structures: Iterable[str]) -> list[Target]:
        truths = {name: self.references[name].at(index) for name in structures}
        return targets_on(self.case.key, truths, index, self.protocol, self.plane)


def evaluate_case(
    case: EvaluationCase,
    predictors: Mapping[str, Predictor],
    protocol: Protocol,
    *,
    keep_masks: bool = False,
    progress: ProgressCallback | None = None,
) -> CaseResult:
    """Score every model and the answers without one on one case; a crop is encoded once a model for all its prompts.

    Rows come prompt by prompt, in the protocol's order.
    progress: called with (slices done, slices), and of each propagation with its own.
    Raises InputError for a reference off the scan's grid. A case without any structure of enough pixels gives no rows.
    """
    plane = case.scan.geometry.plane(protocol.axis)
    references = _references(case, plane, protocol.every)
    # by its name, so that a window left to us may still be changed where it hides what is in a box
    wanted = case.window or protocol.window
    encoders = {
        model: predictor.encoder_for(case.scan, axis=plane.axis, window=wanted)
        for model, predictor in predictors.items()
    }
    window = next((encoder.window for encoder in encoders.values()), None) or resolve_window(case.scan, wanted)
    result = CaseResult(window=window.name, notes=_notes(case, protocol, window, wanted))
    if case.scan.geometry.calibrated:
        result.spacing_mm = [float(step) for step in case.scan.geometry.spacing_mm[::-1]]
    work = _Work(case, protocol, plane, references, result)
    _prompt_slices(work, encoders, progress)
    _whole_scans(work, encoders, predictors, wanted, progress)
    for name, reference in references.items():
        if name not in work.prompted:
            why = f"under {protocol.min_pixels} pixels on every slice" if reference else "absent"
            result.skipped.append({"structure": name, "why": why})
    order = {name: place for place, name in enumerate(protocol.names)}
    work.answers = dict(sorted(work.answers.items(), key=lambda entry: order[entry[0][1]]))
    for key, found in work.answers.items():
        _score(work, key, found)
    _picture(work, window)
    if keep_masks:
        for model in predictors:
            _masks(work, model)
    return result


def _references(case: EvaluationCase, plane: SlicePlane, every: int) -> dict[str, CompactMask]:
    """Thirty of them fit into memory beside a large scan."""
    references = {}
    for name, reference in case.references.items():
        if reference.shape != case.scan.geometry.shape:
            raise InputError(
                f"{case.case}: the reference of {name!r} has shape {reference.shape}, its scan "
                f"{case.scan.geometry.shape} (K, J, I)."
            )
        by_slice = np.moveaxis(reference, plane.array_axis, 0)
        if every > 1:
            by_slice = by_slice & (np.arange(plane.count) % every == 0)[:, None, None]
        references[name] = CompactMask.of(by_slice)
    return references


def _notes(case: EvaluationCase, protocol: Protocol, window: IntensityWindow, wanted: str) -> list[str]:
    notes = [*window_notes(case.scan, window, wanted), *notes_on(case.references)]
    if case.window and protocol.window not in ("auto", case.window):
        notes.append(f"seen through {case.window}, which its manifest names, and not through {protocol.window}")
    if case.scan.array.dtype.kind == "f":
        broken = 1 - float(np.isfinite(case.scan.array).mean())
        if broken:
            notes.append(f"{100 * broken:.2g} % of its voxels are not finite")
    return notes


def _prompt_slices(work: _Work, encoders: Mapping[str, ScanEncoder], progress: ProgressCallback | None) -> None:
    chosen = _chosen_slices(work)
    for index in range(work.plane.count):
        if progress is not None:
            progress(index, work.plane.count)
        targets = work.targets(index, [name for name, slices in chosen.items() if index in slices])
        if not targets:
            continue
        for target in targets:
            work.prompted.setdefault(target.structure, []).append(index)
        _draw(work.answers, targets)
        for model, encoder in encoders.items():
            found = list(evaluate_slice(encoder, index, targets, work.protocol))
            _keep(work.answers, model, found)
            work.result.steps += [_step_row(work, model, one, step) for one in found for step in one.steps]


def _chosen_slices(work: _Work) -> dict[str, set[int]]:
    """The slices on which each structure may be prompted: all, or so many of those with enough pixels."""
    most = work.protocol.slices
    chosen = {}
    for name, reference in work.references.items():
        slices = reference.indices()
        if most is not None:
            slices = [n for n in slices if np.count_nonzero(reference.at(n)) >= work.protocol.min_pixels]
            slices = middles(slices, most)
        chosen[name] = set(slices)
    return chosen


def middles(slices: Sequence[int], most: int) -> list[int]:
    """At most so many of some slices: the middles of equal parts."""
    if len(slices) <= most:
        return list(slices)
    return [slices[int((part + 0.5) * len(slices) / most)] for part in range(most)]


def _step_row(work: _Work, model: str, found: ScoredMask, step: Step) -> dict[str, Any]:
    """A row of corrections.csv."""
    setting = next(one for one in work.protocol.settings if one.name == found.prompt)
    prompt = setting.by if setting.first is None else f"{setting.family}+{setting.by}"
    named = {"case": work.case.case, "patient": work.case.patient, "structure": found.structure, "model": model}
    return {**named, "prompt": prompt, "slice": found.index, **step.as_row()}


def _whole_scans(
    work: _Work,
    encoders: Mapping[str, ScanEncoder],
    predictors: Mapping[str, Predictor],
    window: str,
    progress: ProgressCallback | None,
) -> None:
    """What is not prompted slice by slice."""
    kinds = {setting.first for setting in work.protocol.settings}
    if "propagate" in kinds:
        _propagate(work, encoders, progress)
    if "auto" in kinds:
        _find(work, predictors, window, progress)


def _propagate(work: _Work, encoders: Mapping[str, ScanEncoder], progress: ProgressCallback | None) -> None:
    if work.plane.count == 1:
        why = "not propagated: the scan has one slice only"
        work.result.skipped += [{"structure": name, "why": why} for name in work.prompted]
        return
    # each structure on the middle one of the slices where it has enough pixels
    middles = [work.targets(slices[len(slices) // 2], [name])[0] for name, slices in work.prompted.items()]
    reach = {name: work.references[name].indices() for name in work.prompted}
    for model, encoder in encoders.items():
        _keep(work.answers, model, evaluate_volume(encoder, middles, reach, work.protocol, progress))


def _find(work: _Work, predictors: Mapping[str, Predictor], window: str, progress: ProgressCallback | None) -> None:
    for model, predictor in predictors.items():
        found = evaluate_automatic(
            predictor,
            work.case.scan,
            work.references,
            axis=work.plane.axis,
            window=window,
            zoom=work.protocol.zoom,
            keep_islands=work.protocol.keep_islands,
            every=work.protocol.every,
            progress=progress,
        )
        _keep(work.answers, model, found.answers)
        named = {"case": work.case.case, "patient": work.case.patient, "model": model}
        work.result.detections += [{**named, **row} for row in found.rows]


def _draw(answers: dict[_Key, _Answers], targets: Iterable[Target]) -> None:
    """The answers that need no model, from the prompts alone."""
    free = (np.nan, np.nan, np.nan)
    for target in targets:
        for setting, asked in target.first.items():
            if setting.corrections:
                continue
            if setting.first == "box":
                for baseline, draw in _DRAWN.items():
                    # drawn when scored; the truth stands in, and is not kept
                    found = ScoredMask(setting.name, target.structure, target.index, asked, target.truth, *free)
                    _keep(answers, baseline, [found], draw)
            elif setting in target.given:
                given = target.given[setting]
                found = ScoredMask(setting.name, target.structure, target.index, asked, given, *free)
                _keep(answers, GIVEN, [found])


def _keep(
    answers: dict[_Key, _Answers],
    model: str,
    found: Iterable[ScoredMask],
    draw: Callable[[Box, tuple[int, int]], np.ndarray] | None = None,
) -> None:
    for one in found:
        answers.setdefault((model, one.prompt, one.structure), _Answers(draw)).add(one)


def _score(work: _Work, key: _Key, found: _Answers) -> None:
    case, plane, result, geometry = work.case, work.plane, work.result, work.case.scan.geometry
    model, prompt, structure = key
    # organs' tolerances are millimetres; a picture has none
    tolerance = (
        work.protocol.tolerance_of(structure)
        if geometry.calibrated
        else work.protocol.tolerance_mm or DEFAULT_TOLERANCE_MM
    )
    shared = {
        "case": case.case,
        "patient": case.patient,
        "structure": structure,
        "label": case.labels[structure],
        "model": model,
        "prompt": prompt,
    }
    indices = sorted(found.kept)
    masks = {index: found.mask(index, plane.shape) for index in indices}
    truths = {index: work.references[structure].at(index) for index in indices}
    slice_ml = geometry.voxel_ml
    for index in indices:
        flat = measure(truths[index], masks[index], plane.spacing_mm, tolerance)
        flat["volume_ml"] = np.count_nonzero(masks[index]) * slice_ml
        flat["volume_ref_ml"] = np.count_nonzero(truths[index]) * slice_ml
        row = _row(shared, flat, [found.kept[index]], geometry.calibrated)
        result.slices.append({**row, "slice": index, **_trust(found.kept[index])})
    if plane.count == 1:
        # one picture has no third dimension for a surface to lie in
        result.rows.append({column: result.slices[-1][column] for column in COLUMNS})
        return
    first, last = indices[0], indices[-1]
    truth, answer = np.zeros((2, last - first + 1, *plane.shape), bool)
    for index in indices:
        truth[index - first], answer[index - first] = truths[index], masks[index]
    spacing = (geometry.spacing_mm[plane.array_axis], *plane.spacing_mm)
    solid = measure(truth, answer, spacing, tolerance)
    result.rows.append(_row(shared, solid, [found.kept[index] for index in indices], geometry.calibrated))


def _row(
    shared: dict[str, Any], numbers: dict[str, float], found: list[ScoredMask], calibrated: bool
) -> dict[str, Any]:
    """A row of metrics.csv, None where a number is not defined.

    Without a physical size there are no millimetres and no millilitres; to an empty answer there is no distance. Means
    are then over fewer rows, which the summary counts, and the Dice of 0 keeps the failure in sight.
    """
    physical = ("hd95_mm", "assd_mm", "volume_ml", "volume_ref_ml")
    # a slice that propagation did not reach has no predicted IoU
    qualities = [one.predicted_iou for one in found if np.isfinite(one.predicted_iou)]
    row = {
        **shared,
        "n_slices": len(found),
        "predicted_iou": float(np.mean(qualities)) if qualities else np.nan,
        "seconds": sum(one.seconds for one in found),
        # thirds of looks add up to looks again
        "encoder_calls": round(math.fsum(one.encoder_calls for one in found), 6),
    }
    for column in COLUMNS:
        if column not in row:
            row[column] = np.nan if column in physical and not calibrated else numbers[column]
    return {c: None if isinstance(row[c], float) and not np.isfinite(row[c]) else row[c] for c in COLUMNS}


def _trust(found: ScoredMask) -> dict[str, Any]:
    """What is expected of an answer, as columns of slices.csv; None where nothing is."""
    expected = found.expected_dice
    if expected is None:
        return dict.fromkeys(TRUST)
    values = expected.value, expected.low, expected.high, int(expected.unfamiliar)
    return dict(zip(TRUST, values, strict=True))


def _picture(work: _Work, window: IntensityWindow) -> None:
    """The slice where the reference is largest, for each structure and model, upright."""
    plane, result, references, primary = work.plane, work.result, work.references, work.protocol.names[0]
    dice = {(row["model"], row["prompt"], row["structure"], row["slice"]): row["dice"] for row in result.slices}
    row_mm, column_mm = plane.upright_spacing_mm
    for (model, prompt, structure), found in work.answers.items():
        if model in BASELINES or prompt != primary:
            continue
        areas = {n: np.count_nonzero(references[structure].at(n)) for n in sorted(found.kept)}
        index = max(areas, key=lambda n: areas[n])
        mask, truth = found.mask(index, plane.shape), references[structure].at(index)
        asked = found.kept[index].asked or SlicePrompt(1)
        box = None if asked.box is None else plane.view.boxes(np.array(asked.box), plane.shape).tolist()
        centres = plane.view.edges(np.reshape([point[:2] for point in asked.points], (-1, 2)) + 0.5, plane.shape)
        strokes = [(stroke.points, stroke.inside) for stroke in asked.scribbles] + [
            (line, True) for line in asked.lines
        ]
        strokes += [((*asked.lasso, asked.lasso[0]), True)] if asked.lasso else []
        result.overlays.append(
            {
                "structure": structure,
                "model": model,
                "prompt": prompt,
                "slice": index,
                "dice": float(dice[model, prompt, structure, index]),
                "box": box,
                "points": [[*centre.tolist(), point[2]] for centre, point in zip(centres, asked.points, strict=True)],
                "strokes": [
                    [plane.view.edges(np.array(corners) + 0.5, plane.shape).tolist(), inside]
                    for corners, inside in strokes
                ],
                "aspect": row_mm / column_mm,
                "image": plane.view.apply(window.picture(plane.take(work.case.scan.array, index))),
                "reference": plane.view.apply(truth),
                "prediction": plane.view.apply(mask),
            }
        )


def _masks(work: _Work, model: str) -> None:
    """The label map of one model, and alone what it cannot hold because structures overlap."""
    case, plane, result, primary = work.case, work.plane, work.result, work.protocol.names[0]
    mine = {s: found for (m, prompt, s), found in work.answers.items() if m == model and prompt == primary}
    merged = np.zeros(case.scan.geometry.shape, np.uint16)
    # label files hold 16 bits; larger numbers are counted anew, and the names tell which is which
    numbers = case.labels
    if max(numbers.values(), default=0) > np.iinfo(merged.dtype).max:
        numbers = dict(zip(numbers, range(1, len(numbers) + 1), strict=True))
    hidden: set[str] = set()
    for index in sorted({index for found in mine.values() for index in found.kept}):
        here = [structure for structure, found in mine.items() if index in found.kept]
        masks = np.stack([mine[structure].mask(index, plane.shape) for structure in here])
        predicted_iou = np.array([mine[structure].kept[index].predicted_iou for structure in here])
        ids = np.array([numbers[structure] for structure in here])
        shown = merge_by_predicted_iou(masks, predicted_iou, ids)
        plane.take(merged, index)[...] = shown
        hidden |= {name for name, mask, n in zip(here, masks, ids, strict=True) if not np.array_equal(shown == n, mask)}
    names = dict(zip(numbers.values(), numbers, strict=True))
    result.masks[model] = LabelVolume(merged, case.scan.geometry, names)
    for structure in sorted(hidden):
        result.alone[model, structure] = _whole(mine[structure], plane, merged.shape)


def _whole(found: _Answers, plane: SlicePlane, shape: tuple[int, ...]) -> np.ndarray:
    """The masks of all slices, bool (K, J, I)."""
    whole = np.zeros(shape, bool)
    for index in found.kept:
        plane.take(whole, index)[...] = found.mask(index, plane.shape)
    return whole
