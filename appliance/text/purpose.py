"""What a document says at its beginning that it is about: 「この規程は、…について定める。」"""

from __future__ import annotations

import re

from appliance.text import split

WITHIN = 2000  # characters from the beginning
_STATES = re.compile(
    r"(?:この|本)(?:就業)?(?:規程|規則|規定|細則|要領|要綱|基準|規約|内規|手引き?|(?:取扱)?手順書?|マニュアル|ガイド(?:ライン)?"
    r"|(?:取扱|仕様|説明|報告|計画|契約|企画|提案|議事)*書|資料|文書|覚書|ページ|お知らせ|通知|一覧|台帳|表|FAQ)(?:は|では|の目的は)"
)
# What it is not about has the same words, and a reader sees them alone.
_NOT = re.compile(
    r"別に定め|除[くきい]|対象外|適用しない|[含ふく]めない|含まない|準用|ではな|ありません|しない|失い|失う"
)


def stated(beginning: str) -> str:
    """The first sentence that says so; empty where none does."""
    for start, end in split.sentences(beginning):
        sentence = beginning[start:end].strip()
        if _STATES.match(sentence) and not _NOT.search(sentence):
            return " ".join(sentence.split())
    return ""
