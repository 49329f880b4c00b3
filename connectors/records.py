"""A record of kintone as a page: labels and values in the order of its form, tables as tables."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from lxml import etree
from lxml import html as lxml_html

JAPAN = timezone(timedelta(hours=9))
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?Z")
_NO_VALUE = {"REFERENCE_TABLE", "LABEL", "SPACER", "HR", "GROUP", "CATEGORY"}
_AT_THE_END = (
    "STATUS", "STATUS_ASSIGNEE", "RECORD_NUMBER", "CREATOR", "CREATED_TIME", "MODIFIER",
    "UPDATED_TIME",
)  # fmt: skip
Row = Mapping[str, Any]


@dataclass
class Column:
    code: str
    label: str
    kind: str
    unit: str = ""
    before: bool = False  # the unit stands before the number
    columns: list[Column] = field(default_factory=list)  # of a table


@dataclass
class Form:
    """What is read of an app's records, in its form's order."""

    app: str
    columns: list[Column]
    template: str
    updated: str  # the code of 更新日時
    codes: frozenset[str]  # of all its fields, read or not
    digest: str  # of all that a record's page is made by, beside the record

    @property
    def listed(self) -> list[str]:
        """What a listing must say of each record: its title, time and files."""
        named = re.findall(r"\{([^{}]+)\}", self.template)
        held = [c.code for c in self.columns if c.kind == "FILE"]
        held += [c.code for c in self.columns if any(i.kind == "FILE" for i in c.columns)]
        return [*named, *held, *([self.updated] if self.updated else [])]

    def title(self, id_: int, row: Row) -> str:
        kinds = {c.code: c for c in self.columns}

        def value(found: re.Match[str]) -> str:
            column = kinds.get(found[1])
            return _plain(row.get(found[1]), column) if column and not column.columns else ""

        said = " ".join(re.sub(r"\{([^{}]+)\}", value, self.template).split())[:300]
        bare = re.sub(r"\{[^{}]+\}", "", self.template).split()
        return said if said.split() != bare else f"{self.app} #{id_}"


@dataclass(frozen=True)
class Attachment:
    name: str
    unique: str  # among those of its record
    key: str
    media_type: str | None
    size_bytes: int | None


def form(
    app: str,
    properties: Mapping[str, Any],
    layout: Sequence[Mapping[str, Any]],
    only: Sequence[str],
    template: str,
    hidden: frozenset[str],
) -> Form:
    """`only`: the fields that are read, none: all. `hidden` are not."""
    order = list(dict.fromkeys(_codes(layout)))
    last = [code for kind in _AT_THE_END for code, p in properties.items() if p.get("type") == kind]
    order += [code for code in properties if code not in last] + last
    columns = []
    for code in dict.fromkeys(order):
        said = properties.get(code)
        if not said or code in hidden or (only and code not in only):
            continue
        if said.get("type") in _NO_VALUE or said.get("enabled") is False:
            continue
        column = _column(code, said)
        column.columns = [
            _column(inner, p)
            for inner, p in (said.get("fields") or {}).items()
            if inner not in hidden
        ]
        order_inside = next((list(_codes([r])) for r in layout if r.get("code") == code), [])
        column.columns.sort(
            key=lambda c: order_inside.index(c.code) if c.code in order_inside else 99
        )
        columns.append(column)
    first = next((c.code for c in columns if c.kind == "SINGLE_LINE_TEXT"), "")
    codes = {c.code for c in columns}
    template = template or (f"{{{first}}}" if first else "")
    template = re.sub(r"\{([^{}]+)\}", lambda m: m[0] if m[1] in codes else "", template)
    updated = next((c for c, p in properties.items() if p.get("type") == "UPDATED_TIME"), "")
    digest = hashlib.sha256(repr((app, columns, template)).encode()).hexdigest()[:12]
    return Form(app, columns, template, updated, frozenset(properties), digest)


def _codes(layout: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in layout:
        if row.get("type") == "SUBTABLE" and "code" in row:
            yield str(row["code"])
        if row.get("type") == "GROUP":
            yield from _codes(row.get("layout") or [])
        if row.get("type") != "GROUP":
            yield from (str(f["code"]) for f in row.get("fields") or [] if "code" in f)


def _column(code: str, said: Mapping[str, Any]) -> Column:
    unit, before = str(said.get("unit") or ""), said.get("unitPosition") == "BEFORE"
    return Column(code, str(said.get("label") or code), str(said.get("type")), unit, before)


def files(shape: Form, row: Row) -> Iterator[Attachment]:
    """All that are attached to it; of two with one name the second is (2)."""
    met = dict[str, int]()
    for one in _attached(shape, row):
        name = unicodedata.normalize("NFC", str(one["name"])).replace("/", "／").replace("\0", "")
        name = name if name.strip(". ") else "添付ファイル"
        met[name] = met.get(name, 0) + 1
        stem, dot, ending = name.rpartition(".")
        again = f" ({met[name]})"
        unique = name if met[name] == 1 else f"{stem}{again}.{ending}" if dot else name + again
        while unique != name and unique in met:
            unique = f"_{unique}"
        met.setdefault(unique, 1)
        size = str(one.get("size") or "")
        yield Attachment(
            name,
            unique,
            str(one["fileKey"]),
            str(one.get("contentType") or "").partition(";")[0] or None,
            int(size) if size.isdecimal() else None,
        )


def _attached(shape: Form, row: Row) -> Iterator[Mapping[str, Any]]:
    for column in shape.columns:
        value = (row.get(column.code) or {}).get("value") or []
        if column.kind == "FILE":
            yield from value
        elif column.columns:
            for line in value:
                for inner in column.columns:
                    if inner.kind == "FILE":
                        yield from (line["value"].get(inner.code) or {}).get("value") or []


def page(
    shape: Form, title: str, row: Row, comments: Sequence[Mapping[str, Any]], link: str
) -> bytes:
    """For the parser of pages. What is empty is left out."""
    name, parts = html.escape(title), list[str]()
    for column in shape.columns:
        held, label = row.get(column.code), html.escape(column.label)
        if column.kind == "SUBTABLE":
            parts += _table(column, held)
        elif column.kind == "RICH_TEXT":
            if text := _rich(held):
                parts.append(f"<h2>{label}</h2>{text}")
        elif (text := _plain(held, column)) and "\n" in text:
            parts.append(f"<h2>{label}</h2><p>{_lines(text)}</p>")
        elif text:
            parts.append(f"<p>{label}: {html.escape(text)}</p>")
    if comments:
        parts.append("<h2>コメント</h2>")
    for one in comments:
        who = html.escape(str((one.get("creator") or {}).get("name") or ""))
        when = _japanese(str(one.get("createdAt") or ""))
        parts.append(f"<p>{when} {who}: {_lines(str(one.get('text') or '').strip())}</p>")
    there = html.escape(link)
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{name}</title></head>'
        f"<body><h1>{name}</h1><p>{html.escape(shape.app)}</p>{''.join(parts)}"
        f'<p><a href="{there}">{there}</a></p></body></html>'
    ).encode("utf-8", "replace")


def _table(column: Column, held: Any) -> list[str]:
    lines = (held or {}).get("value") or []
    if not lines or not column.columns:
        return []
    head = "".join(f"<th>{html.escape(c.label)}</th>" for c in column.columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_lines(_cell(line, c))}</td>' for c in column.columns)}</tr>"
        for line in lines
    )
    return [f"<h2>{html.escape(column.label)}</h2><table><tr>{head}</tr>{body}</table>"]


def _cell(line: Mapping[str, Any], column: Column) -> str:
    held = line["value"].get(column.code)
    if column.kind == "RICH_TEXT":
        return re.sub(r"<[^<>]{0,500}>", " ", str((held or {}).get("value") or "")).strip()
    return _plain(held, column)


def _plain(held: Any, column: Column) -> str:
    value = (held or {}).get("value")
    if value in (None, "", []):
        return ""
    if isinstance(value, list):
        return "、".join(_name(one) for one in value)
    if isinstance(value, dict):
        return _name(value)
    text = str(value).strip()
    if column.kind in ("DATETIME", "CREATED_TIME", "UPDATED_TIME", "CALC") and _MOMENT.fullmatch(
        text
    ):
        return _japanese(text)
    if column.unit and column.kind in ("NUMBER", "CALC"):
        return f"{column.unit} {text}" if column.before else f"{text} {column.unit}"
    return text


def _name(one: Any) -> str:
    if isinstance(one, dict):
        return str(one.get("name") or one.get("code") or "")
    return str(one)


def _lines(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def _rich(held: Any) -> str:
    """HTML that ends what it begins."""
    value = str((held or {}).get("value") or "").strip()
    if not value:
        return ""
    with suppress(etree.LxmlError, ValueError):
        whole = lxml_html.fragment_fromstring(value, create_parent="div")
        return str(lxml_html.tostring(whole, encoding="unicode"))
    return f"<p>{_lines(value)}</p>"


def moment(said: str) -> datetime:
    """Raises ValueError."""
    at = datetime.fromisoformat(said)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _japanese(said: str) -> str:
    try:
        return moment(said).astimezone(JAPAN).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return said
