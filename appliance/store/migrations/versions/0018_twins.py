"""What documents have alike is kept once: texts in `wording`, vectors in `point`.

What is alike already becomes one. No batch of `chunk`: made anew it would forget which numbers it gave.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_BLOCK = 200
_TEXT = ("text", "marks", "pages", "runs", "own")


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "wording",
        sa.Column("id", big, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("marks", sa.JSON(), nullable=False),
        sa.Column("pages", sa.JSON(), nullable=False),
        sa.Column("runs", sa.LargeBinary(), nullable=True),
        sa.Column("own", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_wording"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_wording_digest", "wording", ["digest"])
    op.create_table(
        "point",
        sa.Column("id", big, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_point"),
        sqlite_autoincrement=True,
    )
    op.add_column("document", sa.Column("read_as", sa.String(), nullable=True))
    op.create_index("ix_document_digest", "document", ["digest"])
    _point_at("body", "wording")
    _point_at("chunk", "point")
    _move_texts()
    _move_vectors()


def _point_at(table: str, other: str) -> None:
    kind = "INTEGER" if _sqlite() else "BIGINT"
    name = f"{other}_id"
    op.execute(
        f"ALTER TABLE {table} ADD COLUMN {name} {kind}"
        f" CONSTRAINT fk_{table}_{name} REFERENCES {other} (id)"
    )
    op.create_index(f"ix_{table}_{name}", table, [name])


def _move_texts() -> None:
    bind = op.get_bind()
    body, wording = _held("body"), _held("wording")
    for row in _rows(body):
        values = {name: getattr(row, name) for name in _TEXT}
        digest = _digest(**values)
        known = sa.select(wording.c.id).where(wording.c.digest == digest)
        found = bind.execute(known).scalar()
        if found is None:
            made = wording.insert().values(digest=digest, **values).returning(wording.c.id)
            found = bind.execute(made).scalar_one()
        mine = body.c.document_id == row.document_id
        bind.execute(body.update().where(mine).values(wording_id=found))
    with op.batch_alter_table("body") as batch:
        for name in _TEXT:
            batch.drop_column(name)


def _rows(body: sa.TableClause) -> Iterator[Any]:
    after = ""
    while True:
        some = sa.select(body).where(body.c.document_id > after).order_by(body.c.document_id)
        rows = op.get_bind().execute(some.limit(_BLOCK)).all()
        yield from rows
        if len(rows) < _BLOCK:
            return
        after = rows[-1].document_id


def _move_vectors() -> None:
    if _sqlite():
        raw: Any = op.get_bind().connection.driver_connection
        raw.create_function("kura_digest", 1, _of_vector, deterministic=True)
        digest = "kura_digest(vector)"
    else:
        digest = r"sha256('\x00'::bytea || vector)"
    op.execute(
        f"INSERT INTO point (id, digest, vector) SELECT id, {digest}, vector FROM chunk"  # noqa: S608
    )
    op.create_index("ix_point_digest", "point", ["digest"])
    op.execute(
        "UPDATE chunk SET point_id = (SELECT min(b.id) FROM point a"
        " JOIN point b ON b.digest = a.digest WHERE a.id = chunk.id)"
    )
    op.execute(
        "DELETE FROM point WHERE NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.point_id = point.id)"
    )
    op.execute("ALTER TABLE chunk DROP COLUMN vector")
    if not _sqlite():
        op.execute(
            "SELECT setval(pg_get_serial_sequence('point', 'id'), max(id))"
            " FROM point HAVING max(id) IS NOT NULL"
        )


def _sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _held(name: str) -> sa.TableClause:
    return sa.table(
        name,
        sa.column("id") if name == "wording" else sa.column("document_id"),
        sa.column("digest", sa.LargeBinary())
        if name == "wording"
        else sa.column("wording_id", sa.BigInteger()),
        sa.column("text", sa.Text()),
        sa.column("marks", sa.JSON()),
        sa.column("pages", sa.JSON()),
        sa.column("runs", sa.LargeBinary()),
        sa.column("own", sa.JSON(none_as_null=True)),
    )


def _digest(text: str, marks: object, pages: object, runs: bytes | None, own: object) -> bytes:
    said = json.dumps([text, marks, pages, own], separators=(",", ":"))
    return hashlib.sha256(said.encode() + b"\0" + (runs or b"")).digest()


def _of_vector(vector: bytes) -> bytes:
    return hashlib.sha256(b"\0" + vector).digest()
