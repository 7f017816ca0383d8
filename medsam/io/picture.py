"""Pictures (PNG, JPEG, TIFF, BMP) and the `.npz` layout of MedSAM's own data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageSequence

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.native import native_stderr
from medsam.volume import LabelVolume, Volume

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

T = TypeVar("T")

_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")


def read_picture(path: Path) -> Volume:
    """Read a picture as a volume of one slice (a multi-page TIFF: one slice a page), without millimetres.

    Colour and palette pictures become (K, J, I, 3) uint8, transparency is dropped; grey keeps its depth.
    Pixels are taken as stored: an EXIF rotation is not applied, so positions mean the file's own rows and columns.
    """
    array = np.stack(read_pages(path, _pixels))
    return Volume(array, VolumeGeometry.uncalibrated(array.shape[:3]), source=path)


def read_pages(path: Path, pixels: Callable[[Image.Image], T]) -> list[T]:
    """`pixels` of every page of a picture, all of one size. Raises InputError for what cannot be read."""
    sizes = set()
    found = []
    try:
        # one picture at a time, so that none takes over another's warning filters
        with native_stderr(), warnings.catch_warnings():
            # Pillow warns of pictures over 89 megapixels and refuses at twice that; slides of that size are
            # not for us either
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                # a camera's JPEG may carry thumbnails as further pages
                only_first = picture.format in ("JPEG", "MPO")
                for page in [picture] if only_first else ImageSequence.Iterator(picture):
                    sizes.add(page.size)
                    found.append(pixels(page))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name} is too large for a picture ({error}). Cut out the region you need.") from error
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise InputError(
            f"{path.name} cannot be read as a picture ({type(error).__name__}: {error}). "
            "The file may be truncated or damaged: copy or export it again."
        ) from error
    if len(sizes) > 1:
        raise InputError(f"{path.name} holds {len(found)} pages of different sizes. Save the page you need alone.")
    return found


def _pixels(page: Image.Image) -> np.ndarray:
    if page.mode == "LA":
        return np.asarray(page)[..., 0]
    if page.mode in _GREY_MODES:
        array = np.asarray(page)
        return array.astype(np.uint8) if array.dtype == bool else array
    return np.asarray(page.convert("RGB"))


def read_npz(path: Path) -> Volume:
    """Read `imgs` from an .npz: (J, I), (K, J, I), or with a last axis of 3 colours.

    `spacing` (i, j, k), `origin` and `direction` (ITK's, LPS) place it when they are there.
    """
    try:
        # opened here: numpy leaves the file open when the archive in it is damaged
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if "imgs" not in archive:
                raise InputError(
                    f"{path.name} has no array `imgs`, only {', '.join(archive.files) or 'nothing'}. "
                    "Save the scan under that name: numpy.savez(path, imgs=array)."
                )
            data = archive["imgs"]
            places = {
                key: archive[key].astype(float).ravel() for key in ("spacing", "origin", "direction") if key in archive
            }
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib between them raise almost anything on damaged files
        raise InputError(
            f"{path.name} cannot be read as .npz ({type(error).__name__}: {error}). "
            "Save it again with numpy.savez, without Python objects."
        ) from error

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
    for key, size in (("spacing", 3), ("origin", 3), ("direction", 9)):
        if key in places and places[key].size != size:
            raise InputError(f"`{key}` in {path.name} has {places[key].size} numbers; expected {size}.")
    geometry = VolumeGeometry.from_itk(
        shape,
        tuple(places.get("origin", np.zeros(3))),
        tuple(places["spacing"]),
        tuple(places.get("direction", np.eye(3).ravel())),
    )
    return Volume(data, geometry, source=path)


def write_picture(labels: LabelVolume, path: Path) -> None:
    """Write a one-slice label map as a grey PNG whose values are the label ids."""
    Image.fromarray(labels.array[0]).save(path, format="PNG")
