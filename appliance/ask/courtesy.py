"""What is said to a colleague and asks for nothing: thanks, greetings, and what Kura is.

No document answers it, and to be told that none does is no answer either.
"""

from __future__ import annotations

import re

from appliance.text.normalize import fold

_END = r"(?:ございま(?:す|した)|です|ます|でした|ました|ね|よ|、|。|!|〜|ー|\s|\(.{0,4}\))*"
_ASK = "社内の資料について質問してください。"
REPLIES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            rf"(?:どうも|本当に|大変)?(?:ありがとう?|有難う|有り?難う|サンキュー|thank you|thanks|助かり){_END}"
        ),
        f"どういたしまして。ほかにも、{_ASK}",
    ),
    (
        re.compile(
            rf"(?:了解|承知|わかりました|分かりました|わかった|分かった|なるほど|はい|ok|お疲れ様?|おつかれさま?){_END}(?:しました)?{_END}"
        ),
        f"ほかにも、{_ASK}",
    ),
    (
        re.compile(
            rf"(?:こんにち[はわ]|こんばん[はわ]|おはよう?|はじめまして|初めまして|よろしく(?:お願いし)?|hello|hi){_END}"
        ),
        f"こんにちは。{_ASK}見つけた箇所を出典に付けて答えます。",
    ),
    (
        re.compile(
            r"(?:あなた|きみ|君|kura|蔵|このai|このチャット)(?:は|って|に|には|で)?、?(?:何|なに|誰|だれ|どんなこと)"
            r"(?:が|を|か|もの)?(?:者|でき(?:る|ます)|聞け(?:る|ます)|してくれ(?:る|ます))?(?:です)?(?:の|か)*[??]*"
        ),
        "社内の資料を探し、見つけた箇所を出典に付けて答えます。資料にないことは答えません。"
        "「宿泊費の上限はいくらですか」のように質問してください。",
    ),
)


def reply(said: str) -> str:
    """What is answered without looking for anything; empty where something is asked."""
    text = fold(said).strip()
    return next((answer for pattern, answer in REPLIES if pattern.fullmatch(text)), "")
