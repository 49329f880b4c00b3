"""`kura status` and `kura doctor`: is it well, what is wrong, what can be mended."""

from __future__ import annotations

import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance import host
from appliance.cli_common import AsJson, load, show, show_json, source_shown, store
from appliance.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from appliance.operate.repair import Bench
    from appliance.ports import Index
    from appliance.settings import Settings

LATE_S = 300.0  # `kura work` looks at what is wrong four times a minute


def status(as_json: AsJson = False) -> None:
    """正常か、動いているか、何が入っているか。"""
    with store() as (settings, engine):
        state = _state(settings, engine)
    concerns = state["concerns"]
    if as_json:
        show_json(state)
    else:
        for line in _page(state, settings):
            show(line)
    if state["web"] not in ("ready", "degraded"):
        sys.exit(1)
    if any(one["severity"] == "critical" for one in concerns):
        sys.exit(1)


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="直せるものを示す。--yes を付けると直す。")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="--repair で、示すだけでなく直す。")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="文書の単位とベクトルを、抜き取りではなくすべて見る。")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """どこか悪いところはないか。悪ければ終了コード 1。"""
    from appliance import doctor

    settings = load()
    if yes and not repair:
        raise SettingsError("--yes は --repair と一緒に使います。")
    if repair:
        _repair(settings, yes, as_json)
        return
    checks = doctor.examine(settings, full=full)
    if as_json:
        show_json({"ok": all(c.ok for c in checks), "checks": [c.__dict__ for c in checks]})
    else:
        for check in checks:
            show(f"{'✓' if check.ok else '✗'} {check.name}: {check.said}")
    if not all(check.ok for check in checks):
        sys.exit(1)


# --- repairs ------------------------------------------------------------------------


def _repair(settings: Settings, really: bool, as_json: bool) -> None:
    from appliance import doctor
    from appliance.cli_common import no_site, record
    from appliance.operate import repair
    from appliance.store import database

    if not settings.begun:
        raise no_site(settings)
    try:
        doctor.database(settings, only_file=True)
    except doctor.Bad as bad:
        raise SettingsError(
            f"データベースのファイルが壊れているため、何も直しません。控えから戻してください。{bad}"
        ) from None
    engine = database.connect(settings.database_url)
    found = []
    try:
        bench = make_bench(settings, engine)
        for one in (repair.mend if really else repair.find)(bench):
            found.append(one)
            if one.done:
                detail = {"name": one.name, "found": one.found, "mending": one.mending}
                record(engine, "doctor.repair", detail)
            if not as_json:
                done = "直しました" if one.done else one.refused or "まだ直していません"
                show(
                    f"{'✓' if one.done else '✗'} {one.name}: {one.found}\n    → {one.mending}: {done}"
                )
    finally:
        engine.dispose()
    if as_json:
        keys = ("name", "found", "mending", "done", "refused")
        show_json({"repairs": [{k: getattr(one, k) for k in keys} for one in found]})
    elif not found:
        show("直すものはありません。")
    elif not really:
        show("直すには `kura doctor --repair --yes` を実行してください。")
    if any(not one.done for one in found):
        sys.exit(1)


def make_bench(settings: Settings, engine: Engine) -> Bench:
    from appliance import build, up
    from appliance.operate.repair import Bench

    embedder = build.searching_embedder(settings, engine)

    def web() -> AbstractContextManager[None]:
        return up.held(settings.data, "web")

    def indexes() -> Sequence[Index]:
        return build.local_indexes(settings, embedder)

    return Bench(settings, engine, embedder.dim, indexes, web, space=embedder.name)


# --- the page -------------------------------------------------------------------------


