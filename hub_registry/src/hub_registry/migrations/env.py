"""What Alembic runs; `hub_registry.migrations` hands it an open transaction."""

from __future__ import annotations

from alembic import context

from hub_registry.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
