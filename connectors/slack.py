"""Slack: what is said in the channels that an app of one's own is in, and the files that are shown there.

Not verified against the real service: it was written by Slack's public documentation, and is tested
against a server that was written by the same.

A thread is a document, and so is all that was said outside of threads on one day in one channel: a
single message is too short to be found, and seldom says what it is about. Direct messages are never
read. Who may read is `allow`, and of a private channel only who is in it: each is a layer.

What was said in the last days (`days`) is read again in each run, the threads that went on since with
all their replies; once a day the messages of all time are, which tells of what was changed or deleted
and of threads that went on, but of replies that were changed in a thread that did not, nothing.
Between, what is older is told of as it was, from the cursor, without a request.
"""

from __future__ import annotations

import io
import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property, partial
from typing import BinaryIO, ClassVar

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
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
    Layer,
    Principal,
    RawFile,
    Site,
    Upsert,
    narrower,
)
from connectors import admit, slack_talk
from connectors.form import LATER
from connectors.slack_api import Api
from connectors.slack_memory import (
    DAY,
    Entry,
    Known,
    load,
    midnight,
    older,
    removals,
    save,
    unmentioned,
)
from connectors.slack_talk import JAPAN, Row, Text

DAY_S = 86_400.0
FRESH_S = 120.0  # how long it is known who is who
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)  # an answer of another shape
_URI = re.compile(
    r"([CG][A-Z0-9]{1,30})/(20\d\d-[01]\d-[0-3]\d|\d{1,12}\.\d{1,6}|F[A-Z0-9]{1,30}/.+)"
)


class SlackSettings(BaseModel):
    token: str = Field(
        title="ボットトークン",
        description="社内用アプリの Bot User OAuth Token (xoxb-…)。権限 (スコープ) は channels:read、"
        "channels:history、users:read、files:read、プライベートチャンネルには groups:read と "
        "groups:history、人をメールアドレスで書くなら users:read.email。",
        repr=False,
    )
    channels: list[str] = Field(
        default_factory=list,
        title="チャンネル",
        description="名前か ID。空なら、アプリが参加しているすべて。アプリはチャンネルに招待 (/invite) してください。",
    )
    private: bool = Field(
        default=True,
        title="プライベートチャンネルを読む",
        description="「閲覧できる人」のうち、そのチャンネルのメンバーだけに見せます。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="Slack の人の対応表",
        description="プライベートチャンネルのメンバーのために、1 行に一つ書きます "
        "(sato@example.co.jp = user:sato)。左は、メールアドレスかメンバー ID。ない人には見えません。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人を、メールアドレスのまま Kura の人とみなします。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "公開チャンネルは、ゲストを除くワークスペースの全員にあたる人を書きます。空なら誰にも見えません。",
    )
    archived: bool = Field(default=True, title="アーカイブされたチャンネルも残す")
    attachments: bool = Field(default=True, title="ファイルを読む")
    bots: bool = Field(
        default=True, title="アプリの投稿を読む", description="通知が多いなら外します。"
    )
    days: int = Field(
        default=7,
        ge=1,
        le=90,
        title="毎回読み直す日数",
        description="これより前の投稿の変更と削除、返信の追加には、1 日に 1 回気づきます。",
    )
    url: str = Field(
        default="https://slack.com",
        title="Slack の URL",
        description="ふつうは変えません。",
        json_schema_extra=LATER,
    )
    files_url: str = Field(
        default="https://files.slack.com",
        title="ファイルの URL",
        description="ふつうは変えません。",
        json_schema_extra=LATER,
    )

    @field_validator("url", "files_url")
    @classmethod
    def _place(cls, url: str) -> str:
        url = url.strip().rstrip("/")
        if not re.fullmatch(r"https?://[^/?#@\s]+", url):
            raise ValueError("https://slack.com の形で書いてください")
        return url


Opener = Callable[[], BinaryIO]
Found = tuple[str, Entry | Failed, Opener]


