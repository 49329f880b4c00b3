"""API keys for internal tools, for administrators. A key acts as one named user."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Done, Shape
from appliance.identity import keys
from appliance.store import audit
from appliance.store import keys as rows

router = APIRouter(tags=["admin: keys"], prefix="/admin/keys")

Scope = Literal["query", "search", "documents", "admin"]


class Key(Shape):
    id: int
    name: str = Field(examples=["社内ポータル"])
    prefix: str = Field(description="How the key begins.", examples=["kura_Xk3f"])
    user_id: str
    scopes: list[Scope]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class Keys(Shape):
    keys: list[Key]


class NewKey(Shape):
    name: str = Field(min_length=1, max_length=100, examples=["社内ポータル"])
    user_id: str = Field(max_length=64, description="Whom the key acts as.", examples=["portal"])
    scopes: list[Scope] = Field(min_length=1, max_length=4, examples=[["query", "search"]])
    expires_in_days: int | None = Field(default=365, ge=1, le=3650)


class IssuedKey(Shape):
    key: Key
    secret: str = Field(description="Shown this once.", examples=["kura_…"])


@router.get("")
def listing(machine: ApplianceDep, caller: AdminCaller) -> Keys:
    return Keys(keys=[_shown(k) for k in rows.keys(machine.engine)])


@router.post("", status_code=201)
def issue(body: NewKey, machine: ApplianceDep, caller: AdminCaller) -> IssuedKey:
    days = body.expires_in_days
    key, secret = keys.issue(
        machine.engine,
        body.name,
        body.user_id,
        body.scopes,
        created_by=caller.user.id,
        lives_s=None if days is None else days * 86400.0,
    )
    audit.record(
        machine.engine,
        caller.actor,
        "key.issue",
        {"key": key.id, "name": body.name, "user": key.user_id, "scopes": sorted(key.scopes)},
    )
    return IssuedKey(key=_shown(key), secret=secret)


@router.delete("/{key_id}")
def revoke(key_id: int, machine: ApplianceDep, caller: AdminCaller) -> Done:
    """In effect at once, for streams under way too."""
    rows.revoke(machine.engine, key_id)
    audit.record(machine.engine, caller.actor, "key.revoke", {"key": key_id})
    return Done()


def _shown(key: rows.Key) -> Key:
    return Key(
        id=key.id,
        name=keys.name(key),
        prefix=keys.prefix(key),
        user_id=key.user_id,
        scopes=sorted(key.scopes),
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )
