"""RTF: text, tables and the numbers of lists as they are written in it, in any Japanese code page.

Of each group the words at its front say what it is for (Microsoft, Rich Text Format 1.9.1); what is
for the program alone is skipped. Hidden and deleted text is left out, footnotes come last.
"""

from __future__ import annotations

import codecs
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from appliance.errors import TooLarge, Unreadable
from appliance.formats import charset
from appliance.formats.draft import UNSEEN, UNSEEN_CHARS, Draft, one_line
from appliance.types import Document

_TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?[0-9]{1,10})?[ ]?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
_GROUPS = 500  # nested
# how Word and LibreOffice write ruby: the reading above, then the word
_RUBY = re.compile(r"\s*EQ\b.*\\o\\a[a-z]\(.*,([^,()]{1,60})\)\s*", re.DOTALL)
_SKIPPED_WORDS = """
fonttbl colortbl stylesheet listtable listoverridetable revtbl rsidtbl generator pict object themedata
colorschememapping latentstyles datastore xmlnstbl header headerl headerr headerf footer footerl
footerr footerf filetbl mmathPr bkmkstart bkmkend nonshppict author operator keywords category manager
company comment doccomm creatim revtim printim buptim pgdsctbl userprops docvar falt panose objdata
objclass atrfstart atrfend atnref pnseclvl sp upr
"""
_SKIPPED = frozenset(_SKIPPED_WORDS.split())
_READ = frozenset(("shptxt", "shpinst", "footnote", "annotation", "title", "ud", "fldinst"))
_BREAKS = frozenset(("par", "sect", "page", "column"))
_SIGNS = {
    "tab": "\t", "line": "\n", "emdash": "—", "endash": "–", "bullet": "・", "lquote": "‘",
    "rquote": "’", "ldblquote": "“", "rdblquote": "”", "emspace": "　", "enspace": " ",
}  # fmt: skip
_CHARSETS = {128: "cp932", 129: "cp949", 134: "gbk", 136: "cp950", 204: "cp1251", 0: "cp1252"}
_BULLETS = frozenset("•·●○■◆▪o\uf0b7\uf0a7\uf0d8")
_TINY = 6  # half points


@dataclass
class _State:
    """What a group inherits and gives back."""

    skipped: bool = False
    hidden: bool = False
    font: int = -1
    after_unicode: int = 1  # signs that stand in for one of \\u
    level: int = 0  # of a heading
    white: bool = False
    tiny: bool = False
    into: str = "body"


@dataclass
class _Reader:
    draft: Draft = field(default_factory=Draft)
    state: _State = field(default_factory=_State)
    above: list[_State] = field(default_factory=list)
    encoding: str = "cp1252"
    fonts: dict[int, str] = field(default_factory=dict)
    levels: dict[int, int] = field(default_factory=dict)  # of a style
    colours: list[bool] = field(default_factory=lambda: [False])  # white?
    waiting: bytearray = field(default_factory=bytearray)
    line: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)  # lines of the cell so far
    in_table: bool = False
    rows: list[list[str]] = field(default_factory=list)
    asides: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    comments: list[str] = field(default_factory=list)  # on the line
    skip: int = 0  # signs after \\u that are still to come
    unseen: bool = False


def parse(stream: BinaryIO) -> Document:
    data = stream.read()
    if not data.lstrip().startswith(b"{\\rtf"):
        raise Unreadable("RTF として読めません")
    reader = _Reader()
    _tables(reader, data)
    first = False  # right after a brace: the word says what the group is for
    starred = False
    at = 0
    while at < len(data):
        token = _TOKEN.match(data, at)
        at = token.end() if token else at + 1
        if not token:
            continue
        word, number, byte, sign, brace, text = token.groups()
        if brace == b"{":
            _flush(reader)
            reader.above.append(replace(reader.state))
            if len(reader.above) > _GROUPS:
                raise TooLarge("RTF の入れ子が深すぎます")
            first, starred = True, False
            continue
        if brace == b"}":
            _flush(reader)
            _close(reader)
        elif sign == b"*":
            starred = True
            continue
        elif word == b"bin":  # so many bytes of something follow
            at += max(0, int(number or 0))
        elif word:
            _word(reader, word.decode(), number, opens=first, starred=starred)
        elif byte:
            _byte(reader, int(byte, 16))
        elif sign:
            _sign(reader, sign)
        elif text:
            _text(reader, text)
        first = starred = False
    _flush(reader)
    _paragraph(reader)
    _end_table(reader)
    return _document(reader)


# --- what the tables at the front say ---------------------------------------------

_FONT = re.compile(rb"\\f([0-9]{1,5})(?:\\[a-z]+-?[0-9]*|\{[^{}]*\}){0,40}?\\fcharset([0-9]{1,3})")
_STYLE = re.compile(
    rb"\\s([0-9]{1,5})\b(?:[^{};]|\{[^{}]*\}){0,600}?(?:\\outlinelevel([0-8])\b|(?:heading|Heading) ([1-9]);)"
)
_COLOUR = re.compile(rb"\\red([0-9]{1,3})\\green([0-9]{1,3})\\blue([0-9]{1,3})")
_BRACE = re.compile(rb"\\.|[{}]", re.DOTALL)
_CODEPAGE = re.compile(rb"\\ansicpg([0-9]{1,5})")


