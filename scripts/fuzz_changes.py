"""Changes to files: bytes, numbers of headers, nodes of documents, elements; see `fuzz`."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz_dicom import INTEGERS, damage, elements
from fuzz_grids import moved_dicom, moved_nifti, moved_npz, moved_text

# what people and attackers write where a number belongs
NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"2",
    b"3",
    b"7",
    b"255",
    b"65536",
    b"2147483648",
    b"99999999999",
    b"1e30",
    b"-1e30",
    b"nan",
]
NUMBERS += [b"inf", b"1e400", b"1.5", b"", b"x", b"9" * 5000, "²".encode(), b"[" * 3, b'"a"', b"null", b"true", b"-0.0"]
FLOATS = [0.0, -0.0, -1.0, 1.5, 1e-30, 1e30, -1e30, 3.4e38, float("nan"), float("inf"), 352.0, 1e9]


def words(content: bytes, rng: random.Random) -> bytes:
    """Another number somewhere in a header or document of text."""
    head = content[:4000]
    found = list(re.finditer(rb"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])", head)) or list(re.finditer(rb"\w+", head))
    if not found:
        return damage(content, rng)[0]
    match = rng.choice(found)
    return content[: match.start()] + rng.choice(NUMBERS) + content[match.end() :]


def binary(content: bytes, rng: random.Random, end: int) -> bytes:
    """Another number in the first `end` bytes, at an even place."""
    kind = rng.choice(["<h", "<H", "<i", "<I", ">h", ">I", "<f", "<f"])
    value = rng.choice(FLOATS if kind.endswith("f") else INTEGERS)
    if not kind.endswith("f"):
        bits = 8 * struct.calcsize(kind)
        value = value % 2**bits
        value = value - 2**bits if kind[1].islower() and value >= 2 ** (bits - 1) else value
    at = 2 * rng.randrange(max(1, min(end, len(content) - 4) // 2))
    return content[:at] + struct.pack(kind, value) + content[at + struct.calcsize(kind) :]


def nifti_fields(content: bytes, rng: random.Random) -> bytes:
    dims, pitches = [(at, "<h") for at in range(40, 56, 2)], [(at, "<f") for at in (76, 80, 84, 88, 108, 112, 116)]
    types, places = [(at, "<h") for at in (70, 72, 252, 254)], [(280, "<f"), (300, "<f"), (0, "<i")]
    at, kind = rng.choice(dims + pitches + types + places)
    value = (
        rng.choice(FLOATS) if kind == "<f" else rng.choice([-1, 0, 1, 2, 3, 4, 5, 7, 16, 64, 512, 2304, 30000, 32767])
    )
    return content[:at] + struct.pack(kind, value) + content[at + struct.calcsize(kind) :]


def png_fields(content: bytes, rng: random.Random) -> bytes:
    head = bytearray(content[16:29])
    if rng.random() < 0.5:
        head[rng.randrange(8)] = rng.randrange(256)
    else:
        head[8 + rng.randrange(5)] = rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
    return content[:16] + bytes(head) + struct.pack(">I", zlib.crc32(content[12:16] + head)) + content[33:]


def members(content: bytes, rng: random.Random) -> bytes:
    """A zip whose member is damaged under a checksum that is right."""
    source, target = io.BytesIO(content), io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        entries = old.infolist()
        chosen = rng.randrange(len(entries))
        for index, entry in enumerate(entries):
            data = old.read(entry)
            if index == chosen and data:
                data = words(data, rng) if rng.random() < 0.5 else damage(data, rng)[0]
            new.writestr(entry.filename, data)
    return target.getvalue()


def safetensors_fields(content: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    head = content[8 : 8 + size]
    found = list(re.finditer(rb"\d+", head))
    match = rng.choice(found)
    head = head[: match.start()] + rng.choice(NUMBERS) + head[match.end() :]
    return len(head).to_bytes(8, "little") + head + content[8 + size :]


# what stands where anything else belongs, in JSON
VALUES: list[Any] = [None, True, False, 0, -1, 1, 2.5, 1e308, -1e308, 10**30, float("nan"), float("inf"), "", "x", "k"]
VALUES += ["x" * 5000, "\x1b[2J", "../../etc/passwd", "é", [], {}, [[]], [1], {"a": 1}, [None] * 50, [0] * 2000]


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every node as (what holds it, its key or number)."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


def nodes(content: bytes, rng: random.Random) -> bytes:
    """A JSON document with another value, key, type, order or number of nodes."""
    document = json.loads(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        found = list(places(document)) if isinstance(document, dict | list) else []
        if not found:
            break
        home, key = rng.choice(found)
        how = rng.choice(["value", "value", "value", "delete", "twin", "wrap", "key", "deep", "other"])
        if how == "delete":
            del home[key]
        elif how == "twin" and isinstance(home, list):
            home[key:key] = [home[key]] * rng.choice([1, 1, 2000])
        elif how == "wrap":
            home[key] = rng.choice([[home[key]], {"a": home[key]}, str(home[key])])
        elif how == "key" and isinstance(home, dict):
            home[rng.choice(["", "x" * 300, "label", "é\x00", str(key).upper()])] = home.pop(key)
        elif how == "deep":
            home[key] = "DEEP"
        elif how == "other":
            other, name = rng.choice(found)
            home[key] = json.loads(json.dumps(other[name])) if name in other or isinstance(name, int) else None
        else:
            home[key] = rng.choice(VALUES)
    deep = rng.choice([50, 900, 100_000])
    return json.dumps(document).encode().replace(b'"DEEP"', b"[" * deep + b"]" * deep)


def lines(content: bytes, rng: random.Random) -> bytes:
    """A text with a line less, twice, or elsewhere."""
    found = content.splitlines(keepends=True)
    at, to = rng.randrange(len(found)), rng.randrange(len(found))
    line = found[at]
    if rng.random() < 0.7:
        del found[at]
    found[to:to] = [line] * rng.choice([0, 1, 1])
    return b"".join(found)


@dataclass(frozen=True)
class Change:
    """at: the first byte that changed; None when its checksum was made right again. moved: a label, elsewhere."""

    at: int | None = None
    moved: bool = False


def change(path: Path, rng: random.Random) -> Change:
    """Change one file in place."""
    content = path.read_bytes()
    how = rng.random()
    if how < 0.45 or not content:
        changed, at = damage(content or b"x", rng)
        path.write_bytes(changed)
        return Change(at)
    if path.suffix == ".dcm":
        return _change_dicom(path, content, rng, how > 0.8)
    if path.suffix == ".npz" and how > 0.7:
        moved_npz(path, rng)
        return Change()
    path.write_bytes(_changed(path.name, content, rng, how > 0.75))
    return Change()


def _change_dicom(path: Path, content: bytes, rng: random.Random, elsewhere: bool) -> Change:
    try:
        if elsewhere and moved_dicom(path, rng):
            return Change(moved=True)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            elements(path, rng)
    except Exception:  # pydicom does not write everything; what was asked for is then damaged plainly
        path.write_bytes(damage(content, rng)[0])
    return Change()


def _changed(name: str, content: bytes, rng: random.Random, elsewhere: bool) -> bytes:
    """elsewhere: what places the voxels, of a format that has it."""
    if name.endswith((".nii", ".nii.gz", ".hdr")):
        packed = content[:2] == b"\x1f\x8b"
        inside = gzip.decompress(content) if packed else content
        if elsewhere:
            inside = moved_nifti(inside, rng)
        else:
            inside = nifti_fields(inside, rng) if rng.random() < 0.8 else damage(inside, rng)[0]
        return gzip.compress(inside, 1) if packed else inside
    if elsewhere and name.endswith((".nrrd", ".mha", ".nhdr", ".mhd")):
        return moved_text(content, rng)
    if name.endswith((".npz", ".zip", ".pth")):
        return members(content, rng)
    if name.endswith(".png"):
        return png_fields(content, rng)
    if name.endswith((".tif", ".jpg")):
        return binary(content, rng, len(content) if name.endswith(".tif") else 600)
    if name.endswith(".safetensors"):
        return safetensors_fields(content, rng)
    if name.endswith(".json") and rng.random() < 0.7:
        return nodes(content, rng)
    if name.endswith(".toml") and rng.random() < 0.5:
        return lines(content, rng)
    return words(content, rng)
