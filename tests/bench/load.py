"""Many readers at once: the client of the serving benchmark, and three scenarios against a server.

python -m tests.bench.load disconnects --at SOCKET-OR-URL [-n 500]
python -m tests.bench.load crowd --at SOCKET-OR-URL [--users 200] [--seconds 600] [--pid PID]
python -m tests.bench.load kills --at SOCKET [-n 1000]

`--start` instead of `--at` starts a `kura infer` with four slots for the run. The exit
status is 1 when the scenario shows a fault.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import math
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2

from tests import pages

Wire = Literal["kura", "llama-server", "llama_cpp.server"]

ANSWER_S = 900.0  # a request deep in a queue waits long on two cores
FREE_S = 2.0  # a server whose readers left has its slots back within this
SLOW_COHORT = 2.0  # the worst wait against the median of its arrival cohort
BACK_S = 10.0  # a killed child is replaced within this
ASKS_EVERY = 10  # kills: who comes just then waits with everyone else for the first words
KILL_S = 1.5  # a child that is back is killed again within this
THINKS_S = 3.0  # a reader at most, before the next question
FLAT = 1.05  # memory at the end against memory at the beginning
USED = ("running", "waiting", "cells_used")  # what /health counts, and an idle server has none of
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Target:
    """A server: a socket or an address, and the protocol it is asked in."""

    name: str
    at: Path | str
    wire: Wire = "kura"


@dataclass(frozen=True)
class Asked:
    """One request, greedy. `person` is who asks, where the protocol can say so."""

    system: str
    user: str
    limit: int = 64
    person: str = ""


@dataclass(frozen=True)
class Leave:
    """When the reader hangs up: so many seconds after asking, or after so many pieces."""

    after_s: float | None = None
    after_pieces: int | None = None


@dataclass
class Heard:
    """What came back, and when; times are of time.perf_counter."""

    asked: Asked
    began: float
    status: int = 0
    text: str = ""
    pieces: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    tokens: int = 0
    finish: str = ""
    error: str = ""
    retry_after_s: float | None = None
    left: bool = False
    ended: float = 0.0

    @property
    def complete(self) -> bool:
        return bool(self.finish) and not self.error

    @property
    def first_s(self) -> float:
        return self.pieces[0] - self.began

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.pieces, self.pieces[1:], strict=False)]


class Client:
    """Asks one server over as many connections as there are readers."""

    def __init__(self, target: Target) -> None:
        self.target = target
        uds = str(target.at) if isinstance(target.at, Path) else None
        # A connection each: llama-server closes idle ones just as the next request is sent.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx2.AsyncClient(
            base_url="http://server" if uds else str(target.at),
            transport=httpx2.AsyncHTTPTransport(uds=uds, limits=limits),
            timeout=httpx2.Timeout(ANSWER_S, connect=30.0),
            trust_env=False,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def health(self) -> dict[str, Any]:
        response = await self._http.get("/health")
        response.raise_for_status()
        return dict(response.json())

    async def ask(self, asked: Asked, leave: Leave | None = None) -> Heard:
        """Never raises for what the server does: it is in what was heard."""
        leave = leave or Leave()
        heard = Heard(asked, time.perf_counter())
        try:
            async with asyncio.timeout(leave.after_s):
                await self._listen(heard, leave.after_pieces)
        except TimeoutError:
            heard.left = True
        except (httpx2.HTTPError, ValueError) as error:
            heard.error = f"{type(error).__name__}: {error}"
        heard.ended = time.perf_counter()
        return heard

    async def _listen(self, heard: Heard, pieces: int | None) -> None:
        path, body = request(self.target.wire, heard.asked)
        async with self._http.stream("POST", path, json=body) as response:
            heard.status = response.status_code
            if response.is_error:
                said = (await response.aread()).decode(errors="replace")
                heard.error = f"HTTP {response.status_code}: {said[:200]}"
                after = response.headers.get("Retry-After", "")
                heard.retry_after_s = float(after) if after.isdecimal() else None
                return
            async for line in response.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    take(self.target.wire, json.loads(line.removeprefix("data: ")), heard)
                if pieces is not None and len(heard.pieces) >= pieces and not heard.finish:
                    heard.left = True
                    return
        if not heard.finish and not heard.error:
            heard.error = "the stream ended in mid-answer"


def request(wire: Wire, asked: Asked) -> tuple[str, dict[str, Any]]:
    """Path and body. `kura infer` joins its messages to the very prompt the others are given."""
    if wire == "kura":
        return "/v1/chat/completions", {
            "messages": [
                {"role": "system", "content": asked.system},
                {"role": "user", "content": asked.user},
            ],
            "max_tokens": asked.limit,
            "temperature": 0,
            "stream": True,
            "ignore_eos": True,
            "user": asked.person,
        }
    prompt = f"{asked.system}\n\n{asked.user}"
    if wire == "llama-server":
        return "/completion", {
            "prompt": prompt,
            "n_predict": asked.limit,
            "samplers": ["top_k"],  # greedy, without the samplers that would change nothing
            "top_k": 1,
            "ignore_eos": True,
            "cache_prompt": True,
            "stream": True,
        }
    return "/v1/completions", {
        "prompt": prompt,
        "max_tokens": asked.limit,
        "temperature": 0,
        "stream": True,
    }


def take(wire: Wire, event: dict[str, Any], heard: Heard) -> None:
    """Note one server-sent event."""
    if error := event.get("error"):
        heard.error = str(error.get("message", error) if isinstance(error, dict) else error)
        return
    if wire == "llama-server":
        text = event.get("content", "")
        heard.finish = event.get("stop_type", "stop") if event.get("stop") else ""
        heard.prompt_tokens = event.get("tokens_evaluated", 0)
        heard.tokens = event.get("tokens_predicted", 0)
    else:
        choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
        text = choice.get("delta", {}).get("content") or choice.get("text") or ""
        heard.finish = choice.get("finish_reason") or heard.finish
        if usage := event.get("usage"):
            heard.prompt_tokens = usage["prompt_tokens"]
            heard.tokens = usage["completion_tokens"]
        elif wire == "llama_cpp.server":  # it sends no usage; an event is a token, or more
            heard.tokens += bool(text)
            if heard.finish == "length":
                heard.tokens = heard.asked.limit
    if text:
        heard.text += text
        heard.pieces.append(time.perf_counter())


async def closed_loop(client: Client, asked: Sequence[Asked], readers: int) -> list[Heard]:
    """All requests, `readers` of them at any moment, in order."""
    waiting = iter(asked)
    heard: list[Heard] = []

    async def reader() -> None:
        for one in waiting:
            heard.append(await client.ask(one))

    async with asyncio.TaskGroup() as group:
        for _ in range(readers):
            group.create_task(reader())
    return heard


def quantile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# --- readers who leave --------------------------------------------------------------


@dataclass
class Disconnects:
    """`left` by what the reader had seen: no answer yet, the stream opened, words."""

    left: Counter[str] = field(default_factory=Counter)
    steady: int = 0  # answers of the streams that stayed
    shortened: list[str] = field(default_factory=list)  # what became of those that were not whole
    different: int = 0  # as long as alone, in other words: numerics of another batch
    refused: Counter[int] = field(default_factory=Counter)
    free_s: float | None = None  # from the last hang-up until no slot was used
    next_s: float | None = None  # from the last hang-up until a new request had its first words
    health: dict[str, Any] = field(default_factory=dict)

    def faults(self) -> list[str]:
        found = [f"a stream was shortened: {why}" for why in self.shortened]
        if not self.steady:
            found.append("no steady stream was answered in the meantime")
        if unclean := sorted(set(self.refused) - {429}):
            found.append(f"refused with {unclean}")
        if self.free_s is None or self.free_s > FREE_S:
            found.append(f"slots were not free within {FREE_S} s: {self.health}")
        if self.next_s is None or self.next_s > FREE_S:
            found.append(f"a new request had no words within {FREE_S} s")
        for name in USED:
            if self.health.get(name) != 0:
                found.append(f"/health says {name} = {self.health.get(name)}")
        return found


async def disconnects(
    target: Target,
    asked: Sequence[Asked],
    n: int = 500,
    *,
    readers: int = 8,
    steady: int = 3,
    seed: int = 0,
) -> Disconnects:
    """`n` readers hang up at random moments, `readers` at a time; `steady` streams must not notice.

    The first `steady` of `asked` are the steady ones, first asked alone; the others' readers
    leave. With more readers than slots some leave while they are queued.
    """
    dice = random.Random(seed)
    found = Disconnects()
    staying, leaving = asked[:steady], asked[steady:]
    async with Client(target) as client:
        alone = [await client.ask(one) for one in staying]
        for one in alone:
            if not one.complete:
                raise RuntimeError(f"{target.name} does not answer alone: {one.error}")
        usual_s = statistics.median(one.ended - one.began for one in alone)
        over = asyncio.Event()

        async def stay(expected: Heard) -> None:
            while not over.is_set():
                heard = await client.ask(expected.asked)
                if heard.status == 429:
                    found.refused[429] += 1
                    await asyncio.sleep(0.2)
                    continue
                found.steady += 1
                if not heard.complete or heard.tokens < expected.tokens:
                    found.shortened.append(
                        f"{heard.tokens} of {expected.tokens} tokens, {heard.error or heard.finish}"
                    )
                elif heard.text != expected.text:
                    found.different += 1

        async def go() -> None:
            while sum(found.left.values()) < n:
                one = dice.choice(leaving)
                # In company an answer takes some times as long as alone.
                after = Leave(after_s=dice.uniform(0, usual_s * 4))
                if dice.random() < 1 / 3:
                    after = Leave(after_pieces=dice.randint(1, one.limit // 2))
                heard = await client.ask(one, after)
                if heard.left:
                    seen = "words" if heard.pieces else "opened" if heard.status else "nothing"
                    found.left[seen] += 1
                elif not heard.status:
                    raise RuntimeError(f"{target.name} is gone: {heard.error}")
                elif heard.status != 200:
                    found.refused[heard.status] += 1
                    await asyncio.sleep(0.2)

        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(stay(one)) for one in alone]
            async with asyncio.TaskGroup() as crowd:
                for _ in range(readers):
                    crowd.create_task(go())
            over.set()
            await asyncio.wait(streams)
        await _left_free(client, found, leaving, dice)
    return found


async def _left_free(
    client: Client, found: Disconnects, asked: Sequence[Asked], dice: random.Random
) -> None:
    """Twice a crowd leaves at one moment: until the slots are free, until the next has words."""
    left = await _all_leave(client, asked, dice)
    while time.perf_counter() - left < 5 * FREE_S:
        found.health = await client.health()
        if all(found.health.get(name) == 0 for name in USED):
            found.free_s = time.perf_counter() - left
            break
        await asyncio.sleep(0.02)
    left = await _all_leave(client, asked, dice)
    heard = await client.ask(Asked("", "日本の首都は", 1))
    if heard.pieces:
        found.next_s = heard.pieces[0] - left


async def _all_leave(client: Client, asked: Sequence[Asked], dice: random.Random) -> float:
    crowd = [asyncio.create_task(client.ask(dice.choice(asked))) for _ in range(12)]
    await asyncio.sleep(0.5)
    left = time.perf_counter()
    for reader in crowd:
        reader.cancel()
    await asyncio.wait(crowd)
    return left


# --- more people than slots -----------------------------------------------------------


@dataclass(frozen=True)
class Wait:
    """One answered question: who asked, when, and how long until the first words."""

    person: str
    asked_s: float  # since the beginning: when the server took it
    wait_s: float  # from then to the first words
    first_s: float  # since the beginning: when it was asked first
    whole_s: float  # from then to the first words, refusals included


@dataclass
class Crowd:
    users: int
    seconds: float
    waits: list[Wait] = field(default_factory=list)
    kept: list[tuple[float, float]] = field(default_factory=list)  # asked first, refused so long
    refused: Counter[int] = field(default_factory=Counter)
    unclean: int = 0  # a refusal without Retry-After
    broken: list[str] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)  # (second, bytes)

    @property
    def worst(self) -> float:
        return worst_in_cohort([(w.asked_s, w.wait_s) for w in self.waits])

    @property
    def worst_whole(self) -> float:
        """With refusals; who was still refused at the end counts with what he waited."""
        return worst_in_cohort([(w.first_s, w.whole_s) for w in self.waits], self.kept)

    @property
    def growth(self) -> float | None:
        """Memory in the last fifth against memory in the second: the first warms up."""
        fifth = len(self.resident) // 5
        if not fifth:
            return None
        early = statistics.median(size for _, size in self.resident[fifth : 2 * fifth])
        return statistics.median(size for _, size in self.resident[-fifth:]) / early

    def faults(self) -> list[str]:
        found = [f"an answer broke: {why}" for why in self.broken]
        if self.worst > SLOW_COHORT:
            found.append(f"the worst wait was {self.worst:.2f} times its cohort's median")
        if self.worst_whole > SLOW_COHORT:
            found.append(f"with refusals it was {self.worst_whole:.2f} times its cohort's median")
        if unclean := sorted(set(self.refused) - {429}):
            found.append(f"refused with {unclean}")
        if self.unclean:
            found.append(f"{self.unclean} refusals without Retry-After")
        if self.growth is not None and self.growth > FLAT:
            found.append(f"memory grew to {self.growth:.2f} times of what it was")
        if not self.waits:
            found.append("nobody was answered")
        return found


async def crowd(
    target: Target,
    asked: Sequence[Asked],
    users: int = 200,
    seconds: float = 600.0,
    *,
    pid: int | None = None,
    ramp_s: float = 30.0,
    think_s: float = 10.0,
    seed: int = 0,
) -> Crowd:
    """`users` come within `ramp_s`, ask, read, think, ask again; who is refused comes back when told.

    With `pid`, the memory of that process and its children is noted over time.
    """
    found = Crowd(users, seconds)
    began = time.perf_counter()

    def since(moment: float) -> float:
        return moment - began

    async def user(number: int) -> None:
        dice = random.Random(f"{seed}/{number}")
        person = f"user{number}"
        await asyncio.sleep(dice.uniform(0, ramp_s))
        while since(time.perf_counter()) < seconds:
            one = dice.choice(asked)
            one = Asked(one.system, one.user, one.limit, person)
            first_asked = time.perf_counter()
            while (heard := await client.ask(one)).status not in (0, 200):
                found.refused[heard.status] += 1
                found.unclean += heard.status == 429 and not heard.retry_after_s
                await asyncio.sleep((heard.retry_after_s or 1.0) * dice.uniform(1, 1.5))
                if since(time.perf_counter()) >= seconds:
                    found.kept.append((since(first_asked), time.perf_counter() - first_asked))
                    return
            if not heard.complete:
                found.broken.append(f"{person}: {heard.error}")
            elif heard.pieces:
                whole_s = heard.pieces[0] - first_asked
                asked_s = since(heard.began)
                found.waits.append(
                    Wait(person, asked_s, heard.first_s, since(first_asked), whole_s)
                )
            await asyncio.sleep(dice.expovariate(1 / think_s))

    async def watch(pid: int) -> None:
        while True:
            found.resident.append((since(time.perf_counter()), resident(pid)))
            await asyncio.sleep(max(seconds / 120, 0.05))

    async with Client(target) as client:
        watching = asyncio.create_task(watch(pid)) if pid else None
        async with asyncio.TaskGroup() as group:
            for number in range(users):
                group.create_task(user(number))
        if watching:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
    return found


def worst_in_cohort(
    waits: Sequence[tuple[float, float]],
    unended: Sequence[tuple[float, float]] = (),
    neighbours: int = 5,
) -> float:
    """The largest ratio of a wait to the median of its cohort, over (arrival, wait).

    A cohort is who came just before and just after: up to `neighbours` on each side. A wait that
    had not ended was at least so long: it is held against its cohort, and says nothing of others.
    """
    ended = sorted(waits)
    worst = 1.0
    for arrival, wait in [*ended, *unended]:
        at = bisect.bisect_left(ended, (arrival, wait))
        cohort = [w for _, w in ended[max(at - neighbours, 0) : at + neighbours + 1]]
        if len(cohort) >= neighbours:
            worst = max(worst, wait / statistics.median(cohort))
    return worst


# --- a child that is killed -----------------------------------------------------------


@dataclass
class Kills:
    """What a load run saw of a `kura infer` whose native child was killed again and again."""

    back_s: list[float] = field(default_factory=list)  # from each kill until a model was there
    words_s: list[float] = field(default_factory=list)  # until one who came had the first words
    answered: int = 0
    told: Counter[str] = field(default_factory=Counter)  # what those heard whose answer broke
    refused: Counter[int] = field(default_factory=Counter)

    def faults(self) -> list[str]:
        found = [f"a child was away for {s:.1f} s" for s in self.back_s if s > BACK_S]
        found += [f"an answer broke without a word of why: {why}" for why in self.told if not why]
        if unclean := sorted(set(self.refused) - {429, 503}):
            found.append(f"refused with {unclean}")
        if not self.answered:
            found.append("nobody was answered")
        return found


async def kills(
    target: Target,
    asked: Sequence[Asked],
    n: int,
    seconds: float = math.inf,
    *,
    readers: int = 6,
    seed: int = 0,
) -> Kills:
    """`readers` ask on and on, while the child is killed `n` times, each at a random moment.

    After `seconds` it is not killed again.
    """
    dice = random.Random(seed)
    began = time.perf_counter()
    found = Kills()
    over = asyncio.Event()
    async with Client(target) as client:

        async def reader(number: int) -> None:
            while not over.is_set():
                one = dice.choice(asked)
                heard = await client.ask(Asked(one.system, one.user, one.limit, f"user{number}"))
                found.answered += heard.complete
                if heard.status not in (0, 200):
                    found.refused[heard.status] += 1
                    await asyncio.sleep(heard.retry_after_s or 1.0)
                elif not heard.complete:
                    found.told[heard.error] += 1
                await asyncio.sleep(dice.uniform(0, THINKS_S))

        async def kill(then_ask: bool) -> None:
            health = await client.health()
            os.kill(health["child"], signal.SIGKILL)
            gone = time.perf_counter()
            while True:
                now = await client.health()
                if now["ready"] and now["child"] != health["child"]:
                    break
                await asyncio.sleep(0.02)
            found.back_s.append(time.perf_counter() - gone)
            if not then_ask:
                return
            heard = await client.ask(Asked("", "日本の首都は", 1, "the one who comes now"))
            if heard.pieces:
                found.words_s.append(heard.pieces[0] - gone)

        async with asyncio.TaskGroup() as group:
            for number in range(readers):
                group.create_task(reader(number))
            for number in range(n):
                if time.perf_counter() - began > seconds:
                    break
                await asyncio.sleep(dice.uniform(0, KILL_S))
                await kill(then_ask=number % ASKS_EVERY == 0)
            over.set()
    return found


# --- processes ------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                children.setdefault(int(stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: 1 the parent, 11 and 12 the ticks used."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def resident(pid: int) -> int:
    """Bytes in memory, of the process and its descendants."""
    total = 0
    for one in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return total * PAGE


Found = Disconnects | Crowd | Kills

HEAD = """# Readers who leave, a crowd, a child that is killed

