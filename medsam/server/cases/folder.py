"""The scans of a folder that changes while it is watched. Runs in a process of its own, see `watch`.

A look lists all files, reads headers of those that are new or have changed, and says what that means: which cases are
there, which have changed, which have gone. Which files are labels and not scans is said by their names (`data.pairs`),
and by their content where names leave it open; both are asked once a file.

A file that is being written waits: it counts when it is some seconds old, or has not changed for as long (clocks of
file servers differ). So does a series while files in its folders wait.

Links to folders are not followed, those to files not out of the folder. Hidden files, pipes, sockets and devices are no
scans. What is left out for being damaged is opened with the scan it lies beside, whose reader says what is wrong.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from medsam.data.label_contents import read_contents
from medsam.data.pairs import pair_files
from medsam.errors import InputError, counted
from medsam.io.dicom.tree import ImageHeader, image_header
from medsam.server.cases.found import FoundCase, kind_of, shown_name, source_of_file, source_of_series
from medsam.server.cases.headers import Stated, stated_in

_THREADS, _BLOCK = 4, 256
_TOLD_EVERY = 3.0
# volumes of one file that become cases
_MOST_FRAMES = 200
# a series is read by its folder where no more files lie there, for its reader to see what is lost or damaged
_NEIGHBOURS, _SHARE = 1000, 4
# what no DICOM file is called, and lies about in thousands
_OTHERS = (".json", ".txt", ".csv", ".tsv", ".xml", ".html", ".md", ".pdf", ".py", ".yaml", ".yml", ".log", ".zip",
           ".gz", ".tar", ".pt", ".pth", ".npy", ".h5", ".xlsx", ".docx", ".mat", ".bval", ".bvec")  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file from what it was. since: when it was first seen like this, by our clock; of one that has
    settled it is -inf: a clock that is put back unsettles none."""

    size: int
    changed_ns: int
    since: float = field(compare=False)


@dataclass(frozen=True)
class Delta:
    """What a look has found. found: new cases, and those that have changed. gone: their sources.

    whole: nothing of the folder is left to be said.
    """

    found: tuple[FoundCase, ...] = ()
    gone: tuple[str, ...] = ()
    whole: bool = False


