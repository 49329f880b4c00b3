"""`kura directory`: people and groups from Active Directory or LDAP."""

from __future__ import annotations

import getpass
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli_common import AsJson
from appliance.cli_common import store as _store
from appliance.errors import BadRequest, NotVisible, SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from appliance.store.directories import Directory

directory = typer.Typer(
    help="人とグループのディレクトリ (Active Directory、LDAP)。", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="ディレクトリの名前。空なら、一つだけのもの。")]
Set = Annotated[list[str] | None, typer.Option("--set", help="名前=値（JSON か文字列）。")]
Password = Annotated[bool, typer.Option("--password-stdin", help="パスワードを標準入力から読む。")]


@directory.command("add")
def add(name: str, setting: Set = None, password_stdin: Password = False) -> None:
    """加える。例: kura directory add 本社AD --set server=dc01.example.co.jp --set user=kura@example.co.jp --password-stdin"""
    from appliance.ingest import directory as following
    from appliance.store import directories, secrets

    given = dict(map(_pair, setting or [])) | _password(password_stdin)
    with _store(new=True) as (settings, engine):
        ring = secrets.keyring(settings.secrets_key)
        checked = following.checked(given).model_dump(mode="json")
        made = directories.create(engine, name, ring.seal(checked))
        _record(engine, "directory.create", made)


@directory.command("set")
def change(name: Name, setting: Set = None, password_stdin: Password = False) -> None:
    """設定を変える。書かないものはそのまま。"""
    from appliance.ingest import directory as following
    from appliance.store import directories, secrets

    given = dict(map(_pair, setting or [])) | _password(password_stdin)
    with _store() as (settings, engine):
        ring = secrets.keyring(settings.secrets_key)
        one = _named(engine, name)
        checked = following.checked(ring.open(one.settings) | given).model_dump(mode="json")
        sealed = ring.seal(checked, one.settings)
        directories.update(engine, one.id, settings=sealed)
        _record(engine, "directory.change", one, settings=sorted(given))


@directory.command("remove")
def remove(name: str) -> None:
    """消す。そのディレクトリのグループは、誰にも効かなくなる。"""
    from appliance.store import directories

    with _store() as (_, engine):
        one = _named(engine, name)
        directories.delete(engine, one.id)
        _record(engine, "directory.delete", one)


@directory.command("pause")
def pause(name: Name = "") -> None:
    """見に行くのを止める。止めている間、そのグループは誰にも効かない。"""
    _switch(name, enabled=False)


@directory.command("resume")
def resume(name: Name = "") -> None:
    """また見に行く。"""
    _switch(name, enabled=True)


@directory.command("check")
def check(name: Name = "") -> None:
    """つないで、何が見えるかを確かめる。何も変えない。"""
    from appliance import build
    from appliance.ingest import directory as following

    with _store() as (settings, engine):
        one = _named(engine, name)
        with following.connected(one.settings, build.site(settings)) as server:
            _print(f"{one.name}: {server.check()}")


@directory.command("sync")
def sync(
    name: Name = "",
    accept: Annotated[
        bool, typer.Option("--accept", help="確認を待っている減り方を、本当のこととして反映する。")
    ] = False,
) -> None:
    """予定を待たずに、今すぐ見に行く。"""
    from appliance.store import directories

    with _store() as (_, engine):
        one = _named(engine, name)
        if accept and not one.held:
            raise BadRequest(f"{one.name} に、確認を待っているものはありません。")
        directories.run_now(engine, one.id, accept=accept)
        _record(engine, "directory.sync", one, accept=accept, held=dict(one.held or {}))


@directory.command("status")
def status(as_json: AsJson = False) -> None:
    """いつ確かめたか、何人いるか、何が起きているか。"""
    from appliance.store import directories

    with _store() as (_, engine):
        found, counts = directories.all(engine), directories.counts(engine)
    shown = [
        {
            "name": one.name,
            "enabled": one.enabled,
            **asdict(counts.get(one.id, directories.Counts())),
            "problem": one.trouble,
            "held": one.held,
            "fresh_at": one.fresh_at,
            "valid_until": one.valid_until,
        }
        for one in found
    ]
    if as_json:
        _print_json({"directories": shown})
        return
    for one in shown:
        state = "" if one["enabled"] else " (停止中)"
        seen = f"{one['fresh_at']:%Y-%m-%d %H:%M:%S %Z}" if one["fresh_at"] else "まだ"
        _print(
            f"{one['name']}{state}: 人 {one['people']} (Kura の利用者に当たる {one['joined']})、グループ {one['groups']}、"
            f"対応の問題 {one['problems']}、最後に確かめた時刻 {seen} {one['problem'] or ''}".rstrip()
        )


