"""A WordPress of the company (5.6 or later): its posts, pages and attached files, by its REST API.

It tells nobody who may read what is published, so the administrator says so for the whole source; what is
private, or behind a password, has readers of its own, and none where they are not named. A file in the
library is read by who reads the post that it belongs to. Each look lists ids and times, 100 to a request;
only what changed is read. What a listing lacks is looked for once more before it is gone: WordPress
numbers its pages, and whatever is deleted meanwhile moves another over the edge of one.
"""

from __future__ import annotations

import html
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import ALONE, NOBODY, Access, Change, Cursor, RawFile, Site
from connectors import admit
from connectors.form import LATER
from connectors.http import AtHome, Http, basic, shown
from connectors.listing import Listing, held

FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
PAGE = 100  # WordPress gives no more
MOST_PAGES = 20_000  # of a listing: two million posts
_BRIEF = "id,modified_gmt,status,title,link,content.protected"
_FILE = "id,modified_gmt,post,source_url,mime_type,title,link,media_details.filesize"


class WordPressSettings(BaseModel):
    url: str = Field(title="URL", description="サイトの URL。https://portal.example.co.jp/ など。")
    user: str = Field(
        default="",
        title="利用者名",
        description="誰でも読める記事だけなら空。非公開も読むなら編集者。",
    )
    password: str = Field(
        default="",
        title="アプリケーションパスワード",
        description="WordPress の「プロフィール → アプリケーションパスワード」で作ったもの。",
        repr=False,
    )
    types: list[str] = Field(
        default_factory=lambda: ["posts", "pages"],
        min_length=1,
        title="投稿の種類",
        description="読む投稿の種類の、REST API での名前 (posts、pages、news など)。",
    )
    files: bool = Field(
        default=True, title="メディアも読む", description="添付ファイルも文書にします。"
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="公開された記事を読める人 (group:営業部、user:ito、everyone)。空なら誰にも見えません。",
    )
    private_allow: list[str] = Field(
        default_factory=list,
        title="非公開の記事を閲覧できる人",
        description="空なら、非公開の記事は読みません。",
    )
    protected_allow: list[str] = Field(
        default_factory=list,
        title="パスワード保護の記事を閲覧できる人",
        description="空なら、パスワードで保護された記事は読みません。",
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
    def _site(cls, url: str) -> str:
        parts = urlsplit(url.strip())
        path = quote(unquote(parts.path), safe="/~!$&'()*+,;=:@-._").removesuffix("index.php")
        return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}/"

    @field_validator("types")
    @classmethod
    def _names(cls, types: list[str]) -> list[str]:
        if odd := [one for one in types if not re.fullmatch(r"[A-Za-z0-9_-]+", one)]:
            raise ValueError(f"「{odd[0]}」は種類の名前ではありません")
        return list(dict.fromkeys(types))


@dataclass(frozen=True, slots=True)
class _Item:
    """A post, or a file: then `url` says where its bytes are."""

    type: str
    id: int
    version: str
    title: str
    link: str
    access: Access
    closed: bool = False  # behind a password
    url: str = ""
    media_type: str | None = None
    size_bytes: int | None = None


