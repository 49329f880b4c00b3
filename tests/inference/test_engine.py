"""Continuous batching, on a context that notices every mistake."""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from typing import Any

import pytest

from appliance.inference.cores import Cores
from appliance.inference.engine import Engine
from appliance.inference.work import DRAFT_TOKENS, End, Piece, Work
from tests.inference.fake_core import FakeCore, answer

WAIT_S = 20


class Running:
    """An engine on a fake context; what each request said."""

    def __init__(self, core: FakeCore, slots: int = 4, cached: int = 4, **more: Any) -> None:
        self.core = core
        self.slots = slots
        self.engine = Engine(core, self.emit, Cores(), slots=slots, cached=cached, **more)
        self.said: dict[int, list[Piece]] = {}
        self.ends: dict[int, End] = {}
        self.order: queue.Queue[int] = queue.Queue()
        self._ids = iter(range(10**9))

    def emit(self, id: int, event: Piece | End) -> None:
        if isinstance(event, End):
            assert id not in self.ends
            self.ends[id] = event
            self.order.put(id)
        else:
            assert id not in self.ends
            self.said.setdefault(id, []).append(event)

    def start(self, tokens: list[int], limit: int = 20, **more: Any) -> int:
        id = next(self._ids)
        self.engine.start(Work(id, tokens, limit, **more))
        return id

    def wait(self, id: int) -> str:
        deadline = time.monotonic() + WAIT_S
        while id not in self.ends:
            assert time.monotonic() < deadline, f"{id} did not end"
            time.sleep(0.001)
        return "".join(p.text for p in self.said.get(id, ()))

    def idle(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.engine.running:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def running():
    made: list[Running] = []

    def make(*args: Any, **kwargs: Any) -> Running:
        made.append(Running(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.engine.close()


def text(tokens: list[int], limit: int) -> str:
    return "".join(f"<{t}>" for t in answer(tokens, limit))


def prompt(dice: random.Random, length: int) -> list[int]:
    return [dice.randrange(96) for _ in range(length)]


def test_alone_and_in_company_a_request_gets_the_same(running) -> None:
    dice = random.Random(1)
    one = running(FakeCore())
    prompts = [prompt(dice, dice.randrange(1, 100)) for _ in range(4)]
    ids = [one.start(p) for p in prompts]
    assert [one.wait(i) for i in ids] == [text(p, 20) for p in prompts]
    assert [one.wait(one.start(p)) for p in prompts] == [text(p, 20) for p in prompts]


def test_a_long_prompt_stalls_nobody_for_more_than_a_step(running) -> None:
    core = FakeCore(context_tokens=4096, batch_tokens=128)
    one = running(core)
    short = one.start([1, 2, 3], limit=60)
    while not one.said.get(short):
        time.sleep(0.001)
    first = len(core.batches)
    long = one.start(prompt(random.Random(2), 1000), limit=1)
    one.wait(long)
    one.wait(short)
    mixed = [b for b in core.batches[first:] if len({e.sequence for e in b}) > 1]
    assert mixed  # both in one batch
    assert all(len(b) <= core.batch_tokens for b in core.batches)


def test_where_they_are_computed_apart_streams_and_prompts_take_turns(running) -> None:
    core = FakeCore(context_tokens=4096, batch_tokens=128, apart=True)
    one = running(core)
    short = one.start([1, 2, 3], limit=60)
    while not one.said.get(short):
        time.sleep(0.001)
    first = len(core.batches)
    tokens = prompt(random.Random(2), 1000)
    long = one.start(tokens, limit=1)
    assert one.wait(long) == text(tokens, 1)
    assert one.wait(short) == text([1, 2, 3], 60)
    owners = [{e.sequence for e in b} for b in core.batches[first:]]
    assert all(len(o) == 1 for o in owners)
    sizes = [len(b) for b in core.batches[first:] if len(b) > DRAFT_TOKENS + 1]
    assert max(sizes) < 128 and sum(sizes) == 1000
    reading = [n for n, b in enumerate(core.batches) if len(b) > DRAFT_TOKENS + 1 and n >= first]
    assert all(b - a == 2 for a, b in itertools.pairwise(reading))  # one stream's step between


def test_a_prefix_is_computed_once(running) -> None:
    one = running(FakeCore())
    shared = prompt(random.Random(3), 100)
    first, second = [*shared, 1, 2], [*shared, 3, 4]
    assert one.wait(one.start(first)) == text(first, 20)
    again = one.start(second)
    assert one.wait(again) == text(second, 20)
    assert one.ends[again].reused == 100


@pytest.mark.parametrize("apart", [False, True])
def test_requests_that_come_together_share_too(running, apart: bool) -> None:
    one = running(FakeCore(context_tokens=2048, apart=apart))
    shared = prompt(random.Random(3), 100)
    prompts = [[*shared, n] for n in range(4)]
    ids = [one.start(p) for p in prompts]
    assert [one.wait(i) for i in ids] == [text(p, 20) for p in prompts]
    assert one.engine.counts.read == 100 + 4  # who came later waited until it was read


def test_people_who_come_together_share_the_system_prompt_alone(running) -> None:
    one = running(FakeCore(context_tokens=2048))
    system, secret = prompt(random.Random(4), 50), prompt(random.Random(5), 100)
    prompts = [[*system, *secret, n] for n in range(2)]
    ids = [one.start(p, owner=o, shared=50) for p, o in zip(prompts, "ab", strict=True)]
    assert [one.wait(i) for i in ids] == [text(p, 20) for p in prompts]
    assert one.engine.counts.read == 50 + 2 * 101


def test_where_they_are_computed_apart_who_comes_together_starts_together(running) -> None:
    core = FakeCore(context_tokens=2048, pause_s=0.01, apart=True)
    one = running(core)
    prompts = [prompt(random.Random(n), 70) for n in range(4)]
    ids = [one.start(p) for p in prompts]
    assert [one.wait(i) for i in ids] == [text(p, 20) for p in prompts]
    wanted = [{e.sequence for e in b if e.wanted} for b in core.batches]
    began = [next(n for n, w in enumerate(wanted) if sequence in w) for sequence in range(4)]
    assert max(began) - min(began) <= 1  # the last one has its first word with its prompt


def test_nobody_waits_long_for_those_who_came_together(running, monkeypatch) -> None:
    monkeypatch.setattr("appliance.inference.engine.TOGETHER", 5)
    core = FakeCore(context_tokens=2048, pause_s=0.01, apart=True)
    one = running(core)
    short, long = prompt(random.Random(1), 10), prompt(random.Random(2), 1500)
    ids = [one.start(p) for p in (short, long)]
    assert [one.wait(i) for i in ids] == [text(p, 20) for p in (short, long)]
    first = next(n for n, b in enumerate(core.batches) if any(e.wanted for e in b))
    assert 3 < first < 30  # of 48 steps that read the long prompt


def test_cancelled_while_it_waits_for_those_who_came_together(running) -> None:
    core = FakeCore(context_tokens=2048, pause_s=0.01, apart=True)
    one = running(core)
    short, long = prompt(random.Random(1), 10), prompt(random.Random(2), 1500)
    gone, stays = one.start(short), one.start(long)
    while len(core.batches) < 5:
        time.sleep(0.001)
    one.engine.cancel(gone)
    assert one.wait(gone) == "" and one.ends[gone].finish == "cancelled"
    assert len(core.batches) < 20
    assert one.wait(stays) == text(long, 20)
    one.idle()
    assert one.engine.used() == (0, core.cells())


def test_what_one_person_asked_makes_nothing_faster_for_another(running) -> None:
    one = running(FakeCore(context_tokens=2048))
    system, secret = prompt(random.Random(4), 30), prompt(random.Random(5), 100)
    asked = [*system, *secret]

    def reused(owner: str) -> int:
        id = one.start([*asked, 7], owner=owner, shared=30)
        assert one.wait(id) == text([*asked, 7], 20)
        return one.ends[id].reused

    assert reused("sato") == 0
    assert reused("suzuki") == 30  # the system prompt, which is everybody's
    assert reused("suzuki") == 130
    assert reused("*") == 30


def test_more_than_fits_is_forgotten_oldest_first(running) -> None:
    core = FakeCore(context_tokens=400)
    one = running(core, slots=2)
    dice = random.Random(6)
    prompts = [prompt(dice, 100) for _ in range(8)]
    for p in prompts:
        assert one.wait(one.start(p, limit=5)) == text(p, 5)
    last, first = one.start([*prompts[-1], 5], limit=5), one.start([*prompts[0], 5], limit=5)
    one.wait(last), one.wait(first)
    assert one.ends[last].reused == 100
    assert one.ends[first].reused == 0
    assert core.most_cells <= 400


def test_what_nobody_runs_on_keeps_no_more_than_its_share(running) -> None:
    core = FakeCore(context_tokens=2048)
    one = running(core, slots=2, cached=8, idle=250)
    dice = random.Random(6)
    system = prompt(dice, 40)
    prompts = [[*system, *prompt(dice, 60)] for _ in range(8)]
    for p in prompts:
        assert one.wait(one.start(p, limit=5)) == text(p, 5)
        assert core.cells() <= 250
    newest = one.start([*prompts[-1], 5], limit=5)
    oldest = one.start([*prompts[0], 5], limit=5)
    one.wait(newest), one.wait(oldest)
    assert one.ends[newest].reused == 100
    assert one.ends[oldest].reused == 40  # the system prompt outlives what was asked after it


class Held(FakeCore):
    """Its first step waits until it may go on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.began, self.go_on = threading.Event(), threading.Event()

    def decode(self, entries: Any, *, prefill: bool = False) -> None:
        self.began.set()
        assert self.go_on.wait(WAIT_S)
        super().decode(entries, prefill=prefill)


def test_who_waits_for_room_stops_nobody_who_has_it(running) -> None:
    """The second waits for what the first reads, then for the room that the third has taken."""
    core = Held(600, batch_tokens=24, apart=True, prefill_tokens=70)
    one = running(core, slots=5, cached=3)
    dice = random.Random(4)
    before = one.start([1, 2, 3], limit=1)
    assert core.began.wait(WAIT_S)
    root = prompt(dice, 60)
    asked = [root[:40], root, prompt(dice, 30)]
    ids = [one.start(tokens, limit=4) for tokens in asked]
    core.go_on.set()
    assert [one.wait(id) for id in ids] == [text(tokens, 4) for tokens in asked]
    one.wait(before)


@pytest.mark.parametrize(("apart", "prefill_tokens"), [(False, 0), (True, 0), (True, 70)])
@pytest.mark.parametrize("seed", range(6))
def test_a_storm_of_requests_and_cancels(
    running, seed: int, apart: bool, prefill_tokens: int
) -> None:
    """Random prompts with common beginnings, random cancels: every whole answer is right."""
    dice = random.Random(seed)
    core = FakeCore(600, batch_tokens=24, apart=apart, prefill_tokens=prefill_tokens)
    one = running(core, slots=5, cached=3)
    fits = core.context_tokens - 5 * DRAFT_TOKENS
    roots = [prompt(dice, dice.randrange(1, 60)) for _ in range(4)]
    asked: dict[int, tuple[list[int], int]] = {}
    cancelled: set[int] = set()
    waiting: dict[int, int] = {}
    for _ in range(250):
        tokens = [
            *dice.choice(roots)[: dice.randrange(1, 61)],
            *prompt(dice, dice.randrange(1, 40)),
        ]
        work = Work(0, tokens, dice.randrange(1, 30))
        while len(waiting) >= 5 or sum(waiting.values()) + work.reserved > fits:
            waiting.pop(one.order.get(timeout=WAIT_S), None)
        owner = dice.choice(["*", "a", "b"])
        id = one.start(tokens, work.limit, owner=owner, shared=dice.randrange(len(tokens)))
        asked[id], waiting[id] = (tokens, work.limit), work.reserved
        if dice.random() < 0.3:
            cancelled.add(id)
            threading.Timer(dice.random() / 200, one.engine.cancel, (id,)).start()
    for id, (tokens, limit) in asked.items():
        said, wanted = one.wait(id), text(tokens, limit)
        if one.ends[id].finish == "cancelled":
            assert id in cancelled and wanted.startswith(said)
        else:
            assert one.ends[id].finish in ("stop", "length")
            assert said == wanted
    one.idle()
    owned, cached = one.engine.used()
    assert owned == 0 and cached == core.cells()
    assert not core.prefilled


def test_prompts_are_read_where_nobody_elses_cells_are(running) -> None:
    core = FakeCore(context_tokens=4096, apart=True, prefill_tokens=256)
    one = running(core, slots=4)
    dice = random.Random(1)
    long, others = prompt(dice, 300), [prompt(dice, 100) for _ in range(3)]
    ids = [one.start(p) for p in (long, *others)]
    assert [one.wait(i) for i in ids] == [text(p, 20) for p in (long, *others)]
    apart = {e.sequence for batch, there in core.decoded if there for e in batch}
    assert len(apart) == 3  # the long one has no room there
    assert core.most_prefilled <= 256


def test_what_the_cache_has_of_a_prompt_is_not_read_again_there(running) -> None:
    core = FakeCore(context_tokens=1024, apart=True, prefill_tokens=256)
    one = running(core)
    shared = prompt(random.Random(3), 100)
    one.wait(one.start([*shared, 1, 2]))
    again = one.start([*shared, 3, 4])
    assert one.wait(again) == text([*shared, 3, 4], 20)
    assert one.ends[again].reused == 100
    one.idle()
    assert one.engine.used() == (0, core.cells()) and not core.prefilled


def test_cancelled_while_it_is_read_there(running) -> None:
    core = FakeCore(context_tokens=1024, batch_tokens=16, pause_s=0.01, apart=True)
    core.prefill_tokens = 256
    one = running(core)
    tokens = prompt(random.Random(3), 200)
    gone = one.start(tokens)
    while len(core.batches) < 3:
        time.sleep(0.001)
    one.engine.cancel(gone)
    assert one.wait(gone) == "" and one.ends[gone].finish == "cancelled"
    one.idle()
    assert not core.prefilled and one.engine.used() == (0, core.cells())
    again = one.start(tokens)
    assert one.wait(again) == text(tokens, 20)
    assert one.ends[again].reused >= 32  # what had been read


def test_a_failed_step_there_harms_no_later_request(running) -> None:
    core = FakeCore(context_tokens=1024, apart=True, prefill_tokens=256)
    core.break_at = 2
    one = running(core)
    tokens = prompt(random.Random(3), 100)
    broken = one.start(tokens)
    one.wait(broken)
    assert one.ends[broken].finish == "error"
    assert one.wait(one.start(tokens)) == text(tokens, 20)


def test_guesses_change_nothing_but_the_number_of_steps(running, monkeypatch) -> None:
    repeating = FakeCore(context_tokens=2048)
    monkeypatch.setattr(
        "tests.inference.fake_core.following", lambda known, ending=0: (known[-1] + 1) % 9
    )
    one = running(repeating)
    tokens = [n % 9 for n in range(40)]
    said = one.wait(one.start(tokens, limit=50))
    assert said == "".join(f"<{(40 + n) % 9}>" for n in range(50))
    assert one.engine.counts.accepted > 25
    assert len(repeating.batches) < 30


def test_wrong_guesses_leave_no_trace(running) -> None:
    """The prompt repeats itself, the answer does not: every guess is wrong."""
    one = running(FakeCore())
    dice = random.Random(9)
    tokens = [1, 2, 3, 4, 5, 6] * 8
    for n in range(30):
        p = [*tokens, dice.randrange(96), n]
        assert one.wait(one.start(p)) == text(p, 20)


def test_guesses_that_prove_wrong_are_made_no_more(running, monkeypatch) -> None:
    """After 1, 2, 3 comes always something new."""

    def changing(known: list[int], ending: int = 0) -> int:
        at = len(known)
        return 4 + at // 4 if at % 4 == 3 else at % 4 + 1

    monkeypatch.setattr("tests.inference.fake_core.following", changing)
    one = running(FakeCore(context_tokens=2048))
    tokens: list[int] = []
    while len(tokens) < 40:
        tokens.append(changing(tokens))
    one.wait(one.start(tokens, limit=80))
    assert one.engine.counts.accepted == 0
    assert 1 < one.engine.counts.drafted < 10


@pytest.mark.parametrize(("streams", "guesses"), [(4, True), (6, False)])
def test_many_streams_go_on_side_by_side_without_guesses(
    running, monkeypatch, streams: int, guesses: bool
) -> None:
    monkeypatch.setattr(
        "tests.inference.fake_core.following", lambda known, ending=0: (known[-1] + 1) % 9
    )
    core = FakeCore(context_tokens=2048, pause_s=0.005, apart=True)
    one = running(core, slots=streams)
    tokens = [[(n + k) % 9 for k in range(40)] for n in range(streams)]
    for id in [one.start(t, limit=30) for t in tokens]:
        one.wait(id)
    assert bool(one.engine.counts.drafted) == guesses


def test_many_streams_guess_where_most_of_their_prompts_is_in_the_cache(
    running, monkeypatch
) -> None:
    """Then a prompt that comes alone holds up the others for a step."""
    monkeypatch.setattr(
        "tests.inference.fake_core.following", lambda known, ending=0: (known[-1] + 1) % 9
    )
    one = running(FakeCore(context_tokens=2048, pause_s=0.005, apart=True), slots=6)
    tokens = [n % 9 for n in range(200)]
    for _ in range(2):
        for id in [one.start([*tokens, n], limit=30) for n in range(6)]:
            one.wait(id)
        drafted, one.engine.counts.drafted = one.engine.counts.drafted, 0
    assert drafted


def test_cancelled_before_it_began_and_twice(running) -> None:
    one = running(FakeCore(pause_s=0.01))
    id = one.start(prompt(random.Random(1), 200))
    one.engine.cancel(id)
    one.engine.cancel(id)
    one.engine.cancel(999)
    one.wait(id)
    assert one.ends[id].finish == "cancelled"
    one.idle()


def test_a_failed_step_ends_what_ran_and_harms_no_later_request(running) -> None:
    core = FakeCore()
    core.break_at = 3
    one = running(core)
    ids = [one.start(prompt(random.Random(n), 60)) for n in range(3)]
    for id in ids:
        one.wait(id)
    assert all("bus" in one.ends[id].message for id in ids if one.ends[id].finish == "error")
    assert any(one.ends[id].finish == "error" for id in ids)
    tokens = prompt(random.Random(1), 60)
    assert one.wait(one.start(tokens)) == text(tokens, 20)


def test_closing_ends_every_request(running) -> None:
    one = running(FakeCore(pause_s=0.01))
    ids = [one.start(prompt(random.Random(n), 100)) for n in range(4)]
    time.sleep(0.05)
    one.engine.close()
    assert {one.ends[id].finish for id in ids} == {"cancelled"}


def test_a_stop_string_across_tokens(running) -> None:
    one = running(FakeCore())
    tokens = next(t for n in range(200) if len(answer(t := [n, 1, 2], 20)) > 6)
    whole = text(tokens, 20)
    stop = whole[8:13]
    id = one.start(tokens, stop=(stop,))
    assert one.wait(id) == whole[: whole.index(stop)]
    assert one.ends[id].finish == "stop"
