"""Directories (LDAP, Active Directory), and who their people and groups are here, for administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Done, Shape
from appliance.api.sources import HIDDEN, masked
from appliance.ingest import directory as following
from appliance.store import audit, directories, identities
from appliance.store.secrets import SECRET
from appliance.system import Appliance

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
    fresh_at: datetime | None
    valid_until: datetime | None = Field(description="Nobody counts as anything by it later.")
    due_at: datetime


class Directories(Shape):
    directories: list[Directory]
    settings_schema: dict[str, Any]


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
        settings_schema=following.schema(),
    )


@router.post("/directories", status_code=201)
def create(body: NewDirectory, machine: ApplianceDep, caller: AdminCaller) -> Directory:
    settings = following.checked(body.settings).model_dump(mode="json")
    made = directories.create(machine.engine, body.name, machine.keyring.seal(settings))
    _record(machine, caller.actor, "directory.create", made, settings=masked(settings))
    return _shown(made, {})


@router.patch("/directories/{directory_id}")
def change(
    directory_id: int, body: DirectoryChange, machine: ApplianceDep, caller: AdminCaller
) -> Directory:
    before = directories.get(machine.engine, directory_id)
    given = body.model_dump(exclude_unset=True)
    sealed = None
    if body.settings is not None:
        meant = machine.keyring.open(before.settings)
        merged = {
            name: meant.get(name) if value == HIDDEN and SECRET.search(name) else value
            for name, value in body.settings.items()
        }
        checked = following.checked(merged).model_dump(mode="json")
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
) -> Entries:
    found = identities.entries(machine.engine, search, problems=problems, kind=kind, limit=limit)
    return Entries(entries=[Entry.model_validate(one) for one in found])


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
        fresh_at=one.fresh_at,
        valid_until=one.valid_until,
        due_at=one.due_at,
    )


def _record(
    machine: Appliance, actor: str, action: str, one: directories.Directory, **detail: Any
) -> None:
    told = {"directory": one.id, "name": one.name, **detail}
    audit.record(machine.engine, actor, action, told)
