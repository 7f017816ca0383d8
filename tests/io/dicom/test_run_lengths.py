"""Run lengths are what any decoder of RLE Lossless decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import RLELossless

from medsam.io.dicom.run_lengths import encode_run_lengths

pytestmark = pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data matches")


def decoded(content: bytes, frame: np.ndarray) -> np.ndarray:
    found, _ = get_decoder(RLELossless).as_array(
        encapsulate([content]),
        index=0,
        rows=frame.shape[0],
        columns=frame.shape[1],
        number_of_frames=1,
        samples_per_pixel=1,
        bits_allocated=8 * frame.itemsize,
        bits_stored=8 * frame.itemsize,
        photometric_interpretation="MONOCHROME2",
        pixel_representation=0,
        pixel_keyword="PixelData",
    )
    return found


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 4), st.integers(1, 300)),
        elements=st.sampled_from([0, 0, 0, 1, 2, 255]),
    )
)
def test_a_frame_comes_back(frame):
    assert np.array_equal(decoded(encode_run_lengths(frame), frame), frame)


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 256, 257])
def test_runs_of_any_length_in_numbers_of_two_bytes(length):
    frame = np.full((3, length), 300, dtype=np.uint16)
    frame[1] = 1
    content = encode_run_lengths(frame)
    assert np.array_equal(decoded(content, frame), frame)
    # a header, and two bytes for each run of up to 128 pixels, of two bytes and three rows
    assert len(content) == 64 + 2 * 2 * 3 * -(-length // 128)
