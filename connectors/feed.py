"""Feeds of news, RSS 1.0 and 2.0 and Atom: an entry, a document.

A feed is a window: what falls out of it stays, for as many days as the settings say. The cursor holds
which entries there were, never what they say. Who may read is said by the administrator.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import html
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar

from lxml import etree
from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceMisconfigured,
    SourceUnreachable,
    Transient,
)
from appliance.types import ALONE, Access, Change, Checkpoint, Cursor, Failed, RawFile, Site, Upsert
from connectors import admit
from connectors.form import LATER
from connectors.http import AtHome, Http, Outside, basic, shown
from connectors.markup import tree
from connectors.urls import Fence, canonical

FEED_BYTES = 20_000_000
PAGE_BYTES = 200_000_000
CURSOR_BYTES = 500_000_000
NO_TITLE = "(無題)"
_ATOM, _DC = "{http://www.w3.org/2005/Atom}", "{http://purl.org/dc/elements/1.1/}"
_FULL = "{http://purl.org/rss/1.0/modules/content/}encoded"
_ABOUT = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about"


class FeedSettings(BaseModel):
    urls: list[str] = Field(
        min_length=1, title="フィード", description="RSS か Atom の URL。いくつでも。"
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の記事を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    linked: bool = Field(
        default=False,
        title="リンク先のページを読む",
        description="フィードの要約ではなく、記事のページを文書にします。",
    )
    within: list[str] = Field(
        default_factory=list,
        title="リンク先の範囲",
        description="この URL の下のページだけを読みます。空なら、フィードと同じサーバー。",
    )
    keep_days: int = Field(
        default=365,
        ge=0,
        le=36_500,
        title="残す日数",
        description="フィードから消えた記事を、この日数だけ残します。",
    )
    user: str = Field(default="", title="利用者名", description="HTTP の基本認証を使うとき。")
    password: str = Field(default="", title="パスワード", repr=False)
    per_second: float = Field(
        default=2.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("urls", "within")
    @classmethod
    def _urls(cls, urls: list[str]) -> list[str]:
        if odd := [url for url in urls if not canonical(url)]:
            raise ValueError(f"{shown(odd[0])} は http か https の URL ではありません")
        return urls


@dataclass(frozen=True, slots=True)
class Entry:
    uri: str
    feed: str
    title: str
    link: str  # empty where it has none
    at: str  # ISO 8601; empty where it does not say
    digest: str  # of what it says
    gone: str = ""  # since when it is no longer in its feed
    body: str | None = None  # HTML; None where it is only remembered

    def page(self) -> bytes:
        """For the parser of pages."""
        name, link = html.escape(self.title), html.escape(self.link)
        said = f"<p>{html.escape(self.at[:10])}</p>" if self.at else ""
        more = f'<p><a href="{link}">{link}</a></p>' if link else ""
        return (
            f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{name}</title></head>'
            f"<body><h1>{name}</h1>{said}<div>{self.body or ''}</div>{more}</body></html>"
        ).encode("utf-8", "replace")


@dataclass(slots=True)
class _Known:
    """What was there. `stamps` say which edition of a feed it was."""

    entries: dict[str, Entry] = field(default_factory=dict)
    stamps: dict[str, dict[str, str]] = field(default_factory=dict)


class FeedConnector:
    """RSS / Atom のフィード"""

    kind: ClassVar[str] = "feed"
    Settings: ClassVar[type[BaseModel]] = FeedSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: FeedSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._feeds = list(dict.fromkeys(canonical(url, drop=()) for url in settings.urls))
        places = settings.within or ["/".join(url.split("/", 3)[:3]) for url in self._feeds]
        self._fence = Fence([canonical(url, drop=()) for url in places], set(self._feeds))

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        auth = AtHome("Authorization", basic(own.user, own.password), self._feeds)
        return Http(
            [*self._feeds, *self._fence.places],
            self.site,
            auth=auth if own.user else None,
            per_second=own.per_second,
            fence=self._fence.admits,
        )

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        """One feed that is not there does not stop the others."""
        self._access  # noqa: B018  its setting may be wrong
        errors: list[ApplianceError] = []
        for url in self._feeds:
            try:
                self._look(url, _Known())
                return
            except ApplianceError as error:
                errors.append(error)
        raise errors[0]

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All that is in the feeds, and what was and is kept."""
        before, now = _load(since), _Known()
        for url in self._feeds:
            old = {u: e for u, e in before.entries.items() if e.feed == url}
            try:
                found = self._look(url, before)
            except ApplianceError as error:
                transient = isinstance(error, Transient)
                yield Failed(f"{url}#フィード", "フィード", str(error), transient)
                found = _Known(old, {k: v for k, v in before.stamps.items() if k == url})
            kept = {u: self._aged(e) for u, e in old.items() if u not in found.entries}
            now.stamps |= found.stamps
            for uri, entry in (found.entries | {u: e for u, e in kept.items() if e}).items():
                if entry is not None and (uri not in now.entries or now.entries[uri].gone):
                    now.entries[uri] = entry
        for entry in now.entries.values():
            yield Upsert(self._file(entry))
        yield Checkpoint(_save(now), complete=True)

    def file(self, uri: str) -> RawFile:
        """Only what is in a feed now."""
        for url in self._feeds if uri else []:
            if entry := self._look(url, _Known()).entries.get(uri):
                return self._file(entry)
        raise NotVisible(f"{uri} はありません。")

    def _look(self, url: str, before: _Known) -> _Known:
        stamp = before.stamps.get(url, {})
        reply = self._http.ask("GET", url, headers=stamp, most_bytes=FEED_BYTES)
        if reply.status == 304:
            same = {u: e for u, e in before.entries.items() if e.feed == url and not e.gone}
            return _Known(same, {url: stamp})
        if reply.status != 200:
            raise SourceMisconfigured(f"{shown(url)} がありません。URL を確かめてください。")
        said = (("if-none-match", "etag"), ("if-modified-since", "last-modified"))
        stamp = {ask: reply.headers[told] for ask, told in said if reply.headers.get(told)}
        return _Known({e.uri: e for e in entries(reply.body, url)}, {url: stamp})

    def _aged(self, entry: Entry) -> Entry | None:
        """An entry that is not in its feed, if it is kept."""
        today = datetime.now(UTC).replace(microsecond=0)
        gone = datetime.fromisoformat(entry.gone) if entry.gone else today
        if today - gone >= timedelta(days=self._settings.keep_days):
            return None
        return entry if entry.gone else replace(entry, gone=today.isoformat())

    def _file(self, entry: Entry) -> RawFile:
        linked = self._settings.linked and self._fence.holds(entry.link)
        return RawFile(
            uri=entry.uri,
            version=f"{entry.digest}-linked" if linked else entry.digest,
            open=partial(self._linked if linked else self._said, entry),
            access=self._access,
            title=entry.title,
            modified_at=datetime.fromisoformat(entry.at or "1970-01-01T00:00:00+00:00"),
            media_type=None if linked else "text/html",
        )

    def _said(self, entry: Entry) -> BinaryIO:
        """What the feed says of it, asked for where it is only remembered."""
        if entry.body is None:
            there = self._look(entry.feed, _Known()).entries.get(entry.uri)
            if there is None:
                raise SourceUnreachable(
                    f"「{entry.title}」はフィードから消えたため、読み直せません。"
                )
            entry = there
        return io.BytesIO(entry.page())

    def _linked(self, entry: Entry) -> BinaryIO:
        """What it links to; what the feed says of it where that is gone, or elsewhere."""
        try:
            reply, copy = self._http.fetch(entry.link, PAGE_BYTES)
        except Outside:
            return self._said(entry)
        if reply.status == 200:
            return copy
        copy.close()
        return self._said(entry)


