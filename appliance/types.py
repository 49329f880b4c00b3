"""The nouns. Frozen values, no behaviour beyond what keeps them true.

Times are UTC and aware. Offsets are in characters of the document's original
text, half-open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NewType

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64

Vectors = NDArray[np.float32]  # (n, dim), rows of length 1
ChunkIds = NDArray[np.int64]  # (n,), sorted, unique
Cursor = NewType("Cursor", str)  # opaque to everyone but the connector that made it
Principal = NewType("Principal", str)  # "user:<id>", "group:<name>", "everyone"
Role = Literal["query", "passage"]
Ended = Literal["complete", "cut", "cancelled", "no_evidence"]

EVERYONE = Principal("everyone")


@dataclass(frozen=True, slots=True)
class Layer:
    """One place where access is decided. Deny beats allow; an empty `allow` admits nobody."""

    allow: frozenset[Principal]
    deny: frozenset[Principal] = frozenset()

    def admits(self, principals: frozenset[Principal]) -> bool:
        return not (self.deny & principals) and bool(self.allow & principals)


Access = tuple[Layer, ...]  # every layer must admit (share and NTFS, space and page)
NOBODY: Access = ()  # no layer: nothing is known about who may read, so nobody may


def admits(access: Access, principals: frozenset[Principal]) -> bool:
    """True if every layer admits. An empty access admits nobody: unknown is no."""
    return bool(access) and all(layer.admits(principals) for layer in access)


def narrower(before: Access, after: Access) -> bool:
    """True if it is plain that `after` admits nobody whom `before` does not."""
    return not after or (
        bool(before)
        and all(
            any((EVERYONE in b.allow or a.allow <= b.allow) and a.deny >= b.deny for a in after)
            for b in before
        )
    )


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. `principals` holds the user, every group (nested ones too) and "everyone"."""

    user_id: str
    principals: frozenset[Principal]


@dataclass(frozen=True, slots=True)
class Listed:
    """A person or a group of a directory. Nodes name those that belong to one another:
    "sid:S-1-5-21-…", or "dn:…", "uid:…", "list:…" within that directory.
    """

    id: str  # objectGUID, entryUUID: stays when it is renamed or moved
    version: str  # empty: read it again
    kind: Literal["person", "group"]
    dn: str
    node: str
    name: str  # sAMAccountName, uid, cn
    sid: str = ""
    upn: str = ""
    mail: str = ""
    title: str = ""
    disabled: bool = False
    expires_at: datetime | None = None
    members: tuple[str, ...] = ()  # nodes that count as this one
    into: tuple[str, ...] = ()  # nodes that this one counts as, beside the groups that list it


@dataclass(frozen=True, slots=True)
class Site:
    """What a connector is told of the machine that it runs on."""

    ca_file: Path | None = None  # certificates of the company's own authority, PEM
    near: frozenset[str] = frozenset()  # "host:port" on this machine or its link that may be asked
    loaders: frozenset[str] = frozenset()  # "module:Class" of others' code that sources may run
    reach: Callable[[str], None] = lambda host: None  # tells the egress guard who will be asked
    unseal: Callable[[Mapping[str, Any]], dict[str, Any]] = dict  # settings as they were given
    sids: Callable[[Collection[str]], frozenset[str]] = lambda sids: frozenset()  # of a directory
    own: Path | None = None  # Kura's data: no document of any source lies there


ALONE = Site()  # nothing of its own authority, nothing near


# --- documents coming in ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file as its source shows it. `version` changes whenever the bytes may have."""

    uri: str  # unique within the source; NFC
    version: str
    open: Callable[[], BinaryIO]
    access: Access
    title: str
    modified_at: datetime
    media_type: str | None = None  # a hint; the content decides
    size_bytes: int | None = None
    read: Readings | None = None  # of its pages that are pictures; None: nobody reads any
    read_inside: Mapping[str, Readings] = field(default_factory=dict)  # likewise, by their digests


@dataclass(frozen=True, slots=True)
class Upsert:
    file: RawFile


@dataclass(frozen=True, slots=True)
class AccessChanged:
    uri: str
    access: Access


@dataclass(frozen=True, slots=True)
class Remove:
    uri: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The same document under a new uri: its text, vectors and history stay."""

    old_uri: str
    uri: str
    title: str
    access: Access


@dataclass(frozen=True, slots=True)
class Failed:
    """A file the source shows but could not give us. Its last good text stays; the reason is shown."""

    uri: str
    title: str
    reason: str
    transient: bool
    access: Access = NOBODY


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All before this is yours. `complete`: what this run did not mention is gone."""

    cursor: Cursor
    complete: bool = False


