"""A shaky hand: smooth random fields that move, and break, what a person draws.

Source: the deformation fields and noise masks of ScribblePrompt (Wong et al. 2024), written from their description.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# nodes beyond what is covered, so that the cubic between four of them is never near a border
_BEYOND = 2


@dataclass(frozen=True)
class SmoothNoise:
    """Random numbers over a part of a slice that change little within a wavelength.

    values: (count, rows, columns), standard normal, at the nodes of a square grid. origin: (x, y) of its first node.
    step: pixels between two nodes.
    """

    values: np.ndarray
    origin: np.ndarray
    step: float

    @classmethod
    def draw(cls, points: np.ndarray, wavelength: float, rng: np.random.Generator, count: int = 1) -> SmoothNoise:
        """Over the box of positions (N, 2), (x, y) pixel numbers. wavelength: in pixels. count: numbers a position."""
        low, high = points.min(axis=0), points.max(axis=0)
        step = max(wavelength / 2, 1.0)
        columns, rows = (math.ceil(length / step) + 1 + 2 * _BEYOND for length in high - low)
        return cls(rng.standard_normal((count, rows, columns)), low - _BEYOND * step, step)

    def at(self, points: np.ndarray) -> np.ndarray:
        """(N, count): the numbers at positions (N, 2)."""
        columns, rows = ((points - self.origin) / self.step).T
        read = [ndimage.map_coordinates(one, [rows, columns], order=3, mode="nearest") for one in self.values]
        return np.stack(read, axis=-1)


def shaken(points: np.ndarray, sigma: float, wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Positions (N, 2) as a shaky hand would put them, each moved by about `sigma` pixels and its neighbours with it.

    wavelength: in pixels, over which the hand changes its mind.
    """
    if not len(points):
        return points
    return points + sigma * SmoothNoise.draw(points, wavelength, rng, count=2).at(points)
