"""A bucket of Amazon S3, MinIO or another store that speaks its protocol, with all that is below a prefix.

The rights of a bucket name keys and accounts of the store, not people, so the administrator says who
may read. S3 knows no renaming: what is gone under one key and new under another, with the same ETag and
size and nothing else alike, is `Moved`. An unchanged object costs no request of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar, Literal, NamedTuple
from urllib.parse import quote, unquote_plus, urlsplit

import httpx2
from lxml import etree
from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.shelf import Shelf
from appliance.types import ALONE, Access, Change, Cursor, Failed, RawFile, Site
from connectors import admit, http
from connectors.form import LATER, called
from connectors.http import Http, shown
from connectors.listing import Listing, title
from connectors.markup import tree

FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
KEY_BYTES = 1024
_NOTHING = hashlib.sha256(b"").hexdigest()
_SAFE = "-_.~"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9-]{1,50}")
_REFUSALS: dict[str, tuple[type[ApplianceError], str]] = {
    "InvalidAccessKeyId": (SourceDenied, "このアクセスキー ID は登録されていません"),
    "SignatureDoesNotMatch": (SourceDenied, "シークレットアクセスキーが違います"),
    "RequestTimeTooSkewed": (SourceMisconfigured, "このマシンの時計が相手とずれています"),
    "AuthorizationHeaderMalformed": (SourceMisconfigured, "リージョンが違います"),
    "PermanentRedirect": (SourceMisconfigured, "リージョンかエンドポイントが違います"),
    "InvalidObjectState": (
        SourceDenied,
        "アーカイブされたオブジェクトは、取り出さないと読めません",
    ),
    "InvalidBucketName": (SourceMisconfigured, "バケット名が正しくありません"),
}


class S3Settings(BaseModel):
    endpoint: str = Field(
        title="エンドポイント",
        description="https://minio.example.co.jp:9000 や "
        "https://s3.ap-northeast-1.amazonaws.com のような URL。",
    )
    bucket: str = Field(title="バケット")
    prefix: str = Field(
        default="", title="プレフィックス", description="この下だけを読みます。空ならバケット全体。"
    )
    region: str = Field(
        default="us-east-1", title="リージョン", description="MinIO では、ふつう us-east-1 です。"
    )
    style: Literal["path", "virtual-host"] = Field(
        json_schema_extra=called(
            {"path": "パスの中 (path)", "virtual-host": "ホスト名の中 (virtual-host)"}
        ),
        default="path",
        title="バケットの指し方",
        description="path は https://ホスト/バケット、virtual-host は https://バケット.ホスト。",
    )
    access_key_id: str = Field(
        default="", title="アクセスキー ID", description="一覧と読み取りだけを許した鍵を勧めます。"
    )
    secret_access_key: str = Field(default="", title="シークレットアクセスキー", repr=False)
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )
    per_second: float = Field(
        default=0.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("endpoint")
    @classmethod
    def _host_alone(cls, url: str) -> str:
        parts = urlsplit(url.strip())
        if parts.path.strip("/") or parts.query:
            raise ValueError("ホストとポートまでを書いてください。バケットは別の欄です")
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("bucket")
    @classmethod
    def _one_bucket(cls, name: str) -> str:
        if not _BUCKET.fullmatch(name.strip()) or ".." in name:
            raise ValueError("バケット名には英数字と . _ - が使えます")
        return name.strip()

    @field_validator("region")
    @classmethod
    def _one_region(cls, name: str) -> str:
        if not _REGION.fullmatch(name.strip()):
            raise ValueError("リージョンは ap-northeast-1 のように書きます")
        return name.strip()

    @field_validator("prefix")
    @classmethod
    def _folder(cls, prefix: str) -> str:
        """Ends in a slash: 規程 is not the beginning of 規程集."""
        inner = prefix.strip().strip("/")
        return f"{inner}/" if inner else ""


class _Object(NamedTuple):
    """What a listing says of one. `key` is as the store spells it."""

    key: str
    etag: str  # in its quotes; empty where the store gives none
    modified: str
    size_bytes: int | None

    @property
    def version(self) -> str:
        return self.etag.strip('"') or f"{self.modified}:{self.size_bytes}"

    @property
    def same(self) -> str:
        """What a copy under another key keeps; nothing for the empty, which are all alike."""
        return f"{self.etag}:{self.size_bytes}" if self.etag and self.size_bytes else ""


class S3Connector:
    """S3 (MinIO、Amazon S3 など)"""

    kind: ClassVar[str] = "s3"
    Settings: ClassVar[type[BaseModel]] = S3Settings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: S3Settings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        scheme, host = urlsplit(settings.endpoint)[:2]
        below = (
            f"{host}/{settings.bucket}" if settings.style == "path" else f"{settings.bucket}.{host}"
        )
        self._base = f"{scheme}://{below}/"

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        auth = Signature(own.access_key_id, own.secret_access_key, own.region)
        return Http(
            [self._base],
            self.site,
            auth=auth if own.access_key_id else None,
            per_second=own.per_second,
            judge=_judge,
        )

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._access  # noqa: B018  its setting may be wrong
        self._page(self._settings.prefix, most=1)

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All that is below the prefix. A listing that breaks off tells of nothing."""
        listing = Listing(Shelf(_Object._make))
        for one in self._objects():
            uri = self._uri(one)
            if one.key.endswith(uri) and (other := listing.files.get(uri)):
                listing.files[uri], one = one, other  # the NFC spelling keeps the name
            if why := _unreadable(uri):
                listing.failures.append(Failed(uri, title(uri), why, False, self._access))
            elif not uri.endswith("/") and admit.within(uri, self._settings.exclude):
                # a slash at the end is a folder, as consoles make them
                listing.add(uri, one, self._access)
        yield from listing.changes(since, lambda one: one.same, self._file)

    def file(self, uri: str) -> RawFile:
        named = uri and "\0" not in uri and not uri.endswith("/") and not _unreadable(uri)
        if named and admit.within(uri, self._settings.exclude):
            for form in ("NFC", "NFD"):
                key = self._settings.prefix + unicodedata.normalize(form, uri)
                if len(key.encode()) <= KEY_BYTES:
                    first = self._page(key, most=1)[0]
                    if first and first[0].key == key:  # it comes before all that is longer
                        return self._file(uri, first[0])
        raise NotVisible(f"{uri} はありません。")

    def _file(self, uri: str, one: _Object) -> RawFile:
        return RawFile(
            uri=uri,
            version=one.version,
            open=partial(self._open, one),
            access=self._access,
            title=title(uri),
            modified_at=_when(one.modified),
            size_bytes=one.size_bytes,
        )

    def _open(self, one: _Object) -> BinaryIO:
        """The bytes that were listed: SourceBusy where they are others by now."""
        headers = {"if-match": one.etag} if one.etag else {}
        url = f"{self._base}{quote(one.key, safe='/' + _SAFE)}"
        return self._http.file(url, FILE_BYTES, headers=headers, size_bytes=one.size_bytes)

    # --- listing ------------------------------------------------------------------

    def _objects(self) -> Iterator[_Object]:
        after, seen = "", set[str]()
        while True:
            found, after = self._page(self._settings.prefix, after)
            yield from found
            if not after:
                return
            if after in seen:
                raise SourceUnreachable(
                    f"{shown(self._base)} の一覧が同じ所を繰り返します。次の確認でやり直します。"
                )
            seen.add(after)

    def _page(self, prefix: str, after: str = "", most: int = 1000) -> tuple[list[_Object], str]:
        """Some objects, sorted by key, and where the next page begins; empty where there is none."""
        asked = {"list-type": "2", "encoding-type": "url", "max-keys": str(most), "prefix": prefix}
        if after:
            asked["continuation-token"] = after
        query = "&".join(f"{name}={quote(asked[name], safe=_SAFE)}" for name in sorted(asked))
        reply = self._http.ask("GET", f"{self._base}?{query}")
        if reply.status in (404, 410):
            raise SourceMisconfigured(
                f"{shown(self._base)} がありません。バケット名を確かめてください。"
            )
        root = tree(reply.body)
        if root is None and b"<ListBucketResult" in reply.body[:500]:
            raise SourceUnreachable(
                f"{shown(self._base)} の一覧を読めません。途中で切れているか、壊れています。"
                "次の回に読み直します。続くときは、サーバーと、間にあるプロキシーを確かめてください。"
            )
        if reply.status != 200 or root is None or etree.QName(root).localname != "ListBucketResult":
            raise SourceMisconfigured(
                f"{shown(self._base)} は S3 ではありません ({reply.status})。エンドポイントを確かめてください。"
            )
        coded = root.findtext("{*}EncodingType") == "url"
        found = [_object(one, coded) for one in root.iterfind("{*}Contents")]
        more = root.findtext("{*}IsTruncated") == "true"
        token = root.findtext("{*}NextContinuationToken") or ""
        if more and not token:
            raise SourceUnreachable(
                f"{shown(self._base)} の一覧が途中で切れました。次の確認でやり直します。"
            )
        return found, token if more else ""

    def _uri(self, one: _Object) -> str:
        return unicodedata.normalize("NFC", one.key[len(self._settings.prefix) :])


