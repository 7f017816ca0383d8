"""A folder by way of a share that stalls, or fails, in the middle: FUSE, for `bad_days`.

    python scripts/stalling_share.py FOLDER MOUNT < MOODS

What is done in MOUNT is done in FOLDER. A mood is a line of JSON, and holds until the next one:

    {"of": ["read"], "after": 3, "times": 1, "seconds": 20, "errno": null}

Of the operations `of` (null: all of `OPERATIONS`, but getattr of MOUNT itself, so that it can be seen to be there) the
first `after` go through; of those that follow, `times` (null: all) take so many seconds, and fail where an errno is
named. "set" on stdout answers a mood, "begun" says that the first such operation has begun. Others go on meanwhile.
Needs root or fusermount, libfuse (Debian: libfuse3-3 or fuse3) and `pip install mfusepy`, which medsam does not use.
"""

# what the system does with a name, and nothing else
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH115, PTH208, PTH211
from __future__ import annotations

import errno
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mfusepy

OPERATIONS = ("read", "write", "open", "create", "rename", "getattr", "readdir", "mkdir", "unlink", "flush", "fsync")


class Mood:
    """When operations stall or fail. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[str, Any] = {"of": []}
        self._count = 0

    def listen(self) -> None:
        """Take moods from stdin until it ends."""
        for line in sys.stdin:
            said = json.loads(line)
            with self._lock:
                self._said, self._count = said, 0
            print("set", flush=True)

    def meet(self, operation: str) -> None:
        """Raises OSError, or returns, if need be after a while."""
        with self._lock:
            said = self._said
            if said["of"] is not None and operation not in said["of"]:
                return
            self._count += 1
            turn = self._count - said["after"]
        if turn <= 0 or (said["times"] is not None and turn > said["times"]):
            return
        if turn == 1:
            print("begun", flush=True)
        time.sleep(said["seconds"])
        if said["errno"] is not None:
            raise mfusepy.FuseOSError(getattr(errno, said["errno"]))


def through(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation on the file of the same name in the folder, once the mood lets it."""
    name = operation.__name__

    @functools.wraps(operation)
    def call(self: Share, path: str, *words: Any) -> Any:
        if name in OPERATIONS and (name, path) != ("getattr", "/"):
            self.mood.meet(name)
        try:
            return operation(self, self.root + path, *words)
        except OSError as error:
            raise mfusepy.FuseOSError(error.errno) from error

    return call


class Share(mfusepy.Operations):
    """What is done with the mount."""

    use_ns = True

    def __init__(self, root: Path, mood: Mood) -> None:
        self.root, self.mood = str(root), mood

    @through
    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(path)
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino")
        times = {f"st_{one}time": getattr(found, f"st_{one}time_ns") for one in "amc"}
        return {name: getattr(found, name) for name in names} | times

    @through
    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(path)]

    @through
    def access(self, path: str, mode: int) -> int:
        if not os.access(path, mode):
            raise OSError(errno.EACCES, "")
        return 0

    @through
    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags)

    @through
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    @through
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    @through
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    @through
    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(path, length)

    @through
    def flush(self, path: str, fh: int) -> int:
        return 0

    @through
    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    @through
    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    @through
    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    @through
    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    @through
    def unlink(self, path: str) -> None:
        os.unlink(path)

    @through
    def rename(self, old: str, new: str) -> None:
        os.rename(old, self.root + new)

    @through
    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    @through
    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(path, uid, gid)

    @through
    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(path, ns=times) if times else os.utime(path)

    @through
    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, target)

    @through
    def readlink(self, path: str) -> str:
        return os.readlink(path)

    @through
    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(path)
        names = (
            "f_bavail",
            "f_bfree",
            "f_blocks",
            "f_bsize",
            "f_favail",
            "f_ffree",
            "f_files",
            "f_frsize",
            "f_namemax",
        )
        return {name: getattr(found, name) for name in names}


def main() -> None:
    folder, mount = map(Path, sys.argv[1:])
    mood = Mood()
    threading.Thread(target=mood.listen, daemon=True).start()
    mfusepy.FUSE(Share(folder.resolve(), mood), str(mount), foreground=True)


if __name__ == "__main__":
    main()
