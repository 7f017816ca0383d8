"""Headers of NRRD and MetaImage: lines of text that say how voxels lie in this file, or in others beside it.

Read here and not by ITK, whose MetaIO prints errors and continues (damaged data come out changed or as zeros),
crashes on some numbers, and opens any file a header names. Every number is checked before it is used.

    sizes        voxels along each axis, the fastest first, components among them
    components   the axis of `sizes` that counts components of a voxel, or None
    files        data file and where its voxels begin: from the start, or -1 for "at its end"

Sources: NRRD, teem.sourceforge.net/nrrd/format.html; MetaImage, the ITK wiki's MetaIO documentation. What they leave
open (axes without a direction, which spaces are turned to LPS) is as ITK reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medsam.errors import InputError
from medsam.io.files import beside, check_regular
from medsam.io.voxels import Coding, check_ended, damage_as_input_error, expect, fill, from_text, unpacked

# a header with a thousand named segments has some hundred kilobytes
_MAX_HEADER = 16 * 2**20
_MAX_AXES = 8
_MAX_FILES = 100_000


@dataclass(frozen=True)
class Layout:
    """How the voxels of an image lie in files, and where the image lies. Letters: see the module.

    dtype: with its byte order. origin, spacing, direction: LPS, three numbers, three, and 3 x 3 whose columns are the
    axes i, j, k. packed_bytes: the stated length of the compressed data. fields: the header's own words.
    unsaid: the fields that place voxels, of which the header has none.
    segments: what 3D Slicer wrote of segment N into an NRRD: N -> Name, LabelValue, Layer, ... (see `seg_nrrd`).
    """

    dtype: np.dtype
    sizes: tuple[int, ...]
    components: int | None
    coding: Coding
    files: tuple[tuple[Path, int], ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: np.ndarray
    line_skip: int = 0
    packed_bytes: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    unsaid: tuple[str, ...] = ()
    segments: Mapping[int, Mapping[str, str]] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        """Axes in space and time, without components."""
        return len(self.sizes) - (self.components is not None)


def read_layout(path: Path) -> Layout:
    """The layout of an NRRD or MetaImage file; the content decides which. Raises InputError."""
    check_regular(path)
    with damage_as_input_error(path), path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        return _nrrd(path, file) if start == b"NRRD" else _meta(path, file)


def _unsaid(fields: Mapping[str, str], place: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(names[0] for names in place if not any(name in fields for name in names))


def read_array(path: Path, layout: Layout) -> np.ndarray:
    """The voxels, slowest axis first and components last. Raises InputError when they are damaged, too few or too many.

    Compressed data are read to their checksum.
    """
    item, files = layout.dtype.itemsize, layout.files
    total = math.prod(layout.sizes) * item
    count, rest = divmod(total, len(files))
    if rest:
        raise InputError(f"{path.name} names {len(files)} data files, which its {layout.sizes[-1]} slices do not fill.")
    if layout.coding != "text":
        packed = sum(file.stat().st_size - max(begin, 0) for file, begin in files)
        expect(path, total, packed, "gzip" if layout.coding == "hex" else layout.coding)
    row = layout.sizes[0] * item
    parts = []
    # written into as it comes: memory that a wrong header asks for is never touched, and so never taken
    whole = np.empty(total if layout.coding != "text" else 0, dtype=np.uint8)
    for number, (file, begin) in enumerate(files):
        with damage_as_input_error(file), file.open("rb") as source:
            _skip(file, source, begin, layout, count)
            if layout.coding == "text":
                parts.append(from_text(file, source.read(), layout.dtype, count // item))
            elif layout.coding == "hex":
                try:
                    whole[number * count : (number + 1) * count] = np.frombuffer(
                        bytes.fromhex(source.read().decode("ascii")), np.uint8
                    )
                except ValueError as error:
                    raise InputError(
                        f"{file.name}: its hexadecimal voxels are damaged, too few or too many."
                    ) from error
            else:
                stream = unpacked(source, layout.coding)
                fill(file, stream, whole[number * count : (number + 1) * count])
                check_ended(file, stream, count, row)
    array = np.concatenate(parts) if parts else whole.view(layout.dtype)
    array = array.reshape(layout.sizes[::-1])
    if layout.components is not None:
        array = np.moveaxis(array, len(layout.sizes) - 1 - layout.components, -1)
    return array.astype(layout.dtype.newbyteorder("="), copy=False)


def _skip(file: Path, source: BinaryIO, begin: int, layout: Layout, count: int) -> None:
    size = file.stat().st_size
    if begin < 0:
        # voxels at the end of the file, after a header of unknown length; where compressed ones begin is not known
        begin = size - count if layout.coding == "raw" else -1
    if not 0 <= begin <= size:
        raise InputError(f"{file.name}: its voxels should begin at byte {begin:,}, but it has {size:,}.")
    if layout.packed_bytes is not None and layout.packed_bytes != size - begin:
        raise InputError(
            f"{file.name} is damaged: its header states {layout.packed_bytes:,} compressed bytes, {size - begin:,} "
            "are there. Copy or export it again."
        )
    source.seek(begin)
    for _ in range(layout.line_skip):
        if not source.readline(_MAX_HEADER):
            raise InputError(f"{file.name} ends before its voxels: its header states {layout.line_skip} lines to skip.")


# -- what both have in common ---------------------------------------------------------------------------------


def _shown(text: str) -> str:
    """What a field holds, as a message may say it: numbers or a word. A sentence may be another field, a name."""
    sound = re.fullmatch(r"[-+0-9.,()eE \t]{0,80}|\w{1,24}", text)
    return repr(text) if sound else "some text"


def _numbers(path: Path, name: str, text: str, count: int | None = None) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) != count):
        want = "numbers" if count is None else "one number" if count == 1 else f"{count} numbers"
        raise InputError(f"{path.name}: {name} in its header is {_shown(text)}, not {want}.")
    return values


def _whole(path: Path, name: str, text: str, least: int, most: int) -> int:
    word = text.strip()
    if not re.fullmatch(r"[+-]?\d{1,18}", word) or not least <= int(word) <= most:
        raise InputError(
            f"{path.name}: {name} in its header is {_shown(text)}, not a whole number from {least} to {most}."
        )
    return int(word)


def _sizes(path: Path, name: str, text: str, count: int) -> tuple[int, ...]:
    words = text.split()
    if len(words) != count:
        raise InputError(f"{path.name}: {name} in its header has {len(words)} numbers for {count} axes.")
    return tuple(_whole(path, name, word, 1, 2**40) for word in words)


def _listed(path: Path, pattern: str, numbers: str) -> list[str]:
    """File names of a pattern such as `slice%03d.raw 1 20 1`."""
    words = numbers.split()
    first, last, step = (_whole(path, "the data file pattern", word, -(10**9), 10**9) for word in [*words, "1"][:3])
    count = (last - first) // step + 1 if step else 0
    conversions = re.findall(r"%(?!%)[^a-zA-Z]*[a-zA-Z]", pattern)
    if not 0 < count <= _MAX_FILES or len(conversions) != 1 or not re.fullmatch(r"%0?\d{0,2}d", conversions[0]):
        raise InputError(
            f"{path.name} names its data files by a pattern that gives no files: {pattern[:80]} {numbers[:80]}."
        )
    return [pattern % number for number in range(first, last + (1 if step > 0 else -1), step)]


def _named_files(path: Path, file: BinaryIO, text: str, pattern_words: int) -> list[str]:
    """The data files a header names: a list that follows in `file`, a pattern of `pattern_words` or more, or one."""
    words = text.split()
    if words[:1] == ["LIST"]:
        return _from_list(path, file)
    if len(words) >= pattern_words and "%" in words[0]:
        return _listed(path, words[0], " ".join(words[1:4]))
    return [text]


def _from_list(path: Path, file: BinaryIO) -> list[str]:
    lines = [line.strip() for line in file.read(_MAX_HEADER).decode("utf-8", "surrogateescape").splitlines()]
    names = [line for line in lines if line]
    if not 0 < len(names) <= _MAX_FILES:
        raise InputError(f"{path.name} lists {len(names)} data files.")
    return names


# -- MetaImage ------------------------------------------------------------------------------------------------

_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    # four bytes wherever MetaIO runs
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


# what places voxels, by every name it has: spacing, origin, direction
_META_PLACE = (
    ("ElementSpacing", "ElementSize"),
    ("Offset", "Position", "Origin"),
    ("TransformMatrix", "Rotation", "Orientation"),
)


def _meta_fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """The header, field by field. Leaves the file behind it."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(_MAX_HEADER)
        name, equals, value = line.decode("utf-8", "surrogateescape").partition("=")
        if not line or not equals or file.tell() > _MAX_HEADER:
            if line.strip() or not fields or not line:
                raise InputError(f"{path.name} is no MetaImage, or its header is damaged: it has no ElementDataFile.")
            continue
        fields.setdefault(name.strip(), value.strip())
    return fields