def _unreadable(uri: str) -> str:
    """Why no request can name it: clients and servers on the way would make another name of it."""
    if any(part in (".", "..") for part in uri.split("/")):
        return "キーに . か .. だけの区切りがあるため、読めません"
    return ""


def _object(said: Any, coded: bool) -> _Object:
    key, etag, modified, size = (
        (said.findtext(f"{{*}}{name}") or "") for name in ("Key", "ETag", "LastModified", "Size")
    )
    return _Object(
        key=unquote_plus(key) if coded else key,
        etag=etag.strip(),
        modified=modified.strip(),
        size_bytes=int(size) if size.strip().isdecimal() else None,
    )


def _when(said: str) -> datetime:
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _judge(answer: httpx2.Response, url: str) -> None:
    """A refusal by the code that the store gives for it."""
    if answer.status_code in (301, 307, 400, 403):
        root = tree(b"".join(http.bounded(answer, url, 1_000_000)))
        code, region = (
            ("", "")
            if root is None
            else (root.findtext(f"{{*}}{n}") or "" for n in ("Code", "Region"))
        )
        if code in _REFUSALS:
            kind, why = _REFUSALS[code]
            where = f" (相手は {region})" if _REGION.fullmatch(region) else ""
            raise kind(f"{shown(url)}: {why}{where}。")
    http.judge(answer, url)


