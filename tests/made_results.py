"""Results that a job may leave: a SEG or RTSTRUCT of a series, sound or with something changed.

Also a program: `python made_results.py FOLDER OUT` writes one, as a command of a receiver's rule does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pydicom import dcmread

from medsam.io.algorithm import Algorithm
from medsam.io.dicom.derive import source_images
from medsam.io.dicom.rtstruct_write import encode_rtstruct
from medsam.io.load import load_volume
from medsam.masks import CompactMask


def rtstruct(folder: Path, path: Path, **changes: object) -> Path:
    """A block drawn on the series in `folder`. changes: of elements, by keyword; None removes one."""
    scan = load_volume(folder)
    mask = np.zeros(scan.geometry.shape, bool)
    mask[1:3, 3:9, 2:7] = True
    content = encode_rtstruct({"liver": CompactMask.of(mask)}, source_images(scan, scan.geometry), Algorithm())
    path.write_bytes(content)
    if changes:
        ds = dcmread(path)
        for keyword, value in changes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        ds.save_as(path)
    return path


if __name__ == "__main__":
    rtstruct(Path(sys.argv[1]), Path(sys.argv[2]) / "result.dcm")
