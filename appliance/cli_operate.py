"""`kura alerts`, `kura maintenance`, `kura audit`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli_common import AsJson, record, show, show_json, store, who
from appliance.errors import BadRequest

if TYPE_CHECKING:
    from appliance.settings import Settings
    from appliance.store.maintenance import Maintenance

alerts = typer.Typer(help="通知（メール、Webhook、syslog）。", no_args_is_help=True)
maintenance = typer.Typer(help="メンテナンス。", no_args_is_help=True)

WAYS = {"mail": "メール", "webhook": "Webhook", "syslog": "syslog"}


# --- alerts -------------------------------------------------------------------------


@alerts.command("list")
def list_alerts(as_json: AsJson = False) -> None:
    """いまの異常と、通知の届き具合。"""
    from appliance import build
    from appliance.operate import destinations
    from appliance.store import alerts as kept

    with store() as (settings, engine):
        state = kept.read(engine)
        ways, broken = destinations.channels(engine, settings, build.site(settings))
    boxes = {name: state.outboxes.get(name, kept.Outbox()) for name in (*ways, *broken)}
    told = {key: one for key, one in state.open.items() if one.told_at}
    if as_json:
        show_json(
            {
                "looked_at": state.looked_at,
                "open": [{"key": key, **vars(one)} for key, one in told.items()],
                "ways": {
                    name: {
                        "waiting": len(box.waiting) + len(box.sending),
                        "sent_at": box.sent_at,
                        "problem": broken.get(name) or box.problem or None,
                    }
                    for name, box in boxes.items()
                },
            }
        )
        return
    if not told:
        show("異常はありません。")
    for one in told.values():
        mark = "✗" if one.severity == "critical" else "△"
        show(f"{mark} {one.title}（{_at(one.since, settings)} から）: {one.said}")
    if not boxes:
        show("通知の送り先がありません。kura.toml か「管理 › 通知」で決めてください。")
    for name, box in boxes.items():
        sent = f"最後は {_at(box.sent_at, settings)}" if box.sent_at else "まだ送っていません"
        problem = broken.get(name) or box.problem
        show(f"{WAYS[name]}: {f'届きません。{problem}' if problem else sent}")


@alerts.command("test")
def test_alerts(as_json: AsJson = False) -> None:
    """試しの通知を、すべての送り先に今すぐ送る。届かなければ終了コード 1。"""
    import secrets

    from appliance import build
    from appliance.errors import ApplianceError
    from appliance.operate import alerts as operate
    from appliance.operate import destinations
    from appliance.operate.channels import Message

    with store() as (settings, engine):
        ways, broken = destinations.channels(engine, settings, build.site(settings))
        record(engine, "alerts.test", {"ways": sorted([*ways, *broken])})
    if not ways and not broken:
        raise BadRequest("通知の送り先がありません。kura.toml か「管理 › 通知」で決めてください。")
    said: dict[str, str] = dict(broken)
    event = operate.test(datetime.now(UTC))
    for name, way in ways.items():
        try:
            way.send(Message.of(settings, secrets.token_hex(12), [event]))
            said[name] = ""
        except ApplianceError as error:
            said[name] = str(error)
    if as_json:
        show_json({name: {"ok": not why, "problem": why or None} for name, why in said.items()})
    else:
        for name, why in said.items():
            show(f"{'✗' if why else '✓'} {WAYS[name]}: {why or '送りました。'}")
    if any(said.values()):
        raise typer.Exit(1)


# --- maintenance --------------------------------------------------------------------


@maintenance.command("on")
def maintenance_on(
    message: Annotated[str, typer.Option("--message", help="利用者に見せる言葉。")] = "",
    until: Annotated[
        str,
        typer.Option("--until", help="終わる予定。18:30、2026-12-01 18:30、または 2h や 90m。"),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """利用者を止め、取り込みも止める。管理者だけが入れる。`off` まで、再起動しても続く。"""
    from appliance.store import maintenance as kept

    with store() as (settings, engine):
        ends = moment(until, settings) if until else None
        made = kept.begin(engine, message, ends, who())
        record(engine, "maintenance.on", {"message": made.message, "until": str(made.until or "")})
    _show(made, settings, as_json)


@maintenance.command("off")
def maintenance_off() -> None:
    """利用者を入れ、取り込みを再開する。"""
    from appliance.store import maintenance as kept

    with store() as (_, engine):
        if kept.end(engine):
            record(engine, "maintenance.off", {})
            show("メンテナンスを終えました。")
        else:
            show("メンテナンス中ではありません。")


@maintenance.command("status")
def maintenance_status(as_json: AsJson = False) -> None:
    """いまメンテナンス中か。"""
    from appliance.store import maintenance as kept

    with store() as (settings, engine):
        state = kept.state(engine)
    _show(state, settings, as_json)


def moment(text: str, settings: Settings) -> datetime:
    """A time of the clock (the next such), a day with one, or so long from now. Raises BadRequest."""
    now = datetime.now(settings.zone)
    number, unit = text[:-1], text[-1:]
    if unit in ("h", "m") and number.isdecimal() and len(number) < 5:
        return now + timedelta(hours=int(number)) * (1 if unit == "h" else 1 / 60)
    for form in ("%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"):
        try:
            found = datetime.strptime(text, form)  # noqa: DTZ007 - its zone follows
        except ValueError:
            continue
        if form == "%H:%M":
            found = datetime.combine(now.date(), found.time())
            found += timedelta(days=found.replace(tzinfo=settings.zone) <= now)
        found = found.replace(tzinfo=settings.zone)
        if found <= now:
            raise BadRequest(f"--until {text} は過ぎています。")
        return found
    raise BadRequest(
        f"--until {text}: 18:30、2026-12-01 18:30、2h、90m のどれかの形にしてください。"
    )


def _show(state: Maintenance | None, settings: Settings, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {"on": state is not None}
        if state:
            shown |= {"message": state.message, "since": state.since, "until": state.until}
        show_json(shown)
    elif state is None:
        show("メンテナンス中ではありません。")
    else:
        until = f"、終わる予定は {_at(state.until, settings)}" if state.until else ""
        show(f"メンテナンス中です（{_at(state.since, settings)} から{until}）。{state.message}")


# --- the audit record ---------------------------------------------------------------


def audit(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000)] = 50,
    actor: Annotated[str, typer.Option(help="この人だけ（user:ito、console:root など）。")] = "",
    action: Annotated[str, typer.Option(help="この操作だけ（user.create など）。")] = "",
    before: Annotated[int, typer.Option(help="この番号より前。", min=0)] = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="はじめから、書き換えられていないか確かめる。")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """監査記録。新しいものから。書き換えられていれば (--verify) 終了コード 1。"""
    import json

    from appliance.store import audit as chain

    with store() as (settings, engine):
        bad = chain.verify(engine) if verify else None
        found = chain.entries(
            engine, before=before or None, limit=limit, actor=actor or None, action=action or None
        )
        head = chain.head(engine)
    if as_json:
        show_json(
            {
                "records": [
                    {
                        "sequence": one.sequence,
                        "at": one.at,
                        "actor": one.actor,
                        "action": one.action,
                        "detail": one.detail,
                    }
                    for one in found
                ],
                "head": {"sequence": head[0], "digest": head[1]},
                "first_bad": bad,
            }
        )
    else:
        for one in found:
            detail = json.dumps(one.detail, ensure_ascii=False)
            at = f"{one.at.astimezone(settings.zone):%Y-%m-%d %H:%M:%S}"
            show(_safe(f"{one.sequence}\t{at}\t{one.actor}\t{one.action}\t{detail}"))
        if verify and bad is None:
            show(f"✓ {head[0]} 件、つながっています。最後のダイジェストは {head[1]}")
        elif verify:
            show(f"✗ {bad} 番から書き換えられています。")
    if bad is not None:
        raise typer.Exit(1)


def _safe(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\u{ord(c):04x}" for c in text)


def _at(moment: datetime, settings: Settings) -> str:
    return f"{moment.astimezone(settings.zone):%Y-%m-%d %H:%M}"
