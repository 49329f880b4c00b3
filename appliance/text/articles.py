"""Articles, tables and forms by their numbers: 「第12条」, 「第十二条の二」, 「別表1」, 「様式第3号」."""

from __future__ import annotations

import re

from appliance.text import numerals

_DIGITS = str.maketrans("一二三四五六七八九", "123456789")
_NAMED = re.compile(
    r"第(?P<article>[0-9]+)条(?:の(?P<branch>[0-9]+|[一二三四五六七八九]))?|(?P<kind>別表|様式)第?(?P<number>[0-9]+)号?"
)
_WHOLE = re.compile(
    rf"(?:{_NAMED.pattern})(?:の(?:内容|本文|条文|規定|全文))?(?:について|とは|には|は|って|を)?、?"
    r"(?:何(?:が|と|て)?書(?:いて(?:ある|あります)|かれて(?:いる|います))の?か?"
    r"|(?:教え|見せ|説明し|読ん|示し|引用し)[てで](?:ください|下さい|ほしいです|ほしい)?"
    r"|(?:を)?(?:読み|見|知り)たいです?|(?:何|どんな内容|どういう内容)(?:です)?か?)?[？?。]*$"
)
# what opens a line of a body, as a heading does
_BEGINS = re.compile(rf"[#\s]*(?:{_NAMED.pattern}|第[0-9]+[章節編]|附則)(?=[\s(]|$)")


def named(text: str) -> frozenset[str]:
    """The articles, tables and forms that a text names, in one way of writing."""
    return frozenset(map(_name, _NAMED.finditer(numerals.normalize(text).text)))


def asked_whole(question: str) -> str | None:
    """The one that is asked for as it stands, as in 「就業規則の第12条を教えて」."""
    text = numerals.normalize(question).text.strip()
    return _name(found) if (found := _WHOLE.search(text)) else None


def before(question: str) -> str:
    """What a question says before it names one: of which document."""
    text = numerals.normalize(question).text
    return text[: found.start()] if (found := _NAMED.search(text)) else text


def place(text: str, name: str) -> tuple[int, int] | None:
    """[start, end) of the one of that name in the text: from the line that begins with it to the next."""
    start = None
    at = 0
    for line in text.splitlines(keepends=True):
        begins = _BEGINS.match(numerals.normalize(line).text)
        if start is not None and begins:
            return start, at
        if (
            start is None
            and begins
            and (begins["article"] or begins["kind"])
            and _name(begins) == name
        ):
            start = at
        at += len(line)
    return None if start is None else (start, len(text))


def _name(found: re.Match[str]) -> str:
    if found["article"]:
        branch = (found["branch"] or "").translate(_DIGITS)
        return f"第{int(found['article'])}条" + (f"の{branch}" if branch else "")
    return f"{found['kind']}{int(found['number'])}"
