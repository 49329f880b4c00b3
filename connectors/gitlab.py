"""GitLab: issues and merge requests with their comments, wiki pages, files they point to.

Not verified against the real service: it was written by GitLab's public documentation, and is tested
against a server that was written by the same. The repository itself is `connectors/git.py`'s.

Who may read is what a project's members may by their level, inherited ones too; beside it `allow`,
where it is set. Comments that are internal are read for nobody. Issues and merge requests are asked for
by `updated_after`; all of them once a day, and where their number says that some went. A wiki has no
times: its pages are listed with their words. Files of a wiki that lie in its repository have no API.
"""

from __future__ import annotations

import io
import re
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    TooLarge,
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
    RawFile,
    Site,
)
from connectors import admit, gitlab_page
from connectors.form import LATER, called
from connectors.gitlab_api import Api, Row, coded, earlier, moment
from connectors.gitlab_known import MOVED, Entry, Known, load, save
from connectors.gitlab_rights import People, Rights, people, rights, there
from connectors.gitlab_told import ODD, Told, of_page, of_row, of_words
from connectors.listing import Listing, held

EVERYTHING_S = 86_400.0  # how long it is believed that nothing went where nothing says so
_ERRORS = (SourceDenied, SourceMisconfigured, SourceBusy, NotVisible, TooLarge)


