"""One source, brought up to date. Safe to stop, or to die, anywhere; run it again.

Whatever is done is done in one transaction of the catalogue. What is not yet in
the catalogue is found again by the next run, because the cursor comes last.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from dataclasses import replace as but
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO, NamedTuple

from sqlalchemy import Engine

from appliance.errors import (
    ApplianceError,
    Conflict,
    Transient,
    no_room,
)
from appliance.ingest import kept, once
from appliance.ingest.fetching import fetch, reopen, too_large
from appliance.ingest.flow import NOT_THE_FILES_FAULT, Flow
from appliance.ingest.grants import Grants
from appliance.ingest.prepare import prepared
from appliance.ingest.running import Parse, Run
from appliance.ingest.tally import Tally
from appliance.ingest.throttle import Throttle
from appliance.ingest.vectors import Stopped
from appliance.ports import Connector, Embedder, ListsAll
from appliance.settings import Settings
from appliance.store import access as accesses
from appliance.store import catalog, sources
from appliance.store.catalog import Stored
from appliance.store.rows import clean
from appliance.store.runs import Ended
from appliance.store.sources import Held, Source
from appliance.types import (
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    RawFile,
    Remove,
    Upsert,
)

log = logging.getLogger(__name__)

FEW = 20  # documents; fewer than this may vanish at once without a doubt
CONFIRMATIONS, CONFIRM_S = 2, 3600.0  # of a loss: complete listings, so long after one another


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. `counts`: added, updated, renewed, unchanged, removed, failed, held."""

    outcome: Ended
    counts: Mapping[str, int]
    problem: str | None = None
    whole: bool = False  # all of the source was seen


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
    run = Run(engine, source, embedder, parse, settings, over, tally, throttle)
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
    run = Run(engine, source, embedder, parse, settings, over, Tally(), throttle, forced=True)
    if known := catalog.find(engine, source.id, file.uri):
        run.known[file.uri] = known
        with Flow(embedder, over) as flow:
            _take(run, file, flow)
            _drain(run, flow)


def _begin(run: Run, connector: Connector) -> None:
    connector.check()
    sources.withhold(run.engine, run.source)
    run.known.fill((one.uri, one) for one in catalog.stored(run.engine, run.source.id))
    run.cursor = run.source.cursor


def _hear(run: Run, connector: Connector, grants: Grants) -> None:
    """Who may read what is known, before anybody finds it again. No content is read for it."""
    told = False
    with closing(_each(run, connector, run.source.cursor)) as changes:
        for change in changes:
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
    run.known.unmark()


def _grant(run: Run, uri: str, access: Access, same: bool = True) -> None:
    """Whoever may now read what is no longer the `same` may not read what it was: nobody, until it is read."""
    known = run.known.mark(uri)
    if known and known.access_digest != accesses.digest_of(access):
        access = access if same else NOBODY
        if catalog.set_access(run.engine, run.source.id, uri, access):
            run.tally.note("renewed", uri, known.title)
        run.known[uri] = known._replace(access_digest=accesses.digest_of(access))


def _shut_missing(run: Run) -> None:
    """Nobody reads what the source has, and did not tell of: a folder did not open."""
    for uri in run.known.unmarked_keys():
        _grant(run, uri, NOBODY)


def _follow(run: Run, connector: Connector, grants: Grants | None) -> None:
    # What must be read again may lie before the cursor, unless every run tells of all there is.
    anew = not isinstance(connector, ListsAll) and any(_due(run, x) for x in run.known.values())
    since = None if anew else run.source.cursor
    with Flow(run.embedder, run.over) as flow, closing(_told(run, connector, since, flow)) as told:
        for change in told:
            match change:
                case Upsert(file):
                    _take(run, file, flow)
                case Checkpoint(cursor, complete):
                    _drain(run, flow)
                    _check(run, connector, grants, cursor, complete)
                case _:
                    for uri in _about(change):
                        flow.settle(uri)
                    _hear_of(run, change)
            flow.collect()
            run.tally.tell()
        _drain(run, flow)


def _told(run: Run, connector: Connector, since: Cursor | None, flow: Flow) -> Generator[Change]:
    """What the source says. What it said before it broke off, or before a stop, is taken in."""
    try:
        yield from _each(run, connector, since)
    except Exception:
        _drain(run, flow)
        raise


