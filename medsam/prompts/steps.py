"""What is drawn on a slice as steps of a session, here or on a server: each is a prompt, and has one answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np

from medsam.errors import PromptError
from medsam.prompts.prompt import Box, Prompt
from medsam.prompts.strokes import Scribble
from medsam.prompts.values import Line, Position

Answer = TypeVar("Answer")


class Steps(ABC, Generic[Answer]):
    """Boxes, lassos, lines, masks, clicks and strokes, one after the other.

    label: of the object that a step is about when it names none.
    """

    label: str

    @abstractmethod
    def prompt(self, prompt: Prompt) -> Answer:
        """Take any prompt that is about one slice as one step: clicks and strokes alone correct what is there.

        Raises PromptError as the methods below do, and for a prompt without a slice where there are several.
        """

    def box(self, index: int, box: Box, label: str | None = None) -> Answer:
        """Segment what is in a box on slice `index`. Earlier prompts of the object there are forgotten (undo has them).

        label: which object; default `label` of the session.
        Raises PromptError for a box that is empty, not finite or outside, or no such slice.
        """
        return self.prompt(Prompt(label or self.label, box=box, slice=index))

    def mask(self, index: int, mask: np.ndarray, label: str | None = None) -> Answer:
        """Start from a rough mask, bool (h, w) or (K, J, I), of which slice `index` counts, as `box` from a box.

        Raises PromptError for a mask that is empty there or of another grid, or no such slice.
        """
        return self.prompt(Prompt(label or self.label, slice=index, mask=mask))

    def draw(self, index: int, mask: np.ndarray, label: str | None = None) -> Answer:
        """Have exactly this mask on slice `index`, bool (h, w) or (K, J, I), of which that slice counts.

        What was said of the object there is forgotten (undo has it), and no network is asked; clicks and strokes
        correct the mask afterwards. An empty one takes the object from the slice. Limits and what is locked still
        hold. Raises PromptError for a mask of another grid, or no such slice.
        """
        return self.prompt(Prompt(label or self.label, slice=index, drawn=mask))

    def lasso(self, index: int, corners: Sequence[Position], label: str | None = None) -> Answer:
        """Segment what a loop was drawn round, ((x, y), ...): nothing beyond it is part of the object. Else as `box`.

        Raises PromptError for fewer than three corners, those of one line, one outside the slice, or no such slice.
        """
        return self.prompt(Prompt(label or self.label, slice=index, lasso=tuple(corners)))

    def line(self, index: int, long: Line, short: Line | None = None, label: str | None = None) -> Answer:
        """Segment what was measured: its longest diameter ((x, y), (x, y)), and the one across it. Else as `box`.

        Raises PromptError for a line without length, ends outside the slice, or no such slice.
        """
        lines = (long,) if short is None else (long, short)
        return self.prompt(Prompt(label or self.label, slice=index, lines=lines))

    def ellipse(self, index: int, box: Box, label: str | None = None) -> Answer:
        """Segment what an ellipse was drawn round; `box` is the one it is inscribed in. Else as `box`."""
        return self.prompt(Prompt(label or self.label, slice=index, ellipse=box))

    def click(self, index: int, x: float, y: float, inside: bool = True, label: str | None = None) -> Answer:
        """Add a click to the prompts of an object on slice `index`; the first, if a click, has to be inside.

        The same click twice changes nothing. Raises PromptError for a click outside the slice, one that contradicts an
        earlier one, a first click that is not inside, or no such slice.
        """
        if inside not in (0, 1):
            raise PromptError(f"`inside` is True or False, not {inside!r}.", parameter="inside")
        return self.prompt(Prompt(label or self.label, slice=index, points=((x, y, int(inside)),)))

    def scribble(
        self,
        index: int,
        points: Sequence[Position],
        inside: bool = True,
        width_mm: float | None = None,
        width_px: float | None = None,
        label: str | None = None,
    ) -> Answer:
        """Add a stroke to the prompts of an object on slice `index`; the first, if a stroke, has to be inside.

        points, width_mm, width_px: see `Scribble`. Where clicks and strokes cross, the later one counts.
        The same stroke twice running changes nothing. Raises PromptError for a stroke that leaves the slice, a width in
        mm on a scan without millimetres, a first one that is not inside, or no such slice.
        """
        stroke = Scribble(tuple(points), inside, width_mm, width_px)
        return self.prompt(Prompt(label or self.label, slice=index, scribbles=(stroke,)))
