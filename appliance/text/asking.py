"""The part of a question that asks, without who asks and why: 「ISOの更新審査はいつからですか？会議と重ならないか見たい」."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"[^。．？?！!\n]+[。．？?！!]*\n?")
_ASKS = re.compile(r"[?？]\s*$|か[。．]?\s*$|教えて|おしえて|知りたい|っけ|かな|ください|下さい")
# Who somebody is, or a greeting. Other sentences before the one that asks say what it is about.
_INTRODUCES = re.compile(
    r"(?:の者|担当|社員|新人|新入り|初心者|部員|課員)です[。．！!]?\s*$|お疲れ(?:様|さま)|お世話に|(?:こんにち|こんばん)[はわ]|おはよう"
    r"|^(?:すみません|すいません|恐れ入ります|失礼します|質問です|質問があります|お尋ねします|お聞きします)[。．！!]?\s*$"
)


def core(question: str) -> str:
    """Empty where all of it asks, or where it cannot be told what does."""
    sentences = [s for s in _SENTENCE.findall(question) if s.strip()]
    asking = [n for n, s in enumerate(sentences) if _ASKS.search(s)]
    if not asking:
        return ""
    before = [s for s in sentences[: asking[0]] if not _INTRODUCES.search(s.strip())]
    kept = before + sentences[asking[0] : asking[-1] + 1]
    return "".join(kept).strip() if len(kept) < len(sentences) else ""
