"""Images of servables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "images",
        sa.Column("publication_id", sa.String(32), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("builder", sa.String(32), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("publication_id", name=op.f("pk_images")),
    )
    op.create_index("ix_images_sha256", "images", ["sha256"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("images")
