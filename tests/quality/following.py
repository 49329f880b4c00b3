"""How often a question that stands alone is taken for a follow-up of another one before it.

    python -m tests.quality.following FILE... [-n 3000]

Two questions of a set have nothing to do with each other, so the second must be searched for as it is.
Without a file: what colleagues ask of papers (`training/written.py`).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from appliance.ask.converse import standalone
from appliance.evaluation import sets
from appliance.training import written
from appliance.types import Turn


def changed(questions: Sequence[str], pairs: int, seed: int = 3) -> list[tuple[str, str, str]]:
    """The question before, the question, and what would be searched for in its stead."""
    dice = random.Random(seed)
    found = []
    for _ in range(pairs):
        before, question = dice.sample(questions, 2)
        alone = standalone(question, [Turn(before, "")])
        if alone != " ".join(question.split()):
            found.append((before, question, alone))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("-n", type=int, default=3000)
    parser.add_argument("--shown", type=int, default=0, help="of those that are changed")
    given = parser.parse_args()
    asked = {f.name: [q.text for q in sets.read(f).questions] for f in given.files}
    asked = asked or {"colleagues": [a.text for p in written.read() for a in p.asked]}
    for name, questions in asked.items():
        found = changed(questions, given.n)
        print(f"{name}: {len(found)} of {given.n} ({len(found) / given.n:.3f})")
        for row in found[: given.shown]:
            print(*row, sep=" | ")


if __name__ == "__main__":
    main()
