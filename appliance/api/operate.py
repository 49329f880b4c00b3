"""Maintenance and alerts, for administrators."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter
from pydantic import AwareDatetime, Field

from appliance.api import closed
from appliance.api.deps import AdminCaller, ApplianceDep
from appliance.api.shapes import Done, Shape
from appliance.errors import BadRequest, Conflict
from appliance.operate import destinations as to
from appliance.store import alerts, audit, maintenance
from appliance.store.secrets import SECRET

HIDDEN = "********"
router = APIRouter(tags=["admin: operate"], prefix="/admin")

Text = Annotated[str, Field(max_length=2000)]


class NewMaintenance(Shape):
    message: str = Field("", max_length=maintenance.LONGEST, examples=["サーバーを入れ替えます。"])
    until: AwareDatetime | None = Field(None, description="What readers are told.")


class Alert(Shape):
    key: str
    severity: Literal["critical", "warning"]
    title: str
    said: str
    since: datetime


class Way(Shape):
    """By which alerts go out."""

    name: Literal["mail", "webhook", "syslog"]
    waiting: int
    sent_at: datetime | None
    problem: str | None
    fixed: bool = Field(description="kura.toml says it, so it cannot be changed here.")


class Destinations(Shape):
    """Where alerts go. A secret that is set is shown as `********`; sent back so, it stays."""

    mail_server: Text = ""
    mail_security: Literal["starttls", "tls", "none"] = "starttls"
    mail_user: Text = ""
    mail_password: Text = ""
    mail_from: Text = ""
    mail_to: Text = Field("", description="Separated by commas.")
    webhook_url: Text = ""
    webhook_secret: Text = ""
    syslog: Text = Field("", examples=["udp://log.example.co.jp:514", "local"])


class Alerts(Shape):
    looked_at: datetime | None = Field(description="By `kura work`, last.")
    open: list[Alert]
    ways: list[Way]
    destinations: Destinations
    fixed: list[str] = Field(description="Names of destinations that kura.toml says.")


@router.put("/maintenance")
def begin(body: NewMaintenance, machine: ApplianceDep, caller: AdminCaller) -> closed.Maintenance:
    """Readers are kept out and nothing is taken in, until it is ended."""
    if body.until and body.until <= datetime.now(UTC):
        raise BadRequest("until は過ぎています。")
    made = maintenance.begin(machine.engine, body.message, body.until, caller.actor)
    detail = {"message": made.message, "until": str(made.until or "")}
    audit.record(machine.engine, caller.actor, "maintenance.on", detail)
    return closed.Maintenance(message=made.message, until=made.until, since=made.since)


@router.delete("/maintenance")
def end(machine: ApplianceDep, caller: AdminCaller) -> Done:
    """Everybody may come in again."""
    if maintenance.end(machine.engine):
        audit.record(machine.engine, caller.actor, "maintenance.off", {})
    return Done()


@router.get("/alerts")
def listing(machine: ApplianceDep, caller: AdminCaller) -> Alerts:
    """What is wrong, and how the ways do by which it is told."""
    state, file = alerts.read(machine.engine), to.fixed(machine.settings)
    kept = alerts.destinations(machine.engine)
    given = {n: v for n, v in (kept | file).items() if n in to.Destinations.model_fields}
    shown = {n: HIDDEN if v and SECRET.search(n) else v for n, v in given.items()}
    ways = [way for way in to.WAYS if given.get(to.HEADS[way])]
    boxes = {way: state.outboxes.get(way, alerts.Outbox()) for way in ways}
    return Alerts(
        looked_at=state.looked_at,
        open=[
            Alert(key=k, severity=o.severity, title=o.title, said=o.said, since=o.since)
            for k, o in state.open.items()
            if o.told_at
        ],
        ways=[
            Way(
                name=way,
                waiting=len(box.waiting) + len(box.sending),
                sent_at=box.sent_at,
                problem=box.problem or None,
                fixed=to.HEADS[way] in file,
            )
            for way, box in boxes.items()
        ],
        destinations=Destinations.model_validate(shown),
        fixed=sorted(file),
    )


@router.put("/alerts/destinations")
def change(body: Destinations, machine: ApplianceDep, caller: AdminCaller) -> Alerts:
    """In effect with the next look of `kura work`. What kura.toml says cannot be changed here."""
    file = to.fixed(machine.settings)
    before = machine.keyring.open(alerts.destinations(machine.engine))
    given = body.model_dump()
    for name, value in list(given.items()):
        if name in file:
            shown = HIDDEN if SECRET.search(name) else file[name]
            if value not in ("", shown):
                raise Conflict(
                    f"{name} は kura.toml で決められているため、ここでは変えられません。"
                )
            del given[name]
        elif value == HIDDEN and SECRET.search(name):
            if not to.same_place(name, before, given):
                raise BadRequest(f"送り先を変えるときは、{name} も入れ直してください。")
            given[name] = before.get(name, "")
    to.checked(given)
    alerts.set_destinations(machine.engine, given, machine.keyring)
    told = {n: HIDDEN if v and SECRET.search(n) else v for n, v in given.items()}
    if "webhook_url" in told:  # a token may be in its path
        told["webhook_url"] = urlsplit(told["webhook_url"]).netloc
    audit.record(machine.engine, caller.actor, "alerts.change", told)
    return listing(machine, caller)


@router.post("/alerts/test", status_code=202)
def test(machine: ApplianceDep, caller: AdminCaller) -> Done:
    """`kura work` sends a message by every way within a minute; `ways` say what became of it."""
    alerts.ask_for_test(machine.engine)
    audit.record(machine.engine, caller.actor, "alerts.test", {})
    return Done()
