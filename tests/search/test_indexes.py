"""Every index keeps the contract: the reference, FAISS, the GPU's way, and tantivy."""

from __future__ import annotations

import numpy as np
import pytest
from pyroaring import BitMap64

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
