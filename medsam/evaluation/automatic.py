"""Without a prompt: what a detector finds on a case, scored as detection and, by its masks, end to end.

A structure is one object a case, as a label is. A candidate finds it when their boxes, slice by slice together, overlap
by an IoU of at least 0.1 (in volumes, as nnDetection counts them; 0.5 in a picture). What is believed and finds nothing
is a false alarm, and so is all that is found on a scan without the structure. Masks are scored on the whole scan, on
slices without the structure too: nobody said where to look.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsam.errors import PromptError
from medsam.evaluation.prompting import ScoredMask
from medsam.evaluation.tables import jsonable
from medsam.inference.auto import segment_found
from medsam.inference.detect import Detections, detect
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.inference.slice_request import Zoom
from medsam.io.structure_names import plain_name
from medsam.masks import CompactMask
from medsam.metrics.detection import FALSE_ALARMS, auroc, box_iou, sensitivity_at
from medsam.postprocess.clean import Cleanup
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Box, SlicePrompt
from medsam.prompts.simulate import tight_box
from medsam.volume import Volume

# from this confidence on all that a detector has is a candidate of the FROC curve
_CANDIDATE = 0.05
_OVERLAP, _OVERLAP_2D = 0.1, 0.5
PROMPT = "auto"


@dataclass
class FoundOnCase:
    """answers: as tables want them. rows: of detection.csv, with "candidates" and "presence" for the summary."""

    answers: list[ScoredMask] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def evaluate_automatic(
    predictor: Predictor,
    scan: Volume,
    references: Mapping[str, CompactMask],
    *,
    axis: Any,
    window: str,
    zoom: Zoom,
    keep_islands: bool,
    every: int = 1,
    progress: ProgressCallback | None = None,
) -> FoundOnCase:
    """What `Predictor.find` gives on a case, and how it fares. references: structure -> its mask, slice axis first.

    every: see `Protocol`.
    Raises PromptError when the head knows none of the structures.
    """
    started = time.perf_counter()
    head = predictor.detector(None if predictor.heads else [*references], scan.modality)
    ours = {plain_name(name): name for name in head.card.classes}
    wanted = {ours[plain_name(name)]: name for name in references if plain_name(name) in ours}
    if not wanted:
        raise PromptError(
            f"The head {head.card.name!r} knows {', '.join(head.card.classes)}; the references are of "
            f"{', '.join(references) or 'nothing'}. Name them alike, with `labels` or `aliases` of the manifest."
        )
    encoder = predictor.answering(head).encoder_for(scan, axis=axis, window=window)
    names = [*wanted]
    believed = detect(encoder, head, names, untested=True, every=every, progress=progress)
    candidates = detect(encoder, head, names, untested=True, least=_CANDIDATE, every=every)
    segmentation = segment_found(encoder, believed, head, zoom=zoom, cleanup=Cleanup(keep_islands), progress=progress)
    seconds = (time.perf_counter() - started) / len(names)
    calls = segmentation.usage.encoded / len(names)
    found = FoundOnCase()
    for number, name in enumerate(believed.asked, start=1):
        structure = wanted[name]
        reference = references[structure]
        found.rows.append(_row(structure, name, reference, believed, candidates, encoder))
        if reference:
            masks = segmentation.labels.array == number
            found.answers += _answers(structure, masks, reference, believed, name, encoder, (seconds, calls))
    return found


def _answers(
    structure: str,
    masks: np.ndarray,
    reference: CompactMask,
    believed: Detections,
    name: str,
    encoder: ScanEncoder,
    spent: tuple[float, float],
) -> list[ScoredMask]:
    plane = encoder.plane
    asked: dict[int, Box] = {}
    for one in reversed(believed.objects):  # of several the surest is shown
        if one.name == name:
            asked |= one.boxes
    reached = set(plane.touched(masks))
    slices = sorted(reached | set(reference.indices()))
    share = spent[0] / len(slices), spent[1] / len(slices)
    return [
        ScoredMask(
            PROMPT,
            structure,
            index,
            SlicePrompt(1, asked[index]) if index in asked else None,
            plane.take(masks, index).copy(),
            float("nan"),
            *share,
        )
        for index in slices
    ]


def _row(
    structure: str,
    name: str,
    reference: CompactMask,
    believed: Detections,
    candidates: Detections,
    encoder: ScanEncoder,
) -> dict[str, Any]:
    boxes = _boxes(reference)
    least = _OVERLAP if encoder.plane.count > 1 else _OVERLAP_2D
    mine = [one for one in believed.objects if one.name == name]
    hits = [stack_iou(one.boxes, boxes) >= least for one in mine]
    first = mine[0].confidence if mine else believed.missing.get(name, 0.0)
    likely = believed.presence[name]
    return {
        "structure": structure,
        "present": bool(boxes),
        "found": any(hits),
        "false_alarms": hits.count(False),
        "confidence": round(first, 4),
        "box_iou": round(max((stack_iou(one.boxes, boxes) for one in mine), default=0.0), 4) if boxes else None,
        "candidates": [
            [round(one.confidence, 4), stack_iou(one.boxes, boxes) >= least]
            for one in candidates.objects
            if one.name == name
        ],
        "presence": [[round(p, 4), index in boxes] for index, p in enumerate(likely) if p == p],
    }


def _boxes(reference: CompactMask) -> dict[int, Box]:
    found = {}
    for index in reference.indices():
        box = tight_box(reference.at(index), 1)
        if box is not None:
            x0, y0, x1, y1 = map(float, box)
            found[index] = (x0, y0, x1, y1)
    return found


def stack_iou(ours: Mapping[int, Box], theirs: Mapping[int, Box]) -> float:
    """IoU of boxes by slice, all slices together."""

    def area(box: Box) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    common = 0.0
    for index in ours.keys() & theirs.keys():
        iou = box_iou(ours[index], theirs[index])
        # from i = c / (a + b - c)
        common += iou * (area(ours[index]) + area(theirs[index])) / (1 + iou)
    union = sum(map(area, ours.values())) + sum(map(area, theirs.values())) - common
    return common / union if union > 0 else 0.0


def summarise_detection(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{model: {structure: figures}} of the rows of all cases; see `_figures`."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        found.setdefault(row["model"], {}).setdefault(row["structure"], []).append(row)
    return {model: {name: _figures(some) for name, some in by.items()} for model, by in found.items()}


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """scans, of which `present` have the structure and `found` were found; `false_alarms` at the head's own threshold,
    on how many of the scans without it; sensitivity at false alarms a scan; AUC of the presence on single slices.
    """
    present = [row for row in rows if row["present"]]
    absent = [row for row in rows if not row["present"]]
    slices = np.array([one for row in rows for one in row["presence"]], dtype=float).reshape(-1, 2)
    ious = [row["box_iou"] for row in present]
    return {
        "scans": len(rows),
        "present": len(present),
        "found": sum(row["found"] for row in present),
        "false_alarms": sum(row["false_alarms"] for row in rows),
        "scans_without": len(absent),
        "scans_without_with_alarm": sum(row["false_alarms"] > 0 for row in absent),
        "box_iou": float(np.mean(ious)) if ious else None,
        "sensitivity": _froc(rows, len(present)),
        "presence_auc": jsonable(auroc(slices[:, 0], slices[:, 1] > 0)),
        "slices": len(slices),
        "slices_without": int((slices[:, 1] == 0).sum()),
    }


def _froc(rows: Sequence[Mapping[str, Any]], present: int) -> dict[str, float | None]:
    """Sensitivity by false alarms a scan."""
    candidates = [(one[0], number if one[1] else -1) for number, row in enumerate(rows) for one in row["candidates"]]
    score, found = np.array(candidates, dtype=float).reshape(-1, 2).T
    at = sensitivity_at(score, found.astype(int), present, len(rows))
    return {f"{most:g}": jsonable(value) for most, value in zip(FALSE_ALARMS, at, strict=True)}
