"""Directories (LDAP, Active Directory), and who their people and groups are here, for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.hidden import masked, meant
from appliance.api.shapes import Done, Shape
from appliance.api.sources import Tried
from appliance.ingest import directory as following
from appliance.ingest.trial import DIRECTORY
from appliance.store import audit, directories, identities, strangers
from appliance.system import Appliance
from connectors import english

router = APIRouter(tags=["admin: people"], prefix="/admin")

Named = Annotated[str, Field(min_length=1, max_length=300)]


class NewDirectory(Shape):
    name: str = Field(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f,]+$", examples=["本社AD"])
    settings: dict[str, Any]


class DirectoryChange(Shape):
    """What is left out stays. A password that is sent back as it was shown stays too."""

    settings: dict[str, Any] | None = None
    enabled: bool | None = Field(
        default=None, description="False: not looked at, and nobody counts as anything by it."
    )


class TriedDirectory(Shape):
    """`directory_id`: whose password is meant where it is sent back as it was shown."""

    settings: dict[str, Any]
    directory_id: int | None = None


class Last(Shape):
    """The last look, whether it came to its end or not."""

    at: datetime
    seconds: float
    done: bool = Field(description="False: `problem` says why, and nothing was removed.")
    changed: int = Field(description="Entries read and written, or somebody else than before.")
    removed: int


class Held(Shape):
    entries: int = Field(description="People and groups that would go.")
    of: int
    memberships: int
    of_memberships: int


class Directory(Shape):
    id: int
    name: str
    settings: dict[str, Any]
    enabled: bool
    people: int
    groups: int
    joined: int = Field(description="People who are an account here, or would be.")
    problems: int = Field(description="Entries that are nobody, or only in part, and should be.")
    problem: str | None
    held: Held | None = Field(description="What a look would remove, until it is accepted.")
    last: Last | None = Field(description="Null: never yet looked at.")
    looking: bool = Field(description="It is being looked at now.")
    fresh_at: datetime | None = Field(description="Everything here is as it was there, then.")
    valid_until: datetime | None = Field(description="Nobody counts as anything by it later.")
    due_at: datetime


class Directories(Shape):
    directories: list[Directory]
    settings_schema: dict[str, Any] = Field(description="As of a connector.")


class Sync(Shape):
    accept: bool = Field(default=False, description="Apply what is held.")


class Entry(Shape):
    guid: str
    directory: str
    kind: Literal["person", "group"]
    dn: str
    node: str = Field(description="What whoever is it counts as, in documents' access too.")
    sid: str
    name: str
    mail: str
    title: str
    disabled: bool
    principal: str | None = Field(examples=["user:ito"])
    by_hand: bool
    problem: str | None


class Entries(Shape):
    entries: list[Entry]
    total: int


class Around(Shape):
    entry: Entry
    members: list[Entry] = Field(description="Directly; the first of them.")
    total: int = Field(description="Of members, those outside of what is looked at among them.")
    groups: list[Entry] = Field(description="That it is in, directly.")


class Stranger(Shape):
    principal: str = Field(examples=["user:k-0042", "sid:S-1-5-21-1-2-3-1104"])
    documents: int
    sources: list[str]


class Strangers(Shape):
    strangers: list[Stranger] = Field(description="Those of most documents first.")
    total: int


class Mapping(Shape):
    """`who`: an entry's guid, DN, SID, name or address; or a name that a source uses
    ("user:kintone-ito", "group:eigyo@example.co.jp").
    """

    who: Named
    means: str | None = Field(
        max_length=110,
        description='"user:…", "group:…", "nobody"; null takes it back.',
        examples=["user:ito"],
    )


class DirectorySaid(Shape):
    who: str
    means: str


class Mappings(Shape):
    mappings: list[DirectorySaid]


@router.get("/directories")
def listing(machine: ApplianceDep, caller: AdminCaller) -> Directories:
    counts = directories.counts(machine.engine)
    return Directories(
        directories=[_shown(one, counts) for one in directories.all(machine.engine)],
        settings_schema=english.beside(following.schema()),
    )


@router.post("/directories", status_code=201)
def create(body: NewDirectory, machine: ApplianceDep, caller: AdminCaller) -> Directory:
    settings = following.checked(body.settings).model_dump(mode="json")
    made = directories.create(machine.engine, body.name, machine.keyring.seal(settings))
    _record(machine, caller.actor, "directory.create", made, settings=masked(settings))
    return _shown(made, {})


@router.post("/directories/check")
def check(body: TriedDirectory, machine: ApplianceDep, caller: AdminCaller) -> Tried:
    """Connect with these settings and say what is seen. Nothing is kept or changed."""
    kept = directories.get(machine.engine, body.directory_id).settings if body.directory_id else {}
    settings = meant(machine, body.settings, kept, _checked)
    return Tried(found=machine.originals.tried(DIRECTORY, machine.keyring.seal(settings)))


@router.patch("/directories/{directory_id}")
def change(
    directory_id: int, body: DirectoryChange, machine: ApplianceDep, caller: AdminCaller
) -> Directory:
    before = directories.get(machine.engine, directory_id)
    given = body.model_dump(exclude_unset=True)
    sealed = None
    if body.settings is not None:
        checked = meant(machine, body.settings, before.settings, _checked)
        sealed = machine.keyring.seal(checked, before.settings)
        given["settings"] = masked(checked)
    after = directories.update(
        machine.engine, directory_id, settings=sealed, enabled=given.get("enabled")
    )
    _record(machine, caller.actor, "directory.change", after, **given)
    return _shown(after, directories.counts(machine.engine))


@router.delete("/directories/{directory_id}")
def delete(directory_id: int, machine: ApplianceDep, caller: AdminCaller) -> Done:
    """With all it said: nobody is in its groups any more."""
    gone = directories.get(machine.engine, directory_id)
    directories.delete(machine.engine, directory_id)
    _record(machine, caller.actor, "directory.delete", gone)
    return Done()


@router.post("/directories/{directory_id}/sync", status_code=202)
def sync(
    directory_id: int, machine: ApplianceDep, caller: AdminCaller, body: Sync | None = None
) -> Done:
    """Look at it now rather than when it is due."""
    wanted, accept = directories.get(machine.engine, directory_id), bool(body and body.accept)
    directories.run_now(machine.engine, directory_id, accept=accept)
    held = dict(wanted.held or {}) if accept else None
    _record(machine, caller.actor, "directory.sync", wanted, accept=accept, held=held)
    return Done()


@router.get("/directory-entries")
def entries(
    machine: ApplianceDep,
    caller: AdminCaller,
    search: Annotated[
        str, Query(max_length=200, description="Part of a name, DN, SID, address or of who it is.")
    ] = "",
    problems: bool = False,
    kind: Literal["", "person", "group"] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Entries:
    found = identities.entries(
        machine.engine, search, problems=problems, kind=kind, limit=limit, offset=offset
    )
    total = identities.count(machine.engine, search, problems=problems, kind=kind)
    return Entries(entries=[Entry.model_validate(one) for one in found], total=total)


@router.get("/directory-entries/{guid}")
def entry(guid: str, machine: ApplianceDep, caller: AdminCaller) -> Around:
    """Who is in a group, and in which groups somebody is."""
    found = identities.around(machine.engine, guid)
    return Around(
        entry=Entry.model_validate(found.entry),
        members=[Entry.model_validate(one) for one in found.members],
        total=found.total,
        groups=[Entry.model_validate(one) for one in found.groups],
    )


@router.get("/strangers")
def unknown(
    machine: ApplianceDep,
    caller: AdminCaller,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Strangers:
    """Names that sources give in documents' access and nobody here counts as: a mapping mends that."""
    found, total = strangers.strangers(machine.engine, limit)
    return Strangers(strangers=[Stranger.model_validate(one) for one in found], total=total)


