"""Writing files whole: one appears under its name complete or not at all, whatever else is written at the same time."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# how the folders begin in which files are made
_UNFINISHED = ".medsam-"


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """The path to write to in this block: at its end the file moves to `path`, in place of one that is there.

    It has the name of `path`, for some formats keep it inside or go by its suffix, and lies in a folder made for this
    block alone beside `path`: no other thread, process or machine shares it. Files written beside it move, too, and
    before it (weights of a graph, names of labels): while `path` is missing they count for nothing.
    When the block raises, nothing has changed. Not synced to the disk: a file may be lost in a power cut.
    Raises OSError when the folder is not there or cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_UNFINISHED) as folder:
        scratch = Path(folder)
        yield scratch / path.name
        mode = _mode_of_new_files(scratch)
        for part in sorted(scratch.iterdir(), key=lambda part: (part.name == path.name, part.name)):
            # some libraries keep what they write to its owner
            if stat.S_IMODE(part.stat().st_mode) != mode:
                part.chmod(mode)
            move(part, path.parent / part.name)


def write_text(path: Path, text: str) -> None:
    """Write a text (UTF-8, line ends as they are) whole. Raises OSError as `write_whole` does."""
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def holds_files(folder: Path) -> bool:
    """Whether there is a file in a folder, or below, but for unfinished ones: of a block of `write_whole` that was cut
    off, by a power cut or a share that went."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return not all(any(part.startswith(_UNFINISHED) for part in path.parts[:-1]) for path in files)


def move(source: Path, target: Path) -> None:
    """Move a file, in place of one that is there, or a folder, where none is: on one disk, at once."""
    os.replace(source, target)


def sync(path: Path) -> None:
    """Have what a file holds, or the names in a folder, on the disk. Raises OSError.

    Windows opens no folders, and keeps their names itself.
    """
    if os.name != "posix" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode_of_new_files(folder: Path) -> int:
    """What the system gives a file; asking for the umask would mean to set it, for all threads of the process."""
    probe = folder / ".mode"
    probe.touch(exist_ok=False)
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode
