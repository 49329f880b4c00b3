"""Harmed files by the thousand through the real sandbox; the counts add up in docs/en/fuzz.md.

    python -m tests.bench.fuzz -n 100000 --seed 1 [--kept FOLDER] [--workers 2] [--page docs/en/fuzz.md]

Each is a file of tests/corpus, harmed by mutation.py. It ends as an answer or as a refusal with a
reason; one that kills its child twice, takes too long or makes a parser fall over its own feet is
kept for reproduction (its number and the seed make it again). Meanwhile the children are watched:
a process of theirs, a descriptor beyond their five, a touched canary is an escape.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from appliance.errors import PasswordNeeded, TooLarge, Transient, Unreadable
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.types import NOBODY, RawFile
from tests.bench.mutation import mutated

CORPUS = Path(__file__).parents[1] / "corpus"
ENDINGS = ("answered", "refused", "stumbled", "memory", "late", "died", "lost")
_LARGEST = 400_000  # bytes of a file that is harmed: the others only take time
_PATIENCE = 20  # times the limit by the clock, for a second try on a busy machine
_DESCRIPTORS = {"0", "1", "2", "3", "4"}
_LOOK_S = 0.1
_QUIET_S = 10.0
_ROW = re.compile(r"^\| (\d{4}-\d\d-\d\d) \|(.*)\|$", re.MULTILINE)
HEAD = """# Harmed files

Files of `tests/corpus`, harmed at random by `tests/bench/mutation.py` (bits flipped, cut, spliced with
others, lengths and numbers that lie, chunks doubled, members of zips edited and packed again), each
put through the sandbox as a source would. *Answered*: text came of it. *Refused*: a sentence for the
administrator. *Stumbled*: a parser raised what it should not have; the file is refused all the same.
*Memory*, *late*: the child met its limit. *Died*: two children ended without an answer. *Lost*: the
parsers' process itself went away. *Escapes*: a child had a process, an open file or a connection that
is not its own, or a canary file changed.