Each section is written by the command in it, against a `kura infer` of four slots with the default
model. `disconnects`: readers hang up at random moments beside others who stay, none of whose streams
may be shortened. `crowd`: people ask again and again; nobody may wait twice as long as who came just
before and after. `kills`: the native child is killed at random moments under load.
"""


# --- the command line -----------------------------------------------------------------


def main() -> None:
    from tests.bench import serve

    parser = argparse.ArgumentParser(description="Readers who leave, a crowd, a killed child.")
    parser.add_argument("scenario", choices=["disconnects", "crowd", "kills"])
    at = parser.add_mutually_exclusive_group(required=True)
    at.add_argument("--at", help="socket, or http://…")
    at.add_argument("--start", action="store_true", help="start a `kura infer` with four slots")
    parser.add_argument("--wire", choices=["kura", "llama-server"], default="kura")
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=float, help="crowd: 600; kills: until they are done")
    parser.add_argument("--pid", type=int, help="the server's process, to watch its memory")
    parser.add_argument("--page", type=Path, help="write it into this page: docs/en/load.md")
    options = parser.parse_args()
    serve.end_cleanly()
    if options.start:
        with serve.kura(slots=4, context=4096) as server:
            found = _run(options, server.target, server.process.pid)
    else:
        place = options.at if "://" in options.at else Path(options.at)
        found = _run(options, Target("server", place, options.wire), options.pid)
    print(json.dumps(summary(found), ensure_ascii=False, indent=1))
    if options.page:
        n = "" if options.scenario == "crowd" else f" -n {options.n}"
        write(options.page, f"{options.scenario} --start{n}", found)
    if faults := found.faults():
        print("\n".join(faults), file=sys.stderr)
        sys.exit(1)


def _run(options: argparse.Namespace, target: Target, pid: int | None) -> Found:
    from tests.bench import serve

    if options.scenario == "disconnects":
        asked = serve.Prompts().some(64, chars=300, limit=48)
        return asyncio.run(disconnects(target, asked, options.n))
    asked = serve.Prompts().some(200, chars=150, limit=32)
    if options.scenario == "kills":
        return asyncio.run(kills(target, asked, options.n, options.seconds or math.inf))
    return asyncio.run(crowd(target, asked, options.users, options.seconds or 600.0, pid=pid))


def write(page: Path, asked: str, found: Found) -> None:
    """The scenario's section of the page anew; the others stay. `asked` begins with its name."""
    faults = "".join(f"- {fault}\n" for fault in found.faults()) or "No fault.\n"
    text = f"```json\n{json.dumps(summary(found), ensure_ascii=False)}\n```\n\n{faults}"
    command = f"python -m tests.bench.load {asked}"
    pages.section(page, HEAD, asked.split()[0], command, text)