@router.get("/mappings")
def mappings(machine: ApplianceDep, caller: AdminCaller) -> Mappings:
    said = identities.mappings(machine.engine)
    return Mappings(mappings=[DirectorySaid(who=w, means=m) for w, m in sorted(said.items())])


@router.put("/mappings")
def say(body: Mapping, machine: ApplianceDep, caller: AdminCaller) -> Mappings:
    """Holds at once. What it would change is asked of `/users/{id}/sight?also=` with a node."""
    who = identities.meant(machine.engine, body.who)
    identities.say(machine.engine, who, body.means)
    identities.join(machine.engine)
    detail = {"who": who, "named": body.who, "means": body.means}
    audit.record(machine.engine, caller.actor, "mapping.set", detail)
    return mappings(machine, caller)


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    return following.checked(settings).model_dump(mode="json")


def _shown(one: directories.Directory, counts: dict[int, directories.Counts]) -> Directory:
    has = counts.get(one.id, directories.Counts())
    return Directory(
        id=one.id,
        name=one.name,
        settings=masked(one.settings),
        enabled=one.enabled,
        people=has.people,
        groups=has.groups,
        joined=has.joined,
        problems=has.problems,
        problem=one.trouble,
        held=Held(**one.held) if one.held else None,
        last=Last.model_validate(one.last) if one.last else None,
        looking=one.looking,
        fresh_at=one.fresh_at,
        valid_until=one.valid_until,
        due_at=one.due_at,
    )


def _record(
    machine: Appliance, actor: str, action: str, one: directories.Directory, **detail: Any
) -> None:
    told = {"directory": one.id, "name": one.name, **detail}
    audit.record(machine.engine, actor, action, told)
