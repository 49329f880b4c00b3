"""Words, character bigrams and codes, ranked by BM25: tantivy over the chunks a viewer may read.

A process works on a live folder of its own, made from the last snapshot and thrown away with
the process; files of a tantivy index never change once written, so a snapshot links them. A
process that was killed therefore leaves no lock behind that could matter, and what it had not
saved is replayed from the change log.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from tantivy import Occur
from tantivy import Query as Clause

from appliance.search.dense import ids_of
from appliance.search.snapshot import Snapshots, Workshop
from appliance.text import english, segment
from appliance.types import ChunkIds, Entry, Hit, IndexChanges, Query, Scope

log = logging.getLogger(__name__)

WORD_WEIGHT = 1.0
GRAM_WEIGHT = 0.5
CODE_WEIGHT = 4.0  # who writes an error code means that one and no other
OWN_WEIGHT = 2.0  # a word of the company: no dictionary knows it, so its parts would count alone
WHOLE_PAIRS = 12  # of letters: a text of no more is a word or two, looked for as it stands
_TERMS = 256  # of each kind; a question of a million characters costs no more
_NARROW = 256  # a scope of so few chunks is given to the query itself
_NEARLY_ALL = 0.9  # of the chunks: so wide a scope is only asked for what was found
_HEAP_BYTES = 48_000_000
_FORMAT = 2


class KeywordIndex:
    """BM25 over words, bigrams and codes within the scope. User text is never parsed as a query.

    The access filter is part of the query, so what is hidden is not ranked, unless the scope holds
    nearly all: tantivy then passes over what cannot be among the best, which it does of words
    alone. Membership in the scope's chunks is exact either way, by asking for more until k are
    found or nothing is left. Any number of threads may search while one applies. `apply` and `save`
    raise OSError and ValueError, and change nothing then; an index whose files somebody took away
    is empty from then on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._snapshots = Snapshots(folder)
        self._writing = threading.Lock()
        self._live, self._sequence = self._load()

    @property
    def sequence(self) -> int:
        return self._sequence

    def apply(self, changes: IndexChanges) -> None:
        added = {e.chunk_id: e for e in changes.added}
        with self._writing:
            self._check()
            self._live.write([*changes.removed.tolist(), *added], added.values())
            self._sequence = changes.sequence

    def ids(self) -> ChunkIds:
        return np.array(sorted(self.accesses()), np.int64)

    def accesses(self) -> dict[int, int]:
        """The access each chunk is filtered by."""
        searcher = self._live.index.searcher()
        everything = searcher.search(Clause.all_query(), max(searcher.num_docs, 1), count=False)
        places = [place for _, place in everything.hits]
        chunks = searcher.fast_field_values("chunk_id", places)
        return dict(zip(chunks, searcher.fast_field_values("access_id", places), strict=True))

    def search(self, query: Query, k: int, scope: Scope) -> list[Hit]:
        return self._search(self._live, query, k, scope, [])

    def holding(self, query: Query, k: int, scope: Scope) -> list[Hit]:
        """As `search`, but only what holds each pair of letters of the text: all of it, or nearly.

        Empty where the text is longer than a word or two.
        """
        live, pairs = self._live, _pairs(query.text)
        if not 0 < len(pairs) <= WHOLE_PAIRS:
            return []
        held = _all_of(live.schema, pairs, 0.0)
        return self._search(live, query, k, scope, [(Occur.Must, held)])

    def _search(
        self, live: _Live, query: Query, k: int, scope: Scope, clauses: list[tuple[Any, Any]]
    ) -> list[Hit]:
        wanted = self._terms_of(live.schema, query)
        if k <= 0 or not scope.chunks or not scope.accesses or wanted is None:
            return []
        searcher = live.index.searcher()
        if len(scope.chunks) < _NEARLY_ALL * searcher.num_docs:
            clauses = [*clauses, (Occur.Must, _filter(live.schema, scope))]
        clause, limit = wanted, k
        if clauses:
            clause = Clause.boolean_query([*clauses, (Occur.Must, wanted)])
        while True:
            found = searcher.search(clause, limit, count=False).hits
            places = [place for _, place in found]
            chunks = searcher.fast_field_values("chunk_id", places)
            accesses = searcher.fast_field_values("access_id", places)
            hits = [
                Hit(int(chunk), float(score))
                for chunk, access, (score, _) in zip(chunks, accesses, found, strict=True)
                if chunk in scope.chunks and access in scope.accesses
            ]
            if len(hits) >= k or len(found) < limit:
                return sorted(hits, key=lambda h: (-h.score, h.chunk_id))[:k]
            limit *= 4

    def _terms_of(self, schema: Any, query: Query) -> Any | None:
        """Any word, bigram or code of the text, weighted by field; None where it has none.

        A code counts as much as it is rare, however many others stand beside it: a table of
        error codes is as good a place for one of them as a sentence. So does a word of the
        company, which is as rare as the rarest pair of its letters.
        """
        text = english.content(query.text)
        fields = (
            ("words", WORD_WEIGHT, segment.words(text)),
            ("grams", GRAM_WEIGHT, _grams(query.text, text)),
        )
        clauses = [
            (
                Occur.Should,
                Clause.boost_query(Clause.term_query(schema, field, term, "freq"), weight),
            )
            for field, weight, terms in fields
            for term in _distinct(terms)
        ]
        codes = self.rarity(_distinct(segment.codes(text)), "codes")
        for code, idf in codes.items():
            found = Clause.term_query(schema, "codes", code, "basic")
            clauses.append((Occur.Should, Clause.const_score_query(found, CODE_WEIGHT * idf)))
        for word in query.own:
            if pairs := _pairs(word):
                weight = OWN_WEIGHT * max(self.rarity(pairs, "grams").values())
                clauses.append((Occur.Should, _all_of(schema, pairs, weight)))
        return Clause.boolean_query(clauses) if clauses else None

    def rarity(self, terms: Iterable[str], field: str = "words") -> dict[str, float]:
        """How much each term tells, as BM25's idf: the rarer, the more."""
        live = self._live
        searcher = live.index.searcher()
        total = searcher.num_docs
        counts = {t: searcher.doc_freq(field, t) for t in terms}
        return {w: math.log(1 + (total - n + 0.5) / (n + 0.5)) for w, n in counts.items()}

    def holders(self, text: str) -> int:
        """At most so many chunks hold it, whoever may read them: those that hold its rarest pair."""
        searcher = self._live.index.searcher()
        return min((searcher.doc_freq("grams", p) for p in _pairs(text)), default=0)

    def save(self) -> None:
        with self._writing:
            self._check()
            facts = {"format": _FORMAT, "sequence": self._sequence}
            while True:
                files = self._live.files()
                try:
                    self._snapshots.write(files, facts)
                except FileNotFoundError:
                    if self._live.files().keys() == files.keys():
                        raise  # not a merge that finished meanwhile
                    continue
                return

    def _load(self) -> tuple[_Live, int]:
        found = self._snapshots.read()
        if found is not None and found[1].get("format") == _FORMAT:
            try:
                return _Live(self._folder, found[0]), int(found[1]["sequence"])
            except (OSError, ValueError) as error:
                log.warning("the keyword index in %s cannot be opened: %s", found[0], error)
        elif found is not None:
            log.warning("the keyword index in %s has another form; rebuilding it", found[0])
        return _Live(self._folder, None), 0

    def _check(self) -> None:
        """Raises OSError if somebody took the live folder away; the index is empty then."""
        if not self._live.whole():
            self._live, self._sequence = _Live(self._folder, None), 0
            raise FileNotFoundError(f"the live folder of {self._folder} was taken away")


