"""UIDs as they come from servers and users: checked before they become part of an address or the name of a file."""

from __future__ import annotations

import re

from medsam.errors import InputError

# zeros in front of a component are against PS3.5, and there are scanners that write them
_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_MOST = 64


def is_uid(text: object) -> bool:
    """Whether something is a UID: numbers and dots, at most 64 characters, so also a safe file name."""
    return isinstance(text, str) and len(text) <= _MOST and _UID.fullmatch(text) is not None


def check_uid(text: str, what: str) -> str:
    """A UID as it is. what: for the message, e.g. "Study Instance UID". Raises InputError, which does not quote it."""
    if not is_uid(text):
        raise InputError(f"This is no {what}: numbers and dots, at most {_MOST} characters.")
    return text


def uid_name(uid: str) -> str:
    """What a UID of the standard is called; others are shown as they are."""
    from pydicom.uid import UID

    return UID(uid).name
