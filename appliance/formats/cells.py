"""Numbers and dates of a cell as its format shows them ([ECMA-376] 18.8.31, number format codes).

What a code cannot do here (fractions, exponents) is left to the plain form.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache, partial

ERAS = (
    ("令和", date(2019, 5, 1)),
    ("平成", date(1989, 1, 8)),
    ("昭和", date(1926, 12, 25)),
    ("大正", date(1912, 7, 30)),
    ("明治", date(1868, 1, 25)),
)
# by number, where a file names none ([ECMA-376] 18.8.30, and those of the Japanese edition)
BUILT_IN = {
    1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 5: '"¥"#,##0', 6: '"¥"#,##0', 7: '"¥"#,##0.00',
    8: '"¥"#,##0.00', 9: "0%", 10: "0.00%", 28: '[$-411]ggge"年"m"月"d"日"',
    29: '[$-411]ggge"年"m"月"d"日"', 31: 'yyyy"年"m"月"d"日"', 32: 'h"時"mm"分"',
    33: 'h"時"mm"分"ss"秒"', 34: 'yyyy"年"m"月"', 35: 'm"月"d"日"', 37: "#,##0;-#,##0",
    38: "#,##0;-#,##0", 39: "#,##0.00;-#,##0.00", 40: "#,##0.00;-#,##0.00", 51: 'm"月"d"日"',
    52: 'yyyy"年"m"月"', 53: 'm"月"d"日"', 55: 'yyyy"年"m"月"', 56: 'm"月"d"日"',
    58: '[$-411]ggge"年"m"月"d"日"', 27: "[$-411]ge\\.m\\.d", 36: "[$-411]ge\\.m\\.d",
    50: "[$-411]ge\\.m\\.d", 54: "[$-411]ge\\.m\\.d", 57: "[$-411]ge\\.m\\.d",
}  # fmt: skip
_TOKEN = re.compile(
    r'"([^"]*)"|\\(.)|_(.)|\*(.)|\[([^\]]*)\]|(AM/PM|A/P|am/pm)|(G/標準|General|標準)|([ymdhsgea])\8*|([0#?.,%])|([Ee][+-])|(.)',
    re.DOTALL,
)
_MONEY = re.compile(r"\$([^-\]]+)")
_PLAIN = re.compile(r"[hms]+|\$-[Ff][48]00")  # elapsed time; the form of whoever looks
_WEEK = "月火水木金土日"
_CODE_CHARS = 300
_LARGEST = 1e15  # Excel keeps 15 digits
_DECIMALS = 12

Parts = tuple[tuple[str, str], ...]  # of a section: of what kind each is, and what it says


def shown(value: object, code: str) -> str | None:
    """None where the plain form will do, or has to."""
    if type(value) is float:  # as nearly all are
        return _number(value, code)
    match value:
        case bool() | str() | None:
            return None
        case datetime() | date() | time():
            return _moment(value, code)
        case timedelta():
            return None
        case int() | float():
            return _number(value, code)
    return None


@lru_cache(2_000)  # a book has few codes and many cells
def _sections(code: str) -> tuple[Parts, ...]:
    """Of each section its parts: what kind, and what it says."""
    parts: list[list[tuple[str, str]]] = [[]]
    for token in _TOKEN.finditer(code[:_CODE_CHARS]):
        quoted, escaped, _, _, bracket, half, general, letter, sign, exponent, other = (
            token.groups()
        )
        if quoted is not None or escaped is not None:
            parts[-1].append(("text", quoted if quoted is not None else escaped))
        elif bracket is not None:
            money = _MONEY.match(bracket)
            parts[-1].append(("text", money[1]) if money else ("mark", bracket))
        elif half:
            parts[-1].append(("half", half))
        elif general:
            parts[-1].append(("general", ""))
        elif letter:
            parts[-1].append(("date", token[0]))
        elif sign:
            parts[-1].append(("sign", sign))
        elif exponent:
            parts[-1].append(("exponent", exponent))
        elif other == ";":
            parts.append([])
        elif other:
            parts[-1].append(("text", other))
    return tuple(map(tuple, parts))


# --- numbers ----------------------------------------------------------------------


def _number(value: float, code: str) -> str | None:
    if not abs(value) < _LARGEST:  # not a number neither
        return None
    sections = _sections(code)
    parts, negative = _section(sections, value)
    kinds = _kinds(parts)
    if "exponent" in kinds or "date" in kinds or ("text", "/") in parts:
        return None
    if "general" in kinds:
        plain = f"{abs(value):.15g}"
        said = "".join(plain if k == "general" else s for k, s in parts if k in ("text", "general"))
        return _signed(said, negative)
    if "sign" not in kinds:
        return "".join(s for k, s in parts if k == "text") or None
    return _signed(_digits(abs(value), parts), negative)


@lru_cache(2_000)
def _kinds(parts: Parts) -> frozenset[str]:
    return frozenset(kind for kind, _ in parts)


def _section(sections: tuple[Parts, ...], value: float) -> tuple[Parts, bool]:
    """The section for a value, and whether a minus is to be written before it."""
    conditions = _conditions(sections)
    if any(conditions):
        for parts, condition in zip(sections, conditions, strict=True):
            if not condition or condition(value):
                return parts, value < 0 and not condition
        return sections[-1], value < 0
    if value < 0 and len(sections) > 1:
        return sections[1], False
    if value == 0 and len(sections) > 2:
        return sections[2], False
    return sections[0], value < 0


@lru_cache(2_000)
def _conditions(sections: tuple[Parts, ...]) -> tuple[Callable[[float], bool] | None, ...]:
    return tuple(map(_condition, sections))


_COMPARED = re.compile(r"(<=|>=|<>|<|>|=)(-?[0-9.]+)")


def _condition(parts: Parts) -> Callable[[float], bool] | None:
    for kind, said in parts:
        if kind == "mark" and (found := _COMPARED.fullmatch(said)):
            # `other compare value`: the comparison is turned around
            return partial(_TURNED[found[1]], float(found[2]))
    return None


_TURNED: dict[str, Callable[[float, float], bool]] = {
    "<": operator.gt,
    ">": operator.lt,
    "<=": operator.ge,
    ">=": operator.le,
    "=": operator.eq,
    "<>": operator.ne,
}


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a section's digits stand; `least` of them are shown in any case."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    point: int
    least: int
    kept: int  # decimals that are shown even if they are 0
    shift: int  # powers of ten, by % and by commas at the end
    grouped: bool
    parted: bool  # something stands between the digits: a postal code
    around: tuple[str, str] | None  # of a plain whole number: what stands before and after it


@lru_cache(2_000)
def _places(parts: Parts) -> _Places:
    places = [n for n, (kind, said) in enumerate(parts) if kind == "sign" and said in "0#?"]
    point = next((n for n, part in enumerate(parts) if part == ("sign", ".")), len(parts))
    before = tuple(n for n in places if n < point)
    after = tuple(n for n in places if n > point)[:_DECIMALS]
    commas = [n for n, part in enumerate(parts) if part == ("sign", ",")]
    last = max(places, default=point)
    least = sum(1 for n in before if parts[n][1] == "0")
    whole = bool(before) and least == 1 and point == len(parts) and ("sign", "%") not in parts
    inside = parts[before[0] : last + 1] if whole else ()
    plain = (
        whole and all(kind == "sign" for kind, _ in inside) and not any(n > last for n in commas)
    )
    around = (_said(parts[: before[0]]), _said(parts[last + 1 :])) if plain else None
    return _Places(
        before,
        after,
        point,
        least,
        max((k for k, n in enumerate(after, 1) if parts[n][1] == "0"), default=0),
        2 * sum(1 for part in parts if part == ("sign", "%")) - 3 * sum(n > last for n in commas),
        any(before[0] < n < before[-1] for n in commas) if before else False,
        any(parts[n][0] == "text" for n in range(before[0], before[-1])) if before else False,
        around,
    )


def _said(parts: Parts) -> str:
    return "".join(said for kind, said in parts if kind == "text")


def _digits(value: float, parts: Parts) -> str:
    """The digits where their places are; those that have none stand at the first."""
    at = _places(parts)
    if at.around and value == int(value):
        return f"{int(value):,}".join(at.around) if at.grouped else str(int(value)).join(at.around)
    exact = Decimal(repr(value)).scaleb(at.shift)
    exact = exact.quantize(Decimal(1).scaleb(-len(at.after)), ROUND_HALF_UP)
    whole, _, rest = f"{exact:f}".partition(".")
    whole = whole.lstrip("0").rjust(at.least, "0")
    rest = rest[: max(at.kept, len(rest.rstrip("0")))]
    digits: dict[int, str] = dict.fromkeys(at.before, "")
    if at.parted:
        for n in reversed(at.before[1:]):
            whole, digits[n] = whole[:-1], whole[-1:]
    if at.before:
        digits[at.before[0]] = f"{int(whole):,}" if at.grouped and whole else whole
    digits |= {n: rest[k : k + 1] for k, n in enumerate(at.after)}
    if rest:
        digits[at.point] = "." if at.before else f"{whole}."
    return "".join(
        digits.get(n, said if kind == "text" or said == "%" else "")
        for n, (kind, said) in enumerate(parts)
    )


def _signed(text: str, negative: bool) -> str:
    return f"-{text.strip()}" if negative else text.strip()


# --- dates ------------------------------------------------------------------------


@lru_cache(2_000)
def _steps(code: str) -> tuple[tuple[str, str, bool], ...]:
    """The parts of a date's form, and which of them are minutes; nothing where it has none."""
    parts = _sections(code)[0]
    letters = [(n, said) for n, (kind, said) in enumerate(parts) if kind == "date"]
    if not letters or any(k == "mark" and _PLAIN.fullmatch(s) for k, s in parts):
        return ()
    return tuple(
        (kind, said, kind == "date" and _is_minute(letters, n))
        for n, (kind, said) in enumerate(parts)
    )