# --- reading a feed ---------------------------------------------------------------


def entries(body: bytes, feed: str) -> list[Entry]:
    """In their order, of two with one name the first. Raises SourceMisconfigured."""
    root = tree(body)
    kind = "" if root is None else etree.QName(root).localname.lower()
    if root is None or kind not in ("rss", "rdf", "feed"):
        raise SourceMisconfigured(f"{shown(feed)} は RSS でも Atom でもありません。")
    nodes = root.iterfind(f"{_ATOM}entry") if kind == "feed" else root.iterfind(".//{*}item")
    found: dict[str, Entry] = {}
    for node in nodes:
        entry = _atom(node, feed) if kind == "feed" else _rss(node, feed)
        found.setdefault(entry.uri, entry)
    return list(found.values())


def _rss(node: Any, feed: str) -> Entry:
    """RSS of whatever version: its names are the same in another namespace, or in none."""
    space, said = etree.QName(node).namespace, dict[str, str]()
    for child in node:
        if isinstance(child.tag, str) and etree.QName(child).namespace == space:  # and no comment
            said.setdefault(etree.QName(child).localname, "".join(child.itertext()).strip())
    own = said.get("guid") or node.get(_ABOUT) or ""
    link = said.get("link") or (own if own.startswith("http") else "")
    body = node.findtext(_FULL) or said.get("description") or ""
    at = said.get("pubDate") or node.findtext(f"{_DC}date") or ""
    return _entry(feed, own, said.get("title", ""), link, at, body)


