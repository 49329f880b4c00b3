"""Files inside files are documents of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("document") as document:
        document.add_column(sa.Column("parent_id", sa.String(length=32), nullable=True))
        document.add_column(sa.Column("holder", sa.Text(), nullable=True))
        document.add_column(sa.Column("inside", sa.Text(), nullable=True))
        document.add_column(sa.Column("at", sa.JSON(), nullable=True))
        document.create_foreign_key(
            op.f("fk_document_parent_id"), "document", ["parent_id"], ["id"]
        )
    op.create_index(op.f("ix_document_parent_id"), "document", ["parent_id"], unique=False)
    # What held others as one text with itself is taken in once more: it was cut by no sizes of ours.
    op.execute(
        "UPDATE document SET sizes = '' WHERE embedder IS NOT NULL AND ("
        "media_type IN ('application/zip', 'application/x-tar', 'application/gzip',"
        " 'application/mbox') OR (media_type IN ('message/rfc822', 'application/vnd.ms-outlook',"
        " 'application/pdf') AND id IN"
        " (SELECT document_id FROM body WHERE CAST(marks AS TEXT) LIKE '%\"part\"%')))"
    )
