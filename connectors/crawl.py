"""A site, page by page: what is there now, beside what was there before.

A page that fails keeps the links it had, so that nothing below it is lost; a server that is away ends
the run. What was there before and was not come by is gone only after a crawl that saw everything;
after any other it is asked, and is gone where the server says so.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
    TooLarge,
)
from appliance.types import (
    NOBODY,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    RawFile,
    Remove,
    Upsert,
)
from connectors.http import Outside
from connectors.urls import last, pattern, winding

AWAY = 10  # pages one after the other; a server that gives none of them is not there
FEW = 20  # pages; fewer than this may vanish at once without a doubt
SAVED_EVERY = 1000  # pages
CURSOR_BYTES = 500_000_000


class ShutOut(SourceDenied):
    """Nobody is let in any more: no page is to blame, and the walk ends."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last answer said of a URL. Without a version: it never gave one."""

    version: str = ""
    etag: str = ""
    modified: str = ""
    title: str = ""
    media_type: str = ""
    size_bytes: int = 0
    index: bool = False  # it is a document
    canonical: str = ""  # another URL, of which this is a copy
    to: str = ""  # the end of its redirect
    links: tuple[str, ...] = ()


Pages = dict[str, Seen]


@dataclass(frozen=True, slots=True)
class Found:
    """One answer. `seen` is None where there is nothing; `file` makes a document of it."""

    url: str  # after redirects
    seen: Seen | None
    file: Callable[[], RawFile] | None = None
    close: Callable[[], None] = lambda: None


