"""Stage 2: masks that come filled in, where the model is sure of them; the rest is left to people.

What is found, and what Dice is to be expected of it, is said in `finding`. A mask is proposed from the Dice that the
settings say. No proposal takes the place of what a person has drawn.

`propose` goes scan by scan, in the order of the queue. What was proposed for a scan is stored at once, all of it, and
PROJECT/proposed.json tells by what: a run that was interrupted goes on where it was. A model that was promoted proposes
anew, and so does one that has twice as many scans to go by, other heads or another threshold. Proposals of before that
are not repeated are rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medsam.annotation.finding import Finder, Found
from medsam.annotation.knowing import how_many
from medsam.annotation.project import AnnotationProject
from medsam.annotation.waiting import Placed, keep, kept, queue_of
from medsam.chances import CompactChances
from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.inference.predictor import Predictor
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.prompts.entries import to_entry
from medsam.prompts.prompt import Box, Prompt
from medsam.store.project_records import Annotation, Effort, NewAnnotation, Status, StoredScan

# an answer whose box is hardly the one that was guessed is of something else
_SAME = 0.5
# among the prompts of a row, where the last is the one whose answer the mask is
_BOXES = 2
_TOLD = "proposed.json"


@dataclass(frozen=True)
class Proposed:
    """scans: that were looked at. masks: proposed on them. left: answers that were not sure enough. failed: scan ->
    why it could not be read. known: scans that the guesses were learnt from. learnt: answers that the expected Dice
    was learnt from, 0 where it was not."""

    scans: int
    masks: int
    left: int
    failed: Mapping[str, str]
    known: int
    learnt: int


def propose(
    project: AnnotationProject,
    predictor: Predictor,
    *,
    limit: int | None = None,
    names: bool = True,
    progress: ProgressCallback | None = None,
    learning: ProgressCallback | None = None,
    training: ProgressCallback | None = None,
) -> Proposed:
    """Masks for scans that wait to be drawn on, as many as `limit`. See the top of the file.

    names, training: see `Finder.learnt`. progress: called with (scans done, scans); learning: likewise, before. Raises
    InputError where nothing is known to propose from.
    """
    settings, told = project.settings, kept(project, _TOLD)
    by = _by(project, predictor, names)
    waiting = [one for one in waiting_scans(project) if told.get(one.scan.key) != by][:limit]
    if not waiting:
        return Proposed(0, 0, 0, {}, 0, 0)
    finder = Finder.learnt(project, predictor, names=names, progress=learning, training=training)
    if not finder.structures:
        raise InputError(
            "Nothing is known yet of any structure: draw on scans of two patients first, or give a head that knows it."
        )
    failed = dict[str, str]()
    masks = left = 0
    for number, one in enumerate(waiting):
        if progress is not None:
            progress(number, len(waiting))
        try:
            found = finder.of(one.scan, one.task.slices)
        except InputError as error:
            failed[one.scan.name] = str(error)
            continue
        if project.store.task_of(one.task.id).state != "open":
            # somebody took it meanwhile, and began from what there was
            continue
        sure = [each for each in found if each.expected >= settings.propose and each.answer.agreement >= _SAME]
        masks, left = masks + _put(project, one.scan, sure, finder, stage=2), left + len(found) - len(sure)
        told[one.scan.key] = by
        keep(project, _TOLD, told)
    if progress is not None:
        progress(len(waiting), len(waiting))
    return Proposed(len(waiting) - len(failed), masks, left, failed, len(finder.known), finder.answers)


def rows_of(
    scan: StoredScan, found: Sequence[Found], finder: Finder, *, status: Status, stage: int
) -> list[NewAnnotation]:
    """Answers as rows of the store: "proposed", or "accepted" of a model that was left alone.

    Their prompts are the box that was guessed and, where the mask is the answer to it alone, the one that was fed back.
    """
    return [
        NewAnnotation(
            scan.id,
            one.answer.guessed.structure,
            one.axis,
            one.slice,
            status,
            CompactMask.of(one.answer.mask),
            stage,
            model=finder.made_by(one),
            weights=finder.looks.predictor.images.weights,
            effort=Effort(prompts=_entries(one)),
            predicted_iou=one.answer.predicted_iou,
            expected_dice=one.expected,
            likely=None if one.answer.likely is None else CompactChances.of(one.answer.likely),
        )
        for one in found
    ]


def place_of(one: Annotation | NewAnnotation) -> tuple[str, Axis, int]:
    """Where a mask of a scan lies."""
    return one.structure, one.axis, one.slice


def _put(project: AnnotationProject, scan: StoredScan, sure: Sequence[Found], finder: Finder, stage: int) -> int:
    """Proposals into the store, in place of those of before: how many."""
    store = project.store
    drawn = {place_of(one) for one in store.standing(scan.id)}
    rows = [one for one in rows_of(scan, sure, finder, status="proposed", stage=stage) if place_of(one) not in drawn]
    now = {place_of(one) for one in rows}
    gone: list[Annotation] = [one for one in store.standing(scan.id, ["proposed"]) if place_of(one) not in now]
    rejected = [
        NewAnnotation(scan.id, one.structure, one.axis, one.slice, "rejected", None, one.stage, one.id) for one in gone
    ]
    if rows or rejected:
        store.add_annotations([*rows, *rejected])
    return len(rows)


def _entries(one: Found) -> list[dict[str, object]]:
    guessed, box = one.answer.guessed, one.answer.box
    x0, y0, x1, y1 = (round(edge, 1) for edge in guessed.box)
    boxes: list[Box] = [(x0, y0, x1, y1), *([] if box is None else [box])]
    return [to_entry(Prompt(guessed.structure, box=each, slice=one.slice)) for each in boxes]


def box_of(one: Annotation) -> Box | None:
    """The box whose answer a model's mask is, alone; None where that is not known."""
    if one.by is not None or not isinstance(one.effort.prompts, list) or len(one.effort.prompts) != _BOXES:
        return None
    return Prompt.from_dict(one.effort.prompts[-1]).box


def waiting_scans(project: AnnotationProject) -> list[Placed]:
    """What a model may fill in, in the order of the queue: open drawing of scans that nothing is measured on."""
    return [one for one in queue_of(project) if one.task.kind == "draw" and one.scan.side != "test"]


def _by(project: AnnotationProject, predictor: Predictor, names: bool) -> str:
    """What proposals depend on; as long as it is the same they are."""
    depends = (predictor.images.weights, how_many(project).bit_length(), project.settings.propose, names)
    return " ".join(map(str, (*depends, *predictor.heads)))
