"""The task ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "tasks",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("group_id", sa.String(36)),
        sa.Column("servable", sa.String(160), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("is_json", sa.Boolean(), nullable=False),
        sa.Column("input", sa.LargeBinary()),
        sa.Column("input_path", sa.Text()),
        sa.Column("result", sa.LargeBinary()),
        sa.Column("result_path", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.Column("result_seq", sa.BigInteger()),
        sa.Column("timings", sa.LargeBinary()),
        sa.Column("expires_at", sa.Double()),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_tasks")),
        sa.UniqueConstraint("id", name=op.f("uq_tasks_id")),
    )
    unfinished, grouped = sa.text("state < 3"), sa.text("group_id IS NOT NULL")
    op.create_index(
        "ix_tasks_unfinished",
        "tasks",
        ["environment", "seq"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_index(
        "ix_tasks_group",
        "tasks",
        ["group_id", "result_seq"],
        sqlite_where=grouped,
        postgresql_where=grouped,
    )
    op.create_index("ix_tasks_user", "tasks", ["user_id", "seq"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("tasks")
