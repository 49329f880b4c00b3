"""The packed network says what transformers' says, and no text feels the others of its batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from appliance.inference import bert, crossreader, e5, embed
from appliance.inference.cores import Cores
from appliance.inference.embed import LocalEmbedder
from appliance.testing.contracts import EmbedderContract
from tests import small

TEXTS = ["泊まりはいくら？", "", "出張旅費規程\n宿泊費は1泊10,000円を上限とする。" * 5]

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 on this processor"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    signs = (
        "".join(TEXTS) + "旅費規程a第条出張の宿泊費は万円とする。際限度額上ポンプ定期点検手順準備"
    )
    made = small.bert(tmp_path_factory.mktemp("small"), signs)
    for name, content in e5._configs(e5.Packed(32, 2, 4, 64, 99, 512, 2, 0, [], {})).items():
        if name != "config.json":
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_text(json.dumps(content), "utf-8")
    return made


@pytest.fixture
def network(folder: Path) -> Any:
    return crossreader.Network.load(folder).bert.eval()


def test_it_says_what_the_network_says(network: Any) -> None:
    ids = torch.randint(5, 20, (3, 40), generator=torch.Generator().manual_seed(1))
    seen = torch.arange(40) < torch.tensor([[40], [7], [1]])
    packed = bert.packed(network)
    assert packed
    with torch.inference_mode():
        meant = network(input_ids=ids, attention_mask=seen.long()).last_hidden_state[seen]
        said = packed(input_ids=ids, attention_mask=seen.long()).last_hidden_state[seen]
        with embed.computing("cpu", fast=True):
            noisy = network(input_ids=ids, attention_mask=seen.long()).last_hidden_state[seen]
    assert said.dtype == torch.float32
    assert meant.std() > 0.1, "otherwise it proves nothing"
    assert (said - meant).abs().max() <= 1.5 * (noisy - meant).abs().max() < 0.2


def test_what_it_does_not_know_stays_as_it_is(network: Any) -> None:
    network.config.hidden_act = "relu"
    assert bert.packed(network) is None


@pytest.fixture(scope="module")
def settled(folder: Path) -> Iterator[tuple[LocalEmbedder, Any]]:
    """And what it said before it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "has_bfloat16", lambda device: True)
        made = LocalEmbedder(folder, "small", Cores())
    rows = made.embed(TEXTS, "query")
    made.settle()
    yield made, rows
    made.close()


class TestSettled(EmbedderContract):
    @pytest.fixture
    def embedder(self, settled: tuple[LocalEmbedder, Any]) -> LocalEmbedder:
        return settled[0]

    def test_vectors_stay_where_they_were(self, settled: tuple[LocalEmbedder, Any]) -> None:
        made, before = settled
        assert isinstance(made.bert, bert.Bert)
        assert np.abs(made.embed(TEXTS, "query") - before).max() <= 2 * embed.NOISE

    def test_a_long_text_is_cut_at_its_end(self, embedder: LocalEmbedder) -> None:
        long = TEXTS[2] * 40
        rows = embedder.embed([long, long + "準備" * 50], "passage")
        assert np.allclose(rows[0], rows[1], atol=embed.NOISE)
