"""How likely each pixel is in a mask that a model proposed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from medsam.store.append_only import confirm
from medsam.store.pieces import column, primary, to

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chances",
        column("annotation_id", sa.Integer()),
        *(column(name, sa.Integer()) for name in ("y0", "y1", "x0", "x1")),
        column("levels", sa.LargeBinary()),
        primary("chances", "annotation_id"),
        to("chances", "annotation_id", "annotations.id"),
    )
    confirm("chances")


def downgrade() -> None:
    raise NotImplementedError("A store does not go back: open the copy from before the migration.")
