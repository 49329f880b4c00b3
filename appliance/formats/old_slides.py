"""PowerPoint 97 to 2003 (.ppt): slides in their order, with titles, text and speaker's notes.

After [MS-PPT]: a stream of records inside records. Each save adds to its end, so the last edit says
where every slide lies now. Macros are never run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from appliance.errors import PasswordNeeded, Unreadable
from appliance.formats.compound import Compound, longs, shorts
from appliance.formats.draft import Draft, one_line, without_text
from appliance.formats.package import MACROS
from appliance.types import Document

_STREAM = "PowerPoint Document"
_LOCKED = 0xF3D1C4DF  # of "Current User": the file is encrypted
_EDIT, _PLACES, _LIST, _PERSIST, _NOTES = 0x0FF5, 0x1772, 0x0FF0, 0x03F3, 0x03F1
_KIND, _WIDE, _NARROW, _OUTLINE, _VBA = 0x0F9F, 0x0FA0, 0x0FA8, 0x0F9E, 0x03FF
_CONTAINER = 0xF
_TITLES = (0, 6)  # kinds of text: a title, and one in the middle
_EDITS = 10_000  # that are gone back through
_DEPTH = 30
_FIELDS = dict.fromkeys((0x0D, 0x0B), "\n")  # ends of paragraphs, and of lines in them


@dataclass
class _Text:
    kind: int
    said: str = ""


@dataclass
class _Slide:
    place: int  # of its record
    known: int  # its number inside the file
    outline: list[_Text] = field(default_factory=list)


Record = tuple[int, int, int, int, int]  # type, version, instance, start and end of what is in it


def parse(stream: BinaryIO) -> Document:
    compound = Compound(stream)
    try:
        return _read(compound)
    except (struct.error, IndexError) as error:
        raise Unreadable(f"PowerPoint の文書として壊れています ({error})") from None


def _read(compound: Compound) -> Document:
    data, user = compound.read(_STREAM), compound.read("Current User")
    if longs(user, 12)[0] == _LOCKED:
        raise PasswordNeeded("パスワードが必要です")
    places, document = _places(data, longs(user, 16)[0])
    draft = Draft()
    if any(r[0] == _VBA for r in _records(data, *_inside(data, document))):
        draft.problems.append(MACROS)
    notes = {
        known: text
        for slide in _slides(data, document, places, 2)
        for known, text in [_note(data, slide)]
        if text
    }
    silent = []
    for number, slide in enumerate(_slides(data, document, places, 0), 1):
        if not _write(draft, data, slide, number, notes.get(slide.known, "")):
            silent.append(number)
    draft.problems += without_text(silent)
    return draft.document(compound.title())


def _records(data: bytes, start: int, end: int) -> Iterator[Record]:
    """Those that lie side by side in [start, end)."""
    while start + 8 <= end:
        (said, kind), (size,) = shorts(data, start, 2), longs(data, start + 4)
        start += 8
        if start + size > end:
            return
        yield kind, said & 0xF, said >> 4, start, start + size
        start += size


def _within(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[Record]:
    for record in _records(data, start, end):
        yield record
        if record[1] == _CONTAINER and depth < _DEPTH:
            yield from _within(data, record[3], record[4], depth + 1)


def _inside(data: bytes, place: int) -> tuple[int, int]:
    return place + 8, place + 8 + longs(data, place + 4)[0]


def _places(data: bytes, edit: int) -> tuple[dict[int, int], int]:
    """Where each kept object lies now, and the document: the last edit that has it counts."""
    places: dict[int, int] = {}
    document = -1
    for _ in range(_EDITS):
        if shorts(data, edit + 2)[0] != _EDIT:
            raise Unreadable("PowerPoint の文書の目次が壊れています")
        before, directory, root = longs(data, edit + 16, 3)
        document = root if document < 0 else document
        if longs(data, edit + 4)[0] >= 32:
            raise PasswordNeeded("パスワードが必要です")
        start, end = _inside(data, directory)
        while start + 4 <= min(end, len(data)):
            (entry,) = longs(data, start)
            first, count = entry & 0xFFFFF, entry >> 20
            for n, place in enumerate(longs(data, start + 4, count)):
                places.setdefault(first + n, place)
            start += 4 + 4 * count
        if not before or before >= edit:
            break
        edit = before
    if document not in places:
        raise Unreadable("PowerPoint の文書の本体が見つかりません")
    return places, places[document]


def _slides(data: bytes, document: int, places: dict[int, int], which: int) -> Iterator[_Slide]:
    """Slides (0) or notes (2), in order, with the texts that the outline has of them."""
    for kind, _, instance, start, end in _records(data, *_inside(data, document)):
        if kind != _LIST or instance != which:
            continue
        slide: _Slide | None = None
        for inner in _records(data, start, end):
            if inner[0] == _PERSIST:
                if slide:
                    yield slide
                reference, _, _, known = longs(data, inner[3], 4)
                place = places.get(reference)
                slide = _Slide(place, known) if place is not None else None
            elif slide:
                _hear(data, inner, slide.outline)
        if slide:
            yield slide


def _hear(data: bytes, record: Record, texts: list[_Text]) -> None:
    kind, _, _, start, end = record
    if kind == _KIND:
        texts.append(_Text(longs(data, start)[0]))
    elif kind in (_WIDE, _NARROW):
        said = data[start:end].decode("utf-16-le" if kind == _WIDE else "latin-1", "replace")
        if not texts:
            texts.append(_Text(4))
        texts[-1].said += said.translate(_FIELDS)


def _texts(data: bytes, slide: _Slide) -> list[_Text]:
    """As they lie on the slide; what the outline has is only pointed at there."""
    texts: list[_Text] = []
    seen: set[int] = set()
    for record in _within(data, *_inside(data, slide.place)):
        if record[0] == _OUTLINE:
            (n,) = longs(data, record[3])
            if n < len(slide.outline) and n not in seen:
                seen.add(n)
                texts.append(slide.outline[n])
        else:
            _hear(data, record, texts)
    return texts + [t for n, t in enumerate(slide.outline) if n not in seen]


def _write(draft: Draft, data: bytes, slide: _Slide, number: int, note: str) -> bool:
    """Whether there is any text on it."""
    draft.mark(f"スライド {number}", "slide", page=number)
    before = draft.position
    texts = [t for t in _texts(data, slide) if t.said.strip("\n* ")]
    for text in sorted(texts, key=lambda t: t.kind not in _TITLES):
        if text.kind in _TITLES:
            draft.heading(one_line(text.said), 1)
        else:
            for line in text.said.split("\n"):
                if line.strip():
                    draft.line(line.strip())
    if note:
        draft.line(f"ノート: {note}")
    wrote = draft.position > before + 1
    draft.blank()
    return wrote


def _note(data: bytes, slide: _Slide) -> tuple[int, str]:
    """The slide it is of, and what it says."""
    start, end = _inside(data, slide.place)
    known = next((longs(data, r[3])[0] for r in _records(data, start, end) if r[0] == _NOTES), 0)
    lines = (t.said.strip() for t in _texts(data, slide) if t.kind in (1, 2))
    return known, "\n".join(line for line in lines if line and line != "*")
