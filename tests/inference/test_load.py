"""The load client and its scenarios see what a server does wrong: a fake one that misbehaves."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import llama_server, load, serve
from tests.bench.load import Asked, Client, Crowd, Disconnects, Heard, Leave, Target
from tests.bench.serve import Measured

WORDS = [Asked("規則", f"{n} 番の質問\n答え:", 12, f"person{n}") for n in range(12)]


@dataclass
class Fake:
    """Answers word by word on a socket, as `kura infer` does, but for the named fault."""

    fault: str = ""  # "cuts", "shortens", "leaks", "refuses", "refuses rudely"
    slots: int = 4
    room: int = 100  # running and waiting
    word_s: float = 0.002
    left: int = 0
    present: int = 0
    running: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.slots)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET"):
            health = {"running": self.running, "waiting": self.present - self.running}
            await self._whole(writer, "200 OK", health | {"cells_used": 10 * self.running})
            return
        size = next(int(v) for k, _, v in fields(head) if k.lower() == "content-length")
        self.asked.append(json.loads(await reader.readexactly(size)))
        if self.present >= self.room or self.fault.startswith("refuses"):
            after = "" if self.fault == "refuses rudely" else "Retry-After: 1\r\n"
            await self._whole(writer, "429 Too Many Requests", {"error": {}}, after)
            return
        self.present += 1
        answering = asyncio.create_task(self._answer(writer, int(self.asked[-1]["max_tokens"])))
        leaving = asyncio.create_task(reader.read(1))  # nothing more comes: it ends when they go
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            self.left += not answering.done()
        finally:
            self.present -= self.fault != "leaks" or answering.done()
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, limit: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Connection: close\r\n\r\n")
        async with self._slots:
            self.running += 1
            try:
                left = self.left
                for number in range(limit):
                    if self.fault == "cuts" and number == 5:
                        return
                    if self.fault == "shortens" and self.left != left and number == limit - 1:
                        limit = number
                        break
                    say(writer, {"delta": {"content": f"語{number}"}, "finish_reason": None})
                    await writer.drain()
                    await asyncio.sleep(self.word_s)
                say(writer, {"delta": {}, "finish_reason": "length"}, limit)
                writer.write(b"data: [DONE]\n\n")
                await writer.drain()
            finally:
                self.running -= 1

    async def _whole(
        self, writer: asyncio.StreamWriter, status: str, body: dict[str, Any], more: str = ""
    ) -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{more}Connection: close\r\n"
        writer.write(head.encode() + b"\r\n" + data)
        await writer.drain()
        writer.close()


def fields(head: str) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in head.splitlines()]


def say(writer: asyncio.StreamWriter, choice: dict[str, Any], tokens: int | None = None) -> None:
    event: dict[str, Any] = {"choices": [choice]}
    if tokens is not None:
        event["usage"] = {"prompt_tokens": 7, "completion_tokens": tokens}
    writer.write(f"data: {json.dumps(event)}\n\n".encode())


@asynccontextmanager
async def listening(fake: Fake, folder: Path) -> AsyncIterator[Target]:
    path = folder / "fake.sock"
    async with await asyncio.start_unix_server(fake.serve, str(path)):
        yield Target("fake", path)


def against(
    folder: Path, use: Callable[[Target], Awaitable[Any]], fault: str = "", **more: Any
) -> tuple[Any, Fake]:
    async def run() -> tuple[Any, Fake]:
        fake = Fake(fault, **more)
        async with listening(fake, folder) as target:
            return await use(target), fake

    return asyncio.run(run())


def ask(folder: Path, fault: str = "", leave: Leave | None = None, **more: Any) -> Heard:
    async def use(target: Target) -> Heard:
        async with Client(target) as client:
            return await client.ask(WORDS[0], leave)

    heard: Heard = against(folder, use, fault, **more)[0]
    return heard


# --- the client -----------------------------------------------------------------------


def test_an_answer_is_heard_whole(tmp_path: Path) -> None:
    heard = ask(tmp_path)
    assert heard.complete
    assert heard.text == "".join(f"語{n}" for n in range(12))
    assert (heard.prompt_tokens, heard.tokens, len(heard.pieces)) == (7, 12, 12)
    assert len(heard.gaps) == 11
    assert heard.began <= heard.pieces[0] <= heard.pieces[-1] <= heard.ended


def test_an_answer_cut_off_is_not_complete(tmp_path: Path) -> None:
    heard = ask(tmp_path, "cuts")
    assert not heard.complete
    assert "mid-answer" in heard.error
    assert len(heard.pieces) == 5


def test_a_refusal_says_when_to_come_back(tmp_path: Path) -> None:
    heard = ask(tmp_path, "refuses")
    assert (heard.status, heard.retry_after_s, heard.complete) == (429, 1.0, False)
    assert ask(tmp_path, "refuses rudely").retry_after_s is None


def test_a_server_that_is_not_there_is_an_error_not_an_exception(tmp_path: Path) -> None:
    async def use() -> Heard:
        async with Client(Target("none", tmp_path / "none.sock")) as client:
            return await client.ask(WORDS[0])

    heard = asyncio.run(use())
    assert heard.status == 0
    assert "ConnectError" in heard.error


@pytest.mark.parametrize(
    ("leave", "word_s"), [(Leave(after_pieces=3), 0.2), (Leave(after_s=0.1), 30.0)]
)
def test_a_reader_who_leaves_is_noticed_by_the_server(
    tmp_path: Path, leave: Leave, word_s: float
) -> None:
    async def use(target: Target) -> tuple[Heard, dict[str, Any]]:
        async with Client(target) as client:
            heard = await client.ask(WORDS[0], leave)
            while (health := await client.health())["running"]:
                await asyncio.sleep(0.01)
            return heard, health

    (heard, health), fake = against(tmp_path, use, word_s=word_s)
    assert heard.left
    assert not heard.complete
    assert fake.left == 1
    assert health == {"running": 0, "waiting": 0, "cells_used": 0}


def test_every_reader_asks_once_more_until_all_is_asked(tmp_path: Path) -> None:
    async def use(target: Target) -> list[Heard]:
        async with Client(target) as client:
            return await load.closed_loop(client, WORDS, 5)

    heard, fake = against(tmp_path, use)
    assert [h.complete for h in heard] == [True] * len(WORDS)
    assert sorted(b["user"] for b in fake.asked) == sorted(a.person for a in WORDS)


def test_all_servers_are_given_the_same_prompt() -> None:
    asked = Asked("規則", "資料\n答え:", 9, "ito")
    _, ours = load.request("kura", asked)
    assert "\n\n".join(m["content"] for m in ours["messages"]) == "規則\n\n資料\n答え:"
    for wire in ("llama-server", "llama_cpp.server"):
        _, theirs = load.request(wire, asked)
        assert theirs["prompt"] == "規則\n\n資料\n答え:"
        assert 9 in theirs.values()


def test_the_words_of_other_servers_are_understood() -> None:
    heard = Heard(WORDS[0], 0.0)
    load.take("llama-server", {"content": "一", "stop": False, "tokens_predicted": 1}, heard)
    assert not heard.complete
    end = {"content": "", "stop": True, "stop_type": "limit"}
    load.take("llama-server", end | {"tokens_predicted": 12, "tokens_evaluated": 600}, heard)
    assert (heard.text, heard.tokens, heard.prompt_tokens) == ("一", 12, 600)
    assert heard.complete
    heard = Heard(WORDS[0], 0.0)
    load.take("llama_cpp.server", {"choices": [{"text": "二", "finish_reason": None}]}, heard)
    assert (heard.text, heard.tokens, heard.complete) == ("二", 1, False)
    load.take("llama_cpp.server", {"choices": [{"text": "", "finish_reason": "length"}]}, heard)
    assert (heard.tokens, heard.complete) == (12, True)
    heard = Heard(WORDS[0], 0.0)
    load.take("kura", {"choices": [], "kura": {"waiting": 3}}, heard)
    assert (heard.pieces, heard.finish) == ([], "")
    load.take("kura", {"error": {"message": "the engine died"}}, heard)
    assert heard.error == "the engine died"


# --- readers who leave ----------------------------------------------------------------


def leavers(folder: Path, fault: str = "") -> Disconnects:
    async def use(target: Target) -> Disconnects:
        return await load.disconnects(target, WORDS, 40)

    found: Disconnects = against(folder, use, fault)[0]
    return found


def test_disconnects_find_nothing_wrong_with_a_sound_server(tmp_path: Path) -> None:
    found = leavers(tmp_path)
    assert sum(found.left.values()) >= 40
    assert found.left["words"] > 0
    assert found.steady > 0
    assert (found.shortened, found.different) == ([], 0)
    assert found.health == {"running": 0, "waiting": 0, "cells_used": 0}
    assert found.free_s is not None
    assert found.next_s is not None


def test_a_stream_shortened_by_anothers_leaving_is_found(tmp_path: Path) -> None:
    found = leavers(tmp_path, "shortens")
    assert found.shortened
    assert any("shortened" in fault for fault in found.faults())


def test_a_slot_that_is_never_given_back_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "FREE_S", 0.1)
    found = leavers(tmp_path, "leaks")
    assert found.free_s is None
    assert any("waiting" in fault for fault in found.faults())


# --- more people than slots -------------------------------------------------------------


def people(folder: Path, fault: str = "", pid: int | None = None) -> Crowd:
    async def use(target: Target) -> Crowd:
        brisk: dict[str, Any] = {"ramp_s": 0.1, "think_s": 0.05}
        return await load.crowd(target, WORDS, 20, 1.5, pid=pid, **brisk)

    found: Crowd = against(folder, use, fault, slots=1, room=3, word_s=0.005)[0]
    return found


def test_a_crowd_is_answered_or_refused_cleanly(tmp_path: Path) -> None:
    found = people(tmp_path, pid=os.getpid())
    assert found.waits
    assert set(found.refused) == {429}
    assert (found.unclean, found.broken) == (0, [])
    assert all(w.whole_s >= w.wait_s for w in found.waits)
    assert all(size > 2**20 for _, size in found.resident)
    assert len(found.resident) >= 5
    assert found.growth is not None


def test_rude_refusals_and_broken_answers_are_found(tmp_path: Path) -> None:
    rude = people(tmp_path, "refuses rudely")
    assert rude.unclean == rude.refused[429] > 0
    assert "nobody was answered" in rude.faults()
    assert any("mid-answer" in why for why in people(tmp_path, "cuts").faults())


def test_who_starves_among_neighbours_is_found() -> None:
    queue = [(float(n), 10.0 + n) for n in range(60)]  # the queue grows: nobody is to blame
    assert load.worst_in_cohort(queue) < 1.3
    queue[30] = (30.0, 130.0)
    assert load.worst_in_cohort(queue) > 3
    starved = Crowd(2, 60.0, [load.Wait("a", at, wait, at, wait) for at, wait in queue])
    assert any("worst wait" in fault for fault in starved.faults())
    refused = Crowd(2, 60.0, starved.waits[:30], kept=[(29.5, 400.0)])
    assert any("with refusals" in fault for fault in refused.faults())
    # at the end some are sent away after a while: who is let in beside them did not starve
    sent_away = [(29.0 + n / 10, 4.0) for n in range(9)]
    assert Crowd(2, 60.0, starved.waits[:30], kept=sent_away).worst_whole < 1.3


def test_memory_that_grows_is_found() -> None:
    flat = [(float(n), 1000 if n > 3 else 500) for n in range(50)]  # the first fifth warms up
    assert Crowd(1, 50, resident=flat).growth == 1.0
    growing = [(float(n), 1000 + 5 * n) for n in range(50)]
    found = Crowd(1, 50, resident=growing)
    assert any("memory" in fault for fault in found.faults())


# --- the benchmark's own parts ----------------------------------------------------------


def test_prompts_have_only_the_system_prompt_in_common() -> None:
    asked = serve.Prompts().some(60)
    opened = [a.user.removeprefix("資料[1] ")[:4] for a in asked]
    assert all(a.user.startswith("資料[1] ") for a in asked)
    assert len(set(opened)) == len(opened)
    assert len({a.person for a in asked}) == 60
    assert asked == serve.Prompts().some(60)


def test_half_of_the_prompts_differ_only_in_the_question() -> None:
    asked = serve.Prompts().half_shared(16)
    before = [a.user.partition("\n\n質問:")[0] for a in asked]
    assert max(before.count(b) for b in before) == 8
    assert len(set(before)) == 9
    assert len({a.user for a in asked}) == 16


def test_ratios_are_ours_to_theirs_and_none_where_nothing_was_measured() -> None:
    def measured(tokens: int, first_s: float) -> Measured:
        pieces = [first_s + 0.5 * n * first_s for n in range(3)]
        heard = Heard(WORDS[0], 0.0, 200, "語", pieces, 600, tokens, "length")
        return Measured([heard], wall_s=10.0)

    table = {
        ("8", serve.KURA): measured(64, 1.0),
        ("8", serve.LLAMA): measured(32, 2.0),
        (serve.SHARED, serve.KURA): measured(48, 1.0),
        (serve.SHARED, serve.LLAMA): measured(32, 1.0),
        ("16", serve.KURA): measured(64, 1.0),
    }
    assert serve.ratios(table) == {
        "throughput_ratio": {"1": None, "4": None, "8": 2.0, "16": None},
        "shared_ratio": 1.5,
        "ttft_p99_ratio": 0.5,
        "itl_p99_ratio": 0.5,
    }


def test_the_source_of_llama_server_is_unpacked_once_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Sequence[str]] = []

    def pip(*argv: str) -> None:
        runs.append(argv)
        into = Path(argv[argv.index("--dest") + 1])
        into.mkdir()
        with tarfile.open(into / "llama_cpp_python-1.tar.gz", "w:gz") as archive:
            made = tarfile.TarInfo("llama_cpp_python-1/vendor/llama.cpp/CMakeLists.txt")
            archive.addfile(made, io.BytesIO(b""))

    monkeypatch.delenv(llama_server.SOURCE, raising=False)
    monkeypatch.setattr(llama_server, "run", pip)
    found = llama_server.source(tmp_path)
    assert (found / "CMakeLists.txt").is_file()
    assert llama_server.source(tmp_path) == found
    assert len(runs) == 1
    monkeypatch.setenv(llama_server.SOURCE, str(tmp_path / "mine"))
    assert llama_server.source(tmp_path) == tmp_path / "mine"


def test_the_page_has_a_row_for_each_server_and_counts_what_was_not_answered() -> None:
    whole = Heard(WORDS[0], 0.0, 200, "語", [1.0, 1.5], 600, 64, "length")
    broken = Heard(WORDS[1], 0.0, error="the stream ended in mid-answer")
    table = {
        ("4", serve.KURA): Measured([whole, broken], wall_s=10.0, cpu_s=15.0),
        ("4", serve.LLAMA): Measured([broken], wall_s=10.0),
    }
    page = serve.report(table, "make bench-serve", 2, ["A note."])
    assert (
        "| 4 | kura infer | 1 of 2 | 64 | 6.4 | 66 | 1.00 / 1.00 s | 500 / 500 ms | 1.50 |" in page
    )
    assert "| 4 | llama-server | 0 of 1 | – |" in page
    assert "A note." in page


def test_slow_returns_and_silent_breaks_are_found() -> None:
    sound = load.Kills(back_s=[3.0, 4.0], words_s=[5.0], answered=3)
    sound.told["the model's process ended in mid-answer; ask again"] = 2
    assert sound.faults() == []
    assert len(replace(sound, back_s=[3.0, 11.0]).faults()) == 1
    assert len(replace(sound, told=Counter({"": 1})).faults()) == 1
    assert len(replace(sound, refused=Counter({500: 1, 429: 2})).faults()) == 1
    assert len(replace(sound, answered=0).faults()) == 1
