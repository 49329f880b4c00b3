"""Which documents are versions of one another, and which of them is in force.

Two documents are versions of one another if their names differ in nothing but what marks a
version (a date, 第3版, v2, 旧, 最終), their texts have something in common, and something says
which is the newer: the day it came into force, the version's number, the date in its name, a
「旧」. Without that they are two documents: forms that were filled in have one name as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np

from appliance.text.dates import days
from appliance.text.normalize import fold

# Jaccard of the texts; .16 for a rule of the sample company that was rewritten as a whole
ALIKE = 0.1
SKETCH = 128  # hashes: the standard error of a share of .1 is .03
_GRAM = 5  # characters
_MOST_CHARS = 200_000
_HEAD, _TAIL = 1500, 3000  # characters of a text where it says since when it is in force

_ENDING = re.compile(r"\.[a-z0-9]{1,5}$")
_DATED = re.compile(
    r"(?:令和|平成|昭和)\s?(?:\d{1,2}|元)年(?:\d{1,2}月(?:\d{1,2}日)?|度)?"
    r"|(?<![a-z0-9])[rhs]\d{1,2}(?:\.\d{1,2}){1,2}(?![0-9])"
    r"|(?<!\d)(?:19|20)\d\d(?:年(?:\d{1,2}月(?:\d{1,2}日)?|度)?|[-_/.]\d{1,2}(?:[-_/.]\d{1,2})?(?!\d)|\d{4}(?!\d)|(?!\d))"
    r"|fy\d\d(?:\d\d)?"
)
NUMBERED = re.compile(
    r"第\s?(\d{1,3})\s?版|(?<![a-z])(?:ver|version|rev|v|r)[._\s]?(\d{1,3}(?:\.\d{1,3}){0,2})(?![0-9a-z])"
    r"|改[定訂]?\s?(\d{1,2})(?!\d)"
)
_OLD = re.compile(r"^旧|[(\[【_\s]旧(?:版)?(?=[)\]】_\s]|$)|旧版|_?old(?![a-z])|廃止|改[定訂]前")
_MARKS = re.compile(
    r"(?:全部|一部)?改[定訂正](?:前|後|版)?|初版|旧版|新版|最新版?|最終版?|確定版?|修正版?|更新版|年?版|^旧|^新|旧(?=[)\]】_\s]|$)"
    r"|のコピー|コピー|(?<![a-z])(?:final|latest|old|new|copy)(?![a-z])|\(\d{1,2}\)|案(?=[)\]】_\s]|$)"
)
_SEPARATORS = re.compile(r"[\s_\-・.,、()\[\]【】「」~/]+")
# One of these is written for each occasion: another date is another document.
_OCCASION = re.compile(
    r"日報|週報|月報|議事|報告|見積|請求|注文|納品|領収|お知らせ|案内|通知|連絡|メモ|日程|minutes|report|invoice"
)
_FORCE = "改定|改訂|改正|施行|実施|適用開始|適用日|制定|発行|発効"
_PAST = re.compile(
    r"旧|以前|改[定訂正]前|変更前|過去|当時|昔|かつて|前の(?:版|規[定程則]|基準|料金|価格)|これまで|比べ|比較|違い|変わ"
)
_AHEAD = re.compile(r"今後|これから|来年|来期|来月|予定|改[定訂正]後|変更後|変わ|新しく")
_YEAR = re.compile(r"(?:19|20)\d\d年|(?:令和|平成|昭和)|年度")


@dataclass(frozen=True, slots=True)
class Edition:
    """What a document says of itself. Empty where it says nothing."""

    stem: str = ""  # its name without what marks a version; "" where it has no other versions
    on: date | None = None  # since when it is in force, by its own words
    named: str = ""  # the date in its name, as 2024-04-01, 2024-04 or 2024
    number: tuple[int, ...] = ()  # of its version
    old: bool = False


def edition(title: str, text: str) -> Edition:
    """Of a document called `title`, a file name or a heading."""
    name = _ENDING.sub("", fold(PurePosixPath(title).name))
    if title.lower().endswith((".eml", ".msg")):
        return Edition()
    dated = _DATED.search(name)
    numbered = NUMBERED.search(name)
    stem = _SEPARATORS.sub("", _MARKS.sub("", NUMBERED.sub("", _DATED.sub("", name))))
    if len(stem) < 2:
        return Edition()
    head, tail = fold(text[:_HEAD]), fold(text[-_TAIL:])
    number = numbered or NUMBERED.search(head)
    occasion = bool(_OCCASION.search(stem))
    return Edition(
        stem,
        None if occasion else _in_force(head, tail),
        "" if occasion or not dated else _day(dated.group()),
        tuple(int(n) for n in next(filter(None, number.groups())).split(".")) if number else (),
        bool(_OLD.search(name)),
    )


def newer(a: Edition, b: Edition) -> bool:
    """Whether `a` takes the place of `b`, going by what both say. At most one way round."""
    if a.stem != b.stem or not a.stem:
        return False
    if a.on and b.on and a.on != b.on:
        return a.on > b.on
    if a.number and b.number and a.number != b.number:
        return a.number > b.number
    if a.named and b.named and not (a.named.startswith(b.named) or b.named.startswith(a.named)):
        return a.named > b.named
    return b.old and not a.old


def sketch(text: str) -> bytes:
    """The smallest hashes of a text's character 5-grams, sorted, uint32 little-endian.

    Two sketches tell how much of the texts is the same (bottom-k: Broder 1997, "On the
    resemblance and containment of documents").
    """
    folded = "".join(fold(text[:_MOST_CHARS]).split())
    codes = np.frombuffer(folded.encode("utf-32-le"), "<u4").astype(np.uint64)
    if len(codes) < _GRAM:
        return b""
    mixed = np.zeros(len(codes) - _GRAM + 1, np.uint64)
    for n in range(_GRAM):
        mixed = mixed * np.uint64(1_000_003) + codes[n : len(codes) - _GRAM + 1 + n]
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)  # the finaliser of MurmurHash3
    mixed ^= mixed >> np.uint64(33)
    return np.unique((mixed >> np.uint64(32)).astype("<u4"))[:SKETCH].tobytes()


def alike(a: bytes, b: bytes) -> float:
    """The share of the texts' 5-grams that both have, from their sketches."""
    one, other = np.frombuffer(a, "<u4"), np.frombuffer(b, "<u4")
    least = np.union1d(one, other)[:SKETCH]
    if not len(least):
        return 0.0
    return float(np.isin(least, np.intersect1d(one, other)).sum() / len(least))


def asks_past(question: str) -> bool:
    """Whether a version that is no longer in force may be meant."""
    return bool(_PAST.search(question) or _YEAR.search(fold(question)) or days(question))


def asks_ahead(question: str) -> bool:
    """Whether a version that is not yet in force may be meant."""
    return bool(_AHEAD.search(question) or _YEAR.search(fold(question)) or days(question))


def claims(text: str, words: str) -> Iterator[tuple[int, int, date]]:
    """[start, end) of each whole date of a folded text that one of `words` stands beside, and the day."""
    before, after = _beside(words)
    for start, end, day in days(text):
        if after.match(text[end : end + 16]) or before.search(text[max(0, start - 16) : start]):
            yield start, end, day


@lru_cache(maxsize=16)
def _beside(words: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return (
        re.compile(rf"(?:{words})(?:年月日|日付?)?\s?[::|]?\s?$"),
        re.compile(rf"^ ?(?:付け?|に|から|より)? ?(?:全部|一部)?(?:{words})"),
    )


def _in_force(head: str, tail: str) -> date | None:
    """The latest day that the beginning or the end calls that of a change or of coming into force."""
    found = [day for part in (head, tail) for _, _, day in claims(part, _FORCE)]
    return max(found, default=None)


def _day(text: str) -> str:
    """2024, 2024-04 or 2024-04-01."""
    if whole := days(text):
        return whole[0][2].isoformat()
    if compact := re.search(r"((?:19|20)\d\d)(\d\d)(\d\d)", text):
        return "-".join(compact.groups())
    western = re.search(r"((?:19|20)\d\d)(?:[-_/.年](\d{1,2}))?", text)
    if western:
        year, month = western.groups()
        return f"{year}-{int(month):02}" if month else year
    return _japanese_year(text)


def _japanese_year(text: str) -> str:
    from appliance.text.dates import western

    found = re.match(r"(\d{4})年(?:(\d{1,2})月)?", next(iter(western(text)), ""))
    if not found:
        return ""
    return f"{found[1]}-{int(found[2]):02}" if found[2] else found[1]