def summary(found: Found) -> dict[str, Any]:
    if isinstance(found, Kills):
        shown = {"kills": len(found.back_s), "answered": found.answered, "told": found.told}
        for name, seconds in (("back_s", found.back_s), ("words_s", found.words_s)):
            shown[name] = {"p50": quantile(seconds, 0.5), "max": max(seconds)}
        return shown | {"refused": found.refused}
    if isinstance(found, Disconnects):
        shown = {"left": found.left, "steady": found.steady, "shortened": len(found.shortened)}
        shown |= {"different": found.different, "refused": found.refused, "health": found.health}
        return shown | {"free_s": found.free_s, "next_s": found.next_s}
    waits = [w.wait_s for w in found.waits] or [0.0]
    wholes = [w.whole_s for w in found.waits] or [0.0]
    answers = Counter(w.person for w in found.waits)
    return {
        "answers": len(found.waits),
        "people_answered": len(answers),
        "wait_s": {"p50": quantile(waits, 0.5), "p99": quantile(waits, 0.99), "max": max(waits)},
        "with_refusals_s": {"p50": quantile(wholes, 0.5), "max": max(wholes)},
        "worst_against_cohort": found.worst,
        "worst_with_refusals": found.worst_whole,
        "refused": found.refused,
        "broken": len(found.broken),
        "memory_growth": found.growth,
        "memory_mb": [(round(at), size // 2**20) for at, size in found.resident[::12]],
    }


if __name__ == "__main__":
    main()
