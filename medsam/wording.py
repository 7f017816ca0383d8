"""Numbers in sentences."""

from __future__ import annotations


def plural(count: int, one: str, many: str | None = None) -> str:
    """ "1 case", "2 cases", "1,200 patients"; many: where an s will not do."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
