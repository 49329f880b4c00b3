"""What every implementation of a port must do. Subclass, give a fixture, inherit the tests."""

from __future__ import annotations

import json
import math
import threading
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap64

from appliance.errors import NotVisible, Unreadable
from appliance.ports import (
    Connector,
    Embedder,
    Generator,
    Index,
    PageReader,
    Reader,
    Reranker,
)
from appliance.testing.fakes import HashEmbedder
from appliance.types import (
    NOBODY,
    Checkpoint,
    Entry,
    Failed,
    Hit,
    IndexChanges,
    Layer,
    Moved,
    Prompt,
    Query,
    RawFile,
    Remove,
    Scope,
    Upsert,
)


class IndexContract:
    """Subclasses give `index`: empty, 64 dimensions. Texts share words, so that everything ranks."""

    def entries(self, *ids: int, access: int = 1, text: str = "旅費規程の第{}条") -> list[Entry]:
        texts = [text.format(i) for i in ids]
        vectors = HashEmbedder().embed(texts, "passage")
        return [Entry(i, access, t, v) for i, t, v in zip(ids, texts, vectors, strict=True)]

    def fill(self, index: Index, *entries: Entry, sequence: int = 1) -> None:
        index.apply(IndexChanges(tuple(entries), sequence=sequence))

    def hits(self, index: Index, text: str, chunks: Iterable[int], k: int = 10) -> list[Hit]:
        query = Query(text, HashEmbedder().embed([text], "query"))
        hits = index.search(query, k, Scope(BitMap64(chunks), frozenset({1})))
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
        return hits

    def find(self, index: Index, text: str, chunks: Iterable[int], k: int = 10) -> list[int]:
        return [h.chunk_id for h in self.hits(index, text, chunks, k)]

    def test_an_empty_index_answers_with_nothing(self, index: Index) -> None:
        assert self.find(index, "旅費", [1, 2]) == []
        assert index.ids().tolist() == []
        assert index.sequence == 0

    def test_the_best_comes_first_and_no_more_than_k(self, index: Index) -> None:
        self.fill(index, *self.entries(3), *self.entries(5, text="就業規則"), *self.entries(8))
        assert self.find(index, "就業規則", [3, 5, 8], k=1) == [5]
        assert len(self.find(index, "旅費規程の就業規則", [3, 5, 8], k=2)) == 2

    def test_only_the_scope_is_searched(self, index: Index) -> None:
        self.fill(index, *self.entries(3, 5, 8))
        assert self.find(index, "旅費規程", [5]) == [5]
        assert self.find(index, "旅費規程", []) == []
        assert self.find(index, "旅費規程", [999]) == []

    @pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.97])
    def test_the_scope_never_costs_a_better_hit(self, index: Index, share: float) -> None:
        dice = np.random.default_rng(7)
        ids = list(range(1, 1500))
        for start in range(0, len(ids), 400):
            self.fill(index, *self.entries(*ids[start : start + 400]))
        question = "旅費規程の第1234条"
        scores = {h.chunk_id: h.score for h in self.hits(index, question, ids, len(ids))}
        assert sorted(scores) == ids
        for k in (1, 10, len(ids)):
            scope = {i for i in ids if dice.random() < share}
            found = self.hits(index, question, scope, k)
            best = sorted((scores[i] for i in scope), reverse=True)[:k]
            assert {h.chunk_id for h in found} <= scope
            assert [h.score for h in found] == pytest.approx(best, abs=1e-5)

    def test_removed_is_gone_and_ids_tell_the_truth(self, index: Index) -> None:
        self.fill(index, *self.entries(3, 5, 8))
        index.apply(IndexChanges(removed=np.array([3, 999], np.int64), sequence=2))
        assert index.ids().tolist() == [5, 8]
        assert sorted(self.find(index, "旅費規程", [3, 5, 8])) == [5, 8]

    def test_adding_twice_is_adding_once(self, index: Index) -> None:
        self.fill(index, *self.entries(3, 5, 8))
        self.fill(index, *self.entries(3, 5, 8))
        assert index.ids().tolist() == [3, 5, 8]
        assert sorted(self.find(index, "旅費規程", [3, 5, 8], k=9)) == [3, 5, 8]

    def test_an_entry_replaces_the_one_before(self, index: Index) -> None:
        self.fill(index, *self.entries(3, 5))
        self.fill(index, *self.entries(3, text="就業規則"))
        assert self.find(index, "就業規則", [3, 5], k=1) == [3]
        assert self.find(index, "旅費規程の第3条", [3, 5], k=1) == [5]

    def test_removal_comes_before_addition(self, index: Index) -> None:
        self.fill(index, *self.entries(3))
        index.apply(IndexChanges(tuple(self.entries(3, 4)), np.array([3], np.int64), 2))
        assert index.ids().tolist() == [3, 4]

    def test_the_sequence_is_that_of_the_last_changes(self, index: Index) -> None:
        self.fill(index, *self.entries(3), sequence=41)
        assert index.sequence == 41
        index.apply(IndexChanges(sequence=42))
        assert index.sequence == 42
        assert index.ids().tolist() == [3]

    @pytest.mark.parametrize(
        "text",
        ["", " ", "\x00", '") OR chunk_id:* AND ("', "[1 TO *]", "*", "-旅費", "旅費" * 5000],
    )
    def test_any_text_is_only_text(self, index: Index, text: str) -> None:
        self.fill(index, *self.entries(3, 5))
        assert set(self.find(index, text, [3])) <= {3}

    def test_a_search_never_sees_half_of_a_change(self, index: Index) -> None:
        old, new = range(1, 41), range(101, 141)
        scope = [*old, *new]
        self.fill(index, *self.entries(*old))
        stop, seen = threading.Event(), list[set[int]]()

        def search() -> None:
            while not stop.is_set():
                seen.append(set(self.find(index, "旅費規程", scope, k=99)))

        with ThreadPoolExecutor(3) as pool:
            searches = [pool.submit(search) for _ in range(3)]
            for turn in range(20):
                come, go = (new, old) if turn % 2 == 0 else (old, new)
                changes = (tuple(self.entries(*come)), np.array(go, np.int64), turn)
                index.apply(IndexChanges(*changes))
            stop.set()
            for future in searches:
                future.result()
        assert seen
        assert all(found in (set(old), set(new)) for found in seen)


