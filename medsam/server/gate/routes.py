"""Logging in and out, users, tokens and the audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi import Path as PathPart

from medsam.errors import InputError
from medsam.server.gate.guard import audit
from medsam.server.gate.identity import LOG_IN, Present
from medsam.server.gate.origins import csrf_of
from medsam.server.gate.present import PresentReader, require
from medsam.server.gate.request import Asked, Refused
from medsam.server.gate.schemas import (
    AuditInfo,
    LoginAnswer,
    LoginBody,
    Me,
    NewPassword,
    NewToken,
    NewUser,
    TokenAnswer,
    TokenInfo,
    UnlockBody,
    UserChange,
    UserInfo,
    role_of,
)
from medsam.server.services import PresentServices, Services
from medsam.store.readers import Reader, Role
from medsam.store.records import Login

# numbers of rows are 64-bit in SQLite
_LAST = 2**63 - 1

router = APIRouter(tags=["readers"])
Key = Annotated[str, PathPart(max_length=64)]


async def _present(request: Request) -> Present:
    present = getattr(request.state, "present", None)
    if not isinstance(present, Present):
        raise HTTPException(401, LOG_IN)
    return present


async def _no_token(present: Annotated[Present, Depends(_present)]) -> Present:
    """A token that leaks must not make itself further ones."""
    if present.way == "token":
        raise HTTPException(403, "A token cannot do this: log in.")
    return present


AsPresent = Annotated[Present, Depends(_present)]
InPerson = Annotated[Present, Depends(_no_token)]
_administrators = [require(Role.ADMINISTRATOR)]


# -- logging in ------------------------------------------------------------------------------------------------------


@router.post("/login")
async def login(body: LoginBody, request: Request, response: Response, services: PresentServices) -> LoginAnswer:
    """Log in with name and password: sets the cookie. Any earlier login of the same browser ends."""
    asked: Asked = request.state.asked
    reader = await verified(services, asked, body.name, body.password, "login", None)
    before: Present | None = request.state.present
    if before is not None and before.login is not None:
        await services.gate.calls(services.store.end_login, before.login.id)
    _, secret = await services.gate.calls(services.store.add_login, reader.id)
    response.set_cookie(
        services.gate.cookie, secret, path="/", secure=services.settings.https, httponly=True, samesite="strict"
    )
    return LoginAnswer(csrf=csrf_of(secret))


@router.post("/unlock", status_code=204)
async def unlock(body: UnlockBody, request: Request, present: AsPresent, services: PresentServices) -> None:
    """Open a locked login again."""
    if present.login is None:
        raise HTTPException(409, "There is no login to unlock.")
    await verified(services, request.state.asked, present.reader.name, body.password, "unlock", present.login)
    await services.gate.seen(present, at_once=True)


@router.post("/logout", status_code=204)
async def logout(response: Response, present: AsPresent, services: PresentServices) -> None:
    """End the login, and take the cookie back."""
    if present.login is not None:
        await services.gate.calls(services.store.end_login, present.login.id)
    response.delete_cookie(
        services.gate.cookie, path="/", secure=services.settings.https, httponly=True, samesite="strict"
    )


@router.get("/me")
async def me(present: AsPresent, services: PresentServices) -> Me:
    """Who asks, as the server knows them."""
    login, settings = present.login, services.settings
    return Me.model_validate(
        {
            "name": present.reader.name,
            "role": present.reader.role.name.lower(),
            "way": present.way,
            "csrf": present.csrf,
            "locks_after": None if login is None else settings.lock_after,
            "ends_at": None if login is None else login.began_at + timedelta(seconds=settings.ends_after),
        }
    )


@router.post("/me/password", status_code=204)
async def change_password(body: NewPassword, request: Request, present: InPerson, services: PresentServices) -> None:
    """Give oneself another password. All of one's logins end, this one too."""
    if present.login is None:
        raise HTTPException(409, "This server keeps no password of yours.")
    await verified(services, request.state.asked, present.reader.name, body.old, "password", present.login)
    await services.gate.hashing(services.store.change_user, present.reader.id, password=body.new)


