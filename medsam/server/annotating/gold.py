"""How near a reader's masks are to a reference that is known. Run in a process of its own: files are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medsam.data.manifest import Case
from medsam.geometry import Axis
from medsam.masks import CompactMask
from medsam.metrics.overlap import dice


class Compared(NamedTuple):
    """What is compared. axis, slices: of the task; slices None: all."""

    case: Case
    structures: Sequence[str]
    axis: Axis
    slices: Sequence[int] | None
    masks: Mapping[tuple[str, int], CompactMask]


def dice_with_reference(asked: Compared) -> dict[str, float]:
    """Structure -> Dice over the slices of the task; 1 where neither has anything. Raises InputError for its files."""
    scan = asked.case.load_image()
    references = asked.case.load_references(scan)
    plane = scan.geometry.plane(asked.axis)
    wanted = range(plane.count) if asked.slices is None else asked.slices
    found = {}
    for structure in asked.structures:
        reference = references[structure] if structure in references else np.zeros(scan.geometry.shape, bool)
        theirs = np.stack([plane.take(reference, index) for index in wanted])
        ours = np.zeros_like(theirs)
        for place, index in enumerate(wanted):
            if (mask := asked.masks.get((structure, index))) is not None:
                ours[place] = mask.to_array()
        value = dice(theirs, ours)
        found[structure] = 1.0 if math.isnan(value) else value
    return found
