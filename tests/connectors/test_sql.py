"""A query against a real PostgreSQL and a real SQLite file."""

from __future__ import annotations

import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Moved,
    Principal,
    Site,
    Upsert,
)
from connectors import databases
from connectors.sql import SqlConnector, SqlSettings
from tests.connectors.rows import PASSWORD, Rows
from tests.faults.between import Fault, Pipe

CANARY = "himitsu-0451"
pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Rows]:
    one = Rows()
    yield one
    one.close()


@pytest.fixture
def rows(server: Rows) -> Rows:
    server.execute("TRUNCATE 案件")
    server.put("規程/旅費", "宿泊費は12,000円。", "group:総務部; user:ito")
    server.put("規程/就業", "始業は9時。", "本社営業")
    server.put("案内", "受付は1階: 100%。")
    return server


class TestContract(ConnectorContract):
    @pytest.fixture(params=["times", "digests"])
    def connector(self, rows: Rows, request: pytest.FixtureRequest) -> SqlConnector:
        return rows.connector(updated_column="更新" if request.param == "times" else "")


class TestContractOfAFile(ConnectorContract):
    @pytest.fixture
    def connector(self, tmp_path: Path) -> SqlConnector:
        return ledger(tmp_path)


def ledger(folder: Path, site: Site | None = None, **more: object) -> SqlConnector:
    path = folder / "台帳 #1.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE IF NOT EXISTS 問合せ (年, 番号, 質問, 回答, 更新)")
        db.execute("DELETE FROM 問合せ")
        db.executemany(
            "INSERT INTO 問合せ VALUES (?, ?, ?, ?, ?)",
            [
                (2025, "A/1", "宿泊費は?", "12,000円:上限", "2026-04-01T09:00:00+09:00"),
                (2026, "か\u3099", "始業は?", None, "2026-04-02"),
            ],
        )
    db.close()
    own: dict[str, object] = {
        "url": f"sqlite:///{path}",
        "query": "SELECT * FROM 問合せ;",
        "allow": ["everyone"],
    }
    own |= {"id_columns": ["年", "番号"], "updated_column": "更新"} | more
    return SqlConnector(SqlSettings.model_validate(own), site or Site())


def read(changes: Iterator[Change]) -> dict[str, str]:
    found = {}
    for change in changes:
        if isinstance(change, Upsert):
            with change.file.open() as stream:
                found[change.file.uri] = stream.read().decode()
    return found


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint) and changes[-1].complete
    return changes[-1].cursor


def versions(changes: list[Change]) -> dict[str, str]:
    return {c.file.uri: c.file.version for c in changes if isinstance(c, Upsert)}


def anybody(*names: str) -> Access:
    return (Layer(frozenset(map(Principal, names))),)


def test_a_row_is_a_document(rows: Rows) -> None:
    rows.put("規程/旅費", "宿泊費は12,000円。", "group:総務部", when="2026-04-01 09:00:05+09")
    assert read(rows.connector().changes(None)) == {
        "規程/旅費": "# 旅費\n\n宿泊費は12,000円。",
        "規程/就業": "# 就業\n\n始業は9時。",
        "案内": "# 案内\n\n受付は1階: 100%。",
    }
    one = rows.connector().file("規程/旅費")
    assert (one.title, one.media_type) == ("旅費", "text/markdown")
    assert one.modified_at == datetime(2026, 4, 1, 0, 0, 5, tzinfo=UTC)
    plain = rows.connector(title="", body="", access_column="部署").file("規程/旅費")
    assert (plain.title, plain.media_type) == ("規程/旅費", "text/plain")
    with plain.open() as stream:
        text = stream.read().decode()
    assert text.startswith(
        "番号: 規程/旅費\n件名: 旅費\n本文: 宿泊費は12,000円。\n更新: 2026-04-01"
    )
    assert "総務部" not in text, "who may read is no text"