class KeptIndexContract(IndexContract):
    """For indexes that outlive their process. Subclasses give `opened`: opens it again and again."""

    @pytest.fixture
    def index(self, opened: Callable[[], Index]) -> Index:
        return opened()

    def test_what_was_saved_is_there_again(self, opened: Callable[[], Index]) -> None:
        first = opened()
        self.fill(first, *self.entries(3, 5, 8), sequence=7)
        first.apply(IndexChanges(removed=np.array([5], np.int64), sequence=8))
        first.save()
        again = opened()
        assert (again.sequence, again.ids().tolist()) == (8, [3, 8])
        assert self.find(again, "旅費規程の第8条", [3, 5, 8]) == self.find(
            first, "旅費規程の第8条", [3, 5, 8]
        )

    def test_what_was_not_saved_is_as_before(self, opened: Callable[[], Index]) -> None:
        first = opened()
        self.fill(first, *self.entries(3), sequence=7)
        first.save()
        self.fill(first, *self.entries(5), sequence=8)
        assert (opened().sequence, opened().ids().tolist()) == (7, [3])

    def test_saving_goes_on_after_opening_again(self, opened: Callable[[], Index]) -> None:
        for turn in range(1, 6):
            index = opened()
            self.fill(index, *self.entries(turn, turn + 10), sequence=turn)
            index.apply(IndexChanges(removed=np.array([turn + 10], np.int64), sequence=turn))
            index.save()
        assert (opened().sequence, opened().ids().tolist()) == (5, [1, 2, 3, 4, 5])


class EmbedderContract:
    """Subclasses give `embedder`."""

    def test_rows_are_unit_vectors_of_the_stated_dimension(self, embedder: Embedder) -> None:
        rows = embedder.embed(["旅費規程", "", "a" * 3000], "passage")
        assert rows.shape == (3, embedder.dim)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)

    def test_a_row_does_not_depend_on_its_batch(self, embedder: Embedder) -> None:
        texts = [f"第{n}条 出張の宿泊費は{n}万円とする。" * (n % 4 + 1) for n in range(12)]
        together = embedder.embed(texts, "passage")
        alone = np.concatenate([embedder.embed([t], "passage") for t in texts])
        assert np.allclose(together, alone, atol=1e-3)

    def test_like_texts_come_out_close(self, embedder: Embedder) -> None:
        texts = ["出張の宿泊費の上限", "出張の際の宿泊費の限度額", "ポンプの定期点検の手順"]
        rows = embedder.embed(texts, "passage")
        assert rows[0] @ rows[1] > rows[0] @ rows[2]

    def test_nothing_in_nothing_out(self, embedder: Embedder) -> None:
        assert embedder.embed([], "query").shape == (0, embedder.dim)


