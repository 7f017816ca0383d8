"""What people have drawn, as examples to guess from: slices, with the boxes of the structures on them.

Scans of the train and val sides that were handed in, whose masks came from elsewhere, or that came with a reference;
none of the test side, on which every model is measured. Of a scan with many slices some are taken, evenly: those on
which something is, and fewer of those on which nothing is. What a model was left alone with is no example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsam.annotation.guessing import Examples, as_shares
from medsam.annotation.looks import Look, Looks
from medsam.annotation.project import AnnotationProject
from medsam.errors import InputError
from medsam.inference.image_predictor import ScanEncoder
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.prompts.simulate import tight_box
from medsam.store.project_records import MAKING, StoredScan

# scans that are learnt from, and slices of each with something and with nothing on them: more take minutes
_SCANS, _FULL, _EMPTY = 48, 8, 4


@dataclass(frozen=True, eq=False)
class KnownScan:
    """slices: that are learnt from. masks: structure -> slice -> mask; a slice that is not there has none."""

    scan: StoredScan
    slices: tuple[int, ...]
    masks: Mapping[str, Mapping[int, CompactMask]]


def known_scans(project: AnnotationProject, looks: Looks, progress: ProgressCallback | None = None) -> list[KnownScan]:
    """What is on the scans to learn from. progress: called with (done, in all)."""
    chosen, asked = _chosen(project)
    found = []
    for number, scan in enumerate(chosen):
        if progress is not None:
            progress(number, len(chosen))
        try:
            one = _labelled(project, scan, looks) if scan.labelled else _drawn(project, scan, asked[scan.id], looks)
        except InputError:
            # it cannot be read any more
            continue
        if one.slices:
            found.append(one)
    return found


def how_many(project: AnnotationProject) -> int:
    """Scans to learn from; none is read."""
    return len(_chosen(project)[0])


def _chosen(project: AnnotationProject) -> tuple[list[StoredScan], dict[int, set[int] | None]]:
    """Scans to learn from, those drawn last and then those with a reference, the val side never left out; of drawn ones
    the slices that were to be drawn on, None for all."""
    store = project.store
    # a task is withdrawn where its masks came from elsewhere, and where a model was left alone
    people = store.standing_places(people=True)
    done = [
        task
        for task in store.tasks(["submitted", "approved", "withdrawn"], MAKING)
        if task.state != "withdrawn" or task.scan in people
    ]
    asked: dict[int, set[int] | None] = {}
    for task in done:
        before = asked.get(task.scan, set())
        asked[task.scan] = None if task.slices is None or before is None else {*before, *task.slices}
    learnt = [scan for scan in store.scans() if scan.side != "test"]
    drawn = [scan for scan in learnt if scan.id in asked]
    last = {task.scan: task.id for task in done}
    drawn.sort(key=lambda scan: -last[scan.id])
    found = [*drawn, *(scan for scan in learnt if scan.labelled)]
    first = sorted(found, key=lambda scan: scan.side != "val")[:_SCANS]
    return [scan for scan in found if scan in first], asked


def examples_of(project: AnnotationProject, looks: Looks, known: Sequence[KnownScan]) -> Examples:
    """The slices of all of these."""
    size = looks.predictor.sam.spec.preprocess.size
    features, places, patients = [], [], list[str]()
    boxes: dict[str, list[np.ndarray]] = {name: [] for name in project.asked.structures}
    for one in known:
        look = looks.of(one.scan, one.slices)
        features.append(features_of(look))
        places.append(along(look))
        patients += [one.scan.patient] * len(look.slices)
        for name, rows in boxes.items():
            rows += [_box(one.masks.get(name, {}).get(int(n)), look, size) for n in look.slices]
    if not known:
        return Examples(np.empty((0, 1)), np.empty(0), np.empty(0, str), {name: np.empty((0, 4)) for name in boxes})
    return Examples(
        np.concatenate(features),
        np.concatenate(places),
        np.array(patients),
        {name: np.array(rows).reshape(-1, 4) for name, rows in boxes.items()},
    )


def features_of(look: Look) -> np.ndarray:
    """(n, D): what is guessed by."""
    return look.grid.reshape(len(look.slices), -1).astype(np.float64)


def along(look: Look) -> np.ndarray:
    """(n,): where the slices lie along the scan, the same end first whichever way it is stored."""
    places = look.places[:, 0].astype(np.float64)
    low, high = float(places.min()), float(places.max())
    return (places[look.slices] - low) / max(high - low, 1e-6)


def _box(mask: CompactMask | None, look: Look, size: int) -> np.ndarray:
    """(4,), nan where there is nothing."""
    tight = None if mask is None or not mask else tight_box(mask.to_array(), 1)
    if tight is None:
        return np.full(4, np.nan)
    box: np.ndarray = as_shares(look.frame.boxes(np.array([tight], dtype=np.float64)).astype(np.float64), size)[0]
    return box


def _drawn(project: AnnotationProject, scan: StoredScan, asked: set[int] | None, looks: Looks) -> KnownScan:
    """asked: slices that were to be drawn on; None: all."""
    masks: dict[str, dict[int, CompactMask]] = {}
    look = looks.of(scan)
    for one in project.store.standing(scan.id):
        if one.by is not None and one.axis == look.axis:
            masks.setdefault(one.structure, {})[one.slice] = one.mask
    slices = range(len(look.places)) if asked is None else sorted(asked)
    return KnownScan(scan, _some(slices, masks), masks)


def _labelled(project: AnnotationProject, scan: StoredScan, looks: Looks) -> KnownScan:
    encoder: ScanEncoder = looks.encoder(scan)
    references = project.case(scan).load_references(encoder.scan)
    plane = encoder.plane
    masks: dict[str, dict[int, CompactMask]] = {}
    for name in project.asked.structures:
        if name in references:
            reference = references[name]
            touched = [int(n) for n in plane.touched(reference)]
            masks[name] = {n: CompactMask.of(plane.take(reference, n)) for n in touched}
    return KnownScan(scan, _some(range(plane.count), masks), masks)


def _some(slices: Sequence[int], masks: Mapping[str, Mapping[int, CompactMask]]) -> tuple[int, ...]:
    full = [n for n in slices if any(n in one for one in masks.values())]
    empty = [n for n in slices if n not in set(full)]
    return tuple(sorted([*_spread(full, _FULL), *_spread(empty, _EMPTY)]))


def _spread(slices: Sequence[int], most: int) -> list[int]:
    if len(slices) <= most:
        return list(slices)
    return [slices[round(at)] for at in np.linspace(0, len(slices) - 1, most)]
