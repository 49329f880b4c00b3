"""One source, brought up to date. Safe to stop, or to die, anywhere; run it again.

Whatever is done is done in one transaction of the catalogue. What is not yet in
the catalogue is found again by the next run, because the cursor comes last.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as but
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO

from sqlalchemy import Engine

from appliance.errors import (
    ApplianceError,
    Conflict,
    ModelBusy,
    ModelUnreachable,
    NotReady,
    TooLarge,
    Transient,
    no_room,
)
from appliance.ingest import children, kept
from appliance.ingest.grants import Grants
from appliance.ingest.handling import handled, quiet
from appliance.ingest.pages import waits
from appliance.ingest.tally import Tally
from appliance.ingest.throttle import BLOCK, Throttle
from appliance.ingest.vectors import Stopped, of_chunks
from appliance.ports import Connector, Embedder, ListsAll
from appliance.settings import Settings
from appliance.store import access as accesses
from appliance.store import catalog, scans, sources
from appliance.store.catalog import Stored
from appliance.store.inside import holder_of
from appliance.store.rows import clean
from appliance.store.runs import Ended
from appliance.store.sources import Source
from appliance.text import readings
from appliance.text.split import split
from appliance.types import (
    NOBODY,
    Access,
    AccessChanged,
    Checkpoint,
    Cursor,
    Document,
    Failed,
    Moved,
    RawFile,
    Remove,
    Upsert,
)

log = logging.getLogger(__name__)

Parse = Callable[[RawFile], tuple[Document, str]]  # the document and its media type

FEW = 20  # documents; fewer than this may vanish at once without a doubt

NO_TEXT = "文字を取り出せませんでした。画像だけの資料か、空のファイルの可能性があります。"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. `counts`: added, updated, renewed, unchanged, removed, failed, held."""

    outcome: Ended
    counts: Mapping[str, int]
    problem: str | None = None
    whole: bool = False  # all of the source was seen


