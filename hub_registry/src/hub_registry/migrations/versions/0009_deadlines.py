"""Deadlines of tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the column."""
    op.add_column("tasks", sa.Column("deadline", sa.Double()))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("tasks", "deadline")
