"""A MediaWiki (1.31 or later): its pages as it shows them and its files with their bytes, by api.php.

It tells nobody reliably who may read a page, so the administrator says so for the whole source, and what
its account may not read is not there. First everything is listed; then its recent changes name what to
look at again, and how that stands now is asked, whatever the change was. Once a day, and where they do
not reach back far enough, everything is listed anew: that also finds pages whose templates changed.
A page is known by its id, so that a rename is `Moved`.
"""

from __future__ import annotations

import hashlib
import html
import io
import json
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, unquote, urljoin, urlsplit

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import (
    ALONE,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    RawFile,
    Remove,
    Site,
)
from connectors import admit
from connectors.form import LATER
from connectors.http import Http, shown
from connectors.listing import Listing, held
from connectors.mediawiki_api import Api

FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
WHOLE_EVERY = timedelta(days=1)
LATE = timedelta(minutes=5)  # a change may be entered after one that is younger
_FILES = 6  # the namespace; its number is the same everywhere
_PAGE = "max"  # of a listing; as many as the account may have
_ASKED = 50  # titles or ids in one request, as any account may


class MediaWikiSettings(BaseModel):
    url: str = Field(
        title="URL", description="api.php の URL。https://wiki.example.co.jp/w/api.php など。"
    )
    user: str = Field(
        default="",
        title="利用者名",
        description="「特別:ボットパスワード」で作った名前 (ito@kura)。ファイルも閲覧制限のある wiki では、"
        "ファイルを読めるのは通常の利用者名だけです。誰でも読める wiki では空。",
    )
    password: str = Field(
        default="",
        title="パスワード",
        description="ボットパスワードには、基本の権限だけで足ります。",
        repr=False,
    )
    namespaces: list[str] = Field(
        default_factory=list,
        title="名前空間",
        description="読む名前空間の名前か番号 (0 は標準)。空なら、wiki が本文とするもの。",
    )
    files: bool = Field(
        default=True,
        title="ファイルも読む",
        description="アップロードされたファイルを文書にします。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除くページ名の型 (下書き/* など)。"
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
    def _api(cls, url: str) -> str:
        parts = urlsplit(url.strip())
        path = quote(unquote(parts.path), safe="/~!$&'()*+,;=:@-._")
        path = path if path.endswith(".php") else f"{path.rstrip('/')}/api.php"
        return f"{parts.scheme}://{parts.netloc}{path}"


@dataclass(frozen=True, slots=True)
class _Page:
    """A page, or a file: then `url` says where its bytes are, and `digest` is their SHA-1."""

    id: int
    title: str
    version: str
    revision: int
    modified: str
    url: str = ""
    digest: str = ""
    size_bytes: int | None = None
    media_type: str | None = None

    @property
    def same(self) -> str:
        return str(self.id)


@dataclass(frozen=True, slots=True)
class _Mark:
    """How far the changes of a wiki were seen."""

    change: int  # the id of the youngest; 0 where there was none
    at: str  # by the clock of the wiki
    whole_at: str  # when everything was listed
    settings: str  # what was asked for, as a digest


class MediaWikiConnector:
    """MediaWiki"""

    kind: ClassVar[str] = "mediawiki"
    Settings: ClassVar[type[BaseModel]] = MediaWikiSettings

    def __init__(self, settings: MediaWikiSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        return Http([own.url], self.site, per_second=own.per_second)

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        return Api(own.url, own.user, own.password, self._http)

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._access  # noqa: B018  its setting may be wrong
        self._spaces()

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """Everything, or what changed."""
        self._access  # noqa: B018
        spaces, before = self._spaces(), _marked(since)
        told = json.dumps([sorted(spaces), self._settings.model_dump(exclude={"password"})])
        now = self._newest(hashlib.sha256(told.encode()).hexdigest()[:16])
        if before and before.settings == now.settings and self._reaches(before, now):
            yield from self._news(since, before, now, spaces)
        else:
            yield from self._all(since, now, spaces)

    def file(self, uri: str) -> RawFile:
        if uri and not any(ord(c) < 32 for c in uri):
            spaces = self._spaces()
            for said in self._pages(titles=f"\x1f{uri}"):
                one = self._read(said, spaces)
                if isinstance(one, _Page) and one.title == uri:
                    return self._file(uri, one)
        raise NotVisible(f"{uri} はありません。")

    def _all(self, since: Cursor | None, now: _Mark, spaces: Collection[int]) -> Iterator[Change]:
        walk = Listing[_Page]()
        for space in sorted(spaces):
            asked = {"gapnamespace": str(space), "gapfilterredir": "nonredirects"}
            for said in self._pages(generator="allpages", gaplimit=_PAGE, **asked):
                self._note(walk, said, spaces)
        # a page that was renamed meanwhile may have passed us by
        ids, titles = self._hints(now.at)
        ids |= {walk.files[t].id for t in titles if t in walk.files}
        moving = {uri for uri, one in walk.files.items() if one.id in ids}
        for uri in moving:
            del walk.files[uri]
        for said in self._now(ids, titles | moving):
            self._note(walk, said, spaces)
        for change in walk.changes(since, lambda one: one.same, self._file):
            if isinstance(change, Checkpoint):
                now = _Mark(now.change, now.at, now.at, now.settings)
                change = Checkpoint(_save(dict(held(change.cursor)), now), complete=True)
            yield change

    def _news(
        self, since: Cursor | None, before: _Mark, now: _Mark, spaces: Collection[int]
    ) -> Iterator[Change]:
        """How that stands now which a change named."""
        known, walk = held(since), Listing[_Page]()
        ids, titles = self._hints(before.at)
        ids |= {int(known[title]) for title in titles if title in known}
        touched = {uri: same for uri, same in known.items() if uri in titles or int(same) in ids}
        for said in self._now(ids, titles):
            self._note(walk, said, spaces)
        left = dict(touched)
        for change in walk.changes(_save(touched, now), lambda one: one.same, self._file):
            if isinstance(change, Checkpoint):
                break
            left.pop(getattr(change, "old_uri", ""), None)
            yield change
        failed = {one.uri for one in walk.failures}
        yield from map(Remove, sorted(left.keys() - walk.files.keys() - failed))
        kept = {uri: same for uri, same in known.items() if uri not in touched or uri in failed}
        kept |= {uri: one.same for uri, one in walk.files.items()}
        yield Checkpoint(_save(kept, _Mark(now.change, now.at, before.whole_at, now.settings)))

    def _note(self, walk: Listing[_Page], said: Mapping[str, Any], spaces: Collection[int]) -> None:
        one = self._read(said, spaces)
        if isinstance(one, Failed):
            walk.failures.append(one)
        elif one and (one.title not in walk.files or walk.files[one.title].id != one.id):
            walk.add(one.title, one, self._access)

    def _read(self, said: Mapping[str, Any], spaces: Collection[int]) -> _Page | Failed | None:
        """None for what is no document: absent, a redirect, of another namespace, excluded."""
        name = unicodedata.normalize("NFC", str(said.get("title") or ""))
        if any(said.get(key) for key in ("missing", "invalid", "redirect")) or not name:
            return None
        if said.get("ns") not in spaces or admit.fits(name, self._settings.exclude):
            return None
        if self._settings.exclude and not admit.within(name, self._settings.exclude):
            return None
        try:
            return _file_page(said, name) if said["ns"] == _FILES else _page(said, name)
        except (KeyError, TypeError, ValueError, IndexError):
            return Failed(name, name, "wiki の返事を読めません", True, self._access)

    def _file(self, uri: str, one: _Page) -> RawFile:
        return RawFile(
            uri=uri,
            version=one.version,
            open=partial(self._bytes if one.digest else self._shown, one),
            access=self._access,
            title=one.title,
            modified_at=_when(one.modified),
            media_type=one.media_type if one.digest else "text/html",
            size_bytes=one.size_bytes,
        )

    def _shown(self, one: _Page) -> BinaryIO:
        """The page as people see it: SourceBusy where it is another by now."""
        asked = {"pageid": str(one.id), "prop": "text|revid", "disableeditsection": "1"}
        said = self._api.ask(action="parse", disabletoc="1", disablelimitreport="1", **asked)
        parsed = said.get("parse")
        if not isinstance(parsed, dict) or not isinstance(parsed.get("text"), str):
            raise SourceUnreachable(f"「{one.title}」の返事を読めません。")
        if parsed.get("revid") != one.revision:
            raise SourceBusy(f"「{one.title}」は書き込み中です。次の確認で読み直します。")
        name, link = html.escape(one.title), html.escape(self._link(one))
        return io.BytesIO(
            f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{name}</title></head>'
            f"<body><h1>{name}</h1><div>{parsed['text']}</div>"
            f'<p><a href="{link}">{link}</a></p></body></html>'.encode("utf-8", "replace")
        )

    def _bytes(self, one: _Page) -> BinaryIO:
        """The bytes that were listed, and no page that asks to sign in."""
        try:
            copy = self._http.file(urljoin(self._settings.url, one.url), FILE_BYTES)
        except SourceDenied as error:
            if "@" not in self._settings.user:
                raise
            # MediaWiki takes a bot's session at api.php alone, and img_auth.php is another
            raise SourceDenied(
                f"{error} ボットパスワードでは読めないファイルです。通常の利用者名を使ってください。"
            ) from None
        try:
            digest = hashlib.sha1(usedforsecurity=False)
            while block := copy.read(1 << 20):
                digest.update(block)
            if digest.hexdigest() != one.digest:
                raise SourceBusy(f"「{one.title}」は書き込み中です。次の確認で読み直します。")
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    def _link(self, one: _Page) -> str:
        return urljoin(self._settings.url, f"index.php?curid={one.id}")

    # --- what the wiki says ---------------------------------------------------------

    def _spaces(self) -> set[int]:
        """The namespaces to read. Raises SourceMisconfigured for one that is not there."""
        reply = self._api.ask(action="query", meta="siteinfo", siprop="general|namespaces")
        told = reply.get("query", {}).get("namespaces")
        if not isinstance(told, dict):
            raise self._api.no_wiki()
        names = {
            str(key): int(one["id"])
            for one in told.values()
            for key in (one.get("id"), one.get("name") or "", one.get("canonical") or "")
            if int(one["id"]) >= 0  # below are the special ones, which are no pages
        }
        wanted = [unicodedata.normalize("NFC", name.strip()) for name in self._settings.namespaces]
        if odd := [name for name in wanted if name not in names]:
            there = "、".join(sorted(name for name in names if name and not name.isdecimal()))
            raise SourceMisconfigured(
                f"名前空間「{odd[0]}」はありません。あるもの: {there[:300]}。"
            )
        content = {int(one["id"]) for one in told.values() if one.get("content")}
        found = {names[name] for name in wanted} or content
        return found - {_FILES} | ({_FILES} if self._settings.files else set())

    def _pages(self, **query: str) -> Iterator[Mapping[str, Any]]:
        """The pages of a query, each once all is said of it."""
        asked = {
            "prop": "info|revisions|imageinfo",
            "rvprop": "ids|timestamp",
            "iiprop": "timestamp|url|size|sha1|mime",
        }
        batch = dict[Any, dict[str, Any]]()
        for reply in self._api.continued(**asked, **query):
            for page in reply.get("query", {}).get("pages", []):
                known = batch.setdefault(page.get("pageid") or page.get("title"), {})
                for name, value in page.items():
                    known.setdefault(name, value)  # of a file alone, its old bytes come later
            old = "iistart" in reply.get("continue", {}) and "generator" not in query
            if reply.get("batchcomplete") or old:
                yield from batch.values()
                batch.clear()
            if old:
                return
        if batch:
            raise SourceUnreachable(
                f"{shown(self._settings.url)} の一覧が途中で切れました。次の確認でやり直します。"
            )

    def _now(self, ids: Collection[int], titles: Collection[str]) -> Iterator[Mapping[str, Any]]:
        """Pages by their ids and by their names, some of them twice."""
        numbers, names = sorted(ids), sorted(titles)
        for n in range(0, len(numbers), _ASKED):
            yield from self._pages(pageids="|".join(map(str, numbers[n : n + _ASKED])))
        for n in range(0, len(names), _ASKED):
            yield from self._pages(titles="".join(f"\x1f{t}" for t in names[n : n + _ASKED]))

    def _hints(self, at: str) -> tuple[set[int], set[str]]:
        """The ids and the names in the changes since then, whatever they were."""
        ids, titles = set[int](), set[str]()
        start = (_when(at) - LATE).strftime("%Y-%m-%dT%H:%M:%SZ")
        for one in self._recent(rcstart=start, rclimit=_PAGE):
            params = one.get("logparams") or {}
            named = [one.get("title"), params.get("target_title")]
            titles |= {unicodedata.normalize("NFC", name) for name in named if name}
            ids |= {one["pageid"]} if one.get("pageid") else set()
        return ids, titles

    def _recent(self, **query: str) -> Iterator[Mapping[str, Any]]:
        asked = {"rctype": "new|edit|log", "rcprop": "title|ids|timestamp|loginfo"}
        for reply in self._api.continued(list="recentchanges", rcdir="newer", **asked, **query):
            yield from reply.get("query", {}).get("recentchanges", [])

    def _newest(self, settings: str) -> _Mark:
        """Where the changes end now."""
        asked = {"list": "recentchanges", "rclimit": "1", "rctype": "new|edit|log"}
        reply = self._api.ask(action="query", curtimestamp="1", rcprop="ids", **asked)
        found = reply.get("query", {}).get("recentchanges", [])
        at = str(reply.get("curtimestamp") or "")
        if _when(at).year < 2000:
            raise SourceUnreachable(f"{shown(self._settings.url)} の返事を読めません。")
        return _Mark(int(found[0]["rcid"]) if found else 0, at, at, settings)

    def _reaches(self, before: _Mark, now: _Mark) -> bool:
        """True if the changes are kept since that mark, and a whole listing is not due."""
        if _when(now.at) - _when(before.whole_at) >= WHOLE_EVERY or not before.change:
            return False
        oldest = next(self._recent(rclimit="1"), None)
        return oldest is not None and int(oldest["rcid"]) <= before.change <= now.change


def _page(said: Mapping[str, Any], name: str) -> _Page:
    id, revision = int(said["pageid"]), int(said["lastrevid"])
    edits: Iterable[Mapping[str, Any]] = said.get("revisions") or [{}]
    modified = str(next(iter(edits)).get("timestamp") or said["touched"])
    # a template of it that was changed touches it
    return _Page(id, name, f"{id}:{revision}:{said['touched']}", revision, modified)


def _file_page(said: Mapping[str, Any], name: str) -> _Page | None:
    """None for a description without a file, or of one that another wiki keeps."""
    if said.get("imagerepository") != "local" or not said.get("imageinfo"):
        return None
    info, id = said["imageinfo"][0], int(said["pageid"])
    if info.get("filehidden") or info.get("filemissing"):
        return None
    return _Page(
        id=id,
        title=name,
        version=f"{id}:{info['sha1']}",
        revision=int(said["lastrevid"]),
        modified=str(info["timestamp"]),
        url=str(info["url"]),
        digest=str(info["sha1"]),
        size_bytes=int(info["size"]),
        media_type=str(info.get("mime") or "") or None,
    )


def _when(said: str) -> datetime:
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _save(files: Mapping[str, str], mark: _Mark) -> Cursor:
    seen = [mark.change, mark.at, mark.whole_at, mark.settings]
    told = {"files": files, "seen": seen}
    return Cursor(json.dumps(told, ensure_ascii=False, separators=(",", ":")))


def _marked(cursor: Cursor | None) -> _Mark | None:
    try:
        change, at, whole_at, settings = json.loads(cursor or "{}")["seen"]
        if not all(same.isdecimal() for same in held(cursor).values()):
            return None
        return _Mark(int(change), str(at), str(whole_at), str(settings))
    except (ValueError, KeyError, TypeError):
        return None  # another version's: everything is listed
