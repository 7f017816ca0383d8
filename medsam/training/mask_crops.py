"""Pictures of masks as prompts: what CLIP sees of each mask that is learnt from, embedded once and kept.

Letters: h, w rows and columns of a stored slice; H, W of the upright one; P masks of a slice, V pictures of each, S the
side of a picture, E length of an embedding.
Source: Kirillov et al. 2023 (arXiv 2304.02643), section 7.5 and appendix D.5: masks of at least 100^2 pixels; the box
round each grown by a factor from 1 to 2 and made a square; all but the mask black in half of the pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from monai.data import Dataset as MonaiDataset
from torch import Tensor
from torch.nn import functional as F

from medsam.data.slices import SliceItem, unpack
from medsam.errors import InputError
from medsam.geometry import SlicePlane
from medsam.inference.embeddings import EmbeddingCache
from medsam.models.clip import Clip
from medsam.models.specs import ModelSpec
from medsam.progress import progress_bars
from medsam.prompts.simulate import seeded, tight_box
from medsam.training.samples import case_name
from medsam.transforms.frame import Frame

# the side of the pictures that the paper counts pixels in
_SIDE = 1024
# part of every key: raise it when pictures change in a way that the settings do not show
_FORMAT = 1


@dataclass(frozen=True)
class CropSettings:
    """How masks are shown to CLIP. Raises ValueError for a value out of range.

    min_side: masks with fewer pixels than its square, of a picture with a side of 1024, are not learnt from. grow: the
    square is so many times as long as the longer side of the mask's box, uniform in [1, grow]. blanked: share of
    pictures with nothing but the mask in them. pictures: of each mask, V, embedded once; a draw takes one of them.
    elsewhere: share of structures on a slice that are shown by their mask on another one, as those that are not on it
    always are; the paper has 0.
    """

    min_side: float = 100.0
    grow: float = 2.0
    blanked: float = 0.5
    pictures: int = 4
    elsewhere: float = 0.0

    def __post_init__(self) -> None:
        limits = {"min_side": (0, _SIDE), "grow": (1, 10), "blanked": (0, 1), "pictures": (1, 64), "elsewhere": (0, 1)}
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:  # also true of nan
                raise ValueError(f"data.crops.{name} lies in {least} ... {most}; it is {value}.")


def large_enough(masks: Tensor, frame: Frame, min_side: float) -> np.ndarray:
    """Which masks, bool (P, h, w), have the pixels that `CropSettings.min_side` asks for, bool (P,).

    Counted in the model's input, whose side stands for that of the paper's pictures.
    """
    rows, columns = frame.resized
    high, wide = frame.upright
    area = masks.flatten(1).sum(1).numpy() * (rows * columns / (high * wide))
    return (area > 0) & (area >= (min_side / _SIDE * frame.preprocess.size) ** 2)


def square_round(mask: np.ndarray, spacing_mm: tuple[float, float], factor: float) -> tuple[int, int, int, int]:
    """The square round an upright mask, bool (H, W), half-open (x0, y0, x1, y1) in its pixels; it may reach outside.

    Square in millimetres, its middle that of the mask's box. factor: of its side in the longer side of the box.
    """
    x0, y0, x1, y1 = tight_box(mask, 1) or (0, 0, mask.shape[1], mask.shape[0])
    pitch = np.array(spacing_mm[::-1], dtype=np.float64)
    sides = np.maximum(1, np.round(factor * (np.array([x1 - x0, y1 - y0]) * pitch).max() / pitch)).astype(int)
    begin = np.floor((np.array([x0 + x1, y0 + y1]) - sides) / 2 + 0.5).astype(int)
    left, top = begin.tolist()
    right, bottom = (begin + sides).tolist()
    return left, top, right, bottom


def picture_of(
    image: np.ndarray, mask: np.ndarray, square: tuple[int, int, int, int], side: int, *, blank: bool
) -> tuple[Tensor, Tensor]:
    """What CLIP sees of a mask: the picture, float32 (3, S, S) in 0..1, and the mask in it, bool (S, S).

    image: upright, (C, H, W) in 0..255, C = 1 or 3. mask: bool (H, W). square: see `square_round`; black beyond the
    slice. blank: everything but the mask is black.
    """
    x0, y0, x1, y1 = square
    high, wide = mask.shape
    stack = torch.from_numpy(np.concatenate([image, mask[None].astype(np.float32)]).astype(np.float32, copy=False))
    part = stack[:, max(0, y0) : y1, max(0, x0) : x1]
    part = F.pad(part, (max(0, -x0), max(0, x1 - wide), max(0, -y0), max(0, y1 - high)))
    size = (side, side)
    # CLIP's own way; it overshoots at edges
    picture = F.interpolate(part[None, :-1], size, mode="bicubic", antialias=True)[0].clamp(0, 255) / 255
    share = F.interpolate(part[None, -1:], size, mode="bilinear", antialias=True)[0, 0]
    inside = share >= 0.5
    if not inside.any():  # thinner than a pixel of the picture
        inside = share > 0
    if blank:
        picture = picture * inside
    return picture.expand(3, -1, -1), inside


class MaskPrompts:
    """Embeddings of the masks of a data set. embeddings: number of a slice -> structure -> float32 (V, E)."""

    def __init__(self, embeddings: Mapping[int, Mapping[str, Tensor]]) -> None:
        self.embeddings = embeddings
        self._slices: dict[str, list[int]] = {}
        for number, found in embeddings.items():
            for structure in found:
                self._slices.setdefault(structure, []).append(number)

    @property
    def structures(self) -> set[str]:
        """Those that any slice can show."""
        return set(self._slices)

    def on(self, number: int) -> Sequence[str]:
        """Structures that a slice has, and CLIP was shown."""
        return tuple(self.embeddings.get(number, ()))

    def draw(self, structure: str, number: int | None, rng: np.random.Generator) -> Tensor:
        """One of the embeddings of a structure, (E,): of its mask on that slice, or, None, on any slice."""
        if number is None:
            slices = self._slices[structure]
            number = slices[int(rng.integers(len(slices)))]
        pictures = self.embeddings[number][structure]
        return pictures[int(rng.integers(len(pictures)))]


def mask_prompts(
    data: MonaiDataset,
    items: Sequence[SliceItem],
    spec: ModelSpec,
    clip: Clip,
    settings: CropSettings,
    seed: int,
    cache: EmbeddingCache,
) -> MaskPrompts:
    """What CLIP says of every mask that is large enough, by the label of the data. cache: what it said before."""
    found: dict[int, dict[str, Tensor]] = {}
    with progress_bars("Masks shown to CLIP") as (progress,):
        for number, item in enumerate(items):
            progress(number, len(items))
            if not item.structures:
                continue
            image, masks = unpack(data[number])
            plane: SlicePlane = image.meta["plane"]
            frame = Frame.of(plane, spec.preprocess)
            shown = np.flatnonzero(large_enough(masks, frame, settings.min_side)).tolist()
            if not shown:
                continue
            key = _key(clip, item, settings, seed, shown)
            pixels, there = image.as_tensor().numpy(), masks[shown].numpy()
            seen = _Seen(pixels, there, plane, [item.structures[row] for row in shown], item, seed)
            kept = cache.fetch([key], _maker(seen, clip, settings))[key].features
            found[number] = {item.structures[row]: kept[place] for place, row in enumerate(shown)}
        progress(len(items), len(items))
    return MaskPrompts(found)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A slice (C, h, w) in 0..255, the masks (P, h, w) on it, and their structures."""

    image: np.ndarray
    masks: np.ndarray
    plane: SlicePlane
    structures: Sequence[str]
    item: SliceItem
    seed: int


