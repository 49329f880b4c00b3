"""Markdown: headings become sections, the marks of emphasis and links go, the words stay."""

from __future__ import annotations

import re
from typing import BinaryIO

from appliance.formats import charset
from appliance.formats.draft import Draft, pipes
from appliance.types import Document

_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\([^()\n]{0,2000}\)")
_STRONG = re.compile(r"(\*\*|__)(?=\S)([^*_\n]{1,500})(?<=\S)\1")
_FRONT = re.compile(r"\A---\n(.{0,5000}?)\n---\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:\s*[\"']?(.{1,200}?)[\"']?\s*$", re.MULTILINE)
_UNDERLINE = re.compile(r"^ {0,3}(=+|-{2,})\s*$")


def parse(stream: BinaryIO) -> Document:
    decoded = charset.decode(stream.read())
    return from_text(decoded.text, decoded.problems)


def from_text(text: str, problems: tuple[str, ...] = ()) -> Document:
    title = None
    if front := _FRONT.match(text):
        found = _FRONT_TITLE.search(front[1])
        title = found[1] if found else None
        text = text[front.end() :]
    draft = Draft()
    draft.problems += problems
    fence = ""
    lines = _without_comments(text).split("\n")
    for n, line in enumerate(lines):
        mark = _FENCE.match(line)
        if fence or mark:
            if mark and not fence:
                fence = mark[1][0] * 3
            elif mark and mark[1].startswith(fence):
                fence = ""
            else:
                draft.line(line)
            continue
        below = _UNDERLINE.match(lines[n + 1]) if n + 1 < len(lines) and line.strip() else None
        if heading := _HEADING.match(line):
            words, level = _plain(heading[2]), len(heading[1])
        elif below and "|" not in line and not line.startswith(("-", "*", ">", " ")):
            words, level = _plain(line), 1 if below[1][0] == "=" else 2
        else:
            _line(draft, line)
            continue
        title = title or (words if level == 1 else None)
        draft.heading(words, level)
    return draft.document(title)


def _line(draft: Draft, line: str) -> None:
    if _is_rule(line) or _UNDERLINE.match(line):
        return
    if not line.strip():
        draft.blank()
    elif line.strip().startswith("|"):
        draft.line(pipes([_plain(cell.strip()) for cell in line.strip().strip("|").split("|")]))
    else:
        draft.line(_plain(line.rstrip()))


def _is_rule(line: str) -> bool:
    """The line under a table's head."""
    return "--" in line and set(line) <= set("|:- \t")


def _without_comments(text: str) -> str:
    kept: list[str] = []
    at = 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        kept.append(text[at:start])
        at = end + 3
    return "".join([*kept, text[at:]])


def _plain(text: str) -> str:
    return _STRONG.sub(r"\2", _LINK.sub(r"\1", text))
