"""Pictures (PNG, JPEG, TIFF, BMP, GIF) and the `.npz` layout of MedSAM's own data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageSequence, TiffImagePlugin, _imaging

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.npz import npz_names, read_npz_arrays
from medsam.io.picture_checks import check_pages, check_png
from medsam.silence import Rule, silence, silence_libtiff
from medsam.volume import LabelVolume, Volume

T = TypeVar("T")

# named, so that a file's content cannot choose among Pillow's other readers, of which one starts a program
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
# Pillow knows 0 as white for few kinds of samples; the others are read the same way and turned here
for _key, _modes in list(TiffImagePlugin.OPEN_INFO.items()):
    if _key[1] == 1 and len(_key[4]) == 1 and _key[4][0] > 8:
        TiffImagePlugin.OPEN_INFO.setdefault((_key[0], 0, *_key[2:]), _modes)

# Pillow warns of pictures over 89 megapixels, once, and refuses at twice that; slides of that size are not for us
# either.
_MOST_PIXELS = 1024**3 // 4 // 3
# What it remarks on metadata changes no pixel.
_PILLOW = Rule(module=r"PIL(\.|$)")
silence_libtiff(_imaging.__file__)

_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")


def read_picture(path: Path) -> Volume:
    """Read a picture as a volume of one slice (a multi-page TIFF: one slice a page), without millimetres.

    Colour and palette pictures become (K, J, I, 3) uint8, transparency is dropped; grey keeps its depth.
    Pixels are taken as stored: an EXIF rotation is not applied, so positions mean the file's own rows and columns.
    """
    array = np.stack(read_pages(path, partial(_pixels, path)))
    return Volume(array, VolumeGeometry.uncalibrated(array.shape[:3]), source=path)


def read_pages(path: Path, pixels: Callable[[Image.Image], T]) -> list[T]:
    """`pixels` of every page of a picture, all of one size. Raises InputError for what cannot be read."""
    sizes = set()
    found = []
    try:
        with silence(_PILLOW), Image.open(path, formats=FORMATS) as picture:
            _check_size(path, picture)
            # a camera's JPEG may carry thumbnails as further pages
            count = 1 if picture.format in ("JPEG", "MPO") else check_pages(path, picture)
            if picture.format == "PNG":
                check_png(path)
            picture.seek(0)
            for page in islice(ImageSequence.Iterator(picture), count):
                _check_size(path, page)
                sizes.add(page.size)
                found.append(pixels(page))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path.name} is too large for a picture ({error}). Cut out the region you need.") from error
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise InputError(
            f"{path.name} cannot be read as a picture ({type(error).__name__}: {error}). "
            "The file may be truncated or damaged: copy or export it again."
        ) from error
    if len(sizes) > 1:
        raise InputError(f"{path.name} holds {len(found)} pages of different sizes. Save the page you need alone.")
    return found


def _check_size(path: Path, page: Image.Image) -> None:
    columns, rows = page.size
    if columns * rows > _MOST_PIXELS:
        raise InputError(
            f"{path.name} is too large for a picture ({columns} x {rows} pixels; at most {_MOST_PIXELS} are read). Cut "
            "out the region you need."
        )


def _pixels(path: Path, page: Image.Image) -> np.ndarray:
    if page.mode == "LA":
        return np.asarray(page)[..., 0]
    if page.mode in _GREY_MODES:
        array = np.asarray(page)
        if array.dtype == bool:
            return array.astype(np.uint8)
        return black_is_zero(path, page, array)
    return np.asarray(page.convert("RGB"))


def black_is_zero(path: Path, page: Image.Image, array: np.ndarray) -> np.ndarray:
    """Grey samples as larger is brighter: Pillow turns those of a TIFF's page up to 8 bits."""
    if page.format != "TIFF":
        return array
    tags = page.tag_v2  # type: ignore[attr-defined]
    bits, signed = int(tags.get(258, (1,))[0]), int(tags.get(339, (1,))[0]) == 2
    if bits == 32 and array.dtype == np.int32 and not signed:
        array = array.view(np.uint32)
    if tags.get(262, 1) != 0 or bits <= 8:
        return array
    if array.dtype.kind == "f":
        raise InputError(
            f"{path.name} says that 0 is white (Photometric Interpretation), which among floating-point numbers leaves "
            "black without a value. Save it with 0 as black."
        )
    return ~array if signed or bits == array.dtype.itemsize * 8 else (2**bits - 1) - array


def read_npz(path: Path) -> Volume:
    """Read `imgs` from an .npz: (J, I), (K, J, I), or with a last axis of 3 colours.

    `spacing` (i, j, k), `origin` and `direction` (ITK's, LPS) place it when they are there.
    """
    arrays = read_npz_arrays(path, ("imgs", "spacing", "origin", "direction"))
    if "imgs" not in arrays:
        raise InputError(
            f"{path.name} has no array `imgs`, only {', '.join(npz_names(path))[:200] or 'nothing'}. "
            "Save the scan under that name: numpy.savez(path, imgs=array)."
        )
    data = arrays.pop("imgs")
    places = {key: place_numbers(path, key, value) for key, value in arrays.items()}
    if data.dtype.kind not in "biuf":
        raise InputError(f"`imgs` in {path.name} holds {data.dtype}, not numbers.")
    if data.ndim == 2 or (data.ndim == 3 and data.shape[-1] == 3 and data.shape[0] > 3):
        data = data[None]
    if data.ndim not in (3, 4) or (data.ndim == 4 and data.shape[-1] != 3):
        raise InputError(f"`imgs` in {path.name} has shape {data.shape}; expected (K, J, I) or (K, J, I, 3).")
    if data.dtype.kind == "b":
        data = data.astype(np.uint8)
    elif data.dtype.kind == "f" or data.dtype.itemsize == 8:
        data = data.astype(np.float32)
    shape = data.shape[:3]
    if "spacing" not in places:
        return Volume(data, VolumeGeometry.uncalibrated(shape), source=path)
    geometry = VolumeGeometry.from_itk(
        shape,
        tuple(places.get("origin", np.zeros(3))),
        tuple(places["spacing"]),
        tuple(places.get("direction", np.eye(3).ravel())),
    )
    return Volume(data, geometry, source=path)


def place_numbers(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    """`spacing`, `origin` or `direction` of an .npz, float64. Raises InputError when they are not their numbers."""
    size = 9 if key == "direction" else 3
    if array.dtype.kind not in "biuf":
        raise InputError(f"`{key}` in {path.name} holds {array.dtype}, not numbers.")
    if array.size != size:
        raise InputError(f"`{key}` in {path.name} has {array.size} numbers; expected {size}.")
    return array.astype(float).ravel()


def encode_png(labels: LabelVolume) -> bytes:
    """A one-slice label map as the content of a grey PNG whose values are the label ids."""
    buffer = BytesIO()
    Image.fromarray(labels.array[0]).save(buffer, format="PNG")
    return buffer.getvalue()
