"""A catalogue to try things on: `put` stores a document of one parent and small chunks."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.store import catalog, sources
from appliance.testing.fakes import PUBLIC, HashEmbedder
from appliance.types import Access, Chunk, Document, Mark, RawFile

Put = Callable[..., str]
MODIFIED = datetime(2026, 4, 1, 9, 30, tzinfo=UTC)


def raw(
    uri: str,
    text: str,
    access: Access = PUBLIC,
    version: str | None = None,
    title: str | None = None,
) -> RawFile:
    data = catalog.clean(text).encode()
    return RawFile(
        uri=uri,
        version=version or f"v{hash(text)}",
        open=partial(io.BytesIO, data),
        access=access,
        title=title or uri,
        modified_at=MODIFIED,
        size_bytes=len(data),
    )


@pytest.fixture
def source(engine: Engine) -> int:
    return sources.create(engine, "規程集", "memory", {}).id


@pytest.fixture
def put(engine: Engine, source: int) -> Put:
    def put(
        uri: str,
        text: str,
        access: Access = PUBLIC,
        *,
        marks: tuple[Mark, ...] = (),
        size: int = 10,
        version: str | None = None,
        title: str | None = None,
        source_id: int | None = None,
        embedder: str = "hash",
        **more: Any,
    ) -> str:
        starts = range(0, len(text), size)
        chunks = [Chunk(a, min(a + size, len(text)), 0, len(text), "第1章") for a in starts]
        vectors = HashEmbedder().embed(
            [catalog.clean(text[c.start : c.end]) for c in chunks], "passage"
        )
        return catalog.replace(
            engine,
            source_id or source,
            raw(uri, text, access, version, title),
            Document(text, marks),
            chunks,
            vectors,
            embedder,
            digest="d",
            **more,
        )

    put.raw = raw  # type: ignore[attr-defined]
    return put
