"""和暦 and the other ways to write a date, brought to one form for the index.

「令和6年4月1日」「R6.4.1」「2024/04/01」 all become 「2024年4月1日」, so each finds the
others. The forms are added to what an index holds and to a query; people never see them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date

_ERAS = {
    "令和": (2018, 2019, 2099), "R": (2018, 2019, 2099),
    "平成": (1988, 1989, 2019), "H": (1988, 1989, 2019),
    "昭和": (1925, 1926, 1989), "S": (1925, 1926, 1989),
    "大正": (1911, 1912, 1926), "T": (1911, 1912, 1926),
    "明治": (1867, 1868, 1912), "M": (1867, 1868, 1912),
    "西暦": (0, 1800, 2099),
}  # fmt: skip
_DIGITS = str.maketrans("〇一二三四五六七八九", "0123456789")
_NUMBER = r"(?:\d{1,2}|元|[一二三四五六七八九十]{1,4})"
_JAPANESE = re.compile(
    rf"(?P<era>令和|平成|昭和|大正|明治)\s?(?P<y>{_NUMBER})\s?年(?:\s?度|\s?(?P<m>{_NUMBER})\s?月(?:\s?(?P<d>{_NUMBER})\s?日)?)?"
)
_SHORT = re.compile(
    r"(?<![0-9A-Za-z])(?P<era>[RHSTM])(?P<y>\d{1,2})[./](?P<m>\d{1,2})(?:[./](?P<d>\d{1,2}))?(?![0-9A-Za-z])"
)
_WESTERN = re.compile(
    r"(?<![0-9])(?P<y>(?:19|20)\d\d)(?P<sep>[-/.])(?P<m>\d{1,2})(?P=sep)(?P<d>\d{1,2})(?![0-9])"
)

_YEAR = re.compile(
    rf"(?:(?P<era>令和|平成|昭和|大正|明治)\s?(?P<y>{_NUMBER})|(?<![0-9])(?P<western>(?:18|19|20)\d\d))"
    r"\s?年\s?(?P<fiscal>度)?"
)
_SHORT_ANY = re.compile(_SHORT.pattern, re.IGNORECASE)
_WRITTEN = re.compile(
    r"(?<![0-9])(?P<y>(?:19|20)\d\d)\s?年\s?(?P<m>\d{1,2})\s?月\s?(?P<d>\d{1,2})\s?日"
)


def western(text: str) -> list[str]:
    """Each date of the text that is not already 西暦 with 年月日, as 「2024年4月1日」, once each."""
    text = unicodedata.normalize("NFKC", text)
    return list(dict.fromkeys(_forms(text)))


def with_western(text: str) -> str:
    """The text followed by its dates in 西暦: what index and query hold."""
    forms = western(text)
    return f"{text}\n{' '.join(forms)}" if forms else text


def days(text: str) -> list[tuple[int, int, date]]:
    """[start, end) of each whole date in a text of normal width, and the day; in order."""
    found: list[tuple[int, int, date]] = []
    for pattern in (_JAPANESE, _SHORT_ANY, _WESTERN, _WRITTEN):
        for m in pattern.finditer(text):
            if m["d"]:
                base = _ERAS[m["era"].upper()][0] if "era" in m.re.groupindex else 0
                try:
                    day = date(base + _number(m["y"]), _number(m["m"]), _number(m["d"]))
                except ValueError:
                    continue  # the 31st of February
                found.append((*m.span(), day))
    return sorted(found)


def years(text: str) -> tuple[set[int], set[int]]:
    """The years a text speaks of, and its 年度; 令和7年度 is 2025 of both."""
    text = unicodedata.normalize("NFKC", text)
    named, fiscal = set[int](), set[int]()
    for found in _YEAR.finditer(text):
        base, first, last = _ERAS[found["era"] or "西暦"]
        year = base + _number(found["y"] or found["western"])
        if first <= year <= last:
            named.add(year)
            if found["fiscal"]:
                fiscal.add(year)
    for form in _forms(text):
        named.add(int(form[:4]))
    return named, fiscal


def _forms(text: str) -> Iterator[str]:
    for pattern in (_JAPANESE, _SHORT):
        for found in pattern.finditer(text):
            base, first, last = _ERAS[found["era"]]
            year = base + _number(found["y"])
            if first <= year <= last:
                yield _date(year, found["m"], found["d"])
    for found in _WESTERN.finditer(text):
        yield _date(int(found["y"]), found["m"], found["d"])


def _date(year: int, month: str | None, day: str | None) -> str:
    form = f"{year}年"
    if month and 1 <= _number(month) <= 12:
        form += f"{_number(month)}月"
        if day and 1 <= _number(day) <= 31:
            form += f"{_number(day)}日"
    return form


def _number(text: str) -> int:
    if text == "元":
        return 1
    if text.isdecimal():
        return int(text)
    tens, ten, units = text.partition("十")
    if not ten:
        return int(text.translate(_DIGITS))
    return 10 * int(tens.translate(_DIGITS) or 1) + int(units.translate(_DIGITS) or 0)
