"""Prompts drawn from reference masks, by the rules evaluation and the demo report."""

from __future__ import annotations

import numpy as np

# below this a structure is a partial-volume sliver, not something anybody would box (contracts: box protocol)
MIN_PIXELS = 10


def tight_box(mask: np.ndarray, min_pixels: int = MIN_PIXELS) -> tuple[int, int, int, int] | None:
    """The half-open box (x0, y0, x1, y1) round all of a bool mask (h, w); None below `min_pixels` pixels.

    Several components share one box.
    """
    if np.count_nonzero(mask) < max(min_pixels, 1):
        return None
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def jittered(
    box: tuple[int, int, int, int], most_px: int, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """The box with each edge moved outwards by a whole number drawn uniformly from [0, most_px], inside (h, w).

    The same state of `rng` moves an edge the further the larger `most_px` is: curves over it are paired.
    """
    left, top, right, bottom = np.floor(rng.random(4) * (most_px + 1)).astype(int).tolist()
    x0, y0, x1, y1 = box
    return max(x0 - left, 0), max(y0 - top, 0), min(x1 + right, shape[1]), min(y1 + bottom, shape[0])


def inscribed_ellipse(box: tuple[float, float, float, float], shape: tuple[int, int]) -> np.ndarray:
    """Bool (h, w): pixels whose centre lies in the ellipse inscribed in a half-open box.

    An answer without a model; on tight boxes it is hard to beat on convex organs, so honest tables show it.
    """
    x0, y0, x1, y1 = box
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = (2 * (x + 0.5) - (x0 + x1)) / (x1 - x0)
    down = (2 * (y + 0.5) - (y0 + y1)) / (y1 - y0)
    return across**2 + down**2 <= 1
