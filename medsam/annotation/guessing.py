"""Where a structure probably is on a slice, guessed from slices on which people have drawn it: a box, and how sure.

A Gaussian process over what the network makes of slices (`looks`) and where along the scan they lie: slices that look
alike and lie alike hold a structure alike, and far from all that is known the guess has a wide spread. It is fitted in
closed form in a second, with a few scans, on no GPU; what it costs is that it knows nothing but its examples.

A guess about a patient who was learnt from is flattering: `left_out` guesses each patient's slices by the others'.

Letters: n slices that are known, m slices asked about, D numbers of a slice. Boxes are (centre x, centre y, log width,
log height) in shares of the network's input, so that scans stored in another order or resolution are alike.
Source: Rasmussen and Williams 2006, chapters 2 and 5.4.2 (leaving out in closed form).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

# Widths of the kernel, in usual distances between slices, how far along a scan (as a share of it) places are alike,
# and the noise: the first that leaves the least error on patients left out.
_WIDTHS, _ALONG, _NOISE = (0.5, 1.0, 2.0), (0.1, 0.3), (0.02, 0.1, 0.3)
# positives without which there is no box
_LEAST = 3


@dataclass(frozen=True, eq=False)
class Examples:
    """Slices that are known. features: (n, D). places: (n,), along the scan in [0, 1]. patients: (n,) of names.

    boxes: structure -> (n, 4), nan where it is not on the slice.
    """

    features: np.ndarray
    places: np.ndarray
    patients: np.ndarray
    boxes: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Guess:
    """Of m slices. presence: (m,), from -1 (not there) to 1. boxes: (m, 4). spread: (m,), standard deviation of a
    box's side, in shares of the box."""

    presence: np.ndarray
    boxes: np.ndarray
    spread: np.ndarray


