"""Where documents come from, when each is due, and who is looking at it now.

A source is leased by one worker at a time. A lease that is not renewed runs
out, so that a worker that died holds nobody up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Any

from sqlalchemy import Engine, or_
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update
from sqlmodel import Session, col, select

from appliance.errors import Conflict, NotVisible
from appliance.store import catalog, runs
from appliance.store.database import reading, writing
from appliance.store.rows import clean
from appliance.store.runs import Run
from appliance.store.secrets import Keyring
from appliance.store.tables import DocumentRow, RunRow, SourceRow, now
from appliance.store.timing import USUAL, Quiet, Timing
from appliance.text import personal
from appliance.text.personal import Handling
from appliance.types import Cursor

FORGET_AT_ONCE = 200  # documents in one transaction
# what a source does not let be found of documents that were read when it showed everything
_HIDDEN: Mapping[str, frozenset[str]] = {
    "mask": frozenset(personal.KINDS),
    "quarantine": personal.SERIOUS,
}
WITHHELD = "だれが読めるかを確かめられないまま時間がたったため、この取り込み元の資料はだれにも見つかりません。"


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a source has of its own for retrieval; None: the appliance's own."""

    dense_weight: float | None = None  # of dense scores in fusion, 0 to 1
    chunk_chars: int | None = None
    parent_chars: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Documents that complete listings did not show any more, kept because they are so many."""

    missing: int
    of: int
    confirmed: int = 0  # by how many later listings
    at: datetime | None = None  # the last that counted
    accepted: bool = False  # somebody said that they are gone


@dataclass(frozen=True, slots=True)
class Source:
    id: int
    name: str
    kind: str
    settings: Mapping[str, Any]
    enabled: bool
    cursor: Cursor | None
    due_at: datetime
    failures: int  # runs in a row that could not finish
    problem: str | None
    leased_by: str | None
    held: Held | None = None
    last_run: Run | None = None
    tuning: Tuning = Tuning()
    personal_data: Handling = "show"
    timing: Timing = USUAL
    known: int | None = None  # documents that the last complete run saw
    fresh_at: datetime | None = None  # all of it has been seen as it was then; None: never yet
    access_until: datetime | None = None  # how long what it said of who may read holds

    @property
    def withheld(self) -> bool:
        """What it said of who may read is too old: nobody finds its documents."""
        return self.access_until is not None and self.access_until <= now()

    @property
    def trouble(self) -> str | None:
        """All that an administrator must know."""
        return " ".join(filter(None, [self.problem, WITHHELD if self.withheld else None])) or None


def create(
    engine: Engine,
    name: str,
    kind: str,
    settings: Mapping[str, Any],
    timing: Timing = USUAL,
    enabled: bool = True,
    tuning: Tuning = Tuning(),
    personal_data: Handling = "show",
) -> Source:
    """A source, due at once. Raises Conflict if the name is taken."""
    with writing(engine) as s:
        row = SourceRow(
            name=name,
            kind=kind,
            settings=dict(settings),
            enabled=enabled,
            personal_data=personal_data,
            **asdict(tuning),
            **_columns(timing),
        )
        s.add(row)
        s.flush()
        return _source(row)


def get(engine: Engine, source_id: int) -> Source:
    """Raises NotVisible."""
    with reading(engine) as s:
        return _source(_row(s, source_id), *runs.last(s, source_id))


def by_name(engine: Engine, name: str) -> Source | None:
    with reading(engine) as s:
        row = s.exec(select(SourceRow).where(SourceRow.name == name)).first()
        return _source(row, *runs.last(s, row.id)) if row else None


def all(engine: Engine) -> list[Source]:
    """Every source, by name, with its last run."""
    with reading(engine) as s:
        rows = s.exec(select(SourceRow).order_by(col(SourceRow.name))).all()
        return [_source(row, *runs.last(s, row.id)) for row in rows]


def update(
    engine: Engine,
    source_id: int,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    enabled: bool | None = None,
    timing: Timing | None = None,
    tuning: Tuning | None = None,
    personal_data: Handling | None = None,
) -> Source:
    """Change what is given. With new settings the next run starts from the beginning.

    Documents that were cut by other sizes, or whose personal data was handled otherwise, are read
    again by the next run; those known to show what now must not be are found by nobody until then.
    """
    changed = _change(engine, source_id, name, settings, enabled, timing, tuning, personal_data)
    withhold(engine, changed)
    return changed


def _change(
    engine: Engine,
    source_id: int,
    name: str | None,
    settings: Mapping[str, Any] | None,
    enabled: bool | None,
    timing: Timing | None,
    tuning: Tuning | None,
    personal_data: Handling | None,
) -> Source:
    with writing(engine) as s:
        row = _row(s, source_id, lock=True)
        if name is not None:
            row.name = name
        if settings is not None and dict(settings) != row.settings:
            row.settings, row.cursor = dict(settings), None
            row.held, row.accepted = None, False
            row.anew = True  # a run that is under way saves a cursor yet
        if enabled is not None:
            row.enabled = enabled
        for given in (timing and _columns(timing), tuning and asdict(tuning)):
            for column, value in (given or {}).items():
                setattr(row, column, value)
        if personal_data is not None:
            row.personal_data = personal_data
        row.wanted, row.failures = True, 0
        s.add(row)
        s.flush()
        return _source(row, *runs.last(s, source_id))


def withhold(engine: Engine, source: Source) -> None:
    """What is known to show personal data that the source now hides is found by nobody.

    In several transactions, so that nobody else has to wait; a run does what a crash left undone.
    """
    kinds = _HIDDEN.get(source.personal_data, frozenset())
    while kinds:
        with reading(engine) as s:
            if not catalog.showing(s, source.id, kinds):
                return
        with writing(engine) as s:
            catalog.withhold_some(s, source.id, kinds, FORGET_AT_ONCE)


def seal(engine: Engine, keyring: Keyring) -> None:
    """What an older release stored as it was given is sealed from now on."""
    with writing(engine) as s:
        for row in s.exec(select(SourceRow).with_for_update()).all():
            if (sealed := keyring.seal(row.settings)) != row.settings:
                row.settings = sealed
                s.add(row)


def dense_weights(engine: Engine) -> dict[int, float]:
    """Of the sources that have one of their own."""
    query = select(SourceRow.id, SourceRow.dense_weight)
    with reading(engine) as s:
        rows = s.exec(query.where(col(SourceRow.dense_weight).is_not(None)))
        return {int(i or 0): float(weight or 0.0) for i, weight in rows}


def delete(engine: Engine, source_id: int) -> int:
    """The source and all its documents are gone. Returns how many there were.

    Large ones go in several transactions, so that nobody else has to wait;
    cut short, the source is left disabled, and may be deleted again.
    """
    forgotten = 0
    while True:
        with writing(engine) as s:
            row = _row(s, source_id, lock=True)
            row.enabled, row.lease_owner, row.lease_until = False, None, None
            s.add(row)
            s.flush()
            forgotten += (some := catalog.forget_some(s, source_id, FORGET_AT_ONCE))
            if some < FORGET_AT_ONCE:
                s.connection().execute(sql_delete(RunRow).where(col(RunRow.source_id) == source_id))
                s.delete(row)
                return forgotten


def run_now(engine: Engine, source_id: int, retry: bool = False, anew: bool = False) -> None:
    """Due at once, even if a run is under way. `retry`: its problem documents too.

    `anew`: the cursor is forgotten, so that all there is is listed and compared.
    """
    with writing(engine) as s:
        row = _row(s, source_id, lock=True)
        row.wanted, row.anew = True, row.anew or anew
        s.add(row)
        if retry:
            catalog.make_due(s, col(DocumentRow.source_id) == source_id)


# --- leases -----------------------------------------------------------------------


def lease(
    engine: Engine, owner: str, ttl_s: float, kind: str | None = None, zone: tzinfo = UTC
) -> Source | None:
    """A due source (of `kind`) that nobody looks at, now ours for `ttl_s`; None if none is.

    In the quiet hours of a source, by the clock of `zone`, it is not due, whoever wants it.
    """
    moment = now()
    due = or_(col(SourceRow.wanted), col(SourceRow.due_at) <= moment)
    free = or_(col(SourceRow.lease_until).is_(None), col(SourceRow.lease_until) < moment)
    query = (
        select(SourceRow)
        .where(col(SourceRow.enabled), due, free)
        .order_by(col(SourceRow.wanted).desc(), col(SourceRow.due_at))
    )
    if kind is not None:
        query = query.where(SourceRow.kind == kind)
    with reading(engine) as s:  # asking costs no writer its turn
        timed = [(row.id, _timing(row)) for row in s.exec(query)]
    for source_id, timing in timed:
        if timing.quiet_until(moment, zone):
            continue
        with writing(engine) as s:
            mine = query.where(SourceRow.id == source_id).with_for_update(skip_locked=True)
            if (row := s.exec(mine).first()) is None:
                continue  # somebody was quicker
            row.lease_owner, row.lease_until = owner, moment + timedelta(seconds=ttl_s)
            row.wanted = False  # whoever wants it from now on wants another run
            if row.anew:
                row.anew, row.cursor = False, None
            s.add(row)
            s.flush()
            return _source(row, *runs.last(s, row.id))
    return None


def renew(engine: Engine, source_id: int, owner: str, ttl_s: float) -> bool:
    """Still ours for `ttl_s` from now. False if somebody else has it, or nobody is to look at it."""
    with writing(engine) as s:
        mine = (col(SourceRow.id) == source_id, col(SourceRow.lease_owner) == owner)
        result = s.connection().execute(
            sql_update(SourceRow)
            .where(*mine, col(SourceRow.enabled))
            .values(lease_until=now() + timedelta(seconds=ttl_s))
        )
        return bool(result.rowcount)


def release(
    engine: Engine,
    source_id: int,
    owner: str,
    due_at: datetime,
    *,
    problem: str | None = None,
    failures: int = 0,
    fresh_at: datetime | None = None,
    access_until: datetime | None = None,
) -> None:
    """Done for now. Changes nothing if the lease is no longer ours.

    `fresh_at` where all of it was seen; `access_until`, as `Source` has it.
    """
    seen = {} if fresh_at is None else {"fresh_at": fresh_at}
    with writing(engine) as s:
        s.connection().execute(
            sql_update(SourceRow)
            .where(col(SourceRow.id) == source_id, col(SourceRow.lease_owner) == owner)
            .values(
                lease_owner=None,
                lease_until=None,
                due_at=due_at,
                problem=clean(problem) if problem else None,
                failures=failures,
                access_until=access_until,
                **seen,
            )
        )


def hold(engine: Engine, source_id: int, access_until: datetime) -> None:
    """What it said of who may read holds until then."""
    with writing(engine) as s:
        s.connection().execute(
            sql_update(SourceRow)
            .where(col(SourceRow.id) == source_id)
            .values(access_until=access_until)
        )


def set_held(engine: Engine, source_id: int, held: Held | None) -> None:
    """What the last complete listing would have removed. Who agreed meanwhile agreed to no more than was told."""
    with writing(engine) as s:
        row = _row(s, source_id, lock=True)
        told = row.held["missing"] if row.held else 0
        row.accepted = row.accepted and held is not None and held.missing <= told
        row.held = None
        if held:
            at = held.at.isoformat() if held.at else None
            row.held = {
                "missing": held.missing, "of": held.of, "confirmed": held.confirmed, "at": at,
            }  # fmt: skip
        s.add(row)


def accept(engine: Engine, source_id: int) -> Held:
    """The next look may remove what is held, as much of it as was told. Raises Conflict."""
    with writing(engine) as s:
        row = _row(s, source_id, lock=True)
        if (held := _held(row)) is None:
            raise Conflict("確認を待っている削除はありません。")
        row.accepted, row.wanted = True, True
        s.add(row)
        return held


def _held(row: SourceRow) -> Held | None:
    if row.held is None:
        return None
    at = row.held.get("at")
    return Held(
        row.held["missing"],
        row.held["of"],
        row.held["confirmed"],
        datetime.fromisoformat(at) if at else None,
        row.accepted,
    )


# --- cursors ----------------------------------------------------------------------


def cursor(engine: Engine, source_id: int) -> Cursor | None:
    return get(engine, source_id).cursor


def save_cursor(engine: Engine, source_id: int, value: Cursor | None) -> None:
    with writing(engine) as s:
        s.connection().execute(
            sql_update(SourceRow).where(col(SourceRow.id) == source_id).values(cursor=value)
        )


# --- below: helpers within one transaction ----------------------------------------


def _row(s: Session, source_id: int, lock: bool = False) -> SourceRow:
    query = select(SourceRow).where(SourceRow.id == source_id)
    row = s.exec(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotVisible("取り込み元が見つかりません。")
    return row


def _columns(timing: Timing) -> dict[str, Any]:
    quiet = timing.quiet and {
        "start": timing.quiet.start.isoformat("minutes"),
        "end": timing.quiet.end.isoformat("minutes"),
        "days": sorted(timing.quiet.days),
    }
    return {
        "interval_s": timing.interval_s,
        "cron": timing.cron,
        "quiet": quiet,
        "bytes_per_s": timing.bytes_per_s,
    }


def _timing(row: SourceRow) -> Timing:
    quiet = row.quiet and Quiet(
        time.fromisoformat(row.quiet["start"]),
        time.fromisoformat(row.quiet["end"]),
        frozenset(row.quiet["days"]),
    )
    return Timing(row.interval_s, row.cron, quiet or None, row.bytes_per_s)


def _source(row: SourceRow, last_run: Run | None = None, known: int | None = None) -> Source:
    assert row.id is not None
    leased = row.lease_owner if row.lease_until and row.lease_until > now() else None
    return Source(
        id=row.id,
        name=row.name,
        kind=row.kind,
        settings=row.settings,
        enabled=row.enabled,
        cursor=Cursor(row.cursor) if row.cursor is not None else None,
        due_at=row.due_at,
        failures=row.failures,
        problem=row.problem,
        held=_held(row),
        leased_by=leased,
        last_run=last_run,
        tuning=Tuning(row.dense_weight, row.chunk_chars, row.parent_chars),
        personal_data=row.personal_data,  # type: ignore[arg-type]
        timing=_timing(row),
        known=known,
        fresh_at=row.fresh_at,
        access_until=row.access_until,
    )
