"""An index of the unfinished tasks that have deadlines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    only = sa.text("state < 3 AND deadline IS NOT NULL")
    op.create_index(
        "ix_tasks_deadline", "tasks", ["owner", "deadline"], sqlite_where=only, postgresql_where=only
    )


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_tasks_deadline", "tasks")
