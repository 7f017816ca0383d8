"""Structures outlined on whole slices by a segmenter (`medsam.models.segmenter`), without any prompt.

A class of its is a set of structures that share pixels: most are one structure alone, and a tumour within an organ is
in a class that is both.

Letters: n slices, S side of its input, C classes, h and w of the stored slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medsam.inference.image_predictor import ScanEncoder
from medsam.models.segmenter import CHANNELS, Segmenter
from medsam.transforms.frame import Frame
from medsam.transforms.preprocess import Preprocess


@dataclass(frozen=True, eq=False)
class Outline:
    """A structure on a slice. mask: bool (h, w), not empty. likely: float32 (h, w), how likely each pixel is in it.

    confidence: the Dice to be expected if that is true, in [0, 1]: 2 * what is likely in the mask / (pixels of the mask
    + what is likely on the slice).
    """

    structure: str
    mask: np.ndarray
    likely: np.ndarray
    confidence: float


def slice_inputs(encoder: ScanEncoder, slices: Sequence[int], side: int) -> tuple[Tensor, Tensor, Frame]:
    """Images (n, 3, S, S) in [0, 1] of slices between their neighbours, places along the scan (n,), and their frame.

    Neighbours come in the same order whichever way the scan is stored; at its ends the outermost slice is its own
    neighbour. A picture has its colours instead.
    """
    plane = encoder.plane
    frame = Frame.of(plane, Preprocess(side, "pad", "standardise", "bilinear", std=(255.0, 255.0, 255.0)))
    places = encoder.scan.geometry.slice_places(plane.axis)
    one_way = 1 if places[-1] >= places[0] else -1
    images = []
    for index in slices:
        if plane.count == 1:
            pixels = _pixels(encoder, index)
        else:
            around = [min(max(index + step * one_way, 0), plane.count - 1) for step in (-1, 0, 1)]
            pixels = torch.stack([_pixels(encoder, n).mean(0) for n in around])
        images.append(frame.image(encoder.window.apply(pixels)))
    stacked = torch.stack(images) if images else torch.empty(0, CHANNELS, side, side)
    return stacked, torch.from_numpy(places[list(slices)]).float(), frame


def _pixels(encoder: ScanEncoder, index: int) -> Tensor:
    """A stored slice, float32 (1 or 3, h, w)."""
    pixels = torch.from_numpy(np.ascontiguousarray(encoder.pixels(index), dtype=np.float32))
    return pixels[None] if pixels.ndim == 2 else pixels.movedim(2, 0)


def outlines(
    network: Segmenter, classes: Sequence[Sequence[str]], encoder: ScanEncoder, slices: Sequence[int], least: int = 3
) -> Iterator[tuple[int, list[Outline]]]:
    """What a segmenter finds on each of these slices. classes: the structures of each of its. least: pixels."""
    device = next(network.parameters()).device
    parts = {
        name: [number for number, names in enumerate(classes, start=1) if name in names]
        for name in dict.fromkeys(name for names in classes for name in names)
    }
    for index in slices:
        images, places, frame = slice_inputs(encoder, [index], network.sizes.side)
        with torch.inference_mode():
            logits = network(images.to(device), places.to(device))[0]
        likely = frame.restore(logits).softmax(0).cpu().numpy()
        highest = likely.argmax(0)
        found = []
        for name, numbers in parts.items():
            # shares that add up to a little more than 1 are rounded
            mask, share = np.isin(highest, numbers), np.minimum(likely[numbers].sum(axis=0), 1)
            if np.count_nonzero(mask) >= least:
                both = np.count_nonzero(mask) + float(share.sum())
                found.append(Outline(name, mask, share, 2 * float(share[mask].sum()) / both))
        yield index, found


def labels_of(masks: Mapping[str, np.ndarray], classes: Sequence[Sequence[str]], frame: Frame) -> Tensor:
    """int64 (S, S): the class of each pixel of the input, counted from 1; 0 is none. masks: (h, w) by structure.

    Where a pixel is in several classes the last of them counts.
    """
    side = frame.preprocess.size
    inside = {name: frame.mask_prompt(mask[None], side)[0] > 0 for name, mask in masks.items()}
    labels = torch.zeros(side, side, dtype=torch.int64)
    for number, names in enumerate(classes, start=1):
        if all(name in inside for name in names):
            labels[torch.stack([inside[name] for name in names]).all(0)] = number
    return labels
