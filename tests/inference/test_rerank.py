"""Rerankers and `/v1/rerank`. A site's own is a small one with random weights, made here."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import ValidationError

from appliance.errors import ApplianceError, BadRequest, ModelUnreachable, SettingsError
from appliance.inference import crossreader, lora, models, rerank, server
from appliance.inference.client import InferClient
from appliance.inference.cores import Cores
from appliance.inference.rerank import LocalReranker, RemoteReader, RerankIn, answer
from appliance.settings import Settings
from appliance.testing.contracts import ReaderContract, RerankerContract
from appliance.testing.fakes import OverlapReader, OverlapReranker

READS = 64  # tokens of the small model; a character is a token


def small_model(folder: Path, labels: int = 1, *, head: bool = True) -> Path:
    """A BERT of two layers whose tokens are characters."""
    from tokenizers import Regex, Tokenizer, pre_tokenizers, processors
    from tokenizers import models as forms
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        PreTrainedTokenizerFast,
    )

    signs = "".join(RerankerContract.TEXTS) + RerankerContract.QUESTION + "有給休暇はいつ取れる"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(signs) - {" "})]
    tokenizer = Tokenizer(forms.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=READS,
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=READS,
        num_labels=labels,
        initializer_range=0.3,  # scores far enough apart to have an order
    )
    (BertForSequenceClassification if head else BertModel)(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("reranker"))


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bfloat16"])
def local(request: pytest.FixtureRequest, folder: Path) -> Iterator[LocalReranker]:
    """Both ways of computing, on any processor: bfloat16 is emulated where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rerank, "has_bfloat16", lambda device: request.param)
        made = LocalReranker(folder, "small", Cores())
    yield made
    made.close()


