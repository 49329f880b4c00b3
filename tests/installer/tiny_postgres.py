"""`tiny_release` on PostgreSQL: the same verbs and behaviours; schemas change places by the real code.

tiny_postgres.py VERSION REVISION BEHAVIOUR… verb…
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.installer import tiny_release

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROOT = Path(__file__).resolve().parents[2]
TABLES = "CREATE TABLE alembic_version (version_num text PRIMARY KEY); CREATE TABLE document (id serial PRIMARY KEY, text text)"  # fmt: skip


def main(version: str, revision: int, behaviour: set[str], words: list[str]) -> None:
    data, url = Path(os.environ["KURA_DATA"]), os.environ["KURA_DATABASE_URL"]
    schema = os.environ.get("KURA_DATABASE_SCHEMA", "public")
    plain = url.replace("postgresql+psycopg", "postgresql")
    connection = psycopg.connect(plain, options=f'-csearch_path="{schema}"', autocommit=True)
    if "--wait" in words:
        words.remove("--wait")
        print("ready", flush=True)
        if not sys.stdin.readline():
            sys.exit("nobody asks any more")
    match words:
        case ["up"]:
            if (data / "upgrade.switching").exists():
                sys.exit("half switched")
            if state(connection)["revision"] != f"{revision:04}":
                sys.exit("MIXED")
            connection.close()
            tiny_release.serve(data, version)
        case ["infer", *_]:
            print(json.dumps({"refusal": ""}))
        case ["release", "facts"]:
            print(json.dumps({"version": version, "revisions": [f"{n:04}" for n in range(revision, 0, -1)], "embedder": "e", "data": str(data), "database": "", "postgresql": True, "schema": schema, "lacks": [], "foreign": [], "bytes": 1000, "infer_socket": "i", "secrets_key": str(data / "secrets.key"), "log": "kura.log", **state(connection)}))  # fmt: skip
        case ["release", "migrate", *_]:
            migrate(connection, data, revision, behaviour)
            print("{}")
        case ["release", "isolate"]:
            print("{}")
        case ["release", "check", *options]:
            tiny_release.check(data, options, behaviour)
        case ["release", verb, *given]:
            print(json.dumps(real(url, schema, verb, given)))
        case _:
            sys.exit(f"no {words}")


def real(url: str, schema: str, verb: str, given: list[str]) -> Any:
    from appliance.release import schemas
    from appliance.settings import Settings
    from appliance.store import database

    engine = database.connect(Settings(database_url=url, database_schema=schema).database_url)
    match verb, given:
        case "copy", [target]:
            return {"since": schemas.copy(engine, target, "", build)}
        case "refresh", [target, since]:
            return schemas.refresh(engine, target, int(since))
        case "exchange", [out, come, "--back"]:
            return schemas.exchange_back(engine, out, come)
        case "exchange", [out, come, *sha256]:
            return schemas.exchange(engine, out, come, *sha256[1:])
        case "mark", []:
            return schemas.mark(engine)
        case "forget", names:
            return schemas.forget(engine, names)
    sys.exit(f"no {verb} {given}")


def build(connection: Connection, revision: str) -> None:
    """The tables as they are: what later releases added, too."""
    connection.exec_driver_sql(TABLES)
    live = os.environ.get("KURA_DATABASE_SCHEMA", "public")
    later = connection.exec_driver_sql(
        f"SELECT tablename FROM pg_tables WHERE schemaname = '{live}' AND tablename LIKE 'later%%'"
    )
    for name in later.scalars().all():
        connection.exec_driver_sql(f"CREATE TABLE {name} (id int PRIMARY KEY)")


def state(connection: psycopg.Connection) -> dict[str, object]:
    (rows,) = connection.execute("SELECT count(*) FROM document").fetchone() or (0,)
    (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
    return {"revision": found, "rows": {"document": rows}}


def migrate(connection: psycopg.Connection, data: Path, revision: int, behaviour: set[str]) -> None:
    with connection.transaction():
        for n in range(int(str(state(connection)["revision"])) + 1, revision + 1):
            connection.execute(f"CREATE TABLE later_{n} (id int PRIMARY KEY)".encode())
        connection.execute("UPDATE alembic_version SET version_num = %s", [f"{revision:04}"])
        if "migration" in behaviour:
            sys.exit("the migration fails")
        if "second-migration" in behaviour and (data / "tried").exists():
            sys.exit("the migration fails when it counts")
    (data / "tried").touch()


def make(folder: Path, version: str, revision: int, *behaviour: str) -> None:
    """As an installation lies in `releases/`."""
    program = folder / "venv" / "bin" / "kura"
    shutil.rmtree(folder, ignore_errors=True)
    program.parent.mkdir(parents=True)
    words = f'"{version}" {revision} "{" ".join(behaviour)}"'
    program.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\n'
        f'exec "{sys.executable}" -m tests.installer.tiny_postgres {words} "$@"\n'
    )
    program.chmod(0o755)
    (folder / "release.json").write_text(json.dumps({"version": version}))


def site(data: Path, url: str, revision: int) -> None:
    tiny_release.site(data, revision)
    (data / "kura.db").unlink()
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute(TABLES.encode())
        connection.execute("INSERT INTO alembic_version VALUES (%s)", [f"{revision:04}"])
        connection.execute("INSERT INTO document (text) VALUES ('旅費規程')")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), set(sys.argv[3].split()), sys.argv[4:])
