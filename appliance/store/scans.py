"""Pages that are pictures: which wait to be read, what was read of them, and which cannot be.

A document's pages belong to one version of its bytes, named by their digest. One worker at a time
leases a document and reads its pages one by one; each is kept as soon as it is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, case, delete, func, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from appliance.errors import Conflict
from appliance.store import access as accesses
from appliance.store.access import blocks
from appliance.store.database import reading, writing
from appliance.store.tables import AccessRow, DocumentRow, ScanPageRow, ScanRow, SourceRow, now
from appliance.text import readings
from appliance.text.personal import Handling
from appliance.types import NOBODY, Readings, ReadPage

FAILURES = 2  # of one page, until it is given up
BEGUN = 5  # likewise, where the worker itself did not survive it
_LATELY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Scan:
    """A document whose pages are read now, by whom it was leased to."""

    document_id: str
    digest: str
    owner: str
    source_id: int
    uri: str
    title: str
    version: str
    modified_at: datetime
    personal_data: Handling
    holder: str | None = None  # of a file inside another: what that one is called


@dataclass(frozen=True, slots=True)
class State:
    """Of one document's pages."""

    waiting: tuple[int, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)  # number → why


@dataclass(frozen=True, slots=True)
class Counts:
    """Pages. `by_source`: (waiting, done, failed)."""

    waiting: int = 0
    done: int = 0
    failed: int = 0
    per_minute: float = 0.0  # read or given up lately
    by_source: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)


def want(s: Session, document_id: str, digest: str | None, numbers: Collection[int]) -> None:
    """Within a transaction: these pages are to be read, unless they were, from the same bytes.

    A page that was given up is tried again. What else waited does so no more.
    """
    row = s.get(ScanRow, document_id, with_for_update=True)
    if row and row.digest != digest:
        drop(s, [document_id])
        s.expunge(row)
        row = None
    if not numbers or digest is None:
        if row:
            row.open = False
            s.add(row)
            mine = col(ScanPageRow.document_id) == document_id
            s.connection().execute(
                delete(ScanPageRow).where(mine, col(ScanPageRow.state) != "done")
            )
        return
    row = row or ScanRow(document_id=document_id, digest=digest)
    row.open = True
    s.add(row)
    pages = s.exec(select(ScanPageRow).where(ScanPageRow.document_id == document_id)).all()
    known = {page.number: page for page in pages}
    for page in pages:
        if page.number not in numbers and page.state != "done":
            s.delete(page)
        elif page.number in numbers and page.state == "failed":
            page.state, page.begun, page.failures, page.reason = "waiting", 0, 0, None
            s.add(page)
    s.add_all(
        ScanPageRow(document_id=document_id, number=n) for n in sorted(numbers) if n not in known
    )
    s.flush()


def drop(s: Session, document_ids: Collection[str]) -> None:
    """Within a transaction: nothing of these documents waits, or was read."""
    for table in (ScanPageRow, ScanRow):
        mine = col(table.document_id).in_(list(document_ids))
        s.connection().execute(delete(table).where(mine))


def unlearn(s: Session, document_ids: Collection[str]) -> None:
    """Within a transaction: what was read does not stay, once it is in the document's text.

    For text that is kept otherwise than it was read. To take it in again is to read it again.
    """
    closed = select(ScanRow.document_id).where(col(ScanRow.open).is_(False))
    for block in blocks(document_ids):
        s.connection().execute(
            delete(ScanPageRow).where(
                col(ScanPageRow.document_id).in_(block),
                col(ScanPageRow.document_id).in_(closed),
                col(ScanPageRow.state) == "done",
            )
        )


def still(s: Session, scan: Scan) -> None:
    """Within a transaction: raises Conflict if the pages are no longer ours to read."""
    _ours(s, scan)


def close(s: Session, scan: Scan) -> None:
    """Within a transaction: what was read is in the document's text."""
    s.connection().execute(
        update(ScanRow)
        .where(col(ScanRow.document_id) == scan.document_id)
        .values(open=False, lease_owner=None, lease_until=None)
    )


