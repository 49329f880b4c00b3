"""A page of Notion as Markdown: its title, its properties, its blocks, and the files among them."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from appliance.errors import TooLarge
from connectors.listing import DEEPEST

Object = Mapping[str, Any]
Children = Callable[[str], Iterable[Object]]  # of a block or page, by its id

_PREFIX = {
    "heading_1": "# ",
    "heading_2": "## ",
    "heading_3": "### ",
    "heading_4": "#### ",
    "bulleted_list_item": "- ",
    "quote": "> ",
    "callout": "> ",
}
_LISTS = {"bulleted_list_item", "numbered_list_item", "to_do"}
_FILES = {"file", "pdf", "image"}  # what may hold text
_MEDIA = _FILES | {"video", "audio"}
_LINKS = {"bookmark", "embed", "link_preview"}
_OWN = {"child_page", "child_database"}  # documents of their own
_BESIDE = {"title", "last_edited_time", "last_edited_by"}  # told elsewhere
_RECKONED = {"formula", "rollup"}
MOST_BLOCKS = 50_000  # of one page
UNREAD = "(Notion の API では読めない部分があります)"


class File(NamedTuple):
    """Something that was uploaded to Notion. `holder`: its block, or its property and place."""

    holder: str
    name: str
    version: str


@dataclass
class Page:
    lines: list[str] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    blocks: int = 0

    def text(self) -> bytes:
        return ("\n".join(self.lines).strip() + "\n").encode("utf-8", "replace")


def read(page: Object, of: str, children: Children) -> Page:
    """All of a page. `of`: the name of the table it is a row of, or empty."""
    made = Page([f"# {title(page)}", ""], property_files(page))
    facts = ([("データベース", of)] if of else []) + [*_facts(page)]
    made.lines += [f"- {name}: {value}" for name, value in facts]
    made.lines += [""] if facts else []
    _blocks(made, children(str(page["id"])), children, "", 0)
    made.lines += ["", str(page.get("url") or "")]
    return made


def title(page: Object) -> str:
    for value in (page.get("properties") or {}).values():
        if isinstance(value, dict) and value.get("type") == "title":
            return _line(rich(value.get("title"))) or "無題"
    return "無題"


def name(source: Object) -> str:
    """Of a table."""
    return _line(rich(source.get("title")))


def digest(page: Object) -> str:
    """Of what its properties say; what Notion reckons changes without being changed."""
    said = [title(page), *_facts(page, _BESIDE | _RECKONED)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


def gone(thing: Object) -> bool:
    return thing.get("in_trash") is True or thing.get("archived") is True


def property_files(page: Object) -> list[File]:
    found = []
    for key, value in sorted((page.get("properties") or {}).items()):
        if isinstance(value, dict) and value.get("type") == "files":
            for number, one in enumerate(value.get("files") or []):
                if url := hosted(one):
                    found.append(File(f"{_name(key)}/{number}", _name(one.get("name")), _key(url)))
    return found


def hosted(one: Object) -> str:
    """Where Notion keeps it, for an hour; empty for what lies elsewhere."""
    return str((one.get("file") or {}).get("url") or "") if one.get("type") == "file" else ""


def property_url(page: Object, holder: str) -> str:
    """Of a file in a property, by its `holder`."""
    key, _, number = holder.rpartition("/")
    for name, value in (page.get("properties") or {}).items():
        if _name(name) == key and value.get("type") == "files":
            listed = value.get("files") or []
            return hosted(listed[int(number)]) if int(number) < len(listed) else ""
    return ""


def rich(parts: Any) -> str:
    """Rich text with its links and its code."""
    found = []
    for part in parts if isinstance(parts, list) else []:
        text, link = str(part.get("plain_text") or ""), str(part.get("href") or "")
        if (part.get("annotations") or {}).get("code") and text.strip():
            text = f"`{text}`"
        outside = re.match(r"https?://", link) and link != text
        found.append(f"[{text}]({link})" if outside else text)
    return "".join(found)


# --- properties -------------------------------------------------------------------


def _facts(page: Object, left_out: set[str] = _BESIDE) -> Iterator[tuple[str, str]]:
    for name, value in sorted((page.get("properties") or {}).items()):
        kind = value.get("type") if isinstance(value, dict) else None
        if kind and kind not in left_out and (shown := _line(_value(value))):
            yield unicodedata.normalize("NFC", name), shown


def _value(value: Object) -> str:
    kind = str(value.get("type"))
    said = value.get(kind)
    match kind:
        case "rich_text" | "title":
            return rich(said)
        case "multi_select" | "people" | "files":
            return "、".join(filter(None, (str(one.get("name") or "") for one in said or [])))
        case "select" | "status" | "created_by" | "last_edited_by":
            return str((said or {}).get("name") or "")
        case "date":
            ends = [str((said or {}).get(end) or "") for end in ("start", "end")]
            return " 〜 ".join(filter(None, ends))
        case "checkbox" | "boolean":
            return "はい" if said else "いいえ"
        case "unique_id":
            parts = ((said or {}).get("prefix"), (said or {}).get("number"))
            return "-".join(str(part) for part in parts if part is not None)
        case "formula":
            return _value(said) if isinstance(said, dict) else ""
        case "rollup":
            if isinstance(said, dict) and said.get("type") == "array":
                return "、".join(filter(None, map(_value, said.get("array") or [])))
            return _value(said) if isinstance(said, dict) else ""
        case "number" | "string" | "url" | "email" | "phone_number" | "created_time":
            return "" if said is None else str(said)
    return ""  # a relation tells ids only


# --- blocks -----------------------------------------------------------------------


def _blocks(
    made: Page, blocks: Iterable[Object], children: Children, indent: str, depth: int
) -> None:
    number = 0
    for block in blocks:
        kind = str(block.get("type"))
        number = number + 1 if kind == "numbered_list_item" else 0
        made.blocks += 1
        if made.blocks > MOST_BLOCKS:
            raise TooLarge(f"ページが大きすぎます (上限 {MOST_BLOCKS:,} ブロック)。")
        if gone(block):
            continue
        said = block.get(kind)
        said = said if isinstance(said, dict) else {}
        if kind == "table":
            made.lines += _table([*children(str(block["id"]))] if _holds(block) else [], indent)
            continue
        made.lines += _shown(block, kind, said, number, indent)
        if kind in _FILES and (url := hosted(said)):
            name = _name(said.get("name") or unquote(urlsplit(url).path).rpartition("/")[2])
            made.files.append(File(str(block["id"]), name, _key(url)))
        if _holds(block) and kind not in _OWN:
            if depth >= DEEPEST:
                made.lines.append(indent + UNREAD)
                continue
            inner = indent + "  " if kind in _LISTS else indent
            _blocks(made, children(str(block["id"])), children, inner, depth + 1)


def _holds(block: Object) -> bool:
    return block.get("has_children") is True


def _shown(block: Object, kind: str, said: Object, number: int, indent: str) -> list[str]:
    text = rich(said.get("rich_text"))
    if kind in _OWN:
        text = str(said.get("title") or "")
    elif kind in _MEDIA:
        name = str(said.get("name") or "")
        link = str((said.get("external") or {}).get("url") or "")
        text = " ".join(filter(None, [name, rich(said.get("caption")), link]))
        text = f"添付: {text}" if text else ""
    elif kind in _LINKS:
        text = " ".join(filter(None, [rich(said.get("caption")), str(said.get("url") or "")]))
    elif kind == "equation":
        text = f"$${said.get('expression') or ''}$$"
    elif kind == "code":
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
        plain = "".join(str(part.get("plain_text") or "") for part in said.get("rich_text") or [])
        caption = rich(said.get("caption"))
        text = f"{fence}{said.get('language') or ''}\n{plain}\n{fence}" + (
            f"\n{caption}" if caption else ""
        )
    elif kind == "unsupported":
        text = UNREAD
    if not text.strip():
        return []
    prefix = _PREFIX.get(kind, "")
    if kind == "numbered_list_item":
        prefix = f"{number}. "
    elif kind == "to_do":
        prefix = "- [x] " if said.get("checked") else "- [ ] "
    first, *more = text.split("\n")
    rest = "> " if prefix == "> " else " " * len(prefix) if kind in _LISTS else ""
    lines = [f"{indent}{prefix}{first}", *(f"{indent}{rest}{line}" for line in more)]
    return lines if kind in _LISTS else [*lines, ""]


def _table(rows: list[Object], indent: str) -> list[str]:
    """Its first row is its head: Markdown knows no table without one."""
    made = []
    for row in rows:
        cells = (row.get("table_row") or {}).get("cells") or []
        shown = [_line(rich(cell)).replace("|", "\\|") for cell in cells]
        made.append(f"{indent}| {' | '.join(shown)} |")
        if len(made) == 1:
            made.append(f"{indent}|{' --- |' * len(shown)}")
    return [*made, ""]


def _key(url: str) -> str:
    """Of a file, by where it lies: what signs the link is another each time."""
    return hashlib.sha256(urlsplit(url).path.encode()).hexdigest()[:24]


def _name(said: Any) -> str:
    name = unicodedata.normalize("NFC", str(said or "")).replace("/", "／").replace("\0", "")
    return name if name.strip(". ") else "添付ファイル"


def _line(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))
