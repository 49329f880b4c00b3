"""What kintone's REST API says of one app: its form, its records in pages, and whom it admits.

A page is asked for by `$id`, never by offset, which ends at 10,000. Every request is counted against
what the app may be asked in a day. Rights are read so that a doubt admits nobody.
"""

from __future__ import annotations

import base64
import email.utils
import json
import re
import unicodedata
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlencode

import httpx2

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import EVERYONE, Layer, Principal, Site
from connectors import admit
from connectors.http import AtHome, Http, bounded, judge, shown

PAGE = 500  # records in an answer, the most there are
URL_BYTES = 4000  # kintone takes 8 KB; what is longer is posted
FILE_BYTES = 2_000_000_000
CONTENT = (
    0.8  # of the requests of a day, what files and comments may use; the rest finds out rights
)
_SIGN_IN = ("CB_WA01", "CB_AU01", "CB_UA01")
_TOKEN = ("GAIA_IA02", "GAIA_AP15")
_NO_RIGHT = ("CB_NO02", "CB_NO01", "GAIA_NO01", "GAIA_NO02", "GAIA_DA02")
_OF_CALLER = re.compile(r"LOGINUSER|PRIMARY_ORGANIZATION")
_OF_FIELD = {
    "USER_SELECT": "USER",
    "CREATOR": "USER",
    "MODIFIER": "USER",
    "STATUS_ASSIGNEE": "USER",
    "GROUP_SELECT": "GROUP",
    "ORGANIZATION_SELECT": "ORGANIZATION",
}
Row = Mapping[str, Any]  # a record: by field code, its type and value


class Spent(SourceBusy):
    """The requests of the day are used up."""


@dataclass
class Budget:
    """Requests of one app in one day. kintone's day begins at 0:00 UTC, 9:00 in Japan."""

    app: str
    most: int
    day: str = ""
    spent: int = 0

    def take(self) -> None:
        self._turn()
        if self.spent >= self.most:
            raise self.over()
        self.spent += 1

    def add(self, day: str, spent: int) -> None:
        """What was used before, if it was today."""
        self._turn()
        if day == self.day:
            self.spent += spent

    @property
    def for_content(self) -> bool:
        """Whether a file or comments may still be asked for today."""
        self._turn()
        return self.spent < max(1, int(self.most * CONTENT))

    def over(self) -> Spent:
        now = datetime.now(UTC)
        dawn = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return Spent(
            f"アプリ {self.app} の今日の要求数 ({self.most:,} 回) を使い切りました。"
            "続きは、日本時間の 9 時を過ぎてから取り込みます。",
            (dawn - now).total_seconds() + 60,
        )

    def _turn(self) -> None:
        if self.day != (today := datetime.now(UTC).date().isoformat()):
            self.day, self.spent = today, 0


@dataclass(frozen=True)
class _Counted(AtHome):
    """Counts each request as it goes out: those that are asked again too."""

    budget: Budget = field(kw_only=True)

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        self.budget.take()
        yield from super().auth_flow(request)


@dataclass(frozen=True)
class Place:
    """Where an app is, and as whom it is asked."""

    url: str  # https://example.cybozu.com
    guest: int  # the space of guests; 0 where it is none
    header: str
    secret: str = field(repr=False)


