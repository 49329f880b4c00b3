"""What came of a set of questions, in figures, each with its 95 % interval.

Intervals are percentiles of 1,000 resamples of the questions (Efron 1979), with a fixed seed: the
same results give the same figures.
"""

from __future__ import annotations

import math
import random
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.evaluation.sets import Question

RESAMPLES = 1000
TOP = 10


@dataclass(frozen=True, slots=True)
class Said:
    """What was found and said to one question."""

    question: Question
    found: tuple[str, ...]  # uris of the documents found, best first, each once
    answer: str  # without its markers
    refused: bool
    cited: tuple[tuple[str, bool], ...] = ()  # (uri, whether it was shown as supported)
    supported: int = 0  # sentences shown as supported
    seconds: float = 0.0
    first_s: float = 0.0  # until the first words
    search_s: float = 0.0

    @property
    def rank(self) -> int:
        """Of the first right document, from 1; 0: not found."""
        places = [n for n, uri in enumerate(self.found, 1) if uri in self.question.documents]
        return places[0] if places else 0

    @property
    def exact(self) -> bool:
        """Word for word, quotation marks and ways of writing aside."""
        return any(bare(self.answer) == bare(a) for a in self.question.answers)

    @property
    def holds(self) -> bool:
        """Whether a right answer stands in what was said."""
        return any(_holds(self.answer, a) for a in self.question.answers)

    @property
    def told_elsewhere(self) -> bool:
        """Whether another paragraph than the one kept away was cited with the right answer.

        Such a question was answerable after all: it is counted, and measures nothing else.
        """
        right = any(_holds(self.answer, a) for a in self.question.withheld)
        return right and any(supported for _, supported in self.cited)

    @property
    def f1(self) -> float:
        return max((character_f1(self.answer, a) for a in self.question.answers), default=0.0)


def _holds(answer: str, wanted: str) -> bool:
    """Word for word somewhere in it; 「2000円」 does not stand in 「12000円」."""
    said, looked_for = bare(answer), bare(wanted)
    if not looked_for:
        return False
    before = r"(?<![0-9.])" if looked_for[0].isdecimal() else ""
    after = r"(?![0-9])" if looked_for[-1].isdecimal() else ""
    return re.search(before + re.escape(looked_for) + after, said) is not None


Measure = Callable[[Sequence[Said]], float | None]


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def _found(some: Sequence[Said]) -> list[Said]:
    return [s for s in some if s.question.documents]


def _told(some: Sequence[Said]) -> list[Said]:
    return [s for s in some if s.question.answers]


def _not(some: Sequence[Said]) -> list[Said]:
    return [s for s in some if s.question.unanswerable]


def _cited_rightly(some: Sequence[Said]) -> Iterable[float]:
    for s in some:
        for uri, supported in s.cited:
            if supported:
                yield uri in s.question.documents


def _sentences(some: Sequence[Said]) -> Iterable[float]:
    """1 for a sentence shown as supported in an answer none of whose sources is a right one."""
    for s in some:
        astray = not s.holds and not any(uri in s.question.documents for uri, ok in s.cited if ok)
        yield from [float(astray)] * s.supported


MEASURES: dict[str, Measure] = {
    "recall@1": lambda some: _mean(s.rank == 1 for s in _found(some)),
    "recall@10": lambda some: _mean(0 < s.rank <= TOP for s in _found(some)),
    "mrr@10": lambda some: _mean(1 / s.rank if s.rank else 0.0 for s in _found(some)),
    "ndcg@10": lambda some: _mean(
        1 / math.log2(s.rank + 1) if s.rank else 0.0 for s in _found(some)
    ),
    "em": lambda some: _mean(s.exact for s in _told(some)),
    "contains": lambda some: _mean(s.holds for s in _told(some)),
    "f1": lambda some: _mean(s.f1 for s in _told(some)),
    "citation_precision": lambda some: _mean(_cited_rightly(some)),
    "citation_recall": lambda some: _mean(
        any(uri in s.question.documents and ok for uri, ok in s.cited)
        for s in _found(some)
        if not s.refused
    ),
    "unsupported_shown": lambda some: _mean(_sentences(some)),
    "refused": lambda some: _mean(s.refused for s in _not(some)),
    "refused_wrongly": lambda some: _mean(s.refused for s in _told(some)),
}
WORSE_IF_HIGHER = frozenset({"unsupported_shown", "refused_wrongly"})


def figures(said: Sequence[Said], intervals: bool = True) -> dict[str, Any]:
    """Each measure with its interval, latencies in seconds, and counts; one object for JSON."""
    out: dict[str, Any] = {}
    every, said = said, [s for s in said if not s.told_elsewhere]
    bounds: dict[str, tuple[float, float]] = {}
    for name, measure in MEASURES.items():
        value = measure(said)
        out[name] = None if value is None else round(value, 4)
        if intervals and value is not None:
            bounds[name] = interval(measure, said)
    for name, seconds in (
        ("search_s", [s.search_s for s in said if s.search_s]),
        ("first_s", [s.first_s for s in said if s.first_s]),
        ("answer_s", [s.seconds for s in said if s.seconds]),
    ):
        for share in (50, 95):
            out[f"{name}_p{share}"] = round(_quantile(seconds, share / 100), 3) if seconds else None
    out["questions"], out["told_elsewhere"] = len(every), len(every) - len(said)
    out["answerable"], out["unanswerable"] = len(_told(said)), len(_not(said))
    if intervals:
        out["intervals"] = bounds
    return out


def slices(said: Sequence[Said]) -> dict[str, dict[str, Any]]:
    names = sorted({s.question.slice for s in said})
    if len(names) < 2:
        return {}
    return {n: figures([s for s in said if s.question.slice == n], False) for n in names}


def interval(measure: Measure, said: Sequence[Said]) -> tuple[float, float]:
    dice = random.Random(0)  # noqa: S311
    drawn = (measure(dice.choices(said, k=len(said))) for _ in range(RESAMPLES))
    values = sorted(v for v in drawn if v is not None)
    return round(_quantile(values, 0.025), 4), round(_quantile(values, 0.975), 4)


def worse(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """The measures that fell out of the last run's interval, on the bad side."""
    found = []
    for name, (low, high) in before.get("intervals", {}).items():
        value = now.get(name)
        if value is None or name not in MEASURES:
            continue
        if value > high if name in WORSE_IF_HIGHER else value < low:
            found.append(name)
    return found


def bare(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().replace(",", "")
    return "".join(text.split()).strip("「」『』\"'。、")


def character_f1(answer: str, wanted: str) -> float:
    """F1 over characters, as JSQuAD measures (Kurihara et al. 2022)."""
    given, right = Counter(bare(answer)), Counter(bare(wanted))
    common = (given & right).total()
    return 2 * common / (given.total() + right.total()) if common else 0.0


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    if not ordered:
        return 0.0
    if share == 0.5:
        return statistics.median(ordered)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
