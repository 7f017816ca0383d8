"""What the gate's routes take and give."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from medsam.store.readers import Role
from medsam.store.records import AuditLine, Token, User

RoleName = Literal["reader", "reviewer", "administrator"]
Name = Annotated[str, Field(min_length=1, max_length=100, examples=["anna"])]
Password = Annotated[str, Field(min_length=1, max_length=1024, examples=["correct horse battery staple"])]


class Body(BaseModel):
    """A request: what it does not know it refuses, so that a misspelt name is not overlooked."""

    model_config = ConfigDict(extra="forbid")


class LoginBody(Body):
    """Who logs in."""

    name: Name
    password: Password


class UnlockBody(Body):
    """The password of the present login."""

    password: Password


class NewPassword(Body):
    """old: the present one."""

    old: Password
    new: Password


class LoginAnswer(BaseModel):
    """csrf: to be sent as `X-Medsam-Csrf` with everything that is no GET."""

    csrf: str


class Me(BaseModel):
    """Who asks. way: how that is known. csrf: as of `/login`; null where none is needed.

    locks_after: seconds without use after which the password is asked for; null where it never is.
    """

    name: str
    role: RoleName
    way: Literal["local", "login", "token", "proxy"]
    csrf: str | None
    locks_after: float | None
    ends_at: datetime | None


class UserInfo(BaseModel):
    """A user as administrators see them. id: for `PATCH /users/{user}`."""

    id: str
    name: str
    role: RoleName
    kind: Literal["person", "proxy", "local"]
    active: bool
    added_at: datetime

    @classmethod
    def of(cls, user: User) -> UserInfo:
        return cls.model_validate(
            {
                "id": user.key,
                "name": user.name,
                "role": user.role.name.lower(),
                "kind": user.kind,
                "active": user.active,
                "added_at": user.added_at,
            }
        )


class NewUser(Body):
    """A person with a password."""

    name: Name
    password: Password
    role: RoleName = "reader"


class UserChange(Body):
    """What is left out stays. A new password, and leaving, end the user's logins; leaving ends the tokens, too."""

    role: RoleName | None = None
    active: bool | None = None
    password: Password | None = None


class NewToken(Body):
    """expires: when it stops being valid, with its zone; null: when it is revoked."""

    name: Name
    expires: AwareDatetime | None = None


class TokenInfo(BaseModel):
    """A program's way in, without its secret."""

    id: str
    name: str
    added_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, token: Token) -> TokenInfo:
        return cls(
            id=token.key,
            name=token.name,
            added_at=token.added_at,
            expires_at=token.expires_at,
            used_at=token.used_at,
            revoked_at=token.revoked_at,
        )


class TokenAnswer(TokenInfo):
    """token: for `Authorization: Bearer`; it is shown this once."""

    token: str


class AuditInfo(BaseModel):
    """One line: who did what, from where, to which case and session (their ids)."""

    id: int
    at: datetime
    user: str | None
    what: str
    case: str | None
    session: str | None
    address: str | None
    details: dict[str, Any]

    @classmethod
    def of(cls, line: AuditLine) -> AuditInfo:
        return cls(
            id=line.id,
            at=line.at,
            user=line.user,
            what=line.what,
            case=line.case,
            session=line.reading,
            address=line.address,
            details=dict(line.details),
        )


def role_of(name: RoleName) -> Role:
    """The role of that name."""
    return Role[name.upper()]
