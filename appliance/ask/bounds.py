"""Whether a case that is asked about lies within the bounds that an answer holds for.

「勤続3年未満の者に20,000円」 answers nobody who asks of five years, however surely a reader points at it: readers do
not count. Of 25,007 questions of colleagues that have an answer (`training/written`, the companies that are
learned from) 505 stand behind bounds of what the question counts, and 495 of these hold for it; of answers to other
questions on the same paper 11 of 59. Where the bound itself is asked for, 「いくら以上」, 93 of 94 answers are one or
stand in a table, and so do 430 of 730 of the form that is asked for to other questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.text import grids, numerals, split

_UNIT = (
    r"(?:円|%|パーセント|[かヶカヵ箇]月|年|日|週間?|時間|分|秒|歳|才|[ck]?m|km|キロ|k?g|トン|t|人|名|個|本|台|枚|件|回|度|℃|階|点|l"
    r"|m3|㎥|k?va|k?w|ppm|泊|級)"
)
_VALUE = rf"(?<![0-9.])([0-9]+(?:\.[0-9]+)?)({_UNIT})?(半)?(?:([0-9]+)[かヶカヵ箇]月)?"
_WORDS = "以上|以下|未満|まで|以内|超(?!え)|を?超え|に満たない|より[大多長]|より[小少短]"
_BOUND = re.compile(rf"{_VALUE}(?:\([^()]*\))?(?:の(?:もの|者|場合))?({_WORDS})")
_CELL = re.compile(rf"(?<!月){_VALUE}(?:\([^()]*\))?({_WORDS}|から)")  # 「11日から20日まで」
_CASE = re.compile(
    rf"(?<![〜~-]){_VALUE}(?!目|[〜~-]|以[上下内]|未満|まで|を?超|より|から|前|後|ごと|おき|に満たない|いくら)"
)
_HOLDS = {
    "以上": float.__ge__, "から": float.__ge__, "以下": float.__le__, "まで": float.__le__, "以内": float.__le__,
    "未満": float.__lt__, "に満たない": float.__lt__, "より小": float.__lt__, "より少": float.__lt__,
    "より短": float.__lt__,
}  # fmt: skip
_ONE = {"キロ": "km", "パーセント": "%", "才": "歳", "名": "人", "週間": "週", "m3": "㎥"}
_MONTH = re.compile("[かヶカヵ箇]月")
_OTHERWISE = re.compile(r"[、。]|超え|以上|以下|未満|から|それ以外|その他")
# 「何度超えてる？」 asks for no bound
_BOUND_ASKED = re.compile(
    r"(?:いくら|何(?:[かヶカヵ箇]月|[^\W\d_ぁ-ん]{1,3}))(?:以上|を?超え(?!て))"
)
_BOUND_TOLD = re.compile(r"以上|超|から|以降|より|上回|[>≥〜～~]|最低|少なくとも|下限|必要|基準|境")
_BEHIND = 8  # characters behind the number: 「10万円(税込)以上」
_BESIDE = 4  # characters between the two bounds of a range: 「3年以上 10年未満」


@dataclass(frozen=True, slots=True)
class Bound:
    value: float
    unit: str
    word: str
    start: int
    end: int

    def admits(self, value: float) -> bool:
        return _HOLDS.get(self.word, float.__gt__)(value, self.value)


def admitted(question: str, text: str, start: int, end: int) -> bool | None:
    """Whether the text's words [start, end) hold for the number that the question names.

    None where the question names none, or they hold for any.
    """
    cases = _cases(question)
    told = [
        bound.admits(cases[bound.unit])
        for condition in (_conditions(text, start, end) if cases else ())
        for bound in condition
        if bound.unit in cases
    ]
    return all(told) if told else None


def is_bound(question: str, text: str, start: int, end: int) -> bool:
    """Whether the words [start, end) are a bound, where one is asked for: 「いくら以上」, 「何kgを超えたら」.

    Of a table's cell its column may tell so.
    """
    asked = _BOUND_ASKED.search(_plain(question))
    if not asked or any(grid.place(start) for grid in grids.find(text)):
        return True
    return bool(_BOUND_TOLD.search(text[start : end + _BEHIND]))


def _cases(question: str) -> dict[str, float]:
    """The number of each unit that the question names one of."""
    found: dict[str, set[float]] = {}
    for match in _CASE.finditer(_plain(question)):
        value, unit = _value(match)
        found.setdefault(unit, set()).add(value)
    return {unit: values.pop() for unit, values in found.items() if unit and len(values) == 1}


def _conditions(text: str, start: int, end: int) -> Iterator[Sequence[Bound]]:
    """The bounds that stand before the words, or in their row and above their column of a table.

    Words that set a bound themselves, 「14日まで」, are told a limit and no case.
    """
    if _bounds(text[start:end]):
        return
    for grid in grids.find(text):
        if place := grid.place(start):
            row = grid.rows[place[0]]
            cell = row[place[1]]
            said = [text[c.start : c.end] for c in row if c is not cell]
            yield from (_bounds(t, _CELL) for t in (*said, cell.column))
            return
    for first, last in split.sentences(text):
        if first <= start < last:
            before = _plain(text[first:start])
            found = _bounds(before)
            if found and not _OTHERWISE.search(before, found[-1].end):
                yield _last(found, before)


def _last(found: Sequence[Bound], text: str) -> Sequence[Bound]:
    """The last bound, and the one beside it that makes a range of it."""
    if len(found) > 1:
        between = text[found[-2].end : found[-1].start]
        if len(between) <= _BESIDE and not re.search("[、,は]", between):
            return found[-2:]
    return found[-1:]


def _bounds(text: str, written: re.Pattern[str] = _BOUND) -> list[Bound]:
    """In their order. 「3以上10年未満」: the first has the unit of the second."""
    found: list[Bound] = []
    for match in reversed(list(written.finditer(_plain(text)))):
        value, unit = _value(match)
        unit = unit or (found[-1].unit if found else "")
        found.append(Bound(value, unit, match[5].removeprefix("を"), match.start(), match.end()))
    return found[::-1]


def _value(match: re.Match[str]) -> tuple[float, str]:
    unit = _ONE.get(match[2] or "", match[2] or "")
    value = float(match[1]) + (0.5 if match[3] else 0)
    if match[4] and unit == "年":
        value += int(match[4]) / 12
    return value, "月" if _MONTH.fullmatch(unit) else unit


def _plain(text: str) -> str:
    return numerals.normalize(text).text.replace(" ", "")
