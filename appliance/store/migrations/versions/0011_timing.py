"""When sources are read, what they were last seen to hold, and what became of each document in a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    with op.batch_alter_table("source") as source:
        source.add_column(sa.Column("cron", sa.String(), nullable=True))
        source.add_column(sa.Column("quiet", sa.JSON(), nullable=True))
        source.add_column(sa.Column("bytes_per_s", sa.Integer(), nullable=True))
        source.add_column(sa.Column("anew", sa.Boolean(), nullable=False, server_default="0"))
        source.add_column(sa.Column("fresh_at", moment, nullable=True))
        source.add_column(sa.Column("access_until", moment, nullable=True))
    op.create_table(
        "outcome",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
        ),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], "fk_outcome_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_outcome"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outcome_run_id", "outcome", ["run_id"])
