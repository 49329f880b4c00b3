"""`kura`: start it, ask it, look after it. Each command imports only what it needs."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from appliance import (
    cli_attest,
    cli_backup,
    cli_directory,
    cli_operate,
    cli_record,
    cli_release,
    cli_state,
    cli_usage,
    host,
)
from appliance.cli_common import AsJson
from appliance.cli_common import load as _settings
from appliance.cli_common import record as _record
from appliance.cli_common import show as _print
from appliance.cli_common import show_json as _print_json
from appliance.cli_common import source_shown as _source_shown
from appliance.cli_common import store as _store
from appliance.errors import ApplianceError, BadRequest, DigestMismatch, SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from appliance.settings import Settings
    from appliance.store.sources import Source
    from appliance.types import Principal

MISCONFIGURED = 78  # EX_CONFIG: starting again changes nothing

app = typer.Typer(
    help="蔵 (Kura): 社内文書に出典付きで答えるアプライアンス。",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
user = typer.Typer(help="アカウント。", no_args_is_help=True)
group = typer.Typer(help="グループ。", no_args_is_help=True)
source = typer.Typer(help="文書の取り込み元。", no_args_is_help=True)
models_app = typer.Typer(help="モデルのファイル。", no_args_is_help=True)
app.add_typer(user, name="user")
app.add_typer(group, name="group")
app.add_typer(source, name="source")
app.add_typer(models_app, name="models")
app.add_typer(cli_directory.directory, name="directory")
app.add_typer(cli_backup.backup, name="backup")
app.add_typer(cli_operate.alerts, name="alerts")
app.add_typer(cli_operate.maintenance, name="maintenance")
app.command("audit")(cli_operate.audit)
app.command("status")(cli_state.status)
app.command("doctor")(cli_state.doctor)
app.command("attest")(cli_attest.attest)
app.command("walls")(cli_attest.walls)
app.add_typer(cli_release.release, name="release", hidden=True)
app.command("restore")(cli_backup.restore)
app.command("migrate-db")(cli_backup.migrate_db)

As = Annotated[str, typer.Option("--as", help="この利用者として尋ねる。")]
Also = Annotated[
    list[str] | None, typer.Option("--also", help="仮にこのグループにも入れて考える (group:…)。")
]
Supervised = Annotated[int, typer.Option("--supervised", hidden=True)]


def main() -> None:
    """Every refusal is one sentence on stderr; the exit status says whether a restart helps."""
    command = cli_record.recorded(typer.main.get_command(app))
    try:
        sys.exit(command(prog_name="kura", standalone_mode=False))
    except typer.TyperException as error:
        print(cli_usage.said(error), file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except typer.Abort:
        print("kura: 中止しました。", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except ApplianceError as error:
        print(f"kura: {error}", file=sys.stderr)  # noqa: T201
        final = isinstance(error, SettingsError | DigestMismatch)
        sys.exit(MISCONFIGURED if final else 1)


def _version(wanted: bool) -> None:
    if wanted:
        from appliance import __version__

        _print(f"Kura {__version__}")
        raise typer.Exit


@app.callback()
def _kura(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="版を示して終わる。"),
    ] = False,
) -> None: ...


# --- running ----------------------------------------------------------------------


@app.command()
def up() -> None:
    """infer・web・work をまとめて起動し、見守る。"""
    import os
    import signal
    import threading

    from rich.console import Console

    from appliance import build, up
    from appliance.identity import setup

    settings = _settings()
    console = Console(stderr=True, highlight=False)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    _check_data(settings)
    with up.held(settings.data, "migrate"):
        engine = build.store(settings)
    code = setup.code(engine)
    engine.dispose()

    def say(text: str) -> None:
        if text != "ready":
            console.print(text)
            return
        console.print(f"[bold]Kura を使えます:[/] {settings.origin}")
        if code:
            console.print(f"最初の管理者の登録コード: [bold]{code}[/]")

    console.print("Kura を起動しています…（ログ: " + str(settings.log) + "）")
    cores = len(os.sched_getaffinity(0))
    status = up.run(settings, up.programs(settings, cores), say, stop)
    if status:
        sys.exit(status)


@app.command()
def web(supervised: Supervised = 0) -> None:
    """画面と API を提供する。"""
    from appliance import build, up
    from appliance.identity import setup

    settings = _begin("web", supervised)
    with up.held(settings.data, "web"):
        from appliance.api.serve import serve

        machine = build.web(settings)
        _note_walls(settings, machine.engine, "web")
        if not supervised and (code := setup.code(machine.engine)):
            print(f"最初の管理者の登録コード: {code}", file=sys.stderr)  # noqa: T201
        serve(machine)


@app.command()
def work(supervised: Supervised = 0) -> None:
    """文書を取り込む。"""
    import signal
    import threading

    settings = _begin("work", supervised)
    from appliance import build, up, worker

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with up.held(settings.data, "work", alone=False):
        workshop = build.work(settings)
        _note_walls(settings, workshop.engine, "work")
        worker.run(workshop, stop)


@app.command()
def infer(
    supervised: Supervised = 0,
    plan: Annotated[bool, typer.Option("--plan", help="必要なメモリを示して終わる。")] = False,
    beside: Annotated[
        str, typer.Option(help="--plan に、この埋め込みモデルも載せた分を含める。")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """モデルを動かす。"""
    from appliance import up
    from appliance.store import guard

    settings = _begin("infer", supervised)
    guard.check(settings.data)
    if plan:
        _show_plan(settings, beside, as_json)
        return
    with up.held(settings.data, "infer"):
        from appliance.inference import server

        server.serve(settings)


def _show_plan(settings: Settings, beside: str, as_json: bool) -> None:
    from appliance.inference import server
    from appliance.inference.plan import as_json as in_json
    from appliance.inference.plan import render

    planned = server.budget(settings, beside=beside)
    if as_json:
        _print_json(in_json(planned))
    else:
        _print(render(planned))
    if planned.refusal:
        raise typer.Exit(1)


@app.command("setup-code")
def setup_code() -> None:
    """最初の管理者の登録コードを新しく作って示す。前のコードは使えなくなる。"""
    from appliance.identity import setup

    with _store(new=True) as (_, engine):
        code = setup.code(engine)
    if code is None:
        raise BadRequest("管理者はすでに登録されています。コードは要りません。")
    _print(code)


# --- asking -----------------------------------------------------------------------


Sources = Annotated[
    list[str], typer.Option("--source", help="この名前の取り込み元だけを見る。重ねて書ける。")
]
Types = Annotated[
    list[str], typer.Option("--type", help="pdf、word、excel などの資料だけを見る。重ねて書ける。")
]
From = Annotated[str, typer.Option("--from", help="この日以降に更新された資料だけ (2026-04-01)。")]
To = Annotated[str, typer.Option("--to", help="この日以前に更新された資料だけ (2026-04-01)。")]


def _filter(sources: list[str], types: list[str], first: str, last: str) -> dict[str, object]:
    """What the API checks and says what is wrong with."""
    days = {"modified_from": first or None, "modified_to": last or None}
    return {"sources": sources, "types": types, **days}


@app.command()
def ask(
    question: str,
    as_user: As,
    sources: Sources = [],  # noqa: B006 - typer's way
    types: Types = [],  # noqa: B006
    first: From = "",
    last: To = "",
    as_json: AsJson = False,
) -> None:
    """質問に、出典を付けて答える（`kura up` の稼働中に）。"""
    within = _filter(sources, types, first, last)
    with _door(as_user, ["query"]) as door:
        answer = door("POST", "/api/v1/query", {"question": question, "filter": within})
    if as_json:
        _print_json(answer)
        return
    _print(answer["answer"])
    for citation in answer["citations"]:
        mark = "" if citation["supported"] else "（根拠を確かめられません）"
        _print(f"[{citation['marker']}] {_titled(citation)} {citation['label']}{mark}")
        if citation["quote"]:
            _print(f"    「{citation['quote']}」")
    _show_pointers("近い記述（確かではありません）:", answer["near"])
    _show_pointers("資料によって数が違います:", answer["conflicts"])


def _titled(found: dict[str, Any]) -> str:
    """A document by its title; a file inside another by where it lies."""
    return str(found["within"] or found["title"])


def _show_pointers(heading: str, pointers: list[dict[str, Any]]) -> None:
    if pointers:
        _print(heading)
    for one in pointers:
        changed = f"（{one['modified_at'][:10]} 更新）" if one["modified_at"] else ""
        _print(f"  {_titled(one)} {one['label']}{changed}")
        _print(f"    「{one['quote']}」")


@app.command()
def search(
    query: str,
    as_user: As,
    k: Annotated[int, typer.Option("-k")] = 5,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="読解モデルに並べ替えさせる。時間がかかる。")
    ] = False,
    sources: Sources = [],  # noqa: B006 - typer's way
    types: Types = [],  # noqa: B006
    first: From = "",
    last: To = "",
    why: Annotated[
        bool, typer.Option("--why", help="候補のすべてを、点数と落とした理由とともに示す。")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """答えを作らずに、根拠になる箇所だけを探す（`kura up` の稼働中に）。"""
    within = _filter(sources, types, first, last)
    wanted = {"question": query, "k": k, "rerank": rerank, "filter": within}
    with _door(as_user, ["search"]) as door:
        found = door("POST", f"/api/v1/search{'/candidates' if why else ''}", wanted)
    if as_json:
        _print_json(found)
        return
    if found["partial"]:
        _print(
            "閲覧権限をいま確かめられない情報源があり、その文書は探していません（`kura source list` で見られます）。"
        )
    if why:
        _show_candidates(found)
        return
    if not found["passages"]:
        _print("見つかりません。語句や絞り込みを変えてください。候補は --why で見られます。")
    for passage in found["passages"]:
        _print(f"{passage['n']}. {_titled(passage)} {passage['label']}（{passage['source']}）")
        _print("   " + " ".join(passage["text"].split())[:200])


_WHY = {
    "superseded": "旧版",
    "ahead": "未施行の版",
    "copy": "同じ内容",
    "crowded": "同じ資料から多すぎる",
    "beyond": "件数の外",
}


def _show_candidates(found: dict[str, Any]) -> None:
    _print(
        f"質問: {found['question']}\n"
        f"根拠の確かさ {found['relevance']:.3f}（{found['threshold']:.3f} 以上で答える）"
    )
    _print("  n  総合   類似   語句  読解  資料")
    for one in found["considered"]:
        p = one["passage"]
        read = "   - " if p["relevance"] is None else f"{p['relevance']:5.3f}"
        why = f"  ✕ {_WHY[one['dropped']]}" if one["dropped"] else ""
        scores = f"{one['fused']:6.2f} {one['dense']:6.3f} {one['keyword']:6.2f} {read}"
        _print(f"{p['n']:3} {scores}  {_titled(p)} {p['label']}{why}")


@app.command("eval")
def evaluate(
    path: Annotated[Path, typer.Argument(help="質問の一覧（JSONL）か、SQuAD 形式のファイル。")],
    questions: Annotated[
        int, typer.Option("--questions", "-n", help="抜き出す数。0 はすべて。")
    ] = 0,
    seed: Annotated[int, typer.Option(help="抜き出しの種。")] = 1,
    accept: Annotated[
        bool, typer.Option("--accept", help="前回より悪くても、今回を基準にする。")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """質問の一覧で精度を測り、前回と比べる。悪くなっていれば終了コード 3（`kura up` の稼働中に）。"""
    from appliance.evaluation import live, measures, report, scratch, sets

    settings = _settings()
    found = sets.read(path)
    with report.Bar(quiet=as_json) as bar:
        if found.paragraphs:
            said = scratch.ask(found, settings, questions, seed, bar.step)
        else:
            asked = scratch.some(found, questions, seed)
            said = live.ask(asked, lambda user: _door(user, ["query", "search"]), bar.step)
    made = measures.figures(said) | {"set": found.name, "slices": measures.slices(said)}
    kept = report.Kept(settings.data / "evaluations", found.digest, f"{questions}-{seed}")
    before = kept.last()
    worse = measures.worse(made, before) if before else []
    made |= {"worse": worse}
    if accept or not worse:
        kept.keep(made)
    if as_json:
        _print_json(made)
    else:
        _print(report.text(made, before))
    if worse and not accept:
        raise typer.Exit(3)


# --- looking after ----------------------------------------------------------------


@app.command()
def sync(
    name: Annotated[str, typer.Argument(help="取り込み元の名前。空ならすべて。")] = "",
    wait: Annotated[bool, typer.Option(help="終わるまで待つ。")] = True,
    timeout_s: Annotated[float, typer.Option("--timeout")] = 3600.0,
    anew: Annotated[bool, typer.Option("--all", help="はじめからすべてを突き合わせる。")] = False,
    as_json: AsJson = False,
) -> None:
    """文書を今すぐ取り込み直す。取り込むのは `kura work`。"""
    import time
    from datetime import UTC, datetime

    from appliance.store import sources

    with _store() as (settings, engine):
        wanted = [_source(engine, name)] if name else [s for s in sources.all(engine) if s.enabled]
        if name and not wanted[0].enabled:
            raise SettingsError(
                f"{name} は一時停止中です。`kura source resume {name}` で再開します。"
            )
        before = {s.id: s.last_run.id if s.last_run else 0 for s in wanted}
        for one in wanted:
            sources.run_now(engine, one.id, retry=True, anew=anew)
        deadline = time.monotonic() + timeout_s
        for one in wanted:
            if until := one.timing.quiet_until(datetime.now(UTC), settings.zone):
                at = f"{until.astimezone(settings.zone):%H:%M}"
                typer.echo(f"{one.name}: 取り込みを控える時間帯です。{at} に始まります。", err=True)
                before.pop(one.id)
        waiting = set(before) if wait else set()
        while waiting:
            if time.monotonic() > deadline:
                raise SettingsError(
                    "取り込みが終わりません。`kura work` が動いているか確かめてください。"
                )
            time.sleep(0.2)
            for source_id in list(waiting):
                run = sources.get(engine, source_id).last_run
                if run and run.id > before[source_id] and run.finished_at:
                    waiting.discard(source_id)
        after = [sources.get(engine, one.id) for one in wanted]
    if as_json:
        _print_json({"sources": [_source_shown(s) for s in after]})
        return
    for one in after:
        _print(_source_line(one))
    ran = [s.last_run for s in after if s.id in before]
    if wait and any(run and run.outcome != "complete" for run in ran):
        sys.exit(1)


@app.command()
def reindex(as_json: AsJson = False) -> None:
    """索引を文書と突き合わせ、違いを直す（`kura up` の稼働中に）。"""
    with _door("", ["admin"]) as door:
        done = door("POST", "/api/v1/admin/reindex", {})
    if as_json:
        _print_json(done)
    else:
        _print(f"{done['chunks']} 件中、追加 {done['added']}・削除 {done['removed']}")


@app.command()
def support(
    out: Annotated[
        Path | None, typer.Option(help="書き出す ZIP ファイル。無ければ中身をすべて表示するだけ。")
    ] = None,
) -> None:
    """開発元に送れる記録。文書の本文、名前、宛先、パスワードは入らない。送る前に中身を見られる。"""
    from appliance import support

    files = support.parts(_settings())
    if out is None:
        for name, text in files.items():
            _print(f"== {name}\n{text}")
        return
    try:
        place = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadRequest(
            f"{out} には書けません ({error.strerror})。別の名前にしてください。"
        ) from None
    with os.fdopen(place, "wb") as file:
        file.write(support.packed(files))
    _print(f"{out} に書きました: " + "、".join(files))


@app.command(name="settings")
def show_settings(as_json: AsJson = False) -> None:
    """すべての設定と、いまの値。"""
    from dataclasses import fields

    from sqlalchemy import make_url

    from appliance.store.secrets import SECRET

    settings = _settings()
    rows = [
        {
            "name": f.name,
            "value": str(getattr(settings, f.name)),
            "default": str(f.default),
            "unit": f.metadata["unit"],
            "sentence": f.metadata["sentence"],
        }
        for f in fields(settings)
    ]
    for row in rows:
        if row["name"] == "database_url":
            row["value"] = make_url(row["value"]).render_as_string(hide_password=True)
        elif SECRET.search(row["name"]) and row["name"] != "secrets_key" and row["value"]:
            row["value"] = "********"
    if as_json:
        _print_json({"settings": rows})
        return
    for row in rows:
        _print(f"{row['name']} = {row['value']} {row['unit']}\n    {row['sentence']}")


@app.command()
def openapi(out: Annotated[Path | None, typer.Argument(help="書き出すファイル。")] = None) -> None:
    """API の記述（OpenAPI）を書き出す。"""
    from appliance.api import openapi

    text = json.dumps(openapi(), ensure_ascii=False, indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, "utf-8")


# --- models -----------------------------------------------------------------------


@models_app.command("unpack")
def models_unpack() -> None:
    """パッケージからモデルを取り出し、ダイジェストを確かめる。"""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from appliance.inference import models

    settings = _settings()
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        tasks: dict[str, Any] = {}

        def shown(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=1.0)
            progress.update(tasks[what], completed=share)

        made = models.unpack(settings.models, shown)
    _print(f"取り出しました: {', '.join(made)}" if made else "モデルはすべて揃っています。")


@models_app.command("verify")
def models_verify(as_json: AsJson = False) -> None:
    """モデルのファイルのダイジェストを確かめる。"""
    from appliance.inference import models

    settings = _settings()
    found = {m.name: models.problems(m, settings.models) for m in models.catalogue()}
    if as_json:
        _print_json(found)
    else:
        for name, problems in found.items():
            _print(f"{'✗' if problems else '✓'} {name} {' '.join(problems)}")
    if any(found.values()):
        sys.exit(1)


# --- people -----------------------------------------------------------------------


@user.command("add")
def user_add(
    user_id: str,
    name: Annotated[str, typer.Option(help="表示名。")] = "",
    administrator: Annotated[bool, typer.Option("--administrator")] = False,
    in_group: Annotated[list[str] | None, typer.Option("--group")] = None,
    password_stdin: Annotated[bool, typer.Option(help="パスワードを標準入力から読む。")] = False,
    as_json: AsJson = False,
) -> None:
    """アカウントを作る。パスワードを渡さなければ、作って一度だけ表示する。"""
    from appliance.identity import accounts

    password, made = _password(password_stdin)
    with _store(new=True) as (_, engine):
        role: Literal["member", "administrator"] = "administrator" if administrator else "member"
        added = accounts.create(engine, user_id, name or user_id, role, password, in_group or [])
        _record(engine, "user.create", {"user": added.id, "role": role})
    _tell_password(added.id, password, made, as_json)


@user.command("password")
def user_password(
    user_id: str,
    password_stdin: Annotated[bool, typer.Option(help="パスワードを標準入力から読む。")] = False,
    as_json: AsJson = False,
) -> None:
    """新しいパスワードにする。その人のサインインはすべて終わる。"""
    from appliance.identity import accounts
    from appliance.identity.passwords import Door

    password, made = _password(password_stdin)
    with _store() as (settings, engine):
        accounts.change(engine, Door.of(settings, engine), user_id, password=password)
        _record(engine, "user.change", {"user": user_id, "password": "changed"})
    _tell_password(user_id, password, made, as_json)


@user.command("disable")
def user_disable(user_id: str) -> None:
    """使えなくする。サインインもキーもその瞬間に終わる。"""
    _switch(user_id, True)


@user.command("enable")
def user_enable(user_id: str) -> None:
    """また使えるようにする。"""
    _switch(user_id, False)


@user.command("list")
def user_list(as_json: AsJson = False) -> None:
    """アカウントの一覧。"""
    from appliance.store import people

    with _store() as (_, engine):
        found = people.users(engine)
    if as_json:
        rows = [
            {"id": u.id, "display_name": u.display_name, "role": u.role, "disabled": u.disabled}
            for u in found
        ]
        _print_json({"users": rows})
        return
    for one in found:
        _print(f"{one.id}\t{one.display_name}\t{one.role}{' (無効)' if one.disabled else ''}")


@user.command("sees")
def user_sees(user_id: str, also: Also = None, as_json: AsJson = False) -> None:
    """この人が何を読めるか、どのグループによるか。"""
    from appliance.store import sight

    with _store() as (_, engine):
        who = sight.person(engine, user_id, _groups(also))
        shelves = sight.shelves(engine, who)
    if as_json:
        _print_json(
            {
                "user": who.id,
                "disabled": who.disabled,
                "principals": {p: list(way) for p, way in who.held.items()},
                "sources": [asdict(one) for one in shelves],
            }
        )
        return
    _print(f"{who.id}\t{who.display_name}{' (無効)' if who.disabled else ''}")
    for way in who.held.values():
        _print(f"  {' → '.join(way)}")
    for one in shelves:
        held = " (いま誰にも見えません)" if one.withheld else ""
        _print(f"{one.source}\t{one.documents} 件中 {one.seen} 件{held}")


@app.command("who-sees")
def who_sees(
    document: Annotated[str, typer.Argument(help="文書の ID、または 取り込み元/場所。")],
    user_id: Annotated[str, typer.Option("--user", help="この人だけについて。")] = "",
    also: Also = None,
    as_json: AsJson = False,
) -> None:
    """この文書を誰が読めるか、どの決まりによるか。"""
    from appliance.store import sight

    with _store() as (_, engine):
        found = sight.watched(engine, document, user_id, _groups(also))
    if as_json:
        _print_json(
            {
                "id": found.id,
                "source": found.source,
                "title": found.title,
                "withheld": found.withheld,
                "access": [
                    {"allow": sorted(x.allow), "deny": sorted(x.deny)} for x in found.access
                ],
                "verdicts": [
                    {
                        "user": one.person.id,
                        "reads": one.reads,
                        "rulings": [
                            {"admits": r.admits, "allowed_by": r.allowed, "denied_by": r.denied}
                            for r in one.rulings
                        ],
                    }
                    for one in found.verdicts
                ],
            }
        )
        return
    _print(f"{found.source}\t{found.title}")
    if found.withheld:
        _print("取り込み元の権限がいま分からないため、誰にも見えません。")
    if not found.access:
        _print("誰が読めるか分からないため、誰にも見えません。")
    for n, layer in enumerate(found.access, 1):
        denied = f"、拒否 {', '.join(sorted(layer.deny))}" if layer.deny else ""
        _print(f"決まり {n}: 許可 {', '.join(sorted(layer.allow)) or 'なし'}{denied}")
    for one in found.verdicts:
        if not (one.reads or user_id):
            continue
        _print(f"{'○' if one.reads else '×'} {one.person.id}\t{one.person.display_name}")
        for n, ruling in enumerate(one.rulings, 1):
            ways = [f"拒否 {' → '.join(w)}" for w in ruling.denied]
            ways += [f"許可 {' → '.join(w)}" for w in ruling.allowed]
            _print(f"    決まり {n}: {'、'.join(ways) or '当てはまりません'}")
    if not user_id and not any(one.reads for one in found.verdicts):
        _print("読める人はいません。")


@group.command("set")
def group_set(name: str, members: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """グループの構成員（user:… と group:…）を、ちょうどこの通りにする。"""
    from appliance.identity import accounts

    with _store(new=True) as (_, engine):
        made = accounts.set_group(engine, name, members or [])
        _record(engine, "group.set", {"group": made.name, "members": sorted(made.members)})


@group.command("list")
def group_list(as_json: AsJson = False) -> None:
    """グループの一覧。"""
    from appliance.store import people

    with _store() as (_, engine):
        found = people.groups(engine)
    if as_json:
        _print_json({"groups": [{"name": g.name, "members": sorted(g.members)} for g in found]})
        return
    for one in found:
        _print(f"{one.name}\t{', '.join(sorted(one.members))}")


# --- sources ----------------------------------------------------------------------


@source.command("add")
def source_add(
    name: str,
    kind: str,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="名前=値（JSON か文字列）。")
    ] = None,
) -> None:
    """取り込み元を加える。例: kura source add 総務部 folder --set root=/srv/share"""
    from pydantic import ValidationError

    from appliance import build
    from appliance.errors import SourceMisconfigured
    from appliance.store import secrets, sources

    if (made := build.connectors().get(kind)) is None:
        raise SourceMisconfigured(f"種類 {kind} のコネクタはありません。")
    try:
        checked = made.Settings.model_validate(dict(map(_pair, setting or [])))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "settings"
        raise SourceMisconfigured(f"{place}: {first['msg']}") from None
    with _store(new=True) as (settings, engine):
        ring = secrets.keyring(settings.secrets_key)
        added = sources.create(engine, name, kind, ring.seal(checked.model_dump(mode="json")))
        _record(engine, "source.create", {"source": added.id, "name": name})


@source.command("list")
def source_list(as_json: AsJson = False) -> None:
    """取り込み元の一覧。"""
    from appliance.store import sources

    with _store() as (_, engine):
        found = sources.all(engine)
    if as_json:
        _print_json({"sources": [_source_shown(s) for s in found]})
        return
    for one in found:
        _print(_source_line(one))


@source.command("pause")
def source_pause(name: str) -> None:
    """取り込みを止める。取り込み中なら 30 秒以内に止まる。"""
    _enable(name, False)


@source.command("resume")
def source_resume(name: str) -> None:
    """止めた取り込みを再開する。"""
    _enable(name, True)


@source.command("run")
def source_run(name: str) -> None:
    """予定を待たずに、今すぐ見に行く。"""
    _wish(name, "source.sync", anew=False)


@source.command("resync")
def source_resync(name: str) -> None:
    """はじめからすべてを一覧し、突き合わせる。変わっていない文書は読み直さない。"""
    _wish(name, "source.resync", anew=True)


@source.command("accept")
def source_accept(name: str) -> None:
    """確認を待っている削除を、本当のこととして反映する。知らされた件数より多くは消さない。"""
    from appliance.store import sources

    with _store() as (_, engine):
        one = _source(engine, name)
        held = sources.accept(engine, one.id)
        told = {"missing": held.missing, "of": held.of}
        _record(engine, "source.accept", {"source": one.id, "name": name, **told})
    _print(f"{held.of} 件のうち {held.missing} 件の削除を、次の確認（今すぐ）で反映します。")


@source.command("timing")
def source_timing(
    name: str,
    interval_s: Annotated[int | None, typer.Option("--every", help="間隔（秒）。")] = None,
    cron: Annotated[str | None, typer.Option(help='"分 時 日 月 曜日"。')] = None,
    quiet: Annotated[str | None, typer.Option(help="読まない時間帯。例: 08:30-18:00")] = None,
    days: Annotated[str, typer.Option(help="その曜日。例: 月火水木金")] = "月火水木金土日",
    bytes_per_s: Annotated[
        int | None, typer.Option("--rate", help="毎秒のバイト数の上限。")
    ] = None,
) -> None:
    """いつ、どれだけの速さで読むかを決める。書かないものは、決まりなしに戻る。"""
    from appliance.store import sources
    from appliance.store.timing import Timing, quiet_of

    timing = Timing(interval_s, cron, quiet_of(quiet, days) if quiet else None, bytes_per_s)
    with _store() as (_, engine):
        one = _source(engine, name)
        sources.update(engine, one.id, timing=timing)
        _record(engine, "source.change", {"source": one.id, "name": name, "timing": str(timing)})


@source.command("remove")
def source_remove(name: str) -> None:
    """取り込み元と、そこから来た文書をすべて消す。"""
    from appliance.store import sources

    with _store() as (_, engine):
        gone = _source(engine, name)
        sources.delete(engine, gone.id)
        _record(engine, "source.delete", {"source": gone.id, "name": name})


# --- helpers ----------------------------------------------------------------------


def _begin(process: Literal["web", "work", "infer"], supervised: int) -> Settings:
    """What every long-running process does first, before any library is loaded."""
    import os

    from appliance import logs, settings, up
    from appliance.sovereignty import egress, own, walls

    os.umask(0o077)  # what it writes is its owner's alone
    if supervised:
        up.die_with(supervised)
    egress.switch_off()
    found = settings.load()
    logs.to(sys.stderr)
    _check_data(found)
    lacking = own.raise_walls(process)
    if found.sealed:
        walls.require(process, found.data, found.resolvers)
    egress.guard(found, process, listens=process == "web")
    egress.assert_off()
    if lacking:
        walls.log.warning("this machine lets the process raise no wall: %s", "; ".join(lacking))
    return found


def _note_walls(settings: Settings, engine: Engine, process: str) -> None:
    """A sealed start is in the audit chain; one that was refused has no database to write it to."""
    from appliance.store import audit

    if settings.sealed:
        audit.record(engine, f"process:{process}", "sealed.start", {"walls": "hold"})


def _check_data(settings: Settings) -> None:
    """Raises SettingsError for a data folder that others may read."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if settings.data.stat().st_mode & 0o007:
        raise SettingsError(
            f"データフォルダー {settings.data} をほかの利用者も読めます。"
            f"`chmod 700 {settings.data}` を実行してください。"
        )


