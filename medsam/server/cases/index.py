"""What folders hold, as the store has it: cases come, change, vanish and come back under the ids they had."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medsam.server.cases.folder import Delta
from medsam.server.cases.found import FoundCase, unquoted
from medsam.server.cases.watch import Watcher
from medsam.store.records import NewCase
from medsam.store.store import Store

# in the details of a case that is a project's scan, and first in its source: no folder is looked into for it
PROJECT = "project"
# cases of one transaction: others write in between
_MANY = 200


@dataclass
class CaseIndex:
    """Keeps the store's cases of `roots` as the folders are, until it is closed. changed: told keys of such cases.

    `start` and `close` may be called from any thread; everything else is then the watcher's.
    """

    store: Store
    roots: tuple[Path, ...]
    excluded: tuple[Path, ...]
    every: float
    changed: Callable[[str], None]
    _known: dict[str, int] = field(default_factory=dict)
    _seen: dict[Path, set[str]] = field(default_factory=dict)
    # folders of which nothing was left to be said once
    _whole: set[Path] = field(default_factory=set)
    _watcher: Watcher | None = None

    def start(self) -> None:
        """Begin to look. Cases of folders that are no longer told are marked as gone."""
        self.adopt()
        self._watcher = Watcher(self.roots, self._heard, excluded=self.excluded, every=self.every, started=self._anew)

    def adopt(self) -> None:
        """Know what an earlier run of the server has found."""
        there = {str(root) for root in self.roots}
        rows = [row for row in self.store.case_sources() if row.kind == "data" and PROJECT not in row.details]
        self._known = {row.source: row.id for row in rows}
        self.store.vanish_cases([row.id for row in rows if root_of(row.source) not in there])

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()

    def _anew(self) -> None:
        self._seen.clear()
        self._whole.clear()

    def _heard(self, root: Path, delta: Delta) -> None:
        for start in range(0, len(delta.found), _MANY):
            some = delta.found[start : start + _MANY]
            for row in self.store.put_cases([as_new_case(case) for case in some]):
                self._known[row.source] = row.id
                self.changed(row.key)
        seen = self._seen.setdefault(root, set())
        seen |= {case.source for case in delta.found}
        seen -= set(delta.gone)
        gone = list(delta.gone)
        if delta.whole and root not in self._whole:
            # of an earlier run of the server, or of the process
            gone += [source for source in self._known if root_of(source) == str(root) and source not in seen]
        self.store.vanish_cases([self._known[source] for source in gone if source in self._known])
        if delta.whole:
            self._whole.add(root)


def distinct(roots: Sequence[Path]) -> tuple[Path, ...]:
    """Folders without those that lie in another: their cases would be there twice. Nobody looks into hidden ones."""
    whole = dict.fromkeys(root.resolve() for root in roots)
    return tuple(one for one in whole if not any(one != other and _looked_at(one, other) for other in whole))


def _looked_at(folder: Path, root: Path) -> bool:
    return folder.is_relative_to(root) and not any(part.startswith(".") for part in folder.relative_to(root).parts)


def root_of(source: str) -> str:
    """The folder that a case's `source` names."""
    return unquoted(json.loads(source)["root"])


def as_new_case(case: FoundCase) -> NewCase:
    """As the store keeps a scan of a folder, which is all readers'."""
    return NewCase(case.source, "data", case.name, None, case.modality, {"scan": case.to_dict()})
