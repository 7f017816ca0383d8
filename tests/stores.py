"""A store with somebody in it, and a session's document."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medsam.masks import CompactMask
from medsam.store.records import NewCase, NewMask

# a further migration
NEXT = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "0004", "0003", None, None

def upgrade():
    op.add_column("cases", sa.Column("comment", sa.String()))
    op.create_table("further", sa.Column("id", sa.Integer(), primary_key=True))
"""

# tests of one kind of database
only_sqlite = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
only_postgres = pytest.mark.parametrize("kind", ["postgres"], indirect=True)


def document(**changes: Any) -> dict[str, Any]:
    """What `SessionState.to_dict` gives, as far as the store looks at it."""
    return {
        "kind": "medsam session",
        "version": 1,
        "model": {"name": "tiny", "weights": "ab" * 32, "engine": "torch", "precision": "float32"},
        "scan": {"geometry": {"shape": [4, 8, 8]}, "voxels": "cd" * 32},
        "axis": "k",
        "modality": "CT",
        **changes,
    }


def upload(source: str = "upload:1", owner: int | None = None, **changes: Any) -> NewCase:
    return NewCase(**{"source": source, "kind": "upload", "name": "scan.nii.gz", "owner": owner, **changes})


def square(low: int, high: int, edge: int = 8) -> CompactMask:
    """A square from (low, low) to (high, high) on a slice of `edge` pixels."""
    mask = np.zeros((edge, edge), dtype=bool)
    mask[low:high, low:high] = True
    return CompactMask.of(mask)


def drawn(index: int, mask: CompactMask, of: int = 1, **changes: Any) -> NewMask:
    """On slice `index`, of object `of`."""
    return NewMask(**{"object": of, "axis": "k", "slice": index, "mask": mask, "status": "refined", **changes})
