"""Run by Alembic for every command: on the connection that `Database` hands over, in its transaction."""

from alembic import context

from medsam.store import project_tables  # noqa: F401 - its tables are of the same metadata
from medsam.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    # SQLite changes a column by copying its table
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
