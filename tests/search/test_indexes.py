"""Every index keeps the contract: the reference, FAISS, the GPU's way, and tantivy."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from pyroaring import BitMap64

from appliance.search import dense, keyword, segments
from appliance.search.dense import DenseIndex, GpuDense
from appliance.search.keyword import KeywordIndex
from appliance.testing.contracts import IndexContract, KeptIndexContract
from appliance.testing.fakes import MemoryIndex
from appliance.types import Entry, IndexChanges, Query, Scope


class TestMemory(IndexContract):
    @pytest.fixture
    def index(self):
        return MemoryIndex()


class TestDense(KeptIndexContract):
    @pytest.fixture
    def opened(self, tmp_path):
        return lambda: DenseIndex(tmp_path, dim=64, space="hash")


class Compacted(DenseIndex):
    """Whatever is due is a large segment before the next call."""

    def apply(self, changes):
        super().apply(changes)
        while self.compact():
            pass


class TestListed(KeptIndexContract):
    """Large segments, as they are from 200 rows on."""

    @pytest.fixture
    def opened(self, tmp_path):
        return lambda: Compacted(tmp_path, 64, "hash", large=200)

    def test_the_contract_is_about_lists(self, index):
        index.apply(IndexChanges(tuple(self.entries(*range(1, 500))), sequence=1))
        assert [type(s) for s in index._state.segments] == [segments.Listed]

    def test_what_is_saved_is_mapped_and_not_read(self, index, opened):
        index.apply(IndexChanges(tuple(self.entries(*range(1, 500))), sequence=1))
        index.save()
        again = opened()
        (held,) = again._state.segments
        assert isinstance(held, segments.Listed) and isinstance(held.vectors, np.memmap)
        found = self.hits(index, "旅費規程の第77条", range(1, 500))
        assert found[0].chunk_id == 77
        assert self.hits(again, "旅費規程の第77条", range(1, 500)) == found


def rows(count, dim=32, seed=0):
    """Vectors around a hundred subjects, as texts lie."""
    dice = np.random.default_rng(seed)
    subjects = np.random.default_rng(1).normal(size=(100, dim))
    found = subjects[dice.integers(0, 100, count)] + 0.6 * dice.normal(size=(count, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def added(ids, vectors):
    return IndexChanges(tuple(Entry(int(i), 1, "", v) for i, v in zip(ids, vectors, strict=True)))


def best(index, vector, scope, k=10):
    found = index.search(Query("", vector[None]), k, Scope(BitMap64(scope), frozenset({1})))
    return [hit.chunk_id for hit in found]


@pytest.mark.parametrize("looked, work", [(48, 0), (0, 3_000)])
@pytest.mark.parametrize("share", [1.0, 0.2, 0.04, 0.003])
def test_lists_do_not_go_blind_under_a_narrow_scope(tmp_path, monkeypatch, share, looked, work):
    monkeypatch.setattr(segments, "LOOKED", looked)  # each is enough alone for so few
    monkeypatch.setattr(segments, "WORK", work)
    monkeypatch.setattr(segments, "NARROW", 10)
    monkeypatch.setattr(dense, "NARROW", 10)
    vectors = rows(20_000)
    index = Compacted(tmp_path, 32, large=5_000)
    index.apply(added(range(len(vectors)), vectors))
    dice = np.random.default_rng(3)
    questions = rows(40, seed=4)
    # one subject alone, of which a question knows nothing, and some of everything
    near = np.argsort(-(vectors @ questions[0]))
    for order in (dice.permutation(len(vectors)), near[::-1]):
        scope = np.sort(order[: max(10, int(share * len(vectors)))])
        right = 0
        for question in questions:
            exact = scope[np.argsort(-(vectors[scope] @ question), kind="stable")][:10]
            right += len(set(exact.tolist()) & set(best(index, question, scope.tolist())))
        assert right / (10 * len(questions)) >= 0.99


def test_changes_while_a_large_segment_is_made(tmp_path, monkeypatch):
    vectors = rows(3_000)
    index = DenseIndex(tmp_path, 32, large=1_000)
    going, go = threading.Event(), threading.Event()
    make = segments.listed

    def slowly(*given):
        going.set()
        assert go.wait(30)
        return make(*given)

    monkeypatch.setattr(segments, "listed", slowly)
    index.apply(added(range(2_000), vectors[:2_000]))
    assert going.wait(30)  # in a thread of its own
    index.apply(IndexChanges(removed=np.arange(0, 500), sequence=2))
    index.apply(added([700], vectors[2_500:2_501]))  # another text now
    index.apply(added([5_000], vectors[2_600:2_601]))
    wanted = [*range(500, 2_000), 5_000]
    assert index.ids().tolist() == wanted
    assert best(index, vectors[100], range(9_000), 1) != [100]
    go.set()
    deadline = time.monotonic() + 30
    while not any(isinstance(s, segments.Listed) for s in index._state.segments):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert index.ids().tolist() == wanted
    assert best(index, vectors[2_500], range(9_000), 1) == [700]
    assert best(index, vectors[2_600], range(9_000), 1) == [5_000]
    assert 100 not in best(index, vectors[100], range(9_000), 50)
    index.save()
    assert DenseIndex(tmp_path, 32, large=1_000).ids().tolist() == wanted


def test_a_full_disk_leaves_the_index_as_it_was(tmp_path, monkeypatch):
    vectors = rows(1_500)
    index = DenseIndex(tmp_path, 32, large=1_000)

    def full(chosen, folder):
        (folder / "half").write_bytes(bytes(1000))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments, "listed", full)
    index.apply(added(range(1_500), vectors))
    deadline = time.monotonic() + 10
    while index._compacts:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert best(index, vectors[7], range(1_500), 1) == [7]
    assert not list(tmp_path.rglob("half"))
    monkeypatch.undo()
    assert index.compact() and not index.compact()
    assert best(index, vectors[7], range(1_500), 1) == [7]


def test_what_a_killed_process_was_making_is_taken_away(tmp_path):
    left = tmp_path / "live-1-00000000"
    left.mkdir()
    (left / "owner").touch()
    (left / "0.vectors.npy").write_bytes(bytes(1000))
    index = Compacted(tmp_path, 32, large=100)
    index.apply(added(range(300), rows(300)))
    assert not left.exists()


class Placed:
    """A GPU's index as FAISS gives it: no selector, and at most 2,048 hits."""

    def __init__(self, index) -> None:
        self.index = index

    def search(self, vector, k):
        assert k <= 2048
        return self.index.search(vector, k)


