"""`kura infer` beside llama-server, many readers at once: `make bench-serve`.

python -m tests.bench.serve [--quick] [--tune] [--threads 2] [--out docs/en/serve.md]
                            [--checkout FOLDER] [--kura-env NAME=VALUE …] [--llama-env NAME=VALUE …]

Same GGUF, same prompts, same threads. The servers take turns in ABBA order, each with
prompts it has not seen, and all others are stopped while one computes. The last line is
one JSON object with the ratios of `kura infer` to llama-server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from appliance import settings, up
from appliance.ask import prompt
from appliance.inference import models, native
from appliance.types import Passage
from installer.sample import sources
from tests import ports
from tests.bench import llama_server, load
from tests.bench.load import Asked, Heard, Target
from tests.quality.__main__ import processor
from tests.quality.company import golden

KURA, LLAMA, PYTHON = "kura infer", "llama-server", "llama_cpp.server"
READY_S = 180.0
SLOTS, CONTEXT = 16, 16_384  # the same for both: 1,024 tokens a slot
LIMIT = 64
CHARS = 740  # of passages: with the system prompt and the question about 600 tokens
REQUESTS = {1: 8, 4: 12, 8: 16, 16: 32}  # in each of the two rounds
SHARED_REQUESTS = 32  # half of them about the same passages, which one of them reads first
QUICK = {1: 3, 4: 8}
# llama_cpp.server answers one after the other and takes most of a minute for each here.
PYTHON_REQUESTS = {"1": 2, "8": 8}
SHARED, SHARED_PEOPLE = "8, half share passages", "8, half share passages, all other people"
LATENCY = "8"  # where times to the first token and between tokens are compared

# The fastest of VARIANTS where it was last measured; `--tune` measures them again.
LLAMA_OPTIONS: tuple[str, ...] = ("--kv-unified",)
# As Kura's own: with neighbours on the same cores seven times as fast as spinning for long, and
# a quarter faster than threads that sleep at once.
LLAMA_ENVIRONMENT = {
    name: native.ENVIRONMENT[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
}
VARIANTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "unified": (("--kv-unified",), {}),
    "unified, spinning threads": (
        ("--kv-unified",),
        {"GOMP_SPINCOUNT": "infinite"},
    ),
    "unified, sleeping threads": (("--kv-unified",), {"GOMP_SPINCOUNT": "0"}),
    "unified, batches of 512": (("--kv-unified", "-b", "512"), {}),
    "unified, no cache in RAM": (("--kv-unified", "--cache-ram", "0"), {}),
    "unified, whole SWA cache": (("--kv-unified", "--swa-full"), {}),
    "a cache for each slot": (("--no-kv-unified",), {}),
}


# --- prompts --------------------------------------------------------------------------


class Prompts:
    """Questions over passages of the sample company. Nothing but the system prompt is shared."""

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)
        self._documents = [(s.uri, s.title, s.body) for s in sources.every() if s.kind != "eml"]
        self._questions = [q.question for q in golden()]
        self._opened: set[str] = set()
        self._people = 0

    def some(self, n: int, chars: int = CHARS, limit: int = LIMIT) -> list[Asked]:
        return [self._asked(self._passages(chars), limit) for _ in range(n)]

    def half_shared(self, n: int) -> list[Asked]:
        """`n` in random order; every second one is about the same passages."""
        passages = self._passages(CHARS)
        questions = self._dice.sample(self._questions, n // 2)
        shared = [self._asked(passages, LIMIT, question) for question in questions]
        mixed = shared + self.some(n - len(shared))
        self._dice.shuffle(mixed)
        return mixed

    def _asked(self, passages: Sequence[Passage], limit: int, question: str = "") -> Asked:
        made = prompt.build(question or self._dice.choice(self._questions), passages)
        self._people += 1
        return Asked(made.system, made.user, limit, f"person{self._people}")

    def _passages(self, chars: int) -> list[Passage]:
        found: list[Passage] = []
        while len(found) < 3:
            uri, title, body = self._dice.choice(self._documents)
            start = self._dice.randrange(max(len(body) - chars // 3, 0) + 1)
            text = body[start : start + chars // 3]
            if len(text) < chars // 3 or (not found and text[:8] in self._opened):
                continue
            if not found:
                self._opened.add(text[:8])  # the first passage is where prompts part
                title = f"{text[:4]} {title}"
            found.append(
                Passage(len(found), "", "", uri, title, "", text, start, start + len(text))
            )
        return found


# --- servers --------------------------------------------------------------------------


@dataclass
class Server:
    target: Target
    process: subprocess.Popen[bytes]
    only: Mapping[str, int] | None = None  # scenarios it takes part in, requests a round

    def stop(self) -> None:
        """Computes nothing until it goes on."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def cpu_s(self) -> float:
        ticks = sum(sum(map(int, load.stat(p)[11:13])) for p in load.family(self.process.pid))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _send(self, number: signal.Signals) -> None:
        for pid in load.family(self.process.pid):
            with suppress(ProcessLookupError):  # a child that ended just now
                os.kill(pid, number)


