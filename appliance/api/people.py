"""Accounts and groups, for administrators."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Done, Shape
from appliance.errors import Conflict
from appliance.identity import accounts
from appliance.store import audit, people

router = APIRouter(tags=["admin: people"], prefix="/admin")

UserId = Annotated[str, Path(max_length=64)]
GroupName = Annotated[str, Path(max_length=100)]
Role = Literal["member", "administrator"]


class Account(Shape):
    id: str = Field(examples=["ito"])
    display_name: str = Field(examples=["伊藤 花子"])
    role: Role
    disabled: bool
    groups: list[str] = Field(description="Groups the account is directly in.")


class Accounts(Shape):
    users: list[Account]


class NewAccount(Shape):
    id: str = Field(max_length=64, examples=["ito"])
    display_name: str = Field(min_length=1, max_length=100, examples=["伊藤 花子"])
    role: Role = "member"
    password: str = Field(max_length=1024)
    groups: list[str] = Field(default_factory=list, max_length=1000)


class AccountChange(Shape):
    """What is left out stays. A new password, a lost role or `disabled` ends all sessions."""

    display_name: str | None = Field(default=None, min_length=1, max_length=100)
    role: Role | None = None
    disabled: bool | None = None
    password: str | None = Field(default=None, max_length=1024)


class Group(Shape):
    name: str = Field(examples=["総務部"])
    members: list[str] = Field(examples=[["user:ito", "group:総務一課"]])


class Groups(Shape):
    groups: list[Group]


class Members(Shape):
    members: list[Annotated[str, Field(pattern=r"^(user|group):.+", max_length=110)]] = Field(
        max_length=20_000
    )


@router.get("/users")
def users(machine: ApplianceDep, caller: AdminCaller) -> Accounts:
    groups = people.groups(machine.engine)
    return Accounts(users=[_account(u, groups) for u in people.users(machine.engine)])


@router.post("/users", status_code=201)
def create(body: NewAccount, machine: ApplianceDep, caller: AdminCaller) -> Account:
    made = accounts.create(
        machine.engine, body.id, body.display_name, body.role, body.password, body.groups
    )
    audit.record(
        machine.engine,
        caller.actor,
        "user.create",
        {"user": made.id, "role": made.role, "groups": body.groups},
    )
    return _account(made, people.groups(machine.engine))


@router.patch("/users/{user_id}")
def change(
    user_id: UserId, body: AccountChange, machine: ApplianceDep, caller: AdminCaller
) -> Account:
    if user_id == caller.user.id and (body.disabled or body.role == "member"):
        raise Conflict("自分自身を無効にしたり、自分の管理者権限を外したりはできません。")
    given = body.model_dump(exclude_none=True)
    after = accounts.change(machine.engine, machine.door, user_id, **given)
    if "password" in given:
        given["password"] = "changed"  # noqa: S105 - that it was, not what it is
    audit.record(machine.engine, caller.actor, "user.change", {"user": user_id, **given})
    return _account(after, people.groups(machine.engine))


@router.get("/groups")
def groups(machine: ApplianceDep, caller: AdminCaller) -> Groups:
    found = people.groups(machine.engine)
    return Groups(groups=[_group(g) for g in found])


@router.get("/groups/{name}")
def group(name: GroupName, machine: ApplianceDep, caller: AdminCaller) -> Group:
    return _group(people.group(machine.engine, name))


@router.put("/groups/{name}")
def set_members(
    name: GroupName, body: Members, machine: ApplianceDep, caller: AdminCaller
) -> Group:
    """The group with exactly these members; made when it is not there."""
    made = accounts.set_group(machine.engine, name, body.members)
    audit.record(
        machine.engine,
        caller.actor,
        "group.set",
        {"group": made.name, "members": sorted(made.members)},
    )
    return _group(made)


@router.delete("/groups/{name}")
def delete_group(name: GroupName, machine: ApplianceDep, caller: AdminCaller) -> Done:
    people.delete_group(machine.engine, name)
    audit.record(machine.engine, caller.actor, "group.delete", {"group": name})
    return Done()


def _group(group: people.Group) -> Group:
    return Group(name=group.name, members=sorted(group.members))


def _account(user: people.User, groups: list[people.Group]) -> Account:
    mine = [g.name for g in groups if f"user:{user.id}" in g.members]
    return Account(
        id=user.id,
        display_name=user.display_name,
        role=user.role,
        disabled=user.disabled,
        groups=mine,
    )
