"""What clients are given: frames of masks, probabilities, label maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from anyio import to_thread

from medsam.geometry import Axis
from medsam.inference.image_predictor import ScanEncoder
from medsam.inference.session import Session
from medsam.inference.session_state import SessionState
from medsam.io.algorithm import Algorithm
from medsam.prompts.parse import prompts_text
from medsam.prompts.prompt import Prompt
from medsam.server.readings.objects import label_of
from medsam.server.readings.slate import Part
from medsam.server.store.records import StoredCase, StoredObject
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
    """A label map, and what else a file of it says. objects: by whose numbers it is. algorithm: what computed it."""

    labels: LabelVolume
    objects: tuple[StoredObject, ...]
    case: StoredCase
    scan_encoder: ScanEncoder
    algorithm: Algorithm

    @property
    def axis(self) -> Axis:
        return self.scan_encoder.plane.axis


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


def label_map(state: SessionState, scan_encoder: ScanEncoder, objects: Mapping[int, StoredObject]) -> LabelVolume:
    """What `Session.labels` gives, each object under its number and the name that it has now."""
    found = Session.resume(state, scan_encoder).labels
    numbers = {label_of(number): number for number in objects}
    to = np.zeros(max(found.names, default=0) + 1, np.uint8)
    for value, label in found.names.items():
        to[value] = numbers.get(label, 0)
    return LabelVolume(to[found.array], found.geometry, {one.number: one.name for one in objects.values()})