# --- reading ----------------------------------------------------------------------


def lease(engine: Engine, owner: str, ttl_s: float) -> Scan | None:
    """A document to read on with, now ours for `ttl_s`: whose turn was longest ago.

    None where nothing waits. What nobody may read, or a source that is paused, has no turn; nor
    has what its source must first take in again, to handle its personal data otherwise.
    """
    moment = now()
    free = or_(col(ScanRow.lease_until).is_(None), col(ScanRow.lease_until) < moment)
    query = (
        select(ScanRow, DocumentRow)
        .join(DocumentRow, col(DocumentRow.id) == col(ScanRow.document_id))
        .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
        .join(AccessRow, col(AccessRow.id) == col(DocumentRow.access_id))
        .where(
            col(ScanRow.open),
            free,
            col(ScanRow.turn_at) <= moment,
            col(SourceRow.enabled),
            col(DocumentRow.personal_data) == col(SourceRow.personal_data),
            col(AccessRow.layers) != accesses.to_json(NOBODY),
        )
        .order_by(col(ScanRow.turn_at), col(ScanRow.document_id))
        .limit(1)
    )
    with reading(engine) as s:  # asking costs no writer its turn
        if s.exec(query).first() is None:
            return None
    with writing(engine) as s:
        found = s.exec(query.with_for_update(skip_locked=True, of=ScanRow)).first()
        if found is None:
            return None
        scan, document = found
        scan.lease_owner, scan.lease_until = owner, moment + timedelta(seconds=ttl_s)
        s.add(scan)
        return Scan(
            scan.document_id,
            scan.digest,
            owner,
            document.source_id,
            document.uri,
            document.title,
            document.version,
            document.modified_at,
            document.personal_data,  # type: ignore[arg-type]
            document.holder,
        )


def begin(engine: Engine, scan: Scan) -> int | None:
    """The next page that waits; None when none does.

    Raises Conflict if there is nothing to read any more: other bytes, gone, paused, closed to all.
    """
    with writing(engine) as s:
        _ours(s, scan)
        query = select(ScanPageRow).where(
            ScanPageRow.document_id == scan.document_id, ScanPageRow.state == "waiting"
        )
        for page in s.exec(query.order_by(col(ScanPageRow.number))):
            page.begun += 1
            if page.begun <= BEGUN:
                s.add(page)
                return page.number
            page.state, page.ended_at = "failed", now()
            page.reason = "読み取り中にプログラムが何度も止まりました"
            s.add(page)
        return None


def renew(engine: Engine, scan: Scan, ttl_s: float) -> bool:
    """Still ours for `ttl_s` from now. False if it is not."""
    with writing(engine) as s:
        result = s.connection().execute(
            update(ScanRow)
            .where(
                col(ScanRow.document_id) == scan.document_id, col(ScanRow.lease_owner) == scan.owner
            )
            .values(lease_until=now() + timedelta(seconds=ttl_s))
        )
        return bool(result.rowcount)


def keep(engine: Engine, scan: Scan, number: int, page: ReadPage) -> None:
    """What was read of a page. Raises Conflict if nobody wants it any more."""
    with writing(engine) as s:
        _ours(s, scan)
        s.connection().execute(
            _page(scan, number).values(
                state="done", read=readings.to_json(page), reason=None, ended_at=now()
            )
        )


