"""How far compressed data may grow: beyond what any scan does, they are damaged or made to fill the memory.

Each kind may grow to so many bytes whatever its size, and beyond that by a factor which scans stay far below.
"""

from __future__ import annotations

from pathlib import Path

from medsam.errors import InputError

_MIB, _GIB = 2**20, 2**30
# deflate manages 1032 : 1 on zeros, a scan with wide black margins some 20 : 1
_RATIO = 200


def most_voxels(packed: int) -> int:
    """Bytes of voxels in so many compressed ones. Label maps are nearly all zeros, hence so much whatever the size."""
    return max(2 * _GIB, _RATIO * packed)


def most_inflated(packed: int) -> int:
    """Bytes of a deflated DICOM data set."""
    return 256 * _MIB + _RATIO * packed


def most_pixels(packed: int) -> int:
    """Bytes of pixels in so many of compressed DICOM images, which grow further than a file: a black slice is small."""
    return 256 * _MIB + 1000 * packed


def most_unpacked(packed: int) -> int:
    """Bytes of the files in a zip; a zip of a few black slices is legitimate, one larger than a disk is not."""
    return min(64 * _GIB, max(256 * _MIB, _RATIO * packed))


def check_growth(path: Path, size: int, packed: int) -> None:
    """Raise InputError when a file states `size` bytes in `packed` compressed ones, more than any scan has."""
    if size > most_voxels(packed):
        raise InputError(
            f"{path.name} states {size / _MIB:,.0f} MiB of voxels in {packed:,} compressed bytes, which no scan "
            "does. Its header is damaged, or it is made to fill the memory. Export it again."
        )
