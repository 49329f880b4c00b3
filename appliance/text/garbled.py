"""Whether a text is no language at all: a font that hides its letters, bytes in a wrong code page.

A PDF whose font lacks a map to Unicode shows the right shapes and gives wrong letters: the share of
signs that no text in Japanese, English or another language has in such number tells. Limits were
set on 12,000 paragraphs of Wikipedia in Japanese, none of which reaches them, and on pages printed
by a browser whose maps were taken away (`tests/text/test_garbled.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from appliance.text.normalize import VARIANTS

LEAST = 20  # letters: of fewer nothing can be said
_FEW = 3  # signs that may be there in any text: a letter of somebody's name
_ODD = 0.02  # share of signs that no text has
_ACCENTED = 0.35  # more than Vietnamese has
_SIGNS = 0.7  # of ASCII: punctuation beside letters and digits
_RARE = 0.25  # of different ideographs: second level of JIS, or not in it
_MOJIBAKE = 0.12  # of the signs that UTF-8 becomes when it is read as Shift_JIS
_MANY = 60  # hiragana: of fewer nothing can be said
_COMMON = "のにはをたがでてとしるいなかりれさすあこまもうくっらき"
_COMMON_SHARE = 0.5  # of all hiragana; 70 paragraphs of 60 and more had 0.71 at least
_SCRIPTS = 3  # alphabets other than Latin and Japanese, each with a share worth the name
_SCRIPT_SHARE = 0.02
_REPEATED = re.compile(r"([!-/:-@\[-`{-~─-╿・…‥])\1{2,}")  # a line drawn with signs
_CID = re.compile(r"\(cid:[0-9]{1,6}\)")
_KANA = re.compile("[ぁ-ゖァ-ヺ]")
_WRONG_PAGE = frozenset("縺繧繝荳蜷譁蛟邨蟄髮逕莨蝠謨險蝗隱蜿ﾂﾃ")
_ALPHABETS = ("CYRILLIC", "GREEK", "HANGUL", "THAI", "ARABIC", "HEBREW", "DEVANAGARI", "ARMENIAN",
              "GEORGIAN", "ETHIOPIC", "YI ", "TAMIL", "BENGALI", "CANADIAN", "CHEROKEE", "MONGOLIAN")  # fmt: skip


def is_garbled(text: str) -> bool:
    return doubt(text) > 0.5


def doubt(text: str) -> float:
    """How likely it is that nobody wrote this, from 0 to 1; ½ where a limit is reached."""
    over = max(_measures(text), default=0.0)
    return over**4 / (1 + over**4)


def _measures(text: str) -> Iterator[float]:
    """What was found of each that no text has, as multiples of its limit."""
    text = _REPEATED.sub(r"\1", _CID.sub("\ufffd", text))
    signs = _counted("".join(text.split()))
    total = signs.total()
    if total < LEAST:
        return
    kinds: Counter[str] = Counter()
    for sign, times in signs.items():
        kinds[_kind(sign)] += times
    kana = sum(times for sign, times in signs.items() if _KANA.match(sign))
    yield kinds["odd"] / max(_ODD * total, _FEW)
    yield kinds["accented"] / (_ACCENTED * total)
    yield kinds["wrong page"] / (_MOJIBAKE * total)
    if not kana:
        yield kinds["sign"] / (_SIGNS * total)
    hiragana = sum(times for sign, times in signs.items() if "ぁ" <= sign <= "ゖ")
    if hiragana >= _MANY:
        yield _COMMON_SHARE * hiragana / max(sum(signs[c] for c in _COMMON), 1)
    ideographs = [sign for sign in signs if "\u4e00" <= sign <= "\u9fff"]
    rare = sum(_kind(sign) == "rare" for sign in ideographs)
    if kana or not _is_chinese(ideographs):
        yield rare / max(_RARE * len(ideographs), _FEW)
    scripts = sum(kinds[a] > _SCRIPT_SHARE * total for a in _ALPHABETS)
    yield scripts / (_SCRIPTS - 0.5)
    if scripts:
        yield (kinds["accented"] + kinds["odd"]) / (0.1 * total)


def _counted(signs: str) -> Counter[str]:
    """As `Counter` does, in a third of its time: every page of every PDF comes here."""
    codes = np.frombuffer(signs.encode("utf-32-le", "surrogatepass"), "<u4")
    different, times = np.unique(codes, return_counts=True)
    return Counter(dict(zip(map(chr, different.tolist()), times.tolist(), strict=True)))


@lru_cache(80_000)
def _kind(sign: str) -> str:
    code = ord(sign)
    if code < 0x80:
        return "plain" if sign.isalnum() else "odd" if code < 0x20 or code == 0x7F else "sign"
    if sign in _WRONG_PAGE:
        return "wrong page"
    if 0x4E00 <= code <= 0x9FFF:
        return "common" if _is_common(sign.translate(VARIANTS)) else "rare"
    if 0x3400 <= code <= 0x4DBF or code >= 0x20000:
        return "odd"  # the extensions: a name now and then
    category = unicodedata.category(sign)
    if category in ("Cc", "Co", "Cn", "Cs") or code == 0xFFFD:
        return "odd"
    if 0xA1 <= code <= 0x24F:
        return "accented"
    name = unicodedata.name(sign, "")
    return next((a for a in _ALPHABETS if name.startswith(a)), "other")


def _is_common(sign: str) -> bool:
    """Of the first level of JIS X 0208: 2,965 ideographs, nearly all that is written."""
    try:
        data = sign.encode("shift_jis")
    except UnicodeEncodeError:
        return False
    return len(data) == 2 and data < b"\x98\x9f"


def _is_chinese(ideographs: list[str]) -> bool:
    """In the characters of the mainland, or of Taiwan."""
    return any(
        sum(_encodes(c, code) for c in ideographs) >= 0.98 * len(ideographs)
        for code in ("gb2312", "big5")
    )


def _encodes(sign: str, code: str) -> bool:
    try:
        sign.encode(code)
    except UnicodeEncodeError:
        return False
    return True
