"""PDF: columns, tables and vertical text in reading order; running heads go, each page is judged.

Pages whose letters are garbled are left out: words that nobody wrote are worse than none. Letters
that nobody sees are left out too, and noted. Comments and what was filled into forms end their page;
attached files are documents of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

import pypdfium2

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats import (
    attached,
    fonts,
    pdf_growth,
    pdf_layout,
    pdf_lines,
    pdf_maps,
    pdf_notes,
    pdf_page,
    pdf_places,
    pdf_state,
    structure,
)
from appliance.formats.draft import UNSEEN, UNSEEN_CHARS
from appliance.formats.package import properties
from appliance.formats.pdf_layout import Layout
from appliance.formats.pdf_page import Ink
from appliance.formats.pdf_pieces import Line
from appliance.text import readings
from appliance.types import Child, Document, Mark, Page, Properties, Readings, ReadPage, Run

_PASSWORD = 4  # FPDF_ERR_PASSWORD
_BOOKMARKS = 5_000
_ATTACHMENTS = 100
_PAGES = 1_000  # or one for each byte of the file
_HEADS = 5  # pages whose running heads are kept for what they say
_DAY = re.compile(r"^D:(\d{4})(\d\d)(\d\d).*")
_OWN_CHARS = 20_000  # of a page whose text is no text
_STRAY = 20  # letters: a scan with no more has a stamp, and no text


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A page as it was found."""

    lines: list[Line]
    said: list[str]  # written upon it
    ink: Ink
    layout: Layout
    runs: list[list[Run]]  # of each line
    size: tuple[float, float] = (1.0, 1.0)
    broken: bool = False


def parse(stream: BinaryIO, read: Readings | None = None) -> Document:
    # without readings none will come: what is a picture is lost, and said so
    data = stream.read()
    fonts.to_read()
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD or "password" in str(error).lower():
            raise PasswordNeeded("パスワードが必要です") from None
        raise Unreadable(f"PDF が壊れています ({error})") from None
    try:
        if len(pdf) > max(_PAGES, len(data)):  # a page of its own takes more than a byte
            raise TooLarge(f"ページが多すぎます ({len(pdf):,} ページ)")
        pdf_growth.refuse(data)
        lost = pdf_maps.lost(data)
        sheets = [_sheet(pdf, n, lost) for n in range(len(pdf))]
        children: list[Child] = []
        notes: list[str] = []
        attachments = _attach(pdf, children, notes)
        said = _said(pdf)
        title = _title(said)
        pdf_outline = _bookmarks(pdf)
    finally:
        pdf.close()
    lines = pdf_lines.without_running_heads([s.lines for s in sheets])
    states = [
        Page(n, "empty", 0.0, "none")
        if sheet.broken
        else pdf_state.judge(n, sheet.ink, sheet.layout, "\n".join(line.text for line in page))
        for n, (sheet, page) in enumerate(zip(sheets, lines, strict=True), 1)
    ]
    if not attachments and all(sheet.broken for sheet in sheets):
        raise Unreadable("PDF が壊れています (読めるページがありません)")
    pictures = {p.number for p in states if readings.is_picture(p)}
    had = {n: page for n, page in (read or {}).items() if n in pictures}
    found = [_read(had[n]) if n in had else s.lines for n, s in enumerate(sheets, 1)]
    if had:
        states = [replace(p, read="ocr") if p.number in had else p for p in states]
        lines = pdf_lines.without_running_heads(found)
    if not attachments and (read is None or not pictures):
        _refuse_unread(states, lines)
    problems = [*_problems(states, sheets, read), *readings.notes(had), *notes]
    pages = [
        [
            *([] if state.read == "none" else page),
            *([Line(""), *map(Line, s.said)] if s.said else []),
        ]
        for state, page, s in zip(states, lines, sheets, strict=True)
    ]
    text, starts, placed = pdf_lines.flow(pages)
    names = [readings.label(n, had[n]) if n in had else f"p. {n}" for n in range(1, len(pages) + 1)]
    marks = [
        Mark(at, name, "page", n)
        for n, (at, name) in enumerate(zip(starts, names, strict=True), 1)
        if at < len(text)
    ]
    outline = _outline(pdf_outline, text, starts)
    headings = {text.rfind("\n", 0, m.start) + 1 for m in outline}
    marks += [*outline, *structure.sections(text, headings)]
    marks.sort(key=lambda m: m.start)
    own = _properties(said, found, lines)
    runs = _runs(placed, sheets, found, had)
    return Document(
        text,
        tuple(marks),
        title,
        tuple(problems),
        tuple(states),
        own,
        tuple(children),
        tuple(runs),
        tuple(_own(states, sheets)),
    )


