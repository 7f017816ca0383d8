"""Results to a server, by the client that `medsam pacs store` uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medsam.errors import InputError
from medsam.pacs.settings import Server


def deliver(server: Server, files: Sequence[Path]) -> None:
    """Store files on a server. Raises InputError unless it has taken every one of them."""
    from medsam.pacs.client import store

    stored = store(server, files)
    if stored.failures:
        raise InputError(
            f"The server did not take {len(stored.failures)} of {len(files)} files: {stored.failures[0].reason}."
        )
