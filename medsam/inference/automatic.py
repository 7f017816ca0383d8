"""Masks of everything: a grid of clicks, three masks each, and what survives the published filters.

On a slice, for the whole of it and, if wanted, for ever smaller overlapping crops:
  1. click on a regular grid and decode three masks a click;
  2. keep those with a predicted IoU above `pred_iou_thresh` and a stability from `stability_score_thresh` on, short of
     the whole image, away from the edges of a crop that are not edges of the image (20 pixels), and (ours) not on the
     background round the scan;
  3. suppress duplicates by their boxes, the higher predicted IoU first.
Then suppress duplicates between crops, the smaller crop first; fill holes and remove islands of few pixels; suppress
again, masks that needed no cleaning first.
With `prompt="box"` the grid is of boxes instead, with one mask a box. That is ours, not published, for models that
were trained with boxes alone (docs/everything.md).
All of it happens on the upright slice (`geometry.View`): the same anatomy stored in another order gets the same
masks.

Full-size logits exist for a few masks at a time and masks that stay are run lengths: a finer grid takes longer, not
more memory to speak of.
Source: Kirillov et al. 2023, section 5 and appendix B, and the public `SamAutomaticMaskGenerator`, whose parameters
keep their names. Masks without a pixel are left out; the public code passes them on when its filters are off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from medsam.errors import PromptError
from medsam.geometry import SlicePlane, View, VolumeGeometry
from medsam.inference.background import background
from medsam.inference.image_predictor import Embedding, ImagePredictor, Prediction, ScanEncoder, box_prompts
from medsam.inference.link import SliceLinker
from medsam.inference.usage import Usage
from medsam.masks import RLE, AutomaticMask
from medsam.models.specs import ModelSpec, takes_clicks
from medsam.postprocess.clean import remove_small_regions
from medsam.postprocess.merge import mask_boxes, nms, stability_score
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import SlicePrompt
from medsam.transforms.frame import Region
from medsam.transforms.prepare import check_slice
from medsam.volume import LabelVolume

# Pixels between a mask's box and an edge, up to which it is taken to be cut off there.
_EDGE = 20
# Sides of the boxes of a box grid, in longest sides of the crop; neighbours overlap by half.
BOX_SCALES = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
# Pixels restored to full size at once: 64 MB of logits.
_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class AutomaticSettings:
    """Parameters of the public generator with its defaults; min_mask_region_area has the paper's.

    points_per_side: of the grid; in crops of layer n divided by crop_n_points_downscale_factor ** n.
    points_per_batch: clicks decoded together.
    pred_iou_thresh: masks must exceed it; 0 switches it off. stability_score_thresh: masks must reach it; 0 likewise.
    stability_score_offset: how far the threshold is moved each way, in logits.
    box_nms_thresh: IoU of boxes above which one of two masks is a duplicate, within a crop; crop_nms_thresh: between.
    crop_n_layers: layer n has 2 ** n crops a side. crop_overlap_ratio: of crops in layer 1, in short sides of the
    image.
    min_mask_region_area: holes and islands of fewer pixels go; 0 leaves masks as they are.
    max_mask_area_ratio: masks of this share of the image or more go, as in the paper; above 1 none does.
    max_background_ratio: masks of which more lies on the background round the scan go (ours, not published); 1: none.
    prompt: "point", as published; "box", for which points_per_side and crop_n_points_downscale_factor mean nothing.
    Raises PromptError for numbers that make no sense.
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 100
    max_mask_area_ratio: float = 0.95
    max_background_ratio: float = 0.5
    prompt: Literal["point", "box"] = "point"

    def __post_init__(self) -> None:
        for name, least in {
            "points_per_side": 1,
            "points_per_batch": 1,
            "crop_n_layers": 0,
            "crop_n_points_downscale_factor": 1,
            "min_mask_region_area": 0,
        }.items():
            if getattr(self, name) < least:
                raise PromptError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh"):
            # a network's own guess at its IoU may exceed 1, and so may a threshold
            if not 0 <= getattr(self, name) <= 2:
                raise PromptError(f"{name} is {getattr(self, name)}; it is a share, such as 0.88.")
        if not (math.isfinite(self.stability_score_offset) and self.stability_score_offset >= 0):
            raise PromptError(f"stability_score_offset is {self.stability_score_offset}; it must be 0 or more.")
        if not 0 <= self.crop_overlap_ratio < 1:
            raise PromptError(f"crop_overlap_ratio is {self.crop_overlap_ratio}; it must be from 0 to below 1.")
        if not self.max_mask_area_ratio > 0:
            raise PromptError(f"max_mask_area_ratio is {self.max_mask_area_ratio}; it must be above 0.")
        if not 0 <= self.max_background_ratio <= 1:
            raise PromptError(f"max_background_ratio is {self.max_background_ratio}; it must be from 0 to 1.")
        if self.prompt not in ("point", "box"):
            raise PromptError(f"prompt is {self.prompt!r}; it must be point or box.")
        if self.crop_n_layers > 6:
            raise PromptError(f"crop_n_layers is {self.crop_n_layers}; 6 layers are 5461 crops, and enough.")
        if not self.side(self.crop_n_layers):
            raise PromptError(
                f"{self.points_per_side} points a side leave none in crop layer {self.crop_n_layers} at "
                f"crop_n_points_downscale_factor {self.crop_n_points_downscale_factor}."
            )

    @classmethod
    def suited_to(cls, spec: ModelSpec, **given: Any) -> AutomaticSettings:
        """The published settings for a model that knows clicks; a grid of boxes for one that was trained on boxes.

        given: settings that the caller chose; they stand. The thresholds for boxes are LiteMedSAM's, whose masks
        are less stable (docs/everything.md).
        Raises PromptError as the class does, and for a setting that would change nothing beside the others.
        """
        if given.get("prompt") is None:
            given["prompt"] = "point" if takes_clicks(spec) else "box"
        boxed = {"pred_iou_thresh": 0.7, "stability_score_thresh": 0.7} if given["prompt"] == "box" else {}
        chosen = {name: value for name, value in given.items() if value is not None}
        settings = cls(**{**boxed, **chosen})
        idle = {
            "is of a grid of clicks, and this one is of boxes": ("points_per_side", "crop_n_points_downscale_factor")
            if settings.prompt == "box"
            else (),
            "is of crops, and crop_n_layers is 0": ("crop_overlap_ratio", "crop_n_points_downscale_factor")
            if not settings.crop_n_layers
            else (),
            # duplicates among what is cleaned are removed, too
            "is for masks of several crops or cleaned ones, and there are none": ("crop_nms_thresh",)
            if not settings.crop_n_layers and not settings.min_mask_region_area
            else (),
        }
        for why, names in idle.items():
            for name in names:
                if name in chosen:
                    raise PromptError(f"{name} {why}: it would change nothing. Leave it out.")
        return settings

    def side(self, layer: int) -> int:
        """Points a side in a crop of this layer."""
        return int(self.points_per_side / self.crop_n_points_downscale_factor**layer)


