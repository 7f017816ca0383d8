"""Who asks, as routes see it: `reader: PresentReader`, or `dependencies=[require(Role.ADMINISTRATOR)]`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request

from medsam.server.gate.identity import LOG_IN
from medsam.store.readers import Reader, Role


async def present_reader(request: Request) -> Reader:
    """The reader that the gate has recognised. Answers 401 where it has not."""
    reader = getattr(request.state, "reader", None)
    if not isinstance(reader, Reader):
        raise HTTPException(401, LOG_IN)
    return reader


PresentReader = Annotated[Reader, Depends(present_reader)]


def require(role: Role) -> Any:
    """A dependency: lets in those of a role, and of those above it; others are answered 403."""

    async def check(reader: PresentReader) -> Reader:
        if reader.role < role:
            raise HTTPException(403, f"This is for the role {role.name.lower()} and above.")
        return reader

    return Depends(check)
