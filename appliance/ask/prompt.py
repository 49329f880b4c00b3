"""The prompt: numbered passages and one question. The same builder serves training and answering.

Retrieved text is data. It is fenced: a line of a passage can never look like a
line of the prompt, and a `[2]` inside a passage can never look like a marker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.types import Passage, Prompt

SYSTEM = (
    "資料だけを根拠に、質問に日本語で短く答える。"
    "答えの後に根拠の資料番号を[1]のように付ける。"
    "資料に答えがなければ「資料には記載がありません。」と答える。"
)
REFUSAL = "資料には記載がありません。"

STANDING = {"superseded": "（旧版）", "ahead": "（施行前）"}

_MARKER = re.compile(r"\[(\d+)\]")
_STRUCTURE = re.compile(r"^(?=(?:資料|質問|答え)\s*[\[:：])", re.MULTILINE)
_BLANK_LINES = re.compile(r"\s*\n\s*")


def build(question: str, passages: Sequence[Passage]) -> Prompt:
    """The prompt for a question over passages, numbered from 1 in the order given."""
    blocks = [block(n, titled(p), p.label, p.text) for n, p in enumerate(passages, 1)]
    return Prompt(SYSTEM, "\n\n".join([*blocks, f"質問: {one_line(question)}\n答え:"]))


def titled(passage: Passage) -> str:
    """The document's title, and whether it is another version than the one in force."""
    return passage.title + (STANDING[passage.version.standing] if passage.version else "")


def block(number: int, title: str, label: str, text: str) -> str:
    """One passage as the model sees it."""
    place = f"{title} {label}".strip()
    return f"資料[{number}] {one_line(place)}\n{fence(text)}"


def fence(text: str) -> str:
    """Text that cannot be taken for part of the prompt's own structure."""
    text = _BLANK_LINES.sub("\n", text.strip())
    text = _MARKER.sub(r"［\1］", text)
    return _STRUCTURE.sub("・", text)


def one_line(text: str) -> str:
    return _MARKER.sub(r"［\1］", " ".join(text.split()))
