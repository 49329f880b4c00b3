"""Where documents come from, for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, ValidationError

from appliance.api import runs
from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.hidden import masked, meant
from appliance.api.runs import Run
from appliance.api.shapes import Done, Shape
from appliance.errors import BadRequest, Conflict, SourceMisconfigured
from appliance.ingest.wrong import sentence
from appliance.ports import Unverified
from appliance.store import about, audit, catalog, scans, sources, timing
from appliance.system import Appliance
from appliance.text.personal import Handling
from connectors import english

router = APIRouter(tags=["admin: sources"], prefix="/admin")

OWN = "uploads"  # the one source nobody makes or takes away

Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Quiet(Shape):
    """Hours in which nothing is read, by the clock of the site; past midnight where `end` is earlier."""

    start: Clock = Field(examples=["08:30"])
    end: Clock = Field(examples=["18:00"])
    days: list[Annotated[int, Field(ge=0, le=6)]] = Field(
        description="On which they begin; 0 is Monday.", examples=[[0, 1, 2, 3, 4]], max_length=7
    )


class Timing(Shape):
    """When a source is read, and how fast. Null: the appliance's interval, no hours, no limit."""

    interval_s: int | None = Field(default=None, ge=1, le=7 * 24 * 3600)
    cron: str | None = Field(
        default=None,
        max_length=200,
        description="Five fields, by the clock of the site; instead of the interval.",
        examples=["0 3 * * *"],
    )
    quiet: Quiet | None = None
    bytes_per_s: int | None = Field(
        default=None, ge=timing.SLOWEST, le=10**9, description="Of the files that are read."
    )


class Tuning(Shape):
    """What a source has of its own for retrieval; null: the appliance's own."""

    dense_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Of vectors beside words: 0 only words, 1 only vectors.",
    )
    chunk_chars: int | None = Field(default=None, ge=50, le=2000)
    parent_chars: int | None = Field(default=None, ge=100, le=8000)


PersonalData = Annotated[
    Handling,
    Field(
        description="What becomes of personal data that is found. mask: it is replaced before it is "
        "stored. quarantine: who holds a number of the serious kinds (my_number, bank_account, "
        "credit_card, passport) is found by nobody."
    ),
]


class Loss(Shape):
    """Documents that complete listings did not show any more; kept, because they are so many."""

    missing: int
    of: int
    confirmed: int = Field(description="By later complete listings; two are enough.")


class Source(Shape):
    id: int
    name: str = Field(examples=["総務部 共有フォルダー"])
    kind: str = Field(examples=["folder"])
    settings: dict[str, Any] = Field(
        examples=[{"root": "/srv/share", "allow": ["everyone"]}],
        description="Secrets are shown as asterisks; sent back so, they stay as they are, unless the "
        "host, port or encryption changes: then they must be given anew.",
    )
    enabled: bool = Field(description="False: it is paused.")
    timing: Timing
    due_at: datetime
    quiet_until: datetime | None = Field(description="Where it is in its quiet hours.")
    fresh_at: datetime | None = Field(
        description="All of the source was seen as it was then; null: never yet. What could not be "
        "read of it is in `problems`."
    )
    access_until: datetime | None = Field(
        description="How long it holds who may read, unless the source is asked again: where it "
        "says so itself, or for a while after its settings were changed."
    )
    withheld: bool = Field(description="That has passed: nobody finds its documents.")
    problem: str | None
    held: Loss | None = Field(description="What is not removed until it is accepted.")
    documents: int
    problems: int
    inside: int = Field(description="Files inside documents: of archives, attached to mails.")
    inside_problems: int
    pages_waiting: int = Field(description="Are pictures, and are still to be read (OCR).")
    pages_failed: int
    last_run: Run | None
    tuning: Tuning
    personal_data: PersonalData
    personal: dict[str, int] = Field(
        description="How many documents, and files inside them, hold personal data, by kind.",
        examples=[{"my_number": 2, "phone": 31}],
    )


class Sources(Shape):
    sources: list[Source]


class NewSource(Shape):
    name: str = Field(min_length=1, max_length=200, examples=["総務部 共有フォルダー"])
    kind: str = Field(max_length=64, examples=["folder"])
    settings: dict[str, Any]
    timing: Timing = Timing()
    tuning: Tuning = Tuning()
    personal_data: PersonalData = "show"


class SourceChange(Shape):
    """What is left out stays."""

    name: str | None = Field(default=None, min_length=1, max_length=200)
    settings: dict[str, Any] | None = None
    timing: Timing | None = Field(default=None, description="All of it.")
    enabled: bool | None = None
    tuning: Tuning | None = Field(
        default=None, description="All of it; documents are cut anew where sizes change."
    )
    personal_data: PersonalData | None = Field(
        default=None, description="Where this changes, all documents are read again."
    )


class TriedSource(Shape):
    """`source_id`: whose secrets are meant where they are sent back as they were shown."""

    kind: str = Field(max_length=64, examples=["folder"])
    settings: dict[str, Any]
    source_id: int | None = None


class Tried(Shape):
    found: str = Field(examples=["Active Directory、DC=example,DC=co,DC=jp: 人 1,204、グループ 96"])


