"""Numbers of lists and articles, in the forms that word processors know."""

from __future__ import annotations

_DIGITS = "〇一二三四五六七八九"
_IROHA = (
    "イロハニホヘトチリヌルヲワカヨタレソツネナラムウヰノオクヤマケフコエテアサキユメミシヱヒモセス"
)
_AIUEO = (
    "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
)
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"


def written(n: int, form: str) -> str:
    """The number as a list shows it; `form` is OOXML's name for it (ST_NumberFormat)."""
    match form:
        case "japaneseCounting" | "chineseCounting" | "ideographDigital" | "japaneseLegal":
            return _kanji(n)
        case "decimalFullWidth" | "decimalFullWidth2":
            return "".join(chr(ord(c) + 0xFEE0) for c in str(n))
        case "decimalEnclosedCircle" | "decimalEnclosedCircleChinese" if 1 <= n <= 20:
            return _CIRCLED[n - 1]
        case "iroha" | "irohaFullWidth":
            return _IROHA[(n - 1) % len(_IROHA)]
        case "aiueo" | "aiueoFullWidth":
            return _AIUEO[(n - 1) % len(_AIUEO)]
        case "lowerLetter":
            return chr(ord("a") + (n - 1) % 26)
        case "upperLetter":
            return chr(ord("A") + (n - 1) % 26)
        case "lowerRoman":
            return _roman(n).lower()
        case "upperRoman":
            return _roman(n)
        case _:
            return str(n)


def _kanji(n: int) -> str:
    if not 0 < n < 1000:
        return str(n)
    out = ""
    for unit, size in (("百", 100), ("十", 10), ("", 1)):
        digit, n = divmod(n, size)
        if digit:
            out += ("" if digit == 1 and unit else _DIGITS[digit]) + unit
    return out


def _roman(n: int) -> str:
    out = ""
    for size, mark in ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        while n >= size and len(out) < 40:
            out, n = out + mark, n - size
    return out
