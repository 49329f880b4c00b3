"""A DokuWiki: its pages as it shows them and its media with their bytes, by XML-RPC.

Its rules of access cannot be read by the API, so the administrator says who may read; what its account
may not read is not there. One answer lists all pages, another all media, each with a digest: what is gone
under one name and new under another, with the same text, is `Moved`.

A DokuWiki of 2022 answers a wrong password as if nobody had signed in, with an empty list, and many an
error with an empty struct: both are told apart from a wiki that is empty.
"""

from __future__ import annotations

import hashlib
import html
import io
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from lxml import etree
from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import ALONE, Access, Change, Cursor, Failed, RawFile, Site
from connectors import admit
from connectors.form import LATER
from connectors.http import AtHome, Http, basic, shown
from connectors.listing import Listing
from connectors.markup import tree

FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
ANSWER_BYTES = 400_000_000
_MEDIA = "_media/"  # no page can be called so
_OFF = "-32605"


class DokuWikiSettings(BaseModel):
    url: str = Field(
        title="URL",
        description="wiki の URL。https://wiki.example.co.jp/dokuwiki/ など。"
        "DokuWiki の設定で remote (リモート API) を有効にしてください。",
    )
    user: str = Field(
        default="",
        title="利用者名",
        description="読むだけの利用者を勧めます。誰でも読める wiki では空。",
    )
    password: str = Field(default="", title="パスワード", repr=False)
    namespace: str = Field(
        default="", title="名前空間", description="この下だけを読みます。空なら wiki 全体。"
    )
    media: bool = Field(
        default=True,
        title="メディアファイルも読む",
        description="アップロードされたファイルを文書にします。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    exclude: list[str] = Field(
        default_factory=list,
        title="除外",
        description="除くページの型 (個人/*、playground/* など)。名前空間の区切りは / です。",
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
        """Ends in a slash."""
        parts = urlsplit(url.strip())
        path = quote(unquote(parts.path), safe="/~!$&'()*+,;=:@-._")
        for tail in ("doku.php", "lib/exe/xmlrpc.php"):
            path = path.removesuffix(tail)
        return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}/"

    @field_validator("namespace")
    @classmethod
    def _inner(cls, name: str) -> str:
        return ":".join(p for p in name.strip().replace("/", ":").split(":") if p)


@dataclass(frozen=True, slots=True)
class _One:
    """What a listing says of a page or of a medium."""

    id: str  # as the wiki spells it
    media: bool
    changed_s: int
    size_bytes: int
    digest: str  # MD5 of its bytes, or of its text

    @property
    def version(self) -> str:
        return f"{self.changed_s}:{self.size_bytes}:{self.digest}"

    @property
    def same(self) -> str:
        """What a renamed one keeps; nothing for the empty, which are all alike."""
        kind = "media" if self.media else "page"
        return f"{kind}:{self.digest}" if self.digest and self.size_bytes else ""


