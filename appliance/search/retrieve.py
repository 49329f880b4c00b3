"""A question to the passages that may answer it, for one viewer.

Scope comes first, so nothing hidden is ranked; `access.passages` asks again at the end, so
nothing that was hidden meanwhile is shown, nor given to the reader.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap64
from sqlalchemy import Engine

from appliance.errors import NotReady
from appliance.ports import Embedder, Index, Reader
from appliance.search import behind, evidence, reading
from appliance.search.move import Serving
from appliance.search.narrow import Narrowing
from appliance.search.scope import ScopeMap
from appliance.settings import Settings
from appliance.store import access, catalog, editions, sources, synonyms
from appliance.text import abbreviations, articles, copies, everyday, purpose, versions
from appliance.text.synonyms import Groups, expand, own
from appliance.types import Filter, Hit, Passage, Query, Scope, Viewer

MOST_OF_A_DOCUMENT = 3  # passages; one long document must not crowd out the others
_DENSE_FLOOR = 0.01  # least standard deviation: differences below it are noise
_KEYWORD_FLOOR = 0.5
_EXPLAINING = 24  # of the candidates: what they write out tells what the question cuts short
_WRITTEN = 100  # chunks: what stands in so many is how it is written
_HELD = 4.0  # standard deviations: more than the scores of what does not hold it differ by
ANY = Filter()
_MEANT = 20.0  # as much as a reader can say: who names an article means that one
_NO_VECTOR = np.empty((1, 0), np.float32)
# words are looked for while the question is embedded, elsewhere or on another core
_BESIDE = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="words")


class WordIndex(Index, Protocol):
    def holding(self, query: Query, k: int, scope: Scope) -> list[Hit]: ...

    def rarity(self, words: Iterable[str]) -> Mapping[str, float]: ...

    def holders(self, text: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    chunk_id: int
    score: float  # fused
    dense: float  # similarity
    keyword: float  # BM25


Dropped = Literal["superseded", "ahead", "copy", "crowded", "beyond"]


@dataclass(frozen=True, slots=True)
class Considered:
    """A candidate's passage, and why it is not shown, if it is not."""

    passage: Passage
    dropped: Dropped | None = None


