"""What no mask may do, whatever a network says: leave a range of values, an editable region, or take locked pixels.

Applied after everything else, so it always holds. What stood before (`standing`) and is corrected stays where it is:
a limit bounds what is added to it. Outside an editable region nothing changes at all.

Letters: K, J, I of the scan's grid; h, w rows and columns of a stored slice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsam.errors import PromptError
from medsam.geometry import SlicePlane, alike
from medsam.io.structure_names import plain_name
from medsam.masks import CompactMask
from medsam.prompts.prompt import SlicePrompt, pixel_at
from medsam.prompts.values import as_array, as_bool, finite
from medsam.volume import Volume

# low, high; None for an open end
Values = tuple[float | None, float | None]
ANY: Values = None, None


@dataclass(frozen=True)
class Limits:
    """values: (low, high), both of them in, as the scan stores them (HU on CT); None for an open end. Pixels outside
    are in no mask.

    editable: bool (K, J, I), nothing changes outside of it: what stood stays, and where nothing stood is nothing.
    locked: names of labels, of those that stood or that are prompted, which no other label takes a pixel of; those
        that stood are not changed either. spared: bool (K, J, I), pixels of other structures, which no label takes.
    Names match but for case, spaces, "-" and "_". Masks are copied.
    Raises PromptError for a range that is none, and masks that are not bool (or 0 and 1) of three axes.
    """

    values: Values | None = None
    editable: np.ndarray | None = field(default=None, compare=False)
    locked: tuple[str, ...] = ()
    spared: np.ndarray | None = field(default=None, compare=False)

    def __eq__(self, other: object) -> bool:
        return alike(self, other) if isinstance(other, Limits) else NotImplemented

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _range(self.values))
        for name in ("editable", "spared"):
            object.__setattr__(self, name, _mask(getattr(self, name), name))
        named = isinstance(self.locked, Iterable) and not isinstance(self.locked, str)
        locked = tuple(self.locked) if named else (self.locked,)
        if not all(isinstance(name, str) and name.strip() for name in locked):
            raise PromptError(f"`locked` holds names of labels, not {str(locked)[:60]}.", parameter="locked")
        object.__setattr__(self, "locked", locked)

    def __str__(self) -> str:
        """What a mask keeps: "to values from 0 to 90 and off 'spleen'"."""
        low, high = self.values or (None, None)
        said = []
        if self.values is not None:
            said.append(
                f"to values {'' if low is None else f'from {low:g} '}{'' if high is None else f'to {high:g}'}".rstrip()
            )
        if self.editable is not None:
            said.append("to the editable region")
        if self.locked:
            said.append(f"off {', '.join(map(repr, self.locked))}")
        if self.spared is not None:
            said.append("off the locked structures")
        return " and ".join(said)

    def locks(self, name: str) -> bool:
        """Whether a label is locked."""
        return plain_name(name) in {plain_name(one) for one in self.locked}

    def check_forgotten(self, standing: Iterable[str]) -> None:
        """Raise PromptError where labels that stood are not to be taken away. standing: their names."""
        for name in standing:
            if self.locks(name) or self.editable is not None:
                whose = "locked (`locked`)" if self.locks(name) else "there outside of the `editable` region, too"
                raise PromptError(
                    f"{name!r} is {whose}, and would be forgotten with all else. Undo the steps, or begin anew.",
                    parameter="locked" if self.locks(name) else "editable",
                )

    def check(self, scan: Volume, names: Iterable[str] | None = None) -> None:
        """Raise PromptError where they do not fit a scan. names: of all labels there are, where that is known."""
        for name in ("editable", "spared"):
            mask = getattr(self, name)
            if mask is not None and mask.shape != scan.geometry.shape:
                raise PromptError(
                    f"The mask `{name}` has shape {mask.shape}; the scan has the shape {scan.geometry.shape} "
                    "(K, J, I).",
                    parameter=name,
                )
        if self.values is not None and scan.is_colour:
            raise PromptError(
                "A range of values (`values`) needs a grey value a pixel, and this scan is in colour. Leave it out.",
                parameter="values",
            )
        if names is not None:
            known = {plain_name(name): name for name in names}
            if missing := [name for name in self.locked if plain_name(name) not in known]:
                raise PromptError(
                    f"There is no {', '.join(map(repr, missing))} to be locked (`locked`); the labels are "
                    f"{', '.join(map(repr, known.values()))}.",
                    parameter="locked",
                )

    def on_slice(
        self,
        scan: Volume,
        plane: SlicePlane,
        index: int,
        locked: Mapping[str, CompactMask] | None = None,
        values: Values | None = None,
    ) -> SliceLimits:
        """What they are on slice `index`. locked: masks (h, w) that stand there, by name, locked or not.

        values: in place of theirs.
        """
        pixels = plane.take(scan.array, index)
        low, high = values or self.values or ANY
        within = np.ones(plane.shape, dtype=bool)
        if (low, high) != ANY:
            within &= np.isfinite(pixels)
            within &= True if low is None else pixels >= low
            within &= True if high is None else pixels <= high
        taken = {name: mask.to_array() for name, mask in (locked or {}).items() if self.locks(name)}
        if self.spared is not None:
            taken[""] = plane.take(self.spared, index)
        editable = None if self.editable is None else plane.take(self.editable, index)
        return SliceLimits(self, plane, index, pixels, within, editable, taken)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: what is left out is not there."""
        content: dict[str, Any] = {}
        if self.values is not None:
            content["values"] = list(self.values)
        for name in ("editable", "spared"):
            if (mask := getattr(self, name)) is not None:
                content[name] = CompactMask.of(mask).to_dict()
        return content | ({"locked": list(self.locked)} if self.locked else {})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], shape: tuple[int, int, int]) -> Limits:
        """The other way. shape: of the scan. Raises PromptError, InputError and ValueError for a damaged one."""
        masks = {
            name: CompactMask.from_dict(document[name], shape).to_array()
            for name in ("editable", "spared")
            if name in document
        }
        return cls(document.get("values"), locked=tuple(document.get("locked", ())), **masks)