@dataclass
class _Sync:
    engine: Engine
    source: Source
    embedder: Embedder
    parse: Parse
    settings: Settings
    over: threading.Event
    tally: Tally
    throttle: Throttle
    known: dict[str, Stored] = field(default_factory=dict)
    mentioned: set[str] = field(default_factory=set)
    forced: bool = False  # taken in though it may be unchanged
    partial: bool = False  # not all of the source could be listed
    relist: bool = False  # something was said about a file we do not know
    cursor: Cursor | None = None  # as it is stored
    problem: str | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Of chunks and parents, in characters."""
        own = self.source.tuning
        return (
            own.chunk_chars or self.settings.chunk_chars,
            own.parent_chars or self.settings.parent_chars,
        )

    def quiet(self, text: str) -> str:
        """A name or a reason as this source lets it be shown."""
        return quiet(text, self.source.personal_data)


def sync(
    engine: Engine,
    source: Source,
    connector: Connector,
    embedder: Embedder,
    parse: Parse,
    settings: Settings,
    over: threading.Event | None = None,
    tally: Tally | None = None,
    grants: Grants | None = None,
) -> Report:
    """Bring the catalogue up with the source. A file's own failure is a row, never an error.

    Stops between two files once `over` is set. Raises what the source, the
    database or the embedder raise: the next run goes on from here.
    """
    over, tally = over or threading.Event(), tally or Tally()
    throttle = Throttle(source.timing.bytes_per_s, over)
    run = _Sync(engine, source, embedder, parse, settings, over, tally, throttle)
    try:
        _begin(run, connector)
        if grants and grants.doubtful:
            _hear(run, connector, grants)
        if not run.problem:
            _follow(run, connector, grants)
    except Stopped:
        return Report("stopped", tally.counts)
    whole = not run.problem and not run.partial
    return Report("complete", tally.counts, run.problem, whole)


def take_again(
    engine: Engine,
    source: Source,
    file: RawFile,
    embedder: Embedder,
    parse: Parse,
    settings: Settings,
    over: threading.Event,
) -> None:
    """One document read anew though nothing changed. Its own failure is a row, never an error."""
    throttle = Throttle(None, over)  # somebody waits for it
    run = _Sync(engine, source, embedder, parse, settings, over, Tally(), throttle, forced=True)
    if known := catalog.find(engine, source.id, file.uri):
        run.known[file.uri] = known
        _take(run, _storable(run, file))


def _begin(run: _Sync, connector: Connector) -> None:
    connector.check()
    sources.withhold(run.engine, run.source)
    run.known = {one.uri: one for one in catalog.stored(run.engine, run.source.id)}
    run.cursor = run.source.cursor


def _hear(run: _Sync, connector: Connector, grants: Grants) -> None:
    """Who may read what is known, before anybody finds it again. No content is read for it."""
    told = False
    for change in connector.changes(run.source.cursor):
        if run.over.is_set():
            raise Stopped
        match change:
            case Upsert(file):
                known = run.known.get(uri := clean(file.uri))
                _grant(run, uri, file.access, same=not known or known.version == file.version)
            case Failed(uri, access=access):
                _grant(run, clean(uri), access, same=False)
            case AccessChanged(uri, access):
                _grant(run, uri, access)
            case Moved(old_uri, access=access):
                _grant(run, old_uri, access)
            case Remove(uri):
                _forget(run, uri)
            case Checkpoint(complete=complete):
                if complete:
                    _drop_missing(run)
                elif isinstance(connector, ListsAll):
                    _shut_missing(run)
                told = True
        run.tally.tell()
    if told and not run.problem:
        grants.verified()
    run.mentioned.clear()


def _grant(run: _Sync, uri: str, access: Access, same: bool = True) -> None:
    """Whoever may now read what is no longer the `same` may not read what it was: nobody, until it is read."""
    run.mentioned.add(uri)
    known = run.known.get(uri)
    if known and known.access_digest != accesses.digest_of(access):
        access = access if same else NOBODY
        if catalog.set_access(run.engine, run.source.id, uri, access):
            run.tally.note("renewed", uri, known.title)
        run.known[uri] = known._replace(access_digest=accesses.digest_of(access))


def _shut_missing(run: _Sync) -> None:
    """Nobody reads what the source has, and did not tell of: a folder did not open."""
    for uri in sorted(run.known.keys() - run.mentioned):
        _grant(run, uri, NOBODY)


def _follow(run: _Sync, connector: Connector, grants: Grants | None) -> None:
    # What must be read again may lie before the cursor, unless every run tells of all there is.
    anew = any(_due(run, one) for one in run.known.values()) and not isinstance(connector, ListsAll)
    for change in connector.changes(None if anew else run.source.cursor):
        if run.over.is_set():
            raise Stopped
        match change:
            case Upsert(file):
                _take(run, _storable(run, file))
            case Failed(uri, title, reason, transient, access):
                title, reason = run.quiet(title), run.quiet(reason)
                run.mentioned.add(clean(uri))
                catalog.fail(
                    run.engine,
                    run.source.id,
                    clean(uri),
                    title,
                    reason,
                    transient=transient,
                    access=access,
                )
                run.tally.note("failed", clean(uri), title, reason)
            case AccessChanged(uri, access):
                run.mentioned.add(uri)
                run.relist |= uri not in run.known
                one = run.known.get(uri)
                if catalog.set_access(run.engine, run.source.id, uri, access):
                    run.tally.note("renewed", uri, one.title if one else uri)
                if one:
                    run.known[uri] = one._replace(access_digest=accesses.digest_of(access))
            case Moved(old_uri, uri, title, access):
                title = run.quiet(title)
                run.mentioned.add(uri)
                moved = catalog.move(run.engine, run.source.id, old_uri, uri, title, access)
                run.relist |= not moved
                if moved:
                    run.tally.note("renewed", uri, title)
                if old := run.known.pop(old_uri, None):
                    digest = accesses.digest_of(access)
                    run.known[uri] = old._replace(uri=uri, title=title, access_digest=digest)
            case Remove(uri):
                _forget(run, uri)
            case Checkpoint(cursor, complete):
                if complete:
                    _drop_missing(run)
                elif isinstance(connector, ListsAll):
                    run.partial = True
                    if grants and grants.left_out:
                        _shut_missing(run)
                if not run.problem:
                    _save_cursor(run, None if run.relist else cursor)
        run.tally.tell()


def _forget(run: _Sync, uri: str) -> None:
    known = run.known.pop(uri, None)
    if catalog.forget(run.engine, run.source.id, uri):
        run.tally.note("removed", uri, known.title if known else uri)


def _save_cursor(run: _Sync, cursor: Cursor | None) -> None:
    """A cursor may be megabytes: a run in which nothing happened writes none."""
    if run.cursor != cursor:
        sources.save_cursor(run.engine, run.source.id, cursor)
        run.cursor = cursor


# --- one file ---------------------------------------------------------------------


def _take(run: _Sync, file: RawFile) -> None:
    """Take one file in."""
    run.mentioned.add(file.uri)
    known, reason, transient = run.known.get(file.uri), "", True
    try:
        done = _taken(run, file, known)
    except Conflict:
        sources.get(run.engine, run.source.id)  # NotVisible, if it is the source that is gone
        done = "skipped"
    except (Stopped, ModelBusy, ModelUnreachable, NotReady):
        raise  # not this file's fault
    except ApplianceError as error:
        reason, transient = str(error) or type(error).__name__, isinstance(error, Transient)
        reason = run.quiet(reason)  # a parser may quote what it could not read
    except OSError as error:
        if full := no_room(error, tempfile.gettempdir()):
            raise full from None
        reason = f"ファイルを読めませんでした（{error.strerror or error}）。"
    except Exception as error:
        log.exception("source %s, %r", run.source.name, file.uri)
        reason = f"内部エラーで取り込めませんでした（{type(error).__name__}）。"
    if reason:
        done = "failed"
        catalog.fail(
            run.engine,
            run.source.id,
            file.uri,
            file.title,
            reason,
            transient=transient,
            access=file.access,
            version=file.version,
            modified_at=file.modified_at,
            media_type=file.media_type,
            size_bytes=file.size_bytes,
        )
    run.tally.note(done, file.uri, file.title, reason)


def _taken(run: _Sync, file: RawFile, known: Stored | None) -> str:
    """What it counts as."""
    if known and known.version == file.version and not _due(run, known):
        if known.shows(file):
            return "unchanged"
        catalog.renew(run.engine, run.source.id, file)
        return "renewed"
    if not _take_content(run, file, known):
        return "renewed"
    return "updated" if known else "added"


def _take_content(run: _Sync, file: RawFile, known: Stored | None) -> bool:
    """False if the bytes turned out to be those we have."""
    limit, handling = run.settings.file_bytes, run.source.personal_data
    if file.size_bytes is not None and file.size_bytes > limit:
        raise _too_large(limit)
    with tempfile.TemporaryFile() as copy:  # without a name: nothing is left of it, ever
        size, digest = fetch(file, copy, limit, run.throttle)
        held = but(file, open=partial(reopen, copy), size_bytes=size)
        if known and known.status == "ready" and not _due(run, known) and known.digest == digest:
            catalog.renew(run.engine, run.source.id, held, digest=digest)
            return False
        had = scans.inside(run.engine, known.document_id) if known else {}
        if run.settings.ocr:
            held = _with_readings(run, held, known, digest)
        document, media_type = run.parse(held)
        title = (known and known.corrected) or file.title
        inside = _taker(run, file.uri, holder_of(file.uri, title))
        inner = inside.take(document.children, known.document_id if known else None, had)
        waiting = readings.unread(document) if run.settings.ocr else ()
        document, counts, withheld = handled(document, file.uri, handling)
        if waiting and not withheld:
            kept.keep(run.settings, digest, copy)
    old = {*had.values()} - {one.bytes_digest for one in inner if one.waiting}
    if withheld:
        catalog.withhold(
            run.engine,
            run.source.id,
            held,
            counts,
            run.embedder.name,
            sizes=_sizes(run),
            media_type=media_type,
            digest=digest,
            children=inner,
        )
        for gone in filter(None, {digest, known.digest if known else None, *old}):
            kept.drop(run.engine, run.settings, gone)
        return True
    chunks = split(document, *run.sizes)
    vectors = of_chunks(title, document, chunks, run.embedder, run.over)
    problem = waits(waiting) if waiting else None if chunks or inner else NO_TEXT
    catalog.replace(
        run.engine,
        run.source.id,
        held,
        document,
        chunks,
        vectors,
        run.embedder.name,
        sizes=_sizes(run),
        media_type=media_type,
        digest=digest,
        problem=problem,
        personal_data=handling,
        counts=counts,
        embedded_as=title,
        new=not run.forced,
        waiting=waiting,
        children=inner,
    )
    for gone in old:
        kept.drop(run.engine, run.settings, gone)
    return True


def _taker(run: _Sync, uri: str, holder: str) -> children.Taker:
    return children.Taker(
        run.engine, run.settings, run.embedder, run.over, run.source.personal_data, run.sizes,
        uri, holder, anew=run.forced,
    )  # fmt: skip


def _with_readings(run: _Sync, file: RawFile, known: Stored | None, digest: str) -> RawFile:
    """With what was read of the pages of these very bytes, when they were last taken in."""
    if known is None:
        return but(file, read={})
    sure = run.settings.ocr_sure
    return but(
        file,
        read=scans.pages(run.engine, known.document_id, digest, sure),
        read_inside=scans.pages_inside(run.engine, known.document_id, sure),
    )


def fetch(
    file: RawFile, copy: BinaryIO, limit: int, throttle: Throttle | None = None
) -> tuple[int, str]:
    """The file's bytes, once: what is hashed is what is parsed. Returns size and digest."""
    size, digest = 0, hashlib.sha256()
    with file.open() as stream:
        while block := stream.read(throttle.block if throttle else BLOCK):
            if throttle:
                throttle.passed(len(block))
            size += len(block)
            if size > limit:
                raise _too_large(limit)
            digest.update(block)
            copy.write(block)
    copy.flush()
    return size, digest.hexdigest()


