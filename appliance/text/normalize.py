"""Text as the index sees it. People are always shown the original.

NFKC, case, width, dashes and 異体字 are folded so that 「髙﨑」 finds 「高崎」 and
「ＫＰ−２２００」 finds 「kp-2200」. It loses meaning (① becomes 1), so nothing but an
index may hold the result; `normalize` keeps the way back to the original.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

# old or variant form, then the everyday one
_VARIANTS = [
    "髙高",
    "﨑崎",
    "碕崎",
    "邊辺",
    "邉辺",
    "齋斎",
    "齊斎",
    "斉斎",
    "澤沢",
    "濱浜",
    "濵浜",
    "嶋島",
    "嶌島",
    "廣広",
    "櫻桜",
    "龍竜",
    "瀧滝",
    "眞真",
    "圓円",
    "惠恵",
    "豐豊",
    "榮栄",
    "彌弥",
    "與与",
    "亞亜",
    "壽寿",
    "藝芸",
    "禮礼",
    "縣県",
    "區区",
    "黑黒",
    "鐵鉄",
    "鐡鉄",
    "鹽塩",
    "舊旧",
    "經経",
    "濟済",
    "總総",
    "應応",
    "驛駅",
    "實実",
    "變変",
    "萬万",
    "兩両",
    "圖図",
    "國国",
    "學学",
    "會会",
    "冨富",
    "峯峰",
    "舘館",
    "槇槙",
    "曻昇",
    "𠮷吉",
    "靑青",
    "淸清",
    "德徳",
    "增増",
    "寬寛",
    "栁柳",
    "桒桑",
    "桧檜",
    "薮藪",
    "渕淵",
    "渊淵",
    "嶽岳",
    "曾曽",
    "靏鶴",
    "靍鶴",
    "凜凛",
    "堯尭",
    "遙遥",
    "瑤瑶",
    "晉晋",
    "爲為",
    "假仮",
    "驗験",
    "檢検",
    "擴拡",
    "價価",
    "賣売",
    "讀読",
    "續続",
    "勞労",
    "營営",
    "單単",
    "傳伝",
    "轉転",
    "團団",
    "關関",
    "廳庁",
    "臺台",
    "辨弁",
    "辯弁",
    "瓣弁",
    "證証",
    "雙双",
    "藏蔵",
    "莊荘",
    "穗穂",
    "條条",
    "狀状",
    "將将",
    "燒焼",
    "乘乗",
    "壯壮",
    "聲声",
    "齒歯",
    "樂楽",
    "劍剣",
    "劔剣",
    "獻献",
    "顯顕",
    "險険",
    "鄕郷",
    "曉暁",
    "勳勲",
    "薰薫",
    "鷄鶏",
    "鷗鴎",
    "嚙噛",
    "瘦痩",
    "剝剥",
    "頰頬",
    "塡填",
    "蟬蝉",
    "蠟蝋",
    "軀躯",
    "繡繍",
    "醬醤",
    "麴麹",
    "屢屡",
    "俠侠",
    "吞呑",
    "噓嘘",
    "姸妍",
    "屛屏",
    "幷并",
    "搔掻",
    "瀆涜",
    "焰焔",
    "禱祷",
    "簞箪",
    "籠篭",
    "繫繋",
    "蔣蒋",
    "萊莱",
    "諫諌",
    "鹼鹸",
    "麵麺",
    "驒騨",
    "都都",
    "隆隆",
    "逸逸",
    "發発",
    "獨独",
    "對対",
    "當当",
    "點点",
    "權権",
    "觀観",
    "勸勧",
    "歡歓",
    "廢廃",
    "數数",
    "樣様",
    "稱称",
    "號号",
    "澁渋",
    "濕湿",
    "緣縁",
    "繩縄",
    "縱縦",
    "總総",
    "纖繊",
    "缺欠",
    "聽聴",
    "膽胆",
    "舍舎",
    "茲茲",
    "處処",
    "屬属",
    "嚴厳",
    "圍囲",
    "壓圧",
    "奧奥",
    "孃嬢",
    "寢寝",
    "寫写",
    "專専",
    "峽峡",
    "巖巌",
    "廻回",
    "彈弾",
    "從従",
    "惡悪",
    "戰戦",
    "戲戯",
    "拂払",
    "拔抜",
    "擇択",
    "擔担",
    "據拠",
    "攝摂",
    "收収",
    "效効",
    "敕勅",
    "敎教",
    "晝昼",
    "棧桟",
    "檜檜",
    "歐欧",
    "歷歴",
    "歸帰",
    "殘残",
    "每毎",
    "氣気",
    "沒没",
    "淺浅",
    "滿満",
    "爭争",
    "獸獣",
    "畫画",
    "疊畳",
    "盜盗",
    "硏研",
    "祕秘",
    "粹粋",
    "絲糸",
    "繪絵",
    "繼継",
    "肅粛",
    "腦脳",
    "臟臓",
    "與与",
    "蟲虫",
    "裝装",
    "觸触",
    "譯訳",
    "譽誉",
    "讓譲",
    "豫予",
    "貳弐",
    "踐践",
    "辭辞",
    "遞逓",
    "遲遅",
    "醫医",
    "釋釈",
    "錢銭",
    "鑛鉱",
    "鎭鎮",
    "隱隠",
    "雜雑",
    "靈霊",
    "靜静",
    "顏顔",
    "餘余",
    "驅駆",
    "髮髪",
    "鬪闘",
    "默黙",
    "齡齢",
    "龜亀",
]
VARIANTS = {ord(pair[0]): pair[1] for pair in _VARIANTS if pair[0] != pair[1]}

_UNSEEN = (
    (0xFE00, 0xFE0F),  # variation selectors
    (0xE0000, 0xE01EF),  # tags and ideographic variation selectors
    (0x200B, 0x200F),  # zero width, direction
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0xD800, 0xDFFF),  # halves of a character: no text at all
    (0xFEFF, 0xFEFF),
    (0x00AD, 0x00AD),
)
_INVISIBLE = dict.fromkeys(n for first, last in _UNSEEN for n in range(first, last + 1))
_LOOKALIKES = {
    ord(c): to
    for chars, to in (
        ("〜∼∿⁓〰", "~"),
        ("−‐‒–—―⁃─━", "-"),
        ("‘’‛′", "'"),
        ("“”‟″", '"'),
        ("•‣⁌⁍", "・"),
    )
    for c in chars
}
_EVERYDAY = _LOOKALIKES | VARIANTS
_KATAKANA = "ァ-ヺー"
# typed with the wrong key: コンピュ―タ, and ＡＢー１２
_LONG_MARK = re.compile(f"(?<=[{_KATAKANA}])[−―─━](?=[{_KATAKANA}])")
_HYPHEN = re.compile(r"(?<=[0-9A-Za-z])ー(?=[0-9A-Za-z])")
# what composes with the character before it, over what nobody sees between them
# (as ranges: a class of single characters this far apart is searched one by one)
_JOINS = "\u3099\u309a\uff9e\uff9f\u0300-\u036f" + "".join(
    f"{chr(first)}-{chr(last)}" for first, last in _UNSEEN
)


@dataclass(frozen=True, slots=True)
class Normalized:
    """`text[i]` came from `original[offsets[i]]`; `offsets` has one more, the original's length."""

    text: str
    offsets: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original's [start, end) of this text's [start, end)."""
        return self.offsets[start], self.offsets[end] if end > start else self.offsets[start]


def fold(text: str) -> str:
    """The form both index and query take."""
    return width(text).translate(VARIANTS).casefold()


def width(text: str) -> str:
    """Like `fold`, but case and 異体字 stay: what a dictionary can still look up."""
    text = unicodedata.normalize("NFKC", text.translate(_INVISIBLE))
    text = _HYPHEN.sub("-", _LONG_MARK.sub("ー", text))
    return text.translate(_LOOKALIKES)


def normalize(text: str) -> Normalized:
    """`fold(text)` with the way back to the original."""
    # most characters stand alone and become one: whole stretches of them are folded at once
    single = {c: _composed(c) for c in set(text)}
    alone = {ord(c): to for c, to in single.items() if len(to) == 1}
    odd = "".join(re.escape(c) for c, to in single.items() if len(to) != 1)
    clusters = re.compile(f"[^{_JOINS}]?[{_JOINS}]+" + (f"|[{odd}]" if odd else ""), re.DOTALL)
    pieces: list[str] = []
    offsets: list[int] = []
    at = 0
    for cluster in clusters.finditer(text):
        pieces.append(text[at : cluster.start()].translate(alone))
        offsets += range(at, cluster.start())
        piece = _composed(cluster.group())
        pieces.append(piece)
        offsets += [cluster.start()] * len(piece)
        at = cluster.end()
    pieces.append(text[at:].translate(alone))
    offsets += range(at, len(text))
    folded = _HYPHEN.sub("-", _LONG_MARK.sub("ー", "".join(pieces)))
    folded = folded.translate(_EVERYDAY)
    if len(lowered := folded.casefold()) != len(folded):  # ß becomes ss
        offsets = [at for c, at in zip(folded, offsets, strict=True) for _ in c.casefold()]
    return Normalized(lowered, (*offsets, len(text)))


def _composed(cluster: str) -> str:
    return unicodedata.normalize("NFKC", cluster.translate(_INVISIBLE))
