"""`kura doctor`: one look at everything that can be wrong, and what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text

from appliance.errors import ApplianceError
from appliance.settings import Settings

LEAST_FREE_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    said: str


def examine(settings: Settings) -> list[Check]:
    """Every check, in order; one that breaks is a check that failed."""
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("データフォルダ", folder),
        ("ディスク", disk),
        ("データベース", database),
        ("監査記録", chain),
        ("モデル", models),
        ("サンドボックス", sandbox),
        ("文字の読み取り (OCR)", ocr),
        ("取り込み元", sources),
        ("索引", index),
        ("控え", backups),
    )
    return list(_each(settings, checks))


class Bad(Exception):
    """What is wrong, for a person."""


def folder(settings: Settings) -> str:
    if not settings.data.is_dir():
        raise Bad(f"{settings.data} がありません。`kura up` が作ります。")
    mode = settings.data.stat().st_mode & 0o777
    if mode & 0o077:
        raise Bad(f"{settings.data} の権限が {mode:o} です。`chmod 700` してください。")
    return f"{settings.data}（700）"


def disk(settings: Settings) -> str:
    free = shutil.disk_usage(settings.data).free
    if free < LEAST_FREE_BYTES:
        raise Bad(f"空きが {free / 1e9:.1f} GB しかありません。")
    return f"空き {free / 1e9:.0f} GB"


def database(settings: Settings) -> str:
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
    if found != ["ok"] or broken:
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
    from appliance.inference import models

    found = [p for m in models.catalogue() for p in models.problems(m, settings.models)]
    if found:
        raise Bad(" / ".join(found))
    return f"{len(models.catalogue())} 個、ダイジェストが一致"


def sandbox(settings: Settings) -> str:
    from appliance.formats.sandbox import Sandbox

    with Sandbox(settings):  # proves its walls before it takes a file
        return "パーサーは閉じ込められています"


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
                schedule.connector(kinds, source, build.site(settings)).check()
            except ApplianceError as error:
                bad.append(f"{source.name}: {error}")
    finally:
        engine.dispose()
    if bad:
        raise Bad(" / ".join(bad))
    return f"{len(found)} 件、すべて届きます"


def index(settings: Settings) -> str:
    from appliance import build
    from appliance.store import catalog
    from appliance.store import database as db

    engine = db.connect(settings.database_url)
    try:
        wanted = catalog.counts(engine).chunks
    finally:
        engine.dispose()
    parts = build.local_indexes(settings, build.remote_embedder(settings))
    short = [f"{type(p).__name__} {len(p.ids())}" for p in parts]
    return f"文書 {wanted} 単位、保存済み {', '.join(short)}（差は起動時に追いつきます）"


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


def _each(
    settings: Settings, checks: tuple[tuple[str, Callable[[Settings], str]], ...]
) -> Iterator[Check]:
    for name, check in checks:
        try:
            yield Check(name, True, check(settings))
        except Bad as bad:
            yield Check(name, False, str(bad))
        except Exception as error:  # noqa: BLE001 - a check that breaks has found something
            yield Check(name, False, f"{type(error).__name__}: {error}"[:300])
