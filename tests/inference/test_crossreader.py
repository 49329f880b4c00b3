"""Kura's own reader on a small BERT: it reads as it was taught, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from appliance.errors import SettingsError
from appliance.inference import crossreader, lora
from appliance.inference.cores import Cores
from appliance.testing.contracts import ReaderContract
from tests import small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    signs = (
        "".join(ReaderContract.TEXTS) + ReaderContract.QUESTION + ReaderContract.TEXT + "有給準備"
    )
    return small.bert(tmp_path_factory.mktemp("small"), signs)


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Path:
    """Random, and large enough that scores lie apart."""
    net = crossreader.Network.load(folder)
    dice = torch.Generator().manual_seed(3)
    parts = {name: torch.randn(head.shape, generator=dice) for name, head in net.heads().items()}
    parts["score.bias"].fill_(7.5)  # scores around the middle
    for name, layer in lora.layers(net.bert).items():
        out, into = layer.weight.shape
        parts[f"{name}.lora_a"] = torch.randn(4, into, generator=dice) * 0.3
        parts[f"{name}.lora_b"] = torch.randn(out, 4, generator=dice) * 0.3
    save_file({n: p.half() for n, p in parts.items()}, folder / "a.safetensors", {"scale": "1.0"})
    return folder / "a.safetensors"


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bfloat16"])
def local(
    request: pytest.FixtureRequest, folder: Path, adapter: Path
) -> Iterator[crossreader.LocalReader]:
    bert = crossreader.Network.load(folder).bert.eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossreader, "has_bfloat16", lambda device: request.param)
        made = crossreader.LocalReader(
            adapter, bert, crossreader.Tokens.load(folder), "small", Cores()
        )
    yield made
    made.close()


class TestLocalReader(ReaderContract):
    @pytest.fixture
    def reranker(self, local: crossreader.LocalReader) -> crossreader.LocalReader:
        return local

    def test_scores_lie_apart(self, local: crossreader.LocalReader) -> None:
        scores = local.scores(self.QUESTION, self.TEXTS)
        assert max(scores) - min(scores) > 0.05, "otherwise the contract proves nothing"


def test_an_answer_ends_with_its_line() -> None:
    text = "会食\n 20,000円 \n　・その他 12,000円"
    words = crossreader._one_line(crossreader.Words(2, len(text), 1.0), text)
    assert (text[words.start : words.end], words.score) == ("20,000円", 1.0)


@pytest.mark.parametrize(
    ("pointed", "said"),
    [
        ("、2人で応じる", "2人で応じる"),
        ("会員(年 36,000円", "会員(年 36,000円)"),
        ("会員(年 36,000円)", "会員(年 36,000円)"),
        ("36,000円", "36,000円"),
        ("「至急", "「至急」"),
        ("「至急」の札", "「至急」の札"),
    ],
)
def test_an_answer_begins_with_a_word_and_its_brackets_close(pointed: str, said: str) -> None:
    text = "受付は、2人で応じる。会員(年 36,000円)には「至急」の札を渡す。"
    start = text.index(pointed)
    words = crossreader._one_line(crossreader.Words(start, start + len(pointed), 1.0), text)
    assert text[words.start : words.end] == said


def test_the_places_of_a_text_share_no_words() -> None:
    pair = crossreader.Pair(list(range(8)), 2, [(n, n + 1) for n in range(6)])
    starts, ends = torch.full((1, 8), -5.0), torch.full((1, 8), -5.0)
    starts[0, :4] = torch.tensor([0.0, 0.0, 3.0, 9.0])  # nowhere, the question, then the text
    ends[0, [4, 5, 7]] = torch.tensor([9.0, 8.0, 2.0])
    read = crossreader.Read(torch.zeros(1), starts, ends)
    found = crossreader.spans(read, 0, pair, 3)
    assert (found[0].start, found[0].end) == (1, 3)
    taken = [set(range(w.start, w.end)) for w in found]
    assert len(found) == 3 and len(set().union(*taken)) == sum(map(len, taken))
    assert [w.score for w in found] == sorted((w.score for w in found), reverse=True)


def test_the_embedder_stays_as_it_was_and_shares_its_words(folder: Path, adapter: Path) -> None:
    bert = crossreader.Network.load(folder).bert.eval()
    before = {name: part.clone() for name, part in bert.named_parameters()}
    reader = crossreader.LocalReader(
        adapter, bert, crossreader.Tokens.load(folder), "small", Cores()
    )
    reader.close()
    assert all(torch.equal(part, before[name]) for name, part in bert.named_parameters())
    shared = reader._net.bert.embeddings.word_embeddings.weight
    assert shared.data_ptr() == bert.embeddings.word_embeddings.weight.data_ptr()


def test_an_adapter_of_another_model_is_refused(
    folder: Path, adapter: Path, tmp_path: Path
) -> None:
    bert = crossreader.Network.load(folder).bert
    tokens = crossreader.Tokens.load(folder)
    save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors", {"scale": "1"})
    (tmp_path / "torn.safetensors").write_bytes(adapter.read_bytes()[:-100])
    for name in ("other.safetensors", "torn.safetensors"):
        with pytest.raises(SettingsError, match=name):
            crossreader.LocalReader(tmp_path / name, bert, tokens, "x", Cores())
