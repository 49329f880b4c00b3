"""Every index keeps the contract: the reference, FAISS, the GPU's way, and tantivy."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.search.dense import DenseIndex, GpuDense
from appliance.search.keyword import KeywordIndex
from appliance.testing.contracts import IndexContract, KeptIndexContract
from appliance.testing.fakes import MemoryIndex


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
