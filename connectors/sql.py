"""A query of a database (PostgreSQL, SQLite), a document a row.

The rights of a database name its accounts, so the administrator says who may read: for all rows, or by
a column that names the readers of each. All rows are read in one snapshot and laid aside, so that the
connection is not held while documents are taken in. With a column of times only the rows that changed
are read in full; the keys of all are read in every run, because what is gone says nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import unicodedata
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar
from urllib.parse import unquote

from pydantic import BaseModel, Field, field_validator
from sqlalchemy import Connection
from sqlalchemy import text as statement

from appliance.errors import NotVisible, SourceBusy, SourceMisconfigured, SourceUnreachable
from appliance.types import (
    ALONE,
    Access,
    Change,
    Cursor,
    Failed,
    RawFile,
    Site,
)
from connectors import admit, listing
from connectors.databases import Database, Security, place
from connectors.form import called
from connectors.listing import Listing

BLOCK_ROWS = 500
SPOOL_BYTES = 10_000_000_000  # beyond it rows are asked for once more
_HOLE = re.compile(r"\{([^{}]+)\}")


class SqlSettings(BaseModel):
    url: str = Field(
        title="URL",
        description="postgresql://ホスト:5432/データベース、mariadb://ホスト:3306/データベース (MySQL も)、"
        "sqlite:////フォルダー/ファイル.db。"
        "利用者名とパスワードは入れません。",
    )
    user: str = Field(
        default="", title="利用者名", description="読み取りだけを許した利用者を勧めます。"
    )
    password: str = Field(default="", title="パスワード", repr=False)
    security: Security = Field(
        json_schema_extra=called({"tls": "TLS (tls)", "none": "なし (none)"}),
        default="tls",
        title="暗号化",
        description="none は、設定 near_hosts に書いた相手にだけ使えます。",
    )
    query: str = Field(
        title="問い合わせ",
        description="一つの SELECT。1 行が 1 件の文書になります。",
        json_schema_extra={"format": "multiline"},
    )
    id_columns: list[str] = Field(
        min_length=1, title="キーの列", description="行を一つに決める列。文書の名前になります。"
    )
    title: str = Field(
        default="", title="表題", description="{件名} のように列を書きます。空ならキー。"
    )
    body: str = Field(
        default="",
        title="本文",
        description="{本文} のように列を書きます。Markdown が使えます。空なら「列: 値」を並べます。",
        json_schema_extra={"format": "multiline"},
    )
    updated_column: str = Field(
        default="",
        title="更新日時の列",
        description="変わった行だけを読みます。空なら毎回すべての行を読み、中身で比べます。",
    )
    access_column: str = Field(
        default="",
        title="閲覧できる人の列",
        description="行ごとに読める人 (group:営業部;user:ito) の列。空や知らない値の行は誰にも見えません。",
    )
    access_values: list[str] = Field(
        default_factory=list,
        title="閲覧できる人の対応表",
        description="列の値が Kura の誰かを、「本社営業 = group:営業部, user:ito」の形で書きます。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="「閲覧できる人の列」が空のとき、すべての行を読める人 (group:営業部、user:ito、"
        "everyone)。空なら誰にも見えません。",
    )

    @field_validator("url")
    @classmethod
    def _place(cls, url: str) -> str:
        place(url.strip())
        return url.strip()

    @field_validator("query")
    @classmethod
    def _one_question(cls, query: str) -> str:
        inner = query.strip().rstrip(";").rstrip()
        if ";" in inner or not re.match(r"(select|with)\b", inner, re.IGNORECASE):
            raise ValueError("一つの SELECT を、セミコロン (;) を使わずに書いてください")
        return inner

    @field_validator("user", "password")
    @classmethod
    def _no_nul(cls, said: str) -> str:
        if "\0" in said:
            raise ValueError("使えない文字があります")
        return said


Said = Mapping[str, Any]  # a row as the database gives it


@dataclass(frozen=True, slots=True)
class _Row:
    """What is kept of one in a listing."""

    version: str  # when it changed last, and a digest of title and text
    title: str
    access: Access
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class _Shape:
    """The columns of a query, and which of them are what."""

    all: tuple[str, ...]
    id: tuple[str, ...]
    updated: str
    access: str
    holes: Mapping[str, str]  # what templates name: its column

    def brief(self, title: str) -> list[str]:
        """Enough to tell what changed, and for whom."""
        named = {self.holes[hole] for hole in _HOLE.findall(title)}
        wanted = {*self.id, self.updated, self.access} | named
        return [name for name in self.all if name in wanted]

    def key(self, said: Said) -> tuple[Any, ...]:
        return tuple(said[name] for name in self.id)


class SqlConnector:
    """SQL データベース (PostgreSQL、MariaDB、MySQL、SQLite)"""

    kind: ClassVar[str] = "sql"
    Settings: ClassVar[type[BaseModel]] = SqlSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: SqlSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _readers(self) -> admit.Readers:
        own = self._settings
        return admit.readers(own.allow, own.access_values)

    def check(self) -> None:
        self._readers  # noqa: B018  its setting may be wrong
        with self._reading() as connection:
            self._shape(connection)

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All rows. A query that breaks off tells of nothing."""
        found, spool, before = Listing[_Row](), _Spool(), listing.held(since)
        self._readers  # noqa: B018
        keyless = 0
        with self._reading() as connection:
            for key, row, data in self._rows(connection, before):
                uri = _uri(key)
                if not uri:
                    keyless += 1
                elif uri in found.files:
                    why = "同じキーの行が複数あります。最初のものだけを読みます"
                    found.failures.append(Failed(f"{uri}#2", row.title, why, False, row.access))
                else:
                    found.files[uri] = row
                    if data is not None and before.get(uri) != row.version:
                        spool.put(uri, data)
        if keyless:
            why = f"キーの列が空の行が {keyless:,} 件あり、読めません"
            found.failures.append(Failed("#", "キーのない行", why, False))
        yield from found.changes(since, lambda row: row.version, partial(self._file, spool))

    def file(self, uri: str) -> RawFile:
        if (found := self._found(uri)) is None:
            raise NotVisible(f"{uri} はありません。")
        return self._raw(uri, found[0], partial(io.BytesIO, found[1]))

    def _file(self, spool: _Spool, uri: str, row: _Row) -> RawFile:
        return self._raw(uri, row, partial(self._open, spool, uri, row))

    def _raw(self, uri: str, row: _Row, open: Callable[[], BinaryIO]) -> RawFile:
        kind = "text/markdown" if self._settings.body else "text/plain"
        return RawFile(uri, row.version, open, row.access, row.title, row.modified_at, kind)

    def _open(self, spool: _Spool, uri: str, row: _Row) -> BinaryIO:
        """The text that was listed: SourceBusy where it is another by now."""
        if (data := spool.get(uri)) is not None:
            return io.BytesIO(data)
        if (found := self._found(uri)) is None:
            raise SourceUnreachable(f"{uri} がありません。")
        if found[0].version != row.version:
            raise SourceBusy(f"{uri} は書き換わりました。次の確認で読み直します。")
        return io.BytesIO(found[1])

    # --- asking ---------------------------------------------------------------------

    def _reading(self) -> AbstractContextManager[Connection]:
        own = self._settings
        return Database(place(own.url), own.user, own.password, own.security, self.site).reading()

    def _rows(
        self, connection: Connection, before: Mapping[str, str]
    ) -> Iterator[tuple[tuple[Any, ...], _Row, bytes | None]]:
        """Key, row and text of all; no text where the row is as it was `before`."""
        shape = self._shape(connection)
        mark = _latest(map(_stamp_of, before.values())) if shape.updated else None
        if mark is None:
            for said in self._asked(connection, "*"):
                yield shape.key(said), *self._whole(shape, said)
            return
        column = _named(connection, shape.updated)
        seen, odd = set(), []
        recent = f"{column} >= :mark OR {column} IS NULL"  # as late: the same second may have two
        for said in self._asked(connection, "*", recent, mark=mark):
            seen.add(key := shape.key(said))
            yield key, *self._whole(shape, said)
        brief = ", ".join(_named(connection, name) for name in shape.brief(self._settings.title))
        for said in self._asked(connection, brief):
            if (key := shape.key(said)) in seen:
                continue
            old = before.get(_uri(key), "")
            if old and _stamp_of(old) == _stamp(said[shape.updated]):
                yield key, self._row(shape, said, old), None
            elif not _uri(key):
                yield key, self._row(shape, said, ""), None
            else:
                odd.append(key)  # it came with an old time, as what is restored does
        for key in odd:
            named = [f"{_named(connection, name)} = :k{n}" for n, name in enumerate(shape.id)]
            values = {f"k{n}": value for n, value in enumerate(key)}
            for said in self._asked(connection, "*", " AND ".join(named), **values):
                yield key, *self._whole(shape, said)

    def _found(self, uri: str) -> tuple[_Row, bytes] | None:
        if not uri or "\0" in uri:
            return None
        with self._reading() as connection:
            shape = self._shape(connection)
            parts = _parts(uri, len(shape.id))
            if len(parts) != len(shape.id):
                return None
            alike, values = [], dict[str, str]()
            text = "CHAR" if connection.dialect.name == "mysql" else "TEXT"
            for n, (name, part) in enumerate(zip(shape.id, parts, strict=True)):
                alike.append(f"CAST({_named(connection, name)} AS {text}) IN (:c{n}, :d{n})")
                values |= {f"c{n}": part, f"d{n}": unicodedata.normalize("NFD", part)}
            for said in list(self._asked(connection, "*", " AND ".join(alike), **values)):
                if _uri(shape.key(said)) == uri:
                    return self._whole(shape, said)
        return None

    def _asked(
        self, connection: Connection, columns: str, where: str = "1 = 1", **values: Any
    ) -> Iterator[Said]:
        query = _literal(self._settings.query)  # on lines of its own: it may end in a comment
        asked = statement(f"SELECT {columns} FROM (\n{query}\n) AS kura WHERE {where}")  # noqa: S608  it is the administrator's
        options = {"yield_per": BLOCK_ROWS}
        with connection.execute(asked, values, execution_options=options) as found:
            for row in found.mappings():
                yield dict(row)

    def _shape(self, connection: Connection) -> _Shape:
        """Raises SourceMisconfigured naming a column that there is not."""
        own, query = self._settings, _literal(self._settings.query)
        asked = statement(f"SELECT * FROM (\n{query}\n) AS kura WHERE 1 = 0")  # noqa: S608
        names: tuple[str, ...] = tuple(connection.execute(asked).keys())
        if twice := {name for name in names if names.count(name) > 1}:
            listed = "、".join(sorted(twice))
            raise SourceMisconfigured(f"列「{listed}」が二つあります。AS で名前を分けてください。")

        def one(name: str) -> str:
            for n in (*(n for n in names if n == name), *names):
                if n.casefold() == name.strip().casefold():
                    return n
            raise SourceMisconfigured(
                f"列「{name}」がありません。問い合わせの列は {'、'.join(names)} です。"
            )

        return _Shape(
            all=names,
            id=tuple(map(one, own.id_columns)),
            updated=own.updated_column and one(own.updated_column),
            access=own.access_column and one(own.access_column),
            holes={hole: one(hole) for hole in _HOLE.findall(own.title + own.body)},
        )

    # --- a row ----------------------------------------------------------------------

    def _whole(self, shape: _Shape, said: Said) -> tuple[_Row, bytes]:
        own = self._settings
        if own.body:
            body = _filled(own.body, shape, said)
        else:
            told = {n: _shown(said[n]) for n in shape.all if n != shape.access}
            body = "\n".join(f"{name}: {value}" for name, value in told.items() if value)
        data = body.encode("utf-8", "replace")
        title = self._title(shape, said)
        digest = hashlib.sha256(title.encode("utf-8", "replace") + b"\0" + data).hexdigest()[:32]
        stamp = _stamp(said[shape.updated]) if shape.updated else ""
        return self._row(shape, said, f"{stamp}|{digest}"), data

    def _row(self, shape: _Shape, said: Said, version: str) -> _Row:
        readers = self._readers
        access = readers.of(said[shape.access]) if shape.access else readers.all
        return _Row(version, self._title(shape, said), access, _when(_stamp_of(version)))

    def _title(self, shape: _Shape, said: Said) -> str:
        filled = " ".join(_filled(self._settings.title, shape, said).split())
        return filled or _uri(shape.key(said)) or "(キーなし)"


