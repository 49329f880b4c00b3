"""What is asked of a Redmine (its REST API), page by page, and its issues as text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from appliance.errors import (
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors.http import AtHome, Http, shown

PAGE = 100  # rows; Redmine gives no more
_SIMPLE = frozenset({"string", "text", "list", "link", "int", "float", "date", "bool"})
Row = dict[str, Any]


class Api:
    """One Redmine, by the key of one of its users."""

    def __init__(self, url: str, key: str, site: Site, per_second: float) -> None:
        self.url = url
        self.http = Http(
            [url],
            site,
            auth=AtHome("X-Redmine-API-Key", key, [url]),
            per_second=per_second,
            fence=lambda asked: asked.startswith(f"{url}/"),
        )

    def get(self, path: str, asked: Mapping[str, object] | None = None, login: str = "") -> Row:
        """An answer; as `login` would get it, if given. Raises NotVisible, and what `Http` raises."""
        url = f"{self.url}/{path}.json" + (f"?{urlencode(asked)}" if asked else "")
        headers = {"x-redmine-switch-user": login.encode().decode("latin-1")} if login else {}
        reply = self.http.ask("GET", url, headers=headers)
        if reply.status in (404, 410):
            raise NotVisible(f"{shown(url)} はありません。")
        if "json" not in reply.headers.get("content-type", ""):
            raise SourceMisconfigured(
                f"{shown(self.url)} は Redmine の REST API ではありません。URL を確かめてください。"
            )
        try:
            said = json.loads(reply.body)
            if not isinstance(said, dict):
                raise ValueError("no object")
        except ValueError:
            raise SourceUnreachable(
                f"{shown(url)} の応答が正しくありません。次の確認でやり直します。"
            ) from None
        return said

    def me(self) -> Row:
        """Whose key it is. Without one Redmine answers too, as it does strangers."""
        try:
            user = self.get("users/current").get("user")
        except SourceDenied:
            raise SourceDenied(
                f"{shown(self.url)} にサインインできません。API キーと、Redmine の「管理 → 設定 → API」の"
                "「RESTによるWebサービスを有効にする」を確かめてください。"
            ) from None
        except NotVisible:
            user = None
        if not isinstance(user, dict):
            raise SourceMisconfigured(
                f"{shown(self.url)} は Redmine ではありません。URL を確かめてください。"
            )
        return user

    def rows(self, path: str, name: str, **asked: object) -> list[Row]:
        """All rows of a listing. Raises SourceUnreachable where pages do not fit together."""
        found: dict[int, Row] = {}
        while True:
            said = self.get(path, {**asked, "limit": PAGE, "offset": len(found)})
            page, before = _page(said, name), len(found)
            found |= {row["id"]: row for row in page}
            if len(found) >= said.get("total_count", 0):
                return list(found.values())
            if len(found) != before + len(page) or not page:
                raise SourceUnreachable(
                    f"{shown(self.url)} の一覧 ({path}) は、読んでいる間に変わりました。"
                )

    def issues(self, asked: Mapping[str, object]) -> Iterator[Row]:
        """By their ids: what changes meanwhile moves none of them to another page."""
        last = 0
        while True:
            more = {"sort": "id", "include": "attachments", "limit": PAGE}
            said = self.get("issues", {**asked, **more, "issue_id": f">={last + 1}"})
            for row in (page := _page(said, "issues")):
                if row["id"] <= last:
                    raise SourceUnreachable(f"{shown(self.url)} は同じチケットを繰り返します。")
                last = row["id"]
                yield row
            if said.get("total_count", 0) <= len(page):
                return
            if not page:
                raise SourceUnreachable(
                    f"{shown(self.url)} のチケットの一覧が途中で切れました。次の確認でやり直します。"
                )

    def readable(self) -> dict[int, str]:
        """Custom fields that every reader of an issue sees, and what they hold."""
        fields = self.get("custom_fields").get("custom_fields", [])
        return {
            field["id"]: field["field_format"]
            for field in fields
            if field.get("visible") is True and not field.get("roles")
            if field.get("field_format") in _SIMPLE
        }


def _page(said: Row, name: str) -> list[Row]:
    rows = said.get(name)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("id"), int) for row in rows
    ):
        raise SourceUnreachable(f"Redmine の一覧 ({name}) の形が正しくありません。")
    return rows


# --- text -------------------------------------------------------------------------


def issue(row: Row, fields: Mapping[int, str], *, markdown: bool) -> str:
    """Markdown of an issue without its notes."""
    lines = [f"# {row['subject']} (#{row['id']})", ""]
    for label, name in (
        ("プロジェクト", "project"), ("トラッカー", "tracker"), ("ステータス", "status"),
        ("優先度", "priority"), ("カテゴリ", "category"), ("対象バージョン", "fixed_version"),
        ("作成者", "author"), ("担当者", "assigned_to"),
    ):  # fmt: skip
        if row.get(name):
            lines.append(f"- {label}: {row[name].get('name', '')}")
    for label, name in (("開始日", "start_date"), ("期日", "due_date")):
        if row.get(name):
            lines.append(f"- {label}: {row[name]}")
    lines += [
        f"- {one['name']}: {value}"
        for one in row.get("custom_fields") or ()
        if (value := _value(one, fields))
    ]
    return "\n".join([*lines, "", text(row.get("description") or "", markdown=markdown), ""])


def notes(row: Row, *, markdown: bool) -> str:
    """What was said of it later, to all who may read it."""
    said = []
    for note in row.get("journals") or ():
        if note.get("notes") and note.get("private_notes") is False:
            who = (note.get("user") or {}).get("name", "")
            said.append(f"\n## {note['created_on'][:10]} {who}\n")
            said.append(text(note["notes"], markdown=markdown) + "\n")
    return "\n".join(said)


def text(wiki: str, *, markdown: bool) -> str:
    """Markdown; of Textile, headings and numbered lists become it, and the rest stays."""
    wiki = wiki.replace("\r\n", "\n").strip()
    if not markdown:
        wiki = re.sub(r"(?m)^#+ ", lambda found: "   " * (len(found[0]) - 2) + "1. ", wiki)
        wiki = re.sub(r"(?m)^h([1-6])[^\s.]*\. +", lambda found: "#" * int(found[1]) + " ", wiki)
    return wiki


def version(row: Row, said: str) -> str:
    """Names of projects and states are part of the text, and change without the issue."""
    shown_to = "private" if row["is_private"] else ""  # who may read it goes with what it says
    return f"{row['updated_on']}:{digest(shown_to + said)}"


def digest(of: str) -> str:
    return hashlib.sha256(of.encode("utf-8", "replace")).hexdigest()[:16]


def moment(said: str) -> datetime:
    at = datetime.fromisoformat(said)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _value(field: Row, fields: Mapping[int, str]) -> str:
    kind, value = fields.get(field["id"]), field.get("value")
    if kind is None or not value:
        return ""
    if kind == "bool":
        return "はい" if value == "1" else "いいえ"
    return "、".join(map(str, value)) if isinstance(value, list) else str(value)


def named(rows: Collection[Row], wanted: Collection[str]) -> tuple[list[Row], list[str]]:
    """Those of these names or identifiers, and which of the names nothing has."""
    known = {str(row.get(name)) for row in rows for name in ("identifier", "name", "id")}
    found = [r for r in rows if {str(r.get(n)) for n in ("identifier", "name", "id")} & {*wanted}]
    return found, [name for name in wanted if name not in known]
