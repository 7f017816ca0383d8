"""Labels that stand before anything is asked: a mask from a file, or of yesterday, that prompts correct.

Where nothing is asked they stay as they are, to the voxel. On a slice where clicks are made on one of them its mask is
corrected as an answer of ours is (`inference.corrections`); a box, or a mask, draws it anew there. That keeps what was
right (measured: docs/session.md).

Letters: K, J, I of the scan's grid; h, w rows and columns of a stored slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medsam.chances import CompactChances
from medsam.errors import InputError, PromptError
from medsam.geometry import Axis, VolumeGeometry
from medsam.io.structure_names import plain_name
from medsam.masks import CompactMask, LabelMasks, shared_pixels
from medsam.prompts.prompt import DEFAULT_LABEL
from medsam.volume import LabelVolume

# labels to start from: a label map, or masks (K, J, I) by name, which may overlap
Labels = LabelVolume | Mapping[str, np.ndarray]
# what a label map can be written with
_MOST_LABELS = 65535


@dataclass(frozen=True, eq=False)
class Standing:
    """axis: the slice axis. names: label id -> name. masks: name -> {slice: mask (h, w)}, where it is not empty.

    notes: what the user should know of how they were read.
    """

    axis: Axis
    names: Mapping[int, str]
    masks: Mapping[str, Mapping[int, CompactMask]]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, labels: Labels, geometry: VolumeGeometry, axis: Axis | None = None) -> Standing:
        """Labels on the grid of `geometry`. Raises InputError for those of another grid, and PromptError for none."""
        plane = geometry.plane(axis)
        names = names_of(labels)
        masks: dict[str, dict[int, CompactMask]] = {}
        for name, mask in each_mask(labels, names, geometry):
            masks[name] = {index: CompactMask.of(plane.take(mask, index)) for index in plane.touched(mask)}
        if not any(masks.values()):
            raise PromptError("The labels to start from are empty: there is nothing in them to correct.")
        return cls(plane.axis, names, masks)

    @cached_property
    def overlaps(self) -> bool:
        """Whether two of them share a voxel."""
        return shared_pixels(self.masks.values()) > 0

    def called(self, label: str) -> str:
        """A label in the spelling that it stands here under; the only one here where `label` is the default.

        A label that is not here comes back as it is.
        """
        if label in self.masks:
            return label
        if label == DEFAULT_LABEL and len(self.masks) == 1:
            return next(iter(self.masks))
        return next((name for name in self.masks if plain_name(name) == plain_name(label)), label)

    def check_likely(self, likely: Mapping[str, Mapping[int, CompactChances]]) -> None:
        """Raise InputError for a mask that is not where it is said to be likely. likely: label -> {slice: chances}."""
        for label, chances in likely.items():
            for index, one in chances.items():
                if one.mask != self.at(label, index):
                    raise InputError(
                        f"The mask of {label!r} on slice {index} is not where its pixels are more likely in it than "
                        "not: begin with that mask, or leave out how likely they are."
                    )

    def at(self, label: str, index: int) -> CompactMask | None:
        """The mask (h, w) of a label on a slice; None where it has none."""
        return self.masks.get(label, {}).get(index)


def names_of(labels: Labels) -> dict[int, str]:
    """Label id -> name: a label map's own, the first where several have one name; else 1, 2, ... in order."""
    if isinstance(labels, LabelVolume):
        present = np.unique(labels.array).tolist()
        named = {number: labels.names.get(number, str(number)) for number in {*labels.names, *present} if number != 0}
        if not all(0 < number <= _MOST_LABELS for number in named):
            raise InputError(f"Labels to start from are numbers from 1 to {_MOST_LABELS}; there are others.")
        first: dict[str, int] = {}
        for number in sorted(named):
            first.setdefault(named[number], number)
        return {number: name for name, number in first.items()}
    if isinstance(labels, LabelMasks) and all(0 < number <= _MOST_LABELS for number in labels.numbers.values()):
        return {number: name for name, number in labels.numbers.items()}
    if not isinstance(labels, Mapping):
        raise InputError(
            f"Labels to start from are a LabelVolume, or masks by name as `load_labels` gives, not "
            f"{type(labels).__name__}."
        )
    return dict(enumerate(labels, start=1))


def each_mask(labels: Labels, names: Mapping[int, str], geometry: VolumeGeometry) -> Iterator[tuple[str, np.ndarray]]:
    """Every structure as bool (K, J, I), one at a time. names: of `names_of`. Raises InputError for another grid."""
    if isinstance(labels, LabelVolume) and not labels.geometry.same_grid(geometry):
        raise InputError("The labels to start from lie on another grid than the scan. Convert them to its grid first.")
    for number, name in names.items():
        mask = _numbered(labels, number, name) if isinstance(labels, LabelVolume) else np.asarray(labels[name])
        if mask.shape != geometry.shape or mask.dtype != bool:
            raise InputError(
                f"The mask of {name!r} to start from is {mask.dtype} of shape {mask.shape}; the scan needs bool of "
                f"shape {geometry.shape} (K, J, I)."
            )
        yield name, mask


def _numbered(labels: LabelVolume, number: int, name: str) -> np.ndarray:
    """Where a label is; numbers of one name are one structure."""
    mask = labels.array == number
    for other, called in labels.names.items():
        if called == name and other != number:
            mask |= labels.array == other
    return mask
