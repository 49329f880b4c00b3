"""Stand-ins for what is slow, large or far. They rank and remember.

Shipped with the product so that whoever writes a connector or a backend can
test it the way Kura's own tests do.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel

from appliance.errors import NotVisible, Unreadable
from appliance.types import (
    EVERYONE,
    Access,
    Box,
    Change,
    Checkpoint,
    ChunkIds,
    Cursor,
    Entry,
    Hit,
    IndexChanges,
    Layer,
    Prompt,
    Query,
    RawFile,
    Reading,
    ReadLine,
    ReadPage,
    Role,
    Scope,
    Upsert,
    Vectors,
    Waiting,
    Words,
)

PUBLIC: Access = (Layer(frozenset({EVERYONE})),)


class HashEmbedder:
    """Bigrams hashed into `dim` buckets: texts that share words come out close."""

    def __init__(self, dim: int = 64, name: str = "hash") -> None:
        self._dim = dim
        self._name = name
        self.calls: list[tuple[Role, tuple[str, ...]]] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def dim(self) -> int:
        return self._dim

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        self.calls.append((role, tuple(texts)))
        out = np.zeros((len(texts), self._dim), np.float32)
        for row, text in enumerate(texts):
            for pair in zip(f" {text}", text, strict=False):
                digest = hashlib.blake2b("".join(pair).encode(), digest_size=4).digest()
                out[row, int.from_bytes(digest, "big") % self._dim] += 1
        out[~out.any(axis=1), 0] = 1  # an empty text still has a direction
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)


class ScriptedGenerator:
    """Says what it is told to: pieces, or a function of the prompt. One character is one token."""

    def __init__(
        self,
        *pieces: str | Waiting,
        script: Callable[[Prompt], Iterator[str | Waiting]] | None = None,
        context_tokens: int = 4096,
    ) -> None:
        self._pieces = pieces
        self._script = script
        self._context_tokens = context_tokens
        self.prompts: list[Prompt] = []
        self.askers: list[str] = []

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def count_tokens(self, text: str) -> int:
        return len(text)

    def stream(
        self, prompt: Prompt, limit: int, cancelled: Callable[[], bool], asker: str = ""
    ) -> Iterator[str | Waiting]:
        self.prompts.append(prompt)
        self.askers.append(asker)
        left = limit
        for piece in self._script(prompt) if self._script else self._pieces:
            if cancelled() or left <= 0:
                return
            if isinstance(piece, Waiting):
                yield piece
                continue
            yield piece[:left]
            left -= len(piece)


class OverlapReranker:
    """Scores by the share of the question's bigrams that a text has."""

    name = "overlap"

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        wanted = set(itertools.pairwise(question))
        return [len(wanted & set(itertools.pairwise(text))) / max(len(wanted), 1) for text in texts]


class OverlapReader(OverlapReranker):
    """Points at the sentences that share most of the question's bigrams; `asked` remembers."""

    def __init__(self, sure: float = 15.0) -> None:
        self.sure = sure  # of the best sentence
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def read(self, question: str, texts: Sequence[str]) -> list[Reading]:
        self.asked.append((question, tuple(texts)))
        scores = self.scores(question, texts)
        return [
            Reading(s, tuple(self._words(question, t)) if s else ())
            for s, t in zip(scores, texts, strict=True)
        ]

    def _words(self, question: str, text: str) -> list[Words]:
        """Sentences that open a line are skipped: they are the title."""
        ends = [at + 1 for at, sign in enumerate(text) if sign in "。\n"]
        parts = list(zip([0, *ends], [*ends, len(text)], strict=True))[1:] or [(0, len(text))]
        scored = self.scores(question, [text[a:b] for a, b in parts])
        rows = sorted(zip(scored, parts, strict=True), key=lambda row: -row[0])
        return [Words(a, b, self.sure - 2 * n) for n, (s, (a, b)) in enumerate(rows) if s and a < b]


class ScriptedPages:
    """A `PageReader`: says of each page what it was told to, or raises it; `asked` remembers."""

    def __init__(self, pages: Mapping[int, str | Exception], sure: float = 0.99) -> None:
        self.pages = dict(pages)
        self.sure = sure
        self.asked: list[tuple[str, int]] = []  # name of the file, number
        self.before: Callable[[int], None] = lambda number: None  # called as a page is asked for

    def read(self, file: Path, number: int) -> ReadPage:
        self.asked.append((file.name, number))
        self.before(number)
        said = self.pages.get(number, Unreadable(f"p. {number} はありません"))
        if isinstance(said, Exception):
            raise said
        lines = [
            ReadLine(
                text, self.sure, Box(50.0, 50.0 + 20 * n, 50.0 + 10 * len(text), 65.0 + 20 * n)
            )
            for n, text in enumerate(said.splitlines())
        ]
        return ReadPage(tuple(lines))


class MemoryConnector:
    """A source held in a dictionary: uri -> text, bytes, or (content, access)."""

    kind: ClassVar[str] = "memory"
    Settings: ClassVar[type[BaseModel]] = BaseModel

    def __init__(
        self,
        files: dict[str, str | bytes | tuple[str | bytes, Access]],
        access: Access = PUBLIC,
    ) -> None:
        self.files = files
        self.access = access

    def check(self) -> None:
        """Memory is always there."""

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        for uri, value in list(self.files.items()):
            content, access = value if isinstance(value, tuple) else (value, self.access)
            data = content.encode() if isinstance(content, str) else content
            yield Upsert(
                RawFile(
                    uri=uri,
                    version=hashlib.sha256(data).hexdigest(),
                    open=partial(io.BytesIO, data),
                    access=access,
                    title=uri.rsplit("/", 1)[-1],
                    modified_at=datetime(2026, 1, 1, tzinfo=UTC),
                    size_bytes=len(data),
                )
            )
        yield Checkpoint(Cursor("1"), complete=True)

    def file(self, uri: str) -> RawFile:
        for change in self.changes(None):
            if isinstance(change, Upsert) and change.file.uri == uri:
                return change.file
        raise NotVisible(uri)


class MemoryIndex:
    """Exact inner product over a dictionary: the reference other indexes are compared with."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self._sequence = 0
        self.saves = 0

    @property
    def sequence(self) -> int:
        return self._sequence

    def apply(self, changes: IndexChanges) -> None:
        gone = set(changes.removed.tolist())
        kept = {i: e for i, e in self.entries.items() if i not in gone}
        self.entries = kept | {e.chunk_id: e for e in changes.added}  # searches hold the old one
        self._sequence = changes.sequence

    def ids(self) -> ChunkIds:
        return np.array(sorted(self.entries), np.int64)

    def search(self, query: Query, k: int, scope: Scope) -> list[Hit]:
        hits = [
            Hit(i, float(e.vector @ query.vector[0]))
            for i, e in self.entries.items()
            if i in scope.chunks
        ]
        return sorted(hits, key=lambda h: (-h.score, h.chunk_id))[:k]

    def save(self) -> None:
        self.saves += 1
