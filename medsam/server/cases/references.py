"""Structures that a session is compared with: read from a file or another session, kept for an hour, measured against.

What processes run is here, and so no torch.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from medsam.errors import InputError
from medsam.files import move
from medsam.geometry import VolumeGeometry
from medsam.io.formats import suffix_of
from medsam.io.label_sets import masks_in
from medsam.io.save import sidecar
from medsam.io.structure_names import plain_name
from medsam.labels import structure, tolerance_mm
from medsam.masks import CompactMask
from medsam.metrics.measure import measure
from medsam.server.cases.found import shown_name
from medsam.server.cases.intake import incoming
from medsam.server.joining import joined
from medsam.volume import Volume

# seconds, and bytes of all readers: a mask takes a bit a voxel of its box
_KEPT_S, _MOST = 3600.0, 2**28
_STEM = "labels"
# of two masks; the first needs no millimetres
_SCORES = ("dice", "nsd", "hd95_mm", "assd_mm")


@dataclass(frozen=True)
class Reference:
    """reader, session: whose it is, and what it is compared with. masks: (K, J, I), by the number of the object that
    each goes with. until: as `time.monotonic` says."""

    reader: int
    session: str
    masks: Mapping[int, CompactMask]
    until: float

    @property
    def bytes(self) -> int:
        return sum(len(mask.bits) for mask in self.masks.values())


@dataclass
class References:
    """By a random key. On the event loop."""

    _kept: OrderedDict[str, Reference] = field(default_factory=OrderedDict)

    def keep(self, reader: int, session: str, masks: Mapping[int, CompactMask]) -> str:
        """Its key."""
        now = time.monotonic()
        for old in [key for key, one in self._kept.items() if one.until < now]:
            del self._kept[old]
        key = secrets.token_urlsafe(12)
        self._kept[key] = Reference(reader, session, masks, now + _KEPT_S)
        # one at least
        while len(self._kept) > 1 and sum(one.bytes for one in self._kept.values()) > _MOST:
            self._kept.popitem(last=False)
        return key

    def get(self, key: str, reader: int, session: str) -> Reference | None:
        """None for one that there is not any more, or is another's."""
        one = self._kept.get(key)
        if one is None or one.until < time.monotonic() or (one.reader, one.session) != (reader, session):
            return None
        return one


@dataclass(frozen=True)
class Grid:
    """What places labels on a scan, without its voxels."""

    geometry: VolumeGeometry
    uids: Mapping[str, str]
    images: tuple[tuple[str, int | None], ...]

    @classmethod
    def of(cls, scan: Volume) -> Grid:
        return cls(scan.geometry, dict(scan.uids), scan.images)


def read_reference(folder: Path, names: Sequence[str], grid: Grid) -> tuple[dict[str, CompactMask], tuple[str, ...]]:
    """Structures by name of labels that were uploaded, no two alike (`usual_name`), and notes; in a process.

    names: of the files in `folder`, as they were sent: one of labels, and a JSON of the names of its numbers perhaps.
    Raises InputError for what is no label file, or lies on another grid.
    """
    labels = [number for number, name in enumerate(names) if not name.lower().endswith(".json")]
    if len(labels) != 1 or len(names) > 2:
        raise InputError("Send one file of labels, and with it at most a JSON file of the names of its numbers.")
    sent = PurePath(shown_name(names[labels[0]]))
    suffix = suffix_of(sent)
    path = folder / f"{_STEM}{suffix.lower()}"
    move(incoming(folder, labels[0]), path)
    if len(names) == 2 and suffix and (beside := sidecar(path)) is not None:
        move(incoming(folder, 1 - labels[0]), beside)
    scan = Volume(
        np.broadcast_to(np.zeros((), np.uint8), grid.geometry.shape), grid.geometry, uids=grid.uids, images=grid.images
    )
    try:
        masks, notes = masks_in(path, scan)
    except InputError as error:
        # called as it came, and not as it lies here
        text = str(error).replace(f"{folder}/", "").replace(path.name, sent.name)
        raise InputError(text, parameter=error.parameters) from None
    stem = sent.name[: len(sent.name) - len(suffix)] or _STEM
    found = {stem if name == _STEM else name: CompactMask.of(np.asarray(mask)) for name, mask in masks.items()}
    if not any(found.values()):
        raise InputError("Nothing in these labels lies on the scan.")
    return joined(found, usual_name), tuple(notes)


def matched(names: Mapping[int, str], reference: Iterable[str]) -> list[tuple[int | None, str | None]]:
    """Which object goes with which structure: by name, else by what they are called in the vocabulary; one of each goes
    with the other. Those without another come last. names: by number. reference: no two alike (`usual_name`)."""
    left = {usual_name(name): name for name in reference}
    pairs: list[tuple[int | None, str | None]] = []
    alone = []
    for number, name in names.items():
        if (found := left.pop(usual_name(name), None)) is None:
            alone.append(number)
        else:
            pairs.append((number, found))
    if not pairs and len(alone) == len(left) == 1:
        return [(alone[0], next(iter(left.values())))]
    return [*pairs, *((number, None) for number in alone), *((None, name) for name in left.values())]


def usual_name(name: str) -> str:
    """What the vocabulary calls a structure; the plain name of one that it has not."""
    known = structure(name)
    return plain_name(name) if known is None else known.name


def compared(
    pairs: Sequence[tuple[str, CompactMask | None, CompactMask | None]], geometry: VolumeGeometry
) -> list[dict[str, Any]]:
    """Name, an object's mask (K, J, I) and that of the reference, None where there is none -> how far they are apart;
    in a process. None is what has no number: of an empty one, and millimetres of a scan that states none."""
    return [
        {
            "name": name,
            **_apart(name, ours, theirs, geometry),
            "volume_ml": _volume(ours, geometry),
            "volume_ref_ml": _volume(theirs, geometry),
        }
        for name, ours, theirs in pairs
    ]


def _apart(
    name: str, ours: CompactMask | None, theirs: CompactMask | None, geometry: VolumeGeometry
) -> dict[str, float | None]:
    if ours is None or theirs is None or not (ours or theirs):
        return dict.fromkeys(_SCORES)
    box = (ours | theirs).bounds
    one, other, pitch = _within(theirs, box), _within(ours, box), geometry.spacing_mm
    if geometry.shape[0] == 1:
        # of one slice there are no surfaces but its outlines
        found = measure(one[0], other[0], pitch[1:], tolerance_mm(name))
    else:
        found = measure(one, other, pitch, tolerance_mm(name))
    known = _SCORES if geometry.calibrated else _SCORES[:1]
    return {key: found[key] if key in known and math.isfinite(found[key]) else None for key in _SCORES}


def _volume(mask: CompactMask | None, geometry: VolumeGeometry) -> float | None:
    return None if mask is None or not geometry.calibrated else mask.area * geometry.voxel_ml


def _within(mask: CompactMask, box: Sequence[tuple[int, int]]) -> np.ndarray:
    """What of a mask lies in a box, which holds it all."""
    part = np.zeros([high - low for low, high in box], dtype=bool)
    if mask:
        part[tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(mask.bounds, box, strict=True))] = mask.crop
    return part