def reopen(copy: BinaryIO) -> BinaryIO:
    return open(f"/proc/self/fd/{copy.fileno()}", "rb")  # noqa: PTH123  not a path


def _storable(run: _Sync, file: RawFile) -> RawFile:
    """A name no database keeps would leave its file without a row; nor may it tell a number."""
    uri, title = clean(file.uri), file.title
    known = run.known.get(uri)
    kept = known and (known.title, known.personal_data) == (title, run.source.personal_data)
    if not kept:  # a name that was kept as it is holds nothing; looking at each takes its time
        title = run.quiet(title)
    return file if (file.uri, file.title) == (uri, title) else but(file, uri=uri, title=title)


def _due(run: _Sync, known: Stored) -> bool:
    """True if an unchanged file must be taken in again."""
    again = known.next_attempt_at is not None and known.next_attempt_at <= datetime.now(UTC)
    return run.forced or again or _stale(run, known)


def _stale(run: _Sync, known: Stored) -> bool:
    if known.personal_data not in (None, run.source.personal_data):
        return True
    if known.embedder is None:  # never taken in
        return False
    # another embedder's vectors are not made here, of the source, but of the text (`ingest/anew.py`)
    return known.sizes not in (None, _sizes(run))


def _sizes(run: _Sync) -> str:
    return "/".join(map(str, run.sizes))


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"ファイルが大きすぎます（上限 {limit // 1_000_000} MB）。")


# --- the end of a complete listing ------------------------------------------------


def _drop_missing(run: _Sync) -> None:
    """What was not mentioned is gone, unless that is most of what there was.

    A share that is not mounted looks like an empty folder: a loss of more than
    half is believed when two listings in a row say so.
    """
    missing = run.known.keys() - run.mentioned
    most = len(run.known) >= FEW and len(missing) * 2 > len(run.known)
    if most and not run.source.shrunk:
        sources.set_shrunk(run.engine, run.source.id, True)
        run.tally.counts["held"] = len(missing)
        run.problem = (
            f"{len(run.known)} 件のうち {len(missing)} 件が一覧から消えました。"
            "次の確認でも見つからなければ削除します。共有フォルダの接続を確認してください。"
        )
        return
    for uri in sorted(missing):
        if run.over.is_set():
            raise Stopped
        _forget(run, uri)
        run.tally.tell()
    if run.source.shrunk:
        sources.set_shrunk(run.engine, run.source.id, False)
