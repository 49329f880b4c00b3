"""Lines of pages to paragraphs: running heads go, what the margin broke is whole again."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from appliance.formats import structure
from appliance.formats.pdf_pieces import Line

_EDGE = 3  # lines at either end of a page that may be a running head
_NOT_TEXT = re.compile("[\ufffe\uffff\ufeff\x02\xad\u200b]")
_RADICALS = {c: unicodedata.normalize("NFKC", chr(c)) for c in range(0x2F00, 0x2FD6)}
_RADICALS |= {
    c: n for c in range(0x2E80, 0x2EF4) if len(n := unicodedata.normalize("NFKC", chr(c))) == 1
}
# as fonts name them for the whole sign; Unicode's own normal form knows two of them only
_WHOLE = "⺟母⺠民⺨犬⺩王⺪疋⺫目⺬示⺭示⺮竹⺯糸⺴网⺶羊⺷羊⺼肉⺽臼⻁虎⻂衣⻄西⻆角⻊足⻌辶⻏邑⻑長⻒長⻖阜⻗雨⻘青⻝食⻞食⻟食⻣骨⻤鬼⻨麦⻩黄⻫斉⻭歯⻯竜⻱亀⻲亀⺍小⺎兀⺒巳⺓幺⺔彑⺗心⺛旡⺜日⺝月⺞歹⺤爪⺧牛"
_RADICALS |= {ord(r): s for r, s in zip(_WHOLE[::2], _WHOLE[1::2], strict=True)}
# the forms that punctuation has in lines that run down
_FORMS = (*range(0xFE10, 0xFE19), 0xFE31, *range(0xFE35, 0xFE45), 0xFE47, 0xFE48)
_RADICALS |= {c: unicodedata.normalize("NFKC", chr(c)) for c in _FORMS}
_MENDED = re.compile(f"[{_NOT_TEXT.pattern[1:-1]}\r{''.join(map(chr, _RADICALS))}]")
_CJK = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff9f"
_ROW_OF_WORDS = re.compile(f"(?<=[{_CJK}]) +(?=[{_CJK}])")
_ROW_OF_CELLS = re.compile(f"(?<=[{_CJK}0-9,.%]) +(?=[{_CJK}0-9¥])")
_DIGITS = re.compile(r"[0-9０-９]+")
_WIDE = re.compile("[\u3001-\u3003\u3041-\u3096\u30a1-\u30fe\u4e00-\u9fff\uff08-\uff19]+")
_SPREAD = re.compile(f"(?<![^ ])[{_CJK}](?: [{_CJK}]){{2,}}(?![^ ])")  # 旅 費 規 程
_LEADS = re.compile(r"[.．・…‥]\s?(?:[.．・…‥]\s?){3}")
_LEADER = re.compile(r"\s*(?:[.．・…‥]\s?){4,}\s*")
_LISTED = re.compile(r"… ?[0-9]{1,4}$")  # a line of a table of contents
_FOLIO = re.compile(
    r"[-–—―\s]*(?:p\.?|P\.?)?\s*([0-9]{1,4})(?:\s*[/／]\s*[0-9]{1,4})?(?:\s*ページ)?[-–—―\s]*"
)
_STOPS = "。．.！？!?：:；;」』）)】"
_SENTENCE = re.compile("[、。]")
_OPENS = re.compile(
    r"^\s*(?:[・●○◆◇■□▼▲※★☆◎→]|[-*•–]\s|[(（][0-9０-９一二三四五六七八九十ア-ンa-zA-Z]{1,3}[)）]|[①-⑳]|"
    r"[0-9０-９]{1,3}[.．、)）\s　]|[一二三四五六七八九十]{1,3}[、.．\s　]|[ア-ン][.．、\s　]|第[0-9０-９一二三四五六七八九十百]+[編章節款条]|"
    r"附\s*則|別\s*表|【|「|[QＱAＡ][0-9０-９]{0,3}[.．:：]|[（(][^（）()]{1,30}[）)]\s*$)"
)


def clean(line: str) -> str:
    # few lines have anything of it, and there are millions
    if _MENDED.search(line):
        line = _NOT_TEXT.sub("", line).translate(_RADICALS).replace("\r", "")
    if _LEADS.search(line):
        line = _LEADER.sub(" … ", line)
    if line.count(" ") > 1:
        line = _SPREAD.sub(lambda run: run[0].replace(" ", ""), line)
    return line.strip(" \t\xa0")


def without_running_heads(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Lines that stand at the edge of most pages, page numbers aside, are not the text's own.

    Rows stay where they come first: they may name the columns of a table that goes on.
    """
    filled = [p for p in pages if any(line.text for line in p)]
    deep = _EDGE if len(filled) > 2 else 1
    seen: Counter[str] = Counter()
    for lines in filled:
        seen.update({_shape(lines[n].text) for n in _edges(lines, deep)})
    often = max(2, -(-6 * len(filled) // 10))
    running = {shape for shape, times in seen.items() if times >= often}
    kept: list[list[Line]] = []
    rows: set[str] = set()
    for number, lines in enumerate(pages, 1):
        drop = {n for n in _edges(lines, deep) if _shape(lines[n].text) in running}
        new = {n for n in drop if lines[n].row and _shape(lines[n].text) not in rows}
        rows |= {_shape(lines[n].text) for n in new}
        drop = drop - new | {n for n in _edges(lines, 1) if _is_folio(lines[n].text, number)}
        kept.append([line for n, line in enumerate(lines) if n not in drop])
    return kept


def _edges(lines: Sequence[Line], deep: int) -> set[int]:
    """Where the first and the last lines with something in them are."""
    full = [n for n, line in enumerate(lines) if line.text]
    return {*full[:deep], *full[-deep:]}


def _is_folio(line: str, page: int) -> bool:
    """「- 3 -」 or 「3 / 12」 on page 3; a bare number may be the text's own."""
    found = _FOLIO.fullmatch(line)
    return bool(found and int(found[1]) == page and line.strip() != found[1])


@lru_cache(2_000)
def _shape(line: str) -> str:
    return _DIGITS.sub("#", "".join(line.split()))


def mended(signs: str) -> str:
    """Of the same length: signs as `clean` has them."""
    return signs.translate(_RADICALS) if _MENDED.search(signs) else signs


def flow(
    pages: Sequence[Sequence[Line]],
) -> tuple[str, list[int], list[tuple[int, Line]]]:
    """All lines as paragraphs, where each page begins, and where each line does."""
    parts: list[str] = []
    starts: list[int] = []
    placed: list[tuple[int, Line]] = []
    length = 0
    last, full = Line(""), 0.0

    def add(piece: str) -> None:
        nonlocal length
        parts.append(piece)
        length += len(piece)

    for lines in pages:
        first = True
        widths = _full_widths(lines)
        for line in lines:
            if not line.text:
                continue
            if parts:
                add(_between(last, line, full))
            if first:
                starts.append(length)
                first = False
            placed.append((length, line))
            add(line.text)
            last, full = line, widths[line.column]
        if first:
            starts.append(length)
    return "".join(parts), starts, placed


def _full_widths(lines: Sequence[Line]) -> dict[tuple[int, int], float]:
    """Of each column: from this width on a line has been broken by the margin, not by its author."""
    widths: dict[tuple[int, int], list[float]] = {}
    for line in lines:
        if line.text:
            widths.setdefault(line.column, []).append(_width(line.text))
    return {column: _nearly_widest(sorted(found)) for column, found in widths.items()}


def _nearly_widest(widths: Sequence[float]) -> float:
    return max(24.0, 0.88 * widths[min(len(widths) - 1, int(len(widths) * 0.95))])


@lru_cache(2_000)
def _width(line: str) -> float:
    if line.isascii():
        return len(line)
    rest = _WIDE.sub("", line)
    return 2 * (len(line) - len(rest)) + sum(map(_WIDTHS.__getitem__, rest))


class _Widths(dict[str, int]):
    """Of each sign that was met."""

    def __missing__(self, sign: str) -> int:
        self[sign] = width = 2 if unicodedata.east_asian_width(sign) in "WFA" else 1
        return width


_WIDTHS = _Widths()


def _between(last: Line, then: Line, full: float) -> str:
    """Nothing or a space where a paragraph goes on, else a line end."""
    line, following = last.text, then.text
    if (
        last.row
        or last.whole
        or then.row
        or then.whole
        or _width(line) < full
        or line[-1] in _STOPS
        or _LISTED.search(line)
        or _OPENS.match(following)
        or (structure.label(line) and not _SENTENCE.search(line))
        or _looks_like_row(line)
        or _looks_like_row(following)
    ):
        return "\n"
    latin = line[-1].isascii() and following[0].isascii()
    return " " if latin else ""


def _looks_like_row(line: str) -> bool:
    """Two gaps and more between words that need none: cells of a table."""
    if "。" in line or "、" in line:  # a sentence with spaces around its numbers
        return len(_ROW_OF_WORDS.findall(line)) >= 2
    return len(_ROW_OF_CELLS.findall(line)) >= 2