def _maker(seen: _Seen, clip: Clip, settings: CropSettings) -> Callable[[list[str]], list[Tensor]]:
    def make(keys: list[str]) -> list[Tensor]:
        pictures = [picture for row in range(len(seen.masks)) for picture in _pictures(seen, row, clip.side, settings)]
        embedded = clip.images(torch.stack([one for one, _ in pictures]), torch.stack([mask for _, mask in pictures]))
        return [embedded.unflatten(0, (len(seen.masks), settings.pictures))]

    return make


def _pictures(seen: _Seen, row: int, side: int, settings: CropSettings) -> list[tuple[Tensor, Tensor]]:
    """V pictures of a mask."""
    view = seen.plane.view
    image = np.moveaxis(view.apply(np.moveaxis(seen.image, 0, -1)), -1, 0)
    mask = view.apply(seen.masks[row])
    made = []
    for variant in range(settings.pictures):
        rng = seeded(seen.seed, case_name(seen.item.case), seen.structures[row], seen.item.index, variant)
        square = square_round(mask, seen.plane.upright_spacing_mm, rng.uniform(1, settings.grow))
        made.append(picture_of(image, mask, square, side, blank=bool(rng.random() < settings.blanked)))
    return made


def _key(clip: Clip, item: SliceItem, settings: CropSettings, seed: int, shown: Sequence[int]) -> str:
    """What embeddings of a slice's masks are filed under."""
    about = {key: value for key, value in asdict(settings).items() if key in ("grow", "blanked", "pictures")}
    head = ("clip", _FORMAT, clip.digest, clip.side, item.key, sorted(about.items()), seed, list(shown))
    return hashlib.sha256(repr(head).encode()).hexdigest()


def check_shown(prompts: MaskPrompts, classes: Mapping[str, str], settings: CropSettings) -> None:
    """Raise InputError for structures of which no mask is large enough. classes: label -> canonical name."""
    never = sorted({*classes.values()} - {classes[label] for label in prompts.structures})
    if never:
        raise InputError(
            f"No mask of {', '.join(name.replace('_', ' ') for name in never)} has {settings.min_side:g}^2 pixels of a "
            f"picture with a side of {_SIDE}, which SAM's authors asked for: lower data.crops.min_side, or leave what "
            "is so small out by data.structures."
        )
