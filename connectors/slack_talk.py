"""What is said in Slack as text: messages with people's names, markup as people see it, a link back."""

from __future__ import annotations

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

JAPAN = timezone(timedelta(hours=9))
TITLE_CHARS = 40  # of what begins a thread
# whoever joins, leaves or renames says nothing
_SAID = {None, "", "bot_message", "file_share", "me_message", "thread_broadcast", "file_comment"}
_MARKUP = re.compile(r"<([^<>|\n]+)(?:\|([^<>\n]*))?>")
_NO_BYTES = {"tombstone", "hidden_by_limit", "external"}
Row = Mapping[str, Any]


class Text(NamedTuple):
    """A document made of messages."""

    title: str
    data: bytes
    at: float  # when anything of it was last said or changed

    @property
    def version(self) -> str:
        return hashlib.sha256(self.data).hexdigest()[:32]


def sort(row: Row) -> str:
    """ "thread": it begins one; "reply": it is in one; "talk"; or "", for what nobody said."""
    ts, thread = str(row["ts"]), str(row.get("thread_ts") or row["ts"])
    if ts != thread:
        return "reply"
    if int(row.get("reply_count") or 0) > 0:
        return "thread"
    return "talk" if _said(row) else ""


def day(row: Row) -> str:
    """In Japan, as 2026-04-01."""
    return moment(str(row["ts"])).date().isoformat()


def mark(row: Row) -> str:
    """What a listing tells of a thread, in short: another where it has gone on."""
    told = [row.get(name) for name in ("text", "subtype", "reply_count", "latest_reply")]
    told += [(row.get("edited") or {}).get("ts"), [f.get("id") for f in files(row)]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def talk(day: str, rows: Sequence[Row], people: Mapping[str, str], link: str) -> Text:
    """What was said on one day outside of threads; oldest first."""
    told = [_told(row, people, "%H:%M") for row in rows]
    lines = [f"# {day}", *told, link + _number(rows[0])]
    return Text(day, _bytes(lines), max(map(_latest, rows)))


def thread(rows: Sequence[Row], people: Mapping[str, str], link: str) -> Text | None:
    """A message and what was answered; oldest first. None where nothing is left of it."""
    said = [row for row in rows if _said(row)]
    if not said:
        return None
    title = " ".join(_text(said[0], people).split())[:TITLE_CHARS] or day(said[0])
    told = [_told(row, people, "%Y-%m-%d %H:%M") for row in said]
    lines = [f"# {title}", *told, link + _number(rows[0])]
    return Text(title, _bytes(lines), max(map(_latest, said)))


def files(row: Row) -> Iterator[Row]:
    """Those of a message whose bytes are Slack's."""
    for one in row.get("files") or []:
        if one.get("mode") not in _NO_BYTES and not one.get("is_external"):
            yield one


def name(file: Row) -> str:
    said = unicodedata.normalize("NFC", str(file.get("name") or file.get("title") or ""))
    said = said.replace("/", "／").replace("\0", "")
    return said if said.strip(". ") else "ファイル"


def people(users: Sequence[Row]) -> dict[str, str]:
    """What people call each other, by id."""
    found = {}
    for user in users:
        profile = user.get("profile") or {}
        said = (profile.get("display_name"), profile.get("real_name"), user.get("real_name"))
        found[str(user["id"])] = next(filter(None, (*said, user.get("name"))), str(user["id"]))
    return found


def plain(text: str, people: Mapping[str, str]) -> str:
    """Slack's markup as people see it."""
    shown = _MARKUP.sub(lambda m: _shown(m[1], m[2] or "", people), text)
    return html.unescape(shown).strip()


def moment(ts: str | float) -> datetime:
    return datetime.fromtimestamp(float(ts), JAPAN)


def utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def private(channel: Row) -> bool:
    """Unless Slack says that it is not."""
    return channel.get("is_private") is not False


def archived(channel: Row) -> bool:
    return channel.get("is_archived") is True


# --- one message ------------------------------------------------------------------


def _said(row: Row) -> bool:
    return row.get("subtype") in _SAID and not row.get("hidden")


def _told(row: Row, people: Mapping[str, str], when: str) -> str:
    attached = [f"添付: {name(one)}" for one in files(row)]
    body = "\n".join(filter(None, [_text(row, people), *attached]))
    return f"{_who(row, people)} ({moment(str(row['ts'])).strftime(when)}): {body}"


def _who(row: Row, people: Mapping[str, str]) -> str:
    bot = row.get("username") or (row.get("bot_profile") or {}).get("name")
    return str(people.get(str(row.get("user"))) or bot or row.get("user") or "ボット")


def _text(row: Row, people: Mapping[str, str]) -> str:
    parts = [str(row.get("text") or "")]
    if not parts[0].strip():
        parts = list(_of_blocks(row.get("blocks")))
    for one in row.get("attachments") or []:
        told = [str(one.get(part) or "") for part in ("pretext", "title", "text")]
        told += [f"{f.get('title')}: {f.get('value')}" for f in one.get("fields") or []]
        parts += [t for t in told if t] or [str(one.get("fallback") or "")]
    return "\n".join(filter(None, (plain(part, people) for part in parts)))


def _of_blocks(blocks: Any) -> Iterator[str]:
    """All text of what an app has laid out, in order."""
    if isinstance(blocks, list):
        for one in blocks:
            yield from _of_blocks(one)
    elif isinstance(blocks, dict):
        if isinstance(blocks.get("text"), str):
            yield blocks["text"]
        for part in ("text", "fields", "elements"):
            if not isinstance(blocks.get(part), str):
                yield from _of_blocks(blocks.get(part))


def _shown(what: str, label: str, people: Mapping[str, str]) -> str:
    if what.startswith("@"):
        return f"@{people.get(what[1:]) or label or what[1:]}"
    if what.startswith("#"):
        return f"#{label or what[1:]}"
    if what.startswith("!"):
        return label or f"@{what[1:].partition('^')[0]}"
    bare = what.removeprefix("mailto:")
    return f"{label} ({bare})" if label and label not in (bare, what) else bare


def _latest(row: Row) -> float:
    return max(float(row["ts"]), float((row.get("edited") or {}).get("ts") or 0))


def _number(row: Row) -> str:
    return str(row["ts"]).replace(".", "")


def _bytes(lines: Sequence[str]) -> bytes:
    return ("\n\n".join(filter(None, lines)) + "\n").encode("utf-8", "replace")