def _tables(reader: _Reader, data: bytes) -> None:
    page = _CODEPAGE.search(data, 0, 4096)
    if page:
        reader.encoding = charset.known(f"cp{int(page[1])}", reader.encoding)
    for found in _FONT.finditer(_group(data, b"{\\fonttbl")):
        reader.fonts[int(found[1])] = _CHARSETS.get(int(found[2]), "")
    for style in _STYLE.finditer(_group(data, b"{\\stylesheet")):
        level = int(style[2]) + 1 if style[2] else int(style[3] or 0)
        if level:
            reader.levels[int(style[1])] = level
    start = data.find(b"{\\colortbl")
    table = data[start : data.find(b"}", start)] if start >= 0 else b""
    entries = table.partition(b"colortbl")[2].split(b";")[:-1]
    reader.colours = [_is_white(entry) for entry in entries] or [False]


def _group(data: bytes, opening: bytes) -> bytes:
    start = data.find(opening)
    depth, at = 0, start
    while 0 <= at < len(data):
        found = _BRACE.search(data, at)
        if not found:
            break
        depth += {b"{": 1, b"}": -1}.get(found[0], 0)
        at = found.end()
        if not depth:
            return data[start:at]
    return b""


def _is_white(entry: bytes) -> bool:
    found = _COLOUR.search(entry)
    return bool(found) and found is not None and all(int(part) > 250 for part in found.groups())


# --- tokens -----------------------------------------------------------------------


def _word(reader: _Reader, word: str, number: bytes | None, *, opens: bool, starred: bool) -> None:
    state, value = reader.state, int(number) if number is not None else None
    if word == "u" and value is not None:
        _flush(reader)
        _write(reader, _unicode(value))
        reader.skip = state.after_unicode
        return
    _flush(reader)
    if (opens and word in _SKIPPED) or (starred and word not in _READ):
        state.skipped = True
    elif word == "ud":  # what the group around it says in the code page, it says in Unicode
        state.skipped = False
    elif word in _INTO and (opens or starred):
        state.into = _INTO[word]
        if word == "title":
            reader.asides["title"].clear()
        if word == "footnote" and not state.skipped:
            reader.line.append(f"（注{len(_notes(reader)) + 1}）")
            reader.asides["note"].append("\x00")
    elif word in _BREAKS:
        _paragraph(reader)
    elif word in _SIGNS:
        _write(reader, _SIGNS[word])
    elif word in ("cell", "nestcell"):
        _cell(reader)
    elif word in ("row", "nestrow"):
        _row(reader)
    elif change := _CHANGES.get(word):
        change(reader, value)


_INTO = {
    "footnote": "note", "annotation": "comment", "title": "title", "fldinst": "field",
    "listtext": "number", "pntext": "number",
}  # fmt: skip


def _set_plain(reader: _Reader, value: int | None) -> None:
    state = reader.state
    state.hidden = state.white = state.tiny = False


def _set_paragraph(reader: _Reader, value: int | None) -> None:
    reader.state.level = 0
    reader.in_table = False


def _set_in_table(reader: _Reader, value: int | None) -> None:
    reader.in_table = True


def _set_hidden(reader: _Reader, value: int | None) -> None:
    reader.state.hidden = value != 0


def _set_font(reader: _Reader, value: int | None) -> None:
    reader.state.font = value if value is not None else -1


def _set_unicode(reader: _Reader, value: int | None) -> None:
    reader.state.after_unicode = max(0, min(value or 0, 8))


def _set_style(reader: _Reader, value: int | None) -> None:
    reader.state.level = reader.levels.get(value or 0, 0)


def _set_level(reader: _Reader, value: int | None) -> None:
    reader.state.level = value + 1 if value is not None and 0 <= value < 9 else 0


def _set_colour(reader: _Reader, value: int | None) -> None:
    at = value or 0
    reader.state.white = 0 <= at < len(reader.colours) and reader.colours[at]


def _set_size(reader: _Reader, value: int | None) -> None:
    reader.state.tiny = value is not None and 0 < value <= _TINY


_CHANGES: dict[str, Callable[[_Reader, int | None], None]] = {
    "plain": _set_plain,
    "pard": _set_paragraph,
    "intbl": _set_in_table,
    "v": _set_hidden,
    "deleted": _set_hidden,
    "f": _set_font,
    "uc": _set_unicode,
    "s": _set_style,
    "outlinelevel": _set_level,
    "cf": _set_colour,
    "fs": _set_size,
}


def _unicode(value: int) -> str:
    """Above U+7FFF they are written as negative numbers, and halves of a pair one by one."""
    return chr(value & 0xFFFF)


