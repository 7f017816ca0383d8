"""Expected Dice: how good an answer to a box is likely to be, where nobody can look it up.

A small regression on the `signs` of the answer: the logarithm of expected overlap over expected error is a sum of what
each sign says, in proportion to its distance from the mean, of other slope on either side. The interval is
that of a beta distribution round the expected Dice. Both are learnt where references were at hand
(`evaluation.expected_dice`), and hold for one network: for others there is none.

A picture is *unfamiliar* when its embedding lies farther from those of all pictures that were learnt from than those of
a data set that is left out usually lie from the others: what is expected of it is then a guess.

Source of the shipped numbers: docs/results/README.md, "Expected Dice".
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import betaincinv, expit

from medsam.errors import InputError, counted, slices_named
from medsam.inference.signs import NAMES
from medsam.io.files import read_json

KIND, VERSION = "medsam expected Dice", 1
# An answer from which less is expected is said to be uncertain; to be probably wrong, if hardly any such is better.
DOUBTFUL = 0.7
# Signs count up to so many standard deviations from their means.
_MOST = 3.0
# What a beta distribution is bounded by, and a Dice of exactly 0 or 1 is taken for.
_LEAST = 0.005


Doubt = Literal["probably wrong", "uncertain"]


@dataclass(frozen=True)
class ExpectedDice:
    """value: the Dice that is expected, in [0, 1]. low, high: it lies between them in eight of ten answers.

    unfamiliar: the picture is of a kind that none of this was learnt from.
    """

    value: float
    low: float
    high: float
    unfamiliar: bool = False

    @classmethod
    def from_dict(cls, document: Mapping[str, Any] | None) -> ExpectedDice | None:
        """What `asdict` wrote. Raises KeyError, TypeError and ValueError for something else."""
        if document is None:
            return None
        value, low, high = (float(document[name]) for name in ("value", "low", "high"))
        return cls(value, low, high, bool(document["unfamiliar"]))

    @property
    def doubt(self) -> Doubt | None:
        """What to say of the answer, None if nothing."""
        if self.value >= DOUBTFUL:
            return None
        return "probably wrong" if self.high < DOUBTFUL else "uncertain"

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def over_slices(expected: Sequence[ExpectedDice]) -> str:
    """What is expected of an object in a few words, "" where nothing is. expected: of its answers.

    Of several the mean, which has no interval, and the lowest with its own.
    """
    if len(expected) < 2:
        return "".join(map(str, expected))
    mean = sum(one.value for one in expected) / len(expected)
    lowest = min(expected, key=lambda one: one.value)
    return f"{mean:.2f} (mean of {len(expected)}; lowest {lowest.value:.2f}, {lowest.low:.2f} to {lowest.high:.2f})"


def described(expected: Sequence[ExpectedDice], slices: int) -> str:
    """The same for whoever reads a file and nothing else. slices: on how many the object is."""
    if not expected:
        return ""
    part = f" on {len(expected)} of {counted(slices, 'slice')}" if len(expected) < slices else ""
    strange = any(one.unfamiliar for one in expected)
    return (
        f"Expected Dice {over_slices(expected)}{part}: estimated by a model, not measured; 8 in 10 such answers lie "
        f"between the two numbers.{' The pictures are unlike all that this was learnt from.' if strange else ''}"
    )


@dataclass(frozen=True, eq=False)
class Familiar:
    """The pictures that were learnt from.

    mean: (C,) of their pooled embeddings. basis: (C, D), orthonormal, of the space in which they differ most; scale:
    (D,), how much in each direction. points: (N, D), some of them in units of that. beside: how far they usually lie
    beside that space. limit: how far from the nearest point a picture may be.
    """

    mean: np.ndarray
    basis: np.ndarray
    scale: np.ndarray
    points: np.ndarray
    beside: float
    limit: float

    def distance(self, pooled: np.ndarray) -> float:
        off = pooled - self.mean
        at = off @ self.basis
        beside = np.square(off - self.basis @ at).sum() / self.beside**2
        return float(np.sqrt(np.square(self.points - at / self.scale).sum(axis=1).min() + beside))


@dataclass(frozen=True, eq=False)
class TrustModel:
    """What signs say of a Dice.

    names: of the S signs that count. centre, scale: (S,), of them where it was learnt. below, above: (S,), weights of a
    sign on either side of its centre. bias: of the sum. spread: of the beta distribution, the larger the narrower.
    weights: the digest of the network it holds for.
    """

    names: tuple[str, ...]
    centre: np.ndarray
    scale: np.ndarray
    below: np.ndarray
    above: np.ndarray
    bias: float
    spread: float = 10.0
    weights: str = ""
    familiar: Familiar | None = None

    def expected(self, signs: np.ndarray, pooled: np.ndarray | None = None) -> ExpectedDice:
        """signs: (S,), as `signs.signs` gives them. pooled: (C,), of the whole slice's embedding."""
        value = float(self.values(signs[None])[0])
        low, high = self.interval(value)
        unfamiliar = (
            self.familiar is not None and pooled is not None and self.familiar.distance(pooled) > self.familiar.limit
        )
        return ExpectedDice(value, low, high, unfamiliar)

    def values(self, signs: np.ndarray) -> np.ndarray:
        """Expected Dice (n,) of signs (n, all of `NAMES`)."""
        steps = standardised(signs[:, [NAMES.index(name) for name in self.names]], self.centre, self.scale)
        total = np.minimum(steps, 0) @ self.below + np.maximum(steps, 0) @ self.above
        return np.asarray(expit(self.bias + total))

    def interval(self, value: float) -> tuple[float, float]:
        """Of eight in ten answers whose expected Dice is `value`."""
        low, high = interval(np.array(value), self.spread)
        return float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; numbers rounded to what they are worth."""
        document: dict[str, Any] = {
            "kind": KIND,
            "version": VERSION,
            "weights": self.weights,
            "signs": list(self.names),
        }
        document |= {name: _rounded(getattr(self, name)) for name in ("centre", "scale", "below", "above")}
        document |= {name: _rounded(getattr(self, name)) for name in ("bias", "spread")}
        if self.familiar is not None:
            packed = {name: _packed(getattr(self.familiar, name)) for name in ("mean", "basis", "scale", "points")}
            plain = {name: _rounded(getattr(self.familiar, name)) for name in ("beside", "limit")}
            document["familiar"] = packed | plain
        return document

    @classmethod
    def from_dict(cls, document: Any) -> TrustModel:
        """Raises InputError for what `to_dict` did not write."""
        try:
            if (document["kind"], document["version"]) != (KIND, VERSION) or not set(document["signs"]) <= set(NAMES):
                raise ValueError("kind")
            arrays = {name: np.array(document[name], float) for name in ("centre", "scale", "below", "above")}
            names = tuple(document["signs"])
            if any(one.shape != (len(names),) for one in arrays.values()):
                raise ValueError("signs")
            familiar = document.get("familiar")
            return cls(
                names,
                **arrays,
                bias=float(document["bias"]),
                spread=float(document["spread"]),
                weights=str(document["weights"]),
                familiar=None if familiar is None else _familiar_of(familiar),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"This is not what tells the expected Dice of this version of medsam ({KIND} {VERSION}): {error}."
            ) from None


def interval(values: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Between which eight in ten answers lie whose expected Dice are `values`, of any shape."""
    mean = np.clip(values, _LEAST, 1 - _LEAST)
    low, high = (betaincinv(mean * spread, (1 - mean) * spread, end) for end in (0.1, 0.9))
    return low, high