@dataclass(frozen=True, eq=False)
class AutomaticMasks:
    """All masks of a slice, or of several.

    left_out: how many masks lay on the background and would have stayed but for that, duplicates counted once a slice.
    no_contrast: slices in which the window left none, at least in a crop; a crop without contrast has no masks.
    usage: what was run for it.
    """

    masks: list[AutomaticMask]
    left_out: int = 0
    no_contrast: tuple[int, ...] = ()
    usage: Usage = field(default_factory=Usage)


def everything_on_slice(
    scan_encoder: ScanEncoder,
    index: int,
    settings: AutomaticSettings | None = None,
    progress: ProgressCallback | None = None,
) -> AutomaticMasks:
    """All masks of slice `index`, on the stored slice. None where the window leaves no contrast in it.

    progress: called with (prompts done, prompts in all). Raises PromptError for no such slice.
    """
    settings = settings or AutomaticSettings()
    check_slice(scan_encoder.plane, index)
    view, stored = scan_encoder.plane.view, scan_encoder.plane.shape
    nothing = view.apply(background(scan_encoder, index)) if settings.max_background_ratio < 1 else None
    crops = _crops(scan_encoder, settings)
    grids = [_grid(crop, layer, scan_encoder.plane, settings) for crop, layer in crops]
    total = sum(map(len, grids))
    done = 0
    found: list[_Candidate] = []
    idle: list[_Candidate] = []
    usage, no_contrast = Usage(), False
    for (crop, layer), grid in zip(crops, grids, strict=True):
        region = None if layer == 0 else _to_stored(crop, view, stored)
        embedding = scan_encoder.encode(index, region=region)
        usage += embedding.usage
        no_contrast |= embedding.no_contrast
        in_crop: list[_Candidate] = []
        for start in range(0, len(grid), settings.points_per_batch):
            batch = grid[start : start + settings.points_per_batch]
            if not embedding.no_contrast:
                predictions = _predict(scan_encoder.image_predictor, embedding, batch, settings)
                usage += predictions.usage
                candidates = _candidates(predictions, batch, crop, settings)
                real, empty = _apart(candidates, nothing, settings.max_background_ratio)
                in_crop += real
                idle += empty
            done += len(batch)
            if progress is not None:
                progress(done, total)
        found += _distinct(in_crop, [one.predicted_iou for one in in_crop], settings.box_nms_thresh)
    if len(crops) > 1:
        found = _distinct(found, [1 / _area(one.crop) for one in found], settings.crop_nms_thresh)
    if settings.min_mask_region_area:
        found = _without_small_regions(found, settings)
    return AutomaticMasks(
        [_on_stored(one, index, view, stored) for one in found],
        len(_distinct(idle, [one.predicted_iou for one in idle], settings.box_nms_thresh)),
        (index,) if no_contrast else (),
        usage,
    )


