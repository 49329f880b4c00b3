"""Pages that are pictures, waiting to be read. PDFs that lost pages are read again for theirs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "scan",
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("turn_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"], ["document.id"], "fk_scan_document_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("document_id", name="pk_scan"),
    )
    op.create_index("ix_scan_digest", "scan", ["digest"])
    op.create_index("ix_scan_open", "scan", ["open"])
    op.create_table(
        "scan_page",
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("begun", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("read", sa.JSON(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"], ["document.id"], "fk_scan_page_document_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("document_id", "number", name="pk_scan_page"),
    )
    op.create_index("ix_scan_page_state", "scan_page", ["state"])
    op.create_index("ix_scan_page_ended_at", "scan_page", ["ended_at"])
    # a note is all that was left of such pages; without its digest a file is parsed anew
    op.execute(
        "UPDATE document SET digest = NULL, next_attempt_at = updated_at WHERE status = 'ready' "
        "AND media_type = 'application/pdf' AND CAST(notes AS TEXT) <> '[]'"
    )
