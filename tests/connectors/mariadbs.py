"""A real MariaDB with passwords and TLS, for whoever runs the tests, and a table on it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pymysql

from appliance.types import Site
from connectors.sql import SqlConnector, SqlSettings
from tests import ports
from tests.connectors.rows import PASSWORD, QUERY
from tests.connectors.test_http import certificate


class MariaDb:
    """A server whose table is a shelf of documents."""

    kind, missing = "sql", "doesn't exist"

    def __init__(self, _: Path = Path()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kura-mariadb-"))  # pytest's is closed to others
        self.user = "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.port, self._ticks = ports.free(), 0
        certificate(self.folder, "localhost")
        shutil.chown(self.folder, self.user)
        for path in self.folder.iterdir():
            shutil.chown(path, self.user)
        self._run(
            "mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data",
            f"--user={self.user}", "--skip-test-db", "--auth-root-authentication-method=normal",
        )  # fmt: skip
        self.start()
        self.execute("CREATE DATABASE 台帳 CHARACTER SET utf8mb4", "mysql")
        self.execute(
            "CREATE TABLE 案件 (番号 varchar(200), 件名 text, 本文 text, 更新 datetime, 部署 text)"
        )
        self.execute("CREATE USER 'yomu'@'127.0.0.1' IDENTIFIED BY %s", "mysql", PASSWORD)
        self.execute("GRANT SELECT ON 台帳.案件 TO 'yomu'@'127.0.0.1'")

    def _run(self, *argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True, cwd=self.folder)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.folder}/data",
                    f"--user={self.user}", f"--socket={self.folder}/sock", f"--port={self.port}",
                    "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin",
                    f"--ssl-cert={self.folder}/localhost.pem",
                    f"--ssl-key={self.folder}/localhost.key",
                    "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0",
                ],
                stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        for _ in range(600):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(f"{self.folder}/sock") == 0:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def close(self) -> None:
        if self.folder.exists():  # twice is once
            self.stop()
            shutil.rmtree(self.folder)

    def execute(self, statement: str, name: str = "台帳", *values: object) -> None:
        with (
            pymysql.connect(
                unix_socket=f"{self.folder}/sock", user="root", database=name, autocommit=True
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, values or None)

    @property
    def near(self) -> str:
        return f"localhost:{self.port}"

    @property
    def settings(self) -> dict[str, object]:
        return {
            "url": f"mariadb://localhost:{self.port}/台帳",
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
        return Site(ca_file=self.folder / "localhost.pem", near=frozenset({self.near}))

    def connector(self, **more: object) -> SqlConnector:
        return SqlConnector(SqlSettings.model_validate(self.settings | more), self.site)

    def put(self, uri: str, text: str, readers: str = "", when: str = "") -> None:
        self.delete(uri)
        self._ticks += 1
        moment = when or f"2026-04-01 09:{self._ticks // 60:02}:{self._ticks % 60:02}"
        self.execute(
            "INSERT INTO 案件 VALUES (%s, %s, %s, %s, %s)", "台帳",
            uri, uri.rpartition("/")[2], text, moment, readers,
        )  # fmt: skip

    def move(self, uri: str, to: str) -> None:
        self.execute("UPDATE 案件 SET 番号 = %s WHERE 番号 = %s", "台帳", to, uri)

    def delete(self, uri: str) -> None:
        self.execute("DELETE FROM 案件 WHERE 番号 = %s", "台帳", uri)

    def take_away(self) -> None:
        self.execute("GRANT SELECT ON 台帳.* TO 'yomu'@'127.0.0.1'")  # who may see that it is gone
        self.execute("ALTER TABLE 案件 RENAME TO 昔の案件")
