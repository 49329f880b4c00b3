"""What a copy costs: the same file many times, each for somebody else, beside as many different ones.

    python -m tests.bench.copies [--files 2000] [--chars 6000]

The parsers are real, in their sandbox; the embedder is one that hashes, of 384 numbers as the default
one, so that the seconds are those of Kura and not of a model: `embedded` says how many texts a model
would have had to read. Bytes are those of the database file, its free pages aside.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine

from appliance.formats.sandbox import Sandbox
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import database, sources
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from appliance.types import Access, Document, Layer, Principal, RawFile


class Counting:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.count = sandbox, 0

    def __call__(self, file: RawFile) -> tuple[Document, str]:
        self.count += 1
        return self.sandbox.parse(file)


def paper(seed: int, chars: int) -> str:
    """Articles of some 300 characters that all differ, so that no vector is another's."""
    return "\n".join(
        f"第{n}条 "
        + "".join(
            f"出張{seed}の{n}の{m}の場合の宿泊費は一泊{n + seed}千円を上限とし、日当は{n * m + seed}百円とする。"
            "ただし所属長が前もって認めた場合はこの限りでない。"
            for m in range(4)
        )
        for n in range(chars // 300)
    )


def only(n: int) -> Access:
    return (Layer(frozenset({Principal(f"user:u{n}")})),)


def files(kind: str, count: int, chars: int) -> Iterator[tuple[str, tuple[str, Access]]]:
    for n in range(count):
        name = f"規程{n}.txt" if kind == "copies, each by another name" else "規程.txt"
        seed = n if kind == "different files" else 0
        yield f"棚/{n:06}/{name}", (paper(seed, chars), only(n))


def size(engine: Engine) -> int:
    with engine.connect() as connection:
        pages, free, each = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * each


def main() -> None:
    parser = argparse.ArgumentParser(description="What a copy costs.")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--chars", type=int, default=6000)
    options = parser.parse_args()
    print(
        "| | seconds | of `kura work` on a core | parsed | embedded | bytes of the database a file |\n|---|---|---|---|---|---|"
    )
    for kind in ("different files", "copies", "copies, each by another name"):
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(data=Path(folder))
            engine = database.connect(f"sqlite:///{folder}/kura.db")
            database.migrate(engine)
            empty, embedder = size(engine), HashEmbedder(384)
            source = sources.create(engine, "棚", "memory", {})
            connector = MemoryConnector(dict(files(kind, options.files, options.chars)))
            with Sandbox(settings) as sandbox:
                parse, began, busy = Counting(sandbox), time.monotonic(), time.process_time()
                sync(engine, source, connector, embedder, parse, settings)
                took, busy = time.monotonic() - began, time.process_time() - busy
            embedded = sum(len(texts) for _, texts in embedder.calls)
            each = (size(engine) - empty) // options.files
            print(
                f"| {kind} | {took:.0f} | {busy:.0f} | {parse.count:,} | {embedded:,} | {each:,} |",
                flush=True,
            )
            engine.dispose()


if __name__ == "__main__":
    main()
