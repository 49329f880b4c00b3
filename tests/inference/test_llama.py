"""llama.cpp itself: what the cache keeps must be what was computed, however full it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.inference.cores import Cores
from appliance.inference.local import Local
from appliance.inference.models import DEFAULT_LLM, named
from appliance.inference.prompts import Part
from appliance.inference.work import End, Piece, Sampling, Work
from appliance.settings import Settings

pytestmark = [pytest.mark.models, pytest.mark.slow]

TOPICS = ("宿泊費", "会議室")


class Asked:
    """One request after another, by hand."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self.reused = 0
        self._ids = iter(range(1, 10**6))
        self._texts: dict[int, str] = {}
        self._ends: dict[int, End] = {}
        self._ended = threading.Condition()
        local.listen(self.hear, lambda: None)

    def hear(self, id: int, event: Piece | End) -> None:
        with self._ended:
            if isinstance(event, Piece):
                self._texts[id] = self._texts.get(id, "") + event.text
            else:
                self._ends[id] = event
                self._ended.notify_all()

    def ask(self, *texts: str, owner: str = "*") -> list[str]:
        """All at once. What comes after the price is as good as a coin's toss."""
        ids = []
        for text in texts:
            tokens = self.local.tokenize([Part(text)])
            sampling = Sampling(ignore_eos=True)
            ids.append(next(self._ids))
            self.local.start(Work(ids[-1], tokens, 8, owner=owner, sampling=sampling))
        with self._ended:
            assert self._ended.wait_for(lambda: all(i in self._ends for i in ids), 300)
        assert all(self._ends[i].finish == "length" for i in ids), self._ends
        self.reused += sum(self._ends[i].reused for i in ids)
        return [self._texts[i].split("円")[0] for i in ids]


@pytest.fixture
def asked(model_settings: Settings) -> Iterator[Asked]:
    file = next(iter(named(DEFAULT_LLM).files))
    path = Path(model_settings.models) / DEFAULT_LLM / file
    local = Local(path, [], Cores(), context_tokens=2048, slots=2)
    yield Asked(local)
    local.close()


def text(topic: str, sentences: int) -> str:
    return "".join(f"{n}番の{topic}は{n * 37 % 1000}円である。" for n in range(sentences))


@pytest.mark.long
def test_prefixes_longer_than_the_window_survive_a_full_cache(asked: Asked) -> None:
    """The default model sees 512 tokens back in most layers; llama.cpp frees what lies further."""

    def questions(topic: str) -> list[str]:
        return [f"{text(topic, 60)}7番の{topic}は", f"{text(topic, 20)}3番の{topic}は"]

    alone = {t: [asked.ask(q, owner=f"{t}{len(q)}")[0] for q in questions(t)] for t in TOPICS}
    before = asked.reused
    for topic in (*TOPICS, TOPICS[0]):
        assert [asked.ask(q)[0] for q in questions(topic)] == alone[topic]
    assert asked.reused > before


def test_two_at_once_say_what_each_says_alone(asked: Asked) -> None:
    first, second = text("会議室", 30) + "7番の会議室は", text("安全靴", 12) + "3番の安全靴は"
    alone = [asked.ask(t, owner=t)[0] for t in (first, second)]
    assert asked.ask(first, second, owner="together") == alone
