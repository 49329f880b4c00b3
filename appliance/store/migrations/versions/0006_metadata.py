"""What documents say of themselves, and how much personal data they hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "metadata",
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("said", sa.JSON(), nullable=False),
        sa.Column("own", sa.JSON(), nullable=False),
        sa.Column("confidentiality", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"], ["document.id"], name="fk_metadata_document_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("document_id", name="pk_metadata"),
    )
    op.create_table(
        "personal",
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"], ["document.id"], name="fk_personal_document_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("document_id", "kind", name="pk_personal"),
    )
    with op.batch_alter_table("source") as source:
        source.add_column(
            sa.Column("personal_data", sa.String(), nullable=False, server_default="show")
        )
    with op.batch_alter_table("document") as document:
        document.add_column(sa.Column("personal_data", sa.String(), nullable=True))
    op.execute("UPDATE document SET personal_data = 'show' WHERE embedder IS NOT NULL")
