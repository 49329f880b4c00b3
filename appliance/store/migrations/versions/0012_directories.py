"""People and groups of directories, and whom they mean here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    moment, big = sa.DateTime(timezone=True), sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "directory",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("held", sa.JSON(), nullable=True),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("fresh_at", moment, nullable=True),
        sa.Column("valid_until", moment, nullable=True),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_directory"),
        sa.UniqueConstraint("name", name="uq_directory_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "directory_entry",
        sa.Column("id", big, nullable=False),
        sa.Column("directory_id", sa.Integer(), nullable=False),
        sa.Column("guid", sa.String(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("dn", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("sid", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("upn", sa.String(), nullable=False),
        sa.Column("mail", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("expires_at", moment, nullable=True),
        sa.Column("principal", sa.String(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["directory_id"],
            ["directory.id"],
            "fk_directory_entry_directory_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_directory_entry"),
        sa.UniqueConstraint("directory_id", "guid", name="uq_directory_entry_directory_id_guid"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_directory_entry_sid", "directory_entry", ["sid"])
    op.create_index("ix_directory_entry_principal", "directory_entry", ["principal"])
    op.create_table(
        "link",
        sa.Column("entry_id", big, nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("counts_as", sa.Text(), nullable=False),
        sa.Column("directory_id", sa.Integer(), nullable=False),
        sa.Column("own", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["directory_entry.id"], "fk_link_entry_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["directory_id"], ["directory.id"], "fk_link_directory_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("entry_id", "principal", "counts_as", name="pk_link"),
    )
    op.create_index("ix_link_principal", "link", ["principal"])
    op.create_table(
        "mapping",
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("means", sa.String(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("who", name="pk_mapping"),
    )
    op.create_index("ix_mapping_means", "mapping", ["means"])
