"""PDF: page by page through PDFium; running heads go, broken lines become paragraphs again.

Pages whose letters are garbled are left out: words that nobody wrote are worse than none. Comments
and what was filled into forms end their page, attached files end the document.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO

import pypdfium2

from appliance.errors import PasswordNeeded, Unreadable
from appliance.formats import attached, pdf_notes, structure
from appliance.formats.draft import Draft, moved
from appliance.text.garbled import is_garbled
from appliance.types import Document, Mark, Page

_PASSWORD = 4  # FPDF_ERR_PASSWORD
_BOOKMARKS = 5_000
_ATTACHMENTS = 100
_EDGE = 3  # lines at either end of a page that may be a running head
_NOT_TEXT = re.compile("[\ufffe\uffff\ufeff\x02\xad\u200b]")
_RADICALS = {c: unicodedata.normalize("NFKC", chr(c)) for c in range(0x2F00, 0x2FD6)}
_RADICALS |= {
    c: n for c in range(0x2E80, 0x2EF4) if len(n := unicodedata.normalize("NFKC", chr(c))) == 1
}
_CJK = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff9f"
_SPREAD = re.compile(f"(?<![^ ])[{_CJK}](?: [{_CJK}]){{2,}}(?![^ ])")  # 旅 費 規 程
_LEADER = re.compile(r"\s*(?:[.．・…‥]\s?){4,}\s*")
_LISTED = re.compile(r"… ?[0-9]{1,4}$")  # a line of a table of contents
_FOLIO = re.compile(
    r"[-–—―\s]*(?:p\.?|P\.?)?\s*([0-9]{1,4})(?:\s*[/／]\s*[0-9]{1,4})?(?:\s*ページ)?[-–—―\s]*"
)
_STOPS = "。．.！？!?：:；;」』）)】"
_OPENS = re.compile(
    r"^\s*(?:[・●○◆◇■□▼▲※★☆◎→]|[-*•–]\s|[(（][0-9０-９一二三四五六七八九十ア-ンa-zA-Z]{1,3}[)）]|[①-⑳]|"
    r"[0-9０-９]{1,3}[.．、)）\s　]|[一二三四五六七八九十]{1,3}[、.．\s　]|[ア-ン][.．、\s　]|第[0-9０-９一二三四五六七八九十百]+[編章節款条]|"
    r"附\s*則|別\s*表|【|「|[（(][^（）()]{1,30}[）)]\s*$)"
)


def parse(stream: BinaryIO) -> Document:
    try:
        pdf = pypdfium2.PdfDocument(stream.read())
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD or "password" in str(error).lower():
            raise PasswordNeeded("パスワードが必要です") from None
        raise Unreadable(f"PDF が壊れています ({error})") from None
    try:
        pages, notes, problems = _pages(pdf)
        attachments = _attachments(pdf)
        title = _title(pdf)
        pdf_outline = _bookmarks(pdf)
    finally:
        pdf.close()
    garbled = [n for n, lines in enumerate(pages, 1) if is_garbled("\n".join(lines))]
    pages = [[] if n in garbled else lines for n, lines in enumerate(pages, 1)]
    pages = _without_running_heads(pages)
    empty = [n for n, lines in enumerate(pages, 1) if not any(lines) and n not in garbled]
    if len(empty) == len(pages):
        raise Unreadable("テキストがありません (画像のみの PDF です。OCR が必要です)")
    if len(empty) + len(garbled) == len(pages):
        raise Unreadable("文字が化けています (フォントに文字の情報がありません。OCR が必要です)")
    if garbled:
        problems.append(f"p. {_ranges(garbled)} の文字が化けているため読んでいません")
    if empty:
        problems.append(f"p. {_ranges(empty)} にテキストがありません (画像のみ)")
    pages = [
        [*lines, "", *said] if said else lines for lines, said in zip(pages, notes, strict=True)
    ]
    text, starts = _flow(pages)
    marks = [Mark(at, f"p. {n}", "page", n) for n, at in enumerate(starts, 1) if at < len(text)]
    outline = _outline(pdf_outline, text, starts)
    lines = {text.rfind("\n", 0, m.start) + 1 for m in outline}
    marks += [*outline, *structure.sections(text, lines)]
    marks.sort(key=lambda m: m.start)
    text, marks = _with(text, marks, attachments)
    states = tuple(
        Page(n, "garbled", read="none") if n in garbled
        else Page(n, "scanned", read="none") if n in empty
        else Page(n, "fine")
        for n in range(1, len(pages) + 1)
    )  # fmt: skip
    problems += attachments.problems
    return Document(text, tuple(marks), title, tuple(problems), states)


def _with(text: str, marks: list[Mark], attachments: Document) -> tuple[str, list[Mark]]:
    if not attachments.text:
        return text, marks
    at = len(text) + 2
    return f"{text}\n\n{attachments.text}", [*marks, *moved(attachments, at)]


def _attachments(pdf: pypdfium2.PdfDocument) -> Document:
    draft = Draft()
    for n in range(min(pdf.count_attachments(), _ATTACHMENTS)):
        try:
            attachment = pdf.get_attachment(n)
            name, data = attached.file_name(attachment.get_name()), bytes(attachment.get_data())
        except (pypdfium2.PdfiumError, ValueError, UnicodeError) as error:
            draft.problems.append(f"添付 {n + 1} を取り出せません ({error})")
            continue
        attached.embed(draft, name, f"添付: {name}", partial(attached.document, data, name))
    return draft.document()


def _pages(pdf: pypdfium2.PdfDocument) -> tuple[list[list[str]], list[list[str]], list[str]]:
    """The lines of each page, in PDFium's order; what is written upon each; what went wrong."""
    pages: list[list[str]] = []
    notes: list[list[str]] = []
    broken: list[int] = []
    for n in range(len(pdf)):
        try:
            page = pdf[n]
            text_page = page.get_textpage()
            text = text_page.get_text_range()
            said = pdf_notes.lines(page)
            text_page.close()
            page.close()
        except pypdfium2.PdfiumError:
            broken.append(n + 1)
            text, said = "", []
        notes.append(said)
        pages.append([_clean(line) for line in text.replace("\r\n", "\n").split("\n")])
    problems = [f"p. {_ranges(broken)} を読めません (ページが壊れています)"] if broken else []
    return pages, notes, problems