def _atom(node: Any, feed: str) -> Entry:
    links = [
        one.get("href", "")
        for one in node.iterfind(f"{_ATOM}link")
        if one.get("rel", "alternate") == "alternate"
    ]
    content = node.find(f"{_ATOM}content")
    if content is None or content.get("src"):
        content = node.find(f"{_ATOM}summary")
    at = node.findtext(f"{_ATOM}updated") or node.findtext(f"{_ATOM}published") or ""
    title = node.find(f"{_ATOM}title")
    name = "" if title is None else "".join(title.itertext())
    own = node.findtext(f"{_ATOM}id") or ""
    return _entry(feed, own.strip(), name, links[0] if links else "", at, _content(content))


def _entry(feed: str, own: str, title: str, link: str, at: str, body: str) -> Entry:
    name = " ".join(html.unescape(re.sub(r"<[^<>]{0,200}>", "", title)).split())[:500]
    link = canonical(link, feed) if link.strip() else ""
    own = own if re.match(r"https?://|tag:|urn:", own) else f"{feed}#{own}" if own else link
    if not own or len(own) > 2000:
        said = hashlib.sha256(f"{own}\n{title}\n{at}".encode("utf-8", "replace")).hexdigest()
        own = f"{feed}#{said[:16]}"
    uri = unicodedata.normalize("NFC", own)
    entry = Entry(uri, feed, name or NO_TITLE, link, _when(at), "", body=body.strip())
    return replace(entry, digest=hashlib.sha256(entry.page()).hexdigest())


def _content(node: Any | None) -> str:
    """HTML of what may be text, HTML in text, or XHTML."""
    if node is None:
        return ""
    kind = node.get("type", "text")
    if kind == "xhtml":
        inner = (etree.tostring(c, encoding="unicode", with_tail=True) for c in node)
        return html.escape(node.text or "") + "".join(inner)
    text = "".join(node.itertext())
    return text if "html" in kind else html.escape(text)


def _when(said: str) -> str:
    """UTC, ISO 8601; empty where it is no date."""
    said = said.strip()
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(said)
        except (ValueError, TypeError):
            return ""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).replace(microsecond=0).isoformat()
    except OverflowError:
        return ""


def _save(known: _Known) -> Cursor:
    rows = [asdict(replace(entry, body=None)) for entry in known.entries.values()]
    text = json.dumps({"entries": rows, "stamps": known.stamps}, ensure_ascii=False)
    return Cursor(base64.b64encode(zlib.compress(text.encode("utf-8", "replace"))).decode("ascii"))


def _load(cursor: Cursor | None) -> _Known:
    try:
        told = json.loads(
            zlib.decompressobj().decompress(base64.b64decode(cursor or ""), CURSOR_BYTES)
        )
        found = [Entry(**row) for row in told["entries"]]
        return _Known({entry.uri: entry for entry in found}, told["stamps"])
    except (ValueError, KeyError, TypeError, zlib.error):
        return _Known()  # another version's: a feed is read anew