def learn(engine: Engine, scan: Scan) -> None:
    """What was read of the same bytes for another document is read. Raises Conflict like `keep`."""
    mine, other, its = aliased(ScanPageRow), aliased(ScanPageRow), aliased(ScanRow)
    query = (
        select(other.number, other.read, other.ended_at)
        .join(its, col(its.document_id) == col(other.document_id))
        .join(mine, col(mine.number) == col(other.number))
        .where(
            col(mine.document_id) == scan.document_id,
            col(mine.state) == "waiting",
            col(its.document_id) != scan.document_id,
            col(its.digest) == scan.digest,
            col(other.state) == "done",
        )
    )
    with reading(engine) as s:  # mostly there is nothing, and asking costs no writer its turn
        found = {number: (said, at) for number, said, at in s.exec(query)}
    if not found:
        return
    with writing(engine) as s:
        _ours(s, scan)
        for number, (said, at) in found.items():
            done = {"state": "done", "read": said, "reason": None, "ended_at": at}
            s.connection().execute(_page(scan, number).values(**done))


def spare(engine: Engine, scan: Scan, number: int) -> None:
    """A page that was begun and not read, through no fault of its own."""
    with writing(engine) as s:
        s.connection().execute(_page(scan, number).values(begun=col(ScanPageRow.begun) - 1))


def fail(engine: Engine, scan: Scan, number: int, reason: str) -> None:
    """A page that could not be read: tried once more, then given up. Raises Conflict."""
    times = col(ScanPageRow.failures) + 1
    with writing(engine) as s:
        _ours(s, scan)
        s.connection().execute(
            _page(scan, number).values(
                failures=times,
                state=case((times >= FAILURES, "failed"), else_="waiting"),
                reason=reason[:500],
                ended_at=now(),
            )
        )


def release(engine: Engine, scan: Scan, pause_s: float = 0.0) -> None:
    """Others have their turn first."""
    with writing(engine) as s:
        s.connection().execute(
            update(ScanRow)
            .where(
                col(ScanRow.document_id) == scan.document_id, col(ScanRow.lease_owner) == scan.owner
            )
            .values(lease_owner=None, lease_until=None, turn_at=now() + timedelta(seconds=pause_s))
        )


def bring(engine: Engine, scan: Scan) -> None:
    """The bytes are not on this machine: its source is asked for them again, or for the file that
    they are inside.
    """
    own = select(func.coalesce(DocumentRow.parent_id, DocumentRow.id))
    file = own.where(DocumentRow.id == scan.document_id).scalar_subquery()
    with writing(engine) as s:
        s.connection().execute(
            update(DocumentRow).where(col(DocumentRow.id) == file).values(next_attempt_at=now())
        )
        s.connection().execute(
            update(SourceRow).where(col(SourceRow.id) == scan.source_id).values(wanted=True)
        )


def give_up(engine: Engine, scan: Scan, reason: str) -> None:
    """The document cannot be put together of what was read. Raises Conflict."""
    with writing(engine) as s:
        _ours(s, scan)
        s.connection().execute(
            update(DocumentRow)
            .where(col(DocumentRow.id) == scan.document_id)
            .values(status="problem", problem=reason, updated_at=now())
        )
        close(s, scan)


# --- what there is ----------------------------------------------------------------


def pages(engine: Engine, document_id: str | None, digest: str, sure: float) -> dict[int, ReadPage]:
    """What was read of these bytes, for one document; for any where none is named.

    A page with a line under `sure` is doubtful.
    """
    found: dict[int, ReadPage] = {}
    of = [] if document_id is None else [col(ScanRow.document_id) == document_id]
    with reading(engine) as s:
        rows = s.exec(
            select(ScanPageRow.number, ScanPageRow.read)
            .join(ScanRow, col(ScanRow.document_id) == col(ScanPageRow.document_id))
            .where(
                *of,
                col(ScanRow.digest) == digest,
                col(ScanPageRow.state) == "done",
            )
        )
        for number, said in rows:
            page = readings.from_json(said)
            found[number] = replace(page, doubtful=any(li.sure < sure for li in page.lines))
    return found


def inside(engine: Engine, document_id: str) -> dict[str, str]:
    """Of the files inside a document that have pages: which, and the digest of their bytes."""
    with reading(engine) as s:
        return dict(s.exec(_inside(document_id)).all())