class Guesser:
    """Of one structure. Made by `of`, which gives None where too little is known."""

    def __init__(self, examples: Examples, structure: str, chosen: tuple[float, float, float]) -> None:
        self._examples, self._chosen = examples, chosen
        self._boxes = examples.boxes[structure]
        self._there = np.isfinite(self._boxes).all(axis=1)
        self._scale = _scale(examples.features)
        self._known = examples.features * self._scale
        self._usual = _usual(_squares(self._known, self._known))

    @classmethod
    def of(cls, examples: Examples, structure: str) -> Guesser | None:
        there = np.isfinite(examples.boxes[structure]).all(axis=1)
        if np.count_nonzero(there) < _LEAST or len(set(examples.patients[there].tolist())) < 2:
            return None
        first, *others = product(_WIDTHS, _ALONG, _NOISE)
        guesser = cls(examples, structure, first)
        return min([guesser, *map(guesser._chosen_as, others)], key=lambda one: one._error())

    def __call__(self, features: np.ndarray, places: np.ndarray) -> Guess:
        """features: (m, D). places: (m,)."""
        across = self._kernel(_squares(features * self._scale, self._known), places, self._examples.places)
        presence = self._presence_mean + across @ np.linalg.solve(self._noisy, self._signs - self._presence_mean)
        rows = np.flatnonzero(self._there)
        inner, aside = self._noisy[np.ix_(rows, rows)], across[:, rows]
        mean, deviation = self._moments(rows)
        boxes = mean + deviation * (aside @ np.linalg.solve(inner, (self._boxes[rows] - mean) / deviation))
        variance = 1 + self._chosen[2] - np.einsum("mn,nm->m", aside, np.linalg.solve(inner, aside.T))
        return Guess(np.clip(presence, -1, 1), boxes, self._spread(boxes, deviation, variance))

    def left_out(self) -> Guess:
        """Of the n known slices, each by those of other patients."""
        patients, n = self._examples.patients, len(self._known)
        presence, boxes, variance = np.zeros(n), np.full((n, 4), np.nan), np.ones(n)
        noisy = self._noisy
        for patient in np.unique(patients):
            mine = patients == patient
            rest, rows = np.flatnonzero(~mine), np.flatnonzero(~mine & self._there)
            signs = self._signs[rest]
            inner = noisy[np.ix_(rest, rest)]
            presence[mine] = signs.mean() + noisy[np.ix_(mine, rest)] @ np.linalg.solve(inner, signs - signs.mean())
            if not len(rows):
                continue
            mean, deviation = self._moments(rows)
            inner, aside = noisy[np.ix_(rows, rows)], noisy[np.ix_(mine, rows)]
            boxes[mine] = mean + deviation * (aside @ np.linalg.solve(inner, (self._boxes[rows] - mean) / deviation))
            variance[mine] = 1 + self._chosen[2] - np.einsum("mn,nm->m", aside, np.linalg.solve(inner, aside.T))
        _, deviation = self._moments(np.flatnonzero(self._there))
        return Guess(np.clip(presence, -1, 1), boxes, self._spread(boxes, deviation, variance))

    def _error(self) -> float:
        """Of the boxes of patients left out, in closed form: the mean of all stays."""
        rows = np.flatnonzero(self._there)
        mean, deviation = self._moments(rows)
        inverse = np.linalg.inv(self._noisy[np.ix_(rows, rows)])
        weights, patients = inverse @ ((self._boxes[rows] - mean) / deviation), self._examples.patients[rows]
        total = 0.0
        for patient in np.unique(patients):
            mine = np.flatnonzero(patients == patient)
            away = np.linalg.solve(inverse[np.ix_(mine, mine)], weights[mine])
            total += float(((away * deviation) ** 2).sum())
        return total / len(rows)

    def _chosen_as(self, chosen: tuple[float, float, float]) -> Guesser:
        """The same slices by another kernel, how far they are apart as it is. Of one that was not asked yet."""
        other = copy(self)
        other._chosen, other._apart = chosen, self._apart
        return other

    @cached_property
    def _apart(self) -> np.ndarray:
        """(n, n), squares of how far the known slices are apart."""
        return _squares(self._known, self._known)

    @property
    def _signs(self) -> np.ndarray:
        return np.where(self._there, 1.0, -1.0)

    @property
    def _presence_mean(self) -> float:
        return float(self._signs.mean())

    def _moments(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = self._boxes[rows]
        return boxes.mean(axis=0), np.maximum(boxes.std(axis=0), 1e-3)

    def _spread(self, boxes: np.ndarray, deviation: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """A centre's in shares of the box's side; a logarithm's is one already."""
        each = np.sqrt(np.maximum(variance, 1e-9))[:, None] * deviation
        sides = np.exp(boxes[:, 2:])
        spread: np.ndarray = np.concatenate([each[:, :2] / sides, each[:, 2:]], axis=1).mean(axis=1)
        return spread

    @cached_property
    def _noisy(self) -> np.ndarray:
        """(n, n), of the known slices."""
        places = self._examples.places
        kernel = self._kernel(self._apart, places, places)
        return kernel + self._chosen[2] * np.eye(len(kernel))

    def _kernel(self, apart: np.ndarray, at: np.ndarray, there: np.ndarray) -> np.ndarray:
        """apart: squares of how far slices are from others. at, there: their places."""
        width, along, _ = self._chosen
        looks = apart / (width * self._usual) ** 2
        return np.exp(-0.5 * (looks + ((at[:, None] - there[None]) / along) ** 2))


def as_shares(boxes: np.ndarray, size: int) -> np.ndarray:
    """Boxes (n, 4) in pixels of the network's input, x0 y0 x1 y1 -> as they are learnt here."""
    low, high = boxes[:, :2] / size, boxes[:, 2:] / size
    return np.concatenate([(low + high) / 2, np.log(np.maximum(high - low, 1e-4))], axis=1)


def as_pixels(boxes: np.ndarray, size: int) -> np.ndarray:
    """The other way."""
    half = np.exp(boxes[:, 2:]) / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1) * size


def runs(there: Sequence[bool]) -> list[bool]:
    """Slices in their order, with holes of one slice filled and single ones among others dropped."""
    flags = list(there)
    if len(flags) < 3:
        return flags
    before, after = [flags[0], *flags[:-1]], [*flags[1:], flags[-1]]
    return [sum(three) >= 2 for three in zip(before, flags, after, strict=True)]


def _scale(features: np.ndarray) -> np.ndarray:
    """(D,): a number counts by how much it differs; 0 for one that does not."""
    spread = features.std(axis=0)
    scale: np.ndarray = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0.0)
    return scale


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    both = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None]
    squares: np.ndarray = np.maximum(both - 2 * one @ other.T, 0)
    return squares


def _usual(squares: np.ndarray) -> float:
    apart = squares[~np.eye(len(squares), dtype=bool)]
    return float(np.sqrt(max(np.median(apart), 1e-9))) if len(apart) else 1.0