@contextmanager
def _door(user_id: str, scopes: list[str]) -> Iterator[Any]:
    """The running machine's API, by a key that lives as long as the command.

    Whoever may write the database may have such a key; the audit record says that
    it came from the console.
    """
    import httpx2

    from appliance import tls, up
    from appliance.errors import NotVisible
    from appliance.identity import keys
    from appliance.store import keys as rows
    from appliance.store import people

    with _store() as (settings, engine):
        if not user_id:
            user_id = next(
                (
                    u.id
                    for u in people.users(engine)
                    if u.role == "administrator" and not u.disabled
                ),
                "",
            )
        try:
            key, secret = keys.issue(
                engine, "console", user_id, scopes, created_by="console", lives_s=600.0
            )
        except NotVisible:
            raise SettingsError(f"利用者 {user_id or '（管理者）'} がいません。") from None
        _record(engine, "key.issue", {"key": key.id, "user": user_id, "scopes": scopes})
        client = httpx2.Client(
            base_url=f"{'https' if settings.tls else 'http'}://{up.local_host(settings)}:{settings.web_port}",
            verify=tls.believed(settings) or True,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=300.0,
            trust_env=False,
        )

        def call(method: str, path: str, body: dict[str, Any]) -> Any:
            try:
                response = client.request(method, path, json=body)
            except httpx2.TransportError:
                raise SettingsError(
                    f"Kura が動いていません。`{host.start()}` で起動してください。"
                ) from None
            if response.is_error:
                told = response.json()
                raise ApplianceError(f"{told['message']} {told.get('detail', '')}".strip())
            return response.json()

        try:
            with client:
                yield call
        finally:
            rows.revoke(engine, key.id)