def _each(run: Run, connector: Connector, since: Cursor | None) -> Generator[Change]:
    """Until somebody says stop. Lines to the source are hung up then, not when memory is tidied."""
    changes = connector.changes(since)
    try:
        for change in changes:
            if run.over.is_set():
                raise Stopped
            yield change
    finally:
        if isinstance(changes, Generator):
            changes.close()


def _drain(run: Run, flow: Flow) -> None:
    flow.drain()
    for digest in run.left:  # while nothing is on its way that was kept and has no row yet
        kept.drop(run.engine, run.settings, digest)
    run.left.clear()


def _about(change: Change) -> tuple[str, ...]:
    match change:
        case Moved(old_uri, uri):
            return old_uri, uri
        case Failed(uri) | AccessChanged(uri) | Remove(uri):
            return (clean(uri),)
    return ()


def _hear_of(run: Run, change: Change) -> None:
    """A change that brings no bytes."""
    match change:
        case Failed(uri, title, reason, transient, access):
            uri, title, reason = clean(uri), run.quiet(title), run.quiet(reason)
            run.known.mark(uri)
            catalog.fail(
                run.engine, run.source.id, uri, title, reason, transient=transient, access=access
            )
            run.tally.note("failed", uri, title, reason)
        case AccessChanged(uri, access):
            one = run.known.mark(uri)
            run.relist |= one is None
            if catalog.set_access(run.engine, run.source.id, uri, access):
                run.tally.note("renewed", uri, one.title if one else uri)
            if one:
                run.known[uri] = one._replace(access_digest=accesses.digest_of(access))
        case Moved(old_uri, uri, title, access):
            title = run.quiet(title)
            moved = catalog.move(run.engine, run.source.id, old_uri, uri, title, access)
            run.relist |= not moved
            if moved:
                run.tally.note("renewed", uri, title)
            if old := run.known.pop(old_uri, None):
                digest = accesses.digest_of(access)
                run.known[uri] = old._replace(uri=uri, title=title, access_digest=digest)
            run.known.mark(uri)
        case Remove(uri):
            _forget(run, uri)


def _check(
    run: Run, connector: Connector, grants: Grants | None, cursor: Cursor, complete: bool
) -> None:
    """All that was told is in the catalogue."""
    if complete:
        _drop_missing(run)
    elif isinstance(connector, ListsAll):
        run.partial = True
        if grants and grants.left_out:
            _shut_missing(run)
    if not run.problem:
        _save_cursor(run, None if run.relist else cursor)


def _forget(run: Run, uri: str) -> None:
    known = run.known.pop(uri, None)
    if catalog.forget(run.engine, run.source.id, uri):
        run.tally.note("removed", uri, known.title if known else uri)


def _save_cursor(run: Run, cursor: Cursor | None) -> None:
    """A cursor may be megabytes: a run in which nothing happened writes none."""
    if run.cursor != cursor:
        sources.save_cursor(run.engine, run.source.id, cursor)
        run.cursor = cursor


# --- one file ---------------------------------------------------------------------


class _Fetched(NamedTuple):
    """A file whose bytes are here, to be taken in."""

    file: RawFile
    copy: BinaryIO
    digest: str


def _take(run: Run, file: RawFile, flow: Flow) -> None:
    """Take one file in, or send it on its way."""
    known = run.known.mark(clean(file.uri))
    file = _storable(run, file, known)
    flow.settle(file.uri)
    if fetched := _judged(run, file, partial(_looked_at, run, file, known)):
        held, copy, digest = fetched
        flow.put(
            file.uri,
            held.size_bytes or 0,
            prepare=partial(prepared, run, held, known, copy, digest),
            finish=partial(_judged, run, file),
            release=copy.close,
            alike=(digest, held.title) if once.shares(run) else ("", ""),
        )


def _judged(run: Run, file: RawFile, take: Callable[[], str | _Fetched]) -> _Fetched | None:
    """`take` says what the file counts as, once that is known. Its own failure is a row."""
    done, reason, transient = "failed", "", True
    try:
        taken = take()
        if isinstance(taken, _Fetched):
            return taken
        done = taken
    except Conflict:
        sources.get(run.engine, run.source.id)  # NotVisible, if it is the source that is gone
        done = "skipped"
    except NOT_THE_FILES_FAULT:
        raise
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
    run.tally.tell()
    return None


