"""How a database is reached, to be read and never written: one transaction, one snapshot of it.

A server is judged and told of as `connectors/wire.py` does, and its library then connects to the address
that answered; it gets nothing of the account that Kura runs as. Messages of a database are cut short,
and those of SQLAlchemy, which quote what was asked, are never shown.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import psycopg
import pymysql
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors import mariadb, wire

Security = Literal["tls", "none"]

CONNECT_S = 30.0
STATEMENT_S = 600.0
ANSWER_S = 660.0  # longer than a question may take: a server, or what stands before it, fell silent
_SERVER = re.compile(
    r"(?P<kind>postgresql|mariadb|mysql)://(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?/(?P<name>[^/?#@]+)"
)
_FILE = re.compile(r"sqlite:///(?P<path>/.+)")
_TLS = re.compile(r"certificate|証明書|SSL error|SSL connection|support SSL|SSL SYSCALL")
_NO_DATABASE = re.compile(r'database ".*" does not exist|データベース.*存在しません')
_LATER = re.compile(r"starting up|shutting down|too many|connection slots|起動|停止|シャットダウン")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database is, read from a URL in one way."""

    host: str = ""
    port: int = 0
    name: str = ""
    path: Path = Path()  # of a file; a server has none
    mariadb: bool = False  # or MySQL

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.name}" if self.host else str(self.path)


def place(url: str) -> Place:
    """Raises ValueError; nothing of the URL is quoted, for it may hold a password."""
    if found := _FILE.fullmatch(url):
        return Place(path=Path(found["path"]))
    if not (found := _SERVER.fullmatch(url)):
        raise ValueError(
            "postgresql://ホスト:5432/データベース、mariadb://ホスト:3306/データベース、sqlite:////フォルダー/ファイル の形で、"
            "利用者名とパスワードを入れずに書いてください"
        )
    mariadb = found["kind"] != "postgresql"
    port = int(found["port"] or (3306 if mariadb else 5432))
    if not 0 < port < 65536 or ".." in found["host"]:
        raise ValueError("ホストとポートを確かめてください")
    host = found["host"].strip("[]").lower().rstrip(".")
    return Place(host, port, unquote(found["name"]), mariadb=mariadb)