def test_keys_of_two_columns_of_a_file(tmp_path: Path) -> None:
    found = read(ledger(tmp_path).changes(None))
    assert set(found) == {"2025/A%2F1", "2026/が"}
    assert found["2026/が"] == "年: 2026\n番号: か\u3099\n質問: 始業は?\n更新: 2026-04-02"
    assert ledger(tmp_path).file("2025/A%2F1").modified_at == datetime(2026, 4, 1, tzinfo=UTC)


def test_who_may_read_is_said_by_row(rows: Rows) -> None:
    connector = rows.connector(
        access_column="部署", access_values=["本社営業 = group:営業部, user:sato"]
    )
    access = {c.file.uri: c.file.access for c in connector.changes(None) if isinstance(c, Upsert)}
    assert access == {
        "規程/旅費": anybody("group:総務部", "user:ito"),
        "規程/就業": anybody("group:営業部", "user:sato"),
        "案内": NOBODY,
    }
    assert rows.connector().file("案内").access == anybody("group:営業部")
    assert rows.connector(allow=[]).file("案内").access == NOBODY


def test_only_rows_that_changed_are_read_in_full(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = rows.connector(access_column="部署")
    first = list(connector.changes(None))
    rows.put("規程/旅費", "宿泊費は15,000円。", "everyone")
    rows.execute("UPDATE 案件 SET 部署 = 'group:派遣' WHERE 番号 = '規程/就業'")
    rows.put("復元", "古い時刻のまま戻った。", when="2020-01-01")
    rows.delete("案内")
    whole: list[Any] = []
    full = SqlConnector._whole

    def counted(self: SqlConnector, shape: Any, said: Any) -> Any:
        whole.append(said["番号"])
        return full(self, shape, said)

    monkeypatch.setattr(SqlConnector, "_whole", counted)
    second = list(connector.changes(cursor(first)))
    assert set(whole) == {"規程/旅費", "復元"}
    old, new = versions(first), versions(second)
    assert set(new) == {"規程/旅費", "規程/就業", "復元"}, "what a complete run leaves out is gone"
    assert new["規程/就業"] == old["規程/就業"] and new["規程/旅費"] != old["規程/旅費"]
    access = {c.file.uri: c.file.access for c in second if isinstance(c, Upsert)}
    assert access["規程/就業"] == anybody("group:派遣"), (
        "a right may change while its time does not"
    )
    assert read(iter(second)) == {  # what is not laid aside is asked for
        "規程/旅費": "# 旅費\n\n宿泊費は15,000円。",
        "規程/就業": "# 就業\n\n始業は9時。",
        "復元": "# 復元\n\n古い時刻のまま戻った。",
    }


def test_two_changes_within_one_second_are_both_seen(rows: Rows) -> None:
    rows.put("案内", "受付は2階。", when="2026-05-01")
    first = list(rows.connector().changes(None))
    rows.put("案内", "受付は3階。", when="2026-05-01")
    second = list(rows.connector().changes(cursor(first)))
    assert versions(second)["案内"] != versions(first)["案内"]


def test_a_column_that_became_of_another_kind_is_read_anew(rows: Rows) -> None:
    first = list(rows.connector().changes(None))
    mixed = str(cursor(first)).replace("+00:00|", "|", 1)
    assert len(read(rows.connector().changes(Cursor(mixed)))) == 3


def test_without_times_the_text_tells(rows: Rows) -> None:
    connector = rows.connector(updated_column="")
    first = list(connector.changes(None))
    rows.execute("UPDATE 案件 SET 本文 = '受付は2階。' WHERE 番号 = '案内'")
    rows.move("規程/就業", "規程/就業規則")
    second = list(connector.changes(cursor(first)))
    same = {u for u, v in versions(second).items() if versions(first).get(u) == v}
    assert same == {"規程/旅費"}
    assert [(c.old_uri, c.uri) for c in second if isinstance(c, Moved)] == [
        ("規程/就業", "規程/就業規則")
    ]


def test_all_is_of_one_moment_whatever_is_written_meanwhile(rows: Rows) -> None:
    changes = rows.connector().changes(None)
    first = next(changes)
    rows.execute("UPDATE 案件 SET 本文 = '書き換えた。'")
    assert "書き換えた" not in str(read(iter([first, *changes])))
    later = list(rows.connector().changes(cursor(list(rows.connector().changes(None)))))
    rows.execute("UPDATE 案件 SET 本文 = '二度目。'")
    files = [c.file for c in later if isinstance(c, Upsert)]
    with pytest.raises(SourceBusy, match="書き換わりました"):
        files[0].open()
    rows.execute("TRUNCATE 案件")
    with pytest.raises(SourceUnreachable):
        files[0].open()


def test_rows_without_a_key_and_two_with_the_same_are_told_of(rows: Rows) -> None:
    rows.execute("INSERT INTO 案件 VALUES (NULL, 'x'), ('', 'x'), ('案内', 'また')")
    changes = list(rows.connector().changes(None))
    failed = {c.uri: c.reason for c in changes if isinstance(c, Failed)}
    assert "2 件" in failed["#"] and "複数" in failed["案内#2"]
    assert len(versions(changes)) == 3
    later = rows.connector().changes(cursor(changes))
    assert "2 件" in next(c.reason for c in later if isinstance(c, Failed) and c.uri == "#")


def test_many_rows_take_no_memory_for_their_text(rows: Rows) -> None:
    query = "SELECT n AS 番号, repeat('あ', 4000) AS 本文 FROM generate_series(1, 5000) AS n"
    connector = rows.connector(query=query, updated_column="", title="", body="{本文}{番号}")
    tracemalloc.start()
    changes = connector.changes(None)
    next(changes)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30_000_000, "the texts are 60 MB"


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": f"{CANARY}-chigau"}, SourceDenied, "サインインできません"),
        ({"user": "daremo"}, SourceDenied, "サインインできません"),
        ({"id_columns": ["無い"]}, SourceMisconfigured, "列「無い」がありません。.*番号、件名"),
        ({"title": "{無い}"}, SourceMisconfigured, "列「無い」がありません"),
        ({"query": "SELECT * FROM 無い表"}, SourceMisconfigured, "断りました: .*無い表"),
        ({"query": "SELECT 1 AS 番号, 2 AS 番号"}, SourceMisconfigured, "二つあります"),
        ({"query": "SELECT pg_sleep(9) AS 番号"}, SourceMisconfigured, "分で終わりません"),
        ({"query": "SELECT rolpassword AS 番号 FROM pg_authid"}, SourceDenied, "権限"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"access_values": ["本社"]}, SourceMisconfigured, "対応表「本社」"),
        (
            {"url": "postgresql://nai.invalid/x", "security": "tls"},
            SourceUnreachable,
            "名前 nai.invalid",
        ),
        ({"url": "postgresql://127.0.0.1:1/x", "security": "tls"}, SourceDenied, "near_hosts"),
        ({"url": "postgresql://db.example:1/x"}, SourceDenied, "暗号化せずにはつなぎません"),
        ({"url": "sqlite:////無い.db"}, SourceMisconfigured, "ファイルがありません"),
    ],
)
def test_a_wrong_setting_is_told(
    rows: Rows,
    wrong: dict[str, object],
    error: type[Exception],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        databases, "_POSTGRESQL", (databases._POSTGRESQL[0], "SET LOCAL statement_timeout = 500")
    )
    more = {} if "title" in wrong else {"title": "", "body": "", "updated_column": ""}
    one = rows.connector(**(more | wrong))
    with pytest.raises(error, match=words) as told:
        list(one.changes(None))
    assert CANARY not in str(told.value) + repr(one._settings) + repr(one.__dict__)
    assert told.value.__cause__ is None


