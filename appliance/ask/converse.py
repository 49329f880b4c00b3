"""A follow-up made into a question that stands alone, by rule.

Only what the person asked is used, never what was answered: a document cannot steer the next
search through an answer. A complete question stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.search import evidence
from appliance.text import segment
from appliance.types import Turn

_LONGEST_CHARS = 400
_TURNS = 6  # back that a topic is remembered

_OPENING = re.compile(
    r"^(?:じゃあ?|では|それでは|それじゃあ?|それなら|なら|ちなみに|あと|それと|次に|一方)(?=[、,\s]|[^はがをにのもで])[、,\s]*"
)
_POINTER = re.compile(
    r"(?P<topic>それ|これ|あれ|そちら|こちら|そっち|同じもの)(?!ぞれ|から|以|まで|で(?!す)|なら|では|でも|に|と(?!は))"
    r"|(?P<of>その|この|あの|上記の|前述の|同じ|さっきの|先ほどの)(?!他|ほか|まま|ため|よう|うち|会社|度)"
    r"|(?P<place>そこ|ここ)(?=で|に|は|の|へ|まで|から)"
)
_TAIL = re.compile(
    r"(?:の場合|の時|のとき)?(?:は|って|なら|だと|では|については|も)?(?:どう(?:です|なります|なん|でしょう)?か?)?[？?。…]*$"
)
_TOPIC = re.compile(r"^(?P<topic>.{1,60}?)(?:について|に関して|とは|は|って|が|を)(?!じめ)")
_ASPECTS = """
理由 金額 期限 期間 方法 手順 手続き 場所 条件 対象 対象者 上限 下限 例外 担当 担当者 窓口 費用 料金 申請先 申請方法
申請期限 提出先 提出期限 連絡先 目的 回数 日数 時間 頻度 単位 割合 原因 対策 対応 結果 詳細 根拠 違い 保管場所
保存期間 開始日 終了日 締め切り 締切 いつ いくら どこ 誰 なぜ どうして
"""


_ASKS_FIRST = re.compile(r"^(?:誰|だれ|いつ|どこ|いくら|何|なに|どう|なぜ|どの|どれ|どちら)")
_MARKED = re.compile(r"(?<!必要)(?<!こと)(?<!方)(?:は|が|を|って|について|に関して)")
_CODE = re.compile(r"([A-Za-zＡ-Ｚ]+)-?[0-9][0-9A-Za-z-]*")
_MORE = frozenset(("もっと", "詳しい", "具体", "的", "続き", "更に", "本当", "例えば", "簡単"))


def standalone(question: str, history: Sequence[Turn]) -> str:
    """The question as it must be searched, given the turns before it, oldest first."""
    topic = ""
    for turn in history[-_TURNS:]:
        topic = _resolved(turn.question, topic)
    return _resolved(question, topic)


def _resolved(question: str, before: str) -> str:
    question = " ".join(question.split())
    if not before:
        return question
    rest = _OPENING.sub("", question)
    opened = rest != question
    topic = _topic_of(before)
    if pointed := _POINTER.search(rest):
        return _short(rest[: pointed.start()] + _named(pointed, topic) + rest[pointed.end() :])
    what = _TAIL.sub("", rest)
    if what != rest and len(what) <= 16 and _nominal(what):
        if what.endswith(tuple(_ASPECTS.split())):
            return _short(f"{topic}の{what}は？")
        return _short(_instead(what, before))
    if _ASKS_FIRST.match(rest) and not _MARKED.search(rest):
        return _short(f"{topic}は{rest}")
    if not _content(rest) or (opened and not _MARKED.search(rest)):
        return _short(f"{topic}について、{rest}")
    return rest if opened else question


def _named(pointed: re.Match[str], topic: str) -> str:
    return f"{topic}の" if pointed.group("of") else topic


def _instead(what: str, before: str) -> str:
    """The question before, asked of something else: 「部長」 takes the place of 「課長」."""
    if code := _CODE.fullmatch(what):
        like = rf"(?<![A-Za-z]){re.escape(code.group(1))}-?[0-9][0-9A-Za-z-]*"
        swapped, count = re.subn(like, what, before, count=1)
        if count:
            return swapped
    if len(what) >= 2:
        like = rf"(?<![一-龠ァ-ヺー]){_kind(what[0])}{{{len(what) - 1}}}{re.escape(what[-1])}(?![一-龠ァ-ヺー])"
        swapped, count = re.subn(like, what, before, count=1)
        if count and what not in before:
            return swapped
    return f"{what}の場合、{before}"


def _kind(char: str) -> str:
    return "[一-龠々]" if re.match("[一-龠々]", char) else "[ァ-ヺー]"


def _topic_of(question: str) -> str:
    """What a question is about: the words before its first は, って, が or を."""
    question = re.sub(r"^.{1,20}の場合、", "", question) if "の場合、" in question else question
    found = _TOPIC.match(question)
    if found and _content(found.group("topic")):
        return found.group("topic")
    return re.sub(r"[？?。]+$", "", question)


def _content(text: str) -> list[str]:
    return [word for word in segment.words(text) if word not in evidence.ASKING | _MORE]


def _nominal(text: str) -> bool:
    """A bare name: no verb, no particle that would make it a question of its own."""
    return not re.search(r"[、。はがを]|(?:です|ます|ました|でした|か|る|た|い|て)$", text)


def _short(text: str) -> str:
    return text[:_LONGEST_CHARS]
