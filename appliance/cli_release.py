"""`kura release …`: for `kura-installer`, which asks each release by its own code. All answer JSON."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from appliance.settings import Settings

Wait = Annotated[bool, typer.Option("--wait", help="読み込んで、標準入力の一行を待つ。")]

release = typer.Typer(help="版の入れ替え（kura-installer が使う）。", no_args_is_help=True)


@release.command()
def facts() -> None:
    """この版と、その設定と、データベースの状態。"""
    from appliance import __version__, settings
    from appliance.inference import models
    from appliance.release import database
    from appliance.store import database as store

    now = settings.load()
    path = database.path_of(now)
    embedders = [row for row in models.catalogue() if row.kind == "embedder"]
    wanted = now.embedder or models.DEFAULT_EMBEDDER
    _print_json(
        {
            "version": __version__,
            "revisions": store.revisions(),
            "embedder": wanted,
            "embedders": [row.name for row in embedders if models.there(row, now.models)],
            "dim": next((row.dim for row in embedders if row.name == wanted), 0),
            "data": now.data,
            "config": settings.file(),
            "secrets_key": now.secrets_key,
            "models": now.models,
            "log": now.log,
            "database": path or "",
            "postgresql": path is None,
            "infer_socket": now.infer_socket,
        }
        | database.state(now)
    )


@release.command()
def copy(target: str) -> None:
    """動いている間のデータベースを写す。ファイルへ。PostgreSQL ではその名前のスキーマへ。"""
    from appliance import settings
    from appliance.release import database

    now = settings.load()
    with _plain():
        if database.path_of(now):
            _print_json({"bytes": database.copy(now, Path(target))})
        else:
            _print_json({"since": database.copy_schema(now, target)})


@release.command()
def refresh(target: str, since: int, wait: Wait = False) -> None:
    """PostgreSQL の写しに、写した後の書き込みを写す。Kura を止めてから。"""
    from appliance.release import schemas

    with _engine(wait) as (_, engine):
        _print_json(schemas.refresh(engine, target, since))


@release.command()
def exchange(
    out: str,
    come: str,
    sha256: Annotated[str, typer.Option("--sha256")] = "",
    back: Annotated[bool, typer.Option("--back")] = False,
    wait: Wait = False,
) -> None:
    """PostgreSQL の二つのスキーマの中身を入れ替える。"""
    from appliance.release import schemas

    with _engine(wait) as (_, engine):
        if back:
            done = schemas.exchange_back(engine, out, come)
        else:
            done = schemas.exchange(engine, out, come, sha256)
    _print_json({"done": done})


@release.command()
def mark() -> None:
    """PostgreSQL のデータベースに書き込みがなかったかを確かめる値。"""
    from appliance.release import schemas

    with _engine() as (_, engine):
        _print_json(schemas.mark(engine))


@release.command()
def forget(names: list[str]) -> None:
    """PostgreSQL の写し（更新が残したスキーマ）を消す。"""
    from appliance.release import schemas

    with _engine() as (_, engine):
        schemas.forget(engine, names)
    _print_json({})


@release.command()
def settle(wait: Wait = False) -> None:
    """止まっている Kura のデータベースを、一つのファイルにまとめる。"""
    from appliance import settings
    from appliance.release import database

    now = settings.load()
    _when_told(wait)
    with _plain():
        state = database.state(now)
        _print_json(state | {"bytes": database.settle(now)})


@release.command()
def migrate(wait: Wait = False, again: Annotated[bool, typer.Option("--again")] = False) -> None:
    """写したデータベースを、この版のものにする。--again: 点検の済んだものをもう一度。"""
    from appliance import settings
    from appliance.release import database

    now = settings.load()
    database.prepare()
    _when_told(wait)
    with _plain():
        _print_json({"revision": database.migrate(now, look=not again)})


@release.command()
def isolate() -> None:
    """試しに動かす写しを、取り込み元から切り離す。"""
    from appliance.release import database
    from appliance.system import uploads

    with _engine() as (now, engine):
        database.isolate(engine, uploads(now))
    _print_json({})


@release.command()
def check(
    ready_s: Annotated[float, typer.Option("--ready")] = 300.0,
    within_s: Annotated[float, typer.Option("--within")] = 120.0,
    version: Annotated[str, typer.Option("--version")] = "",
    only_ready: Annotated[bool, typer.Option("--only-ready")] = False,
    wait: Wait = False,
) -> None:
    """動いている Kura に、サインイン・取り込み・質問・出典を試す。だめなら終了コード 1。"""
    from appliance.release import check as checking

    with _engine(wait) as (now, engine):
        trial = checking.Trial(now, engine, ready_s, within_s, version)
        done = checking.run(trial, _tell, only_ready=only_ready)
    ok = not done[-1].problem
    _print_json({"ok": ok, "steps": [one.__dict__ for one in done]})
    if not ok:
        raise typer.Exit(1)


@release.command()
def sweep() -> None:
    """途中で止まった点検の残りを消す。"""
    from appliance.release import check as checking

    with _engine() as (now, engine):
        checking.sweep(now, engine)
    _print_json({})


def _when_told(wait: bool) -> None:
    """What is loaded now need not be while nobody is served; a line on stdin says when it is time."""
    if wait:
        print("ready", flush=True)  # noqa: T201
        if not sys.stdin.readline():
            raise typer.Exit(1)  # whoever asked is gone


@contextmanager
def _engine(wait: bool = False) -> Iterator[tuple[Settings, Engine]]:
    """The database as it is: what is asked here never migrates one."""
    from appliance import settings
    from appliance.errors import SettingsError
    from appliance.release import database as files
    from appliance.store import database

    now = settings.load()
    _when_told(wait)
    if (path := files.path_of(now)) and not path.exists():
        raise SettingsError(f"データベース {path} がありません。")
    engine = database.connect(now.database_url)
    try:
        yield now, engine
    finally:
        engine.dispose()


@contextmanager
def _plain() -> Iterator[None]:
    """A disk that is full, or broken, is a sentence."""
    from pysqlite3.dbapi2 import Error

    from appliance.errors import BackupProblem

    try:
        yield
    except (OSError, Error) as error:
        raise BackupProblem(f"データベースを写せません: {error}") from error


def _tell(done: Any) -> None:
    sign = "✗" if done.problem else "✓"
    print(f"{sign} {done.name} {done.took_s:.1f} 秒 {done.problem}".rstrip(), file=sys.stderr)  # noqa: T201


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