def knn(vector, rows, k):
    scores = rows @ vector[0]
    best = np.argsort(-scores, kind="stable")[:k]
    return scores[best][None], best[None]


class TestGpuDense(KeptIndexContract):
    @pytest.fixture
    def opened(self, tmp_path):
        return lambda: GpuDense(tmp_path, 64, "hash", place=Placed, knn=knn)

    @pytest.mark.parametrize(
        "share, gathered", [(1.0, 0), (0.3, 0), (0.1, 0), (0.03, 0), (0.004, 20)]
    )
    def test_rows_are_gathered_only_where_the_scope_is_small(
        self, tmp_path, monkeypatch, share, gathered
    ):
        monkeypatch.setattr(dense, "NARROW", 10)
        vectors, gathers = rows(20_000), []

        def counted(vector, chosen, k):
            gathers.append(len(chosen))
            return knn(vector, chosen, k)

        index = GpuDense(tmp_path, 32, place=Placed, knn=counted)
        index.apply(added(range(len(vectors)), vectors))
        scope = np.random.default_rng(3).permutation(len(vectors))[: int(share * len(vectors))]
        for question in rows(20, seed=4):
            exact = scope[np.argsort(-(vectors[scope] @ question), kind="stable")][:10]
            assert best(index, question, scope.tolist()) == exact.tolist()
        assert len(gathers) == gathered

    def test_what_was_saved_without_a_gpu_is_exact_with_one(self, tmp_path):
        vectors = rows(6_000)
        before = Compacted(tmp_path, 32, large=1_000)
        before.apply(added(range(len(vectors)), vectors))
        before.apply(IndexChanges(removed=np.arange(0, 100), sequence=7))
        before.save()
        index = GpuDense(tmp_path, 32, place=Placed, knn=knn)
        assert isinstance(before._state.segments[0], segments.Listed)
        assert index.sequence == 7 and index.ids().tolist() == list(range(100, 6_000))
        for question in rows(20, seed=4):
            exact = 100 + np.argsort(-(vectors[100:] @ question), kind="stable")[:10]
            assert best(index, question, range(len(vectors))) == exact.tolist()
        index.save()
        assert GpuDense(tmp_path, 32, place=Placed, knn=knn).ids().tolist() == index.ids().tolist()