class RerankerContract:
    """Subclasses give `reranker`."""

    QUESTION = "出張の宿泊費の上限はいくらですか"
    TEXTS = (
        "ポンプの定期点検は毎月行う。",
        "国内出張の宿泊費は一泊12,000円を上限とする。",
        "",
        "旅費規程 " * 3000,
        "就業規則",
    )

    def test_a_score_a_text_and_every_one_a_number(self, reranker: Reranker) -> None:
        scores = reranker.scores(self.QUESTION, self.TEXTS)
        assert len(scores) == len(self.TEXTS)
        assert all(type(score) is float and math.isfinite(score) for score in scores)

    def test_scores_follow_their_texts(self, reranker: Reranker) -> None:
        forth = reranker.scores(self.QUESTION, self.TEXTS)
        back = reranker.scores(self.QUESTION, self.TEXTS[::-1])
        assert back[::-1] == pytest.approx(forth, abs=1e-3)

    def test_the_same_text_twice_scores_the_same(self, reranker: Reranker) -> None:
        one, _, other = reranker.scores(self.QUESTION, ["就業規則", "旅費", "就業規則"])
        assert one == pytest.approx(other, abs=1e-3)

    def test_the_question_counts(self, reranker: Reranker) -> None:
        assert reranker.scores(self.QUESTION, self.TEXTS) != reranker.scores("有給", self.TEXTS)

    def test_nothing_in_nothing_out(self, reranker: Reranker) -> None:
        assert reranker.scores(self.QUESTION, []) == []


class ReaderContract(RerankerContract):
    """Subclasses give `reranker`, which is a Reader."""

    TEXT = "旅費規程\n国内出張の宿泊費は一泊12,000円を上限とする。日当は二千円とする。"

    def test_a_reading_scores_as_the_reranker_does(self, reranker: Reader) -> None:
        texts = [*self.TEXTS, self.TEXT]
        readings = reranker.read(self.QUESTION, texts)
        scores = reranker.scores(self.QUESTION, texts)
        assert [r.relevance for r in readings] == pytest.approx(scores, abs=1e-3)

    def test_words_stand_in_their_text_the_best_first(self, reranker: Reader) -> None:
        texts = [*self.TEXTS, self.TEXT]
        for text, reading in zip(texts, reranker.read(self.QUESTION, texts), strict=True):
            assert all(0 <= w.start < w.end <= len(text) for w in reading.words)
            scores = [w.score for w in reading.words]
            assert scores == sorted(scores, reverse=True)
            assert all(math.isfinite(score) for score in scores)
        assert reranker.read(self.QUESTION, [self.TEXT])[0].words

    def test_nothing_read_nothing_found(self, reranker: Reader) -> None:
        assert reranker.read(self.QUESTION, []) == []


class PageReaderContract:
    """Subclasses give `reader`, and `file`: whose first page says 「出張旅費規程」 and whose second is blank."""

    def test_a_page_is_read_line_by_line(self, reader: PageReader, file: Path) -> None:
        lines = reader.read(file, 1).lines
        assert "出張旅費規程" in [line.text for line in lines]
        for line in lines:
            assert 0 < line.sure <= 1
            assert 0 <= line.box.left < line.box.right
            assert 0 <= line.box.top < line.box.bottom

    def test_a_blank_page_has_no_lines(self, reader: PageReader, file: Path) -> None:
        assert reader.read(file, 2).lines == ()

    def test_the_same_page_reads_the_same(self, reader: PageReader, file: Path) -> None:
        assert reader.read(file, 1) == reader.read(file, 1)

    def test_a_page_that_is_not_there_is_unreadable(self, reader: PageReader, file: Path) -> None:
        with pytest.raises(Unreadable):
            reader.read(file, 99)


