"""MONAI's doors to `medsam.io`: an ImageReader, and a dictionary transform that loads with it.

Inside MONAI an image is a MetaTensor (C, I, J, K) with a RAS affine, so `Orientationd`, `Spacingd` and the rest
mean what they say. The voxels are a view of our (K, J, I) array: loading copies nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys

from medsam.errors import InputError
from medsam.geometry import VolumeGeometry
from medsam.io.load import load_volume
from medsam.transforms.prepare import scan_tensor
from medsam.volume import Volume


class ScanReader(ImageReader):
    """Reads every kind of scan `load_volume` knows, for MONAI's `LoadImage()(path, reader=ScanReader())`.

    MONAI's own DICOM readers interleave two series of one folder, average the spacing over missing slices and
    misread Enhanced CT; this one refuses what is not one regular volume. Hand it over in the call, as above, or use
    `LoadScand`: a reader given to LoadImage's constructor is only tried first, and when it refuses a folder MONAI's own
    readers get it after all.

    series, frame: as for `load_volume`. Source of the interface: monai.data.ImageReader.
    """

    def __init__(self, series: str | None = None, frame: int | None = None) -> None:
        super().__init__()
        self.series, self.frame = series, frame

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """True for one path: DICOM has no suffix to go by."""
        return isinstance(filename, str | Path)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Volume:
        """Raises InputError when the path is no readable scan."""
        if not isinstance(data, str | Path):
            paths = [Path(str(path)) for path in data]
            if len(paths) != 1:
                raise InputError(f"One scan is read at a time; got {len(paths)} paths. Give the folder of a series.")
            data = paths[0]
        return load_volume(Path(str(data)), series=self.series, frame=self.frame, **kwargs)

    def get_data(self, img: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        """(I, J, K) array, colour last, and its metadata with RAS affine."""
        array = img.array.transpose(2, 1, 0, *range(3, img.array.ndim))
        affine = img.geometry.ras_affine
        meta: dict[str, Any] = {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(array.shape[:3]),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if img.is_colour else float("nan"),
            "calibrated": img.geometry.calibrated,
            "modality": img.modality or "",
        }
        return array, meta


def to_metatensor(volume: Volume) -> MetaTensor:
    """A Volume as MetaTensor (C, I, J, K), C = 1 or 3, sharing memory where torch has the dtype."""
    _, meta = ScanReader().get_data(volume)
    meta[MetaKeys.AFFINE] = torch.from_numpy(meta[MetaKeys.AFFINE])
    if volume.source is not None:
        meta[ImageMetaKey.FILENAME_OR_OBJ] = str(volume.source)
    return MetaTensor(scan_tensor(volume, to_write=True), meta=meta)


def geometry_of(image: MetaTensor) -> VolumeGeometry:
    """The grid of a MetaTensor (C, I, J, K)."""
    i, j, k = image.shape[1:]
    return VolumeGeometry.from_ras(
        (k, j, i),
        np.asarray(image.affine, dtype=np.float64),
        calibrated=bool(image.meta.get("calibrated", True)),
    )


class LoadScand(MapTransform):
    """MONAI dictionary transform: path -> MetaTensor (C, I, J, K).

    Like `LoadImaged` with our reader, but errors stay what they are: an InputError that a user can act on.
    """

    def __init__(
        self,
        keys: KeysCollection,
        series: str | None = None,
        frame: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reader = ScanReader(series, frame)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = to_metatensor(self.reader.read(result[key]))
        return result
