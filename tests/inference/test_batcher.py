"""Batches across callers, without a model; then the embedder on top of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from appliance.errors import BadRequest, ModelBusy, ModelUnreachable, SettingsError
from appliance.inference import embed, models
from appliance.inference.batcher import LIKE, SHORT, Batcher
from appliance.inference.cores import Cores
from appliance.inference.embed import LocalEmbedder
from appliance.settings import Settings
from appliance.testing.contracts import EmbedderContract
from appliance.types import Role

PLUG = "plug"


class Desk:
    """A batcher whose worker is held up by a first text until `open`; `log` has what it ran."""

    def __init__(self, **more: object) -> None:
        self.log: list[tuple[Role, list[str]]] = []
        self.now = 0.0
        self.pass_s = 0.0
        self.open = threading.Event()
        self._held = threading.Event()
        options = {"texts": 8, "chars": 10_000, "clock": lambda: self.now} | more
        self.batches: Batcher[str, str] = Batcher(self._run, len, **options)  # type: ignore[arg-type]
        self.plug = self.batches.submit([PLUG], "query")
        assert self._held.wait(30)

    def _run(self, role: Role, texts: list[str]) -> list[str]:
        if texts == [PLUG]:
            self._held.set()
            assert self.open.wait(30)
            return texts
        self.log.append((role, texts))
        self.now += self.pass_s
        if any("poison" in text for text in texts):
            raise OverflowError(f"choked on one of {len(texts)}")
        if any("deadly" in text for text in texts):
            raise SystemExit
        return ["short" for _ in texts[1:]] if "few" in texts else [f"<{text}>" for text in texts]

    @property
    def order(self) -> list[Role]:
        return [role for role, _ in self.log]


@pytest.fixture
def desks() -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**more: object) -> Desk:
        made.append(Desk(**more))
        return made[-1]

    yield make
    for desk in made:
        desk.open.set()
        desk.batches.close()
        assert not desk.batches._thread.is_alive()


@pytest.fixture
def desk(desks: Callable[..., Desk]) -> Desk:
    return desks()


def test_callers_get_their_own_rows_in_their_own_order(desk: Desk) -> None:
    desk.open.set()

    def ask(caller: int) -> None:
        for turn in range(20):
            texts = [f"{caller}-{turn}-{n}" + "x" * (n * 37 % 90) for n in range(turn)]
            role: Role = "query" if caller % 2 else "passage"
            assert desk.batches.rows(texts, role) == [f"<{text}>" for text in texts]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_callers_share_a_batch(desk: Desk) -> None:
    futures = [desk.batches.submit([f"text {n}"], "passage") for n in range(6)]
    desk.open.set()
    assert [future.result(30) for future in futures] == [[f"<text {n}>"] for n in range(6)]
    assert len(desk.log) == 1


def test_a_batch_is_bounded_and_holds_like_lengths(desks: Callable[..., Desk]) -> None:
    desk = desks(texts=5, chars=1000)
    lengths = [1, 5, 20, 33, 60, 100, 150, 180, 190, 200, 210, 300, 320, 900, 4000] * 3
    futures = [desk.batches.submit(["x" * n for n in lengths[at::4]], "passage") for at in range(4)]
    desk.open.set()
    for future in futures:
        future.result(30)
    assert sorted(len(text) for _, texts in desk.log for text in texts) == sorted(lengths)
    for _, texts in desk.log:
        sizes = [max(len(text), SHORT) for text in texts]
        assert len(sizes) <= 5
        assert len(sizes) * max(sizes) <= 1000 or len(sizes) == 1
        assert min(sizes) >= LIKE * max(sizes)


def test_questions_go_first(desk: Desk) -> None:
    documents = desk.batches.submit(["p"] * 20, "passage")
    question = desk.batches.submit(["q"] * 10, "query")
    desk.open.set()
    documents.result(30)
    assert question.done()
    assert desk.order == ["query", "query", "passage", "passage", "passage"]


def test_documents_are_not_starved(desks: Callable[..., Desk]) -> None:
    desk = desks(patience_s=5.0)
    documents = desk.batches.submit(["p"] * 10, "passage")
    questions = desk.batches.submit(["q"] * 24, "query")
    desk.now = 6.0  # one batch is due; for the next, patience begins again
    desk.open.set()
    questions.result(30)
    documents.result(30)
    assert desk.order == ["passage", "query", "query", "query", "passage"]


def test_documents_do_not_starve_questions_on_a_slow_machine(desks: Callable[..., Desk]) -> None:
    desk = desks(patience_s=1.0)
    desk.pass_s = 3.0
    documents = desk.batches.submit(["p"] * 40, "passage")
    questions = desk.batches.submit(["q"] * 24, "query")
    desk.open.set()
    questions.result(30)
    documents.result(30)
    assert desk.order == ["query", "passage"] * 3 + ["passage"] * 2


def test_documents_wait_again_after_each_batch(desks: Callable[..., Desk]) -> None:
    desk = desks(patience_s=5.0)
    desk.pass_s = 3.0
    documents = desk.batches.submit(["p"] * 16, "passage")
    questions = desk.batches.submit(["q"] * 48, "query")
    desk.open.set()
    questions.result(30)
    documents.result(30)
    assert desk.order == ["query", "query", "passage"] * 2 + ["query"] * 2


def test_a_small_call_does_not_wait_for_a_large_one(desk: Desk) -> None:
    large = desk.batches.submit([f"large {n:03}" for n in range(200)], "passage")
    small = [desk.batches.submit([f"small {n:03}"], "passage") for n in range(3)]
    desk.open.set()
    large.result(30)
    first = desk.log[0][1]
    assert [future.result(30) for future in small] == [[f"<small {n:03}>"] for n in range(3)]
    assert sum(text.startswith("small") for text in first) == 3


def test_equal_callers_are_served_alike(desk: Desk) -> None:
    futures = [desk.batches.submit([f"{n} of text"] * 40, "passage") for n in range(4)]
    desk.open.set()
    for future in futures:
        future.result(30)
    served = dict.fromkeys("0123", 0)
    for _, texts in desk.log:
        for text in texts:
            served[text[0]] += 1
        assert max(served.values()) - min(served.values()) <= 1


def test_who_comes_late_does_not_overtake_who_has_waited() -> None:
    """There is always a caller who came just now and has had nothing yet."""
    begun, held = threading.Event(), threading.Event()
    order: list[str] = []

    def run(role: Role, texts: list[str]) -> list[str]:
        if begun.is_set() and len(order) < 50:
            batches.submit(["new" * (300 if len(order) % 2 else 130)] * 8, "passage")
        begun.set()
        assert held.wait(30)
        order.append(texts[0][:3])
        return texts

    batches = Batcher(run, len, texts=8, chars=10_000)
    batches.submit(["plug"], "passage")
    assert begun.wait(30)
    old = batches.submit(["old"] * 24, "passage")
    for length in (300, 130):  # too unlike to share a batch
        batches.submit(["new" * length] * 8, "passage")
    held.set()
    old.result(30)
    batches.close()
    last = max(at for at, text in enumerate(order) if text == "old")
    assert order[:last].count("new") <= 5


def test_a_poisoned_text_fails_its_caller_only(desk: Desk) -> None:
    good = [desk.batches.submit([f"text {n}", "more"], "passage") for n in range(3)]
    bad = desk.batches.submit(["poison", "beside"], "passage")
    desk.open.set()
    assert [f.result(30) for f in good] == [[f"<text {n}>", "<more>"] for n in range(3)]
    with pytest.raises(OverflowError, match="choked on one of 1"):
        bad.result(30)
    assert desk.batches.rows(["next"], "passage") == ["<next>"]


def test_a_question_goes_before_texts_that_are_tried_again(desk: Desk) -> None:
    bad = desk.batches.submit(["poison", "a", "b"], "passage")
    asked = desk.batches.submit(["q"], "query")
    desk.open.set()
    assert asked.result(30) == ["<q>"]
    with pytest.raises(OverflowError):
        bad.result(30)
    assert desk.order[:2] == ["query", "passage"]


def test_too_few_rows_are_an_error(desk: Desk) -> None:
    desk.open.set()
    with pytest.raises(ValueError, match="0 rows for 1 texts"):
        desk.batches.rows(["few"], "passage")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_worker_dies_nobody_waits_for_it(desk: Desk) -> None:
    futures = [desk.batches.submit([text], "query") for text in ("deadly", "beside")]
    later = desk.batches.submit(["p"], "passage")
    desk.open.set()
    for future in (*futures, later):
        with pytest.raises(ModelUnreachable):
            future.result(30)
    with pytest.raises(ModelUnreachable):
        desk.batches.submit(["x"], "query")


def test_a_cancelled_call_frees_its_places(desk: Desk) -> None:
    kept = desk.batches.submit(["kept"], "passage")
    given_up = desk.batches.submit(["given up"] * 5, "passage")
    assert desk.batches.waiting("passage") == 6
    assert given_up.cancel()
    assert desk.batches.waiting("passage") == 1
    desk.open.set()
    kept.result(30)
    assert desk.log == [("passage", ["kept"])]


def test_a_call_may_be_cancelled_while_it_runs(desk: Desk) -> None:
    assert desk.plug.cancel()
    desk.open.set()
    assert desk.batches.rows(["next"], "query") == ["<next>"]


def test_who_waits_too_long_hears_so_and_frees_the_places(desk: Desk) -> None:
    with pytest.raises(ModelBusy) as caught:
        desk.batches.rows(["x"] * 5, "passage", timeout_s=0.01)
    assert caught.value.retry_after_s >= 1
    assert desk.batches.waiting("passage") == 0


def test_the_queue_is_bounded_for_each_urgency(desks: Callable[..., Desk]) -> None:
    desk = desks(waiting=10)
    large = desk.batches.submit(["p"] * 30, "passage")  # nothing else waited
    with pytest.raises(ModelBusy, match="30 個の文") as caught:
        desk.batches.submit(["p"], "passage")
    assert caught.value.retry_after_s >= 1
    question = desk.batches.submit(["q"] * 10, "query")
    with pytest.raises(ModelBusy):
        desk.batches.submit(["q"], "query")
    desk.open.set()
    assert len(question.result(30)) == 10
    assert len(large.result(30)) == 30
    assert desk.batches.rows(["p"], "passage") == ["<p>"]


def test_closing_ends_the_waiting_but_not_the_batch_under_way(desk: Desk) -> None:
    waiting = desk.batches.submit(["x"], "passage")
    closing = threading.Thread(target=desk.batches.close)
    closing.start()
    with pytest.raises(ModelUnreachable):
        waiting.result(30)
    with pytest.raises(ModelUnreachable):
        desk.batches.submit(["y"], "query")
    desk.open.set()
    closing.join(30)
    assert desk.plug.result(0) == [PLUG]
    assert desk.log == []


def test_nothing_in_nothing_out(desk: Desk) -> None:
    assert desk.batches.rows([], "query") == []


def test_a_question_goes_first_even_if_documents_were_waiting_for_their_turn() -> None:
    """What a turn is used for is decided once it is there."""
    asking, asked, seen = threading.Event(), threading.Event(), list[bool]()

    @contextmanager
    def turn(patient: Callable[[], bool]) -> Iterator[None]:
        seen.append(patient())
        asking.set()
        assert asked.wait(30)
        seen.append(patient())
        yield

    order: list[Role] = []

    def run(role: Role, texts: list[str]) -> list[str]:
        order.append(role)
        return texts

    batches = Batcher(run, len, texts=8, chars=100, turn=turn)
    documents = batches.submit(["p"], "passage")
    assert asking.wait(30)
    question = batches.submit(["q"], "query")
    asked.set()
    question.result(30)
    documents.result(30)
    batches.close()
    assert order == ["query", "passage"]
    assert seen == [True, False, True, True]


# --- the embedder --------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "bfloat16"])
def local(request: pytest.FixtureRequest, model_settings: Settings) -> Iterator[LocalEmbedder]:
    """Both ways of computing, on any processor: bfloat16 is emulated where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed, "has_bfloat16", lambda device: request.param)
        made = LocalEmbedder.default(model_settings.models, Cores(), threads=1)
    assert made._fast == request.param, "bfloat16 moves rows by more than the contract allows"
    yield made
    made.close()


