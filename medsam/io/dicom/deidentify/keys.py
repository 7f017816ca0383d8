"""The key, and what is made with it: UIDs, pseudonyms and shifts of dates, the same again for the same key.

All are HMAC-SHA256 of the key and the original, so that several runs and machines agree without a table of who is who,
and nobody without the key can compute them, or test a guess. The key is as secret as the names.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from functools import lru_cache
from pathlib import Path

from pydicom.uid import UID_dictionary

from medsam.errors import InputError

_BYTES = 32
# shifts go back by a year to ten, so that no date of today lies in the future
_LEAST_DAYS, _MOST_DAYS = 365, 3650


def write_new_key(path: Path) -> bytes:
    """Make a key and keep it in a file that its owner alone may read. Raises InputError when `path` is there."""
    key = secrets.token_bytes(_BYTES)
    try:
        # never over another key: what was made with that could not be made again
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InputError(
            f"{path} is there already; a key is never overwritten. Use it with `key`, or name a new file.",
            parameter=("key", "new_key"),
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", parameter="new_key") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{key.hex()}\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def read_key(path: Path) -> bytes:
    """The key of a file of 64 hexadecimal digits. Raises InputError for any other."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise InputError(f"The key {path} cannot be read: {error.strerror}.", parameter="key") from error
    except ValueError:
        text = ""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InputError(
            f"{path} holds no key (64 hexadecimal digits). `new_key` makes one.", parameter=("key", "new_key")
        )
    return bytes.fromhex(text)


def others_may_read(path: Path) -> bool:
    """Whether a file is open to more than its owner, as far as the system says."""
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


class Pseudonyms:
    """What takes the place of UIDs, names, numbers and dates. One person's are the same in all files."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # a series cites each of its UIDs in every file
        self.uid = lru_cache(maxsize=200_000)(self._uid)

    def _digest(self, kind: str, original: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{original}".encode(errors="surrogatepass"), hashlib.sha256)

    def _uid(self, original: str) -> str:
        """A UID of the root 2.25 (PS3.5 B.2); one that the standard defines, such as a SOP class, as it is."""
        original = original.strip(" \0")
        if original in UID_dictionary or not original:
            return original
        return f"2.25.{int.from_bytes(self._digest('uid', original)[:16])}"

    def name(self, kind: str, original: str) -> str:
        """16 letters and digits (80 bits)."""
        return base64.b32encode(self._digest(kind, original)[:10]).decode("ascii")

    def days(self, person: str) -> int:
        """By how many days the dates of a person move, always back."""
        drawn = int.from_bytes(self._digest("days", person)[:8])
        return -(_LEAST_DAYS + drawn % (_MOST_DAYS - _LEAST_DAYS + 1))

    def fingerprint(self) -> str:
        """Tells one key from another, and nothing about it."""
        return self._digest("fingerprint", "").hex()[:16]
