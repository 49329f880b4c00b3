"""Text that speaks to a machine, or that nobody can see: said to administrators, never acted on.

Retrieved text is data wherever it goes: it is fenced in the prompt, and nothing Kura does follows
from it. So a miss here does no harm, and a hit only asks a person to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
# they spell a text that no screen shows; behind a black flag they are a region's flag
_TAGS = re.compile("(?<![\U0001f3f4\U000e0000-\U000e007f])[\U000e0000-\U000e007f]+")
_HIDDEN = re.compile("[\u200b-\u200f\u2060-\u2064\u202a-\u202e\u2066-\u2069\ufeff]{3,}")
_KINDS = (
    (_SPOKEN_TO, "AI への指示のように読める文があります"),
    (_TAGS, "画面に出ない文字で文が書かれています"),
    (_HIDDEN, "見えない文字が続いているところがあります"),
)


def notes(text: str) -> Iterator[str]:
    """What an administrator should look at, a sentence each; nothing for an ordinary text.

    They say where, never what: who looks after documents need not be allowed to read them.
    """
    for pattern, what in _KINDS:
        if found := pattern.search(text):
            yield f"{what}（{found.start() + 1:,} 文字目）。読める人に確かめてください。"
