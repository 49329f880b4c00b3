"""Which of several numbered things a place speaks of: 「2号機」, 「1級」, 「第3便」.

「1級 50,000円、2級は20,000円」: the words before a sum say whose it is, and a reader that points at the first is often
surer. Of 25,344 questions of colleagues that have an answer (`training/written`, the companies that are learned
from) 237 name such a thing and have one of its kind at the answer: another in 2. Of answers to other questions on
the same papers 666 of 940 have another.
"""

from __future__ import annotations

import re

from appliance.text import numerals

_KINDS = "号機|号|級|種|回目|便|棟|期|等|班"
_NAMED = re.compile(
    rf"(?<![0-9.,])(?:([0-9]{{1,4}})[〜～~-])?([0-9]{{1,4}})({_KINDS})(?![0-9車])([〜～~-]|以[上下降前]|から|まで|未満)?"
)
_RANGE = "〜"
_AND = re.compile(r"(?:と|や|か|、|,|・|および|及び|または|又は|\s)*")  # 「1級又は2級」


def of_another(question: str, text: str, start: int, end: int) -> bool:
    """Whether the words [start, end) of the text speak of another one of a kind than is asked for.

    What they name themselves decides, else what stands before them in their line, the last of each kind. A range
    may hold any: 「2回目から」, 「10〜7級」.
    """
    question = numerals.normalize(question).text
    asked: dict[str, set[str]] = {}
    for match in _NAMED.finditer(question):
        if f"何{match[3]}" not in question:
            asked.setdefault(match[3], set()).add(match[2])
    line = text.rfind("\n", 0, start) + 1
    for kind, numbers in asked.items():
        told = _last(text[start:end], kind) or _last(text[line:start], kind)
        if told and not told & numbers and _RANGE not in told:
            return True
    return False


def _last(text: str, kind: str) -> set[str]:
    """The numbers of the last one that is named, and of those that are named along with it."""
    text = numerals.normalize(text).text
    told: set[str] = set()
    after = -1
    for match in reversed([m for m in _NAMED.finditer(text) if m[3] == kind]):
        if told and not _AND.fullmatch(text, match.end(), after):
            break
        told.add(_RANGE if match[1] or match[4] else match[2])
        after = match.start()
    return told