def _clean(line: str) -> str:
    line = _NOT_TEXT.sub("", line).translate(_RADICALS).replace("\r", "")
    line = _LEADER.sub(" … ", line)
    line = _SPREAD.sub(lambda run: run[0].replace(" ", ""), line)
    return line.strip(" \t\xa0")


def _without_running_heads(pages: Sequence[list[str]]) -> list[list[str]]:
    """Lines that stand at the edge of most pages, page numbers aside, are not the text's own."""
    filled = [p for p in pages if any(p)]
    deep = _EDGE if len(filled) > 2 else 1
    seen: Counter[str] = Counter()
    for lines in filled:
        seen.update({_shape(lines[n]) for n in _edges(lines, deep)})
    often = max(2, -(-6 * len(filled) // 10))
    running = {shape for shape, times in seen.items() if times >= often}
    kept: list[list[str]] = []
    for number, lines in enumerate(pages, 1):
        drop = {n for n in _edges(lines, deep) if _shape(lines[n]) in running}
        drop |= {n for n in _edges(lines, 1) if _is_folio(lines[n], number)}
        kept.append([line for n, line in enumerate(lines) if n not in drop])
    return kept


def _edges(lines: Sequence[str], deep: int) -> set[int]:
    """Where the first and the last lines with something in them are."""
    full = [n for n, line in enumerate(lines) if line]
    return {*full[:deep], *full[-deep:]}


def _is_folio(line: str, page: int) -> bool:
    """「- 3 -」 or 「3 / 12」 on page 3; a bare number may be the text's own."""
    found = _FOLIO.fullmatch(line)
    return bool(found and int(found[1]) == page and line.strip() != found[1])


def _shape(line: str) -> str:
    return re.sub(r"[0-9０-９]+", "#", "".join(line.split()))


def _flow(pages: Sequence[list[str]]) -> tuple[str, list[int]]:
    """All lines as paragraphs, and where each page begins."""
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    last, full = "", 0.0

    def add(piece: str) -> None:
        nonlocal length
        parts.append(piece)
        length += len(piece)

    for lines in pages:
        first = True
        page_full = _full_width(lines)
        for line in lines:
            if not line:
                continue
            if parts:
                add(_between(last, line, full))
            if first:
                starts.append(length)
                first = False
            add(line)
            last, full = line, page_full
        if first:
            starts.append(length)
    return "".join(parts), starts


def _between(line: str, following: str, full: float) -> str:
    """Nothing or a space where a paragraph goes on, else a line end."""
    if (
        _width(line) < full
        or line[-1] in _STOPS
        or _LISTED.search(line)
        or _OPENS.match(following)
        or structure.label(line)
        or _looks_like_row(line)
        or _looks_like_row(following)
    ):
        return "\n"
    latin = line[-1].isascii() and following[0].isascii()
    return " " if latin else ""


def _full_width(lines: Sequence[str]) -> float:
    """From this width on a line has been broken by the margin, not by its author."""
    widths = sorted(_width(line) for line in lines if line)
    if not widths:
        return 0.0
    return max(24.0, 0.88 * widths[min(len(widths) - 1, int(len(widths) * 0.95))])


def _width(line: str) -> float:
    return sum(2 if unicodedata.east_asian_width(c) in "WFA" else 1 for c in line)


def _looks_like_row(line: str) -> bool:
    """Two gaps and more between words that need none: cells of a table."""
    if "。" in line or "、" in line:  # a sentence with spaces around its numbers
        return len(re.findall(f"(?<=[{_CJK}]) +(?=[{_CJK}])", line)) >= 2
    return len(re.findall(f"(?<=[{_CJK}0-9,.%]) +(?=[{_CJK}0-9¥])", line)) >= 2


def _title(pdf: pypdfium2.PdfDocument) -> str | None:
    title = str(pdf.get_metadata_dict().get("Title") or "").strip()
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
        words = "".join(_clean(title).split())
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
