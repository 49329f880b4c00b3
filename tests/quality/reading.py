"""Fits how far the reader is believed, on JaQuAD dev. Run by hand beside a running `kura infer`.

    python -m tests.quality.reading ask --jaquad FOLDER --rows FILE [-n 120]
    python -m tests.quality.reading ask --written short|long --rows FILE [-n 120]
    python -m tests.quality.reading fit --rows FILE

Every question is asked twice of the same paragraphs: by somebody who may read all of them, and by
somebody who may not read its own ("near": the rest of its article stays). `--written` asks as people
at work do, of papers of companies that no training saw (`training/written.py`); "near" are then
questions that none of a company's papers answers. `ask` keeps what was found, read and said; `fit`
prints, from the same rows as often as one likes, the weight of the fused score, the thresholds, and
what answers would stand. JSQuAD is for measuring and never asked here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from appliance import settings
from appliance.ask import answer, extract, weigh
from appliance.evaluation import scratch, sets
from appliance.evaluation.measures import bare, character_f1
from appliance.search import evidence
from appliance.search.retrieve import Retrieval, Retriever
from appliance.training import written
from appliance.types import EVERYONE, Answer, Passage, Principal, Viewer, Words

# paragraphs of one site; of each question, which of them its asker may not read ("": reads all)
Asked = tuple[Sequence[sets.Paragraph], Sequence[tuple[sets.Question, str]]]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
PASS = (0.98, 0.95, 0.92, 0.9, 0.85, 0.8)


def of_jaquad(folder: Path, n: int) -> Iterator[Asked]:
    found = sets.read(min(folder.glob("jaquad_dev_*.json")))
    questions = random.Random(5).sample(list(found.questions), n)
    yield found.paragraphs, [(q, hidden) for q in questions for hidden in ("", q.documents[0])]


def of_written(length: str, n: int) -> Iterator[Asked]:
    """So many that are answered, from all companies, and those of them that are not; short or long ones."""

    def meant(question: str) -> bool:
        return (len(question) >= written.LONG) == (length == "long")

    firms = written.companies(written.read(), measured=True)
    dice = random.Random(5)
    for firm in firms:
        uris = [f"{number:02}" for number in range(len(firm))]
        asked = [
            (sets.Question(one.text, (uri,), (one.answer,)), "")
            for uri, paper in zip(uris, firm, strict=True)
            for one in paper.asked
            if meant(one.text)
        ]
        silent = [(sets.Question(q), "nobody") for paper in firm for q in paper.silent if meant(q)]
        paragraphs = [sets.Paragraph(u, p.title, p.text) for u, p in zip(uris, firm, strict=True)]
        most = -(-n // len(firms))
        yield (
            paragraphs,
            dice.sample(asked, min(most, len(asked))) + dice.sample(silent, min(most, len(silent))),
        )


def ask(every: Iterator[Asked], out: Path) -> None:
    chosen = {"passages": answer.CHOSEN, "prompt_tokens": answer.CHOSEN_TOKENS}
    own = replace(settings.load(), evidence_threshold=1e-12, **chosen)

    def told(what: str, done: int, total: int) -> None:
        if done % 50 == 0:
            print(what, done, total, flush=True)

    with out.open("w", encoding="utf-8") as rows:
        for paragraphs, questions in every:
            with scratch.site(paragraphs, own, told) as machine:
                heard = scratch.Listening(machine.retriever)
                answerer = replace(machine.answerer, caution=0.0, retriever=cast(Retriever, heard))
                for number, (question, hidden) in enumerate(questions, 1):
                    viewer = Viewer("fit", frozenset({EVERYONE, Principal(f"user:not-{hidden}")}))
                    (said,) = (
                        e for e in answerer.stream(question.text, viewer) if isinstance(e, Answer)
                    )
                    row = {
                        "question": question.text,
                        "right": (*question.documents, "")[0],
                        "answers": question.answers or [""],
                        "hidden": bool(hidden),
                        "ranked": [(p.uri, p.relevance, p.score) for p in heard.last.ranked],
                        "said": "" if said.ended == "no_evidence" else said.text,
                        "passages": [shown(p) for p in whole(heard.last, said)],
                    }
                    rows.write(json.dumps(row, ensure_ascii=False) + "\n")
                    rows.flush()
                    told("questions", number, len(questions))


def whole(found: Retrieval, said: Answer) -> list[Passage]:
    """What was shown, before it was cut: with the names of the columns."""
    every = {p.chunk_id: p for p in found.passages}
    return [every.get(p.chunk_id, p) for p in said.passages]


def shown(p: Passage) -> dict[str, Any]:
    words = [(w.start, w.end, w.score) for w in p.words]
    return {
        "uri": p.uri, "title": p.title, "label": p.label, "about": p.about, "text": p.text, "start": p.start,
        "read": p.relevance, "score": p.score, "words": words,
    }  # fmt: skip


def passages(row: dict[str, Any]) -> list[Passage]:
    found = [
        Passage(
            0, p["uri"], "", p["uri"], p["title"], p["label"], p["text"], p["start"], p["start"] + len(p["text"]),
            score=p["score"], relevance=p["read"], words=tuple(Words(*w) for w in p["words"]),
            about=p["about"],
        )
        for p in row["passages"]
    ]  # fmt: skip
    return weigh.weighed(row["question"], found)


def fit(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    open_, near = ([r for r in rows if r["hidden"] is hidden] for hidden in (False, True))
    print(f"{len(open_)} questions\n\n| weight | right passage first | mean reciprocal rank |")
    print("|---|---|---|")
    for weight in WEIGHTS:
        ranks = [rank(r, weight) for r in open_]
        first = mean(x == 1 for x in ranks)
        print(f"| {weight} | {first:.3f} | {mean(1 / x if x else 0 for x in ranks):.3f} |")
    best = lambda r: max((p[1] or 0.0 for p in r["ranked"]), default=0.0)  # noqa: E731
    curve("relevance of the best passage", best, open_, near)
    curve("log-odds of the surest words", surest, open_, near)
    believed(rows)
    print("\n| answer | exact | F1 | right | wrong | refused near |\n|---|---|---|---|---|---|")
    line("the model's own", lambda r: strip(r["said"]), open_, near)
    line("the reader's words", lambda r: best_words(r), open_, near)
    against = {
        name: mean(bool(conflicting(r)) for r in some)
        for name, some in (("answerable", open_), ("near", near))
    }
    print(f"\nanother paragraph is shown as contradicting: {against}")
    for extract.LIKELY, extract.CLEAR, extract.SURE in itertools.product(
        (6.0, 7.0, 8.0, 9.0), (2.0, 3.0, 4.0, 5.0), (9.0, 10.0, 12.0, 14.0)
    ):
        name = f"both, likely {extract.LIKELY}, clear {extract.CLEAR}, sure {extract.SURE}"
        line(name, stands, open_, near)


def believed(rows: Sequence[dict[str, Any]]) -> None:
    """What a place is believed for: the weights of a logistic sum, of all places that were read."""
    from sklearn.linear_model import LogisticRegression

    told, right = list[list[float]](), list[bool]()
    for row in rows:
        shown = passages(row)
        for one in extract.extracts(row["question"], shown):
            passage = shown[one.number - 1]
            read = evidence.logit(passage.relevance or 0.0)
            agrees = extract.agree(strip(row["said"]), one.text)
            told.append([read, one.words.score, passage.score, float(agrees)])
            own = passage.uri == row["right"] and not row["hidden"]
            right.append(own and any(extract.agree(one.text, a) for a in row["answers"]))
    found = LogisticRegression(max_iter=1000).fit(told, right)
    print("\n| of a place | weight |\n|---|---|")
    names = ("relevance, log-odds", "words, log-odds", "fused score", "the model says so too")
    for name, weight in zip(names, found.coef_[0], strict=True):
        print(f"| {name} | {weight:.3f} |")
    print(f"| bias | {found.intercept_[0]:.2f} |")


def rank(row: dict[str, Any], weight: float) -> int:
    read = [p for p in row["ranked"] if p[1] is not None]
    order = sorted(read, key=lambda p: -(evidence.logit(p[1]) + weight * p[2]))
    uris = list(dict.fromkeys(p[0] for p in order))
    return uris.index(row["right"]) + 1 if row["right"] in uris else 0


def surest(row: dict[str, Any]) -> float:
    found = extract.extracts(row["question"], passages(row), strip(row["said"]))
    return found[0].sure if found else -99.0


def stands(row: dict[str, Any]) -> str:
    return strip(extract.settle(row["question"], row["said"], passages(row)))


def best_words(row: dict[str, Any]) -> str:
    found = extract.extracts(row["question"], passages(row))
    return found[0].text if found else ""


def conflicting(row: dict[str, Any]) -> bool:
    """Paragraphs of an encyclopaedia answer no question twice: whatever is shown is wrong."""
    shown = passages(row)
    asked = row["question"]
    answer = extract.settle(asked, row["said"], shown)
    return bool(extract.conflicts(asked, answer, shown))


def strip(text: str) -> str:
    return extract._MARKERS.sub("", text).strip()


def curve(
    name: str, value: Callable[[dict[str, Any]], float], open_: Sequence[Any], near: Sequence[Any]
) -> None:
    print(f"\n| {name} | answerable pass | near stopped |\n|---|---|---|")
    for threshold in quantiles(map(value, open_), PASS):
        passed = mean(value(r) >= threshold for r in open_)
        stopped = mean(value(r) < threshold for r in near)
        print(f"| {threshold:.4f} | {passed:.3f} | {stopped:.3f} |")


def line(
    name: str, said: Callable[[dict[str, Any]], str], open_: Sequence[Any], near: Sequence[Any]
) -> None:
    exact = mean(any(bare(said(r)) == bare(a) for a in r["answers"]) for r in open_)
    f1 = mean(max(character_f1(said(r), a) for a in r["answers"]) for r in open_)
    right = mean(any(extract.agree(said(r), a) for a in r["answers"]) for r in open_)
    wrong = mean(bool(said(r)) for r in open_) - right
    refused = mean(not said(r) for r in near)
    print(f"| {name} | {exact:.3f} | {f1:.3f} | {right:.3f} | {wrong:.3f} | {refused:.3f} |")


def quantiles(values: Iterable[float], shares: Sequence[float]) -> list[float]:
    """The value that so many reach."""
    ordered = sorted(values, reverse=True)
    return [ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in shares]


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def main() -> None:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    asking, fitting = verbs.add_parser("ask"), verbs.add_parser("fit")
    data = asking.add_mutually_exclusive_group(required=True)
    data.add_argument("--jaquad", type=Path)
    data.add_argument("--written", choices=("short", "long"))
    asking.add_argument("-n", type=int, default=120)
    for one in (asking, fitting):
        one.add_argument("--rows", type=Path, required=True)
    given = parser.parse_args()
    if given.verb == "ask":
        length = given.written
        every = of_written(length, given.n) if length else of_jaquad(given.jaquad, given.n)
        ask(every, given.rows)
    else:
        fit(given.rows)


if __name__ == "__main__":
    main()
