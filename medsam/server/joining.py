"""Structures of one name made one. Processes run it, and so no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from medsam.masks import CompactMask


def joined(masks: Mapping[str, CompactMask], plain: Callable[[str], str]) -> dict[str, CompactMask]:
    """Structures whose `plain` name is one are one, under the first of theirs."""
    names: dict[str, str] = {}
    found: dict[str, CompactMask] = {}
    for called, mask in masks.items():
        name = names.setdefault(plain(called), called)
        found[name] = found[name] | mask if name in found else mask
    return found
