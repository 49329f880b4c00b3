"""Confluence Data Center and Cloud: pages, blog posts and attachments, each for those who may view it.

Not verified against the real service: written after Atlassian's documentation, tested against a fake.

Whoever may view a page may view its space, and is named by every read restriction from the top of the
tree down to it. Restrictions and moves leave the time of change alone, so every look lists everything
(ids, versions, restrictions; a hundred to a request), and only what has another version is read.
Pages are read in the storage format: shown, they would hold what this account may see of other pages.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar, Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, Field, field_validator, model_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import (
    ALONE,
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    Principal,
    RawFile,
    Remove,
    Site,
    Upsert,
)
from connectors import admit, confluence_page
from connectors.confluence_rest import Item, Rest, entry, hung, judge, nfc, of, when, whole
from connectors.confluence_rights import MANY, Rights, Rule
from connectors.form import LATER, called
from connectors.http import AtHome, Http, basic, shown
from connectors.listing import FEW

FILE_BYTES = 2_000_000_000
AGAIN_S = 240.0  # while a run takes long, permissions are looked after as often
PAGE = 100  # contents in one answer; servers give fewer where they wish
_EXPAND = (
    "version,space,ancestors,metadata.labels,"
    "restrictions.read.restrictions.user,restrictions.read.restrictions.group"
)
_URI = re.compile(r"pageId=([0-9]{1,30})(?:#((?:att)?[0-9]{1,30}))?")


class ConfluenceSettings(BaseModel):
    url: str = Field(
        title="URL",
        description="https://wiki.example.co.jp/confluence や https://会社名.atlassian.net。",
    )
    edition: Literal["datacenter", "cloud"] = Field(
        json_schema_extra=called(
            {"datacenter": "Data Center (社内のサーバー)", "cloud": "Cloud (atlassian.net)"}
        ),
        default="datacenter",
        title="エディション",
        description="サインインの仕方と、権限の読み方が変わります。",
    )
    user: str = Field(
        default="",
        title="利用者名",
        description="Cloud ではメールアドレス。Data Center で個人用アクセストークンを使うなら空。"
        "読むスペースの管理者権限が要ります (スペースの権限を読むため)。",
    )
    token: str = Field(
        default="",
        title="トークン",
        description="Data Center の個人用アクセストークンか、Cloud の API トークン。",
        repr=False,
    )
    password: str = Field(
        default="", title="パスワード", description="Data Center の基本認証だけ。", repr=False
    )
    spaces: list[str] = Field(
        default_factory=list,
        title="スペース",
        description="スペースキー (EIGYO など)。空なら、このアカウントに見えるすべて。",
    )
    personal: bool = Field(default=False, title="個人スペースも読む")
    blogs: bool = Field(default=True, title="ブログも読む")
    attachments: bool = Field(default=True, title="添付ファイルも読む")
    anonymous: bool = Field(
        default=False,
        title="匿名の閲覧を全員とみなす",
        description="匿名で見られるスペースを Kura の全員に見せます。切ってあれば、名前のある人とグループだけです。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="人とグループの対応表",
        description="Confluence の名前が Kura の誰かを、1 行に一つ (user:y.ito = user:ito、"
        "group:sales = group:営業部)。ないものには何も許しません。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人とグループを、その名前 (Cloud ではメールアドレスも) のまま Kura の人とグループとみなします。",
    )
    space_allow: list[str] = Field(
        default_factory=list,
        title="スペースを閲覧できる人",
        description="スペースの権限を答えないサーバー (古い版など) だけで使います (EIGYO = group:営業部)。"
        "書かれていなければ、誰にも見えません。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="さらに絞る人",
        description="書けば、Confluence で閲覧でき、かつここに名のある人だけに見えます (group:営業部)。",
    )
    media: str = Field(
        default="https://api.media.atlassian.com",
        title="Cloud の添付ファイルの配信元",
        json_schema_extra=LATER,
        description="ふつうは変えません。",
    )
    per_second: float = Field(
        default=5.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("url", "media")
    @classmethod
    def _bare(cls, url: str) -> str:
        return url.strip().rstrip("/")

    @model_validator(mode="after")
    def _below_wiki(self) -> ConfluenceSettings:
        if self.edition == "cloud" and not urlsplit(self.url).path:
            self.url += "/wiki"
        return self


class _Record(NamedTuple):
    """What is known from the look before."""

    uri: str
    version: str
    access: str  # its digest
    space: str


@dataclass(slots=True)
class _Look:
    """What there is at one time."""

    rights: Rights
    spaces: dict[str, Access] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)  # by content
    items: dict[str, Item] = field(default_factory=dict)  # by id
    failures: list[Failed] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)  # spaces that did not open


class ConfluenceConnector:
    """Confluence"""

    kind: ClassVar[str] = "confluence"
    Settings: ClassVar[type[BaseModel]] = ConfluenceSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: ConfluenceSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._base, self._cloud = settings.url, settings.edition == "cloud"

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        header = basic(own.user, own.token or own.password)
        if own.token and not self._cloud:
            header = f"Bearer {own.token}"
        return Http(
            [own.url, own.media] if self._cloud else [own.url],
            self.site,
            auth=AtHome("Authorization", header, [own.url]),
            per_second=own.per_second,
            judge=judge,
        )

    @cached_property
    def _rest(self) -> Rest:
        return Rest(self._base, self._cloud, self._http)

    def _rights(self) -> Rights:
        own = self._settings
        return Rights(self._rest, self._table, self._space_allow, own.anonymous, own.same_names)

    @cached_property
    def _allow(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _table(self) -> dict[str, frozenset[Principal]]:
        told = admit.rules("人とグループの対応表", self._settings.people, [])[:-1]
        return {nfc(name): access[0].allow for name, access in told if access}

    @cached_property
    def _space_allow(self) -> dict[str, Access]:
        own = self._settings.space_allow
        return dict(admit.rules("スペースを閲覧できる人", own, [])[:-1])

    def check(self) -> None:
        self._allow, self._table, self._space_allow  # noqa: B018  a setting may be wrong
        found = self._spaces()
        if missing := [key for key in self._settings.spaces if key not in found]:
            raise SourceMisconfigured(
                f"スペース {'、'.join(missing)} がありません。キーと、アカウントの閲覧権限を確かめてください。"
            )
        if not found:
            raise SourceDenied(
                f"{shown(self._base)} に、このアカウントに見えるスペースがありません。"
            )
        rights = self._rights()
        for key, space in list(found.items())[:5]:
            try:
                rights.space(key, space)
                return
            except (SourceDenied, SourceMisconfigured) as error:
                denied = error
        raise denied

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All there is. First who may read what is known, then the documents."""
        before, look = _load(since), self._look()
        yield from look.failures
        accesses = {id: self._access(look, item) for id, item in look.items.items()}
        now = {
            id: _Record(self._uri(item), item.version, _digest(accesses[id]), item.space)
            for id, item in look.items.items()
        }
        for id, one in now.items():
            old, access = before.get(id), accesses[id]
            if old is None or (old.uri, old.access) == (one.uri, one.access):
                continue
            # nobody new to what was read before, where it is another by now: soon that is read too
            access = access if old.version == one.version else NOBODY
            if old.uri != one.uri:
                yield Moved(old.uri, one.uri, look.items[id].title, access)
            else:
                yield AccessChanged(one.uri, access)
        gone = {id: old for id, old in before.items() if id not in now}
        for id, old in list(gone.items()):
            if old.space in look.closed or self._still_there(look, id, old):
                yield AccessChanged(old.uri, NOBODY)
                now[id] = gone.pop(id)._replace(access="")
        held = {id: old.version for id, old in before.items() if id in look.items}
        looked_at = time.monotonic()
        for id, item in look.items.items():
            if time.monotonic() - looked_at > AGAIN_S:
                for other, access in self._again(look, accesses, held):
                    now[other] = now[other]._replace(access=_digest(access))
                    yield AccessChanged(now[other].uri, access)
                looked_at = time.monotonic()
            held[id] = item.version
            now[id] = now[id]._replace(access=_digest(accesses[id]))
            yield Upsert(self._file(item, accesses[id]))
        if look.closed and (len(gone) < FEW or 2 * len(gone) <= len(before)):
            # one space that does not open must not keep alive what was deleted elsewhere
            yield from (Remove(old.uri) for old in gone.values())
        elif look.closed:
            now |= gone
        yield Checkpoint(_save(now), complete=not look.closed)

    def _again(
        self, look: _Look, accesses: dict[str, Access], held: dict[str, str]
    ) -> Iterator[tuple[str, Access]]:
        """Who may read, once more while reading takes long: what is another now of what is `held`."""
        anew = self._look()
        for id in look.items:
            there = anew.items.get(id)
            access = self._access(anew, there) if there else NOBODY
            if access != accesses[id]:
                accesses[id] = access
                if id in held:
                    yield id, access if there and there.version == held[id] else NOBODY

    def file(self, uri: str) -> RawFile:
        found = _URI.search(uri)
        spaces = self._spaces() if found else {}
        if found and (said := self._one(found[1])):
            key = str(of(said, "space", "key") or "")
            look, item = _Look(self._rights()), entry(said)
            if item and key in spaces and self._wanted(item):
                self._open_space(look, key, spaces[key])
                self._add(look, said, hang=True)
                one = look.items.get(found[2] or found[1])
                if one and self._uri(one) == uri:
                    return self._file(one, self._access(look, one))
        raise NotVisible(f"{uri} はありません。")

    # --- one document -------------------------------------------------------------

    def _uri(self, item: Item) -> str:
        if item.kind == "attachment":
            return f"{self._base}/pages/viewpageattachments.action?pageId={item.page}#{item.id}"
        return f"{self._base}/pages/viewpage.action?pageId={item.id}"

    def _file(self, item: Item, access: Access) -> RawFile:
        hung = item.kind == "attachment"
        return RawFile(
            uri=self._uri(item),
            version=item.version,
            open=partial(self._bytes if hung else self._page, item),
            access=access,
            title=item.title,
            modified_at=when(item.at),
            media_type=item.media_type if hung else "text/html",
            size_bytes=item.size_bytes,
        )

    def _page(self, item: Item) -> BinaryIO:
        if self._cloud:
            path = f"/api/v2/{item.kind}s/{item.id}?body-format=storage"
        else:
            path = f"/rest/api/content/{item.id}?expand=body.storage,version"
        said = self._rest.json(self._base + path)
        if said is None or said.get("status", "current") != "current":
            raise SourceUnreachable(f"「{item.title}」は、読む前になくなりました。")
        if of(said, "version", "number") != item.number:
            raise SourceBusy(f"「{item.title}」は書き換えられました。次の確認で読み直します。")
        body = of(said, "body", "storage", "value")
        if not isinstance(body, str):
            raise SourceUnreachable(f"「{item.title}」の本文が答えにありません。")
        return io.BytesIO(confluence_page.page(item.title, list(item.labels), body))

    def _bytes(self, item: Item) -> BinaryIO:
        if self._cloud:
            link = f"/rest/api/content/{item.page}/child/attachment/{item.id}/download"
        elif not (link := item.link).startswith("/download/attachments/"):
            raise SourceMisconfigured(f"「{item.title}」の場所が Confluence の外を指しています。")
        return self._http.file(self._base + link, FILE_BYTES)

    # --- who may read -------------------------------------------------------------

    def _access(self, look: _Look, item: Item) -> Access:
        """The space, and every restriction from the top down. What is not known admits nobody."""
        layers = [*look.spaces.get(item.space, NOBODY)]
        if not layers:
            return NOBODY
        for id in (*item.above, item.page):
            if id not in look.rules:  # a folder, or what no listing tells of
                look.rules[id] = look.rights.asked(id)
            if (rule := look.rules[id]) is None:
                return NOBODY
            layers += rule
        return tuple(dict.fromkeys((*self._allow, *layers)))

    # --- listing ------------------------------------------------------------------

    def _look(self) -> _Look:
        look, found = _Look(self._rights()), self._spaces()
        for key, space in found.items():
            self._open_space(look, key, space)
            try:
                for said in self._contents(key):
                    self._add(look, said, hang=not self._cloud)
            except (SourceDenied, SourceMisconfigured) as error:
                look.closed.add(key)
                look.items = {i: one for i, one in look.items.items() if one.space != key}
                reason = f"スペースを開けないため、誰にも見えません ({error})"
                look.failures.append(Failed(f"{self._base}/display/{key}", key, reason, False))
        if self._cloud and self._settings.attachments:
            for said in self._rest.listed(
                "/api/v2/attachments", {"status": "current", "limit": MANY}
            ):
                page = str(said.get("pageId") or said.get("blogPostId") or "")
                if page in look.items:
                    self._hang(look, look.items[page], said)
        return look

    def _open_space(self, look: _Look, key: str, space: dict[str, Any]) -> None:
        try:
            look.spaces[key] = look.rights.space(key, space)
        except (SourceDenied, SourceMisconfigured) as error:
            look.spaces[key] = NOBODY
            uri = f"{self._base}/display/{key}#permissions"
            look.failures.append(Failed(uri, f"{key} の権限", f"誰にも見えません ({error})", False))

    def _spaces(self) -> dict[str, dict[str, Any]]:
        path = "/api/v2/spaces" if self._cloud else "/rest/api/space"
        query = {"status": "current", "limit": MANY if self._cloud else PAGE}
        found, own = {}, self._settings
        for said in self._rest.listed(path, query):
            key = said.get("key")
            if not isinstance(key, str) or not re.fullmatch(r"~?[A-Za-z0-9._-]{1,255}", key):
                continue
            if own.spaces and key not in own.spaces:
                continue
            if own.personal or key in own.spaces or said.get("type") != "personal":
                found[key] = said
        return found

    def _contents(self, key: str) -> Iterator[dict[str, Any]]:
        kinds = ["page", "blogpost"] if self._settings.blogs else ["page"]
        if self._cloud:
            cql = f'space = "{key}" and type in ({",".join(kinds)})'
            yield from self._rest.listed(
                "/rest/api/content/search", {"cql": cql, "limit": PAGE, "expand": _EXPAND}
            )
            return
        query = {"spaceKey": key, "status": "current", "limit": PAGE, "expand": self._expand}
        for kind in kinds:
            yield from self._rest.listed("/rest/api/content", {"type": kind} | query)

    def _one(self, id: str) -> dict[str, Any] | None:
        if self._cloud:
            query = {"cql": f"id = {id}", "limit": 1, "expand": _EXPAND}
            return next(self._rest.listed("/rest/api/content/search", query), None)
        query = {"expand": self._expand}
        said: dict[str, Any] | None = self._rest.json(
            f"{self._base}/rest/api/content/{id}?{urlencode(query)}"
        )
        return said

    @property
    def _expand(self) -> str:
        return _EXPAND + (",children.attachment.version" if self._settings.attachments else "")

    def _still_there(self, look: _Look, id: str, old: _Record) -> bool:
        """Cloud's search may lag behind: what it does not tell of is asked for once more."""
        if not self._cloud or old.space not in look.spaces or "#" in old.uri:
            return False
        for kind in ("page", "blogpost") if self._settings.blogs else ("page",):
            with suppress(SourceDenied):
                said = self._rest.json(f"{self._base}/api/v2/{kind}s/{id}")
                if said and said.get("status") == "current":
                    return True
        return False

    def _add(self, look: _Look, said: dict[str, Any], *, hang: bool) -> None:
        item = entry(said)
        if item is None:
            uri = f"{self._base}/pages/viewpage.action?pageId={str(said.get('id'))[:40]}"
            look.failures.append(Failed(uri, uri, "一覧の答えを読めません。", False))
            return
        if not self._wanted(item):
            return
        look.items[item.id] = item
        # a page that does not say what is above it is nobody's
        told = item.kind == "blogpost" or isinstance(said.get("ancestors"), list)
        look.rules[item.id] = look.rights.own(said) if told else None
        if not (hang and self._settings.attachments):
            return
        child = of(said, "children", "attachment")
        if not self._cloud and whole(child):
            files = child["results"]
        elif self._cloud:
            path = f"/api/v2/{item.kind}s/{item.id}/attachments"
            files = list(self._rest.listed(path, {"status": "current", "limit": MANY}))
        else:
            path = f"/rest/api/content/{item.id}/child/attachment"
            # some versions (CONFSERVER-95396) begin to repeat themselves after the last
            files = list(self._rest.listed(path, {"limit": PAGE, "expand": "version"}, again=True))
        for one in files:
            self._hang(look, item, one)

    def _hang(self, look: _Look, page: Item, said: Any) -> None:
        if (one := hung(page, said)) is None:
            own = str(of(said, "id"))[:40]
            uri = f"{self._base}/pages/viewpageattachments.action?pageId={page.id}#{own}"
            look.failures.append(Failed(uri, page.title, "添付ファイルの答えを読めません。", False))
        elif one.kind:
            look.items[one.id] = one

    def _wanted(self, item: Item) -> bool:
        """Neither drafts nor what was trashed."""
        return item.kind == "page" or (item.kind == "blogpost" and self._settings.blogs)


def _digest(access: Access) -> str:
    said = [[sorted(layer.allow), sorted(layer.deny)] for layer in access]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _load(cursor: Cursor | None) -> dict[str, _Record]:
    try:
        told = json.loads(cursor or "{}").get("items", {})
        return {str(id): _Record(*map(str, row)) for id, row in told.items()}
    except (ValueError, TypeError, AttributeError):
        return {}  # another version's: everything is listed anyway


def _save(now: dict[str, _Record]) -> Cursor:
    return Cursor(json.dumps({"items": now}, ensure_ascii=False, separators=(",", ":")))
