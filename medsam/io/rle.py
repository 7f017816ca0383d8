"""Masks as run lengths: COCO's RLE, plain and compressed, as pycocotools and SA-1B write it.

A mask (h, w) is read column by column; counts tell how many pixels are outside, then inside, then outside, ... The
first count may be 0. Compressed, every count after the third is replaced by its difference to the count two before, and
each number becomes 5-bit groups, lowest first, written as characters from "0" on with the sixth bit for "more follows".
Source: the COCO API's mask format (Lin et al. 2014).

pycocotools is the referee in the tests and no dependency: a compiled package for two short functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medsam.errors import InputError

# a run of any length takes a few bytes; a mask takes one for each of its pixels
_MAX_PIXELS = 2**30


@dataclass(frozen=True, eq=False)
class RLE:
    """A mask of `size` (h, w). counts: int64 (R,), runs outside and inside in turn, column by column."""

    size: tuple[int, int]
    counts: np.ndarray

    @property
    def area(self) -> int:
        """Pixels inside."""
        return int(self.counts[1::2].sum())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RLE) and self.size == other.size and np.array_equal(self.counts, other.counts)


def encode(mask: np.ndarray) -> RLE:
    """A mask (h, w), bool."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0, 0] if flat[0] else [0], changes, [flat.size]])
    return RLE((mask.shape[0], mask.shape[1]), np.diff(edges))


def decode(rle: RLE) -> np.ndarray:
    """The mask, bool (h, w)."""
    inside = np.zeros(len(rle.counts), dtype=bool)
    inside[1::2] = True
    return np.repeat(inside, rle.counts).reshape(rle.size, order="F")


def intersection(one: RLE, other: RLE) -> int:
    """Pixels inside both, from the runs alone."""
    if one.size != other.size:
        raise InputError(f"Masks of {one.size} and {other.size} pixels cannot be compared.")
    # how many pixels of `other` come before a position: straight lines between the ends of its runs
    ends = np.concatenate([[0], np.cumsum(other.counts)])
    steps = other.counts.copy()
    steps[::2] = 0
    before = np.concatenate([[0], np.cumsum(steps)])
    edges = np.interp(np.cumsum(one.counts), ends, before)
    return round(float((edges[1::2] - edges[0::2][: len(edges) // 2]).sum()))


def to_coco(rle: RLE, compressed: bool = True) -> dict[str, Any]:
    """{"size": [h, w], "counts": text, or a list when not compressed}, ready for JSON."""
    return {"size": list(rle.size), "counts": _pack(rle.counts) if compressed else rle.counts.tolist()}


def from_coco(document: Any) -> RLE:
    """The other way, compressed (text or bytes) or not. Raises InputError when it is no mask."""
    if not isinstance(document, Mapping) or not {"size", "counts"} <= document.keys():
        raise InputError('A mask is an object with "size" and "counts" (COCO RLE); polygons are not read.')
    size, counts = document["size"], document["counts"]
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(_is_count(n) and n > 0 for n in size)):
        raise InputError(f'The "size" of a mask is [rows, columns], not {str(size)[:60]}.')
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    if isinstance(counts, str):
        counts = _unpack(counts)
    elif not (isinstance(counts, list | tuple) and all(_is_count(n) for n in counts)):
        raise InputError('The "counts" of a mask are whole numbers of pixels, or their compressed text.')
    pixels = size[0] * size[1]
    if pixels > _MAX_PIXELS:
        raise InputError(f'The "size" of a mask, {size[0]} x {size[1]} pixels, is no picture\'s.')
    if min(counts, default=0) < 0:
        raise InputError('The "counts" of a mask hold a run below 0 pixels.')
    if not counts or sum(counts) != pixels:
        raise InputError(
            f'The "counts" of a mask cover {sum(counts)} pixels, its "size" {size[0]} x {size[1]} has {pixels}.'
        )
    return RLE((size[0], size[1]), np.array(counts, dtype=np.int64))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _pack(counts: np.ndarray) -> str:
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


def _unpack(text: str) -> list[int]:
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
