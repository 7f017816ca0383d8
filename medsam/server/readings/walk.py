"""Undo, redo and reset: what they are about, on the worker's thread."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import HTTPException

from medsam.inference.session import Session
from medsam.server.readings.journal import Kind


def touched(kind: Kind, session: Session) -> set[str]:
    """Labels of what undo, redo or reset would change."""
    state = session.state
    if kind == "reset":
        return set(session.states)
    at = state.done - 1 if kind == "undo" else state.done
    if not 0 <= at < len(state.steps):
        return set()
    label = state.steps[at].label
    # of a reset everything that there was
    return {label} if label else {*state.objects, *(step.label for step in state.steps)}


def walk(kind: Kind, locked: Mapping[str, str], session: Session) -> None:
    """Undo, redo or reset. locked: name by label. Raises HTTPException 423 where what is locked would change."""
    labels = touched(kind, session)
    if names := [name for label, name in locked.items() if label in labels]:
        raise HTTPException(423, f"{names[0]!r} is locked, and would be changed. Unlock it first.")
    {"undo": session.undo, "redo": session.redo, "reset": session.reset}[kind]()
