"""Whether a document's text is of an earlier version of its file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("document") as document:
        document.add_column(
            sa.Column("outdated", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    # of what failed so far nobody knows: it is taken as if the file were another by now
    op.execute(
        "UPDATE document SET outdated = true"
        " WHERE status = 'problem' AND attempts > 0 AND embedder IS NOT NULL"
    )
