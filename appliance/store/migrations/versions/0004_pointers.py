"""Where a reader pointed beside the answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ADDED = ("near", "conflicts")


def upgrade() -> None:
    with op.batch_alter_table("message") as message:
        for name in ADDED:
            message.add_column(sa.Column(name, sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("message") as message:
        for name in ADDED:
            message.alter_column(name, server_default=None)
