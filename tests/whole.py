"""What must be true of a catalogue at any time, however many workers died over it."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Engine, text

from appliance.store import catalog
from appliance.testing.fakes import MemoryIndex

NONE_OF_THESE = (
    "SELECT id FROM chunk WHERE document_id NOT IN (SELECT id FROM document)",
    "SELECT document_id FROM body WHERE document_id NOT IN (SELECT id FROM document)",
    "SELECT uri FROM document d WHERE status = 'ready' AND NOT EXISTS "
    "(SELECT 1 FROM chunk c WHERE c.document_id = d.id) AND NOT EXISTS "
    "(SELECT 1 FROM document c WHERE c.parent_id = d.id)",
    "SELECT c.uri FROM document c JOIN document p ON p.id = c.parent_id "
    "WHERE c.access_id != p.access_id OR c.uri != p.uri || ' › ' || c.inside",
    "SELECT source_id, uri FROM document GROUP BY source_id, uri HAVING count(*) > 1",
    "SELECT id FROM wording WHERE id NOT IN (SELECT wording_id FROM body)",
    "SELECT id FROM point WHERE id NOT IN (SELECT point_id FROM chunk)",
    "SELECT document_id FROM body WHERE wording_id IS NULL",
    "SELECT id FROM chunk WHERE point_id IS NULL",
    'SELECT document_id, start FROM chunk GROUP BY document_id, start, "end" HAVING count(*) > 1',
)


def check(engine: Engine, *indexes: MemoryIndex) -> None:
    """Nothing in the database that should not be, nothing missing, in indexes that follow neither."""
    with engine.connect() as connection:
        for query in NONE_OF_THESE:
            assert connection.execute(text(query)).all() == [], query
        if engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    truth = dict(catalog.chunk_accesses(engine))
    for index in (*indexes, MemoryIndex()):
        follow(engine, index)
        assert {i: e.access_id for i, e in index.entries.items()} == truth
        for entry in index.entries.values():
            assert abs(float(np.linalg.norm(entry.vector)) - 1) < 1e-3


def follow(engine: Engine, index: MemoryIndex) -> None:
    while (news := catalog.changes(engine, index.sequence)).sequence != index.sequence:
        index.apply(news)
