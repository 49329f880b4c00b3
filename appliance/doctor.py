"""`kura doctor`: one look at everything that can be wrong, and what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import text

from appliance import host
from appliance.errors import ApplianceError
from appliance.settings import Settings

LEAST_FREE_BYTES = 2_000_000_000
SAMPLE = 50_000  # chunks that are looked at one by one: a million would take minutes every morning
# of `operate.repair.REPAIRS`
FILES = ("ファイルの権限", "残ったファイル", "アップロード")
ROWS = ("属さない行", "読める人", "本文と単位")
Checks = tuple[tuple[str, Callable[[Settings], str]], ...]


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    said: str


def examine(settings: Settings, *, full: bool = False) -> list[Check]:
    """Every check, in order; one that breaks is a check that failed. `full`: of every chunk.

    Where no site has begun, of the machine alone.
    """
    of_machine: Checks = (
        ("データフォルダー", folder),
        ("ディスク", disk),
        ("モデル", models),
        ("サンドボックス", sandbox),
        ("封鎖の壁", walls),
        ("文字の読み取り (OCR)", ocr),
        ("証明書", certificates),
    )
    of_site: Checks = (
        ("データベース", database),
        ("監査記録", chain),
        ("取り込み元", sources),
        ("ディレクトリ", directory),
        ("ファイル", partial(whole, names=FILES)),
        ("整合", partial(whole, names=ROWS, most=None if full else SAMPLE)),
        ("索引", partial(whole, names=("索引",))),
        ("控え", backups),
    )
    return list(_each(settings, of_machine + of_site if settings.begun else of_machine))


class Bad(Exception):
    """What is wrong, for a person."""


def folder(settings: Settings) -> str:
    if not settings.begun:
        raise Bad(
            f"{settings.data} に Kura のデータがありません。はじめてなら `kura up` が作ります。"
            "そうでなければ、KURA_DATA の指す場所を確かめてください。"
        )
    mode = settings.data.stat().st_mode & 0o777
    if mode & 0o077:
        raise Bad(f"{settings.data} の権限が {mode:o} です。`chmod 700` してください。")
    return f"{settings.data}（700）"


def disk(settings: Settings) -> str:
    there = next(one for one in (settings.data, *settings.data.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE_BYTES:
        raise Bad(f"空きが {free / 1e9:.1f} GB しかありません。")
    return f"空き {free / 1e9:.0f} GB"


def database(settings: Settings, only_file: bool = False) -> str:
    """`only_file`: rows that point nowhere can be mended, a broken file cannot."""
    from appliance.store import database

    engine = database.connect(settings.database_url)
    try:
        if not database.is_sqlite(engine):
            with engine.connect() as connection:
                version = connection.execute(text("SHOW server_version")).scalar()
            return f"PostgreSQL {version}"
        with engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            version = connection.exec_driver_sql("SELECT sqlite_version()").scalar()
    finally:
        engine.dispose()
    if found != ["ok"] or (broken and not only_file):
        raise Bad(f"壊れています: {'; '.join(map(str, found))[:200]} {len(broken)} 件の参照切れ")
    return f"SQLite {version}、整合しています"


def chain(settings: Settings) -> str:
    from appliance.store import audit
    from appliance.store import database as db

    engine = db.connect(settings.database_url)
    try:
        if (bad := audit.verify(engine)) is not None:
            raise Bad(f"{bad} 番から書き換えられています。")
        return f"{audit.head(engine)[0]} 件、つながっています"
    finally:
        engine.dispose()


def models(settings: Settings) -> str:
    from appliance.inference import models, registered

    found = [p for m in models.catalogue() for p in models.problems(m, settings.models)]
    own = list(registered.names(settings))
    for name in own:
        try:
            found += models.problems(registered.named(name, settings), settings.site_models)
        except ApplianceError as error:
            found.append(str(error))
    if found:
        raise Bad(" / ".join(found))
    brought = f"（登録したもの {len(own)} 個を含む）" if own else ""
    return f"{len(models.catalogue()) + len(own)} 個、ダイジェストが一致{brought}"


def sandbox(settings: Settings) -> str:
    from appliance.formats.sandbox import Sandbox

    with Sandbox(settings):  # proves its walls before it takes a file
        return "パーサーは閉じ込められています"


def walls(settings: Settings) -> str:
    """As each process found them when it last started: this command has other walls than they."""
    from appliance.sovereignty import walls

    if not settings.sealed:
        return "封鎖モードではありません（設定 sealed）"
    found = walls.kept(settings.data)
    if open_ := [str(one["process"]) for one in found if not one["held"]]:
        raise Bad(f"{'、'.join(open_)} の壁が足りません。`kura walls` が示します。")
    if not found:
        raise Bad(f"まだ確かめていません。`{host.start()}` で起動してください。")
    return f"{'、'.join(str(one['process']) for one in found)} で、すべて立っています"


def ocr(settings: Settings) -> str:
    if not settings.ocr:
        return "設定で切られています"
    from appliance.ocr import engine

    if why := engine.problem():
        raise Bad(why)
    return "モデルは正しいものです"


def sources(settings: Settings) -> str:
    from appliance import build
    from appliance.ingest import schedule
    from appliance.store import database as db
    from appliance.store import sources

    engine, bad, kinds = db.connect(settings.database_url), [], build.connectors()
    try:
        found = [s for s in sources.all(engine) if s.enabled]
        for source in found:
            if source.withheld:
                bad.append(f"{source.name}: {sources.WITHHELD}")
            try:
                schedule.connector(kinds, source, build.site(settings, engine)).check()
            except ApplianceError as error:
                bad.append(f"{source.name}: {error}")
    finally:
        engine.dispose()
    if bad:
        raise Bad(" / ".join(bad))
    return f"{len(found)} 件、すべて届きます"


def directory(settings: Settings) -> str:
    from appliance import build
    from appliance.ingest import directory as following
    from appliance.store import database as db
    from appliance.store import directories

    engine, bad, said = db.connect(settings.database_url), [], []
    try:
        for one in directories.all(engine):
            if not one.enabled:
                continue
            if one.trouble:
                bad.append(f"{one.name}: {one.trouble}")
            try:
                with following.connected(one.settings, build.site(settings)) as server:
                    said.append(f"{one.name}: {server.check()}")
            except ApplianceError as error:
                bad.append(f"{one.name}: {error}")
    finally:
        engine.dispose()
    if bad:
        raise Bad(" / ".join(dict.fromkeys(bad)))
    return " / ".join(said) or "ありません"


def whole(settings: Settings, names: Collection[str], most: int | None = None) -> str:
    """What `kura doctor --repair` would find; of `most` chunks, where there are more."""
    from appliance import build
    from appliance.operate import repair
    from appliance.store import catalog
    from appliance.store import database as db

    engine = db.connect(settings.database_url)
    try:
        embedder = build.searching_embedder(settings, engine)
        bench = repair.Bench(
            settings,
            engine,
            embedder.dim,
            lambda: build.local_indexes(settings, embedder),
            nullcontext,
            most,
            embedder.name,
        )
        bad = [one.found for one in repair.find(bench, names)]
        counts = catalog.counts(engine)
    finally:
        engine.dispose()
    if bad:
        raise Bad(f"{' '.join(bad)} `kura doctor --repair` で直せます。")
    if names != ROWS:
        return "正しいです"
    part = f"（うち {most} 単位を見ました。--full ですべて見ます）"
    looked = part if most and counts.chunks > most else ""
    return f"文書 {counts.documents} 件、{counts.chunks} 単位{looked}"


def certificates(settings: Settings) -> str:
    from appliance.operate import rules

    look = rules.Look(None, settings)  # type: ignore[arg-type]  # asks no database
    if bad := [finding.said for finding in rules.certificates(look)]:
        raise Bad(" ".join(bad))
    return f"{len(rules.watched(settings))} 枚、期限は {rules.CERTIFICATE_DAYS} 日より先です"


def backups(settings: Settings) -> str:
    from appliance.backup import schedule
    from appliance.store import database as db

    if not schedule.is_on(settings):
        return "定期には取られていません。backup_folder に置き場を書くと、毎日取ります"
    engine = db.connect(settings.database_url)
    try:
        if why := schedule.problem(engine, settings, datetime.now(UTC)):
            raise Bad(why)
        last = schedule.shown(engine, settings)
        return f"最後は {last}" if last else "最初の控えは、次の決まった時刻に取ります"
    finally:
        engine.dispose()


def _each(settings: Settings, checks: Checks) -> Iterator[Check]:
    for name, check in checks:
        try:
            yield Check(name, True, check(settings))
        except Bad as bad:
            yield Check(name, False, str(bad))
        except Exception as error:  # noqa: BLE001 - a check that breaks has found something
            yield Check(name, False, f"{type(error).__name__}: {error}"[:300])
