"""Alembic's entry: runs on the connection, and in the transaction, that `migrate` gives."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from appliance.store import tables  # noqa: F401  fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
