"""With whom Kura speaks: its sources, the directories, where alerts go. Names and hosts, no secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Engine

from appliance import build
from appliance.operate import destinations
from appliance.settings import Settings
from appliance.store import alerts, directories, sources

_WAYS = {"mail": "メール", "webhook": "Webhook", "syslog": "syslog"}
_NAMING = ("host", "server")  # settings of connectors that hold a host without a scheme


def all(settings: Settings, engine: Engine) -> list[dict[str, Any]]:
    """`hosts` is empty for what lies on this machine, and for a service of one address."""
    kinds = build.connectors()
    found = [
        _peer("取り込み元", one.name, _title(kinds.get(one.kind), one.kind), _hosts(one.settings))
        for one in sources.all(engine)
    ]
    found += [
        _peer("ディレクトリ", one.name, "Active Directory、LDAP", _hosts(one.settings))
        for one in directories.all(engine)
    ]
    told = alerts.destinations(engine) | destinations.fixed(settings)
    return found + [
        _peer("通知", "", _WAYS[way], [host] if (host := _host(place)) != "local" else [])
        for way, head in destinations.HEADS.items()
        if (place := str(told.get(head, "")))
    ]


def _peer(what: str, name: str, kind: str, hosts: list[str]) -> dict[str, Any]:
    return {"what": what, "name": name, "kind": kind, "hosts": hosts}


def _title(connector: Any, kind: str) -> str:
    """The first line of a connector's docstring is what the form calls it."""
    return ((connector and connector.__doc__) or kind).strip().splitlines()[0]


def _hosts(settings: Mapping[str, Any]) -> list[str]:
    named = {
        _host(text)
        for name, value in settings.items()
        for text in _texts(value)
        if "://" in text or name in _NAMING
    }
    return sorted(named - {""})


def _texts(value: Any) -> Iterable[str]:
    return (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def _host(text: str) -> str:
    return (urlsplit(text if "://" in text else f"//{text}").hostname or "").lower()
