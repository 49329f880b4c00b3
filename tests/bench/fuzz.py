"""Harmed files by the thousand through the real sandbox; the counts add up in docs/en/fuzz.md.

    python -m tests.bench.fuzz -n 100000 --seed 1 [--kept FOLDER] [--workers 2] [--page docs/en/fuzz.md]

Each is a file of seeds.py, harmed by mutation.py. One in ten is read as a source's file is, by a child
of its own; the others share a child, one after another (several.py), and are read alone as well if
they end as anything but an answer or a refusal with a reason: then that counts. One that kills its
child twice, takes too long or makes a parser fall over its own feet is kept for reproduction (its
number and the seed make it again). Meanwhile the children are watched: a process of theirs, a
descriptor beyond their five, a touched canary is an escape.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from tests.bench import endings, several
from tests.bench.endings import ENDINGS
from tests.bench.mutation import mutated
from tests.bench.seeds import Stock, stock

_SHARE = 50  # numbers that are harmed and put together
_ALONE = 10  # one in so many has a child of its own
_PATIENCE = 20  # times the limit by the clock, for a second try on a busy machine
_DESCRIPTORS = {"0", "1", "2", "3", "4"}
_LOOK_S = 0.1
_QUIET_S = 10.0
_TOLD = 1000  # files between two lines of progress
_ROW = re.compile(r"^\| (\d{4}-\d\d-\d\d) \|(.*)\|$", re.MULTILINE)
_KIND_ROW = re.compile(r"^\| ([a-z]+/\S+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)
_NAMES = ("date", "seed", "files", "alone", *ENDINGS, "escapes", "looks", "seconds", "machine", "command")  # fmt: skip
_KIND_NAMES = ("kind before it was harmed", "files", "answered", "refused")


@dataclass
class Counts:
    done: int = 0
    alone: int = 0  # of them had a child of their own
    endings: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)  # and how it ended
    reasons: Counter[str] = field(default_factory=Counter)
    escapes: list[str] = field(default_factory=list)
    looks: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    number: int
    name: str
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    how: str
    why: str
    alone: bool


class Watch(threading.Thread):
    """Looks at the children of the parsers' process while they run."""

    def __init__(self, sandbox: Sandbox, escapes: list[str]) -> None:
        super().__init__(daemon=True)
        self._sandbox, self._escapes = sandbox, escapes
        self.over = threading.Event()
        self.seen = 0

    def run(self) -> None:
        while not self.over.wait(_LOOK_S):
            zygote = self._sandbox.pid
            for child in _children(zygote) if zygote else ():
                self._look(child)

    def _look(self, child: int) -> None:
        here = Path(f"/proc/{child}")
        try:
            if "\nSeccomp:\t2" not in (here / "status").read_text():
                return  # its walls are not up yet
            opened = {p.name for p in (here / "fd").iterdir()}
        except OSError:  # it is over
            return
        self.seen += 1
        if more := opened - _DESCRIPTORS:
            self._escapes.append(f"descriptors {sorted(more)}")
        if born := _children(child):
            self._escapes.append(f"{len(born)} processes")


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def canaries() -> Iterator[list[Path]]:
    """Files that anybody may write; what changed is in none of them afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        files = [Path(folder) / n for n in ("鍵.txt", "kura.db")]
        for file in files:
            file.write_text("canary")
            file.chmod(0o666)
        yield files


def touched(files: Sequence[Path]) -> bool:
    present = set(files[0].parent.iterdir())
    return present != set(files) or any(f.read_text() != "canary" for f in files)


def harmed(number: int, seed: int, among: Stock) -> Case:
    """The file of that number, always the same for a seed and a stock."""
    rng = random.Random(f"{seed}:{number}")
    chosen = among.chosen(rng)
    return Case(number, chosen.name, chosen.kind, mutated(chosen.data, rng, among.contents))


@dataclass(frozen=True, slots=True)
class Cages:
    alone: Sandbox
    together: Sandbox
    slow: Sandbox  # for a busy machine, or a file that has no end

    def ends(self, cases: Sequence[Case]) -> Iterator[tuple[Case, End]]:
        sharing = [c for c in cases if c.number % _ALONE]
        shared = several.put(self.together, [(c.name, c.data) for c in sharing])
        told = {c.number: end for c, end in zip(sharing, shared, strict=True)}
        for case in cases:
            end = told.get(case.number)
            if end and end[0] in ("answered", "refused"):
                yield case, End(*end, alone=False)
            else:
                yield case, End(*self._alone(case), alone=True)

    def _alone(self, case: Case) -> endings.Ending:
        end = endings.alone(self.alone, case.name, case.data)
        return endings.alone(self.slow, case.name, case.data) if end[0] == "late" else end

    def all(self) -> tuple[Sandbox, ...]:
        return self.alone, self.together, self.slow


def fuzz(
    among: Stock, count: int, seed: int, kept: Path, workers: int, seconds: float = 0
) -> Counts:
    counts, lock = Counts(), threading.Lock()
    began = time.monotonic()

    def some(first: int) -> None:
        if seconds and time.monotonic() - began > seconds:
            return
        cases = [harmed(n, seed, among) for n in range(first, min(first + _SHARE, count))]
        for case, end in cages.ends(cases):
            with lock:
                _count(counts, case, end)
                _keep(kept, seed, case, end)
                if counts.done % _TOLD == 0:
                    speed = counts.done / (time.monotonic() - began)
                    print(counts.done, dict(counts.endings), f"{speed:.1f}/s", flush=True)

    with opened() as cages, watched(cages, counts), ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(some, range(0, count, _SHARE)):
            pass
    return counts


def _count(counts: Counts, case: Case, end: End) -> None:
    counts.done += 1
    counts.alone += end.alone
    counts.endings[end.how] += 1
    counts.kinds[case.kind, end.how] += 1
    counts.reasons[re.sub(r"\d[\d,]*", "N", end.why)[:80]] += 1


def _keep(kept: Path, seed: int, case: Case, end: End) -> None:
    if end.how in ("answered", "refused"):
        return
    kept.mkdir(parents=True, exist_ok=True)
    (kept / f"{end.how}-{seed}-{case.number}-{case.name}").write_bytes(case.data)
    with (kept / "reasons.txt").open("a", encoding="utf-8") as log:
        log.write(f"{end.how}\t{seed}\t{case.number}\t{case.name}\t{end.why}\n")


@contextmanager
def opened() -> Iterator[Cages]:
    limit = Settings(data=Path("fuzz"), parse_seconds=20)
    with (
        Sandbox(limit) as alone,
        Sandbox(limit, module=several.MODULE, patience=_PATIENCE) as together,
        Sandbox(limit, patience=_PATIENCE) as slow,
    ):
        yield Cages(alone, together, slow)


@contextmanager
def watched(cages: Cages, counts: Counts) -> Iterator[None]:
    """What escapes meanwhile, or goes on afterwards, is counted."""
    with canaries() as alive:
        watches = [Watch(cage, counts.escapes) for cage in cages.all()]
        for watch in watches:
            watch.start()
        yield
        for watch in watches:
            watch.over.set()
            watch.join()
        counts.looks = sum(w.seen for w in watches)
        if touched(alive):
            counts.escapes.append("a canary changed")
        counts.escapes += ["a child goes on" for cage in cages.all() if not _quiet(cage)]


def _quiet(cage: Sandbox) -> bool:
    until = time.monotonic() + _QUIET_S
    while cage.pid and _children(cage.pid):  # one that was killed takes a moment
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


def write(page: Path, counts: Counts, seed: int, took_s: float, command: str) -> None:
    """The page with a row more, its words as they are; its sums are made from the rows."""
    from tests.quality.__main__ import cores, processor

    text = page.read_text("utf-8") if page.exists() else "# Harmed files\n"
    held = [[day, *(c.strip() for c in rest.split("|"))] for day, rest in _ROW.findall(text)]
    numbers = [counts.done, counts.alone, *(counts.endings[e] for e in ENDINGS)]
    numbers += [len(counts.escapes), counts.looks, round(took_s)]
    machine = f"{cores()} cores ({processor()})"
    told = (f"{n:,}" for n in numbers)
    held.append([f"{datetime.now(UTC):%Y-%m-%d}", str(seed), *told, machine, f"`{command}`"])
    columns = range(2, 2 + len(numbers))
    sums = (f"{sum(int(row[n].replace(',', '')) for row in held):,}" for n in columns)
    total = ["**all**", "", *sums, "", ""]
    words = text.partition(f"| {_NAMES[0]} |")[0].rstrip("\n")
    tables = (_table(_NAMES, [*held, total]), _table(_KIND_NAMES, _kinds(text, counts)))
    page.write_text("\n\n".join((words, *tables)) + "\n", "utf-8")


def _kinds(text: str, counts: Counts) -> list[list[str]]:
    """Of the page's runs that counted by kind, and of this one."""
    sums = {kind: Counter[str]() for kind, _ in sorted(counts.kinds)}
    for kind, *before in _KIND_ROW.findall(text):
        figures = (int(n.replace(",", "")) for n in before)
        sums.setdefault(kind, Counter()).update(dict(zip(_KIND_NAMES[1:], figures, strict=True)))
    for (kind, how), times in counts.kinds.items():
        sums[kind].update({"files": times, how: times})
    return [[kind, *(f"{sums[kind][n]:,}" for n in _KIND_NAMES[1:])] for kind in sorted(sums)]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.fuzz")
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0, help="stop after, 0: never")
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "kura-fuzz")
    parser.add_argument(
        "--without", nargs="*", default=[], help="names of files that are not harmed"
    )
    parser.add_argument("--page", type=Path)
    chosen = parser.parse_args()
    began = time.monotonic()
    among = stock(chosen.without)
    counts = fuzz(among, chosen.n, chosen.seed, chosen.kept, chosen.workers, chosen.seconds)
    took, core_s = time.monotonic() - began, _core_seconds()
    print(counts.done, dict(counts.endings), counts.escapes, f"{took:.0f} s")
    print(f"{counts.alone} alone, {1000 * core_s / max(1, counts.done):.1f} s of a core for 1,000")
    for reason, times in counts.reasons.most_common(40):
        print(f"{times:7} {reason}")
    if chosen.page:
        command = f"python -m tests.bench.fuzz -n {chosen.n} --seed {chosen.seed}"
        if chosen.seconds:
            command += f" --seconds {chosen.seconds:.0f}"
        if chosen.without:
            command += f" --without {' '.join(chosen.without)}"
        write(chosen.page, counts, chosen.seed, took, command)


def _core_seconds() -> float:
    """Of this process and of all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    main()
