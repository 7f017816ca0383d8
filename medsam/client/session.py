"""A session on a server, with the API of `medsam.Session`: boxes, clicks and strokes in, masks out, numpy alone.

Masks are kept here and brought up to date by what each answer brings: everything that changed since the last one, so
also what came between, and what an answer that was lost would have said. The first answer to a prompt may be followed
by a refined one (`RemoteResult.final`): `wait_refined` waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from medsam.client.connection import Connection, Refused
from medsam.client.events import ENDED, Event, follow
from medsam.client.looking import Looking
from medsam.client.masks import RemoteMasks, RemoteResult, result_of
from medsam.client.raw import read_raw
from medsam.errors import InputError, MedSAMError, PromptError
from medsam.files import write_whole
from medsam.geometry import Axis, VolumeGeometry
from medsam.io.structure_names import plain_name
from medsam.progress import ProgressCallback
from medsam.prompts.prompt import DEFAULT_LABEL, Prompt
from medsam.prompts.steps import Steps
from medsam.volume import LabelVolume
from medsam.wire import MEDIA_TYPE, read_frames

LabelFormat = Literal["nifti", "nrrd", "mha", "png", "seg", "seg-labelmap", "rtstruct", "raw", "csv"]
# Seconds a server is asked to hold an answer until something changes.
_HELD_S = 10.0
# How long a job that was stopped may take to end, and how often it is asked for meanwhile.
_STOPS_S, _BETWEEN_S = 60.0, 0.3


@dataclass(frozen=True)
class RemoteObject:
    """What is being outlined. id: its number, from 1 on, the value in label maps. colour: "#rrggbb".

    locked: it takes no prompts and keeps its pixels.
    """

    id: int
    name: str
    colour: str
    visible: bool = True
    locked: bool = False


class RemoteSession(Looking, Steps[RemoteResult]):
    """One reader's work on one case. Made by `Client.open`; closed by `close`, or at the end of a `with` block.

    label: of the object that a step is about when it names none. axis, geometry: which way slices are counted, and the
    grid of the scan. Slices, positions and boxes are stored pixels, as in `Prompt`. Steps raise what those of
    `medsam.Session` raise, and InputError for a server that does not answer. For one thread at a time; `events` may
    be watched from another.
    """

    def __init__(self, connection: Connection, told: dict[str, Any], label: str = DEFAULT_LABEL) -> None:
        self.id, self.case, self.label = str(told["id"]), str(told["case"]), label
        self.axis: Axis = told["axis"]
        self.geometry = VolumeGeometry.from_dict(told["geometry"])
        self._connection, self._path = connection, f"/sessions/{told['id']}"
        self._objects: dict[int, RemoteObject] = {}
        self._masks = RemoteMasks()
        self._learn(told["objects"])
        # of one that was open before, or begins from labels
        self.changes()

    def __repr__(self) -> str:
        return f"RemoteSession({self.id!r}, axis={self.axis!r}, objects={list(self.names.values())})"

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session; what was confirmed stays with the server. Nothing when it was closed before."""
        with suppress(Refused):
            self._connection.request("DELETE", self._path)

    # -- steps ----------------------------------------------------------------------------------------------------

    def mask(self, index: int, mask: np.ndarray, label: str | None = None) -> RemoteResult:
        """Start from a rough mask, bool (h, w) or (K, J, I), of which slice `index` counts, see `Session.mask`."""
        return super().mask(index, self._slice_of(mask, index), label)

    def draw(self, index: int, mask: np.ndarray, label: str | None = None) -> RemoteResult:
        """Have exactly this mask on a slice, bool (h, w) or (K, J, I), of which slice `index` counts.

        See `Session.draw`.
        """
        return super().draw(index, self._slice_of(mask, index), label)

    def prompt(self, prompt: Prompt) -> RemoteResult:
        """Any prompt on a slice, as one step: the mask it gave. Raises PromptError for one of several slices."""
        if prompt.slice is None:
            raise PromptError("Name the `slice` that this prompt is on.", parameter="slice")
        entry = prompt.to_dict()
        one = self._object(entry.pop("label"))
        self._step("/prompts", {"object": one.id, **entry})
        result = self._masks[one.id, prompt.slice]
        if result is None and prompt.drawn is not None and not prompt.drawn.any():
            # there is none any more
            return RemoteResult(np.zeros(prompt.drawn.shape, bool), np.nan, "removed", self._masks.revision)
        if result is None:
            raise InputError("The server took the prompt and sent no mask: it is of another version.")
        return result

    def undo(self) -> bool:
        """Take the last step back; False when there is none."""
        return self._step("/undo")

    def redo(self) -> bool:
        """Take the step again that `undo` took back; False when there is none."""
        return self._step("/redo")

    def reset(self) -> None:
        """Forget all prompts on every slice. Can be undone."""
        self._step("/reset")

    def interpolate(self, label: str | None = None) -> list[int]:
        """Draw an object on the slices between those that it is on, as one step; see `Session.interpolate`."""
        one = self._object(label or self.label)
        before = dict(self._masks.items())
        self._step("/interpolate", {"object": one.id})
        return [
            index
            for (number, index), now in self._masks.items()
            if number == one.id and before.get((number, index)) is not now
        ]

    def text(self, name: str, label: str | None = None) -> None:
        """Draw the structure that is called so on every slice that it is on; see `Session.text`."""
        self._step("/text", {"object": self._object(label or self.label).id, "text": name})

    def organs(self, progress: ProgressCallback | None = None) -> list[dict[str, Any]]:
        """Look for every organ that `organs_offered` names, without a prompt, and wait for it.

        Each that is found becomes an object, a step each; objects that have a mask keep it. Gives a row a structure:
        {"object", "outcome" ("found", "absent" or "kept"), "structure", "label", "voxels", "ml", "found", "head",
        "tested_on_patients", "tested_dice", "tested_scans_without"}. progress: called with (slices done, slices, at
        most); what it raises stops the server, which then draws nothing.
        Raises PromptError where there is nothing to look for, and InputError where it failed or was stopped.
        """
        since = self._masks.revision
        job = self._connection.told(lambda told: str(told["id"]), "POST", f"{self._path}/organs")
        ended, state, detail = False, None, None
        try:
            for event in self.events(since):
                state, detail = self._state(job, event)
                if progress is not None and event is not None and event.job == job:
                    progress(event.done or 0, event.total)
                if state in ENDED:
                    ended = True
                    break
        finally:
            if not ended:
                with suppress(MedSAMError):
                    self._stop(job)
        self.changes()
        if not ended or state != "done":
            raise InputError(detail or "The search for organs was stopped.")
        return self._connection.told(lambda told: list(told["structures"]), "GET", f"{self._path}/jobs/{job}")

    def candidates(self, index: int, label: str | None = None) -> list[RemoteResult]:
        """Up to three answers to what was asked of an object on a slice, see `Session.candidates`. Nothing changes."""
        one = self._object(label or self.label)
        params = {"object": one.id, "slice": index}
        answer = self._connection.request("GET", f"{self._path}/candidates", params=params)
        return [result_of(frame) for frame in read_frames(answer.content)]

    def forget(self, label: str | None = None) -> None:
        """Remove an object with all its masks. Can be undone, which brings both back."""
        one = self._find(label or self.label)
        if one is not None:
            self._step(f"/objects/{one.id}", method="DELETE")

    def propagate(self, label: str | None = None, max_mm: float | None = None) -> Iterator[tuple[int, RemoteResult]]:
        """Follow an object from its prompted slices through the scan: (slice, mask) as they come, one undoable step.

        Who leaves the loop stops the server at its next slice, and waits for that (`_STOPS_S` at most); what came until
        then stays. max_mm: how far from a prompted slice at most.
        Raises what the server says went wrong.
        """
        one = self._object(label or self.label)
        body = {"object": one.id} if max_mm is None else {"object": one.id, "max_mm": max_mm}
        since = self._masks.revision
        job = self._connection.told(lambda told: str(told["id"]), "POST", f"{self._path}/propagate", json=body)
        ended = False
        try:
            yield from self._followed(job, one.id, since)
            ended = True
        finally:
            if not ended:
                with suppress(MedSAMError):
                    self._stop(job)

    # -- what there is --------------------------------------------------------------------------------------------

    def result(self, index: int, label: str | None = None) -> RemoteResult | None:
        """The mask of an object on a slice as it was last seen here; None where it has none. Asks nobody."""
        one = self._find(label or self.label)
        return None if one is None else self._masks[one.id, index]

    @property
    def results(self) -> dict[str, dict[int, RemoteResult]]:
        """All masks as they were last seen here, by name and slice."""
        found: dict[str, dict[int, RemoteResult]] = {}
        for (number, index), result in self._masks.items():
            if number in self._objects:
                found.setdefault(self._objects[number].name, {})[index] = result
        return found

    @property
    def revision(self) -> int:
        """Of what is known here."""
        return self._masks.revision

    @property
    def slices(self) -> int:
        """How many there are along `axis`."""
        return self.geometry.shape[self._array_axis]

    @property
    def objects(self) -> list[RemoteObject]:
        """All of them, in order of their numbers."""
        return [self._objects[number] for number in sorted(self._objects)]

    @property
    def names(self) -> dict[int, str]:
        """Number -> name of the objects."""
        return {one.id: one.name for one in self.objects}

    @property
    def labels(self) -> LabelVolume:
        """All masks as one label map on the scan's grid, as `Session.labels` has it; from the server."""
        answer = self._connection.request("GET", f"{self._path}/labels", params={"format": "raw"})
        array, meta = read_raw(answer, self.geometry.shape)
        told = meta.get("names")
        if told is None:
            # too many for a header
            self.refresh_objects()
            told = self.names
        names = {int(number): str(name) for number, name in told.items()}
        return LabelVolume(array, self.geometry, names)

    @property
    def prompts(self) -> list[Prompt]:
        """All prompts as for a prompts file, see `Session.prompts`; from the server."""
        shape = self.geometry.shape
        return self._connection.told(
            lambda document: [Prompt.from_dict(entry, shape=shape) for entry in document["prompts"]],
            "GET",
            f"{self._path}/prompts",
        )

    def probabilities(self, index: int, label: str | None = None) -> np.ndarray:
        """What the network gives each pixel of a slice, 0 ... 1: float16 (rows, columns). Not calibrated."""
        one = self._object(label or self.label)
        params = {"object": one.id, "slice": index}
        return read_raw(self._connection.request("GET", f"{self._path}/probabilities", params=params))[0]

    def export(self, format: LabelFormat = "nifti", path: str | Path | None = None) -> bytes:  # noqa: A002
        """The masks as a file; "csv": their measures. DICOM needs a case that is DICOM.

        path: also write it there, whole.
        """
        if format not in get_args(LabelFormat):
            raise InputError(
                f"Masks are exported as {', '.join(get_args(LabelFormat))}, not {format!r} (`format`).",
                parameter="format",
            )
        content = self._connection.request("GET", f"{self._path}/labels", params={"format": format}).content
        if path is not None:
            try:
                with write_whole(Path(path)) as part:
                    part.write_bytes(content)
            except OSError as error:
                raise InputError(f"{path} cannot be written: {error.strerror or error}.", parameter="path") from error
        return content

    def send(self, server: str, format: Literal["seg", "seg-labelmap", "rtstruct"] = "seg") -> dict[str, Any]:  # noqa: A002
        """Store the masks in the PACS that the case came from: {"stored": how many, "failures", "notes"}.

        server: its name in the server's settings.
        """
        body = {"server": server, "format": format}
        return self._connection.told(dict, "POST", f"{self._path}/send", json=body, wait_s=600.0)

    # -- objects --------------------------------------------------------------------------------------------------

    def add(self, name: str, colour: str | None = None) -> RemoteObject:
        """A new object. colour: "#rrggbb"; default: as the vocabulary of structures has it."""
        body = {"name": name} if colour is None else {"name": name, "colour": colour}
        return self._connection.told(self._told_of, "POST", f"{self._path}/objects", json=body)

    def rename(self, label: str, name: str) -> RemoteObject:
        """Call an object otherwise."""
        found = self._patch(label, name=name)
        if plain_name(label) == plain_name(self.label):
            self.label = found.name
        return found

    def recolour(self, label: str, colour: str) -> RemoteObject:
        """Show an object in "#rrggbb"."""
        return self._patch(label, colour=colour)

    def show(self, label: str, visible: bool = True) -> RemoteObject:
        """Whether an object is shown to who looks at the session; it stays in the labels."""
        return self._patch(label, visible=visible)

    def lock(self, label: str, locked: bool = True) -> RemoteObject:
        """Whether an object takes no prompts and keeps its pixels."""
        return self._patch(label, locked=locked)

    # -- what happens ---------------------------------------------------------------------------------------------

    def view(self, index: int) -> None:
        """Say which slice is on screen: it is prepared at once, its neighbours while nothing else is to do."""
        self._connection.request("PUT", f"{self._path}/view", json={"axis": self.axis, "slice": index})

    def changes(self, wait_s: float = 0.0) -> list[tuple[str, int]]:
        """Bring all masks and objects up to date: (name, slice) of the masks that changed.

        wait_s: how long to wait for a change, of masks or objects, where there is none yet.
        """
        masks, objects = dict(self._masks.items()), self.objects
        end, held = time.monotonic() + wait_s, 0.0
        while True:
            self._sync(held)
            now = dict(self._masks.items())
            changed = sorted(key for key in masks.keys() | now.keys() if masks.get(key) is not now.get(key))
            held = min(end - time.monotonic(), _HELD_S)
            if changed or objects != self.objects or held <= 0:
                return [(self.names.get(number, str(number)), index) for number, index in changed]

    def wait_refined(self, index: int, label: str | None = None, timeout_s: float = 30.0) -> RemoteResult:
        """The result on a slice once nothing better follows. Raises InputError where none came in time, or is none."""
        end = time.monotonic() + timeout_s
        while (result := self.result(index, label)) is None or not result.final:
            left = end - time.monotonic()
            if result is None:
                raise InputError(f"{label or self.label!r} has no mask on slice {index}.")
            if left <= 0:
                raise InputError(f"No refined mask of slice {index} came within {timeout_s:g} s.")
            self._sync(min(left, _HELD_S))
        return result

    def events(self, since: int | None = None, seconds: float | None = None) -> Iterator[Event | None]:
        """What happens, as it happens, and None now and then while nothing does; goes on after a lost connection.

        Masks are not brought up to date by it: see `changes`. since: after that revision; default: what is known here.
        seconds: at most so long.
        """
        start = self._masks.revision if since is None else since
        return follow(self._connection, f"{self._path}/events", start, seconds)

    # -- how ------------------------------------------------------------------------------------------------------

    @property
    def _array_axis(self) -> int:
        # that of `SlicePlane`, which needs nibabel for how a slice stands upright
        return "kji".index(self.axis)

    def _step(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> bool:
        """Take a step; whether anything came of it."""
        since = self._masks.revision
        answer = self._connection.request(
            method, self._path + path, json=body, params={"since": since}, headers={"Accept": MEDIA_TYPE}
        )
        return self._take(answer, since)

    def _sync(self, wait_s: float = 0.0) -> bool:
        since = self._masks.revision
        params = {"since": since} | ({"wait": wait_s} if wait_s else {})
        answer = self._connection.request("GET", f"{self._path}/changes", params=params, wait_s=wait_s)
        return self._take(answer, since)

    def _take(self, answer: Any, since: int) -> bool:
        """Paint what an answer brings; whether it is of a later revision than `since`."""
        try:
            revision = int(answer.headers["X-Medsam-Revision"])
            listed = int(answer.headers.get("X-Medsam-Objects", 0))
        except (KeyError, ValueError):
            raise InputError("The server's answer lacks a revision: it is no medsam server, or an older one.") from None
        if not self._masks.apply(read_frames(answer.content), revision):
            # another thread was faster; everything anew is always right
            whole = self._connection.request("GET", f"{self._path}/changes", params={"since": 0})
            self._masks.forget()
            self._masks.apply(read_frames(whole.content), int(whole.headers["X-Medsam-Revision"]))
        if listed > since:
            self.refresh_objects()
        return revision > since

    def refresh_objects(self) -> None:
        """Ask for names, colours and locks again."""
        self._connection.told(lambda told: self._learn(told["objects"]), "GET", self._path)

    def _learn(self, told: Sequence[dict[str, Any]]) -> None:
        self._objects.clear()
        for one in told:
            self._told_of(one)

    def _told_of(self, told: dict[str, Any]) -> RemoteObject:
        one = RemoteObject(
            int(told["id"]), str(told["name"]), str(told["colour"]), bool(told["visible"]), bool(told["locked"])
        )
        self._objects[one.id] = one
        return one

    def _find(self, label: str) -> RemoteObject | None:
        plain = plain_name(label)
        return next((one for one in self._objects.values() if plain_name(one.name) == plain), None)

    def _object(self, label: str) -> RemoteObject:
        """The object of a name, made where there is none."""
        return self._find(label) or self.add(label)

    def _slice_of(self, mask: np.ndarray, index: int) -> np.ndarray:
        """A mask (h, w); of one (K, J, I) the rest need not travel."""
        given = np.asarray(mask)
        if given.ndim == 3 and 0 <= index < self.slices:
            return given[(slice(None),) * self._array_axis + (index,)]
        return given

    def _patch(self, label: str, **fields: Any) -> RemoteObject:
        one = self._find(label)
        if one is None:
            raise InputError(f"There is no object {label!r} in this session.", parameter="label")
        return self._connection.told(self._told_of, "PATCH", f"{self._path}/objects/{one.id}", json=fields)

    def _stop(self, job: str) -> None:
        """Stop a job and wait until it has ended: from then on nothing more comes of it."""

        def state(told: dict[str, Any]) -> str:
            return str(told["state"])

        path, until = f"{self._path}/jobs/{job}", time.monotonic() + _STOPS_S
        now = self._connection.told(state, "DELETE", path)
        while now not in ENDED and time.monotonic() < until:
            self.changes(wait_s=_BETWEEN_S)
            now = self._connection.told(state, "GET", path)
        self.changes()

    def _followed(self, job: str, number: int, since: int) -> Iterator[tuple[int, RemoteResult]]:
        """The masks of an object that a job makes, until it ends. since: the revision before it."""
        given: dict[int, int] = {}
        for event in self.events(since):
            state, detail = self._state(job, event)
            if event is None or event.kind in ("mask", "refined", "resync", "job"):
                self.changes()
                yield from self._new_masks(number, since, given)
            if state == "failed":
                raise InputError(detail or "The propagation failed.")
            if state in ENDED:
                return

    def _state(self, job: str, event: Event | None) -> tuple[str | None, str | None]:
        """State of a job and what is to be said of it: by an event about it, or asked for where one may be missing."""
        if event is not None and event.kind != "resync":
            return (event.state, event.detail) if event.kind == "job" and event.job == job else (None, None)
        jobs = self._connection.told(lambda told: list(told["jobs"]), "GET", self._path)
        found = next((one for one in jobs if str(one["id"]) == job), {"state": "done"})
        return found["state"], found.get("detail")

    def _new_masks(self, number: int, since: int, given: dict[int, int]) -> Iterator[tuple[int, RemoteResult]]:
        """Masks of an object that came after `since`, and were not given yet. given: slice -> revision; grows."""
        for (one, index), result in self._masks.items():
            if one == number and result.revision > max(since, given.get(index, -1)):
                given[index] = result.revision
                yield index, result
