"""What people say, and what papers call it: 「ボーナス」 is asked for, 「賞与」 is written.

No list of a company's own: only words that mean the same in any Japanese company. The question is
widened by `synonyms.expand`, in this one direction, where the word is not what the documents use too.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from appliance.text.normalize import fold
from appliance.text.synonyms import Groups

_TABLE = """
ボーナス: 賞与
給料: 賃金 給与
残業: 時間外労働 時間外勤務
残業代: 時間外勤務手当 割増賃金
休日出勤: 休日勤務 休日労働
有給 有休: 年次有給休暇
夏休み: 夏季休業 夏季休暇
冬休み 正月休み: 年末年始休業
昼休み: 休憩時間
産休: 産前産後休暇 産前産後休業
育休: 育児休業
パパ育休: 出生時育児休業
時短 時短勤務: 短時間勤務
テレワーク リモートワーク リモート: 在宅勤務
引っ越し 引越し 引越: 転居
香典: 弔慰金
クビ: 解雇
ケガ 怪我: 負傷
労災: 業務災害 労働災害
ハンコ はんこ 判子: 押印 印鑑
スマホ: スマートフォン
パソコン: PC
PC: パソコン
WiFi Wi-Fi: 無線LAN
メアド: メールアドレス
ChatGPT チャットGPT Copilot Gemini: 生成AI
Dropbox Googleドライブ: クラウドサービス
ウイルス: マルウェア
値段: 価格 単価
値引き: 割引
クレーム: 苦情
飲み会: 懇親会
出張費: 旅費
ホテル代 泊まり代: 宿泊費
電車賃: 交通費
マイカー 自家用車: 私有車
ガソリン代: 燃料費
レシート: 領収書 領収証
締め切り 〆切: 期限
バイト: アルバイト
新人: 新入社員
健診: 健康診断
たばこ タバコ: 喫煙
重さ: 質量 重量
大きさ: 寸法
テレビ会議: Web会議
"""
_LETTERS = "[一-龠々ァ-ヺーA-Za-z0-9]"


def _read() -> dict[str, tuple[str, ...]]:
    rows = (line.split(":") for line in _TABLE.split("\n") if line)
    return {word: tuple(papers.split()) for said, papers in rows for word in said.split()}


PAPERS = _read()


def groups(question: str, holders: Callable[[str], int], common: int) -> Groups:
    """For `synonyms.expand`: of the everyday words that fewer than `common` chunks hold.

    A word is meant where it stands by itself: 「有給」 is not in 「有給休暇」.
    """
    said = fold(question)
    return [
        (word, *papers)
        for word, papers in PAPERS.items()
        if re.search(rf"(?<!{_LETTERS}){re.escape(fold(word))}(?!{_LETTERS})", said, re.IGNORECASE)
        and holders(fold(word)) < common
    ]
