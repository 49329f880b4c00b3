"""What people say, and what papers call it: 「ボーナス」 is asked for, 「賞与」 is written.

No list of a company's own: only words that mean the same in any Japanese company, and that share little
with it, or words and abbreviations (`abbreviations.written_out`) find it by themselves. Where none
of the best candidates has what was said, and some have what it is called, that is asked for instead. To ask
for both, 「ボーナス（賞与）」, made the reader less sure: of 196 questions about papers that no training saw,
which mostly say it in the words of the question, 99 were answered rightly and not 111.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from appliance.text.normalize import fold, normalize
from appliance.text.synonyms import Groups

_TABLE = """
ボーナス: 賞与
残業: 時間外労働 時間外勤務
残業代: 時間外勤務手当 割増賃金
夏休み: 夏季休業 夏季休暇
冬休み 正月休み: 年末年始休業
昼休み: 休憩時間
テレワーク リモートワーク リモート: 在宅勤務
香典: 弔慰金
クビ: 解雇
ケガ 怪我: 負傷
ハンコ はんこ 判子: 押印 印鑑
スマホ: スマートフォン
パソコン: PC
PC: パソコン
WiFi Wi-Fi: 無線LAN
メアド: メールアドレス
ChatGPT チャットGPT Copilot Gemini: 生成AI
Dropbox Googleドライブ: クラウドサービス
ウイルス: マルウェア
値引き: 割引
飲み会: 懇親会
出張費: 旅費
ホテル代 泊まり代: 宿泊費
電車賃: 交通費
マイカー 自家用車: 私有車
ガソリン代: 燃料費
レシート: 領収書 領収証
締め切り 〆切: 期限
バイト: アルバイト
たばこ タバコ: 喫煙
テレビ会議: Web会議
平社員 ヒラ社員 ヒラ: 一般社員
ノー残業デー: 定時退社日
社食: 社員食堂
コピー機: 複合機
メルアド: メールアドレス
給料日: 支給日 支払日
退職金: 退職手当
引っ越し 引越し: 転居
クレーム: 苦情
印鑑: 押印
駐車代: 駐車料金
電車代 バス代: 交通費
お祝い金 祝い金: 祝金
お見舞金 お見舞い金: 見舞金
見積もり: 見積書
"""
_LETTERS = "[一-龠々ァ-ヺーA-Za-z0-9]"


def _read() -> dict[str, tuple[str, ...]]:
    rows = (line.split(":") for line in _TABLE.split("\n") if line)
    return {word: tuple(papers.split()) for said, papers in rows for word in said.split()}


PAPERS = _read()


def said(question: str) -> Groups:
    """The everyday words of the question, folded, each with what papers call it.

    A word is meant where it stands by itself: 「残業」 is not in 「残業代」.
    """
    text = fold(question)
    found = [(fold(word), *papers) for word, papers in PAPERS.items()]
    return [group for group in found if _place(text, group[0])]


def instead(groups: Groups, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Of the words that none of the texts has, each with what most of these call it."""
    read = [fold(text) for text in texts]
    found = []
    for word, *papers in groups:
        if any(_place(text, word) for text in read):
            continue
        counts = {paper: sum(fold(paper) in text for text in read) for paper in papers}
        best = max(papers, key=lambda paper: counts[paper])
        if counts[best]:
            found.append((word, best))
    return found


def replaced(question: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The question in the words of papers."""
    for word, paper in pairs:
        text = normalize(question)
        if found := _place(fold(question), word):
            start, stop = text.span(*found.span())
            question = question[:start] + paper + question[stop:]
    return question


def _place(text: str, word: str) -> re.Match[str] | None:
    return re.search(rf"(?<!{_LETTERS}){re.escape(word)}(?!{_LETTERS})", text, re.IGNORECASE)