def _meta(path: Path, file: BinaryIO) -> Layout:
    fields = _meta_fields(path, file)

    def first_of(*names: str) -> str | None:
        return next((fields[name] for name in names if name in fields), None)

    def yes(*names: str, default: str = "False") -> bool:
        word = (first_of(*names) or default).lower()
        if word not in ("true", "false", "1", "0"):
            raise InputError(f"{path.name}: {names[0]} in its header is {_shown(word)}, not True or False.")
        return word in ("true", "1")

    if fields.get("ObjectType", "Image") != "Image":
        raise InputError(f"{path.name} holds a MetaIO {_shown(fields['ObjectType'])}, not an Image.")
    axes = _whole(path, "NDims", fields.get("NDims", ""), 2, 4)
    sizes = _sizes(path, "DimSize", fields.get("DimSize", ""), axes)
    channels = _whole(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1, 2**20)
    kind = _META_TYPES.get(fields.get("ElementType", ""))
    if kind is None:
        raise InputError(
            f"{path.name}: ElementType in its header is {_shown(fields.get('ElementType', ''))}, no type of voxels."
        )
    dtype = np.dtype(kind).newbyteorder(">" if yes("BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<")
    compressed, binary = yes("CompressedData"), yes("BinaryData", default="True")
    packed = fields.get("CompressedDataSize") if compressed else None
    coding: Coding = "zlib" if compressed else "raw" if binary else "text"

    spacing = _numbers(path, "ElementSpacing", first_of(*_META_PLACE[0]) or "1 " * axes, axes)
    origin = _numbers(path, "Offset", first_of(*_META_PLACE[1]) or "0 " * axes, axes)
    matrix = first_of(*_META_PLACE[2])
    header_bytes = _whole(path, "HeaderSize", fields.get("HeaderSize", "0"), -1, 2**60)
    return Layout(
        dtype=dtype,
        sizes=(channels, *sizes) if channels > 1 else sizes,
        components=0 if channels > 1 else None,
        coding=coding,
        files=_meta_files(path, file, fields["ElementDataFile"], header_bytes),
        origin=(*origin, 0.0)[:3],
        spacing=(*spacing, 1.0)[:3],
        direction=_meta_direction(path, matrix, axes),
        packed_bytes=None if packed is None else _whole(path, "CompressedDataSize", packed, 0, 2**60),
        fields=fields,
        unsaid=_unsaid(fields, _META_PLACE),
    )


def _meta_direction(path: Path, matrix: str | None, axes: int) -> np.ndarray:
    """(3, 3), whose columns are the axes in space."""
    space = np.eye(3)
    if matrix is not None:
        # one axis after another, so that the rows of the matrix as written are the columns of the direction
        direction = np.reshape(_numbers(path, "TransformMatrix", matrix, axes**2), (axes, axes)).T
        space[: min(axes, 3), : min(axes, 3)] = direction[:3, :3]
    return space


def _meta_files(path: Path, file: BinaryIO, named: str, header_bytes: int) -> tuple[tuple[Path, int], ...]:
    if named.upper() == "LOCAL":
        return ((path, file.tell()),)
    return tuple((beside(path, name), header_bytes) for name in _named_files(path, file, named, 3))


# -- NRRD -----------------------------------------------------------------------------------------------------

_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(
        ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"), "i8"
    ),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_NRRD_CODINGS: dict[str, Coding] = {
    "raw": "raw",
    **dict.fromkeys(("gz", "gzip"), "gzip"),
    **dict.fromkeys(("bz2", "bzip2"), "bzip2"),
    **dict.fromkeys(("txt", "text", "ascii"), "text"),
    "hex": "hex",
}
# what an axis of voxels in space or time is called; any other kind counts components
_DOMAIN = ("domain", "space", "time", "???", "none", "")
# a key and its value, as 3D Slicer writes them
_SEGMENT = re.compile(r"Segment(\d{1,6})_(\w+):=(.*)")
# LPS from other spaces that are patients', by the sign of each axis
_TO_LPS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}


