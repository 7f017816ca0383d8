"""Volume -> slice -> model input, as MONAI dictionary transforms.

`slice_pipeline` is the recipe by which a slice becomes a tensor in training. Its steps are those of
`prepare.slice_input`, by which inference does the same without MONAI, so a model never meets pixels prepared in another
way than it was trained with.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform

from medsam.errors import MedSAMError
from medsam.geometry import Axis
from medsam.transforms.frame import Frame, Region
from medsam.transforms.intensity import IntensityWindow
from medsam.transforms.prepare import take_slice
from medsam.transforms.preprocess import Preprocess
from medsam.transforms.reading import geometry_of


class TakeSliced(MapTransform):
    """MetaTensor (C, I, J, K) -> the stored slice (C, h, w) numbered `data[index_key]` across `axis`.

    axis None takes the acquired axis. The slice's `SlicePlane` goes into its meta under "plane".
    Raises PromptError when there is no such slice.
    """

    def __init__(
        self,
        keys: KeysCollection,
        axis: Axis | None = None,
        index_key: str = "slice",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.axis, self.index_key = axis, index_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        index = int(result[self.index_key])
        for key in self.key_iterator(result):
            volume: MetaTensor = result[key]
            plane = geometry_of(volume).plane(self.axis)
            pixels = take_slice(volume.as_tensor(), plane, index)
            result[key] = MetaTensor(pixels, meta={"plane": plane, "slice": index})
        return result


class ScaleWindowd(MapTransform):
    """MONAI dictionary transform: scanner units -> float32 in [0, 255] by a fixed `IntensityWindow`."""

    def __init__(self, keys: KeysCollection, window: IntensityWindow, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.window = window

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            result[key] = MetaTensor(self.window.apply(image.as_tensor()), meta=image.meta)
        return result


class ToModelInputd(MapTransform):
    """Slice (C, h, w) in 0..255 -> model input (3, S, S); its `Frame` goes into the meta under "frame".

    `data["region"]`, where there is one, is the part of the slice to use.
    """

    def __init__(self, keys: KeysCollection, preprocess: Preprocess, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.preprocess = preprocess

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            frame = Frame.of(image.meta["plane"], self.preprocess, result.get("region"))
            result[key] = MetaTensor(frame.image(image.as_tensor()), meta={**image.meta, "frame": frame})
        return result


def slice_pipeline(
    preprocess: Preprocess,
    window: IntensityWindow,
    axis: Axis | None = None,
    keys: KeysCollection = "image",
) -> Compose:
    """{"image": MetaTensor (C, I, J, K), "slice": n} -> {"image": MetaTensor (3, S, S) with meta "frame", ...}.

    "region": (x0, y0, x1, y1), optional, uses that part of the slice.
    """
    return Compose([*stored_slice(window, axis, keys).transforms, ToModelInputd(keys, preprocess)])


def stored_slice(window: IntensityWindow, axis: Axis | None = None, keys: KeysCollection = "image") -> Compose:
    """The first half of `slice_pipeline`: {"image": MetaTensor (C, h, w) in 0..255 with meta "plane"}.

    `ToModelInputd` is the other half; training keeps what lies between and changes it at random.
    """
    return Compose([TakeSliced(keys, axis), ScaleWindowd(keys, window)])


def model_input(
    pipeline: Compose, image: MetaTensor, index: int, region: Region | None = None
) -> tuple[torch.Tensor, Frame]:
    """Run `slice_pipeline` on one slice: plain tensor (3, S, S) and its frame. PromptError for no such slice."""
    try:
        prepared: MetaTensor = pipeline({"image": image, "slice": index, "region": region})["image"]
    except RuntimeError as error:
        # MONAI wraps whatever a transform raises; a wrong slice number is still the user's to fix
        if isinstance(error.__cause__, MedSAMError):
            raise error.__cause__ from None
        raise
    return prepared.as_tensor(), prepared.meta["frame"]
