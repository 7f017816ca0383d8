"""Masks, boxes and clicks drawn over a slice: arrays in, an array out.

A slice here is upright, as it is shown. Places in it are edges in pixels: 0 is the left edge of the first column, 0.5
its middle. Letters: h, w of the slice; H, W of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from medsam.drawing.colours import PREDICTION, REFERENCE, rgb
from medsam.masks import bounding_box, xyxy


@dataclass(frozen=True)
class Outline:
    """A mask to be outlined. mask: bool, of the slice's extent in any number of pixels. width: half of the line's."""

    mask: np.ndarray
    colour: str
    width: int = 1


# corners, (x, y) edges in pixels, and whether the object is under it
Stroke = tuple[Sequence[Sequence[float]], bool]


def render(
    image: np.ndarray,
    size: tuple[int, int],
    outlines: Sequence[Outline] = (),
    boxes: Sequence[Sequence[float]] = (),
    points: Sequence[Sequence[float]] = (),
    *,
    strokes: Sequence[Stroke] = (),
    region: Sequence[float] | None = None,
) -> np.ndarray:
    """A part of a slice as a picture of `size` (H, W), uint8 (H, W, 3).

    image: uint8 (h, w) or (h, w, 3). outlines: later ones on top. boxes: x0, y0, x1, y1 each, drawn dashed and white.
    points: (x, y, 1 inside | 0 outside) each, drawn as + and x. strokes: what else was drawn by hand, see `Stroke`.
    region: x0, y0, x1, y1, what is shown; default the whole slice; black where it passes the image.
    """
    from PIL import Image

    low, high = np.reshape(region or (0, 0, image.shape[1], image.shape[0]), (2, 2)).astype(float)
    height, width = size

    def crop(layer: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        # a mask may have another number of pixels than the image
        scale = np.array(layer.shape[1::-1]) / image.shape[1::-1]
        begin, end = low * scale, high * scale
        first, last = np.floor(begin).astype(int), np.ceil(end).astype(int)
        part = Image.fromarray(layer).crop((*first.tolist(), *last.tolist()))
        within = (*(begin - first).tolist(), *(end - first).tolist())
        return np.asarray(part.resize((width, height), resample, box=within))

    picture = crop(image, Image.Resampling.BICUBIC)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    picture = picture.copy()
    for outline in outlines:
        shape = crop(outline.mask.astype(np.uint8) * 255, Image.Resampling.BOX) >= 128
        steps = outline.width
        line = binary_dilation(shape, iterations=steps) & ~binary_erosion(shape, iterations=steps)
        picture[line] = rgb(outline.colour)
    to_picture = np.array((width, height)) / (high - low)
    for box in boxes:
        _dashes(picture, (np.reshape(box, (2, 2)) - low) * to_picture)
    for corners, solid in strokes:
        _stroke(picture, (np.reshape(corners, (-1, 2)) - low) * to_picture, bool(solid))
    for x, y, inside in points:
        _mark(picture, (np.array((x, y)) - low) * to_picture, bool(inside))
    return picture


def draw_overlay(
    image: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    box: Sequence[float] | None,
    aspect: float,
    edge: int,
    *,
    points: Sequence[Sequence[float]] = (),
    strokes: Sequence[Stroke] = (),
) -> np.ndarray:
    """A square picture of a structure and its surroundings, with both outlines, the dashed box, clicks and strokes.

    image: uint8 (h, w) or (h, w, 3). reference, prediction: bool (h, w). box: x0, y0, x1, y1, edges in pixels.
    aspect: height of a pixel over its width; the picture shows both in one scale. edge: of the picture, in pixels.
    points: (x, y, 1 inside | 0 outside) each, edges in pixels; drawn as + and x. strokes: as in `render`.
    Returns uint8 (edge, edge, 3); black where the crop passes the image. The reference's outline is wider and lies
    below, so both are seen where they agree.
    """
    # all that has to be seen: the box, what was drawn, and both masks
    drawn = [(x, y) for x, y, _ in points] + [(x, y) for corners, _ in strokes for x, y in corners]
    seen = [*([box] if box is not None else []), *((x, y, x, y) for x, y in drawn)]
    part = bounding_box(reference, prediction)
    if part is not None:
        seen.append(xyxy(part))
    corners = np.array(seen or [(0, 0, image.shape[1], image.shape[0])], dtype=float)
    (x0, y0), (x1, y1) = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    # a margin of a fifth on each side; tiny structures keep some anatomy around them
    side = max(1.4 * max(x1 - x0, (y1 - y0) * aspect), 32.0)
    half = np.array((side / 2, side / 2 / aspect))
    middle = np.array(((x0 + x1) / 2, (y0 + y1) / 2))
    thin = max(1, round(edge / 320))
    return render(
        image,
        (edge, edge),
        [Outline(reference, REFERENCE, 2 * thin), Outline(prediction, PREDICTION, thin)],
        [] if box is None else [box],
        points,
        strokes=strokes,
        region=(*(middle - half).tolist(), *(middle + half).tolist()),
    )


def paint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray, opacity: float = 0.35) -> None:
    """Fill a mask in place with a colour that lets the picture through, and draw its outline inside it.

    picture: float (h, w, 3). mask: bool (h, w). colour: (3,), in the picture's range.
    """
    edge = mask & ~binary_erosion(mask)
    picture[mask] = (1 - opacity) * picture[mask] + opacity * colour
    picture[edge] = colour


def _mark(picture: np.ndarray, place: np.ndarray, inside: bool) -> None:
    """Draw a click in place: a white + inside, × outside, edged in black to be seen on any ground."""
    edge = len(picture)
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    across, down = x + 0.5 - place[0], y + 0.5 - place[1]
    near = np.maximum(np.abs(across), np.abs(down)) <= max(edge / 40, 3)
    strokes = (across, down) if inside else ((across - down) / 2**0.5, (across + down) / 2**0.5)
    distance = np.minimum(*np.abs(np.broadcast_arrays(*strokes)))
    for colour, half in ((0, max(edge / 160, 1.5)), (255, max(edge / 500, 0.5))):
        picture[near & (distance <= half)] = colour


def _stroke(picture: np.ndarray, corners: np.ndarray, inside: bool) -> None:
    """Draw a stroke of a pen in place: white and edged in black; outside, dotted."""
    from PIL import Image, ImageDraw

    thin, line = max(len(picture) // 250, 1), [tuple(corner) for corner in corners.tolist()]
    drawn = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawn)
    for colour, width in (("black", 3 * thin), ("white", thin)):
        pen.line(line, colour, width)
        if len(line) == 1:
            pen.circle(line[0], width, colour)
    shown = np.asarray(drawn)
    if not inside:
        y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
        shown = np.where(((x + y) // (4 * thin) % 2 == 0)[..., None], shown, picture)
    picture[:] = shown


def _dashes(picture: np.ndarray, corners: np.ndarray) -> None:
    """Draw a dashed white box in place. corners: [[x0, y0], [x1, y1]] in pixels of the picture."""
    last = np.array(picture.shape[1::-1]) - 1
    (x0, y0), (x1, y1) = np.clip(corners.round().astype(int), 0, last)
    dash = max(len(picture) // 64, 2)
    along, down = np.arange(x0, x1 + 1), np.arange(y0, y1 + 1)
    for y in (y0, y1):
        picture[y, along[(along - x0) // dash % 2 == 0]] = 255
    for x in (x0, x1):
        picture[down[(down - y0) // dash % 2 == 0], x] = 255