# what places voxels
_NRRD_PLACE = (("space",), ("space directions",), ("space origin",))


def _nrrd_fields(file: BinaryIO) -> tuple[dict[str, str], dict[int, dict[str, str]]]:
    """The header, field by field, and the segments it describes. Leaves the file behind it, or before its LIST."""
    file.readline(_MAX_HEADER)
    fields: dict[str, str] = {}
    segments: dict[int, dict[str, str]] = {}
    while line := file.readline(_MAX_HEADER):
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text or file.tell() > _MAX_HEADER:
            break
        if found := _SEGMENT.fullmatch(text):
            segments.setdefault(int(found[1]), {})[found[2]] = found[3].strip()
        name, colon, value = text.partition(": ")
        if text.startswith("#") or not colon or ":=" in name:
            continue
        name = name.strip().lower()
        fields.setdefault({"datafile": "data file", "centerings": "centers"}.get(name, name), value.strip())
        if name in ("data file", "datafile") and value.split()[:1] == ["LIST"]:
            break
    return fields, segments


def _nrrd(path: Path, file: BinaryIO) -> Layout:
    fields, segments = _nrrd_fields(file)
    axes = _whole(path, "dimension", fields.get("dimension", ""), 2, _MAX_AXES)
    sizes = _sizes(path, "sizes", fields.get("sizes", ""), axes)
    kind = _NRRD_TYPES.get(fields.get("type", "").lower())
    coding = _NRRD_CODINGS.get(fields.get("encoding", "").lower())
    if kind is None or coding is None:
        wrong = "type" if kind is None else "encoding"
        raise InputError(f"{path.name}: {wrong} in its header is {_shown(fields.get(wrong, ''))}, which is not read.")
    endian = fields.get("endian", "little").lower()
    if endian not in ("little", "big"):
        raise InputError(f"{path.name}: endian in its header is {_shown(endian)}, not little or big.")

    vectors = _vectors(path, fields["space directions"]) if "space directions" in fields else None
    if vectors is not None and len(vectors) != axes:
        raise InputError(f"{path.name}: space directions in its header has {len(vectors)} entries for {axes} axes.")
    components = _components(path, fields.get("kinds", ""), sizes, vectors)
    domain = [axis for axis in range(axes) if axis != components]
    if not 2 <= len(domain) <= 4:
        raise InputError(f"{path.name} has {len(domain)} axes in space and time; save the one 3D volume you need.")
    line_skip = _whole(path, "line skip", fields.get("line skip", fields.get("lineskip", "0")), 0, 10**6)
    byte_skip = _whole(path, "byte skip", fields.get("byte skip", fields.get("byteskip", "0")), -1, 2**60)
    if "data file" in fields:
        names = _named_files(path, file, fields["data file"], 4)
        files = tuple((beside(path, name), byte_skip) for name in names)
    else:
        files = ((path, file.tell() + byte_skip if byte_skip >= 0 else -1),)
    origin, spacing, direction = _nrrd_place(path, fields, vectors, domain, sizes)
    return Layout(
        dtype=np.dtype(kind).newbyteorder("<" if endian == "little" else ">"),
        sizes=sizes,
        components=components,
        coding=coding,
        files=files,
        origin=origin,
        spacing=spacing,
        direction=direction,
        line_skip=line_skip,
        fields=fields,
        unsaid=_unsaid(fields, _NRRD_PLACE),
        segments=segments,
    )


