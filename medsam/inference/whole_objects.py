"""Objects on all slices at once: cleaned, as a label map, and what following one through the volume leaves of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np

from medsam.geometry import SlicePlane
from medsam.inference.combine import bounds
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.outlines import masks_between
from medsam.inference.prompt_parts import PromptPart
from medsam.inference.propagate import PropagateSettings, Propagation, propagate_all
from medsam.inference.session_state import Objects, SliceState
from medsam.inference.slice_request import Zoom
from medsam.masks import CompactMask, PackedMasks
from medsam.postprocess.clean import Cleanup
from medsam.postprocess.merge import merge_by_predicted_iou
from medsam.progress import ProgressCallback
from medsam.prompts.limits import SliceLimits
from medsam.prompts.prompt import SlicePrompt
from medsam.prompts.strokes import spots

# given a slice and the object's mask (h, w) on it
FoundCallback = Callable[[int, CompactMask], None]
# Of what stands and was not asked about: above every predicted IoU, below what is locked. What was drawn is between.
_STANDS, DRAWN = 2.0**98, 2.0**99
# seconds between two looks whether there is something more urgent than cleaning
_PATIENCE = 0.1


def cleaned_object(
    scan_encoder: ScanEncoder,
    found: Propagation,
    seeds: Mapping[int, SlicePrompt],
    zoom: Zoom,
    cleanup: Cleanup,
) -> np.ndarray:
    """An object through the volume, bool (K, J, I), cleaned in three dimensions. seeds: its prompts, by slice."""
    plane, geometry = scan_encoder.plane, scan_encoder.scan.geometry
    solid = found.volume(plane, geometry.shape)
    clicks = []
    for index, seed in seeds.items():
        for point in spots(seed.marks, plane.shape):
            at: list[float] = [*point]
            at.insert(2 - plane.array_axis, index)
            clicks.append(tuple(at))
    within = np.ones_like(solid)
    for index, seed in seeds.items():
        if (part := bounds(seed, zoom, plane)) is not None:
            plane.take(within, index)[...] = part | plane.take(solid, index)
    return cleanup(solid, geometry.spacing_mm, calibrated=geometry.calibrated, points=clicks, within=within)


def packed(
    structures: Mapping[str, Mapping[int, CompactMask]], plane: SlicePlane, shape: tuple[int, int, int]
) -> PackedMasks:
    """Structures by slice as masks (K, J, I) = `shape`, which may overlap."""
    found = PackedMasks(shape)
    for name, masks in structures.items():
        solid = np.zeros(shape, dtype=bool)
        for index, mask in masks.items():
            plane.take(solid, index)[...] = mask.to_array()
        found.add(name, solid)
    return found


def label_array(
    objects: Objects,
    names: Mapping[int, str],
    shape: tuple[int, int, int],
    plane: SlicePlane,
    cleaned: Callable[[SliceState, str, int], np.ndarray],
    locks: Callable[[str], bool],
) -> np.ndarray:
    """All objects as one label map, (K, J, I) = `shape`. names: label id -> object.

    cleaned: state, label, slice -> mask (h, w) as it is saved. locks: whether an object keeps its pixels.
    Where objects overlap, what is locked comes first, then what was drawn, then what stands and was not asked about,
    then the mask with the higher predicted IoU.
    """
    array = np.zeros(shape, dtype=np.uint8 if max(names) < 256 else np.uint16)
    by_slice: dict[int, list[tuple[int, SliceState]]] = {}
    for number, label in names.items():
        for index, state in objects.get(label, {}).items():
            by_slice.setdefault(index, []).append((number, state))
    for index, here in by_slice.items():
        masks = [cleaned(state, names[number], index) for number, state in here]
        ranks = [_rank(state) for _, state in here]
        predicted_iou = np.where([locks(names[number]) for number, _ in here], np.inf, ranks)
        ids = np.array([number for number, _ in here])
        plane.take(array, index)[...] = merge_by_predicted_iou(np.stack(masks), predicted_iou, ids)
    return array


def _rank(state: SliceState) -> float:
    if state.untouched and (state.drawn or state.standing):
        return DRAWN if state.drawn else _STANDS
    return state.predicted_iou


def follow(
    scan_encoder: ScanEncoder,
    seeds: Mapping[int, SlicePrompt],
    zoom: Zoom,
    cleanup: Cleanup,
    max_mm: float,
    *,
    progress: ProgressCallback | None = None,
    found: FoundCallback | None = None,
    wanted: Callable[[], bool] | None = None,
) -> tuple[Propagation, np.ndarray]:
    """One object from its prompted slices through the volume, and its masks cleaned, bool (K, J, I).

    progress, found, wanted: see `propagate_all`; progress is also called now and then while masks are cleaned.
    """
    last: list[tuple[int, int | None]] = [(0, None)]

    def tell(done: int, total: int | None) -> None:
        last[0] = done, total
        if progress is not None:
            progress(done, total)

    spread = propagate_all(
        scan_encoder,
        {0: seeds},
        zoom=zoom,
        settings=PropagateSettings(max_mm=max_mm),
        progress=tell,
        found=None if found is None else lambda _, index, mask: found(index, mask),
        wanted=wanted,
    )[0]
    # seconds of a large scan, in which nobody should have to wait
    with ThreadPoolExecutor(1) as thread:
        cleaning = thread.submit(cleaned_object, scan_encoder, spread, seeds, zoom, cleanup)
        while not wait([cleaning], _PATIENCE).done:
            tell(*last[0])
    return spread, cleaning.result()


def interpolated(
    slices: Iterable[int],
    cleaned: Callable[[int], np.ndarray],
    spacing_mm: tuple[float, float],
    progress: ProgressCallback | None = None,
) -> dict[int, CompactMask]:
    """Masks of the slices between those that an object is on, from these. Source: see `outlines.between`.

    cleaned: slice -> mask (h, w). progress: called once a slice.
    """
    tell, there = progress or (lambda done, total: None), dict[int, CompactMask]()
    for index in sorted(slices):
        tell(len(there), None)
        there[index] = CompactMask.of(cleaned(index))
    found: dict[int, CompactMask] = {}
    for (first, one), (last, other) in pairwise((index, mask) for index, mask in there.items() if mask):
        for index, _, mask in masks_between(one, other, (first, last), spacing_mm):
            tell(len(there) + len(found), None)
            found[index] = CompactMask.of(mask)
    return found


def followed(
    found: Propagation,
    solid: np.ndarray,
    plane: SlicePlane,
    before: Mapping[int, SliceState],
    now: Mapping[int, SliceState],
    label: str,
    limits: Callable[[int], SliceLimits],
    numbers: Iterator[int],
) -> dict[int, SliceState | None]:
    """What following an object leaves of it, by slice.

    solid: bool (K, J, I), its masks as they are saved. before: its prompted slices when it began. now: all its slices
    today; one that a reader has worked on meanwhile stays as it is. label: of the object. limits: of a slice.
    numbers: of results to come.
    """
    after: dict[int, SliceState | None] = {}
    for index in sorted(found.masks.keys() | before.keys() | now.keys()):
        there = now.get(index)
        own = there is not None and not there.remade
        known = before.get(index)
        if there is not None and own and (there.erased or known is None or there.number != known.number):
            continue
        predicted_iou = found.predicted_iou.get(index, 0.0)
        # a drawn mask is kept as it was drawn
        drawn = math.isnan(predicted_iou)
        mask = found.masks[index] if drawn else plane.take(solid, index)
        mask = limits(index).applied(mask, label, None if known is None else known.mask)
        compact, iou = CompactMask.of(mask), 1.0 if drawn else predicted_iou
        if there is not None and own:
            after[index] = SliceState(there.parts, compact, iou, next(numbers), cleaned=True)
        elif compact:
            part = PromptPart(None, compact, standing=True, propagated=True)
            confidence = found.confidence.get(index)
            after[index] = SliceState((part,), compact, iou, next(numbers), cleaned=True, confidence=confidence)
        elif there is not None:
            after[index] = None
    return after
