"""Whether anything that was found speaks of the question at all.

Two things are measured of each passage: the share of the question's telling words it holds
(rare words count more), and its vector's similarity. Their logistic sum is its relevance,
0 to 1. Where no passage reaches the threshold, there is nothing to answer from.

Fitted on 300 questions of JaQuAD dev and 300 of colleagues about papers that no training saw, over 758
paragraphs and 233 papers, kura-e5-v1. Each is asked with all of them there, without the one that
answers ("near": the rest of its article, or of its company, stays), and without its whole article or company
("far"). `tests/quality/evidence.py` prints this again:

                JaQuAD dev                       colleagues
    threshold   pass   near stopped   far        pass   near stopped   far
        0.02    1.000      .023       .263      1.000      .013       .020
        0.03    1.000      .040       .443      1.000      .020       .037   <- taken
        0.05    1.000      .117       .677       .997      .080       .120
        0.10     .977      .283       .823       .970      .217       .323

"Far" of a colleague's question are 35 other companies, whose rules answer it as well. So the gate stops
what has nothing to do with the documents, and what is nearly there is left to the models, which may refuse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.text import english, segment
from appliance.text.normalize import fold

_HIRAGANA = re.compile(r"[ぁ-ゖー]+")
_ASKING = """
いつ 幾ら 幾つ 何時 何処 誰 何 何故 如何 どう どの どれ どんな どちら 何れ どれ程 くらい 位 程 為る 有る 居る 成る 言う
教える 下さる 御 事 物 良い 出来る 掛かる 因る 知る 分かる 貰う 呉れる 願う 思う 見る 頂く 行く 来る 因みに 訳 所 時 場合
そう こう
"""
ASKING = frozenset(_ASKING.split())  # words that ask; they tell nothing about what is asked


@dataclass(frozen=True, slots=True)
class Fit:
    dense: float
    coverage: float
    bias: float
    threshold: float
    in_english: float = 0.0  # for a question in English, whose words Japanese papers have not

    def enough(self, question: str) -> float:
        """The relevance from which there is something to answer the question from."""
        return self.in_english if english.is_asked_in(question) else self.threshold


# By vector space: similarities of different embedders are not comparable. Of 180 questions in English on Japanese
# papers that no training saw, .37 have a passage of .03 and all but one have one of .005; so have 76 of 80 that
# nothing answers, and those are for the models to refuse.
FITTED = {"kura-e5-v1": Fit(9.25, 4.55, -8.66, 0.03, in_english=0.005)}
# for an embedder nobody has fitted yet: a passage must hold about a sixth of the telling words
WORDS_ALONE = Fit(0.0, 10.0, -3.0, 0.20)


def fit_for(space: str) -> Fit:
    return FITTED.get(space, WORDS_ALONE)


# Weight of the fused score beside a reader's log-odds, by reader. Fitted by `tests/quality/reading.py`: the
# right passage was first for .95 of 40 questions of JaQuAD dev with 1, .98 with 2 and 3; for .93, .94 and .95
# of 104 colleagues' questions. A reader that nobody has fitted decides alone.
FUSED = {"kura-reader-v6": 2.0}
# What a fitted reader holds for as relevant as this passes the gate whatever its words: 「祖母が亡くなった」 and
# 「祖父母の死亡」 have none in common. Of 378 questions that `tests/quality/reading.py` asked and that are answered,
# .89 have such a passage; of 375 that are not, .17, and those are for the models to refuse.
READ = 0.9


def logit(share: float) -> float:
    share = min(max(share, 1e-9), 1 - 1e-9)
    return math.log(share / (1 - share))


def telling(question: str) -> set[str]:
    """The question's words that say what it is about.

    Verbs bend, and hiragana is chatter: both are left out where anything else is there. Names and codes
    stand in it as the dictionary has them; nouns mostly, but 「受付」 is 「受け付け」 there.
    """
    question = english.content(question)
    words = set(segment.words(question)) - ASKING
    folded, nouns = fold(question), set(segment.nouns(question))
    names = {w for w in words if (w in folded or w in nouns) and not _HIRAGANA.fullmatch(w)}
    return names or words or set(segment.words(question))


def coverage(rarity: Mapping[str, float], text: str) -> float:
    """The share of `rarity`'s words that the text holds, each weighing as much as it is rare."""
    total = sum(rarity.values())
    held = set(segment.words(text))
    return sum(weight for word, weight in rarity.items() if word in held) / total if total else 0.0


def relevance(fit: Fit, dense: float, covered: float) -> float:
    """0 to 1: how sure it is that a passage speaks of what is asked."""
    return 1 / (1 + math.exp(-(fit.dense * dense + fit.coverage * covered + fit.bias)))
