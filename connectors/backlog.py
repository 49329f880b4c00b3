"""Backlog (Nulab): issues with their comments, wiki pages, files attached to either, shared files.

Not verified against the real service: it was written by Nulab's public documentation, and is tested
against a server that was written by the same.

Who may read is, first of all, `allow`; beside it the members of the project, where they are to be read
(`rights`): each is a layer, and both must admit. An issue is known again by its id: one that went to
another project is `Moved`. What a listing shows unchanged costs no request of its own.
"""

from __future__ import annotations

import io
import json
import re
import time
import unicodedata
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar, Literal, cast
from urllib.parse import quote, urlencode

import httpx2
from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import ALONE, Access, Change, Cursor, Layer, Principal, RawFile, Site
from connectors import admit
from connectors.form import LATER, called
from connectors.http import Http, judge, shown
from connectors.listing import DEEPEST, Listing

PAGE = 100  # the most there are in an answer
FILE_BYTES = 2_000_000_000
WINDOW_S = 60.0  # requests are counted by the minute
JAPAN = timezone(timedelta(hours=9))
_READ_ALL = (1, 2)  # roles: administrators and members; others may see a part only
_PROJECT = re.compile(r"[A-Z][A-Z0-9_]*")
Params = list[tuple[str, str | int]]


