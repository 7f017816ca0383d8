"""One object in one image: for each axis that something was drawn across, an inference session of its own.

What is found along several axes is united. What is said to be outside goes to every session that has something there.
All of it on the worker's thread, but for making an `Image`, and `so_far`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import Axis
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.predictor import Predictor
from medsam.inference.session import Session
from medsam.masks import CompactMask
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt
from medsam.prompts.strokes import Scribble
from medsam.server.nninteractive.drawing import KJI, Drawn, Range, box_of, loop, position_of, strokes, voxel_of
from medsam.volume import Volume

# slices across a stroke on which it is said what is under it: between them the object is followed
MOST_SLICES = 16


class Image:
    """What a client has sent, ready to be encoded along any axis."""

    def __init__(self, scan: Volume, predictor: Predictor) -> None:
        self.scan, self.predictor = scan, predictor
        self._encoders: dict[Axis, ScanEncoder] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.scan.geometry.shape

    def session(self, axis: Axis) -> Session:
        """A new one along an axis."""
        if axis not in self._encoders:
            self._encoders[axis] = self.predictor.encoder_for(self.scan, axis=axis)
        return Session(self._encoders[axis])

    @property
    def axes(self) -> list[Axis]:
        """All three, the likeliest to have been looked at first: of a picture that it is one slice of, then the axis
        that it was acquired along."""
        flat = [axis for axis, length in zip(KJI, self.shape, strict=True) if length == 1]
        return [*(flat if len(flat) == 1 else ()), self.scan.geometry.acquired_axis, *KJI]


@dataclass(frozen=True)
class Mark:
    """Where an object stood. steps: of each session, what tells its masks. pending: see `Outlining`."""

    axis: Axis | None
    steps: dict[Axis, frozenset[tuple[str, int, int]]]
    pending: frozenset[Axis]


@dataclass
class Outlining:
    """axis: that its points are said on. standing: whether it began from a mask, which is then corrected and not
    followed. pending: axes along which it is still to be followed. found: masks of the last following along each."""

    image: Image
    axis: Axis | None = None
    standing: bool = False
    sessions: dict[Axis, Session] = field(default_factory=dict)
    pending: set[Axis] = field(default_factory=set)
    found: dict[Axis, dict[int, CompactMask]] = field(default_factory=dict)

    # -- what is said of it -------------------------------------------------------------------------------------------

    def start(self, mask: np.ndarray) -> None:
        """Begin from a mask, bool (K, J, I), that is not empty."""
        self.axis, self.standing = self.image.axes[0], True
        self._session(self.axis).start({DEFAULT_LABEL: mask})

    def box(self, ranges: Sequence[Range], inside: bool) -> None:
        """A box, half-open along each axis, that is a voxel wide along one. Raises PromptError."""
        drawn = Drawn.of_box(ranges, self.image.shape)
        if not drawn.flat:
            raise PromptError("A box lies on one slice here: the object is followed through the volume from there.")
        if not inside:
            self._erase(drawn)
            return
        axis = self._preferred(drawn.flat)
        index, box = box_of(ranges, axis)
        self._ask(axis, Prompt(box=box, slice=index))

    def point(self, at: Sequence[float], inside: bool) -> None:
        """A voxel (k, j, i) in the image. Raises PromptError."""
        axes = (
            [self._preferred(KJI)]
            if inside
            else self._axes_at(Drawn.of(np.ones((1, 1, 1)), voxel_of(at), self.image.shape))
        )
        for axis in axes:
            index, (x, y) = position_of(at, axis)
            self._ask(axis, Prompt(points=((x, y, int(inside)),), slice=index))

    def stroke(self, drawn: Drawn, inside: bool) -> None:
        """Raises PromptError."""
        for axis in [self._preferred(drawn.flat or KJI)] if inside else self._axes_at(drawn):
            slices = list(drawn.on_slices(axis))
            if not inside:
                slices = [one for one in slices if self._stands(axis, drawn, *one)] or slices
            for number in np.unique(np.linspace(0, len(slices) - 1, min(len(slices), MOST_SLICES)).round().astype(int)):
                index, pixels, start = slices[number]
                lines = tuple(Scribble(line, inside) for line in strokes(pixels, start))
                self._ask(axis, Prompt(scribbles=lines, slice=index))

    def lasso(self, drawn: Drawn, inside: bool) -> None:
        """What a loop on one slice encloses. Raises PromptError."""
        if not drawn.flat:
            raise PromptError("A lasso lies on one slice.")
        axis = self._preferred(drawn.flat)
        (index, pixels, start), *_ = drawn.on_slices(axis)
        corners = loop(pixels, start)
        if inside:
            self._ask(axis, Prompt(lasso=corners, slice=index))
            return
        from scipy import ndimage

        filled = ndimage.binary_fill_holes(pixels)
        self._erase(Drawn(np.expand_dims(filled, KJI.index(axis)), drawn.start, drawn.shape))

    # -- what comes of it ---------------------------------------------------------------------------------------------

    def follow(self, axis: Axis, wanted: Callable[[], bool], progress: ProgressCallback) -> None:
        """Through the volume, as far as that is wanted."""
        there = self.found[axis] = {}
        try:
            self.sessions[axis].propagate(found=there.__setitem__, wanted=wanted, progress=progress)
            if wanted():
                self.pending.discard(axis)
        except PromptError:
            # all that was said of it was taken away
            self.pending.discard(axis)

    def solid(self) -> np.ndarray:
        """All of it as it stands, bool (K, J, I)."""
        whole = np.zeros(self.image.shape, bool)
        for session in self.sessions.values():
            if session.states.get(DEFAULT_LABEL):
                whole |= session.labels.array != 0
        return whole

    def so_far(self, solid: np.ndarray) -> np.ndarray:
        """`solid`, which was taken before, with what a following has found since. On any thread, at any time."""
        whole = solid.copy()
        for axis, there in list(self.found.items()):
            plane = self.image.scan.geometry.plane(axis)
            for index, mask in list(there.items()):
                part = plane.take(whole, index)
                # what was found along another axis stays
                part[...] = mask.to_array() if len(self.sessions) == 1 else part | mask.to_array()
        return whole

    def mark(self) -> Mark:
        """Where it stands, before something more is said."""
        self.found.clear()
        return Mark(self.axis, {axis: _told(one) for axis, one in self.sessions.items()}, frozenset(self.pending))

    def back_to(self, mark: Mark) -> None:
        """Where it stood."""
        self.axis, self.pending = mark.axis, set(mark.pending)
        self.found.clear()
        for axis, session in list(self.sessions.items()):
            if axis not in mark.steps:
                del self.sessions[axis]
                continue
            while _told(session) != mark.steps[axis] and session.undo():
                pass

    # -- how ----------------------------------------------------------------------------------------------------------

    def _session(self, axis: Axis) -> Session:
        if axis not in self.sessions:
            self.sessions[axis] = self.image.session(axis)
        return self.sessions[axis]

    def _ask(self, axis: Axis, prompt: Prompt) -> None:
        self._session(axis).prompt(prompt)
        self.axis = self.axis or axis
        self._changed(axis)

    def _changed(self, axis: Axis) -> None:
        if not self.standing and self.sessions[axis].scan_encoder.plane.count > 1:
            self.pending.add(axis)

    def _preferred(self, axes: Sequence[Axis]) -> Axis:
        """Of several that something lies flat on."""
        wanted = [self.axis, *self.image.axes] if self.axis is not None else self.image.axes
        return next(axis for axis in wanted if axis in axes)

    def _erase(self, drawn: Drawn) -> None:
        """Take voxels away wherever they are of the object."""
        erased = False
        for axis, session in self.sessions.items():
            for index, pixels, start in drawn.on_slices(axis):
                there, region = session.cleaned(index), drawn.slice_mask(pixels, start, axis)
                if there is not None and (there & region).any():
                    session.draw(index, there & ~region)
                    self._changed(axis)
                    erased = True
        if not erased:
            raise PromptError("There is nothing of the object where it was to be taken away.")

    def _axes_at(self, drawn: Drawn) -> list[Axis]:
        """Along which there is something of the object to be corrected; for what is outside."""
        if not self.sessions:
            raise PromptError("What is outside of an object says nothing of where it is: mark it inside first.")
        there = [
            axis for axis in self.sessions if any(self._stands(axis, drawn, *one) for one in drawn.on_slices(axis))
        ]
        return there or [axis for axis in self.sessions if axis == self.axis]

    def _stands(self, axis: Axis, drawn: Drawn, index: int, pixels: np.ndarray, start: tuple[int, int]) -> bool:
        there = self.sessions[axis].cleaned(index)
        return there is not None and bool((there & drawn.slice_mask(pixels, start, axis)).any())


def _told(session: Session) -> frozenset[tuple[str, int, int]]:
    """What tells the masks of a session: each has a number of its own."""

    def each() -> Iterator[tuple[str, int, int]]:
        for label, slices in session.states.items():
            for index, state in slices.items():
                yield label, index, state.number

    return frozenset(each())