@lru_cache(20_000)  # days come again and again
def _moment(value: datetime | date | time, code: str) -> str | None:
    steps = _steps(code)
    if not steps:
        return None
    half = any(kind == "half" for kind, _, _ in steps)
    out = []
    for kind, said, minute in steps:
        if kind == "date":
            piece = _piece(value, said, minute, half)
            if piece is None:
                return None
            out.append(piece)
        elif kind == "half":
            out.append("午前" if _part(value, "hour") < 12 else "午後")
        elif kind in ("text", "sign"):
            out.append(said)
    return "".join(out).strip()


def _is_minute(letters: list[tuple[int, str]], at: int) -> bool:
    """「m」 after hours, or before seconds."""
    order = [n for n, _ in letters]
    k = order.index(at)
    return (k > 0 and letters[k - 1][1][0] == "h") or (
        k + 1 < len(letters) and letters[k + 1][1][0] == "s"
    )


def _part(value: datetime | date | time, name: str) -> int:
    return int(getattr(value, name, 0))


def _piece(value: datetime | date | time, said: str, minute: bool, half: bool) -> str | None:
    letter, width = said[0], len(said)
    if letter in "hs" or (letter == "m" and minute):
        number = _part(value, {"h": "hour", "s": "second", "m": "minute"}[letter])
        number = (number % 12 or 12) if letter == "h" and half else number
        return str(number).rjust(min(width, 2), "0")
    if isinstance(value, time):
        return None
    match letter:
        case "y":
            return f"{value.year % 100:02}" if width <= 2 else f"{value.year}"
        case "m" | "d" if width < 3:  # longer ones are English names
            return str(value.month if letter == "m" else value.day).rjust(width, "0")
        case "a":
            return _WEEK[value.weekday()] + ("曜日" if width > 3 else "")
        case "g" | "e":
            return _era(value, letter, width)
    return None


def _era(value: date, letter: str, width: int) -> str | None:
    day = value.date() if isinstance(value, datetime) else value
    for name, first in ERAS:
        if day >= first:
            if letter == "e":
                return str(day.year - first.year + 1).rjust(min(width, 2), "0")
            return name if width > 2 else name[0] if width == 2 else _LETTERS[name]
    return str(day.year) if letter == "e" else ""


_LETTERS = {"令和": "R", "平成": "H", "昭和": "S", "大正": "T", "明治": "M"}
