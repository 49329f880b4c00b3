"""A PostgreSQL server with passwords and TLS, for whoever runs the tests, and a table on it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from appliance.types import Site
from connectors.sql import SqlConnector, SqlSettings
from tests import ports
from tests.conftest import _program

PASSWORD = "himitsu-0451 秘密"
QUERY = "SELECT 番号, 件名, 本文, 更新, 部署 FROM 案件 -- すべて"


class Rows:
    """A server whose table is a shelf of documents."""

    kind, missing = "sql", "does not exist"

    def __init__(self, _: Path = Path()) -> None:
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self.folder = Path(
            tempfile.mkdtemp(prefix="kura-rows-")
        )  # pytest's own is closed to others
        self._who: dict[str, Any] = (
            {"user": account.pw_uid, "group": account.pw_gid} if os.geteuid() == 0 else {}
        )
        self._owner, self.port, self._ticks = account.pw_name, ports.free(), 0
        data = self.folder / "data"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        for path in (self.folder, self.folder / "key.pem"):
            os.chown(path, account.pw_uid, account.pw_gid)
        init = ["--locale=C.UTF-8", "-D", data, "-A", "trust", "-U", self._owner, "-E", "UTF8"]
        self._run("initdb", *init, "--no-sync")
        (data / "pg_hba.conf").write_text(
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.start()
        self.execute(f"CREATE ROLE yomu LOGIN PASSWORD '{PASSWORD}'", "postgres")
        self.execute("CREATE DATABASE 台帳", "postgres")
        self.execute(
            "CREATE TABLE 案件 (番号 text, 件名 text, 本文 text, 更新 timestamptz, 部署 text)"
        )
        self.execute("GRANT SELECT ON 案件 TO yomu")

    def _run(self, name: str, *more: object) -> None:
        argv = [_program(name), *map(str, more)]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self._who)

    def start(self) -> None:
        files = f"-c ssl_cert_file={self.folder}/cert.pem -c ssl_key_file={self.folder}/key.pem"
        options = (
            f"-k {self.folder} -c listen_addresses=127.0.0.1 -p {self.port} -c fsync=off -c ssl=on "
            f"{files} -c shared_buffers=32MB -c jit=off"
        )
        data, log = self.folder / "data", self.folder / "log"
        self._run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        if self.folder.exists():  # twice is once
            self.stop()
            shutil.rmtree(self.folder)

    def execute(self, statement: str, name: str = "台帳", *values: object) -> None:
        with psycopg.connect(
            host=str(self.folder), port=self.port, user=self._owner, dbname=name, autocommit=True
        ) as connection:
            connection.execute(statement, values or None)

    @property
    def near(self) -> str:
        return f"localhost:{self.port}"

    @property
    def settings(self) -> dict[str, object]:
        return {
            "url": f"postgresql://localhost:{self.port}/台帳",
            "user": "yomu",
            "password": PASSWORD,
            "security": "none",
            "query": QUERY,
            "id_columns": ["番号"],
            "title": "{件名}",
            "body": "# {件名}\n\n{本文}",
            "updated_column": "更新",
            "allow": ["group:営業部"],
        }

    @property
    def site(self) -> Site:
        return Site(ca_file=self.folder / "cert.pem", near=frozenset({self.near}))

    def connector(self, **more: object) -> SqlConnector:
        return SqlConnector(SqlSettings.model_validate(self.settings | more), self.site)

    def put(self, uri: str, text: str, readers: str = "", when: str = "") -> None:
        self.delete(uri)
        self._ticks += 1
        moment = when or f"2026-04-01 09:{self._ticks // 60:02}:{self._ticks % 60:02}+09"
        self.execute(
            "INSERT INTO 案件 VALUES (%s, %s, %s, %s, %s)", "台帳",
            uri, uri.rpartition("/")[2], text, moment, readers,
        )  # fmt: skip

    def move(self, uri: str, to: str) -> None:
        self.execute("UPDATE 案件 SET 番号 = %s WHERE 番号 = %s", "台帳", to, uri)

    def delete(self, uri: str) -> None:
        self.execute("DELETE FROM 案件 WHERE 番号 = %s", "台帳", uri)

    def take_away(self) -> None:
        self.execute("ALTER TABLE 案件 RENAME TO 昔の案件")