@contextmanager
def running(
    target: Target,
    argv: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    cwd: Path,
    only: Mapping[str, int] | None = None,
) -> Iterator[Server]:
    """The server once it answers; its log is in `folder`."""
    path = folder / f"{target.name.replace(' ', '-')}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(target, process, only)
    try:
        wait_ready(server, path)
        yield server
    finally:
        if process.poll() is None:
            server.go_on()
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def end_cleanly() -> None:
    """SIGTERM ends the servers too; a second one does not keep them from being ended."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)


def wait_ready(server: Server, log: Path) -> None:
    at = server.target.at
    path = "/v1/models" if server.target.wire == "llama_cpp.server" else "/health"
    transport = httpx2.HTTPTransport(uds=str(at) if isinstance(at, Path) else None)
    base = "http://server" if isinstance(at, Path) else at
    began = time.monotonic()
    with httpx2.Client(base_url=base, transport=transport, trust_env=False) as http:
        while time.monotonic() - began < READY_S:
            if server.process.poll() is not None:
                break
            try:
                if http.get(path).status_code == 200:
                    return
            except httpx2.TransportError:
                pass  # not listening yet
            time.sleep(0.1)
    raise RuntimeError(f"{server.target.name} is not ready:\n{log.read_text('utf-8')[-2000:]}")


@contextmanager
def kura(
    *,
    slots: int,
    context: int,
    threads: int = 0,
    queue: int = 64,
    checkout: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`kura infer` of a checkout, in the environment that `kura up` gives it."""
    threads = threads or len(os.sched_getaffinity(0))
    root = settings.load({}).models
    with tempfile.TemporaryDirectory(prefix="kura-bench-") as name:
        folder = Path(name)
        own = settings.Settings(data=folder, models=root, generator_threads=threads)
        (program,) = (p for p in up.programs(own, threads) if p.name == "infer")
        environment = dict(program.environment) | {
            "KURA_DATA": str(folder),
            "KURA_MODELS": str(root),
            "KURA_GENERATOR_THREADS": str(threads),
            "KURA_CONTEXT_TOKENS": str(context),
            "KURA_INFER_SLOTS": str(slots),
            "KURA_INFER_QUEUE": str(queue),
        }
        target = Target(KURA, own.infer_socket)
        argv = [sys.executable, "-m", "appliance.cli", "infer"]
        cwd = checkout or Path.cwd()
        with running(target, argv, environment | dict(more or {}), folder, cwd) as server:
            yield server


@contextmanager
def llama(
    program: Path,
    *,
    slots: int,
    context: int,
    threads: int,
    options: Sequence[str] = LLAMA_OPTIONS,
    more: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="kura-bench-") as name:
        at = Path(name) / "llama.sock"
        argv = [str(program), *llama_options(slots, context, threads, options)]
        argv += ["-m", str(gguf()), "--host", str(at)]
        target = Target(LLAMA, at, "llama-server")
        environment = LLAMA_ENVIRONMENT | dict(more or {})
        with running(target, argv, environment, Path(name), Path(name)) as server:
            yield server


def llama_options(slots: int, context: int, threads: int, options: Sequence[str]) -> list[str]:
    sizes = ["-np", str(slots), "-c", str(context), "-t", str(threads), "-tb", str(threads)]
    return [*sizes, "-ub", "512", "--cont-batching", *options]


