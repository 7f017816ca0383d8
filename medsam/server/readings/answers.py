"""What clients are given: frames of masks, probabilities, label maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from anyio import to_thread

from medsam.geometry import Axis, SlicePlane
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.session import Session
from medsam.inference.session_state import SessionState, SliceState
from medsam.inference.trust import described
from medsam.inference.whole_objects import label_array, packed
from medsam.io.algorithm import Algorithm
from medsam.masks import CompactMask, PackedMasks, shared_pixels
from medsam.prompts.parse import prompts_text
from medsam.prompts.prompt import Prompt
from medsam.server.readings.objects import label_of
from medsam.server.readings.slate import Part
from medsam.store.records import StoredObject
from medsam.volume import LabelVolume
from medsam.wire import write_frames

# pixels of frames that are made on the event loop; more of them take a thread
_FEW = 2**19


@dataclass(frozen=True)
class Answer:
    """Of a request that changed masks, or asked for changes. revision: that the client has with it. objects_revision:
    when the list of objects last changed. body: frames."""

    revision: int
    objects_revision: int
    body: bytes = b""


@dataclass(frozen=True)
class Labelled:
    """A label map, and what else a file of it says. revision: of the reading, all of whose steps up to it are here.
    case: its key. algorithm: what computed it."""

    outlined: Outlined
    revision: int
    case: str
    scan_encoder: ScanEncoder
    algorithm: Algorithm

    @property
    def labels(self) -> LabelVolume:
        """Where objects share a voxel one has it."""
        return self.outlined.labels

    @property
    def structures(self) -> LabelVolume | PackedMasks:
        """Each object as it is, where they overlap; else the label map."""
        return self.outlined.structures if self.outlined.shared else self.outlined.labels


async def made(parts: Sequence[Part]) -> bytes:
    """Frames as a body."""

    def make() -> bytes:
        return write_frames(part.frame() for part in parts)

    few = len(parts) <= 8 and sum(part.pixels for part in parts) <= _FEW
    return make() if few else await to_thread.run_sync(make)


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """float16 of the same shape; 0 where no crop reached."""
    bounded = np.clip(np.nan_to_num(logits, nan=-np.inf), -80.0, 80.0)
    found = 1.0 / (1.0 + np.exp(-bounded))
    found[np.isneginf(logits)] = 0.0
    return found.astype("<f2")


def prompts_file(prompts: Sequence[Prompt], names: Mapping[str, str], axis: Axis) -> str:
    """names: of the objects, by what the session calls them."""
    named = [replace(one, label=names.get(one.label, one.label)) for one in prompts]
    return prompts_text(named, axis) if named else json.dumps({"axis": axis, "prompts": []})


@dataclass(frozen=True)
class Outlined:
    """labels: what `Session.labels` gives, each object under its number and the name that it has now. masks: number of
    an object -> slice -> its own mask (h, w). shared: voxels in several of them. first: how many of the masks are
    first answers still. drawn: names of structures that were drawn by hand. remarks: what is expected of others, by
    name."""

    labels: LabelVolume
    masks: Mapping[int, Mapping[int, CompactMask]]
    plane: SlicePlane
    shared: int
    first: int = 0
    drawn: frozenset[str] = frozenset()
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def structures(self) -> PackedMasks:
        """Each object as it is, by name; made anew."""
        named: dict[str, dict[int, CompactMask]] = {}
        for number, name in self.labels.names.items():
            # two of one name, as undo may leave them, are one structure
            there = named.setdefault(name, {})
            for index, mask in self.masks.get(number, {}).items():
                there[index] = there[index] | mask if index in there else mask
        return packed(named, self.plane, self.labels.geometry.shape)


def outlined(state: SessionState, scan_encoder: ScanEncoder, objects: Mapping[int, StoredObject]) -> Outlined:
    """The masks of a session, cleaned."""
    session = Session.resume(state, scan_encoder)
    own = {
        label: {index: CompactMask.of(_cleaned(session, index, label)) for index in slices}
        for label, slices in session.states.items()
    }
    numbers = {label_of(number): number for number in objects}
    session_names = session.names
    array = label_array(
        session.states,
        session_names,
        scan_encoder.scan.geometry.shape,
        scan_encoder.plane,
        lambda _, label, index: own[label][index].to_array(),
        session.limits.locks,
    )
    to = np.zeros(max(session_names, default=0) + 1, np.uint8)
    for value, label in session_names.items():
        to[value] = numbers.get(label, 0)
    names = {one.number: one.name for one in objects.values()}
    masks = {numbers[label]: slices for label, slices in own.items() if label in numbers}
    labels = LabelVolume(to[array], scan_encoder.scan.geometry, names)
    shared = shared_pixels(masks.values())
    first, drawn, remarks = len(session.incomplete), _drawn(session, objects), _remarks(session, objects)
    return Outlined(labels, masks, scan_encoder.plane, shared, first, drawn, remarks)


def _drawn(session: Session, objects: Mapping[int, StoredObject]) -> frozenset[str]:
    """Names of objects all of whose masks were drawn by hand; one of another origin makes all of its name that."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for number, one in objects.items():
        for state in session.states.get(label_of(number), {}).values():
            if state.mask:
                found[state.by_hand].add(one.name)
    return frozenset(found[True] - found[False])


def _remarks(session: Session, objects: Mapping[int, StoredObject]) -> dict[str, str]:
    """What is expected of structures, as files say it (`trust.described`), by name."""
    found: dict[str, list[SliceState]] = {}
    for number, one in objects.items():
        there = session.states.get(label_of(number), {}).values()
        found.setdefault(one.name, []).extend(state for state in there if state.mask)
    told = {
        name: described([one.expected_dice for one in states if one.expected_dice is not None], len(states))
        for name, states in found.items()
    }
    return {name: text for name, text in told.items() if text}


def _cleaned(session: Session, index: int, label: str) -> np.ndarray:
    mask = session.cleaned(index, label)
    return np.zeros(session.scan_encoder.plane.shape, bool) if mask is None else mask
