"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What somebody may do; each may also what those before it may."""

    READER = 1  # own cases and those shared with them: open, prompt, export
    REVIEWER = 2  # every case and session, to look at and to accept
    ADMINISTRATOR = 3  # users, cases of others, deletion, the audit


@dataclass(frozen=True)
class Reader:
    """A person or a program. id: of the store, never shown to others. name: as they log in."""

    id: int
    name: str
    role: Role

    @property
    def sees_all(self) -> bool:
        return self.role >= Role.REVIEWER
