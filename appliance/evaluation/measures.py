"""What came of a set of questions, in figures, each with its 95 % interval.

Intervals are percentiles of 1,000 resamples of the questions (Efron 1979), with a fixed seed: the
same results give the same figures.
"""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


Measure = Callable[[Said], Sequence[float]]
"""What one question adds to a mean: a value, several, or none where it is not measured by it."""


def _of_found(value: Callable[[Said], float]) -> Measure:
    return lambda s: [value(s)] if s.question.documents else []


def _of_told(value: Callable[[Said], float]) -> Measure:
    return lambda s: [value(s)] if s.question.answers else []


def _cited_rightly(s: Said) -> list[float]:
    return [uri in s.question.documents for uri, supported in s.cited if supported]


def _cited(s: Said) -> list[float]:
    return [any(_cited_rightly(s))] if s.question.documents and not s.refused else []


def _sentences(s: Said) -> list[float]:
    """1 for a sentence shown as supported in an answer none of whose sources is a right one."""
    return [float(not s.holds and not any(_cited_rightly(s)))] * s.supported


MEASURES: dict[str, Measure] = {
    "recall@1": _of_found(lambda s: s.rank == 1),
    "recall@10": _of_found(lambda s: 0 < s.rank <= TOP),
    "mrr@10": _of_found(lambda s: 1 / s.rank if s.rank else 0.0),
    "ndcg@10": _of_found(lambda s: 1 / math.log2(s.rank + 1) if s.rank else 0.0),
    "em": _of_told(lambda s: s.exact),
    "contains": _of_told(lambda s: s.holds),
    "f1": _of_told(lambda s: s.f1),
    "citation_precision": _cited_rightly,
    "citation_recall": _cited,
    "unsupported_shown": _sentences,
    "refused": lambda s: [s.refused] if s.question.unanswerable else [],
    "refused_wrongly": _of_told(lambda s: s.refused),
}
WORSE_IF_HIGHER = frozenset({"unsupported_shown", "refused_wrongly"})


def figures(said: Sequence[Said], intervals: bool = True) -> dict[str, Any]:
    """Each measure with its interval, latencies in seconds, and counts; one object for JSON."""
    out: dict[str, Any] = {}
    every, said = said, [s for s in said if not s.told_elsewhere]
    table = _table(said)
    means = _means(table.sum(axis=0)).tolist()
    out |= {n: None if math.isnan(v) else round(v, 4) for n, v in zip(MEASURES, means, strict=True)}
    for name, seconds in (
        ("search_s", [s.search_s for s in said if s.search_s]),
        ("first_s", [s.first_s for s in said if s.first_s]),
        ("answer_s", [s.seconds for s in said if s.seconds]),
    ):
        for share in (50, 95):
            out[f"{name}_p{share}"] = round(_quantile(seconds, share / 100), 3) if seconds else None
    out["questions"], out["told_elsewhere"] = len(every), len(every) - len(said)
    out["answerable"] = sum(bool(s.question.answers) for s in said)
    out["unanswerable"] = sum(s.question.unanswerable for s in said)
    if intervals:
        bounds = _intervals(table)
        out["intervals"] = {n: b for n, b in bounds.items() if out[n] is not None}
    return out


def slices(said: Sequence[Said]) -> dict[str, dict[str, Any]]:
    names = sorted({s.question.slice for s in said})
    if len(names) < 2:
        return {}
    return {n: figures([s for s in said if s.question.slice == n], False) for n in names}


def _table(said: Sequence[Said]) -> NDArray[np.float64]:
    """Sum and number of what each question adds to each measure: (questions, measures, 2)."""
    rows = [[(sum(v), len(v)) for v in (m(s) for m in MEASURES.values())] for s in said]
    return np.array(rows, np.float64).reshape(len(rows), len(MEASURES), 2)


def _means(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums and numbers; NaN where nothing was measured."""
    with np.errstate(invalid="ignore"):
        return totals[..., 0] / totals[..., 1]


def _intervals(table: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    dice, count = np.random.default_rng(0), len(table)
    drawn = []
    for _ in range(RESAMPLES if count else 0):
        times = np.bincount(dice.integers(count, size=count), minlength=count)
        drawn.append(_means(np.tensordot(times, table, 1)))
    found = {}
    for name, values in zip(MEASURES, np.transpose(drawn).tolist(), strict=False):
        some = sorted(v for v in values if not math.isnan(v))
        found[name] = (round(_quantile(some, 0.025), 4), round(_quantile(some, 0.975), 4))
    return found


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