class _Spool:
    """Texts laid aside, in a file that has no name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it goes with the spool
        self._at: dict[str, tuple[int, int]] = {}
        weakref.finalize(self, self._file.close)

    def put(self, uri: str, data: bytes) -> None:
        start = self._file.seek(0, io.SEEK_END)
        if start + len(data) <= SPOOL_BYTES:
            self._file.write(data)
            self._at[uri] = (start, len(data))

    def get(self, uri: str) -> bytes | None:
        if uri not in self._at:
            return None
        start, size = self._at[uri]
        self._file.seek(start)
        return self._file.read(size)


# --- columns, keys, values ----------------------------------------------------------


def _literal(sql: str) -> str:
    """A colon in it names no parameter."""
    return sql.replace(":", r"\:")


def _named(connection: Connection, column: str) -> str:
    quoted: str = connection.dialect.identifier_preparer.quote_identifier(column)
    return "kura." + _literal(quoted)


def _filled(template: str, shape: _Shape, said: Said) -> str:
    return _HOLE.sub(lambda hole: _shown(said[shape.holes[hole[1]]]), template)


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bytes() | memoryview() | bytearray():
            return ""  # no text
        case datetime():
            return value.isoformat(" ")
        case dict() | list():
            return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _uri(key: tuple[Any, ...]) -> str:
    """Nothing where a part has no name."""
    parts = [_nfc(_shown(value)).replace("\0", "") for value in key]
    if not all(parts):
        return ""
    return (
        parts[0]
        if len(parts) == 1
        else "/".join(p.replace("%", "%25").replace("/", "%2F") for p in parts)
    )


def _parts(uri: str, count: int) -> list[str]:
    return [uri] if count == 1 else [unquote(part) for part in uri.split("/")]


def _nfc(said: str) -> str:
    return unicodedata.normalize("NFC", said)


def _stamp(value: Any) -> str:
    """A moment as a version keeps it: its kind, then how it is written."""
    match value:
        case None:
            return ""
        case datetime():  # of one zone: the server's may change
            return f"t{(value.astimezone(UTC) if value.tzinfo else value).isoformat()}"
        case date():
            return f"d{value.isoformat()}"
        case int() | Decimal() | float():
            return f"n{value}"
    return f"s{value}"


def _stamp_of(version: str) -> str:
    return version.rpartition("|")[0]


def _moment(stamp: str) -> Any:
    """What was stamped, to be compared with its column."""
    said = stamp[1:]
    with suppress(ValueError, ArithmeticError):
        match stamp[:1]:
            case "t":
                return datetime.fromisoformat(said)
            case "d":
                return date.fromisoformat(said)
            case "n":
                return int(said) if said.lstrip("-").isdecimal() else float(said)
            case "s":
                return said
    return None


def _latest(stamps: Iterable[str]) -> Any:
    """Nothing where they cannot be compared: a column became one of another kind."""
    with suppress(TypeError):
        return max((m for m in map(_moment, stamps) if m is not None), default=None)
    return None


def _when(stamp: str) -> datetime:
    """Without a zone it is the machine's."""
    moment = _moment(stamp)
    with suppress(ValueError, OverflowError, OSError):
        if isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime.combine(moment, time.min)
        if isinstance(moment, datetime):
            return moment if moment.tzinfo else moment.astimezone()
    return datetime.fromtimestamp(0, UTC)
