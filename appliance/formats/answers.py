"""What a parser's process says, believed only as far as it was checked."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any, NamedTuple, get_args, get_type_hints

from appliance.errors import PasswordNeeded, TooLarge, Transient, Unreadable
from appliance.formats.picture import Pixels
from appliance.text import where
from appliance.types import Child, Document, Mark, Page, Properties

CHILDREN = 20_000
ALL = 1 << 40  # beyond the number of any file inside
_KINDS = frozenset(get_args(get_type_hints(Mark)["kind"]))
_STATES, _READ = (frozenset(get_args(get_type_hints(Page)[name])) for name in ("state", "read"))
_PAGES, _EDGES, _OWN_CHARS = 100_000, 20, 20_000
_PATH_CHARS, _DEEP = 2_000, 100
_MORE = 1 << 63
_ERRORS = {"Unreadable": Unreadable, "PasswordNeeded": PasswordNeeded, "TooLarge": TooLarge}
_UNSAFE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), " ")
_UNSAFE |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_ANY_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Reached(NamedTuple):
    """How far a process came: the file inside that was not finished, or would have been the next."""

    number: int
    path: str | None  # None: none had been begun


def messages(answer: bytes | bytearray) -> tuple[list[bytes], bytes | None]:
    """All but the last, and the last; None where there is none: its process did not come so far."""
    found: list[bytes] = []
    at = 0
    while at + 8 <= len(answer):
        head = int.from_bytes(answer[at : at + 8], "big")
        start, end = at + 8, at + 8 + (head & ~_MORE)
        if end > len(answer):
            break
        if not head & _MORE:
            return found, bytes(answer[start:end]) if end == len(answer) else None
        found.append(bytes(answer[start:end]))
        at = end
    return found, None


def inside(said: Sequence[bytes], start: int, children: list[Child]) -> Reached:
    """Adds the files inside, of which the process was to begin at `start`. Raises Unreadable."""
    at = Reached(start, None)
    with _believing():
        for message in said:
            row = json.loads(message)
            if "number" in row:
                at = Reached(_whole(row["number"]), _path(row["path"]))
                if not start <= at.number < ALL:
                    raise ValueError("not one it was asked for")
                continue
            at = Reached(at.number + 1, None)
            children += map(_child, row["children"])
    return at


def file(answer: bytes) -> tuple[Document, str]:
    """The document and its media type. Raises Unreadable and its kin, Transient."""
    with _believing():
        reply = _reply(answer)
        return _document(reply), _text(reply["media_type"])[:100]


def pixels(answer: bytes) -> Pixels:
    """Raises what `file` raises."""
    with _believing("ページの画像が正しくありません"):
        reply = _reply(answer)
        width, height = reply["width"], reply["height"]
        found = Pixels(width, height, base64.b64decode(reply["rgb"], validate=True))
        if type(width) is not int or type(height) is not int or not found.fits():
            raise ValueError("not pixels")
        return found


def cut(said: Sequence[bytes], wanted: Collection[tuple[int, ...]]) -> dict[tuple[int, ...], bytes]:
    """Those that were wanted. Raises Unreadable."""
    found = {}
    with _believing():
        for message in said:
            row = json.loads(message)
            if (at := _at(row["at"])) in wanted:
                found[at] = base64.b64decode(row["bytes"], validate=True)
    return found


def told_apart(children: Sequence[Child]) -> tuple[Child, ...]:
    """Each under a path of its own: of two with the same, the later gets a number."""
    taken, seen = set[str](), Counter[str]()
    told = []
    for child in children:
        path = child.path
        while path in taken:
            seen[child.path] += 1
            path = f"{child.path} ({seen[child.path] + 1})"
        taken.add(path)
        told.append(replace(child, path=path))
    return tuple(told)


@contextmanager
def _believing(wrong: str = "解析結果が正しくありません") -> Iterator[None]:
    """Whatever does not fit the type is the file's fault."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        raise Unreadable(wrong) from None


def _reply(answer: bytes) -> dict[str, Any]:
    """Raises the error it tells of."""
    reply: dict[str, Any] = json.loads(answer)
    if "error" in reply:
        raise _ERRORS[reply["error"]](_clean(str(reply["reason"]))[:500])
    if "unconfined" in reply:
        raise Transient(f"the parser was not confined: {reply['unconfined']}")
    return reply


def _document(row: Any) -> Document:
    text = _clean(_text(row["text"]))
    title = row["title"] and _clean(_text(row["title"]))[:300]
    problems = tuple(_clean(_text(p))[:500] for p in row["problems"][:100])
    marks = tuple(_mark(m, len(text)) for m in row["marks"])
    if any(a.start > b.start for a, b in pairwise(marks)):
        raise ValueError("marks out of order")
    pages = tuple(_page(page) for page in row["pages"][:_PAGES])
    own = _properties(row["properties"])
    runs = tuple(where.sound(row["runs"], len(text)))
    said = tuple((_whole(n), _clean(_text(t))[:_OWN_CHARS]) for n, t in row["own"][:_PAGES])
    return Document(text, marks, title or None, problems, pages, own, (), runs, said)


def _child(row: Any) -> Child:
    problem, document, size = row["problem"], row["document"], row["size_bytes"]
    if (problem is None) == (document is None):
        raise ValueError("neither a document nor a problem, or both")
    return Child(
        _path(row["path"]),
        None if document is None else _document(document),
        None if problem is None else _clean(_text(problem))[:500] or "?",
        row["media_type"] and _text(row["media_type"])[:100],
        None if size is None else _whole(size),
        _moment(row["modified_at"]),
        _at(row["at"]),
        row["digest"] and _text(row["digest"])[:64],
    )


def _mark(row: Any, length: int) -> Mark:
    start, label, kind, page, level = row
    whole = type(start) is int and type(level) is int and (page is None or type(page) is int)
    if not whole or not 0 <= start <= length or kind not in _KINDS:
        raise ValueError("not a mark")
    return Mark(start, _clean(_text(label))[:200], kind, page, None, max(0, min(level, 99)))


def _properties(row: Any) -> Properties:
    author, created, edges = row
    return Properties(
        author and (_clean(_text(author))[:100] or None),
        created and date.fromisoformat(_text(created)),
        tuple(_clean(_text(line))[:200] for line in edges[:_EDGES]),
    )


def _page(row: Any) -> Page:
    number, state, sure, read = row
    whole = type(number) is int and number >= 1 and type(sure) in (int, float) and 0 <= sure <= 1
    if not whole or state not in _STATES or read not in _READ:
        raise ValueError("not a page")
    return Page(number, state, float(sure), read)


def _path(value: Any) -> str:
    return _clean(_text(value)).strip()[:_PATH_CHARS] or "名前のないファイル"


def _at(value: Any) -> tuple[int, ...]:
    return tuple(_whole(number) for number in value[:_DEEP])


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    at = datetime.fromisoformat(_text(value))
    return at.astimezone(UTC) if at.tzinfo and 1 < at.year < 9999 else None


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError("not a number of something")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value


def _clean(text: str) -> str:
    """Same length, without what no database or terminal should be given."""
    return text.translate(_UNSAFE) if _ANY_UNSAFE.search(text) else text
