"""Text that speaks to a machine, or that nobody can see: said to administrators, never acted on.

Retrieved text is data wherever it goes: it is fenced in the prompt, and nothing Kura does follows
from it. So a miss here does no harm, and a hit only asks a person to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_QUOTED = 40  # characters of a sentence that is shown
_RULES = r"(?:指示|命令|指令|プロンプト|ルール|制約)"
_MACHINE = r"(?:AI|ＡＩ|アシスタント|チャットボット|言語モデル|LLM|ＬＬＭ)"
_SPOKEN_TO = re.compile(
    "|".join(
        (
            rf"(?:これまで|今まで|以前|上記|以上|先ほど|前|他|すべて|全て)の[^。\n]{{0,6}}{_RULES}[^。\n]{{0,8}}(?:無視|忘れ)(?:して|し、|せよ|しろ|、|て|ろ)",
            rf"{_RULES}を(?:すべて|全て|完全に)?(?:無視|忘れ)(?:してください|せよ|しろ|て?ください|して[^。\n]{{0,20}}(?:答え|回答|出力))",
            r"システム\s?プロンプト",
            rf"(?:あなた|貴方|君|お前)は(?:[^。\n]{{0,20}})?{_MACHINE}(?:です|だ|として|である)",
            rf"{_MACHINE}(?:へ|に対する|への|宛て?)の?(?:{_RULES}|お願い)",
            r"(?:ignore|disregard|forget)\s+(?:all\s+|any\s+|the\s+|your\s+)*(?:previous|prior|above|earlier|preceding)\s+(?:instructions?|prompts?|rules?|messages?)",
            r"(?:reveal|print|repeat|show)\s+(?:me\s+)?(?:your|the)\s+system\s+prompt",
            r"you\s+are\s+(?:now\s+)?an?\s+(?:AI|assistant|chatbot|language\s+model)",
            r"忽略(?:之前|以上|上面|前面)的?(?:所有|全部)?(?:指令|指示|提示)",
            r"<\|(?:im_start|im_end|system|assistant|endoftext)\|>|\[/?INST\]|<(?:start|end)_of_turn>|<<SYS>>",
        )
    ),
    re.IGNORECASE,
)
_TAGS = re.compile("[\U000e0000-\U000e007f]+")  # spell a text that no screen shows
_HIDDEN = re.compile("[\u200b-\u200f\u2060-\u2064\u202a-\u202e\u2066-\u2069\ufeff]{3,}")


def notes(text: str) -> Iterator[str]:
    """What an administrator should look at, a sentence each; nothing for an ordinary text."""
    if found := _SPOKEN_TO.search(text):
        start = max(text.rfind("\n", 0, found.start()), text.rfind("。", 0, found.start())) + 1
        said = " ".join(text[start : start + max(_QUOTED, found.end() - start)].split())
        yield f"AI への指示のように読める文があります。人が書いたものか確かめてください: 「{said[:80]}」"
    if tags := _TAGS.findall(text):
        letters = "".join(chr(ord(c) - 0xE0000) for run in tags for c in run if c > "\U000e001f")
        yield f"画面に出ない文字で文が書かれています: 「{letters[:80]}」"
    if _HIDDEN.search(text):
        yield "見えない文字が続いているところがあります。"
