"""One text in very many documents, each with readers of its own: who finds what, and how soon.

    python -m tests.bench.crowd [--files 100000] [--names]

One document is taken in; rows of the others are copied from it in SQL, since taking one in costs the
same whatever is there already (`tests.bench.copies`). With `--names` each is called otherwise.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from sqlalchemy import Engine, text

from appliance import build
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import access, database, sources
from appliance.system import Appliance
from appliance.testing.fakes import HashEmbedder, MemoryConnector, ScriptedGenerator
from appliance.types import EVERYONE, Access, Document, Layer, Principal, RawFile, Viewer

RULE = "青山商事への値引きは八分まで。端数は切り捨てる。"
OTHER = "青山商事への値引きの決裁は部長が行う。"
ASKED = "青山商事への値引きはどこまで"
OF_FIRST = "document_id = (SELECT id FROM document WHERE uri = '棚0/値引き.txt')"


def only(n: object) -> Access:
    return (Layer(frozenset({Principal(f"user:u{n}"), Principal("group:all")})),)


def parse(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"


def fill(engine: Engine, count: int, names: bool) -> None:
    layers = [access.to_json(only(n)) for n in range(1, count)]
    rows = [{"digest": access.digest(one), "layers": one} for one in layers]
    with database.writing(engine) as s:
        c = s.connection()
        c.execute(text("INSERT INTO access (digest, layers) VALUES (:digest, :layers)"), rows)
        ids = dict(tuple(row) for row in c.execute(text("SELECT digest, id FROM access")))
        columns = [row[1] for row in c.exec_driver_sql("PRAGMA table_info(document)")]
        own = {"id": ":i", "uri": ":uri", "uri_digest": ":i", "access_id": ":access"}
        own |= {"title": ":title"} if names else {}
        values = ", ".join(own.get(one, f'"{one}"') for one in columns)
        into = ", ".join(f'"{one}"' for one in columns)
        made = [
            {
                "i": f"copy{n:08}",
                "uri": f"棚{n}/値引き.txt",
                "title": f"値引き{n}.txt",
                "access": ids[row["digest"]],
            }
            for n, row in enumerate(rows, 1)
        ]
        first = f"INSERT INTO document ({into}) SELECT {values} FROM document"
        c.execute(text(f"{first} WHERE uri = '棚0/値引き.txt'"), made)
        for table in ("body", "chunk"):
            names_ = [row[1] for row in c.exec_driver_sql(f"PRAGMA table_info({table})")]
            rest = ", ".join(f'"{x}"' for x in names_ if x not in ("id", "document_id"))
            c.execute(
                text(
                    f"INSERT INTO {table} (document_id, {rest}) SELECT d.id, k.* FROM document d,"
                    f" (SELECT {rest} FROM {table} WHERE {OF_FIRST}) k WHERE d.id LIKE 'copy%'"
                )
            )


def ask(machine: Appliance, who: str, principal: str) -> None:
    viewer = Viewer(who, frozenset({EVERYONE, Principal(principal)}))
    took = []
    for _ in range(3):
        began = time.monotonic()
        found = machine.retriever.retrieve(ASKED, viewer, 5)
        took.append(round(1000 * (time.monotonic() - began)))
    print(f"| {who} | {' / '.join(map(str, took))} | {'、'.join(p.uri for p in found.passages)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="One text in very many documents.")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--names", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), evidence_threshold=0.01)
        engine = database.connect(f"sqlite:///{folder}/kura.db")
        database.migrate(engine)
        source, embedder = sources.create(engine, "棚", "memory", {}), HashEmbedder(384)
        files = {"棚0/値引き.txt": (RULE, only(0)), "決裁.txt": (OTHER, only("x"))}
        sync(engine, source, MemoryConnector(dict(files)), embedder, parse, settings)
        fill(engine, options.files, options.names)
        generator = ScriptedGenerator(script=lambda prompt: iter([""]))
        machine = build.web(settings, engine=engine, embedder=embedder, generator=generator)
        began = time.monotonic()
        machine.follower.reconcile()
        print(f"indexes made in {time.monotonic() - began:.0f} s\n")
        print("| who | ms, three times | finds |\n|---|---|---|")
        ask(machine, "reads the 57th alone", "user:u57")
        ask(machine, "reads all", "group:all")
        ask(machine, "reads none", "user:nobody")
        machine.follower.close()


if __name__ == "__main__":
    main()
