"""What a source has of its own for retrieval, and the sizes each document was cut by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("source") as source:
        source.add_column(sa.Column("dense_weight", sa.Float(), nullable=True))
        source.add_column(sa.Column("chunk_chars", sa.Integer(), nullable=True))
        source.add_column(sa.Column("parent_chars", sa.Integer(), nullable=True))
    with op.batch_alter_table("document") as document:
        document.add_column(sa.Column("sizes", sa.String(), nullable=True))
    # what all were cut by until now, unless somebody had set other sizes
    op.execute("UPDATE document SET sizes = '400/1500' WHERE embedder IS NOT NULL")