class App:
    """One app."""

    def __init__(self, id_: str, place: Place, budget: Budget, site: Site, pace: float) -> None:
        self.id, self.budget, self.now = id_, budget, datetime.now(UTC)
        space = f"/guest/{place.guest}" if place.guest else ""
        self._base, self._link = f"{place.url}/k{space}/v1", f"{place.url}/k{space}/{id_}"
        auth = _Counted(place.header, place.secret, [place.url], budget=budget)
        self._http = Http([place.url], site, auth=auth, per_second=pace, judge=self._judge)

    def link(self, record: int) -> str:
        return f"{self._link}/show#record={record}"

    def ask(self, resource: str, **params: Any) -> dict[str, Any]:
        """An answer, read as JSON."""
        url, said = f"{self._base}/{resource}.json", urlencode(_flat(params))
        if len(url) + len(said) < URL_BYTES:
            reply = self._http.ask("GET", f"{url}?{said}")
        else:
            headers = {"content-type": "application/json", "x-http-method-override": "GET"}
            reply = self._http.ask(
                "POST", url, headers=headers, content=json.dumps(params).encode()
            )
        with suppress(TypeError, ValueError):
            self.now = email.utils.parsedate_to_datetime(reply.headers.get("date", ""))
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = None
        if reply.status != 200 or not isinstance(answer, dict):
            raise SourceUnreachable(f"{shown(url)} の応答を読めません。kintone の URL ですか。")
        return answer

    def pages(
        self, cond: str, fields: Sequence[str] | None, first: int = 0, last: int = 0, most: int = 0
    ) -> Iterator[list[tuple[int, Row]]]:
        """Records by their ids, in order. `most`: how many there are; 0: kintone is asked.

        A page that is short is not the last before all that there are came. Raises SourceUnreachable
        where a page is another than what was asked for.
        """
        seen, after = 0, max(first - 1, 0)
        while True:
            parts = [f"({cond})"] if cond else []
            parts += [f"$id > {after}"] + ([f"$id <= {last}"] if last else [])
            query = f"{' and '.join(parts)} order by $id asc limit {PAGE}"
            said: dict[str, Any] = {"app": self.id, "query": query}
            if fields is not None:
                said["fields"] = list(fields)
            if not most and not seen:
                said["totalCount"] = "true"
            answer = self.ask("records", **said)
            page = self._page(answer, after, last)
            if not seen and "totalCount" in said:
                most = _number(answer.get("totalCount"))
            if not page:
                return
            seen, after = seen + len(page), page[-1][0]
            yield page
            if after == last or (len(page) < PAGE and seen >= most):
                return

    def _page(self, answer: Mapping[str, Any], after: int, last: int) -> list[tuple[int, Row]]:
        try:
            page = [(int(row["$id"]["value"]), row) for row in answer["records"]]
        except (KeyError, TypeError, ValueError):
            raise SourceUnreachable(f"アプリ {self.id} の一覧を読めません。") from None
        ids = [after, *(id_ for id_, _ in page)]
        if len(page) > PAGE or any(a >= b for a, b in pairwise(ids)):
            raise SourceUnreachable(f"アプリ {self.id} の一覧が同じところを繰り返します。")
        if last and ids[-1] > last:
            raise SourceUnreachable(f"アプリ {self.id} の一覧が、求めた範囲の外を返しました。")
        return page

    def file(self, key: str) -> BinaryIO:
        return self._http.file(f"{self._base}/file.json?{urlencode({'fileKey': key})}", FILE_BYTES)

    def comments(self, record: int) -> Iterator[Mapping[str, Any]]:
        """The oldest first, ten in an answer."""
        offset = 0
        while True:
            said = {"app": self.id, "record": record, "order": "asc", "offset": offset, "limit": 10}
            answer = self.ask("record/comments", **said)
            found = answer.get("comments") or []
            yield from found
            offset += len(found)
            if not found or not answer.get("newer"):
                return

    def _judge(self, answer: httpx2.Response, url: str) -> None:
        """By the code in the body: the same refusal has had several statuses."""
        if answer.status_code < 400:
            return
        try:
            code = str(json.loads(b"".join(bounded(answer, url, 100_000)))["code"])
        except (ValueError, KeyError, TypeError):
            code = ""
        if code in _SIGN_IN:
            raise SourceDenied(
                f"{shown(url)} にサインインできません。利用者名とパスワードを確かめてください ({code})。"
            )
        if code in _TOKEN:
            raise SourceDenied(
                f"アプリ {self.id} の API トークンが違います。トークンを生成したあと"
                f"「アプリを更新」を押したかを確かめてください ({code})。"
            )
        if code in _NO_RIGHT or answer.status_code == 403:
            raise SourceDenied(
                f"アプリ {self.id} の {shown(url).rpartition('/v1/')[2]} を読む権限がありません。"
                f"トークンか利用者の権限を確かめてください ({code or 403})。"
            )
        if code == "GAIA_AP01":
            raise SourceMisconfigured(f"アプリ {self.id} がありません。番号を確かめてください。")
        if code == "GAIA_RE01":
            raise NotVisible(f"アプリ {self.id} にそのレコードはありません。")
        if code == "GAIA_BL01":
            raise SourceBusy("添付ファイルが変わりました。次の確認で読み直します。")
        if answer.status_code >= 500:
            raise SourceUnreachable(f"{shown(url)} が応じません ({answer.status_code} {code})。")
        judge(answer, url)
        raise SourceMisconfigured(
            f"{shown(url)} がありません。kintone の URL とゲストスペースの番号を確かめてください。"
        )