Change = Upsert | AccessChanged | Remove | Moved | Failed | Checkpoint


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a page, in points from the top left corner."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A place a person can open: from `start` on, the text is at `label`.

    `kind` keeps independent series apart: a character is on a page *and* in an
    article. Within a kind the next mark ends the last.
    """

    start: int
    label: str  # "p. 3", "Sheet1!B2", "第12条", "スライド 4", "添付: 見積.txt"
    kind: Literal["page", "cell", "section", "slide", "part"] = "section"
    page: int | None = None  # 1-based
    box: Box | None = None
    level: int = 0  # depth of a heading, 1 the highest; 0 where there is none


PageState = Literal["fine", "rotated", "empty", "scanned", "garbled"]


@dataclass(frozen=True, slots=True)
class Page:
    """What a page of a file is like, and where its text came from."""

    number: int  # 1-based
    state: PageState  # as its file has it: a garbled or scanned page has no usable text of its own
    sure: float = 1.0  # 0 to 1, of the state
    read: Literal["text", "ocr", "none"] = "text"  # what its text was taken from


@dataclass(frozen=True, slots=True)
class Properties:
    """What a file says beside its text."""

    author: str | None = None
    created: date | None = None
    edges: tuple[str, ...] = ()  # running heads and feet, which the text leaves out; each once


UNSAID = Properties()


@dataclass(frozen=True, slots=True)
class ReadLine:
    """A line that was read from a picture."""

    text: str
    sure: float  # 0 to 1, the mean of its letters
    box: Box
    row: bool = False  # of a table


@dataclass(frozen=True, slots=True)
class ReadPage:
    """What was read from the picture of a page, in the order a person reads it."""

    lines: tuple[ReadLine, ...] = ()
    turned: int = 0  # degrees against the clock that set it upright
    vertical: bool = False  # 縦書き
    doubtful: bool = False  # some of it was read with little confidence


Readings = Mapping[int, ReadPage]  # by page, from 1


class Run(NamedTuple):
    """Characters [start, end) of a document's text on one line of a page, and where they stand.

    Places are ten-thousandths of the page's width and height as it is drawn, from the top left.
    """

    start: int
    end: int
    page: int  # 1-based
    left: int
    top: int
    right: int
    bottom: int
    way: int  # they follow each other to the right, down, to the left, up: 0 to 3


@dataclass(frozen=True, slots=True)
class Document:
    """What a parser made of a file. Marks are sorted by `start`."""

    text: str
    marks: tuple[Mark, ...] = ()
    title: str | None = None  # the title the document gives itself
    problems: tuple[str, ...] = ()  # what was lost or doubtful, for the administrator
    pages: tuple[Page, ...] = ()  # of a file that has pages, in order
    properties: Properties = UNSAID
    children: tuple[Child, ...] = ()  # files inside it, and inside those: one flat list
    runs: tuple[Run, ...] = ()  # sorted; characters between them have no known place
    own: tuple[tuple[int, str], ...] = ()  # by page: what the file says where its text is another


@dataclass(frozen=True, slots=True)
class Said:
    """What a document says of itself, and where; without a span beside its text, or in its name."""

    text: str  # a day as 2024-04-01
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a document says of itself. None where it does not say."""

    title: Said | None = None
    author: Said | None = None
    department: Said | None = None
    number: Said | None = None  # 文書番号
    version: Said | None = None
    confidentiality: Said | None = None  # 秘密区分, as 社外秘
    created: Said | None = None
    revised: Said | None = None
    in_force: Said | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """A file inside another (member of an archive, attachment), or why it could not be read."""

    path: str  # inside the outermost file, unique in it: "手引き/手引き.doc", "内.zip › 規程.docx"
    document: Document | None = None  # without children: they stand beside it
    problem: str | None = None  # where there is no document
    media_type: str | None = None
    size_bytes: int | None = None
    modified_at: datetime | None = None  # where what holds it says so
    # which file of the outermost it is, from 1, and so on inside; () where it is no file there
    at: tuple[int, ...] = ()
    digest: str | None = None  # of its bytes as its parser saw them, where it may have pictures
    # its bytes, as long as the outermost file is open; raises Unreadable
    read: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What an index holds: [start, end) of the text, inside its parent section."""

    start: int
    end: int
    parent_start: int
    parent_end: int
    heading: str = ""  # title path of the section, " › " between


# --- questions -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    vector: Vectors  # (1, dim)
    own: tuple[str, ...] = ()  # words of the company in it: each is looked for as one


@dataclass(frozen=True, slots=True)
class Scope:
    """What one search may touch. Every chunk in `chunks` has its access in `accesses`."""

    chunks: BitMap64  # chunk ids
    accesses: frozenset[int]  # ids of the accesses that admit the viewer


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents are meant. What is empty leaves all of them."""

    sources: frozenset[str] = frozenset()  # names
    media_types: frozenset[str] = frozenset()
    since: datetime | None = None  # modified then, or later
    before: datetime | None = None  # modified earlier than that


