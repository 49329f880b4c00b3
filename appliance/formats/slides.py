"""PowerPoint (.pptx): slides in their order, with titles, body, tables, charts and speaker's notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from appliance.formats import charts
from appliance.formats.draft import UNSEEN_CHARS, Draft, one_line, without_text
from appliance.formats.package import Package, child, children, name, value, whole
from appliance.types import Document

_TINY = 300  # hundredths of a point


def parse(stream: BinaryIO) -> Document:
    package = Package(stream)
    part = package.main()
    related = package.related(part)
    draft = Draft()
    draft.problems += package.problems()
    empty: list[int] = []
    feet: list[str] = []
    order = child(package.xml(part), "sldIdLst")
    seen: set[str] = set()
    for number, entry in enumerate(order if order is not None else (), 1):
        _, target = related.get(_relation(entry), ("", ""))
        if not package.has(target):
            draft.problems.append(f"スライド {number} が見つかりません")
            continue
        if target in seen:  # no program writes a slide twice
            continue
        seen.add(target)
        if not _slide(draft, package, target, number, feet):
            empty.append(number)
    draft.problems += without_text(empty)
    return draft.document(package.title(), package.properties(feet))


def _slide(draft: Draft, package: Package, part: str, number: int, feet: list[str]) -> bool:
    before = draft.position
    draft.mark(f"スライド {number}", "slide", page=number)
    root = package.xml(part)
    tree = child(root, "cSld", "spTree")
    shapes = list(_shapes(tree)) if tree is not None else []
    if value(root, "show") in ("0", "false"):
        draft.problems.append(f"スライド {number} は非表示です (中身は読みました)")
    if any(_aside(shape) or _tiny(shape) for shape in shapes):
        draft.problems.append(
            f"スライド {number} に、枠の外か、読めないほど小さな文字で書かれた文があります"
        )
    title = next((s for s in shapes if _placeholder(s) in ("title", "ctrTitle")), None)
    if title is not None:
        draft.heading(one_line(" ".join(_paragraphs(title))), 1)
    for shape in shapes:
        if _placeholder(shape) == "ftr":
            feet += _paragraphs(shape)
        if shape is title or _placeholder(shape) in ("sldNum", "dt", "ftr"):
            continue
        _shape(draft, shape)
        for chart in (e for e in shape.iter() if name(e) == "chart"):
            _, target = package.related(part).get(_relation(chart), ("", ""))
            if package.has(target):
                charts.write(draft, package, target)
    for kind, target in package.related(part).values():
        if kind == "notesSlide" and package.has(target):
            _notes(draft, package.xml(target))
    wrote = draft.position > before + 1
    draft.blank()
    return wrote


def _shape(draft: Draft, shape: Any) -> None:
    for table in shape.iter():
        if name(table) == "tbl":
            draft.table(
                [
                    [" ".join(_paragraphs(cell)) for cell in children(row, "tc")]
                    for row in children(table, "tr")
                ]
            )
            return
    for text in _paragraphs(shape):
        draft.line(text)


def _notes(draft: Draft, root: Any) -> None:
    tree = child(root, "cSld", "spTree")
    lines = [
        text
        for shape in (_shapes(tree) if tree is not None else ())
        if _placeholder(shape) == "body"
        for text in _paragraphs(shape)
    ]
    if lines:
        draft.line("ノート: " + "\n".join(lines))


def _shapes(tree: Any) -> Iterator[Any]:
    for element in tree:
        if name(element) in ("sp", "graphicFrame", "cxnSp"):
            yield element
        elif name(element) in ("grpSp", "AlternateContent", "Choice"):
            yield from _shapes(element)


def _aside(shape: Any) -> bool:
    """Whether it says something and ends above the slide or left of it."""
    place = next((p for p in shape if name(p) == "spPr"), None)
    box = child(place, "xfrm") if place is not None else None
    at, size = (child(box, tag) if box is not None else None for tag in ("off", "ext"))
    if at is None or size is None:
        return False
    ends = (whole(at, x) + whole(size, w) for x, w in (("x", "cx"), ("y", "cy")))
    return min(ends) < 0 and _long("".join(_paragraphs(shape)))


def _tiny(shape: Any) -> bool:
    for run in shape.iter():
        if name(run) == "r" and (look := child(run, "rPr")) is not None:
            size = whole(look, "sz", 1800)
            if size <= _TINY and _long("".join(t.text or "" for t in children(run, "t"))):
                return True
    return False


def _long(text: str) -> bool:
    return len("".join(text.split())) >= UNSEEN_CHARS


def _placeholder(shape: Any) -> str | None:
    for properties in shape:
        mark = child(properties, "nvPr", "ph") if name(properties).startswith("nv") else None
        if mark is not None:
            return value(mark, "type") or "body"
    return None


def _paragraphs(shape: Any) -> Iterator[str]:
    for paragraph in shape.iter():
        if name(paragraph) != "p":
            continue
        text = "".join(_runs(paragraph)).strip()
        if text:
            yield text


def _runs(paragraph: Any) -> Iterator[str]:
    for element in paragraph:
        if name(element) in ("r", "fld"):
            yield from (t.text or "" for t in children(element, "t"))
        elif name(element) == "br":
            yield "\n"


def _relation(entry: Any) -> str:
    """The relation's id: the `id` with a namespace, not the plain one."""
    return next((v for k, v in entry.attrib.items() if k.endswith("}id")), "")