class TestKeyword(KeptIndexContract):
    @pytest.fixture
    def opened(self, tmp_path):
        return lambda: KeywordIndex(tmp_path)

    def test_a_code_finds_its_row_before_chatter(self, index):
        talk = ["ポンプの件", *["旅費"] * 30]
        table = "\n".join(f"E-{n} 異常{n} 点検する" for n in range(10, 30))
        texts = [*talk, table]
        rows = enumerate(texts, 1)
        added = tuple(Entry(n, 1, text, np.zeros(64, np.float32)) for n, text in rows)
        index.apply(IndexChanges(added, sequence=1))
        asked = "ポンプの件でＥ－１９と出た"
        everything = Scope(BitMap64(range(1, 40)), frozenset({1}))
        hits = index.search(Query(asked, np.zeros((1, 64), np.float32)), 1, everything)
        assert [hit.chunk_id for hit in hits] == [len(texts)]

    def test_a_word_of_the_company_is_looked_for_as_one(self, index):
        talk = ["みなとの料金表。料金は月ごとの料金。", "パックの料金。料金の一覧。"] * 10
        texts = [*talk, "みなとパックは毎週火曜に届く。" + "送り状は総務が出す。" * 20]
        rows = enumerate(texts, 1)
        added = tuple(Entry(n, 1, text, np.zeros(64, np.float32)) for n, text in rows)
        index.apply(IndexChanges(added, sequence=1))
        everything = Scope(BitMap64(range(1, 40)), frozenset({1}))

        def first(*own):
            query = Query("みなとパックの料金は", np.zeros((1, 64), np.float32), own)
            return index.search(query, 1, everything)[0].chunk_id

        assert first() != len(texts)
        assert first("みなとパック") == len(texts)
        assert first("みなとパック", "") == first("みなとパック", "どこにもない語") == len(texts)

    def test_pairs_of_letters_of_a_question_in_english_find_no_addresses(self, index):
        texts = ["連絡先 hotline-inbox@costello.example.com", "ホテルの料金", "宿泊の hotels"]
        rows = enumerate(texts, 1)
        added = tuple(Entry(n, 1, text, np.zeros(64, np.float32)) for n, text in rows)
        index.apply(IndexChanges(added, sequence=1))
        everything = Scope(BitMap64(range(1, 40)), frozenset({1}))

        def found(asked):
            query = Query(asked, np.zeros((1, 64), np.float32))
            return [hit.chunk_id for hit in index.search(query, 3, everything)]

        assert found("What is the limit of costs for hotels in Osaka?") == [3]
        assert found("hotl") == [1, 3], "a part of a word is looked for all the same"

    def test_what_holds_every_pair_of_letters_within_the_scope(self, index):
        texts = ["旅費規程", "旅費と規程", "費規の表", "旅費規程の別冊", "1935年12月"]
        rows = enumerate(texts, 1)
        added = tuple(Entry(n, 1, text, np.zeros(64, np.float32)) for n, text in rows)
        index.apply(IndexChanges(added, sequence=1))

        def holding(text, *chunks):
            scope = Scope(BitMap64(chunks), frozenset({1}))
            query = Query(text, np.zeros((1, 64), np.float32))
            return [hit.chunk_id for hit in index.holding(query, 10, scope)]

        assert sorted(holding("費規程", 1, 2, 3, 4)) == [1, 4]
        assert holding("費規程", 2, 3, 4) == [4]
        assert holding("935年1", 1, 2, 3, 4, 5) == [5]  # a part of a number too
        assert holding("費規程", 2, 3) == holding("", 1, 2) == []
        assert holding("国内出張の旅費規程を教えてください", 1, 2, 3, 4) == []  # a question

    @pytest.mark.parametrize("by", ["chunks", "accesses"])
    def test_who_may_read_nearly_all_is_shown_nothing_of_the_rest(self, index, monkeypatch, by):
        hidden = {n for n in range(1, 101) if n % 20 == 0}
        texts = {n: "役員の報酬" if n in hidden else f"規程の第{n}条" for n in range(1, 101)}
        rows = tuple(
            Entry(n, 1 + (n in hidden), text, np.zeros(64, np.float32)) for n, text in texts.items()
        )
        index.apply(IndexChanges(rows, sequence=1))
        query = Query("役員の報酬と規程の第7条", np.zeros((1, 64), np.float32))
        everything = Scope(BitMap64(texts), frozenset({1, 2}))
        assert {hit.chunk_id for hit in index.search(query, 6, everything)} >= hidden
        chunks = set(texts) - hidden if by == "chunks" else texts
        scope = Scope(BitMap64(chunks), frozenset({1}) if by == "accesses" else frozenset({1, 2}))
        monkeypatch.setattr(keyword, "_NEARLY_ALL", 2.0)
        filtered = index.search(query, 3, scope)
        monkeypatch.undo()
        found = index.search(query, 3, scope)
        assert found == filtered
        assert found[0].chunk_id == 7 and not hidden & {hit.chunk_id for hit in found}
