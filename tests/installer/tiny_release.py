"""A release small enough to be upgraded a hundred times: the verbs that `kura-installer` asks for, on SQLite.

    tiny_release.py VERSION REVISION BEHAVIOUR… verb…

What of it is real: the file of the database, its locks and its migration. The full appliance goes
the same way in test_upgrade.py; here it is only the moves between releases that are looked at.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path

SERVES = "serves.lock"  # in the data folder: the version that does


def main(version: str, revision: int, behaviour: set[str], words: list[str]) -> None:
    data = Path(os.environ["KURA_DATA"])
    path = Path(os.environ.get("KURA_DATABASE_URL", f"sqlite:///{data / 'kura.db'}")[10:])
    if "--wait" in words:
        words.remove("--wait")
        print("ready", flush=True)
        if not sys.stdin.readline():
            sys.exit("nobody asks any more")
    match words:
        case ["up"]:
            up(data, path, version, revision)
        case ["infer", *plan]:
            if "no-models" in behaviour:
                sys.exit("kura: f: weights is missing")
            lacking = "--beside" in plan and "small" in behaviour
            print(json.dumps({"refusal": "メモリーが 1 GB 足りません。" if lacking else ""}))
        case ["release", "facts"]:
            print(json.dumps({"version": version, "revisions": [f"{n:04}" for n in range(revision, 0, -1)], **embedders(data, behaviour), "data": str(data), "database": str(path), "postgresql": False, "infer_socket": "i", "secrets_key": str(data / "secrets.key"), "log": "kura.log", **state(path)}))  # fmt: skip
        case ["release", "copy", target]:
            with sqlite3.connect(path) as old, sqlite3.connect(target) as new:
                old.backup(new)
            print("{}")
        case ["release", "settle"]:
            told = state(path)
            db = sqlite3.connect(path)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.close()
            print(json.dumps(told))
        case ["release", "migrate", *_]:
            migrate(path, revision, behaviour)
            print("{}")
        case ["release", "isolate"]:
            print("{}")
        case ["release", "check", *options]:
            check(data, options, behaviour)
        case _:
            sys.exit(f"no {words}")


def embedders(data: Path, behaviour: set[str]) -> dict[str, object]:
    """`embedder=…`, `knows=…,…`, `dim=…`; whose vectors are searched is in a file of the data folder."""
    told = {"embedder": "e", "knows": "", "dim": "4"}
    told |= dict(one.split("=") for one in behaviour if "=" in one)
    place = data / "searched-by"
    return {
        "embedder": told["embedder"],
        "embedders": [one for one in told["knows"].split(",") if one],
        "dim": int(told["dim"]),
        "searched_by": place.read_text() if place.exists() else "",
    }


def state(path: Path) -> dict[str, object]:
    with sqlite3.connect(path) as db:
        count = db.execute("SELECT count(*) FROM document").fetchone()[0]
        rows = {"document": count, "chunk": count}
        found = db.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    db.close()
    return {"revision": found, "rows": rows}


def migrate(path: Path, revision: int, behaviour: set[str]) -> None:
    with sqlite3.connect(path) as db:
        (now,) = db.execute("SELECT version_num FROM alembic_version").fetchone()
        for n in range(int(now) + 1, revision + 1):
            db.execute(f"CREATE TABLE later_{n} (id INTEGER)")
        db.execute("UPDATE alembic_version SET version_num = ?", (f"{revision:04}",))
        if "migration" in behaviour:
            sys.exit("the migration fails")
        if "second-migration" in behaviour and path.parent.joinpath("tried").exists():
            sys.exit("the migration fails when it counts")
        path.parent.joinpath("tried").touch()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def up(data: Path, path: Path, version: str, revision: int) -> None:
    """Refuses what the real one refuses: a switch that is under way, a database of another release."""
    if (data / "upgrade.switching").exists():
        sys.exit("half switched")
    if state(path)["revision"] != f"{revision:04}":
        sys.exit("MIXED")
    serve(data, version)


def serve(data: Path, version: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with open(data / "up.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        (data / SERVES).write_text(version)
        if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            sys.exit("it cannot be stopped")
        signal.sigwait({signal.SIGTERM})
        (data / SERVES).unlink()


def check(data: Path, options: list[str], behaviour: set[str]) -> None:
    wanted = options[options.index("--version") + 1]
    live = data.name != "next"
    deadline = time.monotonic() + 10
    while not (data / SERVES).exists() or (data / SERVES).read_text() != wanted:
        if time.monotonic() > deadline:
            sys.exit("does not serve")
        time.sleep(0.01)
    if ("live" if live else "trial") in behaviour and "--only-ready" not in options:
        sys.exit("does not answer")
    print(json.dumps({"ok": True, "steps": [{"name": "起動", "took_s": 0.1, "problem": ""}]}))


def make(folder: Path, version: str, revision: int, *behaviour: str) -> None:
    """As an installation lies in `releases/`."""
    program = folder / "venv" / "bin" / "kura"
    shutil.rmtree(folder, ignore_errors=True)
    program.parent.mkdir(parents=True)
    words = f'"{version}" {revision} "{" ".join(behaviour)}"'
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -SE "{__file__}" {words} "$@"\n')
    program.chmod(0o755)
    (folder / "release.json").write_text(json.dumps({"version": version}))


def site(data: Path, revision: int) -> None:
    """What a site has: a database with a row, an upload, settings, a key."""
    (data / "uploads" / "請求書").mkdir(parents=True)
    (data / "uploads" / "請求書" / "content").write_text("千円")
    (data / "index").mkdir()
    (data / "index" / "CURRENT").write_text("1")
    (data / "kura.toml").write_text("")
    (data / "secrets.key").write_text("鍵")
    with sqlite3.connect(data / "kura.db") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE alembic_version (version_num TEXT)")
        db.execute("INSERT INTO alembic_version VALUES (?)", (f"{revision:04}",))
        db.execute("CREATE TABLE document (id INTEGER PRIMARY KEY, text TEXT)")
        db.execute("INSERT INTO document (text) VALUES ('旅費規程')")
    db.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), set(sys.argv[3].split()), sys.argv[4:])
