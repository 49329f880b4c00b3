"""`kura backup`, `kura restore`, `kura migrate-db`."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance import host
from appliance.cli_common import AsJson
from appliance.cli_common import load as _settings
from appliance.cli_common import show as _print
from appliance.cli_common import show_json as _print_json
from appliance.cli_common import who as _who
from appliance.errors import ApplianceError, BackupProblem, Conflict, DigestMismatch

if TYPE_CHECKING:
    from appliance.backup.vault import Manifest
    from appliance.settings import Settings

backup = typer.Typer(help="控え（バックアップ）。", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Argument(help="控えのフォルダー。空なら設定 backup_folder。")]
At = Annotated[str, typer.Option("--at", help="控えの名前。空なら最新。")]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="秘密鍵のファイル。- は標準入力。なければ尋ねる。")
]

WhoseSite = Annotated[
    str,
    typer.Option(
        "--site",
        help="控えを作ったサイトの指紋、または site.pub。空なら鍵のファイルの site: の行か、このマシンのもの。",
    ),
]
AnySite = Annotated[
    bool,
    typer.Option("--any-site", help="どのサイトが作ったかを確かめない（署名のない古い控えにも）。"),
]

PROCESSES = ("up", "web", "infer", "work")


# --- backups ------------------------------------------------------------------------


@backup.command("key")
def make_key(as_json: AsJson = False) -> None:
    """鍵の組を作り、秘密鍵を一度だけ表示する。どこにも書き込まない。"""
    from appliance.backup import seal
    from appliance.store import signing

    now = _settings()
    whose = ""
    if now.data.is_dir() and now.data.stat().st_uid == os.geteuid():  # root's would lock Kura out
        site_key = signing.key(now.data / signing.FOLDER)
        whose = signing.fingerprint(site_key.public_key())
    secret, recipient = seal.new_key()
    if as_json:
        _print_json({"secret": secret, "recipient": recipient, "site": whose})
        return
    _print(
        "秘密鍵（表示は一度だけ。紙に写し、このマシンの外で保管してください。なくすと控えは開けません）:\n"
        f"{secret}\n"
        + (
            f"site: {whose}\n（このサイトが作った控えだと確かめる指紋。秘密鍵と一緒に書き写してください）\n\n"
            if whose
            else "\nデータフォルダーがまだないので、サイトの指紋は最初の `kura backup create` が示します。\n\n"
        )
        + "公開鍵（kura.toml に次の行を書いてください）:\n"
        f'backup_recipient = "{recipient}"'
    )


@backup.command("create")
def create(
    plain: Annotated[
        bool,
        typer.Option("--plain", help="暗号化せずに取る。取り込み元のパスワードの鍵は入らない。"),
    ] = False,
    new_folder: Annotated[
        bool, typer.Option("--new-folder", help="前回とは別のフォルダーに替えた。")
    ] = False,
    as_json: AsJson = False,
    scheduled: Annotated[int, typer.Option("--scheduled", hidden=True)] = 0,
) -> None:
    """控えを取る。Kura は動いたままでよい。変わっていない部分は書き直さない。"""
    from datetime import UTC, datetime

    from appliance import settings, up
    from appliance.backup import create as making
    from appliance.backup import proof, retention, schedule
    from appliance.backup.vault import Vault
    from appliance.sovereignty import egress
    from appliance.store import audit, database, guard

    if scheduled:
        up.die_with(scheduled)
        os.nice(10)
    now = settings.load()
    egress.guard(now, "backup" if scheduled else "console")
    guard.check(now.data)
    if not now.begun:
        raise BackupProblem(f"{now.data} に、控えを取るものがありません。")
    engine = database.connect(now.database_url)
    actor = "system" if scheduled else _who()
    try:
        if scheduled and not schedule.due(engine, now, datetime.now(UTC)):
            return  # another `kura work` was quicker
        try:
            made = making.create(
                now, engine, settings.file(), sealed=not plain, new_place=new_folder
            )
            gone = retention.tidy(Vault(now.backup_folder), now, datetime.now(UTC))
        except ApplianceError as error:
            if scheduled and not isinstance(error, Conflict):
                audit.record(engine, actor, "backup.fail", {"reason": str(error)})
                schedule.failed(engine, str(error))
            raise
        detail = {"backup": made.name, "sealed": made.sealed, "removed": gone}
        audit.record(engine, actor, "backup.create", detail)
        schedule.finished(engine, made)
    finally:
        engine.dispose()
    if as_json:
        _print_json(made.model_dump(mode="json") | {"removed": gone})
        return
    _print(_line(made, now))
    _print(
        f"署名したサイトの指紋（紙の秘密鍵と並べて書き留めてください）\nsite: {proof.maker(made)}"
    )
    if gone:
        _print(f"古い控えを {len(gone)} 個消しました。")
    if plain:
        _print(
            "暗号化していません。手に入れた人は文書をすべて読めます。"
            "取り込み元のパスワードは、戻した後で入れ直してください。"
        )


@backup.command("list")
def list_backups(folder: Folder = None, as_json: AsJson = False) -> None:
    """ある控えの一覧。"""
    from appliance.backup.vault import Vault

    now = _settings()
    vault = Vault(_folder(folder, now))
    read, unread = vault.sound()
    found = [manifest for manifest, _ in read]
    if as_json:
        shown = [one.model_dump(mode="json") for one in found]
        _print_json({"backups": shown, "problems": unread})
        return
    for problem in unread:
        _print(f"✗ {problem}")
    for one in found:
        _print(_line(one, now))
    if not found:
        _print("控えはまだありません。")


@backup.command("verify")
def verify(
    folder: Folder = None,
    at: At = "",
    trial: Annotated[
        bool, typer.Option("--restore", help="仮の場所に実際に戻して、数と内容を比べる。")
    ] = False,
    key: KeyFile = None,
    room: Annotated[
        Path | None, typer.Option("--room", help="仮に戻す場所。空なら一時フォルダー。")
    ] = None,
    site: WhoseSite = "",
    any_site: AnySite = False,
    as_json: AsJson = False,
) -> None:
    """控えが壊れていないか、このサイトのものか確かめる。だめなら終了コード 1。"""
    from appliance.backup import proof, read
    from appliance.backup import verify as verifying

    now = _settings()
    found = read.find(_folder(folder, now), at)
    paper = _key(key) if trial and found.manifest.sealed else lambda: ""
    text = paper()
    trusted = proof.known(now.data, site, text)
    try:
        if trusted and not any_site:
            proof.check(found.manifest, trusted)
    except BackupProblem as error:
        if folder is None:
            _note_verified(now, found.manifest.name, (str(error),))
        raise
    verdict = verifying.digests(found)
    if trial and not verdict.problems:
        opened = read.unlocked(found, lambda: text)
        try:
            verdict = verifying.on_trial(opened, room)
        except DigestMismatch as error:
            if folder is None:
                _note_verified(now, found.manifest.name, (str(error),))
            raise
    if folder is None:
        _note_verified(now, verdict.name, verdict.problems)
    if as_json:
        _print_json(
            {
                "name": verdict.name,
                "ok": not verdict.problems,
                "parts": verdict.parts,
                "restored": verdict.restored,
                "signed_by": proof.maker(found.manifest),
                "problems": list(verdict.problems),
                "rows": found.manifest.rows,
            }
        )
    elif verdict.problems:
        _print(f"✗ {verdict.name}: {len(verdict.problems)} 個の部品がだめです。")
        _print(verdict.problems[0])
    else:
        how = "戻して確かめました。" if verdict.restored else "すべての部品のダイジェストが一致。"
        _print(f"✓ {verdict.name}: {verdict.parts} 個の部品、{how}")
        if any_site or not trusted:
            _print(
                f"どのサイトが作ったかは確かめていません（指紋 {proof.maker(found.manifest) or 'なし'}）。"
            )
    if verdict.problems:
        raise typer.Exit(1)


# --- back ---------------------------------------------------------------------------


def restore(
    folder: Annotated[Path, typer.Argument(help="控えのフォルダー。")],
    at: At = "",
    key: KeyFile = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="いまのデータを脇に置いて、入れ替える。")
    ] = False,
    database_url: Annotated[
        str, typer.Option("--database-url", help="戻す先のデータベース。空ならこのマシンの設定。")
    ] = "",
    site: WhoseSite = "",
    any_site: AnySite = False,
    as_json: AsJson = False,
) -> None:
    """控えから戻す。空のデータフォルダーに、または --replace で入れ替える。"""
    from appliance.backup import proof, read
    from appliance.backup import restore as restoring

    now = _settings()
    found = read.find(folder.absolute(), at)
    read.check_version(found)
    paper = _key(key) if found.manifest.sealed else lambda: ""
    text = paper()
    opened = read.unlocked(found, lambda: text)
    if not any_site:
        proof.check(found.manifest, proof.known(now.data, site, text))
    with _stopped(now):
        done = restoring.restore(
            opened, now.data, database_url or now.database_url, replace=replace, actor=_who()
        )
    rows = found.manifest.rows
    if as_json:
        shown = {"name": done.name, "folder": str(done.folder), "rows": rows}
        aside = str(done.aside) if done.aside else None
        _print_json(shown | {"aside": aside, "aside_schema": done.aside_schema or None})
        return
    if not done.name:
        _print(f"途中で止まっていた前回の作業を終えました: {done.folder}")
    else:
        _print(
            f"控え {done.name} を戻しました: 文書 {rows['document']} 件、利用者 {rows['user']} 人"
        )
    if done.aside:
        _print(f"それまでのデータは {done.aside} にあります。要らなくなったら消してください。")
    if done.aside_schema:
        _print(f"それまでの表は PostgreSQL のスキーマ {done.aside_schema} にあります。")
    if not now.models.is_dir():
        _print("モデルがありません。`kura models unpack` を実行してください。")
    _print(
        "控えの後に変えた利用者・グループ・権限は戻っていません。"
        f"確かめてから `{host.start()}` で起動してください。"
        "全員がサインインし直します。"
    )


def migrate_db(
    origin: Annotated[str, typer.Argument(metavar="FROM", help="いまのデータベースの URL。")],
    target: Annotated[str, typer.Argument(metavar="TO", help="移す先の URL。空であること。")],
    as_json: AsJson = False,
) -> None:
    """データベースを SQLite と PostgreSQL の間で移し、全部の表を比べる（Kura を止めて）。"""
    from sqlalchemy import make_url

    from appliance.backup import move
    from appliance.sovereignty import egress

    now = _settings()
    for url in (origin, target):
        if database := make_url(url).host:
            egress.reach(database)
    with _stopped(now):
        rows = move.move(origin, target, _who())
    if as_json:
        _print_json({"rows": rows})
        return
    shown = make_url(target).render_as_string(hide_password=True)
    _print(f"{len(rows)} 個の表、{sum(rows.values())} 行を移し、すべて一致しました。")
    _print(
        f"kura.toml の database_url を {shown} にしてから起動してください。元のデータベースはそのままです。"
    )


# --- helpers ------------------------------------------------------------------------


def _folder(given: Path | None, now: Settings) -> Path:
    if given is not None:
        return given.absolute()
    if now.backup_folder == Path():
        raise BackupProblem("控えのフォルダーを渡すか、設定 backup_folder に書いてください。")
    return now.backup_folder


def _note_verified(now: Settings, name: str, problems: tuple[str, ...]) -> None:
    """An alert says when backups have not been verified for long."""
    from appliance.backup import schedule
    from appliance.store import database

    if now.begun:
        engine = database.connect(now.database_url)
        try:
            schedule.verified(engine, name, problems[0] if problems else "")
        finally:
            engine.dispose()


def _key(path: Path | None) -> Callable[[], str]:
    def read() -> str:
        if path is None:
            if not sys.stdin.isatty():
                raise BackupProblem(
                    "この控えは暗号化されています。秘密鍵を --key で渡してください（- は標準入力）。"
                )
            return getpass.getpass("秘密鍵 (AGE-SECRET-KEY-…): ")
        if str(path) == "-":
            return sys.stdin.read(10_000)
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise BackupProblem(f"鍵のファイル {path} を読めません。") from None

    return read


@contextmanager
def _stopped(now: Settings) -> Iterator[None]:
    """Nothing of Kura runs on the data folder meanwhile. Raises Conflict, SettingsError."""
    from appliance import up
    from appliance.store import guard

    guard.check(now.data)

    with ExitStack() as locks:
        for name in PROCESSES if now.data.is_dir() else ():
            locks.enter_context(up.held(now.data, name))
        yield


def _line(one: Manifest, now: Settings) -> str:
    at = f"{one.made_at.astimezone(now.zone):%Y-%m-%d %H:%M}"
    plain = ("" if one.sealed else "\t暗号化なし") + ("" if one.signed_by else "\t署名なし")
    return (
        f"{one.name}\t{at}\t文書 {one.rows.get('document', 0)}\t{one.stored_bytes / 1e6:.1f} MB"
        f"（新しい分 {one.new_bytes / 1e6:.1f} MB）{plain}"
    )