def _looked_at(run: Run, file: RawFile, known: Stored | None) -> str | _Fetched:
    """What it counts as; its bytes where they are not those we have."""
    if known and known.version == file.version and not _due(run, known):
        if known.shows(file):
            return "unchanged"
        catalog.renew(run.engine, run.source.id, file)
        return "renewed"
    limit = run.settings.file_bytes
    if file.size_bytes is not None and file.size_bytes > limit:
        raise too_large(limit)
    copy = tempfile.TemporaryFile()  # noqa: SIM115  without a name: nothing is left of it, ever
    try:
        size, digest = fetch(file, copy, limit, run.throttle)
        held = but(file, open=partial(reopen, copy), size_bytes=size)
        if known and known.status == "ready" and not _due(run, known) and known.digest == digest:
            catalog.renew(run.engine, run.source.id, held, digest=digest)
            copy.close()
            return "renewed"
    except BaseException:
        copy.close()
        raise
    return _Fetched(held, copy, digest)


def _storable(run: Run, file: RawFile, known: Stored | None) -> RawFile:
    """A name no database keeps would leave its file without a row; nor may it tell a number."""
    uri, title = clean(file.uri), file.title
    kept = known and (known.title, known.personal_data) == (title, run.source.personal_data)
    if not kept:  # a name that was kept as it is holds nothing; looking at each takes its time
        title = run.quiet(title)
    return file if (file.uri, file.title) == (uri, title) else but(file, uri=uri, title=title)


def _due(run: Run, known: Stored) -> bool:
    """True if an unchanged file must be taken in again."""
    again = known.next_attempt_at is not None and known.next_attempt_at <= datetime.now(UTC)
    return run.forced or again or _stale(run, known)


def _stale(run: Run, known: Stored) -> bool:
    if known.personal_data not in (None, run.source.personal_data):
        return True
    if known.embedder is None:  # never taken in
        return False
    # another embedder's vectors are not made here, of the source, but of the text (`ingest/anew.py`)
    return known.sizes not in (None, run.made)


# --- the end of a complete listing ------------------------------------------------


def _drop_missing(run: Run) -> None:
    """What was not mentioned is gone, unless that is a great part of what there was.

    A share that is not mounted looks like an empty folder. Such a loss is believed once an
    administrator says so, or two more complete listings, each an hour after the one before.
    """
    missing, known = run.known.unmarked(), len(run.known)
    if known >= FEW and missing * 100 > run.settings.removal_percent * known:
        held = _doubt(run.source.held, missing, known)
        if held:
            sources.set_held(run.engine, run.source.id, held)
            run.tally.counts["held"] = held.missing
            run.problem = _waiting(held)
            return
    for uri in run.known.unmarked_keys():
        if run.over.is_set():
            raise Stopped
        _forget(run, uri)
        run.tally.tell()
    if run.source.held:
        sources.set_held(run.engine, run.source.id, None)


def _doubt(before: Held | None, missing: int, of: int) -> Held | None:
    """What is held from now on; None: it is believed."""
    now = datetime.now(UTC)
    if before is None:
        return Held(missing, of, 0, now)
    if before.accepted and missing <= before.missing:
        return None
    counts = before.at is None or (now - before.at).total_seconds() >= CONFIRM_S
    if not counts:
        return but(before, missing=missing, of=of, accepted=False)
    if before.confirmed + 1 >= CONFIRMATIONS:
        return None
    return Held(missing, of, before.confirmed + 1, now)


def _waiting(held: Held) -> str:
    return (
        f"{held.of} 件のうち {held.missing} 件が一覧から消えたため、削除せずに待っています。"
        "接続先のフォルダーと権限を確かめてください。本当に消したのなら「消えたことを反映」を押してください。"
        f"押さなくても、{CONFIRM_S / 3600:.0f} 時間以上をおいたあと {CONFIRMATIONS - held.confirmed} 回の"
        "確認で見つからなければ削除します。"
    )
