"""Redmine: issues with their notes, wiki pages, files, and what is attached, each a document.

Who may read is what the roles of a project's members say (`connectors/redmine_roles.py`), told before
any content is read. Issues are listed by `updated_on`; all of them, by their ids, where their number
says that some went, and once a day, for an attachment may go without the issue being touched. What is
as it was costs no request. Private notes are read for nobody, nor are fields kept to some roles.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import BinaryIO, ClassVar
from urllib.parse import quote, unquote

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import ALONE, NOBODY, Access, Change, Cursor, RawFile, Site
from connectors import admit, redmine_api
from connectors.form import LATER
from connectors.http import shown
from connectors.redmine_api import Api, Row, moment
from connectors.redmine_look import Entry, Look, load
from connectors.redmine_roles import Facts, Roles
from connectors.urls import canonical

FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
_MODULES = {"issues": "issue_tracking", "wiki": "wiki", "files": "files"}


class RedmineSettings(BaseModel):
    url: str = Field(
        title="URL", description="Redmine の最初のページの URL (https://redmine.example.co.jp)。"
    )
    api_key: str = Field(
        title="API キー",
        description="Redmine のシステム管理者の「個人設定」にある API アクセスキー。"
        "ロールとメンバーを読むために、管理者のものが要ります。",
        repr=False,
    )
    projects: list[str] = Field(
        default_factory=list,
        title="プロジェクト",
        description="読むプロジェクトの識別子か名前 (子プロジェクトは別に書きます)。空ならすべて。",
    )
    trackers: list[str] = Field(
        default_factory=list,
        title="トラッカー",
        description="読むチケットのトラッカーの名前。空ならすべて。",
    )
    issues: bool = Field(default=True, title="チケットを読む")
    wiki: bool = Field(default=True, title="Wiki を読む")
    files: bool = Field(default=True, title="ファイルを読む")
    attachments: bool = Field(default=True, title="チケットと Wiki の添付ファイルを読む")
    markdown: bool = Field(
        default=False,
        title="テキスト書式は Markdown",
        description="Redmine の「管理 → 設定 → 全般」のテキスト書式。切ってあれば Textile として読みます。",
    )
    by_roles: bool = Field(
        default=True,
        title="Redmine の権限に従う",
        description="プロジェクトのメンバーのうち、ロールが許す人 (user:ログインID) だけが読めます。"
        "切ると、下の「閲覧できる人」だけで決まり、プライベートチケットは誰にも見えません。",
    )
    public: bool = Field(
        default=False,
        title="公開プロジェクトを全員に見せる",
        description="公開プロジェクトで「非メンバー」のロールが許すものを、Kura の全員が読めます。"
        "切ってあれば、公開プロジェクトもメンバーだけが読めます。",
    )
    groups_by_name: bool = Field(
        default=False,
        title="同じ名前のグループを同じとみなす",
        description="メンバーである Redmine のグループと同じ名前の、Kura のグループ (group:…) も読めます。"
        "切ってあれば、グループの人を Redmine の登録どおり一人ずつ許します。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "Redmine の権限に従うときは、その両方が許す人だけが読めます。空なら Redmine の権限だけ。",
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
    def _url(cls, url: str) -> str:
        found = canonical(url, drop=())
        if not found or "?" in found:
            raise ValueError(f"{shown(url)} は http か https の URL ではありません")
        return found.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _key(cls, key: str) -> str:
        if not re.fullmatch(r"[!-~]+", key := key.strip()):
            raise ValueError("API キーに使えない文字があります")
        return key


class RedmineConnector:
    """Redmine (チケット、Wiki、ファイル)"""

    kind: ClassVar[str] = "redmine"
    Settings: ClassVar[type[BaseModel]] = RedmineSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True

    def __init__(self, settings: RedmineSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        return Api(own.url, own.api_key, self.site, own.per_second)

    @cached_property
    def _allow(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._allow  # noqa: B018  its setting may be wrong
        self._enter()
        projects, missing = self._projects()
        if missing:
            raise SourceMisconfigured(
                f"プロジェクト「{missing[0]}」がありません。識別子と、API キーの利用者の権限を確かめてください。"
            )
        if not projects:
            raise SourceMisconfigured(
                f"{shown(self._settings.url)} に読めるプロジェクトがありません。"
            )
        self._tracker_ids  # noqa: B018

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All that is there; a checkpoint, complete if every project could be listed."""
        self._allow  # noqa: B018
        self._enter()
        projects, missing = self._projects()
        yield from Look(self, load(since), projects, missing).changes()

    def file(self, uri: str) -> RawFile:
        key = uri.removeprefix(f"{self._settings.url}/")
        if key == uri or not uri.isascii():
            raise NotVisible(f"{uri} はありません。")
        self._enter()
        projects, _ = self._projects()
        bare, _, parent = key.partition("?of=")
        found = self._found(unquote(parent) if parent else bare, projects)
        if key not in found:
            raise NotVisible(f"{uri} はありません。")
        entry = found[key]
        mine = [p for p in projects if p["id"] == entry.facts.project]
        roles = self.roles(mine)
        if roles and roles.failed:
            raise roles.failed[entry.facts.project]
        return self.raw_file(key, entry, self.access(roles, entry))

    def _found(self, key: str, projects: list[Row]) -> dict[str, Entry]:
        """What lies at a key, and what is attached to it."""
        if issue := re.fullmatch(r"issues/([1-9]\d{0,17})", key):
            row = self._api.get(f"issues/{issue[1]}", {"include": "attachments"}).get("issue") or {}
            ids = {p["id"] for p in projects if self.reads(p, "issues")}
            tracker = str((row.get("tracker") or {}).get("id"))
            if (row.get("project") or {}).get("id") in ids and (
                not self._tracker_ids or tracker in self._tracker_ids.split("|")
            ):
                return self.issue(row)
        elif place := re.fullmatch(r"projects/([^/]+)/(files|wiki/[^/]+)", key):
            kind = place[2].partition("/")[0]
            for project in projects:
                if project["identifier"] == place[1] and self.reads(project, kind):
                    if kind == "files":
                        return self.project_files(project)
                    return self.page(project, unquote(place[2].partition("/")[2]))
        return {}

    # --- what is there --------------------------------------------------------------

    def _enter(self) -> None:
        """Without a valid key Redmine would answer as to a stranger, and show less."""
        if self._api.me().get("admin") is not True and self._settings.by_roles:
            raise SourceDenied(
                f"{shown(self._settings.url)} の API キーは管理者のものではないため、誰が読めるかを"
                "確かめられません。管理者のキーにするか、「Redmine の権限に従う」を切ってください。"
            )

    def _projects(self) -> tuple[list[Row], list[str]]:
        """Those that are asked for, closed ones too, and which of them are not there."""
        rows = self._api.rows(
            "projects", "projects", status="1|5", include="trackers,enabled_modules"
        )
        if not self._settings.projects:
            return rows, []
        return redmine_api.named(rows, [name.strip() for name in self._settings.projects])

    def roles(self, projects: list[Row]) -> Roles | None:
        own = self._settings
        return Roles(self._api, projects, own.groups_by_name, own.public) if own.by_roles else None

    def access(self, roles: Roles | None, entry: Entry) -> Access:
        if roles is None:
            return NOBODY if entry.facts.private else self._allow
        by_roles = roles.access(entry.facts)
        return (*by_roles, *self._allow) if by_roles else NOBODY

    @cached_property
    def _tracker_ids(self) -> str:
        if not self._settings.trackers:
            return ""
        rows = self._api.get("trackers").get("trackers", [])
        found, missing = redmine_api.named(rows, [t.strip() for t in self._settings.trackers])
        if missing:
            raise SourceMisconfigured(f"トラッカー「{missing[0]}」が Redmine にありません。")
        return "|".join(str(row["id"]) for row in found)

    @cached_property
    def _fields(self) -> Mapping[int, str]:
        try:
            return self._api.readable()
        except (SourceDenied, NotVisible):
            return {}  # which of them all may see is told to administrators alone

    def reads(self, project: Row, kind: str) -> bool:
        modules = {one.get("name") for one in project.get("enabled_modules", ())}
        return bool(getattr(self._settings, kind)) and _MODULES[kind] in modules

    def asked(self, project: int) -> dict[str, object]:
        """Which issues: closed ones too, and none of subprojects."""
        more = {"tracker_id": self._tracker_ids} if self._tracker_ids else {}
        return {"project_id": project, "subproject_id": "!*", "status_id": "*", **more}

    def issues(self, asked: Mapping[str, object]) -> Iterator[Row]:
        return self._api.issues(asked)

    def newest(self, project: int) -> tuple[str, int]:
        """When an issue was last changed, and how many there are."""
        asked = self.asked(project) | {"sort": "updated_on:desc", "limit": 1}
        said = self._api.get("issues", asked)
        rows = said.get("issues")
        if not isinstance(rows, list) or not isinstance(said.get("total_count"), int):
            raise SourceUnreachable(
                f"{shown(self._settings.url)} の応答が正しくありません。次の確認でやり直します。"
            )
        return (str(rows[0]["updated_on"]) if rows else ""), said["total_count"]

    def issue(self, row: Row) -> dict[str, Entry]:
        """An issue, and what is attached to it. Raises KeyError, TypeError, ValueError."""
        said = redmine_api.issue(row, self._fields, markdown=self._settings.markdown)
        facts = Facts(
            "issue", row["project"]["id"], row["tracker"]["id"], row["is_private"] is not False,
            (row.get("author") or {}).get("id", 0), (row.get("assigned_to") or {}).get("id", 0),
        )  # fmt: skip
        moment(row["updated_on"])
        key, version = f"issues/{row['id']}", redmine_api.version(row, said)
        title = f"#{row['id']} {row['subject']}"
        one = Entry(title, version, row["updated_on"], None, "text/markdown", "", "", facts)
        return {key: one} | self._attached(row, key, facts)

    def pages(self, project: Row) -> list[Row]:
        said = self._api.get(f"projects/{project['id']}/wiki/index")
        return list(said["wiki_pages"])

    def page_key(self, project: Row, title: str) -> str:
        return f"projects/{project['identifier']}/wiki/{quote(title, safe='')}"

    def page_entry(self, row: Row, facts: Facts) -> Entry:
        """By the index, or by the page itself."""
        return _page(row, facts)

    def page(self, project: Row, title: str) -> dict[str, Entry]:
        """A wiki page, and what is attached to it. Raises NotVisible where it was renamed, too."""
        row = self._wiki(project["id"], title)
        facts, key = Facts("wiki", project["id"]), self.page_key(project, row["title"])
        return {key: _page(row, facts)} | self._attached(row, key, facts)

    def _wiki(self, project: int, title: str) -> Row:
        path = f"projects/{project}/wiki/{quote(title, safe='')}"
        row: Row = self._api.get(path, {"include": "attachments"})["wiki_page"]
        if row["title"] != title:
            raise NotVisible(f"{title} はありません。")
        return row

    def project_files(self, project: Row) -> dict[str, Entry]:
        said = self._api.get(f"projects/{project['id']}/files")
        key = f"projects/{project['identifier']}/files"
        return _attachments(said["files"], key, Facts("file", project["id"]))

    def _attached(self, row: Row, key: str, facts: Facts) -> dict[str, Entry]:
        rows = row.get("attachments") if self._settings.attachments else None
        return _attachments(rows or [], key, facts)

    # --- bytes ----------------------------------------------------------------------

    def uri(self, key: str) -> str:
        return f"{self._settings.url}/{key}"

    def raw_file(self, key: str, entry: Entry, access: Access) -> RawFile:
        return RawFile(
            uri=self.uri(key),
            version=entry.version,
            open=partial(self._open, key, entry),
            access=access,
            title=entry.title,
            modified_at=moment(entry.modified),
            media_type=entry.media_type,
            size_bytes=entry.size_bytes,
        )

    def _open(self, key: str, entry: Entry) -> BinaryIO:
        """The bytes that were listed: SourceBusy where they are others by now."""
        if entry.parent:
            number = key.partition("?")[0].rpartition("/")[2]
            return self._api.http.file(self.uri(f"attachments/download/{number}"), FILE_BYTES)
        try:
            said, version = self._said(key, entry)
        except (NotVisible, KeyError, TypeError):
            raise SourceUnreachable(f"{entry.title} は、いま読めません。") from None
        if version != entry.version:
            raise SourceBusy(f"{entry.title} は変更されました。次の確認で読み直します。")
        return io.BytesIO(said.encode("utf-8", "replace"))

    def _said(self, key: str, entry: Entry) -> tuple[str, str]:
        markdown = self._settings.markdown
        if entry.facts.right == "issue":
            row = self._api.get(key, {"include": "journals"})["issue"]
            said = redmine_api.issue(row, self._fields, markdown=markdown)
            noted = redmine_api.notes(row, markdown=markdown)
            return said + noted, redmine_api.version(row, said)
        row = self._wiki(entry.facts.project, unquote(key.rpartition("/")[2]))
        text = redmine_api.text(row.get("text") or "", markdown=markdown)
        return f"# {_named(row['title'])}\n\n{text}\n", _page(row, entry.facts).version


def _page(row: Row, facts: Facts) -> Entry:
    moment(row["updated_on"])
    version, same = (
        f"{row['version']}:{row['updated_on']}",
        f"w{row['created_on']}:{row['version']}",
    )
    name = redmine_api.digest(row["title"])  # it is part of the text
    title, kind = _named(row["title"]), "text/markdown"
    return Entry(title, f"{version}:{name}", row["updated_on"], None, kind, "", same, facts)


def _named(title: str) -> str:
    return unicodedata.normalize("NFC", title.replace("_", " "))


def _attachments(rows: list[Row], parent: str, facts: Facts) -> dict[str, Entry]:
    found = {}
    for row in rows:
        moment(row["created_on"])
        version = f"{row['id']}:{row['filesize']}:{row['created_on']}"
        name = unicodedata.normalize("NFC", str(row["filename"]))
        found[f"attachments/{row['id']}?of={quote(parent, safe='/')}"] = Entry(
            name, version, row["created_on"], row["filesize"], row.get("content_type") or None,
            parent, f"a{row['id']}", facts,
        )  # fmt: skip
    return found
