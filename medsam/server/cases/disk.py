"""Room on the server's disk, of which the store of masks keeps a share whatever is uploaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from medsam.errors import MedSAMError

RESERVE = 512 * 2**20


class DiskFull(MedSAMError):
    """There is no room on the server's disk."""

    status = 507

    def __init__(
        self, message: str = "The server's disk is full. Delete uploads that are not needed, or ask its administrator."
    ) -> None:
        super().__init__(message)


def room(folder: Path) -> int:
    """Bytes that may be written to the disk of a folder."""
    return max(0, shutil.disk_usage(folder).free - RESERVE)


def check_room(folder: Path, size: int = 1) -> None:
    """Raise DiskFull when so many bytes would leave too little for the store."""
    if room(folder) < size:
        raise DiskFull
