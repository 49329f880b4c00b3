"""How long a backup and a restore take, and how much of a second backup is new.

python -m tests.bench.backup [--documents 10000] [--page docs/en/backup.md]

A site of made-up papers whose vectors have the size of the default embedder's, with uploads beside
it, in a folder that is thrown away. Every step is the command that an administrator types. Between
the two backups one document in a hundred changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import event

from appliance.backup import schedule
from appliance.ingest.sync import sync
from appliance.store import database, sources
from appliance.testing.fakes import MemoryConnector
from appliance.types import Access, Vectors
from tests import pages
from tests.backup import site
from tests.backup.site import Home

DIM = 384
CHARS = 3000  # of a document
UPLOADS, UPLOAD_BYTES = 100, 1_000_000
HEAD = """# Backup and restore: time and size

Written by the command below, with the commands that an administrator types. `rows and files` is
what a backup holds before it is made smaller; a second one is made after one document in a hundred
has changed. `verify --restore` restores all of it on trial and compares every table.
"""


class Noise:
    """Vectors as large, and as hard to make smaller, as real ones."""

    name, dim = "noise", DIM

    def embed(self, texts: Sequence[str], role: Any) -> Vectors:
        made = [self._vector(text) for text in texts]
        return np.stack(made) if made else np.zeros((0, DIM), np.float32)

    def _vector(self, text: str) -> Any:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
        return vector / np.linalg.norm(vector)


def paper(n: int, edition: int = 1) -> str:
    dice = random.Random(n * 7 + edition)
    words = (
        "出張",
        "宿泊費",
        "上限",
        "承認",
        "部長",
        "申請",
        "規程",
        "期限",
        "月額",
        "手当",
        "倉庫",
    )
    text = f"第{n}号 第{edition}版。"
    while len(text) < CHARS:
        text += f"{dice.choice(words)}の{dice.choice(words)}は{dice.randint(1, 99999)}とする。"
    return text


def papers(many: int, changed: int = 0) -> dict[str, tuple[str, Access]]:
    return {
        f"規程/{n:06}.txt": (paper(n, 2 if n < changed else 1), site.PUBLIC) for n in range(many)
    }


def measure(home: Home, many: int, say: Callable[[str], None]) -> dict[str, Any]:
    site.make(home, 2)
    settings = home.settings
    for n in range(UPLOADS):
        folder = settings.data / "uploads" / f"bench{n}"
        folder.mkdir()
        (folder / "content").write_bytes(random.Random(n).randbytes(UPLOAD_BYTES))
    engine = database.connect(settings.database_url)
    event.listen(
        engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF")
    )  # to save time
    source = sources.create(engine, "書庫", "memory", {})
    say(f"taking in {many} documents")
    sync(engine, source, MemoryConnector(dict(papers(many))), Noise(), site.parse, settings)
    found: dict[str, Any] = {"documents": many}
    key = ("--key", home.folder / "鍵.txt")

    def timed(name: str, run: Callable[[], Any]) -> Any:
        say(name)
        began = time.monotonic()
        out = run()
        found[f"{name}_s"] = round(time.monotonic() - began, 1)
        return out

    first = timed("first", lambda: home.told("backup", "create"))
    found |= {"rows": sum(first["rows"].values()), "chunks": first["rows"]["chunk"]}
    found |= {"bytes": first["bytes"], "stored_bytes": first["stored_bytes"]}
    found["parts"] = first["parts"]
    again = timed("unchanged", lambda: home.told("backup", "create"))
    found["unchanged_new_bytes"] = again["new_bytes"]
    changed = MemoryConnector(dict(papers(many, max(1, many // 100))))
    sync(engine, source, changed, Noise(), site.parse, settings)
    assert schedule.outcome(engine)
    engine.dispose()
    second = timed("second", lambda: home.told("backup", "create"))
    found["second_new_bytes"] = second["new_bytes"]
    timed("verify", lambda: home.told("backup", "verify"))
    timed("trial", lambda: home.told("backup", "verify", "--restore", *key))
    other = Home(home.folder, name="別のマシン")
    timed("restore", lambda: other.told("restore", home.backups, *key))
    same = site.facts(other.settings.database_url) == site.facts(settings.database_url)
    found["equal"] = same and site.files(other.data) == site.files(home.data)
    return found


def text(found: dict[str, Any]) -> str:
    size, stored = found["bytes"], found["stored_bytes"]

    def row(name: str, key: str) -> str:
        took = found[f"{key}_s"]
        return f"| {name} | {took:.0f} s | {size / 1e6 / took:.0f} MB/s | {took * 1e10 / size / 60:.0f} min |"

    lines = [
        f"{found['documents']:,} documents, {found['chunks']:,} chunks with vectors of {DIM}, "
        f"{UPLOADS} uploads: rows and files {size / 1e6:,.0f} MB, stored {stored / 1e6:,.0f} MB "
        f"in {found['parts']:,} parts.",
        "",
        "| step | took | of rows and files | for 10 GB |",
        "|---|---|---|---|",
        row("first `kura backup create`", "first"),
        row("another, nothing changed", "unchanged"),
        row("another, 1 % of documents changed", "second"),
        row("`kura backup verify`", "verify"),
        row("`kura backup verify --restore`", "trial"),
        row("`kura restore`", "restore"),
        "",
        f"New bytes: {share(found, 'unchanged')} of the first where nothing changed, "
        f"{share(found, 'second')} where one document in a hundred did. "
        f"Every table and file after the restore is {'the same' if found['equal'] else '**another**'}.",
    ]
    return "\n".join([*lines, ""])


def share(found: dict[str, Any], name: str) -> str:
    return f"{found[f'{name}_new_bytes'] / found['stored_bytes']:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--page", type=Path, help="write it into this page: docs/en/backup.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kura-bench-") as folder:
        found = measure(Home(Path(folder)), options.documents, print)
    print(json.dumps(found))
    if options.page:
        command = f"python -m tests.bench.backup --documents {options.documents}"
        pages.section(options.page, HEAD, f"{options.documents} documents", command, text(found))


if __name__ == "__main__":
    main()
