"""A project of the data engine, on a server that serves one: tasks are taken, drawn in sessions, and handed in.

project = medsam.Client("http://127.0.0.1:8000").annotate()
while (task := project.next()) is not None:
    session = project.open(task)
    session.box(41, (120, 88, 212, 176), label="liver")
    project.submit(task, session, seconds=12.0, absent=["spleen"])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from medsam.client.connection import Connection
from medsam.client.session import RemoteSession

# first answers are refined before masks are taken, and references may have to be read
_HANDING_IN_S = 180.0
_PAGE = 500


@dataclass(frozen=True)
class RemoteTask:
    """A scan to be worked on. scan: its name. case: id of the case that it is. kind: "draw", "gold", "second",
    "adjudicate" or "audit". slices: to be drawn on; None: wherever the structures are. proposals: masks that are filled
    in. note: why a reviewer returned it. more: everything the server says of it."""

    id: str
    scan: str
    case: str
    kind: str
    state: str
    structures: tuple[str, ...]
    slices: tuple[int, ...] | None = None
    session: str | None = None
    proposals: int = 0
    note: str | None = None
    more: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> RemoteTask:
        slices = told.get("slices")
        return cls(
            id=str(told["id"]),
            scan=str(told["scan"]),
            case=str(told["case"]),
            kind=str(told["kind"]),
            state=str(told["state"]),
            structures=tuple(map(str, told["structures"])),
            slices=None if slices is None else tuple(map(int, slices)),
            session=told.get("session"),
            proposals=int(told.get("proposals", 0)),
            note=told.get("note"),
            more=dict(told),
        )


@dataclass(frozen=True)
class HandedIn:
    """What came of a task. untouched: masks as they were proposed. dice: by structure, of gold tasks; else None."""

    task: RemoteTask
    masks: int
    untouched: int
    clicks: int
    dice: dict[str, float] | None

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> HandedIn:
        task, dice = RemoteTask.from_dict(told["task"]), told["dice"]
        return cls(task, int(told["masks"]), int(told["untouched"]), int(told["clicks"]), dice)


class Annotating:
    """Made by `Client.annotate`. Methods raise InputError where no project is served, and for what is not allowed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def project(self) -> dict[str, Any]:
        """Name, structures with colours, stage, the model that answers, tasks by state, and what one has done."""
        return self._connection.told(dict, "GET", "/annotate")

    # -- tasks --------------------------------------------------------------------------------------------------------

    def next(self, kinds: Sequence[str] | None = None) -> RemoteTask | None:
        """The task that is one's own until it is done, else the next one; None where nothing is left."""
        body = {} if kinds is None else {"kinds": list(kinds)}
        answer = self._connection.request("POST", "/annotate/next", json=body, repeatable=True)
        return None if answer.status_code == 204 else RemoteTask.from_dict(answer.json())

    def tasks(self, state: str | None = None, kind: str | None = None) -> Iterator[RemoteTask]:
        """One's own tasks; everybody's for reviewers."""
        given = {name: value for name, value in (("state", state), ("kind", kind)) if value is not None}
        after: str | None = None
        while True:
            params = {"limit": _PAGE, **given, **({} if after is None else {"after": after})}
            told = self._connection.told(dict, "GET", "/annotate/tasks", params=params)
            yield from map(RemoteTask.from_dict, told["tasks"])
            after = told["next"]
            if after is None:
                return

    def task(self, task: RemoteTask | str) -> RemoteTask:
        """A task as it is now."""
        return self._connection.told(RemoteTask.from_dict, "GET", _path(task))

    def open(self, task: RemoteTask | str) -> RemoteSession:
        """The session in which a task is drawn: as it was left, or a new one that begins from what is proposed.

        Its objects are the task's structures. It is closed when the task is handed in.
        """
        path = f"{_path(task)}/open"
        told = self._connection.told(dict, "POST", path, json={}, wait_s=600.0, repeatable=True)
        first = RemoteTask.from_dict(told["task"]).structures[0]
        return self._connection.told(
            lambda session: RemoteSession(self._connection, session, first), "GET", f"/sessions/{told['session']}"
        )

    def alive(self, task: RemoteTask | str) -> None:
        """A sign that somebody is at it. Raises InputError where it went to somebody else."""
        self._connection.request("POST", f"{_path(task)}/alive", json={}, repeatable=True)

    def submit(
        self,
        task: RemoteTask | str,
        session: RemoteSession | str,
        *,
        seconds: float = 0.0,
        absent: Iterable[str] = (),
        difficulty: Literal["easy", "hard"] | None = None,
        note: str | None = None,
        verdict: Literal["good", "wrong"] | None = None,
    ) -> HandedIn:
        """Hand in what a session shows. seconds: of attention. absent: structures of the task that are not to be seen.
        verdict: of an audit; "wrong" needs no better mask.

        Said again with the same session, it is done once.
        """
        key = session.id if isinstance(session, RemoteSession) else session
        body = {"session": key, "seconds": seconds, "absent": list(absent), "difficulty": difficulty, "note": note}
        body |= {} if verdict is None else {"verdict": verdict}
        return self._connection.told(
            HandedIn.from_dict, "POST", f"{_path(task)}/submit", json=body, wait_s=_HANDING_IN_S, repeatable=True
        )

    def leave(self, task: RemoteTask | str, seconds: float = 0.0) -> RemoteTask:
        """Give a task back, for anybody."""
        return self._post(task, "leave", {"seconds": seconds})

    def skip(self, task: RemoteTask | str, why: str, seconds: float = 0.0) -> RemoteTask:
        """Say that a task cannot be done."""
        return self._post(task, "skip", {"why": why, "seconds": seconds})

    def reopen(self, task: RemoteTask | str, why: str = "") -> RemoteTask:
        """Have a task done after all that was skipped. For reviewers."""
        return self._post(task, "reopen", {"why": why})

    def review(
        self, task: RemoteTask | str, verdict: Literal["approved", "returned"], note: str | None = None
    ) -> RemoteTask:
        """Approve what was handed in, or return it to who drew it; what was approved, too. For reviewers."""
        return self._post(task, "review", {"verdict": verdict, "note": note})

    # -- numbers and models -------------------------------------------------------------------------------------------

    def statistics(self) -> dict[str, Any]:
        """What masks cost, by reader, structure, round and stage, and how good they are."""
        return self._connection.told(dict, "GET", "/annotate/statistics")

    def disagreements(self) -> list[dict[str, Any]]:
        """Structures on which two readers of a scan differ, the worst first. For reviewers."""
        return self._connection.told(list, "GET", "/annotate/disagreements")

    def models(self) -> list[dict[str, Any]]:
        """All models that ever answered, the first one first."""
        return self._connection.told(list, "GET", "/annotate/models")

    def back(self, number: int | None = None) -> list[dict[str, Any]]:
        """Have the model of a round answer again; None: the one that the project began with. For administrators."""
        return self._connection.told(list, "POST", "/annotate/models/back", json={"round": number})

    def _post(self, task: RemoteTask | str, what: str, body: dict[str, Any]) -> RemoteTask:
        return self._connection.told(RemoteTask.from_dict, "POST", f"{_path(task)}/{what}", json=body)


def _path(task: RemoteTask | str) -> str:
    return f"/annotate/tasks/{task.id if isinstance(task, RemoteTask) else task}"
