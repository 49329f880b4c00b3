"""Apps of kintone (Cybozu): a record is a document, and so is each file attached to it.

Not verified against the real service: it was written by Cybozu's public documentation, and is tested
against a server that was written by the same.

Every run lists all records by id and revision, 500 in a request, and reads those that changed, as many
in another; files and comments cost a request each. Who may read is, first of all, `allow`; beside it
the app's own permissions and those of its records, where they are to be read (`rights`): each is a
layer, and all of them must admit. The permissions of app groups and spaces are told by no API.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import BinaryIO, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
)
from appliance.types import (
    ALONE,
    NOBODY,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    RawFile,
    Site,
    Upsert,
)
from connectors import admit, cybozu
from connectors.cybozu import App, Budget, People, Place, Rights, Row, Spent
from connectors.form import LATER, called
from connectors.records import Attachment, Form, files, form, moment, page
from connectors.revisions import Known, load, removals, save

_URI = re.compile(r"([1-9][0-9]{0,17})/([1-9][0-9]{0,17})(?:/([^/]+))?")


class KintoneSettings(BaseModel):
    url: str = Field(
        title="URL", description="https://example.cybozu.com。サブドメイン (example) だけでも。"
    )
    apps: list[str] = Field(min_length=1, title="アプリ", description="読み取るアプリの番号。")
    api_tokens: str = Field(
        default="",
        title="API トークン",
        description="「12=トークン, 15=トークン」のように、アプリの番号ごとに。必要な権限は「レコード閲覧」、"
        "アクセス権を kintone から読むなら「アプリ管理」も。",
        repr=False,
    )
    user: str = Field(
        default="",
        title="ログイン名",
        description="トークンの代わりに。2 段階認証などを使わない、読み取り専用の利用者を勧めます。",
    )
    password: str = Field(default="", title="パスワード", repr=False)
    guest_space: int = Field(
        default=0, ge=0, title="ゲストスペースの番号", description="ゲストスペースのアプリのとき。"
    )
    rights: Literal["kintone", "allow"] = Field(
        json_schema_extra=called(
            {
                "kintone": "kintone の権限に従う (kintone)",
                "allow": "「閲覧できる人」だけで決める (allow)",
            }
        ),
        default="kintone",
        title="アクセス権",
        description="kintone は、「閲覧できる人」のうち、アプリのアクセス権と、レコードに当てはまるすべての"
        "アクセス権が閲覧を許す人だけに見せ、全員には見せないフィールドを除きます (アプリ管理の権限が必要)。"
        "ログイン中の利用者による条件など、確かめられない条件は、どのレコードにも当てはまるとみなします。"
        "アプリグループとスペースの権限は読めません。「閲覧できる人」で絞ってください。"
        "allow は、「閲覧できる人」だけで決めます。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="kintone の人とグループの対応表",
        description="1 行に一つ書きます (user:sato = user:sato、group:kaihatsu = group:開発部、"
        "org:eigyo = group:営業部、Kura にいなければ = nobody)。左は kintone のコードです。"
        "ないものには何も許さず、ないものへの拒否は全員への拒否とみなします。kintone の Everyone は全員です。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人とグループを、ログイン名とグループコードのまま Kura の人とグループとみなします"
        " (組織を除く)。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    title: str = Field(
        default="",
        title="表題",
        description="フィールドコードを波かっこで書きます ({会社名} {案件名})。"
        "空なら、フォームで最初の文字列 (1 行) です。",
    )
    fields: list[str] = Field(
        default_factory=list,
        title="読むフィールド",
        description="フィールドコード。空なら、読めるすべてをフォームの順に。",
    )
    attachments: bool = Field(
        default=True,
        title="添付ファイルも読む",
        description="一つの添付ファイルに、要求を 1 回使います。",
    )
    comments: bool = Field(
        default=False,
        title="コメントも読む",
        description="レコードごとに、要求を 1 回以上使います。コメントだけが増えても、"
        "レコードが更新されるまでは読み直しません。",
    )
    daily_requests: int = Field(
        default=5000,
        ge=10,
        le=100_000,
        title="1 日の要求数",
        description="アプリごとの上限。kintone は、スタンダードコースで 1 アプリに 1 日 10,000 回までです。"
        "8 割を使うと添付ファイルとコメントの続きを、使い切るとすべてを、次の日 (9 時から) に回します。",
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
        url = url.strip().rstrip("/")
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", url):
            url = f"https://{url}.cybozu.com"
        if not re.fullmatch(r"https?://[^/?#@\s]+", url):
            raise ValueError("https://example.cybozu.com の形で書いてください")
        return url

    @field_validator("apps")
    @classmethod
    def _numbers(cls, apps: list[str]) -> list[str]:
        apps = list(dict.fromkeys(app.strip() for app in apps))
        if odd := [app for app in apps if not re.fullmatch("[1-9][0-9]{0,17}", app)]:
            raise ValueError(f"「{odd[0]}」はアプリの番号ではありません")
        return apps

    @model_validator(mode="after")
    def _signs_in(self) -> KintoneSettings:
        if not self.user and (left := [app for app in self.apps if app not in self.tokens()]):
            raise ValueError(f"アプリ {left[0]} の API トークンか、ログイン名が必要です")
        return self

    def tokens(self) -> dict[str, str]:
        """By app."""
        pairs = (one.partition("=") for one in re.split(r"[,、\s]+", self.api_tokens) if one)
        return {app.strip(): token.strip() for app, _, token in pairs if token}


@dataclass(slots=True)
class _Waiting:
    """A document whose content costs a request, and where it is remembered once it was taken."""

    app: str
    file: RawFile
    record: int
    revision: int
    key: str  # of a file; empty for the record itself


class KintoneConnector:
    """kintone (サイボウズ)"""

    kind: ClassVar[str] = "kintone"
    Settings: ClassVar[type[BaseModel]] = KintoneSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: KintoneSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._counting = set[str]()  # apps whose requests of earlier runs are counted

    @cached_property
    def _apps(self) -> dict[str, App]:
        own, tokens = self._settings, self._settings.tokens()
        password = cybozu.sign_in(own.user, own.password)
        found = {}
        for app in own.apps:
            token = tokens.get(app)
            header = "X-Cybozu-API-Token" if token else "X-Cybozu-Authorization"
            place = Place(own.url, own.guest_space, header, token or password)
            budget = Budget(app, own.daily_requests)
            found[app] = App(app, place, budget, self.site, own.per_second)
        return found

    @cached_property
    def _allowed(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _people(self) -> People:
        return cybozu.people(self._settings.people, self._settings.same_names)

    def check(self) -> None:
        """One app that is not there does not stop the others."""
        self._allowed, self._people  # noqa: B018  a setting may be wrong
        errors: list[ApplianceError] = []
        for app in self._apps.values():
            try:
                app.ask("records", app=app.id, query="order by $id asc limit 1", fields=["$id"])
                if self._settings.rights == "kintone":
                    self._may_see_rights(app)
                return
            except ApplianceError as error:
                errors.append(error)
        raise errors[0]

    def _may_see_rights(self, app: App) -> None:
        try:
            app.ask("app/acl", app=app.id)
        except SourceDenied as error:
            raise SourceDenied(
                f"アプリ {app.id} のアクセス権を読めません。トークンか利用者に「アプリ管理」を許すか、"
                f"アクセス権を allow にして「閲覧できる人」で決めてください。({error})"
            ) from None

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All records first, whose rights come with them; then the files, which take their time."""
        self._allowed, self._people  # noqa: B018
        before, after = load(since), dict[str, Known]()
        waiting: list[_Waiting] = []
        late: list[Failed] = []
        errors: list[ApplianceError] = []
        for id_, app in self._apps.items():
            had = before.get(id_, Known())
            if id_ not in self._counting:  # what earlier runs of the day have used
                app.budget.add(had.day, had.spent)
                self._counting.add(id_)
            after[id_] = now = Known()
            try:
                yield from self._records(app, had, now, waiting)
            except (SourceDenied, SourceMisconfigured, Spent) as error:
                errors.append(error)
                late.append(_failed(id_, error))
                waiting = [one for one in waiting if one.app != id_]
                now.records, now.uris = had.records | now.records, had.uris | now.uris
                now.form = had.form if had.form else now.form
        if len(errors) == len(self._apps) and not isinstance(errors[0], Spent):
            raise errors[0]
        yield from self._content(waiting, after, late)
        yield from late
        if late:
            yield from removals(before, after)
        for id_, app in self._apps.items():
            after[id_].day, after[id_].spent = app.budget.day, app.budget.spent
        yield Checkpoint(save(after), complete=not late)
        if len(errors) == len(self._apps):
            raise errors[0]

    def _content(
        self, waiting: list[_Waiting], after: dict[str, Known], late: list[Failed]
    ) -> Iterator[Change]:
        """What costs a request each; what the day has no request for is left for the next."""
        left = dict[str, int]()
        for one in waiting:
            budget = self._apps[one.app].budget
            if one.app in left or not budget.for_content:
                left[one.app] = left.get(one.app, 0) + 1
                continue
            yield Upsert(one.file)
            records = after[one.app].records
            revision, keys = records.get(one.record, (0, []))
            if one.key:
                records[one.record] = (revision, [*keys, one.key])
            else:
                records[one.record] = (one.revision, keys)
        for app, count in left.items():
            over = self._apps[app].budget.over()
            reason = f"{over} 残りは {count:,} 件です。"
            late.append(Failed(f"{app}/", f"アプリ {app}", reason, transient=True))

    # --- records ------------------------------------------------------------------

    def _records(
        self, app: App, had: Known, now: Known, waiting: list[_Waiting]
    ) -> Iterator[Change]:
        shape, rights = self._look(app)
        old = had.records if had.form == shape.digest else {}
        now.form = shape.digest
        who = rights.fields & shape.codes if rights else ()
        fields = sorted({"$id", "$revision", *shape.listed, *who})
        for listed in app.pages("", fields):
            changed = [id_ for id_, row in listed if old.get(id_, (0,))[0] != _revision(row)]
            between = [id_ for id_, _ in listed if changed and changed[0] <= id_ <= changed[-1]]
            full = self._read(app, between) if changed else {}
            for id_, row in listed:
                if id_ in changed and id_ not in full:
                    continue  # deleted since it was listed
                try:
                    access = self._access(row, rights)
                    new = full.get(id_)
                    if new is not None and _revision(new) != _revision(row):
                        access, row = NOBODY, new  # who may read it was asked of what it was
                    found = self._documents(app, shape, id_, row, access, new)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    now.uris[id_] = had.uris.get(id_, [])
                    reason = f"レコードを読めません ({type(error).__name__})"
                    yield Failed(f"{app.id}/{id_}", f"{shape.app} #{id_}", reason, False)
                    continue
                for raw in self._sort(app, found, old.get(id_), now, waiting):
                    yield Upsert(raw)

    def _sort(
        self,
        app: App,
        found: list[tuple[RawFile, str]],
        old: tuple[int, list[str]] | None,
        now: Known,
        waiting: list[_Waiting],
    ) -> Iterator[RawFile]:
        """What is told at once, for it costs no request; the rest waits, remembered when it is told."""
        (record, _), *attached = found
        id_, revision = int(record.uri.partition("/")[2]), int(record.version.partition("-")[0])
        had, keys = old or (0, [])
        free = had == revision or not self._settings.comments
        now.records[id_] = (revision if free else 0, [key for _, key in attached if key in keys])
        now.uris[id_] = [raw.uri for raw, _ in found]
        for raw, key in found:
            if key in keys if key else free:
                yield raw
            else:
                waiting.append(_Waiting(app.id, raw, id_, revision, key))

    def _look(self, app: App, only: int = 0) -> tuple[Form, Rights | None]:
        said = app.ask("app", id=app.id)
        rights = None
        if self._settings.rights == "kintone":
            creator = str((said.get("creator") or {}).get("code") or "")
            rights = cybozu.rights(app, creator, only)
        hidden = rights.hidden if rights else frozenset()
        properties = app.ask("app/form/fields", app=app.id, lang="ja").get("properties") or {}
        layout = app.ask("app/form/layout", app=app.id).get("layout") or []
        own = self._settings
        name = str(said.get("name") or f"アプリ {app.id}")
        shape = form(name, properties, layout, own.fields, own.title, hidden)
        if own.comments:
            shape.digest += "c"
        return shape, rights

    def _read(self, app: App, ids: list[int]) -> dict[int, Row]:
        """All that some records say, one after the other: a page of them in one request."""
        pages = app.pages("", None, first=ids[0], last=ids[-1], most=len(ids))
        return {id_: row for page in pages for id_, row in page}

    def _access(self, row: Row, rights: Rights | None) -> Access:
        if rights is None or self._allowed == NOBODY:
            return self._allowed
        if rights.doubtful(_updated(row)):
            return NOBODY
        id_ = int(row["$id"]["value"])
        rules = [rule for rule in rights.rules if rule.concerns(id_)]
        return (
            *self._allowed,
            cybozu.layer(rights.app, self._people),
            *(cybozu.layer(rule.entities, self._people, row) for rule in rules),
        )

    def _documents(
        self, app: App, shape: Form, id_: int, row: Row, access: Access, full: Row | None
    ) -> list[tuple[RawFile, str]]:
        """A record, and its files with their keys."""
        at = _updated(row) or datetime.fromtimestamp(0, UTC)
        title = shape.title(id_, row)
        text = (
            None if full is None or self._settings.comments else self._text(app, shape, id_, full)
        )
        record = RawFile(
            uri=f"{app.id}/{id_}",
            version=f"{_revision(row)}-{shape.digest}",
            open=partial(io.BytesIO, text)
            if text
            else partial(self._open, app, shape, id_, _revision(row)),
            access=access,
            title=title,
            modified_at=at,
            media_type="text/html",
        )
        found = [(record, "")]
        for one in files(shape, row) if self._settings.attachments else ():
            raw = RawFile(
                uri=f"{app.id}/{id_}/{one.unique}",
                version=hashlib.sha256(one.key.encode()).hexdigest()[:32],
                open=partial(app.file, one.key),
                access=access,
                title=one.name,
                modified_at=at,
                media_type=one.media_type,
                size_bytes=one.size_bytes,
            )
            found.append((raw, _short(one)))
        return found

    def _open(self, app: App, shape: Form, id_: int, revision: int) -> BinaryIO:
        """As it was listed, for it was asked of that who may read it."""
        record = app.ask("record", app=app.id, id=id_).get("record") or {}
        text = self._text(app, shape, id_, record)
        if _revision(record) != revision:
            raise SourceBusy(f"{app.id}/{id_} は編集中です。次の確認で読み直します。")
        return io.BytesIO(text)

    def _text(self, app: App, shape: Form, id_: int, row: Row) -> bytes:
        comments = list(app.comments(id_)) if self._settings.comments else []
        return page(shape, shape.title(id_, row), row, comments, app.link(id_))

    def file(self, uri: str) -> RawFile:
        found = _URI.fullmatch(uri)
        app = self._apps.get(found[1]) if found else None
        if app is None or found is None:
            raise NotVisible(f"{uri} はありません。")
        id_ = int(found[2])
        shape, rights = self._look(app, id_)
        if row := self._read(app, [id_]).get(id_):
            for raw, _ in self._documents(app, shape, id_, row, self._access(row, rights), row):
                if raw.uri == uri:
                    return raw
        raise NotVisible(f"{uri} はありません。")


def _updated(row: Row) -> datetime | None:
    said = next((v["value"] for v in row.values() if v.get("type") == "UPDATED_TIME"), None)
    return moment(said) if said else None


def _revision(row: Row) -> int:
    return int(row["$revision"]["value"])


def _short(one: Attachment) -> str:
    """Of a key, which is long, as much as tells it from another."""
    return hashlib.sha256(f"{one.unique}\n{one.key}".encode()).hexdigest()[:12]


def _failed(app: str, error: ApplianceError) -> Failed:
    return Failed(f"{app}/", f"アプリ {app}", str(error), transient=isinstance(error, Spent))
