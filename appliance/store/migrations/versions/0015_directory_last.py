"""What the last look at a directory did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    with op.batch_alter_table("directory") as directory:
        directory.add_column(sa.Column("last", sa.JSON(), nullable=True))