def _byte(reader: _Reader, byte: int) -> None:
    if reader.skip:
        reader.skip -= 1
    else:
        reader.waiting.append(byte)


def _text(reader: _Reader, text: bytes) -> None:
    if reader.skip:
        gone = min(reader.skip, len(text))
        reader.skip -= gone
        text = text[gone:]
    if reader.waiting and text and _half(reader):
        reader.waiting += text[:1]  # the second byte of a letter may be plain
        text = text[1:]
    if reader.waiting or any(b >= 0x80 for b in text):
        reader.waiting += text
    elif text:
        _write(reader, text.decode("ascii"))


def _sign(reader: _Reader, sign: bytes) -> None:
    if reader.waiting and _half(reader):
        reader.waiting += sign  # a backslash, or a brace, as the second byte of a letter
        return
    _flush(reader)
    if reader.skip:
        reader.skip -= 1
        return
    said = {b"~": " ", b"_": "-", b"\\": "\\", b"{": "{", b"}": "}"}.get(sign, "")
    if sign in (b"\n", b"\r"):
        _paragraph(reader)
    elif said:
        _write(reader, said)


def _half(reader: _Reader) -> bool:
    """Whether what waits ends in the first byte of two."""
    encoding = _encoding(reader)
    if encoding not in ("cp932", "cp949", "gbk", "cp950"):
        return False
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    decoder.decode(bytes(reader.waiting))
    return bool(decoder.getstate()[0])


def _encoding(reader: _Reader) -> str:
    return reader.fonts.get(reader.state.font, "") or reader.encoding


def _flush(reader: _Reader) -> None:
    if reader.waiting:
        text = bytes(reader.waiting).decode(_encoding(reader), "replace")
        reader.waiting.clear()
        _write(reader, text)


def _write(reader: _Reader, text: str) -> None:
    state = reader.state
    if state.skipped or state.hidden:
        return
    if state.into != "body":
        reader.asides[state.into].append(text)
        return
    if (state.tiny or (state.white and not reader.in_table)) and len(text.strip()) >= UNSEEN_CHARS:
        reader.unseen = True
    reader.line.append(text)


def _close(reader: _Reader) -> None:
    if not reader.above:
        return
    before = reader.state
    reader.state = reader.above.pop()
    if before.into == reader.state.into or before.skipped or before.into in ("note", "title"):
        return
    said = _whole(reader.asides[before.into])
    reader.asides[before.into].clear()
    if before.into == "comment":
        reader.comments.append(one_line(said))
    elif before.into == "number":
        number = one_line(said)
        reader.line.append("・ " if number in _BULLETS else f"{number} ".lstrip())
    else:
        reader.line.append(ruby(said))


def ruby(code: str) -> str:
    """The word itself, of a field that only draws its reading above it; empty for any other."""
    found = _RUBY.fullmatch(code)
    return found[1] if found else ""


# --- lines and tables -------------------------------------------------------------


def _whole(parts: list[str]) -> str:
    """Halves of pairs that came one by one are joined; what is half for good is replaced."""
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _taken(reader: _Reader) -> str:
    """The line so far, and the comments on it."""
    comments = (f"（コメント: {said}）" for said in reader.comments if said)
    text = _whole(reader.line).strip() + "".join(comments)
    reader.line.clear()
    reader.comments.clear()
    return text


def _paragraph(reader: _Reader) -> None:
    if reader.state.into != "body":
        reader.asides[reader.state.into].append(" ")
        return
    text = _taken(reader)
    if reader.in_table or reader.cells:
        if text:
            reader.cell.append(text)
        return
    _end_table(reader)
    if not text:
        reader.draft.blank()
    elif reader.state.level:
        reader.draft.heading(one_line(text), reader.state.level)
    else:
        reader.draft.line(text)


def _cell(reader: _Reader) -> None:
    text = _taken(reader)
    reader.cells.append(one_line(" ".join([*reader.cell, text])))
    reader.cell.clear()


def _row(reader: _Reader) -> None:
    if any(reader.cells):
        reader.rows.append(list(reader.cells))
    reader.cells.clear()


def _end_table(reader: _Reader) -> None:
    if reader.cells or reader.cell:  # a row that was never ended
        reader.rows.append([*reader.cells, *reader.cell])
        reader.cells.clear()
        reader.cell.clear()
    if reader.rows:
        reader.draft.table(reader.rows)
        reader.draft.blank()
        reader.rows.clear()


def _notes(reader: _Reader) -> list[str]:
    return _whole(reader.asides["note"]).split("\x00")[1:]


def _document(reader: _Reader) -> Document:
    notes = [one_line(note) for note in _notes(reader)]
    if any(notes):
        reader.draft.blank()
        for n, note in enumerate(notes, 1):
            reader.draft.line(f"（注{n}）{note}")
    if reader.unseen:
        reader.draft.problems.append(UNSEEN)
    return reader.draft.document(_whole(reader.asides["title"]).strip() or None)