class GeneratorContract:
    """Subclasses give `generator`: anything that answers with a few tokens."""

    PROMPT = Prompt(
        "短く答える。", "資料[1] 献立\n今日の昼食はカレーです。\n\n質問: 昼食は何ですか\n答え:"
    )

    def pieces(self, generator: Generator, limit: int) -> list[str]:
        stream = generator.stream(self.PROMPT, limit, lambda: False, "sato")
        return [piece for piece in stream if isinstance(piece, str)]

    def test_pieces_are_whole_characters(self, generator: Generator) -> None:
        pieces = self.pieces(generator, 24)
        assert pieces
        assert all(piece and "\ufffd" not in piece for piece in pieces)

    def test_the_limit_holds(self, generator: Generator) -> None:
        text = "".join(self.pieces(generator, 2))
        assert generator.count_tokens(text) <= 3  # a token more where the cut falls inside one

    def test_a_cancelled_stream_ends_quietly(self, generator: Generator) -> None:
        assert list(generator.stream(self.PROMPT, 64, lambda: True)) in ([], [""])

    def test_longer_text_has_more_tokens(self, generator: Generator) -> None:
        assert 0 < generator.count_tokens("宿泊費") < generator.count_tokens("宿泊費" * 50)
        assert generator.context_tokens > 256


class ConnectorContract:
    """Subclasses give `connector`: a fixture that reads at least one document."""

    def files(self, connector: Connector) -> list[RawFile]:
        return [c.file for c in connector.changes(None) if isinstance(c, Upsert)]

    def test_it_names_itself_and_its_settings_make_a_form(self, connector: Connector) -> None:
        assert connector.kind.isidentifier()
        assert (type(connector).__doc__ or "").strip(), "the first line is its name in the UI"
        json.dumps(type(connector).Settings.model_json_schema())

    def test_check_passes(self, connector: Connector) -> None:
        connector.check()

    def test_a_whole_listing_ends_in_a_complete_checkpoint(self, connector: Connector) -> None:
        changes = list(connector.changes(None))
        last = changes[-1]
        assert isinstance(last, Checkpoint)
        assert last.complete
        assert not [c for c in changes if isinstance(c, Remove)], "what is gone is not mentioned"

    def test_the_cursor_is_taken_back(self, connector: Connector) -> None:
        last = list(connector.changes(None))[-1]
        assert isinstance(last, Checkpoint)
        later = list(connector.changes(last.cursor))
        assert isinstance(later[-1], Checkpoint)
        assert not [c for c in later if isinstance(c, (Remove, Moved, Failed))], "nothing happened"

    def test_two_runs_agree_on_uris_and_versions(self, connector: Connector) -> None:
        first, second = ([(f.uri, f.version) for f in self.files(connector)] for _ in "ab")
        assert first, "the fixture has at least one document"
        assert first == second, "a version changes when, and only when, the bytes may have"
        assert len({uri for uri, _ in first}) == len(first), "a uri names one file of its source"

    def test_one_file_is_just_as_the_listing_tells(self, connector: Connector) -> None:
        for told in self.files(connector):
            one = connector.file(told.uri)
            assert replace(one, open=told.open) == told
            with one.open() as here, told.open() as there:
                assert here.read() == there.read()

    @pytest.mark.parametrize("uri", ["ありません.pdf", "", "..", "../..", "/", "a\0b", "。" * 300])
    def test_what_is_not_there_is_not_visible(self, connector: Connector, uri: str) -> None:
        with pytest.raises(NotVisible):
            connector.file(uri)

    def test_names_are_nfc_and_times_know_their_zone(self, connector: Connector) -> None:
        for file in self.files(connector):
            assert unicodedata.is_normalized("NFC", file.uri)
            assert file.title
            assert file.modified_at.tzinfo is not None

    def test_files_open_as_often_as_one_likes(self, connector: Connector) -> None:
        for file in self.files(connector):
            with file.open() as one, file.open() as other:
                data = one.read()
                assert data == other.read()
            assert file.size_bytes in (None, len(data))

    def test_files_say_who_may_read_them(self, connector: Connector) -> None:
        """`NOBODY` is an answer for a file of unknown access, not for all of them."""
        assert any(file.access != NOBODY for file in self.files(connector))
        for file in self.files(connector):
            assert all(isinstance(layer, Layer) for layer in file.access)
