"""MariaDB and MySQL, through PyMySQL: how they are connected to, and what their numbers mean.

The connection is one that `connectors/wire.py` made: the library looks nothing up, and reads neither a
file of this account nor one that the server asks for (LOCAL INFILE).
"""

from __future__ import annotations

import ssl
from typing import Any

import pymysql
from pymysql.constants import CR, ER
from sqlalchemy import Connection

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors import wire

CONNECT_S = 30.0
ANSWER_S = 660.0  # longer than a question may take
_INSECURE = {3159, 4110}  # the server wants TLS
_SIGN_IN = {
    ER.ACCESS_DENIED_ERROR,
    ER.DBACCESS_DENIED_ERROR,
    1698,
    ER.HOST_NOT_PRIVILEGED,
    ER.MUST_CHANGE_PASSWORD,
    4151,
}
_RIGHT = {
    ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.PROCACCESS_DENIED_ERROR,
}  # fmt: skip
_TOO_LONG = {1969, 3024}  # max_statement_time, max_execution_time
_LATER = {
    ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS, ER.SERVER_SHUTDOWN, ER.HOST_IS_BLOCKED,
    CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, 1927,
}  # fmt: skip


def connect(
    host: str, port: int, name: str, user: str, password: str, tls: bool, site: Site
) -> Any:
    """Raises pymysql.Error, SourceMisconfigured, SourceUnreachable, SourceDenied."""
    trusted = wire.trust(site) if tls else None
    answering = wire.dial(host, port, site, CONNECT_S)
    try:
        answering.settimeout(CONNECT_S)
        made = pymysql.connect(
            host=host, port=port, user=user, password=password.encode(), database=name, charset="utf8mb4",
            ssl=trusted, ssl_disabled=not tls, local_infile=False, autocommit=False,
            program_name="kura", read_timeout=ANSWER_S, write_timeout=ANSWER_S,
            connect_timeout=CONNECT_S, defer_connect=True,
        )  # fmt: skip
        made.connect(answering)
    except ssl.SSLError as error:
        answering.close()
        raise SourceMisconfigured(f"{host}:{port}: {wire.untrusted(error)}。") from None
    except BaseException as error:
        answering.close()
        if isinstance(cause := error.__cause__ or error.__context__, ssl.SSLError):
            raise SourceMisconfigured(f"{host}:{port}: {wire.untrusted(cause)}。") from None
        if isinstance(error, OSError):
            raise SourceUnreachable(
                f"{host}:{port} との接続が切れました。次の確認でやり直します。"
            ) from None
        raise
    return made


def begin(connection: Connection, seconds: float) -> None:
    """One snapshot that cannot be written to, and no question longer than that."""
    mariadb = getattr(connection.dialect, "is_mariadb", True)
    limit = (
        f"max_statement_time = {seconds:.3f}"
        if mariadb
        else f"max_execution_time = {seconds * 1000:.0f}"
    )
    for statement in (
        f"SET SESSION {limit}",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ):
        connection.exec_driver_sql(statement)


def told(at: object, error: pymysql.Error, minutes: float, said: str) -> ApplianceError:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if number in _SIGN_IN:
        return SourceDenied(
            f"{at} にサインインできません。利用者名、パスワード、データベース名を確かめてください。"
        )
    if number in _RIGHT:
        return SourceDenied(f"{at} の表を読む権限が、この利用者にありません。")
    if number == ER.BAD_DB_ERROR:
        return SourceMisconfigured(f"{at} というデータベースがありません。")
    if number == CR.CR_SSL_CONNECTION_ERROR or number in _INSECURE:
        return SourceMisconfigured(
            f"{at} と安全な接続を作れません。相手の TLS の設定を確かめ、暗号化を tls にしてください。"
        )
    if number in _TOO_LONG:
        return SourceMisconfigured(
            f"{at} への問い合わせが {minutes:.0f} 分で終わりません。問い合わせを軽くしてください。"
        )
    if number in (ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK):
        return SourceBusy(f"{at} は書き込み中です。次の確認で読み直します。")
    if number in _LATER or isinstance(error, pymysql.err.InterfaceError):
        return SourceUnreachable(f"{at} との接続が切れました。次の確認でやり直します。")
    return SourceMisconfigured(f"{at} が問い合わせを断りました: {said}")
