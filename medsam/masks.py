"""What a mask is, where it lies, and how it is kept: whole, compact, as run lengths, or many under their names.

A mask in use is a bool array, True inside: (h, w) on a slice, (K, J, I) in a scan. To keep many, or to send one:

  CompactMask   the part that holds it, a bit a pixel; any number of axes; never changes, so it may be shared
  RLE           COCO's run lengths of a slice, as pycocotools and SA-1B write them
  LabelMasks    the structures of a label map
  PackedMasks   the structures of a file that brings its own names; they may overlap

Run lengths: a mask (h, w) is read column by column; counts tell how many pixels are outside, then inside, then outside,
... The first count may be 0. Compressed, every count after the third is replaced by its difference to the count two
before, and each number becomes 5-bit groups, lowest first, written as characters from "0" on with the sixth bit for
"more follows". Source: the COCO API's mask format (Lin et al. 2014). pycocotools is the referee in the tests and no
dependency: a compiled package for two short functions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsam.errors import InputError

# a run of any length takes a few bytes; a mask takes one for each of its pixels
_MAX_PIXELS = 2**30
_MAX_VOXELS = 2**30


# -- where a mask lies --------------------------------------------------------------------------------------


def bounding_box(*masks: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest part of the array that holds these masks, bool of one shape: a slice for each axis; None when empty.

    `mask[bounding_box(mask)]` is all of a mask. Several masks are never joined in memory.
    """
    parts: list[slice] = []
    views = list(masks)
    while True:
        others = tuple(range(1, views[0].ndim))
        hit = views[0].any(axis=others)
        for view in views[1:]:
            hit = hit | view.any(axis=others)
        there = np.flatnonzero(hit)
        if not there.size:
            return None
        part = slice(int(there[0]), int(there[-1]) + 1)
        parts.append(part)
        if views[0].ndim == 1:
            return tuple(parts)
        # what the axes to come need to know of this one; its empty slices are not read again
        views = [np.any(view[part], axis=0) for view in views]


def xyxy(part: tuple[slice, ...]) -> tuple[int, int, int, int]:
    """The half-open box (x0, y0, x1, y1) of a part (rows, columns): x counts columns."""
    rows, columns = part
    return columns.start, rows.start, columns.stop, rows.stop


