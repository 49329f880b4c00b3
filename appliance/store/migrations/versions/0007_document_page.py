"""What the page of one document shows: its pages, its history, what a person corrected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("body") as body:
        body.add_column(sa.Column("pages", sa.JSON(), nullable=False, server_default="[]"))
    with op.batch_alter_table("body") as body:
        body.alter_column("pages", server_default=None)
    with op.batch_alter_table("document") as document:
        document.add_column(sa.Column("given_title", sa.Text(), nullable=True))
        document.add_column(sa.Column("in_force", sa.Date(), nullable=True))
        document.add_column(sa.Column("again", sa.String(), nullable=True))
        document.add_column(sa.Column("again_at", sa.DateTime(timezone=True), nullable=True))
        document.create_index("ix_document_again_at", ["again_at"])
    op.create_table(
        "history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("document_id", sa.String(32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
            name=op.f("fk_history_document_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_history")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_history_document_id"), "history", ["document_id"])
