"""What a maker may be sent holds nothing of anyone's: a host full of marked words, looked through."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from pathlib import Path

import pytest

from appliance import logs
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import database, sources
from appliance.testing.fakes import HashEmbedder, MemoryConnector
from appliance.types import Document, Layer, Principal, RawFile
from tests.cli import test_cli
from tests.cli.test_cli import kura

home = test_cli.home

MARK = "秘印"  # in every word of the company's
PERSON = "zzmark"  # likewise


def seed(home: dict[str, str]) -> None:
    """People, groups, sources with passwords, documents that are read and that are not, a log."""
    data = Path(home["KURA_DATA"])
    kura(home, "user", "add", PERSON, "--name", f"{MARK}太郎")
    kura(home, "group", "set", f"{MARK}部", f"user:{PERSON}")
    root = data.parent / f"共有{MARK}"
    root.mkdir()
    kura(home, "source", "add", f"{MARK}文書", "folder", "--set", f"root={root}")
    (data / "kura.toml").write_text(f'near_hosts = "{MARK}.example.co.jp:445"\nreranked = 7\n')
    engine = database.connect(f"sqlite:///{data}/kura.db")
    source = sources.create(engine, f"{MARK}倉", "memory", {})
    shown = (Layer(frozenset({Principal(f"user:{PERSON}")})),)

    def parse(raw: RawFile) -> tuple[Document, str]:
        if "壊" in raw.uri:
            raise ValueError(f"{MARK}が壊れている")
        with raw.open() as file:
            return Document(file.read().decode()), "text/plain"

    texts = {f"{MARK}規程.txt": f"{MARK}の宿泊費は一万円。", f"{MARK}壊.txt": MARK}
    sync(engine, source, MemoryConnector(texts, shown), HashEmbedder(), parse, Settings())
    engine.dispose()

    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(logs.Lines())
    own, other = logging.Logger("appliance.ingest.sync"), logging.Logger("uvicorn.error")
    for log in (own, other):
        log.addHandler(handler)
    own.warning("source %s, %r", f"{MARK}倉", f"{MARK}規程.txt")
    try:
        int(f"{MARK}一")
    except ValueError:
        own.exception("document %s", MARK, extra={"fields": {"ms": 12, "who": PERSON}})
    other.error("%s", MARK)
    lines = [told.getvalue()]
    lines.append(logs.line({"process": "work", "level": "info", "event": f"{MARK} printed"}) + "\n")
    lines.append(logs.line({"process": "up", "event": "ended", "of": "infer", "status": -9}) + "\n")
    lines.append(f"{MARK} not JSON\n")
    (data / "kura.log").write_text("".join(lines), "utf-8")


def test_nothing_of_anyone_is_in_it_and_it_is_seen_before_it_is_sent(
    home: dict[str, str],
    tmp_path: Path,
) -> None:
    seed(home)
    home |= {"KURA_SECRETS_KEY": str(tmp_path / f"{MARK}.key")}
    out = tmp_path / "記録.zip"
    kura(home, "support", "--out", str(out))
    assert out.stat().st_mode & 0o777 == 0o600
    shown = kura(home, "support").stdout
    with zipfile.ZipFile(out) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    for name, text in files.items():
        assert MARK not in text and MARK not in json.dumps(MARK) + text.encode().decode(
            "unicode_escape", "ignore"
        ), name
        assert f"== {name}" in shown
    assert MARK not in shown

    log = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    assert [one.get("form") for one in log] == ["source %s, %r", "document %s", None, None, None]
    assert log[1]["raised"] == ["ValueError"] and log[1]["ms"] == 12
    assert (log[4]["event"], log[4]["of"], log[4]["status"]) == ("ended", "infer", -9)
    told = json.loads(files["settings.json"])
    assert (told["reranked"], told["near_hosts"], told["database_url"]) == (7, "set", "set")
    counted = json.loads(files["counts.json"])
    assert counted["rows"]["document"] >= 1 and counted["revision"]
    assert {s["kind"] for s in counted["sources"]} >= {"folder", "memory"}
    assert json.loads(files["machine.json"])["packages"]["numpy"]
    assert isinstance(json.loads(files["checks.json"])["データベース"], bool)


def test_nothing_is_written_over(home: dict[str, str], tmp_path: Path) -> None:
    kura(home, "user", "add", "ito")
    out = tmp_path / "there.zip"
    out.write_text("kept")
    done = kura(home, "support", "--out", str(out), status=1)
    assert "there.zip" in done.stderr and out.read_text() == "kept"


@pytest.mark.parametrize("broken", ["not a database", ""])
def test_a_machine_that_is_not_well_can_still_tell(
    broken: str,
    home: dict[str, str],
) -> None:
    kura(home, "user", "add", "ito")
    (Path(home["KURA_DATA"]) / "kura.db").write_text(broken * 1000)
    shown = kura(home, "support").stdout
    assert "== machine.json" in shown and "== log.jsonl" in shown