def everything_in_volume(
    scan_encoder: ScanEncoder,
    settings: AutomaticSettings | None = None,
    *,
    link_iou_thresh: float = 0.5,
    indices: Sequence[int] | None = None,
    progress: ProgressCallback | None = None,
) -> AutomaticMasks:
    """All masks of all slices (or of `indices`, ascending), with `object`: masks linked through neighbouring slices.

    See `link.SliceLinker`. Objects are numbered by volume, the largest first.
    progress: called with (prompts done, prompts in all). Raises PromptError for no such slice.
    """
    settings = settings or AutomaticSettings()
    indices = range(scan_encoder.plane.count) if indices is None else indices
    each = sum(len(_grid(crop, layer, scan_encoder.plane, settings)) for crop, layer in _crops(scan_encoder, settings))
    linker = SliceLinker(link_iou_thresh)
    masks: list[AutomaticMask] = []
    slices: list[AutomaticMasks] = []
    for number, index in enumerate(indices):

        def report(done: int, _: int | None, before: int = number * each) -> None:
            if progress is not None:
                progress(before + done, len(indices) * each)

        found = everything_on_slice(scan_encoder, index, settings, report)
        links = linker.add(index, [one.rle for one in found.masks])
        masks += [replace(one, object=link) for one, link in zip(found.masks, links, strict=True)]
        slices.append(replace(found, masks=[]))
    return AutomaticMasks(
        _numbered_by_volume(masks),
        sum(one.left_out for one in slices),
        tuple(index for one in slices for index in one.no_contrast),
        sum((one.usage for one in slices), Usage()),
    )


def _numbered_by_volume(masks: Sequence[AutomaticMask]) -> list[AutomaticMask]:
    """The masks with their objects numbered from 1, the largest first."""
    volume: dict[int, int] = {}
    for one in masks:
        if one.object is not None:
            volume[one.object] = volume.get(one.object, 0) + one.area
    # sorting is stable, so objects of one volume keep their order of appearance
    rank = {number: n for n, number in enumerate(sorted(volume, key=lambda number: -volume[number]), start=1)}
    return [one if one.object is None else replace(one, object=rank[one.object]) for one in masks]


def label_map(masks: Sequence[AutomaticMask], geometry: VolumeGeometry, plane: SlicePlane) -> LabelVolume:
    """One label an object, or, where masks were not linked, a mask, numbered in their order. On the scan's own grid.

    Smaller masks lie on larger ones, so that what is in something else stays visible. A label map counts to 65535;
    what comes after is left out.
    """
    numbers = [n if one.object is None else one.object for n, one in enumerate(masks, start=1)]
    labels = np.zeros(geometry.shape, dtype=np.uint16)
    for n in sorted(range(len(masks)), key=lambda n: -masks[n].area):
        if numbers[n] <= np.iinfo(np.uint16).max:
            plane.take(labels, masks[n].slice or 0)[masks[n].mask] = numbers[n]
    return LabelVolume(labels, geometry, {int(n): f"object {n}" for n in np.unique(labels[labels > 0])})


