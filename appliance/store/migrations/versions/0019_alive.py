"""An answer that is being made says so in its row, to every process of the site."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("message", sa.Column("alive_until", sa.DateTime(timezone=True), nullable=True))
