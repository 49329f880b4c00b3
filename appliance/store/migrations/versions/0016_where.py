"""Where a document's characters stand on its pages, and what its file says on pages that were read.

Columns that may be empty: SQLite adds those without writing every text anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("body", sa.Column("runs", sa.LargeBinary(), nullable=True))
    op.add_column("body", sa.Column("own", sa.JSON(), nullable=True))