def sign_in(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _flat(params: Mapping[str, Any]) -> dict[str, str]:
    flat = dict[str, str]()
    for name, value in params.items():
        if isinstance(value, list):
            flat |= {f"{name}[{n}]": str(one) for n, one in enumerate(value)}
        else:
            flat[name] = str(value)
    return flat


def _number(value: Any) -> int:
    return int(value) if str(value or "").isdecimal() else 0


# --- whom it admits ---------------------------------------------------------------


@dataclass(frozen=True)
class People:
    """Whom of Kura a user, a group or an organization of kintone is; None where nobody said."""

    table: Mapping[str, frozenset[Principal]]
    same_names: bool

    def of(self, kind: str, code: str) -> frozenset[Principal] | None:
        code = unicodedata.normalize("NFC", code)
        name = {"USER": "user", "GROUP": "group", "ORGANIZATION": "org"}.get(kind, "")
        if (meant := self.table.get(f"{name}:{code}")) is not None:
            return meant
        if (kind, code) == ("GROUP", "everyone"):
            return frozenset({EVERYONE})
        # an organization and a group may have one code, and not the same members
        if self.same_names and name in ("user", "group") and code:
            return frozenset({Principal(f"{name}:{code}")})
        return None


def people(lines: Sequence[str], same_names: bool) -> People:
    """By lines "org:eigyo = group:営業部". Raises SourceMisconfigured."""
    table = dict[str, frozenset[Principal]]()
    for line in lines:
        who, equals, name = (part.strip() for part in line.rpartition("="))
        if not equals or not re.fullmatch(r"(user|group|org):.+", who):
            raise SourceMisconfigured(
                f"対応表の「{line}」は「org:kintone の組織コード = group:営業部」の形ではありません。"
            )
        try:
            meant = frozenset[Principal]() if name == "nobody" else admit.principals([name])
        except ValueError as error:
            raise SourceMisconfigured(f"対応表の{error}。") from None
        who = unicodedata.normalize("NFC", who)
        table[who] = table.get(who, frozenset()) | meant
    return People(table, same_names)


class Entity(NamedTuple):
    """A line of a rule: who, and whether they may see."""

    kind: str
    code: str
    subs: bool
    sees: bool


@dataclass
class Rule:
    """A record rule, and the records that it is about; None: any may be."""

    entities: list[Entity]
    ids: set[int] | None = None

    def concerns(self, record: int) -> bool:
        return self.ids is None or record in self.ids


@dataclass
class Rights:
    """Who may see the app, and its records by rule."""

    app: list[Entity]
    rules: list[Rule]
    hidden: frozenset[str]  # fields that not everybody sees
    asked_at: datetime  # before the first rule was looked at; by kintone's clock, in whole minutes

    @property
    def fields(self) -> set[str]:
        """Those that name who may see their record."""
        return {e.code for rule in self.rules for e in rule.entities if e.kind == "FIELD_ENTITY"}

    def doubtful(self, updated: datetime | None) -> bool:
        """A record may have changed while it was asked which rule is about it."""
        conditional = any(rule.ids is not None for rule in self.rules)
        return conditional and (updated is None or updated >= self.asked_at)


def rights(app: App, creator: str, only: int = 0) -> Rights:
    """As the app's settings have them. `only`: of one record. Raises SourceDenied."""
    app_rows = [
        _entity(row, "recordViewable", creator) for row in _rows(app.ask("app/acl", app=app.id))
    ]
    hidden = frozenset(
        str(row.get("code"))
        for row in _rows(app.ask("field/acl", app=app.id))
        if not _open(row.get("entities") or [])
    )
    said = _rows(app.ask("record/acl", app=app.id))
    asked_at = app.now.replace(second=0, microsecond=0)
    rules = []
    for row in said:
        entities = [_entity(one, "viewable", creator) for one in row.get("entities") or []]
        rules.append(Rule(entities, _concerned(app, str(row.get("filterCond") or ""), only)))
    return Rights(app_rows, rules, hidden, asked_at)


def _concerned(app: App, cond: str, only: int) -> set[int] | None:
    """Which records a condition is about, as kintone finds them; None where it does not say."""
    if not cond.strip() or _OF_CALLER.search(cond):
        return None  # who calls is not who asks: the rule is held against every record
    try:
        pages = app.pages(cond, ["$id"], first=only, last=only)
        return {id_ for page in pages for id_, _ in page}
    except (SourceMisconfigured, SourceDenied):
        return None


def _rows(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = answer.get("rights")
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise SourceUnreachable("アクセス権の設定が、知らない形をしています。")
    return found


def _entity(row: Mapping[str, Any], sees: str, creator: str) -> Entity:
    entity = row.get("entity") or {}
    kind, code = str(entity.get("type")), str(entity.get("code") or "")
    if kind == "CREATOR":
        kind, code = "USER", creator
    subs = row.get("includeSubs") in (True, "true")
    return Entity(kind, code, subs, row.get(sees) in (True, "true"))


def _open(entities: Sequence[Mapping[str, Any]]) -> bool:
    """Everybody sees the field."""
    said = [
        (
            one.get("entity", {}).get("type"),
            one.get("entity", {}).get("code"),
            one.get("accessibility"),
        )
        for one in entities
    ]
    return all(how in ("READ", "WRITE") for *_, how in said) and any(
        (kind, code) == ("GROUP", "everyone") for kind, code, _ in said
    )


def layer(entities: Sequence[Entity], who: People, record: Row | None = None) -> Layer:
    """The first line that is about somebody decides; everyone's is the last.

    A refusal above any permission is held against all whom it is about, in whichever order their
    other lines are; one that is about nobody we know, against everybody.
    """
    allow, deny, refused = set[Principal](), set[Principal](), set[Principal]()
    for entity in sorted(entities, key=lambda e: (e.kind, e.code) == ("GROUP", "everyone")):
        named, certain = _named(entity, record)
        meant = [who.of(kind, code) for kind, code in named]
        if entity.sees:
            deny |= refused
            allow |= {one for some in meant if some for one in some}
        elif certain and None not in meant and not _wider(entity):
            refused |= {one for some in meant if some for one in some}
        else:
            refused.add(EVERYONE)
    return Layer(frozenset(allow), frozenset(deny))


def _wider(entity: Entity) -> bool:
    """It is about more people than the table may know of."""
    return entity.subs and (entity.kind, entity.code) != ("GROUP", "everyone")


def _named(entity: Entity, record: Row | None) -> tuple[list[tuple[str, str]], bool]:
    """Whom a line is about, and whether that is known."""
    if entity.kind != "FIELD_ENTITY":
        return [(entity.kind, entity.code)], True
    held = (record or {}).get(entity.code) or {}
    kind, value = _OF_FIELD.get(str(held.get("type"))), held.get("value")
    if kind is None:
        return [], False
    found = value if isinstance(value, list) else [value] if value else []
    return [(kind, str(one.get("code") or "")) for one in found if isinstance(one, dict)], True
