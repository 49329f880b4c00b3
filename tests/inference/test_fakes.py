from __future__ import annotations

import pytest

from appliance.testing.contracts import EmbedderContract, GeneratorContract
from appliance.testing.fakes import HashEmbedder, ScriptedGenerator


class TestHashEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self) -> HashEmbedder:
        return HashEmbedder()


class TestScriptedGenerator(GeneratorContract):
    @pytest.fixture
    def generator(self) -> ScriptedGenerator:
        return ScriptedGenerator("カレーです", "[1]。")