class Connector(Shape):
    kind: str
    title: str = Field(description="The first line of what the connector says of itself.")
    title_en: str
    settings_schema: dict[str, Any] = Field(
        description="JSON Schema of its settings; beside `title`, `description` and `labels` (of "
        "choices) stand `title_en`, `description_en` and `labels_en`."
    )
    verified: bool = Field(
        description="False: built on its vendor's documents, not tried against the real service."
    )


class Connectors(Shape):
    connectors: list[Connector]


@router.get("/connectors")
def connectors(machine: ApplianceDep, caller: AdminCaller) -> Connectors:
    """Kinds a source can be made of. Uploads have one source, which is always there."""
    return Connectors(
        connectors=[
            Connector(
                kind=kind,
                title=(title := (made.__doc__ or kind).strip().splitlines()[0]),
                title_en=english.of(title),
                settings_schema=english.beside(made.Settings.model_json_schema()),
                verified=not isinstance(made, Unverified),
            )
            for kind, made in sorted(machine.connectors.items())
            if kind != OWN
        ]
    )


@router.get("/sources")
def listing(machine: ApplianceDep, caller: AdminCaller) -> Sources:
    counts = catalog.counts(machine.engine)
    held = about.personal_by_source(machine.engine)
    pages = scans.counts(machine.engine)
    found = sources.all(machine.engine)
    return Sources(sources=[_shown(machine, s, counts, held, pages) for s in found])


@router.post("/sources", status_code=201)
def create(body: NewSource, machine: ApplianceDep, caller: AdminCaller) -> Source:
    if body.kind == OWN:
        raise Conflict("アップロードの保存先は Kura が管理しています。")
    settings = _checked(machine, body.kind, body.settings)
    tuning = _tuning(machine, body.tuning)
    made = sources.create(
        machine.engine,
        body.name,
        body.kind,
        machine.keyring.seal(settings),
        _timing(body.timing),
        tuning=tuning,
        personal_data=body.personal_data,
    )
    _record(
        machine,
        caller.actor,
        "source.create",
        made,
        settings=masked(settings),
        personal_data=body.personal_data,
    )
    return _shown(machine, made)


@router.post("/sources/check")
def check(body: TriedSource, machine: ApplianceDep, caller: AdminCaller) -> Tried:
    """Connect with these settings, or say in a sentence what is wrong. Nothing is kept or changed."""
    kept: Mapping[str, Any] = {}
    if body.source_id:
        before = sources.get(machine.engine, body.source_id)
        if before.kind != body.kind:
            raise Conflict("種類は変えられません。")
        kept = before.settings
    settings = meant(machine, body.settings, kept, partial(_checked, machine, body.kind))
    return Tried(found=machine.originals.tried(body.kind, machine.keyring.seal(settings)))


@router.get("/sources/{source_id}")
def source(source_id: int, machine: ApplianceDep, caller: AdminCaller) -> Source:
    return _shown(machine, sources.get(machine.engine, source_id))


@router.patch("/sources/{source_id}")
def change(
    source_id: int, body: SourceChange, machine: ApplianceDep, caller: AdminCaller
) -> Source:
    before = sources.get(machine.engine, source_id)
    given = body.model_dump(exclude_unset=True)
    if before.kind == OWN and given.keys() - {"name", "timing", "tuning", "personal_data"}:
        raise Conflict("アップロードの保存先は Kura が管理しています。")
    if given.get("settings") is not None:
        check = partial(_checked, machine, before.kind)
        checked = meant(machine, given["settings"], before.settings, check)
        given["settings"] = machine.keyring.seal(checked, before.settings)
    if body.tuning:
        given["tuning"] = _tuning(machine, body.tuning)
    if body.timing:
        given["timing"] = _timing(body.timing)
    after = sources.update(machine.engine, source_id, **given)
    if "settings" in given:
        given["settings"] = masked(given["settings"])
    if body.tuning:
        given["tuning"] = body.tuning.model_dump()
    if body.timing:
        given["timing"] = body.timing.model_dump()
    _record(machine, caller.actor, "source.change", after, **given)
    return _shown(machine, after)


@router.delete("/sources/{source_id}")
def delete(source_id: int, machine: ApplianceDep, caller: AdminCaller) -> Done:
    """The source and every document that came from it."""
    gone = sources.get(machine.engine, source_id)
    if gone.kind == OWN:
        raise Conflict("アップロードの保存先は Kura が管理しています。")
    sources.delete(machine.engine, source_id)
    _record(machine, caller.actor, "source.delete", gone)
    return Done()


@router.post("/sources/{source_id}/sync", status_code=202)
def sync(source_id: int, machine: ApplianceDep, caller: AdminCaller) -> Done:
    """Look at the source now rather than when it is due; in its quiet hours, when they end."""
    wanted = sources.get(machine.engine, source_id)
    sources.run_now(machine.engine, source_id, retry=True)
    _record(machine, caller.actor, "source.sync", wanted)
    return Done()


