"""A follow-up made into a question that stands alone, by rule.

Only what the person asked is used, never what was answered: a document cannot steer the next
search through an answer. What has a topic of its own stays as it is: of two questions in one
conversation the second is mostly a new one, and what it is not must be plain from its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from appliance.ask import courtesy
from appliance.search import evidence
from appliance.text import segment
from appliance.types import Turn

_LONGEST_CHARS = 400
_TURNS = 6  # back that a topic is remembered
_FRAGMENT_CHARS = 16  # a longer noun is a question of its own

_OPENING = re.compile(
    r"^(?:じゃあ?|では|それでは|それじゃあ?|それなら|なら|ちなみに|あと|それと|次に|一方|(?:他|ほか)に)"
    r"(?=[、,\s]|[^はがをにのもで])[、,\s]*"
)
_POINTER = re.compile(
    r"(?P<topic>それ|これ|あれ|そちら|こちら|そっち|同じもの)(?!ら|ぞれ|から|以|まで|で(?!す)|なら|では|でも|に|と(?!は))"
    r"|(?<![どよ])(?P<of>その|この|あの|上記の|前述の|さっきの|先ほどの)(?!他|ほか|まま|ため|よう|うち|会社|度|日|時|とき|際|前|後)"
    r"|(?<!ど)(?P<place>そこ|ここ)(?=で|に|は|の|へ|まで|から)"
)
_TAIL = re.compile(
    r"(?:の場合|の時|のとき)?(?:は|って|なら|だと|では|については|も)?(?:どう(?:です|なります|なん|でしょう)?か?)?[？?。…]*$"
)
_WHEN = re.compile(
    r"^(?P<when>[^、。？?]{2,30}(?:場合|とき|時|際))(?:に?は|って|だと|なら)?[？?。…]*$"
)
_STATED = re.compile(
    r"^(?P<stated>[^。？?]{4,60}(?:ました|です|ません|ます|[いた])(?:んですが?)?)。"
)
_TOPIC = re.compile(r"^(?P<topic>.{1,60}?)(?:について|に関して|とは|は|って|が|を)(?!じめ)")
_NAMED = re.compile(r"(?:[一-龠々ァ-ヺーA-Za-z0-9０-９Ａ-Ｚａ-ｚ%％)）」』]|[一-龠]さ)$")
_CLAUSE = re.compile(r"[、。はがを]|[たれ]ら|れば|ても|でも|だと|けど")
_OF_ITS_OWN = re.compile(r"[のにでとへ]|から|まで|より")  # 「相良油田の起源」, 「オランダにある港」
_BARE = re.compile(r"^(?P<noun>[一-龠々ァ-ヺー]{1,12})(?:[はが]|って)")
_NAME = re.compile(r"[一-龠々ァ-ヺーA-Za-z0-9-]+(?:の[一-龠々ァ-ヺーA-Za-z0-9-]+)*$")
_ASKS_FIRST = re.compile(r"^(?:誰|だれ|いつ|どこ|いくら|何|なに|どう|なぜ|どの|どれ|どちら)")
_ASKS = re.compile(r"誰|だれ|いつ(?!も)|どこ|いく[らつ]|何|なに|なぜ|どう|どの|どれ|どちら|どんな")
_ALSO = re.compile(r"^[^、。はがを]{1,10}?も(?!っと|し|う|の|ち|と|ら|っ)")
_CODE = re.compile(r"([A-Za-zＡ-Ｚ]+)-?[0-9][0-9A-Za-z-]*")
_COUNTED = re.compile(r"(?P<before>第?)(?P<count>[0-9０-９.,]+)(?P<unit>\D{1,4})")
_MORE = frozenset(("もっと", "詳しい", "具体", "的", "続き", "更に", "本当", "例えば", "簡単"))

# What can be asked of anything, and so says nothing of what is meant.
_ASPECTS = """
理由 金額 期限 期間 方法 手順 手続き 場所 条件 対象 対象者 上限 下限 例外 担当 担当者 窓口 費用 料金 申請先 申請方法
申請期限 提出先 提出期限 連絡先 連絡 目的 回数 日数 時間 頻度 単位 割合 原因 対策 対応 対処 結果 詳細 根拠 違い 保管場所
保存期間 開始日 終了日 締め切り 締切 締め日 申請 申請書 承認 承認者 決裁者 許可 予約 提出 届け出 変更 更新 延長 取消 取り消し
キャンセル 返却 返品 参加 参加者 必須 必要 可能 書類 様式 用紙 添付 手当 給料 内訳 前年比 例 具体例 注意点 注意 罰則 制限
登録 支払い 精算 証明書 計算 科目 持ち物 会場 日程 予定 値段 価格 単価 送料 在庫 納期 重さ 寸法 大きさ サイズ 色 電源
保証 保証期間 使い方 設定 点検 交換 修理 部品 リスク 効果 背景 経緯 概要 内容 種類 数 量 率
"""
# Whom, where and when it may be asked of.
_CASES = """
社長 役員 取締役 本部長 部長 次長 課長 係長 主任 管理職 一般職 総合職 社員 正社員 契約社員 派遣社員 嘱託 パート アルバイト 新人 新入社員
上長 上司 部下 本人 家族 配偶者 妻 夫 子 子供 親 祖父 祖母 祖父母 兄弟 男性 女性 外国人 海外 国内 本社 支社 支店 工場 営業所
土日 休日 祝日 平日 夜間 深夜 朝 夏 冬 去年 昨年 一昨年 今年 来年 前回 今回 次回 先月 今月 来月 先週 今週 来週 昨日 今日 明日 前期 今期 来期
年度 上期 下期 半日 一日 最初 最後
"""
_UNITS = "日 年 月 週 時 分 秒 時間 回 人 名 円 本 個 台 件 枚 度 割 倍 何 他 前 後 以内 以上 以下 場合 方 先 者 書 為 事 物"
_PAID = r"(?:費|料|代|賃|金|額|手当|日当|給|価格|単価|定価|税)"  # 「いくら」 asks for any of them
_MEASURED = (
    r"(?:量|さ|径|圧|力|温度|範囲|寸法|電源|電圧|重量|質量|サイズ|容量|値段|色|型番|納期|在庫)"
)
_TIMES = re.compile(
    r"(?:一昨年|去年|昨年|今年|来年|前回|今回|次回|先月|今月|来月|先週|今週|来週|昨日|今日|明日|前期|今期|来期)(?:度|分)?"
)


@dataclass(frozen=True, slots=True)
class _State:
    """What a conversation is about: its last question, the case it was asked of, and its topic."""

    base: str
    topic: str
    case: str = ""

    def __str__(self) -> str:
        return (self.case + self.base)[:_LONGEST_CHARS]


def standalone(question: str, history: Sequence[Turn]) -> str:
    """The question as it must be searched, given the turns before it, oldest first."""
    state: _State | None = None
    for turn in history[-_TURNS:]:
        state = _after(turn.question, state) or state
    found = _after(question, state)
    return str(found) if found else " ".join(question.split())


def _after(question: str, before: _State | None) -> _State | None:
    """None where nothing is asked."""
    question = " ".join(question.split())
    if courtesy.reply(question):
        return None
    if before is None:
        return _asked(question)
    rest = _OPENING.sub("", question)
    return (
        _pointed(rest, before)
        or _of_a_case(rest, before)
        or _fragment(rest, before)
        or _without_topic(rest, before, opened=rest != question)
        or _asked(rest)
    )


def _asked(question: str) -> _State:
    return _State(question, _topic_of(question))


def _pointed(rest: str, before: _State) -> _State | None:
    """「それはいつまでですか」. What comes after a topic of its own points at that."""
    found = _POINTER.search(rest)
    if not found or _own(rest[: found.start()]):
        return None
    topic = f"{before.topic}の" if found.group("of") else before.topic
    return _asked(rest[: found.start()] + topic + rest[found.end() :])


def _of_a_case(rest: str, before: _State) -> _State | None:
    """「100万円を超える場合は？」"""
    found = _WHEN.match(rest)
    if not found or _ASKS.search(rest) or _nominal(_TAIL.sub("", rest)) or len(_own(rest)) > 1:
        return None
    return replace(before, case=f"{found.group('when')}、")


def _fragment(rest: str, before: _State) -> _State | None:
    """「部長は？」: a bare name."""
    what = _TAIL.sub("", rest)
    if what == rest or len(what) > _FRAGMENT_CHARS or not _nominal(what):
        return None
    if swapped := _swapped(what, before):
        return swapped
    if not _own(what) and not _cases(what):
        return _asked(f"{_subject(before.topic)}の{what}は？")
    if _own(what) and _OF_ITS_OWN.search(what):
        return None
    if named := _instead(what, before):
        return named
    if _TIMES.fullmatch(what):
        return _timed(what, before)
    return replace(before, case=f"{what}の場合、")


def _swapped(what: str, before: _State) -> _State | None:
    """What takes the place of its like: 「KP-3300」 of 「KP-2200」, 「第13条」 of 「第12条」, 「部長」 of 「課長」."""
    if code := _CODE.fullmatch(what):
        like = rf"(?<![A-Za-z]){re.escape(code.group(1))}-?[0-9][0-9A-Za-z-]*"
    elif counted := _COUNTED.fullmatch(what):
        like = rf"{counted.group('before')}[0-9０-９.,]+{re.escape(counted.group('unit'))}円?"
    elif len(what) >= 2:
        like = rf"(?<![一-龠ァ-ヺー]){_kind(what[0])}{{{len(what) - 1}}}{re.escape(what[-1])}(?![一-龠ァ-ヺー])"
    else:
        return None
    if what in before.base:
        return None
    case, count = re.subn(like, lambda _: what, before.case, count=1)
    if count:
        return replace(before, case=case)
    base, count = re.subn(like, lambda _: what, before.base, count=1)
    return replace(_asked(base), case=before.case) if count else None


def _instead(what: str, before: _State) -> _State | None:
    """「日当」 in the place of 「宿泊費」, 「重さ」 of 「吐出量」."""
    for like in (_PAID, _MEASURED):
        if not re.search(f"{like}$", what):
            continue
        named = f"[一-龠々ァ-ヺー]*{like}(?=(?:の{_aspect()})?$)"
        topic, count = re.subn(named, lambda _: what, before.topic, count=1)
        if count:
            return replace(before, base=before.base.replace(before.topic, topic, 1), topic=topic)
    return None


def _timed(what: str, before: _State) -> _State:
    base, count = _TIMES.subn(lambda _: what, before.base, count=1)
    return _asked(base if count else f"{what}の{base}")


def _without_topic(rest: str, before: _State, *, opened: bool) -> _State | None:
    """「いつまでですか」, 「費用はかかりますか」, 「家族も受けられますか」."""
    own = _own(rest)
    also = _ALSO.match(rest) and (not own or (len(own) == 1 and not re.search("[はがを]", rest)))
    if own and not also:
        return None
    if _stated(before.topic):
        return replace(before, base=f"{before.topic}。{rest}", case="")
    if _ASKS_FIRST.match(rest):
        return replace(before, base=f"{before.topic}は{rest}", case="")
    bare = _BARE.match(rest)
    if bare and not also and not _cases(bare["noun"]):
        return _asked(f"{_subject(before.topic)}の{rest}")
    if not segment.nouns(rest) and len(rest) > 20 and not opened:
        return None  # it says in verbs what it is about
    topic = _subject(before.topic) if segment.nouns(rest) else before.topic
    return replace(before, base=f"{topic}について、{rest}", case="")


def _stated(topic: str) -> bool:
    """Whether it is a sentence: 「社員証をなくしました」."""
    return bool(_STATED.match(f"{topic}。"))


def _subject(topic: str) -> str:
    """A topic without what may be asked of anything: 「会議室」 of 「会議室の予約方法」."""
    while (cut := re.sub(rf"の[^の]{{0,6}}?{_aspect()}$", "", topic)) != topic:
        topic = cut
    return topic


def _topic_of(question: str) -> str:
    """What a question is about: the words before its first は, って, が or を."""
    question = question[:_LONGEST_CHARS]
    if stated := _STATED.match(question):
        return stated["stated"]
    found = _TOPIC.match(question)
    topic = found["topic"] if found and _content(found["topic"]) else question
    topic = re.sub(r"の?[？?。]*$", "", topic) or question
    if _ASKS.search(topic):  # 「震度いくつで対策班を」: what is named after it, or before it
        after = _NAME.search(topic)
        topic = after[0] if after else re.split(_ASKS, topic)[0] or topic
    return topic


def _content(text: str) -> list[str]:
    return [word for word in segment.words(text) if word not in evidence.ASKING | _MORE]


def _own(text: str) -> list[str]:
    """The nouns that say what is meant, and not merely what of it, or of whom."""
    known = _known(_ASPECTS) | _known(_CASES) | _known(_UNITS) | evidence.ASKING | _MORE
    nouns = segment.nouns(_compounds().sub("場合", text))
    return [n for n in nouns if n not in known and not re.fullmatch(r"[\d.,]+", n)]


def _cases(text: str) -> bool:
    """Whether it is of whom, where or when, and no more."""
    return not _own(text) and bool(_known(_CASES) & {text, *segment.nouns(text)})


@cache
def _known(text: str) -> frozenset[str]:
    """The words, and as the dictionary has them, which they are compared in."""
    words = text.split()
    forms = [(w, segment.nouns(w)) for w in words]
    return frozenset(words) | {n[0] for _, n in forms if len(n) == 1}


@cache
def _compounds() -> re.Pattern[str]:
    """Those of several nouns, none of which is known alone: 「契約社員」 is, 「契約」 is not."""
    words = (w for w in f"{_ASPECTS} {_CASES}".split() if len(segment.nouns(w)) > 1)
    return re.compile("|".join(sorted(words, key=len, reverse=True)))


@cache
def _aspect() -> str:
    return f"(?:{'|'.join(sorted(_ASPECTS.split(), key=len, reverse=True))})"


def _kind(char: str) -> str:
    return "[一-龠々]" if re.match("[一-龠々]", char) else "[ァ-ヺー]"


def _nominal(text: str) -> bool:
    """A bare name: it ends with a noun, and has no particle that would make it a question of its own."""
    return bool(_NAMED.search(text)) and not (_CLAUSE.search(text) or _ASKS.search(text))
