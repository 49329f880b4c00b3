"""What of an answer its sources say, sentence by sentence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("message") as message:
        message.add_column(sa.Column("statements", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("message") as message:
        message.alter_column("statements", server_default=None)
