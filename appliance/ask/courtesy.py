"""What is said to a colleague and asks for nothing: thanks, greetings, and what Kura is.

No document answers it, and to be told that none does is no answer either.
"""

from __future__ import annotations

import re

from appliance.text.normalize import fold

_END = r"(?:ございま(?:す|した)|です|ます|でした|ました|ね|よ|、|。|!|〜|ー|\s|\(.{0,4}\))*"
_ASK = "社内の資料について質問してください。"
_EXCLAIMED = r"[.,! ]*"
_ASK_ENGLISH = "Ask me anything about the company's documents."
REPLIES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            rf"(?:どうも|本当に|大変)?(?:ありがとう?|有難う|有り?難う|サンキュー|助かり){_END}"
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
            rf"(?:こんにち[はわ]|こんばん[はわ]|おはよう?|はじめまして|初めまして|よろしく(?:お願いし)?){_END}"
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
    (
        re.compile(
            rf"(?:(?:ok|great|perfect)[,.! ]*)?(?:many )?(?:thanks|thank you|thx)(?: (?:so|very) much| a lot)?{_EXCLAIMED}"
        ),
        f"You're welcome. {_ASK_ENGLISH}",
    ),
    (re.compile(rf"(?:got it|i see|understood|great|perfect){_EXCLAIMED}"), _ASK_ENGLISH),
    (
        re.compile(
            rf"(?:hello|hi|hey|good (?:morning|afternoon|evening))(?: (?:there|kura))?{_EXCLAIMED}"
        ),
        f"Hello. {_ASK_ENGLISH} I answer with the places I found as sources.",
    ),
    (
        re.compile(r"(?:who are you|what are you|what can you do|what is kura|what's kura)\??"),
        "I look for answers in the company's documents and name the places I found as sources. What the documents "
        "do not say, I do not answer. Ask for instance: What is the limit for hotels on business trips?",
    ),
)


def reply(said: str) -> str:
    """What is answered without looking for anything; empty where something is asked."""
    text = fold(said).strip()
    return next((answer for pattern, answer in REPLIES if pattern.fullmatch(text)), "")
