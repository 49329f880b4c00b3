"""A loader of LangChain as a source: made by an administrator, and asked about by two people."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.ingest import schedule
from appliance.ingest.sync import sync
from appliance.store import sources
from appliance.system import Appliance
from appliance.types import Document, RawFile, Site
from tests.api.conftest import Person
from tests.connectors.test_langchain import KEY, LISTED, NOTICES, lines, path

__all__ = ["path"]


def test_who_is_admitted_finds_them_and_nobody_else(
    machine: Appliance, path: Path, admin: Person, ito: Person, sato: Person
) -> None:
    settings = {
        "loader": NOTICES,
        "arguments": json.dumps({"path": str(path)}),
        "secret_arguments": json.dumps({"key": KEY}),
        "allow": ["group:総務部"],
    }
    body = {"name": "知らせ", "kind": "langchain", "settings": settings}
    made = admin.http.post("/api/v1/admin/sources", json=body)
    assert made.status_code == 201, made.text
    assert "0451" not in made.text

    def parse(file: RawFile) -> tuple[Document, str]:
        with file.open() as stream:
            return Document(stream.read().decode()), "text/plain"

    def look() -> dict[str, int]:
        source = sources.by_name(machine.engine, "知らせ")
        assert source is not None
        assert "0451" not in str(source.settings)
        site = Site(loaders=LISTED, unseal=machine.keyring.open)
        one = schedule.connector(machine.connectors, source, site)
        report = sync(machine.engine, source, one, machine.embedder, parse, machine.settings)
        machine.follower.catch_up()
        return dict(report.counts)

    def seen(who: Person) -> set[str]:
        response = who.http.post("/api/v1/search", json={"question": "停電"})
        return {p["uri"] for p in response.json()["passages"] if p["source"] == "知らせ"}

    assert look() == {"added": 3}
    assert "総務/停電.txt" in seen(ito)
    assert not seen(sato)
    assert look() == {"unchanged": 3}
    path.write_text(lines({"text": "停電は4日。", "source": "総務/停電.txt"}), "utf-8")
    assert look() == {"updated": 1, "removed": 2}
