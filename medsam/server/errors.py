"""Errors as answers: one body, a status for each kind, and nothing of a defect but a number to find it by.

MedSAMError          422, its message, and the arguments to change
Cancelled            409: the caller, or somebody newer, ended the job
one with a `status`  that: errors of the server's own rooms have one, and `retry_after`, in seconds, where that helps
a malformed request  422, where it is wrong and how; what was sent is not repeated
HTTPException        its own status
anything else        500 and a number; the log has the places in the code under that number, and no message: those
                     of readers and of the database quote what they were given, which may be about a patient
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medsam.errors import Cancelled, MedSAMError, printable
from medsam.store.database import StoreError

_LOG = logging.getLogger("medsam.server")
# of a message, and of how many faults a malformed request is told
_LETTERS, _FAULTS = 500, 8


class ErrorBody(BaseModel):
    """What every refusal looks like."""

    detail: str = Field(description="what is wrong and what to do, for a person", examples=["No such case."])
    parameters: list[str] = Field(
        default=[], description="the arguments to change, which `detail` names in backquotes", examples=[["slice"]]
    )
    error: str = Field(
        default="", description="the class of medsam.errors that it is, if any", examples=["PromptError"]
    )


def refusal(
    status: int,
    detail: str,
    parameters: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    error: type[MedSAMError] | None = None,
) -> JSONResponse:
    """An answer that is no success."""
    body = {"detail": detail, "parameters": list(parameters), "error": "" if error is None else error.__name__}
    return JSONResponse(body, status, headers=None if headers is None else dict(headers))


def handle_errors(app: FastAPI) -> None:
    """Have errors of `app` answered as above."""
    app.add_exception_handler(MedSAMError, _expected)
    app.add_exception_handler(StoreError, _unstored)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_middleware(CatchDefects)


class CatchDefects:
    """Answers 500 for what no handler knows, and logs where it happened."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            await send(message)
            begun = True

        try:
            await self.app(scope, receive, watched)
        except DroppedAnswer:
            raise
        except Exception as error:
            # the gate's own, or of the audit, which is written while an answer begins
            full = next((one for one in (error, error.__cause__) if isinstance(one, StoreError)), None)
            if full is not None and not begun:
                await (await _unstored(Request(scope), full))(scope, receive, send)
                return
            number = secrets.token_hex(6)
            _LOG.error("defect %s: %s", number, places(error))
            if begun:
                # half an answer must not look whole: the connection is dropped
                raise DroppedAnswer(number) from None
            detail = f"A defect in medsam, not in your request. The server's log has it under {number}."
            await refusal(500, detail)(scope, receive, send)


class DroppedAnswer(Exception):
    """An answer broke off; its defect has been logged under the number that this says."""


def places(error: BaseException) -> str:
    """The kinds of an error and of what led to it, and the places in the code, outermost first; no messages."""
    lines = list[str]()
    seen = set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = traceback.extract_tb(cause.__traceback__)
        where = " > ".join(f"{module_of(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames[-24:])
        lines.append(f"{type(cause).__name__} at {where or 'no place'}")
        cause = cause.__cause__ or cause.__context__
    return "; from ".join(lines)


def module_of(filename: str) -> str:
    """A source file without the folder it is installed in."""
    parts = filename.replace("\\", "/").split("/")
    for root in ("site-packages", "medsam"):
        if root in parts[:-1]:
            return "/".join(parts[parts.index(root) + (root == "site-packages") :])
    return parts[-1]


async def _expected(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MedSAMError)  # noqa: S101 what it was registered for
    status = getattr(error, "status", 409 if isinstance(error, Cancelled) else 422)
    after = getattr(error, "retry_after", None)
    headers = None if after is None else {"Retry-After": str(after)}
    return refusal(status, str(error), error.parameters, headers, error=type(error))


async def _unstored(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StoreError)  # noqa: S101
    _LOG.error("the store takes nothing: %s", places(error))
    status = request.scope.get("state", {}).get("unstored", 503)
    return refusal(status, str(error), headers={"Retry-After": "5"}, error=StoreError)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    return refusal(error.status_code, str(error.detail), headers=error.headers)


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = error.errors()[:_FAULTS]
    names = [_name(fault["loc"]) for fault in faults]
    text = " ".join(f"`{name}`: {fault['msg']}." for name, fault in zip(names, faults, strict=True))
    return refusal(422, printable(text)[:_LETTERS], list(dict.fromkeys(names)))


def _name(where: Sequence[Any]) -> str:
    """A place in a request: ("body", "points", 0, "x") is points.0.x."""
    parts = [printable(str(part))[:40] for part in where]
    return ".".join(parts[1:6] if len(parts) > 1 else parts)