@router.post("/sources/{source_id}/resync", status_code=202)
def resync(source_id: int, machine: ApplianceDep, caller: AdminCaller) -> Done:
    """The same from the beginning: all there is is listed and compared. Documents stay who they are."""
    wanted = sources.get(machine.engine, source_id)
    sources.run_now(machine.engine, source_id, retry=True, anew=True)
    _record(machine, caller.actor, "source.resync", wanted)
    return Done()


@router.post("/sources/{source_id}/accept", status_code=202)
def accept(source_id: int, machine: ApplianceDep, caller: AdminCaller) -> Done:
    """What is held is gone: the next look, which is now, removes it, and no more than was told."""
    wanted = sources.get(machine.engine, source_id)
    held = sources.accept(machine.engine, source_id)
    _record(machine, caller.actor, "source.accept", wanted, missing=held.missing, of=held.of)
    return Done()


@router.post("/sources/{source_id}/pause")
def pause(source_id: int, machine: ApplianceDep, caller: AdminCaller) -> Source:
    """Nothing is read until it is resumed; a run under way stops within half a minute.

    Where the source says who may read, and after a change of its settings, that holds until
    `access_until` alone.
    """
    return _switch(machine, caller.actor, source_id, "source.pause", enabled=False)


@router.post("/sources/{source_id}/resume")
def resume(source_id: int, machine: ApplianceDep, caller: AdminCaller) -> Source:
    """It is looked at again, at once."""
    return _switch(machine, caller.actor, source_id, "source.resume", enabled=True)


def _switch(
    machine: Appliance, actor: str, source_id: int, action: str, *, enabled: bool
) -> Source:
    if sources.get(machine.engine, source_id).kind == OWN:
        raise Conflict("アップロードの保存先は Kura が管理しています。")
    after = sources.update(machine.engine, source_id, enabled=enabled)
    _record(machine, actor, action, after)
    return _shown(machine, after)


def _checked(machine: Appliance, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as the connector takes them. Raises SourceMisconfigured, naming the field only."""
    if (made := machine.connectors.get(kind)) is None:
        raise SourceMisconfigured(f"種類 {kind} のコネクタはありません。")
    try:
        return made.Settings.model_validate(settings).model_dump(mode="json")
    except ValidationError as error:
        raise SourceMisconfigured(sentence(error, made.Settings)) from None


def _tuning(machine: Appliance, given: Tuning) -> sources.Tuning:
    chunk = given.chunk_chars or machine.settings.chunk_chars
    parent = given.parent_chars or machine.settings.parent_chars
    if parent * 4 < chunk * 5:
        raise BadRequest(
            f"前後を含めた長さ（{parent} 文字）は、検索の単位（{chunk} 文字）の 1.25 倍以上にしてください。"
        )
    return sources.Tuning(**given.model_dump())


def _timing(given: Timing) -> timing.Timing:
    """Raises BadRequest."""
    quiet = None
    if given.quiet:
        start, end = map(time.fromisoformat, (given.quiet.start, given.quiet.end))
        quiet = timing.Quiet(start, end, frozenset(given.quiet.days))
    return timing.Timing(given.interval_s, given.cron, quiet, given.bytes_per_s)


def _timing_shown(own: timing.Timing) -> Timing:
    quiet = own.quiet and Quiet(
        start=own.quiet.start.isoformat("minutes"),
        end=own.quiet.end.isoformat("minutes"),
        days=sorted(own.quiet.days),
    )
    return Timing(
        interval_s=own.interval_s, cron=own.cron, quiet=quiet, bytes_per_s=own.bytes_per_s
    )


def _shown(
    machine: Appliance,
    source: sources.Source,
    counts: catalog.Counts | None = None,
    held: Mapping[int, dict[str, int]] | None = None,
    pages: scans.Counts | None = None,
) -> Source:
    counts = counts or catalog.counts(machine.engine)
    held = about.personal_by_source(machine.engine) if held is None else held
    found = counts.by_source.get(source.id, catalog.InSource())
    pages = pages or scans.counts(machine.engine)
    waiting, _, failed = pages.by_source.get(source.id, (0, 0, 0))
    return Source(
        id=source.id,
        name=source.name,
        kind=source.kind,
        settings=masked(source.settings),
        enabled=source.enabled,
        timing=_timing_shown(source.timing),
        due_at=source.timing.free(source.due_at, machine.settings.zone),
        quiet_until=source.timing.quiet_until(datetime.now(UTC), machine.settings.zone),
        fresh_at=source.fresh_at,
        access_until=source.access_until,
        withheld=source.withheld,
        problem=source.trouble,
        held=source.held
        and Loss(missing=source.held.missing, of=source.held.of, confirmed=source.held.confirmed),
        documents=found.documents,
        problems=found.problems,
        inside=found.inside,
        inside_problems=found.inside_problems,
        pages_waiting=waiting,
        pages_failed=failed,
        last_run=runs.last(source, machine.connectors),
        tuning=Tuning.model_validate(source.tuning),
        personal_data=source.personal_data,
        personal=held.get(source.id, {}),
    )


def _record(
    machine: Appliance, actor: str, action: str, source: sources.Source, **detail: Any
) -> None:
    audit.record(
        machine.engine, actor, action, {"source": source.id, "name": source.name, **detail}
    )
