"""A real scan to begin with: `medsam serve --demo`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medsam.assets.cache import cache_dir, fetch
from medsam.files import write_whole
from medsam.server.cases.folder import Folder
from medsam.server.cases.found import FoundCase, source_of_file
from medsam.server.cases.index import as_new_case, distinct
from medsam.store.store import Store

# long ago: a file that has just been written would wait, since it may still be growing
_WRITTEN = 1_700_000_000


def demo_folder() -> Path:
    """A folder with the demo's scan alone, without its masks. Fetched at the first call, then kept.

    Raises AssetError where it is not here and cannot be fetched.
    """
    source = fetch("lumbar-ct")["image"]
    folder = cache_dir() / "demo"
    scan = folder / "lumbar-ct.nii.gz"
    if not (scan.is_file() and scan.stat().st_size == source.stat().st_size):
        folder.mkdir(parents=True, exist_ok=True)
        with write_whole(scan) as part:
            shutil.copyfile(source, part)
            os.utime(part, (_WRITTEN, _WRITTEN))
    return folder.resolve()


def put_demo(store: Store, folder: Path, data: Sequence[Path] = ()) -> str:
    """Have a store know the scan of `demo_folder` before a server looks for it; returns the case's key.

    data: other folders of the server; where one of them holds that folder, it is found there.
    """
    found = [case for delta in Folder(folder, settle=0.0).look() for case in delta.found]
    roots = distinct((*data, folder))
    if folder not in roots:
        root = next(one for one in roots if folder.is_relative_to(one))
        found = [_below(case, root, folder) for case in found]
    return store.put_cases([as_new_case(case) for case in found])[0].key


def _below(case: FoundCase, root: Path, folder: Path) -> FoundCase:
    """A file of a folder as one of a root that holds the folder."""
    path = f"{folder.relative_to(root).as_posix()}/{case.path}"
    return replace(case, path=path, source=source_of_file(root, path, case.frame))