@pytest.mark.models
class TestLocalEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, local: LocalEmbedder) -> LocalEmbedder:
        return local

    def test_a_row_does_not_depend_on_who_else_asks(self, embedder: LocalEmbedder) -> None:
        texts = [f"第{n}条 宿泊費は{n}万円を上限とし、実費を精算する。" for n in range(12)]
        alone = np.concatenate([embedder.embed([text], "passage") for text in texts])
        with ThreadPoolExecutor(12) as pool:
            together = list(pool.map(lambda text: embedder.embed([text], "passage")[0], texts))
        # in batches of other sizes sums are rounded elsewhere: a cosine moves by 3e-5
        assert np.abs(np.array(together) - alone).max() <= 2 * embed.NOISE

    def test_what_is_no_unicode_is_refused(self, embedder: LocalEmbedder) -> None:
        with pytest.raises(BadRequest, match="Unicode"):
            embedder.embed(["よい", "\ud800"], "query")


@pytest.mark.models
def test_a_closed_embedder_says_so(model_settings: Settings) -> None:
    embedder = LocalEmbedder.default(model_settings.models, Cores())
    embedder.close()
    with pytest.raises(ModelUnreachable):
        embedder.embed(["x"], "query")


@pytest.mark.models
def test_an_adapter_of_another_model_is_refused(model_settings: Settings, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"other": torch.zeros(2)}, other, {"scale": "1"})
    row = models.named(models.DEFAULT_EMBEDDER)
    folder, _ = models.network(row, model_settings.models)
    embedder = LocalEmbedder(folder, row.name, Cores())
    with pytest.raises(SettingsError, match=other.name):
        embedder.adapt(other)
    embedder.close()