def test_a_missing_database_is_told(rows: Rows) -> None:
    url = f"postgresql://localhost:{rows.port}/無い"
    with pytest.raises(SourceMisconfigured, match="データベースがありません"):
        rows.connector(url=url).check()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"postgresql://ito:{CANARY}@db/x"},
        {"url": f"postgresql://db/x?password={CANARY}"},
        {"url": "postgresql:///x?host=/run/postgresql"},
        {"url": "postgresql://db/x?service=y"},
        {"url": "sqlite:///relative.db"},
        {"url": "mssql://db/x"},
        {"url": f"mariadb://ito:{CANARY}@db/x"},
        {"query": "DELETE FROM 案件"},
        {"query": "SELECT 1; DELETE FROM 案件"},
        {"id_columns": []},
    ],
)
def test_settings_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    own = {"url": "postgresql://db/x", "query": "SELECT 1", "id_columns": ["a"]}
    with pytest.raises(ValidationError) as told:
        SqlSettings.model_validate(own | wrong)
    assert CANARY not in str([e["msg"] for e in told.value.errors(include_input=False)])


def test_nothing_is_ever_written(rows: Rows, tmp_path: Path) -> None:
    rows.execute("GRANT ALL ON 案件 TO yomu")
    query = "WITH gone AS (DELETE FROM 案件 RETURNING *) SELECT * FROM gone"
    with pytest.raises(SourceMisconfigured):
        rows.connector(query=query).check()
    rows.execute(
        "CREATE OR REPLACE FUNCTION 消す() RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM 案件; RETURN 'x'; END $$"
    )
    with pytest.raises(SourceMisconfigured, match="read-only"):
        list(
            rows.connector(
                query="SELECT 消す() AS 番号, '' AS 件名, '' AS 本文, now() AS 更新"
            ).changes(None)
        )
    assert len(read(rows.connector().changes(None))) == 3
    connector = ledger(tmp_path)
    path = tmp_path / "台帳 #1.db"
    before = path.read_bytes()
    read(connector.changes(None))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_connection_is_secure_and_knows_whom_it_speaks_to(rows: Rows, tmp_path: Path) -> None:
    rows.connector(security="tls").check()
    own = SqlSettings.model_validate(rows.settings | {"security": "tls"})
    with pytest.raises(SourceMisconfigured, match="安全な接続"):
        SqlConnector(own, Site(near=frozenset({rows.near}))).check()
    named = own.model_copy(update={"url": f"postgresql://127.0.0.1:{rows.port}/台帳"})
    near = Site(rows.folder / "cert.pem", frozenset({f"127.0.0.1:{rows.port}"}))
    with pytest.raises(SourceMisconfigured, match="証明書の名前"):
        SqlConnector(named, near).check()


