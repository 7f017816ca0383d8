"""3D Slicer's .seg.nrrd: label maps in layers, and a header that names the segments.

A segment is a value in a layer: `SegmentN_Name`, `SegmentN_LabelValue`, `SegmentN_Layer`. Segments of one layer do
not overlap; those of several may. Older files have neither value nor layer: segment N is then layer N, value 1.
Layers are the components of one NRRD (its first axis, of the kind "list"); a file of one layer has no such axis.

Letters: L layers, K, J, I the grid (see `geometry`).
Source: 3D Slicer's documentation, developer guide, "Segmentation file format".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io import itk
from medsam.io.detached import read_layout
from medsam.io.formats import NRRD
from medsam.io.structure_names import structure_of_each, united
from medsam.volume import Volume


@dataclass(frozen=True)
class Segments:
    """A .seg.nrrd in memory.

    array: integers (L, K, J, I). described: (structure, layer, value) of every segment of the header.
    notes: structure -> what the user should know of how it was read.
    """

    source: Path
    array: np.ndarray
    geometry: VolumeGeometry
    described: tuple[tuple[str, int, int], ...]
    notes: Mapping[str, list[str]]

    @property
    def layers(self) -> int:
        return len(self.array)

    @property
    def structures(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(structure for structure, _, _ in self.described))

    @property
    def names(self) -> tuple[str, ...]:
        """The structures, and what the values that belong to no segment are called."""
        return (*self.structures, *self.undescribed)

    @cached_property
    def undescribed(self) -> dict[str, int]:
        """Values of voxels that belong to no segment, by the name they are given here."""
        return {name: value for name, layer, value in self._all if (name, layer, value) not in self.described}

    def on_layer(self, layer: int) -> list[tuple[str, int]]:
        """Structures and their values, the undescribed among them."""
        return [(structure, value) for structure, at, value in self._all if at == layer]

    @cached_property
    def _all(self) -> tuple[tuple[str, int, int], ...]:
        known = {(layer, value) for _, layer, value in self.described}
        others = [
            (f"layer {layer} value {value}" if self.layers > 1 else f"value {value}", layer, value)
            for layer in range(self.layers)
            for value in np.unique(self.array[layer]).tolist()
            if value != 0 and (layer, value) not in known
        ]
        return (*self.described, *others)

    def volumes(self) -> Iterator[Volume]:
        """Layer by layer, as label maps."""
        for layer in self.array:
            yield Volume(layer, self.geometry, source=self.source)


def describes_segments(path: Path) -> bool:
    """Whether a file is an NRRD whose header describes segments. Raises InputError for a damaged header."""
    return NRRD.names(path) and bool(read_layout(path).segments)


def read_segments(path: Path) -> Segments:
    """Read a file of which `describes_segments` is true.

    Raises InputError when it cannot be read, or a segment lies on a layer that is not there.
    """
    layout = read_layout(path)
    array, geometry = itk.read_layers(path, layout)
    if array.dtype.kind not in "iu":
        raise InputError(f"{path.name} holds {array.dtype}, and segments are whole numbers. Save it again in Slicer.")
    fields = layout.segments
    numbers = sorted(fields)
    names = structure_of_each(fields[n].get("Name") or fields[n].get("ID") or "" for n in numbers)
    described = []
    for n, structure in zip(numbers, names, strict=True):
        try:
            value, layer = int(fields[n].get("LabelValue") or 1), int(fields[n].get("Layer") or min(n, len(array) - 1))
        except ValueError as error:
            raise InputError(
                f"{path.name}: Segment{n}_LabelValue or Segment{n}_Layer of the header is no whole number."
            ) from error
        if not 0 <= layer < len(array):
            raise InputError(
                f"{path.name}: the segment {structure!r} lies on layer {layer} (Segment{n}_Layer), the file has "
                f"{len(array)} layers. It is damaged; save it again."
            )
        if value != 0:
            described.append((structure, layer, value))
    notes = united((structure for structure, _, _ in described), "segments")
    found = Segments(path, array, geometry, tuple(described), notes)
    _check_shared(found)
    return found


def _check_shared(segments: Segments) -> None:
    by_place: dict[tuple[int, int], str] = {}
    for structure, layer, value in segments.described:
        other = by_place.setdefault((layer, value), structure)
        if other != structure:
            raise InputError(
                f"{segments.source.name}: {other!r} and {structure!r} are both value {value} of layer {layer}, so it "
                "is not known whose voxels are whose. Save the segmentation again."
            )
