"""Maintenance as readers meet it: one sentence, when it ends, and a door for administrators."""

from __future__ import annotations

import html
from datetime import UTC, datetime

from fastapi import Request
from starlette.responses import Response

from appliance.api.shapes import Shape
from appliance.errors import Closed, NotSignedIn
from appliance.identity import sessions
from appliance.store import maintenance
from appliance.store.people import User
from appliance.system import Appliance

COOKIE = "kura_session"
LEAST_S, MOST_S, UNKNOWN_S = 60.0, 3600.0, 600.0
PAGE = """<!doctype html><html lang="ja"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>メンテナンス中 - 蔵</title></head>
<body><main><h1>メンテナンス中です</h1>
<p>{said}</p><p>{message}</p>
<p lang="en">Kura is closed for maintenance{until_en}.</p>
<p><a href="/?administrator">管理者のサインイン / Administrators</a></p></main></body></html>"""


class Maintenance(Shape):
    message: str
    until: datetime | None = None
    since: datetime


def check(machine: Appliance, user: User) -> None:
    """Raises Closed for whoever has to wait until maintenance is over."""
    if user.role != "administrator" and (now := maintenance.state(machine.engine)):
        raise Closed(f"{_when(now, machine)}{now.message}", _wait_s(now))


def shown(machine: Appliance) -> Maintenance | None:
    now = maintenance.state(machine.engine)
    return (
        None if now is None else Maintenance(message=now.message, until=now.until, since=now.since)
    )


def page(request: Request, machine: Appliance) -> Response | None:
    """What a browser gets in the place of the UI; None for an administrator, or on other days."""
    now = maintenance.state(machine.engine)
    if now is None or _is_administrator(request, machine):
        return None
    text = PAGE.format(
        said=html.escape(_when(now, machine)),
        message=html.escape(now.message),
        until_en=f" until {_clock(now.until, machine)}" if _is_ahead(now.until) else "",
    )
    headers = {
        "Retry-After": str(round(_wait_s(now))),
        "Refresh": "60",
        "Cache-Control": "no-store",
    }
    return Response(text, 503, headers, "text/html; charset=utf-8")


def _is_administrator(request: Request, machine: Appliance) -> bool:
    try:
        found = sessions.find(machine.engine, machine.settings, request.cookies.get(COOKIE, ""))
    except NotSignedIn:
        return False
    return found.user.role == "administrator"


def _when(now: maintenance.Maintenance, machine: Appliance) -> str:
    if _is_ahead(now.until):
        return f"{_clock(now.until, machine)} に終わる予定です。"
    return (
        "予定の時刻を過ぎています。もう少しお待ちください。"
        if now.until
        else "しばらくお待ちください。"
    )


def _clock(moment: datetime | None, machine: Appliance) -> str:
    assert moment is not None
    return f"{moment.astimezone(machine.settings.zone):%Y-%m-%d %H:%M}"


def _is_ahead(moment: datetime | None) -> bool:
    return moment is not None and moment > datetime.now(UTC)


def _wait_s(now: maintenance.Maintenance) -> float:
    if now.until is None or not _is_ahead(now.until):
        return UNKNOWN_S
    return min(max((now.until - datetime.now(UTC)).total_seconds(), LEAST_S), MOST_S)
