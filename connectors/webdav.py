"""A WebDAV share (Nextcloud, ownCloud, SharePoint's and NAS's WebDAV) with all that is below.

WebDAV tells nobody who may read (RFC 4918; its access control, RFC 3744, is hardly implemented),
so the administrator says so for the whole source. A file is known again by its id (`oc:fileid`)
where the server has one: a rename or a move is `Moved`. An unchanged file costs no request of its own.
"""

from __future__ import annotations

import email.utils
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import httpx2
from lxml import etree
from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.shelf import Shelf
from appliance.types import (
    ALONE,
    Access,
    Change,
    Cursor,
    RawFile,
    Site,
)
from connectors import admit
from connectors.form import LATER
from connectors.http import Http, shown
from connectors.listing import DEEPEST, Listing, title

FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
_DAV, _OC = "{DAV:}", "{http://owncloud.org/ns}"
_ASK = (
    b'<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns"><d:prop>'
    b"<d:resourcetype/><d:getetag/><d:getlastmodified/><d:getcontentlength/><d:getcontenttype/>"
    b"<oc:fileid/></d:prop></d:propfind>"
)


class WebDavSettings(BaseModel):
    url: str = Field(
        title="URL",
        description="読み取るフォルダーの URL。"
        "Nextcloud では https://…/remote.php/dav/files/利用者名/ です。",
    )
    user: str = Field(default="", title="利用者名")
    password: str = Field(
        default="", title="パスワード", description="アプリパスワードを勧めます。", repr=False
    )
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

    @field_validator("url")
    @classmethod
    def _folder(cls, url: str) -> str:
        """Ends in a slash, its path spelled as the server's answers are."""
        parts = urlsplit(url.strip())
        path = _spelled(parts.path) if parts.path.endswith("/") else _spelled(f"{parts.path}/")
        return f"{parts.scheme}://{parts.netloc}{path}"


class _Entry(NamedTuple):
    """What a listing says of a file or a folder. `href` is its path as the server spells it."""

    href: str
    folder: bool
    version: str
    modified_at: datetime
    size_bytes: int | None
    media_type: str | None
    same: str  # its id, which a move keeps; empty where the server gives none