@dataclass(frozen=True, slots=True)
class Hit:
    chunk_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One chunk as an index takes it in."""

    chunk_id: int
    access_id: int
    text: str  # title, heading and chunk text
    vector: Vectors  # (dim,)


@dataclass(frozen=True, slots=True)
class IndexChanges:
    """What an index must take in: `removed` first, then `added`. Applying twice is applying once."""

    added: tuple[Entry, ...] = ()
    removed: ChunkIds = field(default_factory=lambda: np.empty(0, np.int64))
    sequence: int = 0  # the change log's number after these changes


@dataclass(frozen=True, slots=True)
class Waiting:
    """The place of a question before the model, from 1; 0 when it starts."""

    position: int


@dataclass(frozen=True, slots=True)
class Version:
    """Why a document is not the one in force, and which is."""

    document_id: str  # the one in force
    title: str
    since: date | None  # when it came into force
    standing: Literal["superseded", "ahead"]  # of the document itself; ahead: not yet in force
    own: date | None = None  # when the document itself came, or comes, into force


@dataclass(frozen=True, slots=True)
class Words:
    """[start, end) of a text, which a reader takes for the answer."""

    start: int
    end: int
    score: float  # log-odds against "nowhere in this text"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader makes of one text."""

    relevance: float  # 0 to 1: whether it answers
    words: tuple[Words, ...] = ()  # with which words, best first; a mere reranker points at none


@dataclass(frozen=True, slots=True)
class Passage:
    """What a reader (and the model) is shown: a part of one document's text."""

    chunk_id: int
    document_id: str
    source: str
    uri: str
    title: str
    label: str  # "p. 3 · 第12条"
    text: str  # exactly the document's text[start:end]
    start: int
    end: int
    score: float = 0.0
    modified_at: datetime | None = None
    hit: Span | None = None  # the chunk that was found, inside [start, end)
    version: Version | None = None  # where the document is not the one in force
    relevance: float | None = None  # 0 to 1, where a reranker has read the hit
    words: tuple[Words, ...] = ()  # of the document's text: what it would answer with, best first
    confidentiality: str | None = None  # 秘密区分 of the document, where it says so
    within: str | None = None  # of a file inside another: that one's title, and the path in it
    about: str = ""  # what its document says of itself, where the reader was told


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) of the document's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Citation:
    marker: int  # the n of "[n]" in the answer
    passage: Passage
    span: Span | None  # the words that support the claim; None where none do
    quote: str  # the text of `span`, or ""
    supported: bool  # checked against the passage, not assumed
    label: str = ""  # the place of the span; the passage's where there is none


@dataclass(frozen=True, slots=True)
class Pointer:
    """A place that a reader pointed at: the sentence in `span`, and the `words` in it."""

    number: int  # of the passage, from 1
    passage: Passage
    span: Span
    words: Span
    label: str = ""  # the place of the span

    @property
    def quote(self) -> str:
        return self.passage.text[
            self.span.start - self.passage.start : self.span.end - self.passage.start
        ]


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of an answer, [start, end) of its text, and whether the sources say so."""

    start: int
    end: int
    supported: bool  # by a passage it cites; where it cites none, by any
    doubts: tuple[Span, ...] = ()  # numbers, part numbers and names that none of them has


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of a conversation, oldest first. `passages`: what its prompt began with."""

    question: str
    answer: str
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a generator is given: text for a plain model, or messages for a chat model."""

    system: str
    user: str

    def plain(self) -> str:
        return f"{self.system}\n\n{self.user}"


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    ended: Ended
    question: str = ""  # as searched: standalone
    dangling: int = 0  # markers that pointed nowhere and were taken out
    statements: tuple[Statement, ...] = ()  # in order; sentences that state nothing are left out
    near: tuple[Pointer, ...] = ()  # where nothing was sure: what comes nearest
    conflicts: tuple[Pointer, ...] = ()  # documents that give other numbers; the cited one first