@dataclass(frozen=True, slots=True)
class Retrieval:
    """`passages` is empty where nothing relevant was found; `relevance` is the best there was.

    `ranked` are the passages before that was decided, by `threshold`; `question` is what was
    searched for. `considered` holds what was looked at on the way, in order. `withheld`: not all
    of the viewer's was searched, for nobody knows now who may read some of it.
    """

    passages: tuple[Passage, ...] = ()
    ranked: tuple[Passage, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    relevance: float = 0.0
    question: str = ""
    threshold: float = 0.0
    considered: tuple[Considered, ...] = ()
    withheld: bool = False


@dataclass(frozen=True)
class Retriever:
    engine: Engine
    embedder: Embedder
    dense: Index
    keyword: WordIndex
    scopes: ScopeMap
    settings: Settings
    ready: Callable[[], bool] = lambda: True
    reader: Reader | None = None
    serving: Serving | None = None  # what `embedder` and `dense` are now, where they may change
    narrowing: Narrowing = field(default_factory=Narrowing)

    def retrieve(
        self,
        question: str,
        viewer: Viewer,
        k: int | None = None,
        *,
        within: Filter = ANY,
        rerank: bool = True,
        trace: bool = False,
    ) -> Retrieval:
        """At most k passages, best first; read first, where there is a reader, if `rerank`.

        Only documents that `within` means are looked at. With `trace` every candidate is considered to the end. Raises NotReady, ModelBusy,
        ModelUnreachable.
        """
        if self.serving:  # one pair for the whole of a question
            embedder, index = self.serving.pair
            now = replace(self, embedder=embedder, dense=index, serving=None)
            return now.retrieve(question, viewer, k, within=within, rerank=rerank, trace=trace)
        if not rerank and self.reader:
            quick = replace(self, reader=None)
            return quick.retrieve(question, viewer, k, within=within, trace=trace)
        if not self.ready():
            raise NotReady("the indexes are still being loaded")
        k = k or self.settings.passages
        scope = self.scopes.scope(access.admitted(self.engine, viewer))
        whole = len(scope.chunks)
        if withheld := access.withheld(self.engine):
            scope = self.narrowing.without(self.engine, scope, withheld)
        less = len(scope.chunks) < whole
        if within != ANY:
            scope = self.narrowing.scope(self.engine, scope, within)
        groups = synonyms.read(self.engine).groups
        question = expand(question, groups)
        if not scope.chunks or not question.strip():
            return Retrieval(question=question, withheld=less)
        count = max(self.settings.candidates, 4 * k)
        candidates = self._asked(question, groups, count, scope)
        if called := self._as_written(question, groups, viewer, candidates, count, scope):
            question = everyday.replaced(question, called)
            candidates = self._asked(question, groups, count, scope)
        if meant := self._written_out(question, groups, viewer, candidates):
            short = own(question, meant)  # what says it so is meant as well
            question = abbreviations.replaced(question, meant)
            candidates = self._asked(question, groups, count, scope, short)
        considered = list(self._considered(question, candidates, viewer, k, trace))
        if self.reader:  # reading took a while: what may be read now
            ids = {c.passage.document_id for c in considered}
            ids = access.visible_documents(self.engine, viewer, ids)
            considered = [c for c in considered if c.passage.document_id in ids]
        ranked = tuple(c.passage for c in considered if not c.dropped)
        fit = evidence.fit_for(self.embedder.name)
        threshold = self.settings.evidence_threshold or fit.enough(question)
        enough = 1.0 if trace else threshold
        relevance = self._relevance(question, candidates, ranked, enough)
        passages = ranked if relevance >= threshold else ()
        return Retrieval(
            passages,
            ranked,
            tuple(candidates),
            relevance,
            question,
            threshold,
            tuple(considered),
            less,
        )

    def _asked(
        self,
        question: str,
        groups: Groups,
        count: int,
        scope: Scope,
        also: tuple[str, ...] = (),
    ) -> list[Candidate]:
        """The candidates for a question, some of whose words are the company's own."""
        terms = (*own(question, groups), *also)
        words = _BESIDE.submit(self._by_words, Query(question, _NO_VECTOR, terms), count, scope)
        query = Query(question, self.embedder.embed([question], "query"), terms)
        found = [*self.dense.search(query, count, scope), *words.result()]
        found += behind.copies(self.engine, found, count, scope, partial(self._looked, query))
        return self._fused(query, found, scope)

    def _written_out(
        self, question: str, groups: Groups, viewer: Viewer, candidates: Sequence[Candidate]
    ) -> Sequence[tuple[str, str]]:
        """What the question cuts short and hardly a document does, as the best candidates write it.

        What an administrator has said about a word goes before.
        """
        words = [w for w in abbreviations.short(question) if w not in own(question, groups)]
        rare = [w for w in words if self.keyword.holders(w) < _WRITTEN]
        return abbreviations.written_out(rare, self._best(viewer, candidates)) if rare else ()

    def _as_written(
        self,
        question: str,
        groups: Groups,
        viewer: Viewer,
        candidates: Sequence[Candidate],
        count: int,
        scope: Scope,
    ) -> Sequence[tuple[everyday.Said, str]]:
        """What people say otherwise than the best candidates, and how these call it."""
        kept = own(question, groups)  # a verb is meant in as many ways as there are passages
        said = [s for s in everyday.said(question) if not s.verb and s.word not in kept]
        if not said:
            return ()
        wide = self._asked(everyday.widened(question, said), groups, count, scope)
        return everyday.instead(said, [*self._best(viewer, candidates), *self._best(viewer, wide)])

    def _best(self, viewer: Viewer, candidates: Sequence[Candidate]) -> list[str]:
        """What the best candidates that may be read say."""
        best = [(c.chunk_id, c.score) for c in candidates[:_EXPLAINING]]
        found = access.passages(self.engine, viewer, best)
        return list(dict.fromkeys(f"{p.title}\n{p.text}" for p in found))

    def candidates(self, query: Query, count: int, scope: Scope) -> list[Candidate]:
        """The best of each index, all scored by both, best first."""
        return self._fused(query, self._looked(query, count, scope), scope)

    def _looked(self, query: Query, count: int, scope: Scope) -> list[Hit]:
        return [*self.dense.search(query, count, scope), *self._by_words(query, count, scope)]

    def _by_words(self, query: Query, count: int, scope: Scope) -> list[Hit]:
        found = self.keyword.search(query, count, scope)
        return found + self.keyword.holding(query, count, scope)

    def _fused(self, query: Query, found: Iterable[Hit], scope: Scope) -> list[Candidate]:
        """Who asks for a word, or for a part of one, means that word: what holds it comes first."""
        together = Scope(BitMap64(hit.chunk_id for hit in found), scope.accesses)
        ids = list(together.chunks)
        if not ids:
            return []
        dense = _scores(ids, self.dense.search(query, len(ids), together))
        keyword = _scores(ids, self.keyword.search(query, len(ids), together))
        holding = {hit.chunk_id for hit in self.keyword.holding(query, len(ids), together)}
        weight = self._weights(ids)
        fused = weight * _standard(dense, _DENSE_FLOOR)
        fused += (1 - weight) * _standard(keyword, _KEYWORD_FLOOR)
        fused += [_HELD * (i in holding) for i in ids]
        scored = [
            Candidate(*values)
            for values in zip(ids, fused.tolist(), dense.tolist(), keyword.tolist(), strict=True)
        ]
        return sorted(scored, key=lambda c: (-c.score, c.chunk_id))

    def _weights(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """Of each chunk's dense score: its source's own, or the appliance's."""
        own = sources.dense_weights(self.engine)
        of = catalog.sources_of(self.engine, ids) if own else {}
        return np.array([own.get(of.get(i, 0), self.settings.dense_weight) for i in ids])

    def _considered(
        self, question: str, candidates: Sequence[Candidate], viewer: Viewer, k: int, trace: bool
    ) -> Iterator[Considered]:
        """One passage for each parent: its best child decides. Ends with the k-th, or goes on."""
        seen: set[object] = set()
        shown: defaultdict[str, list[str]] = defaultdict(list)  # texts, by source
        of_document: Counter[str] = Counter()
        kept = 0
        for one in self._ordered(question, candidates, viewer, 2 * k):
            passage, dropped = one.passage, one.dropped
            place = (passage.document_id, passage.start, passage.end)
            if not dropped and (
                place in seen
                or passage.text in seen
                or any(copies.alike(passage.text, text) for text in shown[passage.source])
            ):
                dropped = "copy"  # it adds nothing
            if not dropped:
                seen |= {place, passage.text}
                shown[passage.source].append(passage.text)
                of_document[passage.document_id] += 1
                if of_document[passage.document_id] > MOST_OF_A_DOCUMENT:
                    dropped = "crowded"
                elif kept == k:
                    dropped = "beyond"
            yield Considered(passage, dropped)
            kept += not dropped
            if kept == k and not trace:
                return

    def _ordered(
        self, question: str, candidates: Sequence[Candidate], viewer: Viewer, block: int
    ) -> Iterator[Considered]:
        """The best as the reader orders them, then the others as they were fused."""
        first = self.settings.reranked if self.reader else 0
        head = self._shown(question, candidates[:first], viewer)
        standing = [c.passage for c in head if not c.dropped]
        yield from map(Considered, self._read(question, viewer, standing))
        yield from (c for c in head if c.dropped)
        start = first
        while start < len(candidates):  # whoever is not done after a few needs many
            yield from self._shown(question, candidates[start : start + block], viewer)
            start, block = start + block, 2 * block

    def _shown(
        self, question: str, candidates: Sequence[Candidate], viewer: Viewer
    ) -> list[Considered]:
        found = access.passages(self.engine, viewer, [(c.chunk_id, c.score) for c in candidates])
        return list(self._in_force(question, viewer, found))

    def _read(self, question: str, viewer: Viewer, passages: Sequence[Passage]) -> list[Passage]:
        """The passages, each with what the reader makes of its hit, best first."""
        if not passages or not self.reader:
            return list(passages)
        read = reading.read(self.reader, question, passages)
        read = reading.without_asides(self.reader, question, read)
        ids = {p.document_id for p in read}
        openings = access.openings(self.engine, viewer, ids, purpose.WITHIN)
        read = reading.in_context(self.reader, question, read, openings)
        read = reading.as_written(self.reader, question, read)
        weight, asked = evidence.FUSED.get(self.reader.name, 0.0), articles.named(question)

        def worth(p: Passage) -> float:
            meant = _MEANT * bool(asked & articles.named(p.label))
            return evidence.logit(p.relevance or 0) + weight * p.score + meant

        return sorted(read, key=worth, reverse=True)

    def _in_force(
        self, question: str, viewer: Viewer, passages: Sequence[Passage]
    ) -> Iterator[Considered]:
        """Versions that are not in force are dropped, unless such a one is asked for."""
        today = datetime.now().astimezone().date()
        ids = {p.document_id for p in passages}
        outdated = editions.outdated(self.engine, viewer, ids, today)
        meant = {
            "superseded": versions.asks_past(question),
            "ahead": versions.asks_ahead(question),
        }
        for passage in passages:
            version = outdated.get(passage.document_id)
            dropped = None if version is None or meant[version.standing] else version.standing
            yield Considered(replace(passage, version=version), dropped)

    def _relevance(
        self,
        question: str,
        candidates: Sequence[Candidate],
        passages: Sequence[Passage],
        enough: float,
    ) -> float:
        """Of the best passage, or of the first that has `enough`: each takes milliseconds."""
        fit = evidence.fit_for(self.embedder.name)
        rarity = self.keyword.rarity(evidence.telling(question))
        dense = {c.chunk_id: c.dense for c in candidates}
        best = 0.0
        for p in passages:
            covered = evidence.coverage(rarity, f"{p.title}\n{p.label}\n{p.text}")
            best = max(best, evidence.relevance(fit, dense[p.chunk_id], covered))
            if best >= enough:
                break
        return max(best, self._read_surely(passages))

    def _read_surely(self, passages: Sequence[Passage]) -> float:
        """How relevant a fitted reader holds the best, where it is sure; else 0."""
        if not self.reader or self.reader.name not in evidence.FUSED:
            return 0.0
        best = max((p.relevance or 0.0 for p in passages), default=0.0)
        return best if best >= evidence.READ else 0.0


def _scores(ids: Sequence[int], hits: Sequence[Hit]) -> NDArray[np.float64]:
    """The hits' scores in the order of `ids`; what an index did not find has the least."""
    scores = {hit.chunk_id: hit.score for hit in hits}
    least = min(scores.values(), default=0.0)
    return np.array([scores.get(i, min(least, 0.0)) for i in ids])


def _standard(scores: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    return np.asarray((scores - scores.mean()) / max(float(scores.std()), floor))
