"""What a label file holds, as far as listing cases needs it: numbers, names, or one mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.io.formats import PICTURE
from medsam.io.label_picture import read_label_picture
from medsam.io.labels import label_kind, structures_in, values_in

# a file whose name does not say what it is holds a label where it has no more numbers than this
_FEW = 64


@dataclass(frozen=True)
class LabelContents:
    """What a label file holds. values: numbers beside 0; names: of structures, in a file that brings them.

    threshold, code: of a picture, see `LabelPicture`.
    """

    values: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()
    threshold: float | None = None
    code: int | None = None

    @property
    def binary(self) -> bool:
        """Whether it is one mask."""
        return not self.names and (self.threshold is not None or len(self.values) <= 1)

    @property
    def looks_like_label(self) -> bool:
        """Whether a file that holds this is a label even where its name does not say so."""
        few = len(self.values) <= _FEW and all(value > 0 for value in self.values)
        return bool(self.names) or self.threshold is not None or few


def read_contents(path: Path, threshold: float | None) -> LabelContents:
    """What is in a label file. threshold: label pictures are masks of what is brighter.

    Raises InputError for what is neither a mask nor a label map.
    """
    if not PICTURE.names(path):
        if label_kind(path) == "segments":
            return LabelContents(names=tuple(sorted(structures_in(path))))
        return LabelContents(frozenset(values_in(path)))
    drawn = read_label_picture(path)
    if threshold is not None:
        return LabelContents(threshold=threshold)
    if drawn.unreadable:
        raise InputError(f"it {drawn.unreadable}.")
    numbers = [-1] if drawn.numbers is None else np.unique(drawn.numbers).tolist()
    values = frozenset(int(value) for value in numbers if value != 0)
    return LabelContents(values, threshold=drawn.threshold, code=drawn.code)
