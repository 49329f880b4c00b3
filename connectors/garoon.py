"""Garoon (Cybozu): notices of the bulletin board, files of the cabinet, discussions of spaces.

Not verified against the real service: it was written by Cybozu's public documentation, and is tested
against a server that was written by the same.

No API tells who may read: the administrator says so, for each category, folder and space if need be. A
space that is not public is read for nobody who is not named for that very space. A notice is listed
with its words, fifty in a request; one whose term is over is gone, as it is for Garoon's own readers.
No API reads the comments of a discussion, nor a file attached to the comment of a notice by itself.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar

from lxml import etree
from pydantic import BaseModel, Field, field_validator, model_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
    TooLarge,
)
from appliance.types import ALONE, NOBODY, Access, Change, Cursor, RawFile, Site
from connectors import admit, garoon_page
from connectors.form import LATER
from connectors.garoon_api import Api, japanese, moment, name, text, true
from connectors.listing import DEEPEST, Listing

BATCH = 50  # notices in a request
FOLLOWS = 100  # comments in a request
BOARD, CABINET, SPACES = "掲示板", "ファイル管理", "スペース"
_NUMBER = re.compile("[1-9][0-9]{0,17}")
_PASSING = (SourceBusy, SourceUnreachable, NotVisible)


class GaroonSettings(BaseModel):
    url: str = Field(
        title="URL",
        description="クラウド版は https://example.cybozu.com/g (サブドメインだけでも)。パッケージ版は、"
        "http://サーバー/cgi-bin/cbgrn/grn.cgi や http://サーバー/scripts/cbgrn/grn.exe まで。",
    )
    user: str = Field(
        min_length=1,
        title="ログイン名",
        description="2 段階認証などを使わない、読み取り専用の利用者を勧めます。その利用者に見えるものを読みます。",
    )
    password: str = Field(title="パスワード", repr=False)
    bulletin: bool = Field(default=True, title="掲示板を読む")
    cabinet: bool = Field(default=True, title="ファイル管理を読む")
    spaces: bool = Field(
        default=False,
        title="スペースのディスカッションを読む",
        description="クラウド版と、パッケージ版の 6.17 から。ディスカッションのコメントを読む API はありません。",
    )
    space_files: bool = Field(
        default=False,
        title="スペースの添付ファイルを読む",
        description="スペースのアプリケーション管理者の権限が要ります。",
    )
    attachments: bool = Field(
        default=True,
        title="掲示の添付ファイルを読む",
        description="コメントに添付されたファイルは読みません。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "Garoon のアクセス権を答える API はないため、ここと次の欄で決まります。空なら誰にも見えません。",
    )
    readers: list[str] = Field(
        default_factory=list,
        title="場所ごとの閲覧者",
        description="1 行に一つ、先に合うものに従います (掲示板/総務部 = group:総務部、ファイル管理/規程/* = everyone、"
        "スペース/新製品 (12) = group:開発部)。その下にも当てはまります。"
        "非公開のスペースは、ここに書かれた人だけに見えます。",
    )
    exclude: list[str] = Field(
        default_factory=list,
        title="読まないもの",
        description="名前か場所の模様 (ファイル管理/個人/*、*.zip)。",
    )
    per_second: float = Field(
        default=5.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("url")
    @classmethod
    def _place(cls, url: str) -> str:
        url = re.sub(r"/(index(\.csp)?)?(\?.*)?$", "", url.strip())
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", url):
            url = f"https://{url}.cybozu.com"
        if re.fullmatch(r"https?://[^/?#@\s]+\.cybozu\.com", url):
            url += "/g"
        if not re.fullmatch(r"https?://[^/?#@\s]+/[^?#@\s]+", url):
            raise ValueError(
                "https://example.cybozu.com/g か、パッケージ版の grn.cgi までを書いてください"
            )
        return url

    @model_validator(mode="after")
    def _something(self) -> GaroonSettings:
        if not (self.bulletin or self.cabinet or self.spaces or self.space_files):
            raise ValueError("掲示板、ファイル管理、スペースのうち、どれかを読むようにしてください")
        return self


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a listing says of a document."""

    kind: str  # "topic", "notice-file", "file", "discussion", "space-file"
    id: str
    title: str
    version: str
    at: datetime
    access: Access
    media_type: str | None = None
    size_bytes: int | None = None
    space: str = ""
    offset: int = 0  # of a discussion among those of its space