class WebDavConnector:
    """WebDAV (Nextcloud など)"""

    kind: ClassVar[str] = "webdav"
    Settings: ClassVar[type[BaseModel]] = WebDavSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: WebDavSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._base = urlsplit(settings.url).path

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        auth = httpx2.BasicAuth(own.user, own.password) if own.user else None
        return Http([own.url], self.site, auth=auth, per_second=own.per_second)

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._access  # noqa: B018  its setting may be wrong
        if not any(entry.folder for entry in self._listed(self._base, "0")):
            raise SourceMisconfigured(f"{shown(self._settings.url)} はフォルダーではありません。")

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All that is below."""
        yield from self._walk().changes(since, lambda entry: entry.same, self._file)

    def file(self, uri: str) -> RawFile:
        if not uri or any(part in ("", ".", "..") for part in uri.split("/")) or "\0" in uri:
            raise NotVisible(f"{uri} はありません。")
        found = self._listed(self._base + _spelled(uri), "0")
        if len(found) != 1 or found[0].folder:
            raise NotVisible(f"{uri} はありません。")
        return self._file(uri, found[0])

    def _file(self, uri: str, entry: _Entry) -> RawFile:
        return RawFile(
            uri=uri,
            version=entry.version,
            open=partial(self._open, uri, entry),
            access=self._access,
            title=title(uri),
            modified_at=entry.modified_at,
            media_type=entry.media_type,
            size_bytes=entry.size_bytes,
        )

    def _open(self, uri: str, entry: _Entry) -> BinaryIO:
        """The bytes that were listed: SourceBusy where they are others by now."""
        url, size = self._url(entry.href), entry.size_bytes
        copy = self._http.file(url, FILE_BYTES, size_bytes=size, written=entry.modified_at)
        try:
            now = self._listed(entry.href, "0")
            if len(now) != 1 or now[0].version != entry.version:
                raise SourceBusy(f"{uri} は書き込み中です。次の確認で読み直します。")
        except BaseException:
            copy.close()
            raise
        return copy

    # --- listing ------------------------------------------------------------------

    def _walk(self) -> Listing[_Entry]:
        self._access  # noqa: B018
        walk, seen = Listing(Shelf(_Entry._make)), {self._base}
        waiting = [(self._base, "", 0)]
        while waiting:
            href, folder, depth = waiting.pop()
            try:
                entries = self._listed(href, "1")
            except (SourceDenied, SourceMisconfigured, SourceUnreachable) as error:
                if not folder:
                    raise
                walk.shut(folder, error, transient=isinstance(error, SourceUnreachable))
                continue
            for _, entry in sorted({one.href: one for one in entries}.items()):
                uri = self._uri(entry.href)
                if not uri or not admit.wanted(uri, self._settings.exclude):
                    continue
                if not entry.folder:
                    walk.add(uri, entry, self._access)
                    continue
                if entry.href in seen:
                    continue
                seen.add(entry.href)
                if depth < DEEPEST:
                    waiting.append((entry.href, f"{uri}/", depth + 1))
                else:
                    walk.end(f"{uri}/")
        return walk

    def _listed(self, href: str, depth: str) -> list[_Entry]:
        """What a folder holds, itself among it; empty where there is nothing any more."""
        url = self._url(href)
        headers = {"depth": depth, "content-type": "application/xml"}
        reply = self._http.ask("PROPFIND", url, headers=headers, content=_ASK)
        if reply.status >= 400:
            if href == self._base:
                raise SourceMisconfigured(
                    f"{shown(self._settings.url)} がありません。URL を確かめてください。"
                )
            return []
        if reply.status != 207:
            raise SourceMisconfigured(
                f"{shown(self._settings.url)} は WebDAV ではありません ({reply.status})。"
            )
        try:
            # nothing is resolved and nothing fetched; a tree too deep is refused
            parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
            answers = etree.fromstring(reply.body, parser).findall(f"{_DAV}response")
            return [e for e in map(_entry, answers) if e and self._within(e.href)]
        except (etree.XMLSyntaxError, ValueError):
            raise SourceUnreachable(
                f"{shown(self._settings.url)} の一覧を読めません。途中で切れているか、壊れています。"
                "次の回に読み直します。続くときは、サーバーと、間にあるプロキシーを確かめてください。"
            ) from None

    def _within(self, href: str) -> bool:
        return href.startswith(self._base) or f"{href}/" == self._base

    def _uri(self, href: str) -> str:
        """The path below the base, NFC; empty for the base, and for what is no path."""
        uri = unicodedata.normalize("NFC", unquote(href[len(self._base) :])).strip("/")
        return "" if any(p in ("", ".", "..") for p in uri.split("/")) or "\0" in uri else uri

    def _url(self, href: str) -> str:
        parts = urlsplit(self._settings.url)
        return f"{parts.scheme}://{parts.netloc}{href}"


def _entry(answer: Any) -> _Entry | None:
    """Only what is found (200) is said of it."""
    href = urlsplit(str(answer.findtext(f"{_DAV}href") or "").strip()).path
    said = [
        stat.find(f"{_DAV}prop")
        for stat in answer.findall(f"{_DAV}propstat")
        if " 200" in (stat.findtext(f"{_DAV}status") or "")
    ]
    if not href or not said or said[0] is None:
        return None
    prop = said[0]
    size, modified, etag, kind, same = (
        (prop.findtext(name) or "").strip()
        for name in (
            f"{_DAV}getcontentlength", f"{_DAV}getlastmodified", f"{_DAV}getetag",
            f"{_DAV}getcontenttype", f"{_OC}fileid",
        )
    )  # fmt: skip
    return _Entry(
        href=_spelled(href),
        folder=prop.find(f"{_DAV}resourcetype/{_DAV}collection") is not None,
        version=etag or f"{modified}:{size}",
        modified_at=_when(modified),
        size_bytes=int(size) if size.isdecimal() else None,
        media_type=kind.partition(";")[0].strip() or None,
        same=same,
    )


def _spelled(path: str) -> str:
    """A path in one spelling: servers differ in what they escape."""
    return quote(unquote(path), safe="/~!$&'()*+,;=:@-._")


def _when(said: str) -> datetime:
    try:
        moment = email.utils.parsedate_to_datetime(said)
    except (ValueError, TypeError):
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
