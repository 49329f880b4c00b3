"""Asks the golden questions and writes what came of them: `make quality`.

python -m tests.quality [--data FOLDER] [--out docs/en/quality.md]
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.inference import models
from tests.quality.company import Company, Golden, golden, running

TOP = 5


@dataclass(frozen=True)
class Result:
    question: Golden
    rank: int  # of the right document among those found, 1 the best; 0 where it is not
    answer: dict[str, Any]
    seconds: float
    leaks: Sequence[str]  # people who saw something of what is not theirs

    @property
    def refused(self) -> bool:
        return bool(self.answer["ended"] == "no_evidence")

    @property
    def right(self) -> bool:
        if self.question.kind == "unanswerable":
            return self.refused
        return self.question.answered_by(self.answer["answer"])

    @property
    def cited(self) -> bool:
        """A checked citation of the right document, at the right place."""
        return any(
            c["supported"] and c["uri"] == self.question.uri and self.question.label in c["label"]
            for c in self.answer["citations"]
        )

    @property
    def pointed(self) -> bool:
        """It refused, and a sentence it points at holds the answer."""
        return self.refused and any(
            p["uri"] == self.question.uri and self.question.answered_by(p["quote"])
            for p in self.answer["near"]
        )

    @property
    def misled(self) -> bool:
        """A wrong answer shown with a citation that says it is supported."""
        return not self.right and any(c["supported"] for c in self.answer["citations"])


def ask(company: Company, question: Golden) -> Result:
    person = company.person(question.viewer)
    found = [p["uri"] for p in person.search(question.question, TOP, rerank=True)]
    began = time.monotonic()
    answer = person.ask(question.question)
    seconds = time.monotonic() - began
    rank = found.index(question.uri) + 1 if question.uri in found else 0
    return Result(question, rank, answer, seconds, leaks(company, question))


def leaks(company: Company, question: Golden, answered: int | None = None) -> list[str]:
    """Who of the denied sees the document in search, in the answer or in their history.

    All of them search; where `answered` is given, only so many of them are answered too.
    """
    seen = []
    for number, user in enumerate(question.denied):
        person = company.person(user)
        shown = str(person.search(question.question, 20))
        if answered is None or number < answered:
            shown += str(person.search(question.question, 20, rerank=True))
            shown += "".join(str(event) for event in person.events(question.question))
            latest = person.http.get("/api/v1/conversations").json()["conversations"][0]
            shown += person.http.get(f"/api/v1/conversations/{latest['id']}").text
        if question.uri in shown or question.answered_by(_without(shown, question.question)):
            seen.append(user)
    return seen


def _without(text: str, question: str) -> str:
    return text.replace(question, "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the golden questions.")
    parser.add_argument("--data", type=Path, help="a data folder to use again")
    parser.add_argument("--out", type=Path, default=Path("docs/en/quality.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh, running(options.data or Path(fresh)) as company:
        results = []
        for question in golden():
            results.append(ask(company, question))
            print(line(results[-1]), flush=True)
        health = company.person("kobayashi").http.get("/api/v1/admin/status").json()
    options.out.write_text(report(results, health), "utf-8")


def report(results: Sequence[Result], status: dict[str, Any]) -> str:
    llm = models.named(models.DEFAULT_LLM)
    rows = "\n".join(line(r) for r in results)
    return f"""# The golden questions, asked

Written by `make quality` on {datetime.now(UTC):%Y-%m-%d}, on {cores()} cores ({processor()}).
{status["documents"]} documents, {status["chunks"]} chunks; {llm.name}, {status["embedder"]}.
Every question goes through the door people use: signed in, over HTTP. Answers are the model's own.

{figures(results)}

"Right" is literal: the expected words, or an accepted spelling of them, stand in the answer.
"Cited" also wants a citation that was checked, of the right document at the right place.
"Misled" is a wrong answer whose citation says *supported*: the words do stand in the source,
but they do not answer what was asked. "(near: ✓)": nothing was sure, and a sentence that was shown
as perhaps near, of the right document, holds the answer.

| | kind | question | document found at | answer | right | cited |
|---|---|---|---|---|---|---|
{rows}
"""


def figures(results: Sequence[Result]) -> str:
    able = [r for r in results if r.question.kind != "unanswerable"]
    unable = [r for r in results if r.question.kind == "unanswerable"]
    closed = [r for r in results if r.question.denied]
    seconds = sorted(r.seconds for r in results)
    rows = [
        ("right document in the top 5", share(r.rank > 0 for r in able)),
        ("right document first", share(r.rank == 1 for r in able)),
        ("right answer", share(r.right for r in able)),
        ("right answer, rightly cited", share(r.right and r.cited for r in able)),
        ("refused though a document answers", share(r.refused for r in able)),
        (
            "of those, a sentence shown as near holds the answer",
            share(r.pointed for r in able if r.refused),
        ),
        ("misled", share(r.misled for r in results)),
        ("refused where no document answers", share(r.right for r in unable)),
        ("kept from everyone who may not read", share(not r.leaks for r in closed)),
        (
            "seconds an answer, median / longest",
            f"{seconds[len(seconds) // 2]:.1f} / {seconds[-1]:.1f}",
        ),
    ]
    return "| measure | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)


def share(values: Iterable[bool]) -> str:
    listed = list(values)
    return f"{sum(listed)} of {len(listed)}"


def line(r: Result) -> str:
    found = {0: "—"}.get(r.rank, str(r.rank)) if r.question.uri else ""
    said = " ".join(r.answer["answer"].split()).replace("|", "¦") + (
        " (near: ✓)" if r.pointed else ""
    )
    kind = r.question.kind + (f" ✗ LEAKED to {', '.join(r.leaks)}" if r.leaks else "")
    cited = "" if not r.question.uri else "✓" if r.cited else "—"
    asked = r.question.question.replace("|", "¦")
    return f"| {r.question.id} | {kind} | {asked} | {found} | {said} | {'✓' if r.right else '—'} | {cited} |"


def cores() -> int:
    import os

    return os.cpu_count() or 1


def processor() -> str:
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            return row.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
