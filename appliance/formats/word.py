"""Word (.docx, .docm): the body in order, with the numbers Word would have shown.

Deleted and hidden text is left out, page headers and footers are no part of the text, comments
stand behind their paragraph, notes come last. White or tiny text is read, and noted: nobody sees it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from appliance.formats import numerals
from appliance.formats.draft import UNSEEN, UNSEEN_CHARS, Draft, one_line
from appliance.formats.package import Package, child, children, name, value, whole
from appliance.types import Document

_NOTES = {"footnoteReference": "注", "endnoteReference": "文末注"}
_TINY = 6  # half points
_SKIP = {"Fallback", "del", "moveFrom", "rt", "instrText", "delText", "pPr", "rPr", "sectPr"}
_BLOCKS = {"sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"}


@dataclass
class _Level:
    start: int = 1
    form: str = "decimal"
    text: str = "%1."


@dataclass
class _Style:
    level: int = 0  # of a heading
    title: bool = False
    number: str | None = None
    depth: int = 0


@dataclass
class _Numbers:
    """Counters of every list, as far as the document has been read."""

    levels: dict[str, dict[int, _Level]] = field(default_factory=dict)
    counts: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    shared: dict[str, str] = field(default_factory=dict)  # list -> the one whose counters it uses

    def next(self, number: str, depth: int) -> str:
        levels = self.levels.get(number)
        if not levels or depth not in levels:
            return ""
        counts = self.counts[self.shared.get(number, number)]
        for deeper in [d for d in counts if d > depth]:
            del counts[deeper]
        counts[depth] = counts.get(depth, levels[depth].start - 1) + 1
        if levels[depth].form == "bullet":
            return "・"
        if levels[depth].form == "none":
            return ""
        text = levels[depth].text
        for d in range(9):
            if f"%{d + 1}" in text:
                level = levels.get(d, _Level())
                text = text.replace(
                    f"%{d + 1}", numerals.written(counts.get(d, level.start), level.form)
                )
        return text.strip()


def parse(stream: BinaryIO) -> Document:
    package = Package(stream)
    part = package.main()
    related = package.related(part)
    parts = {kind: target for kind, target in related.values() if package.has(target)}
    styles = _styles(package.xml(parts["styles"])) if "styles" in parts else {}
    numbers = _numbers(package.xml(parts["numbering"])) if "numbering" in parts else _Numbers()
    said = _comments(package.xml(parts["comments"])) if "comments" in parts else {}
    draft = Draft()
    draft.problems += package.problems()
    title = package.title()
    body = child(package.xml(part), "body")
    notes = {k: package.xml(parts[f"{k}s"]) for k in ("footnote", "endnote") if f"{k}s" in parts}
    for kind, root in notes.items():
        _renumber(body, root, kind)
    for block in _blocks(body) if body is not None else ():
        if name(block) == "tbl":
            draft.table(list(_rows(block, said)))
            draft.blank()
            continue
        text, style = _paragraph(block, styles, numbers)
        text += _said(block, said)
        if not text.strip():
            draft.blank()
        elif style.title:
            title = title or text
            draft.line(text)
        elif style.level:
            draft.heading(text, style.level)
        else:
            draft.line(text)
    if body is not None and any(_unseen(run) for run in body.iter() if name(run) == "r"):
        draft.problems.append(UNSEEN)
    for kind, root in notes.items():
        _notes(draft, root, kind)
    edges = [target for kind, target in related.values() if kind in ("header", "footer")]
    return draft.document(title, package.properties(_edges(package, edges)))


def _edges(package: Package, parts: list[str]) -> Iterator[str]:
    """The lines of page headers and footers: where a 社外秘 stands."""
    for part in filter(package.has, parts):
        for paragraph in (e for e in package.xml(part).iter() if name(e) == "p"):
            yield from "".join(_runs(paragraph)).splitlines()


def _blocks(container: Any) -> Iterator[Any]:
    for element in container:
        if name(element) in ("p", "tbl"):
            yield element
        elif name(element) in _BLOCKS:
            yield from _blocks(element)


def _paragraph(paragraph: Any, styles: dict[str, _Style], numbers: _Numbers) -> tuple[str, _Style]:
    text = "".join(_runs(paragraph)).strip("\n")
    properties = child(paragraph, "pPr")
    style = _Style()
    if properties is not None:
        chosen = child(properties, "pStyle")
        style = styles.get(value(chosen) or "", style) if chosen is not None else style
        own = child(properties, "outlineLvl")
        if own is not None and (value(own) or "9").isdecimal() and whole(own, otherwise=9) < 9:
            style = _Style(whole(own) + 1, False, style.number, style.depth)
        number, depth = _numbering(properties, style)
        if number and number != "0" and text.strip():
            text = f"{numbers.next(number, depth)} {text}".strip()
    return text, style


def _numbering(properties: Any, style: _Style) -> tuple[str | None, int]:
    numbering = child(properties, "numPr")
    if numbering is None:
        return style.number, style.depth
    number, depth = child(numbering, "numId"), child(numbering, "ilvl")
    return (
        value(number) if number is not None else style.number,
        whole(depth) if depth is not None else style.depth,
    )


def _runs(element: Any) -> Iterator[str]:
    """The text of a paragraph as it is shown."""
    for part in element:
        tag = name(part)
        if tag in _SKIP:
            continue
        if tag == "t":
            yield part.text or ""
        elif tag == "r" and _hidden(part):
            continue
        elif tag in ("tab", "ptab"):
            yield "\t"
        elif tag in ("br", "cr"):
            yield "\n"
        elif tag == "noBreakHyphen":
            yield "-"
        elif tag in _NOTES:
            yield f"（{_NOTES[tag]}{value(part, 'id')}）"
        elif tag == "txbxContent":
            yield "\n" + "\n".join("".join(_runs(p)) for p in part.iter() if name(p) == "p") + "\n"
        else:
            yield from _runs(part)


def _hidden(run: Any) -> bool:
    vanish = child(run, "rPr", "vanish")
    return vanish is not None and value(vanish) not in ("0", "false")


def _unseen(run: Any) -> bool:
    """White on nothing, or too small to read. What a style says of it is not looked up."""
    text = "".join((t.text or "") for t in children(run, "t"))
    if len("".join(text.split())) < UNSEEN_CHARS or _hidden(run):
        return False
    size, colour = child(run, "rPr", "sz"), child(run, "rPr", "color")
    if size is not None and (value(size) or "").isdecimal() and whole(size) <= _TINY:
        return True
    white = colour is not None and (value(colour) or "").upper() == "FFFFFF"
    return white and not any(map(_shaded, (run, *run.iterancestors())))


def _shaded(element: Any) -> bool:
    """A run, paragraph, cell or table with a ground of its own; or all in a drawing, which may."""
    if name(element) == "txbxContent":
        return True
    for properties in (p for p in element if name(p) in ("rPr", "pPr", "tcPr", "trPr", "tblPr")):
        shade = child(properties, "shd")
        if shade is not None and (value(shade, "fill") or "auto").upper() not in ("AUTO", "FFFFFF"):
            return True
        if child(properties, "highlight") is not None or child(properties, "tblStyle") is not None:
            return True
    return False


def _rows(table: Any, said: dict[str, str]) -> Iterator[list[str]]:
    for row in _within(table, "tr"):
        cells = []
        for cell in _within(row, "tc"):
            merged = child(cell, "tcPr", "vMerge")
            follows = merged is not None and value(merged) != "restart"
            cells.append("" if follows else " ".join(_cell(cell)) + _said(cell, said))
        yield cells


def _within(element: Any, tag: str) -> Iterator[Any]:
    for part in element:
        if name(part) == tag:
            yield part
        elif name(part) in _BLOCKS:
            yield from _within(part, tag)


def _cell(cell: Any) -> Iterator[str]:
    for block in _blocks(cell):
        if name(block) == "p":
            yield "".join(_runs(block)).strip()
        else:
            yield " / ".join(" ".join(row) for row in _rows(block, {}))


def _renumber(body: Any, root: Any, kind: str) -> None:
    """Notes count by their place; in the file they have numbers that nobody sees."""
    shown: dict[str, str] = {}
    references = body.iter() if body is not None else ()
    for element in (e for e in references if name(e) == f"{kind}Reference"):
        known = value(element, "id") or ""
        _set_id(element, shown.setdefault(known, str(len(shown) + 1)))
    for note in children(root, kind):
        _set_id(note, shown.get(value(note, "id") or "", ""))


def _set_id(element: Any, said: str) -> None:
    for key in element.attrib:
        if key.rsplit("}", 1)[-1] == "id":
            element.set(key, said)


def _notes(draft: Draft, root: Any, kind: str) -> None:
    draft.blank()
    for note in children(root, kind):
        text = " ".join("".join(_runs(p)).strip() for p in children(note, "p"))
        if value(note, "id") and text.strip():  # what nobody refers to draws a line, or is lost
            draft.line(f"（{_NOTES[f'{kind}Reference']}{value(note, 'id')}）{text.strip()}")


def _comments(root: Any) -> dict[str, str]:
    """By their ids."""
    return {
        value(note, "id") or "": one_line(" ".join("".join(_runs(p)) for p in children(note, "p")))
        for note in children(root, "comment")
    }


def _said(block: Any, comments: dict[str, str]) -> str:
    """The comments on a paragraph or a cell."""
    if not comments:
        return ""
    ids = (value(e, "id") or "" for e in block.iter() if name(e) == "commentReference")
    return "".join(f"（コメント: {comments[i]}）" for i in ids if comments.get(i))


def _styles(root: Any) -> dict[str, _Style]:
    """Heading levels and numbering by style id, what a style is based on included."""
    raw = {value(s, "styleId") or "": s for s in children(root, "style")}
    return {key: _style(raw, key, 0) for key in raw}


def _style(raw: dict[str, Any], key: str, depth: int) -> _Style:
    if key not in raw or depth > 20:
        return _Style()
    element = raw[key]
    based = child(element, "basedOn")
    style = _style(raw, value(based) or "", depth + 1) if based is not None else _Style()
    label = child(element, "name")
    words = ((value(label) or "") if label is not None else "").lower()
    title = words in ("title", "表題")
    level = style.level
    for prefix in ("heading ", "見出し "):
        if words.startswith(prefix) and words[len(prefix) :].strip().isdecimal():
            level = min(9, int(words[len(prefix) :]))
    outline = child(element, "pPr", "outlineLvl")
    if outline is not None and (value(outline) or "").isdecimal():
        level = whole(outline) + 1 if whole(outline, otherwise=9) < 9 else 0
    number, ilvl = style.number, style.depth
    properties = child(element, "pPr")
    if properties is not None:
        number, ilvl = _numbering(properties, style)
    return _Style(level, title, number, ilvl)


def _numbers(root: Any) -> _Numbers:
    abstract: dict[str, dict[int, _Level]] = {}
    for kind in children(root, "abstractNum"):
        levels = abstract.setdefault(value(kind, "abstractNumId") or "", {})
        for level in children(kind, "lvl"):
            levels[whole(level, "ilvl")] = _level(level)
    numbers = _Numbers()
    for number in children(root, "num"):
        key, base = value(number, "numId") or "", child(number, "abstractNumId")
        origin = (value(base) or "") if base is not None else ""
        levels = dict(abstract.get(origin, {}))
        restarts = False
        for change in children(number, "lvlOverride"):
            depth = whole(change, "ilvl")
            own, start = child(change, "lvl"), child(change, "startOverride")
            if own is not None:
                levels[depth] = _level(own)
            if start is not None:
                restarts = True
                before = levels.get(depth, _Level())
                levels[depth] = _Level(whole(start, otherwise=1), before.form, before.text)
        numbers.levels[key] = levels
        numbers.shared[key] = key if restarts else f"abstract {origin}"
    return numbers


def _level(level: Any) -> _Level:
    start, form, text = child(level, "start"), child(level, "numFmt"), child(level, "lvlText")
    return _Level(
        whole(start, otherwise=1) if start is not None else 1,
        (value(form) or "decimal") if form is not None else "decimal",
        (value(text) or "") if text is not None else "",
    )
