"""Where voxels lie by a second reader of each header, and headers that say something else; see `fuzz`.

The second readers know the fields alone, and nothing of medsam. Where a header was changed so that one of them finds
another grid, medsam has to find that grid too, say a word (`Volume.notes`), or refuse the file.
"""

from __future__ import annotations

import gzip
import random
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from fuzz_dicom import walked
from pydicom import Dataset

# a path -> (4, 4) voxel (i, j, k) -> LPS mm; None where the header cannot be read so
Referee = Callable[[Path], "np.ndarray | None"]
# of NIfTI's fields, where they lie
_PIXDIM, _QFORM, _SFORM, _QUATERN, _SROW = 76, 252, 254, 256, 280
_LPS = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1)}
_LPS |= {"left-anterior-superior": (1, -1, 1), "lps": (1, 1, 1), "ras": (-1, -1, 1), "las": (1, -1, 1)}


def differ(found: np.ndarray, said: np.ndarray) -> bool:
    """Whether two grids put voxels at other places: by more than a part in 10,000 of what is stored in 32 bits."""
    return not np.allclose(found, said, rtol=1e-4, atol=1e-3 * max(1.0, float(np.abs(said[:3, :3]).max())))


def _affine(columns: Any, origin: Any, signs: Sequence[int] = (1, 1, 1)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin
    return np.diag([*signs, 1.0]) @ affine


def nifti_grid(path: Path) -> np.ndarray | None:
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    if struct.unpack_from("<i", content)[0] != 348:
        return None
    pixdim, codes = struct.unpack_from("<8f", content, _PIXDIM), struct.unpack_from("<2h", content, _QFORM)
    units = {1: 1000.0, 3: 0.001}.get(content[123] & 7, 1.0)
    if codes[1] > 0:
        rows = np.array(struct.unpack_from("<12f", content, _SROW)).reshape(3, 4)
        return _affine(rows[:, :3] * units, rows[:, 3] * units, (-1, -1, 1))
    if codes[0] <= 0:
        return None
    b, c, d, *offset = struct.unpack_from("<6f", content, _QUATERN)
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    pitch = np.array([pixdim[1], pixdim[2], pixdim[3] * (-1 if pixdim[0] == -1 else 1)])
    return _affine(turn * pitch * units, np.array(offset) * units, (-1, -1, 1))


def _fields(path: Path, end: bytes, mark: str) -> dict[str, str]:
    lines = path.read_bytes().split(end)[0].decode("latin-1").splitlines()
    pairs = [line.split(mark, 1) for line in lines if mark in line and not line.startswith("#")]
    return {key.strip().lower(): value.strip() for key, value in pairs}


def nrrd_grid(path: Path) -> np.ndarray | None:
    fields = _fields(path, b"\n\n", ":")
    signs = _LPS.get(fields.get("space", "").lower())
    if signs is None or fields.get("dimension") != "3":
        return None
    vectors = [list(map(float, one.split(","))) for one in re.findall(r"\(([^()]*)\)", fields["space directions"])]
    origin = [float(one) for one in fields["space origin"].strip("()").split(",")]
    return _affine(np.array(vectors).T, origin, signs)


def meta_grid(path: Path) -> np.ndarray | None:
    fields = _fields(path, b"ElementDataFile", "=")
    numbers = {key: np.array([float(one) for one in value.split()]) for key, value in fields.items() if key in _META}
    matrix = [numbers[key] for key in ("transformmatrix", "rotation", "orientation") if key in numbers]
    origin = [numbers[key] for key in ("offset", "origin", "position") if key in numbers]
    if len(matrix) != 1 or len(origin) != 1 or "elementspacing" not in numbers or fields.get("ndims") != "3":
        return None
    return _affine(matrix[0].reshape(3, 3).T * numbers["elementspacing"], origin[0])


_META = ("elementspacing", "offset", "origin", "position", "transformmatrix", "rotation", "orientation")


def npz_grid(path: Path) -> np.ndarray | None:
    with np.load(path) as arrays:
        turn = arrays["direction"].reshape(3, 3) * arrays["spacing"]
        return _affine(turn, arrays["origin"])


def series_grid(path: Path) -> np.ndarray | None:
    return _stack([pydicom.dcmread(file, force=True) for file in path.iterdir()])


def frames_grid(path: Path) -> np.ndarray | None:
    ds = pydicom.dcmread(path, force=True)
    shared, frames = ds.SharedFunctionalGroupsSequence[0], []
    for group in ds.PerFrameFunctionalGroupsSequence:
        one = Dataset()
        one.ImagePositionPatient = group.PlanePositionSequence[0].ImagePositionPatient
        one.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        one.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
        frames.append(one)
    return _stack(frames)


def _stack(slices: list[Dataset]) -> np.ndarray | None:
    """Slices one behind the other, along their normal."""
    places = np.array([[float(number) for number in one.ImagePositionPatient] for one in slices])
    turns = np.array([[float(number) for number in one.ImageOrientationPatient] for one in slices])
    pitch = np.array([[float(number) for number in one.PixelSpacing] for one in slices])
    if len(slices) < 2 or np.ptp(turns, axis=0).max() > 1e-3 or np.ptp(pitch, axis=0).max() > 1e-3:
        return None
    normal = np.cross(turns[0, :3], turns[0, 3:])
    # slices are counted from the feet, the right or the front
    normal = normal * (1 if normal[np.abs(normal).argmax()] > 0 else -1)
    places = places[np.argsort(places @ normal)]
    columns = [turns[0, :3] * pitch[0, 1], turns[0, 3:] * pitch[0, 0], (places[-1] - places[0]) / (len(places) - 1)]
    return _affine(np.array(columns).T, places[0])


# -- headers that say something else --------------------------------------------------------------------------

# what a number of a header becomes; those of the first line are grids that scans have
_SANE: list[Callable[[float], float]] = [lambda x: -x, lambda x: 2 * x, lambda x: x + 7.5, lambda x: x / 2 - 1.25]
_ODD = [0.0, float("nan"), float("inf"), 1e30, -1.0, 1e-30]


def _other(value: float, rng: random.Random) -> float:
    return rng.choice(_SANE)(value) if rng.random() < 0.7 else rng.choice(_ODD)


def moved_nifti(content: bytes, rng: random.Random) -> bytes:
    fields = [
        *((_PIXDIM + 4 * n, "<f") for n in range(4)),
        *((_SROW + 4 * n, "<f") for n in range(12)),
        *((_QUATERN + 4 * n, "<f") for n in range(6)),
        *((at, "<h") for at in (_QFORM, _SFORM)),
    ]
    changed = bytearray(content)
    # of both forms, of which one may count
    if rng.random() < 0.3:
        struct.pack_into("<h", changed, _SFORM, 0)
    at, kind = rng.choice(fields)
    value = struct.unpack_from(kind, changed, at)[0]
    struct.pack_into(kind, changed, at, rng.choice([0, 1, 4, 9, -3]) if kind == "<h" else _other(value, rng))
    return bytes(changed)


def moved_text(content: bytes, rng: random.Random) -> bytes:
    """A number of a line about the grid: of NRRD, of MetaImage."""
    lines = list(re.finditer(rb"(?m)^(?:space|Offset|TransformMatrix|ElementSpacing)[^:=\n]*[:=](.*)$", content[:4000]))
    found = [match for line in lines for match in re.finditer(rb"-?[\d.]+(?:e-?\d+)?", line[1])]
    if not found:
        return content
    line, match = rng.choice([(line, one) for line in lines for one in re.finditer(rb"-?[\d.]+(?:e-?\d+)?", line[1])])
    begin = line.start(1)
    number = f"{_other(float(match[0]), rng):.17g}".encode()
    return content[: begin + match.start()] + number + content[begin + match.end() :]


def moved_npz(path: Path, rng: random.Random) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(["spacing", "origin", "direction"])
    arrays[name] = arrays[name].astype(float)
    place = rng.randrange(arrays[name].size)
    arrays[name].flat[place] = _other(float(arrays[name].flat[place]), rng)
    np.savez_compressed(path, **arrays)


_PLACES = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ContourData")


def moved_dicom(path: Path, rng: random.Random) -> bool:
    """Another number in one of the elements that place an image. False where it has none.

    Of labels (no series), everything is moved alike by 3 to 30 mm: a label that comes back where it was is wrong.
    """
    ds = pydicom.dcmread(path, force=True)
    found = [(home, one) for home, one in walked(ds) if one.keyword in _PLACES and one.value]
    if not found:
        return False
    if ds.get("Modality") in ("SEG", "RTSTRUCT"):
        step, axis = rng.choice([-30.0, -3.0, 3.0, 30.0]), rng.randrange(3)
        for _, one in found:
            if one.keyword in ("ImagePositionPatient", "ContourData"):
                numbers = [float(number) for number in one.value]
                numbers[axis::3] = [number + step for number in numbers[axis::3]]
                one.value = numbers
    else:
        _, one = rng.choice(found)
        numbers = [float(number) for number in one.value]
        place = rng.randrange(len(numbers))
        numbers[place] = _other(numbers[place], rng)
        one._value = "\\".join(f"{number:.10g}" for number in numbers)
    ds.save_as(path, enforce_file_format=False)
    return True
