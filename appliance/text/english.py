"""What a question in English is about: its words without those that only hold it together.

Among Japanese papers "for" and "what" are as rare as the name of a product, so whatever holds one of
them would be found first. In a question with a Japanese letter in it nothing is left out: there such a
word is a name.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"(?<![\w-])[^\W\d_]+(?:['’][^\W\d_]+)?(?![\w-])")
_JAPANESE = re.compile(r"[\u3005\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_SENTENCE = 3  # words that are hardly one name
_HELD_TOGETHER_BY = """
a an the this that these those some any each every all both no not only own same such other another
i me my mine myself we us our ours ourselves you your yours yourself he him his she her hers it its itself
they them their theirs themselves someone somebody anyone anybody everyone everybody one ones
who whom whose which what whatever when where why how
am is are was were be been being do does did doing done have has had having will would shall should
can could may might must ought
of in on at by to from for with without about into onto over under after before between during through
until till since within upon as than per via out off up down again against
and or but nor so if then else because while whether although though unless
there here now just also too very much many more most less least few even still yet already ever always
please tell know need want get got give given show find say says said let like
yes ok okay hi hello thanks thank
don doesn didn isn aren wasn weren won wouldn cannot couldn shouldn hasn haven
"""
FUNCTION_WORDS = frozenset(_HELD_TOGETHER_BY.split())


def is_japanese(text: str) -> bool:
    """Whether there is a Japanese letter in it."""
    return _JAPANESE.search(text) is not None


def is_asked_in(question: str) -> bool:
    """Whether a question is in English: a name and a code are not, whatever letters they have."""
    if is_japanese(question):
        return False
    words = _WORD.findall(question)
    shouted = question.isupper()
    return len(words) >= _SENTENCE or any(_holds_together(w, shouted) for w in words)


def content(question: str) -> str:
    """The question without English function words; as it is where it is not in English, or of nothing else.

    Capitals are meant: "IT" is a department.
    """
    if not is_asked_in(question):
        return question
    shouted = question.isupper()
    left = _WORD.sub(lambda m: "" if _holds_together(m[0], shouted) else m[0], question)
    return " ".join(left.split()) if _WORD.search(left) else question


def _holds_together(word: str, shouted: bool) -> bool:
    if len(word) > 1 and word.isupper() and not shouted:
        return False
    plain = word.lower().replace("’", "'")
    return plain in FUNCTION_WORDS or plain.split("'")[0] in FUNCTION_WORDS