def _runs(
    placed: Sequence[tuple[int, Line]],
    sheets: Sequence[_Sheet],
    found: Sequence[Sequence[Line]],
    had: Readings,
) -> Iterator[Run]:
    """Where the lines that became text stand."""
    stands: dict[int, list[Run]] = {}
    for n, (sheet, lines) in enumerate(zip(sheets, found, strict=True), 1):
        runs = pdf_places.of_read(had[n], lines, sheet.size, n) if n in had else sheet.runs
        stands |= {id(line): of for line, of in zip(lines, runs, strict=True)}
    for start, line in placed:
        for run in stands.get(id(line), ()):
            yield Run(start + run.start, start + run.end, *run[2:])


def _own(states: Sequence[Page], sheets: Sequence[_Sheet]) -> Iterator[tuple[int, str]]:
    """What the file says on pages whose text was, or must be, read from their pictures."""
    for state, sheet in zip(states, sheets, strict=True):
        said = "\n".join(line.text for line in sheet.lines).strip()[:_OWN_CHARS]
        if said and state.read != "text":
            yield state.number, said


def _sheet(pdf: pypdfium2.PdfDocument, n: int, lost: Mapping[int, int]) -> _Sheet:
    try:
        page = pdf[n]
        text_page = page.get_textpage()
        sight = pdf_page.look(page)
        sight.lost = lost
        layout = pdf_layout.read(text_page, sight)
        said = pdf_notes.lines(page)
        lines = [_clean(line) for line in layout.lines]
        runs = pdf_places.of(page, text_page, lines, n + 1)
        size = page.get_size()
        text_page.close()
        page.close()
    except pypdfium2.PdfiumError:
        return _Sheet([], [], Ink(0.0, 0.0), Layout(()), [], broken=True)
    return _Sheet(lines, said, sight.ink(), layout, runs, size)


def _clean(line: Line) -> Line:
    text = pdf_lines.clean(line.text)
    return line if text == line.text else replace(line, text=text)


def _read(page: ReadPage) -> list[Line]:
    return [Line(pdf_lines.clean(line.text), row=line.row) for line in page.lines]


def _refuse_unread(states: Sequence[Page], lines: Sequence[Sequence[Line]]) -> None:
    """Raises where no page has text worth the name."""
    found = {state.state for state in states}
    if found & {"fine", "rotated"}:
        return
    kept = (page for state, page in zip(states, lines, strict=True) if state.read == "text")
    letters = sum(c.isalpha() for page in kept for line in page for c in line.text)
    if found <= {"empty"}:
        raise Unreadable("テキストがありません (白紙の PDF です)")
    if found <= {"scanned", "empty"} and letters < _STRAY:
        raise Unreadable("テキストがありません (画像のみの PDF です。OCR が必要です)")
    if letters < _STRAY:
        raise Unreadable("文字が化けています (フォントに文字の情報がありません。OCR が必要です)")


def _problems(
    states: Sequence[Page], sheets: Sequence[_Sheet], read: Readings | None
) -> Iterator[str]:
    """What an administrator should know of the pages. With readings, who waits is known elsewhere."""

    def which(state: str, read: str) -> list[int]:
        return [p.number for p in states if p.state == state and p.read == read]

    if broken := [n for n, sheet in enumerate(sheets, 1) if sheet.broken]:
        yield f"p. {_ranges(broken)} を読めません (ページが壊れています)"
    if read is None and (garbled := which("garbled", "none")):
        yield f"p. {_ranges(garbled)} の文字が化けているため読んでいません"
    if read is None and (pictures := which("scanned", "none")):
        yield f"p. {_ranges(pictures)} にテキストがありません (画像のみ)"
    if read is None and (nearly := which("scanned", "text")):
        yield f"p. {_ranges(nearly)} はほとんど画像です (文字はわずかです)"
    if sum(sheet.layout.unseen for sheet in sheets) >= UNSEEN_CHARS:
        yield UNSEEN


