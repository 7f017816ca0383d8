"""Stage 3: the model alone, on what it is sure of from every side; and a sample of that for people to look at.

A structure on a slice has candidates: what was guessed and answered (`proposing`), and masks of a grid of prompts
(`inference.automatic`, with its crops) whose box is about where the structure was guessed, asked once more by that box.
A candidate has to pass all bounds: expected Dice, predicted IoU, stability, and how far its box and the guessed one
agree. Of those that pass, duplicates go (boxes that overlap, the higher expected Dice first), and the best is stored,
"accepted" by nobody. Scans of the test side are left to people: a model is not measured against itself.

A task whose scan is done in this way, every structure somewhere and nothing left in doubt, is withdrawn. A sample of
the masks is looked at by people (`audits`).

PROJECT/automatic.json tells by what a scan was looked at: a run that was interrupted, or that had a limit, goes on with
the next one. A model that was promoted, other heads and other bounds look at it again, unless masks of it stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from medsam.annotation.answers import Answer, Guessed, answered, with_agreement
from medsam.annotation.audits import made_alone
from medsam.annotation.finding import Finder, Found
from medsam.annotation.project import AnnotationProject
from medsam.annotation.proposing import place_of, rows_of, waiting_scans
from medsam.annotation.waiting import keep, kept
from medsam.errors import InputError
from medsam.inference.automatic import AutomaticSettings, everything_on_slice
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.metrics.detection import box_iou
from medsam.postprocess.merge import nms
from medsam.progress import ProgressCallback
from medsam.prompts.simulate import tight_box
from medsam.store.project_records import StoredScan

_SAME_BOX = 0.5
_TOLD = "automatic.json"


@dataclass(frozen=True)
class Bounds:
    """What a mask has to reach to be accepted without a person, each in [0, 1].

    overlap: IoU of boxes above which one of two candidates is a duplicate. grid: masks of a grid of
    prompts are candidates, too; crops: its layers of crops.
    """

    expected: float = 0.9
    predicted_iou: float = 0.8
    stability: float = 0.9
    agreement: float = 0.7
    overlap: float = 0.7
    grid: bool = True
    crops: int = 0

    def __post_init__(self) -> None:
        for name in ("expected", "predicted_iou", "stability", "agreement", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` is a share from 0 to 1, not {getattr(self, name):g}.", parameter=name)
        if self.crops < 0:
            raise InputError(f"`crops` is a whole number from 0, not {self.crops}.", parameter="crops")


@dataclass(frozen=True)
class Automatic:
    """scans: that were looked at; done: those of them that need nobody. masks: accepted. left: structures on slices
    where something was found that did not pass. failed: scan -> why it could not be read."""

    scans: int
    done: int
    masks: int
    left: int
    failed: Mapping[str, str]


def automatic(
    project: AnnotationProject,
    predictor: Predictor,
    bounds: Bounds,
    *,
    limit: int | None = None,
    names: bool = True,
    progress: ProgressCallback | None = None,
    learning: ProgressCallback | None = None,
    slices: ProgressCallback | None = None,
    training: ProgressCallback | None = None,
) -> Automatic:
    """Scans that wait, as many as `limit`, in the order of the queue. Each is stored at once, so a run that was
    interrupted goes on. progress: called with (scans done, scans); learning: likewise, before; slices: with those of a
    scan on which something was found, of which a grid takes seconds each. training: see `Finder.learnt`.
    Raises InputError where nothing is known of any structure."""
    told, seen = kept(project, _TOLD), {one.scan for one in made_alone(project)}
    by = " ".join(map(str, (predictor.images.weights, names, *asdict(bounds).values(), *predictor.heads)))
    waiting = [one for one in waiting_scans(project) if one.scan.id not in seen and told.get(one.scan.key) != by]
    waiting = waiting[:limit]
    if not waiting:
        return Automatic(0, 0, 0, 0, {})
    finder = Finder.learnt(project, predictor, names=names, progress=learning, training=training)
    if not finder.answers and not finder.heads.structures:
        raise InputError(
            "Too little is drawn to know what Dice to expect of the model, and without that nothing is accepted. Draw "
            "on further scans first."
        )
    store = project.store
    failed, finished, masks, left = dict[str, str](), 0, 0, 0
    for number, one in enumerate(waiting):
        if progress is not None:
            progress(number, len(waiting))
        try:
            passed, doubts = _of_scan(finder, one.scan, one.task.slices, bounds, slices)
        except InputError as error:
            failed[one.scan.name] = str(error)
            continue
        if store.task_of(one.task.id).state != "open":
            # a person took it meanwhile: what they leave empty is empty
            continue
        stored = _put(project, one.scan, passed, finder)
        masks, left = masks + len(stored), left + doubts
        if not doubts and set(stored) == set(project.asked.structures):
            finished += store.withdraw_tasks([one.task.id], "made by the model alone")
        told[one.scan.key] = by
        keep(project, _TOLD, told)
    if progress is not None:
        progress(len(waiting), len(waiting))
    return Automatic(len(waiting) - len(failed), finished, masks, left, failed)


def _put(project: AnnotationProject, scan: StoredScan, passed: Sequence[Found], finder: Finder) -> list[str]:
    """Masks into the store, where no person has drawn: the structure of each."""
    drawn = {place_of(one) for one in project.store.standing(scan.id)}
    rows = rows_of(scan, passed, finder, status="accepted", stage=3)
    rows = [row for row in rows if place_of(row) not in drawn]
    project.store.add_annotations(rows)
    return [row.structure for row in rows]


def _of_scan(
    finder: Finder,
    scan: StoredScan,
    slices: Sequence[int] | None,
    bounds: Bounds,
    progress: ProgressCallback | None = None,
) -> tuple[list[Found], int]:
    """What passes on a scan, and on how many places something was found that does not."""
    encoder = finder.looks.encoder(scan)
    found = finder.of(scan, slices, encoder)
    places: dict[tuple[int, str], list[Found]] = {}
    for one in found:
        places.setdefault((one.slice, one.answer.guessed.structure), []).append(one)
    passed, doubts = list[Found](), 0
    there = sorted({index for index, _ in places})
    for number, index in enumerate(there):
        if progress is not None:
            progress(number, len(there))
        here = {name: ones for (where, name), ones in places.items() if where == index}
        others = _of_grid(finder, encoder, index, here, bounds) if bounds.grid else {}
        chosen = [_best([*ones, *others.get(name, [])], bounds) for name, ones in here.items()]
        best = [one for one in chosen if one is not None]
        doubts += len(chosen) - len(best)
        answers = {one.guessed.structure: one for one in finder.apart([one.answer for one in best])}
        passed += [
            replace(one, answer=answer)
            for one in best
            if (answer := answers.get(one.answer.guessed.structure)) is not None
        ]
    return passed, doubts


def _of_grid(
    finder: Finder, encoder: ScanEncoder, index: int, here: dict[str, list[Found]], bounds: Bounds
) -> dict[str, list[Found]]:
    """Candidates of the grid for each structure that was guessed on a slice: asked by the boxes of its masks."""
    settings = AutomaticSettings.suited_to(encoder.image_predictor.sam.spec, crop_n_layers=bounds.crops)
    boxes = [tight_box(one.mask, 1) for one in everything_on_slice(encoder, index, settings).masks]
    found: dict[str, list[Found]] = {}
    for name, ones in here.items():
        guessed = ones[0].answer.guessed
        near = [box for box in boxes if box is not None and box_iou(box, guessed.box) >= _SAME_BOX]
        for answer in answered(encoder, index, [replace(guessed, box=tuple(map(float, box))) for box in near]):  # type: ignore[arg-type]
            told = _held_to(answer, guessed)
            found.setdefault(name, []).append(Found(encoder.plane.axis, index, told, finder.expect(told)))
    return found


def _held_to(answer: Answer, guessed: Guessed) -> Answer:
    """An answer to another box, with how far it agrees with the one that was guessed."""
    tight = tight_box(answer.mask, 1)
    agreement = 0.0 if tight is None else box_iou(tight, guessed.box)
    return replace(answer, guessed=guessed, agreement=agreement, signs=with_agreement(answer.signs, agreement))


def _best(candidates: Sequence[Found], bounds: Bounds) -> Found | None:
    """The candidate that is stored; None where none passes."""
    passed = [
        one
        for one in candidates
        if one.expected >= bounds.expected
        and one.answer.predicted_iou >= bounds.predicted_iou
        and one.answer.stability >= bounds.stability
        and one.answer.agreement >= bounds.agreement
    ]
    if not passed:
        return None
    boxes = np.array([tight_box(one.answer.mask, 1) for one in passed], dtype=np.float64)
    return passed[nms(boxes, np.array([one.expected for one in passed], dtype=np.float32), bounds.overlap)[0]]