def standardised(signs: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Signs (n, S) in standard deviations from their means; 0 where one is not known."""
    return np.nan_to_num(np.clip((signs - centre) / scale, -_MOST, _MOST))


def unfamiliar_note(indices: Iterable[int]) -> str:
    """What to say of slices that show a kind of picture nothing was learnt from."""
    where = slices_named(indices).capitalize()
    return (
        f"{where}: unlike every picture that the expected Dice was learnt from. Look at these masks before using them."
    )


def doubt_note(name: str, doubt: Doubt, indices: Iterable[int]) -> str:
    """What to say of an object whose answers on some slices are in `doubt`."""
    whole = ", with all of its interval" if doubt == "probably wrong" else ""
    return (
        f"{name}: {doubt} on {slices_named(indices)} (expected Dice below {DOUBTFUL:.2f}{whole}). Look there, and "
        "correct it with a click where it is wrong."
    )


def read_trust(path: Path, *weights: str) -> TrustModel:
    """What was learnt of a network with any of these weights, from a file. Raises InputError for any other file."""
    try:
        model = TrustModel.from_dict(read_json(path))
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error} `medsam calibrate` writes such files.") from error
    if model.weights not in weights:
        raise InputError(f"{path} was made for other weights. Make one for this model with `medsam calibrate`.")
    return model


@cache
def shipped() -> Mapping[str, TrustModel]:
    """Of the networks whose answers were learnt from: digest of the weights -> its model."""
    found = {}
    for file in sorted(
        resources.files("medsam.inference").joinpath("trust_models").iterdir(), key=lambda one: one.name
    ):
        if file.name.endswith(".json"):
            model = TrustModel.from_dict(json.loads(file.read_text(encoding="utf-8")))
            found[model.weights] = model
    return found


def _rounded(values: np.ndarray | float) -> Any:
    if isinstance(values, np.ndarray):
        return [_rounded(one) for one in values] if values.ndim else _rounded(float(values))
    return float(f"{values:.4g}") if math.isfinite(values) else values


def _packed(values: np.ndarray) -> dict[str, Any]:
    return {"shape": list(values.shape), "float16": base64.b64encode(values.astype("<f2").tobytes()).decode()}


def _unpacked(document: Mapping[str, Any]) -> np.ndarray:
    raw: Sequence[float] = np.frombuffer(base64.b64decode(document["float16"]), "<f2").astype(float).tolist()
    return np.array(raw).reshape(document["shape"])


def _familiar_of(document: Mapping[str, Any]) -> Familiar:
    arrays = {name: _unpacked(document[name]) for name in ("mean", "basis", "scale", "points")}
    return Familiar(**arrays, beside=float(document["beside"]), limit=float(document["limit"]))