@dataclass(frozen=True, slots=True)
class _Space:
    id: str
    path: str
    public: bool


class GaroonConnector:
    """Garoon (サイボウズ)"""

    kind: ClassVar[str] = "garoon"
    Settings: ClassVar[type[BaseModel]] = GaroonSettings
    lists_all: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: GaroonSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        return Api(own.url, own.user, own.password, self.site, own.per_second)

    @cached_property
    def _rules(self) -> list[tuple[str, Access]]:
        own = self._settings
        rules = admit.rules("場所ごとの閲覧者", own.readers, own.allow)
        return [(name_.rstrip("/"), access) for name_, access in rules]

    def check(self) -> None:
        self._rules  # noqa: B018  a setting may be wrong
        own = self._settings
        if own.bulletin:
            self._categories()
        if own.cabinet:
            self._folders()
        if own.spaces or own.space_files:
            spaces = self._spaces()
            if own.space_files and (one := next(spaces, None)):
                self._api.rest(f"space/admin/space/{one.id}/files", limit=1)

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self._rules  # noqa: B018
        own, walk, errors = self._settings, Listing[_Entry](), list[ApplianceError]()
        areas = [(BOARD, own.bulletin, self._board), (CABINET, own.cabinet, self._cabinet)]
        areas += [(SPACES, own.spaces or own.space_files, self._in_spaces)]
        areas = [one for one in areas if one[1]]
        for area, _, read in areas:
            try:
                read(walk)
            except (SourceDenied, SourceMisconfigured, SourceBusy, NotVisible) as error:
                errors.append(error)
                walk.shut(f"{area}/", error, transient=isinstance(error, _PASSING))
        if len(errors) == len(areas):
            raise errors[0]
        yield from walk.changes(since, lambda entry: f"{entry.kind}/{entry.id}", self._file)

    def file(self, uri: str) -> RawFile:
        area = uri.partition("/")[0]
        near = {BOARD: self._near_notice, CABINET: self._near_file, SPACES: self._near_space}
        if area in near and self._wanted(uri):
            for at, entry in near[area](uri.split("/")):
                if at == uri:
                    return self._file(uri, entry)
        raise NotVisible(f"{uri} はありません。")

    def _file(self, uri: str, entry: _Entry) -> RawFile:
        return RawFile(
            uri=uri,
            version=entry.version,
            open=partial(self._open, uri, entry),
            access=entry.access,
            title=entry.title,
            modified_at=entry.at,
            media_type=entry.media_type,
            size_bytes=entry.size_bytes,
        )

    def _access(self, uri: str) -> Access:
        for place, access in self._rules[:-1]:
            if uri.startswith(f"{place}/") or fnmatchcase(uri, place):
                return access
        return self._rules[-1][1]

    def _of_members(self, path: str) -> Access:
        """Of a space that has readers of its own: a pattern that fits many does not mean it."""
        return next((access for place, access in self._rules[:-1] if place == path), NOBODY)

    def _wanted(self, uri: str) -> bool:
        return not any(
            admit.fits("/".join(uri.split("/")[:n]), self._settings.exclude)
            for n in range(1, uri.count("/") + 2)
        )

    def _add(self, walk: Listing[_Entry], found: Iterator[tuple[str, _Entry]]) -> None:
        for uri, entry in found:
            if self._wanted(uri):
                walk.add(uri, entry, entry.access)

    # --- bulletin board -----------------------------------------------------------

    def _categories(self) -> dict[str, str]:
        """Paths by id."""
        return _tree(self._api.soap("BulletinGetCategories"), "categor", "name", BOARD)

    def _board(self, walk: Listing[_Entry]) -> None:
        categories = self._categories()
        for id_, path in categories.items():
            if not self._wanted(path):
                continue
            try:
                topics = self._listed(id_)
                for n in range(0, len(topics), BATCH):
                    for topic in self._topics(topics[n : n + BATCH]):
                        self._add(walk, self._of_topic(topic, categories))
            except (SourceDenied, SourceMisconfigured, SourceBusy, TooLarge, NotVisible) as error:
                walk.shut(f"{path}/", error, transient=isinstance(error, _PASSING))

    def _listed(self, category: str) -> list[str]:
        one = etree.Element("category_id")
        one.text = category
        found = self._api.soap("BulletinGetTopics", [one])
        ids = [str(topic.get("id")) for topic in found.iter("{*}topic")]
        return list(dict.fromkeys(id_ for id_ in ids if _NUMBER.fullmatch(id_)))

    def _topics(self, ids: Sequence[str]) -> Iterator[Any]:
        """One that is gone since it was listed, or is too large, takes no other with it."""
        asked = [etree.Element("topics", topic_id=id_, is_draft="false") for id_ in ids]
        try:
            found = self._api.soap("BulletinGetTopicByIds", asked)
        except (NotVisible, TooLarge) as error:
            if len(ids) == 1:
                if isinstance(error, TooLarge):
                    raise
                return
            half = len(ids) // 2
            yield from self._topics(ids[:half])
            yield from self._topics(ids[half:])
            return
        told = {str(topic.get("id")): topic for topic in found.iter("{*}topic")}
        yield from (told[id_] for id_ in ids if id_ in told)
        if len(ids) > 1:  # asked for alone it is told, or it is there no more
            for id_ in ids:
                yield from self._topics([id_]) if id_ not in told else ()

    def _of_topic(self, topic: Any, categories: Mapping[str, str]) -> Iterator[tuple[str, _Entry]]:
        path = categories.get(str(topic.get("category_id")))
        shown = topic.get("published") is None or true(topic.get("published"))
        if path is None or true(topic.get("is_draft")) or true(topic.get("expired")) or not shown:
            return
        id_, at = str(topic.get("id")), moment(garoon_page.log(topic)[1])
        uri, title = f"{path}/{id_}", str(topic.get("subject") or "").strip() or f"掲示 {id_}"
        access = self._access(uri)
        yield (
            uri,
            _Entry("topic", id_, title, garoon_page.version(topic, path), at, access, "text/html"),
        )
        files = topic.iterfind("{*}content/{*}file") if self._settings.attachments else ()
        for one in files:
            file, size = str(one.get("id")), _size(one.get("size"))
            called, kind = name(one.get("name"), "添付ファイル"), one.get("mime_type") or None
            entry = _Entry("notice-file", file, called, f"{file}:{size}", at, access, kind, size)
            yield f"{uri}/{file}/{called}", entry

    def _near_notice(self, parts: list[str]) -> Iterator[tuple[str, _Entry]]:
        ids = {parts[n] for n in (-1, -3) if len(parts) >= -n and _NUMBER.fullmatch(parts[n])}
        for id_ in sorted(ids):
            for topic in self._topics([id_]):
                yield from self._of_topic(topic, self._categories())

    # --- cabinet ------------------------------------------------------------------

    def _folders(self) -> dict[str, str]:
        return _tree(self._api.soap("CabinetGetFolderInfo"), "folder", "title", CABINET)

    def _cabinet(self, walk: Listing[_Entry]) -> None:
        for id_, path in self._folders().items():
            if not self._wanted(path):
                continue
            try:
                self._add(walk, self._of_folder(id_, path))
            except (SourceDenied, SourceMisconfigured, SourceBusy, TooLarge, NotVisible) as error:
                walk.shut(f"{path}/", error, transient=isinstance(error, _PASSING))

    def _of_folder(self, folder: str, path: str) -> Iterator[tuple[str, _Entry]]:
        for one in self._api.soap("CabinetGetFileInfo", hid=folder).iter("{*}file"):
            id_, called = str(one.get("id")), name(text(one, "name"), "ファイル")
            changed = text(one, "modify_time") or text(one, "create_time")
            active = [h for h in one.iterfind("{*}histories/{*}history") if true(text(h, "active"))]
            size = _size(text(one, "size"))
            version = f"{changed}:{size}:{'.'.join(text(h, 'version') for h in active)}"
            uri, kind = f"{path}/{id_}/{called}", text(one, "mime_type") or None
            access = self._access(uri)
            yield uri, _Entry("file", id_, called, version, moment(changed), access, kind, size)

    def _near_file(self, parts: list[str]) -> Iterator[tuple[str, _Entry]]:
        within = "/".join(parts[:-2])
        for id_, path in self._folders().items() if len(parts) > 2 else ():
            if path == within:
                yield from self._of_folder(id_, path)

    # --- spaces -------------------------------------------------------------------

    def _spaces(self) -> Iterator[_Space]:
        for _, one in self._api.pages("space/spaces", "spaces"):
            id_ = str(one.get("id"))
            if _NUMBER.fullmatch(id_):
                path = f"{SPACES}/{name(one.get('name'))} ({id_})"
                yield _Space(id_, path, one.get("isPublic") is True)

    def _in_spaces(self, walk: Listing[_Entry]) -> None:
        for space in self._spaces():
            if not self._wanted(space.path):
                continue
            try:
                self._add(walk, self._of_space(space))
            except (SourceDenied, SourceMisconfigured, SourceBusy, NotVisible) as error:
                walk.shut(f"{space.path}/", error, transient=isinstance(error, _PASSING))

    def _of_space(self, space: _Space) -> Iterator[tuple[str, _Entry]]:
        access = self._access(f"{space.path}/") if space.public else self._of_members(space.path)
        if self._settings.spaces:
            for offset, one in self._api.pages(f"space/{space.id}/discussions", "discussions"):
                id_, title = str(one.get("id")), str(one.get("title") or "").strip()
                at, version = moment(one.get("updatedAt")), str(one.get("updatedAt"))
                entry = _Entry(
                    "discussion", id_, title or f"ディスカッション {id_}", version, at, access,
                    "text/html", space=space.id, offset=offset,
                )  # fmt: skip
                yield f"{space.path}/{id_}", entry
        if self._settings.space_files:
            for _, one in self._api.pages(f"space/admin/space/{space.id}/files", "files"):
                id_, called = str(one.get("id")), name(one.get("name"), "添付ファイル")
                size, changed = _size(one.get("size")), one.get("updatedAt") or one.get("createdAt")
                version = f"{id_}:{changed}:{size}"
                entry = _Entry(
                    "space-file", id_, called, version, moment(changed), access, None, size
                )
                yield f"{space.path}/ファイル/{id_}/{called}", entry

    def _near_space(self, parts: list[str]) -> Iterator[tuple[str, _Entry]]:
        for space in self._spaces() if len(parts) > 2 else ():
            if space.path == "/".join(parts[:2]):
                yield from self._of_space(space)

    # --- content ------------------------------------------------------------------

    def _open(self, uri: str, entry: _Entry) -> BinaryIO:
        match entry.kind:
            case "notice-file":
                return self._api.soap_file("BulletinFileDownload", entry.id)
            case "file":
                return self._api.soap_file("CabinetFileDownload", entry.id)
            case "space-file":
                return self._api.rest_file(f"space/admin/files/{entry.id}")
            case "topic":
                page, version = self._notice(entry, uri.rpartition("/")[0])
            case _:
                page, version = self._discussion(entry)
        if version != entry.version:  # it was asked of another who may read it
            raise SourceBusy(f"{uri} は編集中です。次の確認で読み直します。")
        return io.BytesIO(page.encode("utf-8", "replace"))

    def _notice(self, entry: _Entry, path: str) -> tuple[str, str]:
        topic = next(self._topics([entry.id]), None)
        if topic is None:
            raise SourceBusy(f"「{entry.title}」は消えました。次の確認で読み直します。")
        creator, content = topic.find("{*}creator"), topic.find("{*}content")
        body = {} if content is None else content.attrib
        facts = {
            "カテゴリー": path.partition("/")[2].replace("/", " › "),
            "差出人": topic.get("manually_enter_sender")
            or ("" if creator is None else creator.get("name")),
            "作成": "" if creator is None else japanese(creator.get("date")),
            "更新": japanese(garoon_page.log(topic)[1]),
            "掲示期間": garoon_page.term(topic),
        }
        parts = [garoon_page.words(body.get("body"), body.get("html_body"))]
        for one in self._follows(entry.id) if topic.find("{*}follow") is not None else ():
            by = one.find("{*}creator")
            who = [] if by is None else [japanese(by.get("date")), by.get("name") or ""]
            heading = " ".join(["コメント", str(one.get("number") or ""), *who])
            parts.append(f"<h2>{html.escape(heading)}</h2>")
            parts.append(garoon_page.words(one.get("text"), one.get("html_text")))
        return garoon_page.page(entry.title, facts, parts), garoon_page.version(topic, path)

    def _follows(self, topic: str) -> list[Any]:
        """The oldest first; Garoon tells the newest first."""
        found = dict[str, Any]()
        while True:
            said = {"topic_id": topic, "offset": str(len(found)), "limit": str(FOLLOWS)}
            page = list(self._api.soap("BulletinGetFollows", **said).iter("{*}follow"))
            fresh = {str(one.get("id")): one for one in page if str(one.get("id")) not in found}
            if page and not fresh:
                raise SourceUnreachable(
                    f"掲示 {topic} のコメントの一覧が同じところを繰り返します。"
                )
            found |= fresh
            if not page:
                return [found[id_] for id_ in sorted(found, key=lambda id_: (len(id_), id_))]

    def _discussion(self, entry: _Entry) -> tuple[str, str]:
        path = f"space/{entry.space}/discussions"
        near = self._api.rest(path, offset=entry.offset, limit=1).get("discussions")
        rows: list[Any] = near if isinstance(near, list) else []
        if not any(str(one.get("id")) == entry.id for one in rows):
            rows = [one for _, one in self._api.pages(path, "discussions")]
        one = next((one for one in rows if str(one.get("id")) == entry.id), None)
        if one is None:
            raise SourceBusy(f"「{entry.title}」は消えました。次の確認で読み直します。")
        facts = {
            "作成": garoon_page.by(one, "creator", "createdAt"),
            "更新": garoon_page.by(one, "updater", "updatedAt"),
        }
        body = str(one.get("body") or "")
        words = (
            garoon_page.words("", body)
            if one.get("isHtmlBody") is True
            else garoon_page.words(body, "")
        )
        return garoon_page.page(entry.title, facts, [words]), str(one.get("updatedAt"))


def _tree(returns: Any, kind: str, called: str, top: str) -> dict[str, str]:
    """Paths by id, the top one first. `kind`: "folder", of which there are folders; or "categor"."""
    root = next(returns.iter("{*}root"), None)
    if root is None:
        raise SourceUnreachable(f"{top}の一覧を読めません。")
    one, many = (f"{kind}y", f"{kind}ies") if kind == "categor" else (kind, f"{kind}s")
    paths, waiting = dict[str, str](), [(root, top, 0)]
    while waiting:
        element, path, depth = waiting.pop()
        id_ = str(element.get("id"))
        if depth > DEEPEST or id_ in paths:
            raise SourceMisconfigured(f"{path} が深すぎるか、自分を含んでいます。")
        if _NUMBER.fullmatch(id_):
            paths[id_] = path
        inside = reversed(element.findall(f"{{*}}{many}/{{*}}{one}"))
        waiting += [(c, f"{path}/{name(text(c, called))}", depth + 1) for c in inside]
    return paths


def _size(said: Any) -> int | None:
    return int(said) if str(said or "").isdecimal() else None
