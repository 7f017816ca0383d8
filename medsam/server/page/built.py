"""The built page in memory: made when the server starts, so that no path in a request reaches a file.

`scripts/build-viewer` makes the folder: `index.html` and, in `assets/`, files whose names change with their contents.
Those that shrink lie there as `NAME.gz` too, and are kept and sent as that.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

BUILT = Path(__file__).parent / "built"
NOT_BUILT = (
    "The page is not built. In a checkout, type ./scripts/build-viewer (it needs node 20.19 or newer, or fetches one) "
    "and start the server again."
)

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
# as vite names files by what is in them
_HASHED = re.compile(r"-[A-Za-z0-9_-]{8}\.[a-z0-9.]+$")


@dataclass(frozen=True)
class PageFile:
    """content: gzip's where it is packed. lasting: whether the name changes when the content does."""

    content: bytes
    packed: bool
    media_type: str
    etag: str
    lasting: bool

    @cached_property
    def unpacked(self) -> bytes:
        """What the file holds. Takes a moment where it is packed; kept, so that nobody can ask for that twice."""
        return gzip.decompress(self.content) if self.packed else self.content


@dataclass(frozen=True)
class Page:
    """index: None where the page is not built. assets: by name."""

    index: PageFile | None
    assets: Mapping[str, PageFile]

    @classmethod
    def read(cls, folder: Path | None = None) -> Page:
        """The page in a folder, by default this package's; one without an index where there is none."""
        folder = folder or BUILT
        index = folder / "index.html"
        if not index.is_file():
            return cls(None, {})
        found = [path for path in sorted((folder / "assets").glob("*")) if _is_asset(path)]
        return cls(_read(index), {path.name: _read(path) for path in found})


def is_built() -> bool:
    """Whether this package has its page."""
    return (BUILT / "index.html").is_file()


def _is_asset(path: Path) -> bool:
    return path.is_file() and path.suffix in TYPES and _NAME.fullmatch(path.name) is not None


def _read(path: Path) -> PageFile:
    small = path.with_name(f"{path.name}.gz")
    packed = small.is_file()
    content = (small if packed else path).read_bytes()
    # of what is sent: the two forms are not the same bytes
    digest = hashlib.sha256(content).hexdigest()[:32]
    return PageFile(content, packed, TYPES[path.suffix], f'"{digest}"', _HASHED.search(path.name) is not None)
