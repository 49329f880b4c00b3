"""EPUB: its chapters in reading order. Nothing it points to is fetched.

Classes that its style sheets hide are left out.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from typing import Any, BinaryIO

from appliance.errors import Unreadable
from appliance.formats import charset, web
from appliance.formats.draft import Draft
from appliance.formats.package import Package, child, children, name, value
from appliance.types import Document

_CHAPTERS = 5_000
_HIDDEN = re.compile(r"\.([\w-]{1,80})\s*\{[^{}]*display\s*:\s*none")
_OPF = "application/oebps-package+xml"


def parse(stream: BinaryIO) -> Document:
    package = Package(stream)
    if package.has("META-INF/encryption.xml") and package.has("META-INF/rights.xml"):
        raise Unreadable("コピー保護 (DRM) があるため読めません")
    at = _contents(package)
    root = package.xml(at)
    items = {value(i, "id") or "": i for i in root.iter() if name(i) == "item"}
    # no book has a chapter twice
    order = list(
        dict.fromkeys(value(i, "idref") or "" for i in root.iter() if name(i) == "itemref")
    )
    hidden = _hidden(package)
    draft = Draft()
    for entry in order[:_CHAPTERS]:
        item = items.get(entry)
        if item is None or "html" not in (value(item, "media-type") or ""):
            continue
        part = posixpath.normpath(
            posixpath.join(posixpath.dirname(at), urllib.parse.unquote(value(item, "href") or ""))
        )
        try:
            text = charset.decode(package.read(part), "utf-8").text
            draft.embed(web.from_text(hidden.sub(r'hidden="" \g<0>', text)))
        except Unreadable as error:
            draft.problems.append(f"章「{posixpath.basename(part)}」: {error}")
        draft.blank()
    if len(order) > _CHAPTERS:
        draft.problems.append(f"章が多すぎるため、{_CHAPTERS} 個より後を読んでいません")
    return draft.document(_title(root))


def _contents(package: Package) -> str:
    """The part that lists the chapters."""
    for found in package.xml("META-INF/container.xml").iter():
        if name(found) == "rootfile" and value(found, "media-type") == _OPF:
            return value(found, "full-path") or ""
    raise Unreadable("EPUB の目次が見つかりません")


def _hidden(package: Package) -> re.Pattern[str]:
    """Attributes of what is not shown."""
    sheets = (part for part in package.names if part.lower().endswith(".css"))
    rules = (charset.decode(package.read(part), "utf-8").text for part in sheets)
    classes = {found for rule in rules for found in _HIDDEN.findall(rule)}
    return re.compile(rf'class="(?:{"|".join(map(re.escape, sorted(classes))) or "(?!)"})"')


def _title(root: Any) -> str | None:
    metadata = child(root, "metadata")
    titles = children(metadata, "title") if metadata is not None else ()
    return next((str(t.text or "") for t in titles), None)