@dataclass(frozen=True)
class Database:
    at: Place
    user: str = ""
    password: str = field(default="", repr=False)
    security: Security = "tls"
    site: Site = field(default_factory=Site, repr=False)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot, read only. Raises SourceUnreachable, SourceDenied, SourceMisconfigured, SourceBusy."""
        first: tuple[str, ...]
        if self.at.mariadb:
            scheme, connect, first = "mysql+pymysql", self._mariadb, ()
        elif self.at.host:
            scheme, connect, first = "postgresql+psycopg", self._server, _POSTGRESQL
        else:
            scheme, connect, first = "sqlite", self._file, ("BEGIN",)
        # the pool is none, and neither are URLs: a connection is ours, and gone with the block
        engine = create_engine(
            f"{scheme}://", creator=connect, poolclass=NullPool, hide_parameters=True
        )
        try:
            with engine.connect() as connection:
                for statement in first:
                    connection.exec_driver_sql(statement)
                if self.at.mariadb:
                    mariadb.begin(connection, STATEMENT_S)
                yield connection
        except DBAPIError as error:
            raise self._told(error.orig) from None
        except SQLAlchemyError as error:
            raise SourceMisconfigured(
                f"{self.at} に問い合わせられません ({type(error).__name__})。"
            ) from None
        except (psycopg.Error, sqlite3.Error, pymysql.Error) as error:
            raise self._told(error) from None

    # --- connecting -----------------------------------------------------------------

    def _mariadb(self) -> Any:
        self._secure()
        at, tls = self.at, self.security == "tls"
        return mariadb.connect(at.host, at.port, at.name, self.user, self.password, tls, self.site)

    def _secure(self) -> None:
        at = self.at
        if self.security == "none" and not wire.is_near(at.host, at.port, self.site.near):
            raise SourceDenied(
                f"{at.host}:{at.port} には、暗号化せずにはつなぎません。"
                "このマシンの中の相手なら、設定 near_hosts に加えてください。"
            )

    def _server(self) -> Any:
        self._secure()
        at = self.at
        with wire.dial(at.host, at.port, self.site, CONNECT_S) as answering:
            address = answering.getpeername()[0]
        with tempfile.TemporaryDirectory() as own:
            none = (
                f"{own}/none"  # a file of passwords or a certificate of this account, there is none
            )
            trusted = Path(own, "trusted.pem")
            if self.security == "tls":
                trusted.write_text(wire.authorities(self.site))
            try:
                return _Patient.connect(
                    host=at.host,
                    hostaddr=address,
                    port=at.port,
                    dbname=at.name,
                    user=self.user,
                    password=self.password,
                    passfile=none,
                    sslmode="verify-full" if self.security == "tls" else "disable",
                    sslrootcert=str(trusted),
                    sslcert=none,
                    sslkey=none,
                    ssl_min_protocol_version="TLSv1.2",
                    gssencmode="disable",
                    connect_timeout=int(CONNECT_S),
                    keepalives_idle=30,
                    keepalives_interval=10,
                    keepalives_count=3,
                    tcp_user_timeout=60_000,
                    client_encoding="utf8",
                    application_name="kura",
                )
            except psycopg.Error as error:
                raise self._refused(str(error)) from None

    def _file(self) -> Any:
        path = self.at.path.resolve()
        own = self.site.own and self.site.own.resolve()
        if own and path.is_relative_to(own):
            raise SourceDenied(f"{self.at} は Kura 自身のデータなので、取り込めません。")
        if not path.is_file():
            raise SourceMisconfigured(f"{self.at} というファイルがありません。")
        found = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10.0, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
        until = time.monotonic() + STATEMENT_S
        found.set_progress_handler(lambda: time.monotonic() > until, 100_000)
        for statement in ("query_only = ON", "trusted_schema = OFF"):
            found.execute(f"PRAGMA {statement}")
        return found

    # --- in our words ---------------------------------------------------------------

    def _refused(self, said: str) -> ApplianceError:
        """Libpq tells why there is no connection in words alone."""
        if "pg_hba" not in said and _TLS.search(said):
            return SourceMisconfigured(
                f"{self.at} と安全な接続を作れません。相手の TLS の設定と証明書の名前を確かめ、"
                "社内認証局の証明書は設定 ca_file に加えてください。"
            )
        if _NO_DATABASE.search(said):
            return SourceMisconfigured(f"{self.at} というデータベースがありません。")
        if _LATER.search(said) or "closed the connection" in said or "timeout" in said:
            return SourceUnreachable(
                f"{self.at} はいまつながりません。しばらくして、また試します。"
                "続くときは、相手の稼働と、途中の回線を確かめてください。"
            )
        return SourceDenied(
            f"{self.at} にサインインできません。利用者名、パスワード、データベース名を確かめてください。"
        )

    def _told(self, error: BaseException | None) -> ApplianceError:
        if isinstance(error, pymysql.Error):
            return mariadb.told(self.at, error, STATEMENT_S / 60, self._cleaned(error))
        said, state = str(error), getattr(error, "sqlstate", None) or ""
        if state == "57014" or said == "interrupted":
            return SourceMisconfigured(
                f"{self.at} への問い合わせが {STATEMENT_S / 60:.0f} 分で終わりません。"
                "問い合わせを軽くしてください。"
            )
        if state == "42501":
            return SourceDenied(f"{self.at} の表を読む権限が、この利用者にありません。")
        if isinstance(error, sqlite3.Error) and re.search("locked|busy", said):
            return SourceBusy(f"{self.at} は書き込み中です。次の確認で読み直します。")
        lost = isinstance(error, psycopg.OperationalError) and not state
        if lost or state[:2] in ("08", "40", "53") or state.startswith("57P"):
            return SourceUnreachable(f"{self.at} との接続が切れました。次の確認でやり直します。")
        return SourceMisconfigured(f"{self.at} が問い合わせを断りました: {self._cleaned(error)}")

    def _cleaned(self, error: BaseException | None) -> str:
        said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        if isinstance(error, pymysql.Error) and len(error.args) > 1:
            said = str(error.args[1])
        if self.password:
            said = said.replace(self.password, "…")
        first = (said.strip().splitlines() or [""])[0]
        return "".join(c for c in first if c.isprintable())[:200]


class _Patient(psycopg.Connection[Any]):
    """Waits for no answer for ever; libpq has a limit for what is sent alone."""

    def wait(self, gen: Any, *more: Any, **named: Any) -> Any:
        return super().wait(self._heard(gen), *more, **named)

    def _heard(self, gen: Any) -> Any:
        until = time.monotonic() + ANSWER_S
        try:
            wanted = next(gen)  # some end before they wait
            while True:
                if ready := (yield wanted):
                    until = time.monotonic() + ANSWER_S
                elif time.monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("silent")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


_POSTGRESQL = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    f"SET LOCAL statement_timeout = {int(STATEMENT_S * 1000)}",
)
