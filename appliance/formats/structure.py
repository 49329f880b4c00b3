"""Headings that Japanese business documents carry in their plain lines.

編・章・節・款・条・附則・別表, 「1.2 目的」, 「【概要】」, 「■ 手順」. A reference at the start
of a line (「第12条の規定により」) and a table of contents (「第12条 …… 5」) are not headings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from appliance.formats import pairs
from appliance.types import Mark

_NUMBER = r"[0-9０-９]+|[〇零一二三四五六七八九十百千]+"
_LEVELS = {"編": 1, "部": 1, "章": 2, "節": 3, "款": 4, "条": 5}
_ARTICLE = re.compile(
    rf"^(?P<name>第\s?(?:{_NUMBER})\s?(?P<unit>[編部章節款条])(?:の(?:{_NUMBER}))*)"
    r"(?P<rest>$|[\s　（(「：:].*$)"
)
_SUPPLEMENT = re.compile(
    r"^(?P<name>附\s*則|付\s*則|別\s*表(?:第?\s?[0-9０-９一二三四五六七八九十]+)?|別\s*記|"
    r"様式第?\s?[0-9０-９一二三四五六七八九十]+号?)(?P<rest>$|[\s　（(：:].*$)"
)
_NUMBERED = re.compile(
    r"^(?P<name>[0-9０-９]{1,2}(?:[.．][0-9０-９]{1,2}){0,3})[.．]?[\s　](?P<rest>\S.*)$"
)
_TIGHT = re.compile(r"^(?P<name>[0-9０-９]{1,2})[.．](?P<rest>[^\s0-9０-９].*)$")
_FRAMED = re.compile(r"^(?:【(?P<a>[^【】]{1,40})】|[■◆●▼]\s*(?P<b>[^■◆●▼]{1,40}))$")
_CAPTION = re.compile(r"^[（(]([^（）()]{1,40})[）)]$")
_LEADER = re.compile(r"(?:[.．・…‥]\s?){3,}|\s[0-9０-９]{1,4}\s*$")
_POINT = re.compile(r"[.．]")
_BRACKETED = re.compile(r"[（(「]([^（）()「」]{1,40})[）)」]")
_ENDS = ("。", "．", "、", ",", "，", "；", ";", "？", "！")
_LONGEST = 40


def label(line: str) -> tuple[str, int] | None:
    """(label, level) if the line alone is an article heading: 「第12条（宿泊費）」 → 「第12条 宿泊費」."""
    line = line.strip()
    if len(line) > 2_000 or not line:
        return None
    found = _ARTICLE.match(line)
    level = _LEVELS[found["unit"]] if found else 2
    found = found or _SUPPLEMENT.match(line)
    if not found:
        return None
    rest = found["rest"].strip()
    if _LEADER.search(rest):
        return None
    name = unicodedata.normalize("NFKC", "".join(found["name"].split()))
    return f"{name} {_title(rest)}".strip(), level


def sections(
    text: str, taken: Iterable[int] = (), asked: pairs.Found | None = None
) -> tuple[Mark, ...]:
    """Section marks for the lines of `text` that are headings, but for lines starting at `taken`."""
    asked = asked or pairs.find(text)
    skip = asked.inner.union(taken)
    answered = {text.rfind("\n", 0, m.start) + 1: m for m in asked.marks}
    marks: list[Mark] = []
    start = 0
    lines = text.split("\n")
    for n, line in enumerate(lines):
        before = lines[n - 1] if n else ""
        mark = None
        if start not in skip:
            mark = answered.get(start) or _mark(line, start, before, n == 0)
        if mark and marks and mark.start <= marks[-1].start:
            mark = None
        if mark:
            marks.append(mark)
        start += len(line) + 1
    return tuple(marks)


def _mark(line: str, start: int, before: str, first: bool) -> Mark | None:
    if len(line) > 2_000 or not line.strip():
        return None
    indent = len(line) - len(line.lstrip())
    if found := label(line):
        name, level = found
        caption = _CAPTION.match(before.strip())
        if caption and level == 5 and " " not in name:  # 「（宿泊費）」 on the line above
            return Mark(start - len(before) - 1, f"{name} {caption[1]}", level=level)
        return Mark(start + indent, name, level=level)
    stripped = line.strip()
    if framed := _FRAMED.match(stripped):
        return Mark(start + indent, (framed["a"] or framed["b"]).strip(), level=6)
    if len(stripped) > _LONGEST or stripped.endswith(_ENDS) or "|" in stripped:
        return None
    numbered = _NUMBERED.match(stripped) or _TIGHT.match(stripped)
    if numbered and not _LEADER.search(stripped):
        depth = len(_POINT.split(numbered["name"]))
        # a lone number begins a list more often than a section: it needs air above
        if depth > 1 or ((first or not before.strip()) and numbered["name"] != "0"):
            return Mark(start + indent, " ".join(stripped.split()), level=5 + depth)
    return None


def _title(rest: str) -> str:
    if caption := _BRACKETED.match(rest):
        return caption[1].strip()
    rest = rest.lstrip("：: 　")
    short = len(rest) <= 20 and not rest.endswith(_ENDS) and "。" not in rest
    return " ".join(rest.split()) if short else ""
