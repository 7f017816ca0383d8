"""A segmenter of a project's own: what it learns from, where it is kept, and what it finds on other scans.

PROJECT/segmenter.safetensors holds the last one, with a card of what it knows and which scans it learnt from. It learns
anew once a quarter more scans are there to learn from, or other structures.

Structures that people drew over each other, as a tumour and the organ it is in, are learnt so; no pixel is in two
others.

No patient of the val side is learnt from, and where that side has too few, nor is every fifth of the others: on these
patients it shows what Dice is to be expected of it (`finding`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from medsam.annotation.answers import Guessed
from medsam.annotation.knowing import KnownScan
from medsam.annotation.looks import Looks
from medsam.annotation.project import AnnotationProject
from medsam.errors import CheckpointError, InputError
from medsam.files import write_whole
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.whole_slices import labels_of, outlines, slice_inputs
from medsam.models.segmenter import LEAST, MOST, STEP, WIDTH, Segmenter, SegmenterSizes
from medsam.models.weights_file import CARD_KEY, read_tensors, weights_digest
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import Box
from medsam.prompts.simulate import tight_box
from medsam.store.project_records import StoredScan

FILE = "segmenter.safetensors"
_FORMAT = 1
# patients to learn from, slices that a structure is on, and patients it is tried on: with fewer there is no segmenter
_PATIENTS, _SLICES, _TRIED = 4, 8, 2
# where the val side has too few: of the others every so many
_EVERY = 5
# three minutes on one core, for slices of 64 x 64
STEPS = 600
# share of scans that have to be new before it learns anew
_MORE = 0.25
# What structures share is a class of its own where it is so much of the smallest of them; less is where outlines meet.
_SHARED = 0.3
# of a side, that the box of an outline is usually wrong by
_SPREAD = 0.1


@dataclass(frozen=True, eq=False)
class Segmenting:
    """A segmenter and what it knows. classes: structures of each of its, those of one alone first. scans: ids of those
    it learnt from. patients: whose they are."""

    network: Segmenter
    classes: tuple[tuple[str, ...], ...]
    scans: frozenset[int]
    patients: frozenset[str] = field(repr=False)

    @cached_property
    def name(self) -> str:
        """As masks say whose they are."""
        return f"segmenter {weights_digest(self.network)[:12]}"

    @cached_property
    def structures(self) -> tuple[str, ...]:
        """That it looks for."""
        return tuple(names[0] for names in self.classes if len(names) == 1)

    def share(self, one: str, other: str) -> bool:
        """Whether people drew the two over each other."""
        return any(one in names and other in names for names in self.classes)

    def of(self, encoder: ScanEncoder, slices: Sequence[int]) -> Iterator[tuple[int, Guessed]]:
        """What it finds on these slices of a scan."""
        for index, found in outlines(self.network, self.classes, encoder, slices):
            for one in found:
                tight = tight_box(one.mask, 1)
                if tight is not None:
                    box = cast(Box, tuple(map(float, tight)))
                    yield index, Guessed(one.structure, box, one.confidence, _SPREAD, one.likely)

    def tried_on(self, known: Sequence[KnownScan]) -> list[KnownScan]:
        """Those whose patients it did not learn from."""
        return [one for one in known if one.scan.patient not in self.patients]


def segmenting(
    project: AnnotationProject,
    looks: Looks,
    known: Sequence[KnownScan],
    *,
    progress: ProgressCallback | None = None,
) -> Segmenting | None:
    """The project's segmenter, which learns now where it has to. None where too little is known.

    known: scans to learn from. progress: called with (steps done, steps).
    """
    learn = _learnt_from(known)
    structures = tuple(name for name in project.asked.structures if _drawn_on(learn, name) >= _SLICES)
    if not structures or len({one.scan.patient for one in learn}) < _PATIENTS:
        return None
    path, classes = project.folder / FILE, _classes(learn, structures)
    before = _read(path, looks)
    if before is not None and before.classes == classes and before.tried_on(known):
        new = {one.scan.id for one in learn} - before.scans
        if len(new) < _MORE * len(before.scans):
            return before
    found = _learn(looks, learn, classes, project.settings.seed, progress)
    if found is not None:
        _write(path, found)
    return found


def _drawn_on(learn: Sequence[KnownScan], structure: str) -> int:
    """Slices to learn from that a structure is on."""
    return sum(index in one.masks.get(structure, {}) for one in learn for index in one.slices)


def _classes(learn: Sequence[KnownScan], structures: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Each structure alone, and then those that share pixels, few first."""
    alone, together = Counter[str](), Counter[tuple[str, ...]]()
    for one in learn:
        for index in one.slices:
            drawn = {name: one.masks[name][index] for name in structures if index in one.masks.get(name, {})}
            alone.update({name: mask.area for name, mask in drawn.items()})
            if len(drawn) > 1:
                inside = np.stack([mask.to_array() for mask in drawn.values()])
                sets, counts = np.unique(inside[:, inside.sum(axis=0) > 1], axis=1, return_counts=True)
                for members, count in zip(sets.T, counts.tolist(), strict=True):
                    together[tuple(name for name, member in zip(drawn, members, strict=True) if member)] += count
    shared = [names for names, count in together.items() if count >= _SHARED * min(alone[name] for name in names)]
    ordered = sorted(shared, key=lambda names: (len(names), [structures.index(name) for name in names]))
    return (*((name,) for name in structures), *ordered)


