"""A source that seems to have lost most of its documents: what would go, and whether somebody agreed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    # no batches: to copy the table would be to delete its rows, and all that hangs on them
    op.add_column("source", sa.Column("held", sa.JSON(), nullable=True))
    op.add_column("source", sa.Column("accepted", sa.Boolean(), nullable=False, server_default="0"))
    op.execute("ALTER TABLE source DROP COLUMN shrunk")
