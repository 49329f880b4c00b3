"""A file of the corpus, and what a reader should find in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MANIFEST = HERE / "expected.json"

Rows = tuple[tuple[str, ...], ...]  # the first names the columns


@dataclass(frozen=True)
class Paper:
    path: str  # class/name
    data: bytes
    producer: str
    text: str | None = None  # all it says, for the error rate of characters
    tables: tuple[Rows, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()  # of a form: label and value
    garbled: tuple[int, ...] = ()  # its pages that have letters and no meaning
    hidden: str = ""  # of a hostile file: what must not be read, or must be noted
    attack: str = ""  # of a hostile file: what it tries, in a few words

    @property
    def expected(self) -> dict[str, Any]:
        """What the manifest keeps of it: no bytes, nothing empty."""
        return {k: v for k, v in asdict(self).items() if v and k not in ("path", "data")}


@dataclass
class Shelf:
    """Papers while they are made."""

    papers: list[Paper] = field(default_factory=list)

    def add(self, path: str, data: bytes, producer: str, **expected: Any) -> None:
        self.papers.append(Paper(path, data, producer, **expected))


def manifest() -> dict[str, dict[str, Any]]:
    """By path: producer, text, tables, pairs, garbled, hidden, attack; what is empty is not there."""
    found: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text("utf-8"))
    return found
