"""HTML: what a reader would see of the page's own content. Nothing is fetched.

White or tiny text is read, and noted: nobody sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from lxml import etree

from appliance.errors import Unreadable
from appliance.formats import charset
from appliance.formats.draft import UNSEEN, UNSEEN_CHARS, Draft, one_line
from appliance.types import Document

_SILENT = {
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "embed", "head",
    "canvas", "audio", "video", "rt", "rp", "select", "textarea", "button", "datalist", "title",
}  # fmt: skip
_AROUND = {"nav", "footer", "aside", "header"}
_BLOCKS = {
    "p", "div", "section", "article", "main", "ul", "ol", "dl", "dt", "dd", "blockquote", "figure",
    "figcaption", "form", "fieldset", "address", "details", "summary", "hr", "header", "footer",
    "aside", "nav", "body", "html", "center", "tr", "caption",
}  # fmt: skip
_DEEPEST = 40  # quotes in quotes
_HEADINGS = {f"h{n}": n for n in range(1, 7)}
_META = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])", re.IGNORECASE
)
_COLOUR = re.compile(r"(?:^|[;\s])color\s*:", re.IGNORECASE)
_WHITE = re.compile(
    r"(?:^|[;\s])color\s*:\s*(?:white|#fff(?:fff)?|rgb\(\s*255\s*,\s*255\s*,\s*255\s*\))(?![0-9a-z])",
    re.IGNORECASE,
)
_SIZE = re.compile(r"font-size\s*:", re.IGNORECASE)
_TINY = re.compile(r"font-size\s*:\s*(?:[0-3](?:\.\d+)?|\.\d+)\s*(?:px|pt)", re.IGNORECASE)


def parse(stream: BinaryIO, *, quoting: bool = False) -> Document:
    data = stream.read()
    declared = _META.search(data[:4096])
    decoded = charset.decode(data, declared[1].decode("ascii") if declared else None)
    return from_text(decoded.text, decoded.problems, quoting=quoting)


def from_text(source: str, problems: tuple[str, ...] = (), *, quoting: bool = False) -> Document:
    """`quoting`: a mail, whose quotes are told as in plain text: 「> 」."""
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=False, remove_comments=True
    )
    try:
        root = etree.fromstring(source.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"HTML として読めません ({error.msg})") from None
    if root is None:
        raise Unreadable("HTML に本文がありません")
    body = root if root.tag == "body" else root.find("body")
    body = root if body is None else body
    writer = _Writer(problems, quoting)
    writer.write(_main(body), _AROUND)
    if not writer.draft.position:  # all of it was framing
        writer.write(body, set())
    if _unseen(body):
        writer.draft.problems.append(UNSEEN)
    found = root.find(".//title")
    title = "".join(found.itertext()) if found is not None else None
    return writer.draft.document(title)


def _main(body: Any) -> Any:
    """<main>, or the one <article>, when it holds most of the page."""
    total = sum(len(t) for t in body.itertext()) or 1
    for tag in ("main", "article"):
        found = list(body.iter(tag))
        if len(found) == 1 and sum(len(t) for t in found[0].itertext()) * 3 > total:
            return found[0]
    return body


class _Writer:
    def __init__(self, problems: tuple[str, ...], quoting: bool) -> None:
        self.draft = Draft()
        self.draft.problems += problems
        self._line: list[str] = []
        self._quoting = quoting
        self._deep = 0  # in quotes

    def write(self, root: Any, skip: set[str]) -> None:
        # walked with a list, not by recursion: the nesting is the author's choice
        waiting: list[tuple[str, Any]] = [("open", root)]
        while waiting:
            what, item = waiting.pop()
            if what == "text":
                self._line.append(item)
            elif what == "close":
                self._break()
                self._deep -= item == "blockquote"
            else:
                waiting += reversed(list(self._open(item, root, skip)))
        self._break()

    def _open(self, element: Any, root: Any, skip: set[str]) -> Iterator[tuple[str, Any]]:
        tag = element.tag if isinstance(element.tag, str) else ""
        tail = [("text", element.tail)] if element.tail and element is not root else []
        if tag in _SILENT or not tag or _hidden(element) or (tag in skip and element is not root):
            yield from tail
            return
        if tag in _HEADINGS:
            self._break()
            self.draft.heading(_shown(element), _HEADINGS[tag])
        elif tag == "table" and not _is_layout(element):
            self._break()
            self.draft.table([[_shown(c) for c in row] for row in _rows(element)])
            self.draft.blank()
        elif tag == "br":
            self._break()
        elif tag == "pre":
            self._break()
            for line in "".join(_texts(element)).rstrip().split("\n"):
                self.draft.line(line)
            self.draft.blank()
        else:
            block = tag in _BLOCKS or tag in ("li", "table", "td", "th")
            if block:
                self._break()
            self._deep += tag == "blockquote"
            if tag == "p":
                self.draft.blank()
            if tag == "li":
                yield "text", "・"
            yield from [("text", element.text)] if element.text else []
            for part in element:
                yield "open", part
            if block:
                yield "close", tag
        yield from tail

    def _break(self) -> None:
        if text := one_line("".join(self._line)):
            self.draft.line("> " * min(self._deep, _DEEPEST) * self._quoting + text)
        self._line.clear()


def _hidden(element: Any) -> bool:
    return "hidden" in element.attrib or bool(_HIDDEN.search(element.get("style", "")))


def _unseen(root: Any) -> bool:
    """Whether anything stands in white on no ground of its own, or too small to read."""
    waiting = [(root, False, False, False)]  # white, tiny, on a ground
    while waiting:
        element, white, tiny, ground = waiting.pop()
        if not isinstance(element.tag, str) or element.tag in _SILENT or _hidden(element):
            continue
        style = element.get("style", "")
        white = bool(_WHITE.search(style)) if _COLOUR.search(style) else white
        tiny = bool(_TINY.search(style)) if _SIZE.search(style) else tiny
        ground = ground or "bgcolor" in element.attrib or "background" in style.lower()
        texts = (element.text, *(part.tail for part in element))
        if (tiny or (white and not ground)) and any(map(_long, texts)):
            return True
        waiting += [(part, white, tiny, ground) for part in element]
    return False


def _long(text: str | None) -> bool:
    return len("".join((text or "").split())) >= UNSEEN_CHARS


def _texts(element: Any) -> Iterator[str]:
    waiting: list[Any] = [element]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
            continue
        tag = item.tag if isinstance(item.tag, str) else ""
        if tag and tag not in _SILENT and not _hidden(item):
            parts: list[Any] = [item.text or ""]
            for part in item:
                parts += [part, part.tail or ""]
            waiting += reversed(
                ["\n" if tag == "br" else "", *parts, " " if tag in _BLOCKS else ""]
            )
    return


def _shown(element: Any) -> str:
    return one_line("".join(_texts(element)))


def _rows(table: Any) -> Iterator[list[Any]]:
    for row in table.iter("tr"):
        if next(row.iterancestors("table"), None) is table:
            yield [c for c in row if c.tag in ("td", "th")]


def _is_layout(table: Any) -> bool:
    """A table that holds headings or other tables arranges a page."""
    return next(table.iter("table", "h1", "h2", "h3"), table) is not table or any(
        inner is not table for inner in table.iter("table")
    )