@dataclass
class Folder:
    """One folder and what is known of it. excluded: folders in it that are not looked into. settle: in seconds."""

    root: Path
    excluded: tuple[Path, ...] = ()
    settle: float = 4.0
    clock: Callable[[], float] = time.time
    files: dict[str, FileState] = field(default_factory=dict)
    headers: dict[str, ImageHeader | InputError | None] = field(default_factory=dict)
    stated: dict[str, Stated] = field(default_factory=dict)
    masks: dict[str, bool] = field(default_factory=dict)
    published: dict[str, FoundCase] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    _pending: bool = True

    def look(self) -> Iterator[Delta]:
        """What has changed since the last look; the last one is `whole`. Nothing where nothing has."""
        now = self.clock()
        if not self._changed(now) and not self._pending:
            return
        ready = [path for path, state in self.files.items() if self._settled(state, now)]
        for path in ready:
            self.files[path] = replace(self.files[path], since=-math.inf)
        waiting = self.files.keys() - set(ready)
        self._pending = bool(waiting)
        cases = self._by_name([path for path in ready if kind_of(Path(path)) is not None])
        perhaps = [path for path in ready if _may_be_dicom(path)]
        new = [path for path in perhaps if path not in self.headers]
        told = time.monotonic()
        for _ in self._read(new):
            # while a large folder is read for the first time, its cases appear
            if time.monotonic() - told >= _TOLD_EVERY:
                told = time.monotonic()
                series = self._series(perhaps, waiting)
                yield self._delta({**cases, **series}, whole=False)
        series = self._series(perhaps, waiting)
        yield self._delta({**cases, **series}, whole=True)

    def _changed(self, now: float) -> bool:
        """List the files; whether any is new, gone or other than it was. What was known of such is forgotten."""
        before, self.files = self.files, self._listed(now)
        changed = {path for path in before.keys() | self.files.keys() if before.get(path) != self.files.get(path)}
        for path in changed:
            for known in (self.headers, self.stated, self.masks):
                known.pop(path, None)
        return bool(changed)

    # -- files ------------------------------------------------------------------------------------------------

    def _listed(self, now: float) -> dict[str, FileState]:
        found: dict[str, FileState] = {}
        self.outside = set()
        root = os.path.realpath(self.root)
        for above, entries in _walk(root, self.excluded):
            for entry in entries:
                path = f"{above}{entry.name}"
                state = self._state(entry, root, path)
                if state is None:
                    continue
                before = self.files.get(path)
                same = before is not None and (before.size, before.changed_ns) == (state.st_size, state.st_mtime_ns)
                since = min(before.since, now) if same and before is not None else now
                found[path] = FileState(state.st_size, state.st_mtime_ns, since)
        return found

    def _state(self, entry: os.DirEntry[str], root: str, path: str) -> os.stat_result | None:
        """Of a file that may be read; None for any other."""
        try:
            state = entry.stat()
            inside = not entry.is_symlink() or os.path.realpath(entry.path).startswith(root + os.sep)
        except (OSError, ValueError):
            inside, state = False, None
        if state is None or not inside or not stat.S_ISREG(state.st_mode) or not os.access(entry.path, os.R_OK):
            self.outside.add(path)
            return None
        return state if state.st_size else None

    def _settled(self, state: FileState, now: float) -> bool:
        # a time in the future says nothing
        old = 0 <= state.changed_ns / 1e9 <= now - self.settle
        return old or now - state.since >= self.settle

    # -- files by name ----------------------------------------------------------------------------------------

    def _by_name(self, paths: Sequence[str]) -> dict[str, FoundCase]:
        """The scans among files whose names say what they are."""
        cases: dict[str, FoundCase] = {}
        for pair in pair_files(map(PurePosixPath, paths), self._is_mask).pairs:
            path = str(pair.image)
            stated = self.stated.get(path)
            if stated is None:
                stated = self.stated[path] = stated_in(self.root / path)
            if stated.is_label:
                continue
            several = stated.frames > 1
            for frame in range(min(stated.frames, _MOST_FRAMES)) if several else (None,):
                case = self._file(path, stated, frame)
                cases[case.source] = case
        return cases

    def _is_mask(self, path: object) -> bool:
        name = str(path)
        if name not in self.masks:
            try:
                self.masks[name] = read_contents(self.root / name, None).looks_like_label
            except InputError:
                self.masks[name] = False
        return self.masks[name]

    def _file(self, path: str, stated: Stated, frame: int | None) -> FoundCase:
        name = shown_name(path)
        kind = kind_of(Path(path))
        if kind is None:
            raise ValueError("a file whose name does not say what it is")
        return FoundCase(
            source=source_of_file(self.root, path, frame),
            name=name if frame is None else f"{name}, volume {frame + 1} of {stated.frames}",
            kind=kind,
            modality=None,
            shape=stated.shape,
            path=path,
            version=self._version([path]),
            frame=frame,
        )

    # -- DICOM ------------------------------------------------------------------------------------------------

    def _read(self, paths: Sequence[str]) -> Iterator[None]:
        """Read headers, with a stop after each block but the last."""
        # threads wait for a disk that is far away
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(paths), _BLOCK):
                block = paths[start : start + _BLOCK]
                for path, header in zip(block, pool.map(self._header, block), strict=True):
                    self.headers[path] = header
                if start + _BLOCK < len(paths):
                    yield

    def _header(self, path: str) -> ImageHeader | InputError | None:
        try:
            return image_header(self.root / path)
        except InputError as error:
            return error

    def _series(self, paths: Iterable[str], waiting: Iterable[str]) -> dict[str, FoundCase]:
        groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        unread = {_above(path) for path in paths if path not in self.headers}
        unready = unread | {_above(path) for path in waiting if _may_be_dicom(path)}
        for path in paths:
            header = self.headers.get(path)
            if isinstance(header, ImageHeader):
                groups[header.series, header.person, "" if header.series else path].append(path)
        given = Counter(series for series, _, _ in groups)
        cases: dict[str, FoundCase] = {}
        below = self._below(paths)
        for (series, person, alone), members in groups.items():
            source = source_of_series(self.root, series, person, alone)
            if unready.isdisjoint(map(_above, members)):
                cases[source] = self._one_series(source, series, members, below, whole=given[series] == 1)
            elif source in self.published:
                # as it was, until the rest of it is there
                cases[source] = self.published[source]
        return cases

    def _below(self, paths: Iterable[str]) -> Mapping[str, int]:
        """Folder -> how many files that may be DICOM lie in it and below."""
        count: dict[str, int] = defaultdict(int)
        for path in paths:
            above = _above(path)
            while above:
                count[above] += 1
                above = _above(above[:-1])
            count[""] += 1
        return count

    def _one_series(
        self, source: str, series: str, members: list[str], below: Mapping[str, int], *, whole: bool
    ) -> FoundCase:
        headers = [header for header in map(self.headers.get, members) if isinstance(header, ImageHeader)]
        first, images = headers[0], sum(header.frames for header in headers)
        path, files = self._place(members, below, whole=whole and bool(series))
        return FoundCase(
            source=source,
            name=_name_of_series(first, images),
            kind="dicom",
            modality=first.modality,
            shape=(images, first.rows, first.columns) if first.rows and first.columns else None,
            path=path,
            files=files,
            series=series or None,
            version=self._version(members),
            count=len(members),
        )

    def _place(
        self, members: Sequence[str], below: Mapping[str, int], *, whole: bool
    ) -> tuple[str, tuple[str, ...] | None]:
        """The file, or the folder of a series and which of its files, None for all. whole: those of its UID are it."""
        if len(members) == 1:
            return members[0], None
        places = {_above(path) for path in members}
        common = os.path.commonpath(places) if all(places) else ""
        folder = f"{common}/" if common else ""
        # a copy that lies elsewhere must not make all that is between a part of the series
        whole = whole and len(places) == 1 and not any(place != folder and place.startswith(folder) for place in below)
        # links that lead away must not be read, nor thousands of files for a few
        closed = not any(path.startswith(folder) for path in self.outside)
        if whole and closed and below[folder] <= max(_NEIGHBOURS, _SHARE * len(members)):
            return common or ".", None
        return common or ".", tuple(path[len(folder) :] for path in sorted({*members, *self._damaged(members)}))

    def _damaged(self, members: Sequence[str]) -> list[str]:
        """DICOM files that cannot be read, beside those of a series: one of its slices may be among them."""
        places = {_above(path) for path in members}
        return [
            path for path, header in self.headers.items() if isinstance(header, InputError) and _above(path) in places
        ]

    # -- what it means ----------------------------------------------------------------------------------------

    def _version(self, paths: Sequence[str]) -> str:
        states = [(path, self.files[path].size, self.files[path].changed_ns) for path in sorted(paths)]
        return hashlib.sha256(repr(states).encode(errors="surrogateescape")).hexdigest()[:24]

    def _delta(self, cases: Mapping[str, FoundCase], *, whole: bool) -> Delta:
        found = tuple(case for source, case in cases.items() if self.published.get(source) != case)
        # what is not read yet may still be there
        gone = tuple(self.published.keys() - cases.keys()) if whole else ()
        self.published.update((case.source, case) for case in found)
        for source in gone:
            del self.published[source]
        return Delta(found, gone, whole)


def _walk(root: str, excluded: Sequence[Path]) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """(path below the root with a slash at its end, files) of every folder that can be entered, sorted."""
    left = {os.path.realpath(path) for path in excluded}
    todo = [("", root)]
    while todo:
        above, place = todo.pop()
        folders: list[os.DirEntry[str]] = []
        files: list[os.DirEntry[str]] = []
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.upper() == "DICOMDIR":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry)
                else:
                    files.append(entry)
        yield above, sorted(files, key=_name)
        below = sorted(folders, key=_name, reverse=True)
        todo += [(f"{above}{one.name}/", one.path) for one in below if one.path not in left]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _name_of_series(first: ImageHeader, images: int) -> str:
    sort = {"scan": "", "localizer": " (localizer)", "capture": " (picture of a screen)"}[first.sort]
    number = "" if first.number is None else f" series {first.number}"
    return f"{first.modality or 'DICOM'}{number}, {counted(images, 'image')}{sort}"


def _may_be_dicom(path: str) -> bool:
    return kind_of(Path(path)) is None and not path.lower().endswith(_OTHERS)


def _above(path: str) -> str:
    """The folder of a file, with a slash at its end; "" for the root."""
    return path[: path.rfind("/") + 1]
