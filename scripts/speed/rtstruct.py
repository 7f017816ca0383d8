"""Time and size of an RTSTRUCT of 40 organs in 300 x 512 x 512, out and in, beside rt-utils.

  python scripts/speed/rtstruct.py                        medsam
  RT_UTILS_PYTHON=... python scripts/speed/rtstruct.py    and rt-utils (with opencv-python-headless), in its own Python

Seconds of one processor; the fastest of three runs for medsam. Organs are ellipsoids with a rough surface. rt-utils
gets the same masks, as bool arrays mapped from disk, and the same series of images.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from served import write_dicom

from medsam.geometry import VolumeGeometry
from medsam.io.algorithm import Algorithm
from medsam.io.dicom.derive import source_images
from medsam.io.dicom.rtstruct import read_rtstruct
from medsam.io.dicom.rtstruct_write import RtstructOptions, encode_rtstruct
from medsam.io.dicom.series import series_images
from medsam.masks import CompactMask
from medsam.volume import Volume

SHAPE, ORGANS = (300, 512, 512), 40
GEOMETRY = VolumeGeometry.from_itk(SHAPE, (-250.0, -250.0, 0.0), (0.976562, 0.976562, 2.0), tuple(np.eye(3).ravel()))
_THEIRS = """
import sys, time
import numpy as np
from rt_utils import RTStructBuilder
masks = np.load(sys.argv[2], mmap_mode="r")
begin = time.process_time()
found = RTStructBuilder.create_new(dicom_series_path=sys.argv[1])
for n, mask in enumerate(masks):
    found.add_roi(mask=np.moveaxis(mask, 0, 2), name=f"organ {n}")
found.save(sys.argv[3])
written = time.process_time()
found = RTStructBuilder.create_from(dicom_series_path=sys.argv[1], rt_struct_path=sys.argv[3])
for name in found.get_roi_names():
    found.get_roi_mask_by_name(name)
print(f"{written - begin:.1f} {time.process_time() - written:.1f}")
"""


def organs() -> dict[str, CompactMask]:
    rng = np.random.default_rng(0)
    masks = {}
    for n in range(ORGANS):
        centre, radius = rng.uniform([60, 120, 120], [240, 390, 390]), rng.uniform([20, 25, 25], [60, 110, 110])
        low = np.maximum(0, np.floor(centre - 1.3 * radius)).astype(int)
        high = np.minimum(SHAPE, np.ceil(centre + 1.3 * radius)).astype(int)
        grid = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        rough = ndimage.gaussian_filter(rng.normal(size=tuple(high - low)), 3)
        distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radius, strict=True))
        mask = distance + 0.08 * rough / rough.std() < 1
        masks[f"organ {n}"] = CompactMask.of(mask, SHAPE, tuple(int(v) for v in low))
    return masks


def fastest(work: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    seconds = []
    for _ in range(times):
        begin = time.process_time()
        result = work()
        seconds.append(time.process_time() - begin)
    return min(seconds), result


def main() -> None:
    masks = organs()
    voxels = sum(mask.area for mask in masks.values())
    print(f"{ORGANS} organs, {voxels / 1e6:.1f} million voxels\n\n| | out, s | in, s | MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name) / "series", Path(name) / "rs.dcm"
        write_dicom(folder, Volume(np.zeros(SHAPE, np.int16), GEOMETRY, "CT"))
        geometry, _ = series_images(folder)
        source = source_images(folder, geometry)
        for options in (RtstructOptions(), RtstructOptions(keyhole=True)):
            out, content = fastest(partial(encode_rtstruct, masks, source, Algorithm(), options))
            path.write_bytes(content)
            into, read = fastest(partial(read_rtstruct, path, geometry))
            if not all(np.array_equal(read[one], mask.to_array()) for one, mask in masks.items()):
                raise SystemExit("what is read is not what was written")
            what = "medsam, keyholes" if options.keyhole else "medsam"
            print(f"| {what} | {out:.1f} | {into:.1f} | {len(content) / 1e6:.1f} |", flush=True)
        python = os.environ.get("RT_UTILS_PYTHON")
        if python:
            np.save(f"{name}/masks.npy", np.stack([mask.to_array() for mask in masks.values()]))
            command = [python, "-c", _THEIRS, str(folder), f"{name}/masks.npy", f"{name}/theirs.dcm"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            theirs = " | ".join(done.stdout.split()[-2:])
            print(f"| rt-utils | {theirs} | {Path(name, 'theirs.dcm').stat().st_size / 1e6:.1f} |")


if __name__ == "__main__":
    main()