@directory.command("map")
def mapping(
    who: Annotated[
        str,
        typer.Argument(
            help="名前、DN、SID、メールアドレスの一部。または取り込み元での名前 (user:…、group:…)。"
        ),
    ] = "",
    means: Annotated[
        str, typer.Argument(help="user:…、group:…、nobody。rule は手で決めたことを取り消す。")
    ] = "",
    problems: Annotated[bool, typer.Option("--problems", help="問題のあるものだけ。")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="変えずに、何が見えるようになるかを示す。")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """ディレクトリの誰が Kura の誰に当たるかを見る。means を書けば、手で決める。"""
    from appliance.store import audit, identities

    with _store() as (_, engine):
        if not means:
            found = identities.entries(engine, who, problems=problems, limit=1000)
            said = identities.mappings(engine)
            if as_json:
                _print_json({"entries": [asdict(one) for one in found], "mappings": said})
                return
            for one in found:
                how = " (手で決めた)" if one.by_hand else ""
                off = " (無効)" if one.disabled else ""
                _print(
                    f"{one.principal or '—'}{how}\t{one.name}\t{one.title}{off}\t{one.dn}\t{one.problem or ''}".rstrip()
                )
            for name, meant in sorted(said.items()):
                if not name.startswith("entry:"):
                    _print(f"{meant} (手で決めた)\t{name}")
            return
        if dry_run:
            _simulate(engine, who, means)
            return
        named = identities.meant(engine, who)
        identities.say(engine, named, None if means == "rule" else means)
        identities.join(engine)
        actor = f"console:{getpass.getuser()}"
        detail = {"who": named, "named": who, "means": means}
        audit.record(engine, actor, "mapping.set", detail)


def _simulate(engine: Engine, who: str, means: str) -> None:
    """What the person would count as besides, and see."""
    from appliance.store import identities, sight
    from appliance.types import Principal

    if not means.startswith("user:"):
        raise BadRequest("--dry-run は、利用者 (user:…) に当てるときだけ使えます。")
    named = who.startswith(("user:", "group:"))
    node = who if named else identities.find(engine, who).node
    user_id = means.removeprefix("user:")
    before, after = (sight.person(engine, user_id, also) for also in ((), (Principal(node),)))
    for principal, way in after.held.items():
        if principal not in before.held:
            _print(f"  {' → '.join(way)}")
    seen = {one.source: one.seen for one in sight.shelves(engine, before)}
    for shelf in sight.shelves(engine, after):
        _print(
            f"{shelf.source}\t{seen[shelf.source]} 件 → {shelf.seen} 件 ({shelf.documents} 件中)"
        )


def _switch(name: str, *, enabled: bool) -> None:
    from appliance.store import directories

    with _store() as (_, engine):
        one = _named(engine, name)
        directories.update(engine, one.id, enabled=enabled)
        _record(engine, "directory.resume" if enabled else "directory.pause", one)


def _named(engine: Engine, name: str) -> Directory:
    from appliance.store import directories

    if name:
        return directories.by_name(engine, name)
    found = directories.all(engine)
    if not found:
        raise NotVisible("ディレクトリはまだありません。kura directory add で加えてください。")
    if len(found) > 1:
        names = "、".join(one.name for one in found)
        raise BadRequest(f"どのディレクトリかを書いてください: {names}")
    return found[0]


def _password(from_stdin: bool) -> dict[str, str]:
    return {"password": sys.stdin.readline().rstrip("\n")} if from_stdin else {}


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text}: 名前=値 の形にしてください。")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _record(engine: Engine, action: str, one: Directory, **detail: Any) -> None:
    from appliance.store import audit

    told = {"directory": one.id, "name": one.name, **detail}
    audit.record(engine, f"console:{getpass.getuser()}", action, told)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _print_json(value: Any) -> None:
    _print(json.dumps(value, ensure_ascii=False, indent=2, default=str))