def _source(engine: Engine, name: str) -> Source:
    from appliance.store import sources

    if (found := sources.by_name(engine, name)) is None:
        raise SettingsError(f"取り込み元 {name} はありません。")
    return found


def _enable(name: str, enabled: bool) -> None:
    from appliance.store import sources

    with _store() as (_, engine):
        one = _source(engine, name)
        if one.kind == "uploads":
            raise SettingsError("アップロードの保存先は Kura が管理しています。")
        sources.update(engine, one.id, enabled=enabled)
        action = "source.resume" if enabled else "source.pause"
        _record(engine, action, {"source": one.id, "name": name})


def _wish(name: str, action: str, *, anew: bool) -> None:
    from appliance.store import sources

    with _store() as (_, engine):
        one = _source(engine, name)
        sources.run_now(engine, one.id, retry=True, anew=anew)
        _record(engine, action, {"source": one.id, "name": name})


def _source_line(one: Source) -> str:
    shown = _source_shown(one)
    counts = ", ".join(f"{name} {n}" for name, n in shown["counts"].items() if n)
    state = (shown["outcome"] or "まだ") if one.enabled else "一時停止中"
    return f"{one.name} ({one.kind}): {state} {counts} {one.trouble or ''}".strip()


def _groups(named: list[str] | None) -> list[Principal]:
    from appliance.types import Principal

    names = [one if one.startswith("group:") else f"group:{one}" for one in named or []]
    return [Principal(unicodedata.normalize("NFC", one)) for one in names]


def _switch(user_id: str, disabled: bool) -> None:
    from appliance.store import people

    with _store() as (_, engine):
        people.update(engine, user_id, disabled=disabled)
        _record(engine, "user.change", {"user": user_id, "disabled": disabled})


def _password(from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it was made here."""
    import secrets

    if from_stdin:
        return sys.stdin.readline().rstrip("\n"), False
    return secrets.token_urlsafe(12), True


def _tell_password(user_id: str, password: str, made: bool, as_json: bool) -> None:
    if as_json:
        _print_json({"id": user_id} | ({"password": password} if made else {}))
    elif made:
        _print(f"{user_id} のパスワード（表示は一度だけ）: {password}")


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text}: 名前=値 の形にしてください。")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    main()
