"""Hubs on one database: who they are, and whose a task is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_UNFINISHED = sa.text("state < 3")


def upgrade() -> None:
    """Make the table of hubs, and give tasks an owner and an endpoint."""
    op.create_table(
        "hubs",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("renewed_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("secret", sa.String(16)),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_hubs")),
        sa.UniqueConstraint("id", name=op.f("uq_hubs_id")),
        sa.UniqueConstraint("slot", name=op.f("uq_hubs_slot")),
        sqlite_autoincrement=True,
    )
    op.drop_index("ix_tasks_unfinished", "tasks")
    # 0 is nobody: the first hub to start takes such tasks up.
    op.add_column("tasks", sa.Column("owner", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("endpoint", sa.String(36)))
    _index_unfinished("owner", "environment", "seq")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("task_results")))
        # Streams of results that were begun before go on from higher numbers.
        op.execute("SELECT setval('task_results', greatest(1, (SELECT max(result_seq) FROM tasks)))")


def downgrade() -> None:
    """Undo it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.DropSequence(sa.Sequence("task_results")))
    op.drop_index("ix_tasks_unfinished", "tasks")
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_column("endpoint")
        tasks.drop_column("owner")
    _index_unfinished("environment", "seq")
    op.drop_table("hubs")


def _index_unfinished(*columns: str) -> None:
    op.create_index(
        "ix_tasks_unfinished",
        "tasks",
        list(columns),
        sqlite_where=_UNFINISHED,
        postgresql_where=_UNFINISHED,
    )
