"""Items of lists and pages of sites as HTML: their title, and what their columns say."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from connectors.sharepoint_server_rights import nfc

TEXTS = ("WikiField", "PublishingPageContent", "CanvasContent1")  # where pages have theirs
_PLAIN = {"Attachments", "Computed", "ContentTypeId", "Guid", "Counter", "ModStat", "File"}
_APART = {"Title", "ContentType", "FileLeafRef"}  # shown otherwise


class Column(NamedTuple):
    name: str
    label: str
    shown: bool  # people fill it in, and it is no title


def columns(fields: Iterable[Mapping[str, Any]]) -> Iterator[Column]:
    for said in fields:
        name, kind = said.get("InternalName"), said.get("TypeAsString")
        if isinstance(name, str):
            open = said.get("Hidden") is False and said.get("ReadOnlyField") is False
            shown = open and kind not in _PLAIN and name not in _APART
            yield Column(name, nfc(said.get("Title")) or name, shown)


def item(title: str, shelf: str, shown: Iterable[Column], said: Mapping[str, Any]) -> bytes:
    """`said`: the values as HTML, under the names that OData makes of those of columns."""
    known = {_plain(name): value for name, value in said.items()}
    rows = []
    for column in shown:
        value = known.get(column.name)
        if isinstance(value, str) and value.strip():
            rows.append(f"<h2>{html.escape(column.label)}</h2>\n<div>{value}</div>\n")
    return _page(title, f"<p>{html.escape(shelf)}</p>\n", rows)


def page(title: str, said: Mapping[str, Any]) -> bytes:
    texts = [said.get(name) for name in TEXTS]
    return _page(title, "", [f"<div>{one}</div>\n" for one in texts if isinstance(one, str)])


def _page(title: str, above: str, rows: Iterable[str]) -> bytes:
    called = html.escape(title)
    head = f'<!doctype html>\n<html><head><meta charset="utf-8"><title>{called}</title></head>\n'
    return f"{head}<body><h1>{called}</h1>\n{above}{''.join(rows)}</body></html>\n".encode()


def _plain(name: str) -> str:
    """OData writes an underscore as _x005f_, and something before a name that begins with one."""
    return re.sub("^OData_(?=_)", "", name.replace("_x005f_", "_"))
