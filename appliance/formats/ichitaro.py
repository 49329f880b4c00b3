"""Ichitaro (.jtd, .jtt): the letters of the text, and a word that this is all.

Nobody has described the format; that the stream `DocumentText` holds UTF-16 with signs of its own
between the letters is what is known, and no real file was at hand. So what looks like no language is
refused, and all else is noted to be looked at.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from appliance.errors import Unreadable
from appliance.formats.compound import Compound
from appliance.formats.draft import Draft
from appliance.text.garbled import is_garbled
from appliance.types import Document

STREAM = "DocumentText"
_ADVICE = "PDF か .docx で保存し直してください"
_NOTE = (
    "一太郎の文書から文字だけを取り出しました。抜けや余分な文字がないか、元の文書で確かめてください"
)
_LINE = re.compile("[\r\n\x0b\x0c]+")
# the signs between the letters: controls, and what no text has
_BETWEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u0100-\u02ff\ud800-\uf8ff\ufff0-\uffff]+")


def parse(stream: BinaryIO) -> Document:
    data = Compound(stream).read(STREAM)
    text = max(
        (data[: len(data) & ~1].decode(code, "replace") for code in ("utf-16-be", "utf-16-le")),
        key=_japanese,
    )
    draft = Draft()
    for line in _LINE.split(text):
        parts = (part.strip() for part in _BETWEEN.split(line))
        if shown := " ".join(part for part in parts if part):
            draft.line(shown)
    draft.problems.append(_NOTE)
    document = draft.document()
    if not document.text or is_garbled(document.text):
        raise Unreadable(f"一太郎の文書の文字を取り出せません ({_ADVICE})")
    return document


def _japanese(text: str) -> int:
    return sum("\u3040" <= sign <= "\u30ff" for sign in text)