def point_grid(side: int) -> np.ndarray:
    """(side², 2) points in (0, 1), row by row: (n + 0.5) / side along either axis."""
    step = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(step, step)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def box_grid(extent: np.ndarray) -> np.ndarray:
    """(P, 4) boxes in [0, 1], square where the image is `extent` (width, height) in mm, cut off at its border.

    For every side in `BOX_SCALES`, times the longer extent, row by row, half a side apart.
    """
    boxes = []
    for scale in BOX_SCALES:
        side = scale * extent.max() / extent
        columns, rows = (max(1, round(2 / length)) for length in side)
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        centres = np.stack([x.ravel(), y.ravel()], axis=1)
        boxes.append(np.concatenate([centres - side / 2, centres + side / 2], axis=1).clip(0, 1))
    return np.concatenate(boxes)


def crop_boxes(shape: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[Region, int]]:
    """Half-open crops with their layer: the whole image of `shape` (H, W) in layer 0, 2 ** n a side in layer n.

    Within a layer column by column. Crops that an image of few pixels leaves empty are skipped.
    """
    height, width = shape
    crops: list[tuple[Region, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / count))
        wide, high = (math.ceil((overlap * (count - 1) + length) / count) for length in (width, height))
        for column in range(count):
            for row in range(count):
                x0, y0 = column * (wide - overlap), row * (high - overlap)
                x1, y1 = min(x0 + wide, width), min(y0 + high, height)
                if x0 < x1 and y0 < y1:
                    crops.append(((x0, y0, x1, y1), layer))
    return crops


@dataclass(frozen=True)
class _Candidate:
    """A mask on the upright slice. box: first and last column and row inside. crop: half-open.

    prompt: the point (2,) or box (4,) it is the mask of.
    """

    rle: RLE
    box: np.ndarray
    predicted_iou: float
    stability: float
    prompt: np.ndarray
    crop: Region


def _predict(
    image_predictor: ImagePredictor, embedding: Embedding, prompts: np.ndarray, settings: AutomaticSettings
) -> Prediction:
    """Three masks of each click of `_grid`, or one of each box."""
    frame = embedding.frame
    view, stored = frame.view, frame.stored
    clicked = settings.prompt == "point"
    if clicked:
        listed = [SlicePrompt(1, points=((x, y, 1),)) for x, y in _stored_points(prompts, view, stored).tolist()]
    else:
        listed = box_prompts(view.inverse.boxes(prompts, view.shape(stored)))
    return image_predictor.predict(embedding, listed, multimask=clicked, at_once=settings.points_per_batch)


