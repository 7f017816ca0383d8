"""Folders that many machines share: by path, or by a URL that fsspec knows (`s3://bucket/folder`).

A result is written once and whole: its files are made in a scratch folder and then moved or uploaded, the one that
stands for all of them last. While that one is missing the others count for nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from medsam.errors import InputError
from medsam.files import move, write_text

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://")


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL and no path."""
    return _URL.match(str(place)) is not None


class Storage:
    """A folder, by path or URL. Names in it have "/" between their parts.

    Raises InputError when the URL is of a kind that is not known here, or its package is not installed. Every method
    raises OSError when the folder does not answer or takes nothing.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place).rstrip("/")
        self._remote = is_url(self.place)
        if self._remote:
            self._files()  # said now, not after an hour of work

    def __str__(self) -> str:
        return self.place

    def _files(self) -> Any:
        """The file system; made anew in each process."""
        import fsspec

        kind = self.place.partition("://")[0]
        try:
            return fsspec.filesystem(kind)
        except (ValueError, ImportError) as error:
            packages = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
            hint = f" pip install {packages[kind]}" if kind in packages else ""
            raise InputError(f"{self.place}: places of the kind {kind}:// cannot be read here.{hint}") from error

    def at(self, name: str) -> str:
        """The path or URL of a name."""
        return f"{self.place}/{name}"

    def read_text(self, name: str) -> str | None:
        """What a file holds; None when it is not there or is no UTF-8."""
        try:
            if self._remote:
                return self._files().cat_file(self.at(name)).decode("utf-8")
            return Path(self.at(name)).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
            return None

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole."""
        if self._remote:
            self._files().pipe_file(self.at(name), text.encode("utf-8"))
            return
        path = Path(self.at(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)

    def is_empty(self) -> bool:
        """Whether nothing is there."""
        if self._remote:
            files = self._files()
            return not (files.exists(self.place) and files.ls(self.place, detail=False))
        path = Path(self.place)
        return not (path.is_dir() and any(path.iterdir()))

    @contextmanager
    def publishing(self, last: str) -> Iterator[Path]:
        """A scratch folder; what lies in it when this block ends goes to the same names here, `last` at the end."""
        if not self._remote:
            Path(self.place).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".medsam-", dir=None if self._remote else self.place) as scratch:
            root = Path(scratch)
            yield root
            made = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
            for name in sorted(made, key=lambda name: (name == last, name)):
                if self._remote:
                    self._files().put_file(str(root / name), self.at(name))
                else:
                    target = Path(self.at(name))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    move(root / name, target)


class Mirror:
    """Files of a remote place under the local names that they would have in `root`, fetched when they are needed.

    url: of one file of the place; `path` is its local name, which is there from now on.
    """

    def __init__(self, url: str, root: Path) -> None:
        self._kind, _, where = url.partition("://")
        self._first = PurePosixPath(where).parts[0]
        self._storage = Storage(f"{self._kind}://{self._first}")
        self.root = root
        self.path = root / where
        self.fetch(self.path, root)

    def _within(self, path: Path) -> str:
        """A path from `root` on, without "..". Raises InputError where it leads out of the bucket or host of the place:
        its manifest may come from anywhere, and what is fetched is written under the same name."""
        plain = Path(os.path.normpath(path))
        if not plain.is_relative_to(self.root / self._first):
            raise InputError(f"{path.name}: what a manifest at a URL names has to lie in the same place as it does.")
        return plain.relative_to(self.root).as_posix()

    def _url(self, path: Path) -> str:
        return f"{self._kind}://{self._within(path)}"

    def fetch(self, path: Path, into: Path) -> Path:
        """Bring a file or folder that is called `path` below `root` to the same name below `into`; gives that.

        Raises InputError when it is not there, or the place does not answer.
        """
        within = self._within(path)
        files, url, target = self._storage._files(), self._url(path), into / within
        try:
            if files.isdir(url):
                for one in files.find(url):
                    name = str(one).lstrip("/").removeprefix(f"{within}/")
                    if ".." in PurePosixPath(name).parts:
                        raise InputError(f"{url} holds a file whose name leads out of it.")
                    self._get(files, one, target / name)
            else:
                self._get(files, url, target)
        except OSError as error:
            raise InputError(f"{url} cannot be fetched: {error.strerror or error}.") from error
        return target

    def _get(self, files: Any, source: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(source, str(target))

    def mark(self, path: Path) -> tuple[str, ...]:
        """What tells one version of a file, or of a folder's files, from another; empty when there is none."""
        files, url = self._storage._files(), self._url(path)
        try:
            found = [files.info(one) for one in (files.find(url) if files.isdir(url) else [url])]
        except OSError:
            return ()
        return tuple(f"{one['name']} {one.get('size')} {one.get('ETag') or one.get('created')}" for one in found)