def _state(settings: Settings, engine: Engine) -> dict[str, Any]:
    from appliance.backup import schedule
    from appliance.operate import rules
    from appliance.operate.alerts import findings
    from appliance.operate.processes import state as state_of
    from appliance.store import alerts, catalog, maintenance, scans, sources, spaces

    counts, pages, found = catalog.counts(engine), scans.counts(engine), sources.all(engine)
    now, kept, closed = datetime.now(UTC), alerts.read(engine), maintenance.state(engine)
    web, work, infer = (state_of(settings, name) for name in ("web", "work", "infer"))
    starting = "starting" in (web, work, infer)
    late = kept.looked_at is None or (now - kept.looked_at).total_seconds() > LATE_S
    late = late and not starting
    # the chain takes long to read: `kura work` and `kura doctor` do
    slow = {"audit", "web"} | ({"model"} if infer == "starting" else set())
    quick = [rule for rule in rules.RULES if rule.name not in slow]
    wrong, _ = findings(rules.Look(engine, settings, kept), quick)
    concerns = [
        {"key": key, "severity": one.severity, "title": rule.title, "said": one.said}
        for key, (rule, one) in wrong.items()
    ]
    concerns += [
        {"key": key, "severity": one.severity, "title": one.title, "said": one.said}
        for key, one in kept.open.items()
        if key == "audit"
    ]
    for name, state, what in (("web", web, "画面と API"), ("work", work, "取り込み")):
        if state in ("stopped", "stuck"):
            said = f"`kura {name}` が動いていません。`{host.start()}` で起動してください。"
            if state == "stuck":
                said = f"`kura {name}` の起動が終わりません。{host.log_of(name)}を見てください。"
            concerns.append({"key": name, "severity": "critical", "title": what, "said": said})
    if work == "running" and late:
        said = f"`kura work` が、異常がないかを見ていません。{host.log_of('work')}を見てください。"
        concerns.append({"key": "alerts", "severity": "warning", "title": "通知", "said": said})
    return {
        "well": not concerns and closed is None and not starting,
        "starting": starting,
        "concerns": concerns,
        "maintenance": closed
        and {"message": closed.message, "since": closed.since, "until": closed.until},
        "web": web,
        "work": work,
        "infer": infer,
        "address": settings.origin,
        "free_bytes": shutil.disk_usage(settings.data).free,
        "documents": counts.documents,
        "problems": counts.problems,
        "inside": counts.inside,
        "inside_problems": counts.inside_problems,
        "chunks": counts.chunks,
        "pages": {
            "on": settings.ocr,
            "waiting": pages.waiting,
            "done": pages.done,
            "failed": pages.failed,
            "per_minute": pages.per_minute,
        },
        "embedding_anew": (move := spaces.move(engine)) and asdict(move),
        "sources": [source_shown(s) for s in found],
        "backup": {
            "on": schedule.is_on(settings),
            "last": schedule.shown(engine, settings) or None,
            "problem": schedule.problem(engine, settings, now) or None,
        },
        "looked_at": kept.looked_at,
    }


def _page(state: dict[str, Any], settings: Settings) -> list[str]:
    concerns = state["concerns"]
    grave = sum(one["severity"] == "critical" for one in concerns)
    if state["maintenance"]:
        head = "メンテナンス中です。利用者は入れず、取り込みは止まっています。"
    elif not concerns and state["starting"]:
        head = "起動中です。モデルと索引を読み込んでいます（数秒〜1 分）。"
    elif not concerns:
        head = "✓ 正常です。"
    else:
        head = f"✗ 見てほしいことが {len(concerns)} 件あります（うち重大 {grave} 件）。"
    lines = [head]
    for one in sorted(concerns, key=lambda one: one["severity"] != "critical"):
        mark = "✗" if one["severity"] == "critical" else "△"
        lines.append(f"  {mark} {one['title']}: {one['said']}")
    pages, backup = state["pages"], state["backup"]
    lines += [
        "  ".join(f"{name}: {state[name]}" for name in ("web", "work", "infer"))
        + f"  {state['address']}",
        f"文書 {state['documents']}（問題あり {state['problems']}）、"
        f"圧縮ファイルや添付の中のファイル {state['inside']}（問題あり {state['inside_problems']}）、"
        f"索引の単位 {state['chunks']}、空き {state['free_bytes'] / 1e9:.1f} GB",
    ]
    if pages["waiting"] or pages["done"] or pages["failed"]:
        lines.append(
            f"文字の読み取り (OCR): 待ち {pages['waiting']} ページ、済み {pages['done']}、"
            f"読めず {pages['failed']}、毎分 {pages['per_minute']}"
            + ("" if pages["on"] else "（設定で切られています）")
        )
    if move := state["embedding_anew"]:
        meanwhile = (
            f"{move['origin']} → {move['target']}。終わるまで {move['origin']} で検索します"
            if move["origin"]
            else f"{move['target']}。まだのものは、終わるまで言葉で探します"
        )
        lines.append(f"埋め込み直し: {move['done']} / {move['total']} 単位（{meanwhile}）")
    for one in state["sources"]:
        fresh = one["fresh_at"] and datetime.fromisoformat(one["fresh_at"])
        seen = f"{fresh.astimezone(settings.zone):%Y-%m-%d %H:%M} 現在" if fresh else ""
        lines.append(
            f"{one['name']}: {seen or 'まだ全体を見ていません'} {one['problem'] or ''}".rstrip()
        )
    lines.append(f"控え: {backup['problem'] or backup['last'] or 'まだありません'}")
    return lines