class BacklogSettings(BaseModel):
    url: str = Field(title="URL", description="https://example.backlog.com (または .jp)。")
    api_key: str = Field(
        title="API キー",
        description="個人設定の「API」で発行します。読み取り専用に使う利用者のものを勧めます。",
        repr=False,
    )
    projects: list[str] = Field(
        default_factory=list,
        title="プロジェクト",
        description="プロジェクトキー (SALES など)。空なら、その利用者が参加するすべて。",
    )
    rights: Literal["backlog", "allow"] = Field(
        json_schema_extra=called(
            {
                "backlog": "Backlog の権限に従う (backlog)",
                "allow": "「閲覧できる人」だけで決める (allow)",
            }
        ),
        default="backlog",
        title="アクセス権",
        description="backlog は、「閲覧できる人」のうち、プロジェクトの管理者と一般の参加者"
        " (チームによる参加を含む) だけに見せます。レポーター、ビュアー、ゲストには見せません。"
        "allow は、「閲覧できる人」だけで決めます。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="Backlog の人の対応表",
        description="1 行に一つ書きます (sato@example.co.jp = user:sato、Kura にいなければ = nobody)。"
        "左は、ユーザー ID かメールアドレスです。ない人には見えません。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人を、ユーザー ID のまま Kura の人とみなします。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    issues: bool = Field(default=True, title="課題を読む")
    wiki: bool = Field(default=True, title="Wiki を読む")
    files: bool = Field(default=True, title="共有ファイルを読む")
    attachments: bool = Field(default=True, title="添付ファイルを読む")
    per_second: float = Field(
        default=5.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。Backlog の残りの回数がなくなれば、1 分まで待ちます。0 は無制限。",
    )

    @field_validator("url")
    @classmethod
    def _place(cls, url: str) -> str:
        url = url.strip().rstrip("/")
        if not re.fullmatch(r"https?://[^/?#@\s]+", url):
            raise ValueError("https://example.backlog.com の形で書いてください")
        return url

    @field_validator("projects")
    @classmethod
    def _keys(cls, keys: list[str]) -> list[str]:
        keys = list(dict.fromkeys(key.strip().upper() for key in keys))
        if odd := [key for key in keys if not _PROJECT.fullmatch(key)]:
            raise ValueError(f"「{odd[0]}」はプロジェクトキーではありません")
        return keys


@dataclass(frozen=True)
class _Key(httpx2.Auth):
    """Backlog takes its key in the query, which no message shows."""

    value: str = field(repr=False)

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.url = request.url.copy_merge_params({"apiKey": self.value})
        yield request


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a listing says of a document. `path`: where its bytes are; empty where it is a page."""

    id: str  # "issue/12", "wiki/3"; of a file, empty
    path: str
    title: str
    version: str
    at: datetime
    access: Access
    size_bytes: int | None = None


class BacklogConnector:
    """Backlog (ヌーラボ)"""

    kind: ClassVar[str] = "backlog"
    Settings: ClassVar[type[BaseModel]] = BacklogSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: BacklogSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._free_at = 0.0  # when requests may be made again

    @cached_property
    def _http(self) -> Http:
        own = self._settings
        auth = _Key(own.api_key)
        return Http([own.url], self.site, auth=auth, per_second=own.per_second, judge=_judge)

    @cached_property
    def _allowed(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _people(self) -> dict[str, frozenset[Principal]]:
        table = dict[str, frozenset[Principal]]()
        for line in self._settings.people:
            who, equals, name = (part.strip() for part in line.rpartition("="))
            if not equals or not who:
                raise SourceMisconfigured(
                    f"対応表の「{line}」は「sato@example.co.jp = user:sato」の形ではありません。"
                )
            try:
                table[who] = frozenset() if name == "nobody" else admit.principals([name])
            except ValueError as error:
                raise SourceMisconfigured(f"対応表の{error}。") from None
        return table

    def check(self) -> None:
        self._allowed, self._people  # noqa: B018  a setting may be wrong
        self._ask("users/myself")
        there = {str(p["projectKey"]) for p in self._projects()}
        wanted = self._settings.projects
        named = f" {'、'.join(wanted)} という" if wanted else ""
        if not (there & {*wanted} if wanted else there):  # one that is there is enough
            raise SourceMisconfigured(
                f"Backlog に{named}プロジェクトがないか、"
                "API キーの利用者が参加していません。プロジェクトキーと参加を確かめてください。"
            )

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self._allowed, self._people  # noqa: B018
        walk = Listing[_Entry]()
        keys = self._settings.projects or [str(p["projectKey"]) for p in self._projects()]
        for key in keys:
            folder = f"{key}/"
            try:
                project = self._one(f"projects/{key}")
                access = self._access(project)
                for uri, entry in self._documents(project, access):
                    walk.add(uri, entry, entry.access)
            except (SourceDenied, SourceMisconfigured, SourceBusy, NotVisible) as error:
                for uri in walk.files:
                    if uri.startswith(folder):
                        del walk.files[uri]
                passes = isinstance(error, (SourceBusy, NotVisible))
                walk.shut(folder, error, transient=passes)
        yield from walk.changes(since, lambda entry: entry.id, self._file)

    def file(self, uri: str) -> RawFile:
        key = uri.partition("/")[0]
        known = {p["projectKey"]: p for p in self._projects()} if _PROJECT.fullmatch(key) else {}
        wanted = self._settings.projects or known
        if key not in known or key not in wanted:
            raise NotVisible(f"{uri} はありません。")
        project = known[key]
        access = self._access(project)
        for at, entry in self._near(project, access, uri[len(key) + 1 :]):
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
            media_type=None if entry.path else "text/markdown",
            size_bytes=entry.size_bytes,
        )

    # --- listing ------------------------------------------------------------------

    def _projects(self) -> list[Mapping[str, Any]]:
        return self._list("projects", [("archived", "false")])

    def _access(self, project: Mapping[str, Any]) -> Access:
        """Of the administrator's, those that take part in the project."""
        if self._settings.rights == "allow" or not self._allowed:
            return self._allowed
        members = set[Principal]()
        for user in self._list(f"projects/{project['projectKey']}/users"):
            if user.get("roleType") in _READ_ALL:
                members |= self._meant(user)
        return (*self._allowed, Layer(frozenset(members)))

    def _meant(self, user: Mapping[str, Any]) -> frozenset[Principal]:
        names = [str(user.get(one) or "") for one in ("userId", "mailAddress")]
        for name in names:
            if name and (meant := self._people.get(name)) is not None:
                return meant
        if self._settings.same_names and names[0]:
            return frozenset({Principal(f"user:{unicodedata.normalize('NFC', names[0])}")})
        return frozenset()

    def _documents(
        self, project: Mapping[str, Any], access: Access
    ) -> Iterator[tuple[str, _Entry]]:
        key, own = str(project["projectKey"]), self._settings
        if own.issues:
            which: Params = [("projectId[]", int(project["id"])), ("sort", "created")]
            for issue in self._paged("issues", which):
                yield from self._of_issue(key, issue, access)
        if own.wiki and project.get("useWiki") is not False:
            for wiki in self._list("wikis", [("projectIdOrKey", key)]):
                if own.attachments and "attachments" not in wiki:
                    wiki = self._one(f"wikis/{wiki['id']}")  # a listing need not say
                yield from self._of_wiki(key, wiki, access)
        if own.files and project.get("useFileSharing") is not False:
            yield from self._shared(key, "", access, 0)

    def _near(
        self, project: Mapping[str, Any], access: Access, rest: str
    ) -> Iterator[tuple[str, _Entry]]:
        """What a listing would tell of one document and those beside it."""
        key, own = str(project["projectKey"]), self._settings
        first, _, more = rest.partition("/")
        if own.issues and re.fullmatch(rf"{key}-[1-9]\d{{0,17}}", first):
            issue = self._one(f"issues/{first}")
            if issue.get("projectId") == project["id"]:
                yield from self._of_issue(key, issue, access)
        elif own.wiki and first == "wiki" and re.fullmatch(r"[1-9]\d{0,17}(/.*)?", more):
            wiki = self._one(f"wikis/{more.partition('/')[0]}")
            if wiki.get("projectId") == project["id"]:
                yield from self._of_wiki(key, wiki, access)
        elif own.files and first == "files" and more:
            parts = more.split("/")
            if not any(part in ("", ".", "..") or "\0" in part for part in parts):
                yield from self._folder(key, "".join(f"{p}/" for p in parts[:-1]), access)

    def _paged(self, path: str, params: Params) -> Iterator[Mapping[str, Any]]:
        """All there are. Each page begins with what ended the last: what goes meanwhile moves the rest.

        Raises SourceBusy where it did.
        """
        last, offset = None, 0
        while True:
            page = self._list(
                path, [*params, ("order", "asc"), ("offset", offset), ("count", PAGE)]
            )
            if last is not None and (not page or page[0].get("id") != last):
                raise SourceBusy(
                    f"一覧の途中で増減しました ({shown(path)})。次の確認で読み直します。"
                )
            fresh = page if last is None else page[1:]
            if not fresh:
                return
            yield from fresh
            last, offset = fresh[-1].get("id"), offset + len(page) - 1

    def _of_issue(
        self, key: str, issue: Mapping[str, Any], access: Access
    ) -> Iterator[tuple[str, _Entry]]:
        name, at = str(issue["issueKey"]), _moment(issue.get("updated") or issue["created"])
        entry = _Entry(
            id=f"issue/{issue['id']}",
            path="",
            title=f"{name} {issue.get('summary') or ''}".strip(),
            version=f"{name} {issue.get('updated')}",
            at=at,
            access=access,
        )
        yield f"{key}/{name}", entry
        yield from self._attached(f"{key}/{name}", f"issues/{issue['id']}", issue, at, access)

    def _of_wiki(
        self, key: str, wiki: Mapping[str, Any], access: Access
    ) -> Iterator[tuple[str, _Entry]]:
        at, uri = _moment(wiki.get("updated") or wiki["created"]), f"{key}/wiki/{wiki['id']}"
        name = f"wiki/{wiki['id']}"
        yield uri, _Entry(name, "", str(wiki["name"]), f"{wiki.get('updated')}", at, access)
        yield from self._attached(uri, f"wikis/{wiki['id']}", wiki, at, access)

    def _attached(
        self, uri: str, path: str, of: Mapping[str, Any], at: datetime, access: Access
    ) -> Iterator[tuple[str, _Entry]]:
        for one in (of.get("attachments") or []) if self._settings.attachments else []:
            name, size = _name(one["name"]), one.get("size")
            there = f"{path}/attachments/{one['id']}"
            at_ = _moment(one["created"]) if one.get("created") else at
            entry = _Entry("", there, name, f"{one['id']}:{size}", at_, access, size)
            yield f"{uri}/{one['id']}/{name}", entry

    def _shared(
        self, key: str, folder: str, access: Access, depth: int
    ) -> Iterator[tuple[str, _Entry]]:
        """`folder`: "見積/2026/", as people see it."""
        if depth > DEEPEST:
            raise SourceMisconfigured(f"{key} の共有ファイルのフォルダーが深すぎます。")
        inside: list[str] = []
        yield from self._folder(key, folder, access, inside)
        for one in inside:
            yield from self._shared(key, f"{folder}{one}/", access, depth + 1)

    def _folder(
        self, key: str, folder: str, access: Access, inside: list[str] | None = None
    ) -> Iterator[tuple[str, _Entry]]:
        where = f"projects/{key}/files/metadata/{quote(folder, safe='/')}".rstrip("/")
        for one in self._paged(where, []):
            name = _name(one["name"])
            if one.get("type") == "directory":
                if inside is not None:
                    inside.append(str(one["name"]))
                continue
            at, size = _moment(one.get("updated") or one["created"]), one.get("size")
            path, version = f"projects/{key}/files/{one['id']}", f"{one.get('updated')}:{size}"
            uri = unicodedata.normalize("NFC", f"{key}/files/{folder}") + name
            yield uri, _Entry(f"file/{one['id']}", path, name, version, at, access, size)

    # --- content ------------------------------------------------------------------

    def _open(self, uri: str, entry: _Entry) -> BinaryIO:
        if entry.path:
            return self._http.file(f"{self._settings.url}/api/v2/{entry.path}", FILE_BYTES)
        kind, _, number = entry.id.partition("/")
        said = self._one(f"{kind}s/{number}")
        if kind == "wiki":
            text, version = self._wiki(said), f"{said.get('updated')}"
        else:
            text, version = self._issue(said), f"{said['issueKey']} {said.get('updated')}"
        if version != entry.version:  # it was asked of another who may read it
            raise SourceBusy(f"{uri} は編集中です。次の確認で読み直します。")
        return io.BytesIO(text.encode("utf-8", "replace"))

    def _wiki(self, said: Mapping[str, Any]) -> str:
        return f"# {said['name']}\n\n{said.get('content') or ''}\n"

    def _issue(self, said: Mapping[str, Any]) -> str:
        facts = {
            "種別": _named(said.get("issueType")),
            "状態": _named(said.get("status")),
            "優先度": _named(said.get("priority")),
            "担当者": _named(said.get("assignee")),
            "カテゴリー": _named(said.get("category")),
            "発生バージョン": _named(said.get("versions")),
            "マイルストーン": _named(said.get("milestone")),
            "開始日": str(said.get("startDate") or "")[:10],
            "期限日": str(said.get("dueDate") or "")[:10],
            "完了理由": _named(said.get("resolution")),
            "登録者": _named(said.get("createdUser")),
            "登録日": _japanese(said.get("created")),
        }
        for custom in said.get("customFields") or []:
            facts[str(custom.get("name"))] = _named(custom.get("value"))
        lines = [f"# {said['issueKey']} {said.get('summary') or ''}", ""]
        lines += [f"- {name}: {value}" for name, value in facts.items() if value]
        lines += ["", str(said.get("description") or ""), ""]
        for comment in self._comments(int(said["id"])):
            when, who = _japanese(comment.get("created")), _named(comment.get("createdUser"))
            lines += [f"## コメント {when} {who}", "", str(comment["content"]), ""]
        lines += [f"{self._settings.url}/view/{said['issueKey']}", ""]
        return "\n".join(lines)

    def _comments(self, issue: int) -> Iterator[Mapping[str, Any]]:
        last = 0
        while True:
            said: Params = [("order", "asc"), ("count", PAGE)]
            page = self._list(
                f"issues/{issue}/comments", said + ([("minId", last)] if last else [])
            )
            fresh = [one for one in page if int(one["id"]) > last]
            if not fresh:
                return
            yield from (one for one in fresh if str(one.get("content") or "").strip())
            last = max(int(one["id"]) for one in fresh)

    # --- asking -------------------------------------------------------------------

    def _one(self, path: str, params: Params | None = None) -> Mapping[str, Any]:
        answer = self._ask(path, params)
        if not isinstance(answer, dict):
            raise SourceUnreachable(f"Backlog の {shown(path)} の応答を読めません。")
        return answer

    def _list(self, path: str, params: Params | None = None) -> list[Mapping[str, Any]]:
        answer = self._ask(path, params)
        if not isinstance(answer, list) or not all(isinstance(one, dict) for one in answer):
            raise SourceUnreachable(f"Backlog の {shown(path)} の応答を読めません。")
        return cast(list[Mapping[str, Any]], answer)

    def _ask(self, path: str, params: Params | None = None) -> Any:
        """Raises NotVisible where there is none."""
        if (wait_s := self._free_at - time.time()) > 0:
            self._http.sleep(min(wait_s, WINDOW_S))
        url = f"{self._settings.url}/api/v2/{path}"
        reply = self._http.ask("GET", f"{url}?{urlencode(params)}" if params else url)
        left, reset = (
            reply.headers.get(f"x-ratelimit-{name}", "") for name in ("remaining", "reset")
        )
        self._free_at = float(reset[:12]) if left == "0" and reset.isdecimal() else 0.0
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = None
        if reply.status in (404, 410):
            if not isinstance(answer, dict) or "errors" not in answer:
                raise SourceMisconfigured(f"{shown(url)} は Backlog ではありません。")
            if path.startswith("projects/") and "/files/" not in path:
                raise SourceMisconfigured(
                    f"Backlog に {shown(path)} がありません。プロジェクトキーと、参加しているかを確かめてください。"
                )
            raise NotVisible(f"Backlog に {shown(path)} はありません。")
        if answer is None:
            raise SourceUnreachable(f"{shown(url)} の応答を読めません。")
        return answer


def _judge(answer: httpx2.Response, url: str) -> None:
    if answer.status_code == 401:
        raise SourceDenied(
            f"{shown(url)} にサインインできません。API キーが違うか、消されています。"
        )
    judge(answer, url)


def _named(value: Any) -> str:
    if isinstance(value, list):
        return "、".join(filter(None, map(_named, value)))
    if isinstance(value, dict):
        return str(value.get("name") or "")
    return str(value if value is not None else "")


def _name(said: Any) -> str:
    name = unicodedata.normalize("NFC", str(said)).replace("/", "／").replace("\0", "")
    return name if name.strip(". ") else "添付ファイル"


def _moment(said: Any) -> datetime:
    """Epoch, for what is no time."""
    try:
        at = datetime.fromisoformat(str(said))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _japanese(said: Any) -> str:
    return _moment(said).astimezone(JAPAN).strftime("%Y-%m-%d %H:%M") if said else ""
