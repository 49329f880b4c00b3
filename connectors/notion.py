"""Notion: the pages and rows that were shared with an integration, and the files in them.

Not verified against the real service: it was written by Notion's public documentation, and is tested
against a server that was written by the same.

The API does not say who may read a page, so `allow` decides for all of them. Pages are found by
searching, and rows by asking their tables too: a search need not tell of all there is. What was there
and is not told of is asked for by itself before it counts as gone. A page that did not change since it
was read costs no request of its own.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
    TooLarge,
)
from appliance.types import (
    ALONE,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    RawFile,
    Site,
    Upsert,
)
from connectors import admit, notion_text
from connectors.form import LATER
from connectors.notion_api import Api, Object
from connectors.notion_text import File

SETTLED = timedelta(minutes=2)  # Notion tells the minute of a change; another may follow in it
MOST_ASKED = 5000  # pages that a search left out; where they are more, the search is believed
BUSY = 5  # pages one after the other that Notion does not give: then it is not the page
_ID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_URI = re.compile(rf"({_ID})(?:/(.+))?")
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)  # an answer of another shape


class NotionSettings(BaseModel):
    token: str = Field(
        title="シークレット",
        description="内部インテグレーションのシークレット (ntn_…)。権限は「コンテンツを読み取る」。"
        "読ませるページとデータベースで「コネクト」にこのインテグレーションを加えてください。",
        repr=False,
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。Notion は誰が"
        "読めるかを API で教えないため、共有したすべてのページに当てはまります。空なら誰にも見えません。",
    )
    attachments: bool = Field(
        default=True, title="ファイルを読む", description="Notion に置かれたファイル、PDF、画像。"
    )
    per_second: float = Field(
        default=2.5,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。Notion は平均で毎秒 3 回までです。0 は無制限。",
    )
    url: str = Field(
        default="https://api.notion.com",
        title="API の URL",
        description="ふつうは変えません。",
        json_schema_extra=LATER,
    )
    files: list[str] = Field(
        default_factory=lambda: [
            "https://prod-files-secure.s3.us-west-2.amazonaws.com",
            "https://s3.us-west-2.amazonaws.com",
        ],
        title="ファイルの URL",
        json_schema_extra=LATER,
        description="Notion がファイルを置くところ。シークレットは送りません。",
    )

    @field_validator("url")
    @classmethod
    def _place(cls, url: str) -> str:
        url = url.strip().rstrip("/")
        if not re.fullmatch(r"https?://[^/?#@\s]+", url):
            raise ValueError("https://api.notion.com の形で書いてください")
        return url

    @field_validator("files")
    @classmethod
    def _places(cls, urls: list[str]) -> list[str]:
        return [cls._place(url) for url in urls]


@dataclass
class Known:
    """A page as it was last read."""

    version: str
    title: str
    at: str
    files: list[File] = field(default_factory=list)


Opener = Callable[[], BinaryIO]


class NotionConnector:
    """Notion"""

    kind: ClassVar[str] = "notion"
    Settings: ClassVar[type[BaseModel]] = NotionSettings
    lists_all: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: NotionSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._tables = dict[str, str]()  # names, by the id of a data source

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        return Api(own.url, own.files, own.token, self.site, own.per_second)

    @cached_property
    def _allowed(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._allowed  # noqa: B018  a setting may be wrong
        self._api.ask("users/me")
        if not self._api.ask("search", {"page_size": 1}).get("results"):
            raise SourceMisconfigured(
                "Notion のインテグレーションに共有されたページがありません。Notion のページの"
                "「…」→「コネクト」で、インテグレーションを加えてください。"
            )

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self._allowed  # noqa: B018
        before, now = load(since), dict[str, Known]()
        stop: ApplianceError | None = None
        try:
            yield from self._pages(before, now)
        except (SourceUnreachable, SourceBusy, SourceDenied, SourceMisconfigured) as error:
            stop = error  # what was read is remembered before it is raised
        yield Checkpoint(save(now if stop is None else before | now), complete=stop is None)
        if stop:
            raise stop

    def file(self, uri: str) -> RawFile:
        found = _URI.fullmatch(uri)
        if not found:
            raise NotVisible(f"{uri} はありません。")
        id_, rest = found.groups()
        page = self._api.ask(f"pages/{id_}")
        if notion_text.gone(page) or str(page.get("id")) != id_:
            raise NotVisible(f"{uri} はありません。")
        known = self._known(page)
        if not rest:
            return self._raw(id_, known, partial(self._again, id_))
        for file in self._read(page).files if self._settings.attachments else ():
            if f"{file.holder}/{file.name}" == rest:
                return self._attached(id_, known, file)
        raise NotVisible(f"{uri} はありません。")

    # --- pages --------------------------------------------------------------------

    def _pages(self, before: Mapping[str, Known], now: dict[str, Known]) -> Iterator[Change]:
        """All of them; each is remembered when it is told of."""
        busy = 0
        for page in self._found(before, now):
            if isinstance(page, Failed):
                yield page
                continue
            id_ = str(page.get("id"))
            if page.get("object") != "page" or not re.fullmatch(_ID, id_):
                continue
            if id_ in now or notion_text.gone(page):
                continue
            try:
                yield from self._page(id_, page, before.get(id_), now)
                busy = 0
            except NotVisible:
                continue  # deleted meanwhile
            except (SourceBusy, SourceDenied, SourceMisconfigured, TooLarge, *_UNREADABLE) as error:
                busy += isinstance(error, SourceBusy)
                if busy == BUSY:
                    raise
                yield from self._failed(id_, page, error, before.get(id_), now)

    def _found(
        self, before: Mapping[str, Known], now: Mapping[str, Known]
    ) -> Iterator[Object | Failed]:
        """What Notion tells of, some of it twice; then what it did not tell of and still has."""
        newest = {"sort": {"timestamp": "last_edited_time", "direction": "descending"}}
        kind = {"filter": {"property": "object", "value": "data_source"}}
        tables = [one for one in self._api.all("search", newest | kind) if one.get("id")]
        self._tables |= {str(one["id"]): notion_text.name(one) for one in tables}
        for table in tables:
            id_ = str(table["id"])
            try:
                if not notion_text.gone(table):
                    yield from self._api.rows(id_)
            except (SourceDenied, SourceMisconfigured, NotVisible) as error:
                reason = f"データベースの行を読めません ({error})"
                yield Failed(f"{id_}/", self._tables[id_] or id_, reason, False)
        kind = {"filter": {"property": "object", "value": "page"}}
        yield from self._api.all("search", newest | kind)
        missing = [id_ for id_ in before if id_ not in now]
        for id_ in missing if len(missing) <= MOST_ASKED else ():
            try:
                yield self._api.ask(f"pages/{id_}")
            except NotVisible:
                continue

    def _page(
        self, id_: str, page: Object, old: Known | None, now: dict[str, Known]
    ) -> Iterator[Change]:
        known = self._known(page)
        if old and old.version == known.version:
            known.files = old.files
            yield Upsert(self._raw(id_, known, partial(self._again, id_)))
        else:
            made = self._read(page)
            known.files = made.files if self._settings.attachments else []
            yield Upsert(self._raw(id_, known, partial(io.BytesIO, made.text())))
        now[id_] = known
        for file in known.files if self._settings.attachments else ():
            yield Upsert(self._attached(id_, known, file))

    def _failed(
        self,
        id_: str,
        page: Object,
        error: Exception,
        old: Known | None,
        now: dict[str, Known],
    ) -> Iterator[Change]:
        """Its last good text stays, and so do its files."""
        plain = isinstance(error, ApplianceError)
        reason = f"ページを読めません ({error if plain else type(error).__name__})"
        title = old.title if old else id_
        yield Failed(id_, title, reason, isinstance(error, SourceBusy), self._allowed)
        if old:
            now[id_] = old
            for file in old.files:
                yield Upsert(self._attached(id_, old, file))

    def _known(self, page: Object) -> Known:
        at = str(page["last_edited_time"])
        version = f"{at}:{notion_text.digest(page)}"
        if abs(datetime.now(UTC) - _moment(at)) < SETTLED:
            version += "~"
        return Known(version, notion_text.title(page), at)

    def _read(self, page: Object) -> notion_text.Page:
        parent = page.get("parent") or {}
        table = str(parent.get("data_source_id") or "")
        return notion_text.read(page, self._table(table) if table else "", self._children)

    def _table(self, id_: str) -> str:
        if id_ not in self._tables:
            try:
                self._tables[id_] = notion_text.name(self._api.ask(f"data_sources/{id_}"))
            except NotVisible:
                self._tables[id_] = ""
        return self._tables[id_]

    def _children(self, id_: str) -> Iterator[Object]:
        if not re.fullmatch(_ID, id_):
            raise ValueError(id_)
        return self._api.all(f"blocks/{id_}/children")

    # --- documents ----------------------------------------------------------------

    def _raw(self, id_: str, known: Known, opener: Opener) -> RawFile:
        return RawFile(
            uri=id_,
            version=known.version,
            open=opener,
            access=self._allowed,
            title=known.title,
            modified_at=_moment(known.at),
            media_type="text/markdown",
        )

    def _attached(self, id_: str, known: Known, file: File) -> RawFile:
        return RawFile(
            uri=f"{id_}/{file.holder}/{file.name}",
            version=file.version,
            open=partial(self._fetch, id_, file.holder),
            access=self._allowed,
            title=file.name,
            modified_at=_moment(known.at),
        )

    def _again(self, id_: str) -> BinaryIO:
        return io.BytesIO(self._read(self._api.ask(f"pages/{id_}")).text())

    def _fetch(self, id_: str, holder: str) -> BinaryIO:
        """By a new link: the one that was told holds for an hour."""
        try:
            if re.fullmatch(_ID, holder):
                block = self._api.ask(f"blocks/{holder}")
                said = block.get(str(block.get("type"))) or {}
                url = "" if notion_text.gone(block) else notion_text.hosted(said)
            else:
                url = notion_text.property_url(self._api.ask(f"pages/{id_}"), holder)
        except NotVisible:
            url = ""
        if not url:
            raise SourceBusy(f"{id_}/{holder} のファイルはもうありません。次の確認で取り除きます。")
        return self._api.file(url)


def _moment(said: str) -> datetime:
    at = datetime.fromisoformat(said)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# --- what a cursor holds ----------------------------------------------------------


def load(cursor: Cursor | None) -> dict[str, Known]:
    try:
        pages = json.loads(cursor or "{}").get("pages", {})
        return {
            str(id_): Known(str(version), str(title), str(at), [File(*file) for file in files])
            for id_, (version, title, at, files) in pages.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # another version's: everything is read anew


def save(known: Mapping[str, Known]) -> Cursor:
    pages: dict[str, Any] = {
        id_: [one.version, one.title, one.at, one.files] for id_, one in known.items()
    }
    return Cursor(json.dumps({"pages": pages}, ensure_ascii=False, separators=(",", ":")))
