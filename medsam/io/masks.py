"""Masks by the name of their structure, and when two names are one.

Several objects of one name (segments of a SEG, regions of an RTSTRUCT, files of a series) are one structure: a
lesion in three pieces is drawn as three segments called "lesion", and all of them are the lesion. Names are equal
when they are but for case, spaces, "-" and "_". Objects without a name have nothing in common; they stay apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np


def plain_name(name: str) -> str:
    """A name without what never distinguishes two structures: case, spaces, "-" and "_"."""
    return " ".join(name.replace("_", " ").replace("-", " ").split()).casefold()


def structure_of_each(names: Iterable[str]) -> list[str]:
    """For each of the names in a file the structure it is a part of: the first name that is equal to it.

    The nameless are "unnamed", "unnamed (2)" and so on.
    """
    first: dict[str, str] = {}
    structures = []
    nameless = 0
    for raw in names:
        name = raw.strip()
        if plain_name(name):
            structures.append(first.setdefault(plain_name(name), name))
        else:
            nameless += 1
            structures.append("unnamed" if nameless == 1 else f"unnamed ({nameless})")
    return structures


def united(structures: Iterable[str], what: str) -> dict[str, list[str]]:
    """Notes on the structures that are made of several objects. what: they are, e.g. "segments"."""
    counts = Counter(structures)
    return {
        name: [f"{count} {what} named {name!r} are read as one structure."]
        for name, count in counts.items()
        if count > 1
    }


class LabelMasks(Mapping[str, np.ndarray]):
    """The structures of a label map: name -> bool (K, J, I), made when asked for.

    A hundred organs of a whole-body scan do not fit into memory as masks; their label map does.
    array: integers (K, J, I). names: name -> value in `array`. voxels: name -> how many; 0 where absent.
    notes: what the user should know of how it was read.
    """

    def __init__(
        self, array: np.ndarray, names: Mapping[str, int], voxels: Mapping[str, int], notes: Iterable[str] = ()
    ) -> None:
        self._array, self._names = array, dict(names)
        self.voxels = dict(voxels)
        self.notes = tuple(notes)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._array == self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class PackedMasks(Mapping[str, np.ndarray]):
    """Masks kept at a bit a voxel of the slices they are in: name -> bool (K, J, I), unpacked when asked for.

    voxels: name -> how many. notes: what the user should know of how they were read.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._bits: dict[str, tuple[int, int, np.ndarray]] = {}
        self._notes: dict[str, list[str]] = {}
        self.voxels: dict[str, int] = {}

    def add(self, name: str, mask: np.ndarray | None, notes: Iterable[str] = (), *, first: int = 0) -> None:
        """Keep `mask` (None: an empty one), joined with one of that name that is here already.

        mask: bool of the slices from `first` on, (n, J, I); the others are empty.
        """
        self._notes.setdefault(name, []).extend(notes)
        slices = np.flatnonzero(mask.any(axis=(1, 2))) if mask is not None else np.array([], dtype=int)
        if mask is None or not len(slices):
            self._bits.setdefault(name, (0, 0, np.array([], dtype=np.uint8)))
            self.voxels.setdefault(name, 0)
            return
        low, high = int(slices[0]), int(slices[-1]) + 1
        part, low, high = mask[low:high], first + low, first + high
        if self.voxels.get(name):
            before, past, bits = self._bits[name]
            begin, end = min(low, before), max(high, past)
            joined = np.zeros((end - begin, *self._shape[1:]), dtype=bool)
            joined[low - begin : high - begin] = part
            joined[before - begin : past - begin] |= _unpacked(bits, (past - before, *self._shape[1:]))
            part, low, high = joined, begin, end
        self._bits[name] = low, high, np.packbits(part)
        self.voxels[name] = int(np.count_nonzero(part))

    def notes_of(self, name: str) -> list[str]:
        return list(self._notes.get(name, ()))

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for notes in self._notes.values() for note in notes))

    def __getitem__(self, name: str) -> np.ndarray:
        low, high, bits = self._bits[name]
        mask = np.zeros(self._shape, dtype=bool)
        mask[low:high] = _unpacked(bits, (high - low, *self._shape[1:]))
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)


def _unpacked(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).view(bool)
