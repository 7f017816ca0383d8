"""A scan, or a label map, in memory: voxels plus the geometry that places them in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry


@dataclass(frozen=True)
class Volume:
    """A scan.

    array: (K, J, I) grey, or (K, J, I, 3) colour; the stored index order of the file, reversed
        (see `geometry`). Any real dtype; non-finite voxels are allowed and handled when windowed.
    geometry: of the same (K, J, I).
    modality: DICOM code ("CT", "MR", "US", "DX", "PT", ...) or None when the file does not say.
    source: the file or folder it came from; None when made in memory.
    window: (level, width) the file recommends (DICOM VOI), or None.
    uids: identifiers needed to write DICOM that refers back to this scan, e.g. {"series": ...}.
        Never a patient's name or number.
    """

    array: np.ndarray
    geometry: VolumeGeometry
    modality: str | None = None
    source: Path | None = None
    window: tuple[float, float] | None = None
    uids: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spatial = self.array.shape[:3]
        if self.array.ndim not in (3, 4) or spatial != self.geometry.shape:
            raise InputError(
                f"An array of shape {self.array.shape} does not fit a grid of {self.geometry.shape} (K, J, I)."
            )
        if self.array.ndim == 4 and self.array.shape[3] != 3:
            raise InputError(f"A colour scan has 3 channels, this one has {self.array.shape[3]}.")

    @property
    def is_colour(self) -> bool:
        return self.array.ndim == 4


@dataclass(frozen=True)
class LabelVolume:
    """A label map on the grid of a scan.

    array: integers (K, J, I); 0 is background.
    names: label id -> name.
    """

    array: np.ndarray
    geometry: VolumeGeometry
    names: Mapping[int, str]

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise InputError(
                f"A label map of shape {self.array.shape} does not fit a grid of {self.geometry.shape} (K, J, I)."
            )