class _Live:
    """A tantivy index in a folder that this process alone owns, and its writer."""

    def __init__(self, folder: Path, snapshot: Path | None) -> None:
        self._own = Workshop(folder)
        self.path = self._own.path
        for file in snapshot.iterdir() if snapshot else ():
            if file.name != "manifest.json":
                _link(file, self.path / file.name)
        self.schema = _schema()
        self.index = tantivy.Index(self.schema, path=str(self.path), reuse=snapshot is not None)
        spaces = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
        self.index.register_tokenizer("spaces", spaces)
        self.index.config_reader("manual")
        self._writer = self._new_writer()
        if snapshot is None:
            self._writer.commit()

    def whole(self) -> bool:
        return (self.path / "meta.json").exists()

    def write(self, gone: list[int], entries: Iterable[Entry]) -> None:
        try:
            if gone:  # by query: deleting by term takes an unsigned number for a signed one
                chunks = Clause.term_set_query(self.schema, "chunk_id", gone)
                self._writer.delete_documents_by_query(chunks)
            for entry in entries:
                self._writer.add_document(_document(entry))
            self._writer.commit()
        except Exception:
            self._writer = None  # it holds half of the changes: lets go of its lock
            self._writer = self._new_writer()
            raise
        self.index.reload()

    def files(self) -> dict[str, Path | bytes]:
        """The files of the last commit; merges go on meanwhile and may take some away."""
        meta = (self.path / "meta.json").read_bytes()
        segments = {s["segment_id"].replace("-", "") for s in json.loads(meta)["segments"]}
        paths = [p for p in self.path.iterdir() if p.name.split(".")[0] in segments]
        files: dict[str, Path | bytes] = {p.name: p for p in paths}
        managed = json.dumps([*sorted(files), "meta.json"]).encode()
        return files | {"meta.json": meta, ".managed.json": managed}

    def _new_writer(self) -> Any:
        return self.index.writer(heap_size=_HEAP_BYTES, num_threads=1)


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("chunk_id", indexed=True, fast=True)
    builder.add_unsigned_field("access_id", indexed=True, fast=True)
    for field, kept in (("words", "freq"), ("grams", "freq"), ("codes", "basic")):
        builder.add_text_field(field, tokenizer_name="spaces", index_option=kept)
    return builder.build()


