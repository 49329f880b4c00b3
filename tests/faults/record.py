"""docs/en/faults.md: what came of every fault so far. Each run adds to it, fault by fault."""

from __future__ import annotations

import fcntl
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ENDS = ("got by", "told", "told by document", "interrupted", "told by the log")
HEAD = """# Faults

Kinds of sources on their real servers, behind a proxy that breaks what passes; the place of each fault
(the request, the byte, the moment) is drawn by a seed. Before each, one or two documents change at the
source. *Got by*: a retry helped, and everything is there already. *Told*: the source, or the documents
that could not be read, say so in the administrator's API, in Japanese; *by document* where only some
could not. *Interrupted*: killed, which the history of runs shows. *Wrong* counts faults after which a
document was lost, there twice or of no longer true text, removals in number, faults of which nobody was
told, and catalogues that did not say what their source says once the fault was over. Waiting is shorter
than on a site (patience of 2 to 5 s, two attempts); all else is as `kura work` does it.

`python -m tests.faults.storm --page docs/en/faults.md` goes on where the last run of its seed ended.

The nine of seed 1 that were *wrong* lost nothing and doubled nothing: what administrators were told did
not say what to do (a full disk of Kura's own while a database is asked, a line that broke while SFTP was
asked for). Both say it since; seed 2 of `sql` ran after that.
"""
_SOURCES = "| source | fault | count | got by | told | told by document | interrupted | told by the log | wrong |"
_RUNS = "| date | seed | source | faults | wrong | seconds |"
_CELLS = re.compile(r"^\| (?!---|\*\*|source|date)(.+) \|$", re.MULTILINE)
_TOLD = re.compile(r"^- ([\d,]+) × (.+)$", re.MULTILINE)
_WRONG = re.compile(r"^- wrong: (.+)$", re.MULTILINE)
Ending = tuple[str, str, str]  # source, fault, what came of it


@dataclass
class Record:
    counts: Counter[Ending] = field(default_factory=Counter)
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)  # by source and fault
    told: Counter[str] = field(default_factory=Counter)
    runs: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> Record:
        one = cls()
        for line in _CELLS.findall(text):
            cells = [cell.strip() for cell in line.split(" | ")]
            if len(cells) == 9:
                source, fault, *numbers = cells
                count, *ends, wrong = map(_number, numbers)
                one.counts.update({(source, fault, e): n for e, n in zip(ENDS, ends, strict=True)})
                one.counts[source, fault, "silent"] += count - sum(ends)
                one.wrong[source, fault] += wrong
            elif len(cells) == 6:
                day, seed, source, *numbers = cells
                one.runs[day, seed, source] = [float(n.replace(",", "")) for n in numbers]
        one.told.update({sentence: _number(n) for n, sentence in _TOLD.findall(text)})
        one.sentences = _WRONG.findall(text)
        return one

    def text(self) -> str:
        lines = [HEAD, _SOURCES, "| --- " * 9 + "|"]
        kinds = sorted({(source, fault) for source, fault, _ in self.counts} | set(self.wrong))
        total = [0] * 7
        for source, fault in kinds:
            ends = [self.counts[source, fault, end] for end in ENDS]
            wrong = self.wrong[source, fault]
            silent = self.counts[source, fault, "silent"]
            row = [sum(ends) + silent, *ends, wrong]
            total = [a + b for a, b in zip(total, row, strict=True)]
            lines.append(f"| {source} | {fault} | {' | '.join(f'{n:,}' for n in row)} |")
        lines.append(f"| **all** |  | {' | '.join(f'**{n:,}**' for n in total)} |")
        lines += ["", "What administrators were told, most often first:", ""]
        lines += [f"- {n:,} × {sentence}" for sentence, n in self.told.most_common()]
        if self.sentences:
            lines += ["", "What was wrong:", "", *(f"- wrong: {one}" for one in self.sentences)]
        lines += ["", "## Runs", "", _RUNS, "| --- " * 6 + "|"]
        for key, (faults, wrong_ones, seconds) in sorted(self.runs.items()):
            numbers = f"{faults:,.0f} | {wrong_ones:,.0f} | {seconds:,.1f}"
            lines.append(f"| {' | '.join(key)} | {numbers} |")
        return "\n".join(lines) + "\n"

    def done(self, seed: int, source: str) -> int:
        """How many faults of that seed befell that source: the number of the next."""
        mine = (n for (_, *of), n in self.runs.items() if of == [str(seed), source])
        return int(sum(numbers[0] for numbers in mine))


@contextmanager
def adding(page: Path) -> Iterator[Record]:
    """The page, read and written anew; several storms may add to it."""
    with page.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        one = Record.read(file.read())
        yield one
        file.truncate(0)
        file.write(one.text())


def add(
    page: Path, source: str, seed: int, seconds: float, counts: Counter[tuple[str, str]],
    wrong: list[str], told: Counter[str],
) -> None:  # fmt: skip
    """One fault more."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    with adding(page) as one:
        for (fault, end), n in counts.items():
            one.counts[source, fault, end] += n
            one.wrong[source, fault] += bool(wrong)
        one.told.update({sentence.replace("\n", " "): n for sentence, n in told.items()})
        one.sentences += [sentence.replace("\n", " ")[:400] for sentence in wrong]
        run = one.runs.setdefault((today, str(seed), source), [0, 0, 0])
        more = [sum(counts.values()), bool(wrong), seconds]
        run[:] = [a + b for a, b in zip(run, more, strict=True)]


def _number(said: str) -> int:
    return int(said.replace(",", "").replace("*", ""))
