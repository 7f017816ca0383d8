"""The slice in the middle of a scan, from memory or from its files. Processes import this, and so no torch."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from medsam.errors import InputError
from medsam.geometry import Axis
from medsam.io.dicom.series import read_dicom
from medsam.server.cases.found import ScanFiles
from medsam.server.cases.scans import read_scan
from medsam.volume import Volume


def middle_of(volume: Volume, axis: Axis | None = None) -> tuple[Volume, Axis]:
    """The slice in the middle along an axis, default the acquired one, as a scan of one slice; a view."""
    plane = volume.geometry.plane(axis)
    index = plane.count // 2
    part = tuple(slice(index, index + 1) if n == plane.array_axis else slice(None) for n in range(3))
    array = volume.array[part]
    # where it lies does not show
    geometry = replace(volume.geometry, shape=array.shape[:3])
    return replace(volume, array=array, geometry=geometry, no_signal=None, images=()), plane.axis


def read_middle(files: ScanFiles) -> tuple[Volume, Axis]:
    """The same of files, in a process: of a series the file in the middle by name, where it can be read alone.

    Raises InputError as `read_scan`.
    """
    names = files.case.files
    if files.case.kind == "dicom" and names is not None and len(names) > 2:
        name = sorted(names, key=_counted)[len(names) // 2]
        one = replace(files.case, files=(name,))
        try:
            (path,) = replace(files, case=one).checked()
            found = read_dicom({name: path}, files.case.series)
            return _copied(*middle_of(found, "k"))
        except InputError:
            # the rest may say what it is
            pass
    return _copied(*middle_of(read_scan(files)))


def _copied(middle: Volume, axis: Axis) -> tuple[Volume, Axis]:
    """Without the rest of the scan, which the slice is a view of."""
    return replace(middle, array=np.ascontiguousarray(middle.array)), axis


def _counted(name: str) -> list[tuple[int, str]]:
    """By the numbers in a name: "2" before "10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]{1,12})", name)]