@contextmanager
def python_server(place: str, *, context: int, threads: int) -> Iterator[Server]:
    """llama-cpp-python's own server: one sequence; told not to cut one stream for another."""
    port = ports.free()
    argv = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf())]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--interrupt_requests", "false"]
    argv += ["--n_ctx", str(context), "--n_batch", "512"]
    argv += ["--n_threads", str(threads), "--n_threads_batch", str(threads)]
    target = Target(PYTHON, f"http://127.0.0.1:{port}", "llama_cpp.server")
    with tempfile.TemporaryDirectory(prefix="kura-bench-") as name:
        environment = LLAMA_ENVIRONMENT | ({"PYTHONPATH": place} if place else {})
        folder = Path(name)
        with running(target, argv, environment, folder, folder, PYTHON_REQUESTS) as server:
            yield server


def python_server_place(cache: Path) -> str | None:
    """Where its libraries are: "" with ours, a folder they were fetched into, or None."""
    folder = (cache / "llama_cpp.server").absolute()
    if not (missing := _cannot_import("")):
        return ""
    if not folder.is_dir():
        llama_server.say(f"{PYTHON} lacks a library ({missing}); fetching them into {folder}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        wanted = ["sse-starlette", "starlette-context", "pydantic-settings", "python-dotenv"]
        subprocess.run([*pip, str(folder), *wanted], check=False, stdout=sys.stderr)
    if missing := _cannot_import(str(folder)):
        llama_server.say(f"{PYTHON} is not available: {missing}")
        return None
    return str(folder)


def _cannot_import(place: str) -> str:
    tried = subprocess.run(
        [sys.executable, "-c", "import llama_cpp.server.app"],
        env=os.environ | ({"PYTHONPATH": place} if place else {}),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return (tried.stderr.strip().splitlines() or ["?"])[-1] if tried.returncode else ""


def gguf() -> Path:
    model = models.named(models.DEFAULT_LLM)
    assert not model.adapter, "llama-server would have to be given the adapter"
    return settings.load({}).models / model.name / next(iter(model.files))


# --- measuring ------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    name: str
    readers: int
    rounds: tuple[Sequence[Asked], Sequence[Asked]]


@dataclass
class Measured:
    """One server in one scenario, both rounds together."""

    heard: list[Heard] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def done(self) -> list[Heard]:
        return [h for h in self.heard if h.complete]

    @property
    def generated(self) -> float:
        return sum(h.tokens for h in self.done) / self.wall_s

    @property
    def total(self) -> float:
        return sum(h.prompt_tokens + h.tokens for h in self.done) / self.wall_s

    def first_s(self, share: float) -> float:
        return load.quantile([h.first_s for h in self.done if h.pieces], share)

    def gap_s(self, share: float) -> float:
        return load.quantile([gap for h in self.done for gap in h.gaps], share)


Table = dict[tuple[str, str], Measured]  # (scenario, server)


def scenarios(requests: Mapping[int, int], shared: int) -> Iterator[Scenario]:
    made = Prompts()
    for readers, n in requests.items():
        yield Scenario(str(readers), readers, (made.some(n), made.some(n)))
    if shared:
        first, second = (
            [Asked(a.system, a.user, a.limit, "employee") for a in made.half_shared(shared)]
            for _ in range(2)
        )
        yield Scenario(SHARED, 8, (first, second))
        yield Scenario(SHARED_PEOPLE, 8, (made.half_shared(shared), made.half_shared(shared)))


def measure(servers: Sequence[Server], every: Iterator[Scenario]) -> Table:
    table: Table = {}
    for server in servers:
        server.stop()
    for scenario in every:
        for order, asked in zip((servers, servers[::-1]), scenario.rounds, strict=True):
            for server in order:
                some = len(asked) if server.only is None else server.only.get(scenario.name, 0)
                if not some:
                    continue
                one = table.setdefault((scenario.name, server.target.name), Measured())
                server.go_on()
                turn(server, scenario.readers, asked[:some], one)
                server.stop()
                load_now = Path("/proc/loadavg").read_text().split()[0]
                llama_server.say(
                    f"{scenario.name}: {server.target.name}: {one.generated:.1f} generated/s,"
                    f" {one.total:.0f} all/s, {len(one.done)} of {len(one.heard)} answered,"
                    f" load {load_now}"
                )
                for broken in (h for h in one.heard if not h.complete):
                    llama_server.say(f"  not answered: {broken.error}")
    return table


def turn(server: Server, readers: int, asked: Sequence[Asked], into: Measured) -> None:
    async def ask() -> None:
        async with load.Client(server.target) as client:
            await client.ask(Asked("", "日本の首都は", 2))  # awake and its pages in memory
            cpu, began = server.cpu_s(), time.perf_counter()
            into.heard += await load.closed_loop(client, asked, readers)
            into.wall_s += time.perf_counter() - began
            into.cpu_s += server.cpu_s() - cpu

    asyncio.run(ask())


def agreement(table: Table) -> tuple[int, int, int]:
    """How often both wrote the same words, of how many; and prompts of different length."""
    theirs = {h.asked.user: h for (_, s), m in table.items() if s == LLAMA for h in m.done}
    same = compared = unequal = 0
    for (_, server), measured in table.items():
        for heard in measured.done if server == KURA else ():
            if other := theirs.get(heard.asked.user):
                length = min(len(heard.text), len(other.text))
                compared += 1
                same += heard.text[:length] == other.text[:length]
                unequal += heard.prompt_tokens != other.prompt_tokens
    return same, compared, unequal


def fill_prompt_tokens(table: Table) -> None:
    """llama_cpp.server does not say how long a prompt was; llama-server read the same ones."""
    theirs = {
        h.asked.user: h.prompt_tokens for (_, s), m in table.items() if s == LLAMA for h in m.done
    }
    for (_, server), measured in table.items():
        for heard in measured.heard if server == PYTHON else ():
            heard.prompt_tokens = theirs.get(heard.asked.user, 0)


def ratios(table: Table) -> dict[str, Any]:
    """Of `kura infer` to llama-server; None where it was not measured."""

    def ratio(scenario: str, figure: Callable[[Measured], float]) -> float | None:
        ours, theirs = table.get((scenario, KURA)), table.get((scenario, LLAMA))
        if not ours or not theirs or not ours.done or not theirs.done:
            return None
        below = figure(theirs)
        return round(figure(ours) / below, 3) if below else None

    return {
        "throughput_ratio": {str(n): ratio(str(n), lambda m: m.generated) for n in REQUESTS},
        "shared_ratio": ratio(SHARED, lambda m: m.generated),
        "ttft_p99_ratio": ratio(LATENCY, lambda m: m.first_s(0.99)),
        "itl_p99_ratio": ratio(LATENCY, lambda m: m.gap_s(0.99)),
    }


# --- the page -------------------------------------------------------------------------

COLUMNS = (
    "readers",
    "server",
    "answers",
    "tokens an answer",
    "generated/s",
    "all tokens/s",
    "first token p50 / p99",
    "between tokens p50 / p99",
    "cores used",
)


def row(scenario: str, server: str, m: Measured) -> tuple[str, ...]:
    answers = f"{len(m.done)} of {len(m.heard)}"
    if not m.done:
        return (scenario, server, answers, *["–"] * (len(COLUMNS) - 3))
    with_gaps = any(h.gaps for h in m.done)
    return (
        scenario,
        server,
        answers,
        f"{statistics.mean(h.tokens for h in m.done):.0f}",
        f"{m.generated:.1f}",
        f"{m.total:.0f}",
        f"{m.first_s(0.5):.2f} / {m.first_s(0.99):.2f} s",
        f"{m.gap_s(0.5) * 1000:.0f} / {m.gap_s(0.99) * 1000:.0f} ms" if with_gaps else "–",
        f"{m.cpu_s / m.wall_s:.2f}",
    )


def markdown(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(table: Table, command: str, threads: int, notes: Sequence[str]) -> str:
    prompts = [h.prompt_tokens for m in table.values() for h in m.done if h.prompt_tokens]
    length = f"{statistics.mean(prompts):.0f}" if prompts else "?"
    same, compared, unequal = agreement(table)
    options = " ".join(llama_options(SLOTS, CONTEXT, threads, LLAMA_OPTIONS))
    lengths = "equal" if not unequal else f"unequal for {unequal} prompts"
    return f"""# Many readers at once

Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores ({processor()}), without a GPU:
`kura infer` beside llama-server (`{options}`), built from the llama.cpp source inside
llama-cpp-python's archive. {" ".join(notes)}

Same GGUF, same prompts (about {length} tokens, nothing in common but the system prompt), up to
{LIMIT} tokens out, greedy, {threads} threads, both on a Unix socket. A fixed number of requests, so many
readers at a time, each asking again when answered. The servers take turns in ABBA order, with
prompts not asked before; all others are stopped by a signal while one computes.

{markdown([row(scenario, server, m) for (scenario, server), m in table.items()])}

"Between tokens" is between pieces of text as they arrive. p99 of so few first tokens is nearly
the slowest one. "Cores used" tells what the server really had: this machine is shared with
others, so look at ratios. Prompts were counted {lengths} by both; {same} of {compared} answers are
word for word the same as llama-server's (as far as the shorter goes; other batches round
otherwise). llama_cpp.server got fewer requests, since it takes them one by one. Drafts that were right arrive together: gaps of no length. Where an answer has fewer
than {LIMIT} tokens, the server ended it by itself, and its "generated/s" looks worse than it is:
compare "all tokens/s".
"""


def tune(program: Path, threads: int, n: int) -> None:
    """llama-server with each of VARIANTS, at 8 readers, one after the other and back."""
    made, rows = Prompts(), []
    every = {
        name: (Scenario(LATENCY, 8, (made.some(n), made.some(n))), Measured(), Measured())
        for name in VARIANTS
    }
    shared = (made.half_shared(n), made.half_shared(n))
    for number, names in enumerate((list(every), list(every)[::-1])):
        for name in names:
            (options, more), (scenario, apart, mixed) = VARIANTS[name], every[name]
            sizes = {"slots": SLOTS, "context": CONTEXT, "threads": threads}
            with llama(program, **sizes, options=options, more=more) as server:
                turn(server, 8, scenario.rounds[number], apart)
                turn(server, 8, shared[number], mixed)
            llama_server.say(f"{name}: {apart.generated:.1f} and {mixed.generated:.1f}")
    for name, (_, apart, mixed) in every.items():
        rows.append((*row("8", name, apart), f"{mixed.generated:.1f}"))
    print(markdown(rows, (*COLUMNS, "half shared: generated/s")))


def main() -> None:
    parser = argparse.ArgumentParser(description="`kura infer` beside llama-server.")
    parser.add_argument("--quick", action="store_true", help="two minutes: 1 and 4 readers")
    parser.add_argument("--tune", action="store_true", help="compare llama-server's options, stop")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="default: docs/en/serve.md, or none with --quick")
    parser.add_argument("--cache", type=Path, default=llama_server.CACHE)
    parser.add_argument("--checkout", type=Path, help="run `kura infer` of another checkout")
    parser.add_argument("--kura-env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--llama-env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--without", action="append", default=[], choices=[PYTHON])
    options = parser.parse_args()
    end_cleanly()
    program = llama_server.program(options.cache)
    if options.tune:
        tune(program, options.threads, 8 if options.quick else 16)
        return
    more, theirs = (
        dict(pair.split("=", 1) for pair in pairs)
        for pairs in (options.kura_env, options.llama_env)
    )
    sizes = {"slots": SLOTS, "context": CONTEXT, "threads": options.threads}
    set_for_llama = sorted((LLAMA_ENVIRONMENT | theirs).items())
    notes = [f"Its environment: `{' '.join('='.join(pair) for pair in set_for_llama)}`."]
    if more:
        notes.append(f"Set for `{KURA}`: `{' '.join(options.kura_env)}`.")
    with ExitStack() as stack:
        servers = [stack.enter_context(llama(program, **sizes, more=theirs))]
        servers.insert(0, stack.enter_context(kura(**sizes, checkout=options.checkout, more=more)))
        if PYTHON in options.without:
            notes.append(f"{PYTHON} was left out.")
        elif (place := python_server_place(options.cache)) is None:
            notes.append(f"{PYTHON} was not available.")
        else:
            servers.append(
                stack.enter_context(python_server(place, context=CONTEXT, threads=options.threads))
            )
        every = scenarios(QUICK, 0) if options.quick else scenarios(REQUESTS, SHARED_REQUESTS)
        table = measure(servers, every)
    fill_prompt_tokens(table)
    command = "make bench-serve" + (" (quick)" if options.quick else "")
    page = report(table, command, options.threads, notes)
    out = options.out or (None if options.quick else Path("docs/en/serve.md"))
    if out:
        out.write_text(page, "utf-8")
    print(page)
    print(json.dumps(ratios(table)))


if __name__ == "__main__":
    main()