def _document(entry: Entry) -> Any:
    document = tantivy.Document()
    document.add_unsigned("chunk_id", entry.chunk_id)
    document.add_unsigned("access_id", entry.access_id)
    document.add_text("words", " ".join(segment.words(entry.text)))
    document.add_text("grams", " ".join(segment.bigrams(entry.text)))
    document.add_text("codes", " ".join(segment.codes(entry.text)))
    return document


def _distinct(terms: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(terms))[:_TERMS]


def _grams(asked: str, text: str) -> list[str]:
    """Of a question in English no pairs of letters: among Japanese papers these find addresses and trade names."""
    found = segment.bigrams(text)
    if not english.is_asked_in(asked):
        return found
    return [g for g in found if len(g) > 2 or not (g.isascii() and g.isalpha())]


def _pairs(text: str) -> list[str]:
    """Its pairs of letters; the whole numbers beside them would miss a part of one."""
    return [g for g in _distinct(segment.bigrams(text)) if len(g) <= 2]


def _all_of(schema: Any, pairs: Sequence[str], score: float) -> Any:
    """What holds each of these pairs has this score."""
    terms = [(Occur.Must, Clause.term_query(schema, "grams", p, "basic")) for p in pairs]
    return Clause.const_score_query(Clause.boolean_query(terms), score)


def _filter(schema: Any, scope: Scope) -> Any:
    """The chunks themselves where they are few: their accesses may be many thousands."""
    if len(scope.chunks) <= _NARROW:
        inside = Clause.term_set_query(schema, "chunk_id", ids_of(scope).tolist())
    else:
        inside = Clause.term_set_query(schema, "access_id", sorted(scope.accesses))
    return Clause.const_score_query(inside, 0.0)


def _link(source: Path, target: Path) -> None:
    if source.name in (".managed.json", "meta.json"):
        shutil.copyfile(source, target)  # tantivy replaces these
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
