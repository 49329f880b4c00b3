"""JSON, XML and notebooks (.ipynb): what they say, each value with the names that lead to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from lxml import etree

from appliance.errors import Unreadable
from appliance.formats import charset, markdown
from appliance.formats.draft import Draft, one_line
from appliance.formats.package import name, xml_parser
from appliance.types import Document

_DEPTH = 60
_VALUES = 500_000
_DIGITS = 4_000
_TITLES = ("title", "name", "subject", "件名", "名称", "タイトル", "題名")


def parse_json(stream: BinaryIO) -> Document:
    """JSON (.json, .jsonl): each value with the names that lead to it."""
    decoded = charset.decode(stream.read())
    draft = Draft(tabular=True)
    draft.problems += decoded.problems
    try:
        found = _values(decoded.text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"JSON として読めません ({error})") from None
    left = [_VALUES]
    for n, one in enumerate(found):
        if len(found) > 1:
            draft.mark(f"{n + 1}件目", "part")
        _write(draft, one, "", 0, left)
        draft.blank()
    if left[0] <= 0:
        draft.problems.append(f"値が多すぎるため、{_VALUES:,} 個より後を読んでいません")
    first = found[0] if len(found) == 1 and isinstance(found[0], dict) else {}
    title = next((first[t] for t in _TITLES if isinstance(first.get(t), str)), None)
    return draft.document(title)


def parse_notebook(stream: BinaryIO) -> Document:
    """Notebooks (.ipynb): text and code in their order, and what was printed; no pictures."""
    decoded = charset.decode(stream.read())
    try:
        cells = json.loads(decoded.text).get("cells", [])
    except (ValueError, RecursionError, AttributeError) as error:
        raise Unreadable(f"ノートブックとして読めません ({error})") from None
    draft = Draft()
    for cell in cells if isinstance(cells, list) else []:
        if not isinstance(cell, dict):
            continue
        source = _joined(cell.get("source"))
        if cell.get("cell_type") == "markdown":
            draft.embed(markdown.from_text(source))
        else:
            for line in [*source.split("\n"), *_printed(cell)]:
                draft.line(line.rstrip())
        draft.blank()
    return draft.document()


def parse_xml(stream: BinaryIO) -> Document:
    """XML: elements after their names, those that hold values alone as a row; attributes are data too."""
    data = stream.read()
    try:
        root = etree.fromstring(data, xml_parser())
    except etree.XMLSyntaxError as error:
        raise Unreadable(f"XML として読めません ({error.msg})") from None
    draft = Draft(tabular=True)
    title, left, record = None, _VALUES, None
    for element in root.iter():
        if not (tag := name(element)) or (record is not None and element.getparent() is record):
            continue
        said = one_line(element.text or "")
        row = " | ".join(filter(None, [said, *_facts(element)]))
        if _is_record(element):
            record = element
            leaves = (
                f"{name(e)}: {' | '.join([one_line(e.text or ''), *_facts(e)])}" for e in element
            )
            row = " | ".join(filter(None, [row, *leaves]))
        if row:
            draft.line(f"{tag}: {row}")
        title = title or (said if tag in _TITLES else None)
        if tail := one_line(element.tail or ""):
            draft.line(tail)
        left -= 1 + len(element)
        if left <= 0:
            draft.problems.append(f"要素が多すぎるため、{_VALUES:,} 個より後を読んでいません")
            break
    return draft.document(title)


def _facts(element: Any) -> Iterator[str]:
    """Its attributes, names without their namespaces."""
    for key, said in element.attrib.items():
        if said.strip():
            yield f"{key.rsplit('}', 1)[-1]}: {one_line(said)}"


def _is_record(element: Any) -> bool:
    """Whether it holds values alone, each in an element of its own: a row."""
    return 1 < len(element) <= 200 and all(
        name(e) and not len(e) and not (e.tail or "").strip() for e in element
    )


def _values(text: str) -> list[Any]:
    try:
        return [json.loads(text, parse_int=_whole)]
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line, parse_int=_whole) for line in lines]


def _whole(digits: str) -> int | str:
    """Python makes no number of thousands of digits."""
    return int(digits) if len(digits) <= _DIGITS else digits


def _write(draft: Draft, value: Any, path: str, depth: int, left: list[int]) -> None:
    if left[0] <= 0:
        return
    if depth > _DEPTH:
        raise Unreadable("入れ子が深すぎます")
    match value:
        case dict():
            flat = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
            if row := " | ".join(_pairs(flat)):
                draft.line(f"{path}: {row}" if path else row)
                left[0] -= len(flat)
            for key, inner in value.items():
                if isinstance(inner, dict | list):
                    _write(draft, inner, f"{path} › {key}" if path else key, depth + 1, left)
        case list() if all(not isinstance(v, dict | list) for v in value):
            if row := "、".join(filter(None, map(_shown, value))):
                draft.line(f"{path}: {row}" if path else row)
                left[0] -= len(value)
        case list():
            for one in value:
                _write(draft, one, path, depth + 1, left)
        case _:
            draft.line(f"{path}: {_shown(value)}" if path else _shown(value))


def _pairs(flat: dict[str, Any]) -> Iterator[str]:
    for key, value in flat.items():
        if shown := _shown(value):
            yield f"{one_line(str(key))}: {shown}"


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return one_line(str(value))


def _joined(source: Any) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source or "")


def _printed(cell: dict[str, Any]) -> Iterator[str]:
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        if not isinstance(output, dict):
            continue
        data = output.get("data")
        plain = data.get("text/plain") if isinstance(data, dict) else None
        text = _joined(output.get("text") or plain)
        yield from text.split("\n") if text else ()