@dataclass
class Crawl:
    """One walk. `ask` gets a URL, where its redirect led before, and what is known of that."""

    ask: Callable[[str, str, Seen | None], Found]
    file: Callable[[str, Seen], RawFile]  # of a page that did not change
    wanted: Callable[[str], bool]
    access: Callable[[str], Access]
    before: Pages
    anew: bool  # no walk under these settings came to its end yet
    depth: int
    most: int  # pages
    same_pattern: int  # pages whose URLs differ in numbers and values alone
    whole: bool = True
    now: Pages = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _gone: set[str] = field(default_factory=set)
    _copies: dict[str, str] = field(default_factory=dict)
    _waiting: deque[tuple[str, int]] = field(default_factory=deque)
    _met: set[str] = field(default_factory=set)
    _patterns: Counter[str] = field(default_factory=Counter)
    _away: int = 0

    def changes(self, start: Iterable[str]) -> Iterator[Change]:
        for url in start:
            self._meet(url, 0)
        while self._waiting:
            url, depth = self._waiting.popleft()
            if url in self.now or url in self._gone:
                continue
            if len(self.now) >= self.most:
                self.whole = False
                reason = f"ページ数の上限 ({self.most:,}) に達したため、残りは読みません"
                yield Failed(f"{url}#上限", "ページ数の上限", reason, False)
                break
            yield from self._visit(url, depth)
            if self.now and len(self.now) % SAVED_EVERY == 0:
                yield self._so_far()
        yield from self._spare_copies()
        for shape, times in self._patterns.items():
            if times > self.same_pattern:
                reason = (
                    f"同じ形の URL が多すぎるため、{self.same_pattern:,} 件を超えた分は読みません"
                )
                yield Failed(f"{shape}#同じ形", last(shape), reason, False)
        if not self.whole:
            for url in sorted(self.before.keys() - self.now.keys() - self._gone):
                if self.wanted(url):
                    yield from self._visit(url, self.depth)
            yield from self._removed()
        # what was there under other settings, and was not come by, may not keep its readers
        yield Checkpoint(save(self.now), complete=self.whole or self.anew)

    def _so_far(self) -> Checkpoint:
        """A walk that breaks off costs the next one little."""
        return Checkpoint(save(self.before | self.now, anew=self.anew))

    def _meet(self, url: str, depth: int) -> None:
        if url in self._met or not self.wanted(url) or winding(url):
            return
        self._met.add(url)
        shape = pattern(url)
        self._patterns[shape] += 1
        if self._patterns[shape] <= self.same_pattern:
            self._waiting.append((url, depth))

    def _visit(self, url: str, depth: int) -> Iterator[Change]:
        known = self.before.get(url)
        at = known.to if known and known.to else url
        try:
            found = self.ask(url, at, self.now.get(at) or self.before.get(at))
        except (ApplianceError, OSError) as error:
            yield from self._fails(url, depth, error)
            return
        self._away = 0
        try:
            yield from self._told(url, depth, found)
        finally:
            found.close()

    def _told(self, url: str, depth: int, found: Found) -> Iterator[Change]:
        seen = found.seen
        if seen is None:
            self._gone.add(url)
            return
        if found.url != url:
            self.now[url] = Seen(version=seen.version, to=found.url)
            self._met.add(found.url)
            if found.url in self.now or not self.wanted(found.url):
                return
        url = found.url
        self.now[url] = seen
        if depth < self.depth:
            for link in seen.links:
                self._meet(link, depth + 1)
        if seen.canonical and seen.canonical not in self._copies and self.wanted(seen.canonical):
            self._copies[url] = seen.canonical
            self._meet(seen.canonical, depth)
        elif seen.index:
            self.documents.add(url)
            yield Upsert(found.file() if found.file else self.file(url, seen))

    def _fails(self, url: str, depth: int, error: Exception) -> Iterator[Change]:
        """It keeps what it had. Where nothing is known of it, this walk did not see all."""
        known = self.before.get(url)
        if isinstance(error, Outside) and known is None:
            return
        away = isinstance(error, (SourceUnreachable, SourceBusy))
        if isinstance(error, ShutOut):
            raise error
        if not away and not isinstance(error, (SourceDenied, SourceMisconfigured, TooLarge)):
            raise error
        self._away = self._away + 1 if away else 0
        if self._away >= AWAY:
            yield self._so_far()
            raise error
        self._failed.add(url)
        self.whole &= known is not None
        self.now[url] = known or Seen()
        if known and known.to:  # what it led to is asked itself
            self._meet(known.to, depth)
            return
        shut = isinstance(error, SourceDenied) and not isinstance(error, Outside)
        if known is None or known.index or not known.version:
            access = NOBODY if shut else self.access(url)
            yield Failed(url, (known and known.title) or last(url), str(error), away, access)
        if known and depth < self.depth:
            for link in known.links:
                self._meet(link, depth + 1)
        if known and known.canonical:
            self._copies[url] = known.canonical
            self._meet(known.canonical, depth)

    def _spare_copies(self) -> Iterator[Change]:
        """A page that calls itself a copy of one that is not there is a document after all."""
        for url, target in self._copies.items():
            while target in self._copies:
                target = self._copies[target]
            seen = self.now[url]
            if seen.index and target not in self.documents and target not in self._failed:
                self.documents.add(url)
                yield Upsert(self.file(url, seen))

    def _removed(self) -> Iterator[Change]:
        there = self.documents | self._failed
        gone = [url for url, seen in self.before.items() if seen.index and url not in there]
        if len(gone) < FEW or 2 * len(gone) <= len(self.before):
            yield from map(Remove, sorted(gone))
        else:
            self.now |= {url: self.before[url] for url in gone}


def save(pages: Mapping[str, Seen], *, anew: bool = False) -> Cursor:
    numbers: dict[str, int] = {}
    rows = {
        url: [
            seen.version, seen.etag, seen.modified, seen.title, seen.media_type, seen.size_bytes,
            seen.index, seen.canonical, seen.to,
            [numbers.setdefault(link, len(numbers)) for link in seen.links],
        ]
        for url, seen in pages.items()
    }  # fmt: skip
    text = json.dumps(
        {"anew": anew, "links": list(numbers), "pages": rows},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    return Cursor(base64.b64encode(zlib.compress(text.encode(), 6)).decode("ascii"))


def load(cursor: Cursor | None) -> tuple[Pages, bool]:
    """What was seen, and whether no walk came to its end yet."""
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(cursor or ""), CURSOR_BYTES)
        told = json.loads(packed)
        links = told["links"]
        pages = {
            url: Seen(*[*row[:-1], tuple(links[number] for number in row[-1])])
            for url, row in told["pages"].items()
        }
        return pages, bool(told["anew"])
    except (ValueError, KeyError, TypeError, IndexError, zlib.error):
        return {}, True  # another version's: everything is asked for anew
