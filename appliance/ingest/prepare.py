"""One file's bytes as they will be stored: parsed, cut, and what of them is to be embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as but
from typing import Any, BinaryIO

from appliance.ingest import children, kept, once
from appliance.ingest.flow import Prepared
from appliance.ingest.handling import handled
from appliance.ingest.pages import waits
from appliance.ingest.running import Run
from appliance.ingest.vectors import Part, named
from appliance.store import catalog, scans
from appliance.store.catalog import Stored
from appliance.store.inside import Inner, holder_of
from appliance.text import readings
from appliance.text.split import split
from appliance.types import RawFile, Vectors

NO_TEXT = "文字を取り出せませんでした。画像だけの資料か、空のファイルの可能性があります。"


def prepared(
    run: Run, file: RawFile, known: Stored | None, copy: BinaryIO, digest: str
) -> Prepared:
    """Its bytes as they will be stored, but for the vectors. Nothing is written yet."""
    handling = run.source.personal_data
    had = scans.inside(run.engine, known.document_id) if known else {}
    if run.settings.ocr:
        file = _with_readings(run, file, known, digest)
    document, media_type, known_before = once.parsed(run, file, digest)
    lends = once.lends(run, document)
    title = (known and known.corrected) or file.title
    taker = children.Taker(
        run.engine, run.settings, run.over, handling, run.sizes, file.uri,
        holder_of(file.uri, title), anew=run.forced,
    )  # fmt: skip
    inside = taker.take(document.children, known.document_id if known else None, had)
    waiting = readings.unread(document) if run.settings.ocr else ()
    document, counts, withheld = handled(document, file.uri, handling)
    left = {*had.values()} - {one.bytes_digest for one, _ in inside if one.waiting}
    made: dict[str, Any] = {"sizes": run.made, "media_type": media_type, "digest": digest}
    inner = _named(run, [part for _, part in inside if part])

    def with_vectors(vectors: Sequence[Vectors]) -> list[Inner]:
        rows = zip(vectors, inner, strict=True)
        return [_embedded(one, *next(rows)) if part else one for one, part in inside]

    def withhold(vectors: Sequence[Vectors]) -> str:
        catalog.withhold(
            run.engine,
            run.source.id,
            file,
            counts,
            run.embedder.name,
            children=with_vectors(vectors),
            **made,
        )
        run.left |= left | {digest} | ({known.digest} if known and known.digest else set())
        return "updated" if known else "added"

    def replace(vectors: Sequence[Vectors]) -> str:
        if waiting:
            kept.keep(run.settings, digest, copy)
        catalog.replace(
            run.engine,
            run.source.id,
            file,
            document,
            chunks,
            vectors[0],
            run.embedder.name,
            problem=waits(waiting) if waiting else None if chunks or inside else NO_TEXT,
            personal_data=handling,
            counts=counts,
            embedded_as=title,
            new=not run.forced,
            waiting=waiting,
            children=with_vectors(vectors[1:]),
            said=own.said,
            read_as=once.read_as(run, file) if lends else None,
            **made,
        )
        run.left |= left
        return "updated" if known else "added"

    if withheld:
        return Prepared(inner, withhold)
    chunks = split(document, *run.sizes)
    (own,) = _named(run, [Part(title, document, chunks)])
    return Prepared([own, *inner], replace, awaited=lends and not known_before and once.shares(run))


def _named(run: Run, parts: Sequence[Part]) -> list[Part]:
    return named(run.engine, parts, run.embedder, share=once.shares(run))


def _embedded(one: Inner, vectors: Vectors, part: Part) -> Inner:
    return but(one, vectors=vectors, said=part.said)


def _with_readings(run: Run, file: RawFile, known: Stored | None, digest: str) -> RawFile:
    """With what was read of the pages of these very bytes, when they were last taken in."""
    sure, mine = run.settings.ocr_sure, known.document_id if known else None
    of = None if once.shared(run.source.kind) else mine or ""
    return but(
        file,
        read=scans.pages(run.engine, of, digest, sure),
        read_inside=scans.pages_inside(run.engine, mine, sure) if mine else {},
    )