# --- signature --------------------------------------------------------------------


@dataclass(frozen=True)
class Signature(httpx2.Auth):
    """AWS Signature Version 4, in a header, of a request without a body."""

    key_id: str
    secret: str = field(repr=False)
    region: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["x-amz-content-sha256"] = _NOTHING
        request.headers["x-amz-date"] = self.now().strftime("%Y%m%dT%H%M%SZ")
        request.headers["authorization"] = self.header(
            request.method, request.url.raw_path.decode("ascii"), request.headers
        )
        yield request

    def header(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        """`target` is path and query as they are sent, escaped once."""
        path, _, query = target.partition("?")
        moment = headers["x-amz-date"]
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        names = sorted(
            {n.lower() for n in headers if n.lower().startswith(("host", "range", "x-amz-"))}
        )
        said = [f"{name}:{' '.join(headers[name].split())}" for name in names]
        pairs = sorted(pair.partition("=")[::2] for pair in query.split("&") if pair)
        asked = "&".join(f"{name}={value}" for name, value in pairs)
        signed = ";".join(names)
        canonical = "\n".join(
            [method, path, asked, *said, "", signed, headers["x-amz-content-sha256"]]
        )
        text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, _sha256(canonical)])
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = _hmac(key, part)
        return (
            f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope},"
            f"SignedHeaders={signed},Signature={_hmac(key, text).hex()}"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