class TestLocalReranker(RerankerContract):
    TOLERANCE = 0.01

    @pytest.fixture
    def reranker(self, local: LocalReranker) -> LocalReranker:
        return local

    def test_scores_are_the_models_own(self, local: LocalReranker, folder: Path) -> None:
        """As the bare model computes them, one pair at a time."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        wanted = []
        for text in self.TEXTS:
            pair = tokenizer([self.QUESTION], [text], truncation=True, return_tensors="pt")
            with torch.inference_mode():
                wanted.append(torch.sigmoid(model(**pair).logits[0, 0]).item())
        assert local.scores(self.QUESTION, self.TEXTS) == pytest.approx(wanted, abs=0.02)
        assert max(wanted) - min(wanted) > 0.05, "otherwise this proves nothing"

    def test_a_text_is_read_up_to_the_models_end(self, local: LocalReranker) -> None:
        begin = "国内出張の宿泊費は一泊" * 6
        one, other, unlike = local.scores(
            self.QUESTION, [begin, begin + "上限" * 5000, "就業規則" + begin]
        )
        assert one == pytest.approx(other, abs=1e-6)
        assert one != pytest.approx(unlike, abs=1e-6)

    def test_a_long_question_leaves_room_for_the_text(self, local: LocalReranker) -> None:
        one, other = local.scores("宿泊費の上限" * 4000, ["就業規則", "ポンプ"])
        assert one != other

    def test_scores_do_not_depend_on_who_else_asks(self, local: LocalReranker) -> None:
        questions = [f"{text}の上限は" for text in ("宿泊費", "旅費", "点検", "就業規則", "出張")]
        alone = [[local.scores(q, [t])[0] for t in self.TEXTS] for q in questions]
        with ThreadPoolExecutor(len(questions)) as pool:
            together = list(pool.map(lambda q: local.scores(q, self.TEXTS), questions))
        for one, other in zip(alone, together, strict=True):
            assert other == pytest.approx(one, abs=self.TOLERANCE)

    def test_what_is_no_unicode_is_refused(self, local: LocalReranker) -> None:
        with pytest.raises(BadRequest, match="Unicode"):
            local.scores("よい", ["\udfff"])


def test_pairs_of_like_length_go_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    forward = LocalReranker._forward

    def spy(self: LocalReranker, role: Any, pairs: list[tuple[str, str]]) -> list[float]:
        batches.append([len(text) for _, text in pairs])
        return forward(self, role, pairs)

    monkeypatch.setattr(LocalReranker, "_forward", spy)
    reranker = LocalReranker(folder, "small", Cores())
    batches.clear()
    reranker.scores("旅費", ["規" * n for n in [60, 1] * 12])
    reranker.close()
    assert sorted(batches) == [[1] * 12, [60] * 12]


def test_a_closed_reranker_says_so(folder: Path) -> None:
    reranker = LocalReranker(folder, "small", Cores())
    reranker.close()
    with pytest.raises(ModelUnreachable):
        reranker.scores("x", ["x"])


@pytest.mark.parametrize(("labels", "head"), [(3, True), (1, False)])
def test_a_model_without_one_score_is_refused(tmp_path: Path, labels: int, head: bool) -> None:
    """The library would load it, and score with random weights."""
    with pytest.raises(SettingsError, match="not a reranker"):
        LocalReranker(small_model(tmp_path, labels, head=head), "small", Cores())


def test_scores_near_the_ends_stay_apart() -> None:
    scores = [rerank.sigmoid(logit) for logit in (-800.0, -9.0, 0.0, 9.0, 20.0, 21.0)]
    assert scores == sorted(set(scores))
    assert scores[2] == 0.5
    assert scores[3] == pytest.approx(1 / (1 + math.exp(-9)))


class TestOverlapReranker(RerankerContract):
    @pytest.fixture
    def reranker(self) -> OverlapReranker:
        return OverlapReranker()

    def test_the_better_text_scores_higher(self, reranker: OverlapReranker) -> None:
        scores = reranker.scores(self.QUESTION, self.TEXTS)
        assert max(scores) == scores[1]


# --- POST /v1/rerank ---------------------------------------------------------------


class Given:
    """A reranker that says what it was told."""

    name = "given"

    def __init__(self, *scores: float) -> None:
        self._scores = list(scores)

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        return self._scores


def test_the_response_is_sorted_and_cut() -> None:
    documents = ["a", "b", "c", "d"]
    body = {"model": "m", "query": "q", "documents": documents}
    given = Given(0.1, 0.9, 0.3, 0.9)

    def indexes(**more: Any) -> list[int]:
        response = answer(given, RerankIn.model_validate(body | more))
        return [result["index"] for result in response["results"]]

    assert answer(given, RerankIn.model_validate(body | {"top_n": 2})) == {
        "model": "m",
        "results": [{"index": 1, "relevance_score": 0.9}, {"index": 3, "relevance_score": 0.9}],
    }
    assert indexes() == [1, 3, 2, 0]
    assert indexes(top_n=99) == [1, 3, 2, 0]


@pytest.mark.parametrize(
    "bad",
    [
        {"query": ""},
        {"query": None},
        {"documents": []},
        {"documents": ["a"] * 1001},
        {"documents": ["a" * 20_001]},
        {"documents": [{"text": "a"}]},
        {"top_n": 0},
    ],
)
def test_bad_bodies_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RerankIn.model_validate({"query": "q", "documents": ["a"]} | bad)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[[Callable[[RerankIn], Any]], InferClient]]:
    """A server on a socket with this one route."""
    from fastapi import FastAPI

    from appliance.inference.server import SocketServer

    stops: list[Callable[[], None]] = []

    def serve(route: Callable[[RerankIn], Any]) -> InferClient:
        app, path = FastAPI(), tmp_path / "infer.sock"
        route.__annotations__ = {"body": RerankIn}
        app.post("/v1/rerank", response_model=None)(route)
        server = SocketServer(app, path)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        client = InferClient(path)

        def stop() -> None:
            client.close()
            server.should_exit = True
            thread.join(15)

        stops.append(stop)
        return client

    yield serve
    for stop in stops:
        stop()


class TestOverlapReader(ReaderContract):
    @pytest.fixture
    def reranker(self) -> OverlapReader:
        return OverlapReader()

    def test_it_points_at_what_was_asked(self, reranker: OverlapReader) -> None:
        (reading,) = reranker.read(self.QUESTION, [self.TEXT])
        words = reading.words[0]
        assert self.TEXT[words.start : words.end] == "国内出張の宿泊費は一泊12,000円を上限とする。"


Serving = Callable[[Callable[[RerankIn], Any]], InferClient]


class TestRemoteReader(ReaderContract):
    @pytest.fixture
    def reranker(self, serving: Serving) -> RemoteReader:
        reader = OverlapReader()
        return RemoteReader(serving(lambda body: answer(reader, body, reader)), "overlap")

    def test_words_come_back_as_they_were(self, reranker: RemoteReader) -> None:
        wanted = OverlapReader().read(self.QUESTION, self.TEXTS)
        assert reranker.read(self.QUESTION, self.TEXTS) == wanted


class TestRemoteReaderOfAMereReranker(RerankerContract):
    @pytest.fixture
    def reranker(self, serving: Serving) -> RemoteReader:
        return RemoteReader(serving(lambda body: answer(OverlapReranker(), body)), "overlap")

    def test_it_points_at_nothing(self, reranker: RemoteReader) -> None:
        readings = reranker.read(self.QUESTION, self.TEXTS)
        assert [reading.words for reading in readings] == [()] * len(self.TEXTS)

    def test_scores_come_back_as_they_were(self, reranker: RemoteReader) -> None:
        wanted = OverlapReranker().scores(self.QUESTION, self.TEXTS)
        assert reranker.scores(self.QUESTION, self.TEXTS) == wanted


@pytest.mark.parametrize("indexes", [[0], [0, 0], [0, 2], []])
def test_a_server_that_leaves_texts_out_is_not_believed(
    serving: Callable[[Callable[[RerankIn], Any]], InferClient], indexes: list[int]
) -> None:
    results = [{"index": n, "relevance_score": 0.5} for n in indexes]
    reranker = RemoteReader(serving(lambda body: {"results": results}), "other")
    with pytest.raises(ModelUnreachable, match="2 個の文のうち"):
        reranker.scores("q", ["a", "b"])


@pytest.fixture(scope="module")
def serving_models(model_settings: Settings, folder: Path) -> Iterator[server.Models]:
    loaded = server.load(replace(model_settings, reranker=str(folder)))
    yield loaded
    loaded.llm.close()


@pytest.mark.models
class TestTheWholeServer(RerankerContract):
    """`kura infer` with a reranker of the site's own, through its child and its route."""

    TOLERANCE = 0.01

    @pytest.fixture
    def reranker(self, serving_models: server.Models, tmp_path: Path) -> Iterator[RemoteReader]:
        running = server.SocketServer(server.create_app(serving_models), tmp_path / "infer.sock")
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        client = InferClient(tmp_path / "infer.sock")
        yield RemoteReader(client, serving_models.reranker.name)
        client.close()
        running.should_exit = True
        thread.join(15)

    def test_the_model_is_listed(self, reranker: RemoteReader) -> None:
        rows = {row["id"]: row["kind"] for row in reranker._client.get("/v1/models")["data"]}
        assert rows[reranker.name] == "reranker"

    def test_scores_are_those_of_the_model(
        self, reranker: RemoteReader, local: LocalReranker
    ) -> None:
        wanted = local.scores(self.QUESTION, self.TEXTS)
        assert reranker.scores(self.QUESTION, self.TEXTS) == pytest.approx(wanted, abs=0.02)