def test_nothing_of_this_account_signs_in(
    rows: Rows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"*:*:*:*:{PASSWORD}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(SourceDenied, match="サインイン"):
        rows.connector(password="").check()


def test_kuras_own_data_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    ledger(tmp_path, Site(own=tmp_path / "other")).check()
    with pytest.raises(SourceDenied, match="Kura 自身"):
        ledger(tmp_path, Site(own=tmp_path)).check()
    with pytest.raises(SourceDenied, match="Kura 自身"):
        url = f"sqlite:///{tmp_path}/link/台帳 #1.db"
        ledger(tmp_path, Site(own=tmp_path), url=url).check()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("これはデータベースではない。" * 100)
    with pytest.raises(SourceMisconfigured, match="断りました"):
        ledger(tmp_path, url=f"sqlite:///{tmp_path}/x.db").check()


def test_a_server_that_falls_silent_is_left(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "ANSWER_S", 1.0)
    pipe, began = Pipe(rows.port), time.monotonic()
    site = Site(near=frozenset({f"localhost:{pipe.port}"}))
    url = f"postgresql://localhost:{pipe.port}/台帳"
    own = SqlSettings.model_validate(rows.settings | {"url": url})
    for number in range(40):
        rows.put(f"長い/{number}", "宿泊費。" * 5_000)
    try:
        one = SqlConnector(own, site)
        pipe.begin(Fault("timeout", at=300_000))
        with pytest.raises(SourceUnreachable, match="切れました"):
            read(one.changes(None))
        assert pipe.fault and pipe.fault.met and not pipe.over.is_set()
        assert time.monotonic() - began < 40, "the pipe hangs up after 60 s"
    finally:
        pipe.close()


def test_a_server_that_is_away_is_unreachable(rows: Rows) -> None:
    rows.stop()
    try:
        with pytest.raises(SourceUnreachable, match="つながりません"):
            rows.connector().check()
    finally:
        rows.start()
