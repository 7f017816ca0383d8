"""(5200,9230) Per-frame Functional Groups Sequence of a SEG, and its pixels, as the bytes that end its file.

Why not pydicom alone: it makes an object of every element, seven items a frame, which for the 1600 frames of 40
structures takes longer than all else of the file. Frames of one plane share what says where they are, so that is
encoded by pydicom once a plane; what is left of a frame is three numbers. Both elements have the highest tags of a SEG
and come last.

Source: DICOM PS3.5 7.1.2 (explicit VR), 7.5 (sequences), A.4 (encapsulated pixels); PS3.3 C.7.6.16.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO

from pydicom import Dataset, dcmwrite
from pydicom.tag import Tag

from medsam.errors import InputError

_DERIVATION, _CONTENT, _POSITION = 0x00089124, 0x00209111, 0x00209113
_INDEX_VALUES = 0x00209157
_IDENTIFICATION, _SEGMENT = 0x0062000A, 0x0062000B
_GROUPS, _PIXELS = 0x52009230, 0x7FE00010
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
# the length of an element is stated in 32 bits
MOST_BYTES = 2**32 - 2


class FrameGroups:
    """The functional groups of the frames of a SEG, in the order they are added.

    derivation, position: for each plane k the item that says what its frames were made from, and where they lie.
    """

    def __init__(self, derivation: Mapping[int, Dataset], position: Mapping[int, Dataset]) -> None:
        self._items: list[bytes] = []
        # (0020,9157) counts the planes that have a frame
        self._rank = {k: rank for rank, k in enumerate(sorted(position), start=1)}
        self._derivation = {k: _sequence(_DERIVATION, [_elements(item)]) for k, item in derivation.items()}
        self._position = {k: _sequence(_POSITION, [_elements(item)]) for k, item in position.items()}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, k: int, segment: int | None = None) -> None:
        """A frame on the plane of slice k; of one segment, or of a label map."""
        index = [self._rank[k]] if segment is None else [segment, self._rank[k]]
        values = _short(_INDEX_VALUES, "UL", struct.pack(f"<{len(index)}I", *index))
        parts = [self._derivation[k], _sequence(_CONTENT, [values]), self._position[k]]
        if segment is not None:
            parts.append(_sequence(_IDENTIFICATION, [_short(_SEGMENT, "US", struct.pack("<H", segment))]))
        self._items.append(b"".join(parts))

    def encode(self) -> bytes:
        """The element."""
        return _sequence(_GROUPS, self._items)


def write_seg(seg: Dataset, groups: FrameGroups, pixels: Sequence[bytes], *, encapsulated: bool) -> bytes:
    """The file of a SEG that lacks its groups and pixels, explicit VR, little endian.

    pixels: parts of (7FE0,0010) Pixel Data, one after the other; `encapsulated` where they are compressed.
    Raises InputError when they are longer than an element can be.
    """
    size = sum(map(len, pixels))
    check_size(size)
    seg.NumberOfFrames = len(groups)
    for tag in (_GROUPS, _PIXELS):
        seg.pop(Tag(tag), None)
    file = BytesIO()
    dcmwrite(file, seg, enforce_file_format=True)
    file.seek(0, 2)
    file.write(groups.encode())
    file.write(_header(_PIXELS, "OB", _UNDEFINED if encapsulated else size + size % 2))
    for part in pixels:
        file.write(part)
    if encapsulated:
        file.write(_tag(_END) + bytes(4))
    else:
        file.write(bytes(size % 2))
    return file.getvalue()


def check_size(size: int) -> None:
    """Raise InputError for more bytes of pixels than an element can have."""
    if size > MOST_BYTES:
        raise InputError(
            f"The SEG would have {size / 2**30:.1f} GB of pixels, and a DICOM file holds 4. Write fewer structures to "
            "a file, or a label map (.nii.gz)."
        )


def _elements(item: Dataset) -> bytes:
    """A data set as pydicom encodes it, without the head of a file."""
    file = BytesIO()
    dcmwrite(file, item, implicit_vr=False, little_endian=True)
    return file.getvalue()


def _tag(tag: int) -> bytes:
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)


def _short(tag: int, vr: str, value: bytes) -> bytes:
    return _tag(tag) + vr.encode() + struct.pack("<H", len(value)) + value


def _header(tag: int, vr: str, length: int) -> bytes:
    return _tag(tag) + vr.encode() + struct.pack("<HI", 0, length)


def _sequence(tag: int, items: Sequence[bytes]) -> bytes:
    """A sequence of items of stated length."""
    content = b"".join(part for item in items for part in (_tag(_ITEM), struct.pack("<I", len(item)), item))
    return _header(tag, "SQ", len(content)) + content
