"""The verbs: seams where the real thing is slow, large or far away.

What each implementation must do is written as a test in `appliance/testing/contracts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel

from appliance.types import (
    Change,
    ChunkIds,
    Cursor,
    Hit,
    IndexChanges,
    Prompt,
    Query,
    RawFile,
    Reading,
    ReadPage,
    Role,
    Scope,
    Site,
    Vectors,
    Waiting,
)


class Connector(Protocol):
    """Where documents come from. `changes(None)` lists everything and ends in a complete checkpoint."""

    kind: ClassVar[str]
    Settings: ClassVar[type[BaseModel]]

    def check(self) -> None:
        """Raise SourceUnreachable, SourceDenied or SourceMisconfigured, saying how to mend it."""

    def changes(self, since: Cursor | None) -> Iterator[Change]: ...

    def file(self, uri: str) -> RawFile:
        """One file as it is now, just as `changes` would tell of it.

        Raises NotVisible where there is none, and what `check` raises.
        """


@runtime_checkable
class Networked(Protocol):
    """A connector that asks others: it is told of the machine before it does."""

    site: Site


@runtime_checkable
class ListsAll(Protocol):
    """A connector whose every run tells of all there is: its cursor holds what it saves, not where it was."""

    lists_all: ClassVar[bool]


@runtime_checkable
class Granting(Protocol):
    """A connector whose source says who may read. A source that does not answer may have changed that."""

    grants: ClassVar[bool]


@runtime_checkable
class Unverified(Protocol):
    """A connector built on its vendor's documents that nobody has tried against the real service."""

    unverified: ClassVar[bool]


class Embedder(Protocol):
    """Text to vectors. The same text in the same role gives the same row, whatever the batch.

    Raises ModelBusy, ModelUnreachable.
    """

    @property
    def name(self) -> str:
        """Names the vector space: vectors of different names are never compared."""

    @property
    def dim(self) -> int: ...

    def embed(self, texts: Sequence[str], role: Role) -> Vectors: ...


class Reranker(Protocol):
    @property
    def name(self) -> str: ...

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """One score a text, higher is better; comparable within one call only."""


class Reader(Reranker, Protocol):
    """A reranker that also points at the words which answer."""

    def read(self, question: str, texts: Sequence[str]) -> list[Reading]:
        """One reading a text; its relevance is what `scores` gives.

        Raises ModelBusy, ModelUnreachable.
        """


class PageReader(Protocol):
    """Reads the picture of a page."""

    def read(self, file: Path, number: int) -> ReadPage:
        """The page of that number, from 1, of a PDF or an image.

        Raises Unreadable or TooLarge where the page is to blame (it took too long, it killed the
        engine), Transient where the machine is.
        """


class Generator(Protocol):
    """A language model. Raises ModelBusy, ModelUnreachable, PromptTooLong."""

    @property
    def context_tokens(self) -> int: ...

    def count_tokens(self, text: str) -> int: ...

    def stream(
        self, prompt: Prompt, limit: int, cancelled: Callable[[], bool], asker: str = ""
    ) -> Iterator[str | Waiting]:
        """Pieces of the answer, never splitting a character; at most `limit` tokens.

        Before them its place in the queue, where it has to wait. `asker` says whose turn it is: who
        asks much waits longer. Ends early, without error, once `cancelled()` is true.
        """


class Index(Protocol):
    """A copy of the catalogue that can be searched, and thrown away."""

    @property
    def sequence(self) -> int:
        """The change log's number up to which this index is complete."""

    def apply(self, changes: IndexChanges) -> None: ...

    def ids(self) -> ChunkIds: ...

    def search(self, query: Query, k: int, scope: Scope) -> list[Hit]:
        """The best k in scope, best first. There is no "all": scope is required."""

    def save(self) -> None:
        """Write a snapshot with its digest, atomically."""