class WordPressConnector:
    """WordPress"""

    kind: ClassVar[str] = "wordpress"
    Settings: ClassVar[type[BaseModel]] = WordPressSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: WordPressSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        spelled = own.password.replace(" ", "")  # it is shown in groups of four
        auth = AtHome("Authorization", basic(own.user, spelled), [own.url]) if own.user else None
        return Http(
            [own.url],
            self.site,
            auth=auth,
            per_second=own.per_second,
            fence=lambda asked: asked.startswith(own.url),
        )

    @cached_property
    def _readers(self) -> dict[str, Access]:
        own = self._settings
        return {
            "publish": admit.access(own.allow),
            "private": admit.access(own.private_allow),
            "protected": admit.access(own.protected_allow),
        }

    def check(self) -> None:
        self._readers  # noqa: B018  a setting may be wrong
        said, _ = self._ask("/")
        if not isinstance(said, dict) or "wp/v2" not in said.get("namespaces", ()):
            raise self._none()
        self._capable()
        for one in self._settings.types:
            self._ask(f"/wp/v2/{one}", per_page=1, _fields="id")

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """Everything that there is; what has not changed costs no request."""
        self._capable()
        found = dict(self._listed())
        if held(since).keys() - found.keys():
            found |= {one: item for one, item in self._listed() if one not in found}
        walk = Listing[_Item]()
        for uri, item in found.items():
            walk.add(uri, item, item.access)
        yield from walk.changes(since, lambda item: f"{item.type}/{item.id}", self._raw)

    def file(self, uri: str) -> RawFile:
        kind, _, rest = uri.partition("/")
        number = rest.partition("/")[0]
        if number.isdecimal() and number.isascii() and len(number) < 19:
            self._capable()
            if kind == "media" and self._settings.files:
                said = self._one(kind, int(number), _FILE)
                parent = int(said.get("post") or 0)
                parents = {parent: self._of_parent(parent)} if parent else {}
                item = self._attached(said, parents)
            elif kind in self._settings.types:
                item = self._post(kind, self._one(kind, int(number), _BRIEF))
            else:
                item = None
            if item and _uri(item) == uri:
                return self._raw(uri, item)
        raise NotVisible(f"{uri} はありません。")

    # --- what there is --------------------------------------------------------------

    def _listed(self) -> Iterator[tuple[str, _Item]]:
        parents: dict[int, Access] = {}
        states = ["publish"] + (["private"] if self._readers["private"] else [])
        for kind in self._settings.types:
            for state in states:
                more = {"status": state} if self._settings.user else {}
                for said in self._pages(kind, _BRIEF, **more):
                    if item := self._post(kind, said):
                        parents[item.id] = item.access
                        yield _uri(item), item
        if self._settings.files:
            for said in self._pages("media", _FILE):
                if item := self._attached(said, parents):
                    yield _uri(item), item

    def _post(self, kind: str, said: dict[str, Any]) -> _Item | None:
        """None for what nobody is named for, and for drafts."""
        closed = bool((said.get("content") or {}).get("protected"))
        state = str(said.get("status"))
        access = self._readers["protected" if closed else state] if state in self._readers else ()
        if state not in ("publish", "private") or (not access and (closed or state == "private")):
            return None
        if closed and state == "private":  # both must admit
            access = (*access, *self._readers["private"]) if self._readers["private"] else NOBODY
        return _Item(
            kind, int(said["id"]), str(said["modified_gmt"]), _title(said), str(said["link"]),
            access, closed,
        )  # fmt: skip

    def _attached(self, said: dict[str, Any], parents: dict[int, Access]) -> _Item | None:
        """A file of a post that is not listed (a draft, another kind) is nobody's."""
        parent = int(said.get("post") or 0)
        access = parents.get(parent, NOBODY) if parent else self._readers["publish"]
        size = (said.get("media_details") or {}).get("filesize")
        url = str(said.get("source_url") or "")
        if not url or (parent and not access and parent not in parents):
            return None
        return _Item(
            "media", int(said["id"]), str(said["modified_gmt"]), _title(said), str(said["link"]),
            access, False, url, str(said.get("mime_type") or "") or None,
            size if isinstance(size, int) else None,
        )  # fmt: skip

    def _of_parent(self, parent: int) -> Access:
        for kind in self._settings.types:
            try:
                if item := self._post(kind, self._one(kind, parent, _BRIEF)):
                    return item.access
            except NotVisible:
                continue
        return NOBODY

    def _raw(self, uri: str, item: _Item) -> RawFile:
        return RawFile(
            uri=uri,
            version=item.version,
            open=partial(self._bytes if item.url else self._shown, item),
            access=item.access,
            title=item.title,
            modified_at=_when(item.version),
            media_type=item.media_type if item.url else "text/html",
            size_bytes=item.size_bytes,
        )

    def _shown(self, item: _Item) -> BinaryIO:
        """The post as people see it. SourceBusy where it is another by now."""
        context = {"context": "edit"} if item.closed else {}
        said = self._one(item.type, item.id, "modified_gmt,content", **context)
        body = (said.get("content") or {}).get("rendered")
        if not isinstance(body, str):
            raise SourceUnreachable(f"「{item.title}」の返事を読めません。")
        if said.get("modified_gmt") != item.version:
            raise SourceBusy(f"「{item.title}」は書き込み中です。次の確認で読み直します。")
        name, link = html.escape(item.title), html.escape(item.link)
        return io.BytesIO(
            f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{name}</title></head>'
            f"<body><h1>{name}</h1><div>{body}</div>"
            f'<p><a href="{link}">{link}</a></p></body></html>'.encode("utf-8", "replace")
        )

    def _bytes(self, item: _Item) -> BinaryIO:
        """From this site alone: a file that lies elsewhere is not fetched."""
        quoted = quote(item.url, safe="/:?&=%~!$'()*+,;@-._")
        if not quoted.startswith(self._settings.url):
            raise SourceDenied(f"「{item.title}」はほかのサイトにあるため、読みません。")
        return self._http.file(quoted, FILE_BYTES)

    # --- what is asked --------------------------------------------------------------

    def _capable(self) -> None:
        """The account may read what is wanted of it. Raises SourceDenied, SourceMisconfigured."""
        own, wanted = self._settings, list[str]()
        if own.private_allow:
            wanted += ["read_private_posts", "read_private_pages"]
        if own.protected_allow:
            wanted += ["edit_others_posts", "edit_others_pages"]
        if not own.user:
            if wanted:
                raise SourceMisconfigured(
                    "非公開やパスワード保護の記事を読むには、利用者名とアプリケーションパスワードが要ります。"
                )
            return
        me, _ = self._ask("/wp/v2/users/me", context="edit", _fields="id,capabilities")
        able = me.get("capabilities") if isinstance(me, dict) else None
        if not isinstance(able, dict):
            raise self._none()
        if missing := [one for one in wanted if not able.get(one)]:
            raise SourceDenied(
                f"{own.user} には、非公開やパスワード保護の記事を読む権限 ({missing[0]}) がありません。"
                "編集者の権限を与えるか、「閲覧できる人」を空にしてください。"
            )

    def _pages(self, kind: str, fields: str, **more: str) -> Iterator[dict[str, Any]]:
        for page in range(1, MOST_PAGES + 1):
            said, last = self._ask(
                f"/wp/v2/{kind}", per_page=PAGE, page=page, orderby="id", order="asc",
                _fields=fields, **more,
            )  # fmt: skip
            if not isinstance(said, list):
                raise SourceUnreachable(f"{shown(self._settings.url)} の返事を読めません。")
            for one in said:
                if not isinstance(one, dict) or not {"id", "modified_gmt", "link"} <= one.keys():
                    raise SourceUnreachable(f"{shown(self._settings.url)} の返事を読めません。")
                yield one
            if page >= last:
                return
        raise SourceUnreachable(f"{shown(self._settings.url)} の一覧に終わりがありません。")

    def _one(self, kind: str, number: int, fields: str, **more: str) -> dict[str, Any]:
        """Raises NotVisible."""
        said, _ = self._ask(f"/wp/v2/{kind}/{number}", _fields=fields, **more)
        if not isinstance(said, dict):
            raise SourceUnreachable(f"{shown(self._settings.url)} の返事を読めません。")
        return said

    def _ask(self, route: str, **asked: object) -> tuple[Any, int]:
        """What it says, and how many pages of it there are. Works without permalinks too."""
        query = urlencode({"rest_route": route, **asked})
        reply = self._http.ask("GET", f"{self._settings.url}index.php?{query}")
        if "json" not in reply.headers.get("content-type", ""):
            raise self._none()
        try:
            said = json.loads(reply.body)
            pages = int(reply.headers.get("x-wp-totalpages", "1"))
        except ValueError:
            raise SourceUnreachable(f"{shown(self._settings.url)} の返事を読めません。") from None
        if reply.status in (404, 410):
            if isinstance(said, dict) and said.get("code") == "rest_no_route":
                raise SourceMisconfigured(
                    f"種類「{route.split('/')[3] if route.count('/') > 2 else route}」はこの WordPress にありません。"
                )
            raise NotVisible(f"{route} はありません。")
        return said, pages

    def _none(self) -> SourceMisconfigured:
        return SourceMisconfigured(
            f"{shown(self._settings.url)} に WordPress の REST API がありません。URL と、REST API を止める"
            "プラグインがないかを確かめてください。"
        )


def _uri(item: _Item) -> str:
    if not item.url:
        return f"{item.type}/{item.id}"
    name = PurePosixPath(unquote(urlsplit(item.url).path)).name
    return f"media/{item.id}/{unicodedata.normalize('NFC', name)}"


def _title(said: dict[str, Any]) -> str:
    """Without the words that WordPress puts before what is private or closed."""
    title = said.get("title")
    text = title.get("rendered") if isinstance(title, dict) else title
    plain = html.unescape(re.sub(r"<[^>]*>", "", str(text or ""))).strip()
    plain = re.sub(r"^(Private|Protected|非公開|保護中): ?", "", plain)
    return unicodedata.normalize("NFC", plain) or f"#{said['id']}"


def _when(stamp: str) -> datetime:
    """Always in UTC."""
    try:
        return datetime.fromisoformat(stamp).replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