def _components(
    path: Path, kinds: str, sizes: Sequence[int], vectors: Sequence[tuple[float, ...] | None] | None
) -> int | None:
    words = kinds.lower().split()
    if words and len(words) != len(sizes):
        raise InputError(f"{path.name}: kinds in its header has {len(words)} entries for {len(sizes)} axes.")
    if "complex" in words:
        raise InputError(f"{path.name} holds complex numbers. Save its magnitude and use that.")
    found = [axis for axis, word in enumerate(words) if word not in _DOMAIN]
    if not words and vectors is not None and len(sizes) > 3:
        found = [axis for axis, vector in enumerate(vectors) if vector is None]
    if len(found) > 1:
        raise InputError(f"{path.name} has {len(found)} axes that count components; save the one volume you need.")
    return found[0] if found else None


def _vectors(path: Path, text: str) -> list[tuple[float, ...] | None]:
    parts = re.findall(r"none|\([^()]*\)", text)
    if not parts or len(re.sub(r"none|\([^()]*\)|\s", "", text)):
        raise InputError(f"{path.name}: space directions in its header is {_shown(text)}, no list of vectors.")
    return [None if part == "none" else _numbers(path, "space directions", part[1:-1]) for part in parts]


def _nrrd_place(
    path: Path,
    fields: Mapping[str, str],
    vectors: Sequence[tuple[float, ...] | None] | None,
    domain: Sequence[int],
    sizes: Sequence[int],
) -> tuple[tuple[float, ...], tuple[float, ...], np.ndarray]:
    """Origin, spacing and direction in LPS; an axis that no vector places has a length of 1."""
    signs = np.array(_TO_LPS.get(fields.get("space", "").lower(), (1.0, 1.0, 1.0)))
    direction, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    if vectors is not None:
        for column, axis in enumerate(domain[:3]):
            vector = np.array(vectors[axis] if vectors[axis] is not None else np.eye(3)[column])[:3]
            if not np.isfinite(vector).all():
                raise InputError(f"{path.name}: space directions in its header hold a number that is not finite.")
            vector = np.pad(vector, (0, 3 - len(vector))) * signs
            length = float(np.linalg.norm(vector))
            if not length > 0:
                raise InputError(f"{path.name}: space directions in its header hold an axis of zero length.")
            direction[:, column], spacing[column] = vector / length, length
        if len(domain) == 2:
            # a slice in space: the third axis is across it
            direction[:, 2] = np.cross(direction[:, 0], direction[:, 1])
        if "space origin" in fields:
            begin = np.array(_numbers(path, "space origin", fields["space origin"].strip("() \t")))[:3]
            origin = np.pad(begin, (0, 3 - len(begin))) * signs
        return tuple(origin), tuple(spacing), direction
    given = {
        name: _of_axes(path, fields, name, domain) for name in ("spacings", "axis mins", "axis maxs") if name in fields
    }
    # without a word on it, a voxel is a cell, and its centre half a voxel from where the axis begins
    node = fields.get("centers", "").lower().split()[:1] == ["node"]
    if "spacings" in given:
        spacing = np.where(np.isnan(given["spacings"]), spacing, given["spacings"])
    elif "axis mins" in given and "axis maxs" in given:
        steps = np.array([sizes[axis] - node for axis in domain[:3]] + [1] * (3 - len(domain[:3])))
        spacing = (given["axis maxs"] - given["axis mins"]) / np.maximum(steps, 1)
        spacing = np.where(np.isfinite(spacing) & (spacing != 0), spacing, 1.0)
    if "axis mins" in given:
        begin = given["axis mins"] + (0.0 if node else 0.5) * spacing
        origin = np.where(np.isnan(begin), origin, begin)
    return tuple(origin), tuple(spacing), direction


def _of_axes(path: Path, fields: Mapping[str, str], name: str, domain: Sequence[int]) -> np.ndarray:
    """The numbers of the first three axes in space; nan where there is none."""
    numbers = np.array(_numbers(path, name, fields[name]))
    if len(numbers) <= max(domain):
        raise InputError(f"{path.name}: {name} in its header has {len(numbers)} numbers for the axes of `sizes`.")
    chosen = numbers[list(domain)][:3]
    return np.pad(chosen, (0, 3 - len(chosen)), constant_values=np.nan)