def grown(part: Sequence[slice], margin: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """A part of an array of `shape` with a margin along each axis, as far as there is one."""
    return tuple(
        slice(max(span.start - more, 0), min(span.stop + more, length))
        for span, more, length in zip(part, margin, shape, strict=True)
    )


# -- kept small ---------------------------------------------------------------------------------------------


def pack_bits(mask: np.ndarray) -> np.ndarray:
    """A bit an element, uint8, in C order and filled up with zeros to whole bytes."""
    return np.packbits(mask)


def unpack_bits(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What `pack_bits` was given: bool of `shape`."""
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).view(bool)


@dataclass(frozen=True, repr=False)
class CompactMask:
    """A mask, bool of `shape`, kept as the part that holds it at a bit an element. Equal when the masks are.

    Made by `of`, `empty`, `from_dict`, or `|` of two. bounds: (first, past the last) along each axis, (0, 0) when
    empty. bits: of that part, see `pack_bits`. area: elements inside. Nothing of it can be changed: it may be shared
    between threads, be a key, and be sent to another process.
    """

    shape: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...]
    bits: bytes
    area: int

    @classmethod
    def of(
        cls, mask: np.ndarray, shape: tuple[int, ...] | None = None, start: tuple[int, ...] | None = None
    ) -> CompactMask:
        """A mask, bool. shape, start: of the array that it is a part of, and where in it; default: it is all."""
        whole = tuple(mask.shape if shape is None else shape)
        offset = start or (0,) * mask.ndim
        part = bounding_box(mask)
        if part is None:
            return cls.empty(whole)
        bounds = tuple((at.start + first, at.stop + first) for at, first in zip(part, offset, strict=True))
        crop = mask[part]
        return cls(whole, bounds, pack_bits(crop).tobytes(), int(np.count_nonzero(crop)))

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> CompactMask:
        """Nothing inside."""
        return cls(shape, ((0, 0),) * len(shape), b"", 0)

    def __repr__(self) -> str:
        return f"CompactMask(shape={self.shape}, bounds={self.bounds}, area={self.area})"

    def __bool__(self) -> bool:
        return self.area > 0

    def __or__(self, other: CompactMask) -> CompactMask:
        """Inside either. Raises InputError for masks of two shapes."""
        if self.shape != other.shape:
            raise InputError(f"Masks of {self.shape} and {other.shape} elements cannot be joined.")
        if not (self and other):
            return self or other
        low = [min(ours[0], theirs[0]) for ours, theirs in zip(self.bounds, other.bounds, strict=True)]
        high = [max(ours[1], theirs[1]) for ours, theirs in zip(self.bounds, other.bounds, strict=True)]
        joined = np.zeros([past - first for first, past in zip(low, high, strict=True)], dtype=bool)
        for one in (self, other):
            joined[tuple(slice(a - n, b - n) for (a, b), n in zip(one.bounds, low, strict=True))] |= one.crop
        return CompactMask.of(joined, self.shape, tuple(low))

    @property
    def part(self) -> tuple[slice, ...]:
        """Where `crop` lies; slices of nothing when empty."""
        return tuple(slice(first, past) for first, past in self.bounds)

    @property
    def bounding_box(self) -> tuple[slice, ...] | None:
        """As the function of this name gives it."""
        return self.part if self.area else None

    @property
    def crop(self) -> np.ndarray:
        """The mask in its `part`, bool; made anew."""
        return unpack_bits(np.frombuffer(self.bits, np.uint8), tuple(past - first for first, past in self.bounds))

    def to_array(self) -> np.ndarray:
        """Bool of `shape`, made anew."""
        whole = np.zeros(self.shape, dtype=bool)
        whole[self.part] = self.crop
        return whole

    def at(self, index: int) -> np.ndarray:
        """mask[index]: bool of shape[1:], made anew. Only that part is unpacked."""
        full = np.zeros(self.shape[1:], dtype=bool)
        (first, past), *others = self.bounds
        if first <= index < past:
            sizes = [end - begin for begin, end in others]
            start, count = (index - first) * math.prod(sizes), math.prod(sizes)
            some = np.frombuffer(self.bits, np.uint8)[start // 8 : -(-(start + count) // 8)]
            full[self.part[1:]] = np.unpackbits(some)[start % 8 : start % 8 + count].reshape(sizes)
        return full

    def indices(self) -> list[int]:
        """Where along the first axis there is any element inside, ascending."""
        others = tuple(range(1, len(self.shape)))
        return [int(n) + self.bounds[0][0] for n in np.flatnonzero(self.crop.any(axis=others))]

    def to_dict(self) -> dict[str, Any]:
        """COCO's compressed RLE, ready for JSON: of a mask (h, w) {"size": [h, w], "counts": text}; of a mask (K, J, I)
        the counts of each slice that it touches, {"size": [K, J, I], "slices": {"k": text}}."""
        if len(self.shape) == 2:
            return RLE.of(self.to_array()).to_dict()
        touched: dict[str, str] = {}
        flat = np.zeros(self.shape[1:], dtype=bool)
        for index, crop in enumerate(self.crop, start=self.bounds[0][0]):
            if crop.any():
                flat[self.part[1:]] = crop
                touched[str(index)] = RLE.of(flat).to_dict()["counts"]
        return {"size": list(self.shape), "slices": touched}

    @classmethod
    def from_dict(cls, document: Any, shape: tuple[int, ...] | None = None) -> CompactMask:
        """The other way, also from what pycocotools wrote. shape: the only one it may have; default: any.

        Raises InputError when it is no mask, or of another shape, before memory is taken for it.
        """
        size = document.get("size") if isinstance(document, Mapping) else None
        if shape is not None and size != list(shape):
            raise InputError(f"A mask of {str(size)[:60]} elements does not fit {list(shape)}.")
        if not isinstance(document, Mapping) or "slices" not in document:
            return cls.of(RLE.from_dict(document).to_array())
        return cls._from_slices(document.get("size"), document["slices"])

    @classmethod
    def _from_slices(cls, size: Any, slices: Any) -> CompactMask:
        """Of a scan: [K, J, I], and number of a slice -> counts."""
        if not (isinstance(size, list | tuple) and len(size) == 3 and all(_is_count(n) and n > 0 for n in size)):
            raise InputError(f'The "size" of a mask with "slices" is [slices, rows, columns], not {str(size)[:60]}.')
        if math.prod(size) > _MAX_VOXELS:
            raise InputError(f'The "size" of a mask, {size[0]} x {size[1]} x {size[2]} voxels, is no scan\'s.')
        if not isinstance(slices, Mapping):
            raise InputError('The "slices" of a mask are an object: the number of a slice, and its "counts".')
        flat: dict[int, np.ndarray] = {}
        for key, counts in slices.items():
            if not (isinstance(key, str) and re.fullmatch("[0-9]{1,9}", key) and int(key) < size[0]):
                raise InputError(f'The "slices" of a mask are numbered from 0 to {size[0] - 1}, not {str(key)[:60]!r}.')
            flat[int(key)] = RLE.from_dict({"size": size[1:], "counts": counts}).to_array()
        shape, first = (size[0], size[1], size[2]), min(flat, default=0)
        touched = np.zeros((max(flat, default=-1) + 1 - first, *shape[1:]), dtype=bool)
        for index, mask in flat.items():
            touched[index - first] = mask
        return cls.of(touched, shape, (first, 0, 0))


# -- run lengths --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RLE:
    """A mask of `size` (h, w). counts: int64 (R,), runs outside and inside in turn, column by column."""

    size: tuple[int, int]
    counts: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> RLE:
        """A mask (h, w), bool."""
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        edges = np.concatenate([[0, 0] if flat[0] else [0], changes, [flat.size]])
        return cls((mask.shape[0], mask.shape[1]), np.diff(edges))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RLE) and self.size == other.size and np.array_equal(self.counts, other.counts)

    @property
    def area(self) -> int:
        """Pixels inside."""
        return int(self.counts[1::2].sum())

    def to_array(self) -> np.ndarray:
        """The mask, bool (h, w)."""
        inside = np.zeros(len(self.counts), dtype=bool)
        inside[1::2] = True
        return np.repeat(inside, self.counts).reshape(self.size, order="F")

    def intersection(self, other: RLE) -> int:
        """Pixels inside both, from the runs alone. Raises InputError for masks of two sizes."""
        if self.size != other.size:
            raise InputError(f"Masks of {self.size} and {other.size} pixels cannot be compared.")
        # how many pixels of `other` come before a position: straight lines between the ends of its runs
        ends = np.concatenate([[0], np.cumsum(other.counts)])
        steps = other.counts.copy()
        steps[::2] = 0
        before = np.concatenate([[0], np.cumsum(steps)])
        edges = np.interp(np.cumsum(self.counts), ends, before)
        return round(float((edges[1::2] - edges[0::2][: len(edges) // 2]).sum()))

    def to_dict(self, compressed: bool = True) -> dict[str, Any]:
        """{"size": [h, w], "counts": text, or a list when not compressed}, ready for JSON."""
        return {"size": list(self.size), "counts": _to_text(self.counts) if compressed else self.counts.tolist()}

    @classmethod
    def from_dict(cls, document: Any) -> RLE:
        """The other way, compressed (text or bytes) or not. Raises InputError when it is no mask."""
        if not isinstance(document, Mapping) or not {"size", "counts"} <= document.keys():
            raise InputError('A mask is an object with "size" and "counts" (COCO RLE); polygons are not read.')
        size, counts = document["size"], document["counts"]
        if not (isinstance(size, list | tuple) and len(size) == 2 and all(_is_count(n) and n > 0 for n in size)):
            raise InputError(f'The "size" of a mask is [rows, columns], not {str(size)[:60]}.')
        counts = _stated_counts(counts)
        pixels = size[0] * size[1]
        if pixels > _MAX_PIXELS:
            raise InputError(f'The "size" of a mask, {size[0]} x {size[1]} pixels, is no picture\'s.')
        if min(counts, default=0) < 0:
            raise InputError('The "counts" of a mask hold a run below 0 pixels.')
        if not counts or sum(counts) != pixels:
            raise InputError(
                f'The "counts" of a mask cover {sum(counts)} pixels, its "size" {size[0]} x {size[1]} has {pixels}.'
            )
        return cls((size[0], size[1]), np.array(counts, dtype=np.int64))


def _stated_counts(counts: Any) -> list[int] | tuple[int, ...]:
    """Runs from a list, or from their compressed text."""
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if isinstance(counts, str):
        return _from_text(counts)
    if not (isinstance(counts, list | tuple) and all(_is_count(n) for n in counts)):
        raise InputError('The "counts" of a mask are whole numbers of pixels, or their compressed text.')
    return counts


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _to_text(counts: np.ndarray) -> str:
    values = counts.copy()
    values[3:] -= counts[1:-2]
    text = bytearray()
    for value in values.tolist():
        more = True
        while more:
            group = value & 0x1F
            value >>= 5
            # done when what is left only repeats the sign bit
            more = value != (-1 if group & 0x10 else 0)
            text.append(48 + group + (0x20 if more else 0))
    return text.decode("ascii")


def _from_text(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise InputError('The "counts" of a mask are no compressed RLE.')
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError('The compressed "counts" of a mask end in the middle of a number.')
    return counts


@dataclass(frozen=True)
class AutomaticMask:
    """One mask of `medsam everything`, or of an SA-1B file (`io.sa1b`).

    stability_score: None where nobody measured it.
    rle: on the stored slice. bbox: (x, y, w, h) from the first to the last column and row *inside*, as in SA-1B, so w
    and h are one less than the number of columns and rows. crop_box: (x, y, w, h), half-open. point_coords: the prompts
    it answers, pixel indices. slice: its number, None in a file of one picture. object: from 1, where masks of
    neighbouring slices were linked. id: in its file. prompt_box: (x, y, w, h) where it answers a box and no point.
    """

    rle: RLE
    bbox: tuple[float, float, float, float]
    predicted_iou: float
    stability_score: float | None
    crop_box: tuple[float, float, float, float]
    point_coords: tuple[tuple[float, float], ...]
    slice: int | None = None
    object: int | None = None
    id: int | None = None
    prompt_box: tuple[float, float, float, float] | None = None

    @property
    def mask(self) -> np.ndarray:
        """bool (h, w)."""
        return self.rle.to_array()

    @property
    def area(self) -> int:
        """In pixels."""
        return self.rle.area


# -- many, by name ------------------------------------------------------------------------------------------


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

    @property
    def numbers(self) -> dict[str, int]:
        """Name -> value in the label map."""
        return dict(self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._array == self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def shared_pixels(structures: Iterable[Mapping[int, CompactMask]]) -> int:
    """How many pixels are in more than one of several structures, each slice -> mask (h, w)."""
    by_slice: dict[int, list[CompactMask]] = {}
    for masks in structures:
        for index, mask in masks.items():
            by_slice.setdefault(index, []).append(mask)
    found = 0
    for here in by_slice.values():
        if len(here) > 1:
            count = np.zeros(here[0].shape, np.uint16)
            for mask in here:
                count[mask.part] += mask.crop
            found += int(np.count_nonzero(count > 1))
    return found


class PackedMasks(Mapping[str, np.ndarray]):
    """Structures that may overlap: name -> bool (K, J, I), kept as a `CompactMask` and unpacked when asked for.

    voxels: name -> how many. notes: what the user should know of how they were read.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._masks: dict[str, CompactMask] = {}
        self._notes: dict[str, list[str]] = {}

    def add(
        self,
        name: str,
        mask: np.ndarray | None,
        notes: Iterable[str] = (),
        *,
        start: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """Keep `mask` (None: an empty one), joined with one of that name that is here already.

        mask: bool of a part of the grid, which begins at voxel `start` (k, j, i); the rest is empty.
        """
        self._notes.setdefault(name, []).extend(notes)
        new = CompactMask.of(np.zeros((0, 0, 0), bool) if mask is None else mask, self._shape, start)
        self._masks[name] = self._masks[name] | new if name in self._masks else new

    def notes_of(self, name: str) -> list[str]:
        """What to know of one structure."""
        return list(self._notes.get(name, ()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of all of them, each sentence once."""
        return tuple(dict.fromkeys(note for notes in self._notes.values() for note in notes))

    @property
    def voxels(self) -> dict[str, int]:
        """Structure -> elements inside."""
        return {name: mask.area for name, mask in self._masks.items()}

    def compact(self, name: str) -> CompactMask:
        """The mask of a structure as it is kept."""
        return self._masks[name]

    def __getitem__(self, name: str) -> np.ndarray:
        return self._masks[name].to_array()

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)
