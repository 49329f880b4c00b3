"""The switch of test_switch.py with the database in PostgreSQL: schemas change places instead of files."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from installer.upgrade import files, folders, record, switch
from installer.upgrade.database import Schemas
from installer.upgrade.site import Site
from tests.conftest import Cluster
from tests.installer import tiny_postgres as tiny
from tests.installer.hosts import Host
from tests.installer.hosts import host as a_host
from tests.installer.test_switch import until

pytestmark = pytest.mark.postgres

OLD, NEW = "1.0.0", "2.0.0"
HEADS = {OLD: "0011", NEW: "0013"}


@pytest.fixture
def host(cluster: Cluster) -> Iterator[Host]:
    name = f"kura_{uuid.uuid4().hex[:12]}"
    cluster.execute(f"CREATE ROLE {name} LOGIN")
    cluster.execute(f"CREATE DATABASE {name} OWNER {name}")
    url = cluster.url(name).replace(f"//{cluster.user}@", f"//{name}:geheim@")
    try:
        with a_host(KURA_DATABASE_URL=url) as made:
            for version, head in HEADS.items():
                tiny.make(made.places.release(version), version, int(head))
            made.begin(OLD)
            tiny.site(made.data, url, 11)
            made.start()
            until(lambda: made.serves() == OLD, 60)
            yield made
    finally:
        cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")
        cluster.execute(f"DROP ROLE {name}")


def ask(host: Host, query: str) -> list[Any]:
    url = host.settings["KURA_DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(query.encode())
        return [one for (one,) in done.fetchall()] if done.description else []


def schemas(host: Host) -> list[str]:
    return ask(host, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public%' ORDER BY 1")


def rows(host: Host) -> list[Any]:
    """Where each row lies, and which transaction wrote it."""
    return ask(host, "SELECT ctid::text || xmin::text || text FROM public.document ORDER BY id")


def not_mixed(host: Host) -> None:
    log = host.root / "up.log"
    assert not log.exists() or "MIXED" not in log.read_text()
    if not host.halted():
        assert ask(host, "SELECT version_num FROM public.alembic_version") == [HEADS[host.version]]


def settled(host: Host, before: list[Any]) -> None:
    not_mixed(host)
    assert not host.halted() and not record.path(host.places).exists()
    until(lambda: host.serves() == host.version, 60)
    assert (host.data / "uploads/請求書/content").read_text() == "千円"
    if host.version == OLD:
        assert rows(host) == before
    assert not (host.data / "upgrade/next").exists() and "public_next" not in schemas(host)


def test_an_upgrade_and_the_way_back(host: Host) -> None:
    before = rows(host)
    host.installer("upgrade", NEW)
    settled(host, before)
    assert host.version == NEW and schemas(host) == ["public", "public_before_1.0.0"]
    ask(host, "INSERT INTO document (text) VALUES ('後から')")
    host.installer("rollback", OLD, "--yes")
    settled(host, rows(host))
    assert host.version == OLD and "+1" in host.said
    assert ask(host, "SELECT text FROM document") == ["旅費規程"]
    _, aside, kept = schemas(host)
    assert kept == "public_before_1.0.0" and aside.startswith("public_after_2.0.0-")
    assert aside in host.said
    assert ask(host, f'SELECT text FROM "{aside}".document ORDER BY id') == ["旅費規程", "後から"]
    assert "geheim" not in host.said + host.places.log.read_text() + host.places.journal.read_text()
    host.installer("upgrade", NEW)
    assert host.version == NEW


@pytest.mark.parametrize(
    "behaviour", ["live", *(pytest.param(one, marks=pytest.mark.long) for one in ("migration", "second-migration"))]
)  # fmt: skip
def test_a_new_release_that_fails_leaves_every_row_where_it_was(host: Host, behaviour: str) -> None:
    before = rows(host)
    tiny.make(host.places.release(NEW), NEW, 13, behaviour)
    host.installer("upgrade", NEW, status=1)
    assert "Traceback" not in host.said and "失敗しました" in host.said
    assert host.version == OLD and "public_before_1.0.0" not in schemas(host)
    settled(host, before)


@pytest.mark.long
def test_three_releases_stay_and_their_schemas_with_them(host: Host) -> None:
    for n in range(2, 7):
        tiny.make(host.places.release(f"{n}.0.0"), f"{n}.0.0", 11 + n)
        host.installer("upgrade", f"{n}.0.0")
    kept = [f"public_before_{n}.0.0" for n in (3, 4, 5)]
    assert schemas(host) == ["public", *kept]
    HEADS["3.0.0"] = "0014"
    host.installer("rollback", "3.0.0", "--yes")
    assert host.version == "3.0.0"
    not_mixed(host)


def test_a_snapshot_that_somebody_dropped_is_not_gone_back_to(host: Host) -> None:
    host.installer("upgrade", NEW)
    ask(host, 'DELETE FROM "public_before_1.0.0".document')
    host.installer("rollback", "--yes", status=1)
    assert "一致しません" in host.said and host.version == NEW
    until(lambda: host.serves() == NEW, 60)
    assert "public_next" not in schemas(host)


POINTS: dict[str, tuple[Any, str, int]] = {
    "copying": (Schemas, "_copy", 1),
    "near": (Schemas, "near", 1),
    "stopped": (Site, "stop", 1),
    "refreshed": (Schemas, "fresh", 1),
    "moving noted": (record, "write", 2),
    "files moved": (files.Swap, "forward", 1),
    "exchanged": (Site, "ask", 10),
    "pointed": (switch.places, "point", 1),
    "trying noted": (record, "write", 3),
    "checked": (switch, "try_out", 1),
    "tidied": (folders, "drop_next", 2),
}
SAMPLE = {("exchanged", True)}
SOME = [
    pytest.param(p, a, marks=[] if (p, a) in SAMPLE else pytest.mark.long)
    for p in POINTS
    for a in (False, True)
]


@pytest.mark.parametrize(("point", "after"), SOME)
def test_an_upgrade_that_is_killed(host: Host, point: str, after: bool) -> None:
    before = rows(host)
    host.installer("upgrade", NEW, dies=(*POINTS[point], after), status=-signal.SIGKILL)
    if point == "exchanged":
        assert ("public_before_1.0.0" in schemas(host)) == after
    not_mixed(host)
    host.installer("recover")
    settled(host, before)
    if (point, after) not in SAMPLE:
        host.installer("upgrade", NEW)
        settled(host, before)
        assert host.version == NEW


BACK: dict[str, tuple[Any, str, int]] = {
    "prepared": (Schemas, "back", 1),
    "stopped": (Site, "stop", 1),
    "files moved": (files.Swap, "forward", 1),
    "exchanged": (Site, "ask", 6),
    "pointed": (switch.places, "point", 1),
    "checked": (switch, "try_out", 1),
}


@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", BACK)
def test_a_rollback_that_is_killed(host: Host, point: str, after: bool) -> None:
    before = rows(host)
    host.installer("upgrade", NEW)
    words = ("rollback", OLD, "--yes")
    host.installer(*words, dies=(*BACK[point], after), status=-signal.SIGKILL)
    if point == "exchanged":
        assert any("after" in one for one in schemas(host)) == after
    not_mixed(host)
    host.installer("recover")
    if host.version == NEW:
        settled(host, before)
        host.installer(*words)
    not_mixed(host)
    assert host.version == OLD and ask(host, "SELECT text FROM document") == ["旅費規程"]
    until(lambda: host.serves() == OLD, 60)


FAILED: dict[str, tuple[Any, str, int]] = {
    "back noted": (record, "write", 4),
    "files moved": (files.Swap, "forward", 2),
    "compared": (switch, "_compare", 1),
    "ended": (record, "write", 6),
}


@pytest.mark.long
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", FAILED)
def test_the_way_back_of_a_failed_upgrade_that_is_killed(
    host: Host, point: str, after: bool
) -> None:
    before = rows(host)
    tiny.make(host.places.release(NEW), NEW, 13, "live")
    end = host.installer("upgrade", NEW, dies=(*FAILED[point], after), status=None)
    assert end in (-signal.SIGKILL, 1), host.said
    not_mixed(host)
    host.installer("recover")
    settled(host, before)
    assert host.version == OLD


def test_what_the_database_lacks_is_said_before_anything_happens(host: Host) -> None:
    program = host.places.release(OLD) / "venv/bin/kura"
    text = program.read_text()
    began = time.monotonic()
    for key, value, said in (
        ("lacks", '["GRANT CREATE ON DATABASE kura TO kura;"]', "GRANT CREATE"),
        ("foreign", '["勤怠"]', "勤怠"),
        ("schema", '""', "kura restore"),
    ):
        told = f'"{key}": {value}'
        filtered = text.replace('"$@"', f'"$@" | sed \'s/"{key}": [^,]*/{told}/\'')
        program.write_text(filtered.replace("exec ", ""))
        host.installer("upgrade", NEW, status=1)
        assert said in host.said and "Traceback" not in host.said, host.said
    assert schemas(host) == ["public"] and time.monotonic() - began < 120
