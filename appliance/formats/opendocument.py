"""OpenDocument (.odt, .odp, .ods): text, slides and sheets as LibreOffice and Ichitaro save them.

Cells are read as they are shown, so a date stays 「令和6年4月1日」. Deleted and hidden text is left
out, comments are kept beside their place, footnotes come last. White or tiny text is read, and noted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from appliance.errors import PasswordNeeded, TooLarge
from appliance.formats import numerals
from appliance.formats.draft import UNSEEN, UNSEEN_CHARS, Draft, one_line, without_text
from appliance.formats.package import (
    MACROS,
    Package,
    child,
    children,
    name,
    properties,
    value,
    whole,
)
from appliance.formats.rows import write_rows
from appliance.types import Document

_CELLS = 8_000_000  # of a sheet, repeated ones counted
_SPACES = 1_000  # that one mark may stand for
_SKIP = {
    "tracked-changes",
    "change-start",
    "change-end",
    "ruby-text",
    "note",
    "annotation",
    "bibliography-source",
    "table-of-content-source",
    "sequence-decls",
    "soft-page-break",
    "forms",
}
_HOLDERS = {"section", "index-body", "table-of-content", "text-box", "group", "g", "a"}
_SIZE = re.compile(r"([0-9.]+)pt$")
_TINY_PT = 3.0


@dataclass(frozen=True)
class _Level:
    form: str = ""  # style:num-format; empty for a bullet
    before: str = ""
    after: str = ""
    shown: int = 1  # levels above and with it that are shown
    start: int = 1


@dataclass
class _Styles:
    hidden: set[str] = field(default_factory=set)
    white: set[str] = field(default_factory=set)
    tiny: set[str] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)
    lists: dict[str, dict[int, _Level]] = field(default_factory=dict)
    outline: dict[int, _Level] = field(default_factory=dict)


@dataclass
class _Writer:
    draft: Draft
    styles: _Styles
    notes: list[str] = field(default_factory=list)
    counts: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    title: str | None = None
    unseen: bool = False


def parse(stream: BinaryIO) -> Document:
    package = Package(stream)
    if package.has("META-INF/manifest.xml"):
        manifest = package.xml("META-INF/manifest.xml")
        if any(name(e) == "encryption-data" for e in manifest.iter()):
            raise PasswordNeeded("パスワードが必要です")
    content = package.xml("content.xml")
    styles = _Styles()
    for part in ("styles.xml", "content.xml"):
        if package.has(part):
            _read_styles(styles, package.xml(part))
    body = child(content, "body")
    kind = next((e for e in body if name(e)), None) if body is not None else None
    writer = _Writer(Draft(tabular=kind is not None and name(kind) == "spreadsheet"), styles)
    if any(n.startswith(("Basic/", "Scripts/")) for n in package.names):
        writer.draft.problems.append(MACROS)
    match name(kind) if kind is not None else "":
        case "presentation" | "drawing":
            pages = enumerate(children(kind, "page"), 1)
            silent = [number for number, page in pages if not _slide(writer, page, number)]
            writer.draft.problems += without_text(silent)
        case "spreadsheet":
            for table in children(kind, "table"):
                _sheet(writer, table)
        case "text":
            _blocks(writer, kind)
    if writer.unseen:
        writer.draft.problems.append(UNSEEN)
    if writer.notes:
        writer.draft.blank()
        for text in writer.notes:
            writer.draft.line(text)
    said = _said(package)
    author = said.get("initial-creator") or said.get("creator")
    own = properties(author, said.get("creation-date"), _edges(package))
    return writer.draft.document(said.get("title") or writer.title, own)


# --- blocks -----------------------------------------------------------------------


def _blocks(writer: _Writer, holder: Any, depth: int = 0) -> None:
    for block in holder:
        match name(block):
            case "h":
                level = whole(block, "outline-level", 1)
                number = _next(writer, "outline", writer.styles.outline, level)
                writer.draft.heading(f"{number} {_line(writer, block)}".strip(), min(level, 9))
            case "p":
                _paragraph(writer, block)
            case "list":
                _list(writer, block, value(block, "style-name") or "", 1)
            case "table":
                writer.draft.table([row for _, row in _rows(writer, block)])
                writer.draft.blank()
            case tag if tag in _HOLDERS and depth < 50:
                _blocks(writer, block, depth + 1)


def _paragraph(writer: _Writer, paragraph: Any, before: str = "") -> None:
    text = _line(writer, paragraph)
    if not text:
        writer.draft.blank()
        return
    if value(paragraph, "style-name") in writer.styles.titles:
        writer.title = writer.title or one_line(text)
    writer.draft.line(f"{before} {text}".strip())


def _list(writer: _Writer, found: Any, style: str, depth: int) -> None:
    """A list may name its style only at the top; numbers go on through all that share it."""
    if depth > 10:
        return
    levels = writer.styles.lists.get(style, {})
    for item in found:
        if name(item) not in ("list-item", "list-header"):
            continue
        number = "" if name(item) == "list-header" else _next(writer, style, levels, depth)
        for block in item:
            if name(block) == "list":
                _list(writer, block, value(block, "style-name") or style, depth + 1)
            elif name(block) == "h":
                level = whole(block, "outline-level", 1)
                writer.draft.heading(f"{number} {_line(writer, block)}".strip(), min(level, 9))
                number = ""
            elif name(block) == "p":
                _paragraph(writer, block, number)
                number = ""


def _next(writer: _Writer, style: str, levels: dict[int, _Level], depth: int) -> str:
    """The next number of a list at this depth, as it is shown."""
    level = levels.get(depth)
    if level is None:
        return ""
    if not level.form and level.before == "・":
        return "・"
    counts = writer.counts[style]
    for deeper in [d for d in counts if d > depth]:
        del counts[deeper]
    counts[depth] = counts.get(depth, level.start - 1) + 1
    if not level.form:
        return ""
    above = range(max(1, depth - level.shown + 1), depth + 1)
    shown = (
        numerals.written(counts.get(d, 1), _form(levels.get(d, level).form))
        for d in above
        if levels.get(d, level).form
    )
    return f"{level.before}{'.'.join(shown)}{level.after}".strip()


_FORMS = {
    "1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman",
    "一": "japaneseCounting", "ア": "aiueo", "ｱ": "aiueo", "イ": "iroha", "ｲ": "iroha",
    "①": "decimalEnclosedCircle", "１": "decimalFullWidth",
}  # fmt: skip


def _form(said: str) -> str:
    """「一, 二, 三, ...」: the first of them tells."""
    return _FORMS.get(said[:1], "decimal")


def _slide(writer: _Writer, page: Any, number: int) -> bool:
    """Whether there is any text on it."""
    writer.draft.mark(f"スライド {number}", "slide", page=number)
    before = writer.draft.position
    frames = [e for e in page.iter() if name(e) in ("frame", "custom-shape")]
    frames = [f for f in frames if all(name(a) != "notes" for a in f.iterancestors())]
    frames.sort(key=lambda f: value(f, "class") != "title")
    for frame in frames:
        if value(frame, "class") == "title":
            words = (_line(writer, p) for p in frame.iter() if name(p) in ("p", "h"))
            writer.draft.heading(one_line(" ".join(words)), 1)
        elif value(frame, "class") not in ("page-number", "date-time", "footer"):
            inner = child(frame, "text-box")
            _blocks(writer, inner if inner is not None else frame)
    spoken = child(page, "notes")
    notes = children(spoken, "frame") if spoken is not None else ()
    notes = (f for f in notes if value(f, "class") == "notes")
    words = (_line(writer, p) for f in notes for p in f.iter() if name(p) == "p")
    if lines := [line for line in words if line]:
        writer.draft.line("ノート: " + "\n".join(lines))
    wrote = writer.draft.position > before + 1
    writer.draft.blank()
    return wrote


# --- tables and sheets ------------------------------------------------------------


def _sheet(writer: _Writer, table: Any) -> None:
    if value(table, "style-name") in writer.styles.hidden:
        writer.draft.problems.append(
            f"シート「{value(table, 'name')}」は非表示です (中身は読みました)"
        )
    rows = list(_rows(writer, table))
    write_rows(writer.draft, value(table, "name") or "", rows, dict(_spans(table)))


def _rows(writer: _Writer, table: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with something in them, and their numbers from 0; what is repeated without content is not."""
    at = cells = 0
    for row in _each(table, "table-row"):
        found = list(_cells(writer, row))
        times = _times(row, "number-rows-repeated")
        while found and not found[-1]:
            found.pop()
        if found:
            cells += times * len(found)
            if cells > _CELLS:
                raise TooLarge("表が大きすぎます")
            yield from ((at + n, found) for n in range(times))
        at += times


