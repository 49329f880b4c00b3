"""Damage made for real: it is told, mended when asked, and search is right again."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pysqlite3
import pytest
from sqlalchemy import Engine, text

from appliance import build, up
from appliance.ingest import again, kept
from appliance.ingest.sync import sync
from appliance.operate import repair
from appliance.operate.repair import Bench
from appliance.search.follow import Follower
from appliance.search.scope import ScopeMap
from appliance.settings import Settings
from appliance.store import catalog, sources
from appliance.store import repair as rows
from appliance.system import Appliance
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from appliance.types import Document, RawFile
from tests import whole
from tests.api import conftest as api
from tests.api.conftest import Person

cheap_hashes, settings, machine = api.cheap_hashes, api.settings, api.machine
model, client, person, ito, sato = api.model, api.client, api.person, api.ito, api.sato

INNER = "書庫.zip"


@pytest.fixture
def bench(machine: Appliance) -> Bench:
    """The site of the API's tests, its indexes saved, nothing wrong."""
    machine.follower.save()
    dim = machine.embedder.dim
    made = Bench(
        machine.settings,
        machine.engine,
        dim,
        lambda: build.local_indexes(machine.settings, HashEmbedder()),
        lambda: up.held(machine.settings.data, "web"),
    )
    assert list(repair.find(made)) == []
    return made


def damage(engine: Engine, *statements: str) -> None:
    """Past Kura: a connection that asks nobody whether rows belong together."""
    raw = pysqlite3.dbapi2.connect(engine.url.database)
    for one in statements:
        raw.execute(one)
    raw.commit()
    raw.close()