@pytest.mark.models
class TestKurasOwn(ReaderContract):
    """The reader that is loaded by default, through its child and its route."""

    @pytest.fixture
    def reranker(self, client: InferClient) -> RemoteReader:
        return RemoteReader(client, models.DEFAULT_READER)

    def test_it_finds_the_text_and_the_words_that_answer(self, reranker: RemoteReader) -> None:
        texts = ["献立\n今日の献立はカレーである。", self.TEXT, "就業規則\n始業は九時とする。"]
        readings = reranker.read(self.QUESTION, texts)
        best = max(range(len(texts)), key=lambda n: readings[n].relevance)
        words = readings[best].words[0]
        assert best == 1
        assert "12,000円" in self.TEXT[words.start : words.end]

    def test_it_is_a_change_of_the_embedder_as_it_was(
        self, reranker: RemoteReader, model_settings: Settings
    ) -> None:
        row = models.named(models.DEFAULT_READER)
        base = models.verified(models.named(row.base), model_settings.models)
        adapter = models.verified(row, model_settings.models) / next(iter(row.files))
        net, words = crossreader.Network.load(base), crossreader.Tokens.load(base)
        net.merge(*lora.read(adapter))
        with torch.no_grad():
            read = net.eval()([words.pair(self.QUESTION, text) for text in self.TEXTS])
        wanted = torch.sigmoid(read.relevance).tolist()
        assert reranker.scores(self.QUESTION, self.TEXTS) == pytest.approx(wanted, abs=0.03)


@pytest.mark.models
def test_without_a_reranker_the_route_says_what_is_missing(model_settings: Settings) -> None:
    loaded = server.load(replace(model_settings, reranker="none"))
    try:
        with TestClient(server.create_app(loaded)) as http:
            response = http.post("/v1/rerank", json={"query": "旅費", "documents": ["宿泊費"]})
    finally:
        loaded.llm.close()
    assert response.status_code == 404
    assert "KURA_RERANKER" in response.json()["error"]["message"]


@pytest.mark.models
def test_a_folder_that_is_no_reranker_is_refused_at_start(
    model_settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ApplianceError, match=r"model\.safetensors|reranker"):
        server.load(replace(model_settings, reranker=str(tmp_path)))