class GitLabSettings(BaseModel):
    url: str = Field(title="URL", description="https://gitlab.example.co.jp。")
    token: str = Field(
        title="アクセストークン",
        description="スコープは read_api。読むプロジェクトに、レポーター以上で参加する利用者のもの。",
        repr=False,
    )
    projects: list[str] = Field(
        default_factory=list,
        title="プロジェクト",
        description="パスで書きます (eigyo/mitsumori)。",
    )
    groups: list[str] = Field(
        default_factory=list,
        title="グループ",
        description="その下のすべてのプロジェクト (サブグループも) を読みます。プロジェクトとグループの、どちらかが要ります。",
    )
    archived: bool = Field(default=False, title="アーカイブしたプロジェクトも読む")
    rights: Literal["gitlab", "allow"] = Field(
        json_schema_extra=called(
            {
                "gitlab": "GitLab の権限に従う (gitlab)",
                "allow": "「閲覧できる人」だけで決める (allow)",
            }
        ),
        default="gitlab",
        title="アクセス権",
        description="gitlab は、プロジェクトのメンバー (親グループからの参加を含む) のうち、ロールが許す人だけに見せます。"
        "機密イシューは、プランナー以上のメンバーと、作成者、担当者だけです。"
        "allow は「閲覧できる人」だけで決め、機密イシューは誰にも見せません。",
    )
    anybody: bool = Field(
        default=False,
        title="内部・公開プロジェクトを全員に見せる",
        description="GitLab にサインインできる誰もが見られるものを、Kura の全員に見せます。"
        "切ってあれば、内部・公開プロジェクトもメンバーだけが読めます。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="GitLab の人の対応表",
        description="1 行に一つ書きます (sato = user:sato、Kura にいなければ = nobody)。左は GitLab のユーザー名です。"
        "ない人には見えません。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人を、ユーザー名のまま Kura の人とみなします。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "GitLab の権限に従うときは、その両方が許す人だけが読めます。空なら GitLab の権限だけ。",
    )
    issues: bool = Field(default=True, title="イシューを読む")
    merge_requests: bool = Field(default=True, title="マージリクエストを読む")
    wiki: bool = Field(default=True, title="Wiki を読む")
    attachments: bool = Field(
        default=True,
        title="添付ファイルを読む",
        description="説明と Wiki のページが指すアップロード (GitLab 17.4 から)。"
        "コメントだけが指すものと、Wiki のリポジトリにあるものは読みません。",
    )
    per_second: float = Field(
        default=5.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。GitLab の残りの回数がなくなれば、1 分まで待ちます。0 は無制限。",
    )

    @field_validator("url")
    @classmethod
    def _place(cls, url: str) -> str:
        url = url.strip().rstrip("/").removesuffix("/api/v4")
        if not re.fullmatch(r"https?://[^?#@\s]+", url):
            raise ValueError("https://gitlab.example.co.jp の形で書いてください")
        return url

    @field_validator("projects", "groups")
    @classmethod
    def _paths(cls, paths: list[str]) -> list[str]:
        paths = list(dict.fromkeys(path.strip().strip("/") for path in paths))
        if odd := [path for path in paths if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", path)]:
            raise ValueError(f"「{odd[0]}」は GitLab のパスではありません")
        return paths

    @model_validator(mode="after")
    def _somewhere(self) -> GitLabSettings:
        if not (self.projects or self.groups):
            raise ValueError("プロジェクトかグループを書いてください")
        return self


class GitLabConnector:
    """GitLab"""

    kind: ClassVar[str] = "gitlab"
    Settings: ClassVar[type[BaseModel]] = GitLabSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: GitLabSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        return Api(own.url, own.token, self.site, own.per_second)

    @cached_property
    def _allowed(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _people(self) -> People:
        return people(self._settings.people, self._settings.same_names)

    def check(self) -> None:
        """One project that is not there does not stop the others."""
        self._allowed, self._people  # noqa: B018  a setting may be wrong
        self._api.one("user")
        errors: list[ApplianceError] = []
        found = list(self._projects(lambda path, error: errors.append(error)))
        if not found:
            raise SourceMisconfigured(
                str(errors[0] if errors else "読むプロジェクトがありません。")
            )
        if self._settings.rights == "gitlab":
            self._rights(found[0])

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self._allowed, self._people  # noqa: B018
        before, uris = load(since, self._shape), held(since)
        after, walk = dict[int, Known](), Listing[Entry]()
        errors, went = list[ApplianceError](), dict[str, str]()

        def shut(path: str, error: ApplianceError) -> list[Change]:
            """Who may read what nobody shows us any more is not known."""
            errors.append(error)
            passes = isinstance(error, SourceBusy)
            walk.shut(f"{path}/", error, transient=passes)
            hidden = [] if passes else [uri for uri in uris if uri.startswith(f"{path}/")]
            return [AccessChanged(uri, NOBODY) for uri in hidden]

        closed: list[Change] = []
        projects = list(self._projects(lambda *why: closed.extend(shut(*why))))
        if errors and not projects:
            raise errors[0]
        yield from closed
        for project in projects:
            path, id_ = _path(project), int(project["id"])
            try:
                entitled = self._rights(project)
            except _ERRORS as error:
                yield from shut(path, error)
                after |= {id_: before[id_]} if id_ in before else {}
                continue
            had = before.get(id_, Known())
            after[id_], shut_kinds = self._look(project, had, walk, went)
            now = after[id_]
            now.readers = self._readers(entitled)
            for tail, entry in now.entries.items():
                if entry.version == MOVED or tail.partition("/")[0] in shut_kinds:
                    continue
                uri, access = f"{path}/-/{tail}", self._access(entitled, tail, entry)
                walk.add(uri, replace(entry, project=id_, access=access), access)
                old = had.entries.get(tail)
                if not old or uri not in uris:
                    continue
                if had.readers != now.readers or old.between != entry.between:
                    # before any content, which takes its time; until it is read, what was there
                    # is for those who may read both
                    was = self._access(entitled, tail, old)
                    both = NOBODY if NOBODY in (was, access) else (*was, *access)
                    yield AccessChanged(uri, access if old.version == entry.version else both)
        for change in walk.changes(since, lambda e: went.get(e.same, e.same), self._file):
            if isinstance(change, Checkpoint):
                change = replace(change, cursor=save(change.cursor, after, self._shape))
            yield change

    def file(self, uri: str) -> RawFile:
        path, _, tail = uri.partition("/-/")
        kind, _, rest = tail.partition("/")
        if not rest or kind not in self._kinds or "\0" in uri:
            raise NotVisible(f"{uri} はありません。")
        project = self._api.one(f"projects/{coded(path)}")
        if _path(project) == path and there(project, kind) and self._reads(project):
            found: list[Told] = []
            if kind == "wikis":
                slugs = {rest, rest.rpartition("/")[0].rpartition("/")[0]} - {""}
                found = [self._near_page(project, slug) for slug in slugs]
            elif re.fullmatch("[1-9][0-9]{0,17}", number := rest.partition("/")[0]):
                row = self._api.one(f"projects/{project['id']}/{kind}/{number}")
                found = [of_row(kind, row, self._settings.attachments)]
            for each in found:
                if hit := self._hit(project, tail, each):
                    return self._file(uri, hit)
        raise NotVisible(f"{uri} はありません。")

    def _hit(self, project: Row, tail: str, found: Told) -> Entry | None:
        for at, entry in found:
            if at == tail and entry.version != MOVED:
                access = self._access(self._rights(project), tail, entry)
                return replace(entry, project=int(project["id"]), access=access)
        return None

    def _file(self, uri: str, entry: Entry) -> RawFile:
        return RawFile(
            uri=uri,
            version=entry.version,
            open=partial(self._open, uri, entry),
            access=entry.access,
            title=entry.title,
            modified_at=moment(entry.at),
            media_type=entry.media_type,
        )

    # --- which, and for whom ------------------------------------------------------

    @property
    def _kinds(self) -> list[str]:
        own = self._settings
        chosen = {"issues": own.issues, "merge_requests": own.merge_requests, "wikis": own.wiki}
        return [kind for kind, wanted in chosen.items() if wanted]

    @property
    def _shape(self) -> str:
        """What the entries of a cursor depend on."""
        return f"1 {self._settings.attachments} {' '.join(self._kinds)}"

    def _reads(self, project: Row) -> bool:
        own, path = self._settings, _path(project)
        if not self._alive(project):
            return False
        if path in own.projects or any(path.startswith(f"{group}/") for group in own.groups):
            return True
        # it may have been named by a path of before, which GitLab still knows
        return any(one["id"] == project["id"] for one in self._projects(lambda *why: None))

    def _alive(self, project: Row) -> bool:
        gone = project.get("marked_for_deletion_at") or project.get("marked_for_deletion_on")
        return not gone and (self._settings.archived or project.get("archived") is not True)

    def _projects(self, failed: Any) -> Iterator[Row]:
        own, told = self._settings, set[int]()
        for path in own.projects:
            try:
                project = self._api.one(f"projects/{coded(path)}")
            except _ERRORS as error:
                failed(path, error)
                continue
            if self._alive(project) and project["id"] not in told:
                told.add(project["id"])
                yield project
        for group in own.groups:
            said: dict[str, str | int] = {"include_subgroups": "true", "with_shared": "false"}
            said |= {"order_by": "id", "sort": "asc"} | (
                {} if own.archived else {"archived": "false"}
            )
            try:
                found = list(self._api.pages(f"groups/{coded(group)}/projects", **said))
            except _ERRORS as error:
                failed(group, error)
                continue
            for project in found:
                if self._alive(project) and project["id"] not in told:
                    told.add(project["id"])
                    yield project

    def _rights(self, project: Row) -> Rights | None:
        if self._settings.rights == "allow":
            return None
        members = self._api.pages(f"projects/{project['id']}/members/all")
        return rights(project, members, self._people, anybody=self._settings.anybody)

    def _access(self, entitled: Rights | None, tail: str, entry: Entry) -> Access:
        if entitled is None:
            return self._allowed if entry.between is None else NOBODY
        return (*self._allowed, entitled.layer(tail.partition("/")[0], entry.between))

    def _readers(self, entitled: Rights | None) -> str:
        """A digest of who may read."""
        told = [sorted(layer.allow) for layer in self._allowed]
        return gitlab_page.digest(told, entitled.told(self._kinds) if entitled else None)

    # --- listing ------------------------------------------------------------------

    def _look(
        self, project: Row, had: Known, walk: Listing[Entry], went: dict[str, str]
    ) -> tuple[Known, set[str]]:
        """What there is of a project, and the kinds that did not open, as they were."""
        now, closed = Known(_path(project), dict(had.synced), had.whole_at), set[str]()
        whole = had.path != now.path or not 0 <= time.time() - had.whole_at < EVERYTHING_S
        for kind in self._kinds:
            if not there(project, kind):
                continue
            try:
                if kind == "wikis":
                    now.entries |= self._pages(project, had, walk)
                else:
                    now.entries |= self._numbered(
                        project, kind, Known() if whole else had, now, walk, went
                    )
            except _ERRORS as error:
                closed.add(kind)
                now.entries |= had.of(kind)
                walk.shut(f"{now.path}/-/{kind}/", error, transient=isinstance(error, SourceBusy))
        if whole and not closed:
            now.whole_at = time.time()
        return now, closed

    def _numbered(
        self,
        project: Row,
        kind: str,
        had: Known,
        now: Known,
        walk: Listing[Entry],
        went: dict[str, str],
    ) -> dict[str, Entry]:
        """Issues, or merge requests: those that changed, unless their number tells of others."""
        if (old := had.of(kind)) and had.synced.get(kind):
            entries = self._touched(project, kind, old, now, walk, went)
            count = self._api.count(f"projects/{project['id']}/{kind}", scope="all")
            if count in (None, sum(tail.count("/") == 1 for tail in entries)):
                return entries
        return self._touched(project, kind, {}, now, walk, went)

    def _touched(
        self,
        project: Row,
        kind: str,
        old: dict[str, Entry],
        now: Known,
        walk: Listing[Entry],
        went: dict[str, str],
    ) -> dict[str, Entry]:
        """All there are; of those that are known, those that changed are asked for."""
        entries, last = dict(old), now.synced.get(kind, "") if old else ""
        which, after = ("updated", earlier(last)) if last else ("created", "")
        path = f"projects/{project['id']}/{kind}"
        for row in self._api.by_time(path, which, after, scope="all"):
            tail = f"{kind}/{row.get('iid')}"
            try:
                found, changed = (
                    dict(of_row(kind, row, self._settings.attachments)),
                    str(row["updated_at"]),
                )
            except ODD as error:
                self._odd(walk, project, tail, error)
                continue
            if entries.pop(tail, None):
                for file in [t for t in entries if t.startswith(f"{tail}/")]:
                    del entries[file]
            entries |= found
            last = max(last, changed, key=moment)
            if row.get("moved_to_id"):  # another issue, with an id of its own
                went[f"issue/{row['moved_to_id']}"] = f"issue/{row['id']}"
        now.synced[kind] = last
        return entries

    def _pages(self, project: Row, had: Known, walk: Listing[Entry]) -> dict[str, Entry]:
        """The time of a page is when another version of it was seen."""
        old, found = had.of("wikis"), dict[str, Entry]()
        pages, _ = self._api.rows(f"projects/{project['id']}/wikis", {"with_content": 1})
        for page in pages:
            try:
                found |= of_page(project, page, self._settings.attachments)
            except ODD as error:
                self._odd(walk, project, f"wikis/{page.get('slug')}", error)
        for tail, entry in found.items():
            if tail in old and old[tail].version == entry.version:
                found[tail] = replace(entry, at=old[tail].at)
        return found

    def _odd(self, walk: Listing[Entry], project: Row, tail: str, error: Exception) -> None:
        reason = f"知らない形をしています ({type(error).__name__})"
        walk.failures.append(Failed(f"{_path(project)}/-/{tail}", tail, reason, transient=False))

    def _near_page(self, project: Row, slug: str) -> Told:
        try:
            page = self._api.one(f"projects/{project['id']}/wikis/{coded(slug)}")
        except NotVisible:
            return
        yield from of_page(project, page, self._settings.attachments)

    # --- content ------------------------------------------------------------------

    def _open(self, uri: str, entry: Entry) -> BinaryIO:
        tail, place = uri.partition("/-/")[2], f"projects/{entry.project}"
        kind, _, rest = tail.partition("/")
        if entry.media_type is None:
            _, secret, name = rest.rsplit("/", 2)
            return self._api.file(f"{place}/uploads/{secret}/{coded(name)}")
        if kind == "wikis":
            page = self._api.one(f"{place}/wikis/{coded(rest)}")
            text, version = (
                f"# {page.get('title')}\n\n{page.get('content') or ''}\n",
                of_words(page),
            )
        else:
            notes = list(self._notes(f"{place}/{tail}"))
            row = self._api.one(f"{place}/{tail}")
            text, version = (
                gitlab_page.text(kind, row, notes, f"{self._settings.url}/{uri}"),
                gitlab_page.version(row),
            )
        if version != entry.version:  # it was asked of another who may read it
            raise SourceBusy(f"{uri} は編集中です。次の確認で読み直します。")
        return io.BytesIO(text.encode("utf-8", "replace"))

    def _notes(self, path: str) -> Iterator[Row]:
        """What people said to all who may read the issue."""
        for note in self._api.pages(f"{path}/notes", sort="asc", order_by="created_at"):
            kept = note.get("internal") or note.get("confidential")
            if not note.get("system") and not kept and str(note.get("body") or "").strip():
                yield note


def _path(project: Row) -> str:
    return unicodedata.normalize("NFC", str(project["path_with_namespace"]))