def parse(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"


def work(machine: Appliance) -> None:
    """What `kura work` does next, and `kura web` after it."""
    connector = MemoryConnector(dict(api.FILES))
    given = (machine.engine, lambda source: connector, machine.embedder, parse, machine.settings)
    while again.look(*given, api.threading.Event()):
        pass
    source = sources.by_name(machine.engine, "共有フォルダ")
    assert source
    sync(machine.engine, source, connector, machine.embedder, parse, machine.settings)
    machine.follower.catch_up()


def mended(bench: Bench, machine: Appliance, ito: Person, sato: Person) -> list[str]:
    """Dry first: told and not touched. Then mended, well, and found by those who may read it."""
    before = _everything(bench.engine)
    told = [one.name for one in repair.find(bench)]
    assert told and _everything(bench.engine) == before
    done = list(repair.mend(bench))
    assert [one.name for one in done] == told and all(one.done for one in done)
    assert list(repair.find(bench)) == []
    work(machine)
    assert list(repair.find(bench)) == []
    whole.check(bench.engine)
    assert found(ito) == {"旅費規程.txt"} and found(sato) == {"旅費規程.txt", "役員報酬.txt"}
    return told


def found(one: Person) -> set[str]:
    said = set()
    for question in ("出張の宿泊費", "役員報酬"):
        answer = one.http.post("/api/v1/search", json={"question": question, "k": 5})
        assert answer.status_code == 200
        said |= {p["title"] for p in answer.json()["passages"]}
    return said


def _everything(engine: Engine) -> list[Any]:
    tables = ("document", "chunk", "point", "body", "wording", "access", "change", "source")
    with engine.connect() as raw:
        return [raw.execute(text(f"SELECT * FROM {t} ORDER BY 1")).all() for t in tables]


DAMAGES: dict[str, tuple[str, ...]] = {
    "orphans": (
        'INSERT INTO chunk (document_id, start, "end", parent_start, parent_end, heading, label, point_id)'
        " SELECT 'nobody', start, \"end\", parent_start, parent_end, heading, label, point_id FROM chunk",
        "INSERT INTO history (document_id, at, kind, detail, actor) VALUES ('gone', '2026-01-01', 'x', '', '')",
    ),
    "no body": (
        "DELETE FROM body WHERE document_id IN (SELECT id FROM document WHERE title LIKE '旅費%')",
    ),
    "no chunks": ("DELETE FROM chunk",),
    "no text": ("DELETE FROM wording",),
    "no vectors": ("DELETE FROM point",),
    "a text of nobody": (
        "INSERT INTO wording (digest, text, marks, pages) VALUES (x'00', 'x', '[]', '[]')",
        "INSERT INTO point (digest, vector) VALUES (x'00', x'00')",
    ),
    "short vector": ("UPDATE point SET vector = substr(vector, 1, 8)",),
    "zero vector": ("UPDATE point SET vector = zeroblob(length(vector))",),
    "odd vector": (
        "UPDATE point SET vector = CAST(zeroblob(length(vector) - 4) || x'0000c07f' AS BLOB)",
    ),
    "place": ('UPDATE chunk SET "end" = "end" + 100000',),
    "access gone": ("DELETE FROM access",),
    "access altered": ("UPDATE access SET layers = '[[[\"everyone\"],[]]]'",),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_database_is_mended(
    kind: str, bench: Bench, machine: Appliance, ito: Person, sato: Person
) -> None:
    damage(bench.engine, *DAMAGES[kind])
    assert mended(bench, machine, ito, sato)


def test_a_sample_is_bounded_and_all_is_looked_at_when_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million chunks are not read every morning; the damage in one is found by `--full`."""
    damage(
        bench.engine,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) "
        'INSERT INTO chunk (document_id, start, "end", parent_start, parent_end, heading, label, point_id)'
        ' SELECT document_id, start, "end", parent_start, parent_end, heading, label, point_id'
        " FROM (SELECT * FROM chunk LIMIT 1), n",
    )
    monkeypatch.setattr(rows, "_BLOCK", 10)
    spans = rows._spans(bench.engine, 50)
    assert len(spans) == 5 and all(last - first < 10 for first, last in spans)
    assert len({tuple(rows._spans(bench.engine, 50)) for _ in range(5)}) > 1  # others each time
    damage(bench.engine, *DAMAGES["zero vector"])
    assert rows.broken_texts(bench.engine, bench.dim, 50)  # what is everywhere is seen in a sample
    assert set(rows.broken_texts(bench.engine, bench.dim).values()) == {"vector"}


def test_nobody_reads_what_nobody_is_known_for_until_the_source_was_asked(
    bench: Bench, machine: Appliance, ito: Person
) -> None:
    damage(bench.engine, "DELETE FROM access")
    list(repair.mend(bench))
    machine.follower.catch_up()
    assert found(ito) == set()


def test_a_document_of_no_source_goes_and_an_inner_file_has_its_holders_readers(
    bench: Bench, machine: Appliance, ito: Person, sato: Person
) -> None:
    columns = "id, source_id, uri, uri_digest, version, title, access_id, status, notes, attempts, modified_at, added_at, updated_at, outdated"
    damage(
        bench.engine,
        f"INSERT INTO document ({columns}) SELECT 'stray', 999, 'x', 'x', version, title, access_id, status, notes, attempts, modified_at, added_at, updated_at, outdated FROM document LIMIT 1",
        f"INSERT INTO document (parent_id, inside, {columns}) SELECT id, 'a.txt', 'inner', source_id, uri || ' › a.txt', 'y', version, title, (SELECT max(id) FROM access), 'problem', notes, attempts, modified_at, added_at, updated_at, outdated FROM document WHERE title LIKE '旅費%' AND id != 'stray'",
    )
    wrong = {one.name for one in repair.find(bench)}
    assert {"属さない行", "読める人"} <= wrong
    assert all(one.done for one in repair.mend(bench))
    with bench.engine.connect() as raw:
        assert raw.execute(text("SELECT count(*) FROM document WHERE id = 'stray'")).scalar() == 0
        same = "SELECT count(DISTINCT access_id) FROM document WHERE title LIKE '旅費%' AND id != 'stray'"
        assert raw.execute(text(same)).scalar() == 1
    assert list(repair.find(bench)) == []


# --- indexes ----------------------------------------------------------------------------


def spoil(path: Path) -> None:
    files = [p for p in path.rglob("generation-*/*") if p.is_file() and p.stat().st_size > 10]
    largest = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    largest.unlink()  # a link may hold the same bytes
    largest.write_bytes(data)


@pytest.mark.parametrize("name", repair.INDEXES)
def test_a_spoilt_index_is_made_anew_from_the_database(
    name: str, bench: Bench, machine: Appliance
) -> None:
    spoil(bench.settings.data / "index" / name)
    (one,) = repair.find(bench)
    assert name in one.found
    with up.held(bench.settings.data, "web"):  # `kura web` runs
        (refused,) = repair.mend(bench)
        assert not refused.done and "再起動" in refused.refused
    (done,) = repair.mend(bench)
    assert done.done and list(repair.find(bench)) == []
    for index in bench.indexes():
        assert len(index.ids()) == catalog.counts(bench.engine).chunks


def test_an_index_that_holds_something_else_is_made_anew(bench: Bench, machine: Appliance) -> None:
    from appliance.types import IndexChanges

    for index in bench.indexes():
        index.apply(IndexChanges(removed=index.ids()[:1], sequence=index.sequence))
        index.save()
    (one,) = repair.find(bench)
    assert "1 単位が足りず" in one.found
    assert all(one.done for one in repair.mend(bench))
    assert list(repair.find(bench)) == []


def test_one_that_is_only_behind_is_well(bench: Bench, machine: Appliance) -> None:
    api.take_in(machine, {**api.FILES, "新.txt": ("新しい規程", api.PUBLIC)})
    assert list(repair.find(bench)) == []


# --- files ------------------------------------------------------------------------------


def old(path: Path) -> Path:
    os.utime(path, (time.time() - 7200,) * 2)
    return path


def test_what_killed_processes_left_goes_and_nothing_else(bench: Bench) -> None:
    data = bench.settings.data
    key = bench.settings.secrets_key
    scanned = kept.folder(bench.settings)
    scanned.mkdir()
    (data / "index" / "dense" / "unfinished-00ff").mkdir()
    dead = data / "index" / "keyword" / "live-1-0000"
    dead.mkdir()
    (dead / "owner").touch()
    gone = [
        old(p)
        for p in (scanned / ("a" * 64), scanned / ".tmpx", key.with_name(f"{key.name}.1.ab"))
        if p.write_bytes(b"x" * 9) is not None
    ]
    gone[2].chmod(0o600)
    young = scanned / ("b" * 64)
    young.write_bytes(b"x")
    live = [p for p in (data / "index" / "keyword").glob("live-*") if p != dead]
    assert live
    assert len(list(repair.find(bench))) == 3
    assert all(one.done for one in repair.mend(bench))
    assert not any(p.exists() for p in gone) and not dead.exists()
    assert young.exists() and key.exists() and all(p.exists() for p in live)
    assert list(repair.find(bench)) == []


def test_what_others_may_read_is_closed(bench: Bench, tmp_path: Path) -> None:
    data = bench.settings.data
    (data / "kura.toml").write_text("")
    for path, mode in (
        (data, 0o755),
        (data / "kura.toml", 0o644),
        (bench.settings.secrets_key, 0o640),
    ):
        path.chmod(mode)
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o644)
    (data / "link").symlink_to(outside)
    assert len(list(repair.find(bench))) == 3
    assert all(one.done for one in repair.mend(bench))
    modes = [
        p.stat().st_mode & 0o777 for p in (data, data / "kura.toml", bench.settings.secrets_key)
    ]
    assert modes == [0o700, 0o600, 0o600] and outside.stat().st_mode & 0o777 == 0o644


def test_uploads_without_a_document_are_listed_again(bench: Bench) -> None:
    folder = bench.settings.data / "uploads" / "abc"
    folder.mkdir(parents=True)
    old(folder)
    source = next(s for s in sources.all(bench.engine) if s.kind == "uploads")
    owner = sources.lease(bench.engine, "w", 60.0, "uploads", bench.settings.zone)
    assert owner
    sources.release(bench.engine, source.id, "w", owner.due_at, problem=None, failures=0)
    (one,) = repair.find(bench)
    assert "1 件は文書がありません" in one.found
    assert [one.done for one in repair.mend(bench)] == [True]
    assert list(repair.find(bench)) == []


def test_a_mending_that_fails_is_told_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(paths: object) -> None:
        raise OSError(28, "No space left on device")

    stale = bench.settings.secrets_key.with_name(f"{bench.settings.secrets_key.name}.1.ab")
    stale.touch(mode=0o600)
    old(stale)
    damage(
        bench.engine,
        "INSERT INTO history (document_id, at, kind, detail, actor) VALUES ('gone', '2026-01-01', 'x', '', '')",
    )
    monkeypatch.setattr(repair, "_remove", full)
    first, second = repair.mend(bench)
    assert "No space" in first.refused and second.done


def test_beside_readers_and_a_follower(bench: Bench, machine: Appliance) -> None:
    """Safe while web and work run: the follower hears of what went."""
    follower = Follower(
        bench.engine, machine.indexes, ScopeMap(), Settings(data=bench.settings.data)
    )
    follower.reconcile()
    damage(bench.engine, *DAMAGES["short vector"])
    assert all(one.done for one in repair.mend(bench))
    follower.catch_up()
    assert all(len(index.ids()) == 0 for index in machine.indexes)