async def verified(
    services: Services, asked: Asked, name: str, password: str, what: str, login: Login | None
) -> Reader:
    """Who this is. Answers 401 and 429; each failure is a line of the audit, and so is a login."""
    try:
        reader = await services.gate.verify(name, password, asked, login)
    except Refused as refused:
        raise HTTPException(refused.status, refused.detail, refused.headers) from None
    present = None if reader is None else Present(reader, "login")
    # what somebody typed for a name may be a password
    known = reader is not None or await services.gate.calls(services.store.user_named, name) is not None
    told = {"name": name} if known else {}
    if reader is None or what != "password":
        await audit(services, present, asked, what if reader is not None else f"{what} failed", **told)
    if reader is None:
        raise HTTPException(401, "The name or the password is wrong.")
    return reader


# -- users -----------------------------------------------------------------------------------------------------------


@router.get("/users", dependencies=_administrators)
async def users(services: PresentServices) -> list[UserInfo]:
    """All users, those who have left too."""
    return [UserInfo.of(user) for user in await services.gate.calls(services.store.users)]


@router.post("/users", status_code=201, dependencies=_administrators)
async def add_user(body: NewUser, request: Request, present: InPerson, services: PresentServices) -> UserInfo:
    """Add a person. Where there was none, everybody has to log in from now on, and the first is an administrator."""
    role = role_of(body.role)
    if role < Role.ADMINISTRATOR and not await services.gate.calls(services.store.users):
        raise InputError("The first user has to have the `role` administrator.", parameter="role")
    user = await services.gate.hashing(services.store.add_user, body.name, role, body.password)
    request.state.audited = {"user": user.key, "role": body.role}
    return UserInfo.of(user)


@router.patch("/users/{user}", dependencies=_administrators)
async def change_user(
    user: Key, body: UserChange, request: Request, present: InPerson, services: PresentServices
) -> UserInfo:
    """Change a user's role or password, or have them leave (`active` false) and come back."""
    found = await services.gate.calls(services.store.user, user)
    if found is None or found.kind == "local":
        raise HTTPException(404, "No such user.")
    if body.password is not None and found.kind != "person":
        raise InputError("Who comes through a proxy has no `password` here.", parameter="password")
    changed = await services.gate.hashing(
        services.store.change_user,
        found.id,
        role=None if body.role is None else role_of(body.role),
        active=body.active,
        password=body.password,
    )
    request.state.audited = {"changed": ", ".join(sorted(body.model_fields_set)), "role": changed.role.name.lower()}
    return UserInfo.of(changed)


# -- tokens ----------------------------------------------------------------------------------------------------------


@router.get("/tokens")
async def tokens(reader: PresentReader, services: PresentServices) -> list[TokenInfo]:
    """One's own, the revoked ones too."""
    return [TokenInfo.of(token) for token in await services.gate.calls(services.store.tokens, reader.id)]


@router.post("/tokens", status_code=201)
async def add_token(body: NewToken, request: Request, present: InPerson, services: PresentServices) -> TokenAnswer:
    """A token for a program that works in one's name. It is in this answer and nowhere else."""
    expires = _in_future(body.expires)
    token, secret = await services.gate.calls(services.store.add_token, present.reader.id, body.name, expires)
    request.state.audited = {"token": token.key}
    return TokenAnswer(**TokenInfo.of(token).model_dump(), token=secret)


def _in_future(expires: datetime | None) -> datetime | None:
    if expires is None:
        return None
    try:
        moment = expires.astimezone(UTC)
    except OverflowError:
        raise InputError("`expires` is beyond the calendar.", parameter="expires") from None
    if moment <= datetime.now(UTC):
        raise InputError("`expires` is over.", parameter="expires")
    return moment


@router.delete("/tokens/{token}", status_code=204)
async def revoke_token(token: Key, reader: PresentReader, services: PresentServices) -> None:
    """Have one of one's own tokens be valid no more."""
    if not await services.gate.calls(services.store.revoke_token, reader.id, token):
        raise HTTPException(404, "No such token.")


# -- the audit -------------------------------------------------------------------------------------------------------


@router.get("/audit", dependencies=_administrators)
async def audited(
    services: PresentServices,
    before: Annotated[int | None, Query(ge=0, le=_LAST, description="number of a line: goes on from there")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    user: Annotated[str | None, Query(max_length=64, description="id of a user: lines of theirs alone")] = None,
    case: Annotated[str | None, Query(max_length=64, description="id of a case: lines about it alone")] = None,
) -> list[AuditInfo]:
    """Who did what, the newest first."""
    who = None
    if user is not None:
        found = await services.gate.calls(services.store.user, user)
        if found is None:
            raise HTTPException(404, "No such user.")
        who = found.id
    lines = await services.gate.calls(services.store.audit_lines, before, limit, who, case)
    return [AuditInfo.of(line) for line in lines]