def _attach(pdf: pypdfium2.PdfDocument, children: list[Child], problems: list[str]) -> int:
    """How many files are attached."""
    count = int(pdf.count_attachments())
    for n in range(min(count, _ATTACHMENTS)):
        try:
            attachment = pdf.get_attachment(n)
            name, data = attached.file_name(attachment.get_name()), bytes(attachment.get_data())
        except (pypdfium2.PdfiumError, ValueError, UnicodeError) as error:
            problems.append(f"添付 {n + 1} を取り出せません ({error})")
            continue
        attached.add(children, name or f"添付 {n + 1}", partial(bytes, data))
    if count > _ATTACHMENTS:
        problems.append(f"添付が多すぎるため、{_ATTACHMENTS} 個より後を読んでいません")
    return count


def _said(pdf: pypdfium2.PdfDocument) -> dict[str, str]:
    """What it says of itself; half a letter in one word is no reason to lose the others."""
    said = {}
    for name in ("Title", "Author", "CreationDate"):
        with suppress(UnicodeDecodeError):
            said[name] = str(pdf.get_metadata_value(name) or "")
    return said


def _properties(
    said: Mapping[str, str], found: Sequence[Sequence[Line]], kept: Sequence[Sequence[Line]]
) -> Properties:
    """Who made it and when, and the running heads of its first pages."""
    made = _DAY.sub(r"\1-\2-\3", str(said.get("CreationDate") or ""))
    heads: list[str] = []
    for lines, page in zip(found[:_HEADS], kept, strict=False):
        text = set(map(id, page))
        heads += [line.text for line in lines if id(line) not in text]
    return properties(str(said.get("Author") or ""), made, heads)


def _title(said: Mapping[str, str]) -> str | None:
    title = str(said.get("Title") or "").strip()
    unset = not title or title.lower() in ("untitled", "(anonymous)", "無題")
    return None if unset or title.startswith("Microsoft ") else title[:200]


def _bookmarks(pdf: pypdfium2.PdfDocument) -> list[tuple[str, int, int]]:
    """(title, level, page from 0) of the document's own outline."""
    found: list[tuple[str, int, int]] = []
    try:
        for mark in pdf.get_toc(max_depth=8):
            target = mark.get_dest()
            page = target.get_index() if target else None
            if page is not None and len(found) < _BOOKMARKS:
                found.append((mark.get_title(), mark.level + 1, page))
    except (pypdfium2.PdfiumError, ValueError, UnicodeDecodeError):
        return []
    return found


def _outline(
    bookmarks: Sequence[tuple[str, int, int]], text: str, starts: Sequence[int]
) -> list[Mark]:
    """A section mark where a bookmark's words stand as a line of its page."""
    marks: list[Mark] = []
    at = 0
    for title, level, page in bookmarks:
        words = "".join(pdf_lines.clean(title).split())
        if not words or page >= len(starts):
            continue
        end = starts[page + 1] if page + 1 < len(starts) else len(text)
        for start, line in _lines(text, max(at, starts[page]), end):
            if "".join(line.split()) == words:
                # 章 and 条 say their own depth; outlines often nest one 条 under another
                name, depth = structure.label(line) or (line.strip()[:80], level)
                marks.append(Mark(start, name, level=depth))
                at = start + len(line)
                break
    return marks


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    while start < end:
        stop = text.find("\n", start)
        stop = len(text) if stop < 0 else stop
        yield start, text[start:stop]
        start = stop + 1


def _ranges(numbers: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return "、".join(str(a) if a == b else f"{a}–{b}" for a, b in runs[:50])