Found by the first run, mended since, each with its test: a cell whose place no sheet has let the reader
of Excel ask for 2.7 TB (died); a reader that panics over a torn .xls, a null in a charset's name, half
a letter in a PDF's title, a file without a name in a zip (stumbled); a slide or a chapter named
thousands of times (late), a PDF that grows without end by its forms or its letters (memory, late), a
thousand letters without a sign at the end of a page (stumbled), a row with a number of nineteen digits
(died). By the run of seed 5: a list in the summary of a .doc that says it has a thousand million members
(late), a compound file whose root lies in itself (stumbled). That run was to be of 100,000 and was ended
after 70 minutes, for the machine was busy (load 11 to 39; alone one core does about 40 files a second);
its second *late* is a file that takes 1.1 s of a core. 100,000 in one go are still to be shown.
"""


@dataclass
class Counts:
    endings: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    escapes: list[str] = field(default_factory=list)


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


def papers(without: Sequence[str]) -> list[Path]:
    """What is harmed, in an order that stays."""
    files = sorted(p for p in CORPUS.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc"))
    left_out = {"expected.json", *without}
    return [p for p in files if p.stat().st_size <= _LARGEST and p.name not in left_out]


def harmed(
    number: int, seed: int, files: Sequence[Path], contents: Sequence[bytes]
) -> tuple[str, bytes]:
    """The file of that number, always the same for a seed and a corpus."""
    rng = random.Random(f"{seed}:{number}")
    n = rng.randrange(len(files))
    return files[n].name, mutated(contents[n], rng, contents)


def ending(sandbox: Sandbox, name: str, data: bytes) -> tuple[str, str]:
    """How it ended, and the reason where there is one."""
    opened = partial(io.BytesIO, data)
    try:
        sandbox.parse(RawFile(name, "1", opened, NOBODY, name, datetime(2026, 4, 1, tzinfo=UTC)))
    except Transient as error:
        return "lost", str(error)
    except (Unreadable, TooLarge, PasswordNeeded) as error:
        said = str(error)
        if "異常終了" in said:
            return "died", said
        if "秒で終わりません" in said:
            return "late", said
        if "メモリの上限" in said:
            return "memory", said
        return ("stumbled" if "解析できません (" in said else "refused"), said
    return "answered", ""


def fuzz(
    files: Sequence[Path], count: int, seed: int, kept: Path, workers: int, seconds: float
) -> tuple[Counts, int, int]:
    """Counts, how many were done, and how often a child was looked at."""
    contents = [p.read_bytes() for p in files]
    counts, done, lock = Counts(), 0, threading.Lock()
    began = time.monotonic()
    limit = Settings(data=Path("fuzz"), parse_seconds=20)
    with (
        canaries() as alive,
        Sandbox(limit) as sandbox,
        Sandbox(limit, patience=_PATIENCE) as slow,
    ):
        watches = [Watch(s, counts.escapes) for s in (sandbox, slow)]
        for watch in watches:
            watch.start()

        def one(number: int) -> None:
            nonlocal done
            if seconds and time.monotonic() - began > seconds:
                return
            name, data = harmed(number, seed, files, contents)
            how, why = ending(sandbox, name, data)
            if how == "late":  # a busy machine, or a file that has no end
                how, why = ending(slow, name, data)
            with lock:
                done += 1
                counts.endings[how] += 1
                counts.reasons[re.sub(r"\d[\d,]*", "N", why)[:80]] += 1
                if how in ("stumbled", "memory", "late", "died", "lost"):
                    kept.mkdir(parents=True, exist_ok=True)
                    (kept / f"{how}-{seed}-{number}-{name}").write_bytes(data)
                    with (kept / "reasons.txt").open("a", encoding="utf-8") as log:
                        log.write(f"{how}\t{seed}\t{number}\t{name}\t{why}\n")
                if done % 500 == 0:
                    print(
                        done,
                        dict(counts.endings),
                        f"{done / (time.monotonic() - began):.1f}/s",
                        flush=True,
                    )

        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(one, range(count)):
                pass
        for watch in watches:
            watch.over.set()
            watch.join()
        if touched(alive):
            counts.escapes.append("a canary changed")
        for left in (sandbox, slow):
            until = time.monotonic() + _QUIET_S
            while left.pid and _children(left.pid):  # one that was killed takes a moment
                if time.monotonic() > until:
                    counts.escapes.append("a child goes on")
                    break
                time.sleep(_LOOK_S)
    return counts, done, sum(w.seen for w in watches)


def write(
    page: Path, counts: Counts, done: int, looks: int, seed: int, took_s: float, command: str
) -> None:
    """The page with a row more; its sum is made from the rows."""
    from tests.quality.__main__ import cores, processor

    rows = _ROW.findall(page.read_text("utf-8")) if page.exists() else []
    held = [[day, *(c.strip() for c in rest.split("|"))] for day, rest in rows]
    machine = f"{cores()} cores ({processor()})"
    numbers = [done, *(counts.endings[e] for e in ENDINGS), len(counts.escapes), looks]
    held.append(
        [
            f"{datetime.now(UTC):%Y-%m-%d}",
            str(seed),
            *(f"{n:,}" for n in numbers),
            f"{took_s:,.0f}",
            machine,
            f"`{command}`",
        ]
    )
    names = ["date", "seed", "files", *ENDINGS, "escapes", "looks", "seconds", "machine", "command"]
    sums = [
        sum(int(row[n].replace(",", "")) for row in held) for n in range(2, 3 + len(ENDINGS) + 3)
    ]
    total = ["**all**", "", *(f"{n:,}" for n in sums), "", ""]
    lines = [names, ["---"] * len(names), *held, total]
    page.write_text(HEAD + "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines), "utf-8")


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
    counts, done, looks = fuzz(
        papers(chosen.without), chosen.n, chosen.seed, chosen.kept, chosen.workers, chosen.seconds
    )
    took = time.monotonic() - began
    print(done, dict(counts.endings), counts.escapes, f"{took:.0f} s")
    for reason, times in counts.reasons.most_common(40):
        print(f"{times:7} {reason}")
    if chosen.page:
        command = f"python -m tests.bench.fuzz -n {chosen.n} --seed {chosen.seed}"
        if chosen.seconds:
            command += f" --seconds {chosen.seconds:.0f}"
        if chosen.without:
            command += f" --without {' '.join(chosen.without)}"
        write(chosen.page, counts, done, looks, chosen.seed, took, command)


if __name__ == "__main__":
    main()
