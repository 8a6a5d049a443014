"""Tasks of the gateway."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "compute_batches",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("runtime", sa.JSON(), nullable=False),
        sa.Column("resource_specification", sa.JSON(), nullable=False),
        sa.Column("result_serializers", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_batches")),
    )
    op.create_index("ix_compute_batches_created_at", "compute_batches", ["created_at"])
    op.create_table(
        "compute_groups",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("has_queue", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compute_groups")),
    )
    op.create_index("ix_compute_groups_created_at", "compute_groups", ["created_at"])
    _create_tasks()


def _create_tasks() -> None:
    op.create_table(
        "compute_tasks",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("batch_id", sa.String(36), nullable=False),
        sa.Column("group_id", sa.String(36), nullable=False),
        sa.Column("function_id", sa.String(36), nullable=False),
        sa.Column("user_endpoint_id", sa.String(36), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("hub", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("losses", sa.SmallInteger(), nullable=False),
        sa.Column("result", sa.Text()),
        sa.Column("exception", sa.Text()),
        sa.Column("details", sa.Text()),
        sa.Column("to_copy", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("expires_at", sa.Double()),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_compute_tasks")),
        sa.UniqueConstraint("id", name=op.f("uq_compute_tasks_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_compute_tasks_batch_id", "compute_tasks", ["batch_id"])
    op.create_index("ix_compute_tasks_group_id", "compute_tasks", ["group_id", "number"])
    op.create_index("ix_compute_tasks_expires_at", "compute_tasks", ["expires_at"])
    for name, columns, condition in (
        ("unsent", ["hub", "user_endpoint_id", "number"], "state = 0"),
        ("open", ["user_endpoint_id", "created_at"], "state < 2"),
        ("to_copy", ["number"], "to_copy"),
    ):
        where = sa.text(condition)
        op.create_index(
            f"ix_compute_tasks_{name}", "compute_tasks", columns, sqlite_where=where, postgresql_where=where
        )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("compute_tasks", "compute_groups", "compute_batches"):
        op.drop_table(table)
