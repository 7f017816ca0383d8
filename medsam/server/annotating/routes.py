"""The data engine over HTTP: the next task, its session, handing in, review; what it has cost, and its models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response

from medsam.server.annotating.handing_in import Said
from medsam.server.annotating.room import Annotating
from medsam.server.annotating.schemas import (
    BackBody,
    Disagreement,
    LeaveBody,
    ModelLine,
    NextBody,
    Opened,
    ProjectInfo,
    ReopenBody,
    ReviewBody,
    SkipBody,
    Statistics,
    SubmitBody,
    Submitted,
    TaskInfo,
    Tasks,
    Until,
)
from medsam.server.cases.schemas import KEY
from medsam.server.gate.present import PresentReader, require
from medsam.store.project_records import TaskKind, TaskState
from medsam.store.readers import Role

router = APIRouter(prefix="/annotate", tags=["annotate"])

TaskKey = Annotated[str, Path(pattern=KEY, description="id of a task")]


async def annotating_of(request: Request) -> Annotating:
    """The room of the app that a request came to. 404 where no project is served."""
    found: Annotating | None = request.app.state.services.annotating
    if found is None:
        raise HTTPException(404, "There is no project here: it is served by `medsam serve --project`.")
    return found


PresentAnnotating = Annotated[Annotating, Depends(annotating_of)]


@router.get("")
async def show_project(reader: PresentReader, room: PresentAnnotating) -> ProjectInfo:
    """The project that is worked on here, and what you have done for it. 404 where there is none."""
    return await room.show(reader)


@router.post(
    "/next",
    response_model=TaskInfo,
    responses={204: {"description": "nothing is left that you may do"}},
)
async def next_task(
    request: Request, reader: PresentReader, room: PresentAnnotating, asked: NextBody | None = None
) -> TaskInfo | Response:
    """Take the next task; the one that you have already, until it is done. Nobody else gets it meanwhile."""
    task = await room.next(reader, None if asked is None else asked.kinds)
    if task is None:
        request.state.audited = {"what": None}
        return Response(status_code=204)
    request.state.audited = {"case": task.case}
    return task


@router.get("/tasks")
async def list_tasks(
    reader: PresentReader,
    room: PresentAnnotating,
    state: Annotated[list[TaskState] | None, Query(description="of these alone")] = None,
    kind: Annotated[list[TaskKind] | None, Query(description="of these alone")] = None,
    after: Annotated[str | None, Query(pattern=KEY, description="id of the last one seen")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Tasks:
    """Your tasks; of everybody for reviewers."""
    tasks, last = await room.some(reader, state, kind, after, limit)
    return Tasks(tasks=tasks, next=last)


@router.get("/tasks/{task}")
async def show_task(task: TaskKey, reader: PresentReader, room: PresentAnnotating) -> TaskInfo:
    """One task: your own, or one that is open."""
    return await room.look(reader, task)


@router.post("/tasks/{task}/open")
async def open_task(task: TaskKey, request: Request, reader: PresentReader, room: PresentAnnotating) -> Opened:
    """The task's session, which begins from what is proposed; or goes on, also after the server was started anew."""
    opened = await room.open_task(reader, task)
    request.state.audited = {"case": opened.task.case, "reading": opened.session}
    return opened


@router.post("/tasks/{task}/alive")
async def keep_task(task: TaskKey, reader: PresentReader, room: PresentAnnotating) -> Until:
    """A sign that you are at it. Without one for a while the task goes to somebody else."""
    return Until(until=(await room.keep(reader, task)).until)


@router.post("/tasks/{task}/submit")
async def submit_task(
    task: TaskKey, asked: SubmitBody, request: Request, reader: PresentReader, room: PresentAnnotating
) -> Submitted:
    """Hand in what the session shows. Its session is closed then. Asked again, the answer is the same."""
    said = Said(asked.session, asked.seconds, asked.difficulty, tuple(asked.absent), asked.note, asked.verdict)
    done = await room.submit(reader, task, said)
    request.state.audited = {"case": done.task.case, "reading": asked.session}
    return done


@router.post("/tasks/{task}/leave")
async def leave_task(
    task: TaskKey, asked: LeaveBody, request: Request, reader: PresentReader, room: PresentAnnotating
) -> TaskInfo:
    """Give the task back, for anybody. What you drew is there when you take it again."""
    left = await room.leave(reader, task, asked.seconds)
    request.state.audited = {"case": left.case}
    return left


@router.post("/tasks/{task}/skip")
async def skip_task(
    task: TaskKey, asked: SkipBody, request: Request, reader: PresentReader, room: PresentAnnotating
) -> TaskInfo:
    """Say that the task cannot be done, and why. Nobody gets it then."""
    skipped = await room.skip(reader, task, asked.why, asked.seconds)
    request.state.audited = {"case": skipped.case}
    return skipped


@router.post("/tasks/{task}/reopen", dependencies=[require(Role.REVIEWER)])
async def reopen_task(
    task: TaskKey, asked: ReopenBody, request: Request, reader: PresentReader, room: PresentAnnotating
) -> TaskInfo:
    """Have a task done after all that was skipped, or withdrawn. For reviewers."""
    opened = await room.reopen(reader, task, asked.why)
    request.state.audited = {"case": opened.case}
    return opened


@router.post("/tasks/{task}/review", dependencies=[require(Role.REVIEWER)])
async def review_task(
    task: TaskKey, asked: ReviewBody, request: Request, reader: PresentReader, room: PresentAnnotating
) -> TaskInfo:
    """Approve what was handed in, or return it to who drew it, with a note; what was approved, too. For reviewers."""
    done = await room.review(reader, task, asked.verdict, asked.note or "")
    request.state.audited = {"case": done.case, "verdict": asked.verdict}
    return done


@router.get("/statistics")
async def show_statistics(reader: PresentReader, room: PresentAnnotating) -> Statistics:
    """What masks cost, by reader, structure, round and stage; how far readers agree, and what auditors said."""
    return await room.statistics(reader)


@router.get("/disagreements", dependencies=[require(Role.REVIEWER)])
async def list_disagreements(reader: PresentReader, room: PresentAnnotating) -> list[Disagreement]:
    """Structures on which two readers of a scan differ by more than the project allows. For reviewers."""
    return await room.disagreements()


@router.get("/models")
async def list_models(reader: PresentReader, room: PresentAnnotating) -> list[ModelLine]:
    """All models that ever answered, the first one first, and what they were promoted for."""
    return await room.all_models()


@router.post("/models/back", dependencies=[require(Role.ADMINISTRATOR)])
async def go_back(asked: BackBody, request: Request, reader: PresentReader, room: PresentAnnotating) -> list[ModelLine]:
    """Have an earlier model answer again; sessions that are open go on with theirs. For administrators."""
    request.state.audited = {"round": asked.round}
    return await room.back(reader, asked.round)