class DokuWikiConnector:
    """DokuWiki"""

    kind: ClassVar[str] = "dokuwiki"
    Settings: ClassVar[type[BaseModel]] = DokuWikiSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: DokuWikiSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._door = f"{settings.url}lib/exe/xmlrpc.php"

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        auth = AtHome("Authorization", basic(own.user, own.password), [own.url])
        return Http(
            [own.url], self.site, auth=auth if own.user else None, per_second=own.per_second
        )

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._access  # noqa: B018  its setting may be wrong
        self._sign_in()
        if not isinstance(self._call("dokuwiki.getVersion"), str):
            raise self._no_wiki()

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All pages and media. A listing that breaks off tells of nothing."""
        self._access  # noqa: B018
        self._sign_in()
        walk = Listing[_One]()
        for said, media in self._listed(self._settings.namespace):
            uri = self._uri(str(said.get("id") or ""), media)
            if not uri or not admit.within(uri, self._settings.exclude):
                continue
            try:
                walk.add(uri, _read(said, media), self._access)
            except (KeyError, TypeError, ValueError):
                why = "wiki の返事を読めません"
                walk.failures.append(Failed(uri, uri, why, True, self._access))
        yield from walk.changes(since, lambda one: one.same, self._file)

    def file(self, uri: str) -> RawFile:
        media, name = uri.startswith(_MEDIA), uri.removeprefix(_MEDIA)
        namespace = name.rpartition("/")[0].replace("/", ":")
        named = name and not any(ord(c) < 32 for c in name) and ":" not in name
        if named and all(part.strip(".") for part in name.split("/")):
            self._sign_in()
            with suppress(SourceDenied):  # a namespace that is closed to the account
                for said, of_media in self._listed(namespace, depth=namespace.count(":") + 2):
                    wanted = of_media == media and self._uri(str(said.get("id")), media) == uri
                    if wanted and admit.within(uri, self._settings.exclude):
                        return self._file(uri, _read(said, media))
        raise NotVisible(f"{uri} はありません。")

    def _file(self, uri: str, one: _One) -> RawFile:
        return RawFile(
            uri=uri,
            version=one.version,
            open=partial(self._bytes if one.media else self._shown, uri, one),
            access=self._access,
            title=uri.removeprefix(_MEDIA),
            modified_at=datetime.fromtimestamp(max(0, min(one.changed_s, 1 << 33)), UTC),
            media_type=None if one.media else "text/html",
            size_bytes=one.size_bytes if one.media else None,
        )

    def _shown(self, uri: str, one: _One) -> BinaryIO:
        """The page as people see it: SourceBusy where it is another by now."""
        page = self._call("wiki.getPageHTML", one.id)
        info = self._call("wiki.getPageInfo", one.id)
        if not isinstance(page, str) or not isinstance(info, dict) or not info:
            raise SourceUnreachable(f"「{uri}」はもうないか、読めません。")
        if info.get("version") != one.changed_s:
            raise SourceBusy(f"「{uri}」は書き込み中です。次の確認で読み直します。")
        name = html.escape(uri)
        link = html.escape(f"{self._settings.url}doku.php?{urlencode({'id': one.id})}")
        return io.BytesIO(
            f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{name}</title></head>'
            f'<body><p>{name}</p><div>{page}</div><p><a href="{link}">{link}</a></p></body></html>'
            .encode("utf-8", "replace")
        )  # fmt: skip

    def _bytes(self, uri: str, one: _One) -> BinaryIO:
        """The bytes that were listed: SourceBusy where they are others by now."""
        asked = urlencode({"media": one.id, "cache": "nocache"})
        copy = self._http.file(f"{self._settings.url}lib/exe/fetch.php?{asked}", FILE_BYTES)
        try:
            digest = hashlib.md5(usedforsecurity=False)
            while block := copy.read(1 << 20):
                digest.update(block)
            if one.digest and digest.hexdigest() != one.digest:
                raise SourceBusy(f"「{uri}」は書き込み中です。次の確認で読み直します。")
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    # --- what the wiki says -----------------------------------------------------------

    def _sign_in(self) -> None:
        """Raises SourceDenied: with a wrong password it would answer as to a stranger."""
        own = self._settings
        if own.user and self._call("dokuwiki.login", own.user, own.password) is not True:
            raise SourceDenied(
                f"{shown(own.url)} にサインインできません。利用者名とパスワードを確かめてください。"
            )

    def _listed(self, namespace: str, depth: int = 0) -> Iterator[tuple[Mapping[str, Any], bool]]:
        """Pages, then media (True), below a namespace."""
        options = {"depth": depth, "hash": 1}
        pages = self._rows("dokuwiki.getPagelist", namespace, options)
        for page in pages:
            yield page, False
        if not self._settings.media:
            return
        try:
            places = [self._rows("wiki.getAttachments", namespace, options)]
        except SourceDenied:
            if not pages:
                raise
            # the top is closed to the account, and what lies below may not be
            below = len(namespace) + 1 if namespace else 0
            inner = {str(p.get("id"))[below:].partition(":")[::2] for p in pages}
            tops = sorted({top for top, rest in inner if rest})
            places = [self._open_media(f"{namespace}:{top}".strip(":"), options) for top in tops]
        for rows in places:
            for medium in rows:
                yield medium, True

    def _open_media(self, namespace: str, options: dict[str, int]) -> list[Mapping[str, Any]]:
        try:
            return self._rows("wiki.getAttachments", namespace, options)
        except SourceDenied:
            return []

    def _rows(self, method: str, *given: Any) -> list[Mapping[str, Any]]:
        found = self._call(method, *given)
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise SourceUnreachable(f"{shown(self._settings.url)} の一覧を読めません。")
        return found

    def _call(self, method: str, *given: Any) -> Any:
        where = shown(self._settings.url)
        call, params = etree.Element("methodCall"), etree.Element("params")
        etree.SubElement(call, "methodName").text = method
        call.append(params)
        for one in given:
            etree.SubElement(params, "param").append(_written(one))
        content = etree.tostring(call, xml_declaration=True, encoding="utf-8")
        headers = {"content-type": "text/xml"}
        try:
            reply = self._http.ask(
                "POST", self._door, headers=headers, content=content, most_bytes=ANSWER_BYTES
            )
        except SourceDenied as error:
            raise SourceDenied(
                f"{error} パスワードと、DokuWiki の設定 remoteuser と ACL を確かめてください。"
            ) from None
        if reply.status in (404, 410):
            raise SourceMisconfigured(f"{shown(self._door)} がありません。URL を確かめてください。")
        root = tree(reply.body)
        if root is None and "xml" in reply.headers.get("content-type", ""):
            raise SourceUnreachable(
                f"{where} の応答が途中で切れたか、正しくありません。次の確認でやり直します。"
            )
        if root is None or root.tag != "methodResponse":
            raise self._no_wiki()
        fault, value = root.find("fault/value"), root.find("params/param/value")
        if fault is not None:
            told = _value(fault)
            code = str(told.get("faultCode")) if isinstance(told, dict) else ""
            if code == _OFF:
                raise SourceMisconfigured(
                    f"{where} のリモート API が無効です。DokuWiki の設定 remote を有効にしてください。"
                )
            raise SourceMisconfigured(f"{where} は {method} を断りました ({code[:20]})。")
        if value is None:
            raise self._no_wiki()
        return _value(value)

    def _no_wiki(self) -> SourceMisconfigured:
        return SourceMisconfigured(
            f"{shown(self._settings.url)} は DokuWiki ではないか、リモート API (remote) が無効です。"
        )

    def _uri(self, id: str, media: bool) -> str:
        """Empty for what lies outside the namespace."""
        within = self._settings.namespace
        if not id or "/" in id or (within and not id.startswith(f"{within}:")):
            return ""
        path = unicodedata.normalize("NFC", id).replace(":", "/")
        return f"{_MEDIA}{path}" if media else path


def _read(said: Mapping[str, Any], media: bool) -> _One:
    return _One(
        id=str(said["id"]),
        media=media,
        changed_s=int(said.get("mtime") or said["rev"]),
        size_bytes=int(said["size"]),
        digest=str(said.get("hash") or ""),
    )


def _written(one: Any) -> Any:
    value = etree.Element("value")
    if isinstance(one, dict):
        struct = etree.SubElement(value, "struct")
        for name, inner in one.items():
            member = etree.SubElement(struct, "member")
            etree.SubElement(member, "name").text = name
            member.append(_written(inner))
    else:
        etree.SubElement(value, "int" if isinstance(one, int) else "string").text = str(one)
    return value


def _value(node: Any) -> Any:
    """What a <value> holds; None for what it cannot hold."""
    if node is None:
        return None
    inner = next((child for child in node if isinstance(child.tag, str)), None)
    if inner is None:
        return node.text or ""
    text = "".join(inner.itertext())
    match inner.tag:
        case "struct":
            return {
                m.findtext("name") or "": _value(m.find("value")) for m in inner.iterfind("member")
            }
        case "array":
            return [_value(one) for one in inner.iterfind("data/value")]
        case "int" | "i4" | "i8":
            return int(text) if text.strip().lstrip("-").isdecimal() else None
        case "boolean":
            return text.strip() == "1"
        case "string" | "dateTime.iso8601" | "double":
            return text
    return None