def pages_inside(engine: Engine, document_id: str, sure: float) -> dict[str, Readings]:
    """What was read of the files inside a document, by the digest of their bytes; see `pages`."""
    found = {d: pages(engine, i, d, sure) for i, d in inside(engine, document_id).items()}
    return {digest: read for digest, read in found.items() if read}


def of_those_inside(s: Session, document_id: str) -> set[str]:
    """Those of the files inside a document that have pages, within a transaction."""
    return {i for i, _ in s.exec(_inside(document_id))}


def state(engine: Engine, document_id: str) -> State:
    with reading(engine) as s:
        rows = s.exec(
            select(ScanPageRow.number, ScanPageRow.state, ScanPageRow.reason)
            .where(ScanPageRow.document_id == document_id, ScanPageRow.state != "done")
            .order_by(col(ScanPageRow.number))
        ).all()
    waiting = tuple(n for n, what, _ in rows if what == "waiting")
    return State(waiting, {n: why or "" for n, what, why in rows if what == "failed"})


def wanted(engine: Engine, digests: Collection[str]) -> set[str]:
    """Those of these bytes that pages still wait for."""
    found: set[str] = set()
    with reading(engine) as s:
        for block in blocks(digests):
            query = select(ScanRow.digest).where(col(ScanRow.open), col(ScanRow.digest).in_(block))
            found.update(s.exec(query))
    return found


def counts(engine: Engine) -> Counts:
    moment = now()
    with reading(engine) as s:
        rows = s.exec(
            select(DocumentRow.source_id, ScanPageRow.state, func.count())
            .join(DocumentRow, col(DocumentRow.id) == col(ScanPageRow.document_id))
            .group_by(col(DocumentRow.source_id), col(ScanPageRow.state))
        ).all()
        lately = s.exec(
            select(func.count(), func.min(ScanPageRow.ended_at)).where(
                col(ScanPageRow.ended_at) > moment - _LATELY, col(ScanPageRow.state) != "waiting"
            )
        ).one()
    by_source: dict[int, tuple[int, int, int]] = {}
    for source_id, what, n in rows:
        waiting, done, failed = by_source.get(source_id, (0, 0, 0))
        by_source[source_id] = (
            waiting + n * (what == "waiting"),
            done + n * (what == "done"),
            failed + n * (what == "failed"),
        )
    totals = [sum(of[n] for of in by_source.values()) for n in range(3)]
    per_minute = lately[0] / (_LATELY.total_seconds() / 60)
    return Counts(totals[0], totals[1], totals[2], round(per_minute, 1), by_source)


# --- below: helpers within one transaction ----------------------------------------


def _inside(document_id: str) -> Any:
    return (
        select(ScanRow.document_id, ScanRow.digest)
        .join(DocumentRow, col(DocumentRow.id) == col(ScanRow.document_id))
        .where(DocumentRow.parent_id == document_id)
    )


def _ours(s: Session, scan: Scan) -> ScanRow:
    row = s.exec(
        select(ScanRow)
        .join(DocumentRow, col(DocumentRow.id) == col(ScanRow.document_id))
        .join(SourceRow, col(SourceRow.id) == col(DocumentRow.source_id))
        .join(AccessRow, col(AccessRow.id) == col(DocumentRow.access_id))
        .where(
            col(ScanRow.document_id) == scan.document_id,
            col(ScanRow.digest) == scan.digest,
            col(ScanRow.lease_owner) == scan.owner,
            col(ScanRow.open),
            col(SourceRow.enabled),
            col(DocumentRow.personal_data) == col(SourceRow.personal_data),
            col(AccessRow.layers) != accesses.to_json(NOBODY),
        )
        .with_for_update(of=ScanRow)
    ).first()
    if row is None:
        raise Conflict("この資料のページは、もう読み取りを待っていません。")
    return row


def _page(scan: Scan, number: int) -> Any:
    return update(ScanPageRow).where(
        col(ScanPageRow.document_id) == scan.document_id,
        col(ScanPageRow.number) == number,
        col(ScanPageRow.state) == "waiting",
    )