def _spans(table: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Of merged cells their first, with rows and columns."""
    at = 0
    for row in _each(table, "table-row"):
        column = 0
        for cell in row:
            height, width = (
                _times(cell, "number-rows-spanned"),
                _times(cell, "number-columns-spanned"),
            )
            if height * width > 1:
                yield (at, column), (height, width)
            column += _times(cell, "number-columns-repeated")
        at += _times(row, "number-rows-repeated")


def _cells(writer: _Writer, row: Any) -> Iterator[str]:
    empty = 0
    for cell in row:
        if name(cell) not in ("table-cell", "covered-table-cell"):
            continue
        times = _times(cell, "number-columns-repeated")
        text = "" if name(cell).startswith("covered") else _cell(writer, cell)
        if not text:
            empty += times
            continue
        if empty + times > 20_000:
            raise TooLarge("表が大きすぎます")
        yield from [""] * empty
        yield from [text] * times
        empty = 0


def _cell(writer: _Writer, cell: Any) -> str:
    parts = []
    for block in cell:
        if name(block) == "table":
            inner = (" ".join(c for c in row if c) for _, row in _rows(writer, block))
            parts.append(" / ".join(inner))
        elif name(block) in ("p", "h"):
            parts.append(_line(writer, block))
        elif name(block) == "list":
            parts += [_line(writer, p) for p in block.iter() if name(p) == "p"]
    comments = (c for note in children(cell, "annotation") for c in _comments(writer, note))
    return one_line(" ".join(p for p in parts if p) + "".join(comments))


def _each(table: Any, tag: str) -> Iterator[Any]:
    """Rows, also those of headers and groups."""
    for part in table:
        if name(part) == tag:
            yield part
        elif name(part) in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _each(part, tag)


def _times(element: Any, attribute: str) -> int:
    times = whole(element, attribute, 1)
    return times if 0 < times < 10_000_000 else 1


# --- words ------------------------------------------------------------------------


def _line(writer: _Writer, element: Any) -> str:
    """What a paragraph shows, and the comments on it."""
    words = "".join(_words(writer, element)).strip()
    return words + "".join(_comments(writer, element))


def _words(writer: _Writer, element: Any, depth: int = 0) -> Iterator[str]:
    """The text of a paragraph as it is shown."""
    style = value(element, "style-name")
    if style in writer.styles.hidden or depth > 60:
        return
    nobody_sees = style in writer.styles.tiny or (
        style in writer.styles.white and not any(map(_may_have_ground, element.iterancestors()))
    )
    if nobody_sees and len("".join("".join(element.itertext()).split())) >= UNSEEN_CHARS:
        writer.unseen = True
    yield element.text or ""
    for part in element:
        match name(part):
            case "s":
                yield " " * min(whole(part, "c", 1), _SPACES)
            case "tab":
                yield "\t"
            case "line-break":
                yield "\n"
            case "note":
                yield _note(writer, part)
            case "frame" | "custom-shape":
                words = [_line(writer, p) for p in part.iter() if name(p) in ("p", "h")]
                yield "\n" + "\n".join(w for w in words if w) + "\n" if any(words) else ""
            case tag if tag and tag not in _SKIP:
                yield from _words(writer, part, depth + 1)
        yield part.tail or ""


def _may_have_ground(element: Any) -> bool:
    """A cell or a shape, on whose colour white letters may stand."""
    return name(element) in ("table-cell", "frame", "custom-shape", "page")


def _note(writer: _Writer, note: Any) -> str:
    body = child(note, "note-body")
    cited = child(note, "note-citation")
    mark = f"（注{one_line(cited.text or '') if cited is not None else ''}）"
    if body is not None:
        lines = (_line(writer, p) for p in body.iter() if name(p) == "p")
        writer.notes.append(mark + " ".join(line for line in lines if line))
    return mark


def _comments(writer: _Writer, element: Any) -> Iterator[str]:
    for note in element.iter():
        if name(note) == "annotation":
            lines = (_line(writer, p) for p in note.iter() if name(p) == "p")
            yield f"（コメント: {one_line(' '.join(lines))}）"


# --- styles and properties --------------------------------------------------------


def _read_styles(styles: _Styles, root: Any) -> None:
    for element in root.iter():
        match name(element):
            case "style":
                _style(styles, element)
            case "list-style":
                styles.lists[value(element, "name") or ""] = dict(_levels(element))
            case "outline-style":
                styles.outline = dict(_levels(element))


def _style(styles: _Styles, style: Any) -> None:
    known = value(style, "name") or ""
    based = value(style, "parent-style-name") or ""
    if known in ("Title", "表題") or based == "Title" or based in styles.titles:
        styles.titles.add(known)
    for part in style:
        if name(part) == "table-properties" and value(part, "display") == "false":
            styles.hidden.add(known)
        if name(part) == "text-properties":
            size = _SIZE.match(value(part, "font-size") or "")
            white = (value(part, "color") or "").lower() == "#ffffff"
            ground = value(part, "background-color") or "transparent"
            if value(part, "display") == "none":
                styles.hidden.add(known)
            if size and float(size[1]) <= _TINY_PT:
                styles.tiny.add(known)
            if white and ground == "transparent":
                styles.white.add(known)


def _levels(style: Any) -> Iterator[tuple[int, _Level]]:
    for level in style:
        number = whole(level, "level")
        match name(level):
            case "list-level-style-bullet":
                yield number, _Level(before="・")
            case "list-level-style-number" | "outline-level-style":
                yield (
                    number,
                    _Level(
                        value(level, "num-format") or "",
                        value(level, "num-prefix") or "",
                        value(level, "num-suffix") or "",
                        whole(level, "display-levels", 1),
                        whole(level, "start-value", 1),
                    ),
                )


def _said(package: Package) -> dict[str, str]:
    """What its properties say, by name; of several the first."""
    said: dict[str, str] = {}
    if package.has("meta.xml"):
        for element in package.xml("meta.xml").iter():
            said.setdefault(name(element), str(element.text or ""))
    return said


def _edges(package: Package) -> Iterator[str]:
    """The lines of page headers and footers."""
    if package.has("styles.xml"):
        for edge in package.xml("styles.xml").iter():
            if name(edge) in ("header", "footer"):
                yield from ("".join(p.itertext()) for p in edge.iter() if name(p) == "p")
