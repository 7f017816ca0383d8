"""Frames of label maps -> RLE Lossless, the run lengths of DICOM.

Why not a library: pydicom encodes row by row in Python, as long as all else of a SEG of 300 slices takes; GDCM ends
the process on frames of an odd number of pixels. Labels come in long runs, so each run is written as one, a run of one
pixel too; what decodes RLE decodes this.

Source: DICOM PS3.5 annex G.
"""

from __future__ import annotations

import struct

import numpy as np

# a packet repeats its byte at most as often
_LONGEST = 128
_HEADER_BYTES = 64


def encode_run_lengths(frame: np.ndarray) -> bytes:
    """A frame, uint8 or uint16 (R, C), as RLE Lossless."""
    parts = [_segment(plane) for plane in ([frame] if frame.dtype.itemsize == 1 else [frame >> 8, frame & 0xFF])]
    offsets = np.cumsum([_HEADER_BYTES, *map(len, parts[:-1])])
    header = struct.pack(f"<{1 + len(parts)}I", len(parts), *offsets.tolist())
    return b"".join([header.ljust(_HEADER_BYTES, b"\0"), *parts])


def _segment(plane: np.ndarray) -> bytes:
    """One byte of each pixel, as packets of two bytes; none goes beyond its row."""
    flat = plane.astype(np.uint8, copy=False).ravel()
    begins = np.ones(flat.size, dtype=bool)
    begins[1:] = flat[1:] != flat[:-1]
    begins[:: plane.shape[1]] = True
    at = np.flatnonzero(begins)
    lengths = np.diff(at, append=flat.size)
    packets = -(-lengths // _LONGEST)
    count = np.full(packets.sum(), _LONGEST)
    count[np.cumsum(packets) - 1] = lengths - _LONGEST * (packets - 1)
    # 257 - n: n times the byte that follows; 0: one byte follows
    return np.stack([(257 - count) % 256, np.repeat(flat[at], packets)], axis=1).astype(np.uint8).tobytes()
