"""Permissions of items as Microsoft Graph tells of them."""

from __future__ import annotations

from typing import Any


def guid(n: int) -> str:
    return f"{n:08x}-0000-4000-8000-000000000000"


def user(upn: str, **more: Any) -> dict[str, Any]:
    """To whom a permission is given: a person, as a site knows them."""
    who = {
        "user": {"id": guid(abs(hash(upn)) % 2**31), "displayName": upn},
        "siteUser": {"id": "7", "displayName": upn, "loginName": f"i:0#.f|membership|{upn}"},
    }
    return {"roles": ["read"], "grantedToV2": who} | more


def group(id: str, **more: Any) -> dict[str, Any]:
    return {"roles": ["read"], "grantedToV2": {"group": {"id": id, "displayName": "x"}}} | more


def claim(login: str, **more: Any) -> dict[str, Any]:
    """As a group, of which a site knows the claim alone."""
    who = {"siteUser": {"id": "9", "displayName": "x", "loginName": login}}
    return {"roles": ["read"], "grantedToV2": who} | more


def site_group(id: str, title: str, **more: Any) -> dict[str, Any]:
    who = {"siteGroup": {"id": id, "displayName": title, "loginName": title}}
    return {"roles": ["write"], "grantedToV2": who} | more


def link(scope: str | None, *upns: str) -> dict[str, Any]:
    said: dict[str, Any] = {"roles": ["read"], "link": {"type": "view", "webUrl": "https://x"}}
    if scope:
        said["link"]["scope"] = scope
    if upns:
        said["grantedToIdentitiesV2"] = [user(upn)["grantedToV2"] for upn in upns]
    return said
