"""A table of a real MariaDB as a source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.testing.contracts import ConnectorContract
from appliance.types import Site, Upsert
from connectors import databases
from connectors.sql import SqlConnector, SqlSettings
from tests.connectors.mariadbs import MariaDb
from tests.connectors.rows import PASSWORD
from tests.connectors.test_sql import anybody, cursor, read, versions

CANARY = "himitsu-0451"


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    one = MariaDb()
    yield one
    one.close()


@pytest.fixture
def rows(server: MariaDb) -> MariaDb:
    server.execute("TRUNCATE 案件")
    server.put("規程/旅費", "宿泊費は12,000円。", "group:総務部; user:ito")
    server.put("規程/就業", "始業は9時。", "本社営業")
    server.put("案内", "受付は1階: 100%。")
    return server


class TestContract(ConnectorContract):
    @pytest.fixture(params=["times", "digests"])
    def connector(self, rows: MariaDb, request: pytest.FixtureRequest) -> SqlConnector:
        return rows.connector(updated_column="更新" if request.param == "times" else "")


def test_a_row_is_a_document(rows: MariaDb) -> None:
    connector = rows.connector(access_column="部署", access_values=["本社営業 = group:営業部"])
    connector.check()
    changes = list(connector.changes(None))
    assert read(iter(changes))["案内"] == "# 案内\n\n受付は1階: 100%。"
    access = {c.file.uri: c.file.access for c in changes if isinstance(c, Upsert)}
    assert access["規程/旅費"] == anybody("group:総務部", "user:ito")
    assert access["規程/就業"] == anybody("group:営業部")
    assert access["案内"] == ()
    with connector.file("規程/旅費").open() as stream:
        assert "12,000円" in stream.read().decode()


def test_what_changed_and_what_went_is_told(rows: MariaDb) -> None:
    connector = rows.connector()
    first = list(connector.changes(None))
    rows.put("規程/旅費", "宿泊費は15,000円。")
    rows.delete("案内")
    second = list(connector.changes(cursor(first)))
    before, after = versions(first), versions(second)
    assert {uri for uri in before if after.get(uri) != before[uri]} == {"規程/旅費", "案内"}
    assert "案内" not in after
    assert "15,000円" in read(iter(second))["規程/旅費"]


def test_all_is_of_one_moment_whatever_is_written_meanwhile(rows: MariaDb) -> None:
    with rows.connector()._reading() as connection:
        asked = "SELECT COUNT(*) FROM 案件"
        before = connection.exec_driver_sql(asked).scalar()
        rows.put("後から", "x")
        assert connection.exec_driver_sql(asked).scalar() == before == 3


def test_nothing_is_ever_written(rows: MariaDb) -> None:
    rows.execute("GRANT ALL ON 台帳.* TO 'yomu'@'127.0.0.1'")
    try:
        rows.execute("DROP FUNCTION IF EXISTS 消す")
        rows.execute(
            "CREATE FUNCTION 消す() RETURNS text DETERMINISTIC MODIFIES SQL DATA"
            " BEGIN DELETE FROM 案件; RETURN 'x'; END"
        )
        query = "SELECT 消す() AS 番号, '' AS 件名, '' AS 本文, now() AS 更新"
        with pytest.raises(SourceMisconfigured, match="READ ONLY"):
            list(rows.connector(query=query).changes(None))
        with pytest.raises(SourceMisconfigured, match="断りました"):
            rows.connector(query="SELECT 1 AS 番号 INTO OUTFILE '/tmp/kura-x'").check()
    finally:
        rows.execute("REVOKE ALL ON 台帳.* FROM 'yomu'@'127.0.0.1'")
    assert len(read(rows.connector().changes(None))) == 3


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": f"{CANARY}-chigau"}, SourceDenied, "サインインできません"),
        ({"user": "daremo"}, SourceDenied, "サインインできません"),
        ({"id_columns": ["無い"]}, SourceMisconfigured, "列「無い」がありません"),
        ({"query": "SELECT * FROM 無い表"}, SourceDenied, "権限"),
        ({"query": "SELECT 番号 FROM 案件 WHERE"}, SourceMisconfigured, "断りました"),
        ({"query": "SELECT SLEEP(9) AS 番号, '' AS 件名"}, SourceMisconfigured, "分で終わりません"),
        ({"query": "SELECT user AS 番号 FROM mysql.user"}, SourceDenied, "権限"),
        ({"url": "mysql://db.example:1/x"}, SourceDenied, "暗号化せずにはつなぎません"),
        ({"url": "mariadb://127.0.0.1:1/x", "security": "tls"}, SourceDenied, "near_hosts"),
    ],
)
def test_a_wrong_setting_is_told(
    rows: MariaDb,
    wrong: dict[str, object],
    error: type[Exception],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(databases, "STATEMENT_S", 0.5)
    more = {"title": "", "body": "", "updated_column": ""}
    one = rows.connector(**(more | wrong))
    with pytest.raises(error, match=words) as told:
        list(one.changes(None))
    assert CANARY not in str(told.value) + repr(one._settings) + repr(one.__dict__)
    assert told.value.__cause__ is None


def test_a_missing_database_is_told(rows: MariaDb) -> None:
    url = f"mysql://localhost:{rows.port}/無い"
    with pytest.raises(SourceDenied, match="データベース名"):  # who may not see it is told no more
        rows.connector(url=url).check()


def test_a_connection_is_secure_and_knows_whom_it_speaks_to(rows: MariaDb) -> None:
    with rows.connector(security="tls")._reading() as connection:
        said = connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_version'").all()
        assert said[0][1].startswith("TLSv1.")
    own = SqlSettings.model_validate(rows.settings | {"security": "tls"})
    with pytest.raises(SourceMisconfigured, match="ca_file"):
        SqlConnector(own, Site(near=frozenset({rows.near}))).check()
    named = own.model_copy(update={"url": f"mariadb://127.0.0.1:{rows.port}/台帳"})
    near = Site(rows.folder / "localhost.pem", frozenset({f"127.0.0.1:{rows.port}"}))
    with pytest.raises(SourceMisconfigured, match="証明書の名前"):
        SqlConnector(named, near).check()


def test_nothing_of_this_account_signs_in(
    rows: MariaDb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".my.cnf").write_text(f"[client]\npassword={PASSWORD}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MYSQL_PWD", PASSWORD)
    with pytest.raises(SourceDenied, match="サインイン"):
        rows.connector(password="").check()


def test_a_server_that_is_away_is_unreachable(rows: MariaDb) -> None:
    rows.stop()
    try:
        with pytest.raises(SourceUnreachable, match="つながりません"):
            rows.connector().check()
    finally:
        rows.start()
    assert len(read(rows.connector().changes(None))) == 3