class SlackConnector:
    """Slack"""

    kind: ClassVar[str] = "slack"
    Settings: ClassVar[type[BaseModel]] = SlackSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: SlackSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._users = dict[str, Row]()
        self._names = dict[str, str]()
        self._home = ""  # of the workspace, as links begin
        self._begun_at = 0.0

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        return Api(own.url, own.files_url, own.token, self.site)

    @cached_property
    def _allowed(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _people(self) -> dict[str, frozenset[Principal]]:
        rules = admit.rules("Slack の人の対応表の", self._settings.people, [])[:-1]
        return {
            _nfc(who).casefold(): access[0].allow if access else frozenset()
            for who, access in rules
        }

    def check(self) -> None:
        self._allowed, self._people  # noqa: B018  a setting may be wrong
        self._begin()
        wanted = self._settings.channels
        if not any(self._reads(channel) for channel in self._channels()):
            named = f" {'、'.join(wanted)} " if wanted else ""
            raise SourceMisconfigured(
                f"Slack のアプリが参加しているチャンネル{named}がありません。"
                "Slack でチャンネルを開き、/invite でアプリを招待してください。"
            )

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self._allowed, self._people  # noqa: B018
        self._begin()
        before, after, late = load(since), dict[str, Known](), list[Failed]()
        found = [c for c in self._channels() if isinstance(c, dict) and c.get("id")]
        channels = {str(c["id"]): c for c in found if self._reads(c, before)}
        mentioned = list[AccessChanged]()
        for change in self._rights(channels, before, after, late):
            mentioned.append(change)
            yield change
        stop: ApplianceError | None = None
        for id_, now in after.items():
            channel, had = channels[id_], before.get(id_, Known())
            if stop or any(one.uri == f"{id_}/" for one in late):
                now.docs, now.read_at = had.docs, had.read_at
                continue
            try:
                yield from self._channel(channel, had, now)
            except SourceUnreachable as error:
                stop = error  # what was read is remembered before it is raised
            except (SourceDenied, SourceMisconfigured, SourceBusy, NotVisible) as error:
                late.append(_failed(channel, error))
            else:
                continue
            now.docs, now.read_at = had.docs | now.docs, had.read_at
        yield from late
        if late or stop:
            yield from removals(before, after)
        else:
            yield from unmentioned(mentioned, before, after)
        yield Checkpoint(save(after), complete=not late and not stop)
        if stop:
            raise stop

    def file(self, uri: str) -> RawFile:
        found = _URI.fullmatch(uri)
        if not found:
            raise NotVisible(f"{uri} はありません。")
        self._begin()
        id_, suffix = found.groups()
        channel = self._api.ask("conversations.info", channel=id_)["channel"]
        if not self._reads(channel, {id_: Known()}):
            raise NotVisible(f"{uri} はありません。")
        access = self._access(channel)
        for at, entry, opener in self._near(id_, suffix):
            if at == suffix and isinstance(entry, Entry):
                return self._file(channel, at, entry, access, opener)
        raise NotVisible(f"{uri} はありません。")

    # --- channels -----------------------------------------------------------------

    def _begin(self) -> None:
        """Who is who; raises what is wrong with the token."""
        if self._begun_at and time.monotonic() - self._begun_at < FRESH_S:
            return
        self._home = str(self._api.ask("auth.test").get("url") or "").rstrip("/")
        users = [u for u in self._api.pages("users.list", "members") if isinstance(u, dict)]
        self._users = {str(user["id"]): user for user in users}
        self._names = slack_talk.people(users)
        self._begun_at = time.monotonic()

    def _channels(self) -> Iterator[Row]:
        types = "public_channel,private_channel" if self._settings.private else "public_channel"
        return self._api.pages(
            "conversations.list", "channels", types=types, exclude_archived="false"
        )

    def _reads(self, channel: Row, before: Mapping[str, Known] | None = None) -> bool:
        """Whether it is one of those. From an archived channel Slack may have taken the app away."""
        own, shut = self._settings, slack_talk.archived(channel)
        if channel.get("is_im") or channel.get("is_mpim") or (shut and not own.archived):
            return False
        if own.channels and not {str(channel["id"]), _name(channel)} & self._wanted:
            return False
        if slack_talk.private(channel) and not own.private:
            return False
        return channel.get("is_member") is True or (shut and channel["id"] in (before or {}))

    @cached_property
    def _wanted(self) -> set[str]:
        return {_nfc(one).lstrip("#") for one in self._settings.channels}

    def _access(self, channel: Row) -> Access:
        """Of the administrator's, those that are in it, where it is private."""
        if not slack_talk.private(channel) or not self._allowed:
            return self._allowed
        members = set[Principal]()
        for id_ in self._api.pages("conversations.members", "members", channel=str(channel["id"])):
            members |= self._meant(str(id_))
        return (*self._allowed, Layer(frozenset(members)))

    def _meant(self, id_: str) -> frozenset[Principal]:
        user = self._users.get(id_, {})
        mail = str((user.get("profile") or {}).get("email") or "")
        for name in filter(None, (id_, _nfc(mail))):
            if (meant := self._people.get(name.casefold())) is not None:
                return meant
        if self._settings.same_names and mail and not user.get("deleted"):
            return frozenset({Principal(f"user:{_nfc(mail)}")})
        return frozenset()

    def _rights(
        self,
        channels: Mapping[str, Row],
        before: Mapping[str, Known],
        after: dict[str, Known],
        late: list[Failed],
    ) -> Iterator[AccessChanged]:
        """Who may no longer read is told before anything is read, which may take hours."""
        for id_, channel in channels.items():
            had = before.get(id_, Known())
            try:
                after[id_] = Known(access=self._access(channel))
            except (SourceDenied, SourceMisconfigured, SourceBusy, NotVisible) as error:
                after[id_] = Known(access=had.access)
                if slack_talk.archived(channel) and isinstance(error, NotVisible):
                    after[id_].access = NOBODY  # Slack no longer says who was in it
                else:
                    late.append(_failed(channel, error))
        for id_, had in before.items():
            access = after[id_].access if id_ in after else NOBODY
            if had.access == access:
                continue
            if not narrower(had.access, access):  # nobody new, before it is read
                access = (*had.access, *access) if had.access and access else NOBODY
            for suffix in had.docs:
                yield AccessChanged(f"{id_}/{suffix}", access)

    # --- what is said -------------------------------------------------------------

    def _channel(self, channel: Row, had: Known, now: Known) -> Iterator[Change]:
        """All of one. Each document is remembered when it is told of."""
        id_, started_at = str(channel["id"]), time.time()
        whole = not 0 <= started_at - had.read_at < DAY_S
        first = datetime.now(JAPAN).date() - timedelta(days=self._settings.days)
        shut = slack_talk.archived(channel) and not whole  # nothing is said there any more
        try:
            for suffix, entry, opener in self._listed(id_, first, whole, had) if not shut else ():
                if isinstance(entry, Failed):
                    yield entry
                    if suffix in had.docs:
                        now.docs.setdefault(suffix, had.docs[suffix])
                    continue
                if suffix in now.docs:  # a file that is shown twice goes with where it was first
                    now.docs[suffix] = entry
                    continue
                yield Upsert(self._file(channel, suffix, entry, now.access, opener))
                now.docs[suffix] = entry
        except NotVisible:
            if not (slack_talk.archived(channel) and had.docs):
                raise
            shut = True  # an archived channel that Slack no longer opens is as it was
        if shut or not whole:
            for suffix, entry in had.docs.items():
                holder = entry.of if suffix.startswith("F") else suffix
                if not shut and not older(holder, first):
                    continue
                if suffix not in now.docs:
                    yield Upsert(self._file(channel, suffix, entry, now.access))
                now.docs[suffix] = entry
        now.read_at = started_at if whole else had.read_at

    def _listed(self, id_: str, first: date, whole: bool, had: Known) -> Iterator[Found]:
        """Newest first, as Slack tells it: a day is over when an earlier one begins."""
        inside = dict[str, list[tuple[str, Entry]]]()
        for suffix, entry in had.docs.items() if whole else ():
            if suffix.startswith("F"):
                inside.setdefault(entry.of, []).append((suffix, entry))
        rows, last = list[Row](), float("inf")
        for row in self._history(id_, 0.0 if whole else midnight(first), time.time() + DAY_S):
            try:
                at, sort = float(row["ts"]), slack_talk.sort(row)
            except _UNREADABLE as error:
                yield _odd(id_, "?", error)
                continue
            if at >= last:
                raise SourceBusy(f"Slack の {id_} の一覧が同じところを繰り返します。")
            last = at
            match sort:
                case "talk" if self._heard(row):
                    if rows and slack_talk.day(rows[0]) != slack_talk.day(row):
                        yield from self._talk(id_, rows[::-1])
                        rows = []
                    rows.append(row)
                case "thread":
                    ts, mark = str(row["ts"]), slack_talk.mark(row)
                    old = had.docs.get(ts)
                    on = float(row.get("latest_reply") or 0) >= midnight(first)
                    if old and old.of == mark and not on:
                        for suffix, entry in ((ts, old), *inside.get(ts, ())):
                            yield suffix, entry, partial(self._again, id_, suffix)
                    else:
                        yield from self._thread(id_, ts, mark)
        if rows:
            yield from self._talk(id_, rows[::-1])

    def _near(self, id_: str, suffix: str) -> Iterator[Found]:
        """What a listing would tell of one document."""
        if DAY.fullmatch(suffix):
            try:
                start = midnight(date.fromisoformat(suffix))
            except ValueError:
                return
            rows = [*self._history(id_, start, start + DAY_S - 0.000001)][::-1]
            said = [r for r in rows if slack_talk.sort(r) == "talk" and self._heard(r)]
            yield from self._talk(id_, said) if said else ()
        elif suffix.startswith("F"):
            one = self._api.ask("files.info", file=suffix.partition("/")[0])["file"]
            if id_ in [*(one.get("channels") or []), *(one.get("groups") or [])]:
                yield from self._files(id_, [{"files": [one]}], "")
        else:
            yield from self._thread(id_, suffix, "")

    def _history(self, id_: str, oldest: float, latest: float) -> Iterator[Row]:
        return self._api.pages(
            "conversations.history",
            "messages",
            channel=id_,
            oldest=f"{oldest:.6f}",
            latest=f"{latest:.6f}",  # without it Slack would begin at the oldest
            inclusive="true",
        )

    def _heard(self, row: Row) -> bool:
        return self._settings.bots or not (row.get("bot_id") or row.get("subtype") == "bot_message")

    def _talk(self, id_: str, rows: list[Row]) -> Iterator[Found]:
        day = slack_talk.day(rows[0])
        try:
            yield self._text(day, slack_talk.talk(day, rows, self._names, self._link(id_)))
            yield from self._files(id_, rows, day)
        except _UNREADABLE as error:
            yield _odd(id_, day, error)

    def _thread(self, id_: str, ts: str, mark: str) -> Iterator[Found]:
        try:
            rows = [*self._api.pages("conversations.replies", "messages", channel=id_, ts=ts)]
        except NotVisible:
            return  # deleted meanwhile
        try:
            rows = sorted((r for r in rows if self._heard(r)), key=lambda r: float(r["ts"]))
            if rows and str(rows[0].get("thread_ts") or "") == ts:
                if text := slack_talk.thread(rows, self._names, self._link(id_)):
                    yield self._text(ts, text, mark)
                yield from self._files(id_, rows, ts)
        except _UNREADABLE as error:
            yield _odd(id_, ts, error)

    def _text(self, suffix: str, text: Text, mark: str = "") -> Found:
        entry = Entry(text.version, text.title, text.at, len(text.data), mark)
        return suffix, entry, partial(io.BytesIO, text.data)

    def _files(self, id_: str, rows: Sequence[Row], holder: str) -> Iterator[Found]:
        for row in rows if self._settings.attachments else ():
            for one in slack_talk.files(row):
                try:
                    yield self._shown(one, holder)
                except _UNREADABLE as error:  # Slack may tell no more than its id
                    yield _odd(id_, f"{holder}/{one.get('id')}", error)

    def _shown(self, one: Row, holder: str) -> Found:
        name, size = slack_talk.name(one), one.get("size")
        at = float(one.get("edit_timestamp") or one.get("timestamp") or one["created"])
        kept = size if one.get("mode") == "hosted" and isinstance(size, int) else None
        url = str(one.get("url_private_download") or one["url_private"])
        entry = Entry(f"{one['id']}:{size}:{at:.0f}", name, at, kept, holder)
        kind = str(one.get("mimetype") or "")
        kind = "text/html" if kind.startswith("application/vnd.slack") else kind  # a canvas
        opener = partial(self._api.file, url, kind)
        return f"{one['id']}/{name}", entry, opener

    def _link(self, id_: str) -> str:
        return f"{self._home}/archives/{id_}/p"

    def _file(
        self, channel: Row, suffix: str, entry: Entry, access: Access, opener: Opener | None = None
    ) -> RawFile:
        id_, shared = str(channel["id"]), suffix.startswith("F")
        return RawFile(
            uri=f"{id_}/{suffix}",
            version=entry.version,
            open=opener or partial(self._again, id_, suffix),
            access=access,
            title=entry.title if shared else f"#{_name(channel)} {entry.title}",
            modified_at=slack_talk.utc(entry.at),
            media_type=None if shared else "text/markdown",
            size_bytes=entry.size_bytes,
        )

    def _again(self, id_: str, suffix: str) -> BinaryIO:
        """What is only remembered. Its channel let it be read when the run began."""
        for at, _, opener in self._near(id_, suffix):
            if at == suffix:
                return opener()
        raise SourceBusy(f"{id_}/{suffix} は Slack にもうありません。次の確認で取り除きます。")


def _failed(channel: Row, error: ApplianceError) -> Failed:
    passes = isinstance(error, (SourceBusy, NotVisible))
    reason = f"チャンネルを読めません ({error})"
    return Failed(f"{channel['id']}/", f"#{_name(channel)}", reason, passes)


def _odd(id_: str, suffix: str, error: Exception) -> Found:
    reason = f"投稿を読めません ({type(error).__name__})"
    return suffix, Failed(f"{id_}/{suffix}", suffix, reason, False), io.BytesIO


def _name(channel: Row) -> str:
    return _nfc(str(channel.get("name") or channel["id"]))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
