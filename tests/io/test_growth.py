"""How far compressed data may grow, in bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsam.errors import InputError
from medsam.io.growth import check_growth, most_inflated, most_pixels, most_unpacked, most_voxels

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("most", "small", "large", "huge"),
    [
        (most_voxels, 2 * GIB, 20_000 * MIB, 200 * 2**40),
        (most_inflated, 256 * MIB + 200, 20_256 * MIB, 256 * MIB + 200 * 2**40),
        (most_pixels, 256 * MIB + 1000, 100_256 * MIB, 256 * MIB + 1000 * 2**40),
        (most_unpacked, 256 * MIB, 20_000 * MIB, 64 * GIB),
    ],
)
def test_a_byte_a_hundred_mebibytes_and_a_tebibyte_may_become(most, small, large, huge):
    assert (most(1), most(100 * MIB), most(2**40)) == (small, large, huge)


def test_one_byte_more_than_voxels_may_have_is_refused():
    check_growth(Path("a.nii.gz"), 2 * GIB, 100)
    with pytest.raises(InputError, match=r"^a.nii.gz states 2,048 MiB of voxels in 100 compressed bytes"):
        check_growth(Path("a.nii.gz"), 2 * GIB + 1, 100)