@dataclass(frozen=True, eq=False)
class SliceLimits:
    """`Limits` on slice `index` of a plane. pixels, within: its values (h, w), and where they are in the range.

    editable: bool (h, w). taken: by name, where other labels are locked; "" for structures of another file.
    """

    limits: Limits
    plane: SlicePlane
    index: int
    pixels: np.ndarray
    within: np.ndarray
    editable: np.ndarray | None
    taken: Mapping[str, np.ndarray]

    def applied(
        self, mask: np.ndarray, name: str, before: CompactMask | None = None, prompt: SlicePrompt | None = None
    ) -> np.ndarray:
        """A mask (h, w) of the label `name` inside the limits. before: the one it takes the place of, if there is one.

        prompt: what was asked; where it corrects a mask that stands, that stays.
        """
        free = self._free(name)
        if prompt is not None and prompt.standing and prompt.mask is not None:
            free |= prompt.mask
        result = mask & free
        if self.editable is not None:
            result &= self.editable
            result |= False if before is None else before.to_array() & ~self.editable
        return result

    def check(self, prompt: SlicePrompt, name: str, stands: bool) -> None:
        """Raise PromptError for what is asked where nothing may change. stands: whether the label was there before."""
        if stands and self.limits.locks(name):
            raise PromptError(
                f"{name!r} is locked (`locked`), and a prompt on slice {self.index} would change it: leave one of them "
                "out.",
                parameter="locked",
            )
        free = self._free(name) if self.editable is None else self._free(name) & self.editable
        # what stands and cannot be taken away
        stays = np.zeros_like(free)
        if prompt.standing and prompt.mask is not None:
            free |= prompt.mask
            stays |= False if self.editable is None else prompt.mask & ~self.editable
        for what, drawn, inside in self._said(prompt):
            # what is outside may also say again what is so already
            asked = drawn if inside or not prompt.standing else drawn & prompt.mask
            if asked.any() and not (asked & (free if inside else ~stays)).any():
                row, column = np.argwhere(asked)[0].tolist()
                raise self._refused(what, (row, column), name, inside)

    def _said(self, prompt: SlicePrompt) -> Iterator[tuple[str, np.ndarray, bool]]:
        """Each point and scribble: in words, the pixels (h, w) it is on, whether it says inside."""
        for x, y, inside in prompt.points:
            on = np.zeros_like(self.within)
            on[pixel_at((x, y), on.shape)] = True
            yield f"The point {x:g},{y:g}", on, bool(inside)
        for scribble in prompt.scribbles:
            yield "All of a scribble", scribble.to_mask(self.within.shape, self.plane.spacing_mm), scribble.inside

    def _free(self, name: str) -> np.ndarray:
        """Where the label may get pixels, made anew."""
        free = self.within.copy()
        for other, mask in self.taken.items():
            if other != name:
                free &= ~mask
        return free

    def _refused(self, what: str, pixel: tuple[int, ...], name: str, inside: bool) -> PromptError:
        start, end = f"{what} for {name!r} on slice {self.index}", "Put it elsewhere, or leave the limit out."
        low, high = self.limits.values or (None, None)
        if inside and not self.within[pixel]:
            bounds = f"{'-inf' if low is None else f'{low:g}'} ... {'inf' if high is None else f'{high:g}'}"
            value = float(self.pixels[pixel])
            return PromptError(
                f"{start} lies where the scan has {value:g}, outside of the values {bounds} (`values`) that are kept. "
                f"{end}",
                parameter="values",
            )
        if self.editable is not None and not self.editable[pixel]:
            return PromptError(f"{start} lies outside of the `editable` region. {end}", parameter="editable")
        other = next(other for other, mask in self.taken.items() if other != name and mask[pixel])
        whose = repr(other) if other else "a structure"
        return PromptError(f"{start} lies in {whose}, which is `locked`. {end}", parameter="locked")


def _range(values: Any) -> tuple[float | None, float | None] | None:
    if values is None:
        return None
    ends = tuple(values) if isinstance(values, tuple | list | np.ndarray) else ()
    numbers = [_end(end) for end in ends]
    if len(numbers) != 2 or any(isinstance(number, str) for number in numbers) or numbers == [None, None]:
        raise PromptError(
            f"`values` is a range (low, high) of the scan's values, one of them None for an open end, not "
            f"{str(values)[:60]}.",
            parameter="values",
        )
    low, high = numbers
    if low is not None and high is not None and low > high:
        raise PromptError(
            f"`values` from {low:g} to {high:g} holds nothing: the lower one comes first.", parameter="values"
        )
    return low, high


def _end(value: Any) -> Any:
    """A number, or None for an open end; a text for anything else."""
    if value is None or (isinstance(value, float | np.floating) and math.isinf(value)):
        return None
    number = finite(value)
    return "no number" if number is None else number


def _mask(value: Any, name: str) -> np.ndarray | None:
    """A read-only bool copy of a mask (K, J, I)."""
    if value is None:
        return None
    given = as_array(value)
    # of a picture, or of a scan of one slice
    given = given[None] if given.ndim == 2 else given
    mask = as_bool(given)
    if given.ndim != 3 or mask is None:
        raise PromptError(
            f"The mask `{name}` is bool (K, J, I), as the scan is, not {given.dtype} of {given.shape}.", parameter=name
        )
    return mask
