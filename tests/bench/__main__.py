"""How quick it is on this machine, through the door people use: `make bench`.

python -m tests.bench [--data FOLDER] [--out docs/en/bench.md] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.quality.__main__ import cores, processor
from tests.quality.company import Company, golden, running

PROCESSES = ("infer", "web", "work")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure start, search, first token, memory.")
    parser.add_argument("--data", type=Path, help="a data folder to use again")
    parser.add_argument("--out", type=Path, default=Path("docs/en/bench.md"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        data = options.data or Path(fresh)
        with running(data) as company:
            loaded_s = company.loaded_s
            status = company.person("kobayashi").http.get("/api/v1/admin/status").json()
        with running(data) as company:  # a second start: from snapshots
            rows = [
                ("documents / chunks", f"{status['documents']} / {status['chunks']}"),
                ("taking the documents in, first start", f"{loaded_s:.0f} s"),
                ("start until a question may be asked", f"{company.ready_s:.1f} s"),
                *measure(company, options.rounds),
            ]
    options.out.write_text(report(rows), "utf-8")
    print(options.out.read_text("utf-8"))


def measure(company: Company, rounds: int) -> list[tuple[str, str]]:
    questions = [q for q in golden() if q.kind == "answerable"]
    for question in questions[:3]:  # warm
        company.person(question.viewer).ask(question.question)
    searches, firsts, wholes = [], [], []
    for _ in range(rounds):
        for question in questions:
            person = company.person(question.viewer)
            began = time.perf_counter()
            person.search(question.question)
            searches.append(time.perf_counter() - began)
    for question in questions:
        began, first = time.perf_counter(), 0.0
        for name, _ in company.person(question.viewer).events(question.question):
            if name == "piece" and not first:
                first = time.perf_counter() - began
        firsts.append(first)
        wholes.append(time.perf_counter() - began)
    memory = [(name, resident_mb(company.pid(name))) for name in PROCESSES]
    return [
        (f"search alone, p50 / p95 ({len(searches)})", milliseconds(searches)),
        (f"first words of an answer, p50 / p95 ({len(firsts)})", seconds(firsts)),
        (f"whole answer, p50 / p95 ({len(wholes)})", seconds(wholes)),
        *((f"resident memory of {name}", f"{size:.0f} MB") for name, size in memory),
    ]


def resident_mb(pid: int) -> float:
    """Of a process and its children."""
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("VmRSS"):
            threads = Path(f"/proc/{pid}/task").iterdir()
            children = [c for t in threads for c in (t / "children").read_text().split()]
            return int(row.split()[1]) / 1024 + sum(resident_mb(int(c)) for c in children)
    raise AssertionError(f"no such process: {pid}")


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def milliseconds(values: Sequence[float]) -> str:
    return f"{quantile(values, 0.5) * 1000:.0f} / {quantile(values, 0.95) * 1000:.0f} ms"


def seconds(values: Sequence[float]) -> str:
    return f"{quantile(values, 0.5):.2f} / {quantile(values, 0.95):.2f} s"


def report(rows: Sequence[tuple[str, str]]) -> str:
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""# How quick it is

Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}, on {cores()} cores ({processor()}), without a GPU,
with the default models and the sample company. One person, over HTTP on loopback; "first
words" counts from the request, so searching and reading the prompt are in it. The machine is
shared with others: look at ratios before small differences.

| what | measured |
|---|---|
{table}
"""


if __name__ == "__main__":
    main()
