"""A site of the intranet: its pages and the documents they link to, within what its settings name.

Nothing outside of that is ever asked, not after a redirect either. robots.txt and what pages ask of
robots is obeyed. A page that did not change costs a 304. The web tells nobody who may read, so the
administrator says so, for the whole site or by place.
"""

from __future__ import annotations

import email.utils
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import BinaryIO, ClassVar, Literal, cast
from urllib.parse import unquote, urlencode, urlsplit

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import ALONE, Access, Change, Cursor, Failed, RawFile, Site
from connectors import admit, page, robots, sitemap
from connectors.crawl import Crawl, Found, Seen, ShutOut, load
from connectors.form import LATER, called
from connectors.http import AtHome, Http, Outside, basic, shown
from connectors.robots import Robots
from connectors.urls import SESSIONS, Fence, below, canonical, folder, last, leads

_NEVER = (".css", ".js", ".ico", ".woff", ".woff2", ".mp3", ".mp4", ".mov", ".avi", ".exe", ".iso")


class WebSettings(BaseModel):
    start: list[str] = Field(
        min_length=1,
        title="始点",
        description="最初に読むページの URL。ここからリンクをたどります。",
    )
    within: list[str] = Field(
        default_factory=list,
        title="読む範囲",
        description="この URL の下だけを読み、ほかには一度もつなぎません。空なら始点のフォルダーの下。",
    )
    sitemaps: list[str] = Field(
        default_factory=list,
        title="サイトマップ",
        description="sitemap.xml の URL。リンクのないページも見つかります。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く URL の型 (*/print/*、*.zip など)。"
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    readers: list[str] = Field(
        default_factory=list,
        title="場所ごとの閲覧者",
        description="「https://intra/jinji/ = group:人事部, user:ito」の形。"
        "先に合った行が「閲覧できる人」に代わります。",
    )
    sign_in: Literal["none", "basic", "header", "form"] = Field(
        json_schema_extra=called(
            {
                "none": "なし (none)",
                "basic": "利用者名とパスワード (basic)",
                "header": "決まったヘッダー (header)",
                "form": "ページの入力欄 (form)",
            }
        ),
        default="none",
        title="サインイン",
        description="basic は利用者名とパスワード、header は決まったヘッダー、form はページの入力欄。",
    )
    user: str = Field(default="", title="利用者名")
    password: str = Field(default="", title="パスワード", repr=False)
    header: str = Field(
        default="Authorization", title="ヘッダーの名前", description="サインインが header のとき。"
    )
    header_token: str = Field(default="", title="ヘッダーの値", repr=False)
    form_url: str = Field(
        default="", title="サインインのページ", description="サインインが form のとき、その URL。"
    )
    form_user: str = Field(
        default="",
        title="利用者名の欄",
        description="入力欄の name。空なら、パスワードの欄の前にある欄。",
    )
    ignore_robots: bool = Field(
        default=False,
        title="robots.txt に従わない",
        description="自社のサイトで、管理者の了解があるときだけ入れてください。",
    )
    depth: int = Field(default=20, ge=0, le=1000, title="始点からたどるリンクの数")
    pages: int = Field(
        default=10_000, ge=1, le=1_000_000, title="ページ数の上限", json_schema_extra=LATER
    )
    same_pattern: int = Field(
        default=1000,
        ge=1,
        title="同じ形の URL の上限",
        json_schema_extra=LATER,
        description="数字や値だけが違う URL (カレンダーなど) は、これより多くは読みません。",
    )
    drop: list[str] = Field(
        default_factory=lambda: list(SESSIONS),
        title="無視するパラメーター",
        json_schema_extra=LATER,
        description="URL から取り除くパラメーターの名前 (utm_*、PHPSESSID など)。",
    )
    most_mb: int = Field(
        default=200, ge=1, le=2000, title="1 件の上限 (MB)", json_schema_extra=LATER
    )
    per_second: float = Field(
        default=2.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("start", "within", "sitemaps")
    @classmethod
    def _urls(cls, urls: list[str]) -> list[str]:
        if odd := [url for url in urls if not canonical(url)]:
            raise ValueError(f"{shown(odd[0])} は http か https の URL ではありません")
        return urls

    @field_validator("header")
    @classmethod
    def _name(cls, name: str) -> str:
        if not name.strip().replace("-", "").isalnum() or not name.isascii():
            raise ValueError("ヘッダーの名前には英数字と - が使えます")
        return name.strip()

    @field_validator("header_token")
    @classmethod
    def _one_line(cls, said: str) -> str:
        if not said.isascii() or any(ord(c) < 32 for c in said):
            raise ValueError("ヘッダーの値には、改行や日本語は使えません")
        return said


class WebConnector:
    """社内の Web サイト"""

    kind: ClassVar[str] = "web"
    Settings: ClassVar[type[BaseModel]] = WebSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: WebSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._start = [canonical(url, drop=settings.drop) for url in settings.start]
        places = settings.within or [folder(url) for url in self._start]
        self._within = [canonical(url, drop=settings.drop) for url in places]
        self._sitemaps = [canonical(url, drop=()) for url in settings.sitemaps]
        self._form = canonical(settings.form_url, drop=()) if settings.sign_in == "form" else ""
        self._robots: dict[str, Robots] = {}
        self._signed_in = False

    @cached_property
    def _asked(self) -> list[str]:
        """URLs whose hosts may be asked."""
        own = [*self._within, *self._start, *self._sitemaps, self._form]
        return [url for url in own if url]

    @cached_property
    def _fence(self) -> Fence:
        doors = {f"{_origin(url)}/robots.txt" for url in self._asked}
        return Fence(self._within, doors.union(self._sitemaps, filter(None, [self._form])))

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        said: tuple[str, str] | None = None
        if own.sign_in == "basic":
            said = ("Authorization", basic(own.user, own.password))
        elif own.sign_in == "header":
            said = (own.header, own.header_token)
        return Http(
            self._asked,
            self.site,
            auth=AtHome(*said, self._start) if said else None,
            per_second=own.per_second,
            fence=lambda url: self._fence.admits(url),
        )

    @cached_property
    def _rules(self) -> list[tuple[str, Access]]:
        """By place, the first that fits; the last fits all."""
        own = self._settings
        rules = admit.rules("場所ごとの閲覧者", own.readers, own.allow)
        places = [(canonical(place, drop=own.drop), access) for place, access in rules[:-1]]
        if not all(place for place, _ in places):
            raise SourceMisconfigured("場所ごとの閲覧者の「場所」は http か https の URL です。")
        return [*places, ("http", rules[-1][1])]

    def _access(self, url: str) -> Access:
        return next(a for place, a in self._rules if place == "http" or below(url, place))

    def check(self) -> None:
        self._rules  # noqa: B018  its settings may be wrong
        own = self._settings
        if own.sign_in == "form" and not self._form:
            raise SourceMisconfigured("サインインのページの URL を入れてください。")
        for url in self._start:
            if not self._fence.holds(url):
                raise SourceMisconfigured(f"始点 {shown(url)} が、読む範囲にありません。")
            if not self._allowed(url):
                raise SourceMisconfigured(f"始点 {shown(url)} を、robots.txt が断っています。")
            found = self._ask(url, url, None)
            found.close()
            if found.seen is None:
                raise SourceMisconfigured(f"{shown(url)} がありません。URL を確かめてください。")

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All there is, as it is come by."""
        self._rules  # noqa: B018
        own, (before, anew) = self._settings, load(since)
        crawl = Crawl(
            ask=self._ask,
            file=self._file,
            wanted=self._wanted,
            access=self._access,
            before=before,
            anew=anew,
            depth=own.depth,
            most=own.pages,
            same_pattern=own.same_pattern,
        )
        start = list(self._start)
        for url in self._sitemaps:
            try:
                start += self._mapped(url)
            except ApplianceError as error:
                crawl.whole = False  # pages that it alone names are not gone
                yield Failed(f"{url}#サイトマップ", "サイトマップ", str(error), True)
        yield from crawl.changes(start)

    def file(self, uri: str) -> RawFile:
        if canonical(uri, drop=self._settings.drop) != uri or not self._wanted(uri):
            raise NotVisible(f"{uri} はありません。")
        try:
            found = self._ask(uri, uri, None)
        except Outside:
            raise NotVisible(f"{uri} はありません。") from None
        found.close()
        if found.url != uri or found.seen is None or not found.seen.index:
            raise NotVisible(f"{uri} はありません。")
        return self._file(uri, found.seen)

    # --- what is asked ------------------------------------------------------------

    def _holds(self, url: str) -> bool:
        path = urlsplit(url).path.lower()
        return (
            bool(url)
            and self._fence.holds(url)
            and not path.endswith(_NEVER)
            and not admit.fits(url, self._settings.exclude)
            and not admit.fits(unquote(url), self._settings.exclude)
        )

    def _wanted(self, url: str) -> bool:
        return self._holds(url) and url != self._form and self._allowed(url)

    def _allowed(self, url: str) -> bool:
        """By robots.txt. Where it cannot be had for now, nothing is asked."""
        if self._settings.ignore_robots:
            return True
        origin = _origin(url)
        if origin not in self._robots:
            try:
                reply = self._http.ask(
                    "GET", f"{origin}/robots.txt", most_bytes=robots.ROBOTS_BYTES * 2
                )
                body = reply.body if reply.status == 200 else b""
            except (SourceDenied, SourceMisconfigured):
                body = b""  # it is not for us: there are no rules (RFC 9309)
            self._robots[origin] = robots.parse(body)
        return self._robots[origin].allows(url)

    def _mapped(self, first: str) -> list[str]:
        """The pages of a sitemap, and of those that it names."""
        waiting, seen, pages = [first], set[str](), list[str]()
        while waiting:
            url = waiting.pop()
            if url in seen or len(seen) >= sitemap.MAPS:
                continue
            seen.add(url)
            reply = self._http.ask("GET", url)
            if reply.status != 200:
                raise SourceMisconfigured(f"サイトマップ {shown(url)} がありません。")
            maps, found = sitemap.read(reply.body, shown(url))
            pages += [canonical(one, url, self._settings.drop) for one in found]
            for one in (canonical(m, url, ()) for m in maps):
                if not self._fence.admits(one):
                    raise SourceMisconfigured(
                        f"サイトマップ {shown(one)} が読む範囲にありません。"
                        "読むときは、設定のサイトマップに加えてください。"
                    )
                waiting.append(one)
        return pages

    # --- one answer ---------------------------------------------------------------

    def _ask(self, url: str, at: str, known: Seen | None) -> Found:
        """What there is. `known` is what there was at `at`, where the URL's redirect led."""
        reply_url, status, headers, copy = self._get(url, known)
        final = canonical(reply_url, drop=self._settings.drop)
        if status == 304:
            copy.close()
            if known is None:
                raise SourceUnreachable(f"{shown(url)} の応答が正しくありません (304)。")
            return Found(final, known) if final == at else self._ask(url, at, None)
        if status != 200 or not final:
            copy.close()
            return Found(url, None)
        seen = self._seen(final, headers, copy)
        held: list[BinaryIO] = [copy]

        def close() -> None:
            held.clear()
            copy.close()

        return Found(final, seen, lambda: self._file(final, seen, held), close)

    def _seen(self, url: str, headers: dict[str, str], copy: BinaryIO) -> Seen:
        digest, size = hashlib.sha256(), 0
        head = copy.read(page.PAGE_BYTES)
        digest.update(head)
        size += len(head)
        while block := copy.read(1 << 20):
            digest.update(block)
            size += len(block)
        said = headers.get("content-type", "")
        media_type = said.partition(";")[0].strip().lower()
        robots_say = headers.get("x-robots-tag", "")
        found = page.Page(noindex="noindex" in robots_say.lower())
        if page.looks(head, media_type):
            found, media_type = page.read(head, url, said, robots_say), "text/html"
        drop = self._settings.drop
        links = (canonical(link, url, drop) for link in found.links)
        original = canonical(found.canonical, url, drop) if found.canonical else ""
        return Seen(
            version=digest.hexdigest(),
            etag=headers.get("etag", ""),
            modified=headers.get("last-modified", ""),
            title=found.title or last(url),
            media_type=media_type,
            size_bytes=size,
            index=not found.noindex,
            canonical=original if original != url and self._holds(original) else "",
            links=tuple(dict.fromkeys(link for link in links if link != url and self._holds(link))),
        )

    def _file(self, url: str, seen: Seen, held: list[BinaryIO] | None = None) -> RawFile:
        return RawFile(
            uri=url,
            version=seen.version,
            open=partial(self._open, url, held),
            access=self._access(url),
            title=seen.title,
            modified_at=_when(seen.modified),
            media_type=seen.media_type or None,
            size_bytes=seen.size_bytes,
        )

    def _open(self, url: str, held: list[BinaryIO] | None) -> BinaryIO:
        """The copy that was looked at, while there is one."""
        if held:
            return cast(BinaryIO, open(f"/proc/self/fd/{held[0].fileno()}", "rb"))  # noqa: PTH123
        reply_url, status, _, copy = self._get(url, None)
        if status != 200 or canonical(reply_url, drop=self._settings.drop) != url:
            copy.close()
            raise SourceUnreachable(f"{shown(url)} がありません ({status})。")
        return copy

    # --- signing in ---------------------------------------------------------------

    def _get(self, url: str, known: Seen | None) -> tuple[str, int, dict[str, str], BinaryIO]:
        """An answer to one who is signed in: a session that ran out is made anew, once."""
        headers = {}
        if known and known.etag:
            headers["if-none-match"] = known.etag
        if known and known.modified:
            headers["if-modified-since"] = known.modified
        most, fresh = self._settings.most_mb * 1_000_000, False
        while True:
            if self._form and not self._signed_in:
                with _shut_out():
                    self._sign_in()
                fresh = True
            try:
                reply, copy = self._http.fetch(url, most, headers=headers)
            except Outside:
                raise
            except SourceDenied:
                if not self._form or fresh:
                    raise
                self._signed_in = False
                continue
            if not self._form or not leads(canonical(reply.url, drop=()), self._form):
                return reply.url, reply.status, dict(reply.headers), copy
            copy.close()
            self._signed_in = False
            if fresh:
                raise ShutOut(
                    f"{shown(self._form)} でサインインできません。利用者名とパスワードを確かめてください。"
                )

    def _sign_in(self) -> None:
        own = self._settings
        self._signed_in = True
        reply = self._http.ask("GET", self._form)
        form = page.read(reply.body, reply.url, reply.headers.get("content-type", "")).form
        if form is None:
            raise SourceMisconfigured(f"{shown(self._form)} に、パスワードの入力欄がありません。")
        action = canonical(form.action, drop=())
        if _origin(action) != _origin(self._form):
            raise SourceMisconfigured(
                f"{shown(self._form)} の入力欄は、別のサーバーへ送ろうとするため、使いません。"
            )
        said = {**form.fields, own.form_user or form.user: own.user, form.password: own.password}
        self._fence.doors.add(action)
        with suppress(Outside):  # it may lead to a page that is not read; we are signed in
            self._http.ask(
                "POST",
                action,
                headers={"content-type": "application/x-www-form-urlencoded"},
                content=urlencode(said).encode("ascii"),
            )


@contextmanager
def _shut_out() -> Iterator[None]:
    try:
        yield
    except (SourceDenied, SourceMisconfigured) as error:
        raise ShutOut(str(error)) from None


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _when(said: str) -> datetime:
    try:
        moment = email.utils.parsedate_to_datetime(said)
    except (ValueError, TypeError):
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