def _candidates(
    predictions: Prediction, prompts: np.ndarray, crop: Region, settings: AutomaticSettings
) -> list[_Candidate]:
    """What passes the filters of the masks of prompts of `_grid`."""
    frame = predictions.frame
    view, (height, width) = frame.view, frame.view.shape(frame.stored)
    # (P, M, ...) -> (P * M, ...): the masks of a prompt side by side
    each = predictions.predicted_iou.shape[-1]
    logits, scores = predictions.logits.flatten(0, 1), torch.from_numpy(predictions.predicted_iou.ravel())
    wanted = torch.arange(len(scores))
    if settings.pred_iou_thresh > 0:
        wanted = wanted[scores > settings.pred_iou_thresh]
    found = []
    at_once = max(1, _AT_ONCE // (height * width))
    for start in range(0, len(wanted), at_once):
        some = wanted[start : start + at_once]
        maps = frame.restore(logits[some.to(logits.device)])
        stability = stability_score(maps, 0.0, settings.stability_score_offset).cpu().numpy()
        masks = (maps > 0).cpu().numpy()
        for number, stable, stored in zip(some.tolist(), stability, masks, strict=True):
            if settings.stability_score_thresh > 0 and not stable >= np.float32(settings.stability_score_thresh):
                continue
            mask = view.apply(stored)
            area = int(np.count_nonzero(mask))
            if not area or area >= settings.max_mask_area_ratio * mask.size:
                continue
            box = mask_boxes(mask[None])[0]
            if _cut_off(box, crop, (0, 0, width, height)):
                continue
            score = float(scores[number])
            found.append(_Candidate(RLE.of(mask), box, score, float(stable), prompts[number // each], crop))
    return found


def _apart(
    found: list[_Candidate], nothing: np.ndarray | None, most: float
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Those of which no more than `most` lies on `nothing`, bool (H, W), and the others."""
    if nothing is None or not nothing.any():
        return found, []
    real: list[_Candidate] = []
    idle: list[_Candidate] = []
    for one in found:
        mask = one.rle.to_array()
        lost = np.count_nonzero(mask & nothing) > most * np.count_nonzero(mask)
        (idle if lost else real).append(one)
    return real, idle


def _cut_off(box: np.ndarray, crop: Region, image: Region) -> bool:
    """Whether a side of the box lies at one of the crop that is none of the image."""
    at_crop, at_image = np.abs(box - crop) <= _EDGE, np.abs(box - image) <= _EDGE
    return bool((at_crop & ~at_image).any())


def _distinct(found: list[_Candidate], scores: Sequence[float], threshold: float) -> list[_Candidate]:
    boxes = np.array([one.box for one in found]).reshape(-1, 4)
    return [found[n] for n in nms(boxes, np.array(scores, dtype=np.float32), threshold)]


def _without_small_regions(found: list[_Candidate], settings: AutomaticSettings) -> list[_Candidate]:
    cleaned, untouched = [], []
    for one in found:
        mask, changed = remove_small_regions(one.rle.to_array(), settings.min_mask_region_area)
        cleaned.append(replace(one, rle=RLE.of(mask), box=mask_boxes(mask[None])[0]) if changed else one)
        untouched.append(float(not changed))
    return _distinct(cleaned, untouched, max(settings.box_nms_thresh, settings.crop_nms_thresh))


def _on_stored(one: _Candidate, index: int, view: View, stored: tuple[int, int]) -> AutomaticMask:
    mask = view.undo(one.rle.to_array())
    x0, y0, x1, y1 = (int(edge) for edge in mask_boxes(mask[None])[0])
    left, top, right, bottom = _to_stored(one.crop, view, stored)
    points: tuple[tuple[float, float], ...] = ()
    box = None
    if len(one.prompt) == 2:
        x, y = _stored_points(one.prompt, view, stored).tolist()
        points = ((x, y),)
    else:
        p0, q0, p1, q1 = view.inverse.boxes(one.prompt, view.shape(stored)).tolist()
        box = (p0, q0, p1 - p0, q1 - q0)
    return AutomaticMask(
        RLE.of(mask),
        (x0, y0, x1 - x0, y1 - y0),
        one.predicted_iou,
        one.stability,
        (left, top, right - left, bottom - top),
        points,
        slice=index,
        prompt_box=box,
    )


def _to_stored(crop: Region, view: View, stored: tuple[int, int]) -> Region:
    x0, y0, x1, y1 = view.inverse.boxes(np.array(crop), view.shape(stored)).astype(int).tolist()
    return x0, y0, x1, y1


def _stored_points(points: np.ndarray, view: View, stored: tuple[int, int]) -> np.ndarray:
    return view.inverse.edges(points + 0.5, view.shape(stored)) - 0.5


def _crops(scan_encoder: ScanEncoder, settings: AutomaticSettings) -> list[tuple[Region, int]]:
    upright = scan_encoder.plane.view.shape(scan_encoder.plane.shape)
    return crop_boxes(upright, settings.crop_n_layers, settings.crop_overlap_ratio)


def _grid(crop: Region, layer: int, plane: SlicePlane, settings: AutomaticSettings) -> np.ndarray:
    """The prompts of a crop, on the upright slice: points (P, 2), pixel indices, or half-open boxes (P, 4)."""
    size = np.array([crop[2] - crop[0], crop[3] - crop[1]], dtype=np.float64)
    if settings.prompt == "point":
        return point_grid(settings.side(layer)) * size + crop[:2]
    return box_grid(size * plane.upright_spacing_mm[::-1]) * np.tile(size, 2) + np.tile(crop[:2], 2)


def _area(box: Region) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