def _learnt_from(known: Sequence[KnownScan]) -> list[KnownScan]:
    """All but those it is tried on."""
    val = {one.scan.patient for one in known if one.scan.side == "val"}
    others = sorted({one.scan.patient for one in known} - val)
    tried = val if len(val) >= _TRIED else {*val, *others[::_EVERY]}
    return [one for one in known if one.scan.patient not in tried]


def _learn(
    looks: Looks,
    learn: Sequence[KnownScan],
    classes: tuple[tuple[str, ...], ...],
    seed: int,
    progress: ProgressCallback | None,
) -> Segmenting | None:
    from medsam.training.segmenter import DrawnSlices, train_segmenter

    side, images, labels, places, read = _side(looks, learn), [], [], [], list[StoredScan]()
    for one in learn:
        try:
            encoder = looks.encoder(one.scan)
        except InputError:
            # it cannot be read any more
            continue
        pixels, at, frame = slice_inputs(encoder, one.slices, side)
        images.append(pixels)
        places.append(at)
        for index in one.slices:
            drawn = {name: masks[index].to_array() for name, masks in one.masks.items() if index in masks}
            labels.append(labels_of(drawn, classes, frame))
        read.append(one.scan)
    if not labels:
        return None
    slices = DrawnSlices(torch.cat(images), torch.stack(labels), torch.cat(places))
    device = looks.predictor.images.device
    network = train_segmenter(
        slices, len(classes), steps=STEPS, seed=seed, width=WIDTH, device=device, progress=progress
    )
    ids, patients = frozenset(scan.id for scan in read), frozenset(scan.patient for scan in read)
    return Segmenting(network, classes, ids, patients)


def _side(looks: Looks, learn: Sequence[KnownScan]) -> int:
    """Pixels along the side of its input: as many as the scans have, where that is not too many."""
    sides = []
    for one in learn:
        frame = looks.of(one.scan).frame
        longest = max(pixels * mm for pixels, mm in zip(frame.stored, frame.spacing_mm, strict=True))
        sides.append(longest / min(frame.spacing_mm))
    return int(np.clip(math.ceil(float(np.median(sides)) / STEP) * STEP, LEAST, MOST))


def _write(path: Path, found: Segmenting) -> None:
    from safetensors.torch import save_file

    sizes = found.network.sizes
    card = {
        "segmenter": _FORMAT,
        "structures": list(found.structures),
        "together": [list(names) for names in found.classes if len(names) > 1],
        "scans": sorted(found.scans),
        "side": sizes.side,
        "width": sizes.width,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in found.network.state_dict().items()}
    with write_whole(path) as part:
        save_file(tensors, part, metadata={"format": "pt", CARD_KEY: json.dumps(card)})


def _read(path: Path, looks: Looks) -> Segmenting | None:
    """None where there is none that can be read: it is learnt anew."""
    try:
        tensors, card = read_tensors(path)
        known: dict[str, Any] = card or {}
        if known.get("segmenter") != _FORMAT:
            return None
        # files of before knew no classes of several
        together = [tuple(map(str, names)) for names in known.get("together", [])]
        classes = (*((str(name),) for name in known["structures"]), *together)
        network = Segmenter(SegmenterSizes(len(classes), int(known["side"]), int(known["width"])))
        network.load_state_dict(tensors)
        ids = frozenset(map(int, known["scans"]))
        patients = frozenset(scan.patient for scan in looks.project.store.scans() if scan.id in ids)
        network = network.eval().to(looks.predictor.images.device)
        return Segmenting(network, classes, ids, patients)
    except (CheckpointError, KeyError, TypeError, ValueError, RuntimeError):
        return None
