"""What somebody may read, and by which rule, for administrators: never a character of a text."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.people import UserId
from appliance.api.shapes import Shape
from appliance.store import identities, sight
from appliance.types import Principal

router = APIRouter(tags=["admin: people"], prefix="/admin")

Also = Annotated[
    list[
        Annotated[
            str, Field(pattern=r"^(user|group|sid|list|dn[0-9]+|guid[0-9]+):.+", max_length=1000)
        ]
    ],
    Query(
        default_factory=list,
        max_length=100,
        description="Groups the person is thought to be in too, nodes of a directory's entries or names "
        "of a source they are thought to be: what would that change?",
    ),
]


class Counted(Shape):
    """Something the person counts as, and why."""

    principal: str = Field(examples=["group:営業部"])
    way: list[str] = Field(
        description="From the person on, each a member of the next.",
        examples=[["user:ito", "group:営業一課", "group:営業部"]],
    )


class Shelf(Shape):
    source: str
    documents: int = Field(description="Files inside files among them.")
    seen: int
    withheld: bool = Field(description="Nobody knows now who may read it, so nobody may.")


Names = Annotated[
    dict[str, str],
    Field(description="What a directory calls those of the ways that are its entries' nodes."),
]


class Sight(Shape):
    user: str
    display_name: str
    disabled: bool = Field(description="Who is, may read nothing.")
    principals: list[Counted]
    names: Names
    sources: list[Shelf]


class Ruling(Shape):
    """What one layer says of one person. It admits whom it allows and does not deny."""

    allow: list[str]
    deny: list[str]
    allowed_by: list[list[str]] = Field(description="Ways from the person to who is allowed.")
    denied_by: list[list[str]]
    admits: bool


class Verdict(Shape):
    user: str
    display_name: str
    disabled: bool
    reads: bool
    rulings: list[Ruling] = Field(
        description="Every layer must admit; where there is none, nobody."
    )


class Readers(Shape):
    id: str
    source: str
    title: str
    withheld: bool = Field(description="Nobody knows now who may read its source, so nobody may.")
    verdicts: list[Verdict]
    names: Names


@router.get("/users/{user_id}/sight")
def of_person(user_id: UserId, machine: ApplianceDep, caller: AdminCaller, also: Also) -> Sight:
    """All that a person counts as, and how much of each source they may read."""
    for one in also:
        if one.startswith("user:"):
            identities.free(machine.engine, one)
    who = sight.person(machine.engine, user_id, [Principal(one) for one in also])
    return Sight(
        user=who.id,
        display_name=who.display_name,
        disabled=who.disabled,
        principals=[Counted(principal=p, way=list(way)) for p, way in who.held.items()],
        names=identities.names(machine.engine, who.held),
        sources=[
            Shelf(source=x.source, documents=x.documents, seen=x.seen, withheld=x.withheld)
            for x in sight.shelves(machine.engine, who)
        ],
    )


@router.get("/readers")
def of_document(
    machine: ApplianceDep,
    caller: AdminCaller,
    document: Annotated[
        str,
        Query(max_length=8192, description='Its id, or "source/uri".', examples=["規程/旅費.md"]),
    ],
    also: Also,
    user: Annotated[str, Query(max_length=64, description="Of this person alone.")] = "",
) -> Readers:
    """Who may read a document, and what each layer of its access says. Disabled people are left out
    unless asked for."""
    found = sight.watched(machine.engine, document, user, [Principal(one) for one in also])
    return Readers(
        id=found.id,
        source=found.source,
        title=found.title,
        withheld=found.withheld,
        verdicts=[
            Verdict(
                user=one.person.id,
                display_name=one.person.display_name,
                disabled=one.person.disabled,
                reads=one.reads,
                rulings=[_ruling(r) for r in one.rulings],
            )
            for one in found.verdicts
        ],
        names=identities.names(machine.engine, {p for v in found.verdicts for p in v.person.held}),
    )


def _ruling(one: sight.Ruling) -> Ruling:
    return Ruling(
        allow=sorted(one.layer.allow),
        deny=sorted(one.layer.deny),
        allowed_by=[list(way) for way in one.allowed],
        denied_by=[list(way) for way in one.denied],
        admits=one.admits,
    )
